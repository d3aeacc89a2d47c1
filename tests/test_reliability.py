"""Runs on the stub task that are stopped, killed, damaged or not finite: what is left of them, and
that what goes on is what would have been."""

import shutil
import signal

import numpy as np
import pandas as pd
import pytest
import stubs
import tensorflow as tf
from test_training import same_run, stored

import stopping
import training
from acting import NotFinite
from config import UserError

ONE = ('--envs', '1', '--log_every', '3', '--pretrain', '3')


def values(run):
    """All numbers of a run's checkpoint but wall time, as bytes."""
    progress = run.trainer.progress
    return {v.name: v.numpy().tobytes() for v in tf.train.TrackableView(progress).descendants()
            if isinstance(v, tf.Variable) and v is not progress.seconds
            and v is not progress.underway}


def numbers(variables):
    return [v.numpy().tobytes() for v in variables]


def state(run):
    """Weights, moments, counts and generators, in order."""
    view = tf.train.TrackableView(run.trainer.agent)
    return [v.numpy().tobytes() for v in view.descendants() if isinstance(v, tf.Variable)]


def tables(folder):
    """Both tables without what depends on wall time."""
    return [pd.read_csv(folder / name).drop(columns=['seconds', 'updates_per_second'],
                                            errors='ignore')
            for name in ('episodes.csv', 'metrics.csv')]


def content(folder):
    """All that lies in a folder: path -> bytes, of folders None."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob('*')}


def check_tables(folder):
    """That every episode, evaluation and row of metrics is there once, and time goes on."""
    table, metrics = (pd.read_csv(folder / name) for name in ('episodes.csv', 'metrics.csv'))
    collected = table[table['mode'] != 'eval']
    assert collected['episode'].tolist() == list(range(len(stored(folder))))
    for (_, row), arrays in zip(collected.iterrows(), stored(folder), strict=True):
        assert row['return'] == pytest.approx(arrays['reward'].sum(), rel=1e-5, abs=1e-6)
    judged = table[table['mode'] == 'eval']
    assert not judged.duplicated(['step', 'episode']).any()
    assert metrics['updates'].is_unique and metrics['updates'].is_monotonic_increasing
    assert table['seconds'].is_monotonic_increasing and metrics['seconds'].is_monotonic_increasing
    return table, metrics


def in_two(folder, *words):
    """A run of 70 steps that goes on to 160."""
    first = stubs.trained(folder, *words, '--steps', '70')
    again = stubs.trained(folder, *words, '--steps', '120')
    again.learned = first.learned + again.learned
    return again


@pytest.fixture(scope='module')
def long(tmp_path_factory):
    """Environments -> a run of 120 steps that nothing stops."""
    runs = {}

    def run(count):
        if count not in runs:
            folder = tmp_path_factory.mktemp('long') / 'run'
            runs[count] = stubs.trained(folder, *ONE, '--envs', str(count), '--steps', '120')
        return runs[count]
    return run


def test_twice_as_many_steps_are_the_same_in_one_run_and_in_two(long, tmp_path):
    """To the last bit, with the end of the first amid an episode and between two phases."""
    wanted, found = long(1), in_two(tmp_path / 'run', *ONE)
    assert same_run(wanted, found) and state(wanted) == state(found)
    assert all((tmp_path / 'run' / 'episodes' / path.name).read_bytes() == path.read_bytes()
               for path in (wanted.folder / 'episodes').iterdir())
    check_tables(found.folder)


@pytest.mark.parametrize('count', [1, 2])
def test_a_run_that_is_stopped_anywhere_is_the_one_that_is_not(
        count, long, tmp_path, monkeypatch, capsys):
    """In the prefill, between updates, while collecting and amid an evaluation."""
    wanted, folder, words = long(count), tmp_path / 'run', (*ONE, '--envs', str(count))
    left, learned = [0], []

    def check():
        left[0] -= 1
        if not left[0]:
            raise stopping.Stopped(signal.SIGTERM)
    monkeypatch.setattr(stopping, 'check', check)
    stops = 0
    for left[0] in (9, 17, 4, 26, 11, 8, 0):
        run = stubs.Experiment(folder, *words, '--steps', '120')
        try:
            with stubs.eagerly(), training.Trainer(run) as trainer:
                run.trainer = trainer
                trainer.train()
        except stopping.Stopped:
            stops += 1
        learned += run.learned
    assert stops >= 5
    run.learned = learned
    assert same_run(wanted, run) and state(wanted) == state(run)
    check_tables(folder)
    for one, other in zip(tables(wanted.folder), tables(folder)):
        pd.testing.assert_frame_equal(one, other)


def test_other_environments_than_before_begin_new_episodes(tmp_path, monkeypatch, capsys):
    """Which the rewards of the actions that are taken again show."""
    stubs.trained(tmp_path, *ONE, '--steps', '90')
    monkeypatch.setattr(stubs, 'reward_of', lambda episode, decision, action: 0.5 + action[..., 0])
    stubs.trained(tmp_path, *ONE, '--steps', '106')
    assert 'not what it was, so new episodes begin' in capsys.readouterr().out
    check_tables(tmp_path)


@pytest.mark.parametrize('before, after', [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_environments(before, after, long, tmp_path):
    """The unfinished episodes are of environments that are not there: new ones begin."""
    folder = tmp_path / 'run'
    shutil.copytree(long(before).folder, folder)
    stubs.trained(folder, *ONE, '--envs', str(after), '--steps', '170')
    table, _ = check_tables(folder)
    assert table['step'].max() > 150


# --- What a kill leaves of the tables -----------------------------------------------------


def opened(folder, *words):
    """A trainer that opened the run and does nothing, closed."""
    with stubs.eagerly(), training.Trainer(
            stubs.Experiment(folder, *ONE, '--steps', '120', *words)) as trainer:
        return trainer


def edit(path, change):
    lines = path.read_text().splitlines(True)
    path.write_text(''.join(change(lines)))


EDITS = {
    'a row of an episode lacks': ('episodes.csv', lambda rows: rows[:3] + rows[4:]),
    'the last lacks': ('episodes.csv', lambda rows: [*rows[:-2], rows[-1]]),
    'half a row': ('episodes.csv', lambda rows: [*rows[:5], rows[5][:4]]),
    'an episode twice': ('episodes.csv', lambda rows: [*rows[:6], rows[5], *rows[6:]]),
    'an evaluation twice': ('episodes.csv', lambda rows: [*rows, rows[-1]]),
    'updates twice': ('metrics.csv', lambda rows: [*rows[:3], *rows[2:]])}


@pytest.mark.parametrize('name', EDITS)
def test_tables_are_made_whole_when_a_run_is_opened(name, long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    wanted = tables(folder)
    file, change = EDITS[name]
    edit(folder / file, change)
    opened(folder)
    check_tables(folder)
    for one, other in zip(wanted, tables(folder)):
        if name == 'half a row' and 'mode' in one:  # evaluations behind it are lost
            one, other = (table[table['mode'] != 'eval'].reset_index(drop=True)
                          for table in (one, other))
        pd.testing.assert_frame_equal(one, other)
    before = {path: path.read_bytes() for path in folder.glob('*.csv')}
    opened(folder)
    assert before == {path: path.read_bytes() for path in folder.glob('*.csv')}


def test_a_lost_row_of_one_of_several_environments_is_no_earlier_than_the_one_before(
        long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(4).folder, folder)
    before, _ = check_tables(folder)
    lost = before[before['mode'] != 'eval'].index[5]
    edit(folder / 'episodes.csv', lambda rows: rows[:lost + 1] + rows[lost + 2:])
    opened(folder, '--envs', '4')
    after, _ = check_tables(folder)
    assert after['step'].is_monotonic_increasing
    assert after[['mode', 'episode']].equals(before[['mode', 'episode']])


def test_rows_beyond_the_checkpoint_go_and_come_again_once(long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    newest = sorted(folder.glob('state-*.index'))[-1]
    newest.unlink()
    stubs.trained(folder, *ONE, '--steps', '120')
    for one, other in zip(tables(long(1).folder), tables(folder)):
        keys = [key for key in ('step', 'updates', 'mode', 'episode') if key in one]
        pd.testing.assert_frame_equal(one[keys], other[keys])
    check_tables(folder)


def test_wall_time_does_not_step_back_with_the_rows_that_go(long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    sorted(folder.glob('state-*.index'))[-1].unlink()
    rows = pd.read_csv(folder / 'metrics.csv')
    rows.loc[rows.index[-1], 'seconds'] = 5000.0  # it ran so long before it was killed
    rows.to_csv(folder / 'metrics.csv', index=False)
    with stubs.eagerly(), training.Trainer(
            stubs.Experiment(folder, *ONE, '--steps', '120')) as trainer:
        assert trainer.seconds() > 5000
    assert len(pd.read_csv(folder / 'metrics.csv')) < len(rows)


def test_a_table_that_is_older_than_its_numbers_of_episodes_gets_them(long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    wanted = tables(folder)
    pd.read_csv(folder / 'episodes.csv').drop(columns='episode').to_csv(
        folder / 'episodes.csv', index=False)
    opened(folder)
    for one, other in zip(wanted, tables(folder)):
        pd.testing.assert_frame_equal(one, other)


def test_a_run_that_is_opened_with_nothing_to_do_changes_no_file(long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob('*')
              if path.is_file() and path.name not in ('config.json', 'lock')}
    stubs.trained(folder, *ONE, '--steps', '120')
    assert before == {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob('*')
        if path.is_file() and path.name not in ('config.json', 'lock')}


@pytest.mark.parametrize('damage, why', [
    (lambda path: path.write_bytes(path.read_bytes()[:40]), 'no checkpoint can be read'),
    (lambda path: path.unlink(), 'there is no checkpoint')])
def test_a_run_whose_checkpoints_are_damaged_or_gone_goes_on_from_its_episodes(
        damage, why, long, tmp_path, capsys):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    for path in folder.glob('state-*.index'):
        damage(path)
    run = stubs.trained(folder, *ONE, '--steps', '120')
    said = capsys.readouterr().out
    assert f'{why}: what was learned is lost' in said
    assert 'metrics.csv.damaged' in said
    updates = int(long(1).trainer.agent.updates)
    assert int(run.trainer.agent.updates) == len(run.learned) == updates
    assert len(stored(folder)) == len(stored(long(1).folder))
    check_tables(folder)
    assert (folder / 'metrics.csv.damaged').read_bytes() == (
        long(1).folder / 'metrics.csv').read_bytes()


def test_a_run_whose_episodes_are_gone_is_refused_and_left_as_it_is(long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    shutil.rmtree(folder / 'episodes')
    before = content(folder)
    with pytest.raises(UserError, match='at 120 steps and no episodes .*--export.*--init'):
        stubs.trained(folder, *ONE, '--steps', '240')
    assert before == content(folder)  # also no folder where the episodes are to be put back


def test_logs_are_kept_where_the_checkpoints_are_damaged_and_the_episodes_gone(long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    shutil.rmtree(folder / 'episodes')
    for path in folder.glob('state-*.index'):
        path.write_bytes(path.read_bytes()[:40])
    before = content(folder)
    with pytest.raises(UserError, match='no checkpoint that can be read and no episodes'):
        stubs.trained(folder, *ONE, '--steps', '240')
    assert before == content(folder)


def test_logs_without_a_run_are_no_place_for_another(long, tmp_path):
    """As the folders of results/: all that they have would be lost."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('config.json', 'episodes.csv', 'metrics.csv'):
        shutil.copy(long(1).folder / name, folder)
    before = content(folder)
    with pytest.raises(UserError, match='has the logs of a run, .* choose another --logdir'):
        stubs.trained(folder, *ONE, '--steps', '240')
    assert before == content(folder)
    experiment = stubs.Experiment(tmp_path / 'other', *ONE)
    experiment.folder = folder  # of a configuration that no command line has seen
    with pytest.raises(UserError, match='has the logs of a run'):
        training.Trainer(experiment)
    assert before == content(folder)


def test_what_is_refused_late_is_not_the_runs_configuration(long, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(long(1).folder, folder)
    shutil.rmtree(folder / 'episodes')
    before = (folder / 'config.json').read_bytes()
    with pytest.raises(UserError, match='no episodes'):
        stubs.trained(folder, *ONE, '--steps', '240', '--seed', '9')
    assert before == (folder / 'config.json').read_bytes()


# --- Not finite ---------------------------------------------------------------------------


def spoiled(folder, at, what):
    """A run in which, at update `at`, `what` of the agent is not finite from then on."""
    run = stubs.Experiment(folder, *ONE, '--steps', '120')
    with stubs.eagerly(), training.Trainer(run) as trainer:
        train = trainer.agent.train

        def spoiling(batch):
            metrics = train(batch)
            if int(trainer.agent.updates) == at:
                variable = what(trainer.agent)
                variable.assign(tf.fill(variable.shape, np.nan))
            return metrics
        trainer.agent.train = spoiling
        trainer.train()


@pytest.mark.parametrize('what', [
    lambda agent: agent.behaviour.actor.output.bias,
    lambda agent: next(iter(agent.optimisers.values())).second[0]])
def test_what_is_not_finite_is_never_saved_and_the_line_promises_what_is_there(what, tmp_path):
    with pytest.raises(UserError, match='not finite.*no checkpoint yet: begin again'):
        spoiled(tmp_path / 'early', 3, what)
    assert not list((tmp_path / 'early').glob('state-*'))
    with pytest.raises(UserError, match='not finite.*state-000000005 is whole and finite: resume'):
        spoiled(tmp_path / 'late', 7, what)
    # It can be resumed.
    stubs.trained(tmp_path / 'late', *ONE, '--steps', '120')
    check_tables(tmp_path / 'late')


def test_an_action_that_is_not_finite_is_not_taken(tmp_path):
    run = stubs.Experiment(tmp_path, *ONE, '--steps', '120')
    with stubs.eagerly(), training.Trainer(run) as trainer:
        policy = trainer.agent.policy

        def spoiled(*words):
            action, after = policy(*words)
            return (action * np.nan if trainer.step > 60 else action), after
        trainer.agent.policy = spoiled
        with pytest.raises(UserError, match='an action is not finite; state-00000000.*resume'):
            trainer.train()
    assert all(np.isfinite(arrays['action']).all() for arrays in stored(tmp_path))
    assert issubclass(NotFinite, UserError)
