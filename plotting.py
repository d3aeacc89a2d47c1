"""Figures and tables from the CSV logs of runs: PNG and PDF of each figure, table.csv, table.md.

    python plotting.py --indir logdir --outdir plots

Every folder at or below --indir that holds a config.json is a run. First come loading and
numbers, then drawing. What is left out of a figure, or is unfinished, is said in a printed
line. Nothing is written into a run's folder. Standard deviations are of the sample (n - 1).
"""

import argparse
import collections
import dataclasses
import json
import math
import os
import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure  # without pyplot, Agg draws and no screen is needed
from matplotlib.ticker import EngFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation
from scipy import stats

import config
from config import UserError

# Okabe and Ito's colours, which stay apart under the common kinds of colour blindness.
COLOURS = {'mummi': '#0072B2', 'cvrl': '#E69F00', 'dreamer': '#009E73'}
OTHER_COLOURS = ('#CC79A7', '#D55E00', '#56B4E9', '#000000')
MARKERS = 'osD^vPX'
GREY = '#808080'

# Settings in which the runs of one curve may differ: they name files, or say how a run is
# computed, stored and logged, not what is learned. `preset` only names values that are compared.
FREE = {'logdir', 'seed', 'steps', 'preset', 'precision', 'xla', 'dry_run', 'natural_train',
        'natural_valid', 'envs', 'replay_memory', 'log_every', 'keep_checkpoints'}
TEXT = ('mode', 'condition', 'sensor')  # columns of the logs that are not numbers
FINAL = 0.1  # the final return is the mean of this last part of the training episodes
RATIO_AXIS = 'missing ratio (chance of a drop-out at each decision)'
LEAST_RUNS = 3  # fewer runs of a method say nothing about its distribution


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
    def finished(self):
        return self.reached >= self.config.steps

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
        settings, method = config.load(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f'{path} is not a readable configuration') from None
    episodes = read_steps(os.path.join(folder, 'episodes.csv'), ('step', 'mode', 'return'))
    path = os.path.join(folder, 'results.csv')
    results = read(path, ('step', 'condition', 'sensor', 'return'), ('ratio',))
    newest = results['step'] == results['step'].max()
    if not newest.all():
        print(f'{path}: {(~newest).sum()} rows of older checkpoints left out')
    return Run(folder, method, settings, episodes, results[newest].reset_index(drop=True))


def load(indir, methods=(), tasks=()):
    """Dict of task -> method -> list of comparable runs at or below `indir`.

    methods, tasks: the names to keep; default: all. UserError if nothing is left.
    """
    if not os.path.isdir(indir):
        raise UserError(f'there is no folder {indir}')
    folders = sorted(folder for folder, _, files in os.walk(indir) if 'config.json' in files)
    if not folders:
        raise UserError(f'no run at or below {indir}: no folder there holds a config.json')
    found = collections.defaultdict(list)
    for folder in folders:
        try:
            run = load_run(folder)
        except UserError as error:
            print(f'{folder}: left out, {error}')
            continue
        if not len(run.episodes) and not len(run.results):
            print(f'{folder}: left out, no episode yet')
        elif run.method in (methods or [run.method]) and (
                run.config.task in (tasks or [run.config.task])):
            found[run.config.task, run.method].append(run)
    if not found:
        raise UserError(f'no run with an episode at or below {indir} for these methods and tasks')
    groups = {}
    for task, method in sorted(found, key=lambda key: (key[0], order(key[1]))):
        runs = groups.setdefault(task, {})[method] = comparable(found[task, method])
        for run in runs:
            if not run.finished:
                print(f'{run.folder}: unfinished, {progress(run)}')
        if len({run.config.seed for run in runs}) < len(runs):
            print(f'{task}, {method}: several runs have the same seed; each counts as a seed')
    for task, group in groups.items():
        if names := differences([runs[0] for runs in group.values()]):
            print(f'{task}: the methods differ in {", ".join(names)}')
    return groups


def order(method):
    """Sorting key: this project's methods first, then the others by name."""
    return (list(COLOURS).index(method) if method in COLOURS else len(COLOURS), method)


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


def default_bin(runs, mode):
    """A round number of steps: at most 50 bins, and none shorter than an episode's spacing."""
    steps = [np.unique(run.returns(mode)['step']) for run in runs]
    longest = max([values.max() for values in steps if len(values)], default=1)
    spacings = [np.median(np.diff(values)) for values in steps if len(values) > 1]
    wanted = max(longest / 50, 1, *spacings)
    size = 10 ** math.floor(math.log10(wanted))
    return next(int(part * size) for part in (1, 2, 5, 10) if part * size >= wanted)


def learning_curve(runs, mode, width, smooth=1):
    """Mean and spread of returns over runs, on the common bins (k * width, (k + 1) * width].

    A run's bin is the mean of its episodes that end there; a bin in which none ended, between
    two others, is interpolated. smooth: centred running mean over so many bins of each run.
    Returns a frame indexed by k with columns step (mean end of the episodes), mean, deviation
    (standard deviation over runs, nan for one run) and runs (how many have the bin).
    """
    steps, returns = [], []
    for run in runs:
        episodes = run.returns(mode)
        if not len(episodes):
            continue
        bins = (np.ceil(episodes['step'] / width) - 1).astype(int)
        means = episodes.groupby(bins)[['step', 'return']].mean()
        means = means.reindex(range(means.index[0], means.index[-1] + 1)).interpolate()
        steps.append(means['step'])
        returns.append(means['return'].rolling(smooth, min_periods=1, center=True).mean())
    if not returns:
        return pd.DataFrame(columns=['step', 'mean', 'deviation', 'runs'], dtype=float)
    steps, returns = pd.concat(steps, axis=1), pd.concat(returns, axis=1).sort_index()
    return pd.DataFrame({'step': steps.mean(axis=1), 'mean': returns.mean(axis=1),
                         'deviation': returns.std(axis=1), 'runs': returns.count(axis=1)})


def final_return(run):
    """Mean return of the last tenth (at least one) of the training episodes; nan if none."""
    returns = run.returns('train')['return']
    return returns.tail(math.ceil(FINAL * len(returns))).mean() if len(returns) else math.nan


def evaluations(runs, condition, key):
    """Returns under missing sensors, a row for each value of the column `key`.

    Columns: mean (over runs, of each run's mean over its episodes), deviation (over all
    episodes of all runs), runs, episodes.
    """
    rows = pd.concat([run.results.assign(run=run.folder) for run in runs])
    rows = rows[rows['condition'] == condition]
    means = rows.groupby([key, 'run'])['return'].mean().groupby(key)
    episodes = rows.groupby(key)['return']
    return pd.DataFrame({'mean': means.mean(), 'deviation': episodes.std(),
                         'runs': means.count(), 'episodes': episodes.count()})


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
    time_limit (1000) steps. Only methods with LEAST_RUNS runs, and only tasks that all of these
    have, since an average over other tasks is no comparison; printed lines name the rest.
    """
    scores = []
    for run in everyone(groups):
        found = evaluations([run], 'ratio', 'ratio')['mean'].to_dict()
        scores += [(at, run.method, run.config.task, value / run.config.time_limit)
                   for at, value in ({'final': final_return(run)} | found).items()]
    scores = pd.DataFrame(scores, columns=['at', 'method', 'task', 'score']).dropna()
    rows, said = [], set()
    for at, part in scores.groupby('at', sort=False):
        part = enough(part, said)
        methods = part.groupby('task')['method'].nunique()
        lacking = methods[methods < part['method'].nunique()].index
        said |= {f'aggregate: {task} left out, not all methods have it' for task in lacking}
        part = enough(part[~part['task'].isin(lacking)], said)
        for method in sorted(part['method'].unique(), key=order):
            own = part[part['method'] == method]
            tasks = [group.to_numpy() for _, group in own.groupby('task')['score']]
            rows.append((method, at, *bootstrap(tasks), len(own), len(tasks)))
    for line in sorted(said):
        print(line)
    return pd.DataFrame(
        rows, columns=['method', 'at', 'point', 'low', 'high', 'runs', 'tasks'])


def enough(scores, said):
    """The rows of methods with LEAST_RUNS scores; what is left out is added to the set `said`."""
    counts = scores['method'].value_counts()
    said |= {f'aggregate: {method} left out, it has {count} of {LEAST_RUNS} comparable runs'
             for method, count in counts.items() if count < LEAST_RUNS}
    return scores[scores['method'].map(counts) >= LEAST_RUNS]


def table(groups):
    """A frame with a row for each task and method; `write_table` explains the columns."""
    rows = []
    for task, group in groups.items():
        for method, runs in group.items():
            finals = pd.Series([final_return(run) for run in runs], dtype=float)
            row = {
                'task': task, 'method': method, 'seeds': len(runs),
                'unfinished': sum(not run.finished for run in runs),
                'steps_reached': min(run.reached for run in runs),
                'steps_asked': max(run.config.steps for run in runs),
                'final_return': finals.mean(), 'final_return_std': finals.std()}
            found = evaluations(runs, 'ratio', 'ratio')
            for ratio, values in found.iterrows():
                row[f'eval_{ratio:g}'] = values['mean']
                row[f'eval_{ratio:g}_std'] = values['deviation']
                if found['mean'].get(0.0, 0) > 0:
                    row[f'eval_{ratio:g}_kept'] = values['mean'] / found['mean'][0.0]
            rows.append(row)
    frame = pd.DataFrame(rows)
    # A group without a ratio must not push its columns to the end.
    ratios = sorted({float(name.split('_')[1]) for name in frame if name.startswith('eval_')})
    names = [name for name in frame if not name.startswith('eval_')]
    names += [f'eval_{ratio:g}{end}' for ratio in ratios for end in ('', '_std', '_kept')]
    return frame.reindex(columns=names)


def write_table(frame, outdir):
    """table.csv with all digits, and table.md with a legend of the columns."""
    frame.to_csv(os.path.join(outdir, 'table.csv'), index=False)
    lines = ['| ' + ' | '.join(frame.columns) + ' |', '|' + ' --- |' * len(frame.columns)]
    for row in frame.itertuples(index=False):
        cells = []
        for name, value in zip(frame.columns, row):
            if isinstance(value, float):
                value = '' if math.isnan(value) else format(
                    value, '.2f' if name.endswith('kept') else '.1f')
            cells.append(str(value))
        lines.append('| ' + ' | '.join(cells) + ' |')
    lines += ['', textwrap.fill(
        'steps_reached: of the shortest run. final_return: mean of the last 10 % of the training '
        'episodes of each seed, then over seeds; _std: standard deviation over seeds. '
        'eval_<ratio>: return at that missing ratio, mean over seeds of the mean over episodes; '
        '_std: standard deviation over all episodes of all seeds; _kept: fraction of the mean '
        'at ratio 0.', 98)]
    with open(os.path.join(outdir, 'table.md'), 'w', encoding='utf-8') as file:
        file.write('\n'.join(lines) + '\n')


# --- Drawing ---

def styles(groups):
    """Dict of method -> (colour, marker), the same in every figure."""
    methods = sorted({method for group in groups.values() for method in group}, key=order)
    others = [method for method in methods if method not in COLOURS]
    colours = COLOURS | {method: OTHER_COLOURS[index % len(OTHER_COLOURS)]
                         for index, method in enumerate(others)}
    names = list(COLOURS) + others
    return {method: (colours[method], MARKERS[names.index(method) % len(MARKERS)])
            for method in methods}


def panels(titles, columns=3, width=4.8, height=3.9):
    """(figure, list of axes with `titles`), at most `columns` side by side; sizes in inches."""
    columns = min(len(titles), columns)
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout='constrained')
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for surplus in axes[len(titles):]:
        surplus.remove()
    for one, name in zip(axes, titles):
        one.set_title(name.removeprefix('dmc_').replace('_', ' '), fontsize=11)
        one.spines[['top', 'right']].set_visible(False)
        one.grid(color='#E0E0E0', linewidth=0.6)
        one.set_axisbelow(True)
    return figure, axes[:len(titles)]


def legend(axes, drop=40):
    """A legend `drop` points under the panel, where it hides no data."""
    if axes.get_legend_handles_labels()[0]:
        shift = ScaledTranslation(0, -drop / 72, axes.figure.dpi_scale_trans)
        axes.legend(loc='upper center', bbox_to_anchor=(0.5, 0), fontsize=8, frameon=False,
                    bbox_transform=axes.transAxes + shift, borderaxespad=0)


def return_axis(axes, name='episode return'):
    axes.set_ylabel(name)
    axes.set_ylim(bottom=0)  # rewards of the suite are never negative


def step_axis(axes):
    axes.set_xlabel('environment steps')
    axes.xaxis.set_major_formatter(EngFormatter(sep=''))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlim(left=0)


def save(figure, caption, outdir, name):
    """Write `name`.png (160 dots per inch) and `name`.pdf under a wrapped caption."""
    figure.suptitle(textwrap.fill(caption, int(figure.get_figwidth() * 13)), fontsize=10)
    for ending, dated in (('png', {}), ('pdf', {'CreationDate': None})):
        figure.savefig(os.path.join(outdir, f'{name}.{ending}'), dpi=160, metadata=dated)


def draw_returns(groups, outdir, mode='train', width=None, smooth=1):
    """`returns` (mode train) or `returns_eval` (mode eval): return against steps.

    width: steps of a bin, by default from the data. smooth: bins of the running mean.
    """
    style, name = styles(groups), 'returns' if mode == 'train' else 'returns_eval'
    groups = having(groups, lambda run: len(run.returns(mode)))
    if not groups:
        print(f'no {mode} episodes: figure {name} left out')
        return
    width = width or default_bin(everyone(groups), mode)
    figure, axes = panels(list(groups))
    notes = []
    for one, group in zip(axes, groups.values()):
        for method, runs in group.items():
            colour, marker = style[method]
            curve = learning_curve(runs, mode, width, smooth)
            dots = {'marker': marker, 'markersize': 4} if mode == 'eval' or len(curve) < 5 else {}
            if len(runs) == 1:
                episodes = runs[0].returns(mode)
                one.plot(episodes['step'], episodes['return'], '.', color=colour, alpha=0.35,
                         markersize=4, markeredgewidth=0)
                notes.append('light dots: single episodes of a single seed')
            else:
                one.fill_between(
                    curve['step'], curve['mean'] - curve['deviation'],
                    curve['mean'] + curve['deviation'], color=colour, alpha=0.2, linewidth=0)
                notes.append('shaded: standard deviation over seeds')
            if (curve['runs'] < len(runs)).any():
                one.plot(curve['step'], curve['mean'], ':', color=colour, linewidth=1.2)
                notes.append('dotted: some seeds have no episodes there')
            one.plot(curve['step'], curve['mean'].where(curve['runs'] == len(runs)),
                     color=colour, linewidth=1.6, label=label(method, runs), **dots)
        prefill = pd.concat([run.returns('prefill') for runs in group.values() for run in runs])
        if len(prefill):
            one.axhline(prefill['return'].mean(), color=GREY, linestyle='--', linewidth=1,
                        label='random actions (mean of the prefill)')
        return_axis(one, 'episode return' if smooth == 1 else
                    f'episode return (running mean of {smooth} bins)')
        step_axis(one)
        legend(one)
    kind = 'Training' if mode == 'train' else 'Evaluation'
    save(figure, '; '.join([f'{kind} episodes, mean in bins of {short(width)} steps',
                            *dict.fromkeys(notes)]), outdir, name)


def draw_missing_ratio(groups, outdir):
    """`missing_ratio`: return against the missing ratio of the evaluation."""
    style = styles(groups)
    groups = having(groups, lambda run: (run.results['condition'] == 'ratio').any())
    if not groups:
        print('no results.csv with missing ratios: figure missing_ratio left out')
        return
    ratios = np.unique(evaluations(everyone(groups), 'ratio', 'ratio').index)
    gap = np.diff(ratios).min() if len(ratios) > 1 else 0.1
    figure, axes = panels(list(groups))
    for one, group in zip(axes, groups.values()):
        for index, (method, runs) in enumerate(group.items()):
            rows = evaluations(runs, 'ratio', 'ratio')
            aside = (index - (len(group) - 1) / 2) * 0.08 * gap
            one.errorbar(
                rows.index + aside, rows['mean'], rows['deviation'].fillna(0), capsize=2.5,
                color=style[method][0], marker=style[method][1], markersize=5,
                linewidth=1.6, elinewidth=1, label=label(method, runs))
        one.set_xlabel(RATIO_AXIS)
        one.set_xlim(ratios[0] - gap / 3, ratios[-1] + gap / 3)
        return_axis(one)
        legend(one)
    save(figure, 'Evaluation under missing sensors: mean over seeds; bars: standard deviation '
         'over all episodes; methods set apart', outdir, 'missing_ratio')


def draw_single_sensor(groups, outdir):
    """`single_sensor`: bars with all sensors, without each sensor and with only each sensor."""
    style = styles(groups)
    groups = having(groups, lambda run: run.results['condition'].isin(['without', 'only']).any())
    if not groups:
        print('no results.csv with single sensors: figure single_sensor left out')
        return
    known, runs = list(config.SENSORS), everyone(groups)
    columns = [('ratio', 0.0)] + [
        (part, sensor) for part in ('without', 'only') for sensor in sorted(
            evaluations(runs, part, 'sensor').index,
            key=lambda name: (known.index(name) if name in known else len(known), name))]
    figure, axes = panels(list(groups), 1, width=max(5, 2 + len(columns)), height=3.6)
    for one, group in zip(axes, groups.values()):
        broad = 0.8 / len(group)
        for index, (method, members) in enumerate(group.items()):
            rows = {part: evaluations(members, part, 'ratio' if part == 'ratio' else 'sensor')
                    for part in ('ratio', 'without', 'only')}
            places = np.arange(len(columns)) + (index - (len(group) - 1) / 2) * broad
            values, spread = (np.array([rows[part][name].get(key, math.nan)
                                        for part, key in columns])
                              for name in ('mean', 'deviation'))
            one.bar(places, values, broad * 0.94, color=style[method][0],
                    label=label(method, members))
            one.errorbar(places, values, np.nan_to_num(spread), fmt='none', ecolor='#303030',
                         elinewidth=1, capsize=2.5)
            for place in places[np.isnan(values)]:
                one.text(place, 0, ' not run', rotation=90, ha='center', va='bottom', fontsize=7,
                         color=style[method][0])
        one.grid(False, axis='x')
        one.set_xticks(range(len(columns)), ['all\nsensors'] + [
            f'{part}\n{sensor}' for part, sensor in columns[1:]])
        return_axis(one)
        legend(one, drop=36)
    save(figure, 'Evaluation without or with only one sensor: mean over seeds; bars: standard '
         'deviation over all episodes', outdir, 'single_sensor')


def draw_aggregate(groups, outdir):
    """`aggregate`: interquartile means with bootstrap intervals over runs and tasks."""
    frame = aggregate(groups)
    if not len(frame):
        print(f'no method has {LEAST_RUNS} runs to compare: figure aggregate left out')
        return
    late = collections.Counter(run.method for run in everyone(groups) if not run.finished)
    parts = {'end of training (last 10 % of episodes)': frame[frame['at'] == 'final'],
             'evaluation under missing sensors': frame[frame['at'] != 'final']}
    parts = {name: part for name, part in parts.items() if len(part)}
    figure, axes = panels(list(parts), height=3.6)
    for one, part in zip(axes, parts.values()):
        final = (part['at'] == 'final').all()
        places = np.unique(part['at'].astype(float)) if not final else np.zeros(1)
        gap = np.diff(places).min() if len(places) > 1 else 1
        for index, (method, rows) in enumerate(part.groupby('method', sort=False)):
            colour, marker = styles(groups)[method]
            first = rows.iloc[0]
            text = f'{method}, {first["runs"]} runs on {first["tasks"]} of {len(groups)} tasks'
            text += f' ({late[method]} unfinished)' if late[method] else ''
            aside = 0.06 * gap * (index - (part['method'].nunique() - 1) / 2)
            one.errorbar(
                [index] if final else rows['at'].astype(float) + aside, rows['point'],
                np.maximum(0, [rows['point'] - rows['low'], rows['high'] - rows['point']]),
                color=colour, marker=marker, capsize=4, label=text)
        if final:
            one.set_xticks(range(len(part)), part['method'])
            one.set_xlim(-0.6, len(part) - 0.4)
            one.grid(False, axis='x')
        else:
            one.set_xlabel(RATIO_AXIS)
        return_axis(one, 'episode return / largest return')
        legend(one, 40 if not final else 28)
    save(figure, 'Interquartile mean over runs and tasks; bars: 95 % stratified bootstrap '
         'interval; largest return: 1 a step, 1000 an episode', outdir, 'aggregate')


def draw_losses(groups, outdir, names):
    """`losses`: columns `names` of metrics.csv against steps, a row of panels a task.

    UserError if no run has one of them.
    """
    logs = {run.folder: read_steps(os.path.join(run.folder, 'metrics.csv'), ('step',))
            for run in everyone(groups)}
    known = list(dict.fromkeys(name for log in logs.values() for name in log))
    if absent := [name for name in names if name not in known]:
        raise UserError(f'no metrics.csv has {", ".join(absent)}; there are {", ".join(known)}')
    style = styles(groups)
    groups = having(groups, lambda run: set(names) & set(logs[run.folder]))
    figure, axes = panels([task for task in groups for _ in names], len(names), height=3.4)
    axes = iter(axes)
    for group in groups.values():
        for name in names:
            one = next(axes)
            for method, runs in group.items():
                text = label(method, runs)
                for run in runs:
                    if name in logs[run.folder]:
                        log = logs[run.folder].dropna(subset=name)
                        one.plot(log['step'], log[name], color=style[method][0],
                                 linewidth=1, alpha=0.7, label=text,
                                 marker='.' if len(log) < 5 else '')
                        text = None
            one.set_ylabel(name)
            step_axis(one)
            legend(one)
    save(figure, 'Metrics of training; a line a seed', outdir, 'losses')


def draw_run(logdir, path):
    """The learning curve of the one run in `logdir`, drawn to the image file `path`.

    UserError if `logdir` holds no readable config.json. A run without episodes gives an empty
    panel that says so.
    """
    run = load_run(logdir)
    name = f'{run.method} on {run.config.task}, seed {run.config.seed}: {progress(run)}'
    figure, (one,) = panels([name], width=6.4)
    colour = COLOURS.get(run.method, OTHER_COLOURS[0])
    for mode, text, look in (
            ('prefill', 'random actions (prefill)', {'color': GREY, 'marker': '.'}),
            ('train', 'training episodes', {'color': colour, 'marker': '.', 'linewidth': 1}),
            ('eval', 'evaluation episodes', {
                'color': 'black', 'marker': 'D', 'markerfacecolor': 'white',
                'linestyle': 'none'})):
        episodes = run.returns(mode)
        if len(episodes):
            one.plot(episodes['step'], episodes['return'], label=text, **look)
    if not len(run.episodes):
        one.text(0.5, 0.5, 'no episodes yet', ha='center', transform=one.transAxes)
    return_axis(one)
    step_axis(one)
    legend(one)
    figure.savefig(path, dpi=160)


def draw(indir, outdir, methods=(), tasks=(), width=None, smooth=1, metrics=()):
    """All figures and tables of the runs at or below `indir`, into `outdir`.

    UserError for a missing `indir`, no runs, or an `outdir` that is in a run or no folder.
    """
    groups = load(indir, methods, tasks)
    target = os.path.realpath(outdir)
    for folder, _, files in os.walk(indir):
        inside = os.path.commonpath([target, os.path.realpath(folder)])
        if 'config.json' in files and inside == os.path.realpath(folder):
            raise UserError(f'{outdir} is in the run {folder}; choose another --outdir')
    try:
        os.makedirs(outdir, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot make the folder {outdir}: {error.strerror}') from None
    if metrics:  # first, since a wrong name stops it
        draw_losses(groups, outdir, metrics)
    draw_returns(groups, outdir, 'train', width, smooth)
    draw_returns(groups, outdir, 'eval', width, smooth)
    draw_missing_ratio(groups, outdir)
    draw_single_sensor(groups, outdir)
    draw_aggregate(groups, outdir)
    write_table(table(groups), outdir)
    print(f'figures and tables are in {outdir}')


def main(arguments=None):
    def names(text):
        return tuple(name for name in text.split(',') if name)

    def positive(text):
        if int(text) < 1:
            raise ValueError
        return int(text)

    parser = argparse.ArgumentParser(
        prog='plotting.py', description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = config.fail
    parser.add_argument('--indir', default='logdir', help='folder of the runs [logdir]')
    parser.add_argument('--outdir', default='plots', help='folder of the figures [plots]')
    parser.add_argument('--methods', type=names, default=(), help='only these, as mummi,cvrl')
    parser.add_argument('--tasks', type=names, default=(), help='only these, as dmc_walker_walk')
    parser.add_argument('--bin', type=positive, help='steps of a bin [from the data]')
    parser.add_argument('--smooth', type=positive, default=1, help='running mean of bins [none]')
    parser.add_argument('--metrics', type=names, default=(),
                        help='columns of metrics.csv to draw, as model_loss,divergence [none]')
    given = parser.parse_args(arguments)
    try:
        draw(given.indir, given.outdir, given.methods, given.tasks, given.bin, given.smooth,
             given.metrics)
    except UserError as error:
        config.fail(error)


if __name__ == '__main__':
    main()
