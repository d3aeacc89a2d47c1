"""The demo: what it shows of a trained agent, and that it says so where there is none."""

import os
import pathlib
import signal
import sys

import helpers
import numpy as np
import pytest
import stubs
from matplotlib.image import imread
from PIL import Image

import commandline
import demo
import evaluation
import experiment
import inspection
import pictures
from config import flag


@pytest.fixture(scope='module')
def shown(whole, tmp_path_factory):
    """(what was printed, the paths, the stub experiment) of the demo of a finished stub run."""
    folder = tmp_path_factory.mktemp('demo') / 'agent'
    trained = experiment.Trained(stubs.Experiment(whole.folder, '--test', '--time_limit', '14'))
    said = []
    with pytest.MonkeyPatch.context() as patch, stubs.eagerly():
        patch.setattr(demo, 'say', said.append)
        paths = demo.show(trained, folder)
    return '\n'.join(said), paths, trained.experiment


def test_an_episode_with_drop_outs_is_played_and_drawn(shown):
    _, (video, sheet), made = shown
    assert made.made[0].resets[0][1] == {'miss_ratio': {'touch': demo.CHANCE}}
    assert made.made[0].split == 'valid' and not any(call['exploring'] for call in made.acted)
    with Image.open(video) as frames:
        assert frames.n_frames in (stubs.ENDS + 1, stubs.LIMIT + 1)
    assert imread(sheet)[..., :3].std() > 0.05
    assert helpers.names(video.parent) == ['episode.gif', 'episode.png']


@pytest.mark.parametrize('error, code', [
    (OSError(28, 'No space left on device', 'episode.gif'), 2), (KeyboardInterrupt(), 130)])
def test_what_ends_the_first_part_is_one_line(error, code, tmp_path, monkeypatch, capsys):
    def show(*_):
        raise error
    monkeypatch.setattr(demo, 'show', show)
    monkeypatch.setattr(experiment, 'load', lambda folder: None)
    (tmp_path / 'config.json').touch()
    with pytest.raises(SystemExit) as ended:
        demo.main(['--agent', str(tmp_path), '--outdir', str(tmp_path / 'out')])
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert ('error: episode.gif: No space left on device' in said) == (code == 2)
    assert ('interrupted; the same command begins again' in said) == (code == 130)


def test_the_table_has_a_few_episodes_of_each_row_and_every_line_its_time(shown):
    text, _, made = shown
    assert len(made.made) == 2 and made.made[1].num_envs == demo.EPISODES
    assert [options['miss_ratio'] for _, options in made.made[1].resets] == [{'touch': 0.0}]
    assert all(environments.closed for environments in made.made)
    assert 'nothing missing ' in text
    lines = [line for line in text.splitlines() if ': ' in line and 'missing' not in line]
    assert len(lines) == 3 and all(
        any(unit in line for unit in ('about', 'a few seconds')) for line in lines)


def test_each_picture_is_taken_away_in_a_row_of_its_own(monkeypatch, capsys):
    asked = []
    sensors = ('image', 'depth', 'touch')
    monkeypatch.setattr(evaluation, 'table', lambda results: 'the table')
    monkeypatch.setattr(evaluation, 'play', lambda made, agent, step, tests, *rest: asked.extend(
        tests))
    import inspection
    episode = {'reward': np.zeros(3), 'steps': np.int32([0, 2, 2])} | {
        flag(sensor): np.ones((3, 1)) for sensor in sensors}
    monkeypatch.setattr(inspection, 'play', lambda made, agent, options, report: (
        report(1), (episode, {'value': np.zeros(2), 'trust': {}}))[1])
    monkeypatch.setattr(demo, 'draw', lambda *_: [])

    class Trained:
        agent, step = None, 0

        class experiment:
            title = 'stub'

            class config:
                task, time_limit, action_repeat = 'wipe_table', 1000, 2
    Trained.experiment.sensors = sensors
    demo.show(Trained, pathlib.Path('unused'))
    assert ': 200 decisions, about' in capsys.readouterr().out  # of the task, which has fewer
    assert [(condition, sensor) for condition, sensor, *_ in asked] == [
        ('ratio', ''), ('without', 'image'), ('without', 'depth')]


@pytest.mark.parametrize('trust', [True, False])
def test_drop_outs_trust_and_reward_are_on_the_contact_sheet(trust, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, 'LONGEST', 30)  # of the 40 frames
    random, length = np.random.default_rng(0), 40
    sensors = ['image', 'depth', 'touch']
    episode = helpers.observations(length) | {
        'reward': random.random(length).astype(np.float32),
        'steps': np.int32([0] + [2] * (length - 1))}
    shares = {sensor: random.random(length - 1) for sensor in sensors} if trust else {}
    _, sheet = demo.draw(episode, shares, sensors, tmp_path, 'a title')
    picture = imread(sheet)[..., :3]
    blue = np.abs(picture - np.float32([0, 0x72, 0xB2]) / 255).max(-1) < 0.05
    shaded = np.abs(picture - 0.8).max(-1) < 0.01
    assert (blue.sum() > 500) == trust and shaded.sum() > 5000


def test_without_a_trained_agent_it_says_so_and_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, 'train', lambda outdir: [outdir / 'plots' / 'returns.png'])
    demo.main(['--agent', 'x' * 300, '--outdir', str(tmp_path / 'out')])
    assert 'there is no trained agent' in capsys.readouterr().out
    demo.main(['--agent', str(tmp_path / 'none'), '--outdir', str(tmp_path / 'out')])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'there is no trained agent in {tmp_path / "none"}')
    assert lines[-1].strip() == str(tmp_path / 'out' / 'plots' / 'returns.png')


def test_an_episode_is_the_same_however_much_was_judged_before(whole):
    trained = experiment.Trained(stubs.Experiment(whole.folder, '--test'))
    with stubs.eagerly():
        one, other = (inspection.play(trained.experiment, trained.agent) for _ in range(2))
    np.testing.assert_array_equal(one[0]['action'], other[0]['action'])
    np.testing.assert_array_equal(one[1]['value'], other[1]['value'])


def test_a_long_episode_is_explained_in_pieces(whole, monkeypatch):
    """As if at once, but for the numbers that compare all entries with each other."""
    trained = experiment.Trained(stubs.Experiment(whole.folder, '--test'))
    with stubs.eagerly():
        _, at_once = inspection.play(trained.experiment, trained.agent)
        given = helpers.spy(monkeypatch, trained.agent, 'explain')
        monkeypatch.setattr(pictures, 'LONGEST', 3)
        _, pieces = inspection.play(trained.experiment, trained.agent)
    lengths = [len(latents['mean']) for (latents, _), _ in given]
    assert len(lengths) > 1 and max(lengths) == 3 and sum(lengths) == len(at_once['value'])
    for key in 'divergence', 'reward', 'value':
        helpers.close(pieces[key], at_once[key])
    helpers.close(pieces['trust']['touch'], at_once['trust']['touch'])
    for key, value in given[0][1]['metrics'].items():
        np.testing.assert_array_equal(pieces['metrics'][key], value)


def test_the_trained_agent_is_found_from_every_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = demo.arguments([])
    assert (given.agent / 'config.json').exists() and given.outdir == pathlib.Path('logdir/demo')


def test_training_types_commands_that_are_right_and_stops_where_they_fail(tmp_path, monkeypatch):
    import mummi
    run, typed = [], []

    class Done:
        code, interrupted, waited, returncode = 0, 0, 0, None

        def wait(self):
            Done.waited += 1
            if Done.waited <= Done.interrupted:
                raise KeyboardInterrupt
            self.returncode = Done.code
            return Done.code
    monkeypatch.setattr(demo.subprocess, 'Popen', lambda words: run.append(words) or Done())
    monkeypatch.setattr(demo, 'say', typed.append)
    demo.train(tmp_path)
    assert [words[0] for words in run] == [sys.executable] * 2
    assert [pathlib.Path(words[1]).name for words in run] == ['mummi.py', 'plotting.py']
    assert all(pathlib.Path(words[1]).exists() for words in run)
    config = commandline.parse(mummi.METHOD, run[0][2:])
    assert config.task == demo.TASK and config.steps <= 20000
    assert 'minutes: python mummi.py' in typed[1]
    assert run[1][run[1].index('--tasks') + 1] == demo.TASK  # an older demo's run may lie beside
    Done.code = 2
    with pytest.raises(SystemExit) as stopped:
        demo.train(tmp_path)
    assert stopped.value.code == 2 and len(run) == 3
    # After Ctrl-C, which the run has too, it is waited for: it saves what was learned, or ends at
    # once after the second.
    for count in 1, 2:
        Done.interrupted, Done.waited = count, 0
        with pytest.raises(SystemExit) as stopped:
            demo.train(tmp_path)
        assert (stopped.value.code, Done.waited) == (130, count + 1)


def test_a_demo_whose_output_nobody_reads_ends_in_a_line(tmp_path, monkeypatch, capsys):
    def unread(text):
        raise BrokenPipeError
    monkeypatch.setattr(demo, 'say', unread)
    monkeypatch.setattr(commandline, 'drop', lambda output: None)
    with pytest.raises(SystemExit) as ended:
        demo.main(['--agent', str(tmp_path / 'none'), '--outdir', str(tmp_path / 'out')])
    assert ended.value.code == 2 and 'nobody reads' in capsys.readouterr().err


def test_a_second_demo_says_that_it_goes_on(tmp_path, monkeypatch):
    typed, run = [], tmp_path / 'runs' / demo.TASK / 'mummi'
    monkeypatch.setattr(demo, 'say', typed.append)
    monkeypatch.setattr(demo, 'command', lambda *words: None)
    demo.train(tmp_path)
    assert 'knows nothing' in typed.pop()
    run.mkdir(parents=True)
    (run / 'state-000001250.index').touch()
    demo.train(tmp_path)
    assert f'{run} is there already' in typed.pop()


def test_what_the_small_task_needs_is_named_before_anything_is_done(tmp_path, monkeypatch, capsys):
    find = demo.importlib.util.find_spec
    monkeypatch.setattr(
        demo.importlib.util, 'find_spec', lambda name: name != 'minigrid' and find(name))
    with pytest.raises(SystemExit) as stopped:
        demo.main(['--outdir', str(tmp_path / 'out')])
    said = capsys.readouterr()
    assert (stopped.value.code, said.out) == (2, '') and 'requirements-tasks.txt' in said.err
    assert said.err.count('\n') == 1


def test_a_folder_that_has_no_name_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        demo.main(['--outdir', ''])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == 'error: --outdir takes a path, and what is given is empty\n'


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit) as stopped:
        demo.main(['--outdir', str(tmp_path / 'file' / 'x')])
    assert stopped.value.code == 2 and 'cannot write in' in capsys.readouterr().err


def test_a_demo_that_is_ended_ends_its_training(monkeypatch):
    """By SIGTERM, which a terminal does not hand on; the training saves what was learned."""
    asked = []

    class Training:
        returncode = None

        def wait(self):
            os.kill(os.getpid(), signal.SIGTERM)
            return 143

        def terminate(self):
            asked.append('end')
    monkeypatch.setattr(demo.subprocess, 'Popen', lambda words: Training())
    unheard = lambda *_: asked.append('unheard')
    before = signal.signal(signal.SIGTERM, unheard)
    try:
        with pytest.raises(SystemExit) as ended:
            demo.command('training', 'a minute', 'mummi.py')
        assert (ended.value.code, asked) == (143, ['end'])
        assert signal.getsignal(signal.SIGTERM) is unheard
    finally:
        signal.signal(signal.SIGTERM, before)
