"""Files of a run: written whole or not at all, locked, and told from those of its user."""

import atexit
import contextlib
import errno
import fcntl
import functools
import os
import re
import shutil
import tempfile

from config import UserError

PARTIAL = '.partial'

# All that TensorFlow writes of a checkpoint: its index, its values, and where it prepares them.
_PARTS = r'(\.index|\.data-[0-9]{5}-of-[0-9]{5}|_temp)'
# The second state of one number has the name state-<number>-1, and so on.
STATE = re.compile(r'(state-([0-9]{9}|[1-9][0-9]{9,})(?:-([1-9][0-9]*))?)' + _PARTS)
# The number of an episode and that of its entries, without zeros beyond the seven digits.
EPISODE = re.compile(r'([0-9]{7}|[1-9][0-9]{7,})-([1-9][0-9]*)\.npz', re.ASCII)
DAMAGED = '.damaged'
# The weights of an exported agent, in its folder.
WEIGHTS = 'weights.npz'
# The name under which TensorFlow writes a state, before it gets its own.
UNNAMED = 'state' + PARTIAL
_UNNAMED = re.compile(re.escape(UNNAMED) + _PARTS)


@contextlib.contextmanager
def writing(path):
    """A binary file to write to, which becomes `path` once all of it is on the disk. Until then,
    and after an error, what was at `path` stays; a kill leaves <path>.partial, see `clean`. Of
    several processes that write one `path` each waits for the other, and the last is kept."""
    partial = os.fspath(path) + PARTIAL
    try:
        with _taken(partial) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.remove(partial)
                raise
    except OSError as error:
        if error.errno and error.filename in (None, partial):
            error.filename = os.fspath(path)  # which a full disk does not say
        raise
    _sync_names(path)


def _taken(partial):
    """The file `partial`, open for writing and empty, that no other process writes."""
    while True:
        file = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o666), 'wb')
        lock(file, wait=True)
        # Whoever had it may have given it its name, or removed it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(partial)):
                file.truncate(0)
                return file
        file.close()


def _sync_names(path):
    # Without this a new name may be gone after a power cut; not every file system has it.
    with contextlib.suppress(OSError), folder_of(path) as folder:
        os.fsync(folder)


def set_aside(path, copy=False):
    """Give the file at `path` (or, with `copy`, a copy of it) the ending .damaged, with a number
    where there is one already. Returns the new path."""
    target, number = f'{os.fspath(path)}.damaged', 1
    while os.path.lexists(target):
        number += 1
        target = f'{os.fspath(path)}.damaged-{number}'
    if copy:
        with open(path, 'rb') as source, writing(target) as file:
            shutil.copyfileobj(source, file)
    else:
        os.replace(path, target)
    return target


@contextlib.contextmanager
def folder_of(path):
    """The folder that holds `path`, open, as a number."""
    folder = os.open(os.path.dirname(os.fspath(path)) or '.', os.O_RDONLY)
    try:
        yield folder
    finally:
        os.close(folder)


def clean(folder, name):
    """Remove what a killed `writing` left in `folder` of files whose whole name matches the
    pattern `name`."""
    for found in os.listdir(folder):
        if found.endswith(PARTIAL) and name.fullmatch(found.removesuffix(PARTIAL)):
            os.remove(os.path.join(folder, found))


def lock(file, wait=False):
    """Lock an open file, or the number of one, until it is closed. False where the file system
    gives no locks; BlockingIOError, unless `wait`, where another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise BlockingIOError(error.errno, 'another process has the lock') from None
        return False  # ENOLCK, EOPNOTSUPP, ENOSYS, EBADF of a folder...: network file systems
    return True


@contextlib.contextmanager
def alone(path):
    """A while in which no other process is `alone` with a file in the folder of `path`, where
    the file system gives locks. The folder is locked, as the file itself is replaced by others."""
    with folder_of(path) as folder:
        lock(folder, wait=True)
        yield


def output_folder(path):
    """Make the folder `path` of --outdir, where it is not there. `UserError` where nothing can be
    written in it."""
    try:
        os.makedirs(path, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise UserError(f'cannot write in the folder {path}: {error.strerror}; choose another '
                        '--outdir') from None


def writable(path):
    """Whether something may be written in the folder `path`, or, where there is none yet, in the
    closest folder above it."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)


def _states(folder):
    """(number, which of this number, path) of the checkpoints that a run wrote, oldest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = [match for match in map(STATE.fullmatch, names) if match and match[4] == '.index']
    return sorted(
        (int(match[2]), int(match[3] or 0), os.path.join(folder, match[1]))
        for match in found if os.path.isfile(os.path.join(folder, match[0])))


def states(folder):
    """The checkpoints in `folder` that a run wrote itself, oldest first, as paths without an
    ending; none where there is no folder."""
    return [path for _, _, path in _states(folder)]


def _index_first(names):
    """In the order in which files of states go: without its index a state is none, so a kill in
    between leaves no half of one."""
    return sorted(names, key=lambda name: not name.endswith('.index'))


def set_aside_states(folder, beyond):
    """Give the checkpoints in `folder` of more than `beyond` updates the ending .damaged. Returns
    their paths."""
    names = os.listdir(folder)
    found = [path for number, _, path in _states(folder) if number > beyond]
    for path in found:
        own = [name for name in names if (
            match := STATE.fullmatch(name)) and match[1] == os.path.basename(path)]
        for name in _index_first(own):
            set_aside(os.path.join(folder, name))
    return found


def episodes(folder):
    """The names of the episodes that a run wrote in `folder`, those that were set aside as damaged
    included; none where there is no folder."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [name for name in names if EPISODE.fullmatch(name.removesuffix(DAMAGED))
            and os.path.isfile(os.path.join(folder, name))]


def filled(path):
    """Whether there is a file at `path`, with something in it."""
    return os.path.isfile(path) and os.path.getsize(path) > 0


def exported(folder):
    """Whether `folder` holds an exported agent: weights, and no checkpoint of a run."""
    return os.path.isfile(os.path.join(folder, WEIGHTS)) and not states(folder)


def name_state(folder, number):
    """Give the state that was written as `UNNAMED` in `folder` the name of `number`: a new one,
    if there is a state of this number, since two files cannot be replaced at once. Returns its
    path without an ending.

    All of it is on the disk before it is named, and the index, which makes it a checkpoint, is
    named last: whenever a kill comes, a checkpoint is whole or none.
    """
    same = [which for other, which, _ in _states(folder) if other == number]
    path = os.path.join(folder, f'state-{number:09d}' + (f'-{max(same) + 1}' if same else ''))
    endings = [match[1] for match in map(_UNNAMED.fullmatch, os.listdir(folder)) if match]
    endings = sorted((e for e in endings if e != '_temp'), key='.index'.__eq__)
    for ending in endings:
        written = os.path.join(folder, UNNAMED + ending)
        with open(written, 'rb') as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                error.filename = written
                raise
    for ending in endings:
        if ending == '.index':
            _sync_names(path)
        os.replace(os.path.join(folder, UNNAMED + ending), path + ending)
    _sync_names(path)
    return path


def check_state(path):
    """Raise OSError where the files of the state at `path`, as far as they are there, cannot be
    read now, as on a network that does not answer: that says nothing of what is in them."""
    folder, name = os.path.split(path)
    for found in os.listdir(folder or os.curdir):
        if found.startswith(name + '.') and os.path.isfile(own := os.path.join(folder, found)):
            try:
                with open(own, 'rb') as file:
                    while file.read(1 << 20):
                        pass
            except OSError as error:
                error.filename = error.filename or own
                raise


def prune(folder, kept):
    """Remove what a run wrote in `folder` of checkpoints whose names are not among `kept`: older
    ones, and what a kill left half done."""
    found = [name for name in os.listdir(folder) if _UNNAMED.fullmatch(name) or (
        (match := STATE.fullmatch(name)) and match[1] not in kept)]
    for name in _index_first(found):
        path = os.path.join(folder, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def plain(path):
    """`path` as TensorFlow's file layer can be told it, which takes some characters for a pattern
    and '://' for the end of a scheme: absolute, by a link to its folder where needed."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(_link(folder) if set(folder) & set('[]*?\\') else folder, name)


@functools.cache
def _link(folder):
    place = tempfile.mkdtemp(prefix='run-')
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    link = os.path.join(place, 'folder')
    os.symlink(folder, link)
    return link
