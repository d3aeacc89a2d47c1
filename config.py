"""What a user edits: every option, its preset values, the sensors, and what a method is.

`Config` is the one list of options: each field has a type, a default (the published
number), a range and a sentence, and becomes a flag of the same name (commandline.py).
"""

import dataclasses
import os
import types
import typing


class UserError(Exception):
    """Something that the user can mend: shown as one line, exit code 2, no traceback."""

    def __str__(self):
        # Names of files may hold line ends and bytes that nothing can print.
        return ''.join(
            c if c.isprintable() else ascii(c)[1:-1] for c in super().__str__())


@dataclasses.dataclass(frozen=True)
class Sensor:
    """One row of the sensor table.

    kind: 'picture' (height, width, channels), of distances where the unit is metres and otherwise
    of colours, 'vector' (values,), or 'spectrum' (values,), whose
    values are frequencies, the lowest first.
    unit: of the raw values, for axes and documents.
    scale, offset: the model reads `raw * scale + offset`.
    bound_weight: the weight of the sensor's bound in MuMMI's representation loss.
    by_name: the sensor is there where `--sensors` names it, and no part of 'all'.
    """

    kind: str
    unit: str
    scale: float
    offset: float
    bound_weight: float
    by_name: bool = False

    @property
    def distances(self):
        """Whether it is a picture of distances, and not of colours."""
        return self.kind == 'picture' and self.unit == 'metres'


# Encoders, experts, presence flags, scaling, decoders and logs are loops over this table:
# a new sensor is a row here and an observation of the same name in the environment.
SENSORS = {
    'image': Sensor('picture', 'intensity', scale=1 / 255, offset=-0.5, bound_weight=1.0),
    'depth': Sensor('picture', 'metres', scale=1 / 200, offset=-0.5, bound_weight=1.0),
    'touch': Sensor('vector', 'newtons', scale=1 / 200, offset=0.0, bound_weight=0.001),
    'proprioception': Sensor('vector', 'own units', 1.0, 0.0, bound_weight=1.0, by_name=True),
    'audio': Sensor('spectrum', 'decibels', 1 / 40, 0.0, bound_weight=0.001, by_name=True),
}


def coloured(names):
    """The sensors among `names` that are pictures in colour: what natural videos are put into."""
    return [name for name in names if name in SENSORS
            and SENSORS[name].kind == 'picture' and not SENSORS[name].distances]


def flag(sensor):
    """The key under which an observation holds the presence flag of `sensor`."""
    return sensor + '_flag'


# Decisions that a drop-out lasts at most; a sensor that freezes is stuck as long.
LONGEST_DROP = 14

# No number is larger: its sums and products are far from the ends of 64 bits.
LARGEST = 10 ** 12


def section(name):
    """The `option` of a section of `Config`, which makes a field from its default and

    help: a sentence. low, high: the range of a number, ends included. choices: the values of
    a string or a number. path: the string names a file or a folder. model: a run cannot be
    resumed with another value. own: belongs to one method, and is an unknown option for the
    scripts that do not ask for it. free: says where or how a run is computed, stored and logged,
    not what is learned or judged: the runs of one curve may differ in it.
    """
    def option(default, help, low=None, high=LARGEST, choices=None, path=False, model=False,
               own=False, free=False):
        return dataclasses.field(default=default, metadata=dict(
            section=name, help=help, low=low, high=high, choices=choices, path=path, model=model,
            own=own, free=free))
    return option


Ratios = float | dict[str, float]


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. "Steps" are always environment control steps."""

    option = section('Run')
    logdir: str = option(
        '', 'Folder of the run: checkpoints, episodes, logs. The same folder resumes.',
        path=True, free=True)
    task: str = option(
        'dmc_walker_walk', 'Task: dmc_<domain>_<task> of the control suite, wipe_table, gym_<id> '
        'or gym_<module>:<id> of gymnasium, atari_<game> (docs/tasks.md).', model=True)
    preset: str = option(
        'paper', 'Set of values to start from: the published numbers, a two-core CPU, a small '
        'task that is learned in minutes, or a run of the whole pipeline in about a minute.',
        choices=('paper', 'cpu', 'small', 'debug'), free=True)
    seed: int = option(
        0, 'Seed of weights, environments, replay and exploration.', low=0, high=2 ** 32 - 1,
        free=True)
    steps: int = option(int(2e6), 'Steps in all, prefill included.', low=1, free=True)
    precision: str = option(
        'auto', 'Type of the products of the networks; weights, distributions and losses are '
        'always float32. auto: bfloat16 on a GPU of compute capability 8.0 or later '
        'or a processor that is faster in it, float32 elsewhere.',
        choices=('auto', 'float32', 'bfloat16', 'float16'), free=True)
    xla: bool = option(False, 'Compile the updates with XLA. Slower on a CPU.', free=True)
    devices: str = option(
        'one', 'What computes the updates: one GPU (or the CPU), or all GPUs of the machine, each '
        'with its share of the batch.', choices=('one', 'all'), free=True)
    init: str = option(
        '', 'Exported agent (--export) whose weights a new run begins with, as '
        'agents/walker_walk/mummi, of this method, these sensors and sizes.', path=True,
        model=True)
    dry_run: bool = option(
        False, 'Build everything, print sensors, sizes and estimates, and stop.', free=True)

    option = section('Judging and sharing a trained run')
    test: bool = option(
        False, 'Do not train: evaluate the run under missing sensors, to results.csv. Options '
        'not given are those of the run; likewise for inspect.', free=True)
    inspect: bool = option(
        False, 'Do not train: draw one episode of the run from inside, to inspect/.', free=True)
    export: str = option(
        '', 'Do not train: write the agent of the run to this new folder, to be shared: weights, '
        'settings, results.csv, a card.', path=True, free=True)
    export_half: bool = option(
        True, 'Weights are exported in half precision, but where that would round too much.',
        free=True)
    checkpoint: str = option(
        '', 'Checkpoint that is judged or exported, as logdir/run/state-000001000; default: the '
        'last.', path=True, free=True)
    test_ratios: str = option(
        '0,0.05,0.1,0.2', 'Drop-out chances at which all sensors are tested.', free=True)
    test_episodes: int = option(10, 'Episodes of each test.', low=1, high=10 ** 6, free=True)

    option = section('Environment')
    sensors: str = option(
        'all', 'Sensors of the agent, as image,depth,touch; all: image, depth and touch where the '
        'task has them; proprioception and audio are there only by name, but for gym tasks.',
        model=True)
    sensor_map: str = option(
        '', 'For gym tasks: which parts of the observation the sensors are, as '
        'image=rgb,proprioception=state+goal; render: the picture that the task draws. Default: '
        'by their names and kinds.', model=True)
    natural: bool = option(True, 'Put natural videos behind the body; False where nothing says '
                           'where it is, in gym and atari tasks.')
    natural_variety: bool = option(
        False, 'Each episode draws how its video is played: forward or backward, at 1 to 3 frames '
        'a decision, mirrored or not.')
    natural_train: str = option(
        'natural_train.pkl', 'Videos behind training episodes, as natural.py writes them.',
        path=True)
    natural_valid: str = option(
        'natural_valid.pkl', 'Videos behind evaluation episodes.', path=True)
    miss_ratio: Ratios = option(
        0.05, 'Chance at each decision that a present sensor drops out for 1 to 14 decisions; '
        'one number, or image=0.1,depth=0.05 (sensors not named: 0).', low=0, high=1)
    corrupt: str = option(
        '', 'Faults that no flag tells of, as image=noise:0.1,depth=freeze:0.05,touch=spikes:0.02 '
        '(also patch and delay); with --test, conditions of their own.')
    action_repeat: int = option(
        2, 'Steps for which a decision is held; 1 in gym tasks, 4 in atari.', low=1, model=True)
    picture_size: int = option(
        64, 'Height and width of the pictures, pixels. 32: of each the means of 2 x 2 pixels, '
        'which are encoded in a third of the time.', choices=(32, 64), model=True)
    time_limit: int = option(
        1000, "Steps of an episode; 0, and the default of gym and atari: the task's own; 400 at "
        'the most in wipe_table.', low=0)
    full_actions: bool = option(
        False, 'For atari tasks: all 18 actions of the console, and not those of the game alone.',
        model=True)
    envs: int = option(
        1, 'Environments that collect in parallel, a process each.', low=1, free=True)
    stagger: bool = option(
        True, 'Cut the first episodes of parallel environments, each at its share of the time '
        'limit, so that later ones end one after the other and not all at once.', free=True)
    env_timeout: float = option(
        120.0, 'Seconds without an answer after which an environment is started again.', low=0.1,
        free=True)
    render: str = option(
        'light', 'Visuals: light (no shadows, reflections, multisampling) or the full ones of '
        'the suite, ten times slower.', choices=('light', 'full'))

    option = section('Replay')
    batch: int = option(50, 'Sequences of a training batch.', low=1)
    length: int = option(
        50, 'Entries (decisions) of a training sequence.', low=2, high=10 ** 4)
    across_episodes: bool = option(
        False, 'Sequences begin at any entry and go on through the episodes that came after, so '
        'that the end of an episode is drawn as often as the rest; True in gym and atari tasks. '
        'Otherwise a sequence lies within an episode that is long enough.')
    replay_memory: float = option(
        2.0, 'Gigabytes of the newest episodes that are kept in memory; older ones are read '
        'from their files, a sequence at a time.', low=0, free=True)

    option = section('Schedule')
    prefill: int = option(
        5000, 'Steps of uniformly random actions at the start. Once training has begun, a change '
        'does nothing.', low=1)
    pretrain: int = option(100, 'Updates after the prefill; likewise.', low=0)
    train_every: int = option(
        1000, 'Steps between training phases. A change on resuming counts from there on.', low=1)
    train_updates: int = option(100, 'Updates of a training phase; likewise.', low=1)
    eval_every: int = option(10000, 'Steps between evaluations.', low=1)
    eval_episodes: int = option(
        1, 'Episodes of an evaluation; 0: never evaluate.', low=0, high=10 ** 6)
    log_every: int = option(100, 'Updates between rows of metrics.csv.', low=1, free=True)
    keep_checkpoints: int = option(3, 'Checkpoints kept.', low=1, free=True)

    option = section('World model')
    deter: int = option(200, 'Width of the deterministic latent.', low=1, model=True)
    stoch: int = option(30, 'Width of the stochastic latent.', low=1, model=True)
    hidden: int = option(
        200, 'Width of the hidden layers of the RSSM, and of the codes of CVRL.', low=1,
        model=True)
    conv_depth: int = option(
        32, 'Channels of the first convolution; the following have 2, 4 and 8 times as many, for '
        'pictures of 32 pixels 2 and 8 times. '
        "A sensor's embedding is 32 times as wide.", low=1, model=True)
    encoder_activation: str = option(
        'relu', 'Activation of the encoders. With relu that of a sensor may die, after which its '
        'bound stays at chance; elu (DreamerV2) does not.', choices=('relu', 'elu'), model=True)
    vector_units: int = option(
        128, 'Width of the hidden layers of the encoder of a vector sensor.', low=1, model=True)
    decoder_units: int = option(
        96, 'Width of the hidden layers of the decoder of a vector sensor.', low=1, model=True)
    expert_width: int = option(
        1024, "Width of the experts' space.", low=1, model=True, own=True)
    density_ratio: str = option(
        'mse', 'Log density ratio of a latent and a sensor: negative squared distance, or '
        'inner product.', choices=('mse', 'bilinear'), model=True, own=True)
    fusion: str = option(
        'deviation', 'Weight of an expert in the fused code: 1 / deviation (the release of MuMMI) '
        'or precision, 1 / deviation^2 (product of experts).',
        choices=('deviation', 'precision'), model=True, own=True)
    prior_expert: bool = option(
        False, 'One more expert in the fusion, with mean 0 and deviation 1 whatever is seen, as '
        'in a product of experts.', model=True, own=True)
    sensor_loss: str = option(
        'contrast', 'What each sensor is learned by, its bound (contrast) or reconstruct: for all, '
        'or as image=contrast,touch=reconstruct (sensors not named: contrast).',
        model=True, own=True)
    bound_weight: str = option(
        '', "Weight of each sensor's bound, as touch=0.1, or one number for all; sensors not "
        'named keep theirs of config.SENSORS: touch and audio 0.001, the others 1.', own=True)
    obs_model: str = option(
        'contrastive', 'What the features are learned by besides the reward: the contrast of '
        'CVRL, or reconstruction (generative, an ablation of its paper).',
        choices=('contrastive', 'generative'), model=True, own=True)
    reward_only: bool = option(
        False, 'Learn the features by the reward alone, with no loss of the observations '
        '(an ablation of the CVRL paper).', model=True, own=True)
    units: int = option(
        400, 'Width of the hidden layers of actor, value, reward and discount, and of the critics '
        'of soft actor-critic.', low=1, model=True)
    free_nats: float = option(3.0, 'The divergence is not pushed below this, nats.', low=0)
    reward_weight: float = option(
        1.0, "Weight of the reward's loss in the world model's. A reward is a normal of variance "
        '1, so where rewards are small the model gains little by telling them apart (PlaNet '
        'has 10).', low=0)
    kl_balance: float = option(
        0.0, 'Share of the divergence that moves the prior, at any divergence; the rest holds the '
        'posterior back, above the free nats (DreamerV2); 0: not told apart.', low=0, high=1)
    withhold: Ratios = option(
        0.0, 'Chance that a training sequence is filtered without a sensor though it is there '
        '(none is where all of the sensors would be: of three, each at a chance of p, in p - p^3 '
        'of the sequences, at most 0.38), while it is still scored or predicted; as miss_ratio.',
        low=0, high=1)
    pcont: bool = option(
        False, 'Learn when episodes end, and discount imagination by it; True in gym and atari '
        'tasks.', model=True)
    probe_frames: int = option(
        32, 'Frames an update on which the decoders that only draw pictures are trained; '
        '0: no such decoders.', low=0, model=True, own=True)

    option = section('Behaviour')
    horizon: int = option(15, 'Imagined decisions.', low=2, high=1000)
    imagine_every: int = option(
        1, 'Imagination starts at every so many entries of a sequence, the last among them: an '
        'update takes less time, and learns from fewer starts.', low=1, high=10 ** 4)
    discount: float = option(0.99, 'Discount of a decision.', low=0, high=1)
    disclam: float = option(0.95, 'Lambda of the lambda-return.', low=0, high=1)
    actor_gradient: str = option(
        'dynamics', 'How the actor learns from imagined returns: through the dynamics and each '
        'action (Dreamer), or by REINFORCE with the value as baseline (DreamerV2 for Atari).',
        choices=('dynamics', 'reinforce'))
    slow_value: float = option(
        0.0, 'Returns are bootstrapped from a copy of the value that moves by this share of the '
        'way at each update (DreamerV2, TD3); 0: from the value itself.', low=0, high=1,
        model=True)
    entropy_bonus: float = option(
        0.0, "Weight of the actor's entropy in its loss, reward a nat (DreamerV2).", low=0)
    actor_deviation: float = option(
        5.0, 'Standard deviation of the actions of an untrained actor, before the tanh. From '
        "Dreamer's 5 an action is one of its two ends by chance.", low=1e-3, high=10, model=True)
    explore_noise: float = option(
        0.3, 'Standard deviation of the noise added to actions while collecting.', low=0)
    explore_epsilon: float = option(
        0.1, 'Chance that a choice among actions is a random one while collecting.', low=0, high=1)
    refine_actions: bool = option(
        False, 'Trajectory optimisation: move each action along the gradient of its imagined '
        'return; nothing where actions are choices.')
    refine_rate: float = option(0.003, 'Step size of the trajectory optimisation.', low=0)
    search_candidates: int = option(
        0, 'Forward search: act by the best of so many imagined rollouts, 2 or more; 0: no search. '
        'The release of MuMMI has 20, switched off.', low=0)
    refine_plan: str = option(
        'first', 'What trajectory optimisation moves: the first action, the actor choosing the '
        'later ones anew, or all actions of one imagined rollout (guided planning of the CVRL '
        'paper). In a single step they take the same action; see docs/method.md.',
        choices=('first', 'all'))
    refine_steps: int = option(
        1, 'Gradient steps of the trajectory optimisation.', low=1, high=1000)
    use_sac: bool = option(
        False, 'Train the actor by soft actor-critic on real transitions too: the hybrid of the '
        'CVRL paper.', model=True)
    sac_weight: float = option(
        1.0, "Weight of soft actor-critic's loss beside that of imagination, 1, in the one loss "
        'of the actor. The paper gives none.', low=0)
    use_dreamer: bool = option(
        True, 'Train the actor in imagination; --no-use_dreamer --use_sac: by soft actor-critic '
        'alone. The value learns either way.')

    option = section('Optimisers')
    model_rate: float = option(
        6e-4, 'Learning rate of the world model, and of decoders that draw pictures.', low=0)
    actor_rate: float = option(8e-5, 'Learning rate of the actor.', low=0)
    value_rate: float = option(8e-5, 'Learning rate of the value.', low=0)
    critic_rate: float = option(
        8e-5, "Learning rate of soft actor-critic's critics.", low=0)
    temperature_rate: float = option(
        3e-4, "Learning rate of soft actor-critic's temperature.", low=0)
    clip: float = option(30.0, 'Gradients are clipped to this global norm; 0: they are not.', low=0)
    weight_decay: float = option(
        0.0, 'Decoupled weight decay, as a fraction of the learning rate.', low=0)

    del option

    @property
    def judging(self):
        """Whether a finished run is looked at, and nothing learned."""
        return self.test or self.inspect or bool(self.export)


FIELDS = {field.name: field for field in dataclasses.fields(Config)}
FREE = frozenset(name for name, field in FIELDS.items() if field.metadata['free'])

PRESETS = {
    'paper': {},
    # Few and small updates, from which the published settings learn unsteadily: the value runs
    # away, sensors agree late or never, encoders die (results/rates, results/steady). So more is
    # seen before the first update, sensors are withheld, encoders are ELU, returns come from a
    # slow copy of the value, and the prior learns at any divergence; imagination starts at every
    # fourth entry, which is a third of an update's time saved (results/preset). The steps are an
    # hour of MuMMI or CVRL on two cores (results/hour).
    'cpu': dict(
        steps=200000, prefill=20000, batch=16, length=32, conv_depth=16, expert_width=256,
        units=200, train_updates=50, pretrain=250, log_every=50, encoder_activation='elu',
        free_nats=1.0, kl_balance=0.8, withhold=0.3, slow_value=0.02, entropy_bonus=1e-3,
        imagine_every=4, model_rate=1e-3, value_rate=3e-4),
    # Small networks, short sequences, and many updates, for tasks of few states
    # (results/small/README.md).
    'small': dict(
        steps=3000, precision='float32', prefill=1500, pretrain=500, train_every=50,
        train_updates=25, log_every=25, eval_every=250, explore_epsilon=0.2, batch=16, length=10,
        horizon=8, discount=0.9, encoder_activation='elu', conv_depth=4, vector_units=64,
        decoder_units=64, expert_width=256, deter=64, hidden=64, units=64, free_nats=1.0,
        slow_value=0.02, entropy_bonus=0.01, model_rate=2e-3, actor_rate=3e-4, value_rate=1e-3),
    'debug': dict(
        steps=600, prefill=200, pretrain=2, train_every=100, train_updates=2, eval_every=200,
        log_every=1, time_limit=100, batch=4, length=8, horizon=4, deter=32, stoch=8,
        hidden=32, conv_depth=4, vector_units=16, decoder_units=16, expert_width=32, units=32,
        probe_frames=8),
}


@dataclasses.dataclass(frozen=True, init=False)
class Method:
    """A method as the command line knows it.

    name: of its script. own: the options that it has of those marked `own`. defaults: what it
    changes in the defaults, option -> value.
    """

    name: str
    own: tuple
    defaults: typing.Mapping

    def __init__(self, name, own=(), **defaults):
        wrong = [option for option in own
                 if option not in FIELDS or not FIELDS[option].metadata['own']]
        # Those of a task and of a preset are looked up by what is typed.
        wrong += [option for option in defaults
                  if option not in FIELDS or option in ('task', 'preset')]
        if wrong:
            raise ValueError(f'{name}: no such option to own or to change: {", ".join(wrong)}')
        object.__setattr__(self, 'name', name)
        object.__setattr__(self, 'own', tuple(own))
        object.__setattr__(self, 'defaults', types.MappingProxyType(defaults))


def sections():
    """The names of the sections in order, each with its fields."""
    found = {}
    for field in FIELDS.values():
        found.setdefault(field.metadata['section'], []).append(field)
    return found


def resolve(path):
    """The path itself, or that of the file of its name beside the scripts where only that
    exists: the videos are found from every working folder."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), path)
    return beside if os.path.exists(beside) and not os.path.exists(path) else path


def test_ratios(config):
    """The drop-out chances of `config.test_ratios`, as numbers."""
    try:
        numbers = [float(text) for text in config.test_ratios.split(',')]
    except ValueError:
        numbers = [-1]
    if not all(0 <= number <= 1 for number in numbers):
        raise UserError(
            f'--test_ratios takes numbers from 0 to 1 as 0,0.05,0.1, not {config.test_ratios!r}')
    return list(dict.fromkeys(numbers))


def sensor_keys(sensor_map):
    """sensor -> list of parts of the observation, from `sensor_map`."""
    found = {}
    for pair in filter(None, sensor_map.split(',')):
        sensor, _, keys = pair.partition('=')
        if sensor not in SENSORS or sensor in found or not all(keys.split('+')):
            raise UserError(
                '--sensor_map takes <sensor>=<part>,... with each sensor of '
                f'{", ".join(SENSORS)} once, as image=rgb,proprioception=state+goal, not '
                f'{sensor_map!r}')
        found[sensor] = keys.split('+')
    return found


def ratios(miss_ratio, sensors):
    """The drop-out chance of each of `sensors`, from one number or a dict."""
    if isinstance(miss_ratio, dict):
        return {name: float(miss_ratio.get(name, 0.0)) for name in sensors}
    return {name: float(miss_ratio) for name in sensors}
