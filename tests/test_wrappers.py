"""Tests of what is done to observations.

This process may hold TensorFlow, beside which OpenGL crashes: what renders runs in the
process of the fixture `elsewhere`, or in workers.
"""

import dataclasses
import itertools
import pickle
import types

import gymnasium
import numpy as np
import pytest

import wrappers
from config import SENSORS, Config, UserError


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


def test_a_second_camera_has_the_background_too_and_distances_have_none(monkeypatch):
    """Or an agent would see by it what the first is distracted from."""
    for name, unit in ('side', 'intensity'), ('far', 'metres'):
        monkeypatch.setitem(
            wrappers.SENSORS, name, dataclasses.replace(wrappers.SENSORS['image'], unit=unit))
    stub = Stub(np.zeros((64, 64, 3), np.uint8))
    stub.observation_space = gymnasium.spaces.Dict(
        dict.fromkeys(('image', 'side', 'far'), stub.observation_space['image']))
    stub.reset = lambda **_: ({name: np.zeros((64, 64, 3), np.uint8)
                               for name in ('image', 'side', 'far')}, {})
    env = wrappers.NaturalBackground(stub, np.full((1, 2, 3, 64, 64), 7, np.uint8))
    for observation in env.reset()[0], env.step(None)[0]:
        assert {name: np.unique(value).tolist() for name, value in observation.items()} == {
            'image': [7], 'side': [7], 'far': [0]}


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


def test_variety_plays_videos_both_ways_at_three_paces_and_mirrored():
    # Frame f of video v has v in red and f in green; its left half has no blue, its right half has.
    videos = np.zeros((2, 10, 3, 64, 64), np.uint8)
    videos[:, :, 0] += np.arange(2, dtype=np.uint8)[:, None, None, None]
    videos[:, :, 1] += np.arange(10, dtype=np.uint8)[:, None, None]
    videos[:, :, 2, :, 32:] = 9
    stub = Stub(np.zeros((64, 64, 3), np.uint8))
    env, drawn = wrappers.NaturalBackground(stub, videos, seed=0, variety=True), {}
    for _ in range(600):
        shown = [env.reset()[0]['image']] + [env.step(None)[0]['image'] for _ in range(12)]
        assert len({int(frame[0, 0, 0]) for frame in shown}) == 1
        mirrored = {bool(frame[0, 0, 2]) for frame in shown}
        assert len(mirrored) == 1 and all((frame[:, 0, 2] != frame[:, -1, 2]).all()
                                          for frame in shown)
        paces = {int(after[0, 0, 1]) - int(before[0, 0, 1])
                 for before, after in itertools.pairwise(shown)}
        assert len({pace % 10 for pace in paces}) == 1
        drawn.setdefault((paces.pop() % 10, mirrored.pop()), 0)
    assert set(drawn) == {(pace % 10, side) for pace in (1, 2, 3, -1, -2, -3)
                          for side in (True, False)}


@pytest.mark.parametrize('variety', [False, True])
def test_a_configuration_s_variety_is_that_of_its_backgrounds(variety, videos, monkeypatch):
    blank = np.zeros((64, 64, 3), np.uint8)
    monkeypatch.setattr(wrappers, 'family', lambda task: types.SimpleNamespace(
        make=lambda config, seed: Stub(blank)))
    env = wrappers.make(Config(
        natural_variety=variety, natural_train=videos, miss_ratio=0.0), 'train', 0)
    ways = set()
    for _ in range(60):  # the videos have five frames
        shown = [env.reset()[0]['image'], *(env.step(None)[0]['image'] for _ in range(5))]
        # One frame after the other: the sixth is the first again, and no two are alike.
        assert np.array_equal(shown[0], shown[5])
        ways.add(shown[1].tobytes() + shown[0].tobytes())
    # Three videos of five frames, each followed by one other: 15 pairs; with variety more.
    assert (len(ways) > 15) == variety


def test_without_variety_the_draws_are_as_they_were():
    """The stream of a seed is that of the published runs: video, then first frame."""
    videos = np.zeros((5, 7, 3, 64, 64), np.uint8)
    videos += (10 * np.arange(5)[:, None] + np.arange(7))[:, :, None, None, None].astype(np.uint8)
    env = wrappers.NaturalBackground(Stub(np.zeros((64, 64, 3), np.uint8)), videos, seed=3)
    found = [int(env.reset()[0]['image'][0, 0, 0]) for _ in range(20)]
    random = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(1,)))
    assert found == [int(10 * random.integers(5) + random.integers(7)) for _ in range(20)]


# --- Faults ---


class Counting(gymnasium.Env):
    """Decision t of an episode shows t in every sensor; `seen` has what it gave."""

    def __init__(self):
        self.observation_space = gymnasium.spaces.Dict({
            'image': gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8),
            'depth': gymnasium.spaces.Box(0, np.inf, (64, 64, 1), np.float16),
            'touch': gymnasium.spaces.Box(0, np.inf, (40,), np.float32)})
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.time, self.seen = 100, []
        return self._observe(), {}

    def step(self, action):
        self.time += 1
        return self._observe(), 1.0, False, False, {}

    def _observe(self):
        self.seen.append({name: np.full(space.shape, self.time, space.dtype)
                          for name, space in self.observation_space.spaces.items()})
        return {name: value.copy() for name, value in self.seen[-1].items()}


def falsified(corrupt, count=40, seed=0, **reset):
    """(what was shown, what was so) of an episode: sensor -> array [count, ...]."""
    env = wrappers.Corruption(Counting(), corrupt, seed)
    shown = [env.reset(**reset)[0]] + [env.step(None)[0] for _ in range(count - 1)]
    for observation in shown:
        assert env.observation_space.contains(observation)
    return [{name: np.stack([observation[name] for observation in part]) for name in shown[0]}
            for part in (shown, env.unwrapped.seen)]


def test_only_the_sensors_that_are_named_are_falsified():
    for sensor in ('image', 'depth', 'touch'):
        for kind, amount in ('noise', 0.1), ('spikes', 0.2), ('patch', 0.3), ('freeze', 0.5), (
                'delay', 2):
            shown, so = falsified(f'{sensor}={kind}:{amount}')
            for name in shown:
                same = np.array_equal(shown[name], so[name])
                assert same == (name != sensor), (sensor, kind, name)
    shown, so = falsified('image=noise:0,image=spikes:0,depth=patch:0,depth=freeze:0,touch=delay:0')
    assert equal(shown, so)


@pytest.mark.parametrize('sensor, unit', [('image', 25.5), ('depth', 20), ('touch', 20)])
def test_noise_is_normal_with_its_deviation_in_what_the_model_reads(sensor, unit):
    shown, so = falsified(f'{sensor}=noise:0.1')
    error = shown[sensor].astype(float) - so[sensor]
    assert error.mean() == pytest.approx(0, abs=2)
    assert error.std() == pytest.approx(unit, rel=0.03)
    assert (np.abs(error) > 2 * unit).mean() == pytest.approx(0.0455, abs=0.02)
    assert not np.array_equal(error[0], error[1])


def test_noise_stays_within_what_the_sensor_can_say():
    shown, _ = falsified('image=noise:2,depth=noise:2')
    assert shown['image'].min() == 0 and shown['image'].max() == 255
    assert shown['depth'].min() == 0 and shown['depth'].max() > 500
    # Nothing ends the run: the largest of what float16 has is no end of the environment.
    shown, _ = falsified('depth=noise:100')
    assert np.isfinite(shown['depth']).all() and shown['depth'].max() == 65504


def test_spikes_are_the_least_and_the_largest_of_whole_pixels():
    shown, so = falsified('image=spikes:0.1,touch=spikes:0.1,depth=spikes:0.1', 150)
    for name, largest in ('image', 255), ('touch', 200), ('depth', 200):
        spikes = shown[name] != so[name]
        if name == 'image':
            assert (spikes.all(-1) == spikes.any(-1)).all()
        assert spikes.mean() == pytest.approx(0.1, rel=0.1)
        values, counts = np.unique(shown[name][spikes], return_counts=True)
        assert values.tolist() == [0, largest] and counts[0] == pytest.approx(counts[1], rel=0.2)


def test_a_patch_hides_its_share_at_one_place_of_an_episode():
    places = set()
    for seed in range(30):
        shown, _ = falsified('image=patch:0.25,touch=patch:0.25', 3, seed=seed)
        hidden = (shown['image'] == 0).all(-1)
        assert (hidden == hidden[0]).all() and hidden[0].sum() == 32 * 32
        rows, columns = np.nonzero(hidden[0])
        assert np.ptp(rows) == np.ptp(columns) == 31
        places.add((rows.min(), columns.min()))
        dead = shown['touch'] == 0
        assert (dead == dead[0]).all() and dead[0].sum() == 10
    assert len(places) > 20


def test_a_patch_hides_one_value_at_the_least_but_where_its_share_is_0():
    for sensor in 'image', 'touch':
        for share in 1e-6, 0.01:
            shown, _ = falsified(f'{sensor}=patch:{share}', 1)
            hidden = shown[sensor] == 0
            assert (hidden.all(-1) if sensor == 'image' else hidden)[0].any()
        shown, _ = falsified(f'{sensor}=patch:0', 1)
        assert (shown[sensor] != 0).all()


def test_what_is_frozen_repeats_what_was_said_last_for_up_to_14_decisions():
    env, lengths = wrappers.Corruption(Counting(), 'touch=freeze:0.1', 1), []
    for _ in range(40):
        last = env.reset()[0]['touch'][0]
        assert last == 100  # there is nothing before the first
        stuck = 0
        for t in range(1, 150):
            now = env.step(None)[0]['touch']
            assert (now == now[0]).all()
            if now[0] == 100 + t:
                lengths += [stuck] * bool(stuck)
                stuck, last = 0, now[0]
            else:
                assert now[0] == last
                stuck += 1
    lengths = np.array(lengths)
    # Two in a row are one that is longer; of each about a tenth are.
    assert np.mean(lengths <= 14) > 0.85 and set(range(1, 15)) <= set(lengths)
    assert np.mean(lengths) == pytest.approx(7.5 / 0.9, rel=0.1)


def test_delay_shows_the_beginning_and_then_what_was():
    shown, _ = falsified('depth=delay:3', 10)
    assert shown['depth'][:, 0, 0, 0].tolist() == [100] * 4 + list(range(101, 107))


def test_faults_of_one_sensor_act_in_their_order():
    shown, _ = falsified('touch=delay:2,touch=patch:0.5', 6)
    for t, values in enumerate(shown['touch']):
        assert sorted(set(values)) == [0, max(100, 98 + t)]


def test_faults_repeat_by_seed_and_none_moves_another():
    one = falsified('image=noise:0.1,touch=spikes:0.2', seed=5)[0]
    assert equal(one, falsified('image=noise:0.1,touch=spikes:0.2', seed=5)[0])
    assert np.array_equal(one['touch'], falsified('touch=spikes:0.2', seed=5)[0]['touch'])
    other = falsified('image=noise:0.1,touch=spikes:0.2', seed=6)[0]
    assert not np.array_equal(one['image'], other['image'])
    env = wrappers.Corruption(Counting(), 'image=noise:0.1', 9)
    first = env.reset(seed=5)[0]['image']
    assert np.array_equal(first, one['image'][0])
    assert not np.array_equal(first, env.reset()[0]['image'])
    assert np.array_equal(first, env.reset(seed=5)[0]['image'])


def test_reset_changes_the_faults_from_then_on():
    env = wrappers.Corruption(Counting(), 'image=patch:1')
    assert not env.reset()[0]['image'].any()
    assert env.reset(options={'corrupt': ''})[0]['image'].all()
    assert env.reset()[0]['image'].all()
    assert not env.reset(options={'corrupt': 'touch=patch:1'})[0]['touch'].any()


def test_a_fault_of_a_sensor_that_is_not_there_is_told():
    with pytest.raises(UserError, match='names audio, .* there are image, touch'):
        wrappers.Corruption(Stub(), 'audio=noise:0.1')


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


# --- Smaller pictures ---

def test_smaller_pictures_are_the_means_of_their_squares():
    random = np.random.default_rng(0)
    given = {
        'image': random.integers(0, 256, (64, 64, 3), np.uint8),
        'depth': random.uniform(0, 100, (64, 64, 1)).astype(np.float16),
        'touch': random.uniform(0, 9, 2).astype(np.float32)}
    env = Stub()
    env.observation_space = gymnasium.spaces.Dict({
        name: gymnasium.spaces.Box(0, 255, value.shape, value.dtype)
        for name, value in given.items()})
    env.reset = lambda **_: (given, {})
    env = wrappers.SmallerPictures(env, 32)
    found = env.reset()[0]
    assert found.keys() == given.keys() and found['touch'] is given['touch']
    for name in 'image', 'depth':
        assert found[name] in env.observation_space[name]
        assert found[name].shape == (32, 32, given[name].shape[-1])
        assert found[name].dtype == given[name].dtype
        for row, column in (0, 0), (3, 17), (31, 31):
            square = given[name][2 * row:2 * row + 2, 2 * column:2 * column + 2]
            wanted = square.astype(float).mean((0, 1))
            assert np.abs(found[name][row, column] - wanted).max() <= (
                0.5 if name == 'image' else 0.05)
    assert given['image'].shape == (64, 64, 3)


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


def test_faults_are_behind_the_drops_and_before_the_background(elsewhere, config):
    """What is missing is zeros, however false it was, and a patch hides the video too."""
    config = dataclasses.replace(config, corrupt='image=patch:1,depth=noise:1', miss_ratio=0.5)
    found = elsewhere(episodes, config, 'train', 1)
    here = [observation['depth_flag'][0] == 1 for observation in found]
    assert 0 < sum(here) < len(here)
    for present, observation in zip(here, found):
        assert not observation['image'].any()
        assert observation['depth'].any() == present


def test_smaller_pictures_are_of_what_the_large_ones_show(elsewhere, config):
    """Videos included, but not faults: a patch of a quarter is one of either size."""
    config = dataclasses.replace(config, miss_ratio=0.3, corrupt='depth=patch:0.25')
    large = elsewhere(episodes, config, 'train', 6)
    small = elsewhere(episodes, dataclasses.replace(config, picture_size=32), 'train', 6)
    here = [observation['image_flag'][0] == 1 for observation in large]
    assert 0 < sum(here) < len(here)
    for present, whole, half in zip(here, large, small, strict=True):
        assert half['image'].shape == (32, 32, 3) and half['depth'].shape == (32, 32, 1)
        assert half['image'].any() == present and half['image_flag'] == whole['image_flag']
        means = whole['image'].reshape(32, 2, 32, 2, 3).mean((1, 3))
        assert np.abs(half['image'] - means).max() <= 0.5
        if whole['depth_flag'] == 1:
            assert np.mean(half['depth'] == 0) == np.mean(whole['depth'] == 0) == 0.25


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
