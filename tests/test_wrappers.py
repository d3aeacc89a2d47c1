"""Tests of what is done to observations.

This process may hold TensorFlow, beside which OpenGL crashes: what renders runs in the
process of the fixture `elsewhere`, or in workers.
"""

import dataclasses
import pickle

import gymnasium
import numpy as np
import pytest

import wrappers
from config import SENSORS


def equal(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[key], second[key]) for key in first)


class Stub(gymnasium.Env):
    """Observations that are easy to tell from zeros; the image is given."""

    def __init__(self, image=None):
        shapes = {'image': (64, 64, 3) if image is not None else (1, 1, 3), 'touch': (2,)}
        self.observation_space = gymnasium.spaces.Dict({
            name: gymnasium.spaces.Box(0, 255, shape, np.uint8)
            for name, shape in shapes.items()})
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.image = np.full((1, 1, 3), 9, np.uint8) if image is None else image

    def reset(self, *, seed=None, options=None):
        return {'image': self.image.copy(), 'touch': np.full(2, 5, np.uint8)}, {}

    def step(self, action):
        return self.reset()[0], 1.0, False, False, {}


def test_background_is_a_plain_loop_over_pixels():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (64, 64, 3), np.uint8)
    image[0, 0], image[0, 1] = (100, 255, 255), (101, 0, 0)
    videos = random.integers(0, 256, (2, 3, 3, 64, 64), np.uint8)
    env = wrappers.NaturalBackground(Stub(image), videos, seed=0)
    result = env.reset()[0]['image']
    expected = []
    for frame in videos.reshape(6, 3, 64, 64):
        picture = image.copy()
        for row in range(64):
            for column in range(64):
                if image[row, column, 0] <= 100:
                    picture[row, column] = frame[:, row, column]
        expected.append(picture)
    assert sum(np.array_equal(result, picture) for picture in expected) == 1


def test_background_advances_wraps_and_changes():
    # Frame f of video v is of colour 10 v + f throughout.
    videos = np.zeros((4, 5, 3, 64, 64), np.uint8)
    videos += (10 * np.arange(4)[:, None] + np.arange(5))[:, :, None, None, None].astype(np.uint8)
    env = wrappers.NaturalBackground(Stub(np.zeros((64, 64, 3), np.uint8)), videos, seed=0)
    starts = set()
    for _ in range(300):
        video, start = divmod(int(env.reset()[0]['image'][0, 0, 0]), 10)
        starts.add((video, start))
        shown = [int(env.step(None)[0]['image'][0, 0, 0]) for _ in range(7)]
        assert shown == [10 * video + (start + step) % 5 for step in range(1, 8)]
    assert starts == {(video, frame) for video in range(4) for frame in range(5)}


def flags(env, count, **reset):
    """Presence (decisions, sensors) of image and touch over one episode."""
    observations = [env.reset(**reset)[0]] + [env.step(None)[0] for _ in range(count - 1)]
    for observation in observations:
        for name, value in (('image', 9), ('touch', 5)):
            presence = observation[f'{name}_flag']
            assert presence.shape == (1,) and presence.dtype == np.float32
            assert (observation[name] == value * presence).all()
    return np.array([[o['image_flag'][0], o['touch_flag'][0]] for o in observations])


@pytest.mark.parametrize('chance, lost', [(0.05, 0.283), (0.1, 0.455), (0, 0), (1, 1)])
def test_long_run_loss(chance, lost):
    certain = chance in (0, 1)
    present = flags(wrappers.SensorDropout(Stub(), chance, seed=1), 1000 if certain else 100_000)
    np.testing.assert_allclose(1 - present.mean(0), lost, atol=0 if certain else 0.01)


def test_drops_last_uniformly_1_to_14_decisions():
    env, lengths = wrappers.SensorDropout(Stub(), 1, seed=2), []
    for _ in range(2800):
        env.reset(options={'miss_ratio': 1})  # every sensor drops out at once
        env._chance = dict.fromkeys(env._chance, 0)  # and, when back, remains
        length = 1
        while not env.step(None)[0]['touch_flag']:
            length += 1
        lengths.append(length)
    counts = np.bincount(lengths, minlength=15)
    assert counts[0] == 0 and len(counts) == 15
    assert ((counts[1:] - 200) ** 2 / 200).sum() < 34.5  # chi squared, 13 degrees, 0.1 %


def test_streams_of_sensors_are_independent():
    both = flags(wrappers.SensorDropout(Stub(), {'image': 0.1, 'touch': 0.1}, seed=3), 5000)
    other = flags(wrappers.SensorDropout(Stub(), {'image': 0.7, 'touch': 0.1}, seed=3), 5000)
    assert np.array_equal(both[:, 1], other[:, 1])
    assert not np.array_equal(both[:, 0], other[:, 0])
    assert abs(np.corrcoef(both.T)[0, 1]) < 0.1


def test_drops_of_a_sensor_do_not_hang_on_its_place_in_the_table(monkeypatch):
    before = flags(wrappers.SensorDropout(Stub(), 0.1, seed=3), 1000)
    monkeypatch.setattr(wrappers, 'SENSORS', {
        name: SENSORS.get(name) for name in ('sound', 'touch', 'image')})
    assert np.array_equal(before, flags(wrappers.SensorDropout(Stub(), 0.1, seed=3), 1000))


def test_reset_ends_drops_and_changes_ratios():
    env = wrappers.SensorDropout(Stub(), 1, seed=4)
    assert not flags(env, 20).any()
    assert flags(env, 20, options={'miss_ratio': 0}).all()
    assert flags(env, 20).all()  # from then on
    present = flags(env, 20, options={'miss_ratio': {'touch': 1}})
    assert present[:, 0].all() and not present[:, 1].any()


def test_dropout_repeats_by_seed():
    env = wrappers.SensorDropout(Stub(), 0.2, seed=5)
    first = flags(env, 500)
    assert not np.array_equal(first, flags(env, 500))
    assert np.array_equal(first, flags(env, 500, seed=5))
    assert not np.array_equal(first, flags(env, 500, seed=6))


# --- Together ---

def episodes(config, split, seed, reset_seed=None):
    """All observations and rewards of two episodes under the same actions."""
    env, random, found = wrappers.make(config, split, seed), np.random.default_rng(0), []
    for episode in range(2):
        found.append(env.reset(seed=reset_seed if episode == 0 else None)[0])
        end = False
        while not end:
            observation, reward, terminated, truncated, _ = env.step(random.uniform(-1, 1, 6))
            found.append(observation | {'reward': reward})
            end = terminated or truncated
    env.close()
    return found


def test_seeds_repeat_everything(elsewhere, config):
    first = elsewhere(episodes, config, 'train', 1)
    assert len(first) == 8
    for again in (elsewhere(episodes, config, 'train', 1),
                  elsewhere(episodes, config, 'train', 2, 1)):
        assert all(equal(*pair) for pair in zip(first, again, strict=True))
    assert not equal(first[0], first[4])  # episodes differ
    other = elsewhere(episodes, config, 'train', 2)
    assert not np.array_equal(first[0]['touch'], other[0]['touch']) or not np.array_equal(
        first[0]['depth'], other[0]['depth'])


def test_split_and_natural_choose_the_background(elsewhere, config, tmp_path):
    for split, value in (('train', 11), ('valid', 22)):
        path = tmp_path / f'{split}.pkl'
        path.write_bytes(pickle.dumps(np.full((1, 2, 3, 64, 64), value, np.uint8)))
        config = dataclasses.replace(
            config, miss_ratio=0.0, **{f'natural_{split}': str(path)})
    for split, value in (('train', 11), ('valid', 22)):
        image = elsewhere(episodes, config, split, 0)[0]['image']
        background = image[image[..., 0] <= 100]
        assert len(background) > 100 and (background == value).all()
        assert (image[..., 0] > 100).any()
    plain = elsewhere(episodes, dataclasses.replace(config, natural=False), 'train', 0)
    assert len(np.unique(plain[0]['image'][plain[0]['image'][..., 0] <= 100])) > 5
