"""Writes the tables of the pages of results/, and of README.md, from the runs: `make results`.

A page asks for a table by a comment, which is not shown, in the line before it:

    <!-- table: KIND FOLDER WORD... -->

where KIND is a function of this file, and FOLDER, seen from the root of the repository, has the
runs in FOLDER/runs; of `metrics` it is the run's, of `faults` that of the results.
"""

import functools
import math
import os
import pathlib
import re
import sys

import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import comparison  # noqa: E402
import logs  # noqa: E402
import summaries  # noqa: E402
import texts  # noqa: E402

PAGES = sorted([ROOT / 'README.md', *(ROOT / 'results').glob('*/README.md')])
NAMES = {'mummi': 'MuMMI', 'cvrl': 'CVRL', 'dreamer': 'Dreamer'}
ASKED = re.compile(r'(<!-- table: (.+?) -->\n).*?(?=\n\n|\n?\Z)', re.DOTALL)
WHOLE = 'ratio', 0.0  # the condition that nothing is missing under


def whole(number):
    """A mean without digits behind the point. First rounded, since means may differ in their last
    digit between processors."""
    return f'{round(number, 6):.0f}'


def titled(task):
    return task.removeprefix('dmc_')


def judged(folder, *tasks):
    """Of --test: return ± standard deviation over episodes, and the share of what the method has
    with nothing missing; a row for each condition."""
    groups = runs_of(folder)
    columns = [(task, runs) for task in tasks for runs in groups[task].values()]
    header = ['judged with', *(
        f'{titled(task)}: {NAMES[method]}' if method == next(iter(groups[task]))
        else NAMES[method] for task in tasks for method in groups[task])]
    rows = []
    for condition, key in summaries.judged_under(logs.everyone(groups)):
        row = [texts.condition_name(condition, key)]
        for _, runs in columns:
            values = summaries.evaluations(runs, condition).loc[key]
            text = f'{whole(values["mean"])} ± {whole(values["deviation"])}'
            if (condition, key) != WHOLE:
                text += f' ({summaries.kept(runs, condition, key):.2f})'
            row.append(text)
        rows.append(row)
    return header, rows


def training(folder, width, first, *tasks):
    """Mean return of the training episodes by bins of `width` steps, and the evaluations, both
    from step `first` on; a row for each run."""
    width, first, groups = int(width), int(first), runs_of(folder)
    last = max(run.config.steps for task in tasks for runs in groups[task].values()
               for run in runs)
    bins = range(first // width, -(-last // width))
    header = ['training return, seed', *(
        f'{texts.short(k * width)} - {texts.short((k + 1) * width)}' for k in bins),
        f'evaluations from {texts.short(first)}']
    rows = []
    for task in tasks:
        for method, runs in groups[task].items():
            for run in runs:
                means = summaries.learning_curve([run], 'train', width)['mean'].reindex(bins)
                evaluations = run.returns('eval')
                rows.append([
                    f'{titled(task)}, {NAMES[method]} {run.config.seed}',
                    *('' if pd.isna(mean) else whole(mean) for mean in means),
                    ', '.join(map(whole, evaluations['return'][evaluations['step'] >= first]))])
    return header, rows


def summary(folder, *tasks):
    """Of --test: returns with nothing missing, and with every sensor dropping out at a chance of
    0.2; bold where each seed of a method is above all those of the others."""
    groups = runs_of(folder)
    methods = [NAMES[method] for method in groups[tasks[0]]]
    rows = []
    for task in tasks:
        group = groups[task]
        for ratio in 0.0, 0.2:
            judged = [[summaries.evaluations([run], 'ratio')['mean'][ratio] for run in runs]
                      for runs in group.values()]
            second = max(sorted(map(max, judged))[:-1], default=math.inf)
            means = [whole(sum(seeds) / len(seeds)) for seeds in judged]
            rows.append([f'{titled(task)}, {texts.condition_name("ratio", ratio)}', *(
                f'**{mean}**' if min(seeds) > second else mean
                for mean, seeds in zip(means, judged)),
                ', '.join(str(len(seeds)) for seeds in judged)])
    return ['judged return', *methods, 'seeds'], rows


def aggregate(folder, *tasks):
    """The methods over the tasks, of all or of those that are named, as `summaries.aggregate`,
    with 95 % intervals."""
    groups = {task: group for task, group in runs_of(folder).items() if task in tasks or not tasks}
    (title, *methods), rows = comparison.compared_methods(summaries.aggregate(groups))
    return [title, *map(NAMES.get, methods)], rows


def metrics(folder, *words):
    """Of metrics.csv: rows by their updates, and columns, each COLUMN:DIGITS."""
    columns = [word.rpartition(':')[::2] for word in words if ':' in word]
    frame = pd.read_csv(ROOT / folder / 'metrics.csv').set_index('updates')
    chosen = frame.loc[[int(word) for word in words if ':' not in word]]
    return (['updates', 'steps', *(f'`{name}`' for name, _ in columns)],
            [[str(updates), f'{row["step"]:,.0f}', *(
                f'{row[name]:.{digits}f}' for name, digits in columns)]
             for updates, row in chosen.iterrows()])


def faults(folder):
    """Of --test --corrupt of a method each, FOLDER/METHOD.csv, of those that are there: return ±
    standard deviation over episodes, and the share of what the method has without faults; a row
    for each fault."""
    columns, rows = {}, {}
    for method, name in NAMES.items():
        path = ROOT / folder / f'{method}.csv'
        if not path.exists():
            continue
        results = pd.read_csv(path, keep_default_na=False)
        results = results[(results['step'] == results['step'].max()) & (
            (results['condition'] == 'corrupt') |
            (results['condition'] == 'ratio') &
            (pd.to_numeric(results['ratio'], errors='coerce') == 0))]
        returns = results.groupby('sensor', sort=False)['return']
        columns[name] = returns.mean(), returns.std()
    for fault in next(iter(columns.values()))[0].index:
        title = texts.condition_name('corrupt', fault) if fault else texts.condition_name(*WHOLE)
        rows[title] = [
            f'{whole(means[fault])} ± {whole(deviations[fault])}' + (
                f' ({means[fault] / means[""]:.2f})' if fault else '')
            for means, deviations in columns.values()]
    return ['judged with', *columns], [[title, *cells] for title, cells in rows.items()]


@functools.cache
def runs_of(folder):
    return logs.load([ROOT / folder / 'runs'])


TABLES = {table.__name__: table for table in (
    judged, training, summary, aggregate, faults, metrics)}


def filled(page):
    """The text of a page with its tables as the runs have them."""
    def fill(match):
        name, *words = match[2].split()
        return match[1] + '\n'.join(comparison.markdown(*TABLES[name](*words)))
    return ASKED.sub(fill, page)


def main():
    for path in PAGES:
        page = path.read_text(encoding='utf-8')
        if (text := filled(page)) != page:
            path.write_text(text, encoding='utf-8', newline='\n')
            print(f'{path.relative_to(ROOT)}: tables written')


if __name__ == '__main__':
    os.chdir(ROOT)
    main()
