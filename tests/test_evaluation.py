"""`--test` and `--inspect` in this process on the stub task: which environments, seeds and noise
they use, and numbers that are told by what happened."""

import shutil

import numpy as np
import pandas as pd
import pytest
import stubs
import tensorflow as tf
from helpers import close, shake, stepped
from PIL import Image
from stubs import ENDS, LIMIT, terminates

import evaluation
import inspection

# --- --test --------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def folder(whole, tmp_path_factory):
    """A copy of the finished run, for what judging writes."""
    folder = tmp_path_factory.mktemp('judged') / 'run'
    shutil.copytree(whole.folder, folder)
    return folder


@pytest.fixture(scope='module')
def tested(folder):
    """(experiment, its results): the stub task drops its sensor at a chance of 1 alone, so the
    first two conditions are the same to the agent."""
    made = stubs.Experiment(
        folder, '--test', '--test_ratios', '0,0.5,1', '--test_episodes', '4', '--envs', '3')
    with stubs.eagerly():
        evaluation.test(made)
    return made, pd.read_csv(folder / 'results.csv', keep_default_na=False)


def test_a_test_plays_on_validation_backgrounds_by_the_mode(tested):
    made, _ = tested
    (environments,) = made.made
    assert (environments.split, environments.num_envs, environments.closed) == ('valid', 4, True)
    assert len(made.acted) == 3 * max(ENDS, LIMIT)
    for call in made.acted:
        assert call['exploring'] is False and call['drew'] == [False, True]
        assert (call['split'] == call['flag']).all()  # 1, and 0 where all is dropped
    assert {call['flag'][0] for call in made.acted} == {0, 1}


def test_every_condition_has_the_same_seeds_and_noise(tested):
    made, results = tested
    conditions = [results[results.ratio == ratio] for ratio in (0, 0.5, 1)]
    seeds = conditions[0].seed.tolist()
    assert len(set(seeds)) == 4
    for number, (drawn, options) in enumerate(made.made[0].resets):
        assert drawn == seeds
        assert options == {'miss_ratio': {'touch': (0, 0.5, 1)[number]}}
    first, second, third = (rows['return'].tolist() for rows in conditions)
    assert first == second and len(set(first)) == 4
    assert first != third
    assert [rows.missing_touch.tolist() for rows in conditions] == [[0] * 4, [0] * 4, [1] * 4]


def test_a_test_has_none_of_the_seeds_of_its_run(tested, whole):
    _, results = tested
    used = {seed for environments in whole.made for drawn, _ in environments.resets
            for seed in drawn}
    assert len(used) > 4 and not used & set(results.seed)


def test_rows_are_of_the_checkpoint_and_of_both_kinds_of_episodes(tested, whole):
    _, results = tested
    assert set(results.step) == {whole.trainer.step} and set(results.options) == {''}
    assert set(results.length) == {2 * ENDS, 2 * LIMIT}
    assert results.episode.tolist() == [0, 1, 2, 3] * 3


def test_faults_are_conditions_of_their_own_with_nothing_missing():
    tests = evaluation.conditions([0, 0.1], ['image', 'touch'], 'image=noise:0.10,touch=delay:3')
    none = {'image': 0.0, 'touch': 0.0}
    assert [test[:3] for test in tests if test[0] == 'corrupt'] == [
        ('corrupt', 'image=noise:0.1', 0.0), ('corrupt', 'touch=delay:3', 0.0),
        ('corrupt', 'image=noise:0.1+touch=delay:3', 0.0)]
    assert [test[3] for test in tests if test[0] == 'corrupt'] == [
        {'miss_ratio': none, 'corrupt': fault} for fault in (
            'image=noise:0.1', 'touch=delay:3', 'image=noise:0.1,touch=delay:3')]
    # All the others are as without faults, also where the run was trained with some.
    assert [(*test[:3], test[3]['miss_ratio']) for test in tests if test[0] != 'corrupt'] == [
        (*test[:3], test[3]['miss_ratio']) for test in evaluation.conditions(
            [0, 0.1], ['image', 'touch'])]
    assert all(test[3]['corrupt'] == '' for test in tests if test[0] != 'corrupt')
    assert len(evaluation.conditions([0], ['touch'], 'touch=delay:3')) == 2


def test_what_the_representation_holds_is_told_of_every_condition(
        whole, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(whole.folder, tmp_path / 'run')
    made = stubs.Experiment(folder, '--test', '--test_ratios', '0,1', '--test_episodes', '2',
                            '--corrupt', 'touch=noise:0.1')
    said, agreement = [], evaluation.agreement
    monkeypatch.setattr(evaluation, 'agreement', lambda *arguments: said.append(
        (arguments, agreement(*arguments))) or said[-1][1])
    with stubs.eagerly():
        evaluation.test(made)
    results = pd.read_csv(folder / 'results.csv', keep_default_na=False)
    assert results.condition.tolist() == ['ratio'] * 4 + ['corrupt'] * 2
    assert set(results.options) == {''} and set(results.sensor[4:]) == {'touch=noise:0.1'}
    # The environments were told what to falsify, and when.
    assert [options['corrupt'] for _, options in made.made[0].resets] == ['', '', 'touch=noise:0.1']
    # A single sensor that is there has nearly all the weight, and none where it is missing.
    assert results.weight_touch[[0, 1, 4, 5]].between(0.9, 1).all()
    assert (results.weight_touch[2:4] == 0).all()
    (agent, episode, _), numbers = said[0]
    embeddings = agent.world.representation.embed(
        {key: episode[key] for key in ('touch', 'touch_flag')})
    share = agent.world.representation.trust(embeddings)['touch']
    assert numbers['weight_touch'] == pytest.approx(float(np.mean(share)), rel=1e-4)
    assert 0 < numbers['agree_touch'] < 3
    # And the latents are those that the episode's actions and observations lead to.
    world = agent.world
    shake(world)
    monkeypatch.setattr(world.representation, 'metrics', lambda features, *_: {
        'features': tf.reduce_mean(features)})
    batch = {key: tf.constant(episode[key])[None] for key in ('touch', 'touch_flag', 'action')}
    joint = world.representation.embed(batch)['joint']
    noise = tf.zeros([1, len(episode['action']), agent.config.stoch])
    means = [pytest.approx(float(np.mean(stepped(
        world.dynamics, joint, actions, noise)[0].features())), rel=1e-4)
        for actions in (batch['action'], 0 * batch['action'])]
    with stubs.eagerly():
        held = agreement(agent, episode, ('touch',))['features']
    assert held == means[0] and held != means[1]
    out = capsys.readouterr().out
    assert 'touch=noise:0.1' in out and 'as they are' in out and 'weight_touch' in out


@pytest.mark.parametrize('full', [False, True])
def test_what_was_judged_is_kept_or_told_where_the_other_fails(
        full, whole, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(whole.folder, tmp_path / 'run')
    made = stubs.Experiment(folder, '--test', '--test_ratios', '0', '--test_episodes', '1')

    def refuse(*_, **__):
        raise BrokenPipeError
    if full:
        monkeypatch.setattr(evaluation, 'add', refuse)
    else:
        monkeypatch.setattr('builtins.print', refuse)
    with stubs.eagerly(), pytest.raises(BrokenPipeError):
        evaluation.test(made)
    if full:
        assert 'nothing missing' in capsys.readouterr().out
    else:
        assert len(pd.read_csv(folder / 'results.csv')) == 1


def test_a_method_without_agreement_has_a_line_where_faults_were_asked_for():
    rows = pd.DataFrame({'condition': ['ratio', 'corrupt'], 'sensor': ['', 'touch=noise:1'],
                         'ratio': [0, 0], 'return': 1.0})
    assert evaluation.agreement_table(rows) == (
        'weights and agreement of the sensors: - (this method has none)')
    assert evaluation.agreement_table(rows[:1]) == ''


def test_agreement_is_told_as_means_over_episodes_of_each_condition():
    rows = pd.DataFrame({
        'condition': ['ratio', 'ratio', 'ratio', 'corrupt', 'corrupt', 'without'],
        'sensor': ['', '', '', 'touch=noise:1', 'touch=noise:1', 'touch'],
        'ratio': [0, 0, 0.1, 0, 0, 1], 'agree_touch': [0.1, 0.4, 9, 0.5, 0.7, 9],
        'find_touch': [0.2, 0.6, 9, 0, 0.1, 9], 'return': 1.0})
    lines = [line.split() for line in evaluation.agreement_table(rows).splitlines()]
    assert lines[0] == ['sensor', 'as', 'they', 'are', 'touch=noise:1']
    assert lines[1:] == [['agree_touch', '0.250', '0.600'], ['find_touch', '0.400', '0.050']]


# --- --inspect -----------------------------------------------------------------------------


@pytest.fixture(scope='module', params=[0, 1])
def inspected(folder, request):
    """(experiment, what the agent said of the episode, latents and observations that it said it
    of, the episode as it was summed up, numbers.csv)."""
    made = stubs.Experiment(folder, '--inspect', '--envs', '2', '--seed', str(request.param))
    agent, step, path = made.restored()
    explained, episodes, explain, summary = [], [], agent.explain, inspection.summary

    def recorded(latents, observation):
        explained.append((latents, observation, explain(latents, observation)))
        return explained[-1][2]

    agent.explain = recorded
    made.restored = lambda: (agent, step, path)
    with stubs.eagerly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, 'summary', lambda episode, *rest: episodes.append(
            episode) or summary(episode, *rest))
        inspection.inspect(made)
    # Under another seed than the run's, which is another episode, in a folder of its own.
    made.place = folder / 'inspect' / (path.name + '-seed=1' * request.param)
    numbers = pd.read_csv(made.place / 'numbers.csv', index_col='number')
    return made, *explained[0], episodes[0], numbers['value']


def test_an_inspection_is_of_one_episode_on_a_validation_background_by_the_mode(inspected):
    made, latents, observation, *_ = inspected
    assert [(e.split, e.num_envs, e.closed) for e in made.made] == [('valid', 1, True)]
    assert all(call['drew'] == [False, True] and not call['exploring'] for call in made.acted)
    told = stubs.where(observation['touch'].numpy())
    assert set(told['split']) == {1}
    np.testing.assert_array_equal(told['decision'], np.arange(len(made.acted)))
    assert {len(value) for value in latents.values()} == {len(made.acted)}


def test_latents_of_an_inspection_are_those_of_the_observations_beside_them(inspected):
    """By the means of the posterior at each entry, computed again from the recorded actions."""
    made, latents, observation, _, episode, _ = inspected
    agent = made.restored()[0]
    dynamics = agent.world.dynamics.read()
    joint = agent.world.representation.embed(observation)['joint']
    state = agent.world.dynamics.initial(1)
    for t in range(len(joint)):
        h = dynamics.transition(state, episode['action'][t:t + 1])
        state = dynamics.posterior(h, joint[t:t + 1], 0.0)
        close(latents['mean'][t], state.mean[0], 1e-4)
        close(latents['deterministic'][t], state.deterministic[0], 1e-4)
        state = state._replace(stochastic=latents['stochastic'][t:t + 1])


def test_numbers_of_an_inspection_compare_the_heads_with_what_followed(inspected):
    made, _, _, inside, episode, numbers = inspected
    reward, entries = episode['reward'].astype(float), len(made.acted)
    assert len(reward) == entries + 1
    ends = bool(terminates(stubs.where(episode['touch'])['episode'][0]))
    assert ends == (made.config.seed == SEED_THAT_ENDS) == (episode['discount'][-1] == 0)
    value, predicted = inside['value'].numpy(), inside['reward'].numpy()
    ahead = []
    for t in range(entries):
        if ends:
            ahead.append(sum(0.99 ** k * r for k, r in enumerate(reward[t:])))
        else:  # up to the last decision, whose value stands for the rest
            rest = entries - 1 - t
            ahead.append(sum(0.99 ** k * reward[t + k] for k in range(rest))
                         + 0.99 ** rest * value[-1])
    wanted = {
        'return': reward.sum(), 'reward_error': np.abs(predicted - reward[:-1]).mean(),
        'reward_deviation': reward[:-1].std(), 'value': value.mean(),
        'discounted_return': np.mean(ahead), 'missing_touch': 0}
    for name, number in wanted.items():
        assert numbers[name] == pytest.approx(number, rel=1e-3, abs=1e-6), name
    for name, metric in inside['metrics'].items():
        assert numbers[name] == pytest.approx(float(metric), rel=1e-3, abs=1e-6)


def test_an_inspection_under_other_settings_lies_beside_the_run_s_and_says_so(
        inspected, folder, capsys, monkeypatch):
    made = inspected[0]
    own = made.place / 'numbers.csv'
    before = own.read_bytes()
    other = made.place.with_name(
        f'{made.restored()[2].name}-miss_ratio=0.5_corrupt=touch=noise_0.3')
    shutil.rmtree(other, ignore_errors=True)
    changed = stubs.Experiment(
        folder, '--inspect', '--miss_ratio', '0.5', '--corrupt', 'touch=noise:0.3')
    monkeypatch.setattr(changed, 'restored', made.restored, raising=False)
    capsys.readouterr()
    with stubs.eagerly():
        inspection.inspect(changed)
    assert own.read_bytes() == before
    assert {path.name for path in other.iterdir()} == {
        path.name for path in own.parent.iterdir()}
    assert 'steps, with miss_ratio=0.5 corrupt=touch=noise:0.3: return' in capsys.readouterr().out


def test_an_inspected_episode_that_had_to_be_begun_anew_is_of_what_followed(
        inspected, monkeypatch):
    made, step, decisions = inspected[0], stubs.Environments.step, []

    def restarted(self, action):
        decisions.append(0)
        if len(decisions) != 3:
            return step(self, action)
        self._begin(self.seeds)
        none = np.zeros(1, bool)
        return self._observe(), np.zeros(1), none, none, {'again': ~none, 'steps': np.zeros(1)}
    monkeypatch.setattr(stubs.Environments, 'step', restarted)
    with stubs.eagerly():
        episode, inside = inspection.play(made, made.restored()[0])
    told = stubs.where(episode['touch'])['decision']
    np.testing.assert_array_equal(told, np.arange(len(told)))
    assert len(inside['value']) == len(told) - 1 == len(decisions) - 3


# Of the seeds above, the one whose episode ends with the task.
SEED_THAT_ENDS = 0


def test_the_spectrum_of_an_episode_is_drawn_with_what_the_latents_hold(tmp_path):
    random = np.random.default_rng(0)
    episode = {'audio': random.uniform(0, 50, (41, 32)), 'audio_flag': np.ones((41, 1))}
    times = 2 * np.arange(40)
    for name, predicted in ('both', random.uniform(0, 1, (40, 32))), ('heard', None):
        inspection.draw_spectrum('audio', episode, predicted, times, tmp_path / f'{name}.png',
                                 'a title')
    sizes = {name: Image.open(tmp_path / f'{name}.png').size for name in ('both', 'heard')}
    assert sizes['both'][1] > 1.5 * sizes['heard'][1]
    pixels = np.asarray(Image.open(tmp_path / 'both.png').convert('RGB'))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200
