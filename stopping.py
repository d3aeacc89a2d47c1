"""SIGTERM, Ctrl-C and a terminal that closes: noted while a run trains and acted upon where
nothing is lost; else at once.

    listen      from the first line of a script on: a signal ends the process at once
    noting      a signal is noted, and `check` raises it; a second one ends the process

No handler raises: an exception that comes anywhere is swallowed, or made into another, by
libraries that were never tried so.

Without `listen`, as within a notebook or a test, signals do what they did. Nothing here imports
TensorFlow.
"""

import contextlib
import os
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """The process was asked to stop, by the signal of this number."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.name, self.code = signal.Signals(number).name, 128 + number


class _State:
    noting = False
    asked = None  # the number of the signal that was heard
    hint = ''


_state = _State()


def listen(hint):
    """Hear the signals from now on. hint: what is said where one ends the process."""
    _state.hint = hint
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as of `nohup` and background jobs
            signal.signal(number, _heard)


def _heard(number, frame):
    before, _state.asked = _state.asked, number
    if before == number == signal.SIGHUP:  # a shell and the system send one each for one terminal
        return
    if not _state.noting or before is not None:
        _say(f'{signal.Signals(number).name}: ended at once; {_state.hint}')
        os._exit(128 + number)
    _say(f'{signal.Signals(number).name}: finishing the update and saving; '
         'once more ends it at once')


def _say(text):
    with contextlib.suppress(OSError):
        os.write(2, f'\n{text}\n'.encode())


@contextlib.contextmanager
def noting():
    """Within, a signal is noted for `check`."""
    _state.noting = True
    try:
        yield
    finally:
        _state.noting = False


def asked():
    """Whether a stop was asked for, and waits for `check`."""
    return _state.noting and _state.asked is not None


def check():
    """Raise `Stopped` where a stop was asked for; to be called where nothing is half done."""
    if asked():
        raise Stopped(_state.asked)
