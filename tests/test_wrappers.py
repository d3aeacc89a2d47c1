"""Tests of the environments.

This process may hold TensorFlow, beside which OpenGL crashes: what renders runs in the
process of the fixture `elsewhere`, or in workers.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import wrappers
from config import Config, UserError

ROOT = pathlib.Path(wrappers.__file__).parent
TOUCH = {'walker_walk': 2, 'cheetah_run': 2, 'quadruped_walk': 4, 'ball_in_cup_catch': 1}


@pytest.fixture(scope='module')
def elsewhere():
    """Runs a function of this file in a process without TensorFlow."""
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        def run(function, *arguments):
            with wrappers._spawning():
                future = pool.submit(function, *arguments)
            return future.result()
        yield run


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    path = tmp_path_factory.mktemp('natural') / 'videos.pkl'
    random = np.random.default_rng(0)
    path.write_bytes(pickle.dumps(random.integers(0, 256, (3, 5, 3, 64, 64), np.uint8)))
    return str(path)


@pytest.fixture
def config(videos):
    return Config(natural_train=videos, natural_valid=videos, time_limit=6)


def equal(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[key], second[key]) for key in first)


def run_script(tmp_path, text, **arguments):
    path = tmp_path / 'script.py'
    path.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(path)], env=os.environ | {'PYTHONPATH': str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **arguments)


def test_import_brings_neither_tensorflow_nor_simulator(tmp_path):
    out, err = run_script(tmp_path, (
        'import sys, wrappers\n'
        'print([name for name in ("tensorflow", "dm_control", "mujoco") if name in sys.modules])'
    )).communicate()
    assert out == '[]\n', err


# --- ControlSuite ---

def suite_environment(task, seed, render):
    """The suite's own environment and its rendering function."""
    suite = wrappers._suite()
    environment = suite.load(*task.rsplit('_', 1), task_kwargs={'random': seed})
    model = environment.physics.model
    if render == 'light':
        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        model.mat_reflectance[:] = 0
    camera = 2 if task.startswith('quadruped') else 0
    return environment, lambda depth: environment.physics.render(
        64, 64, camera_id=camera, depth=depth)


def side_by_side(task, render, steps, look_every):
    """Steps the suite's environment and ours; returns ours' observations."""
    theirs, picture = suite_environment(task, 3, render)
    ours = wrappers.ControlSuite(f'dmc_{task}', action_repeat=1, render=render, seed=3)
    bounds, random = theirs.action_spec(), np.random.default_rng(0)
    theirs.reset()
    observations = [ours.reset()[0]]
    for step in range(steps):
        if step % look_every == 0:
            image, depth = picture(depth=False), picture(depth=True)
            assert np.array_equal(observations[-1]['image'], image)
            assert np.array_equal(observations[-1]['depth'][..., 0], depth.astype(np.float16))
            assert np.ptp(image) > 100 and np.ptp(depth) > 1
            assert 0.001 < (image[..., 0] > wrappers.FOREGROUND).mean() < 0.999
        action = random.uniform(-1, 1, bounds.shape).astype(np.float32)
        time_step = theirs.step(
            (bounds.maximum + bounds.minimum) / 2 + (bounds.maximum - bounds.minimum) / 2 * action)
        observation, reward, terminated, truncated, info = ours.step(action)
        observations.append(observation)
        physics = ours._environment.physics
        assert np.array_equal(theirs.physics.data.qpos, physics.data.qpos), step
        assert reward == time_step.reward
        assert (terminated, truncated, info) == (False, False, {})
    ours.close()
    theirs.physics.free()
    return observations


@pytest.mark.parametrize('task', TOUCH)
def test_touch_leaves_physics_and_pictures_as_the_suite_has_them(elsewhere, task):
    observations = elsewhere(side_by_side, task, 'light', 200, 50)
    touch = np.stack([observation['touch'] for observation in observations])
    assert touch.shape == (201, TOUCH[task]) and touch.dtype == np.float32
    assert (touch >= 0).all()
    if task != 'ball_in_cup_catch':  # where a random action catches no ball
        assert (touch > 0).any(axis=0).all()


def test_full_visuals_are_the_suite_s(elsewhere):
    elsewhere(side_by_side, 'walker_walk', 'full', 4, 1)


def catch():
    env = wrappers.ControlSuite('dmc_ball_in_cup_catch', 'touch')
    before = env.reset()[0]['touch'][0]
    data = env._environment.physics.named.data
    data.qpos['cup_z'] = data.qpos['cup_x'] = data.qpos['ball_x'] = 0
    data.qpos['ball_z'] = 0.6 - 0.2 - 0.06  # in the cup, a little above its floor
    for _ in range(50):
        observation = env.step(np.zeros(2))[0]
    weight = env._environment.physics.named.model.body_mass['ball'] * 9.81
    env.close()
    return before, observation['touch'][0], weight


def test_cup_feels_the_weight_of_the_ball_in_newtons(elsewhere):
    before, after, weight = elsewhere(catch)
    assert before == 0
    assert after == pytest.approx(weight, rel=0.1)


def every_task():
    suite = wrappers._suite()
    for domain, name in suite.ALL_TASKS:
        env = wrappers.ControlSuite(f'dmc_{domain}_{name}')
        env.reset()
        observation = env.step(env.action_space.sample())[0]
        assert env.observation_space.contains(observation), (domain, name)
        assert np.ptp(observation['image']) > 50, (domain, name)
        assert np.ptp(observation['depth']) > 0, (domain, name)
        assert np.isfinite(observation['depth']).all(), (domain, name)
        env.close()
    return len(suite.ALL_TASKS)


def test_every_task_of_the_suite_loads_and_renders(elsewhere):
    assert elsewhere(every_task) >= 40


def decisions(action_repeat):
    env = wrappers.ControlSuite(
        'dmc_walker_stand', 'touch', action_repeat=action_repeat, time_limit=10, seed=1)
    env.reset()
    ends, rewards = [], []
    while not (ends and any(ends[-1])):
        _, reward, *end, _ = env.step(np.full(6, 0.5))
        rewards.append(reward)
        ends.append(end)
    return rewards, ends


def test_action_repeat_sums_rewards_and_time_limit_truncates(elsewhere):
    single, ends = elsewhere(decisions, 1)
    assert ends == [[False, False]] * 9 + [[False, True]]
    assert len(set(single)) > 5
    repeated, ends = elsewhere(decisions, 3)
    assert ends == [[False, False]] * 3 + [[False, True]]
    np.testing.assert_allclose(
        repeated, [sum(single[start:start + 3]) for start in range(0, 10, 3)])


def long_episode():
    env = wrappers.ControlSuite(
        'dmc_finger_spin', 'touch', action_repeat=2000, time_limit=1500)
    env.reset()
    return env.step(np.zeros(2))[2:4], env._steps


def test_the_suite_s_own_time_limit_does_not_count(elsewhere):
    assert elsewhere(long_episode) == ((False, True), 1500)


def rest():
    env = wrappers.ControlSuite('dmc_lqr_lqr_2_1', 'depth', action_repeat=3)
    env.reset()
    physics = env._environment.physics
    env.step(np.full(1, 0.5))
    control = physics.data.ctrl.copy()
    with physics.reset_context():
        physics.data.qpos[:] = 0
    return control, env.step(np.zeros(1))[1:4]


def test_unbounded_control_and_termination_of_lqr(elsewhere):
    control, (reward, terminated, truncated) = elsewhere(rest)
    assert control.tolist() == [0.5]
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(1)  # of one control step: the other two are not taken


def actions():
    env = wrappers.ControlSuite('dmc_quadruped_walk', 'touch')
    env.reset()
    specification, controls = env._environment.action_spec(), []
    for action in (-1, 0, 1, 7):
        env.step(np.full(12, action))
        controls.append(env._environment.physics.data.ctrl.copy())
    refused = []
    for action in (np.full(12, np.nan), np.full(12, np.inf), np.zeros(1)):
        try:
            env.step(action)
        except ValueError as error:
            refused.append(str(error))
    return specification.minimum, specification.maximum, controls, refused


def test_actions_are_rescaled_and_checked(elsewhere):
    low, high, controls, refused = elsewhere(actions)
    assert not np.allclose(high, 1)
    np.testing.assert_allclose(controls, [low, (low + high) / 2, high, high])
    assert len(refused) == 3 and all('12 finite numbers' in message for message in refused)


def constant_frame():
    env = wrappers.ControlSuite('dmc_pendulum_swingup', 'image')
    env._render = lambda: env._image.fill(7)
    try:
        env.reset()
    except UserError as error:
        return str(error)


def test_constant_frame_is_an_error(elsewhere):
    message = elsewhere(constant_frame)
    assert 'libegl1' in message and 'MUJOCO_GL=osmesa' in message


# --- Layers, on an environment of numbers ---

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


@pytest.fixture(scope='module')
def description(videos):
    return wrappers.describe(Config(natural_train=videos, natural_valid=videos))


def test_description(description):
    spaces = description.observation_space.spaces
    assert description.sensors == ('image', 'depth', 'touch')
    assert {name: (space.shape, space.dtype.name) for name, space in spaces.items()} == {
        'image': ((64, 64, 3), 'uint8'), 'image_flag': ((1,), 'float32'),
        'depth': ((64, 64, 1), 'float16'), 'depth_flag': ((1,), 'float32'),
        'touch': ((2,), 'float32'), 'touch_flag': ((1,), 'float32')}
    assert description.action_space == gymnasium.spaces.Box(-1, 1, (6,), np.float32)


def test_vector_aligns_episodes_and_hears_no_ctrl_c(config, description):
    main = sys.modules['__main__']
    envs = wrappers.vector(config, 'train', 2, description, seed=0)
    try:
        assert sys.modules['__main__'] is main
        first, infos = envs.reset(options={'miss_ratio': 0})
        assert infos == {} and first['image'].shape == (2, 64, 64, 3)
        assert not np.array_equal(first['depth'][0], first['depth'][1])
        kept = {name: value.copy() for name, value in first.items()}
        previous = first
        for worker in envs.processes:
            os.kill(worker.pid, signal.SIGINT)
        for step in range(1, 9):  # 6 steps an episode are 3 decisions, then comes a reset
            observation, reward, terminated, truncated, infos = envs.step(
                np.full((2, 6), np.nan) if step % 4 == 0 else np.ones((2, 6), np.float32))
            assert infos == {} and not terminated.any()
            assert truncated.tolist() == [step % 4 == 3] * 2
            assert (reward == 0).tolist() == [step % 4 == 0] * 2
            assert all(observation[f'{name}_flag'].all() for name in description.sensors)
            assert not np.array_equal(observation['depth'], previous['depth'])
            previous = observation
        assert equal(first, kept)  # a returned observation is the caller's
        with pytest.warns(UserWarning), pytest.raises(ValueError, match='6 finite numbers'):
            envs.step(np.full((2, 6), np.nan))
    finally:
        envs.close(terminate=True)


def test_vector_repeats_by_seed_split_and_worker(config, description):
    config = dataclasses.replace(config, natural=False)

    def first(split, seed):
        envs = wrappers.vector(config, split, 1, description, seed)
        observation = envs.reset(options={'miss_ratio': 0})[0]
        envs.close()
        return observation
    same, again = first('train', 1), first('train', 1)
    assert equal(same, again)
    for split, seed in (('train', 2), ('valid', 1)):
        assert not np.array_equal(first(split, seed)['depth'], same['depth'])


UNGUARDED = '''
print('main script runs as', __name__, flush=True)
import sys, pickle, time
import config, wrappers
config = config.Config(natural=False)
description = wrappers.describe(config)
envs = wrappers.vector(config, 'train', 2, description, 0)
envs.reset()
print('simulator here:', 'dm_control' in sys.modules, flush=True)
time.sleep(60)
'''


def test_workers_run_no_main_script_and_end_with_a_killed_parent(tmp_path):
    process = run_script(tmp_path, UNGUARDED)
    lines = [process.stdout.readline() for _ in range(2)]
    assert lines == ['main script runs as __main__\n', 'simulator here: False\n']
    process.kill()
    out, err = process.communicate(timeout=20)  # its end: all holders of the pipes are gone
    assert out == '' and 'Traceback' not in err


class Hostile:
    """A configuration that ends the process that reads it."""

    def __init__(self, error):
        self.error = error
        self.seed = 0

    @property
    def task(self):
        if self.error == 'crash':
            os.kill(os.getpid(), signal.SIGSEGV)
        raise ZeroDivisionError


@pytest.mark.parametrize('changes, words', [
    (dict(task='dmc_walker_wakl'), 'dmc_walker_walk'),
    (dict(task='dmc_humanoid_cmu_run'), 'dmc_humanoid_CMU_run'),
    (dict(task='dmc_cartpole_balance', sensors='image,touch'), 'no sensor touch'),
    (dict(natural_train='nowhere.pkl'), 'nowhere.pkl'),
    (dict(natural_valid='nowhere.pkl'), 'nowhere.pkl'),
])
def test_describe_says_what_is_wrong(config, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        wrappers.describe(dataclasses.replace(config, **changes))
    assert '\n' not in str(caught.value)


def test_describe_without_opengl(config, monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'egl')
    monkeypatch.setenv('MUJOCO_EGL_DEVICE_ID', '99')
    with pytest.raises(UserError, match=r'libegl1 .* MUJOCO_GL=osmesa'):
        wrappers.describe(config)


def test_describe_survives_a_crash():
    with pytest.raises(UserError, match=r'SIGSEGV.*libegl1'):
        wrappers.describe(Hostile('crash'))
    with pytest.raises(UserError, match='reason above'):
        wrappers.describe(Hostile('error'))


def test_a_sensor_may_be_chosen_and_lacking_ones_are_left_out(config):
    for changes, sensors in (
            (dict(task='dmc_cartpole_balance'), ('image', 'depth')),
            (dict(sensors='touch,depth'), ('depth', 'touch'))):
        description = wrappers.describe(dataclasses.replace(config, **changes))
        assert description.sensors == sensors
