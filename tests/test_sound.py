"""The sound of contacts: its levels, its tones, and that it leaves the physics alone.

What loads the suite runs in the process of the fixture `elsewhere`.
"""

import numpy as np
import pytest

from environments import control_suite, sound
from environments.sound import BANDS, LOWEST, NOISE, RATE


def band_centres():
    """The frequencies of the middles of the 32 bands, in Hz."""
    ends = 2595 * np.log10(1 + np.array([LOWEST, RATE / 2]) / 700)
    return 700 * (10 ** (np.linspace(*ends, BANDS + 2)[1:-1] / 2595) - 1)


@pytest.mark.parametrize('count', [16, 160, 800, 5000])
def test_noise_of_the_room_has_three_decibels_and_silence_none_whatever_the_length(count):
    levels, random = sound.Levels(count), np.random.default_rng(0)
    found = [levels(NOISE * random.standard_normal(count, np.float32)) for _ in range(200)]
    assert found[0].shape == (BANDS,) and found[0].dtype == np.float32
    power = np.mean(10 ** (np.array(found) / 10) - 1, 0)
    np.testing.assert_allclose(power, 1, atol=0.35)
    assert not levels(np.zeros(count)).any()


@pytest.mark.parametrize('band', [0, 7, 20, 31])
def test_a_tone_is_heard_in_the_band_around_it(band):
    tone = 0.1 * np.sin(2 * np.pi * band_centres()[band] * np.arange(3200) / RATE)
    assert sound.Levels(3200)(tone).argmax() == band


def test_bands_are_triangles_that_meet_in_each_others_middles():
    filters = sound.mel_filters(8192)
    np.testing.assert_allclose(filters.sum(1), 1, rtol=1e-5)
    frequencies = np.arange(4097) * RATE / 8192
    peaks = frequencies[filters.argmax(1)]
    np.testing.assert_allclose(peaks, band_centres(), atol=RATE / 8192)
    for band in range(1, BANDS - 1):
        inside = frequencies[filters[band] > 0]
        assert peaks[band - 1] < inside.min() + 4 and inside.max() - 4 < peaks[band + 1]


def states(task, listening, integrator=None):
    """Positions, velocities and rewards under the same actions."""
    env = control_suite.ControlSuite(task, 'proprioception', seed=3)
    if integrator:
        import mujoco
        env.physics.model.opt.integrator = getattr(mujoco.mjtIntegrator, integrator)
    if listening:
        env.ear = sound.Ear(env.physics, 0.05)
    random, found = np.random.default_rng(0), []
    env.reset()
    for _ in range(100):
        reward = env.step(random.uniform(-1, 1, env.action_space.shape))[1]
        data = env.physics.data
        found.append(np.concatenate([data.qpos, data.qvel, data.sensordata, [reward]]))
    return np.array(found)


def alike(*settings):
    return np.array_equal(*(states(settings[0], listening, *settings[1:])
                            for listening in (False, True)))


# Of a pyramidal and an elliptic friction cone, and one that another integrator advances.
@pytest.mark.parametrize('settings', [
    ('dmc_walker_walk',), ('dmc_finger_turn_hard',), ('dmc_walker_walk', 'mjINT_RK4')])
def test_listening_changes_nothing_of_what_happens(elsewhere, settings):
    assert elsewhere(alike, *settings)


def falls():
    """A walker that falls from a metre: its height, the force on its bodies and the levels at
    each decision; samples of the decisions, what the ear sums up of the ground's force."""
    env = control_suite.ControlSuite('dmc_walker_stand', 'touch,audio', action_repeat=1, seed=1)
    env.reset()
    with env.physics.reset_context():
        env.physics.named.data.qpos['rootz'] = 1.0
    env.ear.begin(np.random.default_rng(0))
    rows, samples = [], []
    for _ in range(160):
        observation, *_, info = env.step(np.zeros(6))
        force = env.ear._last
        rows.append((env.physics.data.ncon, force[0], force[1:].sum(), observation['audio']))
        samples.append(info['sound'])
    weight = env.physics.model.body_subtreemass[0] * 9.81
    return rows, np.array(samples), weight


def test_a_fall_is_heard_when_it_lands_and_what_lies_still_is_quiet(elsewhere):
    rows, samples, weight = elsewhere(falls)
    touching = np.array([row[0] > 0 for row in rows])
    first = touching.argmax()
    peaks = np.array([row[3].max() for row in rows])
    assert first > 5 and peaks[:first - 1].max() < 12  # in the air
    assert peaks[first - 1:first + 2].max() > 40
    assert peaks[-10:].mean() < 25  # it lies
    # What carries it then is its weight, on the ground and on its bodies alike.
    assert rows[-1][1] == pytest.approx(weight, rel=0.1)
    assert rows[-1][1] == pytest.approx(rows[-1][2], rel=1e-6)
    assert samples.shape == (160, 400) and samples.dtype == np.int16  # 25 ms at 16 kHz
    assert np.abs(samples[first - 1:first + 2]).max() > 20 * np.abs(samples[:first - 1]).max()


def struck():
    """The ear of a walker whose torso is struck once, alone, and its next 400 samples."""
    env = control_suite.ControlSuite('dmc_walker_stand', 'audio', action_repeat=1)
    env.reset()
    ear, torso = env.ear, 1
    forces = iter([np.eye(8)[torso] * 280.0] + [np.zeros(8)] * 9)
    ear._forces = lambda: next(forces)
    ear._noise = np.zeros
    for _ in range(10):
        ear._strike()
    samples, _ = ear.listen()
    model = env.physics.model
    return samples / 32767, float(model.body_mass[torso]), float(model.body_subtreemass[0])


def test_a_strike_rings_with_the_tones_of_its_body(elsewhere):
    samples, mass, whole = elsewhere(struck)
    time, expected = np.arange(400) / RATE, 0
    pitch = 600 * mass ** (-1 / 3)
    for partial, strength in (1, 1), (2.756, 0.5), (5.404, 0.25):
        tone = partial * pitch
        expected = expected + 0.1 * 280 / (9.81 * whole) * strength * np.sin(
            2 * np.pi * tone * time) * np.exp(-0.02 * np.pi * tone * time)
    np.testing.assert_allclose(samples, expected, atol=2e-4)
    assert np.abs(samples).max() > 0.05


def cut_short():
    """Audio and samples of an episode of 5 steps, by decisions of 2."""
    env = control_suite.ControlSuite('dmc_walker_walk', 'audio', time_limit=5, seed=2)
    observation, info = env.reset()
    found = [(observation['audio'], info['sound'])]
    for _ in range(3):
        observation, *_, info = env.step(np.zeros(6))
        found.append((observation['audio'], info['sound']))
    return found, info['steps']


def test_the_last_decision_is_heard_with_what_was_before_it_and_written_once(elsewhere):
    found, steps = elsewhere(cut_short)
    assert steps == 1
    for levels, samples in found:
        assert levels.shape == (32,) and 1 < levels.mean() and samples.shape == (800,)
    assert found[-1][1][:400].any() and not found[-1][1][400:].any()
    assert all(samples[400:].any() for _, samples in found[:-1])


def repeated(seed):
    env = control_suite.ControlSuite('dmc_cheetah_run', 'audio', seed=0)
    first = [env.reset(seed=seed)[0]['audio'], env.step(np.ones(6))[0]['audio']]
    env.reset()
    return first


def test_noise_repeats_by_the_seed_of_the_episode(elsewhere):
    one, again, other = (np.array(elsewhere(repeated, seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
