"""The CSV logs of runs, read and summed up: what plotting.py draws and tabulates.

Every folder that holds a config.json is a run. What is left out, or is unfinished, is said in a
printed line. Nothing is written into a run's folder. Standard deviations are of the sample
(n - 1).
"""

import collections
import dataclasses
import json
import math
import os
import textwrap

import numpy as np
import pandas as pd
from scipy import stats

import commandline
import config
from config import FREE, UserError  # the runs of one curve may differ in the settings FREE

OPTIONS = tuple(field.name for field in dataclasses.fields(config.Config))
METHODS = ('mummi', 'cvrl', 'dreamer')  # in the order of figures and tables
TEXT = ('mode', 'condition', 'sensor', 'options')  # columns of the logs that are not numbers
FINAL = 0.1  # the final return is the mean of this last part of the training episodes
# How a condition of --test is called in tables.
CONDITIONS = {'eval': 'drop-out chance {}', 'without': '{} gone', 'only': '{} alone'}
LEAST_RUNS = 3  # fewer runs of a method on a task say nothing about their distribution


# --- Loading ---

@dataclasses.dataclass
class Run:
    """A run: its folder, method, config.Config, episodes.csv and newest part of results.csv."""

    folder: str
    method: str
    config: config.Config
    episodes: pd.DataFrame
    results: pd.DataFrame

    @property
    def reached(self):
        """Steps at the end of the last episode; 0 without episodes."""
        return int(self.episodes['step'].max()) if len(self.episodes) else 0

    @property
    def judged(self):
        """Steps of the checkpoint that --test judged; 0 where none was."""
        return int(self.results['step'].max()) if len(self.results) else 0

    @property
    def finished(self):
        if self.config.eval_episodes:  # the last of all that a run does
            return self.returns('eval')['step'].max() >= self.config.steps
        # A run stops at its last step, in the middle of the episodes of its environments.
        within = self.config.time_limit * self.config.envs
        return self.reached > self.config.steps - within

    def returns(self, mode):
        """Rows of the episodes of `mode` (prefill, train or eval), in order."""
        return self.episodes[self.episodes['mode'] == mode]


def read(path, needed, others=()):
    """The readable rows of the CSV log at `path`; none if it is absent.

    needed: columns that must be there; those that are numbers must be finite. others: columns
    that must be there, whose cells may be empty. Lines that a kill or a full disk has cut are
    left out, and a printed line says how many.
    """
    empty = pd.DataFrame({name: pd.Series(dtype=str if name in TEXT else float)
                          for name in (*needed, *others)})
    try:
        with open(path, encoding='utf-8', errors='replace', newline='') as file:
            *lines, rest = file.read().replace('\r\n', '\n').split('\n')
    except FileNotFoundError:
        return empty
    lines = [line.split(',') for line in lines if line]
    if len(lines) < 2:
        print(f'{path}: has no rows')
        return empty
    header, rows = lines[0], lines[1:]
    if absent := [name for name in (*needed, *others) if name not in header]:
        print(f'{path}: left out, has no column {", ".join(absent)}')
        return empty
    whole = [row for row in rows if len(row) == len(header)]
    frame = pd.DataFrame(whole, columns=header, dtype=str)
    for name in header:
        if name not in TEXT:
            frame[name] = pd.to_numeric(frame[name], errors='coerce').astype(float)
    numbers = [name for name in needed if name not in TEXT]
    frame = frame[np.isfinite(frame[numbers]).all(axis=1)].reset_index(drop=True)
    # A last line without its end may lack digits even if no column is missing.
    if lost := len(rows) - len(frame) + bool(rest):
        print(f'{path}: {lost} damaged line{"s" * (lost > 1)} left out')
    return frame


def read_steps(path, needed):
    """As `read`, without the rows that a resumed run went through again."""
    frame = read(path, needed)
    again = frame['step'] > frame['step'][::-1].cummin()[::-1]
    if again.any():
        print(f'{path}: {again.sum()} rows left out, the resumed run repeated their steps')
    return frame[~again].reset_index(drop=True)


def load_run(folder):
    """The `Run` in `folder`; UserError if its config.json is absent or not readable."""
    path = os.path.join(folder, 'config.json')
    try:
        settings, method = commandline.load(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f'{path} is not a readable configuration') from None
    episodes = read_steps(
        os.path.join(folder, 'episodes.csv'), ('step', 'seconds', 'mode', 'return'))
    path = os.path.join(folder, 'results.csv')
    results = read(path, ('step', 'condition', 'sensor', 'return'), ('ratio',))
    if 'options' in results and (other := results['options'] != '').any():
        print(f'{path}: {other.sum()} rows left out, judged with '
              + ', '.join(results['options'][other].unique()))
        results = results[~other]
    newest = results['step'] == results['step'].max()
    if not newest.all():
        print(f'{path}: {(~newest).sum()} rows of older checkpoints left out')
    return Run(folder, method, settings, episodes, results[newest].reset_index(drop=True))


def run_folders(indirs):
    """The folders of all runs at or below the folders `indirs`, each once, sorted."""
    if absent := [indir for indir in indirs if not os.path.isdir(indir)]:
        raise UserError(f'there is no folder {absent[0]}')
    found = {os.path.realpath(folder): folder for indir in indirs
             for folder, _, files in os.walk(indir) if 'config.json' in files}
    if not found:
        raise UserError(f'no run at or below {", ".join(map(str, indirs))}: no folder there holds '
                        'a config.json')
    return sorted(found.values())


def load(indirs, methods=(), tasks=(), by=()):
    """Dict of task -> method -> list of comparable runs at or below the folders `indirs`.

    methods, tasks: the names to keep; default: all. by: settings whose values set curves apart:
    they become part of a method's name, as 'mummi, value_rate 0.001'. UserError if nothing is
    left.
    """
    if unknown := [name for name in by if name not in OPTIONS]:
        raise UserError(f'no setting is named {", ".join(unknown)}; there are {", ".join(OPTIONS)}')
    found = collections.defaultdict(list)
    names = {}
    for folder in run_folders(indirs):
        try:
            run = load_run(folder)
        except UserError as error:
            print(f'{folder}: left out, {error}')
            continue
        if not len(run.episodes) and not len(run.results):
            print(f'{folder}: left out, no episode yet')
        elif run.method in (methods or [run.method]) and (
                run.config.task in (tasks or [run.config.task])):
            values = [getattr(run.config, name) for name in by]
            place = (order(run.method), [
                (0, value, '') if isinstance(value, (int, float)) else (1, 0, str(value))
                for value in values])
            run.method = ', '.join(
                [run.method, *(f'{name} {value}' for name, value in zip(by, values))])
            names[run.method] = place
            found[run.config.task, run.method].append(run)
    if not found:
        raise UserError(
            f'no run with an episode at or below {", ".join(map(str, indirs))} for these methods '
            'and tasks')
    groups = {}
    for task, method in sorted(found, key=lambda key: (key[0], names[key[1]])):
        runs = groups.setdefault(task, {})[method] = comparable(found[task, method])
        for run in runs:
            if not run.finished:
                print(f'{run.folder}: unfinished, {progress(run)}')
        if len({run.config.seed for run in runs}) < len(runs):
            print(f'{task}, {method}: several runs have the same seed; each counts as a seed')
    for task, group in groups.items():
        steps = sorted({run.judged for runs in group.values() for run in runs if run.judged})
        if len(steps) > 1:
            print(f'{task}: judged at different steps, {", ".join(map(short, steps))} '
                  '(table.md says which)')
        others = [name for name in differences([runs[0] for runs in group.values()])
                  if name not in by]
        if others:
            print(f'{task}: the {"curves" if by else "methods"} differ in {", ".join(others)}')
    return groups


def order(method):
    """Sorting key: this project's methods first, then the others by name."""
    return (METHODS.index(method) if method in METHODS else len(METHODS), method)


def settings_of(run):
    return {name: json.dumps(value, sort_keys=True)
            for name, value in dataclasses.asdict(run.config).items() if name not in FREE}


def differences(runs):
    """Names of the settings in which `runs` differ, apart from `task` and those in FREE."""
    settings = [settings_of(run) for run in runs]
    return [name for name in settings[0] if len({values[name] for values in settings}) > 1]


def comparable(runs):
    """The largest part of `runs` with equal settings (of equal parts the first); a printed
    line names the others and the settings that set them apart."""
    parts = collections.defaultdict(list)
    for run in runs:
        parts[tuple(settings_of(run).values())].append(run)
    kept = max(parts.values(), key=len)
    for run in runs:
        if names := differences([kept[0], run]):
            said = ', '.join(f'{name} is {getattr(run.config, name)}, not '
                             f'{getattr(kept[0].config, name)}' for name in names)
            print(f'{run.folder}: left out, its settings differ from the other runs: {said}')
    return kept


# --- Numbers ---

def short(steps):
    """Steps in few letters: 600, 120k, 1.25M; rounded down, so that unfinished shows."""
    for size, letter in ((1e6, 'M'), (1e3, 'k')):
        if steps >= size:
            return f'{math.floor(steps / size * 1000 + 1e-6) / 1000:g}{letter}'
    return f'{steps:g}'


def progress(run):
    return f'{short(run.reached)} of {short(run.config.steps)} steps'


def label(method, runs):
    """The legend's line: method, number of seeds, and what is unfinished."""
    text = method + (f', {len(runs)} seeds' if len(runs) > 1 else '')
    if late := [run for run in runs if not run.finished]:
        count = f'{len(late)} ' if len(runs) > 1 else ''
        least = ', least ' if len(late) > 1 else ': '
        text += f' ({count}unfinished{least}{progress(min(late, key=lambda run: run.reached))})'
    return textwrap.fill(text, 60)


def everyone(groups):
    return [run for group in groups.values() for runs in group.values() for run in runs]


def having(groups, test):
    """The part of `groups` with the runs for which `test(run)` holds."""
    kept = {task: {method: part for method, runs in group.items()
                   if (part := [run for run in runs if test(run)])}
            for task, group in groups.items()}
    return {task: group for task, group in kept.items() if group}


def default_bin(runs, mode, against='step'):
    """A round number of steps or seconds: at most 50 bins, and none shorter than an episode's
    spacing."""
    ends = [np.unique(run.returns(mode)[against]) for run in runs]
    longest = max([values.max() for values in ends if len(values)], default=1)
    spacings = [np.median(np.diff(values)) for values in ends if len(values) > 1]
    wanted = max(longest / 50, 1, *spacings)
    size = 10 ** math.floor(math.log10(wanted))
    return next(int(part * size) for part in (1, 2, 5, 10) if part * size >= wanted)


def learning_curve(runs, mode, width, smooth=1, against='step'):
    """Mean and spread of returns over runs, on the common bins (k * width, (k + 1) * width].

    A run's bin is the mean of its episodes that end there; a bin in which none ended, between
    two others, is interpolated. smooth: centred running mean over so many bins of each run.
    against: 'step' or 'seconds', the unit of width. Returns a frame indexed by k with columns at
    (mean end of the episodes), mean, deviation (standard deviation over runs, nan for one run)
    and runs (how many have the bin).
    """
    ends, returns = [], []
    for run in runs:
        episodes = run.returns(mode)
        if not len(episodes):
            continue
        bins = (np.ceil(episodes[against] / width) - 1).astype(int)
        means = episodes.groupby(bins)[[against, 'return']].mean()
        means = means.reindex(range(means.index[0], means.index[-1] + 1)).interpolate()
        ends.append(means[against])
        returns.append(means['return'].rolling(smooth, min_periods=1, center=True).mean())
    if not returns:
        return pd.DataFrame(columns=['at', 'mean', 'deviation', 'runs'], dtype=float)
    ends, returns = pd.concat(ends, axis=1), pd.concat(returns, axis=1).sort_index()
    return pd.DataFrame({'at': ends.mean(axis=1), 'mean': returns.mean(axis=1),
                         'deviation': returns.std(axis=1), 'runs': returns.count(axis=1)})


def final_return(run, hours=math.inf):
    """Mean return of the last tenth (at least one) of the training episodes that ended within
    `hours` of wall time; nan if there are none, or if the run is shorter than that."""
    episodes = run.returns('train')
    if math.isfinite(hours):
        if not run.episodes['seconds'].max() >= 3600 * hours:
            return math.nan
        episodes = episodes[episodes['seconds'] <= 3600 * hours]
    returns = episodes['return']
    return returns.tail(math.ceil(FINAL * len(returns))).mean() if len(returns) else math.nan


def evaluations(runs, condition):
    """Returns under missing sensors, a row for each ratio of the condition 'ratio', or each sensor
    of 'without' and 'only'.

    Columns: mean (over runs, of each run's mean over its episodes), deviation (over all
    episodes of all runs), runs, episodes.
    """
    rows = pd.concat([run.results.assign(run=run.folder) for run in runs])
    rows = rows[rows['condition'] == condition]
    key = 'ratio' if condition == 'ratio' else 'sensor'
    means = rows.groupby([key, 'run'])['return'].mean().groupby(key)
    episodes = rows.groupby(key)['return']
    return pd.DataFrame({'mean': means.mean(), 'deviation': episodes.std(),
                         'runs': means.count(), 'episodes': episodes.count()})


def conditions(runs):
    """What the runs were judged under, (condition, ratio or sensor), in the order of figures and
    tables: ratios, then each sensor gone, then each alone."""
    known = list(config.SENSORS)
    return [(condition, key) for condition in ('ratio', 'without', 'only') for key in sorted(
        evaluations(runs, condition).index, key=lambda key: (
            known.index(key) if key in known else len(known), key))]


def interquartile_mean(scores, axis=None):
    """Mean of the middle half of `scores`: a quarter, rounded down, is cut at each end."""
    return stats.trim_mean(scores, 0.25, axis=axis)


def bootstrap(tasks, samples=5000, seed=0):
    """(interquartile mean, low, high): the stratified bootstrap's 95 % percentile interval of
    Agarwal et al. 2021, in which runs are drawn again within each task.

    tasks: a sequence of arrays [runs], one a task.
    """
    random = np.random.default_rng(seed)
    drawn = [np.asarray(scores)[random.integers(len(scores), size=(samples, len(scores)))]
             for scores in tasks]
    low, high = np.percentile(
        interquartile_mean(np.concatenate(drawn, axis=1), axis=1), (2.5, 97.5))
    return interquartile_mean(np.concatenate(tasks)), low, high


def aggregate(groups):
    """Frame with columns method, at ('final' or a missing ratio), point, low, high, runs, tasks.

    Scores are returns over the largest return of the control suite, a reward of 1 at each of
    time_limit (1000) steps. A method has only the tasks on which it has LEAST_RUNS runs, and only
    tasks that all methods with such a one have are compared; printed lines name the rest.
    """
    scores = []
    for run in everyone(groups):
        found = evaluations([run], 'ratio')['mean'].to_dict()
        scores += [(at, run.method, run.config.task, value / run.config.time_limit)
                   for at, value in ({'final': final_return(run)} | found).items()]
    scores = pd.DataFrame(scores, columns=['at', 'method', 'task', 'score']).dropna()
    rows, said = [], set()
    for at, part in scores.groupby('at', sort=False):
        part = enough(part, said)
        methods = part.groupby('task')['method'].nunique()
        lacking = methods[methods < part['method'].nunique()].index
        said |= {f'aggregate: {task} left out, not all methods have it' for task in lacking}
        part = part[~part['task'].isin(lacking)]
        for method in sorted(part['method'].unique(), key=order):
            own = part[part['method'] == method]
            tasks = [group.to_numpy() for _, group in own.groupby('task')['score']]
            rows.append((method, at, *bootstrap(tasks), len(own), len(tasks)))
    for line in sorted(said):
        print(line)
    return pd.DataFrame(
        rows, columns=['method', 'at', 'point', 'low', 'high', 'runs', 'tasks'])


def enough(scores, said):
    """The rows of methods with LEAST_RUNS scores on a task, within which the bootstrap draws; what
    is left out is added to the set `said`."""
    groups = scores.groupby(['method', 'task'])['score']
    said |= {f'aggregate: {method} on {task} left out, it has {count} of {LEAST_RUNS} comparable '
             'runs' for (method, task), count in groups.size().items() if count < LEAST_RUNS}
    return scores[groups.transform('size') >= LEAST_RUNS]


def table(groups, hours=None):
    """A frame with a row for each task and method; `write_table` explains the columns.

    hours: adds the returns after so much wall time; empty where one of the seeds has less.
    """
    rows = []
    for task, group in groups.items():
        for method, runs in group.items():
            finals = pd.Series([final_return(run) for run in runs], dtype=float)
            means = pd.Series([run.returns('train')['return'].mean() for run in runs], dtype=float)
            row = {
                'task': task, 'method': method, 'seeds': len(runs),
                'unfinished': sum(not run.finished for run in runs),
                'steps_reached': min(run.reached for run in runs),
                'steps_asked': max(run.config.steps for run in runs),
                'mean_return': means.mean(), 'mean_return_std': means.std(),
                'final_return': finals.mean(), 'final_return_std': finals.std()}
            if hours:
                early = pd.Series([final_return(run, hours) for run in runs], dtype=float)
                if early.isna().any():
                    early[:] = math.nan
                row |= {f'after_{hours:g}h': early.mean(), f'after_{hours:g}h_std': early.std()}
            judged = [run.judged for run in runs if run.judged]
            row |= {'judged_seeds': len(judged), 'judged_least': min(judged, default=0),
                    'judged_most': max(judged, default=0)}
            whole = evaluations(runs, 'ratio')['mean'].get(0.0, 0)
            for condition, key in conditions(runs):
                values = evaluations(runs, condition).loc[key]
                name = condition_column(condition, key)
                row[name], row[f'{name}_std'] = values['mean'], values['deviation']
                if whole > 0:
                    row[f'{name}_kept'] = values['mean'] / whole
            rows.append(row)
    frame = pd.DataFrame(rows)
    # The columns of a group without some condition must not be pushed to the end by it.
    judged = [condition_column(*one) for one in conditions(everyone(groups))]
    judged = [name + end for name in judged for end in ('', '_std', '_kept')]
    return frame.reindex(columns=[name for name in frame if name not in judged] + judged)


def condition_column(condition, key):
    """The name of a condition of `conditions` as a column of the table."""
    return f'eval_{key:g}' if condition == 'ratio' else f'{condition}_{key}'


def judged_at(row):
    """The steps at which the runs of a row of the table were judged, and how many, if not all."""
    if not row['judged_seeds']:
        return ''
    steps = dict.fromkeys(short(row[name]) for name in ('judged_least', 'judged_most'))
    part = row['judged_seeds'] < row['seeds']
    return ' - '.join(steps) + part * f', {row["judged_seeds"]} of {row["seeds"]} seeds'


def summed_up(row, name):
    """Mean ± deviation (kept fraction) of a condition in a row of the table, as far as known."""
    parts = [(row[name], '{:.0f}'), (row[f'{name}_std'], ' ± {:.0f}'),
             (row[f'{name}_kept'], ' ({:.2f})')]
    return ''.join(text.format(value) for value, text in parts if not math.isnan(value))


def markdown(header, rows):
    """The lines of a table; numbers that are not there are left out."""
    lines = [header, ['---'] * len(header), *(
        ['' if str(cell) == 'nan' else str(cell) for cell in row] for row in rows)]
    return ['| ' + ' | '.join(line) + ' |' for line in lines]


def write_table(frame, outdir):
    """table.csv with all digits; table.md with the returns of training, then those of evaluation
    with a row for each condition, and what the numbers are."""
    frame.to_csv(os.path.join(outdir, 'table.csv'), index=False)
    judged = [name.removesuffix('_kept') for name in frame if name.endswith('_kept')]
    training = [name for name in frame if not name.startswith(
        ('eval_', 'without_', 'only_', 'judged_'))]
    lines = markdown(training, (
        [format(value, '.1f') if isinstance(value, float) else value for value in row]
        for row in frame[training].itertuples(index=False)))
    lines += ['', *textwrap.wrap(
        'steps_reached: of the shortest run. mean_return: mean of all training episodes of each '
        'seed, then over seeds; final_return: the same of the last 10 % of them; after_..h: the '
        'same of the last 10 % of those that ended within so many hours of wall time. _std: '
        'standard deviation over seeds.', 98)]
    for task, rows in frame.groupby('task', sort=False):
        rows = rows.set_index('method')
        present = [name for name in judged if rows[name].notna().any()]
        if present:
            found = [row for _, row in rows.iterrows()]
            lines += ['', *markdown([f'{task}: missing', *rows.index], [
                ['(steps of the checkpoint)', *map(judged_at, found)], *(
                    [CONDITIONS[name.split('_')[0]].format(name.split('_', 1)[1]), *(
                        summed_up(row, name) for row in found)] for name in present)])]
    if judged:
        lines += ['', *textwrap.wrap(
            'Returns of --test: mean over seeds of the mean over episodes ± standard deviation '
            'over all episodes of all seeds (fraction of the mean with nothing missing).', 98)]
    with open(os.path.join(outdir, 'table.md'), 'w', encoding='utf-8') as file:
        file.write('\n'.join(lines) + '\n')
