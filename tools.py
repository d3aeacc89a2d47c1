"""Small general pieces: optimiser, replay of episodes, logs, checkpoints, seeds, pictures."""

import collections
import concurrent.futures
import csv
import io
import itertools
import os
import pathlib
import re
import shutil
import zipfile

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras

from config import UserError

# --- Replay ------------------------------------------------------------------------------


EPISODE = re.compile(r'(\d{7})-(\d+)\.npz')


class Episode:
    """One episode of `entries` entries in an uncompressed .npz file; perhaps also in memory.

    Raises ValueError for a file that is not whole.
    """

    def __init__(self, path):
        self.path, self.memory = path, None
        self.places = {}
        try:
            with zipfile.ZipFile(path) as archive, open(path, 'rb') as file:
                for item in archive.infolist():
                    file.seek(item.header_offset)
                    header = file.read(30)
                    skip = int.from_bytes(header[26:28], 'little') + int.from_bytes(
                        header[28:30], 'little')
                    file.seek(item.header_offset + 30 + skip)
                    version = np.lib.format.read_magic(file)
                    read = {(1, 0): np.lib.format.read_array_header_1_0,
                            (2, 0): np.lib.format.read_array_header_2_0}[version]
                    shape, fortran, dtype = read(file)
                    size = int(np.prod(shape)) * dtype.itemsize
                    end = item.header_offset + 30 + skip + item.file_size
                    if fortran or dtype.hasobject or item.compress_type or (
                            file.tell() + size != end):
                        raise ValueError('an array is not laid out as expected')
                    self.places[item.filename.removesuffix('.npy')] = (
                        file.tell(), shape, dtype)
            lengths = {shape[0] for _, shape, _ in self.places.values()}
            if len(lengths) != 1:
                raise ValueError('arrays differ in length')
        except Exception as error:  # zipfile and numpy have many types for what damage can do
            raise ValueError(f'{path}: {error}') from error
        self.entries = lengths.pop()
        self.keys = {key: (shape[1:], dtype) for key, (_, shape, dtype) in self.places.items()}
        self.bytes = os.path.getsize(path)

    def load(self):
        """Bring the whole episode to memory; ValueError where its checksums are wrong."""
        try:
            with np.load(self.path) as arrays:
                self.memory = {key: arrays[key] for key in arrays}
        except Exception as error:
            raise ValueError(f'{self.path}: {error}') from error

    def read(self, start, count):
        """Entries start .. start + count - 1 of every array, from memory or from the file."""
        if self.memory is not None:
            return {key: value[start:start + count] for key, value in self.memory.items()}
        result = {}
        with open(self.path, 'rb') as file:
            for key, (offset, shape, dtype) in self.places.items():
                width = int(np.prod(shape[1:])) * dtype.itemsize
                file.seek(offset + start * width)
                content = file.read(count * width)
                result[key] = np.frombuffer(content, dtype).reshape(count, *shape[1:])
        return result


class Replay:
    """The episodes of a run: files in a folder, the newest of them in memory too.

    A file is named <number>-<entries>.npz. What was collected is counted from the episodes, of
    which only the heads are read. An episode of T decisions has T + 1 entries, the first from
    the reset.
    """

    def __init__(self, folder, action_repeat, memory=2.0, report=print):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.action_repeat, self.memory, self.report = action_repeat, memory * 1e9, report
        self.episodes = []
        self.keys = None
        self.number = 0
        for partial in self.folder.glob('*.partial'):
            partial.unlink()
        for path in sorted(p for p in self.folder.iterdir() if EPISODE.fullmatch(p.name)):
            self.number = int(EPISODE.fullmatch(path.name)[1]) + 1
            try:
                self.episodes.append(Episode(path))
            except ValueError as error:
                self._set_aside(path, error)
        if self.episodes:
            # What most episodes hold is right: one foreign file does not decide.
            kinds = collections.Counter(str(episode.keys) for episode in self.episodes)
            kind = kinds.most_common(1)[0][0]
            self.keys = next(e.keys for e in self.episodes if str(e.keys) == kind)
        for episode in self.episodes.copy():
            try:
                self._check_keys(episode)
            except ValueError as error:
                self._set_aside(episode.path, error)
                self.episodes.remove(episode)
        held = 0
        for episode in reversed(self.episodes.copy()):
            held += episode.bytes
            if held > self.memory:
                break
            try:
                episode.load()
            except ValueError as error:
                self._set_aside(episode.path, error)
                self.episodes.remove(episode)

    def _check_keys(self, episode):
        self.keys = self.keys or episode.keys
        if episode.keys != self.keys:
            raise ValueError(f'{episode.path}: its arrays are not those of the other episodes')

    def _set_aside(self, path, error):
        target = path.with_name(path.name + '.damaged')
        os.replace(path, target)
        self.report(f'warning: damaged episode set aside as {target} ({error})')

    @property
    def steps(self):
        """Environment steps in all episodes."""
        return self.action_repeat * sum(episode.entries - 1 for episode in self.episodes)

    def add(self, arrays):
        """Write an episode (dict of arrays with equal first axes) and keep it in memory."""
        entries = len(arrays['reward'])
        path = self.folder / f'{self.number:07d}-{entries}.npz'
        partial = path.with_suffix('.partial')
        with open(partial, 'wb') as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        self.number += 1
        episode = Episode(path)
        self._check_keys(episode)
        episode.memory = arrays
        self.episodes.append(episode)
        held = 0
        for episode in reversed(self.episodes):
            held += episode.bytes
            if episode.memory is None:
                break
            if held > self.memory:
                episode.memory = None

    def starts(self, length):
        """How many different sequences of `length` entries there are, for each episode."""
        return np.array([max(0, e.entries - length + 1) for e in self.episodes], np.int64)

    def sample(self, batch, length, seed):
        """A dict of arrays [batch, length, ...]: consecutive entries from starts drawn uniformly
        among all that exist. The same seed and episodes give the same batch.

        Raises UserError where no episode is long enough.
        """
        generator = np.random.default_rng(seed)
        ends = np.cumsum(self.starts(length))
        if not len(ends) or not ends[-1]:
            raise UserError(
                f'no episode has {length} entries yet; type a smaller --length or a longer '
                '--prefill')
        result = {
            key: np.empty((batch, length, *shape), dtype)
            for key, (shape, dtype) in self.keys.items()}
        for row, drawn in enumerate(generator.integers(ends[-1], size=batch)):
            place = int(np.searchsorted(ends, drawn, side='right'))
            start = int(drawn - (ends[place - 1] if place else 0))
            for key, value in self.episodes[place].read(start, length).items():
                result[key][row] = value
        return result

    def batches(self, batch, length, seeds):
        """`sample` for each of `seeds` as tensors, the next drawn while the last is in use."""
        def draw(seed):
            return {key: tf.constant(value) for key, value in
                    self.sample(batch, length, seed).items()}
        seeds = list(seeds)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            coming = [pool.submit(draw, seed) for seed in seeds[:1]]
            for index in range(len(seeds)):
                ready = coming.pop().result()
                if index + 1 < len(seeds):
                    coming.append(pool.submit(draw, seeds[index + 1]))
                yield ready


# --- Logs --------------------------------------------------------------------------------


class Table:
    """A CSV file to which rows (dicts) are appended, each flushed; still valid after a kill.

    A line that was cut off is dropped when the file is opened; a row with new columns widens
    the file, atomically.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.columns = None
        if self.path.exists():
            content = self.path.read_bytes()
            whole = content[:content.rfind(b'\n') + 1]
            if whole != content:
                self._replace(whole)
            header = whole.split(b'\n')[0].decode().strip()
            self.columns = header.split(',') if header else None

    def _replace(self, content):
        partial = self.path.with_name(self.path.name + '.partial')
        partial.write_bytes(content)
        os.replace(partial, self.path)

    def append(self, row):
        row = {key: f'{v:.6g}' if isinstance(v, float) else v for key, v in row.items()}
        if self.columns is None:
            self.columns = list(row)
            self._replace((','.join(self.columns) + '\n').encode())
        elif set(row) - set(self.columns):
            self.columns += [key for key in row if key not in self.columns]
            old = pd.read_csv(self.path, dtype=str, keep_default_na=False)
            self._replace(old.reindex(columns=self.columns, fill_value='').to_csv(
                index=False, lineterminator='\n').encode())
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator='\n').writerow(row)
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write(text.getvalue())


class Logger:
    """episodes.csv and metrics.csv of a run, the same numbers for TensorBoard, and videos."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.episodes = Table(self.folder / 'episodes.csv')
        self.metrics = Table(self.folder / 'metrics.csv')
        self.writer = tf.summary.create_file_writer(str(self.folder / 'tensorboard'))

    def episode(self, row):
        """A finished episode: step, updates, seconds, mode, return, length, missing_<sensor>."""
        self.episodes.append(row)
        self._scalars(row['step'], {
            f'{row["mode"]}/{key}': value for key, value in row.items()
            if key in ('return', 'length') or key.startswith('missing_')})

    def update(self, row):
        """A row of metrics: step, updates, seconds and any floats."""
        self.metrics.append(row)
        self._scalars(row['step'], {f'train/{key}': value for key, value in row.items()})

    def _scalars(self, step, values):
        with self.writer.as_default(step=int(step)):
            for key, value in values.items():
                tf.summary.scalar(key, float(value))
        self.writer.flush()

    def video(self, name, step, frames, rate=20):
        """Save uint8 frames [time, height, width, 3] as videos/<step>-<name>.gif, and for
        TensorBoard. Returns the path."""
        from tensorboard.plugins.image import metadata
        path = self.folder / 'videos' / f'{step:09d}-{name}.gif'
        path.parent.mkdir(exist_ok=True)
        content = gif(frames, rate)
        partial = path.with_suffix('.partial')
        partial.write_bytes(content)
        os.replace(partial, path)
        height, width = frames.shape[1:3]
        with self.writer.as_default(step=int(step)):
            # TensorBoard's picture plug-in plays an encoded GIF, which tf.summary.image,
            # made for raw pixels, cannot write.
            tf.summary.write(
                name, tf.constant([str(width).encode(), str(height).encode(), content]),
                metadata=metadata.create_summary_metadata(name, ''))
        self.writer.flush()
        return path


def gif(frames, rate):
    """uint8 frames [time, height, width, 3] as the bytes of a looping GIF, `rate` a second."""
    from PIL import Image
    pictures = [Image.fromarray(frame) for frame in frames]
    stream = io.BytesIO()
    pictures[0].save(
        stream, 'GIF', save_all=True, append_images=pictures[1:], duration=1000 // rate, loop=0)
    return stream.getvalue()


# --- Checkpoints and seeds ---------------------------------------------------------------


class Checkpoints:
    """The last few states of a tf.Module. One that a kill left damaged is passed over."""

    def __init__(self, folder, module, keep=3, report=print):
        self.folder, self.report = pathlib.Path(folder), report
        self.checkpoint = tf.train.Checkpoint(module=module)
        self.keep = keep

    def paths(self):
        """The checkpoints, oldest first, as paths without an ending."""
        found = self.folder.glob('state-*.index')
        return sorted(path.with_suffix('') for path in found)

    def save(self, number):
        """Write the state under `number`, in place of one of the same number, and drop the oldest
        beyond `keep`."""
        # TensorFlow writes the values under temporary names, and the index last.
        self.checkpoint.write(str(self.folder / f'state-{number:09d}'))
        kept = {path.name for path in self.paths()[-self.keep:]}
        for part in self.folder.glob('state-*'):
            if part.name.split('.')[0] not in kept:  # older ones, and what a kill left half done
                shutil.rmtree(part) if part.is_dir() else part.unlink()

    def restore(self):
        """Restore the newest state that is whole; one that is damaged is named, and the one
        before it taken. Returns its path, or None where there is none at all.

        Raises UserError where there are only damaged ones.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                self.load(path)
                return path
            except UserError as error:
                self.report(f'warning: {error}')
        if paths:
            raise UserError(
                f'no checkpoint in {self.folder} can be read; choose another --logdir, or remove '
                'its state-* files to train anew on its episodes')
        return None

    def load(self, path):
        """Restore the state at `path`, every value of it; UserError where that fails."""
        try:
            self.checkpoint.read(str(path)).assert_consumed()
        except Exception as error:  # TensorFlow has many types for what damage can do
            reason = str(error).split('\n')[0]
            raise UserError(f'damaged checkpoint {path} ({reason})') from None


def seed_everything(seed):
    """Seed the global generators of TensorFlow, numpy and Python, which Keras's initialisers
    draw their seeds from."""
    tf_keras.utils.set_random_seed(seed)


def compute_type(precision):
    """The type of products that `precision` names; auto: bfloat16 on a GPU or on a processor
    that is faster in it, float32 elsewhere."""
    if precision != 'auto':
        return tf.as_dtype(precision)
    if tf.config.list_physical_devices('GPU'):
        return tf.bfloat16
    try:
        with open('/proc/cpuinfo', encoding='ascii', errors='ignore') as file:
            first = list(itertools.takewhile(str.strip, file))  # of the processors
    except OSError:
        first = []
    parts = (line.partition(':') for line in first)
    facts = {key.strip(): value.split() for key, _, value in parts}
    flags, vendor = (facts.get(key, []) for key in ('flags', 'vendor_id'))
    # README.md, "Precision", has the rates. By name and not by a stopwatch, so that one machine
    # always makes the same choice.
    fast = 'amx_bf16' in flags or ('avx512_bf16' in flags and 'AuthenticAMD' in vendor)
    return tf.bfloat16 if fast else tf.float32
