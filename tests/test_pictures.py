"""Frames of videos: pixels, panels, and what an agent sees and predicts."""

import numpy as np
import pytest

import networks
import pictures
from config import SENSORS


def test_pixels_of_an_image_are_the_image():
    raw = np.arange(48).reshape(1, 4, 4, 3).astype(np.uint8)
    found = pictures.pixels('image', raw)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, raw)
    np.testing.assert_array_equal(
        pictures.pixels('image', np.float32([[[[-5, 254.5, 300]]]])), [[[[0, 254, 255]]]])


def test_pixels_of_depth_are_logarithmic_from_the_nearest_to_the_farthest():
    metres = np.array([0, 0.5, 1, 10 ** 0.5, 10, 100, 1000, np.inf], np.float16)
    found = pictures.pixels('depth', metres.reshape(2, 4, 1), (1, 100))
    assert found.shape == (2, 4, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(
        found[..., 0].ravel().astype(int), [0, 0, 0, 63.75, 127.5, 255, 255, 255], atol=1)
    assert np.ptp(found, -1).max() == 0


@pytest.mark.parametrize('low, high', [(0.69, 0.75), (0.05, 0.3), (2, 80), (5, 150)])
def test_depth_shows_the_body_however_near_the_task_is(low, high):
    metres = np.full((4, 64, 64, 1), high, np.float16)
    metres[:, 20:40, 20:40] = low
    metres[0] = 0  # missing
    for found in pictures.pixels('depth', metres)[1:], pictures.seen(
            {'depth': metres, 'depth_flag': np.float32([[0], [1], [1], [1]])}, factor=1)[1:]:
        body, around = found[:, 20:40, 20:40].astype(int), found[:, 5:15, 5:15].astype(int)
        assert (around >= 254).all() and 50 < (around.mean() - body.mean())
    flat = pictures.pixels('depth', np.full((64, 64, 1), low, np.float16))
    assert (flat >= 254).all()


def test_a_prediction_of_depth_is_drawn_on_the_scale_of_the_truth():
    truth = np.linspace(1, 10, 64 * 64).reshape(1, 1, 64, 64, 1).astype(np.float16)
    found = pictures.open_loop(
        {'depth': truth}, {'depth': np.full((1, 1, 64, 64, 1), 1000 / 200 - 0.5)}, factor=1)
    assert (found['depth'][0, 64:128] == 255).all() and found['depth'][0, 0, 0, 0] == 0


@pytest.mark.parametrize('sensor', SENSORS)
def test_unscaled_inverts_what_the_networks_read(sensor):
    raw = np.random.default_rng(0).uniform(0, 255, (3, 5, 2)).astype(np.float32)
    scaled = networks.scaled(sensor, raw).numpy()
    np.testing.assert_allclose(scaled, raw * SENSORS[sensor].scale + SENSORS[sensor].offset)
    np.testing.assert_allclose(pictures.unscaled(sensor, scaled), raw, atol=1e-3)


def test_pictures_of_32_pixels_are_drawn_as_large_as_those_of_64():
    image = np.random.default_rng(0).integers(1, 200, (2, 32, 32, 3)).astype(np.uint8)
    found = pictures.seen({'image': image, 'image_flag': np.ones((2, 1))}, factor=3)
    np.testing.assert_array_equal(found, image.repeat(6, 1).repeat(6, 2))
    video = pictures.open_loop(
        {'image': image[None]}, {'image': np.zeros((1, 2, 32, 32, 3))}, factor=2)['image']
    assert video.shape == (2, 3 * 128, 128, 3)
    np.testing.assert_array_equal(video[:, :128], image.repeat(4, 1).repeat(4, 2))


def test_enlarged_repeats_pixels():
    frame = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    found = pictures.enlarged(frame, 3)
    assert found.shape == (1, 6, 6, 3)
    for row in range(6):
        for column in range(6):
            assert (found[0, row, column] == frame[0, row // 3, column // 3]).all()


def test_seen_is_the_sensors_side_by_side_and_framed_where_one_is_missing():
    random = np.random.default_rng(0)
    image = random.integers(1, 200, (3, 64, 64, 3)).astype(np.uint8)
    depth = random.uniform(2, 50, (3, 64, 64, 1)).astype(np.float16)
    one, two = np.float32([[1], [0], [1]]), np.float32([[1], [1], [0]])
    found = pictures.seen({
        'depth': depth, 'depth_flag': two, 'image': image, 'image_flag': one,
        'reward': np.zeros(3)}, factor=2)
    assert found.shape == (3, 128, 260, 3) and found.dtype == np.uint8
    assert (found[:, :, 128:132] == 255).all()
    for left, present, raw in (0, one, image), (132, two, pictures.pixels('depth', depth)):
        panel = found[:, :, left:left + 128]
        inside = np.s_[:, 4:-4, 4:-4]
        whole = raw.repeat(2, 1).repeat(2, 2)
        np.testing.assert_array_equal(panel[inside], whole[inside])
        framed = (panel[:, :4] == (213, 94, 0)).all((1, 2, 3))
        np.testing.assert_array_equal(framed, present[:, 0] == 0)
        np.testing.assert_array_equal(panel[~framed], whole[~framed])
    assert pictures.seen({'depth': depth, 'depth_flag': two}).shape == (3, 192, 192, 3)
    assert pictures.seen({'touch': depth[:, :2, 0, 0], 'touch_flag': two}).shape == (3, 192, 56, 3)


def test_of_an_episode_without_an_end_so_much_is_seen_as_memory_holds(monkeypatch):
    monkeypatch.setattr(pictures, 'LONGEST', 7)
    image = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3)).astype(np.uint8)
    found = pictures.seen({'image': image, 'image_flag': np.ones((9, 1))}, factor=1)
    np.testing.assert_array_equal(found, image[:7])


def test_open_loop_is_truth_above_prediction_above_error():
    image = np.zeros((2, 3, 64, 64, 3), np.uint8)
    image[0, 1], image[1, 1] = 200, 10
    guess = np.full((2, 3, 64, 64, 3), 50, np.float32)
    depth = np.full((2, 3, 64, 64, 1), 100, np.float16)
    depth[:, 0] = 1
    found = pictures.open_loop(
        {'image': image, 'depth': depth, 'touch': np.zeros((2, 3, 2))},
        {'image': guess / 255 - 0.5, 'touch': np.zeros((2, 3, 2)),
         'depth': np.full((2, 3, 64, 64, 1), 1 / 200 - 0.5)}, factor=2)
    assert set(found) == {'image', 'depth'}
    for video in found.values():
        assert video.shape == (3, 384, 256, 3) and video.dtype == np.uint8
    # Time 1; sequence 0 in the left half, sequence 1 in the right.
    for half, truth in (slice(0, 128), 200), (slice(128, 256), 10):
        column = found['image'][1][:, half].astype(int)
        assert (column[:128] == truth).all()
        assert (np.abs(column[128:256] - 50) <= 1).all()
        assert (column[256:] == np.abs(truth - column[128:256])).all()
    assert (found['depth'][1:, :128] == 255).all() and (found['depth'][:, 128:256] == 0).all()
    assert (found['depth'][1:, 256:] == 255).all()


def test_missing_sensors_are_framed_in_the_episode_as_seen():
    episode = {
        'image': np.full((2, 64, 64, 3), 100, np.uint8),
        'image_flag': np.array([[1], [0]], np.float32),
        'touch': np.array([[0, 9], [9, 0]], np.float32),
        'touch_flag': np.ones((2, 1), np.float32)}
    frames = pictures.seen(episode, factor=2)
    assert frames.dtype == np.uint8 and frames.shape[:2] == (2, 128)
    assert frames[0, 0, 0].tolist() == [100, 100, 100]
    assert frames[1, 0, 0].tolist() == [213, 94, 0]
    green = (frames == (0, 158, 115)).all(-1).sum(1)  # the height of the bars, by column
    assert green[0].argmax() > green[1].argmax()


def test_a_spectrogram_scrolls_with_the_newest_at_the_right_and_low_bands_below():
    heard = np.zeros((70, 32), np.float32)
    heard[3, 0], heard[66, 31] = 40, 20
    frames = pictures.seen({'audio': heard, 'audio_flag': np.ones((70, 1))}, factor=2)
    assert frames.shape == (70, 128, 128, 3) and frames.dtype == np.uint8
    light = frames.astype(int).sum(-1)
    for t in range(70):
        columns = {63 - (t - at): rows for at, rows in ((3, slice(124, 128)), (66, slice(0, 4)))
                   if 0 <= t - at < 64}
        bright = light[t] > 300
        assert bright.sum() == 8 * len(columns)
        for column, rows in columns.items():
            assert bright[rows, 2 * column:2 * column + 2].all()
    assert light[66, 124, 0] > light[66, 3, 127]  # 40 decibels, and 20


def test_open_loop_compares_spectra():
    truth = np.zeros((2, 5, 32), np.float32)
    truth[1, 2, 10] = 40
    found = pictures.open_loop({'audio': truth}, {'audio': np.zeros((2, 5, 32))}, factor=1)
    video = found['audio'].astype(int).sum(-1)
    assert video.shape == (5, 192, 128)
    above, below = video[:, :64], video[:, 128:]
    assert above[:2].max() < 10 and above[2].max() > 300
    np.testing.assert_array_equal(above, below)
    assert video[:, 64:128].max() < 10  # silence was predicted


@pytest.mark.parametrize('count', [2, 24, 223])
def test_each_value_of_a_vector_has_a_bar_that_is_seen(count):
    values = np.zeros((2, count), np.float32)
    values[1, ::2] = 1
    frames = pictures.seen({'proprioception': values, 'proprioception_flag': np.ones((2, 1))})
    green = (frames == (0, 158, 115)).all(-1)
    assert not green[0].any()
    edges = np.diff(green[1].any(0).astype(int), prepend=0, append=0)
    assert (edges == 1).sum() == (count + 1) // 2
    assert frames.shape[2] < 500


@pytest.mark.parametrize('count', [257, 4096, 33001])
def test_of_very_many_values_the_largest_of_each_few_is_drawn(count):
    """The sides of a GIF are of 65,535 pixels at most, and a frame is held for each entry."""
    values = np.zeros((2, count), np.float32)
    values[1, -1] = -5
    frames = pictures.seen({'proprioception': values, 'proprioception_flag': np.ones((2, 1))})
    green = (frames == (0, 158, 115)).all(-1)
    assert not green[0].any() and green[1].any(0).sum() == 1 and frames.shape[2] < 600
    assert np.flatnonzero(green[1].any(0))[0] > 0.45 * frames.shape[2]
