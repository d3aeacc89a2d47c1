"""Logs, checkpoints and pictures: what is kept, what survives damage, what is drawn."""

import dataclasses
import gc
import io
import os
import pathlib
import resource

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import METHODS, flipped, names
from PIL import Image
from scipy.io import wavfile
from tensorboard.backend.event_processing import event_file_loader

import config
import tools
from actions import Continuous
from config import UserError
from optimisers import Optimiser, minimise

# --- Logs --------------------------------------------------------------------------------


def events(folder):
    """(tag, step, value) of everything in TensorBoard's files."""
    found = []
    for path in sorted((pathlib.Path(folder) / 'tensorboard').iterdir()):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.append((value.tag, event.step, tf.make_ndarray(value.tensor)))
    return found


@pytest.fixture
def frames():
    """A short video of which no two frames are equal."""
    video = np.zeros((7, 6, 10, 3), np.uint8)
    for time in range(7):
        video[time, :, time] = 255
    return video


def test_logger_writes_the_same_numbers_to_tables_and_tensorboard(tmp_path, frames):
    logger = tools.Logger(tmp_path)
    logger.episode({
        'step': 100, 'updates': 2, 'seconds': 1.5, 'mode': 'eval', 'return': 12.25,
        'length': 1000, 'missing_depth': 0.5})
    logger.update({'step': 200, 'updates': 4, 'seconds': 2.5, 'model_loss': 0.125})
    path = logger.video('eval', 300, frames)
    assert path == tmp_path / 'videos' / '000000300-eval.gif'
    assert names(tmp_path / 'videos') == ['000000300-eval.gif']
    found = events(tmp_path)
    scalars = {(tag, step): float(v) for tag, step, v in found if tag != 'eval'}
    assert scalars == {
        ('eval/return', 100): 12.25, ('eval/length', 100): 1000,
        ('eval/missing_depth', 100): 0.5, ('train/step', 200): 200, ('train/updates', 200): 4,
        ('train/seconds', 200): 2.5, ('train/model_loss', 200): 0.125}
    [(step, picture)] = [(step, value) for tag, step, value in found if tag == 'eval']
    assert (step, picture.tolist()) == (300, [b'10', b'6', path.read_bytes()])
    assert (tmp_path / 'episodes.csv').read_text().splitlines()[1] == (
        '100,2,1.5,eval,12.25,1000,0.5')
    assert (tmp_path / 'metrics.csv').read_text().splitlines()[1] == '200,4,2.5,0.125'


def test_numbers_that_were_logged_are_not_kept_in_memory(tmp_path):
    logger, numbers = tools.Logger(tmp_path), np.random.default_rng(0)

    def rows(count):
        for _ in range(count):
            logger.update({'step': 1, 'updates': 1, **{
                f'metric {n}': value for n, value in enumerate(numbers.random(30).tolist())}})
    rows(50)
    pages = lambda: int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    before = pages()
    rows(300)
    # Of 9,000 Python floats TensorFlow would keep 6 MB.
    assert (pages() - before) * resource.getpagesize() < 2e6


def test_a_sound_is_a_file_that_others_read(tmp_path):
    samples = np.arange(-3000, 3000, dtype=np.int16)
    tools.Logger(tmp_path).sound('eval', 300, samples, 16000)
    rate, found = wavfile.read(tmp_path / 'videos' / '000000300-eval.wav')
    assert rate == 16000 and found.dtype == np.int16
    np.testing.assert_array_equal(found, samples)
    (tmp_path / 'videos' / '000000300-eval.wav.partial').touch()  # of a kill
    tools.Logger(tmp_path)
    assert names(tmp_path / 'videos') == ['000000300-eval.wav']


@pytest.mark.parametrize('rate', [5, 20])
def test_gif_is_the_frames_at_their_rate(rate, frames):
    picture = Image.open(io.BytesIO(tools.gif(frames, rate)))
    assert picture.format == 'GIF' and picture.n_frames == len(frames)
    assert picture.info['loop'] == 0
    for number, frame in enumerate(frames):
        picture.seek(number)
        assert picture.info['duration'] == 1000 / rate
        np.testing.assert_array_equal(np.asarray(picture.convert('RGB')), frame)


def test_gif_that_stands_still_lasts_as_long(frames):
    picture = Image.open(io.BytesIO(tools.gif(frames[[0, 0, 0, 1, 1]], 20)))
    total = 0
    for number in range(picture.n_frames):
        picture.seek(number)
        total += picture.info['duration']
    assert total == 5 * 50


# --- Checkpoints -------------------------------------------------------------------------


class Part(tf.Module):
    """A weight with its optimiser, a count and a generator."""

    def __init__(self, width=3, more=False):
        super().__init__()
        self.weight = tf.Variable(tf.ones([width]))
        self.optimiser = Optimiser('part', [self.weight], 0.1, 1.0, loss_scaling=True)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.random = tf.random.Generator.from_seed(1)
        if more:
            self.more = tf.Variable(1.0)

    def train(self):
        noise = self.random.normal(self.weight.shape)
        minimise([self.optimiser], lambda: ([tf.reduce_sum(noise * self.weight)], None))
        self.updates.assign_add(1)

    def values(self):
        return [value.numpy() for value in (
            self.weight, *self.optimiser.first, *self.optimiser.second, self.optimiser.count,
            self.optimiser.scale, self.optimiser.good, self.updates, self.random.state)]


def equal(first, second):
    return [np.array_equal(a, b) for a, b in zip(first, second, strict=True)]


@pytest.fixture
def saved(tmp_path):
    """(folder, the part's values at each of the checkpoints 1 to 4), of which two are kept."""
    part, history = Part(), {}
    checkpoints = tools.Checkpoints(tmp_path, part, keep=2)
    for number in range(1, 5):
        part.train()
        checkpoints.save(number)
        history[number] = part.values()
    return tmp_path, history


def restored(folder, part=None):
    """(part, path that restore returned, what was reported)."""
    said, part = [], part or Part()
    return part, tools.Checkpoints(folder, part, report=said.append).restore(), said


def test_last_few_checkpoints_are_kept_with_all_their_files(saved):
    folder, _ = saved
    assert names(folder) == [
        f'state-00000000{n}.{ending}' for n in (3, 4)
        for ending in ('data-00000-of-00001', 'index')]


def test_restoring_brings_back_the_newest_values_of_everything(saved):
    folder, history = saved
    assert not any(equal(Part().values(), history[4])[:-2][:4])
    part, path, said = restored(folder)
    assert (path, said) == (folder / 'state-000000004', [])
    assert all(equal(part.values(), history[4])) and part.updates.numpy() == 4


def test_restored_part_trains_on_as_the_saved_one_would_have(saved):
    folder, _ = saved
    part, _, _ = restored(folder)
    other = Part()
    for _ in range(4):
        other.train()
    for _ in range(3):
        part.train()
        other.train()
    assert all(equal(part.values(), other.values()))


def test_an_older_checkpoint_can_be_loaded_by_its_path(saved):
    folder, history = saved
    part = Part()
    tools.Checkpoints(folder, part).load(folder / 'state-000000003')
    assert all(equal(part.values(), history[3]))
    with pytest.raises(UserError, match='state-000000001'):
        tools.Checkpoints(folder, part).load(folder / 'state-000000001')


def test_without_any_checkpoint_nothing_is_restored(tmp_path):
    part = Part()
    part.train()
    before = part.values()
    assert restored(tmp_path, part)[1:] == (None, [])
    assert all(equal(part.values(), before))


def rewrite(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


BROKEN = {
    'data cut': ('data-00000-of-00001', rewrite(lambda content: content[:-20])),
    'data flipped': ('data-00000-of-00001', rewrite(lambda content: flipped(content, 5))),
    'data empty': ('data-00000-of-00001', rewrite(lambda content: b'')),
    'data missing': ('data-00000-of-00001', pathlib.Path.unlink),
    'index garbage': ('index', rewrite(lambda content: np.random.default_rng(0).bytes(500))),
    'index cut': ('index', rewrite(lambda content: content[:len(content) // 2])),
    'index flipped': ('index', rewrite(lambda content: flipped(content, 30))),
    'index empty': ('index', rewrite(lambda content: b''))}


@pytest.mark.parametrize('damage', BROKEN)
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(damage, saved):
    folder, history = saved
    ending, break_it = BROKEN[damage]
    break_it(folder / f'state-000000004.{ending}')
    part, path, said = restored(folder)
    assert path == folder / 'state-000000003'
    assert all(equal(part.values(), history[3]))
    assert len(said) == 1 and 'state-000000004' in said[0] and '\n' not in said[0]


def test_where_all_checkpoints_are_damaged_nothing_is_restored_and_each_is_named(saved):
    folder, _ = saved
    for number, damage in (3, 'index flipped'), (4, 'data cut'):
        ending, break_it = BROKEN[damage]
        break_it(folder / f'state-00000000{number}.{ending}')
    part = Part()
    before = part.values()
    said = []
    assert tools.Checkpoints(folder, part, report=said.append).restore() is None
    assert [f'state-00000000{n}' in text for n, text in zip((4, 3), said, strict=True)] == [
        True, True]
    assert all(equal(part.values(), before))


def test_a_state_that_is_there_is_never_written_again(saved):
    """A second one of its number has a name of its own, is the newer, and is whole in itself."""
    folder, _ = saved
    content = {path.name: path.read_bytes() for path in folder.glob('state-000000004.*')}
    part, _, _ = restored(folder)
    part.train()
    checkpoints = tools.Checkpoints(folder, part, keep=3)
    assert checkpoints.save(4).name == 'state-000000004-1'
    assert all((folder / name).read_bytes() == kept for name, kept in content.items())
    assert checkpoints.save(4).name == 'state-000000004-2'
    assert [path.name for path in checkpoints.paths()] == [
        'state-000000004', 'state-000000004-1', 'state-000000004-2']
    again, path, said = restored(folder)
    assert (path.name, said) == ('state-000000004-2', []) and all(
        equal(again.values(), part.values()))


@pytest.mark.parametrize('at', range(6))
def test_a_kill_at_any_moment_of_saving_leaves_the_newest_state_or_the_one_before(
        at, saved, monkeypatch):
    """At each call that changes names or waits for the disk, and with `keep` 1 too."""
    folder, history = saved
    part, _, _ = restored(folder)
    part.train()
    calls = []

    def counted(original):
        def call(*words):
            if len(calls) == at:
                raise KeyboardInterrupt
            calls.append(original)
            return original(*words)
        return call
    with monkeypatch.context() as patch:
        for name in 'fsync', 'replace', 'remove':
            patch.setattr(os, name, counted(getattr(os, name)))
        with pytest.raises(KeyboardInterrupt):
            tools.Checkpoints(folder, part, keep=1).save(4)
    found, path, said = restored(folder)
    assert said == [] and path.name in ('state-000000004', 'state-000000004-1')
    wanted = part.values() if path.name.endswith('-1') else history[4]
    assert all(equal(found.values(), wanted))
    tools.Checkpoints(folder, part, keep=1).save(5)
    assert names(folder) == [
        f'state-000000005.{ending}' for ending in ('data-00000-of-00001', 'index')]


@pytest.mark.parametrize('error', [
    MemoryError(), tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating')],
    ids=['processor', 'gpu'])
def test_a_full_memory_is_no_damage(error, saved, monkeypatch):
    folder, _ = saved

    def full(*_):
        raise error
    with monkeypatch.context() as patch:
        patch.setattr(tf.train, 'load_checkpoint', full)
        with pytest.raises(type(error)):
            restored(folder)
    assert restored(folder)[1] == folder / 'state-000000004'


@pytest.mark.parametrize('call', ['read', 'fsync'])
def test_a_disk_that_does_not_answer_is_named_and_no_damage(call, saved, monkeypatch):
    folder, _ = saved
    before, said = names(folder), []
    checkpoints = tools.Checkpoints(folder, Part(), report=said.append)

    def refuse(*_):
        raise OSError(5, 'Input/output error')
    with monkeypatch.context() as patch:
        if call == 'fsync':
            patch.setattr(os, 'fsync', refuse)
        else:
            patch.setattr('builtins.open', helpers.unreadable)
        with pytest.raises(OSError, match='Input/output error') as caught:
            checkpoints.save(9) if call == 'fsync' else checkpoints.restore()
    assert 'state' in caught.value.filename and said == []
    assert set(before) <= set(names(folder))
    assert checkpoints.save(9).name == restored(folder)[1].name == 'state-000000009'


def test_a_state_that_is_not_finite_is_named_and_not_saved(saved):
    folder, _ = saved
    before = names(folder)
    part = Part()
    part.optimiser.second[0].assign([1.0, np.inf, 1.0])
    with pytest.raises(UserError, match='is not finite, and is not saved'):
        tools.Checkpoints(folder, part).save(5)
    assert names(folder) == before


@pytest.mark.parametrize('before, now', [
    ({}, {'width': 4}), ({'width': 4}, {}), ({}, {'more': True}), ({'more': True}, {})])
def test_checkpoint_of_another_architecture_is_an_error_and_changes_nothing(
        before, now, tmp_path, capfd, caplog):
    tools.Checkpoints(tmp_path, Part(**before)).save(1)
    part = Part(**now)
    part.train()
    values = part.values()
    with pytest.raises(UserError, match='state-000000001 is of another model'):
        tools.Checkpoints(tmp_path, part).load(tmp_path / 'state-000000001')
    with pytest.raises(UserError, match='is of another model'):
        restored(tmp_path, part)
    assert all(equal(part.values(), values))
    gc.collect()  # TensorFlow speaks when the rest of a checkpoint is thrown away
    assert capfd.readouterr() == ('', '') and not caplog.records
    assert restored(tmp_path, Part(**before))[1]


def test_checkpoint_of_other_names_is_of_another_model(tmp_path, capfd, caplog):
    class Other(Part):
        def __init__(self):
            super().__init__()
            self.other = self.updates
            del self.updates

    tools.Checkpoints(tmp_path, Part()).save(1)
    with pytest.raises(UserError, match='state-000000001 is of another model'):
        tools.Checkpoints(tmp_path, Other()).load(tmp_path / 'state-000000001')
    gc.collect()
    assert capfd.readouterr() == ('', '') and not caplog.records


def test_checkpoint_without_its_index_which_is_written_last_is_no_checkpoint(saved):
    folder, _ = saved
    part = Part()
    tools.Checkpoints(folder, part).save(5)
    (folder / 'state-000000005.index').unlink()
    assert restored(folder)[1:] == (folder / 'state-000000004', [])
    tools.Checkpoints(folder, part).save(5)
    assert restored(folder)[1:] == (folder / 'state-000000005', [])


def test_what_a_user_keeps_beside_the_checkpoints_is_neither_read_nor_removed(saved):
    folder, history = saved
    content = {ending: (folder / f'state-000000003.{ending}').read_bytes()
               for ending in ('index', 'data-00000-of-00001')}
    mine = [f'{stem}.{ending}' for ending in content for stem in (
        'state-000000009 (copy)', 'state-best', 'state-000000009-best', 'my-state-000000009',
        'state-9', 'state-0000000009', 'state-\u0660\u0660\u0660000009')]
    mine += [f'state-000000001.{ending}.bak' for ending in content]
    mine += ['state-000000001.txt', 'state-000000001', 'state-notes', 'state-000000001.index.csv']
    for name in mine:
        (folder / name).write_bytes(content['index' if 'index' in name else 'data-00000-of-00001'])
    (folder / 'state-000000001.old').mkdir()
    part, path, said = restored(folder)
    assert (path, said) == (folder / 'state-000000004', [])
    tools.Checkpoints(folder, part, keep=1).save(5)
    assert names(folder) == sorted([
        *mine, 'state-000000001.old', *(f'state-000000005.{ending}' for ending in content)])
    copy = Part()
    tools.Checkpoints(folder, copy).load(folder / 'state-best')
    assert all(equal(copy.values(), history[3]))


def test_what_a_kill_left_of_a_checkpoint_is_removed_by_the_next(saved):
    folder, _ = saved
    (folder / 'state-000000009_temp').mkdir()
    (folder / 'state-000000009_temp' / 'part-00000-of-00001.index').touch()
    (folder / 'state-000000009.data-00000-of-00001').touch()
    tools.Checkpoints(folder, Part(), keep=2).save(5)
    assert {name.split('.')[0] for name in names(folder)} == {'state-000000004', 'state-000000005'}


@pytest.mark.parametrize('damaged, number', [((4,), 3), ((4,), 4), ((3, 4), 1)])
def test_what_is_saved_after_a_damaged_state_is_kept(damaged, number, saved, capsys):
    """A run that could not read its newest states goes on from fewer updates than theirs."""
    folder, _ = saved
    for count in damaged:
        (folder / f'state-{count:09d}.index').write_bytes(b'')
    part = Part()
    path = tools.Checkpoints(folder, part, keep=1).save(number)
    assert restored(folder)[1] == path
    aside = {name for name in names(folder) if '.damaged' in name}
    assert aside == {f'state-{count:09d}.{ending}.damaged' for count in damaged if count > number
                     for ending in ('index', 'data-00000-of-00001')}
    assert capsys.readouterr().out.count('is kept as .damaged') == len(aside) / 2


def test_checkpoints_are_ordered_by_their_numbers(tmp_path):
    checkpoints = tools.Checkpoints(tmp_path, Part(), keep=2)
    for number in 999999998, 999999999, 1000000000:
        checkpoints.save(number)
    assert [path.name for path in checkpoints.paths()] == ['state-999999999', 'state-1000000000']


@pytest.mark.parametrize('name', [
    'a[b]', 'a[b', '[!a]', 'a*', 'a?', '100%', '%41', 'b\\c', '\\[', 'two words ', 'line\nend',
    '-dash', '\u00fc\u65e5', 'file:', 'gs:', '~', '$HOME', '{a,b}', '#', "'"])
def test_folder_may_have_any_name(name, tmp_path, frames):
    folder = tmp_path / name / 'run'
    folder.mkdir(parents=True)
    (tmp_path / 'ab').mkdir()
    part = Part()
    tools.Checkpoints(folder, part, keep=1).save(3)
    part.train()
    tools.Checkpoints(folder, part, keep=1).save(4)
    found, path, said = restored(folder)
    assert (path, said) == (folder / 'state-000000004', [])
    assert all(equal(found.values(), part.values()))
    logger = tools.Logger(folder)
    logger.update({'step': 1, 'loss': 2.0})
    logger.update({'step': 2, 'more': 3.0})
    logger.video('eval', 7, frames)
    assert names(folder) == [
        'metrics.csv', 'state-000000004.data-00000-of-00001', 'state-000000004.index',
        'tensorboard', 'videos']
    assert len(names(folder / 'tensorboard')) == 1
    assert names(tmp_path) == sorted({name, 'ab'})


# --- The agent ---------------------------------------------------------------------------


AGENTS = {'mummi': ('--pcont', '--use_sac', '--search_candidates', '3'), 'dreamer': ()}


def act(agent, exploring, steps=4):
    """Actions of two environments, one of which begins a new episode on the way."""
    state, actions = agent.initial(2), []
    for step in range(steps):
        observation = helpers.tensors(helpers.observations(2, seed=step))
        observation['is_first'] = tf.constant([step == 0, step in (0, 2)])
        action, state = agent.policy(observation, state, exploring)
        actions.append(action.numpy())
    return np.stack(actions)


def train(agent, seeds):
    """Metrics of an update for each of the seeds, as one array."""
    return np.array([
        list(agent.train(helpers.tensors(helpers.sequences(seed=seed))).values())
        for seed in seeds])


@pytest.fixture
def twins(request, tmp_path, eager):
    """(a trained and saved agent, another with another seed that was restored from it)."""
    words = AGENTS[request.param]
    first = helpers.build(request.param, *words, '--seed', '1', seed=1)
    train(first, [0, 1])
    act(first, True)
    second = helpers.build(request.param, *words, '--seed', '2', seed=2)
    train(second, [5])
    assert not np.array_equal(act(first, False), act(second, False))
    tools.Checkpoints(tmp_path, first).save(2)
    assert tools.Checkpoints(tmp_path, second).restore()
    return first, second


@pytest.mark.parametrize('twins', AGENTS, indirect=True)
def test_restored_agent_acts_and_trains_on_as_the_saved_one_to_the_last_bit(twins):
    first, second = twins
    assert len(first.variables) > 50 and second.updates.numpy() == 2
    assert all(equal(map(np.asarray, first.variables), map(np.asarray, second.variables)))
    np.testing.assert_array_equal(first.random.state, second.random.state)
    for exploring in False, True:
        actions = act(first, exploring)
        np.testing.assert_array_equal(actions, act(second, exploring))
        again = act(first, exploring)  # with other noise
        np.testing.assert_array_equal(again, act(second, exploring))
        assert np.ptp(actions) > 0 and not np.array_equal(actions, again)
    metrics = train(first, [2, 3])
    assert not np.array_equal(metrics[0], metrics[1])
    np.testing.assert_array_equal(metrics, train(second, [2, 3]))
    assert all(equal(map(np.asarray, first.variables), map(np.asarray, second.variables)))
    np.testing.assert_array_equal(act(first, True), act(second, True))


def structure(**changes):
    settings = dataclasses.replace(helpers.settings('mummi'), **changes)
    agent = helpers.Agent(
        settings, METHODS['mummi'][0], helpers.SHAPES, Continuous(helpers.ACTIONS, 0.3))
    return sorted((variable.name, tuple(variable.shape)) for variable in agent.variables)


@pytest.fixture(scope='module')
def usual_structure():
    return structure()


def extreme(field):
    """A value that is allowed and as far from usual as can be."""
    if field.type is bool:
        return True
    if field.type is str and not field.metadata['choices']:
        return {'bound_weight': 'touch=7'}[field.name]
    return field.metadata['choices'][-1] if field.metadata['choices'] else field.metadata['low']


FREE = [field for section in ('World model', 'Behaviour', 'Optimisers')
        for field in config.sections()[section] if not field.metadata['model']]


@pytest.mark.parametrize('field', FREE, ids=lambda field: field.name)
def test_field_that_may_change_on_resuming_leaves_the_variables_as_they_are(
        field, usual_structure):
    assert structure(**{field.name: extreme(field)}) == usual_structure


def test_precision_leaves_the_variables_as_they_are(usual_structure):
    assert structure(precision='float16') == structure(precision='bfloat16') == usual_structure


# --- Seeds -------------------------------------------------------------------------------


def test_seeding_repeats_the_global_generators():
    def draw(seed):
        tools.seed_everything(seed)
        return [*tf.random.normal([3]).numpy(), *np.random.normal(size=3)]
    assert draw(3) == draw(3)
    assert not any(a == b for a, b in zip(draw(3), draw(4)))
