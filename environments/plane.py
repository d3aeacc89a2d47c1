"""A point that walks at random in a square room, under a camera and before a range finder: the
toy world of claim.py. No simulator, no reward.
"""

import gymnasium
import numpy as np

from config import Sensor
from environments import SIZE

HALF = 3.0  # metres from the middle of the room to a wall
STRIDE = 0.6  # metres, the longest step along an axis
RANGE_NOISE = 0.15  # metres, standard deviation of each reading
PIXEL_NOISE = 10.0  # of 255
LAMP, VIEW = 0.5, 3.6  # metres: size of the point in the picture; half the width of the picture

# The rows of `config.SENSORS` that the world's sensors need, beside those of the control suite.
SENSORS = {
    'camera': Sensor('picture', 'intensity', scale=1 / 255, offset=-0.5, bound_weight=1.0),
    'range': Sensor('vector', 'metres', scale=1.0, offset=0.0, bound_weight=1.0),
}
SHAPES = {'camera': (SIZE, SIZE, 1), 'range': (2,)}
ACTIONS = 2


class Plane(gymnasium.Env):
    """`position` is where the point is, metres [2]; an action in [-1, 1]^2 moves it by as many
    STRIDEs, as far as the walls. The picture has x to the right and y downwards."""

    def __init__(self):
        self.observation_space = gymnasium.spaces.Dict({
            'camera': gymnasium.spaces.Box(0, 255, SHAPES['camera'], np.uint8),
            'range': gymnasium.spaces.Box(-np.inf, np.inf, SHAPES['range'], np.float32)})
        self.action_space = gymnasium.spaces.Box(-1, 1, (ACTIONS,), np.float32)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self.position = self._random.uniform(-HALF, HALF, 2)
        return self._observe(), {}

    def step(self, action):
        self.position = np.clip(self.position + STRIDE * action, -HALF, HALF)
        return self._observe(), 0.0, False, False, {}

    def _observe(self):
        pixels = VIEW * ((np.arange(SIZE) + 0.5) / SIZE * 2 - 1)  # metres, their middles
        across, down = (
            np.exp(-0.5 * np.square((pixels - at) / LAMP)) for at in self.position)
        picture = 30 + 200 * down[:, None] * across + self._random.normal(
            0, PIXEL_NOISE, (SIZE, SIZE))
        return {
            'camera': np.clip(picture, 0, 255).astype(np.uint8)[..., None],
            'range': np.float32(self.position + self._random.normal(0, RANGE_NOISE, 2))}
