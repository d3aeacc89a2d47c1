"""Environments, and what is done to their observations.

Nothing here imports TensorFlow: it and Mesa's software OpenGL crash in one process, so the
environments of a run live in spawned processes of their own. The simulator is imported where
it is needed, so that importing this file beside TensorFlow is harmless and quick.

    ControlSuite        a task of the dm_control suite with the sensors image, depth and touch
    NaturalBackground   puts videos behind the body
    SensorDropout       takes sensors away for a while, and says so by flags
    make                the three together, as a configuration asks
    describe, vector    what the process that learns calls: both start processes
"""

import contextlib
import dataclasses
import difflib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import sys
import types
import xml.etree.ElementTree

import gymnasium
import gymnasium.vector.async_vector_env
import numpy as np

from config import SENSORS, UserError, flag, ratios, resolve

SIZE = 64  # pixels, height and width of the pictures
FOREGROUND = 100  # a pixel whose red value is above this belongs to the body
LONGEST_DROP = 14  # decisions

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


def _no_opengl(error):
    return UserError(
        f'no picture could be rendered with OpenGL ({error}); on Debian or Ubuntu install '
        'libegl1 and libgl1-mesa-dri, or install libosmesa6 and set MUJOCO_GL=osmesa')


def _suite():
    """The module `dm_control.suite`, which loads OpenGL into the process."""
    if sys.platform == 'linux':
        os.environ.setdefault('MUJOCO_GL', 'egl')
    # Mesa renders on the calling thread: on pictures this small 1 or 2 threads of its own were
    # no faster (1.2 ms light, 22 ms full), and the other cores are for training.
    os.environ.setdefault('LP_NUM_THREADS', '0')
    try:
        from dm_control import suite
    except Exception as error:  # PyOpenGL's own errors are of many types
        raise _no_opengl(error) from error
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


def _generator(seed, *key):
    """A stream of random numbers: one for each key, all of them given by the seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


class ControlSuite(gymnasium.Env):
    """A task of the dm_control suite whose observations are sensors.

    task: 'dmc_<domain>_<task>'. sensors: 'all' that the task has, or 'image,depth,touch'.
    action_repeat: control steps of a decision. time_limit: control steps of an episode.
    render: 'light' (no shadows, reflections, multisampling) or 'full' (the suite's visuals).
    seed: of the episodes, 0 to 2**32 - 1.

    Observations: image uint8 (64, 64, 3); depth float16 (64, 64, 1) in metres; touch float32
    (n,) in newtons, of all touch sensors of the model. Actions: float32 (A,) in [-1, 1].
    Rewards are summed over the control steps of a decision.

    Raises `UserError` for an unknown task, for a sensor that the task lacks, and where
    OpenGL does not work; ValueError for an action that is not finite or not of shape (A,).
    """

    def __init__(
            self, task, sensors='all', action_repeat=2, time_limit=1000, render='light', seed=0):
        suite = _suite()
        import mujoco
        from dm_control.mujoco import engine
        self._mujoco = mujoco
        domain, name = _domain_and_name(task, suite.ALL_TASKS)
        self._environment = _load(suite, domain, name)
        # The suite's observation is not looked at, and costs as much as its reward.
        self._environment.task.get_observation = lambda physics: {}
        self._action_repeat = action_repeat
        self._time_limit = time_limit
        self._steps = 0
        self._seed(seed)

        model = self._environment.physics.model
        is_touch = model.sensor_type == mujoco.mjtSensor.mjSENS_TOUCH
        self._touch = model.sensor_adr[is_touch]
        spaces = {
            'image': gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
            'depth': gymnasium.spaces.Box(0, np.inf, (SIZE, SIZE, 1), np.float16),
        }
        if len(self._touch):
            spaces['touch'] = gymnasium.spaces.Box(0, np.inf, (len(self._touch),), np.float32)
        if sensors != 'all':
            for lacking in sorted(set(sensors.split(',')) - set(spaces)):
                raise UserError(
                    f'{task} has no sensor {lacking}; type --sensors {",".join(spaces)}, or some '
                    'of them')
            spaces = {key: space for key, space in spaces.items() if key in sensors.split(',')}
        self.observation_space = gymnasium.spaces.Dict(spaces)

        bounds = self._environment.action_spec()
        unbounded = bounds.maximum >= mujoco.mjMAXVAL  # an actuator without a control range
        low = np.where(unbounded, -1, bounds.minimum)
        high = np.where(unbounded, 1, bounds.maximum)
        self._action_centre, self._action_scale = (high + low) / 2, (high - low) / 2
        self.action_space = gymnasium.spaces.Box(-1, 1, bounds.shape, np.float32)

        self._pictures = [key for key in spaces if SENSORS[key].kind == 'picture']
        if self._pictures:
            # The buffers need be no larger than the picture. With full visuals, which resolve
            # them in each frame, a frame then takes 22 ms instead of 28.
            model.vis.global_.offwidth = model.vis.global_.offheight = SIZE
            if render == 'light':
                model.vis.quality.offsamples = 0
                model.vis.quality.shadowsize = 0
                model.mat_reflectance[:] = 0
            self._image = np.empty((SIZE, SIZE, 3), np.uint8) if 'image' in spaces else None
            self._depth = np.empty((SIZE, SIZE), np.float32) if 'depth' in spaces else None
            self._view = mujoco.MjrRect(0, 0, SIZE, SIZE)
            # Camera 0 of the quadruped looks from so far away that the body is a dot.
            camera = 2 if domain == 'quadruped' else 0
            try:
                self._camera = engine.Camera(self._environment.physics, SIZE, SIZE, camera)
            except Exception as error:  # by the driver: RuntimeError, FatalError, GLError, ...
                raise _no_opengl(error) from error

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self._seed(seed)
        self._environment.reset()
        self._steps = 0
        observation = self._observe()
        if self._pictures and all(np.ptp(observation[key]) == 0 for key in self._pictures):
            raise _no_opengl('all pixels of the first frame are equal')
        return observation, {}

    def step(self, action):
        action = np.asarray(action)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(
                f'an action is {self.action_space.shape[0]} finite numbers, not {action}')
        control = self._action_centre + self._action_scale * np.clip(action, -1, 1)
        reward, last = 0.0, False
        for _ in range(self._action_repeat):
            time_step = self._environment.step(control)
            self._steps += 1
            reward += time_step.reward
            last = time_step.last()
            if last or self._steps >= self._time_limit:
                break
        terminated = last and time_step.discount == 0
        truncated = not terminated and (last or self._steps >= self._time_limit)
        return self._observe(), float(reward), terminated, truncated, {}

    def close(self):
        self._environment.physics.free()

    def _seed(self, seed):
        self._environment.task._random = np.random.RandomState(seed)

    def _observe(self):
        physics = self._environment.physics
        observation = {}
        if self._pictures:
            self._camera.update()
            with physics.contexts.gl.make_current() as context:
                context.call(self._render)
        if 'image' in self._pictures:
            observation['image'] = self._image[::-1].copy()  # OpenGL's first row is the lowest
        if 'depth' in self._pictures:
            scale = physics.model.vis.map
            near, far = (plane * physics.model.stat.extent for plane in (scale.znear, scale.zfar))
            metres = near / (1 - self._depth * (1 - near / far))
            observation['depth'] = metres.astype(np.float16)[::-1, :, None]
        if 'touch' in self.observation_space.spaces:
            observation['touch'] = physics.data.sensordata[self._touch].astype(np.float32)
        return observation

    def _render(self):
        context = self._environment.physics.contexts.mujoco.ptr
        self._mujoco.mjr_render(self._view, self._camera.scene.ptr, context)
        # Both pictures from one pass; None is not read.
        self._mujoco.mjr_readPixels(self._image, self._depth, self._view, context)


class NaturalBackground(gymnasium.Wrapper):
    """Replaces the background of the image by a video.

    videos: uint8 (videos, frames, 3, 64, 64), as `natural.load` returns them.

    Each episode draws a video and the frame at which it starts; each decision shows the next
    frame, wrapping around.
    """

    def __init__(self, env, videos, seed=0):
        super().__init__(env)
        self._videos = np.ascontiguousarray(np.moveaxis(videos, 2, -1))
        self._random = _generator(seed, 1)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self._random = _generator(seed, 1)
        observation, info = self.env.reset(seed=seed, options=options)
        self._video = self._videos[self._random.integers(len(self._videos))]
        self._frame = self._random.integers(len(self._video))
        self._compose(observation['image'])
        return observation, info

    def step(self, action):
        observation, *rest = self.env.step(action)
        self._frame = (self._frame + 1) % len(self._video)
        self._compose(observation['image'])
        return observation, *rest

    def _compose(self, image):
        # A mask as large as the image is twice as fast as one that is broadcast over colours.
        background = np.repeat(image[..., 0] <= FOREGROUND, 3).reshape(image.shape)
        np.copyto(image, self._video[self._frame], where=background)


class SensorDropout(gymnasium.Wrapper):
    """Takes each sensor away now and then, independently, and adds its presence flag.

    miss_ratio: the chance p at each decision that a present sensor drops out, for a uniform
    1 to 14 decisions beginning with this one; a number or a dict, see `config.ratios`. In the
    long run 7.5 / (7.5 + (1 - p) / p) of the observations are lost.

    A missing observation is zeros and its `<sensor>_flag`, float32 (1,), is 0 instead of 1.
    The observation of `reset` takes part; drops end with their episode.
    `reset(options={'miss_ratio': ...})` changes the chances from then on.
    """

    def __init__(self, env, miss_ratio, seed=0):
        super().__init__(env)
        spaces = dict(env.observation_space.spaces)
        self._sensors = [name for name in SENSORS if name in spaces]
        for name in self._sensors:
            spaces[flag(name)] = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self._chance = ratios(miss_ratio, self._sensors)
        self._seed(seed)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self._seed(seed)
        if options and 'miss_ratio' in options:
            self._chance = ratios(options['miss_ratio'], self._sensors)
        self._remaining = dict.fromkeys(self._sensors, 0)
        observation, info = self.env.reset(seed=seed, options=options)
        return self._drop(observation), info

    def step(self, action):
        observation, *rest = self.env.step(action)
        return self._drop(observation), *rest

    def _seed(self, seed):
        # A stream for each sensor: the chance of one does not move the drops of another.
        self._random = {
            name: _generator(seed, 2, index) for index, name in enumerate(SENSORS)}

    def _drop(self, observation):
        observation = dict(observation)
        for name in self._sensors:
            random = self._random[name]
            if not self._remaining[name] and random.random() < self._chance[name]:
                self._remaining[name] = random.integers(1, LONGEST_DROP + 1)
            missing = self._remaining[name] > 0
            if missing:
                self._remaining[name] -= 1
                observation[name] = np.zeros_like(observation[name])
            observation[flag(name)] = np.array([not missing], np.float32)
        return observation


def make(config, split, seed):
    """The environment of a configuration, to be used in a process without TensorFlow.

    split: 'train' or 'valid', which chooses the background videos. `reset(seed=...)` seeds
    anew all that is random: the task, the backgrounds and the drops, each by its own stream.
    """
    env = ControlSuite(
        config.task, config.sensors, config.action_repeat, config.time_limit, config.render, seed)
    if config.natural and 'image' in env.observation_space.spaces:
        env = NaturalBackground(env, _videos(config, split), seed)
    return SensorDropout(env, config.miss_ratio, seed)


def _videos(config, split):
    import natural
    path = {'train': config.natural_train, 'valid': config.natural_valid}[split]
    return natural.load(resolve(path))


@dataclasses.dataclass(frozen=True)
class Description:
    """What the process that learns knows of an environment; sensors in the order of SENSORS."""

    observation_space: gymnasium.spaces.Dict
    action_space: gymnasium.spaces.Box
    sensors: tuple[str, ...]


def describe(config):
    """The `Description` of a configuration's environment, from a process that builds it.

    Raises `UserError` for whatever keeps the environment from being built and rendered, the
    videos of both splits included.
    """
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_describe, args=(config, sender), daemon=True)
    try:
        with _spawning():
            process.start()
        sender.close()
        answer = receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode < 0:
            ending = signal.Signals(-process.exitcode).name
            raise _no_opengl(f'the process of the environment crashed: {ending}') from None
        raise UserError('the environment could not be built, for the reason above') from None
    finally:
        if process.pid:
            process.kill()
    if isinstance(answer, UserError):
        raise answer
    return answer


def _describe(config, sender):
    try:
        env = make(config, 'train', config.seed)
        if config.natural and 'image' in env.observation_space.spaces:
            _videos(config, 'valid')
        env.reset()
        spaces = env.observation_space
        sender.send(Description(
            spaces, env.action_space, tuple(name for name in SENSORS if name in spaces.spaces)))
    except UserError as error:
        sender.send(error)


def vector(config, split, count, description, seed):
    """`count` environments that step at the same time, each in a process of its own.

    description: of `describe`. Worker i is seeded by `seed`, the split and i.

    Observations are copies, with a leading axis of `count`. The step after the end of an
    episode ignores the action and returns the observation of `reset` with reward 0. Ctrl-C
    does not reach the workers; they end when this process does, however it ends.
    """
    makers = []
    for index in range(count):
        # The split takes part so that evaluation does not begin where training does.
        entropy = np.random.SeedSequence((seed, split == 'valid', index))
        makers.append(_Maker(
            config, split, int(entropy.generate_state(1)[0]), description, os.getpid()))
    try:
        with _spawning():
            return gymnasium.vector.AsyncVectorEnv(
                makers, shared_memory=True, copy=True, context='spawn', worker=_work,
                autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP)
    except (EOFError, ConnectionError):
        raise UserError('an environment could not be started, for the reason above') from None


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Makes the environment of a worker; in process `owner`, which asks only for the spaces
    and may have TensorFlow, one that has nothing else."""

    config: object
    split: str
    seed: int
    description: Description
    owner: int

    def __call__(self):
        if os.getpid() != self.owner:
            return make(self.config, self.split, self.seed)
        env = gymnasium.Env()
        env.observation_space = self.description.observation_space
        env.action_space = self.description.action_space
        return env


def _work(*arguments):
    # These errors say that the parent is gone, and with it whoever would read a traceback.
    with contextlib.suppress(EOFError, ConnectionError):
        gymnasium.vector.async_vector_env._async_worker(*arguments)


@contextlib.contextmanager
def _spawning():
    """Within, started processes run no main script and are deaf to Ctrl-C."""
    # A spawned process imports the main script of its parent, and with it TensorFlow. An
    # empty module in its place has no file to import.
    main = sys.modules['__main__']
    # A blocked signal stays blocked in the started process, from its first moment on. The
    # tracker is started before, since its start would end the blocking.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules['__main__'] = types.ModuleType('__main__')
    try:
        yield
    finally:
        sys.modules['__main__'] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
