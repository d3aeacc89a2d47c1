"""Other people's numbers, from a table as results/published.csv: read, and drawn beside curves, of
which they never look like one."""

import io
import itertools
import textwrap

import numpy as np
import pandas as pd

from config import UserError
from drawing import shown
from logs import text_of
from palette import GREY
from texts import short

MARKERS = 'dph*<>8'  # others than the methods'
FAR = 2.5  # times the last step of the curves: numbers beyond it stand at the margin


def read(path, whose=''):
    """The rows of `--reference`: a return with its range at a step of a task, whose it is, and in
    `natural` whether there were natural backgrounds, '' where it does not say. A range that is
    not given is that of the return alone. UserError for a file that is not such a table, or has
    no name that contains `whose`."""
    numbers = ['step', 'low', 'return', 'high']
    try:
        frame = pd.read_csv(io.StringIO(text_of(path)), dtype={'task': str, 'name': str})
        for name in 'low', 'high':
            frame[name] = frame[name].fillna(frame['return'])
        frame = frame.dropna(subset=['task', 'name', *numbers])
        frame = frame.astype(dict.fromkeys(numbers, float))
        natural = frame['natural'] if 'natural' in frame else pd.Series('', frame.index)
        frame['natural'] = natural.fillna('').astype(str)
        if not (len(frame) and np.isfinite(frame[numbers]).all(axis=None)):
            raise ValueError
    except OSError as error:
        raise UserError(f'--reference {path} cannot be read ({error.strerror})') from None
    except (ValueError, KeyError):
        raise UserError(f'{path} is not a table with the columns task, step, low, return, high and '
                        'name') from None
    if len(other := frame[~frame['natural'].isin(['True', 'False', ''])]):
        raise UserError(f"{path}: natural takes True, False or nothing, not "
                        f"{other['natural'].iloc[0]!r}")
    if not (frame['return'].between(frame['low'], frame['high'])).all():
        raise UserError(f'{path}: a return is not between its low and its high')
    kept = frame[frame['name'].str.contains(whose, regex=False)]
    if not len(kept):
        raise UserError(f'--whose {whose}: no such name in {path}; there are '
                        + '; '.join(dict.fromkeys(frame['name'])))
    return kept


def beside(reference, task, group):
    """The rows of `read` that belong beside the runs of a task: those of its name, and
    of the backgrounds of these runs where the table says which."""
    seen = {str(run.config.natural) for runs in group.values() for run in runs}
    return reference[(reference['task'] == task) & reference['natural'].isin([*seen, ''])]


def draw(axes, rows):
    """Grey marks at the steps of other people's numbers, a bar from low to high; returns what the
    axis must hold. Numbers from far beyond the curves stand at the margin, with their steps."""
    end = max((np.max(line.get_xdata()) for line in axes.lines if len(line.get_xdata())), default=0)
    far = rows['step'] > FAR * end
    margin = max([end, *rows['step'][~far]])
    if far.any():
        axes.axvline(1.04 * margin, color=GREY, linestyle=':', linewidth=1)
    for look, (whose, one) in zip(
            itertools.cycle(MARKERS), rows.groupby('name', sort=False)):
        for beyond, some in one.groupby(far):
            spread = [some['return'] - some['low'], some['high'] - some['return']]
            after = ', after ' + ' and '.join(map(short, some['step'])) + ' steps'
            axes.errorbar(
                [1.08 * margin] * len(some) if beyond else some['step'], some['return'], spread,
                fmt=look, color=GREY, markerfacecolor='white', markersize=7,
                capsize=4 * bool(np.any(spread)),
                label=textwrap.fill(shown(whose + after * beyond), 60))
    return [*rows['low']]
