"""Small general pieces: logs, checkpoints, seeds."""

import csv
import io
import pathlib
import re

import pandas as pd
import tensorflow as tf
import tf_keras
from scipy.io import wavfile

import files
from config import UserError

# --- Logs --------------------------------------------------------------------------------


class Table:
    """A CSV file to which rows (dicts) are appended, each flushed; still valid after a kill.

    A line that was cut off is dropped when the file is opened; a row with new columns widens
    the file, atomically.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.columns = None
        files.clean(self.path.parent, re.compile(re.escape(self.path.name)))
        if self.path.exists():
            content = self.path.read_bytes()
            whole = content[:content.rfind(b'\n') + 1]
            if whole != content:
                self._replace(whole)
            header = whole.split(b'\n')[0].decode('utf-8-sig').strip()
            self.columns = header.split(',') if header else None

    def _replace(self, content):
        with files.writing(self.path) as file:
            file.write(content)

    def append(self, row):
        row = {key: f'{v:.6g}' if isinstance(v, float) else v for key, v in row.items()}
        if self.columns is None:
            self.columns = list(row)
            self._replace((','.join(self.columns) + '\n').encode())
        elif set(row) - set(self.columns):
            self.columns += [key for key in row if key not in self.columns]
            with open(self.path, encoding='utf-8-sig') as file:  # pandas takes names for addresses
                old = pd.read_csv(file, dtype=str, keep_default_na=False)
            self._replace(old.reindex(columns=self.columns, fill_value='').to_csv(
                index=False, lineterminator='\n').encode())
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator='\n').writerow(row)
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write(text.getvalue())


VIDEO = re.compile(r'\d{9,}-\w+\.(gif|wav)')


class Logger:
    """episodes.csv and metrics.csv of a run, the same numbers for TensorBoard, and videos."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.episodes = Table(self.folder / 'episodes.csv')
        self.metrics = Table(self.folder / 'metrics.csv')
        if (self.folder / 'videos').exists():
            files.clean(self.folder / 'videos', VIDEO)
        self.writer = tf.summary.create_file_writer(files.plain(self.folder / 'tensorboard'))

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
        with files.writing(path) as file:
            file.write(content)
        height, width = frames.shape[1:3]
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


class Checkpoints:
    """The last few states of a tf.Module. One that a kill left damaged is passed over."""

    def __init__(self, folder, module, keep=3, report=print):
        self.folder, self.report = pathlib.Path(folder), report
        self.checkpoint = tf.train.Checkpoint(module=module)
        self.keep = keep

    def paths(self):
        """The checkpoints, oldest first, as paths without an ending."""
        return [pathlib.Path(path) for path in files.states(self.folder)]

    def save(self, number):
        """Write the state under `number`, in place of one of the same number, and drop the oldest
        beyond `keep`."""
        # TensorFlow writes the values under temporary names, and the index last.
        self.checkpoint.write(files.plain(self.folder / f'state-{number:09d}'))
        files.prune(self.folder, {path.name for path in self.paths()[-self.keep:]})

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
        """Restore the state at `path`, every value of it; UserError where it is damaged or another
        model's."""
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
            raise UserError(
                f'checkpoint {path} is of another model, with other values to restore; name one '
                'of this method and these options') from None
        except Exception as error:  # TensorFlow has many types for what damage can do
            reason = str(error).split('\n')[0]
            raise UserError(f'damaged checkpoint {path} ({reason})') from None

    def _shapes(self):
        """The shapes of all values that a checkpoint holds, sorted."""
        view = tf.train.TrackableView(self.checkpoint)
        return sorted(
            tuple(part.shape) for part in view.descendants() if isinstance(part, tf.Variable))


def seed_everything(seed):
    """Seed the global generators of TensorFlow, numpy and Python, which Keras's initialisers
    draw their seeds from."""
    tf_keras.utils.set_random_seed(seed)
