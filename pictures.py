"""Pictures and videos of what the agent sees and predicts; numbers in, uint8 pixels out."""

import numpy as np

from config import SENSORS, flag

# Depth is drawn from this distance, black, to the far one, white, on a logarithmic scale, in
# metres: the body stands at 2 to 4 m, the floor runs to more than 60 m.
DEPTH_RANGE = (1.0, 100.0)


def pixels(sensor, raw):
    """Raw pictures [..., height, width, channels] as uint8 [..., height, width, 3]."""
    if sensor == 'depth':
        low, high = np.log(DEPTH_RANGE)
        metres = np.clip(np.asarray(raw, np.float32), *DEPTH_RANGE)
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


def seen(episode, factor=3):
    """An episode (arrays [time, ...]) as the agent sees it: its picture sensors side by side,
    black where one is missing. uint8 [time, 64 factor, 64 factor sensors, 3]."""
    sensors = [s for s, row in SENSORS.items() if row.kind == 'picture' and s in episode]
    frames = []
    for sensor in sensors:
        present = np.asarray(episode[flag(sensor)])[..., None, None] > 0
        frames.append(np.where(present, pixels(sensor, episode[sensor]), 0))
    return enlarged(np.concatenate(frames, -2), factor).astype(np.uint8)


def open_loop(batch, predictions, factor=2):
    """Truth, prediction and absolute error, one above the other, of each sequence side by side.

    batch: raw arrays [B, L, ...]; predictions: sensor -> scaled [B, L, *shape], pictures only.
    Returns sensor -> uint8 [L, 3 x 64 factor, B x 64 factor, 3].
    """
    videos = {}
    for sensor, prediction in predictions.items():
        if SENSORS[sensor].kind == 'picture':
            truth = pixels(sensor, batch[sensor])
            guess = pixels(sensor, unscaled(sensor, prediction))
            error = np.abs(truth.astype(int) - guess).astype(np.uint8)
            column = np.concatenate([truth, guess, error], 2)
            videos[sensor] = enlarged(np.concatenate(list(column), 2), factor)
    return videos
