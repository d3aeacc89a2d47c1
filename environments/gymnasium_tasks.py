"""Tasks of gymnasium, `gym_<id>` or `gym_<module>:<id>`: any environment seen by the sensors that
its observations can be, and by a rendered picture where they hold none."""

import contextlib
import functools
import importlib
import os
import sys
import traceback

import gymnasium
import numpy as np

from config import SENSORS, UserError, sensor_keys
from environments import SIZE, Broken, checked_action, choose_opengl, chosen, no_opengl, spaces

# Steps of an episode where neither the task nor --time_limit names a limit: an episode that never
# ends is never learned from.
LONGEST = 10000

# What the ids of a package begin with -> the module that registers them, of requirements-tasks.txt.
PACKAGES = {
    'ALE/': 'ale_py', 'MiniGrid-': 'minigrid', 'BabyAI-': 'minigrid',
    'Adroit': 'gymnasium_robotics'}

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Modules in which an error tells that there is no OpenGL.
GRAPHICS = ('OpenGL.', 'glfw.', 'mujoco.gl_context.', 'mujoco.egl.', 'mujoco.osmesa.',
            'mujoco.glfw.')

RENDER = 'render'  # in --sensor_map: the picture that the task draws of itself


def make(config, seed):
    """The environment of a configuration whose task is `gym_<id>`. Raises `UserError` where it is
    unknown or cannot be built."""
    name = config.task.removeprefix('gym_')
    module, _, name = name.rpartition(':')
    modules = [module] if module else [
        package for start, package in PACKAGES.items() if name.startswith(start)]
    for module in modules:
        register(module, config.task)
    build = functools.partial(limited, config.task, name, config.time_limit or None)
    env = build()
    try:
        env = drawing(env, build, config)
        return SensorTask(env, config, seed)
    except BaseException:
        with contextlib.suppress(Exception):
            env.close()  # with what it has started
        raise


def drawing(env, build, config):
    """The environment `env`, or, where its picture is needed, another of `build` that draws."""
    if needs_picture(env, config):
        words = {'render_mode': 'rgb_array'}
        if hasattr(env.unwrapped, 'mujoco_renderer'):
            words |= dict(width=SIZE, height=SIZE)
        env.close()
        try:
            try:
                env = build(**words)
            except TypeError:  # one that takes no size draws at its own
                env = build(render_mode=words['render_mode'])
        except TypeError as error:
            raise UserError(
                f'{config.task} lists rgb_array among its render_modes, and takes no '
                f'render_mode ({_line(error)}); leave the image out by --sensors') from error
        if config.render == 'light' and hasattr(env.unwrapped, 'mujoco_renderer'):
            quality = env.unwrapped.model.vis.quality
            quality.offsamples = quality.shadowsize = 0
            env.unwrapped.model.mat_reflectance[:] = 0
    return env


def drawing_unseen():
    """Have MuJoCo and pygame draw without a screen, where nothing else is asked for."""
    choose_opengl()
    os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')
    os.environ.setdefault('SDL_AUDIODRIVER', 'dummy')
    os.environ.setdefault('PYGAME_HIDE_SUPPORT_PROMPT', '1')


def register(module, task):
    """Import what registers a task's id: a package, or a module of the user's."""
    drawing_unseen()
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        if module.startswith('.'):  # relative to no package
            raise ModuleNotFoundError(name=module)
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f'{module}.'.startswith(f'{error.name}.'):
            raise  # something that the module itself imports
        if module in PACKAGES.values():
            raise missing(task, f'the package {module}') from None
        raise UserError(
            f'--task {task}: no module {module}; it has to lie in this folder or on PYTHONPATH, '
            'or to be installed') from None
    # The folder of the project comes first: its own modules would import another one otherwise.
    own, file = os.path.join(os.getcwd(), f'{module}.py'), getattr(found, '__file__', None)
    if file and os.path.dirname(file) == HERE and os.path.isfile(own) and not (
            os.path.samefile(own, file)):
        raise UserError(
            f'--task {task}: this project has a module {module} of its own; give {own} another '
            'name')


def of_graphics(error):
    """Whether an error came about where OpenGL is begun, and not in what a task asks of it."""
    if type(error).__name__ == 'FatalError':  # MuJoCo's, of a context that cannot draw
        return True
    places = [frame.f_globals.get('__name__', '')
              for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(f'{place}.'.startswith(GRAPHICS) for place in places)


def missing(task, what):
    return UserError(
        f'--task {task} needs {what}; type python -m pip install -r requirements-tasks.txt')


def lacking(task, error):
    """The `UserError` for gymnasium's own, which names what a task of its families needs."""
    if 'pygame' in str(error):
        return missing(task, 'the package pygame for its picture')
    return UserError(f'--task {task} needs a package that is not installed: {_line(error)}')


def limited(task, name, steps, **words):
    """As `built`, of `LONGEST` steps where neither `steps` nor gymnasium names a limit."""
    env = built(task, name, steps, **words)
    if steps or env.spec.max_episode_steps:
        return env
    return gymnasium.wrappers.TimeLimit(env, LONGEST)


def built(task, name, steps, **words):
    """The environment of the id `name`."""
    drawing_unseen()
    try:
        return gymnasium.make(name, max_episode_steps=steps, disable_env_checker=True, **words)
    except gymnasium.error.DependencyNotInstalled as error:
        raise lacking(task, error) from error
    except gymnasium.error.Error as error:
        raise UserError(f'no task {task}: {_line(error)}') from error
    except ImportError as error:  # as of gymnasium's older ids, whose code is elsewhere now
        raise UserError(f'--task {task} cannot be built: {_line(error)}') from error


def _line(error):
    return ' '.join(str(error).split())


# --- Sensors ---


class Part:
    """A sensor that is one part of the observation, put into its form by `convert`."""

    def __init__(self, key, space, convert):
        self.keys, self.space, self.convert = (key,), space, convert

    def read(self, parts, env):
        return self.convert(parts[self.keys[0]])


class Vector:
    """A sensor that is several parts of the observation, one after the other: float32 (n,).
    Choices are ones and zeros."""

    def __init__(self, plain):
        self.keys, self.plain = tuple(plain), plain
        size = sum(spaces.width(space) for space in plain.values())
        self.space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def read(self, parts, env):
        return np.concatenate([
            np.asarray(gymnasium.spaces.flatten(space, parts[key]), np.float32)
            for key, space in self.plain.items()])


class Rendered:
    """The picture that the task draws of itself, once a decision."""

    keys = (RENDER,)
    space = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def read(self, parts, env):
        drawn = env.render()
        if not isinstance(drawn, np.ndarray) or drawn.ndim not in (2, 3):
            raise UserError(
                f'what the task draws, by render(), is no picture but {type(drawn).__name__}; '
                'leave the image out by --sensors')
        return spaces.picture(drawn)


IMAGE = Rendered.space
DEPTH = gymnasium.spaces.Box(0, np.inf, (SIZE, SIZE, 1), np.float16)


def reader(sensor, keys, plain):
    """The reader of `sensor` from the parts `keys` of `plain` (key -> space), or None where they
    are not of its kind."""
    row = SENSORS[sensor]
    if RENDER in keys and RENDER not in plain:  # no part of the observation
        alone = keys == [RENDER] and row.kind == 'picture' and not row.distances
        return Rendered() if alone else None
    first = plain[keys[0]]
    if row.kind != 'picture':
        fit = all(spaces.width(plain[key]) for key in keys)
        return Vector({key: plain[key] for key in keys}) if fit else None
    if row.distances and len(keys) == 1 and spaces.channels(first) == 1:
        return Part(keys[0], DEPTH, spaces.distances)
    if not row.distances and len(keys) == 1 and spaces.is_picture(first):
        return Part(keys[0], IMAGE, functools.partial(spaces.picture, kind=first.dtype))
    return None


def readers(env, config):
    """(sensor -> reader, of all that `env` can be seen by; part that no sensor reads -> the maps of
    --sensor_map by which one would).

    By --sensor_map; then a part of a sensor's name is that sensor; then the first picture is the
    image, or what the task draws of itself; then proprioception is all other numbers and choices
    but the pixels of pictures. Raises `UserError` for a map that does not fit, and where nothing
    is found.
    """
    task = config.task
    plain = {key: space for key, space, _ in spaces.leaves(env.observation_space)}
    # A part of that name is the task's own, and what it draws cannot be asked for then.
    drawn = [RENDER] * (draws(env) and RENDER not in plain)
    found = {}
    for sensor, keys in sensor_keys(config.sensor_map).items():
        for key in keys:
            if key not in plain and key not in drawn:
                raise UserError(
                    f'--sensor_map: {task} observes no {key}; it has '
                    f'{", ".join([*plain, *drawn])}')
        found[sensor] = reader(sensor, keys, plain)
        if found[sensor] is None:
            raise UserError(
                f'--sensor_map: {"+".join(keys)} of {task} cannot be the {sensor}, it is '
                f'{", ".join(str(plain.get(key, "the picture that it draws")) for key in keys)}')
    used = [key for part in found.values() for key in part.keys]
    free = [key for key in plain if key not in used]
    for sensor in SENSORS:
        if sensor in free and sensor not in found and (part := reader(sensor, [sensor], plain)):
            # Of a name that says image, a small table of codes is none.
            found[sensor] = part
            free.remove(sensor)
    seen = [key for key in free if spaces.is_picture(plain[key])] + drawn
    if 'image' not in found and seen:
        found['image'] = reader('image', seen[:1], plain)
    numbers = [key for key, space in plain.items()
               if key in free and spaces.width(space) and not spaces.has_pixels(space)]
    if 'proprioception' not in found and numbers:
        found['proprioception'] = Vector({key: plain[key] for key in numbers})
    if not found:
        large = [key for key, space in plain.items() if spaces.has_pixels(space)]
        raise UserError(
            f'{task} observes nothing that a sensor can be: {env.observation_space}' + (
                f'; if {large[0]} is numbers and no picture, type '
                f'--sensor_map proprioception={large[0]}' if large else ''))
    used = [key for part in found.values() for key in part.keys]
    numbers = found['proprioception'].keys if 'proprioception' in found else ()
    found = {name: found[name] for name in SENSORS if name in found}
    read = chosen(task, found, config.sensors)
    unread = {}
    for key, space in plain.items():
        # Who leaves proprioception out by --sensors asks for none of the other numbers either.
        if key not in used and spaces.width(space) and (
                spaces.has_pixels(space) or 'proprioception' in read):
            unread[key] = tuple(
                f'{sensor}={key}' for sensor in ('image', 'depth') if reader(sensor, [key], plain)
            ) + (f'proprioception={"+".join([*numbers, key])}',)
    return read, unread


def draws(env):
    """Whether the task can draw a picture of itself."""
    return 'rgb_array' in ((env.metadata or {}).get('render_modes') or [])


def needs_picture(env, config):
    return any(isinstance(part, Rendered) for part in readers(env, config)[0].values())


# --- The environment ---


def number(reward):
    """A reward as a number: also where it comes as an array of one. `Broken` for another."""
    value = np.asarray(reward)
    try:
        if value.size != 1 or isinstance(value.item(), (str, bytes)):
            raise TypeError
        return float(value.item())
    except (TypeError, ValueError, OverflowError):
        raise Broken(f'its reward is {_line(repr(reward))}, and no number') from None


class SensorTask(gymnasium.Env):
    """An environment of gymnasium whose observations are sensors and whose actions are those that
    the agent knows (see `spaces.control`).

    Observations: as `readers` says. Rewards are summed over `config.action_repeat` steps; fewer
    where the episode ends within them, and info has their number as `steps`. `terminated` and
    `truncated` are the task's.

    seed: of the first episode, until `reset` is given one. `unread`: as of `readers`.

    Raises `UserError` for observations and actions that cannot be used, and where no picture can
    be drawn; ValueError for an action that is not finite or not of shape (A,).
    """

    def __init__(self, env, config, seed):
        self._env, self._task, self._repeat = env, config.task, config.action_repeat
        self._first_seed = seed
        self._readers, self.unread = readers(env, config)
        self.observation_space = gymnasium.spaces.Dict({
            name: part.space for name, part in self._readers.items()})
        try:
            self.action_space, self._to_task = spaces.control(env.action_space)
        except UserError as error:
            raise UserError(f'{config.task} cannot be trained: {error}') from None

    def reset(self, *, seed=None, options=None):
        """options are those of the wrappers, and not the task's."""
        seed = self._first_seed if seed is None else int(seed)
        self._first_seed = None
        super().reset(seed=seed)
        observation, _ = self._env.reset(seed=seed)
        return self._read(observation), {}

    def step(self, action):
        action = checked_action(action, self.action_space)
        reward, steps, terminated, truncated = 0.0, 0, False, False
        while steps < self._repeat and not (terminated or truncated):
            observation, gained, terminated, truncated, _ = self._env.step(self._to_task(action))
            reward += number(gained)
            steps += 1
        return self._read(observation), reward, bool(terminated), bool(truncated), {'steps': steps}

    def close(self):
        self._env.close()

    def _read(self, observation):
        parts = {key: value for key, _, value in spaces.leaves(
            self._env.observation_space, observation)}
        try:
            return {name: part.read(parts, self._env) for name, part in self._readers.items()}
        except gymnasium.error.DependencyNotInstalled as error:
            raise lacking(self._task, error) from error
        except Exception as error:
            if of_graphics(error):
                raise no_opengl(error) from error
            raise
