"""The pages of results/ say what lies there, and its tables are drawn from the runs beside them."""

import json
import pathlib
import re
import shlex

import pandas as pd
import pytest

import logs
import plotting
import relations
import summaries

ROOT = pathlib.Path(plotting.__file__).parent
RESULTS = ROOT / 'results'
QUESTIONS = sorted(path.name for path in RESULTS.iterdir() if (path / 'runs').is_dir())


def plotting_commands(text):
    """Arguments of each command `plotting.py ...` of a page or of the Makefile."""
    lines = re.sub(r'\\\n\s*', '', text).splitlines()
    return [shlex.split(line.partition('plotting.py')[2], comments=True) for line in lines
            if re.match(r'\s+\S*python plotting\.py ', line)]


def drawn_into(arguments):
    return arguments[arguments.index('--outdir') + 1]


DRAWN = {drawn_into(arguments): arguments for arguments in plotting_commands(
    (ROOT / 'Makefile').read_text(encoding='utf-8')) if 'results/' in drawn_into(arguments)}


@pytest.mark.parametrize('question', QUESTIONS)
def test_tables_of_a_question_are_those_that_its_runs_give(question, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(plotting, 'save', lambda *arguments: None)  # pictures take the time
    figures = RESULTS / question / 'figures'
    arguments = list(DRAWN[f'results/{question}/figures'])
    arguments[arguments.index('--outdir') + 1] = str(tmp_path)
    plotting.main(arguments)
    # index.html holds the same again, and the pictures; it is drawn and not kept.
    written, kept = ({path.name: path.read_bytes() for path in folder.iterdir()
                      if path.suffix in ('.csv', '.md')} for folder in (tmp_path, figures))
    assert {'table.csv', 'table.md', 'returns.csv'} <= set(written)
    assert written == kept, 'make results draws them again'


@pytest.mark.parametrize('question', QUESTIONS)
def test_page_of_a_question_has_answer_runs_revision_and_the_commands_of_make(question):
    page = (RESULTS / question / 'README.md').read_text(encoding='utf-8')
    heading, answer, *_ = page.split('\n\n')
    assert heading.startswith('# ') and heading.endswith('?')
    assert answer.startswith('**')
    commands = plotting_commands(page)
    assert DRAWN[f'results/{question}/figures'] in commands
    assert all(drawn_into(arguments) in (f'results/{question}/figures', 'plots')
               for arguments in commands)
    assert re.search(r'^    (taskset.*)?python (mummi|cvrl|dreamer)\.py ', page, re.MULTILINE)
    runs = page.partition('## Runs\n')[2]
    assert re.search(r'\b[0-9a-f]{7}\b', runs)
    index = (RESULTS / 'README.md').read_text(encoding='utf-8')
    assert f']({question}/README.md)' in index
    for revision in re.findall(r'\b(?=\w*\d)[0-9a-f]{7}\b', runs):
        assert revision in index
    assert len(index.splitlines()) <= 60


def test_every_run_lies_at_its_task_and_method_under_a_question():
    found = sorted(RESULTS.rglob('config.json'))
    assert found
    for path in found:
        settings = json.loads(path.read_text(encoding='utf-8'))
        folder = path.parent.relative_to(ROOT)
        assert settings['logdir'] == folder.as_posix()
        assert folder.parts[2:5] == ('runs', settings['task'], settings['method'])
        assert (path.parent / 'episodes.csv').exists()
        assert (path.parent / 'metrics.csv').exists()


def test_page_of_the_agreement_says_what_its_command_finds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    page, makefile = ((path).read_text(encoding='utf-8') for path in (
        RESULTS / 'agreement' / 'README.md', ROOT / 'Makefile'))
    commands = [re.findall(r'python relations\.py (.*)', re.sub(r'\\\n\s*', '', text))
                for text in (page, makefile)]
    assert commands[0] == commands[1] and len(commands[0]) == 1
    arguments = shlex.split(commands[0][0])
    arguments[arguments.index('--outdir') + 1] = str(tmp_path)
    monkeypatch.setattr(relations.drawing, 'save', lambda *arguments: None)
    relations.main(arguments)
    kept = (RESULTS / 'agreement' / 'figures' / 'relations.csv').read_bytes()
    assert (tmp_path / 'relations.csv').read_bytes() == kept
    for text in re.findall(r'rank correlation ([\d.]+) \(p = ([\d.]+), 9 runs\)',
                           capsys.readouterr().out):
        assert '{} (p = {})'.format(*text) in page


METHODS = 'mummi', 'cvrl', 'dreamer'
WALKER = [(f'dmc_walker_{task}', method) for task in ('stand', 'walk') for method in METHODS]
OTHERS = [*(('dmc_cheetah_run', method) for method in METHODS),
          *(('dmc_finger_spin', method) for method in METHODS)]


def found(question, columns):
    """What a table says of a condition -> [(mean, deviation of episodes)], a column for each
    (task, method) of `columns`; and their means of training by bins."""
    groups = logs.load([RESULTS / question / 'runs'])
    judged = {}
    for part, name in (
            ('ratio', 'drop-out chance {:g}'), ('without', '{} gone'), ('only', '{} alone')):
        for task, method in columns:
            for key, row in summaries.evaluations(groups[task][method], part).iterrows():
                judged.setdefault(name.format(key), []).append((row['mean'], row['deviation']))
    judged['nothing'] = judged.pop('drop-out chance 0')
    curves = pd.read_csv(RESULTS / question / 'figures' / 'returns.csv').groupby(
        ['task', 'method'])['mean']
    return judged, [curves.get_group(column).round().astype(int).tolist() for column in columns]


def told(judged):
    """Condition -> the cells of a page's table."""
    return {name: [
        f'{mean:.0f} ± {deviation:.0f}' + f' ({mean / full:.2f})' * (name != 'nothing')
        for (mean, deviation), (full, _) in zip(row, judged['nothing'], strict=True)]
        for name, row in judged.items()}


def cells(page, head):
    """First cell -> the others of the table whose head begins so."""
    rows = page.partition(f'| {head} |')[2].partition('\n\n')[0].splitlines()[2:]
    return {name: rest for name, *rest in (row.strip('| ').split(' | ') for row in rows)}


def test_tables_of_the_hour_are_those_of_its_runs():
    judged, curves = found('hour', WALKER)
    page = (RESULTS / 'hour' / 'README.md').read_text(encoding='utf-8')
    assert cells(page, 'missing') == told(judged) and len(judged) == 10
    for row, curve in zip(cells(page, 'training return').values(), curves, strict=True):
        numbers = [int(cell) for cell in row[:12] if cell.strip()]
        assert numbers == curve[6:]  # from 80,000 steps on


def test_readme_has_the_returns_of_the_study_and_of_the_hour():
    """Each number of its table; which is in bold is the largest."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    groups = logs.load([RESULTS / 'study' / 'runs'])
    rows = cells(readme, 'judged return')
    assert len(rows) == 2 * len(groups) == 8
    for name, (*row, seeds) in rows.items():
        task, _, condition = name.partition(', ')
        columns = [(f'dmc_{task}', method) for method in METHODS]
        judged, _ = found('study', columns)
        wanted = [round(mean) for mean, _ in judged[condition.removesuffix(' missing')]]
        assert [int(cell.strip('*')) for cell in row] == wanted, name
        assert ['**' in cell for cell in row] == [mean == max(wanted) for mean in wanted], name
        counts = [str(len(groups[task][method])) for task, method in columns]
        assert seeds == ', '.join(counts), name
    hour = [round(mean) for mean, _ in found('hour', WALKER)[0]['nothing']]
    assert 'on walker_stand {}, {} and {}, on walker_walk {}, {} and {}'.format(*hour) in readme


def test_tables_of_the_study_are_those_of_its_runs():
    page = (RESULTS / 'study' / 'README.md').read_text(encoding='utf-8')
    for columns, head in (WALKER, 'stand: MuMMI'), (OTHERS, 'cheetah: MuMMI'):
        judged, curves = found('study', columns)
        assert cells(page, f'missing | {head}') == told(judged) and len(judged) == 10
        rows = cells(page, 'training return')
        for (task, method), curve in zip(columns, curves, strict=True):
            name = f'{task.split("_")[2 if "walker" in task else 1]}, {method}'
            # Of MuMMI's seeds on walker_stand, a row each, the means are of both.
            seeds = [row[:8] for key, row in rows.items() if key.lower().startswith(name)]
            assert seeds
            means = [sum(map(int, bins)) / len(seeds) for bins in zip(*seeds, strict=True)]
            assert means == pytest.approx(curve, abs=0.5 * len(seeds))


def test_table_of_the_default_preset_is_that_of_its_run():
    folder = RESULTS / 'paper'
    page = (folder / 'README.md').read_text(encoding='utf-8')
    metrics = pd.read_csv(folder / 'runs/dmc_walker_walk/mummi/0/metrics.csv').set_index('updates')
    digits = {'image_loss': 2, 'depth_loss': 2, 'find_image_depth': 2, 'divergence': 1,
              'imagined_reward': 2, 'value': 1, 'actor_entropy': 0}
    rows = cells(page, 'updates')
    assert list(rows) == ['10', '70', '100', '200', '300', '400', '420']
    for updates, (steps, *told) in rows.items():
        row = metrics.loc[int(updates)]
        assert steps == f'{row["step"]:,.0f}'
        assert told == [f'{row[name]:.{places}f}' for name, places in digits.items()], updates
