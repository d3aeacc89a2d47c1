"""Files that are written whole or not at all."""

import contextlib
import os

PARTIAL = '.partial'


@contextlib.contextmanager
def writing(path):
    """A binary file to write to, which becomes `path` once all of it is on the disk. Until then,
    and after an error, what was at `path` stays; a kill leaves <path>.partial, see `clean`."""
    partial = os.fspath(path) + PARTIAL
    try:
        with open(partial, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise
    # Without this a new name may be gone after a power cut; not every file system has it.
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(os.fspath(path)) or '.', os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def clean(folder, name):
    """Remove what a killed `writing` left in `folder` of files whose whole name matches the
    pattern `name`."""
    for found in os.listdir(folder):
        if found.endswith(PARTIAL) and name.fullmatch(found.removesuffix(PARTIAL)):
            os.remove(os.path.join(folder, found))
