"""Does an early number of a run foretell its return? A metric of metrics.csv beside the return of
training episodes, a point a run.

    python relations.py --indir logdir --metrics find_image_depth --at 10000-20000 \\
        --returns 40000-50000 --outdir plots

Runs of all settings are taken together, a panel a task and metric; the points are also written to
relations.csv. What is left out is said in a printed line. Nothing is written into a run's folder.
"""

import argparse
import itertools
import os

import numpy as np
import pandas as pd
from scipy import stats

import commandline
import comparison
import drawing
import files
from config import LARGEST, UserError
from logs import load_run, order, outside, read_steps, run_folders, say_absent, wanted

LEAST_RUNS = 4  # fewer say nothing about a relation
FEW = 8  # up to so many runs the orders are counted


def span(text):
    """(first, last) steps of '10000-20000'."""
    try:
        first, last = (int(part) for part in text.split('-'))
        if 0 <= first < last <= LARGEST:
            return first, last
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'takes steps as 10000-20000, not {text[:60]!r}')


def within(frame, name, steps):
    """Mean of a column over the rows in (first, last]; nan where the log ends before last: by
    more than the largest distance of its rows."""
    first, last = steps
    chosen = frame[(frame['step'] > first) & (frame['step'] <= last)]
    apart = frame['step'].sort_values().diff().max() if len(frame) > 1 else 0
    reached = len(frame) and frame['step'].max() > last - max(apart, 1)
    return chosen[name].mean() if reached and len(chosen) else np.nan


def points(indirs, metrics, at, returns, methods=(), tasks=()):
    """A frame with a row a run and metric: task, method, seed, folder, metric, its mean over the
    steps `at`, and the mean return of training episodes over the steps `returns`."""
    rows, seen = [], set()
    for folder in run_folders(indirs):
        try:
            run = load_run(folder)
            log = read_steps(os.path.join(folder, 'metrics.csv'), ('step',))
        except (UserError, OSError) as error:
            print(f'{folder}: left out, {error}')
            continue
        seen |= {run.script, run.config.task}
        if not wanted(run, methods, tasks):
            continue
        gained = within(run.returns('train'), 'return', returns)
        for metric in metrics:
            value = within(log, metric, at) if metric in log else np.nan
            if np.isfinite(value) and np.isfinite(gained):
                rows.append((run.config.task, run.method, run.config.seed, folder, metric, value,
                             gained))
            else:
                print(f'{folder}: left out, no {metric} or no return at these steps')
    say_absent(seen, methods, tasks)
    if not rows:
        raise UserError(
            f'no run has {" or ".join(metrics)} at {at[0]}-{at[1]} and episodes at '
            f'{returns[0]}-{returns[1]}')
    return pd.DataFrame(
        rows, columns=['task', 'method', 'seed', 'run', 'metric', 'value', 'return'])


def relation(frame):
    """Spearman's rank correlation of the points, its two-sided p value and their number, in
    words."""
    if len(frame) < LEAST_RUNS:
        return f'{len(frame)} runs, too few for a correlation'
    for name in 'value', 'return':
        if frame[name].nunique() < 2:
            return f'{len(frame)} runs, whose {name} is the same: no correlation'
    found, chance = correlation(frame['value'].to_numpy(), frame['return'].to_numpy())
    chance = f'p = {chance:.2f}' if chance >= 0.005 else 'p < 0.01'
    return f'rank correlation {found:.2f} ({chance}, {len(frame)} runs)'


def correlation(left, right):
    """(Spearman's rank correlation, its two-sided p value) of numbers [runs]. The p value is the
    share of all orders with a correlation as far from 0, where these can be counted; of more than
    FEW runs it is of the t distribution."""
    found = stats.spearmanr(left, right)
    if len(left) > FEW:
        return found.statistic, found.pvalue
    left, right = (stats.rankdata(x) - (len(x) + 1) / 2 for x in (left, right))
    orders = np.array(list(itertools.permutations(right)))
    products = np.abs(orders @ left)
    return found.statistic, np.mean(products >= abs(left @ right) - 1e-9)


def draw(frame, at, returns, outdir):
    """`relations`: a panel a task and metric; also relations.csv."""
    groups = list(frame.groupby(['task', 'metric'], sort=False))
    figure, axes = drawing.panels([task for (task, _), _ in groups])
    methods = sorted(frame['method'].unique(), key=order)
    style = drawing.styles(methods)
    for one, ((task, metric), part) in zip(axes, groups):
        for method in methods:
            own = part[part['method'] == method]
            if len(own):
                one.plot(own['value'], own['return'], style[method][1], linestyle='',
                         label=drawing.shown(method), color=style[method][0])
        one.set_xlabel(f'{metric} at {at[0]:,} - {at[1]:,} steps')
        one.text(0.02, 0.98, relation(part), transform=one.transAxes, va='top', fontsize=8)
        drawing.return_axis(one, part['return'], f'return at {returns[0]:,} - {returns[1]:,}')
        one.set_ylim(top=1.25 * max(part['return'].max(), 1))
        drawing.legend(one)
        print(f'{task}, {metric}: {relation(part)}')
    drawing.save(figure, 'An early metric and the return of training episodes; a point a run, of '
                 'whatever settings', outdir, 'relations')
    comparison.write_csv(frame, outdir, 'relations', float_format='%.4g')


def main(arguments=None):
    def names(text):
        return tuple(name for name in text.split(',') if name)

    parser = argparse.ArgumentParser(
        prog='relations.py', description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = commandline.fail
    add = parser.add_argument
    add('--indir', action='extend', nargs='+', metavar='FOLDER',
        help='folders of the runs [logdir]')
    add('--outdir', default='plots', help='folder of the figure [plots]')
    add('--metrics', type=names, required=True, help='columns of metrics.csv')
    add('--at', type=span, default=(10000, 20000), metavar='FIRST-LAST',
        help='steps over which the metric is averaged [10000-20000]')
    add('--returns', type=span, default=(40000, 50000), metavar='FIRST-LAST',
        help='steps over which the return is averaged [40000-50000]')
    add('--methods', type=names, default=(), help='only these, as mummi,cvrl')
    add('--tasks', type=names, default=(), help='only these, as dmc_walker_walk')
    given = parser.parse_args(arguments)
    if not given.metrics:
        parser.error('--metrics takes columns of metrics.csv, as find_image_depth')
    outdir = os.path.expanduser(given.outdir)
    with commandline.answering(outdir):
        indirs = [os.path.expanduser(path) for path in given.indir or ['logdir']]
        outside(outdir, indirs)
        files.output_folder(outdir)
        found = points(
            indirs, given.metrics, given.at, given.returns, given.methods, given.tasks)
        draw(found, given.at, given.returns, outdir)


if __name__ == '__main__':
    main()
