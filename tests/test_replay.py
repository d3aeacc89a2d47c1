"""Replay: what is kept of the episodes, what survives damage, and what is drawn from them."""

import concurrent.futures
import errno
import gc
import inspect
import io
import pathlib
import tracemalloc

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import flipped, names

from config import UserError
from replay import Episode, Replay


def episode(number, entries):
    """Arrays of all types that environments give; each entry says which one it is."""
    random = np.random.default_rng([number, entries])
    return {
        'image': random.integers(0, 256, (entries, 4, 4, 3)).astype(np.uint8),
        'depth': random.uniform(0, 60, (entries, 4, 4, 1)).astype(np.float16),
        'touch': random.uniform(0, 300, (entries, 2)).astype(np.float32),
        'reward': (100 * number + np.arange(entries)).astype(np.float32)}


def fill(folder, lengths, memory=2.0):
    """A replay of episodes 0, 1, ... of these numbers of entries."""
    replay = Replay(folder, 2, memory)
    for number, entries in enumerate(lengths):
        replay.add(episode(number, entries))
    return replay


def reopened(folder, memory=2.0):
    """(replay, what it reported)."""
    said = []
    return Replay(folder, 2, memory, said.append), said


def same(first, second):
    """Equal to the last bit, types and shapes included."""
    return first.keys() == second.keys() and all(
        first[key].dtype == second[key].dtype and first[key].shape == second[key].shape
        and first[key].tobytes() == second[key].tobytes() for key in first)


def starts(replay, length):
    """How many sequences begin in each episode."""
    return np.diff(replay.ends(length), prepend=0).tolist()


def test_where_sequences_begin_is_right_as_episodes_come_and_go(tmp_path):
    replay = fill(tmp_path, [5, 3])
    assert starts(replay, 9) == [0, 0] and starts(replay, 4) == [2, 3]
    replay.add(episode(2, 8))
    assert starts(replay, 9) == [5, 3, 8] and starts(replay, 4) == [2, 3, 5]
    reader = Replay(tmp_path, 2, 0, report=lambda line: None)
    assert starts(reader, 4) == [2, 3, 5]
    path = pathlib.Path(reader.episodes[1].path)
    path.write_bytes(bytes(path.stat().st_size))
    for _ in range(20):
        reader.sample(4, 4, 0)
    assert starts(reader, 4) == [2, 5]


def test_steps_and_lengths_are_in_the_names_and_decide_what_is_counted(tmp_path):
    replay = fill(tmp_path, [5, 3, 8])
    assert names(tmp_path) == ['0000000-5.npz', '0000001-3.npz', '0000002-8.npz']
    for one in replay, *(reopened(tmp_path, memory)[0] for memory in (0, 2)):
        assert one.steps == 2 * (4 + 2 + 7)
        assert starts(one, 3) == [3, 1, 6] and starts(one, 6) == [5, 3, 3]
        assert starts(one, 16) == [5, 3, 8] and starts(one, 17) == [0, 0, 0]
        assert one.number == 3
    assert Replay(tmp_path, 4).steps == 4 * (4 + 2 + 7)


def test_many_episodes_that_are_alike_are_known_by_little_memory(tmp_path):
    replay = Replay(tmp_path, 2, 0)
    replay.add(episode(0, 5))
    folder, content = str(tmp_path), next(tmp_path.glob('*.npz')).read_bytes()
    for number in range(1000, 1500):  # numbers that Python has no object of yet
        (tmp_path / f'{number:07d}-5.npz').write_bytes(content)
    tracemalloc.start()
    try:
        known = [Episode(folder, number, 5) for number in range(1000, 1500)]
        gc.collect()
        # Of these alone: threads of other tests may still be at work.
        kept = tracemalloc.take_snapshot().filter_traces([
            tracemalloc.Filter(True, path) for path in (__file__, inspect.getfile(Episode))])
    finally:
        tracemalloc.stop()
    taken = sum(trace.size for trace in kept.traces)
    assert 20 < taken / len(known) < 150  # bytes


def test_an_episode_leaves_no_objects_that_only_a_search_for_garbage_finds(tmp_path):
    replay = Replay(tmp_path, 2)
    replay.add(episode(0, 5))
    gc.collect()
    gc.disable()
    try:
        for number in range(1, 11):
            replay.add(episode(number, 5))
        assert gc.collect() < 100
    finally:
        gc.enable()


def test_sequences_across_episodes_hold_every_entry_equally_often(tmp_path):
    fill(tmp_path, [30, 4, 20])
    shares = {}
    for across in False, True:
        replay = Replay(tmp_path, 2, across=across)
        assert starts(replay, 10) == ([30, 4, 20] if across else [21, 4, 11])
        batch = replay.sample(4000, 10, 0)
        last = np.isin(batch['reward'], [29, 103, 219])
        shares[across] = last.mean() * 54 / 3  # 1: as often as any other entry
        # What follows the last of an episode begins the next one, and the first one the last.
        follows, begins = batch['reward'][:, 1:][last[:, :-1]], batch['is_first'][:, 1:]
        np.testing.assert_array_equal(begins, last[:, :-1])
        assert set(follows) <= {0, 100, 200}
    assert abs(shares[True] - 1) < 0.05 and shares[False] < 0.5


def test_steps_are_those_that_the_episodes_hold_where_the_last_decision_was_cut_short(tmp_path):
    for memory in 1.0, 0.0:
        replay = Replay(tmp_path / str(memory), 2, memory)
        for number, cut in enumerate((1, 2)):
            arrays = episode(number, 4)
            replay.add(arrays | {'steps': np.array([0, 2, 2, cut], np.int32)})
        assert replay.steps == 5 + 6
        assert Replay(tmp_path / str(memory), 2, memory).steps == 5 + 6


def test_what_is_in_the_folder_beside_episodes_is_left_alone(tmp_path):
    fill(tmp_path, [5])
    for name in 'notes.txt', '0000007.npz', 'x-5.npz':
        (tmp_path / name).write_text('mine')
    replay, said = reopened(tmp_path)
    assert (replay.steps, said, replay.number) == (8, [], 1)
    assert (tmp_path / 'notes.txt').read_text() == 'mine' and len(names(tmp_path)) == 4


def test_every_start_of_every_episode_is_drawn_equally_often(tmp_path):
    replay = fill(tmp_path, [5, 3, 2, 8])  # the third is shorter than a sequence
    starts = (0, 3), (1, 1), (2, 2), (3, 6)
    wanted = [100 * e + s for e, count in starts for s in range(count)]
    drawn = replay.sample(7200, 3, seed=4)['reward'][:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == wanted  # the last is 305: entries 5, 6 and 7 of 8
    # Chi-square with 11 degrees of freedom: above 31.3 once in a thousand.
    assert np.sum((counts - 600) ** 2 / 600) < 31.3


@pytest.mark.parametrize('memory', [0, 2])
def test_sequences_are_consecutive_entries_of_one_episode(memory, tmp_path):
    lengths = [5, 4, 9]
    fill(tmp_path, lengths)
    batch = reopened(tmp_path, memory)[0].sample(200, 4, seed=0)
    whole = [episode(number, entries) for number, entries in enumerate(lengths)]
    assert {key: value.shape[:2] for key, value in batch.items()} == dict.fromkeys(
        [*whole[0], 'is_first'], (200, 4))
    is_first = batch.pop('is_first')
    for row in range(200):
        number, start = divmod(int(batch['reward'][row, 0]), 100)
        assert is_first[row].tolist() == [start == 0, False, False, False]
        assert same({key: value[row] for key, value in batch.items()},
                    {key: value[start:start + 4] for key, value in whole[number].items()})


@pytest.mark.parametrize('memory', [0, 2])
def test_sequences_of_short_episodes_go_on_through_the_following_ones(memory, tmp_path):
    lengths = [2, 9, 3, 1]
    replay = fill(tmp_path, lengths, memory)
    # After the last episode comes the first.
    stream = [(100 * e + s, s == 0) for e in (2, 3, 0, 1) for s in range(lengths[e])]
    long = [(100 + s, s == 0) for s in range(9)]
    wanted = {tuple(long[start:start + 5]) for start in range(5)}
    wanted |= {tuple(stream[start:start + 5]) for start in range(6)}
    batch = replay.sample(500, 5, 0)
    assert wanted == {
        tuple((int(reward), bool(first)) for reward, first in zip(*rows))
        for rows in zip(batch['reward'], batch['is_first'])}
    for row, sequence in enumerate(batch['reward'].astype(int)):
        for place, (number, entry) in enumerate(divmod(reward, 100) for reward in sequence):
            one = episode(number, lengths[number])
            assert all(np.array_equal(batch[key][row, place], one[key][entry]) for key in one)


def test_batch_depends_on_the_seed_and_the_episodes_alone(tmp_path):
    replay = fill(tmp_path, [5, 30, 8])
    first = replay.sample(20, 3, [0, 7])
    replay.sample(20, 3, [0, 8])
    np.random.seed(9)
    assert same(first, replay.sample(20, 3, [0, 7]))
    assert not same(first, replay.sample(20, 3, [0, 8]))
    assert not same(first, replay.sample(20, 3, [1, 7]))


def test_reading_from_files_equals_reading_from_memory(tmp_path):
    replay = fill(tmp_path, [5, 30, 8])
    wanted = replay.sample(50, 5, 3)
    assert {value.dtype for value in wanted.values()} == {
        np.dtype(kind) for kind in ('uint8', 'float16', 'float32', 'bool')}
    for memory in 0, 1e-5, 2:
        assert same(wanted, reopened(tmp_path, memory)[0].sample(50, 5, 3))
    assert same(wanted, fill(tmp_path / 'other', [5, 30, 8], memory=0).sample(50, 5, 3))


def in_memory(replay):
    return [one.memory is not None for one in replay.episodes]


def test_newest_episodes_that_fit_the_bound_are_in_memory(tmp_path):
    lengths = [20, 20, 20, 20, 40]
    fill(tmp_path, lengths)
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    for bound, wanted in (
            (sum(sizes), [1, 1, 1, 1, 1]), (sum(sizes) - 1, [0, 1, 1, 1, 1]),
            (sum(sizes[2:]), [0, 0, 1, 1, 1]), (sizes[-1], [0, 0, 0, 0, 1]),
            (sizes[-1] - 1, [0, 0, 0, 0, 0]), (0, [0, 0, 0, 0, 0])):
        assert in_memory(reopened(tmp_path, bound / 1e9)[0]) == [bool(w) for w in wanted]
        added = fill(tmp_path / str(bound), lengths, bound / 1e9)
        assert in_memory(added) == [bool(w) for w in wanted]


@pytest.mark.parametrize('memory', [0, 2])
def test_batches_are_those_of_sample_in_the_order_of_the_seeds(memory, tmp_path):
    replay = fill(tmp_path, [5, 30, 8], memory)
    for seeds in [], [3], [[0, n] for n in range(4)]:
        found = list(replay.batches(6, 4, iter(seeds)))
        assert len(found) == len(seeds)
        for batch, seed in zip(found, seeds):
            assert all(tf.is_tensor(value) for value in batch.values())
            assert same({key: value.numpy() for key, value in batch.items()},
                        replay.sample(6, 4, seed))


@pytest.mark.parametrize('memory', [0, 2])
def test_too_few_entries_are_an_error(memory, tmp_path):
    replay = fill(tmp_path, [3, 6, 5], memory)
    assert replay.sample(1, 14, 0)['is_first'].sum() >= 2
    for length in 15, 50:
        with pytest.raises(UserError, match=f'{length} entries'):
            replay.sample(1, length, 0)
        with pytest.raises(UserError, match='--length'):
            list(replay.batches(1, length, [0]))
    with pytest.raises(UserError):
        Replay(tmp_path / 'empty', 2, memory).sample(1, 2, 0)


def test_episode_that_was_being_written_at_an_interrupt_is_no_episode(tmp_path, monkeypatch):
    fill(tmp_path, [5])

    def interrupted(file, **arrays):
        file.write(b'PK' * 500)
        raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, 'savez', interrupted)
        Replay(tmp_path, 2).add(episode(1, 4))
    assert names(tmp_path) == ['0000000-5.npz']


def test_episode_that_was_being_written_at_a_kill_is_no_episode(tmp_path):
    fill(tmp_path, [5])
    (tmp_path / '0000001-4.npz.partial').write_bytes(b'PK' * 500)
    (tmp_path / 'mine.partial').write_bytes(b'notes')
    replay, said = reopened(tmp_path)
    assert (replay.steps, said) == (8, [])
    assert names(tmp_path) == ['0000000-5.npz', 'mine.partial']
    replay.add(episode(1, 4))
    assert names(tmp_path) == ['0000000-5.npz', '0000001-4.npz', 'mine.partial']


def other_arrays(**changes):
    stream = io.BytesIO()
    arrays = episode(1, 6) | changes
    np.savez(stream, **{key: value for key, value in arrays.items() if value is not None})
    return stream.getvalue()


DAMAGES = {
    'empty': lambda content: b'',
    'garbage': lambda content: np.random.default_rng(0).bytes(len(content)),
    'cut in half': lambda content: content[:len(content) // 2],
    'cut at the end': lambda content: content[:-1],
    'a picture flipped': lambda content: flipped(content, 200),
    'a reward flipped': lambda content: flipped(content, content.index(
        (100 + np.arange(6)).astype(np.float32).tobytes()) + 1),
    'an array more': lambda content: other_arrays(smell=np.zeros(6)),
    'an array less': lambda content: other_arrays(touch=None),
    'another shape': lambda content: other_arrays(touch=np.zeros((6, 3), np.float32)),
    'another type': lambda content: other_arrays(depth=np.zeros((6, 4, 4, 1), np.float32)),
    'unequal lengths': lambda content: other_arrays(reward=np.zeros(5, np.float32)),
    'an object': lambda content: other_arrays(reward=np.array([None] * 6)),
    'compressed': lambda content: compressed(episode(1, 6))}


def compressed(arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_episode_is_set_aside_and_named_and_the_others_go_on(damage, tmp_path):
    fill(tmp_path, [5, 6, 7])
    path = tmp_path / '0000001-6.npz'
    content = DAMAGES[damage](path.read_bytes())
    assert content != path.read_bytes()
    path.write_bytes(content)
    replay, said = reopened(tmp_path)
    assert names(tmp_path) == ['0000000-5.npz', '0000001-6.npz.damaged', '0000002-7.npz']
    assert (tmp_path / '0000001-6.npz.damaged').read_bytes() == content
    assert len(said) == 1 and '0000001-6.npz' in said[0] and '\n' not in said[0]
    assert (replay.steps, replay.number) == (2 * (4 + 6), 3)
    assert set(replay.sample(200, 5, 0)['reward'][:, 0]) == {0, 200, 201, 202}
    assert reopened(tmp_path)[1] == []


@pytest.mark.parametrize('shortage', [
    MemoryError(), OSError(errno.EMFILE, 'Too many open files'),
    PermissionError(errno.EACCES, 'no'),
    OSError(errno.ESTALE, 'Stale file handle')], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize('where', ['zipfile.ZipFile', 'numpy.load', 'builtins.open'])
def test_what_cannot_be_read_now_is_not_taken_for_damaged(where, shortage, tmp_path, monkeypatch):
    fill(tmp_path, [5, 6, 7])
    reader = Replay(tmp_path, 2, memory=0)
    whole = reader.sample(20, 5, 0)

    def refuse(*_, **__):
        raise shortage
    if where == 'numpy.load':
        for episode in reader.episodes:
            episode.checked = False
    with monkeypatch.context() as patch:
        patch.setattr(where, refuse)
        with pytest.raises(type(shortage)):
            Replay(tmp_path, 2)
        if where != 'zipfile.ZipFile':
            with pytest.raises(type(shortage)):
                reader.sample(20, 5, 0)
    assert names(tmp_path) == ['0000000-5.npz', '0000001-6.npz', '0000002-7.npz']
    assert same(whole, reader.sample(20, 5, 0)) and len(reader.episodes) == 3


@pytest.mark.parametrize('checked', [False, True])
def test_a_file_that_opens_and_cannot_be_read_now_is_not_taken_for_damaged(
        checked, tmp_path, monkeypatch):
    fill(tmp_path, [5, 6])
    reader = Replay(tmp_path, 2, memory=0)
    for episode in reader.episodes:
        episode.checked = checked
    with monkeypatch.context() as patch:
        for place in 'builtins.open', 'io.open':  # zipfile's is the second
            patch.setattr(place, helpers.unreadable)
            for read in lambda: Replay(tmp_path, 2), lambda: reader.sample(20, 5, 0):
                with pytest.raises(OSError, match='Input/output error') as caught:
                    read()
                assert caught.value.errno == errno.EIO
                assert caught.value.filename.endswith('.npz')
    assert names(tmp_path) == ['0000000-5.npz', '0000001-6.npz']


def test_an_episode_that_is_there_is_never_replaced(tmp_path):
    replay = fill(tmp_path, [5])
    replay.number = 0  # as where the file system did not show it
    with pytest.raises(FileExistsError) as caught:
        replay.add(episode(9, 5))
    assert caught.value.filename.endswith('0000000-5.npz')
    assert Replay(tmp_path, 2).sample(1, 5, 0)['reward'][0, 0] == 0


def test_no_more_threads_is_a_shortage_of_the_system(tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")
    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, 'submit', refuse)
    with pytest.raises(OSError, match='start new thread') as caught:
        next(fill(tmp_path, [5]).batches(2, 5, [0]))
    assert caught.value.errno == errno.EAGAIN


def test_an_episode_whose_name_tells_another_length_is_set_aside(tmp_path):
    fill(tmp_path, [5, 6])
    (tmp_path / '0000001-6.npz').rename(tmp_path / '0000001-7.npz')
    replay, (line,) = reopened(tmp_path)
    assert replay.steps == 2 * 4 and 'it has 6 entries, not 7' in line
    assert names(tmp_path) == ['0000000-5.npz', '0000001-7.npz.damaged']


def test_number_of_an_episode_that_was_set_aside_is_not_given_again(tmp_path):
    fill(tmp_path, [5, 6])
    (tmp_path / '0000001-6.npz').write_bytes(b'damaged')
    for _ in range(2):
        replay, _ = reopened(tmp_path)
        assert (replay.number, len(replay.episodes)) == (2, 1)


def test_what_a_user_keeps_beside_the_episodes_is_neither_read_nor_changed(tmp_path):
    fill(tmp_path, [5, 6])
    content = (tmp_path / '0000001-6.npz').read_bytes()
    mine = ['0000001-6 (copy).npz', 'other-0000002-6.npz', '0000002-6.npz.bak', '2-6.npz',
            '000002-6.npz', '0000002-6.npy', '\u0660000002-6.npz', 'notes.partial', 'x.damaged',
            '00000002-6.npz', '0000002-06.npz']
    for name in mine:
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / '0000002-6.npz').write_bytes(content)
    (tmp_path / '0000002-7.npz').mkdir()
    before = names(tmp_path)
    replay, said = reopened(tmp_path)
    assert (replay.steps, replay.number, said) == (2 * (4 + 5), 2, [])
    assert names(tmp_path) == before
    assert all((tmp_path / name).read_bytes() == content for name in mine)


def test_a_link_that_leads_to_itself_is_no_episode(tmp_path):
    fill(tmp_path, [5, 6])
    (tmp_path / '0000002-7.npz').symlink_to('0000002-7.npz')
    replay, said = reopened(tmp_path)
    assert (len(replay.episodes), said) == (2, [])


def test_an_episode_that_cannot_be_read_back_leaves_its_number_taken(tmp_path):
    replay = fill(tmp_path, [5])
    for count in 3, 4:
        with pytest.raises(ValueError, match='differ in length'):
            replay.add(episode(1, 6) | {'reward': np.zeros(count, np.float32)})
    replay, said = reopened(tmp_path)
    assert (replay.number, len(replay.episodes), len(said)) == (3, 1, 2)


def test_two_episodes_of_one_number_are_named_and_left(tmp_path):
    fill(tmp_path, [5, 6])
    (tmp_path / '0000001-9.npz').write_bytes((tmp_path / '0000001-6.npz').read_bytes())
    with pytest.raises(UserError, match=r'0000001-6.npz and .*0000001-9.npz have one number'):
        reopened(tmp_path)
    assert names(tmp_path) == ['0000000-5.npz', '0000001-6.npz', '0000001-9.npz']


@pytest.mark.parametrize('mask', [255, 1])
def test_any_flipped_byte_is_found_or_changes_nothing(mask, tmp_path):
    replay = Replay(tmp_path, 2)
    arrays = {'image': episode(1, 3)['image'][:, :1], 'reward': episode(1, 3)['reward']}
    for _ in range(2):
        replay.add(arrays)
    path = tmp_path / '0000001-3.npz'
    content = path.read_bytes()
    outcomes = set()
    for place in range(len(content)):
        path.write_bytes(flipped(content, place, mask))
        replay, said = reopened(tmp_path)
        if said:
            assert names(tmp_path) == ['0000000-3.npz', '0000001-3.npz.damaged'], place
        assert len(replay.episodes) == 2 - len(said)
        assert same(replay.sample(9, 3, 0), {
            key: np.stack([value] * 9)
            for key, value in (arrays | {'is_first': np.arange(3) == 0}).items()}), place
        outcomes.add(len(said))
    assert outcomes == {0, 1}


def test_foreign_oldest_episode_does_not_set_the_others_aside(tmp_path):
    fill(tmp_path, [5, 6, 7])
    (tmp_path / '0000000-5.npz').write_bytes(other_arrays(smell=np.zeros(6)))
    replay, said = reopened(tmp_path)
    assert len(replay.episodes) == 2 and len(said) == 1 and '0000000-5.npz' in said[0]


def test_foreign_keys_are_an_error_when_added(tmp_path):
    replay = fill(tmp_path, [5])
    with pytest.raises(ValueError, match='not those of the other episodes'):
        replay.add({'reward': np.zeros(5, np.float32)})
    assert len(list(tmp_path.iterdir())) == 1  # and nothing is written


def test_an_old_episode_outside_memory_is_checked_before_it_is_learned_from(tmp_path):
    """By its checksums, at its first reading; the batch is then drawn from the others."""
    fill(tmp_path, [5, 6, 7])
    path = tmp_path / '0000001-6.npz'
    content = path.read_bytes()
    wanted = (100 + np.arange(6)).astype(np.float32).tobytes()
    path.write_bytes(flipped(content, content.index(wanted) + 6))
    said = []
    replay = Replay(tmp_path, 2, 0, said.append)
    assert (len(replay.episodes), said) == (3, [])
    [batch] = [next(replay.batches(400, 5, [7]))]
    assert set(batch['reward'].numpy()[:, 0]) == {0, 200, 201, 202}
    assert len(said) == 1 and '0000001-6.npz.damaged' in said[0]
    assert names(tmp_path) == ['0000000-5.npz', '0000001-6.npz.damaged', '0000002-7.npz']
    (tmp_path / '0000002-7.npz').unlink()
    assert set(replay.sample(100, 5, 0)['reward'][:, 0]) <= {0, 200, 201, 202}
    replay = Replay(tmp_path, 2, 0)
    assert set(replay.sample(100, 5, 0)['reward'][:, 0]) == {0} and replay.numbers == {0, 1}


def test_an_episode_that_is_gone_is_named_and_drawn_no_more(tmp_path):
    fill(tmp_path, [5, 6, 7])
    said = []
    replay = Replay(tmp_path, 2, 0, said.append)
    (tmp_path / '0000001-6.npz').unlink()
    assert set(replay.sample(400, 5, 0)['reward'][:, 0]) == {0, 200, 201, 202}
    assert len(said) == 1 and 'is gone' in said[0]


def test_a_damaged_count_of_steps_is_found_when_the_run_is_opened(tmp_path):
    replay = Replay(tmp_path, 2)
    steps = np.array([0, 2, 2, 1], np.int32)
    for number in 0, 1:
        replay.add(episode(number, 4) | {'steps': steps})
    path = tmp_path / '0000001-4.npz'
    content = path.read_bytes()
    path.write_bytes(flipped(content, content.index(steps.tobytes()) + 6))
    replay, said = reopened(tmp_path, 0)
    assert (replay.steps, len(said)) == (5, 1)
