"""What all figures share: panels with their axes, sheets of frames.

Figures are made without pyplot, so that no screen is asked for and nothing stays open. A text is
drawn letter by letter, whatever it holds: none of it is read as mathematics.
"""

import math
import os
import textwrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation

import files
from palette import COLOURS, GREY, MORE_COLOURS, OTHER_COLOURS

MARKERS = 'osD^vPX'
LEGEND_LINE = 0.17  # inches
LEGEND_LINES = 4  # for which a figure has room

matplotlib.rcParams['text.parse_math'] = False  # a $ in a value or a name is a $


def styles(methods):
    """Dict of method -> (colour, marker), for methods in the order of the legend."""
    others = [method for method in methods if method not in COLOURS]
    palette = [*OTHER_COLOURS, *(colour for name, colour in COLOURS.items() if name not in methods),
               *MORE_COLOURS]
    colours = COLOURS | {
        method: palette[index % len(palette)] for index, method in enumerate(others)}
    names = list(COLOURS) + others
    return {method: (colours[method], MARKERS[names.index(method) % len(MARKERS)])
            for method in methods}


def new_figure(rows=1, columns=1, size=(10, 4), **grid):
    """(figure, axes [rows, columns]); size in inches, grid: further words of `subplots`."""
    figure = Figure(figsize=size, layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def panels(titles, columns=3, width=4.8, height=3.9):
    """(figure, list of axes with `titles`), at most `columns` side by side; sizes in inches."""
    rows = math.ceil(len(titles) / columns)
    columns = math.ceil(len(titles) / rows)  # four are two by two
    figure, axes = new_figure(rows, columns, (width * columns, height * rows + 0.5))
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    axes = list(axes.flat)
    for surplus in axes[len(titles):]:
        surplus.remove()
    for one, name in zip(axes, titles):
        one.set_title(name.removeprefix('dmc_').replace('_', ' '), fontsize=11)
        one.spines[['top', 'right']].set_visible(False)
        one.grid(color='#E0E0E0', linewidth=0.6)
        one.set_axisbelow(True)
    return figure, axes[:len(titles)]


def shown(label):
    """A label as a legend shows it: matplotlib leaves out those that begin with an underscore."""
    return ' ' * label.startswith('_') + label


def legend(axes, drop=40):
    """A legend `drop` points under the panel, where it hides no data."""
    if axes.get_legend_handles_labels()[0]:
        shift = ScaledTranslation(0, -drop / 72, axes.figure.dpi_scale_trans)
        axes.legend(loc='upper center', bbox_to_anchor=(0.5, 0), fontsize=8, frameon=False,
                    bbox_transform=axes.transAxes + shift, borderaxespad=0)


def return_axis(axes, returns, name='episode return'):
    """From 0 up, or as far below 0 as the numbers `returns` go."""
    axes.set_ylabel(name)
    lowest = np.nanmin([0, *returns])
    if lowest < 0:
        axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    else:
        highest, top = np.nanmax([0, *returns]), axes.get_ylim()[1]
        # Values that are all alike do not stand at the edge.
        axes.set_ylim(0, top if top > 1.02 * highest else 1.05 * highest)


def step_axis(axes, name='environment steps'):
    axes.set_xlabel(name)
    axes.xaxis.set_major_formatter(EngFormatter(sep=''))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlim(left=0)


def hour_axis(axes):
    axes.set_xlabel('hours of wall time')
    axes.xaxis.set_major_formatter(lambda seconds, _: f'{seconds / 3600:g}')
    longest = axes.get_xlim()[1]
    axes.xaxis.set_major_locator(MultipleLocator(
        next((part for part in (360, 900, 1800) if longest <= 10 * part),
             3600 * math.ceil(longest / 36000))))
    axes.set_xlim(left=0)


def logarithmic(axes, typical):
    """A vertical axis that is logarithmic above the size `typical`, below zero too."""
    axes.set_yscale('symlog', linthresh=typical)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))


def shade(axes, times, missing, colour, low=0.0, high=1.0):
    """Shade the spans of `times` at which `missing` holds, between two heights of the axes."""
    step = times[1] - times[0] if len(times) > 1 else 1
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(int), [0]])))
    for begin, end in edges.reshape(-1, 2):
        axes.axvspan(times[begin] - step / 2, times[end - 1] + step / 2, low, high,
                     color=colour, linewidth=0)


def sheet(frames, titles, caption, columns=4, rows=4):
    """The figure of frames at even distances. frames: uint8 [T, height, width, 3]; titles: one
    for each of them."""
    shape = frames.shape[2] / frames.shape[1]
    figure, axes = new_figure(rows, columns, (2 * columns * shape, 2.25 * rows))
    for one, t in zip(axes.flat, np.linspace(0, len(frames) - 1, columns * rows).astype(int)):
        one.imshow(frames[t])
        one.set_title(titles[t], fontsize=8)
        one.axis('off')
    figure.suptitle(caption, fontsize=10)
    return figure


def save(figure, caption, outdir, name):
    """Write `name`.png (160 dots per inch) and `name`.pdf under a wrapped caption. The figure
    grows by what its legends need, so that the panels keep their height. Returns `name`."""
    lines = [sum(text.get_text().count('\n') + 1 for text in one.get_legend().get_texts())
             for one in figure.axes if one.get_legend()]
    rows = figure.axes[0].get_gridspec().nrows
    more = max(0, max(lines, default=0) - LEGEND_LINES)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * rows * more)
    figure.suptitle(textwrap.fill(caption, int(figure.get_figwidth() * 13)), fontsize=10)
    for ending, dated in (('png', {}), ('pdf', {'CreationDate': None})):
        write(figure, os.path.join(outdir, f'{name}.{ending}'), 160, metadata=dated)
    return name


def write(figure, path, dots, **words):
    """Write a figure, whole or not at all, in the format of the path's ending. dots: an inch."""
    with files.writing(path) as file:
        figure.savefig(file, format=os.path.splitext(path)[1][1:], dpi=dots, **words)
