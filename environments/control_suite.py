"""The tasks of the dm_control suite, `dmc_<domain>_<task>`, and what can be sensed of them."""

import contextlib
import difflib
import logging
import xml.etree.ElementTree

import gymnasium
import numpy as np

from config import SENSORS, UserError
from environments import (
    SIZE,
    checked_action,
    checked_pictures,
    choose_opengl,
    chosen,
    no_opengl,
    stable,
)
from environments.sound import BANDS, Ear

_FOOT = dict(type='ellipsoid', pos='.01 0 -.06', size='.15 .05 .02')
# Touch sensors for the domains that have none: body -> the site to be added to it, or None
# where the suite has a site of the body's name already.
TOUCH_SITES = {
    'walker': dict(right_foot=_FOOT, left_foot=_FOOT),
    'cheetah': dict(
        bfoot=dict(type='sphere', pos='.06 0 -.197', size='.084'),
        ffoot=dict(type='sphere', pos='.09 0 -.14', size='.084')),
    'quadruped': dict(
        toe_front_left=None, toe_front_right=None, toe_back_right=None, toe_back_left=None),
    'ball_in_cup': dict(cup=dict(type='ellipsoid', pos='0 0 -.092', size='.03 .01 .005')),
}

# The camera of a domain or a task, where camera 0 does not show the body: the quadruped's looks
# from so far away that it is a dot, the masses of lqr hang behind and beside it, and that of
# dog_fetch rides on the ball.
CAMERAS = {'quadruped': 2, 'lqr': 1, 'dog_fetch': 2}

# Steps of an episode where no limit is given: that of nearly all tasks of the suite.
TIME_LIMIT = 1000


def load_opengl():
    """Load OpenGL into the process, in the way that MUJOCO_GL says."""
    choose_opengl()
    try:
        from dm_control import mujoco  # noqa: F401
    except Exception as error:  # PyOpenGL's own errors are of many types
        raise no_opengl(error) from error


def _suite():
    """The module `dm_control.suite`, with OpenGL."""
    load_opengl()
    from dm_control import suite
    return suite


def _domain_and_name(task, all_tasks):
    """The suite's two names of `task`; a domain or a name may itself hold underscores."""
    known = {f'dmc_{domain}_{name}': (domain, name) for domain, name in all_tasks}
    if task not in known:
        lowered = {name.lower(): name for name in known}
        near = difflib.get_close_matches(task.lower(), lowered, n=1, cutoff=0)[0]
        raise UserError(f'no task {task}; did you mean --task {lowered[near]}?')
    return known[task]


def add_touch(model, domain):
    """The MJCF model (string or bytes) of a domain with its sensors of `TOUCH_SITES`.

    Sites have no mass, and group 4 is not drawn: physics and pictures stay the suite's.
    """
    root = xml.etree.ElementTree.fromstring(model)
    sensors = root.find('sensor')
    if sensors is None:
        sensors = xml.etree.ElementTree.SubElement(root, 'sensor')
    for body, site in TOUCH_SITES[domain].items():
        name = body
        if site is not None:
            name = f'touch_{body}'
            xml.etree.ElementTree.SubElement(
                root.find(f'.//body[@name="{body}"]'), 'site', site, name=name, group='4')
        xml.etree.ElementTree.SubElement(sensors, 'touch', name=f'touch_{body}', site=name)
    return xml.etree.ElementTree.tostring(root, encoding='unicode')


@contextlib.contextmanager
def _quiet():
    """Without the log of dm_control: MuJoCo's warnings while a task is loaded are of how the suite
    has written it, which no user can mend, and come once in every process."""
    logger = logging.getLogger('absl')
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@_quiet()
def _load(suite, domain, name):
    """The suite's environment, with touch sensors and without a time limit."""
    # The lqr tasks draw their springs while loading. A fixed seed makes them one task in all
    # processes; the seed of the episodes is given later.
    arguments = domain, name, dict(time_limit=float('inf'), random=0)
    if domain not in TOUCH_SITES:
        return suite.load(*arguments)
    physics = getattr(suite, domain).Physics
    compile_model = physics.from_xml_string
    physics.from_xml_string = lambda model, assets=None: compile_model(
        add_touch(model, domain), assets)
    try:
        return suite.load(*arguments)
    finally:
        del physics.from_xml_string  # the inherited one shows again


class Camera:
    """The picture that image and depth read, of one pass."""

    def __init__(self, physics, camera, render, sensors):
        import mujoco
        from dm_control.mujoco import engine
        self._mujoco, self._physics = mujoco, physics
        model = physics.model
        # The buffers need be no larger than the picture. With full visuals, which resolve
        # them in each frame, a frame then takes 22 ms instead of 28.
        model.vis.global_.offwidth = model.vis.global_.offheight = SIZE
        if render == 'light':
            model.vis.quality.offsamples = 0
            model.vis.quality.shadowsize = 0
            model.mat_reflectance[:] = 0
        self.image = np.empty((SIZE, SIZE, 3), np.uint8) if 'image' in sensors else None
        self.depth = np.empty((SIZE, SIZE), np.float32) if 'depth' in sensors else None
        self._view = mujoco.MjrRect(0, 0, SIZE, SIZE)
        try:
            self._camera = engine.Camera(physics, SIZE, SIZE, camera)
        except Exception as error:  # by the driver: RuntimeError, FatalError, GLError, ...
            raise no_opengl(error) from error

    def look(self):
        """Render the present state into `image`, intensity, and `depth`, 0 near and 1 far; the
        first row is the lowest, as OpenGL has it."""
        self._camera.update()
        with self._physics.contexts.gl.make_current() as context:
            context.call(self.draw)

    def draw(self):
        context = self._physics.contexts.mujoco.ptr
        self._mujoco.mjr_render(self._view, self._camera.scene.ptr, context)
        # Both pictures from one pass; None is not read.
        self._mujoco.mjr_readPixels(self.image, self.depth, self._view, context)


# A reader is made from a `ControlSuite` whose `environment` and `physics` are there, and reads from
# one that has also looked and listened.


class Image:
    """uint8 (64, 64, 3)."""

    def __init__(self, suite):
        self.space = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def read(self, suite):
        return suite.camera.image[::-1].copy()


class Depth:
    """float16 (64, 64, 1) in metres."""

    def __init__(self, suite):
        self.space = gymnasium.spaces.Box(0, np.inf, (SIZE, SIZE, 1), np.float16)

    def read(self, suite):
        model = suite.physics.model
        scale = model.vis.map
        near, far = (plane * model.stat.extent for plane in (scale.znear, scale.zfar))
        metres = near / (1 - suite.camera.depth * (1 - near / far))
        return metres.astype(np.float16)[::-1, :, None]


class Touch:
    """float32 (n,) in newtons, of all touch sensors of the model."""

    def __init__(self, suite):
        import mujoco
        model = suite.physics.model
        self._places = model.sensor_adr[model.sensor_type == mujoco.mjtSensor.mjSENS_TOUCH]
        count = len(self._places)
        self.space = gymnasium.spaces.Box(0, np.inf, (count,), np.float32) if count else None

    def read(self, suite):
        return suite.physics.data.sensordata[self._places].astype(np.float32)


class Proprioception:
    """float32 (n,): the suite's own observation, its parts one after the other, each in its own
    units: positions, velocities, and what else the task has, as its targets."""

    def __init__(self, suite):
        self._observe = suite.environment.task.get_observation
        shape = self._flat(suite.physics).shape
        self.space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)

    def read(self, suite):
        return self._flat(suite.physics)

    def _flat(self, physics):
        parts = self._observe(physics).values()
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


class Audio:
    """float32 (32,): the sound of contacts during the decision, see sound.py."""

    def __init__(self, suite):
        import mujoco
        # Contacts are constraints; some domains turn them all off.
        silent = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
        disabled = suite.physics.model.opt.disableflags & silent
        self.space = None if disabled else gymnasium.spaces.Box(0, np.inf, (BANDS,), np.float32)

    def read(self, suite):
        return suite.levels


# How each sensor of the table is read: an object with its `space`, None where the task lacks it.
READERS = {'image': Image, 'depth': Depth, 'touch': Touch, 'proprioception': Proprioception,
           'audio': Audio}


def make(config, seed):
    """The environment of a configuration whose task is of the suite."""
    return ControlSuite(
        config.task, config.sensors, config.action_repeat, config.time_limit or TIME_LIMIT,
        config.render, seed)


class ControlSuite(gymnasium.Env):
    """A task of the dm_control suite whose observations are sensors.

    task: 'dmc_<domain>_<task>'. sensors: 'all' of image, depth and touch that the task has, or as
    'image,depth,audio'.
    action_repeat: control steps of a decision. time_limit: control steps of an episode.
    render: 'light' (no shadows, reflections, multisampling) or 'full' (the suite's visuals).
    seed: of the episodes, 0 to 2**32 - 1.

    Observations: as READERS say; with audio, `info` holds as 'sound' the samples of the decision,
    int16. Actions: float32 (A,) in [-1, 1]. Rewards are summed over the
    control steps of a decision.

    Raises `UserError` for an unknown task, for a sensor that the task lacks, and where
    OpenGL does not work; `Broken` where the simulation becomes unstable; ValueError for an action
    that is not finite or not of shape (A,).
    """

    def __init__(
            self, task, sensors='all', action_repeat=2, time_limit=1000, render='light', seed=0):
        suite = _suite()
        import mujoco
        domain, name = _domain_and_name(task, suite.ALL_TASKS)
        self.environment = _load(suite, domain, name)
        self.physics = self.environment.physics
        self._action_repeat = action_repeat
        self._time_limit = time_limit
        self._steps = 0
        self._seed(seed)

        readers = {name: READERS[name](self) for name in SENSORS if name in READERS}
        readers = {name: reader for name, reader in readers.items() if reader.space}
        # The suite's observation costs as much as its reward, and is looked at by its reader alone.
        self.environment.task.get_observation = lambda physics: {}
        if sensors == 'all':
            readers = {name: part for name, part in readers.items() if not SENSORS[name].by_name}
        self.readers = readers = chosen(task, readers, sensors)
        self.observation_space = gymnasium.spaces.Dict({
            name: reader.space for name, reader in readers.items()})

        bounds = self.environment.action_spec()
        unbounded = bounds.maximum >= mujoco.mjMAXVAL  # an actuator without a control range
        low = np.where(unbounded, -1, bounds.minimum)
        high = np.where(unbounded, 1, bounds.maximum)
        self._action_centre, self._action_scale = (high + low) / 2, (high - low) / 2
        self.action_space = gymnasium.spaces.Box(-1, 1, bounds.shape, np.float32)

        camera = CAMERAS.get(f'{domain}_{name}', CAMERAS.get(domain, 0))
        seen = any(SENSORS[name].kind == 'picture' for name in readers)
        self.camera = Camera(self.physics, camera, render, readers) if seen else None
        seconds = self.environment.control_timestep() * action_repeat
        self.ear = Ear(self.physics, seconds) if 'audio' in readers else None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self._seed(seed)
        self.environment.reset()
        self._steps = 0
        if self.ear:
            self.ear.begin(self.random('sound'))
        observation, info = self._observe()
        return checked_pictures(observation), info

    def step(self, action):
        action = checked_action(action, self.action_space)
        control = self._action_centre + self._action_scale * np.clip(action, -1, 1)
        reward, last, before = 0.0, False, self._steps
        for _ in range(self._action_repeat):
            with stable():
                time_step = self.environment.step(control)
            self._steps += 1
            reward += time_step.reward
            last = time_step.last()
            if last or self._steps >= self._time_limit:
                break
        terminated = last and time_step.discount == 0
        truncated = not terminated and (last or self._steps >= self._time_limit)
        # Fewer than the action repeat where the episode ends within it.
        observation, info = self._observe()
        info['steps'] = self._steps - before
        return observation, float(reward), terminated, truncated, info

    def close(self):
        self.physics.free()

    def random(self, name):
        """The generator of what the sensor `name` draws, begun anew by each seed, so that an
        episode is repeated by its seed and its actions."""
        if name not in self._streams:
            self._streams[name] = np.random.default_rng([self._seeded, *name.encode()])
        return self._streams[name]

    def _seed(self, seed):
        self.environment.task._random = np.random.RandomState(seed)
        self._seeded, self._streams = seed, {}

    def _observe(self):
        info = {}
        if self.camera:
            self.camera.look()
        if self.ear:
            info['sound'], self.levels = self.ear.listen()
        return {name: reader.read(self) for name, reader in self.readers.items()}, info
