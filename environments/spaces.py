"""Spaces of observations and actions, in the form that the agent knows."""

import gymnasium
import numpy as np
from PIL import Image

from config import UserError
from environments import SIZE, Broken

# A choice of several parts is one choice among all their combinations, up to so many.
MOST_CHOICES = 1024

# Pixels a side: what is smaller is a table of codes, not a picture.
LEAST_SIDE = 16


class OneHot(gymnasium.spaces.Box):
    """A choice among `n` actions: float32 (n,), 1 for the action that is taken and 0 else."""

    def __init__(self, n, seed=None):
        self.n = int(n)
        super().__init__(0, 1, (self.n,), np.float32, seed)

    def sample(self, mask=None, probability=None):
        return np.eye(self.n, dtype=np.float32)[self.np_random.integers(self.n)]

    def __repr__(self):
        return f'OneHot({self.n})'


def control(space):
    """(the agent's space, function from its actions to those of `space`).

    Box: numbers in [-1, 1], which become the bounds; without bounds they stay as they are, and
    with one alone they go 2 away from it. Of whole numbers each has an equal share of the range.
    Shapes are flattened. Discrete, MultiDiscrete,
    MultiBinary: `OneHot`. Raises `UserError` for others.
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Box):
        if not space.low.size:
            raise UserError(f'its actions, {space}, have no numbers')
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        # Not by the numbers: whole ones that have no bound have the last of their type.
        below, above = space.bounded_below, space.bounded_above
        low, high = (np.where(below, low, np.where(above, high - 2, -1)),
                     np.where(above, high, np.where(below, low + 2, 1)))
        centre, scale = high / 2 + low / 2, high / 2 - low / 2  # also of the largest numbers
        whole = not np.issubdtype(space.dtype, np.floating)
        top = np.where(above, space.high, np.where(above, 0, high).astype(space.dtype))

        def rescaled(action):
            numbers = np.clip(action, -1, 1).reshape(space.shape)
            if whole:
                shares = low + np.floor((numbers + 1) / 2 * (high - low + 1))
                # The largest of 64 bits is no float64, but rounded up to beyond its type.
                last = shares >= high
                return np.where(last, top, np.where(last, 0, shares).astype(space.dtype))
            # The sum may be rounded to beyond a bound.
            return np.clip(centre + scale * numbers, low, high).astype(space.dtype)
        return spaces.Box(-1, 1, (int(np.prod(space.shape)),), np.float32), rescaled
    if isinstance(space, spaces.Discrete):
        return OneHot(space.n), lambda action: space.dtype.type(space.start + np.argmax(action))
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        first = getattr(space, 'start', 0)
        counts = getattr(space, 'nvec', np.full(space.shape, 2))
        total = np.prod(counts.astype(float))  # it may have no whole number of its size
        if total <= MOST_CHOICES:
            def combined(action):
                parts = np.array(np.unravel_index(np.argmax(action), counts.ravel()))
                return (parts.reshape(space.shape) + first).astype(space.dtype)
            return OneHot(int(total)), combined
    raise UserError(
        f'its actions, {space}, are none that the agent knows: a Box, or a Discrete, '
        f'MultiDiscrete or MultiBinary of up to {MOST_CHOICES} combinations')


def leaves(space, value=None, name=''):
    """(name, space, value) of each plain part of a space: the keys of a Dict, nested ones joined
    by a dot; the numbers of a Tuple; a space that is not nested is called observation."""
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        parts = space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
    else:
        yield name or 'observation', space, value
        return
    for key, part in parts:
        yield from leaves(
            part, None if value is None else value[key], f'{name}.{key}' if name else str(key))


def width(space):
    """How many numbers a vector of `space` has; 0 where it is none."""
    if isinstance(space, gymnasium.spaces.Text):
        return 0
    try:
        return int(gymnasium.spaces.flatdim(space))
    except (NotImplementedError, ValueError):
        return 0


def has_pixels(space):
    """Whether a space is of arrays as large as pictures, whatever else it has of one."""
    return isinstance(space, gymnasium.spaces.Box) and sum(
        side >= LEAST_SIDE for side in space.shape) > 1


def channels(space):
    """Number of channels of a space of pictures (height, width), (height, width, channels) or
    (channels, height, width); 0 where it is none."""
    if not has_pixels(space) or len(space.shape) not in (2, 3):
        return 0
    if len(space.shape) == 2:
        return 1
    count = space.shape[_channel_axis(space.shape)]
    return count if count in (1, 3, 4) else 0


def _channel_axis(shape):
    return 0 if shape[0] in (1, 3) and shape[-1] not in (1, 3, 4) else -1


def is_picture(space):
    """Whether a space is of pictures in grey or colour: bytes, or numbers from 0 to 1."""
    return channels(space) > 0 and (space.dtype == np.uint8 or (
        np.issubdtype(space.dtype, np.floating) and bool(
            np.all(space.low >= 0) and np.all(space.high <= 1))))


def resized(plane):
    """A picture (height, width, ...) as (64, 64, ...): means of areas, or larger pixels."""
    if plane.shape[:2] == (SIZE, SIZE):
        return plane
    return np.asarray(Image.fromarray(plane).resize((SIZE, SIZE), Image.Resampling.BOX))


def smaller(picture, size):
    """A picture or distances (height, width, channels) as (size, size, channels) of its type: the
    mean of the whole squares in the place of each pixel; `size` divides height and width."""
    # Not by `resized`: Pillow rounds bytes along each axis, and half a step always upward.
    height, width, channels = picture.shape
    squares = picture.reshape(size, height // size, size, width // size, channels)
    means = squares.mean((1, 3), dtype=np.float32)
    return (means.round() if picture.dtype == np.uint8 else means).astype(picture.dtype)


def picture(value, kind=None):
    """A picture in grey, colour or colour with alpha, as uint8 (64, 64, 3): whole numbers from 0 to
    255, or others from 0 to 1. kind: the type that its space says, if it has one: what a task
    gives may be of another, and means the same."""
    value = np.asarray(value)
    integers = np.issubdtype(value.dtype, np.integer)
    whole = integers if kind is None else np.issubdtype(kind, np.integer)
    if not np.isfinite(value).all():
        raise Broken('a number of its picture is not finite')
    if integers and not whole and value.size and value.max() > 1:
        whole = True  # no share of 1 is so large
    value = np.clip(np.round(value if whole else 255.0 * value), 0, 255).astype(np.uint8)
    value = value[..., None] if value.ndim == 2 else value
    if _channel_axis(value.shape) == 0:
        value = np.moveaxis(value, 0, -1)
    value = np.repeat(value, 3, -1) if value.shape[-1] == 1 else value[..., :3]
    return resized(np.ascontiguousarray(value)) if value.shape != (SIZE, SIZE, 3) else value.copy()


def distances(value):
    """A depth picture of any shape that `channels` knows as float16 (64, 64, 1); what is farther
    than its largest number, as cameras say of nothing, has that."""
    most = np.finfo(np.float16).max
    plane = np.clip(np.squeeze(np.asarray(value, np.float32)), -most, most)
    return resized(np.ascontiguousarray(plane)).astype(np.float16)[..., None]
