"""Figures and tables: numbers against plain loops, damaged logs, and files that show something."""

import csv
import json
import math
import os
import shutil
import statistics
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from scipy import stats

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import commandline
import comparison
import conditions
import config
import drawing
import environments
import files
import logs
import plotting
import references
import summaries
import texts
from palette import GREY

EPISODES = ('step', 'updates', 'seconds', 'mode', 'return', 'length', 'missing_image')
RESULTS = ('step', 'condition', 'sensor', 'ratio', 'missing_image', 'return', 'length', 'seed',
           'episode')
WALK, RUN = 'dmc_walker_walk', 'dmc_cheetah_run'


def write(path, header, rows):
    with open(path, 'w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([header, *rows])


def make(root, task=WALK, method='mummi', seed=0, count=20, steps=20000, level=100.0,
         results=True, **settings):
    """A run of `count` episodes of 1000 steps: two of prefill, an evaluation at each fifth.

    Training episode n returns level + 10 n; evaluations return level + 5. Returns its folder.
    """
    folder = os.path.join(root, task, method, str(seed))
    os.makedirs(folder)
    settings.setdefault('refine_actions', True)  # as the scripts of MuMMI and CVRL do
    commandline.save(config.Config(logdir=folder, task=task, seed=seed, steps=steps, **settings),
                method, os.path.join(folder, 'config.json'))
    rows = []
    for number in range(1, count + 1):
        kind = 'prefill' if number <= 2 else 'train'
        value = 7.0 if kind == 'prefill' else level + 10 * number
        rows.append((1000 * number, number, 90 * number, kind, value, 1000, 0.05))
        if number % 5 == 0:
            rows.append((1000 * number, number, 90 * number, 'eval', level + 5, 1000, 0.05))
    write(os.path.join(folder, 'episodes.csv'), EPISODES, rows)
    write(os.path.join(folder, 'metrics.csv'), ('step', 'updates', 'seconds', 'model_loss'),
          [(1000 * number, number, 90 * number, 9 / number) for number in range(1, count + 1)])
    if results:
        rows = [(1000 * count, 'ratio', '', ratio, ratio, level * (1 - ratio) + 10 * episode,
                 1000, 9, episode) for ratio in (0, 0.1) for episode in range(3)]
        rows += [(1000 * count, condition, sensor, '', 0.5, level / 2 + episode, 1000, 9, episode)
                 for condition in ('without', 'only') for sensor in ('touch', 'image')
                 for episode in range(3)]
        write(os.path.join(folder, 'results.csv'), RESULTS, rows)
    return folder


def content(root):
    return {os.path.join(folder, name): open(os.path.join(folder, name), 'rb').read()
            for folder, _, names in os.walk(root) for name in names}


def shows_something(path):
    """Whether a PNG holds more than a blank page: many colours, and some part that is dark."""
    pixels = imread(path)[..., :3]
    return pixels.std() > 0.02 and pixels.min() < 0.2 and len(np.unique(pixels)) > 20


def drawn(outdir):
    return {name[:-4] for name in os.listdir(outdir) if name.endswith('.png')}


def test_one_run(tmp_path):
    folder = make(tmp_path / 'in')
    before = content(tmp_path / 'in')
    for indir in (tmp_path / 'in', folder):  # above the run, and the run itself
        outdir = tmp_path / ('out' + str(indir == folder))
        plotting.main(['--indir', str(indir), '--outdir', str(outdir), '--metrics', 'model_loss'])
        assert drawn(outdir) == {
            'returns', 'returns_eval', 'missing_ratio', 'single_sensor', 'losses'}
    assert content(tmp_path / 'in') == before


def test_all_figures_show_something(tmp_path, capsys):
    for task in (WALK, RUN):
        for level, method in ((300, 'mummi'), (200, 'dreamer'), (100, 'brand_new')):
            for seed in range(3):
                make(tmp_path / 'in', task, method, seed, level=level + 9 * seed)
    plotting.draw([tmp_path / 'in'], tmp_path / 'out', smooth=3, metrics=('model_loss',))
    names = {'returns', 'returns_eval', 'missing_ratio', 'single_sensor', 'aggregate', 'losses'}
    assert drawn(tmp_path / 'out') == names
    for name in names:
        assert shows_something(tmp_path / 'out' / f'{name}.png'), name
        pdf = (tmp_path / 'out' / f'{name}.pdf').read_bytes()
        assert pdf.startswith(b'%PDF') and len(pdf) > 5000
    assert 'unfinished' not in capsys.readouterr().out


def test_blank_page_is_told_apart(tmp_path):
    figure, (axes,) = drawing.panels([''])
    axes.remove()
    figure.savefig(tmp_path / 'blank.png')
    assert not shows_something(tmp_path / 'blank.png')


def saving(monkeypatch, look):
    """Calls look(figure, name) after each figure that is saved."""
    def save(figure, caption, outdir, name):
        drawing.save(figure, caption, outdir, name)
        look(figure, name)
        return name
    for module in (plotting, conditions):
        monkeypatch.setattr(module, 'save', save)


def bars(axes):
    """[(place, lower end, upper end)] of the error bars of axes, in order."""
    return sorted(
        (x, low, high) for container in axes.containers
        if isinstance(container, matplotlib.container.ErrorbarContainer)
        for lines in container.lines[2] for (x, low), (_, high) in lines.get_segments())


@pytest.fixture
def pictured(tmp_path, monkeypatch):
    """(method -> runs, name -> figure) of two methods with three seeds each on one task."""
    for level, method in ((300, 'mummi'), (150, 'dreamer')):
        for seed in range(3):
            make(tmp_path / 'in', method=method, seed=seed, level=level + 10 * seed ** 2)
    figures = {}
    saving(monkeypatch, lambda figure, name: figures.update({name: figure}))
    plotting.draw([tmp_path / 'in'], tmp_path / 'out')
    (group,) = logs.load([tmp_path / 'in']).values()
    return group, figures


def test_curves_are_those_of_the_table(pictured):
    group, figures = pictured
    width = summaries.default_bin([run for runs in group.values() for run in runs], 'train')
    for method, runs in group.items():
        curve = summaries.learning_curve(runs, 'train', width)
        (line,) = [line for line in figures['returns'].axes[0].lines
                   if line.get_label().startswith(method)]
        np.testing.assert_allclose(line.get_xdata(), curve['at'])
        np.testing.assert_allclose(line.get_ydata(), curve['mean'])


def test_what_was_judged_is_drawn_at_its_place_and_height(pictured):
    group, figures = pictured
    wanted, axes = [], figures['single_sensor'].axes[0]
    columns = [tuple(text.get_text().split('\n')) for text in axes.get_xticklabels()]
    assert columns[0] == ('all', 'sensors') and len(set(columns)) == 5
    drawn_bars = [container for container in axes.containers if isinstance(
        container, matplotlib.container.BarContainer)]
    for index, (runs, drawn_) in enumerate(zip(group.values(), drawn_bars, strict=True)):
        rows = {part: summaries.evaluations(runs, part) for part in ('ratio', 'without', 'only')}
        for ratio, row in rows['ratio'].iterrows():
            wanted.append((ratio + (index - 0.5) * 0.08 * 0.1,
                           row['mean'] - row['deviation'], row['mean'] + row['deviation']))
        heights = [rows['ratio'].loc[0], *(rows[part].loc[name] for part, name in columns[1:])]
        np.testing.assert_allclose(
            [bar.get_height() for bar in drawn_], [row['mean'] for row in heights])
        centres = [bar.get_x() + bar.get_width() / 2 for bar in drawn_]
        np.testing.assert_allclose(centres, np.arange(5) + (index - 0.5) * 0.4)
    np.testing.assert_allclose(bars(figures['missing_ratio'].axes[0]), sorted(wanted))


def test_interquartile_means_are_drawn_with_their_intervals(pictured):
    group, figures = pictured
    frame = summaries.aggregate({WALK: group})
    ended = frame['at'] == 'final'
    final, others = figures['aggregate'].axes
    np.testing.assert_allclose(bars(final), [
        (place, row['low'], row['high']) for place, (_, row) in enumerate(frame[ended].iterrows())])
    np.testing.assert_allclose(
        sorted(ends[1:] for ends in bars(others)), sorted(
            (row['low'], row['high']) for _, row in frame[~ended].iterrows()))
    for axes, rows in (final, frame[ended]), (others, frame[~ended]):
        points = [container.lines[0].get_ydata() for container in axes.containers]
        np.testing.assert_allclose(sorted(np.concatenate(points)), sorted(rows['point']))


@pytest.mark.parametrize('by', [(), ('value_rate', 'horizon')])
def test_nothing_overlaps_or_is_clipped(by, tmp_path, monkeypatch):
    """Panels with their labels, the legends and the caption, as they are placed on the page."""
    for number, task in enumerate((WALK, RUN, 'dmc_finger_spin', 'dmc_cup_catch')):
        for method in ('mummi', 'cvrl', 'dreamer'):
            for seed in range(3):
                make(tmp_path / 'in', task, method, seed, count=20 - seed * number)
    figures = {}
    saving(monkeypatch, lambda figure, name: figures.update({name: figure}))
    plotting.draw([tmp_path / 'in'], tmp_path / 'out', metrics=('model_loss',), by=by)
    assert len(figures) == 6
    for name, figure in figures.items():
        boxes = [axes.get_tightbbox() for axes in figure.axes]
        boxes.append(figure._suptitle.get_window_extent())
        for index, box in enumerate(boxes):
            assert box.x0 >= 0 and box.y0 >= 0, name
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, name
            assert not any(box.overlaps(other) for other in boxes[index + 1:]), name
        for axes in figure.axes:
            labels = axes.xaxis.label.get_window_extent()
            assert not axes.get_legend().get_window_extent().overlaps(labels), name
            assert not axes.get_legend().get_window_extent().overlaps(axes.bbox), name


def test_learning_curve_against_loops(tmp_path):
    levels = {0: (100.0, 20), 1: (160.0, 20), 2: (400.0, 12)}
    for seed, (level, count) in levels.items():
        make(tmp_path, seed=seed, level=level, count=count)
    runs = logs.load([tmp_path])[WALK]['mummi']
    curve = summaries.learning_curve(runs, 'train', 3000)
    assert list(curve.index) == list(range(7))
    for index, row in curve.iterrows():
        means = []
        for level, count in levels.values():
            inside = [level + 10 * number for number in range(3, count + 1)
                      if index * 3000 < 1000 * number <= (index + 1) * 3000]
            if inside:
                means.append(statistics.mean(inside))
        assert row['runs'] == len(means) == (3 if index < 4 else 2)
        assert row['mean'] == pytest.approx(statistics.mean(means))
        assert row['deviation'] == pytest.approx(statistics.stdev(means))
    assert curve['at'][1] == 5000  # the mean of 4000, 5000 and 6000
    # An episode takes 90 seconds: bins of 270 hold the same episodes.
    timed = summaries.learning_curve(runs, 'train', 270, against='seconds')
    assert list(timed['mean']) == list(curve['mean']) and timed['at'][1] == 450


def test_curve_of_one_run_gaps_and_smoothing(tmp_path):
    folder = make(tmp_path)
    write(os.path.join(folder, 'episodes.csv'), EPISODES, [
        (step, 1, 1, 'train', value, 1000, 0)
        for step, value in ((1000, 10), (2000, 30), (5000, 60))])
    (run,) = logs.load([tmp_path])[WALK]['mummi']
    curve = summaries.learning_curve([run], 'train', 1000)
    assert list(curve['mean']) == [10, 30, 40, 50, 60] and curve['deviation'].isna().all()
    smooth = summaries.learning_curve([run], 'train', 1000, smooth=3)
    assert list(smooth['mean']) == pytest.approx([20, 80 / 3, 40, 50, 55])
    assert not len(summaries.learning_curve([run], 'eval', 1000))


def test_default_bin(tmp_path):
    make(tmp_path / 'in')
    make(tmp_path / 'in', seed=1, count=400)
    groups = logs.load([tmp_path / 'in'])
    assert summaries.default_bin(logs.everyone(groups), 'train') == 10000
    assert summaries.default_bin(groups[WALK]['mummi'][:1], 'train') == 1000
    assert summaries.default_bin(groups[WALK]['mummi'][:1], 'eval') == 5000


@pytest.mark.parametrize('text, kept, said', [
    ('', 0, 'has no rows'),
    (','.join(EPISODES) + '\r\n', 0, 'has no rows'),
    ('step,return\n1000,5\n', 0, 'has no column mode'),
    ('step,mode,return\n1000,train,5\n2000,train,61', 1, '1 damaged line left out'),
    ('step,mode,return\n1000,train,5\n2000,tr', 1, '1 damaged line left out'),
    ('step,mode,return,step\n1000,train,5,1000\n', 0, 'has the column step more than once'),
    ('step,mode,return\n1000,train,5\n20\0\0\n3000,train,x\n4000,train,nan\n5000,train,7\n', 2,
     '3 damaged lines left out'),
    ('step,mode,return\n1000,train,5\n2000,train,6\n', 2, None),
])
def test_damaged_logs(tmp_path, capsys, text, kept, said):
    path = tmp_path / 'episodes.csv'
    path.write_text(text)
    frame = logs.read_steps(str(path), ('step', 'mode', 'return'))
    assert len(frame) == kept
    assert list(frame['return'])[:1] == [5.0][:kept]
    printed = capsys.readouterr().out
    assert (f'{path}: ' in printed and said in printed) if said else not printed


def test_damaged_runs_do_not_stop_the_others(tmp_path, capsys):
    damaged = {seed: make(tmp_path / 'in', seed=seed) for seed in range(4)}
    open(os.path.join(damaged[0], 'episodes.csv'), 'w').close()
    os.remove(os.path.join(damaged[0], 'results.csv'))
    write(os.path.join(damaged[1], 'results.csv'), RESULTS, [])
    with open(os.path.join(damaged[2], 'config.json'), 'w') as file:
        file.write('{"method": "mum')
    for seed, name in (4, 'episodes.csv'), (5, 'results.csv'):
        damaged[seed] = make(tmp_path / 'in', seed=seed)
        os.remove(os.path.join(damaged[seed], name))
        os.mkdir(os.path.join(damaged[seed], name))  # which no one can read, like others' files
    damaged[6] = make(tmp_path / 'in', seed=6)
    with open(os.path.join(damaged[6], 'config.json'), 'w') as file:
        file.write('[' * 100_000)
    groups = logs.load([tmp_path / 'in'])
    printed = capsys.readouterr().out
    assert f'{damaged[0]}: left out, no episode yet' in printed
    assert printed.count('not a readable configuration') == 2
    for seed, name in (4, 'episodes.csv'), (5, 'results.csv'):
        path = os.path.join(damaged[seed], name)
        assert f'{damaged[seed]}: left out, {path}: Is a directory' in printed
    assert comparison.table(groups)['seeds'].tolist() == [2]
    plotting.draw_missing_ratio(groups, tmp_path)
    assert drawn(tmp_path) == {'missing_ratio'}


def test_resumed_run_counts_no_step_twice(tmp_path, capsys):
    path = tmp_path / 'episodes.csv'
    write(path, ('step', 'mode', 'return'), [
        (step, 'train', step + offset) for step, offset in (
            (1000, 0), (2000, 0), (3000, 0), (4000, 0), (2500, 1), (3500, 1), (4500, 1))])
    frame = logs.read_steps(str(path), ('step', 'mode', 'return'))
    assert list(frame['return']) == [1000, 2000, 2501, 3501, 4501]
    assert '2 rows left out' in capsys.readouterr().out


@pytest.mark.parametrize('header, rows, kept', [
    # Resumed with several environments: it counts from a lower step, with new episodes.
    ('mode,episode', ['1000,train,0', '2000,train,1', '2000,eval,0', '1500,train,2',
                      '2500,train,3', '2600,eval,0'], [0, 1, 2, 3, 4, 5]),
    ('mode,episode', ['1000,train,0', '2000,train,1', '2000,eval,0', '2000,eval,0',
                      '2000,train,1', '3000,train,'], [0, 3, 4, 5]),
    ('updates', ['1000,10', '2000,20', '1900,20', '2900,30'], [0, 2, 3])])
def test_what_a_resumed_run_did_again_is_told_by_its_number(header, rows, kept, tmp_path):
    (tmp_path / 'log.csv').write_text(
        '\n'.join([f'step,{header},place', *(f'{row},{place}' for place, row in enumerate(rows))])
        + '\n')
    frame = logs.read_steps(str(tmp_path / 'log.csv'), ('step', 'place'))
    assert frame['place'].tolist() == kept


def test_an_exported_agent_is_judged_as_far_as_it_came_and_never_counts_twice(tmp_path, capsys):
    run = make(tmp_path / 'in', level=300.0)
    agent = make(tmp_path / 'agents', level=300.0)
    os.remove(os.path.join(agent, 'episodes.csv'))
    (tmp_path / 'agents' / WALK / 'mummi' / '0' / files.WEIGHTS).touch()
    (alone,) = logs.load([tmp_path / 'agents'])[WALK]['mummi']
    assert alone.finished and alone.reached == alone.judged == 20000
    assert 'unfinished' not in capsys.readouterr().out
    (found,) = logs.load([tmp_path / 'agents', tmp_path / 'in'])[WALK]['mummi']
    assert found.folder == run
    assert f'{agent}: left out, of the settings and seed of {run}' in capsys.readouterr().out
    os.remove(os.path.join(run, 'results.csv'))
    (found,) = logs.load([tmp_path / 'agents', tmp_path / 'in'])[WALK]['mummi']
    assert found.folder == run and found.judged == 20000 and found.returns('train').size


def test_a_figure_that_cannot_be_written_is_one_line(tmp_path, capsys):
    make(tmp_path / 'in')
    (tmp_path / 'out' / 'returns.png').mkdir(parents=True)
    with pytest.raises(SystemExit) as stopped:
        plotting.main(['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'out')])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count('\n') == 1
    assert error.startswith(f'error: {tmp_path / "out" / "returns.png"}: ')


def test_returns_are_compared_by_the_largest_that_a_task_has(tmp_path):
    for seed in range(3):
        make(tmp_path, 'wipe_table', seed=seed, level=100.0)
    frame = summaries.aggregate(logs.load([tmp_path])).set_index('at')
    assert frame['point'][0.0] == pytest.approx(110 / 200, 1e-3)
    for task, time_limit, largest in (
            ('dmc_walker_walk', 0, 1000), ('dmc_walker_walk', 100, 100),
            ('gym_Pendulum-v1', 0, None),
            ('dmc_lqr_lqr_2_1', 0, None)):  # 1 minus a cost that has no bound, and it ends early
        found = config.Config(task=task, time_limit=time_limit)
        assert environments.largest_return(found) == largest


def test_unfinished_is_named(tmp_path, capsys):
    folder = make(tmp_path, count=12, steps=2_000_000)
    other = make(tmp_path, seed=1, count=20)
    (run, finished) = logs.load([tmp_path])[WALK]['mummi']
    printed = capsys.readouterr().out
    assert f'{folder}: unfinished, 12k of 2M steps' in printed and other not in printed
    assert logs.label('mummi', [run]) == 'mummi (unfinished: 12k of 2M steps)'
    assert logs.label('mummi', [finished]) == 'mummi'
    assert logs.label('mummi', [run, finished]) == (
        'mummi, 2 seeds (1 unfinished: 12k of 2M steps)')
    # The last evaluation tells, since the episodes of many environments may all end early.
    for settings, ended in (
            ({}, True), ({'steps': 20001}, False), ({'steps': 24000, 'envs': 8}, False),
            ({'steps': 20500, 'envs': 8, 'eval_episodes': 0}, True),
            ({'steps': 24000, 'envs': 8, 'eval_episodes': 0}, False),
            ({'steps': 28000, 'envs': 8, 'eval_episodes': 0}, False)):
        folder = make(tmp_path / str(settings), steps=settings.pop('steps', 20000), **settings)
        assert logs.load_run(folder).finished == ended
    assert [texts.short(steps) for steps in (600, 120e3, 1.25e6, 1_999_999)] == [
        '600', '120k', '1.25M', '1.999M']


def test_other_settings_are_left_out(tmp_path, capsys):
    make(tmp_path, seed=0, precision='float32', envs=1)
    make(tmp_path, seed=1, precision='bfloat16', envs=4)
    odd = make(tmp_path, seed=2, miss_ratio={'image': 0.5}, horizon=9)
    make(tmp_path, method='dreamer', horizon=9, expert_width=7)  # which Dreamer has not
    groups = logs.load([tmp_path])
    assert [run.config.seed for run in groups[WALK]['mummi']] == [0, 1]
    printed = capsys.readouterr().out.splitlines()
    (line,) = [line for line in printed if line.startswith(odd)]
    assert "miss_ratio is {'image': 0.5}, not 0.05" in line and 'horizon is 9, not 15' in line
    assert 'envs' not in line and 'precision' not in line
    assert f'{WALK}: the methods differ in horizon' in printed


def test_runs_of_several_folders_are_drawn_together_each_once(tmp_path, capsys):
    first, second = make(tmp_path / 'a', seed=0), make(tmp_path / 'b', seed=1)
    again = os.path.relpath(second)  # under another name
    plotting.main(['--indir', str(tmp_path / 'a'), str(tmp_path / 'b'), '--indir', again,
                   '--outdir', str(tmp_path / 'out')])
    assert 'the same seed' not in capsys.readouterr().out
    (runs,) = logs.load([tmp_path / 'a', tmp_path / 'b', again])[WALK].values()
    assert {os.path.realpath(run.folder) for run in runs} == {str(first), str(second)}
    assert '| 2 |' in (tmp_path / 'out' / 'table.md').read_text()
    with pytest.raises(config.UserError, match='there is no folder .*absent'):
        logs.load([tmp_path / 'a', tmp_path / 'absent'])


def test_values_of_a_setting_are_compared_as_methods_are(tmp_path, capsys):
    for seed, rate in enumerate((1e-3, 1e-3, 8e-5)):
        make(tmp_path / 'in', seed=seed, value_rate=rate, level=100.0 * seed)
    make(tmp_path / 'in', method='cvrl', seed=3, value_rate=1e-3)
    groups = logs.load([tmp_path / 'in'], by=('value_rate', 'horizon'))[WALK]
    assert [(name, [run.config.seed for run in runs]) for name, runs in groups.items()] == [
        ('mummi, value_rate 8e-05, horizon 15', [2]),
        ('mummi, value_rate 0.001, horizon 15', [0, 1]),
        ('cvrl, value_rate 0.001, horizon 15', [3])]
    printed = capsys.readouterr().out
    assert 'left out' not in printed and 'differ' not in printed
    assert len(logs.load([tmp_path / 'in'])[WALK]['mummi']) == 2
    plotting.main(['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'out'),
                   '--by', 'value_rate', '--methods', 'mummi'])
    assert 'mummi, value_rate 8e-05' in (tmp_path / 'out' / 'table.md').read_text()
    assert shows_something(tmp_path / 'out' / 'returns.png')
    with pytest.raises(SystemExit) as ended:
        plotting.main(['--indir', str(tmp_path / 'in'), '--by', 'rate'])
    assert ended.value.code == 2
    assert 'no setting is named rate' in capsys.readouterr().err


def test_reference_is_drawn_beside_the_curves_of_its_task(tmp_path, monkeypatch, capsys):
    for task in WALK, RUN:
        make(tmp_path / 'in', task=task)
    path = str(tmp_path / 'reference.csv')
    write(path, ('task', 'step', 'low', 'return', 'high', 'name'), [
        (WALK, 10000, 50, 80, 100, 'theirs'), (WALK, 20000, 70, 90, 120, 'theirs')])
    bars = {}
    monkeypatch.setattr(plotting, 'save', lambda figure, caption, outdir, name: bars.update({
        (name, axes.get_title()): [
            (box.get_label(), *box.lines[0].get_data(), box.lines[2][0].get_segments())
            for box in axes.containers] for axes in figure.axes} if 'returns' in name else {}))
    arguments = ['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'out')]
    plotting.main([*arguments, '--reference', path])
    ((label, steps, returns, spread),) = bars['returns', 'walker walk']
    assert label == 'theirs' and list(steps) == [10000, 20000] and list(returns) == [80, 90]
    assert [list(ends[:, 1]) for ends in spread] == [[50, 100], [70, 120]]
    assert bars['returns_eval', 'walker walk'] and not bars['returns', 'cheetah run']
    write(path, ('task', 'step', 'low', 'return', 'high', 'name'), [
        (WALK, 10000, 50, 80, 100, 2020)])
    plotting.main([*arguments, '--reference', path])
    assert bars['returns', 'walker walk'][0][0] == '2020'
    for bad in tmp_path / 'absent.csv', tmp_path / 'in' / RUN / 'mummi' / '0' / 'episodes.csv':
        with pytest.raises(SystemExit) as ended:
            plotting.main([*arguments, '--reference', str(bad)])
        assert ended.value.code == 2
        said = f'{bad} is not a table' if bad.exists() else f'--reference {bad} cannot be read (No'
        assert said in capsys.readouterr().err
    write(path, ('task', 'step', 'low', 'return', 'high', 'name'), [
        (WALK, 10000, 90, 80, 100, 'theirs')])
    with pytest.raises(SystemExit) as ended:
        plotting.main([*arguments, '--reference', path])
    assert ended.value.code == 2
    assert 'a return is not between its low and its high' in capsys.readouterr().err
    write(path, ('task', 'step', 'low', 'return', 'high', 'name'), [
        ('walker_walk', 10000, 50, 80, 100, 'theirs')])
    plotting.main([*arguments, '--reference', path])
    assert f'--reference has no rows of {RUN}, {WALK}' in capsys.readouterr().out


def test_numbers_from_far_beyond_the_curves_stand_at_the_margin_with_their_steps(
        tmp_path, monkeypatch):
    """Marks without a line and without a colour of a method; the axis stays that of the run."""
    make(tmp_path / 'in')
    path = str(tmp_path / 'reference.csv')
    write(path, ('task', 'step', 'low', 'return', 'high', 'natural', 'name'), [
        (WALK, 10000, 50, 80, 100, '', 'near'), (WALK, 5000000, '', 900, '', 'True', 'far'),
        (WALK, 5000000, '', 800, '', 'False', 'elsewhere')])
    figures = {}
    monkeypatch.setattr(plotting, 'save', lambda figure, caption, outdir, name: figures.update(
        {name: figure.axes[0]}))
    arguments = ['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'out'),
                 '--reference', path]
    plotting.main(arguments)
    axes = figures['returns']
    marks = {box.get_label(): box.lines[0] for box in axes.containers}
    assert set(marks) == {'near', 'far, after 5M steps'}  # the run has natural backgrounds
    (step,), (value,) = marks['far, after 5M steps'].get_data()
    assert 20000 < step < 24000 and value == 900
    assert axes.get_xlim()[1] < 25000 and axes.get_ylim()[1] > 900
    assert {line.get_color() for line in marks.values()} == {GREY}
    assert {line.get_linestyle() for line in marks.values()} == {'None'}
    plotting.main([*arguments, '--whose', 'ea'])
    assert {box.get_label() for box in figures['returns'].containers} == {'near'}
    # Beyond the curve, and not so far: the margin is to the right of it.
    write(path, ('task', 'step', 'low', 'return', 'high', 'natural', 'name'), [
        (WALK, 40000, 50, 80, 100, '', 'near'), (WALK, 5000000, '', 900, '', 'True', 'far')])
    plotting.main(arguments)
    marks = {box.get_label(): box.lines[0] for box in figures['returns'].containers}
    assert 40000 < marks['far, after 5M steps'].get_xdata()[0] < 48000


def test_name_that_no_number_has_is_answered_by_the_names_there_are(tmp_path, capsys):
    make(tmp_path / 'in')
    path = os.path.join(os.path.dirname(plotting.__file__), 'results', 'published.csv')
    with pytest.raises(SystemExit) as ended:
        plotting.main(['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'out'),
                       '--reference', path, '--whose', 'PlaNet'])
    assert ended.value.code == 2
    assert 'CVRL without planning (CVRL paper' in capsys.readouterr().err


def test_published_numbers_are_those_of_two_papers_each_under_its_own_backgrounds():
    frame = references.read(
        os.path.join(os.path.dirname(plotting.__file__), 'results', 'published.csv'))
    natural = frame[frame['natural'] == 'True']
    whose = natural['name'].str.partition(' (')[0]
    table = natural.assign(name=whose).pivot(index='task', columns='name', values='return')
    assert table.shape == (10, 7) and table.notna().all(axis=None)
    assert set(natural['step']) == {5e6}
    assert table.loc['dmc_quadruped_walk', 'CVRL without SAC'] == 213.5
    assert table['CVRL'].sum().round(1) == 7273.3 and table['Dreamer'].sum().round(1) == 1115.3
    assert set(frame[frame['natural'] == 'False']['step']) == {105000, 205000}


def test_ablations_are_curves_of_their_own_names(tmp_path, capsys):
    for number, settings in enumerate([
            {}, {'obs_model': 'generative'}, {'use_sac': True}, {'refine_actions': False}]):
        make(tmp_path / 'in', method='cvrl', seed=number, **settings)
    make(tmp_path / 'in', method='dreamer', refine_actions=False)
    groups = logs.load([tmp_path / 'in'], methods=('cvrl',))
    assert list(groups[WALK]) == [
        'cvrl', 'cvrl, generative', 'cvrl, no planning', 'cvrl, with SAC']
    assert 'left out' not in capsys.readouterr().out
    assert list(logs.load([tmp_path / 'in'])[WALK])[-1] == 'dreamer'


@pytest.mark.parametrize('largest, scale', [(50, 'linear'), (5000, 'symlog')])
def test_a_metric_of_which_one_run_diverges_has_a_logarithmic_axis(
        largest, scale, tmp_path, monkeypatch):
    folder = make(tmp_path / 'in')
    write(os.path.join(folder, 'metrics.csv'), ('step', 'value_loss'), [
        (1000 * number, largest if number == 9 else -2) for number in range(1, 21)])
    found = []
    monkeypatch.setattr(plotting, 'save', lambda figure, caption, outdir, name: found.append(
        figure.axes[0].get_yscale()) if name == 'losses' else None)
    plotting.draw([tmp_path / 'in'], tmp_path / 'out', metrics=('value_loss',))
    assert found == [scale]


def test_many_curves_keep_their_colours_apart_and_their_panels_high(tmp_path):
    for seed in range(9):
        make(tmp_path / 'in', seed=seed, horizon=seed + 2)
    groups = logs.load([tmp_path / 'in'], by=('horizon',))
    style = plotting.styles(plotting.methods_of(groups))
    assert len(style) == len({colour for colour, _ in style.values()}) == 9
    heights = {}
    for name, by in ('one', ()), ('many', ('horizon',)):
        (tmp_path / name).mkdir()
        plotting.draw_returns(logs.load([tmp_path / 'in'], by=by), tmp_path / name)
        pixels = imread(tmp_path / name / 'returns.png')[..., :3]
        dark = (pixels < 0.15).all(2)
        heights[name] = dark.sum(0).max()  # of the axis line at the left
    assert heights['many'] > 0.85 * heights['one']


def test_evaluations_against_loops(tmp_path):
    for seed, level in enumerate((100.0, 200.0)):
        make(tmp_path, seed=seed, level=level)
    rows = summaries.evaluations(logs.load([tmp_path])[WALK]['mummi'], 'ratio')
    for ratio in (0, 0.1):
        values = [[level * (1 - ratio) + 10 * episode for episode in range(3)]
                  for level in (100.0, 200.0)]
        assert rows['mean'][ratio] == pytest.approx(statistics.mean(map(statistics.mean, values)))
        assert rows['deviation'][ratio] == pytest.approx(statistics.stdev(values[0] + values[1]))
        assert rows['runs'][ratio] == 2 and rows['episodes'][ratio] == 6
    only = summaries.evaluations(logs.load([tmp_path])[WALK]['mummi'], 'only')
    assert list(only.index) == ['image', 'touch'] and only['mean']['image'] == 76


def test_mean_counts_seeds_equally_and_the_newest_checkpoint_only(tmp_path, capsys):
    for seed, values in enumerate(([10, 10, 10, 10], [90])):
        folder = make(tmp_path, seed=seed)
        write(os.path.join(folder, 'results.csv'), RESULTS, [
            (500, 'ratio', '', 0, 0, 999, 1000, 9, 0),
            *((1000, 'ratio', '', 0, 0, value, 1000, 9, 0) for value in values)])
    rows = summaries.evaluations(logs.load([tmp_path])[WALK]['mummi'], 'ratio')
    assert rows['mean'][0] == 50
    assert capsys.readouterr().out.count('1 rows of older checkpoints left out') == 2


def test_table_says_at_which_checkpoints_and_how_many_seeds_were_judged(tmp_path, capsys):
    make(tmp_path / 'in', seed=0)
    make(tmp_path / 'in', seed=1, results=False)
    make(tmp_path / 'in', method='cvrl', count=10)
    groups = logs.load([tmp_path / 'in'])
    assert f'{WALK}: judged at different steps, 10k, 20k' in capsys.readouterr().out
    comparison.write_table(groups, tmp_path)
    assert '| (steps of the checkpoint) | 20k, 1 of 2 seeds | 10k |' in (
        tmp_path / 'table.md').read_text().splitlines()


def test_rows_that_were_judged_under_other_settings_are_left_out(tmp_path, capsys):
    folder = make(tmp_path)
    write(os.path.join(folder, 'results.csv'), (*RESULTS, 'options'), [
        (1000, 'ratio', '', 0, 0, value, 1000, 9, number, options)
        for number, (value, options) in enumerate((
            (10, ''), (20, ''), (99, 'natural=False'), (98, 'render=full envs=2')))])
    rows = summaries.evaluations(logs.load([tmp_path])[WALK]['mummi'], 'ratio')
    assert rows['mean'][0] == 15 and rows['episodes'][0] == 2
    assert '2 rows left out, judged with natural=False, render=full envs=2' in (
        capsys.readouterr().out)


def test_faults_are_a_figure_and_rows_of_their_own(tmp_path):
    for seed in range(2):
        folder = make(tmp_path / 'in', seed=seed)
        with open(os.path.join(folder, 'results.csv'), 'a', encoding='utf-8') as file:
            for fault, value in ('image=noise:0.1', 60), ('image=noise:0.1+touch=delay:3', 30):
                for episode in range(3):
                    file.write(f'20000,corrupt,{fault},0,0,{value + episode},1000,9,{episode}\n')
    make(tmp_path / 'in', method='cvrl')
    plotting.draw([tmp_path / 'in'], tmp_path / 'out')
    assert drawn(tmp_path / 'out') == {
        'returns', 'returns_eval', 'missing_ratio', 'single_sensor', 'corrupted'}
    assert shows_something(tmp_path / 'out' / 'corrupted.png')
    with open(tmp_path / 'out' / 'table.csv', encoding='utf-8') as file:
        mummi, cvrl = csv.DictReader(file)
    assert float(mummi['corrupt_image=noise:0.1']) == 61
    assert float(mummi['corrupt_image=noise:0.1_kept']) == pytest.approx(61 / 110)
    assert cvrl['corrupt_image=noise:0.1'] == ''
    lines = (tmp_path / 'out' / 'table.md').read_text().splitlines()
    assert '| fault image=noise:0.1 | 61 ± 1 (0.55) |  |' in lines
    assert '| fault image=noise:0.1 + touch=delay:3 | 31 ± 1 (0.28) |  |' in lines
    assert not any('corrupt' in line for line in lines)


def test_interquartile_mean_against_a_loop():
    random = np.random.default_rng(0)
    for count in range(1, 30):
        values = random.exponential(size=count).tolist()
        cut = math.floor(count / 4)
        middle = sorted(values)[cut:count - cut]
        assert summaries.interquartile_mean(values) == pytest.approx(sum(middle) / len(middle))
    assert summaries.interquartile_mean([0, 5, 6, 1000]) == 5.5


def test_interval_of_one_task_is_that_of_a_trimmed_mean():
    scores = [0.1, 0.5, 0.6, 0.7, 0.9, 0.3, 0.4, 0.2]  # two are cut at each end, four are kept
    point, low, high = summaries.interval([np.array(scores)])
    assert point == pytest.approx(statistics.mean((0.3, 0.4, 0.5, 0.6)))
    winsorised = statistics.stdev([0.3] * 3 + [0.4, 0.5] + [0.6] * 3)
    half = stats.t.ppf(0.985, 3) * winsorised * math.sqrt(7 / (4 * 3))  # Yuen's standard error
    assert (point - low, high - point) == pytest.approx((half, half))


def test_interval_of_a_mean_over_tasks():
    tasks = [np.array([0.1, 0.3]), np.array([0.5, 0.6, 0.7]), np.array([0.2, 0.2])]
    point, low, high = summaries.mean_interval(tasks)
    assert point == pytest.approx((0.2 + 0.6 + 0.2) / 3)
    parts = 0.02 / 2, 0.01 / 3  # variances of the means; the last task's is none
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts)) / 3
    assert (point - low, high - point) == pytest.approx((half, half))
    assert summaries.mean_interval([np.full(2, 0.25)] * 3) == (0.25, 0.25, 0.25)


def test_interval_of_a_mean_over_tasks_holds_it_95_percent_of_the_time():
    """Also where the runs of one task vary much more than those of another."""
    random, held = np.random.default_rng(0), []
    for tasks in 3, 4, 10:
        for shape in (2, 5), (4, 1), (0.8, 3):
            for scale in np.ones(tasks), random.uniform(0.15, 1, tasks):
                drawn = scale[:, None] * random.beta(*shape, (2000, tasks, 2))
                truth = np.mean(scale * shape[0] / sum(shape))
                found = np.array([summaries.mean_interval(scores) for scores in drawn])
                held.append(np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])))
    assert 0.95 < np.mean(held) < 0.98 and min(held) > 0.92 and max(held) < 0.99, held


@pytest.mark.parametrize('function, ratio, runs, least, most', [
    (summaries.mean_interval, 20, 2, 0.82, 0.94), (summaries.interval, 2, 3, 0.88, 0.99),
    (summaries.interval, 3, 3, 0.78, 0.99)])
def test_intervals_promise_less_where_one_task_varies_much_more_than_the_others(
        function, ratio, runs, least, most):
    """As their docstrings say: few runs cannot tell how much it is."""
    random, held = np.random.default_rng(0), []
    for tasks in 3, 10:
        for shape in (2, 5), (4, 1), (0.8, 3):
            scale = np.full(tasks, 1 / ratio)
            scale[0] = 1
            drawn = scale[:, None] * random.beta(*shape, (10_000, tasks, runs))
            truth = np.mean(scale * shape[0] / sum(shape)) if (
                function is summaries.mean_interval) else summaries.interquartile_mean(
                    drawn.reshape(len(drawn), -1), 1).mean()
            found = np.array([function(scores) for scores in drawn[:1000]])
            held.append(np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])))
    assert min(held) > least and max(held) < most, held


def test_interval_varies_within_tasks_and_narrows_with_runs():
    random = np.random.default_rng(1)
    scores = [random.normal(0.5 + 0.1 * task, 0.1, size=200) for task in range(3)]
    widths = []
    for count in (3, 12, 50, 200):
        point, low, high = summaries.interval([task[:count] for task in scores])
        assert low < point < high
        assert point == pytest.approx(summaries.interquartile_mean(
            np.concatenate([task[:count] for task in scores])))
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True) and widths[-1] < widths[0] / 4
    assert summaries.interval([np.full(4, 0.1), np.full(4, 0.9)]) == pytest.approx((0.5,) * 3)


def test_interval_holds_95_percent_of_skewed_returns_of_few_runs():
    """How often it holds the mean over many experiments of so many runs."""
    random, held = np.random.default_rng(0), {}
    skewed = {'beta 2, 5': (2, 5), 'beta 4, 1': (4, 1), 'beta 0.8, 3': (0.8, 3)}
    designs = [[runs] * tasks for tasks in (1, 2, 5, 10) for runs in (3, 5, 10)]
    designs += [[2] * 3, [2] * 4, [2] * 10, [2, 2, 3, 3], [2, 2, 5]]
    for name, shape in skewed.items():
        for runs in designs:
            apart = np.repeat(random.uniform(0, 1, len(runs)), runs)
            drawn = apart + random.beta(*shape, (10_000, sum(runs)))
            truth = summaries.interquartile_mean(drawn, 1).mean()
            found = np.array([summaries.interval(np.split(scores, np.cumsum(runs)[:-1]))
                              for scores in drawn[:400]])
            held[name, *runs] = np.mean((found[:, 1] <= truth) & (truth <= found[:, 2]))
    assert 0.94 < np.mean(list(held.values())) < 0.97, held
    assert min(held.values()) > 0.88 and max(held.values()) < 0.996, held


def test_interval_holds_for_runs_like_those_of_the_study():
    """Of four runs of one task and three of each other, with the means and deviations that
    results/study found, whatever the shape of their distribution."""
    random, held = np.random.default_rng(0), []
    designs = {'mummi': ((0.52, 0.255, 0.145, 0.175), (0.075, 0.06, 0.06, 0.07)),
               'cvrl': ((0.48, 0.24, 0.115, 0.17), (0.1, 0.06, 0.03, 0.065)),
               'dreamer': ((0.245, 0.135, 0.075, 0.04), (0.03, 0.07, 0.03, 0.02))}
    for means, deviations in designs.values():
        for shape in (2, 5), (4, 1), (0.8, 3):
            tasks = []
            for mean, deviation, count in zip(means, deviations, (4, 3, 3, 3)):
                drawn = random.beta(*shape, (10_000, count))
                tasks.append(mean + deviation * (drawn - drawn.mean()) / drawn.std())
            truth = summaries.interquartile_mean(np.concatenate(tasks, 1), 1).mean()
            found = np.array([summaries.interval([task[draw] for task in tasks])
                              for draw in range(1000)])
            held.append(np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])))
    assert min(held) > 0.92 and 0.94 < np.mean(held) < 0.97, held


def extremes(tmp_path, monkeypatch, **settings):
    """Figure's name -> list of (lowest, highest) of its axes, of what `make` was told."""
    found = {}
    saving(monkeypatch, lambda figure, name: found.update(
        {name: [axes.get_ylim() for axes in figure.axes]}))
    for seed in range(3):
        make(tmp_path / 'in', seed=seed, **settings)
    plotting.draw([tmp_path / 'in'], tmp_path / 'out')
    return found


def test_negative_returns_are_drawn(tmp_path, monkeypatch):
    found = extremes(tmp_path, monkeypatch, level=-500.0)
    assert set(found) == {'returns', 'returns_eval', 'missing_ratio', 'single_sensor', 'aggregate'}
    for name, limits in found.items():  # single sensors return half
        lowest = {'aggregate': -0.2, 'single_sensor': -240}.get(name, -440)
        assert all(low < lowest and high >= 0 for low, high in limits), name


def test_returns_that_are_not_negative_start_at_zero(tmp_path, monkeypatch):
    found = extremes(tmp_path, monkeypatch, level=5.0)  # the deviations reach below zero
    assert all(low == 0 for limits in found.values() for low, _ in limits)


NAMES = ('$x_1$', '{a}_b', '_hidden', 'a$b', '100 %', 'x^2$^', '\\alpha')


def test_names_are_drawn_as_they_are(tmp_path, monkeypatch):
    for seed, name in enumerate(NAMES):
        make(tmp_path / 'in', method=f'm{seed}', level=100.0 * seed)
        path = tmp_path / 'in' / WALK / f'm{seed}' / '0' / 'config.json'
        path.write_text(path.read_text().replace(f'"m{seed}"', json.dumps(name)))
        metrics = path.with_name('metrics.csv')
        write(metrics, ('step', '$loss_1$'), [(1000, 1), (2000, 2 + 900 * (seed > 3))])
    texts = {}

    def look(figure, name):
        texts[name] = [text.get_text().strip() for axes in figure.axes
                       for text in axes.get_legend().get_texts()]
        for text in figure.findobj(matplotlib.text.Text):
            assert not text._preprocess_math(text.get_text())[1], text
    saving(monkeypatch, look)
    plotting.draw([tmp_path / 'in'], tmp_path / 'out', metrics=('$loss_1$',))
    for name in 'returns', 'returns_eval', 'losses', 'missing_ratio', 'single_sensor':
        assert set(NAMES) <= set(texts[name]), name
        assert shows_something(tmp_path / 'out' / f'{name}.png')


@pytest.mark.parametrize('encoding, ends', [
    ('utf-8-sig', '\n'), ('utf-8-sig', '\r\n'), ('utf-16', '\r\n'), ('utf-8', '\r')])
def test_tables_of_spreadsheets_are_read(tmp_path, encoding, ends, capsys):
    folder = make(tmp_path / 'in')
    reference = tmp_path / 'reference.csv'
    write(reference, ('task', 'step', 'low', 'return', 'high', 'name'), [
        (WALK, 10000, 50, 80, 100, 'theirs')])
    wanted = logs.load_run(folder)
    for path in (*(os.path.join(folder, name) for name in (
            'episodes.csv', 'results.csv', 'metrics.csv')), reference):
        with open(path, encoding='utf-8') as file:
            text = file.read().replace('\n', ends)
        with open(path, 'w', encoding=encoding, newline='') as file:
            file.write(text)
    found = logs.load_run(folder)
    pd.testing.assert_frame_equal(found.episodes, wanted.episodes)
    pd.testing.assert_frame_equal(found.results, wanted.results)
    assert len(logs.read_steps(os.path.join(folder, 'metrics.csv'), ('step', 'model_loss'))) == 20
    assert list(references.read(reference)['name']) == ['theirs']
    assert not capsys.readouterr().out


def test_links_to_runs_are_followed_once_each(tmp_path):
    first, second = make(tmp_path / 'store', seed=0), make(tmp_path / 'store', seed=1)
    indir = tmp_path / 'in'
    (indir / 'deep').mkdir(parents=True)
    for name, target in (
            ('one', first), ('again', first), ('deep/two', second), ('deep/back', indir),
            ('gone', tmp_path / 'nowhere'), ('self', indir / 'self')):
        (indir / name).symlink_to(target)
    for indirs in [indir], [indir, first], [first, indir, tmp_path / 'store']:
        found = logs.run_folders(indirs)
        assert sorted(map(os.path.realpath, found)) == [first, second]


def test_folders_of_any_name_are_read_and_written(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make(tmp_path / 'runs [1]* %s {x} $y')
    reference = tmp_path / 'other.csv'
    write(reference, ('task', 'step', 'low', 'return', 'high', 'name'), [
        (WALK, 10000, 50, 80, 100, 'theirs')])
    words = ['--indir=~/runs [1]* %s {x} $y', '--reference=~/other.csv']
    for outdir in '~/plots', 's3://out [1]* %s {x} $y', b'\xff'.decode(errors='surrogateescape'):
        if outdir.isprintable():
            plotting.main([*words, f'--outdir={outdir}'])
        else:  # what is printed is no text
            subprocess.run([sys.executable, plotting.__file__, *words, f'--outdir={outdir}'],
                           env=os.environ | {'PYTHONUTF8': '1'}, stdout=subprocess.PIPE, check=True)
        assert {'returns.png', 'returns.csv', 'table.csv', 'table.md'} <= set(
            os.listdir(os.path.expanduser(outdir)))
    assert not os.path.exists('~')


def test_of_equal_parts_of_differing_runs_that_which_is_further_is_kept(tmp_path, capsys):
    make(tmp_path, seed=0, count=5, horizon=9)  # a quarter of it
    make(tmp_path, seed=1)
    assert [run.config.seed for run in logs.load([tmp_path])[WALK]['mummi']] == [1]
    assert 'mummi/0: left out, its settings differ' in capsys.readouterr().out
    make(tmp_path, seed=2, count=5, horizon=9)  # two of one kind
    assert [run.config.seed for run in logs.load([tmp_path])[WALK]['mummi']] == [0, 2]


@pytest.mark.parametrize('count, columns, wanted', [
    (1, 3, (1, 1)), (3, 3, (1, 3)), (4, 3, (2, 2)), (5, 3, (2, 3)), (8, 4, (2, 4)), (2, 1, (2, 1))])
def test_panels_fill_their_rows(count, columns, wanted):
    figure, axes = drawing.panels([f'dmc_task_{number}' for number in range(count)], columns)
    assert axes[0].get_subplotspec().get_gridspec().get_geometry() == wanted
    assert len(axes) == len(figure.axes) == count


def test_a_bar_in_a_name_does_not_end_a_cell():
    header, _, row = comparison.markdown(['a|b', 'c'], [('d|e', 1)])
    assert header == '| a\\|b | c |' and row == '| d\\|e | 1 |'


def test_aggregate_compares_shared_tasks_of_enough_runs(tmp_path, capsys):
    for seed in range(3):
        make(tmp_path, WALK, 'mummi', seed, level=100.0 * (seed + 1))
        make(tmp_path, WALK, 'cvrl', seed, level=50.0)
        make(tmp_path, RUN, 'mummi', seed, level=900.0)
    make(tmp_path, WALK, 'dreamer', refine_actions=False)
    frame = summaries.aggregate(logs.load([tmp_path])).set_index(['method', 'at'])
    assert set(frame.index) == {(method, at) for method in ('mummi', 'cvrl')
                                for at in ('final', 0.0, 0.1)}
    assert set(frame['runs']) == {3} and set(frame['tasks']) == {1}
    assert frame['point']['mummi', 0.0] == pytest.approx((110 + 210 + 310) / 3 / 1000)
    assert frame['point']['cvrl', 'final'] == pytest.approx((50 + 195) / 1000)
    printed = capsys.readouterr().out
    assert f'aggregate: dreamer on {WALK} left out, it has 1 of 3 comparable runs' in printed
    assert f'aggregate: {RUN} left out, not all methods have it' in printed


@pytest.mark.parametrize('tasks', [2, 3])
def test_two_runs_are_enough_of_three_tasks(tmp_path, capsys, tasks):
    names = [WALK, RUN, 'dmc_finger_spin']
    for seed in range(2):
        for level, task in enumerate(names[:tasks]):
            make(tmp_path, task, 'mummi', seed, level=100.0 * (level + seed))
            make(tmp_path, task, 'cvrl', seed, level=50.0)
    make(tmp_path, names[0], 'mummi', 2, level=0.0)  # one more run is no reason to leave it out
    frame = summaries.aggregate(logs.load([tmp_path])).set_index(['method', 'at'])
    printed = capsys.readouterr().out
    if tasks == 2:
        assert set(frame.index.get_level_values('method')) == {'mummi'}  # by its three runs
        assert f'aggregate: cvrl on {RUN} left out, it has 2 of 3 comparable runs' in printed
        return
    assert frame['runs']['mummi', 0.0] == 7 and frame['runs']['cvrl', 0.0] == 6
    assert set(frame['tasks']) == {3} and 'left out' not in printed
    # Of two runs of a task the middle half would tell too little.
    assert set(frame['statistic']) == {'mean'}
    assert frame['point']['mummi', 0.0] == pytest.approx((130 / 3 + 160 + 260) / 3 / 1000)
    assert (frame['low'] <= frame['point']).all() and (frame['point'] <= frame['high']).all()
    plotting.main(['--indir', str(tmp_path), '--outdir', str(tmp_path.parent / 'out')])
    written = pd.read_csv(tmp_path.parent / 'out' / 'aggregate.csv')
    np.testing.assert_allclose(written['point'], frame['point'], rtol=1e-5)
    low, high = (100 * frame[name]['mummi', 0.0] for name in ('low', 'high'))
    row = (f'| mean, nothing missing | 15.4 ({low:.1f} to {high:.1f}), 7 runs of 3 tasks '
           '| 6.0 (6.0 to 6.0), 6 runs of 3 tasks |')
    for name in 'table.md', 'index.html':
        text = (tmp_path.parent / 'out' / name).read_text(encoding='utf-8')
        assert 'interquartile mean over all runs' in text
    assert row in (tmp_path.parent / 'out' / 'table.md').read_text(encoding='utf-8')


def test_a_task_of_more_runs_weighs_no_more_in_one_method_than_in_another(tmp_path):
    for level, task in (100.0, WALK), (500.0, RUN):
        for seed in range(3):
            make(tmp_path, task, 'mummi', seed, level=level)
            make(tmp_path, task, 'cvrl', seed, level=level)
    equal = summaries.aggregate(logs.load([tmp_path])).set_index(['method', 'at'])
    assert set(equal['statistic']) == {'interquartile mean'}
    for seed in range(3, 9):
        make(tmp_path, RUN, 'cvrl', seed, level=500.0)
    frame = summaries.aggregate(logs.load([tmp_path])).set_index(['method', 'at'])
    assert set(frame['statistic']) == {'mean'}
    for at in 'final', 0.0, 0.1:
        assert frame['point']['mummi', at] == pytest.approx(frame['point']['cvrl', at])


def test_one_line_is_of_one_statistic(tmp_path):
    """A run that was not judged at one ratio changes that of all ratios, and not of training."""
    for task in WALK, RUN, 'dmc_finger_spin':
        for seed in range(3):
            folder = make(tmp_path, task, 'mummi', seed)
    write(os.path.join(folder, 'results.csv'), RESULTS, [
        (20000, 'ratio', '', 0, 0, 100, 1000, 9, 0)])
    frame = summaries.aggregate(logs.load([tmp_path])).set_index('at')
    assert frame['statistic'].to_dict() == {
        'final': 'interquartile mean', 0.0: 'mean', 0.1: 'mean'}


def test_the_table_names_unfinished_runs_of_the_aggregate(tmp_path):
    for seed in range(3):
        make(tmp_path, seed=seed, count=10 if seed == 2 else 20)
    frame = summaries.aggregate(logs.load([tmp_path]))
    _, rows = comparison.compared_methods(frame)
    assert rows and all(row[1].endswith('), 1 unfinished') for row in rows)


def test_a_bin_without_an_episode_is_drawn_and_not_counted(tmp_path):
    make(tmp_path)
    (run,) = logs.load([tmp_path])[WALK]['mummi']
    curve = summaries.learning_curve([run], 'train', 500)
    assert curve['runs'].tolist() == [1, 0] * 17 + [1]
    assert curve['mean'].iloc[1] == pytest.approx(curve['mean'].iloc[[0, 2]].mean())


def test_the_course_ends_where_the_longest_run_does(tmp_path):
    make(tmp_path, count=21, steps=21000)
    ((header, _),) = comparison.courses(logs.load([tmp_path]))
    assert header[-2:] == ['20k', '21k'] and len(header) - 1 <= comparison.PARTS


def test_a_metric_that_some_runs_lack_counts_those_that_have_it(tmp_path, monkeypatch):
    for seed in range(2):
        folder = make(tmp_path, seed=seed)
    write(os.path.join(folder, 'metrics.csv'), ('step', 'updates', 'model_loss', 'newer'), [
        (1000 * number, number, 9 / number, 1.0) for number in range(1, 21)])
    figures = []
    monkeypatch.setattr(plotting, 'save', lambda figure, *_: figures.append(figure))
    plotting.draw_losses(logs.load([tmp_path]), tmp_path, ['model_loss', 'newer'])
    texts = [axes.get_legend().get_texts()[0].get_text() for axes in figures[0].axes]
    assert texts == ['mummi, 2 seeds', 'mummi']


def test_metrics_are_drawn_against_steps_or_updates(tmp_path, monkeypatch, capsys):
    make(tmp_path / 'in', count=6)  # an update a thousand steps
    lines = []
    monkeypatch.setattr(plotting, 'save', lambda figure, caption, outdir, name: lines.append(
        (figure.axes[0].get_xlabel(), figure.axes[0].lines[0].get_xdata().tolist()))
        if name == 'losses' else None)
    words = ['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'out'),
             '--metrics', 'model_loss']
    plotting.main(words)
    plotting.main([*words, '--against', 'updates'])
    assert lines == [('environment steps', [1000.0 * n for n in range(1, 7)]),
                     ('updates', [1.0 * n for n in range(1, 7)])]
    with pytest.raises(SystemExit) as ended:
        plotting.main([*words, '--against', 'hours'])
    assert ended.value.code == 2 and '--against' in capsys.readouterr().err


def test_no_evaluation_is_made_up(tmp_path):
    """In bins that are shorter than evaluations are apart."""
    make(tmp_path)
    (run,) = logs.load([tmp_path])[WALK]['mummi']
    curve = summaries.learning_curve([run], 'eval', 1000)
    assert curve['at'].tolist() == [5000, 10000, 15000, 20000]
    assert curve.index.tolist() == [4, 9, 14, 19]


def test_aggregate_has_its_ratios_by_size_and_its_methods_in_their_order(tmp_path):
    """Also where the first method was judged under fewer, and settings by their numbers."""
    for seed in range(3):
        for horizon in 10, 2:
            folder = make(tmp_path / str(horizon), seed=seed, horizon=horizon)
            ratios = (0, 0.2) if horizon == 2 else (0, 0.05, 0.2)
            write(os.path.join(folder, 'results.csv'), RESULTS, [
                (20000, 'ratio', '', ratio, 0, 100, 1000, 9, 0) for ratio in ratios])
        make(tmp_path / 'other', method='cvrl', seed=seed)
    frame = summaries.aggregate(logs.load([tmp_path], by=('horizon',)))
    assert frame['at'].unique().tolist() == ['final', 0.0, 0.05, 0.1, 0.2]
    assert frame[frame['at'] == 0.0]['method'].tolist() == [
        'mummi, horizon 2', 'mummi, horizon 10', 'cvrl, horizon 15']


def test_aggregate_names_the_unfinished_and_the_settings_that_differ_by_task(tmp_path, capsys):
    for seed in range(2):
        for task in WALK, RUN, 'dmc_finger_spin':
            for method in 'mummi', 'cvrl':
                make(tmp_path, task, method, seed,
                     batch=8 if (method, task) == ('mummi', RUN) else 50,
                     count=10 if (method, seed, task) == ('cvrl', 1, WALK) else 20)
    make(tmp_path, 'dmc_reacher_easy', 'mummi', count=10)  # not compared
    frame = summaries.aggregate(logs.load([tmp_path])).set_index(['method', 'at'])
    assert frame['unfinished']['mummi', 'final'] == 0 and frame['unfinished']['cvrl', 'final'] == 1
    printed = capsys.readouterr().out
    assert 'aggregate: mummi has other batch on one task than on another' in printed
    assert 'cvrl has other' not in printed


def test_what_is_asked_for_and_not_there_is_said(tmp_path, capsys):
    make(tmp_path, seed=0)
    make(tmp_path, seed=1, steps=40000)
    logs.load([tmp_path], methods=('mummi', 'nobody'), tasks=(WALK, 'dmc_fingr_spin'))
    printed = capsys.readouterr().out.splitlines()
    for line in ('--methods nobody: no run here', '--tasks dmc_fingr_spin: no run here',
                 f'{WALK}: runs of different lengths, 20k, 40k steps'):
        assert line in printed
    assert len([line for line in printed if 'no run here' in line]) == 2


@pytest.mark.parametrize('cell', ['', 'x', 'inf'])
def test_a_ratio_that_is_no_number_is_a_damaged_line(tmp_path, capsys, cell):
    folder = make(tmp_path)
    write(os.path.join(folder, 'results.csv'), RESULTS, [
        (20000, 'ratio', '', ratio, 0, 100, 1000, 9, 0) for ratio in (0, cell)])
    (run,) = logs.load([tmp_path])[WALK]['mummi']
    assert run.results['ratio'].tolist() == [0]
    assert 'results.csv: 1 damaged line left out' in capsys.readouterr().out


def test_many_methods_stay_within_their_axes_and_their_names_apart(tmp_path, monkeypatch):
    for seed in range(3):
        for horizon in range(2, 14):
            make(tmp_path / str(horizon), seed=seed, horizon=horizon)
    figures = {}
    monkeypatch.setattr(plotting, 'save', lambda figure, caption, outdir, name: figures.update(
        {name: figure}))
    monkeypatch.setattr(conditions, 'save', plotting.save)
    groups = logs.load([tmp_path], by=('horizon',))
    conditions.draw_missing_ratio(groups, tmp_path)
    plotting.draw_aggregate(groups, summaries.aggregate(groups), tmp_path)
    (ratios,) = figures['missing_ratio'].axes
    low, high = ratios.get_xlim()
    for container in ratios.containers:
        assert all(low < place < high for place in container.lines[0].get_xdata())
    final = figures['aggregate'].axes[0]
    assert not any(label.get_text() for label in final.get_xticklabels())


def test_aggregate_says_of_how_many_runs_each_ratio_is(tmp_path, monkeypatch):
    for seed in range(4):
        folder = make(tmp_path, seed=seed)
        if seed == 3:  # judged under one of the two
            write(os.path.join(folder, 'results.csv'), RESULTS, [
                (20000, 'ratio', '', 0, 0, 100, 1000, 9, 0)])
    figures = []
    monkeypatch.setattr(plotting, 'save', lambda figure, *_: figures.append(figure))
    groups = logs.load([tmp_path])
    plotting.draw_aggregate(groups, summaries.aggregate(groups), tmp_path)
    ends, ratios = figures[0].axes
    for axes, text in (ends, '4 runs on 1 of 1 tasks'), (ratios, '3 - 4 runs on 1 of 1 tasks'):
        assert text in axes.get_legend().get_texts()[0].get_text()


def test_aggregate_is_left_out_of_few_runs(tmp_path, capsys):
    # Four runs, but not three of a task: drawn again within a task, they would hardly differ.
    for task, seed in ((WALK, 0), (WALK, 1), (RUN, 0), (RUN, 1)):
        make(tmp_path / 'in', task, seed=seed)
    groups = logs.load([tmp_path / 'in'])
    plotting.draw_aggregate(groups, summaries.aggregate(groups), tmp_path)
    assert not drawn(tmp_path)
    assert 'figure aggregate left out' in capsys.readouterr().out


def test_table(tmp_path):
    for seed, level in enumerate((100.0, 200.0)):
        make(tmp_path / 'in', seed=seed, level=level, count=30 - 10 * seed, steps=30000)
    make(tmp_path / 'in', method='cvrl', results=False)
    (tmp_path / 'out').mkdir()
    comparison.write_table(logs.load([tmp_path / 'in']), tmp_path / 'out')
    with open(tmp_path / 'out' / 'table.csv', encoding='utf-8') as file:
        mummi, cvrl = csv.DictReader(file)
    assert (mummi['task'], mummi['method'], cvrl['method']) == (WALK, 'mummi', 'cvrl')
    assert (mummi['seeds'], mummi['unfinished'], mummi['steps_reached']) == ('2', '1', '20000')
    # 28 and 18 training episodes: the last tenth are 3 and 2.
    finals = [100 + statistics.mean((280, 290, 300)), 200 + statistics.mean((190, 200))]
    assert float(mummi['final_return']) == pytest.approx(statistics.mean(finals))
    assert float(mummi['final_return_std']) == pytest.approx(statistics.stdev(finals))
    assert float(mummi['final_return_least']) == pytest.approx(min(finals))
    assert float(mummi['eval_0']) == 160
    assert float(mummi['eval_0.1']) == pytest.approx(145)
    assert float(mummi['eval_0.1_kept']) == pytest.approx(145 / 160)
    assert float(mummi['eval_0_std']) == pytest.approx(
        statistics.stdev([100, 110, 120, 200, 210, 220]))
    # 28 and 18 training episodes, the first of them the third of all.
    means = [100 + 10 * statistics.mean(range(3, 31)), 200 + 10 * statistics.mean(range(3, 21))]
    assert float(mummi['mean_return']) == pytest.approx(statistics.mean(means))
    assert float(mummi['without_touch']) == 76 and float(mummi['only_image']) == 76
    assert float(mummi['only_touch_kept']) == pytest.approx(76 / 160)
    assert (mummi['judged_seeds'], mummi['judged_least'], mummi['judged_most']) == (
        '2', '20000', '30000')
    assert cvrl['judged_seeds'] == '0' and cvrl['eval_0'] == ''
    assert cvrl['final_return_std'] == '' and cvrl['only_image'] == ''
    text = (tmp_path / 'out' / 'table.md').read_text()
    lines = text.splitlines()
    assert len({line.count('|') for line in lines[:4]}) == 1 and 'last 10 %' in text
    start = lines.index(f'| {WALK}: missing | mummi | cvrl |')
    assert lines[start + 2:start + 9] == [
        '| (steps of the checkpoint) | 20k - 30k |  |',
        '| nothing missing | 160 ± 55 (1.00) |  |',
        '| drop-out chance 0.1 | 145 ± 50 (0.91) |  |',
        '| image gone | 76 ± 27 (0.47) |  |', '| touch gone | 76 ± 27 (0.47) |  |',
        '| image alone | 76 ± 27 (0.47) |  |', '| touch alone | 76 ± 27 (0.47) |  |']


def test_table_says_how_training_went_in_tenths(tmp_path):
    # Runs to 40k and 100k: parts of 10k. The first two episodes are the prefill.
    for seed, count in enumerate((100, 40)):
        make(tmp_path / 'in', seed=seed, count=count, level=100.0 * (seed + 1), results=False,
             steps=100000)
    make(tmp_path / 'in', method='cvrl', count=20, results=False)
    # Whose last episode ended after the steps that were asked for.
    make(tmp_path / 'in', RUN, count=21, steps=20000, results=False)
    comparison.write_table(logs.load([tmp_path / 'in']), tmp_path)
    lines = (tmp_path / 'table.md').read_text().splitlines()
    start = lines.index(f'| {WALK}: training to | ' + ' | '.join(
        f'{end}k' for end in range(10, 101, 10)) + ' |')
    # Episode n returns level + 10 n: the bin of 3 to 10 has 165 and 265, that of 11 to 20 ...
    assert lines[start + 2:start + 4] == [
        '| mummi | 215 ± 71 | 305 ± 71 | 405 ± 71 | 505 ± 71 |  |  |  |  |  |  |',
        '| cvrl | 165 | 255 |  |  |  |  |  |  |  |  |']
    start = lines.index(f'| {RUN}: training to | ' + ' | '.join(
        f'{end}k' for end in range(4, 21, 2)) + ' |')
    assert lines[start + 2].startswith('| mummi | 135 | 155 | 175 |')


def test_fractions_are_of_the_seeds_that_were_judged_under_both(tmp_path, monkeypatch):
    for seed, values in enumerate(({0: 900, 0.2: 450}, {0: 100}, {0.1: 60})):
        folder = make(tmp_path / 'in', seed=seed)
        write(os.path.join(folder, 'results.csv'), RESULTS, [
            *((20000, 'ratio', '', ratio, 0, value, 1000, 9, 0)
              for ratio, value in values.items()),
            (20000, 'only', 'image', '', 0.5, 50, 1000, 9, 0)])
    groups = logs.load([tmp_path / 'in'])
    comparison.write_table(groups, tmp_path)
    lines = (tmp_path / 'table.md').read_text().splitlines()
    assert '| nothing missing | 500 ± 566 (1.00), 2 seeds |' in lines
    assert '| drop-out chance 0.1 | 60, 1 seed |' in lines  # of no seed that has both
    assert '| drop-out chance 0.2 | 450 (0.50), 1 seed |' in lines
    assert '| image alone | 50 ± 0 (0.10) |' in lines
    with open(tmp_path / 'table.csv', encoding='utf-8') as file:
        (row,) = csv.DictReader(file)
    assert [row[f'{name}_seeds'] for name in ('eval_0', 'eval_0.2', 'only_image')] == [
        '2', '1', '3']
    captions = []
    monkeypatch.setattr(conditions, 'save', lambda figure, caption, outdir, name: (
        captions.append(caption), figures.append(figure)))
    figures = []
    plotting.draw_missing_ratio(groups, tmp_path)
    plotting.draw_single_sensor(groups, tmp_path)
    assert 'hollow: not all seeds' in captions[0] and 'pale: not all seeds' in captions[1]
    hollow = [line for line in figures[0].axes[0].lines if line.get_markerfacecolor() == 'white']
    assert [len(line.get_xdata()) for line in hollow] == [3]
    assert [bar.get_alpha() for bar in figures[1].axes[0].patches] == [0.4, None]


def test_where_all_seeds_were_judged_under_all_no_mark_says_otherwise(tmp_path, monkeypatch):
    captions = []
    monkeypatch.setattr(conditions, 'save', lambda figure, caption, *_: captions.append(caption))
    for seed in range(2):
        make(tmp_path, seed=seed)
    groups = logs.load([tmp_path])
    plotting.draw_missing_ratio(groups, tmp_path)
    plotting.draw_single_sensor(groups, tmp_path)
    assert len(captions) == 2 and not any('not all seeds' in caption for caption in captions)
    assert 'seed' not in '\n'.join(
        '\n'.join(comparison.markdown(*block)) for block in comparison.blocks(
            groups, comparison.table(groups)) if not isinstance(block, str)).split('missing')[1]


def test_a_seed_in_its_prefill_is_not_counted_where_the_others_are_averaged(tmp_path):
    for seed, count in enumerate((20, 20, 2)):
        make(tmp_path / 'in', seed=seed, count=count, results=False)
    groups = logs.load([tmp_path / 'in'])
    (row,) = comparison.table(groups, 0.4).to_dict('records')
    assert (row['seeds'], row['unfinished'], row['mean_return']) == (2, 0, 100 + 10 * 11.5)
    assert row['steps_reached'] == 20000 and row['after_0.4h'] > 200
    ((header, rows),) = comparison.courses(groups)
    assert len(header) == 10 and '' not in rows[0]


def test_returns_after_so_many_hours(tmp_path, capsys):
    # 90 seconds an episode: 20 in half an hour, of which 18 are training; 40 in an hour.
    for seed, level in enumerate((100.0, 200.0)):
        make(tmp_path / 'in', seed=seed, level=level, count=60, results=False)
    make(tmp_path / 'in', method='cvrl', count=60, results=False)
    make(tmp_path / 'in', method='cvrl', seed=1, count=30, results=False)
    plotting.main(['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'half'),
                   '--hours', '0.5'])
    plotting.main(['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'one'),
                   '--hours', '1'])
    half, one = (list(csv.DictReader((tmp_path / name / 'table.csv').read_text().splitlines()))
                 for name in ('half', 'one'))
    assert [float(row['after_0.5h']) for row in half] == [
        pytest.approx(100 + 50 + statistics.mean((190, 200))),
        pytest.approx(100 + statistics.mean((190, 200)))]
    assert float(half[0]['after_0.5h_std']) == pytest.approx(statistics.stdev((0, 100)))
    # The second seed of cvrl has 45 minutes: nothing is said of its hour, nor of a mean without it.
    assert float(one[0]['after_1h']) == pytest.approx(
        150 + statistics.mean((370, 380, 390, 400)))
    assert one[1]['after_1h'] == '' == one[1]['after_1h_std']
    assert 'so many hours' in ' '.join((tmp_path / 'one' / 'table.md').read_text().split())
    assert shows_something(tmp_path / 'one' / 'returns_hours.png')
    # Bins of 200 seconds; the third and fourth episode are the first trained.
    with open(tmp_path / 'one' / 'returns_hours.csv', encoding='utf-8') as file:
        first, second, *others = csv.DictReader(file)
    assert first == {'task': WALK, 'method': 'mummi', 'at': '315', 'mean': '185',
                     'deviation': '70.7107', 'runs': '2'}
    assert (second['at'], second['mean']) == ('495', '205')
    assert {row['method'] for row in others} == {'mummi', 'cvrl'}
    with open(tmp_path / 'one' / 'returns.csv', encoding='utf-8') as file:
        assert next(csv.DictReader(file))['at'] in ('3000', '3500')
    for wrong in ('0', 'nan', 'inf', 'soon'):
        with pytest.raises(SystemExit) as ended:
            plotting.main(['--indir', str(tmp_path / 'in'), '--outdir', str(tmp_path / 'no'),
                           '--hours', wrong])
        assert ended.value.code == 2 and '--hours' in capsys.readouterr().err
    assert not (tmp_path / 'no').exists()


def test_table_of_one_episode_and_no_whole_sensors_has_no_spread_and_no_fraction(tmp_path):
    folder = make(tmp_path / 'in')
    write(os.path.join(folder, 'results.csv'), RESULTS, [
        (20000, 'without', 'image', '', 0.5, 123, 1000, 9, 0)])
    comparison.write_table(logs.load([tmp_path / 'in']), tmp_path)
    assert '| image gone | 123 |' in (tmp_path / 'table.md').read_text().splitlines()


def test_filters_and_mistakes(tmp_path, capsys):
    folder = make(tmp_path / 'in')
    make(tmp_path / 'in', method='cvrl')
    make(tmp_path / 'in', task=RUN)
    (tmp_path / 'empty').mkdir()
    assert list(logs.load([tmp_path / 'in'], tasks=(RUN,))) == [RUN]
    assert list(logs.load([tmp_path / 'in'], methods=('cvrl',))) == [WALK]
    capsys.readouterr()
    for arguments, said in (
            (['--indir', tmp_path / 'in', '--methods', 'nobody'], 'no run'),
            (['--indir', tmp_path / 'in', '--metrics', 'loess'], 'there are'),
            (['--indir', tmp_path / 'in', '--outdir', os.path.join(folder, 'plots')], 'another'),
            (['--indir', tmp_path / 'in', '--outdir', '/proc'], 'cannot write'),
            (['--indir', tmp_path / 'in', '--bin', '0'], '--bin: takes a whole number from 1'),
            (['--indir', tmp_path / 'in', '--smooth', '1' * 400], '--smooth: takes'),
            (['--indir', tmp_path / 'in', '--hours', 'nan'], '--hours: takes a number above 0'),
            (['--indir', tmp_path / 'in', '--whose', 'me'], 'nothing without --reference'),
            (['--indir', tmp_path / 'in', '--against', 'updates'], 'nothing without --metrics'),
            (['--indir', tmp_path / 'in', '--reference', 'none.csv'], 'No such file'),
            (['--indir', tmp_path / 'empty'], 'no run')):
        with pytest.raises(SystemExit) as stopped:
            plotting.main(['--outdir', str(tmp_path / 'out'), *map(str, arguments)])
        printed = capsys.readouterr().err
        assert stopped.value.code == 2 and printed.count('\n') == 1
        assert printed.startswith('error: ') and said in printed
    assert not os.path.exists(os.path.join(folder, 'plots'))


def test_missing_folder_from_the_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, plotting.__file__, '--indir', 'absent'], cwd=tmp_path,
        capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout and os.listdir(tmp_path) == []
    assert done.stderr == 'error: there is no folder absent\n'


def test_returns_of_tasks_whose_best_is_one_are_told_with_two_digits():
    assert [texts.told(value) for value in (0.955, 9.94, 344.06, -12.4)] == [
        '0.95', '9.94', '344.1', '-12.4']
    assert (texts.told(0.955, digits=0), texts.told(344.06, digits=0)) == ('0.95', '344')
    assert (texts.told(8.4, 344, 0), texts.told(0.042, 0.9)) == ('8', '0.04')


def timed(folder, rows):
    """Replace the episodes of a run by `rows` of (step, mode, return)."""
    write(os.path.join(folder, 'episodes.csv'), EPISODES, [
        (step, 1, step / 10, mode, value, 1000, 0) for step, mode, value in rows])


def test_evaluations_that_come_a_little_late_are_of_the_step_at_which_they_were_due(tmp_path):
    for seed, late in (0, 0), (1, 4):
        timed(make(tmp_path, seed=seed), [
            *((10000 * k + late * (k % 2), 'eval', 100.0 * k) for k in range(1, 51)),
            (505000, 'eval', 7.0)])  # of the end, which is no multiple
    runs = logs.load([tmp_path])[WALK]['mummi']
    assert summaries.default_bin(runs, 'eval') == 10000
    assert summaries.default_bin([runs[1]], 'eval') == 10000
    curve = summaries.learning_curve(runs, 'eval', 10000)
    assert curve['mean'].tolist() == [*(100 * k for k in range(1, 51)), 7]
    assert (curve['deviation'] == 0).all() and (curve['runs'] == 2).all()
    assert curve['at'].tolist()[:3] == [10002, 20000, 30002]


def test_an_agent_that_went_further_than_a_run_is_no_copy_of_it(tmp_path, capsys):
    run = make(tmp_path / 'in', steps=20000, results=False)
    agent = make(tmp_path / 'agents', steps=40000, count=40, level=900.0)
    os.remove(os.path.join(agent, 'episodes.csv'))
    (tmp_path / 'agents' / WALK / 'mummi' / '0' / files.WEIGHTS).touch()
    found = {one.folder: one for one in logs.load([tmp_path])[WALK]['mummi']}
    assert set(found) == {run, agent} and not found[run].judged
    # Of a run that went on since, it is an earlier state, whose returns are not the run's.
    for steps in 60000, 40000:
        shutil.rmtree(run)
        make(tmp_path / 'in', steps=steps, count=60, results=False)
        (only,) = logs.load([tmp_path])[WALK]['mummi']
        assert only.folder == run and not only.judged


@pytest.mark.parametrize('steps, last, judged', [(20000, 19990, 20002), (100000, 12000, 12400)])
def test_an_agent_of_a_run_of_several_environments_or_that_was_stopped_is_a_copy(
        steps, last, judged, tmp_path):
    """Its checkpoint is a little beyond the last episode, or beyond what was asked for."""
    run = make(tmp_path / 'in', steps=steps, results=False)
    timed(run, [(last, 'train', 1.0)])
    agent = make(tmp_path / 'agents', steps=steps)
    os.remove(os.path.join(agent, 'episodes.csv'))
    write(os.path.join(agent, 'results.csv'), RESULTS, [
        (judged, 'ratio', '', 0, 0, 100, 1000, 9, 0)])
    (tmp_path / 'agents' / WALK / 'mummi' / '0' / files.WEIGHTS).touch()
    (only,) = logs.load([tmp_path])[WALK]['mummi']
    assert only.folder == run and only.judged == judged


def test_metrics_that_cannot_be_read_leave_one_run_out(tmp_path, capsys):
    for seed in 0, 1:
        folder = make(tmp_path, seed=seed, eval_episodes=0)
    os.remove(os.path.join(folder, 'metrics.csv'))
    os.mkdir(os.path.join(folder, 'metrics.csv'))
    (only,) = logs.load([tmp_path])[WALK]['mummi']
    assert only.config.seed == 0 and 'left out' in capsys.readouterr().out


@pytest.mark.parametrize('usual', [0.0, 0.1])
@pytest.mark.parametrize('count', [9, 6])
def test_runs_that_are_mostly_alike_leave_the_interval_wide(count, usual):
    scores = np.array([usual] * count + [0.7, 0.8, 0.9])
    for tasks in [scores], scores.reshape(3, -1, order='F'):
        point, low, high = summaries.interval(tasks)
        assert high - low > 0.2 and low <= point <= high


def test_each_task_has_bins_of_its_own_length(tmp_path, monkeypatch):
    make(tmp_path / 'in', WALK, count=200, steps=200000)
    timed(make(tmp_path / 'in', 'gym_CartPole-v1', steps=2000), [
        (100 * k, 'train', 1.0 * k) for k in range(1, 21)])
    captions = {}
    monkeypatch.setattr(plotting, 'save', lambda figure, caption, outdir, name: captions.update(
        {name: (figure, caption)}))
    plotting.draw_returns(logs.load([tmp_path / 'in']), tmp_path)
    figure, caption = captions['returns']
    counts = {axes.get_title(): max(len(line.get_xdata()) for line in axes.lines[1:])
              for axes in figure.axes}
    assert min(counts.values()) >= 20, counts
    assert 'in bins of 5k, 100 steps (panel by panel)' in caption


def test_a_run_without_evaluations_is_finished_when_its_last_updates_are_made(tmp_path):
    for seed, last in enumerate([20000, 19000]):
        folder = make(tmp_path, seed=seed, eval_episodes=0, envs=16)
        write(os.path.join(folder, 'metrics.csv'), ('step', 'updates'), [(last, 1)])
    runs = logs.load([tmp_path])[WALK]['mummi']
    assert {run.config.seed: run.finished for run in runs} == {0: True, 1: False}


def test_a_run_is_finished_when_all_episodes_of_its_last_evaluation_are_there(tmp_path):
    for seed, count in enumerate([2, 3]):
        timed(make(tmp_path, seed=seed, eval_episodes=3), [
            (19000, 'train', 1.0), *[(20000, 'eval', 1.0)] * count])
    runs = logs.load([tmp_path])[WALK]['mummi']
    assert {run.config.seed: run.finished for run in runs} == {0: False, 1: True}


@pytest.mark.parametrize('name, word, damaged', [
    ('episodes.csv', 'train', 'trXin'), ('results.csv', 'without', 'wiXhout')])
def test_a_row_whose_word_is_damaged_is_named(name, word, damaged, tmp_path, capsys):
    path = tmp_path / WALK / 'mummi' / '0' / name
    make(tmp_path)
    path.write_text(path.read_text().replace(word, damaged, 1))
    logs.load([tmp_path])
    assert f'{name}: 1 damaged line left out' in capsys.readouterr().out


def test_bars_of_the_aggregate_lie_within_their_panel(tmp_path, monkeypatch):
    for seed, level in enumerate([10.0, 20.0, 300.0, 310.0]):
        make(tmp_path / 'in', seed=seed, level=level)
    figures = []
    monkeypatch.setattr(plotting, 'save', lambda figure, *_: figures.append(figure))
    groups = logs.load([tmp_path / 'in'])
    frame = summaries.aggregate(groups)
    assert (frame['low'] < 0).any()
    plotting.draw_aggregate(groups, frame, tmp_path)
    for axes in figures[0].axes:
        bottom, top = axes.get_ylim()
        assert all(bottom < low and high < top for _, low, high in bars(axes))


def test_what_an_earlier_drawing_left_is_named(tmp_path, capsys):
    for seed in range(3):
        make(tmp_path / 'in', seed=seed)
    plotting.draw([tmp_path / 'in'], tmp_path / 'out')
    assert 'earlier drawing' not in capsys.readouterr().out
    shutil.rmtree(tmp_path / 'in' / WALK / 'mummi' / '2')
    plotting.draw([tmp_path / 'in'], tmp_path / 'out')
    assert ('of an earlier drawing, and not drawn now: aggregate.png, aggregate.pdf, aggregate.csv '
            f'in {tmp_path / "out"}') in capsys.readouterr().out


def test_seeds_are_those_that_have_training_episodes(tmp_path):
    timed(make(tmp_path), [(1000, 'prefill', 1.0)])
    (row,) = comparison.table(logs.load([tmp_path])).to_dict('records')
    assert row['seeds'] == 0


def test_a_number_of_python_is_the_same_setting_as_one_that_was_typed(tmp_path):
    for seed, ratio in enumerate([0, 0.0]):
        make(tmp_path, seed=seed, miss_ratio=ratio, withhold={'image': 1 - ratio})
    assert len(logs.load([tmp_path])[WALK]['mummi']) == 2


def test_a_metric_without_numbers_is_an_empty_panel(tmp_path, recwarn):
    folder = make(tmp_path / 'in')
    write(os.path.join(folder, 'metrics.csv'), ('step', 'updates', 'found'), [(1000, 1, '')])
    plotting.draw([tmp_path / 'in'], tmp_path / 'out', metrics=('found',))
    assert not [one for one in recwarn if 'empty' in str(one.message)]
