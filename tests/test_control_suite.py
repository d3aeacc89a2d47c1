"""Tests of the tasks of the control suite.

This process may hold TensorFlow, beside which OpenGL crashes: what renders runs in the
process of the fixture `elsewhere`, or in workers.
"""

import logging

import numpy as np
import pytest

import environments
import wrappers
from config import Config, UserError
from environments import control_suite

TOUCH = {'walker_walk': 2, 'cheetah_run': 2, 'quadruped_walk': 4, 'ball_in_cup_catch': 1}

def suite_environment(task, seed, render):
    """The suite's own environment and its rendering function."""
    suite = control_suite._suite()
    environment = suite.load(*task.rsplit('_', 1), task_kwargs={'random': seed})
    model = environment.physics.model
    if render == 'light':
        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        model.mat_reflectance[:] = 0
    camera = control_suite.CAMERAS.get(task.split('_')[0], 0)
    return environment, lambda depth: environment.physics.render(
        64, 64, camera_id=camera, depth=depth)


def checked(task):
    import warnings

    from gymnasium.utils.env_checker import check_env
    env = wrappers.make(Config(task=f'dmc_{task}', natural=False), 'train', seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warnings.filterwarnings('ignore', message='.*(minimum|maximum) value is .*infinity.*')
        warnings.filterwarnings('ignore', message='.*different from the unwrapped version.*')
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize('task', ['walker_walk', 'ball_in_cup_catch'])
def test_gymnasiums_checker_has_nothing_to_say(task, elsewhere):
    elsewhere(checked, task)


def side_by_side(task, render, steps, look_every):
    """Steps the suite's environment and ours; returns ours' observations."""
    theirs, picture = suite_environment(task, 3, render)
    ours = control_suite.ControlSuite(f'dmc_{task}', action_repeat=1, render=render, seed=3)
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
        physics = ours.physics
        assert np.array_equal(theirs.physics.data.qpos, physics.data.qpos), step
        assert reward == time_step.reward
        assert (terminated, truncated, info) == (False, False, {'steps': 1})
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


def thrown(task):
    """What becomes of an episode whose body is much too fast."""
    env = wrappers.make(Config(task=task, natural=False, sensors='touch'), 'train', 0)
    env.reset(seed=0)
    env.unwrapped.physics.data.qvel[:] = 1e12
    try:
        env.step(np.zeros(env.action_space.shape, np.float32))
    except environments.Broken as error:
        return str(error)


@pytest.mark.parametrize('task', ['dmc_walker_walk', 'wipe_table'])
def test_an_unstable_simulation_breaks_its_episode(elsewhere, task):
    """And not the run, which begins another: both families that dm_control simulates."""
    assert 'its simulation is unstable: Physics state is invalid' in elsewhere(thrown, task)


def test_full_visuals_are_the_suite_s(elsewhere):
    elsewhere(side_by_side, 'walker_walk', 'full', 4, 1)


def catch():
    env = control_suite.ControlSuite('dmc_ball_in_cup_catch', 'touch')
    before = env.reset()[0]['touch'][0]
    data = env.physics.named.data
    data.qpos['cup_z'] = data.qpos['cup_x'] = data.qpos['ball_x'] = 0
    data.qpos['ball_z'] = 0.6 - 0.2 - 0.06  # in the cup, a little above its floor
    for _ in range(50):
        observation = env.step(np.zeros(2))[0]
    weight = env.physics.named.model.body_mass['ball'] * 9.81
    env.close()
    return before, observation['touch'][0], weight


def test_cup_feels_the_weight_of_the_ball_in_newtons(elsewhere):
    before, after, weight = elsewhere(catch)
    assert before == 0
    assert after == pytest.approx(weight, rel=0.1)


def share_in_the_picture(env):
    """How many of the bodies that actuators move have their middle in the picture."""
    import mujoco
    physics = env.physics
    model, joints = physics.model, mujoco.mjtTrn.mjTRN_JOINT
    moved = model.actuator_trnid[model.actuator_trntype == joints, 0]
    moved = moved if len(moved) else np.arange(model.njnt)  # by tendons of all joints
    roots = set(model.body_rootid[model.jnt_bodyid[moved]])
    places = [place for body, place in enumerate(physics.data.xipos)
              if body and model.body_rootid[body] in roots]
    across, down, depth = env.camera._camera.matrix @ np.c_[places, np.ones(len(places))].T
    across, down = across / depth, down / depth
    return ((depth < 0) & (across > 0) & (across < 64) & (down > 0) & (down < 64)).mean()


def every_task():
    suite, said = control_suite._suite(), []
    log = logging.getLogger('absl')
    handler = logging.NullHandler()
    handler.handle = said.append
    log.addHandler(handler)
    for domain, name in suite.ALL_TASKS:
        env = control_suite.ControlSuite(f'dmc_{domain}_{name}')
        env.reset()
        observation = env.step(env.action_space.sample())[0]
        assert env.observation_space.contains(observation), (domain, name)
        assert np.ptp(observation['image']) > 50, (domain, name)
        assert np.ptp(observation['depth']) > 0, (domain, name)
        assert np.isfinite(observation['depth']).all(), (domain, name)
        seen = [share_in_the_picture(env) for seed in range(3) if env.reset(seed=seed)]
        assert np.mean(seen) > (0.8 if domain == 'lqr' else 0.99), (domain, name, seen)
        env.close()
    log.warning('afterwards')
    assert [record.msg for record in said] == ['afterwards']
    return len(suite.ALL_TASKS)


def test_every_task_of_the_suite_loads_renders_and_shows_its_body(elsewhere):
    assert elsewhere(every_task) >= 40


def felt(task):
    """Our proprioception beside the suite's own observations, under the same actions."""
    domain, name = task.rsplit('_', 1)
    theirs = control_suite._suite().load(domain, name, task_kwargs={'random': 3})
    ours = control_suite.ControlSuite(f'dmc_{task}', 'proprioception', action_repeat=1, seed=3)
    random, specification = np.random.default_rng(0), theirs.action_spec()
    pairs = [(ours.reset()[0]['proprioception'], theirs.reset().observation)]
    for _ in range(20):
        action = random.uniform(-1, 1, specification.shape)
        pairs.append((ours.step(action)[0]['proprioception'], theirs.step(action).observation))
    return pairs, ours.observation_space['proprioception'].shape


@pytest.mark.parametrize('task, size', [('walker_walk', 24), ('hopper_hop', 15)])
def test_proprioception_is_the_suite_s_own_observation(elsewhere, task, size):
    pairs, shape = elsewhere(felt, task)
    assert shape == (size,)
    for ours, theirs in pairs:
        assert ours.dtype == np.float32 and ours.shape == shape
        parts = [np.ravel(part) for part in theirs.values()]
        assert len(parts) > 1
        np.testing.assert_array_equal(ours, np.concatenate(parts).astype(np.float32))


def sensors_of(task, sensors):
    try:
        env = control_suite.ControlSuite(task, sensors)
    except UserError as error:
        return str(error)
    return list(env.readers)


def test_all_is_image_depth_and_touch_and_the_others_are_there_by_name(elsewhere):
    assert elsewhere(sensors_of, 'dmc_walker_walk', 'all') == ['image', 'depth', 'touch']
    assert elsewhere(sensors_of, 'dmc_walker_walk', 'audio,image,proprioception') == [
        'image', 'proprioception', 'audio']
    # Nothing touches anything in these.
    for task in 'dmc_fish_swim', 'dmc_acrobot_swingup', 'dmc_lqr_lqr_2_1':  # nothing can touch
        assert 'has no sensor audio' in elsewhere(sensors_of, task, 'audio')
    assert elsewhere(sensors_of, 'dmc_reacher_easy', 'image,audio') == (
        'dmc_reacher_easy has no sensor audio; type --sensors image,depth,proprioception, or '
        'some of them')


def decisions(action_repeat):
    env = control_suite.ControlSuite(
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
    env = control_suite.ControlSuite(
        'dmc_finger_spin', 'touch', action_repeat=2000, time_limit=1500)
    env.reset()
    *_, terminated, truncated, info = env.step(np.zeros(2))
    return (terminated, truncated), info['steps']


def test_the_suite_s_own_time_limit_does_not_count(elsewhere):
    assert elsewhere(long_episode) == ((False, True), 1500)


def rest():
    env = control_suite.ControlSuite('dmc_lqr_lqr_2_1', 'depth', action_repeat=3)
    env.reset()
    physics = env.physics
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
    env = control_suite.ControlSuite('dmc_quadruped_walk', 'touch')
    env.reset()
    specification, controls = env.environment.action_spec(), []
    for action in (-1, 0, 1, 7):
        env.step(np.full(12, action))
        controls.append(env.physics.data.ctrl.copy())
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
    env = control_suite.ControlSuite('dmc_pendulum_swingup', 'image')
    env.camera.draw = lambda: env.camera.image.fill(7)
    try:
        env.reset()
    except UserError as error:
        return str(error)


def test_constant_frame_is_an_error(elsewhere):
    message = elsewhere(constant_frame)
    assert 'libegl1' in message and 'MUJOCO_GL=osmesa' in message
