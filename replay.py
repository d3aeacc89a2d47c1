"""What a run has seen: episodes as files, and the sequences that are drawn from them."""

import array
import bisect
import collections
import concurrent.futures
import errno
import functools
import io
import itertools
import os
import zipfile

import numpy as np
import tensorflow as tf

import files
from config import UserError
from files import DAMAGED, EPISODE

LONGEST_HEADER = 10000  # bytes, as numpy has it
# Where arrays lie in a file, of what kind they are, and how large it is: one object for all
# episodes that are alike, since a run may have very many.
_LAYOUTS = {}


def path_of(folder, number, entries):
    """The path, as text, of an episode in `folder`."""
    return os.path.join(folder, f'{number:07d}-{entries}.npz')


def _array_header(file):
    """(shape, whether in Fortran's order, dtype) of the .npy array that begins here in `file`,
    which is left at the numbers."""
    version = np.lib.format.read_magic(file)
    width = {(1, 0): 2, (2, 0): 4}[version]
    size = file.read(width)
    count = int.from_bytes(size, 'little')
    if count > LONGEST_HEADER:  # a damaged one asks for gigabytes
        raise ValueError(f'an array has {count} bytes of header')
    return _parsed_header(version, size + file.read(count))


@functools.lru_cache(1000)
def _parsed_header(version, header):
    # Once for all arrays that are alike: each time numpy leaves a dozen objects that refer to one
    # another, which stay until Python searches all objects, seldom in a run that has many.
    read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}[version]
    return read(io.BytesIO(header))


def _shortage(error):
    """What of an error of reading an episode, and of those behind it, says nothing of its file:
    that there is no memory left, or no number for another open file; that a network's file system
    does not answer. None where it is the file that is damaged."""
    while error:  # zipfile calls a file that could not be read no zip file
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and (
                # zipfile goes to places that there are not.
                error.errno not in (None, errno.ENOENT, errno.EINVAL))):
            return error
        error = error.__cause__ or error.__context__
    return None


def _raise(error, path):
    """Raise, for an error of reading the episode at `path`, what lacked; or ValueError, where it is
    damaged."""
    if lacked := _shortage(error):
        if isinstance(lacked, OSError):
            lacked.filename = lacked.filename or path
        raise lacked
    raise ValueError(f'{path}: {error}') from error


class Episode:
    """One episode of `entries` entries, the one of this `number`, in an uncompressed .npz file in
    `folder` (text); perhaps also in memory.

    action_repeat: control steps of a decision, for a file that does not hold their number.
    Raises ValueError for a file that is not whole or not there, and OSError or MemoryError where
    it cannot be read now; so do its methods.
    """

    # A run may have very many: no dict, and no name, which pathlib would also enter in a table of
    # the interpreter's.
    __slots__ = 'bytes checked entries folder keys memory number places steps'.split()

    def __init__(self, folder, number, entries, action_repeat=1):
        self.folder, self.number, self.entries = folder, number, entries
        path = self.path
        self.memory = None
        self.checked = False  # against its checksums
        self.places = {}
        try:
            with zipfile.ZipFile(path) as archive, open(path, 'rb') as file:
                for item in archive.infolist():
                    file.seek(item.header_offset)
                    header = file.read(30)
                    skip = int.from_bytes(header[26:28], 'little') + int.from_bytes(
                        header[28:30], 'little')
                    file.seek(item.header_offset + 30 + skip)
                    shape, fortran, dtype = _array_header(file)
                    size = int(np.prod(shape)) * dtype.itemsize
                    end = item.header_offset + 30 + skip + item.file_size
                    if fortran or dtype.hasobject or item.compress_type or (
                            file.tell() + size != end):
                        raise ValueError('an array is not laid out as expected')
                    self.places[item.filename.removesuffix('.npy')] = (
                        file.tell(), shape, dtype)
                if 'steps' in self.places:
                    archive.read('steps.npy')  # against its checksum: the run is counted by it
            lengths = {shape[0] for _, shape, _ in self.places.values()}
            if len(lengths) != 1:
                raise ValueError('arrays differ in length')
            if lengths != {entries}:
                raise ValueError(f'it has {lengths.pop()} entries, not {entries}')
        except Exception as error:  # zipfile and numpy have many types for what damage can do
            _raise(error, path)
        keys = {key: (shape[1:], dtype) for key, (_, shape, dtype) in self.places.items()}
        self.places, self.keys = (
            _LAYOUTS.setdefault(tuple(layout.items()), layout) for layout in (self.places, keys))
        size = os.path.getsize(path)
        self.bytes = _LAYOUTS.setdefault(size, size)
        # The last decision of an episode may be cut short by its time limit.
        self.steps = action_repeat * (self.entries - 1)
        if 'steps' in self.places:
            try:
                self.steps = int(self._read(0, self.entries, ['steps'])['steps'].sum())
            except (OSError, ValueError) as error:
                _raise(error, path)

    @property
    def path(self):
        return path_of(self.folder, self.number, self.entries)

    def load(self):
        """Bring the whole episode to memory; ValueError where its checksums are wrong."""
        try:
            with np.load(self.path) as arrays:
                self.memory = {key: arrays[key] for key in arrays}
        except Exception as error:
            _raise(error, self.path)
        self.checked = True

    def check(self):
        """Read the whole file; ValueError where its checksums are wrong, or it is gone."""
        self.load()
        self.memory = None

    def read(self, start, count, keys=None):
        """Entries start .. start + count - 1 of the arrays `keys`, or of every one, from memory or
        from the file, which is checked as a whole before its first reading: ValueError where it
        is damaged."""
        if self.memory is not None:
            return {key: value[start:start + count] for key, value in self.memory.items()
                    if keys is None or key in keys}
        if not self.checked:
            self.check()
        try:
            return self._read(start, count, keys)
        except (OSError, ValueError) as error:
            return _raise(error, self.path)

    def _read(self, start, count, keys):
        result = {}
        with open(self.path, 'rb') as file:
            for key in keys or self.places:
                offset, shape, dtype = self.places[key]
                width = int(np.prod(shape[1:])) * dtype.itemsize
                file.seek(offset + start * width)
                content = file.read(count * width)
                result[key] = np.frombuffer(content, dtype).reshape(count, *shape[1:])
        return result


class _Damaged(ValueError):
    """An episode that was found to be damaged when it was read."""

    def __init__(self, episode, error):
        super().__init__(str(error))
        self.episode = episode


class Replay:
    """The episodes of a run: files in a folder, the newest of them in memory too.

    A file is named <number>-<entries>.npz. What was collected is counted from the episodes, of
    which only the heads are read. An episode of T decisions has T + 1 entries, the first from
    the reset. across: see `starts`.
    """

    def __init__(self, folder, action_repeat, memory=2.0, report=print, across=False):
        self.folder, self.across = os.fspath(folder), across
        self.action_repeat, self.memory, self.report = action_repeat, memory * 1e9, report
        self.episodes = []
        self._ends = {}  # length -> what `ends` found so far
        self.keys = None
        self.number = 0
        if os.path.isdir(self.folder):  # it is made with the first episode
            files.clean(self.folder, EPISODE)
        for number, entries in self._files():
            try:
                self.episodes.append(Episode(self.folder, number, entries, action_repeat))
            except ValueError as error:
                self._set_aside(path_of(self.folder, number, entries), error)
        if self.episodes:
            # What most episodes hold is right: one foreign file does not decide.
            kinds = collections.Counter(str(episode.keys) for episode in self.episodes)
            kind = kinds.most_common(1)[0][0]
            self.keys = next(e.keys for e in self.episodes if str(e.keys) == kind)
        for episode in self.episodes.copy():
            try:
                self._check_keys(episode.keys, episode.path)
            except ValueError as error:
                self._drop(episode, error)
        held = 0
        for episode in reversed(self.episodes.copy()):
            held += episode.bytes
            if held > self.memory:
                break
            try:
                episode.load()
            except ValueError as error:
                self._drop(episode, error)

    def _files(self):
        """(number, entries) of the episodes, oldest first; the number of the next is set."""
        found = {}
        for name in files.episodes(self.folder):
            number, entries = map(int, EPISODE.match(name).groups())
            self.number = max(self.number, number + 1)
            if not name.endswith(DAMAGED):
                found.setdefault(number, []).append(entries)
        for number, several in found.items():
            if len(several) > 1:
                paths = sorted(path_of(self.folder, number, entries) for entries in several)
                raise UserError(
                    f'{" and ".join(paths)} have one number; move the one that is not of this run '
                    'to another folder')
        return [(number, *found[number]) for number in sorted(found)]

    def _check_keys(self, keys, what):
        self.keys = self.keys or keys
        if keys != self.keys:
            raise ValueError(f'{what}: its arrays are not those of the other episodes')

    def _drop(self, episode, error):
        """Go on without an episode that is damaged."""
        self._set_aside(episode.path, error)
        self.episodes.remove(episode)
        self._ends.clear()

    def _set_aside(self, path, error):
        target = path + DAMAGED
        try:
            os.replace(path, target)
        except FileNotFoundError:
            self.report(f'warning: the episode {path} is gone')
            return
        self.report(f'warning: damaged episode set aside as {target} ({error})')

    @property
    def numbers(self):
        """The numbers of all episodes, those that were set aside included."""
        return {int(EPISODE.match(name)[1]) for name in files.episodes(self.folder)}

    @property
    def steps(self):
        """Environment steps in all episodes."""
        return sum(episode.steps for episode in self.episodes)

    def add(self, arrays):
        """Write an episode (dict of arrays with equal first axes) and keep it in memory."""
        entries = len(arrays['reward'])
        self._check_keys({key: (value.shape[1:], value.dtype) for key, value in arrays.items()},
                         'an episode')
        os.makedirs(self.folder, exist_ok=True)
        path = path_of(self.folder, self.number, entries)
        if os.path.lexists(path):  # a file system that did not show it before
            raise FileExistsError(errno.EEXIST, 'an episode of this number is there already', path)
        with files.writing(path) as file:
            np.savez(file, **arrays)
        number, self.number = self.number, self.number + 1
        episode = Episode(self.folder, number, entries, self.action_repeat)
        episode.memory, episode.checked = arrays, True
        self.episodes.append(episode)
        held = 0
        for episode in reversed(self.episodes):
            held += episode.bytes
            if episode.memory is None:
                break
            if held > self.memory:
                episode.memory = None

    def ends(self, length):
        """How many sequences of `length` entries begin in each episode and all before it: as many
        in an episode as lie within it. In one that is shorter, and with `across` in all, one
        begins at every entry, and goes on through the following episodes; none where all together
        are shorter.

        Of the sequences within an episode one alone holds its last entry, at which a task ends,
        and `length` of them hold an entry of its middle. Across episodes all entries are drawn
        equally often."""
        # Kept from call to call, and grown in place: a run may have very many episodes.
        ends = self._ends.setdefault(length, array.array('q'))
        for episode in itertools.islice(self.episodes, len(ends), None):
            whole = self.across or episode.entries < length
            begin = episode.entries if whole else episode.entries - length + 1
            ends.append((ends[-1] if ends else 0) + begin)
        if ends and ends[-1] < length and sum(e.entries for e in self.episodes) < length:
            return array.array('q', [0] * len(ends))
        return ends

    def sample(self, batch, length, seed):
        """A dict of arrays [batch, length, ...]: consecutive entries from starts drawn uniformly
        among all that exist, see `ends`; is_first (bool) is True where an episode begins. The
        same seed and episodes give the same batch.

        An episode that turns out to be damaged is set aside, and the batch drawn without it.
        Raises UserError where there are not enough entries.
        """
        while True:
            ends = self.ends(length)
            if not any(ends[-1:]):
                raise UserError(
                    f'the episodes do not have {length} entries yet; type a smaller --length')
            drawn = np.random.default_rng(seed).integers(ends[-1], size=batch)
            try:
                return self._drawn(drawn, ends, length)
            except _Damaged as error:
                self._drop(error.episode, error)

    def _drawn(self, drawn, ends, length):
        """The sequences of `length` entries from the starts of these numbers [batch]."""
        batch = len(drawn)
        result = {
            key: np.empty((batch, length, *shape), dtype)
            for key, (shape, dtype) in self.keys.items()}
        result['is_first'] = np.zeros((batch, length), bool)
        for row, number in enumerate(drawn):
            place = bisect.bisect_right(ends, number)
            start = int(number - (ends[place - 1] if place else 0))
            filled = 0
            while filled < length:
                episode = self.episodes[place]
                count = min(length - filled, episode.entries - start)
                try:
                    entries = episode.read(start, count)
                except ValueError as error:
                    raise _Damaged(episode, error) from None
                for key, value in entries.items():
                    result[key][row, filled:filled + count] = value
                result['is_first'][row, filled] = start == 0
                filled, start, place = filled + count, 0, (place + 1) % len(self.episodes)
        return result

    def batches(self, batch, length, seeds):
        """`sample` for each of `seeds` as tensors, the next drawn while the last is in use."""
        def draw(seed):
            return {key: tf.constant(value) for key, value in
                    self.sample(batch, length, seed).items()}
        seeds = iter(seeds)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            def begin():
                try:
                    return [pool.submit(draw, seed) for seed in itertools.islice(seeds, 1)]
                except RuntimeError as error:  # no more threads
                    raise OSError(errno.EAGAIN, str(error)) from None
            coming = begin()
            while coming:
                ready = coming.pop().result()
                coming = begin()
                yield ready
