"""What is wrong with a configuration before anything slow begins: every mistake is a `UserError`
that says what to type instead. Nothing is written."""

import errno
import math
import os

import config as configuration
import environments
import faults
import files
import variants
from config import SENSORS, Config, UserError, ratios, resolve

# Bytes that an environment needs at the least, with its process.
ENVIRONMENT = 5e7

# Characters of a long name that a message shows.
LONG = 60

# What a run makes in its folder.
FOLDERS = ('episodes', 'videos', 'tensorboard')
LOGS = ('episodes.csv', 'metrics.csv')
FILES = ('config.json', 'lock', *LOGS)


def purpose(config, chosen):
    """Raise `UserError` where a command line asks for two things at once, or has options (those
    named in `chosen`) that are for another thing than it asks for."""
    asked = [name for name in ('dry_run', 'test', 'inspect', 'export') if getattr(config, name)]
    if len(asked) > 1:
        raise UserError(f'--{" and --".join(asked)} are different things; type one of them')
    if config.judging and config.init and 'init' in chosen:
        raise UserError(f'--init is for a new run, not for --{asked[0]}; leave it out')
    for name in 'export', 'init', 'checkpoint':  # as of a variable of the shell that is not set
        if chosen.get(name) == '':
            raise UserError(f'--{name} takes a path, and what is given is empty')
    judging = ('test', 'inspect', 'export')
    for name, uses in ('checkpoint', judging), ('test_ratios', judging[:1]), (
            'test_episodes', judging[:1]), ('export_half', judging[2:]):
        if name in chosen and not set(uses) & set(asked):
            raise UserError(
                f'--{name} is for {listed(uses)}' + '; a run resumes from its last '
                'checkpoint' * (name == 'checkpoint' and not asked))


def unused(config, chosen):
    """option -> why it does nothing, of the options named in `chosen` that another one has turned
    off. Those that shape the model are none of these: a run has to be resumed by its own."""
    sensors = variants.meant(config)
    losses = set(variants.sensor_losses(config, sensors).values())
    chances = list(ratios(config.withhold, sensors).values())
    together = math.prod(chances)  # where all would be withheld, none is
    causes = {
        'without --refine_actions': (
            not config.refine_actions, ('refine_rate', 'refine_steps', 'refine_plan')),
        'without --use_sac': (
            not config.use_sac, ('sac_weight', 'critic_rate', 'temperature_rate')),
        'without --natural and a picture in colour': (
            not (config.natural and configuration.coloured(sensors)),
            ('natural_variety', 'natural_train', 'natural_valid')),
        'without a picture among --sensors': (
            not any(SENSORS[name].kind == 'picture' for name in sensors),
            ('render',)),
        'with --no-use_dreamer': (
            not config.use_dreamer, ('entropy_bonus', 'actor_gradient')),
        'with one candidate, which is the action itself': (
            config.search_candidates == 1, ('search_candidates',)),
        'with --kl_balance 1': (config.kl_balance == 1, ('free_nats',)),
        'with a single sensor, or with all at a chance of 1: nothing else could tell of them': (
            any(chances) and all(chance == together for chance in chances), ('withhold',)),
        'where all sensors are reconstructed': (losses == {'reconstruct'}, ('bound_weight',))}
    return {name: why for why, (holds, names) in causes.items() if holds
            for name in names if name in chosen}


def listed(names):
    """Options in a sentence, as --test, --inspect and --export."""
    return ' and '.join(filter(None, (
        ', '.join(f'--{name}' for name in names[:-1]), f'--{names[-1]}')))


def check(config):
    """Raise `UserError` for values that are wrong together, names that are unknown, a folder that
    cannot be used and sizes that no memory holds."""
    judging = config.judging
    task(config)
    if config.xla and config.devices == 'all':
        raise UserError('--xla compiles for one device; type it without --devices all')
    names = config.sensors.split(',')
    if config.sensors != 'all' and (set(names) - set(SENSORS) or len(set(names)) != len(names)):
        raise UserError(
            f'--sensors takes all, or some of {",".join(SENSORS)}, not {config.sensors!r}' + (
                '; what the task calls its parts, --sensor_map takes, as image=rgb'
                if 'sensor_map' in environments.family(config.task).options else ''))
    method(config)
    for option in variants.BY_SENSOR:
        for name in variants.named(getattr(config, option)):
            if name not in variants.meant(config) and not judging:
                raise UserError(
                    f'--{option} names {name}, which is not among --sensors {config.sensors}')
    folder(config)
    # A finished agent is looked at on the backgrounds of evaluation alone.
    for name in ('natural_train', 'natural_valid')[judging:]:
        path = resolve(getattr(config, name))
        if config.natural and (os.path.isdir(path) or not os.path.exists(path)):
            what = 'is a folder' if os.path.isdir(path) else 'does not exist'
            raise UserError(
                f'--{name} {getattr(config, name)} {what}; make a file with python natural.py, '
                'or type --no-natural')
    configuration.test_ratios(config)
    for sensor, *_ in faults.asked(config.corrupt):
        if sensor not in variants.meant(config):
            raise UserError(
                f'--corrupt names {sensor}, which is not among --sensors {config.sensors}')
    steps = environments.time_limit(config)
    entries = math.ceil(steps / config.action_repeat) + 1
    if not judging and steps and config.length > entries and not config.across_episodes:
        raise UserError(
            f'--length {config.length} is more than the {entries} entries of an episode '
            '(one for each action_repeat of the time_limit, and one of the reset); type a smaller '
            '--length, or --across_episodes')
    if not judging and config.prefill > config.steps:
        raise UserError(
            f'--prefill {config.prefill} is more than --steps {config.steps}, which include it; '
            'type a smaller --prefill, or more --steps')
    memory(config)


def method(config):
    """Raise `UserError` for choices of the method that are wrong or do not go together."""
    if not (config.use_dreamer or config.use_sac):
        raise UserError('--no-use_dreamer leaves nothing that trains the actor; type --use_sac too')
    if config.reward_only and config.obs_model == 'generative':
        raise UserError('--reward_only has no --obs_model; type one of them')
    losses = variants.sensor_losses(config, SENSORS)
    variants.bound_weights(config, SENSORS)
    for name in variants.named(config.bound_weight):
        if losses[name] == 'reconstruct':
            raise UserError(
                f'--bound_weight names {name}, which --sensor_loss reconstructs: it has no bound')


def task(config):
    """Raise `UserError` where no family has the task, or an option is not for its family."""
    family = environments.family(config.task)
    usual = Config()
    for other in environments.FAMILIES.values():
        for option in set(other.options) - set(family.options):
            if getattr(config, option) != getattr(usual, option):
                raise UserError(f'--{option} is for tasks {other.names}, not for {config.task}')
    if config.natural and not family.backgrounds:
        raise UserError(
            f'--natural: {config.task} does not say where its background is, as the tasks of the '
            'control suite and wipe_table do; leave it out')
    configuration.sensor_keys(config.sensor_map)


def folder(config):
    """Raise `UserError` where the folder of the run cannot be used as `config` asks."""
    judging = config.judging
    if not config.logdir:
        if config.dry_run:
            return
        raise UserError('no folder for the run; type for example --logdir ./logdir/my_run')
    room('logdir', config.logdir)
    if not (judging or config.dry_run) and files.exported(config.logdir):
        raise UserError(
            f'{config.logdir} is an exported agent, which has no optimisers and no episodes to go '
            f'on from; begin a run of its own from it by --logdir ANOTHER --init {config.logdir}')
    if not (judging or config.dry_run):
        logs_alone(config.logdir)
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
    if config.export:
        if os.path.lexists(config.export) and not (
                os.path.isdir(config.export) and not os.listdir(config.export)):
            raise UserError(
                f'--export {config.export} is there already, and is not overwritten; name a '
                'folder that is not there')
        if os.path.ismount(config.export):
            raise UserError(
                f'--export {config.export} is a volume of its own, which cannot be replaced; name '
                'a folder in it')
        room('export', os.path.abspath(config.export) + 'x' * 20)  # as it is while it is written
        writes = os.path.dirname(os.path.realpath(config.export))
    if not config.dry_run and not config.test and not files.writable(writes):
        option = 'export' if config.export else 'logdir'
        raise UserError(f'cannot write in {writes}; choose another --{option}')


def logs_alone(folder):
    """Raise `UserError` where a run to be trained in `folder` would lose logs that lie there."""
    if not (files.states(folder) or files.episodes(os.path.join(folder, 'episodes'))) and any(
            files.filled(os.path.join(folder, name)) for name in LOGS):
        raise UserError(
            f'{folder} has the logs of a run, and neither episodes nor a checkpoint to go on from; '
            'choose another --logdir')


def room(option, path):
    """Raise `UserError` where no folder can be made at `path`, which `option` names."""
    above, ends = os.path.abspath(path), [os.path.join(path, 'x' * 200)]  # names of files in it
    while not os.path.lexists(above):
        ends.append(above)
        above = os.path.dirname(above)
    for end in ends:
        try:
            os.lstat(end)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise UserError(f'--{option} is too long: {path[:LONG]}...') from None
    if not os.path.isdir(above):
        raise UserError(f'--{option} {path}: {above} is a file; name a folder')


def memory(config):
    """Raise `UserError` where the settings need more memory than there is, by a bound far below
    what they really need."""
    pictures = config.sensors == 'all' or any(
        SENSORS[name].kind == 'picture' for name in config.sensors.split(','))
    judging = config.judging
    frames, width = config.batch * config.length * (not judging), config.deter + config.stoch
    starts = config.batch * math.ceil(config.length / config.imagine_every) * (not judging)
    videos = 0
    if config.natural and not judging and configuration.coloured(variants.meant(config)):
        videos = os.path.getsize(resolve(config.natural_train))
    embedding = 32 * config.conv_depth
    values = {  # of the weights
        ('deter', 'hidden'): config.deter * (3 * (config.deter + config.hidden) + config.hidden),
        ('stoch', 'hidden'): 3 * config.stoch * config.hidden,
        ('conv_depth', 'hidden'): config.hidden * embedding,
        ('conv_depth',): 250 * config.conv_depth ** 2 * pictures,
        ('units',): config.units * (6 * config.units + 2 * width),
        ('expert_width', 'conv_depth'): config.expert_width * (
            2 * config.expert_width + embedding),
        ('vector_units',): config.vector_units ** 2 * (config.sensors == 'all'),
        ('decoder_units',): config.decoder_units ** 2 * (config.sensors == 'all')}
    # A weight has a gradient and two moments. The first convolution gives a quarter as many places
    # as there are pixels, in 2 bytes at the least; raw pictures have 3 bytes a pixel.
    pixels, places = config.picture_size ** 2, (config.picture_size // 2 - 1) ** 2
    needed = {names: 16 * count for names, count in values.items()} | {
        ('batch', 'length'): frames * (
            3 * pixels + 2 * places * config.conv_depth if pictures else 100),
        ('batch', 'length', 'horizon', 'deter', 'stoch', 'units'): (
            2 * starts * config.horizon * (width + config.units)),
        ('envs',): ENVIRONMENT * config.envs,
        ('envs', 'natural_train'): videos * config.envs,
        ('search_candidates', 'horizon', 'deter', 'stoch'): (
            4 * config.search_candidates * config.horizon * width)}
    total, there = sum(needed.values()), available()
    if total > there:
        most, usual = max(needed, key=needed.get), Config()
        most = [name for name in most if isinstance(getattr(config, name), str)
                or getattr(config, name) > getattr(usual, name)] or most
        raise UserError(
            f'more than {total / 1e9:,.0f} GB of memory are needed, most for '
            f'{" ".join(f"--{name} {getattr(config, name)}" for name in most)}, and this machine '
            f'has {there / 1e9:,.0f}; type smaller numbers' + (
                ', or a file of fewer or shorter videos' * ('natural_train' in most)))


def available():
    """Bytes of memory of the machine; infinity where it does not say."""
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, OSError, ValueError):
        return math.inf
