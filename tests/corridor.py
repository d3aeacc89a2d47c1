"""A user's own module: environments of gymnasium that it registers, for the tests of gym tasks."""

import os
import signal
import subprocess
import time
import types

import gymnasium
import numpy as np
from gymnasium import spaces

from config import UserError

CELLS = 5
DRAWN = (32, 128, 3)


class Corridor(gymnasium.Env):
    """Five cells in a row, of which the last is the goal; actions 1 and 2 go left and right. It
    starts in one of the first three and lets the reward be its number at each step."""

    metadata = {'render_modes': ['rgb_array']}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = spaces.Dict({
            'rgb': spaces.Box(0, 255, (32, 64, 3), np.uint8),
            'state': spaces.Dict({'place': spaces.Box(0, CELLS, (1,), np.float64),
                                  'time': spaces.Box(0, np.inf, (1,), np.float32)}),
            'door': spaces.Discrete(3),
            'note': spaces.Text(5)})
        self.action_space = spaces.Discrete(2, start=1)

    def reset(self, *, seed=None, options=None):
        assert not options, options  # the wrappers' own are not for a user's environment
        super().reset(seed=seed)
        self.place, self.time = int(self.np_random.integers(3)), 0
        return self.observe(), {'mine': object()}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.place = max(0, self.place + (1 if action == 2 else -1))
        self.time += 1
        return self.observe(), self.place, self.place == CELLS - 1, False, {'mine': object()}

    def observe(self):
        rgb = np.zeros((32, 64, 3), np.uint8)
        rgb[:, 10 * self.place:10 * self.place + 10, 0] = 200
        return {'rgb': rgb, 'door': self.place % 3, 'note': 'hello', 'state': {
            'place': np.array([self.place], np.float64),
            'time': np.array([self.time], np.float32)}}

    def render(self):
        frame = np.full(DRAWN, 7, np.uint8)
        frame[..., 1] = 50 * self.place
        return frame


class Numbers(gymnasium.Env):
    """A vector and nothing that can be drawn; two actions with bounds of their own. The reward is
    the first, what is observed both."""

    def __init__(self, **_):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(np.array([-1, 10.0]), np.array([3, np.inf]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return action.astype(float), float(action[0]), False, False, {}


class Ill(Numbers):
    """Its reward is not a number where the first action is above 2, and what is observed is not
    finite where it is below 0; with `born`, from the beginning."""

    def __init__(self, born=False, **_):
        super().__init__()
        self.born = born

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return observation + (np.inf if self.born else 0), info

    def step(self, action):
        observation, reward, *rest = super().step(action)
        observation[0] = np.inf if action[0] < 0 else action[0]
        return observation, np.nan if action[0] > 2 else reward, *rest


class Hanging(Numbers):
    """It hangs where the first action is above 2; with `born`, from the beginning."""

    def __init__(self, born=False, **_):
        super().__init__()
        self.born = born

    def reset(self, *, seed=None, options=None):
        while self.born:
            pass
        return super().reset(seed=seed)

    def step(self, action):
        while action[0] > 2:
            pass
        return super().step(action)


class Refusing(Numbers):
    """It has an error for its user where the first action is above 2."""

    def step(self, action):
        if action[0] > 2:
            raise UserError('no')
        return super().step(action)


class Bridged(Numbers):
    """It starts a process, whose number it observes and writes to the file TOLD, and ends it as
    one is asked to, which it writes there too; or it cannot begin, or hangs where it is closed, or
    forks."""

    def __init__(self, fault='', **_):
        super().__init__()
        self.fault, self.pid = fault, os.fork() if fault == 'forks' else None
        if self.pid == 0:
            time.sleep(600)
            os._exit(0)
        self.process = None if self.pid else subprocess.Popen(['sleep', '600'])
        self.pid = self.pid or self.process.pid
        self.tell(self.pid)

    def tell(self, text):
        if os.environ.get('TOLD'):
            with open(os.environ['TOLD'], 'a') as file:
                print(text, file=file)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.fault == 'fails':
            raise KeyError('it cannot begin')
        return np.array([self.pid, 0.0]), {}

    def close(self):
        if self.fault == 'hangs':
            time.sleep(600)
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        self.tell('closed')


class Deaf(Numbers):
    """Nothing to be seen but words."""

    def __init__(self, **_):
        super().__init__()
        self.observation_space = spaces.Text(5)


class Board(Numbers):
    """Numbers in an array as large as a picture."""

    def __init__(self, **_):
        super().__init__()
        self.observation_space = spaces.Box(-1, 1, (20, 20), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.eye(20, dtype=np.float32), {}


class Mute(Numbers):
    """Actions that no agent here has."""

    def __init__(self, **_):
        super().__init__()
        self.action_space = spaces.MultiDiscrete([100] * 5)


class Undrawn(Numbers):
    """It lists a picture of itself, and draws what is none, or cannot be asked to."""

    metadata = {'render_modes': ['rgb_array']}  # noqa: RUF012

    def __init__(self, drawn=None, **_):
        super().__init__()
        self.drawn = drawn

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2), {}

    def render(self):
        return self.drawn


class Unasked(Undrawn):
    def __init__(self):
        super().__init__()


class Still(Numbers):
    """Nothing can be done in it."""

    def __init__(self, **_):
        super().__init__()
        self.action_space = spaces.Box(-1, 1, (0,))


class Seen(Numbers):
    """A picture beside its depth, in the names of sensors, channels first."""

    def __init__(self, **_):
        super().__init__()
        self.observation_space = spaces.Dict({
            'image': spaces.Box(0, 1, (3, 20, 30), np.float32),
            'depth': spaces.Box(0, np.inf, (128, 128), np.float32),
            'touch': spaces.Box(0, np.inf, (2,), np.float32),
            'side': spaces.Box(0, 255, (64, 64, 3), np.uint8)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {'image': np.stack([np.full((20, 30), v, np.float32) for v in (0, 0.5, 1)]),
                'depth': np.arange(128 * 128, dtype=np.float32).reshape(128, 128) / 1000,
                'touch': np.array([3, 4], np.float32),
                'side': np.zeros((64, 64, 3), np.uint8)}, {}


class Sought(Numbers):
    """Numbers of the name of a sensor beside others; a picture of bytes that comes as floats."""

    def __init__(self, **_):
        super().__init__()
        self.observation_space = spaces.Dict({
            'goal': spaces.Box(-1, 1, (2,), np.float32),
            'proprioception': spaces.Box(-1, 1, (3,), np.float32),
            'rgb': spaces.Box(0, 255, (64, 64, 3), np.uint8)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {'goal': np.ones(2, np.float32), 'proprioception': np.zeros(3, np.float32),
                'rgb': np.full((64, 64, 3), 100.0)}, {}


class Plain(Undrawn):
    """As one of MuJoCo that can draw, and takes no size of its picture."""

    mujoco_renderer = None

    def __init__(self, render_mode=None):
        super().__init__(np.full((480, 480, 3), 50, np.uint8))
        self.model = types.SimpleNamespace(
            vis=types.SimpleNamespace(quality=types.SimpleNamespace()), mat_reflectance=np.ones(1))


class Misshapen(Numbers):
    """It observes one number, and says two."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}


class Painted(Numbers):
    """A picture of the name of what a task draws of itself, which it does not."""

    def __init__(self, **_):
        super().__init__()
        self.observation_space = spaces.Dict({
            'render': spaces.Box(0, 255, (64, 64, 3), np.uint8),
            'state': spaces.Box(-np.inf, np.inf, (2,), np.float64)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {'render': np.full((64, 64, 3), 9, np.uint8), 'state': np.zeros(2)}, {}


class Cameras(Numbers):
    """A picture and a distance under names of their own, stacked frames, and joints."""

    def __init__(self, **_):
        super().__init__()
        self.observation_space = spaces.Dict({
            'rgb': spaces.Box(0, 255, (96, 128, 3), np.uint8),
            'far': spaces.Box(0, np.inf, (96, 128), np.float32),
            'frames': spaces.Box(0, 255, (12, 84, 84), np.uint8),
            'joints': spaces.Box(-4, 4, (7,), np.float32)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}


for fault in '', 'fails', 'hangs', 'forks':
    gymnasium.register(f'Bridged{fault}-v0', Bridged, kwargs={'fault': fault})
gymnasium.register('Cameras-v0', Cameras)
gymnasium.register('Corridor-v0', Corridor, max_episode_steps=6)
gymnasium.register('Endless-v0', Numbers)
gymnasium.register('Hanging-v0', Hanging)
gymnasium.register('Misshapen-v0', Misshapen)
gymnasium.register('Painted-v0', Painted)
gymnasium.register('Plain-v0', Plain)
gymnasium.register('Sought-v0', Sought)
gymnasium.register('Still-v0', Still)
gymnasium.register('Unasked-v0', Unasked)
gymnasium.register('Undrawn-v0', Undrawn)
gymnasium.register('UndrawnList-v0', Undrawn, kwargs={'drawn': [np.zeros((9, 9, 3))]})
gymnasium.register('Refusing-v0', Refusing)
gymnasium.register('HangingBorn-v0', Hanging, kwargs={'born': True})
gymnasium.register('Ill-v0', Ill)
gymnasium.register('IllBorn-v0', Ill, kwargs=dict(born=True))
gymnasium.register('Deaf-v0', Deaf)
gymnasium.register('Mute-v0', Mute)
gymnasium.register('Board-v0', Board)
gymnasium.register('Seen-v0', Seen)
