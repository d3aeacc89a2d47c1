"""The families of tasks, a file each: environments whose observations are sensors.

`FAMILIES` has a row for each prefix of a task's name. Nothing here imports TensorFlow or
gymnasium; a simulator is imported where it is needed, so that looking at a row costs nothing.
"""

import contextlib
import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable

import numpy as np

from config import SENSORS, UserError

SIZE = 64  # pixels, height and width of the pictures


@dataclasses.dataclass(frozen=True)
class Family:
    """The tasks of one prefix.

    file: the module of this folder whose `make(config, seed)` gives the environment.
    names, pattern: how its tasks are named, in words and as a regular expression. example: one.
    defaults: options whose defaults are others for these tasks, option -> value.
    options: options that are for these tasks alone.
    backgrounds: whether natural videos can be put behind what the image shows.
    longest: steps of an episode, of which `--time_limit` can only take away; None: it decides.
    largest_return: of an episode of so many steps, where the least is 0; or None. costs: what the
    names of tasks begin with whose rewards are costs, without a least one.
    """

    file: str
    names: str
    pattern: str
    example: str
    defaults: dict = dataclasses.field(default_factory=dict)
    options: tuple = ()
    backgrounds: bool = False
    longest: int | None = None
    largest_return: Callable[[int], float] | None = None
    costs: tuple = ()

    def make(self, config, seed):
        return importlib.import_module(f'environments.{self.file}').make(config, seed)


# Tasks that end by themselves: of the end much is to be learned.
ENDING = dict(pcont=True, across_episodes=True)

FAMILIES = {
    'dmc': Family(
        'control_suite', 'dmc_<domain>_<task>', 'dmc_[^_]+_.+', 'dmc_walker_walk',
        backgrounds=True, largest_return=lambda steps: 1.0 * (steps or 1000),
        costs=('dmc_lqr_',)),
    'wipe': Family(
        'wiping', 'wipe_table', 'wipe_table', 'wipe_table', backgrounds=True, longest=400,
        largest_return=lambda steps: 97.828 + 0.25543 * steps),
    'gym': Family(
        'gymnasium_tasks', 'gym_<id> or gym_<module>:<id>', 'gym_([^:]+:)?[^:]+',
        'gym_Pendulum-v1', options=('sensor_map',),
        defaults=dict(natural=False, action_repeat=1, time_limit=0, **ENDING)),
    'atari': Family(
        'atari', 'atari_<game>', 'atari_[A-Za-z0-9_]+', 'atari_pong', options=('full_actions',),
        defaults=dict(natural=False, action_repeat=4, time_limit=0, **ENDING)),
}


def family(task):
    """The row of a task. Raises `UserError` for a name that no family has."""
    found = FAMILIES.get(task.split('_')[0])
    if found and re.fullmatch(found.pattern, task, re.DOTALL):
        return found
    if not found and re.search(r':|-v\d+$', task):
        raise UserError(
            f'--task {task!r} is of no family; did you mean --task gym_{task}, of gymnasium?')
    named = [found] if found else list(FAMILIES.values())
    raise UserError(
        f'--task {task!r} is not {" or ".join(row.names for row in named)}; type for example '
        f'--task {named[0].example}')


def _row(task):
    """The row by the prefix of `task` alone; one that changes nothing where there is none."""
    return FAMILIES.get(task.split('_')[0], Family('', '', '', ''))


def defaults(task):
    """What the family of `task` changes in the defaults; {} where it has none."""
    return dict(_row(task).defaults)


def options(task):
    """The options that are for the family of `task` alone; () where it has none."""
    return _row(task).options


def time_limit(config):
    """Steps of an episode: `--time_limit`, as far as the task has so many. 0: its own, unknown."""
    longest = _row(config.task).longest
    return min(config.time_limit or longest, longest) if longest else config.time_limit


def largest_return(config):
    """The largest return of an episode of a configuration's task, or None where none is known."""
    row = _row(config.task)
    if row.largest_return is None or config.task.startswith(row.costs):
        return None
    return row.largest_return(time_limit(config))


# What MUJOCO_GL may be: three names, and words for the default and for none.
BACKENDS = ('egl', 'osmesa', 'glfw', 'on', 'enable', 'enabled', 'true', '1',
            'off', 'disable', 'disabled', 'false', '0')


def choose_opengl():
    """Make MuJoCo's renderers use a backend without a screen; before they are imported."""
    backend = os.environ.get('MUJOCO_GL')
    if sys.platform == 'linux' and not backend:
        os.environ['MUJOCO_GL'] = 'egl'
    elif backend and backend not in BACKENDS:
        raise UserError(
            f'MUJOCO_GL is {backend!r}, which names no way to render; set it to egl, osmesa or '
            'glfw, or unset it')
    # Mesa renders on the calling thread: on pictures this small 1 or 2 threads of its own were
    # no faster (1.2 ms light, 22 ms full), and the other cores are for training.
    os.environ.setdefault('LP_NUM_THREADS', '0')


class Broken(Exception):
    """An episode that cannot go on, and why: another may."""


@contextlib.contextmanager
def stable():
    """Within, a simulation of dm_control that becomes unstable is `Broken`."""
    from dm_control.rl.control import PhysicsError
    try:
        yield
    except PhysicsError as error:
        raise Broken(f'its simulation is unstable: {error}') from error


def no_opengl(error):
    """The `UserError` of a picture that could not be rendered."""
    backend = os.environ.get('MUJOCO_GL')
    told = f' with MUJOCO_GL={backend}' if backend else ''
    return UserError(
        f'no picture could be rendered with OpenGL{told} ({error}); on Debian or Ubuntu install '
        'libegl1 and libgl1-mesa-dri, or install libosmesa6 and set MUJOCO_GL=osmesa')


def checked_pictures(observation):
    """`observation`, the first of an episode; `no_opengl` where its pictures show nothing."""
    pictures = [value for key, value in observation.items()
                if key in SENSORS and SENSORS[key].kind == 'picture']
    if pictures and all(np.ptp(picture) == 0 for picture in pictures):
        raise no_opengl('all pixels of the first frame are equal')
    return observation


def checked_action(action, space):
    """`action` as an array; ValueError where it is none of so many finite numbers."""
    action = np.asarray(action)
    if action.shape != space.shape or not np.isfinite(action).all():
        raise ValueError(f'an action is {space.shape[0]} finite numbers, not {action}')
    return action


def chosen(task, found, sensors):
    """Of `found` (sensor -> reader) those that `--sensors` names. Raises `UserError` where the
    task lacks one."""
    if sensors == 'all':
        return found
    names = sensors.split(',')
    for lacking in sorted(set(names) - set(found)):
        raise UserError(
            f'{task} has no sensor {lacking}; type --sensors {",".join(found)}, or some of them')
    return {name: reader for name, reader in found.items() if name in names}
