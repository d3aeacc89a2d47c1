"""`--test` and `--inspect`: what they find, and that they leave the run as it was."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import acting
import commandline
import config
import evaluation
import inspection
from precision import Precision

ROOT = pathlib.Path(config.__file__).parent


def script(*words):
    return subprocess.run(
        [sys.executable, 'mummi.py', *map(str, words)], cwd=ROOT, text=True,
        capture_output=True, timeout=300)


def contents(folder, left_out=()):
    """Path -> digest of every file of a run but those named."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob('*') if path.is_file()
        and path.relative_to(folder).parts[0] not in left_out}


@pytest.fixture(scope='module')
def judged(tmp_path_factory):
    """(folder of a small run, its files before judging, tables and outputs of two tests, output of
    an inspection)."""
    # A name that is none of a user's, but one that a file system takes.
    folder = tmp_path_factory.mktemp('judged') / '-[a-z]*?%41\\ \n{ü}$x: \'' / 'run'
    result = script(
        '--logdir', folder, '--preset', 'debug', '--steps', 300, '--picture_size', 32)
    assert result.returncode == 0, result.stderr[-2000:]
    before, tables, outputs = contents(folder), [], []
    assert any(name.startswith('state-') for name in before)
    for _ in range(2):
        result = script(
            '--logdir', folder, '--test', '--test_episodes', 3, '--test_ratios', '0,0.1')
        assert result.returncode == 0, result.stderr[-2000:]
        tables.append(pd.read_csv(folder / 'results.csv', keep_default_na=False))
        outputs.append(result.stdout)
    result = script('--logdir', folder, '--inspect')
    assert result.returncode == 0, result.stderr[-2000:]
    return folder, before, tables, outputs, result.stdout


def test_same_seeds_give_the_same_numbers_and_replace_the_rows(judged):
    _, _, (first, second), outputs, _ = judged
    pd.testing.assert_frame_equal(first, second)
    assert outputs[0].split('\n\n')[-1] == outputs[1].split('\n\n')[-1]


def test_every_condition_has_every_episode(judged):
    _, _, (table, _), _, _ = judged
    groups = table.groupby(['condition', 'sensor', 'ratio']).size()
    assert groups.to_dict() == {
        ('ratio', '', 0.0): 3, ('ratio', '', 0.1): 3,
        **{(condition, sensor, 1.0): 3 for condition in ('without', 'only')
           for sensor in ('image', 'depth', 'touch')}}
    assert (table.step == 300).all() and (table.length == 100).all()
    assert table.groupby('episode').seed.nunique().eq(1).all() and table.seed.nunique() == 3
    assert table['return'].nunique() > 10  # not one number again and again


def test_what_is_gone_is_missing_at_every_entry_and_the_rest_at_none(judged):
    _, _, (table, _), _, _ = judged
    for _, row in table.iterrows():
        for sensor in ('image', 'depth', 'touch'):
            missing = row[f'missing_{sensor}']
            if row.condition == 'ratio':
                assert missing == 0 if row.ratio == 0 else 0 < missing < 1
            else:
                gone = (row.sensor == sensor) == (row.condition == 'without')
                assert missing == float(gone)


def test_judging_leaves_the_run_as_it_was(judged):
    folder, before, _, _, _ = judged
    assert contents(folder, {'results.csv', 'inspect'}) == before


def test_inspection_writes_pictures_that_show_something(judged):
    folder, _, _, _, output = judged
    (inside,) = (folder / 'inspect').iterdir()
    names = {path.name for path in inside.iterdir()}
    assert names == {
        'episode.gif', 'episode.png', 'heads.png', 'numbers.csv', 'trust.png',
        *(f'open_loop_{s}.{end}' for s in ('image', 'depth') for end in ('gif', 'png'))}
    assert str(inside) in output
    assert not list(inside.glob('*.partial'))
    for path in inside.glob('*.[gp][in][fg]'):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert('RGB')).std() > 5, path
    numbers = pd.read_csv(inside / 'numbers.csv', index_col='number')['value']
    shares = numbers[['weight_image', 'weight_depth', 'weight_touch']]
    assert 0 < shares.sum() <= 1
    assert {'agree_image', 'find_image_depth', 'find_depth_image'} <= set(numbers.index)
    # A reward is between 0 and 2 for a decision, and so are the returns of a fresh agent.
    assert 0 < numbers['discounted_return'] < 2 / (1 - 0.99)
    assert 0 < numbers['reward_deviation'] < 1 and 0 < numbers['reward_error'] < 2


def test_discounted_returns_are_the_rewards_that_followed():
    reward, value = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.0, 0.0, 100.0])
    ended = inspection.discounted_returns(reward, value, 0.5, terminated=True)
    np.testing.assert_allclose(ended, [4.0, 6.0, 8.0])
    cut = inspection.discounted_returns(reward, value, 0.5, terminated=False)
    np.testing.assert_allclose(cut, [27.0, 52.0, 100.0])


@pytest.mark.parametrize('reward', [0.5, 2.0])
def test_value_of_an_endless_reward_is_its_own_discounted_return(reward):
    rewards = np.full(200, reward)
    value = np.full(199, reward / (1 - 0.99))
    np.testing.assert_allclose(
        inspection.discounted_returns(rewards, value, 0.99, terminated=False), value)


def test_without_a_checkpoint_nothing_is_judged(tmp_path):
    for words in (['--logdir', tmp_path / 'none'], ['--logdir', tmp_path]):
        result = script(*words, '--test')
        assert result.returncode == 2
        assert 'error: no run in' in result.stderr and 'Traceback' not in result.stderr
    commandline.save(config.Config(logdir=str(tmp_path)), 'mummi', str(tmp_path / 'config.json'))
    for words in ([], ['--checkpoint', '.'], ['--checkpoint', tmp_path / 'state-000000001']):
        result = script('--logdir', tmp_path, '--test', *words)
        assert result.returncode == 2 and 'error: no checkpoint' in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ['config.json']


class Environments:
    """Two environments that end after their row's number of decisions, and lose what they are
    told to lose."""

    num_envs = 2

    class action_space:
        shape = (2, 1)

    def reset(self, seed, options):
        self.gone, self.seeds, self.time = options['miss_ratio'] == 1, seed, np.zeros(2)
        self.ended = np.zeros(2, bool)
        return self.observation(), {}

    def observation(self):
        value = 0 if self.gone else 1 + self.time
        return {
            'touch': np.reshape(np.broadcast_to(value, 2), (2, 1)).astype(np.float32),
            'touch_flag': np.full((2, 1), 1 - self.gone, np.float32)}

    def step(self, action):
        self.time = np.where(self.ended, 0, self.time + 1)
        reward = np.where(self.ended, 0, np.array(self.seeds, float))
        self.ended = self.time >= np.array([3, 5])
        return self.observation(), reward, np.zeros(2, bool), self.ended, {}


class Agent:
    """Records what it is shown."""

    precision = Precision('float32')

    def __init__(self):
        self.shown = []

    def initial(self, count):
        return None

    def policy(self, observation, state, exploring):
        assert exploring is False
        self.shown.append({key: value.numpy() for key, value in observation.items()})
        return observation['touch'] * 0, state


@pytest.mark.parametrize('gone', [0, 1])
def test_a_sensor_that_is_gone_reaches_the_agent_as_zeros_with_flag_zero(gone):
    agent = Agent()
    driver = acting.Driver(Environments(), action_repeat=2)
    list(acting.evaluate(agent, driver, [10, 20], {'miss_ratio': gone}))
    for shown in agent.shown:
        assert (shown['touch_flag'] == 1 - gone).all()
        assert (shown['touch'] == 0).all() == bool(gone)


def test_evaluation_gives_the_first_episode_of_each_seed_in_order():
    driver = acting.Driver(Environments(), action_repeat=2)
    episodes = list(acting.evaluate(Agent(), driver, [10, 20, 30], {'miss_ratio': 0}))
    rows = [acting.summary(episode, ['touch']) for episode in episodes]
    assert rows == [
        {'return': 30.0, 'length': 6, 'missing_touch': 0.0},
        {'return': 100.0, 'length': 10, 'missing_touch': 0.0},
        {'return': 90.0, 'length': 6, 'missing_touch': 0.0}]
    assert episodes[0]['touch'][:, 0].tolist() == [1, 2, 3, 4]
    assert episodes[0]['reward'].tolist() == [0, 10, 10, 10]


def test_single_sensor_is_only_tested_by_ratios():
    assert [t[0] for t in evaluation.conditions([0, 0.1], ['image'])] == ['ratio', 'ratio']


def test_printed_table_has_mean_spread_of_the_sample_and_fraction():
    rows = pd.DataFrame([
        {'condition': 'ratio', 'sensor': '', 'ratio': ratio, 'return': value,
         'missing_image': ratio}
        for ratio, values in ((0.0, (100, 104)), (0.5, (51,))) for value in values])
    lines = [line.split() for line in evaluation.table(rows).splitlines()]
    assert lines[1:] == [
        ['nothing', 'missing', '102.0', '2.8', '1.00', '0%'],
        ['drop-out', 'chance', '0.5', '51.0', '-', '0.50', '50%']]


ROW = {'step': 1, 'condition': 'ratio', 'sensor': '', 'ratio': 0.0, 'episode': 0, 'seed': 7,
       'options': '', 'return': 5.0, 'length': 10}


def test_results_of_other_checkpoints_are_kept(tmp_path):
    row, path = ROW, tmp_path / 'results.csv'
    for changed in ({}, {'step': 2}, {'return': 6.0}, {'options': 'natural=False'}):
        evaluation.add(pd.DataFrame([row | changed]), path)
    table = pd.read_csv(path, keep_default_na=False)
    assert table[['step', 'return', 'options']].values.tolist() == [
        [2, 5, ''], [1, 6, ''], [1, 5, 'natural=False']]
    # As a spreadsheet writes it, with a byte order mark.
    table.to_csv(tmp_path / 'marked.csv', index=False, encoding='utf-8-sig')
    assert list(evaluation.read(tmp_path / 'marked.csv')) == list(table)
    # As written before there was the column.
    table[:2].drop(columns='options').to_csv(path, index=False)
    evaluation.add(pd.DataFrame([row | {'return': 7.0}]), path)
    assert pd.read_csv(path)['return'].tolist() == [5, 7]


@pytest.mark.parametrize('ratio', ['0.1', '0.3333333333333333', '1e-7', '0.12345649'])
def test_testing_again_replaces_the_rows_of_a_ratio_whatever_its_digits(ratio, tmp_path):
    path, row = tmp_path / 'results.csv', ROW | {'ratio': float(ratio), 'seed': 2 ** 32 - 1}
    for value in 1.0, 2.0:
        evaluation.add(pd.DataFrame([row | {'return': value}]), path)
    assert pd.read_csv(path)['return'].tolist() == [2]


@pytest.mark.parametrize('digits', ['0.10', '1e-1', '.1', '0.1000000', '1.0E-01', ' 0.1'])
def test_rows_that_another_program_wrote_in_other_digits_are_replaced(digits, tmp_path):
    path = tmp_path / 'results.csv'
    path.write_bytes(b'\xef\xbb\xbf' + (
        'step,condition,sensor,ratio,episode,seed,options,return,length\r\n'
        f'1.0,ratio,,{digits},0,7,,9,10\r\n2,ratio,,{digits},0,7,,9,10\r\n').encode())
    evaluation.add(pd.DataFrame([ROW | {'ratio': 0.1}]), path)
    assert pd.read_csv(path)[['step', 'ratio', 'return']].values.tolist() == [
        [2, 0.1, 9], [1, 0.1, 5]]


def test_results_of_a_relative_folder_are_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = pathlib.Path('file:') / 'results.csv'
    path.parent.mkdir()
    for value in 1.0, 2.0:
        evaluation.add(pd.DataFrame([ROW | {'return': value}]), path)
    assert evaluation.read(path)['return'].tolist() == [2]


def test_results_that_are_added_side_by_side_are_all_kept(tmp_path):
    path = tmp_path / 'results.csv'
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(
            lambda step: evaluation.add(pd.DataFrame([ROW | {'step': step}]), path), range(40)))
    assert sorted(pd.read_csv(path)['step']) == list(range(40))
    assert [path.name for path in tmp_path.iterdir()] == ['results.csv']


@pytest.fixture
def played(tmp_path):
    """A function that tests a stub of an agent of touch alone, at two ratios, as the run in
    `tmp_path`; `during` is called at each decision."""
    settings = config.Config(
        logdir=str(tmp_path), test=True, test_episodes=1, test_ratios='0,0.5')
    commandline.save(settings, 'mummi', str(tmp_path / 'config.json'))
    def play(during=lambda: None):
        agent, environments = Agent(), Environments()
        agent.judging = tf.random.Generator.from_seed(0)
        environments.close = lambda: None
        step = environments.step
        environments.step = lambda action: (during(), step(action))[1]
        evaluation.test(types.SimpleNamespace(
            config=settings, folder=tmp_path, sensors=['touch'], title='a stub',
            restored=lambda: (agent, 300, pathlib.Path('state-000000007')),
            environments=lambda *_: environments))
    return play


def test_rows_are_kept_where_nobody_reads_what_is_shown(played, tmp_path, monkeypatch, unread):
    for name in 'stdout', 'stderr':
        monkeypatch.setattr(sys, name, unread())
    with contextlib.suppress(BrokenPipeError):  # of the table, at the end
        played()
    monkeypatch.undo()
    assert pd.read_csv(tmp_path / 'results.csv')['step'].tolist() == [300, 300]


def test_rows_that_another_test_adds_meanwhile_are_kept(played, tmp_path):
    path = tmp_path / 'results.csv'
    played(lambda: evaluation.add(pd.DataFrame([ROW]), path))
    assert pd.read_csv(path)['step'].tolist() == [1, 300, 300]


def test_run_that_cannot_be_written_is_judged_and_says_so_first(
        played, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    said = []
    played(lambda: said.append(capsys.readouterr().out))
    out = capsys.readouterr().out
    assert said[0] == (
        f'warning: cannot write in {tmp_path}: results are printed and not kept\n')
    assert 'drop-out chance 0.5' in out and 'not kept' in out
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_disk_that_is_full_is_one_line_after_the_table(played, tmp_path, monkeypatch, capsys):
    path = tmp_path / 'results.csv'
    evaluation.add(pd.DataFrame([ROW]), path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(config.UserError, match='cannot write .*results.csv .No space left'):
        played()
    assert 'drop-out chance 0.5' in capsys.readouterr().out and path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['config.json', 'results.csv']


def test_settings_that_are_not_the_runs_own_are_told(tmp_path):
    own = config.Config(logdir=str(tmp_path), steps=500)
    commandline.save(own, 'mummi', str(tmp_path / 'config.json'))
    changes = {'natural': False, 'natural_valid': 'a,b.pkl', 'miss_ratio': 0.3, 'seed': 9,
               'test': True, 'envs': 4, 'render': 'full', 'batch': 7, 'actor_rate': 1.0,
               'prefill': 3, 'withhold': 0.1, 'explore_noise': 0.0,
               'natural_train': 'mine.pkl'}  # of learning alone
    assert evaluation.changed(own) == ''
    changed = dataclasses.replace(own, **changes)
    assert evaluation.changed(changed) == (
        'natural=False natural_valid=a;b.pkl miss_ratio=0.3 render=full')
    assert evaluation.changed(changed, seeded=True) == (
        'seed=9 natural=False natural_valid=a;b.pkl miss_ratio=0.3 render=full')
    assert evaluation.changed(dataclasses.replace(own, length=9)) == 'length=9'  # is inspected
    # In a test each condition has its own.
    assert evaluation.changed(changed, but={'miss_ratio', 'corrupt'}) == (
        'natural=False natural_valid=a;b.pkl render=full')


def test_damaged_results_are_named_before_anything_is_played(played, tmp_path):
    path, decisions = tmp_path / 'results.csv', []
    evaluation.add(pd.DataFrame([ROW, ROW | {'condition': 'without', 'sensor': 'touch'}]), path)
    before = path.read_bytes()
    played(lambda: decisions.append(path))
    assert decisions  # so what follows would be seen
    header, row, rest = before.split(b'\n', 2)
    place = header.split(b',').index(b'return')
    cells, damaged = row.split(b','), []
    for cells[place] in b'12x5', b'':
        damaged.append(b'\n'.join([header, b','.join(cells), rest]))
    for content in b'', b'step,return\n1,2\n', *damaged, (
            before.replace(b',without,', b',absent,')):
        assert content != before
        path.write_bytes(content)
        decisions.clear()
        with pytest.raises(config.UserError, match='results.csv cannot be read'):
            played(lambda: decisions.append(path))
        assert path.read_bytes() == content and not decisions
