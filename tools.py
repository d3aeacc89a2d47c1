"""Small general pieces: what a run logs, its checkpoints, seeds."""

import contextlib
import errno
import functools
import io
import os
import pathlib
import random
import re

import numpy as np
import tensorflow as tf
import tf_keras

import files
from config import UserError
from csv_log import Table, valid_row


@contextlib.contextmanager
def writing_by_tensorflow(path):
    """Within, TensorFlow's errors are `OSError`s of writing `path`."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = str(error).split('\n')[0]
        raise OSError(errno.EIO, reason, os.fspath(path)) from error


VIDEO = re.compile(r'\d{9,}-\w+\.(gif|wav)')


class Logger:
    """episodes.csv and metrics.csv of a run, the same numbers for TensorBoard, and videos."""

    def __init__(self, folder, report=print):
        self.folder = pathlib.Path(folder)
        self.episodes = Table(self.folder / 'episodes.csv', functools.partial(
            valid_row, least=('step', 'return', 'length')), report)
        self.metrics = Table(self.folder / 'metrics.csv', functools.partial(
            valid_row, least=('step', 'updates')), report)
        if (self.folder / 'videos').exists():
            files.clean(self.folder / 'videos', VIDEO)

    @functools.cached_property
    def writer(self):
        """That of TensorBoard, which makes a file as soon as there is one."""
        return tf.summary.create_file_writer(files.plain(self.folder / 'tensorboard'))

    def episode(self, row):
        """A finished episode: step, updates, seconds, mode, return, length, missing_<sensor>,
        episode."""
        self.episodes.append(row)
        self._scalars(row['step'], {
            f'{row["mode"]}/{key}': value for key, value in row.items()
            if key in ('return', 'length') or key.startswith('missing_')})

    def update(self, row):
        """A row of metrics: step, updates, seconds and any floats."""
        self.metrics.append(row)
        self._scalars(row['step'], {f'train/{key}': value for key, value in row.items()})

    def _scalars(self, step, values):
        # As arrays: TensorFlow keeps every Python number that it was ever given, 0.7 kB each.
        with writing_by_tensorflow(self.folder / 'tensorboard'):
            with self.writer.as_default(step=np.array(step, np.int64)):
                for key, value in values.items():
                    tf.summary.scalar(key, np.array(value, np.float32))
            self.writer.flush()

    def video(self, name, step, frames, rate=20):
        """Save uint8 frames [time, height, width, 3] as videos/<step>-<name>.gif, and for
        TensorBoard. Returns the path."""
        from tensorboard.plugins.image import metadata
        path = self.folder / 'videos' / f'{step:09d}-{name}.gif'
        path.parent.mkdir(exist_ok=True)
        content = gif(frames, rate)
        with files.writing(path) as file:
            file.write(content)
        height, width = frames.shape[1:3]
        with writing_by_tensorflow(self.folder / 'tensorboard'):
            with self.writer.as_default(step=int(step)):
                # TensorBoard's picture plug-in plays an encoded GIF, which tf.summary.image,
                # made for raw pixels, cannot write.
                tf.summary.write(
                    name, tf.constant([str(width).encode(), str(height).encode(), content]),
                    metadata=metadata.create_summary_metadata(name, ''))
            self.writer.flush()
        return path

    def sound(self, name, step, samples, rate):
        """Save int16 samples [count] as videos/<step>-<name>.wav, `rate` a second."""
        from scipy.io import wavfile
        path = self.folder / 'videos' / f'{step:09d}-{name}.wav'
        path.parent.mkdir(exist_ok=True)
        with files.writing(path) as file:
            wavfile.write(file, rate, samples)


def gif(frames, rate):
    """uint8 frames [time, height, width, 3] as the bytes of a looping GIF, `rate` a second."""
    from PIL import Image
    pictures = [Image.fromarray(frame) for frame in frames]
    stream = io.BytesIO()
    pictures[0].save(
        stream, 'GIF', save_all=True, append_images=pictures[1:], duration=1000 // rate, loop=0)
    return stream.getvalue()


# --- Checkpoints and seeds ---------------------------------------------------------------


# The entry of a checkpoint that says how its values hang together.
GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'


class OtherModel(UserError):
    """A checkpoint that is whole, of another model."""


class Checkpoints:
    """The last few states of a tf.Module. One that is damaged is passed over."""

    def __init__(self, folder, module, keep=3, report=print):
        self.folder, self.report = pathlib.Path(folder), report
        self.checkpoint = tf.train.Checkpoint(module=module)
        self.keep = keep

    def paths(self):
        """The checkpoints, oldest first, as paths without an ending."""
        return [pathlib.Path(path) for path in files.states(self.folder)]

    def save(self, number):
        """Write the state under `number`, beside one of the same number that is there already, and
        drop the oldest beyond `keep`; states of a larger number, which could not be read or the
        run would be there, are set aside. Returns its path.

        Raises UserError where a value is not finite, OSError where the disk is full; the states
        that are there stay in both cases.
        """
        if bad := self.not_finite():
            raise UserError(f'{bad} is not finite, and is not saved')
        with writing_by_tensorflow(self.folder / files.UNNAMED):
            try:
                self.checkpoint.write(files.plain(self.folder / files.UNNAMED))
            except BaseException:
                with contextlib.suppress(OSError):
                    files.prune(self.folder, {path.name for path in self.paths()})
                raise
        path = files.name_state(self.folder, number)
        for damaged in files.set_aside_states(self.folder, number):
            self.report(f'{damaged} is kept as .damaged')
        files.prune(self.folder, {path.name for path in self.paths()[-self.keep:]})
        return pathlib.Path(path)

    def not_finite(self):
        """The name of a variable with a value that is not finite, or None."""
        floats = [v for v in self._variables() if v.dtype.is_floating]
        if bool(tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in floats])):
            return None
        return next(v.name.split(':')[0] for v in floats
                    if not bool(tf.reduce_all(tf.math.is_finite(v))))

    def restore(self):
        """Restore the newest state that is whole; one that is damaged is named, and the one
        before it taken. Returns its path, or None where there is none that is whole.

        Raises UserError where there are only ones of another model, or those and damaged ones.
        """
        other = None
        for path in reversed(self.paths()):
            try:
                self.load(path)
                return path
            except UserError as error:
                self.report(f'warning: {error}')
                other = other or (isinstance(error, OtherModel) and error)
        if other:
            raise other
        return None

    def load(self, path):
        """Restore the state at `path`, every value of it; UserError where it is damaged or another
        model's, OSError where it cannot be read at present."""
        files.check_state(path)
        plain, status = files.plain(path), None
        try:
            kept = tf.train.load_checkpoint(plain).get_variable_to_shape_map()
            # Before anything is read: TensorFlow restores the part that fits, and says the rest
            # in lines of its own.
            if self._shapes() != sorted(
                    tuple(shape) for name, shape in kept.items() if name != GRAPH):
                raise AssertionError
            status = self.checkpoint.read(plain)
            status.assert_consumed()
        except AssertionError:
            if status:
                status.expect_partial()  # no lines of its own
            raise OtherModel(
                f'checkpoint {path} is of another model, with other values to restore; name one '
                'of this method and these options') from None
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:  # TensorFlow has many types for what damage can do
            reason = str(error).split('\n')[0]
            raise UserError(f'damaged checkpoint {path} ({reason})') from None

    def _variables(self):
        view = tf.train.TrackableView(self.checkpoint)
        return [part for part in view.descendants() if isinstance(part, tf.Variable)]

    def _shapes(self):
        """The shapes of all values that a checkpoint holds, sorted."""
        return sorted(tuple(part.shape) for part in self._variables())


@contextlib.contextmanager
def keeping_generators():
    """Afterwards the global generators of Python and numpy go on where they were."""
    before = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def seed_everything(seed):
    """Seed the global generators of TensorFlow, numpy and Python, which Keras's initialisers
    draw their seeds from."""
    tf_keras.utils.set_random_seed(seed)
