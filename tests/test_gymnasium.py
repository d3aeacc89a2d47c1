"""Tests of the tasks of gymnasium and Atari: of a user's own (corridor.py), whatever is installed,
and of packages, where they are. Nothing here imports TensorFlow, beside which OpenGL crashes."""

import dataclasses
import fractions
import importlib.util
import os
import pathlib
import re
import types
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import assume, given
from hypothesis import strategies as st

import commandline
import environments
import pictures
import wrappers
from config import SENSORS, Method, UserError
from environments import Broken, atari, gymnasium_tasks, spaces

CORRIDOR = 'gym_corridor:Corridor-v0'
RIGHT, LEFT = np.float32([0, 1]), np.float32([1, 0])


def settings(task, *words):
    return commandline.parse(Method('mummi'), ['--logdir', 'unused', '--task', task, *words])


def made(task, *words, miss_ratio='0', seed=0):
    """The environment of a command line, with nothing missing."""
    return wrappers.make(settings(task, '--miss_ratio', miss_ratio, *words), 'train', seed)


def sensors(observation):
    return {name: value for name, value in observation.items() if name in SENSORS}


# --- Observations ---


def test_parts_of_a_dict_become_the_image_and_the_proprioception():
    env = made(CORRIDOR)
    observation, info = env.reset(seed=3)
    place = env.unwrapped._env.unwrapped.place
    seen = sensors(observation)
    assert set(seen) == {'image', 'proprioception'} and info == {}
    # 32 x 64 pixels: two rows of the picture for each of them, the columns as they are.
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 10 * place:10 * place + 10, 0] = 200
    np.testing.assert_array_equal(seen['image'], image)
    # door in zeros and ones, then state.place and state.time.
    np.testing.assert_array_equal(
        seen['proprioception'], [*np.eye(3)[place % 3], place, 0])
    assert seen['proprioception'].dtype == np.float32
    assert env.observation_space.contains(observation)


def test_sensor_map_names_the_parts_and_the_drawn_picture():
    env = made(CORRIDOR, '--sensor_map', 'image=render,proprioception=state.time+state.place',
               '--action_repeat', '2')
    env.reset(seed=0)
    seen = sensors(env.step(RIGHT)[0])
    place = env.unwrapped._env.unwrapped.place
    np.testing.assert_array_equal(seen['proprioception'], [2, place])
    assert seen['image'].shape == (64, 64, 3)
    assert set(seen['image'].reshape(-1, 3).max(0)) == {7, 50 * place}


def test_choices_alone_are_ones_and_zeros_and_what_cannot_be_drawn_is_not():
    env = made('gym_FrozenLake-v1', '--sensors', 'proprioception')
    assert env.observation_space['proprioception'].shape == (16,)
    env = made('gym_corridor:Endless-v0')
    assert set(sensors(env.observation_space)) == {'proprioception'}  # it cannot draw


def test_parts_of_a_sensor_s_name_are_that_sensor():
    env = made('gym_corridor:Seen-v0')
    seen = sensors(env.reset()[0])
    assert set(seen) == {'image', 'depth', 'touch'}
    assert np.all(seen['image'] == [0, 128, 255]) and seen['image'].dtype == np.uint8
    depth = (np.arange(128 * 128).reshape(128, 128) / 1000).reshape(64, 2, 64, 2).mean((1, 3))
    np.testing.assert_allclose(seen['depth'][..., 0], depth, rtol=1e-3)
    np.testing.assert_array_equal(seen['touch'], [3, 4])
    assert env.observation_space.contains(env.reset()[0])


def test_pictures_that_no_sensor_reads_are_named_and_not_taken_for_numbers():
    env = made('gym_corridor:Cameras-v0')
    assert {name: space.shape for name, space in env.observation_space.items()
            if name in SENSORS} == {'image': (64, 64, 3), 'proprioception': (7,)}
    assert tuple(env.unwrapped.unread) == ('far', 'frames')
    env = made('gym_corridor:Cameras-v0', '--sensor_map', 'depth=far')
    assert env.observation_space['depth'].shape == (64, 64, 1)
    assert tuple(env.unwrapped.unread) == ('frames',)
    assert made('gym_corridor:Seen-v0').unwrapped.unread == {
        'side': ('image=side', 'proprioception=side')}
    assert made(CORRIDOR).unwrapped.unread == {}


def test_numbers_beside_a_part_that_is_called_proprioception_are_named():
    env = made('gym_corridor:Sought-v0')
    assert env.observation_space['proprioception'].shape == (3,)
    assert env.unwrapped.unread == {'goal': ('proprioception=proprioception+goal',)}
    env = made('gym_corridor:Sought-v0', '--sensor_map', 'proprioception=proprioception+goal')
    assert env.observation_space['proprioception'].shape == (5,) and not env.unwrapped.unread
    assert not made('gym_corridor:Sought-v0', '--sensors', 'image').unwrapped.unread


def test_a_picture_is_what_its_space_says_whatever_its_numbers_come_as():
    seen = sensors(made('gym_corridor:Sought-v0').reset()[0])
    assert (seen['image'] == 100).all()  # bytes, as floats
    ones = np.ones((64, 64, 3), int)
    for kind in int, np.uint8, np.int8, bool:
        assert (spaces.picture(ones.astype(kind), np.float32) == 255).all()
    assert (spaces.picture(ones) == 1).all()
    # Bytes where the space says shares of 1 can be nothing else.
    assert (spaces.picture(np.full((64, 64, 3), 100, np.uint8), np.float32) == 100).all()


def test_a_task_that_draws_and_takes_no_size_is_drawn():
    assert made('gym_corridor:Plain-v0').reset()[0]['image'].shape == (64, 64, 3)


@pytest.mark.parametrize('reward, wanted', [
    (2, 2.0), (np.array([1.5]), 1.5), (np.float32(3), 3.0), (True, 1.0),
    (fractions.Fraction(1, 2), 0.5), (2 ** 70, 2.0 ** 70)])
def test_a_reward_is_one_number(reward, wanted):
    assert gymnasium_tasks.number(reward) == wanted


@pytest.mark.parametrize('reward', [None, np.zeros(2), 'much'])
def test_what_is_no_reward_is_told(reward):
    with pytest.raises(Broken, match='its reward is .*, and no number'):
        gymnasium_tasks.number(reward)


def test_actions_stay_within_the_largest_bounds_that_there_are():
    most = np.iinfo(np.int64).max
    _, whole = spaces.control(gymnasium.spaces.Box(0, most, (2,), np.int64))
    assert whole(np.float32([-1, 1])).tolist() == [0, most]
    far = np.finfo(np.float64).max
    _, numbers = spaces.control(gymnasium.spaces.Box(-far, far, (3,), np.float64))
    assert numbers(np.float32([-1, 0, 1])).tolist() == [-far, 0, far]


def test_a_new_picture_in_the_table_of_sensors_is_one_of_a_task_too(monkeypatch):
    monkeypatch.setitem(SENSORS, 'wrist', dataclasses.replace(SENSORS['image'], by_name=True))
    for words in ('--sensor_map', 'wrist=side'), ('--sensor_map', 'image=side,wrist=image'):
        env = made('gym_corridor:Seen-v0', *words)
        seen = env.reset()[0]
        assert seen['wrist'].shape == (64, 64, 3) and seen['wrist'].dtype == np.uint8
        key = 'side' if words[1] == 'wrist=side' else 'image'
        assert seen['wrist'].any() == (key == 'image') and seen['image'].any() != (key == 'image')


def test_a_new_picture_of_distances_is_read_and_drawn_as_depth_is(monkeypatch):
    row = dataclasses.replace(SENSORS['depth'], by_name=True)
    for name, words in ('wrist', ['--sensor_map', 'wrist=far']), ('far', []):
        monkeypatch.setitem(SENSORS, name, row)
        seen = made('gym_corridor:Cameras-v0', *words).reset()[0]
        assert seen[name].shape == (64, 64, 1) and seen[name].dtype == np.float16
        with pytest.raises(UserError, match='cannot be the wrist'):  # colours are no distances
            made('gym_corridor:Cameras-v0', '--sensor_map', 'wrist=frames')
        metres = np.geomspace(1, 8, 64 * 64).reshape(64, 64, 1)
        np.testing.assert_array_equal(
            pictures.pixels(name, metres), pictures.pixels('depth', metres))
        monkeypatch.delitem(SENSORS, name)
        monkeypatch.setitem(SENSORS, 'wrist', row)


@pytest.mark.parametrize('shape, kind, channels', [
    ((64, 64, 3), np.uint8, 3), ((1, 20, 20), np.uint8, 1), ((3, 84, 84), np.uint8, 3),
    ((96, 96), np.uint8, 1), ((64, 48, 4), np.uint8, 4), ((7, 7, 3), np.uint8, 0),
    ((64, 64, 12), np.uint8, 0), ((64,), np.uint8, 0), ((4, 84, 84), np.uint8, 0)])
def test_pictures_are_told_from_tables(shape, kind, channels):
    assert spaces.channels(gymnasium.spaces.Box(0, 255, shape, kind)) == channels
    if channels:
        values = np.random.default_rng(0).integers(0, 256, shape).astype(kind)
        found = spaces.picture(values)
        assert found.shape == (64, 64, 3) and found.dtype == np.uint8
        assert abs(found.mean() - (values[..., :3] if channels == 4 else values).mean()) < 3
        assert (channels == 1) == np.all(found == found[..., :1])


def test_a_depth_that_says_nothing_is_there_is_the_farthest():
    for value in np.full((64, 64), 65535, np.uint16), np.full((64, 64), np.inf):
        found = spaces.distances(value)
        assert found.dtype == np.float16 and (found == 65504).all()


@pytest.mark.parametrize('words, parts', [
    (['--sensor_map', 'image=smell'], ['observes no smell', 'rgb', 'state.place', 'render']),
    (['--sensor_map', 'image=door'], ['door', 'cannot be the image', 'Discrete(3)']),
    (['--sensor_map', 'proprioception=note'], ['note', 'cannot be the proprioception']),
    (['--sensor_map', 'depth=render'], ['cannot be the depth', 'the picture that it draws']),
    (['--sensor_map', 'image=render+rgb'], ['render+rgb', 'cannot be the image']),
    (['--sensor_map', 'proprioception=door+render'], ['cannot be the proprioception']),
    (['--sensors', 'touch'], ['no sensor touch', '--sensors image,proprioception']),
    (['--sensors', 'rgb'], ['takes all, or some of', '--sensor_map', 'image=rgb']),
])
def test_sensors_that_a_task_cannot_have_are_named(words, parts):
    with pytest.raises(UserError) as caught:
        made(CORRIDOR, *words)
    assert all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize('task, parts', [
    ('gym_corridor:Corridoor-v0', ['no task gym_corridor:Corridoor-v0', 'Corridor']),
    ('gym_nowhere:Task-v0', ['no module nowhere', 'PYTHONPATH']),
    ('gym_json.nowhere:Task-v0', ['no module json.nowhere', 'PYTHONPATH']),
    ('gym_.nowhere:Task-v0', ['no module .nowhere', 'PYTHONPATH']),
    ('gym_corridor:Deaf-v0', ['observes nothing']),
    ('gym_corridor:Board-v0', ['observes nothing', '--sensor_map proprioception=observation']),
    ('gym_HalfCheetah-v3', ['cannot be built', 'gymnasium-robotics']),
    ('gym_corridor:Mute-v0', ['gym_corridor:Mute-v0', 'MultiDiscrete']),
    ('gym_corridor:Still-v0', ['gym_corridor:Still-v0', 'have no numbers']),
    ('gym_corridor:Unasked-v0', ['takes no render_mode', '--sensors']),
    ('corridor:Corridor-v0', ['did you mean --task gym_corridor:Corridor-v0']),
    ('Walker2d-v5', ['did you mean --task gym_Walker2d-v5']),
])
def test_tasks_that_cannot_be_used_are_answered_in_a_line(task, parts):
    with pytest.raises(UserError) as caught:
        made(task)
    assert all(part in str(caught.value) for part in parts) and '\n' not in str(caught.value)


@pytest.mark.parametrize('task, kind', [('Undrawn', 'NoneType'), ('UndrawnList', 'list')])
def test_what_is_drawn_and_is_no_picture_is_told_and_can_be_left_out(task, kind):
    env = made(f'gym_corridor:{task}-v0')
    with pytest.raises(UserError, match=f'no picture but {kind}; leave the image out by --sensors'):
        env.reset()
    env = made(f'gym_corridor:{task}-v0', '--sensors', 'proprioception')
    assert list(sensors(env.reset()[0])) == ['proprioception']


def test_task_of_the_page_is_what_the_page_says(tmp_path, monkeypatch):
    page = (pathlib.Path(wrappers.__file__).parent / 'docs' / 'tasks.md').read_text('utf-8')
    (tmp_path / 'my_tasks.py').write_text(
        re.search(r'```python\n(# my_tasks.py.*?)```', page, re.DOTALL)[1])
    monkeypatch.syspath_prepend(tmp_path)
    command = re.search(r'--task gym_my_tasks:.*(?= --dry_run)', page)[0].split()
    env = made(command[1], *command[2:])
    check_env(env, skip_render_check=True)
    seen = sensors(env.reset(seed=1)[0])
    assert {name: value.shape for name, value in seen.items()} == {
        'image': (64, 64, 3), 'depth': (64, 64, 1), 'proprioception': (2,)}
    assert env.unwrapped.unread == {}
    random = np.random.default_rng(0)
    for _ in range(200):
        seen, reward, *ends, _ = env.step(random.uniform(-1, 1, 2))
        assert np.isfinite(reward) and 49 < seen['depth'].min() < seen['depth'].max() < 91
        assert seen['image'].any()
    assert ends == [False, True]


# --- Steps ---


def played(env, action, seed=0):
    """(rewards, terminated, truncated, steps) of an episode of one action."""
    env.reset(seed=seed)
    rows = []
    while not rows or not (rows[-1][1] or rows[-1][2]):
        _, reward, terminated, truncated, info = env.step(action)
        rows.append((reward, terminated, truncated, info['steps']))
    return [list(column) for column in zip(*rows)]


def test_ends_and_limits_are_the_task_s():
    env = made(CORRIDOR)
    rewards, terminated, truncated, steps = played(env, RIGHT)
    start = int(5 - len(rewards) - 1)
    assert rewards == list(range(start + 1, 5)) and steps == [1] * len(rewards)
    assert terminated[-1] and not truncated[-1]
    rewards, terminated, truncated, _ = played(env, LEFT)
    assert len(rewards) == 6 and truncated[-1] and not any(terminated)


def test_action_repeat_sums_rewards_and_counts_the_steps_really_made():
    one, two = made(CORRIDOR), made(CORRIDOR, '--action_repeat', '2')
    for seed in range(5):
        alone, *_ = played(one, RIGHT, seed)
        sums, terminated, _, steps = played(two, RIGHT, seed)
        assert sums == [sum(alone[place:place + 2]) for place in range(0, len(alone), 2)]
        assert sum(steps) == len(alone) and terminated[-1]


@pytest.mark.parametrize('words, length', [(['--time_limit', '60'], 60), ([], None)])
def test_time_limit_is_the_given_one_or_bounds_what_has_none(words, length, monkeypatch):
    monkeypatch.setattr(gymnasium_tasks, 'LONGEST', 9)
    rewards, _, truncated, _ = played(made('gym_corridor:Endless-v0', *words), np.zeros(
        2, np.float32))
    assert len(rewards) == (length or 9) and truncated[-1]


def test_a_decision_ends_with_the_limit():
    rewards, terminated, truncated, steps = played(made(CORRIDOR, '--action_repeat', '4'), LEFT)
    assert (steps, terminated, truncated) == ([4, 2], [False, False], [False, True])
    alone = played(made(CORRIDOR), LEFT)[0]
    assert rewards == [sum(alone[:4]), sum(alone[4:])]


def test_an_id_without_its_version_has_a_limit_too(monkeypatch):
    monkeypatch.setattr(gymnasium_tasks, 'LONGEST', 9)
    rewards, _, truncated, _ = played(made('gym_corridor:Endless'), np.zeros(2, np.float32))
    assert len(rewards) == 9 and truncated[-1]


def test_a_part_of_the_name_of_what_is_drawn_is_the_part():
    env = made('gym_corridor:Painted-v0')
    assert set(sensors(env.observation_space)) == {'image', 'proprioception'}
    assert set(env.reset()[0]['image'].ravel()) == {9}
    env = made('gym_corridor:Painted-v0', '--sensor_map', 'image=render')
    assert set(env.reset()[0]['image'].ravel()) == {9}


def test_a_module_that_this_project_has_too_is_named(tmp_path, monkeypatch):
    (tmp_path / 'wrappers.py').write_text('')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='this project has a module wrappers of its own'):
        made('gym_wrappers:Corridor-v0')


def test_episodes_repeat_by_their_seeds():
    def seen(env, **words):
        return [env.reset(**words)[0]['proprioception'].tolist() for _ in range(8)]
    assert seen(made(CORRIDOR, seed=5)) == seen(made(CORRIDOR, seed=5))
    assert seen(made(CORRIDOR, seed=5)) != seen(made(CORRIDOR, seed=6))
    env = made(CORRIDOR)
    assert len({str(seen(env, seed=1)) for _ in range(3)}) == 1


# --- Actions ---


def test_numbers_are_rescaled_to_the_bounds_of_the_task():
    env = made('gym_corridor:Endless-v0')
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    env.reset()
    # -1 .. 3, and 10 .. infinity, of which 10 .. 12 are used.
    for action, wanted in ([-1, -1], [-1, 10]), ([1, 1], [3, 12]), ([0, 0.5], [1, 11.5]):
        observation, reward, *_ = env.step(np.float32(action))
        np.testing.assert_allclose(observation['proprioception'], wanted)
        assert reward == wanted[0]
    for wrong in [0], [np.nan, 0]:
        with pytest.raises(ValueError, match='2 finite numbers'):
            env.step(np.float32(wrong))


@given(st.tuples(*2 * [st.floats(-1e6, 1e6)]).filter(lambda pair: pair[0] < pair[1]),
       st.sampled_from([np.float64, np.float32]))
def test_the_largest_actions_are_within_the_bounds(bounds, kind):
    low, high = (kind(bound) for bound in bounds)
    assume(low < high)
    space = gymnasium.spaces.Box(low, high, (1,), kind)
    ends = [spaces.control(space)[1](np.float32([number])) for number in (-1, 1)]
    assert all(space.contains(action) for action in ends)
    np.testing.assert_allclose(ends, [[low], [high]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('low, high, numbers, kind', [
    (-1, 1, range(-1, 2), np.int64), (0, 10, range(11), np.uint8), (0, 1, range(2), bool),
    (-np.inf, np.inf, range(-1, 2), np.int64), (5, np.inf, range(5, 8), np.int32)])
def test_of_whole_numbers_each_has_an_equal_share(low, high, numbers, kind):
    space = gymnasium.spaces.Box(low, high, (66000,), kind)
    _, to_task = spaces.control(space)
    taken = to_task(np.linspace(-1, 1, 66000, dtype=np.float32))
    assert space.contains(taken)
    values, counts = np.unique(taken, return_counts=True)
    assert values.tolist() == list(numbers)
    np.testing.assert_allclose(counts, 66000 / len(numbers), rtol=0.01)


@pytest.mark.parametrize('space', [
    gymnasium.spaces.Discrete(5, start=-2), gymnasium.spaces.MultiDiscrete([2, 3]),
    gymnasium.spaces.MultiDiscrete([[2], [3]], start=[[1], [5]]), gymnasium.spaces.MultiBinary(3)])
def test_every_choice_of_a_space_is_one_of_the_agent_s(space):
    ours, to_task = spaces.control(space)
    assert isinstance(ours, spaces.OneHot) and ours.shape == (ours.n,)
    theirs = [to_task(choice) for choice in np.eye(ours.n, dtype=np.float32)]
    assert all(space.contains(action) for action in theirs)
    different = {str(np.asarray(action).tolist()) for action in theirs}
    drawn = {str(np.asarray(space.sample()).tolist()) for _ in range(300)}
    assert len(different) == ours.n and drawn == different
    assert all(ours.contains(x) and sorted(x) == [0] * (ours.n - 1) + [1] for x in (
        ours.sample() for _ in range(20)))


@pytest.mark.parametrize('space', [
    gymnasium.spaces.MultiBinary(2000), gymnasium.spaces.MultiDiscrete([10] * 400)])
def test_more_choices_than_any_number_holds_are_refused(space):
    with pytest.raises(UserError, match='of up to 1024 combinations'):
        spaces.control(space)


def test_numbers_as_large_as_a_picture_are_read_where_they_are_named():
    env = made('gym_corridor:Board-v0', '--sensor_map', 'proprioception=observation')
    np.testing.assert_array_equal(env.reset()[0]['proprioception'], np.eye(20).ravel())


@pytest.mark.parametrize('kind', [np.int64, np.uint16, np.int16])
def test_a_picture_of_whole_numbers_is_one_of_bytes(kind):
    found = spaces.picture(np.full((64, 64, 3), [7, 128, 300], kind))
    assert found[0, 0].tolist() == [7, 128, 255]
    assert spaces.picture(np.eye(64, dtype=bool))[:2, :2, 0].tolist() == [[255, 0], [0, 255]]


def test_a_picture_of_numbers_keeps_within_what_bytes_hold():
    found = spaces.picture(np.full((64, 64, 3), [-0.02, 0.5, 1.02]))
    assert found[0, 0].tolist() == [0, 128, 255]
    with pytest.raises(environments.Broken, match='not finite'):
        spaces.picture(np.full((64, 64, 3), np.nan))


# --- Families ---


INSTALLED = {name: importlib.util.find_spec(name) is not None for name in (
    'ale_py', 'minigrid', 'gymnasium_robotics', 'pygame')}


def needs(package):
    return pytest.mark.skipif(
        not INSTALLED[package], reason=f'{package} is not installed (requirements-tasks.txt)')


def check(task, *words):
    """What gymnasium asks of every environment; and the observation of a reset."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        check_env(made(task, *words, miss_ratio='0.1'), skip_render_check=True)
    env = made(task, *words)
    observation = sensors(env.reset(seed=1)[0])
    if 'image' in observation:
        assert np.ptp(observation['image']) > 0
    env.close()
    return env.action_space, {name: value.shape for name, value in observation.items()}


@pytest.mark.parametrize('task', [
    CORRIDOR, 'gym_corridor:Endless-v0'])
def test_own_tasks_pass_gymnasium_s_check(task):
    check(task)


@pytest.mark.parametrize('task, sensors_', [
    ('gym_CartPole-v1', {'proprioception': (4,)}), ('gym_Pendulum-v1', {'proprioception': (3,)})])
def test_classic_control_needs_no_package_for_its_numbers(task, sensors_):
    assert check(task, '--sensors', 'proprioception')[1] == sensors_


@needs('pygame')
def test_classic_control_is_drawn():
    assert check('gym_Pendulum-v1')[1] == {'image': (64, 64, 3), 'proprioception': (3,)}


@needs('minigrid')
def test_minigrid_is_drawn_whole():
    actions, found = check('gym_MiniGrid-Empty-5x5-v0', '--sensors', 'image')
    assert (actions.n, found) == (7, {'image': (64, 64, 3)})


@pytest.mark.parametrize('module, told', [
    ('OpenGL.raw.EGL', True), ('mujoco.egl', True), ('mujoco.renderer', False), ('mujoco', False),
    ('my_task', False), ('glfw_tasks_of_mine', False)])
def test_an_error_of_the_tasks_own_drawing_is_no_lack_of_opengl(module, told):
    namespace = {'__name__': module}
    exec('def draw():\n    raise KeyError("own")', namespace)
    assert gymnasium_tasks.of_graphics(type('FatalError', (Exception,), {})())

    class Drawn(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        metadata, render_mode = {'render_modes': ['rgb_array']}, 'rgb_array'
        mujoco_renderer = None

        def reset(self, **_):
            return np.zeros(2, np.float32), {}

        def render(self):
            return namespace['draw']()
    task = gymnasium_tasks.SensorTask(Drawn(), settings('gym_own', '--sensors', 'image',
                                                        '--sensor_map', 'image=render'), 0)
    with pytest.raises(UserError if told else KeyError, match='OpenGL' if told else 'own'):
        task.reset()


def test_pygame_draws_unseen_for_gymnasiums_own_tasks_too(monkeypatch):
    for name in 'SDL_VIDEODRIVER', 'SDL_AUDIODRIVER', 'PYGAME_HIDE_SUPPORT_PROMPT':
        monkeypatch.setenv(name, 'x')
        monkeypatch.delenv(name)
    gymnasium_tasks.make(settings('gym_CartPole-v1', '--sensors', 'proprioception'), 0).close()
    assert os.environ['SDL_VIDEODRIVER'] == os.environ['SDL_AUDIODRIVER'] == 'dummy'


def test_mujoco_tasks_render(elsewhere):
    space, found = elsewhere(check, 'gym_Walker2d-v5')
    assert space.shape == (6,) and found == {'image': (64, 64, 3), 'proprioception': (17,)}


@needs('gymnasium_robotics')
def test_robotics_tasks_render(elsewhere):
    assert elsewhere(check, 'gym_AdroitHandDoor-v1')[1]['proprioception'] == (39,)


def test_of_a_game_the_last_two_frames_are_seen_and_no_earlier_one():
    class Blinking(gymnasium.Env):
        """A pixel that moves on with each frame."""

        def reset(self, **_):
            self.time = 0
            return self.frame(), {}

        def step(self, action):
            self.time += 1
            return self.frame(), 0.0, False, False, {}

        def frame(self):
            return np.uint8(np.arange(6) == self.time)

    env = atari.LastTwoFrames(Blinking())
    seen = [env.reset()[0], *(env.step(0)[0] for _ in range(4))]
    for time, frame in enumerate(seen):
        assert np.flatnonzero(frame).tolist() == [t for t in (time - 1, time) if t >= 0]


@needs('ale_py')
def test_atari_is_under_the_usual_protocol():
    actions, found = check('atari_pong')
    assert (actions.n, found) == (6, {'image': (64, 64, 3)})
    assert check('atari_space_invaders', '--full_actions')[0].n == 18
    env = made('atari_pong')
    ale = env.unwrapped._env.unwrapped.ale
    assert ale.getFloat('repeat_action_probability') == 0.25
    assert ale.getInt('max_num_frames_per_episode') == 108000
    begun = set()
    for seed in range(20):
        env.reset(seed=seed)
        begun.add(ale.getEpisodeFrameNumber())
        assert env.step(actions.sample())[-1] == {'steps': 4}
    assert len(begun) > 5 and max(begun) - min(begun) <= 30
    with pytest.raises(UserError, match='did you mean --task atari_pong'):
        made('atari_pung')


@pytest.mark.parametrize('task, package', [
    ('gym_MiniGrid-Empty-5x5-v0', 'minigrid'), ('atari_pong', 'ale_py'),
    ('gym_AdroitHandDoor-v1', 'gymnasium_robotics')])
def test_missing_package_is_named_with_what_to_type(task, package, monkeypatch):
    def gone(name):
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)
    monkeypatch.setattr(gymnasium_tasks.importlib, 'import_module', gone)
    with pytest.raises(UserError, match=rf'{package}; type .*-r requirements-tasks\.txt'):
        {'gym': gymnasium_tasks, 'atari': atari}[task.split('_')[0]].make(settings(task), 0)


@pytest.mark.parametrize('metadata, drawn', [
    ({'render_modes': ['human', 'rgb_array']}, True), ({'render_modes': None}, False), ({}, False),
    (None, False)])
def test_a_task_that_says_nothing_of_drawing_draws_nothing(metadata, drawn):
    task = types.SimpleNamespace(metadata=metadata)
    assert gymnasium_tasks.draws(task) == drawn
