"""Faults of sensors that no flag tells of, `--corrupt`; wrappers.Corruption lets them happen.

A kind of fault is a class here and its row of `FAULTS`.
"""

import collections

import numpy as np

from config import LONGEST_DROP, SENSORS, UserError


class Fault:
    """A fault of one sensor. Called with an observation, and the fault's own random stream, it
    gives a new array.

    amount: what the number after its name says, for messages; high: the largest that it may be;
    whole: whether it is a whole number.
    """

    high = 1.0
    whole = False

    def __init__(self, amount, sensor, space):
        raise NotImplementedError

    def begin(self, random):
        """An episode begins."""

    def __call__(self, value, random):
        raise NotImplementedError


class Noise(Fault):
    """Adds normal noise to every value. amount: its deviation in what the model reads."""

    amount = 'standard deviation, in what the model reads'
    high = 100.0

    def __init__(self, amount, sensor, space):
        self.deviation, self.space = np.float32(amount / SENSORS[sensor].scale), space

    def __call__(self, value, random):
        noise = self.deviation * random.standard_normal(value.shape, np.float32)
        return _fitted(value.astype(np.float32) + noise, self.space)


class Spikes(Fault):
    """Salt and pepper: now and then a pixel, or a value of a vector, is the largest or the least
    that the sensor says. amount: the chance of each at each decision."""

    amount = 'chance of each pixel or value at a decision'

    def __init__(self, amount, sensor, space):
        self.chance, reach = amount, 1 / SENSORS[sensor].scale
        self.least, self.largest = (
            np.clip(end, space.low, space.high).astype(space.dtype) for end in (-reach, reach))

    def __call__(self, value, random):
        drawn = random.random(_places(value))
        value = np.where(drawn < self.chance, self.largest, value)
        return np.where(drawn < self.chance / 2, self.least, value)


class Patch(Fault):
    """Something stands before the sensor: a square of the picture is black, or some values of a
    vector are 0. amount: their share, of which one is the least. Where, each episode draws anew."""

    amount = 'share of the picture, or of the values'

    def __init__(self, amount, sensor, space):
        self.share, self.shape = amount, space.shape

    def begin(self, random):
        self.hidden = np.zeros(_places(np.empty(self.shape)), bool)
        if len(self.shape) == 1:
            count = self._hides(self.share, self.shape[0])
            self.hidden[random.permutation(self.shape[0])[:count]] = True
        else:
            sides = [self._hides(self.share ** 0.5, size) for size in self.shape[:2]]
            top, left = (random.integers(size - side + 1)
                         for size, side in zip(self.shape, sides))
            self.hidden[top:top + sides[0], left:left + sides[1]] = True

    @staticmethod
    def _hides(share, count):
        # Less than one would be a condition by name alone.
        return max(1, round(share * count)) if share else 0

    def __call__(self, value, random):
        return np.where(self.hidden, value.dtype.type(0), value)


class Freeze(Fault):
    """The sensor is stuck at what it said last, for 1 to 14 decisions. amount: the chance at each
    decision at which it is not."""

    amount = 'chance at a decision, for 1 to 14 decisions'

    def __init__(self, amount, sensor, space):
        self.chance = amount

    def begin(self, random):
        self.last, self.remaining = None, 0

    def __call__(self, value, random):
        starts = not self.remaining and random.random() < self.chance
        if self.last is not None and starts:
            self.remaining = random.integers(1, LONGEST_DROP + 1)
        if self.remaining:
            self.remaining -= 1
        else:
            self.last = value.copy()
        return self.last.copy()


class Delay(Fault):
    """What was observed some decisions ago, or in the beginning of the episode. amount: decisions.
    """

    amount = 'decisions'
    high = 1000.0
    whole = True

    def __init__(self, amount, sensor, space):
        self.length = int(amount) + 1

    def begin(self, random):
        self.past = collections.deque(maxlen=self.length)

    def __call__(self, value, random):
        self.past.append(value.copy())
        return self.past[0].copy()


FAULTS = {'noise': Noise, 'spikes': Spikes, 'patch': Patch, 'freeze': Freeze, 'delay': Delay}


def asked(text):
    """The (sensor, kind, amount) that `--corrupt` asks for, in order; UserError for a mistake."""
    found = []
    for part in text.split(',') if text else ():
        sensor, equals, said = part.strip().partition('=')
        kind, _, number = said.partition(':')
        if not equals or sensor not in SENSORS or kind not in FAULTS:
            raise UserError(
                f'--corrupt takes <sensor>=<fault>:<number>,... with the sensors '
                f'{", ".join(SENSORS)} and the faults {", ".join(FAULTS)}, not {part[:60]!r}')
        row = FAULTS[kind]
        try:
            amount = float(number)
        except ValueError:
            amount = -1.0
        if not 0 <= amount <= row.high or (row.whole and amount != int(amount)):
            raise UserError(
                f'--corrupt {sensor}={kind}:<number> takes a {"whole " * row.whole}number from 0 '
                f'to {row.high:g} ({row.amount}), not {number[:60]!r}')
        if (sensor, kind, amount) in found:
            raise UserError(f'--corrupt names {sensor}={kind}:{amount:g} twice; type it once')
        found.append((sensor, kind, amount))
    return found


def _places(value):
    """The shape of the pixels of a picture, to be spread over its colours, or of a vector."""
    return (*value.shape[:2], 1) if value.ndim == 3 else value.shape


def _fitted(value, space):
    """Numbers as the nearest observations of `space`."""
    value = np.clip(value, space.low, space.high)
    if space.dtype.kind == 'f':
        value = np.clip(value, np.finfo(space.dtype).min, np.finfo(space.dtype).max)
    return (np.rint(value) if space.dtype.kind == 'u' else value).astype(space.dtype)
