"""How a command line becomes a `Config`, and how a `Config` is kept in the folder of a run.

Every field of `config.Config` is a flag of its name. A mistake is a `UserError`, which the
scripts show as one line. Nothing here imports TensorFlow or the simulator, so `--help` and a
wrong option are answered at once.
"""

import argparse
import dataclasses
import difflib
import errno
import json
import math
import os
import sys
import types

import files
from config import LARGEST, PRESETS, SENSORS, Config, Ratios, UserError, resolve, sections

# Characters of a wrong value that a message shows.
LONG = 60

# Bytes that an environment needs at the least, with its process.
ENVIRONMENT = 5e7


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
        if not _storable(text):
            raise ValueError('text in UTF-8')
        if known['path']:
            return _path(text)
        if known['choices'] and text not in known['choices']:
            raise ValueError('one of ' + ', '.join(known['choices']))
        return text
    if kind is bool:
        if text.lower() not in ('true', 'false'):
            raise ValueError('True or False')
        return text.lower() == 'true'
    wanted = 'a whole number' if kind is int else 'a number'
    if known['low'] is not None:
        wanted += f' from {known["low"]:g}'
        if known['high'] != LARGEST:
            wanted += f' to {known["high"]}'
    if kind == Ratios and '=' in text:
        wanted += ', or <sensor>=<number>,... with the sensors ' + ', '.join(SENSORS)
        try:
            pairs = [part.split('=') for part in text.split(',')]
            values = {name.strip(): _number(value, float) for name, value in pairs}
        except ValueError:
            raise ValueError(wanted) from None
        numbers = list(values.values())
        if set(values) - set(SENSORS):
            raise ValueError(wanted)
        if len(values) < len(pairs):
            raise ValueError(wanted + ', each sensor once')
        parsed = values
    else:
        try:
            parsed = _number(text, int if kind is int else float)
        except (ValueError, OverflowError):
            raise ValueError(wanted) from None
        numbers = [parsed]
    for number in numbers:
        if number > known['high'] == LARGEST:
            raise ValueError(f'{wanted} to {LARGEST}')
        if not known['low'] <= number <= known['high']:
            raise ValueError(wanted)
    return parsed


def _storable(text):
    """Whether a name can be printed and written to files: bytes that are no UTF-8 cannot, and no
    name holds a zero."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return '\0' not in text


def _path(text):
    """A path as it is used: ~ is the user's folder; absolute where libraries would take its
    beginning, as in file:, for more than a name."""
    path = os.path.expanduser(text)
    return os.path.abspath(path) if ':' in path or path.startswith('~') else path


class _Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `UserError`s."""

    def error(self, message):
        raise UserError(message)


def from_command_line(method, arguments=None):
    """The configuration that a command line of the script of a `config.Method` asks for.

    arguments: the words of the command line; default: those of the process.

    `--help` prints and exits with 0; a mistake prints one line and exits with 2.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's greetings: off
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        config = parse(method, arguments)
        path = os.path.join(config.logdir, 'config.json')
        if config.logdir and os.path.exists(path):
            check_resume(config, method.name, path)
        return config
    except UserError as error:
        fail(error)


def fail(error):
    """Print one line that says what is wrong, and exit with code 2."""
    print(f'error: {error}', file=sys.stderr, flush=True)
    raise SystemExit(2)


def parse(method, arguments):
    """As `from_command_line`, but a mistake is a `UserError`."""
    parser = _Parser(
        prog=f'{method.name}.py', allow_abbrev=False,
        usage='%(prog)s --logdir FOLDER [--option value ...]')
    flags = {}
    for section, fields in sections().items():
        group = parser.add_argument_group(section)
        for field in fields:
            if field.metadata['own'] and field.name not in method.own:
                continue
            default = method.defaults.get(field.name, field.default)
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
        raise UserError(
            f'unknown option {name} for {method.name}.py; {hint}--help lists the options')
    chosen = {}
    for name, text in vars(given).items():
        if text is not None:
            try:
                chosen[name] = _parse(flags[name], text)
            except ValueError as wanted:
                shown = repr(text if len(text) <= LONG else text[:LONG] + '...')
                raise UserError(f'--{name} takes {wanted}, not {shown}') from None
    values = PRESETS[chosen.get('preset', 'paper')] | method.defaults | chosen
    values = {name: value for name, value in values.items() if name in flags}
    config = Config(**values)
    check_purpose(config, chosen)
    if config.test or config.inspect:
        path = judged(config)
        check_resume(config, method.name, path, model=False)
        config = dataclasses.replace(load(path)[0], **chosen)
        check_resume(config, method.name, path)
    check(config)
    return config


def check_purpose(config, chosen):
    """Raise `UserError` where a command line asks for two things at once, or has options (those
    named in `chosen`) that are for another thing than it asks for."""
    asked = [name for name in ('dry_run', 'test', 'inspect') if getattr(config, name)]
    if len(asked) > 1:
        raise UserError(f'--{" and --".join(asked)} are different things; type one of them')
    judging = ('test', 'inspect')
    for name, uses in ('checkpoint', judging), ('test_ratios', judging[:1]), (
            'test_episodes', judging[:1]):
        if name in chosen and chosen[name] != '' and not set(uses) & set(asked):
            raise UserError(
                f'--{name} is for --{" and --".join(uses)}' + '; a run resumes from its last '
                'checkpoint' * (name == 'checkpoint' and not asked))


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
    for option in ('miss_ratio', 'withhold'):
        value = getattr(config, option)
        others = [name for name in value if name not in names] if isinstance(value, dict) else []
        if others and config.sensors != 'all':
            raise UserError(
                f'--{option} names {others[0]}, which is not among --sensors {config.sensors}')
    check_folder(config)
    for name in ('natural_train', 'natural_valid'):
        path = resolve(getattr(config, name))
        if config.natural and (os.path.isdir(path) or not os.path.exists(path)):
            what = 'is a folder' if os.path.isdir(path) else 'does not exist'
            raise UserError(
                f'--{name} {getattr(config, name)} {what}; make a file with python natural.py, '
                'or type --no-natural')
    test_ratios(config)
    entries = math.ceil(config.time_limit / config.action_repeat) + 1
    if config.length > entries:
        raise UserError(
            f'--length {config.length} is more than the {entries} entries of an episode '
            '(one for each action_repeat of the time_limit, and one of the reset); type a smaller '
            '--length')
    if not config.test and not config.inspect and config.prefill > config.steps:
        raise UserError(
            f'--prefill {config.prefill} is more than --steps {config.steps}, which include it; '
            'type a smaller --prefill, or more --steps')
    check_memory(config)


# What a run makes in its folder.
FOLDERS = ('episodes', 'videos', 'tensorboard')
FILES = ('config.json', 'lock', 'episodes.csv', 'metrics.csv')


def check_folder(config):
    """Raise `UserError` where the folder of the run cannot be used as `config` asks."""
    judging = config.test or config.inspect
    if not config.logdir:
        if config.dry_run:
            return
        raise UserError('no folder for the run; type for example --logdir ./logdir/my_run')
    try:  # with room for the names in it
        os.lstat(os.path.join(config.logdir, 'x' * 200))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f'--logdir is too long: {config.logdir[:LONG]}...') from None
    above = os.path.abspath(config.logdir)
    while not os.path.lexists(above):
        above, name = os.path.split(above)
        try:
            os.lstat(os.path.join(above, name))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise UserError(f'--logdir is too long: {config.logdir[:LONG]}...') from None
    if not os.path.isdir(above):
        raise UserError(f'--logdir {config.logdir}: {above} is a file; name a folder')
    folders, made = ('inspect',) * config.inspect, ('results.csv',) * config.test
    if not judging:
        folders, made = FOLDERS, FILES
    for name in folders + made:
        path = os.path.join(config.logdir, name)
        if os.path.lexists(path) and os.path.isdir(path) != (name in folders):
            raise UserError(
                f'{path} is a {"file" if name in folders else "folder"}, and a run needs a '
                f'{"folder" if name in folders else "file"} there; move it away')
    writes = os.path.join(config.logdir, 'inspect') if config.inspect else config.logdir
    if not config.dry_run and not config.test and not files.writable(writes):
        raise UserError(f'cannot write in {writes}; choose another --logdir')
    if judging:
        check_checkpoint(config)


def check_checkpoint(config):
    """Raise `UserError` where there is no checkpoint to judge, or not one of the run's model."""
    chosen = config.checkpoint.removesuffix('.index')
    if not chosen:
        if not files.states(config.logdir):
            raise UserError(f'no checkpoint in {config.logdir}; train first, or name a trained run '
                            'by --logdir')
        return
    if not os.path.isfile(chosen + '.index'):
        raise UserError(
            f'no checkpoint {chosen}; type one as {config.logdir}/state-000001000, without its '
            'endings')
    beside = os.path.join(os.path.dirname(chosen), 'config.json')
    if os.path.exists(beside):
        method = load(judged(config))[1]
        check_resume(config, method, beside, option='--checkpoint')


def check_memory(config):
    """Raise `UserError` where the settings need more memory than there is, by a bound far below
    what they really need."""
    pictures = config.sensors == 'all' or any(
        SENSORS[name].kind == 'picture' for name in config.sensors.split(','))
    judging = config.test or config.inspect
    frames, width = config.batch * config.length * (not judging), config.deter + config.stoch
    embedding = 32 * config.conv_depth
    values = {  # of the weights
        ('deter', 'hidden'): config.deter * (3 * (config.deter + config.hidden) + config.hidden),
        ('stoch', 'hidden'): 3 * config.stoch * config.hidden,
        ('conv_depth', 'hidden'): config.hidden * embedding,
        ('conv_depth',): 600 * config.conv_depth ** 2 * pictures,
        ('units',): config.units * (6 * config.units + 2 * width),
        ('expert_width', 'conv_depth'): config.expert_width * (
            2 * config.expert_width + embedding),
        ('vector_units',): config.vector_units ** 2 * (config.sensors == 'all'),
        ('decoder_units',): config.decoder_units ** 2 * (config.sensors == 'all')}
    # A weight has a gradient and two moments. The first convolution gives 31 x 31 places, in 2
    # bytes at the least; raw pictures are of 64 x 64 x 3 bytes.
    needed = {names: 16 * count for names, count in values.items()} | {
        ('batch', 'length'): frames * (12288 + 1922 * config.conv_depth if pictures else 100),
        ('batch', 'length', 'horizon', 'deter', 'stoch', 'units'): (
            2 * frames * config.horizon * (width + config.units)),
        ('envs',): ENVIRONMENT * config.envs,
        ('search_candidates', 'horizon', 'deter', 'stoch'): (
            4 * config.search_candidates * config.horizon * width)}
    total, there = sum(needed.values()), memory()
    if total > there:
        most, usual = max(needed, key=needed.get), Config()
        most = [name for name in most if getattr(config, name) > getattr(usual, name)] or most
        raise UserError(
            f'more than {total / 1e9:,.0f} GB of memory are needed, most for '
            f'{" ".join(f"--{name} {getattr(config, name)}" for name in most)}, and this machine '
            f'has {there / 1e9:,.0f}; type smaller numbers')


def memory():
    """Bytes of memory of the machine; infinity where it does not say."""
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, OSError, ValueError):
        return math.inf


def save(config, method, path):
    """Write the configuration and the method's name as JSON, atomically."""
    text = json.dumps({'method': method} | dataclasses.asdict(config), indent=2)
    with files.writing(path) as file:
        file.write(f'{text}\n'.encode())


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


def check_resume(config, method, path, model=True, option='--logdir'):
    """Raise `UserError` where the run saved at `path` is another method's, or (with `model`)
    differs in what would change the model, as the task does; the fields are named.

    option: the one that named the run.
    """
    try:
        before, method_before = load(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f'{path} is not a readable configuration; choose another {option}') from None
    folder = os.path.dirname(path)
    if method_before != method:
        raise UserError(
            f'{folder} holds a run of {method_before}.py, not of {method}.py; choose '
            f'another {option}')
    changed = [
        f'{field.name} ({getattr(before, field.name)} in the run, '
        f'{getattr(config, field.name)} now)'
        for field in dataclasses.fields(Config) if model and field.metadata['model']
        and getattr(before, field.name) != getattr(config, field.name)]
    if changed:
        raise UserError(
            f'{folder} was begun with other values of {", ".join(changed)}; give the '
            f"run's values, or choose another {option}")
