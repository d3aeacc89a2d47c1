"""The pages of results/ say what lies there, and its tables are drawn from the runs beside them."""

import csv
import importlib.util
import json
import pathlib
import re
import shlex
import statistics

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


SPEC = importlib.util.spec_from_file_location('tables', RESULTS / 'tables.py')
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)
WITH_TABLES = [path for path in tables.PAGES
               if tables.ASKED.search(path.read_text(encoding='utf-8'))]


@pytest.mark.parametrize('path', WITH_TABLES, ids=lambda path: path.parent.name)
def test_tables_of_a_page_are_those_of_its_runs(path):
    page = path.read_text(encoding='utf-8')
    assert tables.filled(page) == page, 'make results writes them again'


def test_which_pages_have_tables_that_are_written():
    count = {path.parent.relative_to(ROOT).as_posix(): len(
        tables.ASKED.findall(path.read_text(encoding='utf-8'))) for path in WITH_TABLES}
    assert count == {'.': 1, 'results/hour': 3, 'results/paper': 1, 'results/study': 11,
                     'results/wiping': 1}


def rows_of(folder, name='episodes.csv'):
    with open(ROOT / folder / name, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_a_cell_of_each_kind_of_table_is_the_mean_of_the_rows_of_a_log():
    """By another way than the tables': the logs' rows, picked and averaged by hand."""
    page = (RESULTS / 'study' / 'README.md').read_text(encoding='utf-8')
    folders = [f'results/study/runs/dmc_walker_stand/cvrl/{seed}' for seed in range(4)]
    own = [float(row['return']) for row in rows_of(folders[1])
           if row['mode'] == 'train' and 30000 < float(row['step']) <= 40000]
    line = next(line for line in page.splitlines() if line.startswith('| walker_stand, CVRL 1 |'))
    assert int(line.split(' | ')[2]) == round(statistics.mean(own))
    evaluated = [float(row['return']) for row in rows_of(folders[1])
                 if row['mode'] == 'eval' and float(row['step']) >= 20000]
    assert line.split(' | ')[-1].strip(' |') == ', '.join(f'{value:.0f}' for value in evaluated)

    whole, touch = ([[float(row['return']) for row in rows_of(folder, 'results.csv')
                      if row['condition'] == condition and row[column] == value]
                     for folder in folders] for condition, column, value in (
                         ('ratio', 'ratio', '0'), ('only', 'sensor', 'touch')))
    full, mean = (statistics.mean(map(statistics.mean, returns)) for returns in (whole, touch))
    deviation = statistics.stdev([value for returns in touch for value in returns])
    line = next(line for line in page.splitlines() if line.startswith('| touch alone |'))
    assert line.split(' | ')[2] == f'{mean:.0f} ± {deviation:.0f} ({mean / full:.2f})'
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    line = next(line for line in readme.splitlines()
                if line.startswith('| walker_stand, nothing missing |'))
    assert line.split(' | ')[2].strip('*') == f'{full:.0f}'


def test_bold_is_a_lead_of_every_seed():
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    rows = re.findall(
        r'^\| (\w+), (nothing missing|drop-out chance 0.2) \|(.*)', readme, re.MULTILINE)
    assert len(rows) == 8
    for task, condition, cells in rows:
        ratio = '0.2' if '0.2' in condition else '0'
        seeds = [[statistics.mean(
            float(row['return']) for row in rows_of(path.parent, path.name)
            if row['condition'] == 'ratio' and row['ratio'] == ratio)
            for path in (RESULTS / 'study' / 'runs' / f'dmc_{task}' / method).glob('*/results.csv')]
            for method in ('mummi', 'cvrl', 'dreamer')]
        for own, cell in zip(seeds, cells.split('|')):
            others = [value for other in seeds if other is not own for value in other]
            assert ('**' in cell) == (min(own) > max(others)), (task, condition, cell)
    _, (rows, _) = tables.summary('results/hour', 'dmc_walker_stand')  # where there is a lead
    assert rows[1:4] == ['**686**', '396', '278']


def test_readme_has_the_means_over_the_tasks_of_the_study():
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    rows = rows_of('results/study/figures', 'aggregate.csv')
    numbers = [round(100 * float(row[name])) for row in rows if row['at'] == 'final'
               for name in ('point', 'low', 'high')]
    assert ('MuMMI has {} % of the largest return (95 % interval {} to {}), CVRL {} % ({} to {}) '
            'and Dreamer {} % ({} to {})').format(*numbers) in readme


def test_the_page_of_the_study_counts_the_pairs_of_seeds():
    page = (ROOT / 'results/study/README.md').read_text(encoding='utf-8')
    groups = logs.load([ROOT / 'results/study/runs'])
    def pairs(score):
        return [one > other for group in groups.values()
                for one in map(score, group['mummi']) for other in map(score, group['cvrl'])]
    final = pairs(summaries.final_return)
    judged = pairs(lambda run: summaries.evaluations([run], 'ratio')['mean'][0.0])
    assert (f"Of the {len(final)} pairs of seeds on one task MuMMI's is the higher in {sum(final)} "
            f'at the end of training, and in {sum(judged)} when they are judged') in page


def test_readme_has_the_returns_of_the_hour():
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    _, rows = tables.judged('results/hour', 'dmc_walker_stand', 'dmc_walker_walk')
    nothing, *means = (cell.partition(' ')[0] for cell in rows[0])
    assert nothing == 'nothing'
    assert ('judged at {}, {} and {} on walker_stand, and at {}, {} and {} on '
            'walker_walk').format(*means) in readme


def test_faults_are_compared_with_what_was_judged_with_nothing_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, 'ROOT', tmp_path)
    rows = [(step, 'ratio', '', ratio, value)
            for step, ratio, value in ((10, 0, 5), (20, 0, 100), (20, 0.1, 60), (20, 0.2, 20))]
    pd.DataFrame([*rows, (20, 'corrupt', 'image=noise:0.1', '', 80)], columns=[
        'step', 'condition', 'sensor', 'ratio', 'return']).to_csv(tmp_path / 'mummi.csv')
    _, rows = tables.faults('.')
    assert [row[0] for row in rows] == ['nothing missing', 'fault image=noise:0.1']
    assert rows[0][1].startswith('100 ') and rows[1][1].endswith('(0.80)')
