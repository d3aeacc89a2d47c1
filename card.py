"""The card of an exported agent: the text of its README.md."""

import dataclasses
import math
import shlex

import provenance
import variants
from texts import condition_name, told


@dataclasses.dataclass(frozen=True)
class Stored:
    """How many values weights.npz holds, and how many of them in half precision."""

    values: int
    halves: int

    def __str__(self):
        how = {0: 'in float32', self.values: 'rounded to half precision'}.get(
            self.halves, f'{self.halves:,} of them rounded to half precision')
        return f'{self.values:,}, {how}'


def _time(seconds):
    if seconds < 3600:
        return f'{math.ceil(seconds / 60)} min'
    return f'{seconds / 3600:.1f} hours'


def returns(results):
    """Rows of results.csv of one checkpoint as a table of means in Markdown."""
    lines = ['| judged with | return | standard deviation | episodes |',
             '| --- | --- | --- | --- |']
    for (condition, sensor, ratio), rows in results.groupby(
            ['condition', 'sensor', 'ratio'], sort=False):
        found = rows['return'].astype(float)
        mean = found.mean()
        spread = told(found.std(), mean, 0) if len(found) > 1 else '-'
        lines.append(f'| {condition_name(condition, sensor or ratio)} | {told(mean, digits=0)} | '
                     f'{spread} | {len(found)} |')
    return '\n'.join(lines)


def text(experiment, config, step, updates, seconds, history, stored, results, folder):
    """The card.

    experiment: that is exported; config: the settings of its training. step, updates, seconds: how
    far it was. history: `provenance.history` of the run. stored: `Stored`. results: rows of
    results.csv of this state. folder: where it goes, as it was typed.
    """
    method, name = experiment.method, variants.name(experiment.method.name, config)
    script, typed, folder = f'python {method.name}.py', repr(folder), shlex.quote(folder)
    command = f'{script} --logdir ./logdir/{config.task}/{method.name} ' + shlex.join(
        provenance.words(config, method))
    rows = {
        'task': f'`{config.task}`, by {", ".join(experiment.sensors)}',
        'method': f'{name}, preset {config.preset}, seed {config.seed}',
        'trained': f'{step:,} steps, {updates:,} updates, {_time(seconds)}',
        'settings changed': '; '.join(history['changes']),
        'begun with': f'the weights of `{config.init}`' if config.init else '',
        'revision': (', '.join(history['revisions']) or 'not written down by the run') + (
            f'; exported by {provenance.revision() or "a copy without a repository"}'),
        'values': f'{stored} (`weights.npz`; no moments of the optimisers). Restored, they are '
                  'float32.'}
    table = '\n'.join(f'| {key} | {value} |' for key, value in rows.items() if value)
    if len(results):
        judged = returns(results) + '\n\nOf `results.csv`, ' + (
            'which was made before the weights were rounded: `--test` here makes its rows again.'
            if stored.halves else 'made with these weights.')
    else:
        judged = 'This state was not judged yet; the first command below does it.'
    return f'''# {name} on {config.task}

A trained agent, exported by `{method.name}.py --export`.

| | |
| --- | --- |
{table}

Trained by

    {command}

## Returns

{judged}

## What to do with it

    {script} --logdir {folder} --test       # judge it with its sensors failing, to results.csv
    {script} --logdir {folder} --inspect    # draw it from inside

`--init {folder}` in the command that trained it begins a run of its own with these weights. In
Python, `experiment.load({typed})` gives it as a policy (docs/usage.md).
'''
