"""The comparison of runs in tables: table.csv, table.md, aggregate.csv.

Standard deviations are of the sample (n - 1).
"""

import math
import os
import textwrap

import pandas as pd

import files
from logs import everyone
from summaries import (
    evaluations,
    final_return,
    judged_under,
    kept,
    learning_curve,
    rounded_up,
    trained_ones,
)
from texts import condition_name, short, told

# Of a condition's columns in the table: mean, deviation, kept fraction, how many seeds.
ENDINGS = '', '_std', '_kept', '_seeds'
PARTS = 10  # at the most has the table of a run's course
AGGREGATED = (
    'Of return / largest return on the tasks that are compared: interquartile mean over all runs, '
    'or, where a task has two of a method or their shares of the runs differ between methods, mean '
    'over tasks of the mean over runs (95 % interval over other runs of the same tasks).')


def table(groups, hours=None):
    """A frame with a row for each task and method; `blocks` explains the columns.

    hours: adds the returns after so much wall time; empty where one of the seeds has less.
    """
    rows = []
    for task, group in groups.items():
        for method, runs in group.items():
            trained = trained_ones(runs)
            finals = pd.Series([final_return(run) for run in trained], dtype=float)
            means = pd.Series(
                [run.returns('train')['return'].mean() for run in trained], dtype=float)
            row = {
                'task': task, 'method': method,
                'seeds': sum(len(run.returns('train')) > 0 for run in runs),
                'unfinished': sum(not run.finished for run in trained),
                'steps_reached': min(run.reached for run in trained),
                'steps_asked': max(run.config.steps for run in trained),
                'mean_return': means.mean(), 'mean_return_std': means.std(),
                'final_return': finals.mean(), 'final_return_std': finals.std(),
                'final_return_least': finals.min()}
            if hours:
                early = pd.Series([final_return(run, hours) for run in trained], dtype=float)
                if early.isna().any():
                    early[:] = math.nan
                row |= {f'after_{hours:g}h': early.mean(), f'after_{hours:g}h_std': early.std()}
            judged = [run.judged for run in runs if run.judged]
            row |= {'judged_seeds': len(judged), 'judged_least': min(judged, default=0),
                    'judged_most': max(judged, default=0)}
            for condition, key in judged_under(runs):
                values = evaluations(runs, condition).loc[key]
                name = condition_column(condition, key)
                row[name], row[f'{name}_std'] = values['mean'], values['deviation']
                row[f'{name}_kept'] = kept(runs, condition, key)
                row[f'{name}_seeds'] = values['runs']
            rows.append(row)
    frame = pd.DataFrame(rows)
    # The columns of a group without some condition must not be pushed to the end by it.
    judged = [condition_column(*one) for one in judged_under(everyone(groups))]
    counts = {f'{name}_seeds': 'int64' for name in judged}
    judged = [name + end for name in judged for end in ENDINGS]
    frame = frame.reindex(columns=[name for name in frame if name not in judged] + judged)
    return frame.fillna(dict.fromkeys(counts, 0)).astype(counts)


def courses(groups):
    """For each task (header, rows) of texts: each method's training return in five to ten parts of
    the longest run, mean over seeds ± standard deviation; empty where not all seeds have
    episodes there."""
    found = []
    for task, group in groups.items():
        # The last episode may end a little after the steps that were asked for.
        longest = max(min(run.reached, run.config.steps)
                      for runs in group.values() for run in runs)
        width = rounded_up(max(1, longest / PARTS))
        seeds = {method: trained_ones(runs) for method, runs in group.items()}
        curves = {method: learning_curve(runs, 'train', width) for method, runs in seeds.items()}
        bins = sorted({k for curve in curves.values() for k in curve.index if k * width < longest})
        if not bins:
            continue
        curves = {method: curve[curve['runs'] == len(seeds[method])].reindex(bins)
                  for method, curve in curves.items()}
        ends = [short(min((k + 1) * width, longest)) for k in bins]
        found.append(([f'{task}: training to', *ends], [
            [method, *map(summed_up, curve['mean'], curve['deviation'])]
            for method, curve in curves.items()]))
    return found


def condition_column(condition, key):
    """The name of a condition of `judged_under` as a column of the table."""
    return f'eval_{key:g}' if condition == 'ratio' else f'{condition}_{key}'


def judged_at(row, count):
    """The steps at which the `count` runs of a row of the table were judged, and how many, if not
    all."""
    if not row['judged_seeds']:
        return ''
    steps = dict.fromkeys(short(row[name]) for name in ('judged_least', 'judged_most'))
    part = row['judged_seeds'] < count
    return ' - '.join(steps) + part * f', {row["judged_seeds"]} of {count} seeds'


def summed_up(mean, deviation, kept=math.nan, seeds=0, of=0):
    """The text mean ± deviation (kept fraction), as far as they are known, and of how many seeds
    where it is not of all."""
    parts = [(mean, told(mean, digits=0)), (deviation, f' ± {told(deviation, mean, 0)}'),
             (kept, f' ({kept:.2f})'), (mean, f', {seeds} seed{"s" * (seeds > 1)}' * (seeds < of))]
    return ''.join(text for value, text in parts if not math.isnan(value))


def markdown(header, rows):
    """The lines of a table."""
    lines = [[str(cell).replace('|', '\\|') for cell in row] for row in (header, *rows)]
    lines.insert(1, ['---'] * len(header))
    return ['| ' + ' | '.join(line) + ' |' for line in lines]


def write_csv(frame, outdir, name, **words):
    """By an open file, since pandas would take some names of folders for addresses."""
    with files.writing(os.path.join(outdir, f'{name}.csv')) as file:
        frame.to_csv(file, index=False, lineterminator='\n', encoding='utf-8',
                     errors='backslashreplace', **words)


def blocks(groups, frame):
    """What the tables show, in order: a text, or (header, rows) of texts. The returns of training
    at its end and on the way, then those of evaluation with a row for each condition, and what the
    numbers are. frame: the `table` of the groups."""
    judged = {condition_column(*one): condition_name(*one) for one in judged_under(
        everyone(groups))}
    hidden = {name + end for name in judged for end in ENDINGS}
    training = [name for name in frame if name not in hidden and not name.startswith('judged_')]
    found = [(training, [
        [told(value, row[name.removesuffix('_std')]) if isinstance(value, float) else value
         for name, value in row.items()]
        for row in frame[training].to_dict('records')])]
    found.append(
        'seeds: those that have training episodes. steps_reached: of the shortest run. '
        'mean_return: mean of all training episodes of each seed, then over seeds; final_return: '
        'the same of the last 10 % of them; after_..h: the same of the last 10 % of those that '
        'ended within so many hours of wall time. _std: standard deviation over seeds; _least: '
        'of the seed that has least.')
    if course := courses(groups):
        found += [*course, 'Training episodes that ended within the part of the run up to so many '
                  'steps: mean of each seed, then over seeds ± standard deviation over seeds; '
                  'empty where not all seeds have episodes there.']
    for task, rows in frame.groupby('task', sort=False):
        rows = rows.set_index('method')
        present = [name for name in judged if rows[name].notna().any()]
        if present:
            each = [row for _, row in rows.iterrows()]
            found.append(([f'{task}: missing', *rows.index], [
                ['(steps of the checkpoint)', *(
                    judged_at(row, len(groups[task][row.name])) for row in each)], *(
                    [judged[name], *(
                        summed_up(*(row[name + end] for end in ENDINGS), row['judged_seeds'])
                        for row in each)] for name in present)]))
    if judged:
        found.append(
            'Returns of --test: mean over seeds of the mean over episodes ± standard deviation '
            'over all episodes of all seeds (fraction of the mean with nothing missing, of the '
            'seeds that were judged under both).')
    # Numbers that are not there are left out.
    return [block if isinstance(block, str) else (block[0], [
        ['' if str(cell) == 'nan' else str(cell) for cell in row] for row in block[1]])
        for block in found]


def compared_methods(frame):
    """(header, rows) of the `aggregate`, in hundredths of the largest return."""
    statistics = dict(zip(frame['at'], frame['statistic']))
    names = {at: f'{statistic}, ' + (
        'end of training' if at == 'final' else condition_name('ratio', at))
        for at, statistic in statistics.items()}
    alike = len(set(zip(frame['runs'], frame['tasks']))) == 1
    cells = {}
    for row in frame.itertuples():
        of = '' if alike else f', {row.runs} runs of {row.tasks} task' + 's' * (row.tasks > 1)
        cells[row.method, row.at] = (
            f'{100 * row.point:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f}){of}'
            + f', {row.unfinished} unfinished' * bool(row.unfinished))
    methods = list(frame['method'].unique())
    return ['return, % of the largest', *methods], [
        [name, *(cells.get((method, at), '') for method in methods)]
        for at, name in names.items()]


def write_table(groups, outdir, hours=None, compared=None):
    """table.csv, the `table` with all digits; table.md with the `blocks`, which are returned.

    compared: the `aggregate` of the groups; where it has rows, it is aggregate.csv and the last
    of the blocks."""
    frame = table(groups, hours)
    write_csv(frame, outdir, 'table')
    found = blocks(groups, frame)
    if compared is not None and len(compared):
        write_csv(compared, outdir, 'aggregate', float_format='%.6g')
        found += [compared_methods(compared), AGGREGATED]
    text = '\n\n'.join('\n'.join(
        textwrap.wrap(block, 98) if isinstance(block, str) else markdown(*block))
        for block in found)
    with files.writing(os.path.join(outdir, 'table.md')) as file:
        file.write(f'{text}\n'.encode(errors='backslashreplace'))
    return found
