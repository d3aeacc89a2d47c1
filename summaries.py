"""Runs summed up: learning curves, evaluations, aggregates over tasks.

Standard deviations are of the sample (n - 1). A condition is what --test judged under: a ratio,
a sensor gone, a sensor alone, or a fault of --corrupt.
"""

import collections
import math

import numpy as np
import pandas as pd
from scipy import special, stats

import config
import environments
from logs import differences, everyone, order
from texts import CONDITIONS

LATE = 0.05  # of a bin
FINAL = 0.1  # the final return is the mean of this last part of the training episodes
# (runs of a method on each task, tasks): fewer say nothing about how runs vary.
ENOUGH = (2, 3), (3, 1)
# Of the t-interval. Its 95 % hold 88 to 95 % where scores are skewed and runs are few; with this
# one, 90 to 99 %, and 96 in the mean (a test measures it for 2 to 10 runs of 1 to 10 tasks).
LEVEL = 0.97
# Runs of each task from which on the middle half of all is taken: of two of a task often but one
# is in it, and nothing tells how it varies.
QUARTILES = 3


def default_bin(runs, mode, against='step'):
    """A round number of steps or seconds: at most 50 bins, and none shorter than an episode's
    spacing."""
    ends = [np.unique(run.returns(mode)[against]) for run in runs]
    longest = max([values.max() for values in ends if len(values)], default=1)
    spacings = [np.median(np.diff(values)) for values in ends if len(values) > 1]
    widest = max(longest / 50, 1, *spacings)
    # An evaluation comes a little after it is due, which makes no spacing of its own.
    return rounded_up(float(f'{widest:.1e}') if mode == 'eval' else widest)


def rounded_up(number):
    """The least whole number from `number` (at least 1) on that is 1, 2 or 5 with zeros."""
    size = 10 ** math.floor(math.log10(number))
    return next(int(part * size) for part in (1, 2, 5, 10) if part * size >= number)


def learning_curve(runs, mode, width, smooth=1, against='step'):
    """Mean and spread of returns over runs, on the common bins (k * width, (k + 1) * width].
    Evaluations, which come when they are due or a little later, may be LATE of a bin after its end.

    A run's bin is the mean of its episodes that end there; a bin in which none ended, between
    two others, is interpolated, but for those of evaluation, and not counted. smooth: centred
    running mean over so many bins of each run. against: 'step' or 'seconds', the unit of width.
    Returns a frame indexed by k with columns at (mean end of the episodes), mean, deviation
    (standard deviation over runs, nan for one run) and runs (how many have episodes in the bin).
    """
    ends, returns, counted = [], [], []
    for run in runs:
        episodes = run.returns(mode)
        if not len(episodes):
            continue
        late = LATE if mode == 'eval' else 0
        bins = (np.ceil(episodes[against] / width - late) - 1).astype(int)
        means = episodes.groupby(bins)[[against, 'return']].mean()
        counted.append(means['return'])
        if mode != 'eval':  # an evaluation is rare, and none is made up
            means = means.reindex(range(means.index[0], means.index[-1] + 1)).interpolate()
        ends.append(means[against])
        returns.append(means['return'].rolling(smooth, min_periods=1, center=True).mean())
    if not returns:
        return pd.DataFrame(columns=['at', 'mean', 'deviation', 'runs'], dtype=float)
    ends, returns, counted = (
        pd.concat(columns, axis=1).sort_index() for columns in (ends, returns, counted))
    count = counted.count(axis=1).reindex(returns.index, fill_value=0)
    return pd.DataFrame({'at': ends.mean(axis=1), 'mean': returns.mean(axis=1),
                         'deviation': returns.std(axis=1), 'runs': count})


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
    of 'without' and 'only', or each fault of 'corrupt'.

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


def kept(runs, condition, key):
    """The fraction of the return with nothing missing that is left under a condition: of the means
    of the runs that were judged under both; nan where there are none, or they have no return."""
    pairs = []
    for run in runs:
        whole, part = (evaluations([run], name)['mean'].get(at, math.nan)
                       for name, at in (('ratio', 0.0), (condition, key)))
        if not math.isnan(whole + part):
            pairs.append((whole, part))
    whole, part = np.mean(pairs, 0) if pairs else (math.nan, math.nan)
    return part / whole if whole > 0 else math.nan


def of_fewer(rows, runs):
    """Which rows of `evaluations` are of fewer runs than were judged at all: bool [rows]."""
    return rows['runs'] < sum(bool(run.judged) for run in runs)


def judged_under(runs):
    """What the runs were judged under, (condition, ratio or sensor), in the order of figures and
    tables: ratios, then each sensor gone, then each alone, then each fault."""
    known = list(config.SENSORS)
    return [(condition, key) for condition in CONDITIONS for key in sorted(
        evaluations(runs, condition).index, key=lambda key: (
            known.index(key) if key in known else len(known), key))]


def interquartile_mean(scores, axis=None):
    """Mean of the middle half of `scores`: a quarter, rounded down, is cut at each end."""
    return stats.trim_mean(scores, 0.25, axis=axis)


def interval(tasks):
    """(interquartile mean, low, high): its 95 % interval over other runs on the same tasks.

    tasks: a sequence of arrays [runs], one a task, of two runs or more each.

    By t, of a trimmed mean (Yuen, Biometrika 1974): scores that are cut count as the last that
    is not. Runs vary within their task alone, so that each task of which a score is kept takes a
    degree of freedom. The percentiles of a bootstrap, which the interquartile mean is often seen
    with, hold it 76 % of the time at three runs of a task; this holds it 96 % of the time in
    simulations of skewed scores of 2 (of one task 3) to 10 runs of 1 to 10 tasks,
    90 to 99 % by case, as long as runs vary as much on each task. Where those of one vary twice or
    three times as much as those of the others, 89 or 80 % and more, and little beyond, as it may
    be that task's runs which are cut (tests/test_plotting.py).
    """
    scores = np.concatenate(tasks)
    count = len(scores)
    cut = count // 4
    middle = np.argsort(scores)[cut:count - cut]
    kept = len(middle)
    low, high = scores[middle[[0, -1]]]
    # Where the middle half is all alike, as where most runs of a sparse task have nothing, the
    # rest tells how runs vary.
    variance = sum(len(task) * np.var(
        np.clip(task, low, high) if low < high else task, ddof=1) for task in tasks)
    variance *= (count - 1) / count / (kept * (kept - 1))
    owners = np.repeat(np.arange(len(tasks)), [len(task) for task in tasks])
    freedom = max(1, kept - len(np.unique(owners[middle])))
    half = special.stdtrit(freedom, 0.5 + LEVEL / 2) * math.sqrt(variance)
    point = interquartile_mean(scores)
    return point, point - half, point + half


def mean_interval(tasks):
    """(mean over tasks of the mean over runs, low, high): its 95 % interval over other runs on the
    same tasks.

    tasks: a sequence of arrays [runs], one a task, of two runs or more each.

    By t with the degrees of freedom of Welch and Satterthwaite (Biometrics Bulletin 1946), since
    the runs of one task may vary more than those of another. For two runs of each of 3 to 10 tasks
    it holds the mean 92 to 98 % of the time where they vary up to six times as much; where those of
    one task vary twenty times as much, which two runs cannot tell, 82 to 94 % of the time
    (tests/test_plotting.py).
    """
    variances = np.array([np.var(task, ddof=1) / len(task) for task in tasks])
    point, total = np.mean([np.mean(task) for task in tasks]), variances.sum()
    half = 0.0
    if total > 0:
        parts = variances ** 2 / [len(task) - 1 for task in tasks]
        half = special.stdtrit(total ** 2 / parts.sum(), 0.975) * math.sqrt(total) / len(tasks)
    return point, point - half, point + half


def aggregate(groups):
    """Frame with columns method, at ('final' or a missing ratio), statistic (see `statistic`; one
    for all ratios), point, low, high, runs, tasks, unfinished (how many of the runs are).

    Scores are returns over the largest that there can be (in the control suite a reward of 1 at
    each of 1000 steps); tasks whose rewards have no known bound are left out. Which of the others
    are compared says `comparable`; printed lines name the rest.
    """
    scores, said = [], set()
    for run in everyone(groups):
        largest = environments.largest_return(run.config)
        if not largest:
            said.add(f'aggregate: {run.config.task} left out, its largest return is not known')
            continue
        found = evaluations([run], 'ratio')['mean'].to_dict()
        scores += [(at, run, run.method, run.config.task, value / largest)
                   for at, value in ({'final': final_return(run)} | found).items()]
    scores = pd.DataFrame(scores, columns=['at', 'run', 'method', 'task', 'score']).dropna()
    rows, places, parts = [], collections.defaultdict(list), {}
    for at in sorted(scores['at'].unique(), key=lambda at: -1.0 if at == 'final' else at):
        parts[at], left = comparable(scores[scores['at'] == at])
        for line in left:
            places[line].append('at the end of training' if at == 'final' else f'at ratio {at:g}')
    # A line through the ratios is of one kind.
    judged = statistic([part for at, part in parts.items() if at != 'final'])
    for at, part in parts.items():
        name, estimate = statistic([part]) if at == 'final' else judged
        for method in sorted(part['method'].unique(), key=order):
            own = part[part['method'] == method]
            said |= set(other_settings(method, own['run']))
            tasks = [group.to_numpy() for _, group in own.groupby('task')['score']]
            unfinished = sum(not run.finished for run in own['run'])
            rows.append((method, at, name, *estimate(tasks), len(own), len(tasks), unfinished))
    said |= {f'{line} ({", ".join(where)})' for line, where in places.items()}
    for line in sorted(said):
        print(line)
    return pd.DataFrame(rows, columns=[
        'method', 'at', 'statistic', 'point', 'low', 'high', 'runs', 'tasks', 'unfinished'])


def statistic(parts):
    """(name, function) of what sums up the rows of each of `parts`, frames with columns method and
    task: the interquartile mean over all runs; or the mean over tasks where a task has fewer than
    QUARTILES runs of a method, or where methods have theirs on the tasks in other proportions: a
    task of many runs would weigh more in one method than in another."""
    for part in parts:
        counts = part.groupby(['task', 'method']).size().unstack('method')
        shares = counts / counts.sum()
        if counts.size and (counts.min(axis=None) < QUARTILES or (
                shares.max(axis=1) - shares.min(axis=1)).max() > 1e-9):
            return 'mean', mean_interval
    return 'interquartile mean', interval


def other_settings(method, runs):
    """Lines on settings in which the runs of a method differ between tasks, and which are not
    usual for one of these."""
    usual = {name for run in runs for name in environments.defaults(run.config.task)}
    names = [name for name in differences(list(runs)) if name not in {'task', *usual}]
    if names:
        yield f'aggregate: {method} has other {", ".join(names)} on one task than on another'


def comparable(scores):
    """(the rows of `scores` that are compared, lines on the rest). A method has the tasks on which
    it has two runs, and those tasks are compared that all methods with such a one have; where they
    are fewer than three, three runs are asked for instead (ENOUGH)."""
    counts = scores.groupby(['method', 'task']).size()
    for least, tasks in ENOUGH:
        has = counts[counts >= least].unstack('task').notna()
        shared = has.columns[has.all()]
        if len(shared) >= tasks:
            break
    said = [f'aggregate: {method} on {task} left out, it has {count} of {least} comparable runs'
            for (method, task), count in counts.items() if count < least]
    said += [f'aggregate: {task} left out, not all methods have it'
             for task in has.columns.difference(shared)]
    pairs = pd.MultiIndex.from_frame(scores[['method', 'task']])
    return scores[scores['task'].isin(shared) & (counts.loc[pairs] >= least).to_numpy()], said


def trained_ones(runs):
    """The runs that have training episodes; all of them where none has, as exported agents."""
    return [run for run in runs if len(run.returns('train'))] or runs
