"""What a run shows while it goes on: lines, and a bar of its steps."""

import collections
import contextlib
import sys
import time

import numpy as np
import tqdm

import commandline
from texts import told

# Returns of the last episodes whose mean stands beside the bar.
RECENT = 10
# Seconds between two prints of the progress bar when it goes to a file.
FILE_INTERVAL = 15


class Stream:
    """An output of which what cannot be written, as nobody reads it after `| head`, or its terminal
    is gone, or the disk of its file is full, is dropped, with all that follows: that ends no run.
    """

    def __init__(self, output):
        self.output = output

    def write(self, text):
        self._try(self.output.write, text)

    def flush(self):
        self._try(self.output.flush)

    def _try(self, call, *words):
        try:
            call(*words)
        except OSError:
            commandline.drop(self.output)

    def __getattr__(self, name):
        return getattr(self.output, name)

    def __eq__(self, other):  # tqdm keeps lines and its bar apart where they go to one terminal
        return self.output is getattr(other, 'output', other)

    __hash__ = object.__hash__


def say(text):
    """A line, above the bar where there is one."""
    tqdm.tqdm.write(text, file=Stream(sys.stdout))


def bar(total, unit, interval=FILE_INTERVAL, **words):
    """A bar of `total` units (None: unknown), on a terminal drawn at once, in a file each so many
    seconds."""
    return tqdm.tqdm(total=total, unit=unit, file=Stream(sys.stderr),
                     mininterval=0.5 if sys.stderr.isatty() else interval, **words)


class Screen:
    """The bar of a run, with its phase before it, and beside it what it does or what its last
    episodes returned. Outside of `following` it shows nothing."""

    def __init__(self):
        self.bar = tqdm.tqdm(disable=True)
        self.returns = collections.deque(maxlen=RECENT)
        self.shown = -FILE_INTERVAL

    @contextlib.contextmanager
    def following(self, step, steps):
        """Within, the bar stands on the screen: at `step` of `steps` when it begins."""
        with bar(steps, 'step', initial=min(step, steps), unit_scale=True, dynamic_ncols=True,
                 smoothing=0.05) as self.bar:
            yield

    def advance(self, steps):
        """So many more steps are done."""
        self.bar.update(steps)

    def show(self, text=None, phase=None, at_once=False):
        """Changes what stands beside the bar: drawn at once on a terminal, seldom in a file (but
        for what must be seen `at_once`), where a line for each of 5,000 updates hides the others.
        """
        if text is not None:
            self.bar.set_postfix_str(text, refresh=False)
        if phase is not None:
            self.bar.set_description_str(f'{phase:<8}', refresh=False)
        now = time.monotonic()
        if at_once or sys.stderr.isatty() or now - self.shown >= FILE_INTERVAL:
            self.shown = now
            self.bar.refresh()

    def returned(self, value):
        """One more episode has ended, with this return."""
        self.returns.append(value)
        self.show(self.recent())

    def recent(self):
        """The mean of the last returns, as text."""
        return f'return {told(np.mean(self.returns))}' if self.returns else 'no return yet'
