"""Whole runs of the trainer on a stub task that tells where an observation was made: what the
policy, the replay, the updates and the logs get, and what a run does that goes on."""

import errno
import io
import itertools
import os
import re
import shutil
import signal
import sys

import gymnasium
import numpy as np
import pandas as pd
import pytest
import stubs
import tensorflow as tf
from scipy.io import wavfile
from stubs import COUNT, ENDS, LIMIT, reward_of, terminates, where

import commandline
import config
import provenance
import records
import screen
import stopping
import texts
import tools
import training
from config import UserError
from experiment import Progress


def stored(folder):
    """The arrays of all episodes of a run, in order."""
    return [dict(np.load(path)) for path in sorted((folder / 'episodes').glob('*.npz'))]


def same_run(one, other):
    """Whether two runs collected the same, and learned the same from the same."""
    pairs = [*zip(stored(one.folder), stored(other.folder), strict=True),
             *zip(one.learned, other.learned, strict=True)]
    return all(np.array_equal(a[key], b[key]) for a, b in pairs for key in a if key != 'metrics'
               ) and [b['metrics'] for b in one.learned] == [b['metrics'] for b in other.learned]


# --- What was collected, and what is learned of it --------------------------------------------


def check_entries(arrays):
    """That consecutive entries [L, ...] are what happened in an episode of training."""
    told = where(arrays['touch'])
    assert set(told['split']) == {0} and (arrays['touch_flag'] == 1).all()
    for name in 'seed', 'episode':
        assert len(set(told[name])) == 1
    np.testing.assert_array_equal(np.diff(told['decision']), 1)
    np.testing.assert_array_equal(arrays['action'], told['action'])
    first = told['decision'] == 0
    np.testing.assert_allclose(arrays['reward'], np.where(
        first, 0, reward_of(told['episode'], told['decision'], told['action'])), atol=1e-6)
    ends = terminates(told['episode']) & (told['decision'] == ENDS)
    np.testing.assert_array_equal(arrays['discount'], 1 - ends)
    return {'first': first.any(), 'end': ends.any(), 'limit': (told['decision'] == LIMIT).any()}


def test_episodes_of_the_replay_are_what_happened(whole):
    episodes = stored(whole.folder)
    found = [check_entries(arrays) for arrays in episodes]
    assert all(kinds['first'] and kinds['end'] != kinds['limit'] for kinds in found)
    assert 2 < sum(kinds['end'] for kinds in found) < len(found) - 2


def test_updates_learn_from_what_happened_ends_of_both_kinds_included(whole):
    assert len(whole.learned) == 10
    totals = {'first': 0, 'end': 0, 'limit': 0}
    for batch in whole.learned:
        assert batch['reward'].shape == (3, 4)
        for row in range(3):
            for kind, here in check_entries(
                    {key: batch[key][row] for key in batch if key != 'metrics'}).items():
                totals[kind] += here
    assert min(totals.values()) > 0


def test_policy_is_told_where_each_row_begins_an_episode(whole):
    mixed = 0
    for call in whole.acted:
        np.testing.assert_array_equal(call['is_first'], call['decision'] == 0)
        mixed += call['is_first'].any() and not call['is_first'].all()
    assert mixed > 2


def test_policy_is_told_the_action_before_amid_the_episodes_that_the_prefill_began_too(whole):
    calls = [call for call in whole.acted if call['exploring']]
    assert not calls[0]['is_first'].all()
    for call in calls:
        amid = ~call['is_first']
        np.testing.assert_array_equal(call['told'][amid], call['action'][amid])


def test_an_episode_that_was_begun_at_random_and_ended_by_the_agent_is_of_neither(
        whole, tmp_path):
    chosen = {tuple(action) for call in whole.acted if call['exploring']
              for action in call['chosen']}
    def modes(folder):
        table = pd.read_csv(folder / 'episodes.csv')
        return table['mode'][table['mode'] != 'eval'].tolist()
    found = modes(whole.folder)
    assert set(found) == {'prefill', 'mixed', 'train'}
    for mode, arrays in zip(found, stored(whole.folder), strict=True):
        own = [tuple(action) in chosen for action in arrays['action'][1:]]
        assert {'prefill': not any(own), 'mixed': own[-1] and not own[0], 'train': all(own)}[mode]
    # Also where the run was stopped between.
    stopped = stubs.trained(tmp_path / 'run', '--steps', '44')
    assert 'mixed' not in modes(stopped.folder)
    stubs.trained(tmp_path / 'run')
    assert modes(tmp_path / 'run') == found


@pytest.mark.parametrize('envs, step, wanted', [
    (1, 40, 'prefill'), (1, 44, 'mixed'), (1, 48, 'mixed'), (1, 50, 'train'),
    (4, 50, 'mixed'), (4, 80, 'train')])
def test_the_mode_of_an_episode_whose_row_was_lost_is_told_by_its_steps(envs, step, wanted):
    settings = config.Config(prefill=40, envs=envs)
    assert records._mode(step, 10, settings, False) == wanted
    assert records._mode(step, 10, settings, True) == 'prefill'


def test_the_run_collects_on_training_backgrounds_by_exploring_and_judges_without_on_others(whole):
    for call in whole.acted:
        assert (call['split'] == (0 if call['exploring'] else 1)).all()
        assert call['drew'] == ([True, False] if call['exploring'] else [False, True])
        assert len(call['chosen']) == (COUNT if call['exploring'] else 1)
    assert [(made.split, made.num_envs, made.closed) for made in whole.made] == [
        ('train', COUNT, True), ('valid', 1, True)]
    assert whole.made[0].seed != whole.made[1].seed


def test_what_the_policy_chooses_is_what_is_done(whole):
    calls = [call for call in whole.acted if call['exploring']]
    done = {(e['seed'][0], e['episode'][0], t): action for e in (
        where(arrays['touch']) for arrays in stored(whole.folder))
        for t, action in enumerate(e['action'])}
    found = 0
    for call in calls:
        for row in range(COUNT):
            place = call['seed'][row], call['episode'][row], call['decision'][row] + 1
            if place in done:
                np.testing.assert_array_equal(call['chosen'][row], done[place])
                found += 1
    assert found > 20
    spread = np.std([call['chosen'] for call in calls], 0)
    assert (spread > 0.2).all()


def test_prefill_is_uniform_and_each_environments_own(whole):
    table = pd.read_csv(whole.folder / 'episodes.csv')
    table = table[table['mode'] != 'eval'].reset_index()
    prefill = table.index[table['mode'] == 'prefill']
    actions = np.concatenate([stored(whole.folder)[i]['action'][1:] for i in prefill])
    assert len(np.unique(actions)) == actions.size > 10
    assert actions.min() < -0.5 and actions.max() > 0.5 and np.abs(actions.mean()) < 0.3
    # The policy is first asked for the evaluation after the prefill.
    assert not whole.acted[0]['exploring']


def test_no_two_environments_and_no_two_episodes_of_evaluation_have_a_seed_in_common(whole):
    collecting, judging = whole.made
    assert len(collecting.resets) == 1 and len(judging.resets) == 3
    seeds = [seed for made in whole.made for drawn, _ in made.resets for seed in drawn]
    assert len(set(seeds)) == len(seeds) == COUNT + 3


def test_every_update_has_another_batch_and_another_seed_has_others(whole, reseeded):
    """Batches as (number of the episode in the replay, its first entry)."""
    def positions(run):
        starts = [where(arrays['touch']) for arrays in stored(run.folder)]
        names = {(s['seed'][0], s['episode'][0]): i for i, s in enumerate(starts)}
        told = [where(batch['touch'][:, 0]) for batch in run.learned]
        return [tuple((names.get((seed, episode), -1), decision) for seed, episode, decision in zip(
            t['seed'], t['episode'], t['decision'])) for t in told]
    assert len(set(positions(whole))) == 10
    one, other = (run.replay_seeds for run in (whole, reseeded))
    assert len(one) == len(set(one)) == len(set(other)) == 10 and not set(one) & set(other)
    assert positions(whole)[:2] != positions(reseeded)[:2]


def test_the_same_seed_repeats_a_run_and_another_makes_another(whole, unjudged, reseeded):
    """How often a run is judged, which is all that the first two differ in, changes nothing."""
    assert len(unjudged.made) == 1 and all(call['exploring'] for call in unjudged.acted)
    assert same_run(whole, unjudged)
    one, other = (stored(run.folder)[0]['action'] for run in (whole, reseeded))
    assert not np.array_equal(one[:4], other[:4])
    assert not set(whole.made[0].resets[0][0]) & set(reseeded.made[0].resets[0][0])


# --- Logs ----------------------------------------------------------------------------------


def test_rows_of_metrics_are_means_over_their_updates(whole):
    table = pd.read_csv(whole.folder / 'metrics.csv')
    # A row at each third update, and one at the end of each phase of two.
    assert table['updates'].tolist() == [2, 3, 4, 6, 8, 9, 10]
    assert table['step'].tolist()[:4] == [40, 60, 60, 80]
    begin = 0
    for _, row in table.iterrows():
        end = int(row['updates'])
        metrics = [batch['metrics'] for batch in whole.learned[begin:end]]
        assert set(metrics[0]) | {'step', 'updates', 'seconds', 'updates_per_second'} == set(table)
        for key in metrics[0]:
            np.testing.assert_allclose(
                row[key], np.mean([m[key] for m in metrics]), rtol=1e-5, atol=1e-9, err_msg=key)
        begin = end


def test_rows_of_episodes_are_those_that_were_played(whole):
    table = pd.read_csv(whole.folder / 'episodes.csv')
    collected = table[table['mode'] != 'eval']
    for (_, row), arrays in zip(collected.iterrows(), stored(whole.folder), strict=True):
        assert row['return'] == pytest.approx(arrays['reward'].sum(), rel=1e-5, abs=1e-6)
        assert row['length'] == 2 * (len(arrays['reward']) - 1) and row['missing_touch'] == 0
    judged = table[table['mode'] == 'eval']
    assert judged['updates'].tolist() == [2, 6, 10]
    calls = [call for call in whole.acted if not call['exploring']]
    wanted, total = [], 0.0
    for call in calls:
        total += float(reward_of(call['episode'], call['decision'] + 1, call['chosen'])[0])
        last = ENDS if terminates(call['episode'])[0] else LIMIT
        if call['decision'][0] == last - 1:
            wanted.append(total)
            total = 0.0
    np.testing.assert_allclose(judged['return'], wanted, rtol=1e-5)


# --- Going on ------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def resumed(whole, tmp_path_factory):
    """A copy of the run that goes on to 162 steps by another schedule."""
    folder = tmp_path_factory.mktemp('resumed') / 'run'
    shutil.copytree(whole.folder, folder)
    return stubs.trained(
        folder, '--steps', '162', '--prefill', '150', '--pretrain', '70', '--train_every', '10',
        '--train_updates', '3', '--log_every', '30')


def test_a_changed_schedule_counts_from_where_the_run_is(whole, resumed):
    table = pd.read_csv(resumed.folder / 'metrics.csv')[7:]
    assert table['updates'].tolist() == [13, 16, 19, 22] and len(resumed.learned) == 12
    for begin, step in zip(range(132, 172, 10), table['step']):
        assert begin <= step < begin + 4
    # What was for the beginning of the run stays what it was.
    before, after = (commandline.load(run.folder / 'config.json')[0] for run in (whole, resumed))
    assert (after.prefill, after.pretrain) == (before.prefill, before.pretrain) != (150, 70)
    assert resumed.trainer.config == after and after.train_every == 10


def test_a_finished_run_stays_what_it_was_trained_with(whole, tmp_path, capsys):
    folder = tmp_path / 'run'
    shutil.copytree(whole.folder, folder)
    before = (folder / 'config.json').read_bytes()
    stubs.trained(folder, '--discount', '0.5', '--seed', '3')
    said = capsys.readouterr().out
    assert 'nothing is learned with' in said and 'discount 0.5' in said and 'seed 3' in said
    assert (folder / 'config.json').read_bytes() == before


def test_a_finished_run_whose_last_episode_is_not_stays_so_too(tmp_path, capsys):
    """Its steps are those of whole episodes and of what is under way."""
    folder = tmp_path / 'run'
    made = stubs.trained(folder, '--steps', '100')
    assert made.trainer.replay.steps < 100 <= made.trainer.step
    before = (folder / 'config.json').read_bytes()
    stubs.trained(folder, '--steps', '100', '--discount', '0.5')
    assert 'nothing is learned with discount 0.5' in capsys.readouterr().out
    assert (folder / 'config.json').read_bytes() == before
    # It may be called shorter, by the code that trained it.
    stubs.trained(folder, '--steps', '90')
    config, _ = commandline.load(folder / 'config.json')
    assert (config.steps, config.discount) == (90, 0.99)


def test_a_run_whose_last_updates_are_lost_is_not_finished(whole, tmp_path, capsys):
    folder = tmp_path / 'run'
    shutil.copytree(whole.folder, folder)
    for path in folder.glob('state-000000010.*'):
        path.unlink()
    again = stubs.trained(folder, '--discount', '0.5')
    assert len(again.learned) == 2 and again.trainer.config.discount == 0.5
    assert 'other settings: discount 0.5 (0.99 before)' in capsys.readouterr().out
    config, _ = commandline.load(folder / 'config.json')
    assert config.discount == 0.5
    assert len(provenance.history(folder / 'config.json')['changes']) == 1


def test_a_resumed_run_collects_on_with_new_seeds_and_is_not_judged_twice(whole, resumed):
    assert resumed.acted[0]['exploring'] and resumed.made[1].split == 'valid'
    assert len(resumed.made[1].resets) == 1
    old, new = (pd.read_csv(run.folder / 'episodes.csv') for run in (whole, resumed))
    added = new[len(old):]
    assert 'prefill' not in set(added['mode']) and list(added['mode']).count('eval') == 1
    assert added['mode'].iloc[-1] == 'eval' and 162 <= added['step'].iloc[-1] < 166
    before, after = (
        {seed for made in run.made for drawn, _ in made.resets for seed in drawn}
        for run in (whole, resumed))
    assert not before & after and not set(whole.replay_seeds) & set(resumed.replay_seeds)


def test_a_run_that_is_killed_in_its_last_phase_makes_the_updates_that_are_due(whole, tmp_path):
    """The checkpoint is of the phase before; the episodes are all there."""
    folder = tmp_path / 'run'
    shutil.copytree(whole.folder, folder)
    for path in folder.glob('state-000000010.*'):
        path.unlink()
    again = stubs.trained(folder, '--log_every', '3')
    assert again.replay_seeds == whole.replay_seeds[8:]


def test_a_run_that_is_killed_in_its_first_phase_makes_the_same_updates_again(tmp_path):
    words = ('--envs', '1', '--prefill', '24', '--steps', '24', '--pretrain', '3',
             '--eval_episodes', '0')
    wanted = stubs.trained(tmp_path / 'whole', *words)
    with pytest.raises(KeyboardInterrupt):
        stubs.trained(tmp_path / 'killed', *words, interrupted=2)
    again = stubs.trained(tmp_path / 'killed', *words)
    assert len(stored(wanted.folder)) == 2 and len(wanted.learned) == 3
    assert same_run(wanted, again)


def stopping_at(count):
    """A stand-in for what may be stopped, which is at its call number `count`."""
    calls = itertools.count(1)

    def function(*_):
        if next(calls) == count:
            raise stopping.Stopped(signal.SIGTERM)
    return function


def test_a_prefill_that_is_stopped_while_it_waits_for_an_episode_goes_on(tmp_path, monkeypatch):
    """Of 4 steps, where the first episode of its environments ends after 20."""
    words = ('--prefill', '4', '--pretrain', '3', '--steps', '60', '--eval_episodes', '0')
    wanted = stubs.trained(tmp_path / 'whole', *words)
    with monkeypatch.context() as patch, pytest.raises(stopping.Stopped):
        patch.setattr(stopping, 'check', stopping_at(4))
        stubs.trained(tmp_path / 'stopped', *words)
    assert not stored(tmp_path / 'stopped')
    again = stubs.trained(tmp_path / 'stopped', *words)
    assert len(stored(wanted.folder)) > 3 and same_run(wanted, again)


def test_a_run_that_is_stopped_while_an_environment_hangs_decides_nothing_twice(
        tmp_path, monkeypatch):
    """The policy has decided, and no answer comes: the unfinished episodes are dropped."""
    step, stop = stubs.Environments.step, stopping_at(15)

    def hanging(self, action):
        stop()
        return step(self, action)
    with monkeypatch.context() as patch, pytest.raises(stopping.Stopped):
        patch.setattr(stubs.Environments, 'step', hanging)
        stubs.trained(tmp_path, '--eval_episodes', '0')
    episodes = len(stored(tmp_path))
    again = stubs.trained(tmp_path, '--eval_episodes', '0')
    assert again.acted[0]['is_first'].all() and len(again.made[0].resets) == 1
    for arrays in stored(tmp_path):
        check_entries(arrays)
    assert len(stored(tmp_path)) > episodes > 0


def test_with_another_number_of_environments_what_is_dropped_is_said(tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(stopping.Stopped):
        patch.setattr(stopping, 'check', stopping_at(12))
        stubs.trained(tmp_path, '--eval_episodes', '0')
    capsys.readouterr()
    stubs.trained(tmp_path, '--eval_episodes', '0', '--envs', '1')
    assert capsys.readouterr().out.count('unfinished episodes are dropped') == 1


def acts(agent):
    """What an agent does in three situations, by the same noise."""
    agent.judging.reset_from_seed(1)
    observation = {
        'touch': tf.constant(np.linspace(-200, 200, 18).reshape(3, 6), tf.float32),
        'touch_flag': tf.ones([3, 1]), 'is_first': tf.ones([3], bool)}
    return agent.policy(observation, agent.initial(3), False)[0].numpy()


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_a_restored_agent_acts_by_the_restored_weights_in_every_precision(precision, tmp_path):
    """Rounded copies included: those of a fresh agent of the same seed would act otherwise."""
    words = ('--precision', precision, '--actor_rate', '0.1', '--steps', '40', '--eval_episodes',
             '0')
    made = stubs.trained(tmp_path, *words)
    with stubs.eagerly():
        wanted = acts(made.trainer.agent)
        fresh = stubs.Experiment(tmp_path, *words)
        assert not np.allclose(acts(fresh.agent()), wanted, atol=0.01)
        agent, step, _ = fresh.restored()
        assert step == 40
        np.testing.assert_array_equal(acts(agent), wanted)
        with training.Trainer(stubs.Experiment(tmp_path, *words)) as trainer:
            np.testing.assert_array_equal(acts(trainer.agent), wanted)


def test_an_evaluation_is_a_function_of_seed_step_and_weights(tmp_path):
    """Whatever was judged before, and by which noise."""
    stubs.trained(tmp_path, '--steps', '40')
    again = stubs.Experiment(tmp_path, '--steps', '40')
    with stubs.eagerly(), training.Trainer(again) as trainer:
        trainer.step = 40
        trainer.evaluate()
    table = pd.read_csv(tmp_path / 'episodes.csv')
    first, second = table['return'][table['mode'] == 'eval']
    assert first == second != 0


def test_a_checkpoint_holds_how_far_the_run_was(whole):
    progress = Progress(whole.trainer.agent)
    tools.Checkpoints(whole.folder, progress).restore()
    step = whole.trainer.step
    assert (int(progress.step), int(progress.evaluated), int(progress.due)) == (step, step, 10)
    assert float(progress.seconds) > 0 and progress.begun
    assert commandline.load(whole.folder / 'config.json')[1] == 'mummi'


def test_the_part_of_an_episode_that_was_cut_is_learned_from_and_no_point_of_a_curve(
        tmp_path, monkeypatch):
    step = stubs.Environments.step

    def cutting(self, action):
        observation, reward, terminated, truncated, info = step(self, action)
        # The first environment's are all said to be cut, those that its limit ends.
        cut = truncated & (np.arange(self.num_envs) == 0)
        return observation, reward, terminated, truncated, info | {'cut': cut} if cut.any() else {}
    monkeypatch.setattr(stubs.Environments, 'step', cutting)
    run = stubs.trained(tmp_path / 'run', '--eval_episodes', '0')
    table = pd.read_csv(run.folder / 'episodes.csv')
    modes = table['mode'].tolist()
    assert set(modes) - {'mixed'} == {'prefill', 'train', 'cut'}
    assert len(modes) == len(stored(run.folder))
    assert modes.index('cut') < modes.index('train')  # also among random actions
    assert (table['length'][table['mode'] == 'cut'] == 2 * LIMIT).all()
    whole = table['return'][~table['mode'].isin(['cut', 'mixed'])]
    assert list(run.trainer.screen.returns) == pytest.approx(list(whole), 1e-5)


def test_beside_the_bar_stands_the_mean_of_the_last_ten_returns(tmp_path):
    run = stubs.trained(tmp_path / 'run', '--eval_episodes', '0', '--steps', '300')
    returns = pd.read_csv(run.folder / 'episodes.csv')['return']
    assert len(returns) > 15
    assert run.trainer.screen.recent() == f'return {texts.told(returns.tail(10).mean())}'
    assert len(run.trainer.screen.returns) == 10  # and no more are kept


@pytest.mark.parametrize('left', ['state', 'checkpoints gone'])
def test_episodes_of_another_environment_are_told_and_nothing_is_changed(
        left, whole, tmp_path, monkeypatch):
    folder = shutil.copytree(whole.folder, tmp_path / 'run')
    if left != 'state':
        for path in folder.glob('state-*'):
            path.unlink()
    contents = lambda: {
        path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    before = contents()
    other = gymnasium.spaces.Box(-np.inf, np.inf, (9,), np.float32)
    for now, words in (other, r'\(9,\) float32'), (None, 'absent'):
        made = stubs.Experiment(folder)
        spaces = made.description.observation_space.spaces
        if now:
            spaces['touch'] = now
        else:
            del spaces['touch']
        with pytest.raises(UserError, match=rf'touch is \(6,\) float32 there, and {words} now'):
            training.Trainer(made)
        assert contents() == before


@pytest.mark.parametrize('why', ['nobody reads', 'disk full'])
def test_output_that_cannot_be_written_ends_no_run(why, tmp_path, monkeypatch, unread):
    outputs = []
    for name in 'stdout', 'stderr':
        outputs.append(unread() if why == 'nobody reads' else open('/dev/full', 'w', buffering=1))
        monkeypatch.setattr(sys, name, outputs[-1])
    run = stubs.trained(tmp_path / 'run')
    assert run.trainer.step >= 120
    for output in outputs:
        output.close()


def test_lines_above_the_bar_do_not_break_it(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, 'stdout', terminal)
    monkeypatch.setattr(sys, 'stderr', terminal)
    with screen.Screen().following(0, 9):
        screen.say('a line')
    assert re.search(r'\r +\ra line\n', terminal.getvalue())


@pytest.mark.parametrize('number', [errno.EMFILE, errno.EAGAIN])
def test_a_system_that_has_no_more_is_a_line(number, whole, monkeypatch, capsys):
    def short(_):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(training, 'Trainer', short)
    with pytest.raises(SystemExit) as ended:
        training.main(whole)
    assert ended.value.code == 2 and 'fewer --envs' in capsys.readouterr().err


def test_a_gpu_whose_memory_is_full_is_a_line(whole, monkeypatch, capsys):
    def full(_):
        raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor')
    monkeypatch.setattr(training, 'Trainer', full)
    with pytest.raises(SystemExit) as ended:
        training.main(whole)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and 'a smaller --replay_memory or --batch' in said


# --- Sound ------------------------------------------------------------------------------------


def test_the_first_evaluated_episode_is_written_as_sound_and_no_other(tmp_path, monkeypatch):
    """Each decision of the stub here sounds like the number of its episode, and of itself."""
    reset, step = stubs.Environments.reset, stubs.Environments.step

    def sounding(environments, result):
        sound = np.stack([environments.episode, environments.decision], 1).astype(np.int16)
        return *result[:-1], {'sound': sound}
    monkeypatch.setattr(stubs.Environments, 'reset', lambda self, *arguments, **words: sounding(
        self, reset(self, *arguments, **words)))
    monkeypatch.setattr(stubs.Environments, 'step', lambda self, action: sounding(
        self, step(self, action)))
    made = stubs.trained(tmp_path / 'run', '--steps', '60', '--eval_episodes', '2')
    paths = sorted((made.folder / 'videos').glob('*.wav'))
    assert len(paths) == 2
    evaluated = [environments for environments in made.made if environments.split == 'valid']
    assert len(evaluated) == 1
    seeds = [drawn[0] for drawn, _ in evaluated[0].resets]
    assert len(seeds) == 4  # two episodes of each
    for path, seed in zip(paths, seeds[::2]):
        rate, samples = wavfile.read(path)
        episode = seed % 1000  # as the first environment counts
        length = ENDS if terminates(episode) else LIMIT
        assert rate == 16000
        assert samples.reshape(-1, 2).tolist() == [[episode, t] for t in range(length + 1)]
    assert all('sound' not in arrays for arrays in stored(made.folder))
