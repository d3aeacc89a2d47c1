"""Figures and tables from the CSV logs of runs: PNG and PDF of each figure, the points of the
learning curves (returns.csv), table.csv and table.md, and all of it with videos of the runs on
one page, index.html.

    python plotting.py --indir logdir --outdir plots

`--by value_rate` compares the values of a setting as it compares methods; `--reference FILE`, a
CSV table with the columns task, step, low, return, high and name, draws other people's numbers
beside the curves (where it has a column natural, those of the same backgrounds; with `--whose
TEXT` those whose name contains the text); `--hours 1` draws returns against wall time too, and
tabulates those after so many hours.

Every folder at or below --indir, which takes one folder or several, that holds a config.json is
a run. First come loading and numbers, then drawing. What is left out of a figure, or is
unfinished, is said in a printed line. Nothing is written into a run's folder. Standard
deviations are of the sample (n - 1).
"""

import argparse
import os
import textwrap

import numpy as np
import pandas as pd

import commandline
import files
import page
import references
from comparison import write_csv, write_table
from conditions import (
    RATIO_AXIS,
    draw_conditions,
    draw_missing_ratio,
    draw_single_sensor,
)
from config import LARGEST, UserError
from drawing import (
    hour_axis,
    legend,
    logarithmic,
    panels,
    return_axis,
    save,
    shown,
    step_axis,
    styles,
)
from logs import (
    everyone,
    having,
    label,
    load,
    methods_of,
    outside,
    read_steps,
)
from palette import GREY
from summaries import (
    ENOUGH,
    aggregate,
    default_bin,
    learning_curve,
)
from texts import short

FIGURES = ('returns', 'returns_eval', 'returns_hours', 'losses', 'missing_ratio', 'single_sensor',
           'corrupted', 'aggregate')
NAMED = 4  # so many methods have their names under their points
# What metrics are drawn against: column, name of the axis.
AGAINST = {'steps': ('step', 'environment steps'), 'updates': ('updates', 'updates')}
RANGE = 100  # of the median: where a metric's largest value is above it, its axis is logarithmic

def draw_returns(groups, outdir, mode='train', width=None, smooth=1, reference=None, hours=None):
    """`returns` (mode train) or `returns_eval` (mode eval): return against steps; with hours
    `returns_hours`: against wall time, with a line at so many hours. The curves are also written
    to a CSV table of the figure's name: task, method and the columns of `learning_curve`.

    width: steps (with hours: seconds) of a bin, by default from the data. smooth: bins of the
    running mean. reference: of `references.read`, drawn as bars from low to high.
    """
    style, name = styles(methods_of(groups)), 'returns' if mode == 'train' else 'returns_eval'
    against = 'step'
    if hours:
        against, name = 'seconds', name + '_hours'
    groups = having(groups, lambda run: len(run.returns(mode)))
    if not groups:
        print(f'no {mode} episodes: figure {name} left out')
        return None
    figure, axes = panels(list(groups))
    notes, curves, asked, widths = [], [], width, []
    for one, (task, group) in zip(axes, groups.items()):
        width = asked or default_bin(everyone({task: group}), mode, against)
        widths.append(str(width) if hours else short(width))
        drawn = []  # returns of this panel
        for method, runs in group.items():
            colour, marker = style[method]
            curve = learning_curve(runs, mode, width, smooth, against)
            curves.append(curve.assign(task=task, method=method))
            drawn += [*curve['mean']]
            dots = {'marker': marker, 'markersize': 4} if mode == 'eval' or len(curve) < 5 else {}
            if len(runs) == 1:
                episodes = runs[0].returns(mode)
                drawn += [*episodes['return']]
                one.plot(episodes[against], episodes['return'], '.', color=colour, alpha=0.35,
                         markersize=4, markeredgewidth=0)
                notes.append('light dots: single episodes of a single seed')
            else:
                one.fill_between(
                    curve['at'], curve['mean'] - curve['deviation'],
                    curve['mean'] + curve['deviation'], color=colour, alpha=0.2, linewidth=0)
                notes.append('shaded: standard deviation over seeds')
            if (curve['runs'] < len(runs)).any():
                one.plot(curve['at'], curve['mean'], ':', color=colour, linewidth=1.2)
                notes.append('dotted: not all seeds have episodes there')
            one.plot(curve['at'], curve['mean'].where(curve['runs'] == len(runs)),
                     color=colour, linewidth=1.6, label=shown(label(method, runs)), **dots)
        prefill = pd.concat([run.returns('prefill') for runs in group.values() for run in runs])
        if len(prefill):
            drawn.append(prefill['return'].mean())
            one.axhline(prefill['return'].mean(), color=GREY, linestyle='--', linewidth=1,
                        label='random actions (mean of the prefill)')
        if reference is not None:
            drawn += references.draw(one, references.beside(reference, task, group))
        return_axis(one, drawn, 'episode return' if smooth == 1 else
                    f'episode return (running mean of {smooth} bins)')
        if hours:
            one.axvline(3600 * hours, color=GREY, linewidth=1)
            hour_axis(one)
        else:
            step_axis(one)
        legend(one)
    kind = 'Training' if mode == 'train' else 'Evaluation'
    columns = ['task', 'method', 'at', 'mean', 'deviation', 'runs']
    write_csv(pd.concat(curves)[columns], outdir, name, float_format='%.6g')
    bins = ', '.join(dict.fromkeys(widths)) + (' seconds' if hours else ' steps')
    bins += ' (panel by panel)' * (len(set(widths)) > 1)
    caption = '; '.join([f'{kind} episodes, mean in bins of {bins}', *dict.fromkeys(notes)])
    return save(figure, caption, outdir, name)


def draw_aggregate(groups, frame, outdir):
    """`aggregate`: means over runs and tasks with their intervals, as `summaries.aggregate` gives
    them."""
    if not len(frame):
        asked = ' or '.join(f'{runs} runs of {tasks} task' + 's' * (tasks > 1)
                            for runs, tasks in ENOUGH)
        print(f'no method has {asked} that all methods have and whose largest return is known: '
              'figure aggregate left out')
        return None
    parts = {'end of training (last 10 % of episodes)': frame[frame['at'] == 'final'],
             'evaluation under missing sensors': frame[frame['at'] != 'final']}
    parts = {name: part for name, part in parts.items() if len(part)}
    figure, axes = panels(list(parts), height=3.6)
    for one, part in zip(axes, parts.values()):
        final = (part['at'] == 'final').all()
        places = np.unique(part['at'].astype(float)) if not final else np.zeros(1)
        gap = np.diff(places).min() if len(places) > 1 else 1
        for index, (method, rows) in enumerate(part.groupby('method', sort=False)):
            colour, marker = styles(methods_of(groups))[method]
            runs, tasks = (' - '.join(dict.fromkeys(
                str(number) for number in (rows[name].min(), rows[name].max())))
                for name in ('runs', 'tasks'))
            text = f'{method}, {runs} runs on {tasks} of {len(groups)} tasks'
            late = rows['unfinished'].max()
            text += f' ({late} unfinished)' * bool(late)
            text = textwrap.fill(text, 60)
            count = part['method'].nunique()
            aside = min(0.06, 0.6 / count) * gap * (index - (count - 1) / 2)
            one.errorbar(
                [index] if final else rows['at'].astype(float) + aside, rows['point'],
                np.maximum(0, [rows['point'] - rows['low'], rows['high'] - rows['point']]),
                color=colour, marker=marker, capsize=4, label=shown(text))
        if final:
            # Of many the legend alone has room.
            names = [name.replace(', ', '\n') for name in part['method']] if (
                len(part) <= NAMED) else [''] * len(part)
            one.set_xticks(range(len(part)), names)
            one.set_xlim(-0.6, len(part) - 0.4)
            one.grid(False, axis='x')
        else:
            one.set_xlabel(RATIO_AXIS)
        return_axis(one, part[['point', 'low', 'high']].to_numpy().ravel(),
                    'episode return / largest return')
        lines = max(name.count('\n') for name in names) if final else 1
        legend(one, 28 + 12 * lines)
    return save(
        figure, f'{" or ".join(frame["statistic"].unique()).capitalize()} over runs and tasks; '
        'bars: 95 % interval, see docs/usage.md; largest return: 1 a step in the suite, 200 in '
        'wipe_table', outdir, 'aggregate')


def draw_losses(groups, outdir, names, against='steps'):
    """`losses`: columns `names` of metrics.csv against steps, or updates, a row of panels a task.

    UserError if no run has one of them.
    """
    column, axis = AGAINST[against]
    needed = tuple({'step', column})
    logs = {run.folder: read_steps(os.path.join(run.folder, 'metrics.csv'), needed)
            for run in everyone(groups)}
    known = list(dict.fromkeys(name for log in logs.values() for name in log))
    if absent := [name for name in names if name not in known]:
        raise UserError(f'no metrics.csv has {", ".join(absent)}; there are {", ".join(known)}')
    style = styles(methods_of(groups))
    groups = having(groups, lambda run: set(names) & set(logs[run.folder]))
    figure, axes = panels([task for task in groups for _ in names], len(names), height=3.4)
    axes = iter(axes)
    for group in groups.values():
        for name in names:
            one = next(axes)
            for method, runs in group.items():
                runs = [run for run in runs if name in logs[run.folder]]
                for run in runs:
                    log = logs[run.folder].dropna(subset=name)
                    one.plot(log[column], log[name], color=style[method][0], linewidth=1,
                             alpha=0.7, marker='.' if len(log) < 5 else '',
                             label=shown(label(method, runs)) if run is runs[0] else None)
            one.set_ylabel(name)
            values = np.abs(np.concatenate([line.get_ydata() for line in one.lines] or [[0]]))
            typical = np.median(values) if len(values) else 0.0
            if values.max(initial=0) > RANGE * typical > 0:  # one run that diverges hides no other
                logarithmic(one, typical)
            step_axis(one, axis)
            legend(one)
    return save(figure, 'Metrics of training; a line a seed', outdir, 'losses')


def draw(indirs, outdir, methods=(), tasks=(), width=None, smooth=1, metrics=(), by=(),
         reference='', hours=None, whose='', against='steps'):
    """All figures and tables of the runs at or below the folders `indirs`, into `outdir`.

    UserError for a missing folder, no runs, an `outdir` that is in a run or not writable, or a
    `reference` that is no such table.
    """
    reference = references.read(reference, whose) if reference else None
    groups = load(indirs, methods, tasks, by)
    if reference is not None and not any(
            len(references.beside(reference, task, group)) for task, group in groups.items()):
        print('--reference has no rows of ' + ', '.join(groups)
              + ', or none with the backgrounds of these runs')
    outside(outdir, indirs)
    files.output_folder(outdir)
    # The metrics first, since a wrong name stops it.
    drawn = [draw_losses(groups, outdir, metrics, against) if metrics else None]
    drawn += [draw_returns(groups, outdir, mode, width, smooth, reference)
              for mode in ('train', 'eval')]
    if hours:
        drawn.append(draw_returns(groups, outdir, 'train', smooth=smooth, hours=hours))
    drawn += [
        draw_missing_ratio(groups, outdir), draw_single_sensor(groups, outdir),
        draw_conditions(groups, outdir, 'corrupted', ('corrupt',),
                        'Evaluation with sensors that lie, which no flag tells')]
    compared = aggregate(groups)
    drawn.append(draw_aggregate(groups, compared, outdir))
    blocks = write_table(groups, outdir, hours, compared)
    if old := [f'{name}.{ending}' for name in FIGURES if name not in drawn
               for ending in ('png', 'pdf', 'csv')
               if os.path.exists(os.path.join(outdir, f'{name}.{ending}'))]:
        print(f'of an earlier drawing, and not drawn now: {", ".join(old)} in {outdir}')
    page.write(groups, outdir, [name for name in (*drawn[1:], drawn[0]) if name], blocks)
    print(f'figures and tables are in {outdir}, all together in index.html')


def main(arguments=None):
    def names(text):
        return tuple(name for name in text.split(',') if name)

    def positive(kind, wanted):
        def parse(text):
            try:
                if 0 < kind(text) <= LARGEST:
                    return kind(text)
            except ValueError:
                pass
            raise argparse.ArgumentTypeError(f'takes {wanted} up to {LARGEST}, not {text[:60]!r}')
        return parse
    whole = positive(int, 'a whole number from 1')

    parser = argparse.ArgumentParser(
        prog='plotting.py', description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = commandline.fail
    parser.add_argument('--indir', action='extend', nargs='+', metavar='FOLDER',
                        help='folders of the runs [logdir]')
    parser.add_argument('--outdir', default='plots', help='folder of the figures [plots]')
    parser.add_argument('--methods', type=names, default=(), help='only these, as mummi,cvrl')
    parser.add_argument('--tasks', type=names, default=(), help='only these, as dmc_walker_walk')
    parser.add_argument('--bin', type=whole, help='steps of a bin [from the data]')
    parser.add_argument('--smooth', type=whole, default=1, help='running mean of bins [none]')
    parser.add_argument('--metrics', type=names, default=(),
                        help='columns of metrics.csv to draw, as model_loss,divergence [none]')
    parser.add_argument('--against', choices=tuple(AGAINST), default='steps',
                        help='what metrics are drawn against [steps]')
    parser.add_argument('--by', type=names, default=(),
                        help='settings whose values are compared, as value_rate,horizon [none]')
    parser.add_argument('--reference', default='', metavar='FILE',
                        help='table of returns to draw beside the curves [none]')
    parser.add_argument('--whose', default='', metavar='TEXT',
                        help='of --reference, the rows whose name contains this [all]')
    parser.add_argument('--hours', type=positive(float, 'a number above 0'),
                        help='wall time at which returns are compared too [none]')
    given = parser.parse_args(arguments)
    for name, other in ('whose', 'reference'), ('against', 'metrics'):
        if getattr(given, name) != parser.get_default(name) and not getattr(given, other):
            parser.error(f'--{name} does nothing without --{other}; leave it out')
    indirs, (outdir, reference) = (
        [os.path.expanduser(path) for path in paths]
        for paths in (given.indir or ['logdir'], (given.outdir, given.reference)))
    with commandline.answering(outdir):
        draw(indirs, outdir, given.methods, given.tasks, given.bin,
             given.smooth, given.metrics, given.by, reference, given.hours,
             given.whose, given.against)


if __name__ == '__main__':
    main()
