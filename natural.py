"""Make, import and show the videos that move behind the robots.

    python natural.py                                 draw natural_train.pkl, natural_valid.pkl
    python natural.py --import FOLDER --out FILE      your own videos, or folders of frames
    python natural.py --show FILE PICTURE             a contact sheet

A file is a pickled uint8 array (videos, frames, 3, 64, 64). scenes.py draws.
"""

import argparse
import collections
import contextlib
import itertools
import logging
import mmap
import os
import pickle
import pickletools
import re

import imageio.v3
import numpy as np
import PIL.Image
import PIL.ImageOps
import PIL.ImageSequence
import tqdm

import commandline
import config
import files
from scenes import SIDE, draw_videos

PICTURES = ('.png', '.jpg', '.jpeg')
# What systems leave in folders, beside all that begins with a dot.
FOREIGN = ('thumbs.db', 'ehthumbs.db', 'desktop.ini', '__macosx', '@eadir', '$recycle.bin',
           'system volume information', 'lost+found')
VIDEOS = ('.mp4', '.gif', '.avi', '.webm', '.mov', '.mkv', '.m4v', '.mpg', '.mpeg')


# --- Files ---

@contextlib.contextmanager
def _writing(path):
    """`files.writing`, whose errors are the user's."""
    try:
        with files.writing(path) as file:
            yield file
    except OSError as error:
        raise config.UserError(f'cannot write {path}: {error.strerror or error}') from None


def save(videos, path):
    """Pickle `videos`, uint8 (videos, frames, 3, 64, 64), at `path`, atomically."""
    with _writing(path) as file:
        pickle.dump(videos, file, protocol=4)
    print(f'{path}: {len(videos)} videos of {videos.shape[1]} frames')


# Durations of a GIF's frames up to the first, ms, are shown as the second by browsers.
UNSHOWN, UNSHOWN_AS = 10, 100

# FFmpeg turns frames as the file says, but hands over pixels that are not square as they are.
SQUARE_PIXELS = ['-vf', 'scale=iw*sar:ih,setsar=1']
# The files that are drawn: of each the stream of random numbers, and how many videos.
DRAWN = {'natural_train.pkl': (0, 24), 'natural_valid.pkl': (1, 8)}
FRAMES = 10_000  # of a drawn or imported video at the most: 24 such videos are 3 GB
MOST_PARTS = 100_000  # of a pickle; one array has less than a hundred
KNOWN = frozenset((
    'numpy.core.multiarray._reconstruct', 'numpy._core.multiarray._reconstruct',
    'numpy.core.numeric._frombuffer', 'numpy._core.numeric._frombuffer',
    'numpy.ndarray', 'numpy.dtype', '_codecs.encode'))


class _Part:
    """What a name in a pickle stands for: it notes how it is called, and does nothing."""

    __slots__ = ('arguments', 'name', 'state')

    def __init__(self, name, arguments=()):
        self.name, self.arguments, self.state = name, arguments, ()

    def __call__(self, *arguments):
        return _Part(self.name, arguments)

    def __setstate__(self, state):
        self.state = state


class _Reader(pickle.Unpickler):
    """Reads how numpy described an array, in any protocol, and runs none of it."""

    def find_class(self, module, name):
        if f'{module}.{name}' not in KNOWN:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}, which no video needs')
        return _Part(name)


def _check_claims(content):
    """Raise ValueError for a pickle that would take more memory than its size allows: one that
    numbers its objects beyond their count (unpickling makes room for all numbers below), claims
    more bytes than there are, or has far more parts than an array."""
    for count, (operation, number, place) in enumerate(pickletools.genops(content)):
        if count > MOST_PARTS or ('PUT' in operation.name and not 0 <= number <= count) or (
                operation.name == 'FRAME' and number > len(content) - place):
            raise ValueError('it claims more than it holds')


def _array(part):
    """The uint8 array that an unpickled `_Part` describes; ValueError if it is none."""
    if not isinstance(part, _Part) or part.name not in ('_reconstruct', '_frombuffer'):
        raise ValueError('it holds no numpy array')
    if part.name == '_reconstruct':
        _, shape, kind, fortran, data = part.state
        order, axes = 'F' if fortran else 'C', None
    else:
        data, kind, shape, order, axes = (*part.arguments, None)[:5]
    if not isinstance(kind, _Part) or kind.name != 'dtype' or kind.arguments[0] != 'u1':
        raise ValueError('its numbers are not uint8')
    if isinstance(data, _Part):  # protocols 0 to 2 write bytes as text of the same codes
        data = data.arguments[0]
    data = data.encode('latin1') if isinstance(data, str) else data
    array = np.frombuffer(data, np.uint8).reshape(shape, order='C' if order == 'K' else order)
    return array if axes is None else array.transpose(axes)


def load(path):
    """The videos in a file, uint8 (videos, frames, 3, 64, 64).

    Reads a pickled array of any protocol and age of numpy, and runs nothing that a file may
    ask for. Raises `config.UserError` if the file is missing, damaged or something else.
    """
    again = 'move it away, and python natural.py makes it again'
    try:
        with open(path, 'rb') as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_claims(content)
                content.seek(0)
                array = _array(_Reader(content, encoding='latin1').load())
    except FileNotFoundError:
        raise config.UserError(f'there is no {path}; type python natural.py to make it') from None
    except OSError as error:
        raise config.UserError(f'cannot read {path}: {error.strerror or error}') from None
    except Exception as error:
        reason = ' '.join(str(error).split())[:120] or 'it is damaged'
        raise config.UserError(f'{path} is no file of videos: {reason}; {again}') from None
    if array.ndim != 5 or array.shape[2:] != (3, SIDE, SIDE) or not array.size:
        raise config.UserError(
            f'{path} is no file of videos: its array is {array.shape}, not (videos, frames, 3, '
            f'{SIDE}, {SIDE}) with at least one of each; {again}')
    return np.array(array, order='C')


def show(path, picture, rows=8, columns=8):
    """Write a contact sheet of the file `path`: a video per row, time to the right."""
    videos = load(path)[:rows]
    frames = np.linspace(0, videos.shape[1], columns, endpoint=False).astype(int)
    sheet = videos[:, frames].transpose(0, 3, 1, 4, 2).reshape(len(videos) * SIDE, -1, 3)
    with _writing(picture) as file:
        image = PIL.ImageOps.scale(PIL.Image.fromarray(sheet), 2, PIL.Image.Resampling.NEAREST)
        image.save(file, 'PNG' if picture.lower().endswith('.png') else 'JPEG')


# --- Import ---

def _as_numbered(name):
    """Sorting key: numbers in a name by their size, so that frame9 comes before frame10."""
    parts = re.split(r'(\d+)', name.casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _look(folder):
    """(pictures, videos, folders) in `folder`, names in the order of their numbers, and what is
    of no use: reason -> names."""
    pictures, videos, folders, useless = [], [], [], collections.defaultdict(list)
    for name in sorted(os.listdir(folder), key=_as_numbered):
        if name.startswith('.') or name.lower() in FOREIGN:
            useless['hidden, or of a system'].append(name)
        elif os.path.isdir(os.path.join(folder, name)):
            folders.append(name)
        elif name.lower().endswith(PICTURES):
            pictures.append(name)
        elif name.lower().endswith(VIDEOS):
            videos.append(name)
        else:
            useless['neither video nor png or jpg, by the name'].append(name)
    return pictures, videos, folders, useless


def _say_skipped(folder, useless):
    for reason, names in useless.items():
        if names:
            more = f' and {len(names) - 5} more' if len(names) > 5 else ''
            tqdm.tqdm.write(f'skipped in {folder} ({reason}): {", ".join(names[:5])}{more}')


def _as_seen(image):
    """An opened picture as a viewer shows it, mode RGB; white where it is transparent."""
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits; Pillow would cut them at 255
        values = np.asarray(image).astype(np.float32) * (255 / 65535)
        image = PIL.Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        page = PIL.Image.new('RGBA', image.size, 'white')
        page.alpha_composite(image.convert('RGBA'))
        image = page
    return image.convert('RGB')


@contextlib.contextmanager
def _opened(path):
    """A picture, which moves if it is a GIF; an error, here and within, names the file."""
    try:
        with PIL.Image.open(path) as image:
            yield image
    except Exception as error:
        raise ValueError(f'{os.path.basename(path)}: {error}') from None


def _lasting(image, most):
    """The durations of the first frames of a GIF, `most` at the most, in milliseconds; those
    before the damage of a file that is cut off."""
    found = []
    try:
        for frame in itertools.islice(PIL.ImageSequence.Iterator(image), most):
            duration = frame.info.get('duration', 0)
            found.append(duration if duration > UNSHOWN else UNSHOWN_AS)
    except Exception:
        if not found:
            raise
    return found


def _frames(path, most):
    """Yield the frames of a video, or of a folder of pictures in the order of their numbers, at
    least `most` of them if there are so many."""
    if os.path.isdir(path):
        for name in _look(path)[0]:
            with _opened(os.path.join(path, name)) as image:
                yield _as_seen(image)
    elif path.lower().endswith('.gif'):
        with _opened(path) as image:
            # Frames that are alike may be stored as one that lasts longer than the others.
            lasting = _lasting(image, most)
            for time, frame in zip(lasting, PIL.ImageSequence.Iterator(image)):
                yield from itertools.repeat(_as_seen(frame), round(time / min(lasting)))
    else:
        # An absolute path, since the part before a colon of another could be read as a protocol.
        with imageio.v3.imopen(os.path.abspath(path), 'r', plugin='FFMPEG') as file:
            yield from map(PIL.Image.fromarray, file.iter(output_params=SQUARE_PIXELS))


def import_videos(folder, frames=50, every=1):
    """The videos of `folder`, cut to their central squares: uint8 (videos, frames, 3, 64, 64).

    Takes every video file and every folder of pictures in it, or the pictures that it holds
    itself as one video; of each the first `frames` frames, or every `every`-th. Frames are what
    a viewer shows, in the order of their numbers. Prints what it skips, with the reason;
    `config.UserError` if nothing remains.
    """
    if not os.path.isdir(folder):
        raise config.UserError(f'--import takes a folder of videos, and {folder!r} is none')
    try:
        pictures, found, folders, useless = _look(folder)
    except OSError as error:
        raise config.UserError(f'cannot read {folder}: {error.strerror or error}') from None
    length = (frames - 1) * every + 1
    if pictures and not found and (len(pictures) >= length or not folders):
        useless['a folder beside frames'] = folders
        found = [folder]
    else:
        useless['a picture beside videos'] = pictures
        found = [os.path.join(folder, name) for name in sorted(found + folders, key=_as_numbered)]
    _say_skipped(folder, useless)
    logging.getLogger('imageio_ffmpeg').setLevel(logging.ERROR)  # it warns of turned videos
    videos = []
    for path in tqdm.tqdm(found, desc='importing', unit='video'):
        video = []
        try:
            if os.path.isdir(path) and path != folder:
                own, _, _, useless = _look(path)
                _say_skipped(path, useless)
                if not own:
                    raise ValueError('it holds no png or jpg; a folder in a folder is one video')
            for image in itertools.islice(_frames(path, length), 0, length, every):
                video.append(np.asarray(PIL.ImageOps.fit(image, (SIDE, SIDE))).transpose(2, 0, 1))
        except Exception as error:
            tqdm.tqdm.write(f'skipped {path}: {reason(error)}')
            continue
        if len(video) == frames:
            videos.append(video)
        else:
            tqdm.tqdm.write(f'skipped {path}: it gives {len(video)} of the {frames} frames')
    if not videos:
        raise config.UserError(
            f'nothing in {folder} could be used; it needs videos (mp4, avi, webm, gif...) or '
            f'folders of png or jpg of {length} frames, or a smaller --frames')
    return np.array(videos)


# --- Command line ---

def reason(error):
    """The last line of an error, where ffmpeg says what it is, after all that it is made of."""
    lines = [' '.join(line.split()) for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def run(given):
    """Do what the parsed command line asks for; `config.UserError` for a mistake."""
    if min(given.frames, given.every) < 1 or given.seed < 0:
        raise config.UserError('--frames and --every start from 1, --seed from 0')
    if given.show and given.folder:
        raise config.UserError('--import and --show are different things; type one of them')
    if given.frames > FRAMES:
        raise config.UserError(f'--frames takes a number from 1 to {FRAMES}, not {given.frames}')
    outputs = [given.out] if given.out else list(DRAWN)
    if given.show:
        outputs = given.show[1:]
    elif given.folder is not None and not given.out:
        outputs = outputs[:1]
    free = [path for path in outputs if given.overwrite or not os.path.exists(path)]
    if not free:
        raise config.UserError(f'{" and ".join(outputs)} exists; add --overwrite to replace it')
    for path in free:  # before what takes minutes
        folder = os.path.dirname(path) or '.'
        if os.path.isdir(path) or not (os.path.isdir(folder) and files.writable(folder)):
            what = 'it is a folder' if os.path.isdir(path) else f'nothing can be in {folder}'
            raise config.UserError(f'cannot write {path}: {what}; choose another file')
    if given.show and not given.show[1].lower().endswith(PICTURES):
        raise config.UserError(
            f'--show writes a picture, {", ".join(PICTURES)}, not {given.show[1]}')
    if given.show:
        show(*given.show)
    elif given.folder is not None:
        save(import_videos(given.folder, given.frames, given.every), *free)
    else:
        for path in outputs:
            # Agents are judged on scenes that they were not trained on, whatever the files' names.
            kind = 'valid' if 'valid' in os.path.basename(path).lower() else 'train'
            stream, count = DRAWN[f'natural_{kind}.pkl']
            if path in free:
                if given.out:
                    print(f'{path}: scenes of natural_{kind}.pkl, since its name has '
                          f'{"" if kind == "valid" else "no "}"valid" in it')
                save(draw_videos(given.seed, stream, count, given.frames), path)
            else:
                print(f'{path} exists and is kept; --overwrite replaces it')


def main():
    """The command line: a mistake prints one line and exits with 2."""
    parser = argparse.ArgumentParser(
        prog='natural.py', description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = commandline.fail
    add = parser.add_argument
    add('--import', dest='folder', metavar='FOLDER', help='Import the videos of a folder.')
    add('--show', nargs=2, metavar=('FILE', 'PICTURE'), help='Write a contact sheet of a file.')
    add('--out', metavar='FILE',
        help='Write this one file; with "valid" in its name it has other scenes.')
    add('--frames', type=int, default=50, help='Frames of a video. [%(default)s]')
    add('--every', type=int, default=1, help='Import every n-th frame. [%(default)s]')
    add('--seed', type=int, default=0, help='Seed of the drawn videos. [%(default)s]')
    add('--overwrite', action='store_true', help='Replace files that exist.')
    given = parser.parse_args()
    given.folder, given.out = (
        path and os.path.expanduser(path) for path in (given.folder, given.out))
    given.show = given.show and [os.path.expanduser(path) for path in given.show]
    with commandline.answering(given.out or os.curdir):
        run(given)


if __name__ == '__main__':
    main()
