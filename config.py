"""Every hyperparameter, its preset values, and the command line that is made from it.

`Config` is the one list of options: each field has a type, a default (the published
number), a range and a sentence, and becomes a flag of the same name. Nothing here imports
TensorFlow or the simulator, so `--help` and a wrong option are answered at once.
"""

import argparse
import dataclasses
import difflib
import json
import math
import os
import sys
import types
import typing


class UserError(Exception):
    """Something that the user can mend: shown as one line, exit code 2, no traceback."""


# Settings that name files, or say how a run is computed, stored and logged, not what is learned
# or judged. `preset` only names values that are settings themselves.
FREE = {'logdir', 'seed', 'steps', 'preset', 'precision', 'xla', 'dry_run', 'test', 'inspect',
        'checkpoint', 'test_ratios', 'test_episodes', 'envs', 'replay_memory', 'log_every',
        'keep_checkpoints'}


@dataclasses.dataclass(frozen=True)
class Sensor:
    """One row of the sensor table.

    kind: 'picture' (height, width, channels) or 'vector' (values,).
    unit: of the raw values, for axes and documents.
    scale, offset: the model reads `raw * scale + offset`.
    bound_weight: the weight of the sensor's bound in MuMMI's representation loss.
    """

    kind: str
    unit: str
    scale: float
    offset: float
    bound_weight: float


# Encoders, experts, presence flags, scaling, decoders and logs are loops over this table:
# a new sensor is a row here and an observation of the same name in the environment.
SENSORS = {
    'image': Sensor('picture', 'intensity', scale=1 / 255, offset=-0.5, bound_weight=1.0),
    'depth': Sensor('picture', 'metres', scale=1 / 200, offset=-0.5, bound_weight=1.0),
    'touch': Sensor('vector', 'newtons', scale=1 / 200, offset=0.0, bound_weight=0.001),
}


def flag(sensor):
    """The key under which an observation holds the presence flag of `sensor`."""
    return sensor + '_flag'


def option(default, help, low=None, high=None, choices=None, model=False, own=False):
    """A field of `Config`.

    low, high: the range of a number, ends included. choices: the values of a string.
    model: a run cannot be resumed with another value. own: belongs to one method, and is
    an unknown option for the scripts that do not ask for it.
    """
    return dataclasses.field(default=default, metadata=dict(
        help=help, low=low, high=high, choices=choices, model=model, own=own))


Ratios = float | dict[str, float]


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. "Steps" are always environment control steps."""

    # --- Run ---
    logdir: str = option(
        '', 'Folder of the run: checkpoints, episodes, logs. The same folder resumes.')
    task: str = option(
        'dmc_walker_walk', 'Task dmc_<domain>_<task> of the control suite.', model=True)
    preset: str = option(
        'paper', 'Set of values to start from: the published numbers, a two-core CPU, or a '
        'run of the whole pipeline in about a minute.', choices=('paper', 'cpu', 'debug'))
    seed: int = option(
        0, 'Seed of weights, environments, replay and exploration.', low=0, high=2 ** 32 - 1)
    steps: int = option(int(2e6), 'Steps in all, prefill included.', low=1)
    precision: str = option(
        'auto', 'Type of the products of the networks; weights, distributions and losses are '
        'always float32. auto: bfloat16 on a GPU or a processor that is faster in it, '
        'float32 elsewhere.', choices=('auto', 'float32', 'bfloat16', 'float16'))
    xla: bool = option(False, 'Compile the updates with XLA. Slower on a CPU.')
    dry_run: bool = option(
        False, 'Build everything, print sensors, sizes and estimates, and stop.')

    # --- Judging a trained run ---
    test: bool = option(
        False, 'Do not train: evaluate the run under missing sensors, to results.csv. Options '
        'not given are those of the run; likewise for inspect.')
    inspect: bool = option(
        False, 'Do not train: draw one episode of the run from inside, to inspect/.')
    checkpoint: str = option(
        '', 'Checkpoint that is judged, as logdir/run/state-000001000; default: the last.')
    test_ratios: str = option(
        '0,0.05,0.1,0.2', 'Drop-out chances at which all sensors are tested.')
    test_episodes: int = option(10, 'Episodes of each test.', low=1)

    # --- Environment ---
    sensors: str = option(
        'all', 'Sensors of the agent, as image,depth,touch; all: those that the task has.',
        model=True)
    natural: bool = option(True, 'Put natural videos behind the body.')
    natural_train: str = option(
        'natural_train.pkl', 'Videos behind training episodes, as natural.py writes them.')
    natural_valid: str = option('natural_valid.pkl', 'Videos behind evaluation episodes.')
    miss_ratio: Ratios = option(
        0.05, 'Chance at each decision that a present sensor drops out for 1 to 14 decisions; '
        'one number, or image=0.1,depth=0.05 (sensors not named: 0).', low=0, high=1)
    action_repeat: int = option(2, 'Steps for which a decision is held.', low=1, model=True)
    time_limit: int = option(1000, 'Steps of an episode.', low=1)
    envs: int = option(1, 'Environments that collect in parallel, a process each.', low=1)
    render: str = option(
        'light', 'Visuals: light (no shadows, reflections, multisampling) or the full ones of '
        'the suite, ten times slower.', choices=('light', 'full'))

    # --- Replay ---
    batch: int = option(50, 'Sequences of a training batch.', low=1)
    length: int = option(50, 'Entries (decisions) of a training sequence.', low=2)
    replay_memory: float = option(
        2.0, 'Gigabytes of the newest episodes that are kept in memory; older ones are read '
        'from their files, a sequence at a time.', low=0)

    # --- Schedule ---
    prefill: int = option(5000, 'Steps of uniformly random actions at the start.', low=1)
    pretrain: int = option(100, 'Updates after the prefill.', low=0)
    train_every: int = option(1000, 'Steps between training phases.', low=1)
    train_updates: int = option(100, 'Updates of a training phase.', low=1)
    eval_every: int = option(10000, 'Steps between evaluations.', low=1)
    eval_episodes: int = option(1, 'Episodes of an evaluation; 0: never evaluate.', low=0)
    log_every: int = option(100, 'Updates between rows of metrics.csv.', low=1)
    keep_checkpoints: int = option(3, 'Checkpoints kept.', low=1)

    # --- World model ---
    deter: int = option(200, 'Width of the deterministic latent.', low=1, model=True)
    stoch: int = option(30, 'Width of the stochastic latent.', low=1, model=True)
    hidden: int = option(200, 'Width of the hidden layers of the RSSM.', low=1, model=True)
    conv_depth: int = option(
        32, 'Channels of the first convolution; the following have 2, 4 and 8 times as many. '
        "A sensor's embedding is 32 times as wide.", low=1, model=True)
    vector_units: int = option(
        128, 'Width of the hidden layers of the encoder of a vector sensor.', low=1, model=True)
    decoder_units: int = option(
        96, 'Width of the hidden layers of the decoder of a vector sensor.', low=1, model=True)
    expert_width: int = option(
        1024, "Width of the experts' space.", low=1, model=True, own=True)
    density_ratio: str = option(
        'mse', 'Log density ratio of a latent and a sensor: negative squared distance, or '
        'inner product.', choices=('mse', 'bilinear'), model=True, own=True)
    units: int = option(
        400, 'Width of the hidden layers of actor, value, reward and discount.', low=1,
        model=True)
    free_nats: float = option(3.0, 'The divergence is not pushed below this, nats.', low=0)
    kl_balance: float = option(
        0.0, 'Share of the divergence that moves the prior, at any divergence; the rest holds the '
        'posterior back, above the free nats (DreamerV2); 0: not told apart.', low=0, high=1)
    withhold: Ratios = option(
        0.0, 'Chance that a training sequence is filtered without a sensor though it is there '
        '(never without all that are named), while it is still scored or predicted; as '
        'miss_ratio.', low=0, high=1)
    pcont: bool = option(
        False, 'Learn when episodes end, and discount imagination by it.', model=True)
    probe_frames: int = option(
        32, 'Frames an update on which the decoders that only draw pictures are trained; '
        '0: no such decoders.', low=0, model=True, own=True)

    # --- Behaviour ---
    horizon: int = option(15, 'Imagined decisions.', low=2)
    discount: float = option(0.99, 'Discount of a decision.', low=0, high=1)
    disclam: float = option(0.95, 'Lambda of the lambda-return.', low=0, high=1)
    slow_value: float = option(
        0.0, 'Returns are bootstrapped from a copy of the value that moves by this share of the '
        'way at each update (DreamerV2, TD3); 0: from the value itself.', low=0, high=1,
        model=True)
    entropy_bonus: float = option(
        0.0, "Weight of the actor's entropy in its loss, reward a nat (DreamerV2).", low=0)
    explore_noise: float = option(
        0.3, 'Standard deviation of the noise added to actions while collecting.', low=0)
    refine_actions: bool = option(
        False, 'Trajectory optimisation: move each action along the gradient of its imagined '
        'return.')
    refine_rate: float = option(0.003, 'Step size of the trajectory optimisation.', low=0)
    search_candidates: int = option(
        0, 'Forward search: act by the best of so many imagined rollouts; 0: no search. '
        'CVRL used 20.', low=0)
    use_sac: bool = option(
        False, 'Train the actor by soft actor-critic on real transitions too.', model=True)

    # --- Optimisers ---
    model_rate: float = option(6e-4, 'Learning rate of the world model.', low=0)
    actor_rate: float = option(8e-5, 'Learning rate of the actor.', low=0)
    value_rate: float = option(8e-5, 'Learning rate of the value.', low=0)
    critic_rate: float = option(
        8e-5, "Learning rate of soft actor-critic's critics.", low=0)
    temperature_rate: float = option(
        3e-4, "Learning rate of soft actor-critic's temperature.", low=0)
    clip: float = option(30.0, 'Gradients are clipped to this global norm.', low=0)
    weight_decay: float = option(
        0.0, 'Decoupled weight decay, as a fraction of the learning rate.', low=0)


PRESETS = {
    'paper': {},
    # Few and small updates: with the paper's rates the value runs away and the actor saturates
    # (results/rates/README.md), so the actor is slow and the value fast.
    'cpu': dict(
        steps=150000, batch=16, length=32, conv_depth=16, expert_width=256, units=200,
        train_updates=50, pretrain=50, log_every=50, model_rate=1e-3, actor_rate=3e-5,
        value_rate=3e-4),
    'debug': dict(
        steps=600, prefill=200, pretrain=2, train_every=100, train_updates=2, eval_every=200,
        log_every=1, time_limit=100, batch=4, length=8, horizon=4, deter=32, stoch=8,
        hidden=32, conv_depth=4, vector_units=16, decoder_units=16, expert_width=32, units=32,
        probe_frames=8),
}


def sections():
    """The names of the sections in order, each with its fields, read off this file."""
    fields = {field.name: field for field in dataclasses.fields(Config)}
    found, current = {}, None
    with open(__file__, encoding='utf-8') as source:
        for line in source:
            if line.startswith('    # --- '):
                current = line.replace('#', '').replace('-', '').strip()
                found[current] = []
            elif current and (name := line.strip().split(':')[0]) in fields:
                if line.startswith('    ' + name + ':'):
                    found[current].append(fields[name])
    return found


def _number(text, kind):
    if kind is int and text.strip('+-').isdigit():
        return int(text)
    value = float(text)
    if kind is int:
        if value != int(value):
            raise ValueError
        return int(value)
    if not math.isfinite(value):
        raise ValueError
    return value


def _parse(field, text):
    """The value that `text` says for `field`; ValueError with what is wanted otherwise."""
    kind, known = field.type, field.metadata
    if kind is str:
        if known['choices'] and text not in known['choices']:
            raise ValueError('one of ' + ', '.join(known['choices']))
        return text
    if kind is bool:
        if text.lower() not in ('true', 'false'):
            raise ValueError('True or False')
        return text.lower() == 'true'
    wanted = 'a whole number' if kind is int else 'a number'
    if known['low'] is not None:
        wanted += f' from {known["low"]:g}' + (
            f' to {known["high"]:g}' if known['high'] is not None else '')
    if kind == Ratios and '=' in text:
        wanted += ', or <sensor>=<number>,... with the sensors ' + ', '.join(SENSORS)
        try:
            pairs = dict(part.split('=') for part in text.split(','))
            values = {name.strip(): _number(value, float) for name, value in pairs.items()}
        except ValueError:
            raise ValueError(wanted) from None
        numbers = list(values.values())
        if set(values) - set(SENSORS):
            raise ValueError(wanted)
        parsed = values
    else:
        try:
            parsed = _number(text, int if kind is int else float)
        except (ValueError, OverflowError):
            raise ValueError(wanted) from None
        numbers = [parsed]
    for number in numbers:
        if (known['low'] is not None and number < known['low']) or (
                known['high'] is not None and number > known['high']):
            raise ValueError(wanted)
    return parsed


class _Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `UserError`s."""

    def error(self, message):
        raise UserError(message)


def from_command_line(method, own=(), arguments=None, **defaults):
    """The configuration that a command line asks for.

    method: name of the script, for messages. own: the method's own options.
    arguments: the words of the command line; default: those of the process.
    defaults: what the method changes in the defaults.

    `--help` prints and exits with 0; a mistake prints one line and exits with 2.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's greetings: off
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        config = parse(method, own, arguments, **defaults)
        path = os.path.join(config.logdir, 'config.json')
        if config.logdir and os.path.exists(path):
            check_resume(config, method, path)
        return config
    except UserError as error:
        fail(error)


def fail(error):
    """Print one line that says what is wrong, and exit with code 2."""
    print(f'error: {error}', file=sys.stderr, flush=True)
    raise SystemExit(2)


def parse(method, own, arguments, **defaults):
    """As `from_command_line`, but a mistake is a `UserError`."""
    parser = _Parser(
        prog=f'{method}.py', allow_abbrev=False,
        usage='%(prog)s --logdir FOLDER [--option value ...]')
    flags = {}
    for section, fields in sections().items():
        group = parser.add_argument_group(section)
        for field in fields:
            if field.metadata['own'] and field.name not in own:
                continue
            default = defaults.get(field.name, field.default)
            shown = '' if default == '' else f' [{default}]'
            text = (field.metadata['help'] + shown).replace('%', '%%')
            choices = field.metadata['choices']
            shape = '{' + ','.join(choices) + '}' if choices else getattr(
                field.type, '__name__', 'float').upper()
            if isinstance(field.type, types.UnionType):
                shape = 'RATIO'
            if field.type is bool:
                group.add_argument(
                    f'--{field.name}', nargs='?', const='True', metavar='BOOL', help=text)
                group.add_argument(
                    f'--no-{field.name}', dest=field.name, action='store_const', const='False',
                    help=argparse.SUPPRESS)
            else:
                group.add_argument(f'--{field.name}', metavar=shape, help=text)
            flags[field.name] = field
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        name = unknown[0].split('=')[0]
        near = difflib.get_close_matches(name.lstrip('-'), flags, n=1, cutoff=0.5)
        hint = f'did you mean --{near[0]}? ' if near and name.startswith('--') else ''
        raise UserError(f'unknown option {name} for {method}.py; {hint}--help lists the options')
    chosen = {}
    for name, text in vars(given).items():
        if text is not None:
            try:
                chosen[name] = _parse(flags[name], text)
            except ValueError as wanted:
                raise UserError(f'--{name} takes {wanted}, not {text!r}') from None
    values = PRESETS[chosen.get('preset', 'paper')] | defaults | chosen
    values = {name: value for name, value in values.items() if name in flags}
    config = Config(**values)
    if config.test or config.inspect:
        path = judged(config)
        check_resume(config, method, path, model=False)
        config = dataclasses.replace(load(path)[0], **chosen)
        check_resume(config, method, path)
    check(config)
    return config


def judged(config):
    """The path of the configuration of the run in `config.logdir`, which is to be judged."""
    path = os.path.join(config.logdir, 'config.json')
    if not config.logdir or not os.path.exists(path):
        raise UserError(
            f'no run in {config.logdir!r} (no config.json); name a trained run by --logdir')
    return path


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


def check(config):
    """Raise `UserError` for values that are wrong together, or names that are unknown."""
    parts = config.task.split('_', 2)
    if len(parts) != 3 or parts[0] != 'dmc' or not all(parts):
        raise UserError(
            f'--task {config.task!r} is not dmc_<domain>_<task>; type for example '
            '--task dmc_walker_walk')
    names = config.sensors.split(',')
    if config.sensors != 'all' and (set(names) - set(SENSORS) or len(set(names)) != len(names)):
        raise UserError(
            f'--sensors takes all, or some of {",".join(SENSORS)}, not {config.sensors!r}')
    if not config.logdir and not config.dry_run:
        raise UserError('no folder for the run; type for example --logdir ./logdir/my_run')
    above = os.path.abspath(config.logdir)
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise UserError(f'--logdir {config.logdir}: {above} is a file; name a folder')
    if config.checkpoint and not config.test and not config.inspect:
        raise UserError(
            '--checkpoint is for --test and --inspect; a run resumes from its last checkpoint')
    for name in ('natural_train', 'natural_valid'):
        if config.natural and not os.path.exists(resolve(getattr(config, name))):
            raise UserError(
                f'--{name} {getattr(config, name)} does not exist; make it with python natural.py, '
                'or type --no-natural')
    test_ratios(config)
    entries = math.ceil(config.time_limit / config.action_repeat) + 1
    if config.length > entries:
        raise UserError(
            f'--length {config.length} is more than the {entries} entries of an episode '
            '(one for each action_repeat of the time_limit, and one of the reset); type a smaller '
            '--length')


def resolve(path):
    """The path itself, or that of the file of its name beside the scripts where only that
    exists: the videos are found from every working folder."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), path)
    return beside if os.path.exists(beside) and not os.path.exists(path) else path


def ratios(miss_ratio, sensors):
    """The drop-out chance of each of `sensors`, from one number or a dict."""
    if isinstance(miss_ratio, dict):
        return {name: float(miss_ratio.get(name, 0.0)) for name in sensors}
    return {name: float(miss_ratio) for name in sensors}


def save(config, method, path):
    """Write the configuration and the method's name as JSON, atomically."""
    text = json.dumps({'method': method} | dataclasses.asdict(config), indent=2)
    with open(path + '.partial', 'w', encoding='utf-8') as file:
        file.write(text + '\n')
    os.replace(path + '.partial', path)


def load(path):
    """(Config, method's name) as `save` wrote them; options that are gone are ignored. Of the
    errors, TypeError is for a value of another type."""
    with open(path, encoding='utf-8') as file:
        values = json.load(file)
    method = values.pop('method')
    fields = {field.name: field for field in dataclasses.fields(Config)}
    values = {name: value for name, value in values.items() if name in fields}
    for name, value in [('method', method), *values.items()]:
        kind = fields[name].type if name in fields else str
        kinds = {float: (int, float), Ratios: (int, float, dict)}.get(kind, kind)
        if not isinstance(value, kinds) or isinstance(value, bool) != (kind is bool):
            raise TypeError(f'{name} is {value!r}')
    return Config(**values), method


def check_resume(config, method, path, model=True):
    """Raise `UserError` where the run saved at `path` is another method's, or (with `model`)
    differs in what would change the model, as the task does; the fields are named."""
    try:
        before, method_before = load(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f'{path} is not a readable configuration; choose another --logdir') from None
    if method_before != method:
        raise UserError(
            f'{config.logdir} holds a run of {method_before}.py, not of {method}.py; choose '
            'another --logdir')
    changed = [
        f'{field.name} ({getattr(before, field.name)} in the run, '
        f'{getattr(config, field.name)} now)'
        for field in dataclasses.fields(Config) if model and field.metadata['model']
        and getattr(before, field.name) != getattr(config, field.name)]
    if changed:
        raise UserError(
            f'{config.logdir} was begun with other values of {", ".join(changed)}; give the '
            "run's values, or choose another --logdir")


assert all(typing.get_type_hints(Config)[f.name] == f.type for f in dataclasses.fields(Config))
