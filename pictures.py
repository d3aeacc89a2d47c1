"""Pictures and videos of what the agent sees and predicts; numbers in, uint8 pixels out."""

import dataclasses
from collections.abc import Callable

import matplotlib
import numpy as np

from config import SENSORS, flag
from palette import GREEN, VERMILION, rgb

# Depth is drawn on a logarithmic scale from the nearest distance, black, to the farthest, white,
# of all that is drawn together: a reaching arm has all its depths within 10 cm, a walker from 2
# to 80 m. They are at least so many times apart, so that what is flat looks flat.
LEAST_SPAN = 1.2


def depth_span(metres):
    """(nearest, farthest) distance in metres, by which these depths are drawn; 0 is missing."""
    metres = np.asarray(metres, np.float32)
    metres = metres[np.isfinite(metres) & (metres > 0)]
    if not metres.size:
        return 1.0, 100.0
    low, high = float(metres.min()), float(metres.max())
    return min(low, high / LEAST_SPAN), high


def pixels(sensor, raw, span=None):
    """Raw pictures [..., height, width, channels] as uint8 [..., height, width, 3].

    span: for distances those of black and white; default: those of the pictures.
    """
    if SENSORS[sensor].distances:
        span = span or depth_span(raw)
        low, high = np.log(span)
        metres = np.clip(np.asarray(raw, np.float32), *span)
        raw = 255 * (np.log(metres) - low) / (high - low)
    raw = np.clip(np.asarray(raw, np.float32), 0, 255).astype(np.uint8)
    return raw if raw.shape[-1] == 3 else np.repeat(raw[..., :1], 3, -1)


def unscaled(sensor, scaled):
    """The raw numbers for which a model's scaled ones stand."""
    row = SENSORS[sensor]
    return (np.asarray(scaled, np.float32) - row.offset) / row.scale


def enlarged(frames, factor):
    """[..., height, width, 3] with each pixel drawn `factor` times as large."""
    return frames.repeat(factor, -3).repeat(factor, -2)


def enlarged_pixels(sensor, values, factor):
    """Raw pictures as frames, SIDE times `factor` high, of which their height is a divisor."""
    frames = pixels(sensor, values)
    return enlarged(frames, factor * SIDE // frames.shape[-3])


# Height and width of a panel, in pixels of which each is drawn `factor` times as large.
SIDE = 64

# Bars of a vector at most: what has more is drawn by its largest value of each so many.
MOST_BARS = 256


def bars(sensor, values, factor):
    """A bar for each value, or of more than MOST_BARS for the largest of as many in a row as
    needed, on a logarithmic scale up to the largest of all times."""
    heights = np.log1p(np.abs(np.asarray(values, np.float32)))
    together = -(-heights.shape[1] // MOST_BARS)
    heights = np.maximum.reduceat(heights, np.arange(0, heights.shape[1], together), axis=1)
    heights /= max(heights.max(), 1e-6)
    height = SIDE * factor
    # Many values are narrow bars, so that the panel is about twice as wide as a picture.
    width = max(2, min(8 * factor, 128 * factor // heights.shape[1]))
    left, right = (2, 4) if width > 8 else (0, 1)
    frames = np.full((len(heights), height, heights.shape[1] * width + 8, 3), 30, np.uint8)
    for frame, row in zip(frames, heights):
        for index, value in enumerate(row):
            top = height - 4 - int(value * (height - 8))
            start = 4 + index * width
            frame[top:height - 4, start + left:start + width - right] = rgb(GREEN)
    return frames


def spectrogram(sensor, values, factor):
    """The last 64 entries of values [T, bands], the newest at the right and the lowest frequency
    below, black at 0 and lightest at the largest of all: uint8 [T, 64 factor, 64 factor, 3]."""
    return enlarged(rolled(sensor, values, np.max(values)), factor)


def rolled(sensor, values, largest):
    """As `spectrogram`, of 64 x 64 pixels, lightest at `largest`."""
    values = np.asarray(values, np.float32)
    colours = matplotlib.colormaps['magma'](values / max(largest, 1e-6), bytes=True)[..., :3]
    colours = np.concatenate([np.zeros((63, *colours.shape[1:]), np.uint8), colours])
    frames = np.stack([colours[t:t + 64] for t in range(len(values))])  # [T, 64, bands, 3]
    rows = (np.arange(64)[::-1] * values.shape[1]) // 64
    return frames[:, :, rows].swapaxes(1, 2)


def spectra_compared(sensor, truth, guess):
    """As `truth_prediction_error`, of spectra [B, L, bands]."""
    truth, guess = np.asarray(truth, np.float32), np.asarray(guess, np.float32)
    return np.stack([np.concatenate(
        [rolled(sensor, values, truth.max()) for values in (one, other, np.abs(one - other))], 1)
        for one, other in zip(truth, guess)])


def truth_prediction_error(sensor, truth, guess):
    """Raw pictures [B, L, ...] above those that were predicted, above their difference: uint8
    [B, L, 3 height, width, 3]."""
    span = depth_span(truth)
    truth, guess = pixels(sensor, truth, span), pixels(sensor, guess, span)
    error = np.abs(truth.astype(int) - guess).astype(np.uint8)
    return np.concatenate([truth, guess, error], 2)


@dataclasses.dataclass(frozen=True)
class Panel:
    """How a kind of sensor is drawn.

    draw: (sensor, values [T, ...], factor) -> uint8 [T, height, width, 3].
    compare: (sensor, truth [B, L, ...], prediction) -> uint8 [B, L, height, width, 3], or None
    for a kind of which no prediction is drawn.
    """

    draw: Callable
    compare: Callable | None


PANELS = {
    'picture': Panel(enlarged_pixels, truth_prediction_error),
    'vector': Panel(bars, None),
    'spectrum': Panel(spectrogram, spectra_compared),
}


# Frames of a video at most. An episode of the suite has 501; one of Atari in which nothing happens
# has 27,001, which would take gigabytes of memory.
LONGEST = 1000


def seen(episode, factor=3):
    """An episode (arrays [time, ...]) as the agent sees it: its sensors side by side, framed in
    orange where one is missing. uint8 [time, 64 factor, width, 3], at most LONGEST frames."""
    panels = []
    episode = {key: value[:LONGEST] for key, value in episode.items()}
    for sensor in (name for name in SENSORS if name in episode):
        panel = PANELS[SENSORS[sensor].kind].draw(sensor, episode[sensor], factor)
        missing = np.asarray(episode[flag(sensor)])[:, 0] == 0
        for edge in (np.s_[:, :4], np.s_[:, -4:], np.s_[:, :, :4], np.s_[:, :, -4:]):
            view = panel[missing]
            view[edge] = rgb(VERMILION)
            panel[missing] = view
        panels += [panel, np.full((len(panel), panel.shape[1], 4, 3), 255, np.uint8)]
    return np.concatenate(panels[:-1], 2)


def open_loop(batch, predictions, factor=2):
    """Truth, prediction and absolute error, one above the other, of each sequence side by side.

    batch: raw arrays [B, L, ...]; predictions: sensor -> scaled [B, L, *shape].
    Returns sensor -> uint8 [L, 3 x 64 factor, B x 64 factor, 3], for kinds that are compared.
    """
    videos = {}
    for sensor, prediction in predictions.items():
        if compare := PANELS[SENSORS[sensor].kind].compare:
            column = compare(sensor, batch[sensor], unscaled(sensor, prediction))
            video = np.concatenate(list(column), 2)
            videos[sensor] = enlarged(video, factor * 3 * SIDE // video.shape[1])
    return videos
