"""Tests of the task `wipe_table`.

This process may hold TensorFlow, beside which OpenGL crashes: what renders runs in the
process of the fixture `elsewhere`.
"""

import warnings

import gymnasium.utils.env_checker
import numpy as np
import pytest

import checks
import environments
import wrappers
from config import Config, UserError
from environments import table, wiping

BEST = 200  # no return is larger


def episode(env, act):
    """(return, dirt left, force on the pad at each decision) of an episode until its end."""
    total, forces, truncated = 0, [], False
    while not truncated:
        observation, reward, terminated, truncated, info = env.step(act(env))
        assert not terminated and info['steps'] == 2
        total += reward
        forces.append(observation['touch'][-1])
    return total, info['dirt'], np.array(forces)


def wiped_by_hand(seeds):
    env = wiping.WipeTable(sensors='touch')
    results = []
    for seed in seeds:
        env.reset(seed=seed)
        results.append(episode(env, wiping.toward_dirt))
    env.close()
    return results


@pytest.mark.parametrize('time_limit, steps', [(0, 400), (100, 100), (400, 400), (1000, 400)])
def test_the_largest_return_is_of_all_marks_at_once_and_then_all_that_is_paid(time_limit, steps):
    settings = Config(task='wipe_table', time_limit=time_limit)
    assert environments.time_limit(settings) == steps
    decisions = steps * wiping.STEP / wiping.PERIOD
    wanted = wiping.SCALE * (wiping.MARK * wiping.MARKS + decisions * (
        wiping.DONE + wiping.CONTACT + wiping.PRESSURE * wiping.STRONGEST))
    assert abs(environments.largest_return(settings) / wanted - 1) < 1e-3
    assert abs(environments.largest_return(Config(task='wipe_table')) - BEST) < 0.1


def test_a_scripted_wiper_cleans_the_table_and_gets_most_of_the_reward(elsewhere):
    for total, dirt, forces in elsewhere(wiped_by_hand, range(4)):
        assert dirt == 0 and len(forces) == 200
        assert 0.8 * BEST < total < BEST
        assert np.median(forces) > wiping.TOUCHES


def acted_at_random(seed, decisions, sizes):
    """Returns of random episodes; the physics is looked at after each decision."""
    env, random = wiping.WipeTable(sensors='touch'), np.random.default_rng(seed)
    data = env.physics.data.ptr
    ours = {env.physics.model.name2id(name, 'geom') for name in ('pad', 'table')}
    env.reset(seed=seed)
    returns, total = [], 0
    for _ in range(decisions):
        observation, reward, _, truncated, _ = env.step(random.choice(sizes) * random.uniform(
            -1, 1, 3).round(random.integers(2)))
        total += reward
        assert np.isfinite(data.qpos).all() and np.abs(data.qvel).max() < 15
        assert np.isfinite(observation['touch']).all() and observation['touch'][-1] < 500
        place, _ = env.sole()
        assert np.abs(place - env.goal).max() < 0.06 and np.abs(place).max() < table.TABLE
        # The arm touches nothing but by its pad.
        for contact in range(data.ncon):
            assert {data.contact[contact].geom1, data.contact[contact].geom2} == ours
        if truncated:
            returns.append(total)
            total = 0
            env.reset()
    assert not data.warning.number.any()
    env.close()
    return returns


@pytest.mark.parametrize('seed', range(3))
def test_the_physics_is_stable_and_random_actions_get_little(elsewhere, seed):
    returns = elsewhere(acted_at_random, seed, 2000, [1])
    assert len(returns) == 10
    assert np.mean(returns) < 0.2 * BEST


def check(sensors):
    env = wiping.WipeTable(sensors=sensors)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        # Forces, places and speeds are not bounded.
        warnings.filterwarnings('ignore', message='.*(minimum|maximum) value is .*infinity.*')
        gymnasium.utils.env_checker.check_env(env, skip_render_check=True)
    space, observation = env.observation_space, env.reset(seed=0)[0]
    assert space.contains(observation)
    env.close()
    return {name: (box.shape, box.dtype.name) for name, box in space.spaces.items()}


def test_gymnasiums_checker_has_nothing_to_say(elsewhere):
    assert elsewhere(check, 'all') == {
        'image': ((64, 64, 3), 'uint8'), 'depth': ((64, 64, 1), 'float16'),
        'touch': ((7,), 'float32')}


def heard():
    """(levels, loudest sample, force) at each decision of an episode by hand; and where the dirt
    of the next one lies with ears and without."""
    env, deaf = wiping.WipeTable(sensors='touch,audio,proprioception'), wiping.WipeTable(
        sensors='touch')
    observation, begun = env.reset(seed=3)
    assert observation['proprioception'].shape == (24,)
    rows = []
    for _ in range(100):
        observation, *_, info = env.step(wiping.toward_dirt(env))
        assert env.observation_space.contains(observation)
        assert np.allclose(observation['proprioception'][:6], np.concatenate(env.sole()))
        # Of the reset too: what an episode holds is what its first entry has.
        assert begun['sound'].shape == info['sound'].shape
        rows.append((observation['audio'].max(), np.abs(info['sound'].astype(int)).max(),
                     observation['touch'][-1]))
    deaf.reset(seed=3)
    places = []
    for one in env, deaf:
        one.reset()
        places.append(one.dirt.places)
        one.close()
    return np.array(rows), places


def test_the_pad_is_heard_where_it_strikes(elsewhere):
    rows, (ours, deaf) = elsewhere(heard)
    levels, loudest, force = rows.T
    first = np.argmax(force > 1)
    assert 1 < first < 20
    assert levels[:first].max() < 10 < 30 < levels[first]
    assert loudest[:first].max() < 200 < 1000 < loudest[first]
    assert levels[-10:].max() < 10 and force[-10:].min() > 1  # at rest, pressed: nothing rises
    assert np.array_equal(ours, deaf)


def pictures(shifts):
    """(image, depth, background) of an episode, and the image after the dirt of the table's
    quarters was put there: at x and y below and above 0."""
    env = wiping.WipeTable()
    first = env.reset(seed=1)[0]
    mask = env.background(first['image'])
    seen = []
    env.physics.data.qpos[0] += 1.5  # the arm points aside
    env.physics.forward()
    for x, y in shifts:
        picture = env.dirt.picture
        picture[:] = table.CLEAN
        rows, columns = (slice(0, 32) if at < 0 else slice(32, 64) for at in (y, x))
        picture[rows, columns] = table.DIRTY
        env.dirt.changed = True
        # Where this quarter's middle is in the picture, by the camera.
        seen.append((env._observe()['image'], projected(env, (0.1 * x, 0.1 * y, 0, 1))))
    env.close()
    return first['image'], first['depth'], mask, seen


def projected(env, point):
    """(row, column) of a place [4] in the picture."""
    from dm_control.mujoco import engine
    camera = engine.Camera(env.physics, 64, 64, 'view')
    column, row, depth = camera.matrix @ point
    return round(row / depth), round(column / depth)


def test_dirt_is_seen_where_it_lies(elsewhere):
    image, depth, mask, seen = elsewhere(pictures, [(-1, -1), (-1, 1), (1, -1), (1, 1)])
    for number, (picture, _) in enumerate(seen):
        for other, (_, place) in enumerate(seen):
            brightness = int(picture[place][0])
            assert (brightness < 130) == (number == other), (number, other, brightness)
    assert (image[mask] == wiping.SKY).all() and 0.2 < mask.mean() < 0.7
    # Centimetres: what is there lies between half a metre and a metre and a half.
    assert (depth[..., 0][mask] > 190).all()
    assert 50 < depth[..., 0][~mask].min() < depth[..., 0][~mask].max() < 160
    # The arm is dark: the suite's rule would erase it.
    arm = ~mask & (image[..., 0] <= wrappers.FOREGROUND)
    assert arm.mean() > 0.03


def with_videos(config):
    env = wrappers.make(config, 'train', 0)
    observation = env.reset(seed=0)[0]
    mask = env.unwrapped.background(None)
    bare = env.unwrapped.readers['image'].read(env.unwrapped)
    env.close()
    return observation['image'], mask, bare


def test_videos_are_put_behind_arm_and_table(elsewhere, config):
    import dataclasses
    image, mask, bare = elsewhere(with_videos, dataclasses.replace(
        config, task='wipe_table', miss_ratio=0.0, time_limit=1000))
    assert np.array_equal(image[~mask], bare[~mask])
    assert len(np.unique(image[mask], axis=0)) > 0.5 * mask.sum()  # the videos are noise


def rewarded():
    """Forces and rewards of pressing at several depths, with the dirt gone and with it far."""
    env = wiping.WipeTable(sensors='touch', action_repeat=1)
    found = []
    for clean in True, False:
        env.reset(seed=0)
        corner = np.array([[0.19, 0.19]])
        env.dirt.places = corner[:0] if clean else corner
        env.dirt.cells = np.array([[62, 62]])[:len(env.dirt.places)]
        for height in 0.05, -0.004, -0.012:
            for _ in range(60):
                way = (np.array([-0.1, 0, height]) - env.goal) / wiping.REACH
                observation, reward, *_ = env.step(np.clip(way, -1, 1))
            place, _ = env.sole()
            away = np.linalg.norm(place - (*corner[0], 0))
            found.append((clean, float(observation['touch'][-1]), float(away), reward))
    env.close()
    return found


def test_reward_is_robosuites_in_proportion(elsewhere):
    kinds = set()
    for clean, force, away, reward in elsewhere(rewarded):
        wanted = 25.5 if clean else 5 * (1 - np.tanh(5 * away))
        kind = int(force > 1) + int(force > 60)
        wanted += (0, 0.01 + 0.01 * force, -0.05 * force)[kind]
        # 50 for each of 100 marks, and 200 twentieths of a second of all that can be had.
        assert reward == pytest.approx(wanted / 2 * 200 / (5000 + 200 * (25.5 + 0.61)), rel=1e-5)
        kinds.add((clean, kind))
    assert len(kinds) == 6


def test_dirt_is_worth_a_hundred_marks_and_lies_within_reach():
    for seed in range(20):
        dirt = table.Dirt(np.random.default_rng(seed))
        assert len(dirt.cells) * dirt.worth == pytest.approx(100)
        assert np.abs(dirt.places).max() < wiping.HIGH[0] + table.PAD[0]
        dark = (dirt.picture == table.DIRTY).all(-1)
        assert dark.sum() == len(dirt.cells) and dark[tuple(dirt.cells.T)].all()
        # A pad that is turned by 45 degrees reaches the corners of a diamond.
        centre, before = dirt.places[0], dirt.places
        turned = np.array([[1, -1], [1, 1]]) / 2 ** 0.5
        wiped = dirt.wipe(centre, turned)
        under = np.abs(before - centre).sum(-1) <= 2 ** 0.5 * table.PAD[0] + 1e-12
        assert wiped == pytest.approx(dirt.worth * under.sum()) and under.any()
        assert len(dirt.places) == (~under).sum()
        assert ((dirt.picture == table.DIRTY).all(-1)).sum() == len(dirt.places)


def repeated(seed):
    """Two environments' touch and rewards, one of which had another episode before."""
    ours = wiping.WipeTable(sensors='touch', seed=seed), wiping.WipeTable(sensors='touch')
    ours[1].reset()
    for _ in range(7):
        ours[1].step(np.array([0.3, 0, -1]))
    found = []
    for env in ours:
        random = np.random.default_rng(0)
        rows = [env.reset(seed=None if env is ours[0] else seed)[0]['touch']]
        for _ in range(40):
            observation, reward, *_ = env.step(random.uniform(-1, 0.5, 3))
            rows.append((*observation['touch'], reward))
        found.append(rows)
        env.close()
    return found


def test_the_seed_repeats_an_episode(elsewhere):
    first, second = elsewhere(repeated, 5)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert np.ptp(np.array(first[1:])[:, 6]) > 1  # it touched the table


def wrong(action):
    env = wiping.WipeTable(sensors='touch')
    env.reset()
    try:
        env.step(action)
    finally:
        env.close()


@pytest.mark.parametrize('action', [np.zeros(2), np.array([0, np.nan, 0])])
def test_a_wrong_action_is_refused(elsewhere, action):
    with pytest.raises(ValueError, match='3 finite numbers'):
        elsewhere(wrong, action)


def test_task_and_sensors_are_checked(elsewhere, tmp_path):
    settings = dict(logdir=str(tmp_path / 'run'), natural=False)
    checks.check(Config(task='wipe_table', **settings))
    with pytest.raises(UserError, match='wipe_table'):
        checks.check(Config(task='wipe_tabel', **settings))
    with pytest.raises(UserError, match='no sensor smell; type --sensors image,depth,touch'):
        elsewhere(wiping.WipeTable, 'wipe_table', 'smell')
