"""What is done to the observations of an environment, and the environment of a configuration.

    NaturalBackground   puts videos behind the body
    SmallerPictures     makes pictures of fewer pixels
    Corruption          lets sensors say what is not so, and does not tell
    SensorDropout       takes sensors away for a while, and says so by flags
    StaggeredStart      cuts the first episode, so that neighbours do not end together
    make                the task with all of them, as a configuration asks

Nothing here imports TensorFlow or, before `make` is called, a simulator.
"""

import gymnasium
import numpy as np

import faults
from config import LONGEST_DROP, SENSORS, UserError, coloured, flag, ratios, resolve
from environments import SIZE, family
from environments.spaces import smaller

FOREGROUND = 100  # a pixel whose red value is above this belongs to the body
FASTEST = 3  # frames of a video in a decision


def _generator(seed, *key):
    """A stream of random numbers: one for each key, all of them given by the seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def dark(image):
    """Where the suite's blue ground shows, and not the body: bool [64, 64]."""
    return image[..., 0] <= FOREGROUND


class NaturalBackground(gymnasium.Wrapper):
    """Replaces the background of the pictures in colour by a video.

    videos: uint8 (videos, frames, 3, 64, 64), as `natural.load` returns them.

    Each episode draws a video and the frame at which it starts; each decision shows the next
    frame, wrapping around. Where it is put, the environment's method `background(image)` says, a
    mask [64, 64]; for an environment without one, `dark`. variety: the episode also draws whether
    the video is mirrored and whether it runs backward, and how many of its frames, 1 to 3, pass in
    a decision.
    """

    def __init__(self, env, videos, seed=0, variety=False):
        super().__init__(env)
        self._variety, self._pace = variety, 1
        self._videos = np.ascontiguousarray(np.moveaxis(videos, 2, -1))
        self._random = _generator(seed, 1)
        self._background = getattr(env.unwrapped, 'background', dark)
        self._pictures = coloured(env.observation_space.spaces)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self._random = _generator(seed, 1)
        observation, info = self.env.reset(seed=seed, options=options)
        self._video = self._videos[self._random.integers(len(self._videos))]
        self._frame = self._random.integers(len(self._video))
        if self._variety:
            if self._random.integers(2):
                self._video = self._video[:, :, ::-1]
            self._pace = self._random.choice([-1, 1]) * self._random.integers(1, FASTEST + 1)
        self._compose(observation)
        return observation, info

    def step(self, action):
        observation, *rest = self.env.step(action)
        self._frame = (self._frame + self._pace) % len(self._video)
        self._compose(observation)
        return observation, *rest

    def _compose(self, observation):
        for name in self._pictures:
            image = observation[name]
            # A mask as large as the image is twice as fast as one that is broadcast over colours.
            background = np.repeat(self._background(image), 3).reshape(image.shape)
            np.copyto(image, self._video[self._frame], where=background)


class SmallerPictures(gymnasium.ObservationWrapper):
    """Pictures of `size` x `size` pixels, as `environments.spaces.smaller` makes them."""

    def __init__(self, env, size):
        super().__init__(env)
        self._size, spaces = size, dict(env.observation_space.spaces)
        self._pictures = [name for name in spaces if SENSORS[name].kind == 'picture']
        for name in self._pictures:
            space = spaces[name]
            shape = (size, size, space.shape[-1])
            spaces[name] = gymnasium.spaces.Box(
                space.low.min(), space.high.max(), shape, space.dtype)
        self.observation_space = gymnasium.spaces.Dict(spaces)

    def observation(self, observation):
        return observation | {
            name: smaller(observation[name], self._size) for name in self._pictures}


class Corruption(gymnasium.Wrapper):
    """Falsifies what sensors say, one observation after the other, that of `reset` included.

    corrupt: as `--corrupt`, see `faults.asked`; several faults of a sensor act in their order.
    `reset(options={'corrupt': ...})` changes them from then on. Raises UserError for a sensor
    that the environment lacks.
    """

    def __init__(self, env, corrupt, seed=0):
        super().__init__(env)
        self._seed = seed
        self._change(corrupt)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self._seed = seed
        if options and 'corrupt' in options:
            self._change(options['corrupt'])
        elif seed is not None:
            self._change(self._corrupt)
        observation, info = self.env.reset(seed=seed, options=options)
        for _, fault, random in self._faults:
            fault.begin(random)
        return self._falsified(observation), info

    def step(self, action):
        observation, *rest = self.env.step(action)
        return self._falsified(observation), *rest

    def _change(self, corrupt):
        self._corrupt, self._faults = corrupt, []
        spaces = self.env.observation_space.spaces
        for sensor, kind, amount in faults.asked(corrupt):
            if sensor not in spaces:
                raise UserError(
                    f'--corrupt names {sensor}, which is no sensor of the task; there are '
                    f'{", ".join(spaces)}')
            # A stream for each by its name, so that no other fault moves it.
            random = _generator(self._seed, 3, *f'{sensor} {kind} {amount:g}'.encode())
            fault = faults.FAULTS[kind](amount, sensor, spaces[sensor])
            self._faults.append((sensor, fault, random))

    def _falsified(self, observation):
        observation = dict(observation)
        for sensor, fault, random in self._faults:
            observation[sensor] = fault(observation[sensor], random)
        return observation


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
        # A stream for each sensor by its name: neither the chance of another sensor nor another
        # row in the table moves its drops.
        self._random = {name: _generator(seed, 2, *name.encode()) for name in self._sensors}

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


class StaggeredStart(gymnasium.Wrapper):
    """Cuts the first episode off after some decisions, unless it ends before, and says so: `cut`
    in the info of a step. Environments that begin together and have one time limit then end one
    after the other from there on.

    index of count: the environment's place among its neighbours; episode: decisions of a whole
    episode. The last one's first episode is whole.
    """

    def __init__(self, env, index, count, episode):
        super().__init__(env)
        self._left = episode * (index + 1) // count if index + 1 < count else 0

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        cut = self._left == 1 and not (terminated or truncated)
        self._left = 0 if terminated or truncated else max(0, self._left - 1)
        return observation, reward, terminated, truncated or cut, (
            info | {'cut': True} if cut else info)

    def skip(self):
        """Take the first episode for ended."""
        self._left = 0


def make(config, split, seed):
    """The environment of a configuration, to be used in a process without TensorFlow.

    split: 'train' or 'valid', which chooses the background videos. `reset(seed=...)` seeds
    anew all that is random: the task, the backgrounds, the faults and the drops, each by its own
    stream.
    """
    env = family(config.task).make(config, seed)
    try:
        return _wrapped(env, config, split, seed)
    except BaseException:
        env.close()  # with what it has started
        raise


def _wrapped(env, config, split, seed):
    if config.natural and coloured(env.observation_space.spaces):
        env = NaturalBackground(
            env, background_videos(config, split), seed, config.natural_variety)
    if config.picture_size < SIZE:
        env = SmallerPictures(env, config.picture_size)
    if config.corrupt:
        env = Corruption(env, config.corrupt, seed)
    return SensorDropout(env, config.miss_ratio, seed)


def background_videos(config, split):
    import natural
    path = {'train': config.natural_train, 'valid': config.natural_valid}[split]
    return natural.load(resolve(path))
