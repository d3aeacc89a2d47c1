"""Trained agents that are exported, judged and drawn where they lie, loaded, and begun with."""

import ast
import json
import pathlib
import random
import re
import shutil
import subprocess
import tokenize
import types

import gymnasium
import helpers
import numpy as np
import pandas as pd
import pytest
import stubs
import tensorflow as tf

import card
import commandline
import evaluation
import experiment
import files
import inspection
import mummi
import provenance
import sharing
import texts
import training
from config import UserError

ROOT = pathlib.Path(sharing.__file__).parent


def exported(run, target, *words, **options):
    """The experiment of an export of a finished stub run."""
    made = stubs.Experiment(run, '--envs', '2', '--export', str(target), *words, **options)
    with stubs.eagerly():
        sharing.export(made)
    return made


@pytest.fixture(scope='module')
def judged(whole, tmp_path_factory):
    """A copy of the finished run that was judged."""
    folder = tmp_path_factory.mktemp('shared') / 'run'
    shutil.copytree(whole.folder, folder)
    with stubs.eagerly():
        evaluation.test(stubs.Experiment(
            folder, '--test', '--test_ratios', '0,1', '--test_episodes', '3', '--envs', '2'))
    return folder


@pytest.fixture(scope='module')
def shared(judged, tmp_path_factory):
    target = tmp_path_factory.mktemp('exported') / 'agents' / 'stub'
    exported(judged, target)
    return target


def weights(agent):
    return {name: variable.numpy() for name, variable in sharing.variables(agent).items()}


# --- What is in the folder -------------------------------------------------------------------


def test_an_exported_folder_holds_weights_settings_results_and_a_card(shared, judged):
    assert helpers.names(shared) == ['README.md', 'config.json', 'results.csv', files.WEIGHTS]
    before, method = commandline.load(judged / 'config.json')
    after, same = commandline.load(shared / 'config.json')
    assert (same, after.logdir) == (method, '') and vars(after) | {
        'logdir': before.logdir} == vars(before)
    assert json.loads((shared / 'config.json').read_text())['revisions'] == json.loads(
        (judged / 'config.json').read_text())['revisions']
    results = pd.read_csv(judged / 'results.csv')
    assert len(results) == 6
    pd.testing.assert_frame_equal(pd.read_csv(shared / 'results.csv'), results)
    assert not [path for path in shared.parent.iterdir() if path != shared]


def test_card_and_configuration_say_what_was_changed_on_the_way(judged, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(judged, run)
    settings, method = commandline.load(run / 'config.json')
    commandline.save(settings, method, run / 'config.json', {
        'revisions': ['aaa'], 'changes': ['from step 400 on: horizon 9 (15 before)']})
    exported(run, tmp_path / 'agent')
    assert provenance.history(tmp_path / 'agent' / 'config.json')['changes'] == [
        'from step 400 on: horizon 9 (15 before)']
    card_ = (tmp_path / 'agent' / 'README.md').read_text(encoding='utf-8')
    assert '| settings changed | from step 400 on: horizon 9 (15 before) |' in card_


def test_all_that_acts_is_exported_and_nothing_of_the_optimisers(shared, whole):
    with np.load(shared / files.WEIGHTS, allow_pickle=False) as kept:
        names, types = set(kept.files) - set(sharing.NUMBERS), {
            kept[name].dtype for name in kept.files if name not in sharing.NUMBERS}
        assert int(kept['step']) == whole.trainer.step
        assert int(kept['updates']) == int(whole.trainer.agent.updates) > 0
    agent = whole.trainer.agent
    assert {np.dtype(np.float16)} == types
    values = sum(v.size for v in weights(agent).values())
    assert values == sum(agent.parts().values())  # of this agent, each is in one part
    assert len(names) == len(weights(agent))
    moments = [o for o in agent.optimisers.values() for o in (*o.first, *o.second)]
    assert not {id(v) for v in moments} & {id(v) for v in sharing.variables(agent).values()}


def test_slow_copies_and_the_soft_critics_with_their_temperature_are_among_them():
    agent = helpers.build('cvrl', '--use_sac', '--slow_value', '0.1')
    names = weights(agent)
    for part in ('followers/0/network', 'soft/critics', 'soft/slow_critics', 'log_temperature',
                 'pictures/decoders'):
        assert any(part in name for name in names), part
    assert len(names) == len({id(v) for v in sharing.variables(agent).values()})


def test_the_card_says_what_it_is_and_how_well_it_does(shared, whole, judged):
    text = (shared / 'README.md').read_text()
    command = re.search(r'Trained by\n\n    python mummi.py (.*)\n', text)[1]
    config = commandline.parse(mummi.METHOD, command.split())
    wanted = commandline.load(shared / 'config.json')[0]
    assert vars(config) | {'logdir': ''} == vars(wanted)
    assert f'{whole.trainer.step:,} steps, {int(whole.trainer.agent.updates):,} updates' in text
    assert re.search(r' updates, \d+ min \|', text) and card._time(8000) == '2.2 hours'
    returns = pd.read_csv(judged / 'results.csv').groupby('ratio')['return'].mean()
    assert f'| nothing missing | {texts.told(returns[0], digits=0)} | ' in text
    assert f'| drop-out chance 1 | {texts.told(returns[1], digits=0)} | ' in text
    assert 'rounded to half precision' in text and 'before the weights were rounded' in text
    assert str(judged) not in text
    line = re.search(r'`experiment\.load\((.*)\)`', text)[1]
    assert pathlib.Path(ast.literal_eval(line)).name == shared.name


def test_a_card_tells_every_condition_by_its_name():
    rows = pd.DataFrame([
        {'condition': condition, 'sensor': sensor, 'ratio': ratio, 'return': 100.0}
        for condition, sensor, ratio, _ in evaluation.conditions(
            [0, 0.1], ['image', 'touch'], 'image=noise:0.1')])
    told = re.findall(r'\| (.*?) \| 100 \| - \| 1 \|', card.returns(rows))
    assert told == ['nothing missing', 'drop-out chance 0.1', 'image gone', 'touch gone',
                    'image alone', 'touch alone', 'fault image=noise:0.1']


def test_results_of_other_checkpoints_and_options_stay_behind(judged, tmp_path, capsys):
    run = shutil.copytree(judged, tmp_path / 'run')
    table = pd.read_csv(run / 'results.csv', keep_default_na=False)
    table.loc[0, 'step'] = 7
    table.loc[1, 'options'] = 'natural=False'
    table.to_csv(run / 'results.csv', index=False)
    exported(run, tmp_path / 'agent')
    assert len(pd.read_csv(tmp_path / 'agent' / 'results.csv')) == 4
    assert '2 rows of results.csv are left out' in capsys.readouterr().out


def test_a_run_that_was_not_judged_is_exported_without_results(whole, tmp_path):
    exported(whole.folder, tmp_path / 'agent')
    assert 'results.csv' not in helpers.names(tmp_path / 'agent')
    assert 'not judged yet' in (tmp_path / 'agent' / 'README.md').read_text()


# --- Half precision --------------------------------------------------------------------------


def test_only_what_half_precision_can_hold_is_rounded():
    assert sharing.halved(np.float32([0.1, -3])).dtype == np.float16
    assert sharing.halved(np.float32([0, 0])).dtype == np.float16
    for values in ([1e5, 1], [1e-7, 3e-8], [7e4]):
        kept = sharing.halved(np.float32(values))
        assert kept.dtype == np.float32 and np.array_equal(kept, np.float32(values))


def test_exact_weights_are_exported_where_asked(whole, tmp_path):
    made = exported(whole.folder, tmp_path / 'agent', '--no-export_half')
    agent = made.agent()
    sharing.restore(agent, tmp_path / 'agent')
    for name, value in weights(whole.trainer.agent).items():
        assert np.array_equal(weights(agent)[name], value), name
    assert 'in float32' in (tmp_path / 'agent' / 'README.md').read_text()


# --- What it is for --------------------------------------------------------------------------


def test_restored_weights_are_float32_and_close_to_the_runs(shared, whole):
    made = stubs.Experiment(shared, '--test')
    with stubs.eagerly():
        agent, step, path = made.restored()
    assert (step, path) == (whole.trainer.step, shared / 'weights')
    for name, value in weights(whole.trainer.agent).items():
        found = weights(agent)[name]
        assert found.dtype == np.float32
        helpers.close(found, value, 1e-3)
    assert int(agent.updates) == int(whole.trainer.agent.updates)


def test_an_exported_agent_is_judged_and_drawn_where_it_lies(shared, judged, tmp_path):
    folder = shutil.copytree(shared, tmp_path / 'agent')
    with stubs.eagerly():
        evaluation.test(stubs.Experiment(
            folder, '--test', '--test_ratios', '0,1', '--test_episodes', '3', '--envs', '2'))
        inspection.inspect(stubs.Experiment(folder, '--inspect'))
    before, after = (pd.read_csv(place / 'results.csv') for place in (judged, folder))
    assert len(after) == len(before)  # the same test: its rows are replaced
    helpers.close(after['return'], before['return'], 0.05)
    assert 'trust.png' in helpers.names(folder / 'inspect' / 'weights')


def test_five_lines_of_the_readme_act_in_the_environment(shared, monkeypatch):
    (code,) = re.findall(
        r'```python\n(import experiment\n.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    assert code in (ROOT / 'docs/usage.md').read_text()
    assert len(code.splitlines()) <= 9
    monkeypatch.setattr(experiment, 'Experiment', lambda method, representation, config: (
        stubs.Experiment(config.logdir, '--test')))
    scope = {}
    with stubs.eagerly():
        exec(code.replace('agents/walker_walk/mummi', str(shared)).replace('500', '9'), scope)
    agent = scope['agent']
    (environments,) = agent.experiment.made
    assert environments.split == 'valid'
    assert scope['action'].shape == (1, stubs.ACTIONS) and np.isfinite(scope['action']).all()
    # It acted by what it saw, and by what it had seen.
    acted = agent.experiment.acted
    assert [call['is_first'][0] for call in acted] == [True] + [False] * (len(acted) - 1)
    assert [call['decision'][0] for call in acted][:4] == [0, 1, 2, 3]
    assert not any(call['exploring'] for call in acted)


def test_one_robot_alone_acts_as_one_of_many_and_may_lack_a_sensor(shared):
    random.seed(3)
    np.random.seed(3)
    wanted = random.Random(3).random(), np.random.RandomState(3).rand()
    trained = experiment.Trained(stubs.Experiment(shared, '--test'))
    assert (random.random(), np.random.rand()) == wanted  # the caller's go on
    seen = np.float32([[0.1] * 6, [0.7] * 6])
    with stubs.eagerly():
        reset = lambda: trained.agent.judging.reset_from_seed(0)
        reset()
        many, state = trained.policy({'touch': seen})
        assert many.shape == (2, 2) and state['deterministic'].shape[0] == 2
        reset()
        one, _ = trained.policy({'touch': seen[:1]})
        reset()
        alone, state = trained.policy({'touch': seen[0]})
        assert alone.shape == (2,) and np.array_equal(alone, one[0])
        trained.policy({'touch': seen[0], 'touch_flag': [0]}, state)
        assert [call['flag'][0] for call in trained.experiment.acted] == [1, 1, 1, 0]
        # One of several begins an episode anew; another has nothing from before it.
        told = {'touch': seen, 'is_first': np.array([False, True])}
        _, after = trained.policy({'touch': seen})
        trained.policy(told, after)
        assert trained.experiment.acted[-1]['is_first'].tolist() == [False, True]
        trained.policy({'touch': seen}, after)
        assert not trained.experiment.acted[-1]['is_first'].any()
        trained.policy(told)
        assert trained.experiment.acted[-1]['is_first'].all()
        with pytest.raises(ValueError, match='of 2 environments, and the observation of 1'):
            trained.policy({'touch': seen[0]}, after)
        with pytest.raises(ValueError, match='at least one of touch'):
            trained.policy({'image': seen})
        for part in seen[:, :3], seen[0, :3]:
            with pytest.raises(ValueError, match=r'touch is .* \[6\] of one .* \[N, 6\] of N'):
                trained.policy({'touch': part})
        for name in 'tuoch', 'tuoch_flag':
            with pytest.raises(ValueError, match=f'{name} is no sensor; the agent has touch'):
                trained.policy({'touch': seen, name: seen})
        trained.policy({'touch': seen, 'image': None, 'depth_flag': 0})  # as a wider robot has them


@pytest.mark.parametrize('values', [[0.5, 0, 0], [-1, 0, 0], [256, 0, 0], [np.nan, 0, 0]])
def test_a_picture_that_is_not_of_bytes_is_no_black_one(values):
    space = gymnasium.spaces.Box(0, 255, (3,), np.uint8)
    agent = types.SimpleNamespace(initial=lambda count: None, policy=lambda values, *_: (
        tf.cast(values['image'], tf.float32), None))
    trained = experiment.Trained(types.SimpleNamespace(
        shapes={'image': (3,)}, restored=lambda: (agent, 0, None),
        description=types.SimpleNamespace(observation_space={'image': space})))
    with pytest.raises(ValueError, match='image takes whole numbers from 0 to 255'):
        trained.policy({'image': values})
    assert trained.policy({'image': [255.0, 1, 0]})[0].tolist() == [255, 1, 0]
    trained.policy({'image': values, 'image_flag': [0]})


def test_what_is_left_out_of_an_observation_is_missing_whatever_its_flag_says():
    shapes, given = {'touch': (6,), 'force': (2,)}, []
    spaces = {sensor: types.SimpleNamespace(dtype=np.float32) for sensor in shapes}
    agent = types.SimpleNamespace(initial=lambda count: None, policy=lambda values, *_: (
        given.append(values) or tf.zeros([1, 2]), None))
    trained = experiment.Trained(types.SimpleNamespace(
        shapes=shapes, restored=lambda: (agent, 0, None),
        description=types.SimpleNamespace(observation_space=spaces)))
    flags = {'touch_flag': [1], 'force_flag': [1]}
    for observation in {'touch': np.ones(6), 'force': None}, {'touch': np.ones(6)}:
        trained.policy(observation | flags)
        assert (given[-1]['touch_flag'], given[-1]['force_flag']) == (1, 0)
        assert not np.any(given[-1]['force'])
    trained.policy({'touch': np.ones(6), 'force': np.ones(2), 'touch_flag': [0]})
    assert (given[-1]['touch_flag'], given[-1]['force_flag']) == (0, 1)
    assert not np.any(given[-1]['touch']) and np.all(given[-1]['force'])
    # Of what is missing anything may come, and of what is there numbers only.
    trained.policy({'touch': np.full(6, np.nan), 'force': np.ones(2), 'touch_flag': [0]})
    assert not np.any(given[-1]['touch'])
    with pytest.raises(ValueError, match='touch is not finite'):
        trained.policy({'touch': np.full(6, np.nan), 'force': np.ones(2)})
    trained.policy({'touch': np.ones(6), 'touch_flag': None})
    assert given[-1]['touch_flag'] == 1
    for flag, wanted in (np.nan, 0), (-3, 0), (5, 1), (True, 1):  # it weighs the sensor
        trained.policy({'touch': np.ones(6), 'touch_flag': [flag]})
        assert given[-1]['touch_flag'] == wanted
    spaces['touch'].dtype = np.float16  # as depth's
    with pytest.raises(ValueError, match='touch is not finite as float16'):
        trained.policy({'touch': np.full(6, 70000.0)})


def test_an_agent_is_loaded_with_other_settings_than_its_own(shared, monkeypatch):
    monkeypatch.setattr(experiment, 'Trained', lambda experiment: experiment.config)
    found = [experiment.load(shared, *words) for words in (
        [], ['--seed', '7', '--render=full', '--miss_ratio=0.2'])]
    assert [(config.seed, config.render) for config in found] == [(0, 'light'), (7, 'full')]
    assert found[1].miss_ratio == 0.2 != found[0].miss_ratio
    assert found[1].test and found[1].logdir == str(shared)


def test_the_folder_of_an_agent_may_begin_with_the_users(shared, monkeypatch):
    monkeypatch.setenv('HOME', str(shared.parent))
    made = []
    monkeypatch.setattr(experiment, 'Experiment', lambda *given: made.append(given))
    monkeypatch.setattr(experiment, 'Trained', lambda _: None)
    experiment.load(f'~/{shared.name}')
    assert made[0][2].logdir == str(shared)


def test_a_folder_that_holds_no_run_of_a_script_here_is_not_loaded(tmp_path):
    with pytest.raises(UserError, match='no config.json'):
        experiment.load(tmp_path)
    for name in ('plotting', '../mummi', 'os'):
        (tmp_path / 'config.json').write_text(json.dumps({'method': name}))
        with pytest.raises(UserError, match='there is no script'):
            experiment.load(tmp_path)


@pytest.mark.parametrize('lines, wanted', [
    ('class Shared(Representation): pass\nclass Last(Shared): pass', 'Last'),
    ('class One(Representation): pass\nclass Last(Representation): pass', None),
    ('class One(Representation): pass\nclass Two(Representation): pass\nrepresentation = One',
     'One')])
def test_the_representation_of_a_script_is_the_one_it_was_trained_with(
        lines, wanted, tmp_path, monkeypatch):
    """A class that others are made of is none of its own."""
    monkeypatch.setattr(experiment, '__file__', str(tmp_path / 'experiment.py'))
    monkeypatch.syspath_prepend(tmp_path)
    name = f'mine_{len(lines)}'
    (tmp_path / f'{name}.py').write_text(
        f'from models import Representation\nMETHOD = 1\n{lines}\n')
    if wanted:
        assert experiment.script(name)[1].__name__ == wanted
    else:
        with pytest.raises(UserError, match='defines 2 .*representation = Last'):
            experiment.script(name)


def test_a_run_begins_with_exported_weights_once(shared, tmp_path, capsys):
    words = '--init', str(shared), '--prefill', '40', '--pretrain', '0'
    made = stubs.Experiment(tmp_path / 'new', *words)
    with stubs.eagerly(), training.Trainer(made) as trainer:
        assert trainer.step == 0 and int(trainer.agent.updates) == 0
        begun = weights(trainer.agent)
        agent = made.agent()
        assert f'begins with the weights of {shared}' in capsys.readouterr().out
        sharing.restore(agent, shared)
        for name, value in weights(agent).items():
            assert np.array_equal(begun[name], value), name
        assert not any(float(np.abs(v).max()) for o in trainer.agent.optimisers.values()
                       for v in o.first)
        trainer.train()
    after = weights(trainer.agent)
    with stubs.eagerly(), training.Trainer(stubs.Experiment(tmp_path / 'new', *words)) as resumed:
        assert int(resumed.agent.updates) == int(trainer.agent.updates) > 0
        for name, value in weights(resumed.agent).items():
            assert np.array_equal(after[name], value), name
    assert 'begins with' not in capsys.readouterr().out


# --- Mistakes --------------------------------------------------------------------------------


def parse(*words):
    return helpers.settings('mummi', *words)


def test_nothing_that_is_there_is_overwritten(judged, tmp_path):
    target = tmp_path / 'agent'
    target.mkdir()
    (target / 'mine').touch()
    for path in (target, target / 'mine'):
        with pytest.raises(UserError, match='is there already, and is not overwritten'):
            parse('--logdir', str(judged), '--export', str(path))
    assert helpers.names(target) == ['mine']


def test_an_empty_folder_may_be_a_link(judged, tmp_path):
    (tmp_path / 'there').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'there')
    config = parse('--logdir', str(judged), '--export', str(tmp_path / 'link'))
    sharing.export(stubs.Experiment(judged, '--export', config.export))
    assert 'weights.npz' in helpers.names(tmp_path / 'there')
    assert helpers.names(tmp_path) == ['link', 'there']


def test_training_in_an_exported_folder_is_refused_with_the_way_on(shared):
    with pytest.raises(UserError, match=f'--init {shared}'):
        parse('--logdir', str(shared))


def test_init_takes_an_exported_agent_of_the_same_method_and_sizes(shared, judged, tmp_path):
    new = '--logdir', str(tmp_path / 'new')
    with pytest.raises(UserError, match='no exported agent .* --export FOLDER'):
        parse(*new, '--init', str(judged))
    with pytest.raises(UserError, match=r'other values of deter \(32 in the run, 16 now\)'):
        parse(*new, '--init', str(shared), '--deter', '16')
    with pytest.raises(UserError, match='of mummi.py, not of dreamer.py; choose another --init'):
        helpers.settings('dreamer', *new, '--init', str(shared))
    parse(*new, '--init', str(shared), '--task', 'dmc_cheetah_run')
    assert not (tmp_path / 'new').exists()


def test_weights_of_another_shape_or_damaged_change_nothing(shared, tmp_path):
    agent = stubs.Experiment(shared, '--test', '--sensors', 'all').agent()
    before = weights(agent)
    other = helpers.build('mummi')  # image, depth and touch
    with pytest.raises(UserError, match='is of another model: .* absent'):
        sharing.restore(other, shared)
    folder = shutil.copytree(shared, tmp_path / 'agent')
    content = (folder / files.WEIGHTS).read_bytes()
    for damage in (b'', content[:len(content) // 2], helpers.flipped(content, 3000)):
        (folder / files.WEIGHTS).write_bytes(damage)
        with pytest.raises(UserError, match='is damaged'):
            sharing.restore(agent, folder)
    assert all(np.array_equal(weights(agent)[name], value) for name, value in before.items())


@pytest.mark.parametrize('error', [
    EOFError(), MemoryError(), tokenize.TokenError('EOF in multi-line statement', (3, 0))])
def test_whatever_damage_does_to_the_reader_is_one_line(error, shared, monkeypatch):
    def load(*_, **__):
        raise error
    monkeypatch.setattr(np, 'load', load)
    with pytest.raises(UserError, match=r'is damaged \(.+\)'):
        sharing.restore(None, shared)


def test_weights_that_are_not_finite_are_not_exported(judged, tmp_path):
    made = stubs.Experiment(judged, '--export', str(tmp_path / 'agent'))
    with stubs.eagerly():
        progress, _ = made.progress()
        name, variable = next(iter(sharing.variables(progress.agent).items()))
        variable.assign(np.full(variable.shape, np.nan))
        with pytest.raises(UserError, match=f'{name} is not finite'):
            sharing.write(progress, tmp_path / files.WEIGHTS, True)
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_of_an_export_is_gone_after_the_next(judged, tmp_path):
    (tmp_path / 'agent.partial').mkdir()
    (tmp_path / 'agent.partial' / 'weights.npz').write_bytes(b'half')
    exported(judged, tmp_path / 'agent')
    assert [path.name for path in tmp_path.iterdir()] == ['agent']


def test_a_failed_export_leaves_nothing(judged, tmp_path, monkeypatch):
    monkeypatch.setattr(card, 'text', lambda *_: (_ for _ in ()).throw(OSError(28, 'full')))
    with pytest.raises(UserError, match='cannot write .* \\(full\\)'):
        exported(judged, tmp_path / 'agent')
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_of_an_export_is_left_as_it_is(judged, tmp_path):
    (tmp_path / 'agent.partial').mkdir()
    (tmp_path / 'agent.partial' / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match='agent.partial is in the way'):
        exported(judged, tmp_path / 'agent')
    assert helpers.names(tmp_path) == ['agent.partial']
    assert (tmp_path / 'agent.partial' / 'notes.txt').read_text() == 'mine'


@pytest.mark.skipif(not shutil.which('git'), reason='git is not installed')
def test_code_that_is_not_committed_is_told_apart(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *words], cwd=tmp_path,
                       check=True, capture_output=True)
    monkeypatch.setattr(provenance, 'HERE', str(tmp_path))
    assert provenance.revision() == ''
    (tmp_path / 'one.py').write_text('1')
    (tmp_path / 'README.md').write_text('1')
    git('init')
    git('add', '.')
    git('commit', '-m', 'one')
    found = [provenance.revision()]
    (tmp_path / 'notes.txt').write_text('of no matter')
    (tmp_path / 'README.md').write_text('nor this')
    assert provenance.revision() == found[0] and re.fullmatch(r'[0-9a-f]{7,}', found[0])
    # A new file alone, as a method of one's own is, and changes of one that is known.
    for name, text in ('two.py', '4'), ('two.py', '5'), ('one.py', '2'), ('one.py', '3'):
        (tmp_path / name).write_text(text)
        found.append(provenance.revision())
        assert re.fullmatch(found[0] + r'\+[0-9a-f]{6}', found[-1]) and found.count(found[-1]) == 1
    assert provenance.revision() == found[-1]
    git('add', '.')
    git('commit', '-m', 'two')
    known = provenance.revision()
    (tmp_path / 'two.py').write_text('6')
    assert provenance.revision().startswith(known + '+')


def test_a_run_that_goes_on_with_other_code_says_so(tmp_path, monkeypatch, capsys):
    said = []
    for now, steps in ('aaa', 40), ('aaa', 60), ('bbb', 80), ('', 100):
        monkeypatch.setattr(provenance, 'revision', lambda now=now: now)
        stubs.trained(tmp_path / 'run', '--steps', str(steps))
        said.append([line for line in capsys.readouterr().out.splitlines() if 'code' in line])
    assert said == [[], [], ['note: from here on the run has other code: bbb'], []]


def test_the_revisions_of_a_run_are_kept_in_its_order(tmp_path, monkeypatch):
    path, settings = tmp_path / 'config.json', parse()
    for now in ('aaa', 'bbb', 'bbb', ''):
        monkeypatch.setattr(commandline.provenance, 'revision', lambda now=now: now)
        commandline.save(settings, 'mummi', path)
    assert commandline.provenance.history(path) == {'revisions': ['aaa', 'bbb'], 'changes': []}
    assert commandline.load(path) == (settings, 'mummi')
