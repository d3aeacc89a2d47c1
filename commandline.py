"""How a command line becomes a `Config`, and how a `Config` is kept in the folder of a run.

Every field of `config.Config` is a flag of its name. A mistake is a `UserError`, which the
scripts show as one line. Nothing here imports TensorFlow or the simulator, so `--help` and a
wrong option are answered at once.
"""

import argparse
import contextlib
import dataclasses
import difflib
import json
import math
import os
import sys
import types

import checks
import files
import processor
import provenance
import stopping
import variants
from config import FIELDS, FREE, LARGEST, SENSORS, Config, Ratios, UserError, sections

# Of what shapes the model, what may be another in a run that is not this one's --logdir.
ELSEWHERE = {'--init': ('task', 'init', 'sensor_map')}


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


def _chosen(text, choices):
    """The one of `choices` that `text` says."""
    found = {str(choice): choice for choice in choices}
    if text not in found:
        raise ValueError('one of ' + ', '.join(found))
    return found[text]


def _parse(field, text):
    """The value that `text` says for `field`; ValueError with what is wanted otherwise."""
    kind, known = field.type, field.metadata
    if kind is str:
        if not _storable(text):
            raise ValueError('text in UTF-8')
        if known['path']:
            return _path(text)
        return _chosen(text, known['choices']) if known['choices'] else text
    if kind is bool:
        if text.lower() not in ('true', 'false'):
            raise ValueError('True or False')
        return text.lower() == 'true'
    if known['choices']:
        return _chosen(text, known['choices'])
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


def value(name, text):
    """The value that `text` says for the option `name`; `UserError` where it says none."""
    if not isinstance(text, str):  # argparse takes a value of two dashes for an end
        raise UserError(f'--{name} takes a value, not --')
    try:
        return _parse(FIELDS[name], text)
    except ValueError as wanted:
        shown = repr(text if len(text) <= checks.LONG else text[:checks.LONG] + '...')
        raise UserError(f'--{name} takes {wanted}, not {shown}') from None


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


class Unused(UserError):
    """Options that others turn off. names: of these."""

    def __init__(self, idle):
        self.names = list(idle)
        name, why = next(iter(idle.items()))
        super().__init__(f'--{name} does nothing {why}; leave it out')


class _Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `UserError`s."""

    def error(self, message):
        raise UserError(message)


def from_command_line(method, arguments=None):
    """The configuration that a command line of the script of a `config.Method` asks for.

    arguments: the words of the command line; default: those of the process.

    `--help` prints and exits with 0; a mistake prints one line and exits with 2.
    """
    stopping.listen('what was saved is whole, and the same command begins or resumes')
    processor.prepare()
    script, ending = os.path.splitext(os.path.basename(sys.argv[0]))
    with answering('the command line'):
        if arguments is None and ending == '.py' and script != method.name:
            raise UserError(
                f'METHOD of {script}.py has the name {method.name!r}; give it that of its file, by '
                'which its runs find it again')
        arguments = sys.argv[1:] if arguments is None else arguments
        config = parse(method, arguments)
        path = os.path.join(config.logdir, 'config.json')
        if config.logdir and os.path.exists(path):
            check_resume(config, method.name, path)
        return config


@contextlib.contextmanager
def answering(place, then=''):
    """Within, the command ends with one line after a mistake of the user's or a file that can be
    read or written no more (`place`, where the error does not say which), with exit code 2; and
    after Ctrl-C, with 130 and the words `then`."""
    if hasattr(sys.stdout, 'reconfigure'):  # a notebook's has not
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files may be no text
    try:
        yield
    except UserError as error:
        fail(error)
    except BrokenPipeError:
        unread()
    except OSError as error:
        fail(UserError(f'{error.filename or place}: {error.strerror or error}'))
    except KeyboardInterrupt:
        print(f'\ninterrupted{then}', file=sys.stderr)
        raise SystemExit(130) from None


def drop(output):
    """Let what is still written to `output`, which nobody reads any more, go nowhere: also what
    Python writes when it ends, and would fail at once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def unread(then=''):
    """As `fail`, where nobody reads any more what is printed, as after `| head`."""
    with contextlib.suppress(OSError, ValueError):
        drop(sys.stdout)
    with contextlib.suppress(OSError):
        fail(UserError(f'nobody reads what is printed (broken pipe){then}'))
    raise SystemExit(2)


def fail(error):
    """Print one line that says what is wrong, and exit with code 2."""
    print(f'error: {error}', file=sys.stderr, flush=True)
    raise SystemExit(2)


def parse(method, arguments, acting=False):
    """As `from_command_line`, but a mistake is a `UserError`. acting: of an agent that acts in
    environments of its user's choice, whose drop-outs may be others than those of its training."""
    given, unknown = _parser(method).parse_known_args(arguments)
    if unknown:
        raise _unknown(unknown[0].split('=')[0], method)
    chosen = {name: value(name, text) for name, text in vars(given).items() if text is not None}
    usual = variants.usual(
        chosen.get('task', Config.task), chosen.get('preset', Config.preset), method)
    config = Config(**{name: (usual | chosen)[name] for name in vars(given)})
    checks.purpose(config, chosen)
    if config.judging:
        config = _of_run(config, chosen, method, acting)
    checks.check(config)
    # Typed as it is without being typed, an option is no mistake.
    typed = {name for name, value in chosen.items() if value != usual[name]}
    if idle := {} if config.judging else checks.unused(config, typed):
        raise Unused(idle)
    if config.judging:
        check_checkpoint(config)
    elif config.init and not files.states(config.logdir):  # a run that has begun needs it no more
        check_init(config, method.name)
    return config


def _parser(method):
    """The options of a method, grouped as in `Config`."""
    parser = _Parser(
        prog=f'{method.name}.py', allow_abbrev=False,
        usage='%(prog)s --logdir FOLDER [--option value ...]')
    for section, fields in sections().items():
        group = parser.add_argument_group(section)
        for field in fields:
            known = field.metadata
            if known['own'] and field.name not in method.own:
                continue
            default = method.defaults.get(field.name, field.default)
            shown = '' if default == '' else f' [{default}]'
            text = (known['help'] + shown).replace('%', '%%')
            if field.type is bool:
                group.add_argument(
                    f'--{field.name}', nargs='?', const='True', metavar='BOOL', help=text)
                group.add_argument(
                    f'--no-{field.name}', dest=field.name, action='store_const', const='False',
                    help=argparse.SUPPRESS)
            else:
                shape = 'RATIO' if isinstance(field.type, types.UnionType) else (
                    field.type.__name__.upper())
                if known['choices']:
                    shape = '{' + ','.join(map(str, known['choices'])) + '}'
                group.add_argument(f'--{field.name}', metavar=shape, help=text)
    return parser


def _unknown(name, method):
    """The `UserError` for an option that a method has not."""
    own = [field.name for field in FIELDS.values()
           if not field.metadata['own'] or field.name in method.own]
    if name.removeprefix('--').removeprefix('no-') in FIELDS.keys() - set(own):
        return UserError(f'{name} is an option of other methods, and not of {method.name}.py; '
                         'leave it out')
    near = difflib.get_close_matches(name.lstrip('-'), own, n=1, cutoff=0.5)
    hint = f'did you mean --{near[0]}? ' if near and name.startswith('--') else ''
    return UserError(
        f'unknown option {name} for {method.name}.py; {hint}--help lists the options')


def _of_run(config, chosen, method, acting):
    """The configuration of the finished run that `config` is to judge, with what was `chosen`."""
    path = judged(config.logdir)
    check_resume(config, method.name, path, model=False)
    own = load(path)[0]
    if chosen.get('preset', own.preset) != own.preset:
        raise UserError(
            f'--preset {chosen["preset"]} is for a new run, and {config.logdir} has its settings; '
            'leave it out, and type the options that shall be others')
    if config.test and not acting:  # whose faults are those that are typed
        chosen = {'corrupt': ''} | chosen
    config = dataclasses.replace(own, **chosen)
    for name, known in dataclasses.asdict(config).items():
        if name == 'preset':  # one that is no more leaves its numbers
            continue
        try:
            value(name, provenance.typed(known))
        except UserError as error:
            raise UserError(f'{path} holds a value that cannot be used: {error}') from None
    check_resume(config, method.name, path)
    if config.test and config.miss_ratio != own.miss_ratio and not acting:
        raise UserError('--miss_ratio is what a run is trained with; --test judges at '
                        '--test_ratios, and with each sensor gone and alone')
    return config


def judged(logdir):
    """The path of the configuration of the run in `logdir`, which is to be judged."""
    path = os.path.join(logdir, 'config.json')
    if not logdir or not os.path.exists(path):
        raise UserError(f'no run in {logdir!r} (no config.json); name a trained run by --logdir')
    return path


def check_checkpoint(config):
    """Raise `UserError` where there is no checkpoint to judge, or not one of the run's model."""
    chosen = config.checkpoint.removesuffix('.index')
    if not chosen:
        if not (files.states(config.logdir) or files.exported(config.logdir)):
            raise UserError(f'no checkpoint in {config.logdir}; train first, or name a trained run '
                            'by --logdir')
        return
    if not os.path.isfile(chosen + '.index'):
        raise UserError(
            f'no checkpoint {chosen}; type one as {config.logdir}/state-000001000, without its '
            'endings')
    folder = os.path.dirname(chosen) or os.curdir
    beside = os.path.join(folder, 'config.json')
    if os.path.exists(beside) and not os.path.samefile(folder, config.logdir):
        raise UserError(
            f'--checkpoint {chosen} is of the run in {folder}, and what is written would be in '
            f'{config.logdir}; type --logdir {folder}')


def check_init(config, method):
    """Raise `UserError` where `--init` is no exported agent, or another method's, or one with
    other settings of the model. The task may be another: the weights say whether they fit."""
    if not files.exported(config.init):
        raise UserError(
            f'--init {config.init} is no exported agent (no {files.WEIGHTS}); make one of a run by '
            f'python {method}.py --logdir RUN --export FOLDER')
    check_resume(config, method, os.path.join(config.init, 'config.json'), option='--init')


def save(config, method, path, history=None):
    """Write the configuration and the method's name as JSON, atomically, with the run's
    `provenance.history`; default: what is there already, and this revision."""
    history = history or provenance.continued(path)
    text = json.dumps({'method': method} | history | dataclasses.asdict(config), indent=2)
    with files.writing(path) as file:
        file.write(f'{text}\n'.encode())


def load(path):
    """(Config, method's name) as `save` wrote them; options that are gone are ignored. UserError
    for a file that is damaged."""
    try:
        with open(path, encoding='utf-8') as file:
            return _read(json.load(file))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f'{path} is not a readable configuration') from None


def _read(values):
    method = values.pop('method')
    values = {name: value for name, value in values.items() if name in FIELDS}
    for name, value in [('method', method), *values.items()]:
        kind = FIELDS[name].type if name in FIELDS else str
        kinds = {float: (int, float), Ratios: (int, float, dict)}.get(kind, kind)
        if not isinstance(value, kinds) or isinstance(value, bool) != (kind is bool):
            raise TypeError(f'{name} is {value!r}')
    return Config(**values), method


def check_resume(config, method, path, model=True, option='--logdir'):
    """Raise `UserError` where the run saved at `path` is another method's, or (with `model`)
    differs in what would change the model, as the task does; the fields are named. Returns the
    run's `Config`.

    option: the one that named the run.
    """
    try:
        before, method_before = load(path)
    except (OSError, UserError):
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
        for field in FIELDS.values() if model and field.metadata['model']
        and field.name not in ELSEWHERE.get(option, ())
        and getattr(before, field.name) != getattr(config, field.name)]
    if changed:
        raise UserError(
            f'{folder} was begun with other values of {", ".join(changed)}; give the '
            f"run's values, or choose another {option}")
    return before


def changes(before, config):
    """What is learned otherwise from here on in a run that is resumed with `config`, as
    'free_nats 1.0 (3.0 before)', for a person; '' where nothing is. A preset may have changed
    since the run was begun, and nobody typed that.

    Of the settings FREE the seed is one of these: a run's seeds may differ, but not one run's."""
    return ', '.join(
        f'{field.name} {getattr(config, field.name)} ({getattr(before, field.name)} before)'
        for field in FIELDS.values() if field.name not in FREE - {'seed'}
        and not field.metadata['model'] and not field.metadata['path']
        and getattr(before, field.name) != getattr(config, field.name))
