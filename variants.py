"""What makes another method of a method: what each sensor is learned by, and how a run with such
choices is called. Nothing here imports TensorFlow or the simulator."""

import ast
import functools
import os

import config as configuration
import environments
from config import FIELDS, LARGEST, PRESETS, SENSORS, UserError

HERE = os.path.dirname(os.path.abspath(__file__))

# Options that are one value for all sensors, or one by sensor.
BY_SENSOR = 'miss_ratio', 'withhold', 'sensor_loss', 'bound_weight'


def usual(task, preset, method=None):
    """option -> value where it is not typed: that of the method, or of the preset, or of the
    task's family, or the default. method: a `config.Method`. A preset that is no more has none."""
    return {name: field.default for name, field in FIELDS.items()} | (
        environments.defaults(task)) | PRESETS.get(preset, {}) | dict(
        method.defaults if method else {})


def named(value):
    """The sensors that an option names which is one value for all, or one by sensor: a number, a
    dict, or a text as image=...,touch=..."""
    names = value if isinstance(value, dict) else (
        part.split('=')[0].strip() for part in str(value).split(',') if '=' in part)
    return [name for name in names if name in SENSORS]


def meant(config):
    """The sensors that `--sensors` can mean: with all, those that are not there by name alone, and
    in a family whose observations decide, any."""
    if config.sensors != 'all':
        return config.sensors.split(',')
    mapped = 'sensor_map' in environments.options(config.task)
    return [name for name, row in SENSORS.items() if mapped or not row.by_name]


def by_sensor(option, text, sensors, default, convert, wanted):
    """sensor -> value from `text`, one value for all of `sensors` or <sensor>=<value>,...; those
    not named have `default(sensor)`. convert: text -> value, a ValueError says that it is none."""
    try:
        if '=' not in text:
            value = convert(text) if text else None
            return {name: default(name) if value is None else value for name in sensors}
        pairs = [part.split('=') for part in text.split(',')]
        named = {name.strip(): convert(value.strip()) for name, value in pairs}
        if set(named) - set(SENSORS) or len(named) < len(pairs):
            raise ValueError
    except ValueError:
        raise UserError(
            f'--{option} takes {wanted}, or <sensor>=<value>,... with the sensors '
            f'{", ".join(SENSORS)}, each once, not {text!r}') from None
    return {name: named.get(name, default(name)) for name in sensors}


def sensor_losses(config, sensors):
    """sensor -> contrast or reconstruct, of `config.sensor_loss`."""
    known = ('contrast', 'reconstruct')
    return by_sensor('sensor_loss', config.sensor_loss, sensors, lambda sensor: known[0],
                     lambda text: known[known.index(text)], ' or '.join(known))


def bound_weights(config, sensors):
    """sensor -> the weight of its bound, of `config.bound_weight` and the table of sensors."""
    def number(text):
        if not 0 <= float(text) <= LARGEST:
            raise ValueError
        return float(text)
    return by_sensor(
        'bound_weight', config.bound_weight, sensors,
        lambda sensor: SENSORS[sensor].bound_weight, number, f'a number from 0 to {LARGEST}')


def method_of(name):
    """The `config.Method` of a script, without the script's slow imports; None where there is no
    such script, or it has none."""
    path = os.path.join(HERE, f'{name}.py')
    if not name.isidentifier() or not os.path.isfile(path):
        return None
    try:
        with open(path, encoding='utf-8') as file:
            body = ast.parse(file.read()).body
        found = [node.value for node in body if any(
            getattr(target, 'id', '') == 'METHOD'
            for target in getattr(node, 'targets', [getattr(node, 'target', None)]))]
        if not found:
            return None
        method = eval(compile(ast.Expression(found[0]), name, 'eval'), {
            'Method': configuration.Method, 'config': configuration})
        if not isinstance(method, configuration.Method):
            raise TypeError(f'it is {method!r}')
        return method
    except Exception as error:  # an expression of a script may raise whatever it likes
        raise UserError(f'{name}.py: METHOD is not what can be read without its imports, as '
                        f"Method('{name}'): {error}") from None


@functools.cache
def known(method):
    """`method_of`, or None also where the script cannot be read."""
    try:
        return method_of(method)
    except UserError:
        return None


def plans(method):
    """Whether runs of the script of that name plan their actions where nothing else is typed; None
    where no script tells."""
    found = known(method)
    return found and bool(found.defaults.get(
        'refine_actions', configuration.Config.refine_actions))


def lacks(method):
    """The options that the script of that name has not, being of others, as far as is known."""
    found = known(method)
    return {name for name, field in FIELDS.items()
            if found and field.metadata['own'] and name not in found.own}


def name(method, config):
    """What a run of the method of that name is called: `method`, and in words what makes another
    method of it, as ablations do."""
    losses = sensor_losses(config, meant(config))
    rebuilt = [sensor for sensor in SENSORS if losses.get(sensor) == 'reconstruct']
    rebuilt = 'all' if len(rebuilt) == len(losses) else ' and '.join(rebuilt)
    planned = bool(config.refine_actions or config.search_candidates)
    words = {
        'generative': config.obs_model == 'generative',
        'reward only': config.reward_only,
        'product of experts': config.fusion == 'precision',
        'prior expert': config.prior_expert,
        'bilinear': config.density_ratio == 'bilinear' and rebuilt != 'all',
        f'{rebuilt} reconstructed': rebuilt,
        'with SAC': config.use_sac and config.use_dreamer,
        'SAC alone': config.use_sac and not config.use_dreamer,
        'planning': plans(method) is False and planned,
        'no planning': plans(method) and not planned}
    return ', '.join([method, *(text for text, holds in words.items() if holds)])
