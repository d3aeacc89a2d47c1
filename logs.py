"""The CSV logs of runs, read: which runs there are and which of them may be compared.

Every folder that holds a config.json is a run. What is left out, or is unfinished, is said in a
printed line. Nothing is written into a run's folder.
"""

import codecs
import collections
import dataclasses
import json
import os
import textwrap

import numpy as np
import pandas as pd

import commandline
import config
import environments
import files
import provenance
import variants
from config import FREE, UserError  # the runs of one curve may differ in the settings FREE
from csv_log import MODES
from texts import CONDITIONS, short

OPTIONS = tuple(config.FIELDS)
METHODS = ('mummi', 'cvrl', 'dreamer')  # in the order of figures and tables
TEXT = ('mode', 'condition', 'sensor', 'options')  # columns of the logs that are not numbers
WORDS = {'mode': MODES, 'condition': CONDITIONS}  # all that these have


@dataclasses.dataclass
class Run:
    """A run: its folder, method (as `variants.name` names it), config.Config, episodes.csv,
    newest part of results.csv, `provenance.history`, and the step of the last row of metrics.csv
    where that tells whether it is finished; else, or where there is none, 0."""

    folder: str
    method: str
    config: config.Config
    episodes: pd.DataFrame
    results: pd.DataFrame
    history: dict
    updated: float = 0

    @property
    def script(self):
        """The name of the method without what makes another one of it."""
        return self.method.partition(', ')[0]

    @property
    def reached(self):
        """Steps at the end of the last episode; of an exported agent, which has none, those of
        what was judged."""
        return int(self.episodes['step'].max()) if len(self.episodes) else self.judged

    @property
    def judged(self):
        """Steps of the checkpoint that --test judged; 0 where none was."""
        return int(self.results['step'].max()) if len(self.results) else 0

    @property
    def finished(self):
        """Whether it has come to its end."""
        if not len(self.episodes):
            return self.reached >= self.config.steps
        if self.config.eval_episodes:  # the last of all that a run does
            steps = self.returns('eval')['step']
            return (steps >= self.config.steps).sum() >= self.config.eval_episodes
        # The last updates are made at the last step, or fewer than `train_every` before.
        if 0 < self.updated <= self.config.steps - self.config.train_every:
            return False
        # A run stops at its last step, in the middle of the episodes of its environments.
        longest = environments.time_limit(self.config) or (
            self.episodes['length'].max() if 'length' in self.episodes else 0)
        within = longest * self.config.envs
        return self.reached > self.config.steps - within

    def returns(self, mode):
        """Rows of the episodes of `mode` (prefill, train or eval), in order."""
        return self.episodes[self.episodes['mode'] == mode]


def text_of(path):
    """The text of a CSV file, by its byte order mark if it has one, as spreadsheets write it."""
    with open(path, 'rb') as file:
        content = file.read()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode('utf-16' if wide else 'utf-8-sig', errors='replace')
    return text.replace('\r\n', '\n').replace('\r', '\n')


def read(path, needed, others=()):
    """The readable rows of the CSV log at `path`; none if it is absent.

    needed: columns that must be there; those that are numbers must be finite. others: columns
    that must be there, whose cells may be empty. Lines that a kill or a full disk has cut are
    left out, and a printed line says how many.
    """
    empty = pd.DataFrame({name: pd.Series(dtype=str if name in TEXT else float)
                          for name in (*needed, *others)})
    try:
        *lines, rest = text_of(path).split('\n')
    except FileNotFoundError:
        return empty
    lines = [line.split(',') for line in lines if line]
    if len(lines) < 2:
        print(f'{path}: has no rows')
        return empty
    header, rows = lines[0], lines[1:]
    if twice := [name for name, count in collections.Counter(header).items() if count > 1]:
        print(f'{path}: left out, has the column {", ".join(twice)} more than once')
        return empty
    if absent := [name for name in (*needed, *others) if name not in header]:
        print(f'{path}: left out, has no column {", ".join(absent)}')
        return empty
    whole = [row for row in rows if len(row) == len(header)]
    frame = pd.DataFrame(whole, columns=header, dtype=str)
    for name in header:
        if name not in TEXT:
            frame[name] = pd.to_numeric(frame[name], errors='coerce').astype(float)
    numbers = [name for name in needed if name not in TEXT]
    frame = frame[np.isfinite(frame[numbers]).all(axis=1)]
    for name, known in WORDS.items():
        if name in frame:
            frame = frame[frame[name].isin(known)]
    frame = frame.reset_index(drop=True)
    # A last line without its end may lack digits even if no column is missing.
    if lost := len(rows) - len(frame) + bool(rest):
        print(f'{path}: {lost} damaged line{"s" * (lost > 1)} left out')
    return frame


def read_steps(path, needed):
    """As `read`, without the rows of what a resumed run did again: of the same episode (in an
    evaluation, of the same step) or updates; in logs without these columns, of later steps."""
    frame = read(path, needed)
    if {'episode', 'mode'} <= set(frame):
        # A resumed run with several environments may count from a lower step, with new episodes.
        evaluated = frame['mode'] == 'eval'
        again = pd.DataFrame({
            'episode': frame['episode'], 'evaluated': evaluated,
            'step': frame['step'].where(evaluated)}).duplicated(keep='last')
        again &= frame['episode'].notna()
    elif 'updates' in frame and 'mode' not in frame:
        again = frame['updates'].duplicated(keep='last') & frame['updates'].notna()
    else:
        again = frame['step'] > frame['step'][::-1].cummin()[::-1]
    if again.any():
        print(f'{path}: {again.sum()} rows left out, the resumed run repeated their steps')
    return frame[~again].reset_index(drop=True)


def load_run(folder):
    """The `Run` in `folder`; UserError if its config.json is absent or not readable, or a log is
    there and cannot be opened."""
    path = os.path.join(folder, 'config.json')
    try:
        settings, method = commandline.load(path)
    except OSError:
        raise UserError(f'{path} is not a readable configuration') from None
    history = provenance.history(path)
    path = os.path.join(folder, 'results.csv')
    try:
        episodes = read_steps(
            os.path.join(folder, 'episodes.csv'), ('step', 'seconds', 'mode', 'return'))
        results = read(path, ('step', 'condition', 'sensor', 'return'), ('ratio',))
        updated = 0 if settings.eval_episodes else max(read_steps(
            os.path.join(folder, 'metrics.csv'), ('step',))['step'], default=0)
    except OSError as error:
        raise UserError(f'{error.filename or folder}: {error.strerror or error}') from None
    if 'options' in results and (other := results['options'] != '').any():
        print(f'{path}: {other.sum()} rows left out, judged with '
              + ', '.join(results['options'][other].unique()))
        results = results[~other]
    damaged = (results['condition'] == 'ratio') & ~np.isfinite(results['ratio'])
    if lost := int(damaged.sum()):
        print(f'{path}: {lost} damaged line{"s" * (lost > 1)} left out')
        results = results[~damaged]
    newest = results['step'] == results['step'].max()
    if not newest.all():
        print(f'{path}: {(~newest).sum()} rows of older checkpoints left out')
    method = variants.name(method, settings)
    return Run(folder, method, settings, episodes, results[newest].reset_index(drop=True),
               history, updated)


def run_folders(indirs):
    """The folders of all runs at or below the folders `indirs`, links followed, each once,
    sorted."""
    if absent := [indir for indir in indirs if not os.path.isdir(indir)]:
        raise UserError(f'there is no folder {absent[0]}')
    found, seen = {}, set()
    for indir in indirs:
        for folder, inside, names in os.walk(
                indir, followlinks=True, onerror=lambda error: print(
                    f'{error.filename}: left out, {error.strerror}')):
            place = os.path.realpath(folder)
            if place in seen:  # by another link, or one that leads back
                inside.clear()
            elif 'config.json' in names:
                found[place] = folder
            seen.add(place)
    if not found:
        raise UserError(f'no run at or below {", ".join(map(str, indirs))}: no folder there holds '
                        'a config.json')
    return sorted(found.values())


def outside(outdir, indirs):
    """UserError where `outdir` is in a run at or below the folders `indirs`: nothing is written
    there but by the run."""
    target = os.path.realpath(outdir)
    for folder in run_folders(indirs):
        if os.path.commonpath([target, os.path.realpath(folder)]) == os.path.realpath(folder):
            raise UserError(f'{outdir} is in the run {folder}; choose another --outdir')


def load(indirs, methods=(), tasks=(), by=()):
    """Dict of task -> method -> list of comparable runs at or below the folders `indirs`.

    methods, tasks: the names to keep, a method with its ablations; default: all. by: settings
    whose values set curves apart: they become part of a method's name, as 'mummi, value_rate
    0.001'. UserError if nothing is left.
    """
    if unknown := [name for name in by if name not in OPTIONS]:
        raise UserError(f'no setting is named {", ".join(unknown)}; there are {", ".join(OPTIONS)}')
    found = collections.defaultdict(list)
    seen = set()
    for folder in run_folders(indirs):
        try:
            run = load_run(folder)
        except UserError as error:
            print(f'{folder}: left out, {error}')
            continue
        seen |= {run.script, run.config.task}
        if not len(run.episodes) and not len(run.results):
            print(f'{folder}: left out, no episode yet')
        elif wanted(run, methods, tasks):
            run.method = ', '.join(
                [run.method, *(f'{name} {getattr(run.config, name)}' for name in by)])
            found[run.config.task, run.method].append(run)
    for key, runs in found.items():
        found[key] = without_copies(runs)
    if not found:
        raise UserError(
            f'no run with an episode at or below {", ".join(map(str, indirs))} for these methods '
            'and tasks')
    say_absent(seen, methods, tasks)
    groups = {}
    for task, method in sorted(found, key=lambda key: (key[0], order(key[1]))):
        runs = groups.setdefault(task, {})[method] = comparable(found[task, method])
        for run in runs:
            if not run.finished:
                print(f'{run.folder}: unfinished, {progress(run)}')
            for change in run.history['changes']:
                print(f'{run.folder}: other settings {change}')
        if len({run.config.seed for run in runs}) < len(runs):
            print(f'{task}, {method}: several runs have the same seed; each counts as a seed')
    for task, group in groups.items():
        asked = sorted({run.config.steps for runs in group.values() for run in runs})
        if len(asked) > 1:
            print(f'{task}: runs of different lengths, {", ".join(map(short, asked))} steps')
        steps = sorted({run.judged for runs in group.values() for run in runs if run.judged})
        if len(steps) > 1:
            print(f'{task}: judged at different steps, {", ".join(map(short, steps))} '
                  '(table.md says which)')
        others = [name for name in differences([runs[0] for runs in group.values()])
                  if name not in by]
        if others:
            print(f'{task}: the {"curves" if by else "methods"} differ in {", ".join(others)}')
    return groups


def wanted(run, methods, tasks):
    """Whether `run` is of the `methods` and `tasks` that were asked for; none: of all."""
    return run.script in (methods or [run.script]) and (
        run.config.task in (tasks or [run.config.task]))


def say_absent(seen, methods, tasks):
    """A line on each name of `methods` and `tasks` that no run has: `seen` are those of runs."""
    for option, names in ('methods', methods), ('tasks', tasks):
        for name in names:
            if name not in seen:
                print(f'--{option} {name}: no run here')


def without_copies(runs):
    """The runs without exported agents of the settings and seed of another among them that has come
    as far, which would count twice; a run that was not judged has what they returned at its end. A
    printed line names them."""
    agents = [run for run in runs if files.exported(run.folder)]
    kept = [run for run in runs if not files.exported(run.folder)]
    for agent in agents:
        own = [run for run in kept if (
            agent.config.steps <= run.config.steps or agent.judged <= run.reached) and (
            run.config.seed, settings_of(run)) == (agent.config.seed, settings_of(agent))]
        if not own:
            kept.append(agent)
            continue
        print(f'{agent.folder}: left out, of the settings and seed of {own[0].folder}')
        if not len(own[0].results) and agent.judged >= own[0].reached:
            own[0].results = agent.results
    return kept


def order(method):
    """Sorting key: this project's methods first, then the others by name; those of one script by
    what makes another method of it, numbers by their size."""
    script, *words = method.split(', ')
    return (METHODS.index(script) if script in METHODS else len(METHODS), script,
            [_by_size(word) for word in words])


def _by_size(word):
    name, _, value = word.rpartition(' ')
    try:
        return name, 0, float(value), ''
    except ValueError:
        return name, 1, 0.0, value


def methods_of(groups):
    """The methods of all tasks, in their order."""
    return sorted({method for group in groups.values() for method in group}, key=order)


def settings_of(run):
    lacked = FREE | variants.lacks(run.script)
    return {name: json.dumps(value if config.FIELDS[name].type in (int, bool) else _fraction(value),
                             sort_keys=True)
            for name, value in dataclasses.asdict(run.config).items() if name not in lacked}


def _fraction(value):
    """Numbers as they are where they may have fractions: 0 is 0.0."""
    if isinstance(value, dict):
        return {key: _fraction(number) for key, number in value.items()}
    return float(value) if isinstance(value, int) else value


def differences(runs):
    """Names of the settings in which `runs` differ, apart from those in FREE; one that a method has
    not is none."""
    settings = [settings_of(run) for run in runs]
    return [name for name in config.FIELDS
            if len({values[name] for values in settings if name in values}) > 1]


def comparable(runs):
    """The largest part of `runs` with equal settings (of equal parts that which is further); a
    printed line names the others and the settings that set them apart."""
    parts = collections.defaultdict(list)
    for run in runs:
        parts[tuple(settings_of(run).values())].append(run)
    kept = max(parts.values(), key=lambda part: (
        len(part), sum(run.finished for run in part), sum(run.reached for run in part)))
    for run in runs:
        if names := differences([kept[0], run]):
            said = ', '.join(f'{name} is {getattr(run.config, name)}, not '
                             f'{getattr(kept[0].config, name)}' for name in names)
            print(f'{run.folder}: left out, its settings differ from the other runs: {said}')
    return kept


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
