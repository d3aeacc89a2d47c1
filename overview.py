"""What a study shows while it runs: its runs in a table, how far each is and what it reached."""

import contextlib
import io
import os
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

import logs
import texts

FILE_INTERVAL = 60  # seconds between two tables where they go to a file
EPISODES = 10  # of which the return and the speed of a run are shown
STATES = ('running', 'ended', 'waiting', 'done')
HEAD = ('run', 'state', 'where', 'step', 'return', 'steps/s', 'left')


def progress(job):
    """(step, return or None, steps a second or None) of a run, by its log."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # of lines that are being written
            rows = logs.read(os.path.join(job.folder, 'episodes.csv'),
                             ('step', 'seconds', 'mode', 'return'))
    except OSError:  # of a network's file system: the next look may see it
        return 0, None, None
    rows = rows[rows['mode'] != 'eval']
    if not len(rows):
        return 0, None, None
    end = rows.iloc[-1]
    # Of several environments many may end at one step: the speed is since another.
    since = rows[rows['step'] < end['step']].tail(EPISODES)
    seconds = end['seconds'] - since['seconds'].iloc[0] if len(since) else 0
    whole = rows['return'][~rows['mode'].isin(('cut', 'mixed'))].tail(EPISODES)
    return (int(end['step']), float(whole.mean()) if len(whole) else None,
            (end['step'] - since['step'].iloc[0]) / seconds if seconds > 0 else None)


def row(job, ended):
    """(order, cells) of a run in the table."""
    try:
        record, missing = job.record(), job.missing()
    except OSError:  # as in `progress`
        record, missing = {}, True
    step, value, speed = progress(job)
    where = record.get('node', '') if record.get('token') == job.token else ''
    if job.name in ended:
        state = 'ended' if ended[job.name] else 'done'
    elif not missing:
        state = 'done'
    else:
        state = 'running' if where else 'waiting'
    left = max(0, job.steps - step) / speed if state == 'running' and speed else None
    if state == 'running' and record.get('attempts', 1) > 1:
        where += f' (attempt {record["attempts"]})'
    return STATES.index(state), (
        job.name, state, where, f'{step:,}', '' if value is None else texts.told(value),
        f'{speed:.1f}' if speed and state == 'running' else '',
        '' if left is None else f'{int(left) // 3600}:{int(left) % 3600 // 60:02d} h')


def table(todo, ended, height):
    """(the table in at most `height` lines, those under way first; how many runs are in which
    state, in words)."""
    rows = sorted((row(job, ended) for job in todo), key=lambda pair: pair[0])
    drawn = Table(box=None, pad_edge=False)
    for index, name in enumerate(HEAD):
        drawn.add_column(name, justify='left' if index < 3 else 'right', no_wrap=True)
    for _, cells in rows[:max(1, height - 2)]:
        drawn.add_row(*cells)
    states = [STATES[order] for order, _ in rows]
    drawn.caption = ', '.join(f'{states.count(state)} {state}' for state in STATES)
    drawn.caption_justify = 'left'
    return drawn


# That nobody sees the table, as its terminal is gone, ends no run.
UNSEEN = contextlib.suppress(OSError)


class _Console(Console):
    """A console that does not end the process where nobody reads it any more, as rich's does."""

    def on_broken_pipe(self):
        raise BrokenPipeError


class Display:
    """The table, drawn over itself on a terminal; in a file now and then, and at a change. A
    context, which is called with what is known (see `study.done`)."""

    def __init__(self, todo, stream=None):
        self.todo, self.console = todo, _Console(file=stream, highlight=False)
        self.live = Live(console=self.console, auto_refresh=False)
        self.last, self.shown = None, -FILE_INTERVAL

    def __enter__(self):
        with UNSEEN:
            if self.console.is_terminal:
                self.live.start()
        return self

    def __exit__(self, *_):
        with UNSEEN:
            self.live.stop()

    def __call__(self, ended):
        with UNSEEN:
            self._show(ended)

    def _show(self, ended):
        if self.console.is_terminal:
            self.live.update(table(self.todo, ended, self.console.height - 2), refresh=True)
            return
        drawn = table(self.todo, ended, len(self.todo) + 2)
        if drawn.caption != self.last or time.monotonic() - self.shown >= FILE_INTERVAL:
            self.last, self.shown = drawn.caption, time.monotonic()
            # A file has no width that would cut the names of runs.
            self.console.print(time.strftime('%T'), drawn, sep='\n', width=200)
