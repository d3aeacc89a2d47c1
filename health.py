"""What the numbers of a run say is going wrong, and what to change: a line each time it begins."""

import collections

# Rows of metrics.csv in a row for which a sign must hold: one row is noise, and a young run has
# yet to learn.
LASTING = 20
# Discounted value over what the imagined reward allows. Near 1 it is right; a young value is below.
RUNAWAY = 1.5
# Up to this a value is none.
NOTHING = 1.0
# A loss this near to that of chance has learned nothing.
CHANCE = 0.97


class Health:
    """Watches the rows of a run's metrics. saturated: the entropy, nats, below which its actor
    hardly learns, as actions.py knows it."""

    def __init__(self, saturated):
        self.saturated = saturated
        self.lasting = collections.Counter()

    def lines(self, values):
        """What is to be said after a row of metrics: name -> number."""
        signs = dict(self.signs(values))
        self.lasting = collections.Counter({name: self.lasting[name] + 1 for name in signs})
        return [text for name, text in signs.items() if self.lasting[name] == LASTING]

    def signs(self, values):
        """(name, text) of every bad sign in a row."""
        ratio, value = values.get('value_ratio', 0.0), values.get('value', 0.0)
        # A reward of nothing, or less, allows none at all.
        none = values.get('imagined_reward', 1.0) <= 0
        much = f'{value:.2g}, which is more than' if none else f'{ratio:.1f} times'
        if value > NOTHING if none else value > 0 and ratio > RUNAWAY:
            yield 'value', (
                f'warning: the value is {much} what the imagined reward allows: it '
                'learns from itself; try a smaller --actor_rate, or, where --slow_value is 0, a '
                'new run with 0.02')
        entropy = values.get('actor_entropy', self.saturated)
        if entropy < self.saturated:
            yield 'actor', (
                f'warning: the actor is saturated (entropy {entropy:.2g} nats): it tries nothing '
                'else, and hardly learns; where the return is not yet what it should be, try '
                'a larger --entropy_bonus (0.001, if it was 0) or a smaller --actor_rate')
        for name, chance in values.items():
            loss = values.get(name.removeprefix('chance_') + '_loss')
            if name.startswith('chance_') and loss is not None and loss > CHANCE * chance:
                what = name.removeprefix('chance_')
                yield name, (
                    f'warning: the bound of {what} stays at chance: {what} does not come to agree '
                    'with the latent; begin anew with what it has not of --encoder_activation '
                    'elu, --withhold 0.3, a longer --prefill and --pretrain, or, where its weight '
                    'is small as that of touch, with a larger --bound_weight '
                    '(docs/troubleshooting.md)')
