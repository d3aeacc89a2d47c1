"""Tests of the environments in processes of their own."""

import dataclasses
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from hostile import Hostile
from test_wrappers import equal

import processes
import workers
from acting import Driver
from config import Config, UserError

ROOT = pathlib.Path(processes.__file__).parent


def run_script(tmp_path, text, **arguments):
    path = tmp_path / 'script.py'
    path.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(path)], env=os.environ | {'PYTHONPATH': str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **arguments)


def test_import_brings_neither_tensorflow_nor_simulator(tmp_path):
    out, err = run_script(tmp_path, (
        'import sys, processes\n'
        'print([name for name in ("tensorflow", "dm_control", "mujoco") if name in sys.modules])'
    )).communicate()
    assert out == '[]\n', err


@pytest.fixture(scope='module')
def description(videos):
    return processes.describe(Config(natural_train=videos, natural_valid=videos))


def test_description(description):
    spaces = description.observation_space.spaces
    assert description.sensors == ('image', 'depth', 'touch')
    assert {name: (space.shape, space.dtype.name) for name, space in spaces.items()} == {
        'image': ((64, 64, 3), 'uint8'), 'image_flag': ((1,), 'float32'),
        'depth': ((64, 64, 1), 'float16'), 'depth_flag': ((1,), 'float32'),
        'touch': ((2,), 'float32'), 'touch_flag': ((1,), 'float32')}
    assert description.action_space == gymnasium.spaces.Box(-1, 1, (6,), np.float32)


def test_vector_aligns_episodes_and_hears_no_ctrl_c(config, description):
    main, config = sys.modules['__main__'], dataclasses.replace(config, stagger=False)
    envs = processes.vector(config, 'train', 2, description, seed=0)
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
            assert not terminated.any()
            assert ('steps' in infos) == (step % 4 != 0)  # a reset has made none
            assert (infos.get('steps', 2) == np.array([2, 2])).all()
            assert truncated.tolist() == [step % 4 == 3] * 2
            assert (reward == 0).tolist() == [step % 4 == 0] * 2
            assert all(observation[f'{name}_flag'].all() for name in description.sensors)
            assert not np.array_equal(observation['depth'], previous['depth'])
            previous = observation
        assert equal(first, kept)  # a returned observation is the caller's
        with pytest.raises(ValueError, match='6 finite numbers'):
            envs.step(np.full((2, 6), np.nan))
    finally:
        envs.close()


def test_environments_that_collect_end_one_after_the_other(config, description):
    config = dataclasses.replace(config, natural=False, time_limit=12, action_repeat=2)
    for split, ends in ('train', [[2, 9, 16], [4, 11, 18], [6, 13]]), ('valid', [[6, 13]] * 3):
        envs = processes.vector(config, split, 3, description, seed=0)
        driver = Driver(envs, config.action_repeat)
        found, cuts, lengths = [[] for _ in range(3)], [], []
        try:
            driver.reset([0, 1, 2])
            for decision in range(1, 19):
                for row, episode in driver.step(lambda *_: np.zeros((3, 6), np.float32)):
                    found[row].append(decision)
                    lengths.append(len(episode['reward']))
                    if driver.cut[row]:
                        cuts.append((row, lengths.pop()))
        finally:
            envs.close()
        assert found == ends and set(lengths) == {7}
        assert cuts == ([(0, 3), (1, 5)] if split == 'train' else [])


def test_vector_repeats_by_seed_split_and_worker(config, description):
    config = dataclasses.replace(config, natural=False)

    def first(split, seed):
        envs = processes.vector(config, split, 1, description, seed)
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
import config, processes
config = config.Config(natural=False)
description = processes.describe(config)
envs = processes.vector(config, 'train', 2, description, 0)
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


@pytest.mark.parametrize('changes, words', [
    (dict(task='dmc_walker_wakl'), 'dmc_walker_walk'),
    (dict(task='dmc_humanoid_cmu_run'), 'dmc_humanoid_CMU_run'),
    (dict(task='dmc_cartpole_balance', sensors='image,touch'), 'no sensor touch'),
    (dict(natural_train='nowhere.pkl'), 'nowhere.pkl'),
    (dict(natural_valid='nowhere.pkl'), 'nowhere.pkl'),
])
def test_describe_says_what_is_wrong(config, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        processes.describe(dataclasses.replace(config, **changes))
    assert '\n' not in str(caught.value)


def test_describe_of_a_finished_agent_needs_the_videos_of_evaluation_alone(config, description):
    found = processes.describe(dataclasses.replace(
        config, natural_train='nowhere.pkl', test=True))
    assert found.sensors == description.sensors
    with pytest.raises(UserError, match='nowhere.pkl'):
        processes.describe(dataclasses.replace(config, natural_valid='nowhere.pkl', test=True))


def test_describe_without_opengl(config, monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'egl')
    monkeypatch.setenv('MUJOCO_EGL_DEVICE_ID', '99')
    with pytest.raises(UserError, match=r'libegl1 .* MUJOCO_GL=osmesa'):
        processes.describe(config)


@pytest.mark.parametrize('value', ['foo', 'EGL', 'egl '])
def test_a_wrong_mujoco_gl_names_its_value(config, monkeypatch, value, capfd):
    monkeypatch.setenv('MUJOCO_GL', value)
    with pytest.raises(UserError, match=f"MUJOCO_GL is '{value}'.*egl, osmesa or glfw") as caught:
        processes.describe(config)
    assert '\n' not in str(caught.value) and 'libegl1' not in str(caught.value)
    assert 'Traceback' not in capfd.readouterr().err


def test_an_empty_mujoco_gl_is_none(config, monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', '')
    assert 'image' in processes.describe(config).sensors


ENDINGS = [(signal.SIGSEGV, r'SIGSEGV.*libegl1'), (signal.SIGKILL, r'killed .*SIGKILL.*--envs'),
           (None, 'reason above')]


@pytest.mark.parametrize('ending, words', ENDINGS)
def test_an_environment_that_ends_while_it_is_built_is_one_line(ending, words, description):
    with pytest.raises(UserError, match=words) as caught:
        processes.describe(Hostile(ending))
    assert '\n' not in str(caught.value)
    with pytest.raises(UserError, match=words) as caught:
        processes.vector(Hostile(ending), 'train', 2, description, seed=0)
    assert 'environment 0' in str(caught.value) or 'environment 1' in str(caught.value)


def quick(config, **changes):
    return dataclasses.replace(
        config, natural=False, miss_ratio=0.0, sensors='touch', stagger=False, **changes)


@pytest.mark.parametrize('ending, words, limit', [
    (signal.SIGSEGV, 'environment 1 crashed: SIGSEGV', 60),
    (signal.SIGKILL, 'environment 1 was killed .*SIGKILL.*--envs', 60),
    (signal.SIGSTOP, 'environment 1 gave no answer for 15 seconds', 15)])
def test_a_dead_environment_begins_anew_and_the_others_go_on(
        config, description, ending, words, limit, capsys, monkeypatch, unread):
    """Dropped is its own episode alone; at the third death without a whole one the run stops."""
    envs = processes.vector(quick(config, env_timeout=limit), 'train', 2, description, seed=0)
    first, _ = envs.reset(seed=[5, 6])
    actions = np.ones((2, 6), np.float32)
    _, reward, *_ = envs.step(actions)
    os.kill(envs.processes[1].pid, ending)
    envs.shown['touch'][1] = np.nan  # as if it had died when it wrote
    observation, rewards, terminated, truncated, infos = envs.step(actions)
    np.testing.assert_array_equal(observation['touch'][1], first['touch'][1])
    assert infos['again'].tolist() == [False, True] and infos['steps'].tolist() == [2, 0]
    assert rewards[0] != 0 and rewards[1] == 0 and not (terminated | truncated).any()
    said = capsys.readouterr().out
    assert re.search(words, said) and said.count('\n') == 1 and 'Traceback' not in said
    assert 'libegl1' not in said  # it had rendered before
    # Its episode is that of the seed that it had, from the beginning.
    _, reward_again, *_ = envs.step(actions)
    assert reward_again[1] == reward[1] and envs.seeds == [5, 6]
    if ending == signal.SIGSEGV:
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'stdout', unread())  # so of what is said of the second
            os.kill(envs.processes[1].pid, ending)
            assert envs.step(actions)[4]['again'].tolist() == [False, True]
        os.kill(envs.processes[1].pid, ending)
        with pytest.raises(UserError, match='3 times without a whole episode.*last checkpoint'):
            envs.step(actions)
        assert not any(process.is_alive() for process in envs.processes)
    envs.close()


def test_an_error_that_cannot_be_told_to_another_process_is_told_by_its_words():
    class Local(Exception):
        pass

    for error, kind in (Local('robot fell'), RuntimeError), (
            UnicodeDecodeError('ascii', b'x', 0, 1, 'no'), UnicodeDecodeError), (
            Two(3, 'port'), RuntimeError), (
            # This would be told as the lack of a reader, of open files, or of a file of the run.
            BrokenPipeError(32, 'Broken pipe'), RuntimeError), (
            BlockingIOError(11, 'again'), RuntimeError), (
            FileNotFoundError(2, 'No such file', 'robot.xml'), FileNotFoundError), (
            # Of a module that the other process need not have.
            gymnasium.error.Error('robot fell'), RuntimeError):
        try:
            raise error
        except Exception as raised:
            found = pickle.loads(workers._sendable(raised))
        assert type(found) is kind and 'in the environment:\nTraceback' in found.__notes__[-1]
        assert str(error) in str(found) or str(error) in found.__notes__[-1]
    assert pickle.loads(workers._sendable((1, 2))) == (1, 2)


class Two(Exception):
    """One that cannot be made again from its words alone."""

    def __init__(self, code, where):
        super().__init__(f'{code} at {where}')


def test_a_reward_that_no_replay_holds_is_none():
    """Rewards are stored in float32, where 1e39 is infinite."""
    for reward in (0, -3e38, 3e38):
        workers.checked({}, reward)
    for reward in (1e39, -1e39, np.inf, np.nan):
        with pytest.raises(workers.Broken, match='its reward is'):
            workers.checked({}, reward)


@pytest.mark.parametrize('action, words', [
    (1, 'its reward is nan'), (-1, 'a number of its proprioception is not finite')])
def test_an_episode_with_numbers_that_are_not_finite_is_dropped_as_if_it_had_died(
        config, action, words, capsys):
    """Not to the replay with it, where each update that met it would not be finite either."""
    ill = dataclasses.replace(
        config, task='gym_corridor:Ill-v0', natural=False, miss_ratio=0.0, time_limit=100)
    envs = processes.vector(ill, 'train', 2, processes.describe(ill), seed=0)
    envs.reset(seed=[5, 6])
    well, one = np.zeros((2, 2), np.float32), np.array([[0, 0], [action, 0]], np.float32)
    for _ in range(2):
        assert envs.step(well)[1].tolist() == [2, 2]  # two steps with a reward of 1
        observation, rewards, _, _, infos = envs.step(one)
        assert infos['again'].tolist() == [False, True] and rewards.tolist() == [2, 0]
        assert not observation['proprioception'][1].any()  # that of a reset
        said = capsys.readouterr().out
        assert f'environment 1 cannot go on, as {words}; it is started again' in said
        assert said.count('\n') == 1
    with pytest.raises(UserError, match=f'{words}; 3 times without a whole episode'):
        envs.step(one)
    for name, words in ('IllBorn', 'a number of its propri'), (
            'Misshapen', r'its proprioception is \(1,\), and its space says \(2,\)'):
        with pytest.raises(UserError, match=f'gym_corridor:{name}-v0 .*, as {words}'):
            processes.describe(dataclasses.replace(ill, task=f'gym_corridor:{name}-v0'))


def test_an_episode_is_played_again_by_its_seed_and_its_actions(config, description):
    """Also one of a row, as the seeds after the first come from it; and one that has ended."""
    envs = processes.vector(quick(config), 'train', 2, description, seed=0)
    try:
        random = np.random.default_rng(0)
        envs.reset(seed=[5, 6])
        taken, rewards = [], []
        for _ in range(9):  # the third decision ends an episode, the fourth resets
            actions = random.uniform(-1, 1, (2, 6)).astype(np.float32)
            taken.append(actions)
            observation, reward, *_ = envs.step(actions)
            rewards.append(reward)
        assert envs.seeds[0] == processes.following(processes.following(5))
        seeds = list(envs.seeds)
        played = envs.play(seeds, [[a[0] for a in taken[8:]], None], [True, True])
        assert [answer[1] for answer in played[0]] == [0, rewards[8][0]]
        np.testing.assert_array_equal(played[0][-1][0]['touch'], observation['touch'][0])
        assert len(played[1]) == 1
        wanted = envs.step(actions)
        assert envs.seeds == [seeds[0], processes.following(seeds[1])] and wanted[1][1] == 0
    finally:
        envs.close()


class Reusing(gymnasium.Env):
    """One that gives the same array each time, of another type than its space says."""

    def __init__(self):
        self.position = np.zeros(1)

    def reset(self, *, seed=None, options=None):
        self.position[:] = seed
        return {'touch': self.position}, {}

    def step(self, action):
        self.position += action
        return {'touch': self.position}, float(self.position[0]), False, False, {}


def test_an_episode_that_is_played_again_is_held_as_it_was_seen():
    rows = {'touch': np.zeros(1, np.float32)}
    played = list(workers._play(Reusing(), rows, 5, [1.0, 2.0], True))
    assert [answer[0]['touch'].tolist() for answer in played] == [[5], [6], [8]]
    assert [answer[1] for answer in played] == [0, 6, 8]
    assert {answer[0]['touch'].dtype for answer in played} == {np.dtype(np.float32)}


def test_an_episode_that_ends_sooner_than_it_did_is_played_to_its_end(config, description):
    """Its length may have changed since, and a step beyond an end is an error of many tasks."""
    envs = processes.vector(quick(config), 'train', 2, description, seed=0)
    try:
        still = np.zeros(6, np.float32)
        one, other = envs.play([5, 6], [[still] * 7, [still] * 2], [True, True])
        assert [answer[3] for answer in one] == [False] * 3 + [True] and len(other) == 3
        assert envs.reset(seed=[5, 6])[0]['touch'].shape == (2, 2)  # all answers were read
    finally:
        envs.close()


def test_an_error_where_an_episode_is_played_again_is_a_line_and_a_new_episode(config, capsys):
    refusing = numbers(config, 'Refusing')
    envs = processes.vector(refusing, 'train', 2, processes.describe(refusing), seed=0)
    try:
        still, wrong = np.zeros(2, np.float32), np.ones(2, np.float32)
        assert envs.play([5, 6], [[still, wrong, still], [still] * 3], [True, True]) is None
        assert capsys.readouterr().out.count(
            'environment 0 ended its unfinished episode by UserError: no\n') == 1
        observation, _ = envs.reset(seed=[5, 6])
        assert not observation['proprioception'].any()
    finally:
        envs.close()


def gone(pid):
    """Whether a process ends within some seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    return False


BRIDGED = """
import signal, time
for number in signal.SIGHUP, signal.SIGINT:
    signal.signal(number, lambda *_: None)
import config, processes
config = config.Config(task='gym_corridor:Bridged-v0', natural=False, miss_ratio=0.0)
envs = processes.vector(config, 'train', 1, processes.describe(config), 0)
print(int(envs.reset()[0]['proprioception'][0, 0]), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize('fault', ['', 'hangs', 'forks'])
def test_what_an_environment_started_ends_with_it(fault, config):
    bridged = numbers(config, f'Bridged{fault}')
    envs = processes.vector(bridged, 'train', 2, processes.describe(bridged), seed=0)
    started = envs.reset()[0]['proprioception'][:, 0].astype(int)
    begun = time.monotonic()
    envs.close()
    assert time.monotonic() - begun < (1 if fault != 'hangs' else workers.LEAVE + 1)
    assert all(gone(pid) for pid in started)


@pytest.mark.parametrize('name, words', [
    ('Bridged', {'sensor_map': 'image=nothing'}), ('Bridgedfails', {})])
def test_what_was_started_for_an_environment_that_cannot_begin_is_ended(
        name, words, config, tmp_path, monkeypatch):
    monkeypatch.setenv('TOLD', str(tmp_path / 'told'))
    with pytest.raises(UserError, match='observes no nothing|ended, for the reason above'):
        processes.describe(numbers(config, name, **words))
    told = (tmp_path / 'told').read_text().split()
    assert 2 * told.count('closed') == len(told) > 0
    assert all(gone(int(pid)) for pid in told if pid != 'closed')


def test_what_an_environment_started_ends_with_a_run_that_is_killed_and_not_with_its_terminal():
    parent = subprocess.Popen(
        [sys.executable, '-c', BRIDGED], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
        env=os.environ | {'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}'})
    child = int(parent.stdout.readline())
    os.killpg(parent.pid, signal.SIGHUP)  # which the run handles
    os.killpg(parent.pid, signal.SIGINT)
    time.sleep(0.3)
    state = pathlib.Path(f'/proc/{child}/stat').read_text().rpartition(')')[2].split()[0]
    assert state != 'Z'  # ended, and not yet asked for by who started it
    parent.kill()
    parent.wait(30)
    assert gone(child)


def numbers(config, name, **changes):
    return dataclasses.replace(
        config, task=f'gym_corridor:{name}-v0', natural=False, miss_ratio=0.0, time_limit=100,
        **changes)


def test_an_environment_that_hangs_is_a_line_wherever_it_does(config):
    """While it is built, and where an episode is played again, within the time of one answer."""
    with pytest.raises(UserError, match='builds the environment gave no answer for 5 seconds'):
        processes.describe(numbers(config, 'HangingBorn', env_timeout=5))
    hanging = numbers(config, 'Hanging', env_timeout=5)
    envs = processes.vector(hanging, 'valid', 1, processes.describe(hanging), seed=0)
    try:
        still, hang = np.zeros(2, np.float32), np.ones(2, np.float32)
        assert len(envs.play([3], [[still] * 49], [True])[0]) == 50
        begun = time.monotonic()
        assert envs.play([3], [[still] * 49 + [hang]], [True]) is None
        assert time.monotonic() - begun < 60  # and not 50 times as long as an answer may take
    finally:
        envs.close()


def test_what_was_stopped_together_with_who_asks_has_not_been_silent(monkeypatch):
    """As by Ctrl-Z and fg, or a job that was suspended."""
    clock = iter([0, 0.2, 0.4, 3600, 3600.2])
    monkeypatch.setattr(workers.time, 'monotonic', lambda: next(clock))
    answers = iter([False] * 4 + [True])
    found = list(workers.silence(lambda milliseconds: next(answers)))
    assert found == pytest.approx([0.2, 0.4, 0.8, 1.0])


def test_any_time_may_be_given_to_an_environment(config):
    assert processes.describe(numbers(config, 'Endless', env_timeout=1e12))


def test_a_signal_without_a_name_is_told_by_its_number():
    assert 'crashed: signal 35' in str(workers.ended('it', -35, rendered=True))


HANGING = '''
import sys
import numpy as np
import config, processes
config = config.Config(task='gym_corridor:Hanging-v0', natural=False, miss_ratio=0.0)
envs = processes.vector(config, 'valid', 1, processes.describe(config), 0)
envs.reset()
print(envs.processes[0].pid, flush=True)
envs.step(np.ones((1, 2), np.float32))
'''


@pytest.mark.parametrize('ending', [signal.SIGTERM, signal.SIGKILL])
def test_an_environment_that_hangs_ends_with_its_parent(ending):
    parent = subprocess.Popen(
        [sys.executable, '-c', HANGING], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env=os.environ | {'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}'})
    child = int(parent.stdout.readline())
    time.sleep(0.5)  # for the step
    parent.send_signal(ending)
    parent.wait(30)
    for _ in range(300):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail('the environment lives on')


def test_seeds_are_one_each_or_one_to_count_from(config):
    config = numbers(config, 'Endless')
    envs = processes.vector(config, 'valid', 2, processes.describe(config), seed=0)
    try:
        envs.reset(seed=2 ** 32 - 1)
        assert envs.seeds == [2 ** 32 - 1, 0]
        envs.reset(seed=7)
        assert envs.seeds == [7, 8]
        envs.reset(seed=[3, None])
        assert envs.seeds == [3, processes.following(8)]
        for wrong in [0], [0, 1, 2]:
            with pytest.raises(ValueError, match=f'{len(wrong)} seeds for 2 environments'):
                envs.reset(seed=wrong)
    finally:
        envs.close()


@pytest.mark.parametrize('name, action, error', [
    ('Endless', np.nan, (AssertionError, ValueError)), ('Refusing', 1, UserError)])
def test_after_an_error_of_one_environment_the_others_answer_to_the_step_that_is_asked(
        config, name, action, error):
    config = numbers(config, name)
    envs = processes.vector(config, 'valid', 3, processes.describe(config), seed=0)
    try:
        envs.reset()
        with pytest.raises(error):
            envs.step(np.array([[0, 0], [action, 0], [0, 0]], np.float32))
        actions = np.zeros((3, 2), np.float32)
        actions[:, 0] = -1, 0, 0.5  # of -1 to 3, which is the reward of each of two steps
        assert envs.step(actions)[1].tolist() == [-2, 2, 4]
    finally:
        envs.close()


@pytest.mark.parametrize('whole', [False, True])
def test_an_episode_that_goes_on_is_cut_only_where_it_is_the_first(config, description, whole):
    """Of two staggered environments the first has its first episode cut after the half."""
    staggered = dataclasses.replace(quick(config), stagger=True, time_limit=12)
    envs = processes.vector(staggered, 'train', 2, description, seed=0)
    try:
        still = np.zeros((2, 6), np.float32)
        envs.play([5, 6], [list(still[:1])] * 2, [whole, whole])
        envs.step(still)
        assert envs.step(still)[3].tolist() == [not whole, False]  # decision 3 of 6
    finally:
        envs.close()


def test_a_sensor_may_be_chosen_and_lacking_ones_are_left_out(config):
    for changes, sensors in (
            (dict(task='dmc_cartpole_balance'), ('image', 'depth')),
            (dict(sensors='touch,depth'), ('depth', 'touch'))):
        description = processes.describe(dataclasses.replace(config, **changes))
        assert description.sensors == sensors
