"""Numbers and conditions as they are told to a reader, in every line, table and figure."""

import math

# What --test judges under, in the order of figures and tables.
CONDITIONS = 'ratio', 'without', 'only', 'corrupt'


def short(steps):
    """Steps in few letters: 600, 120k, 1.25M; rounded down, so that unfinished shows."""
    for size, letter in ((1e6, 'M'), (1e3, 'k')):
        if steps >= size:
            return f'{math.floor(steps / size * 1000 + 1e-6) / 1000:g}{letter}'
    return f'{steps:g}'


def told(value, like=None, digits=1):
    """A return, or a deviation of returns that are `like` so much, as text: with two digits behind
    the point where returns are below 10, as in tasks whose best is 1, and else with `digits`."""
    return f'{value:.{2 if abs(value if like is None else like) < 10 else digits}f}'


def condition_name(condition, key):
    """What --test judged under, in words: a ratio, or a sensor or fault as results.csv has it."""
    if condition == 'ratio':
        return f'drop-out chance {key:g}' if key else 'nothing missing'
    return {'without': f'{key} gone', 'only': f'{key} alone',
            'corrupt': f'fault {key}'.replace('+', ' + ')}[condition]
