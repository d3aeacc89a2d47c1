"""Tests of relations.py: which rows of which runs a point is made of, and what is said of them."""

import dataclasses
import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import commandline
import relations
from config import Config


def make_run(folder, seed, value, gained, steps=50000, method='mummi'):
    """A run whose metric is `value` at 10k - 20k, and whose return is `gained` at 40k - 50k; other
    numbers everywhere else."""
    folder.mkdir(parents=True)
    settings = dataclasses.replace(
        Config(), logdir=str(folder), seed=seed, batch=seed + 1)  # other settings in each
    commandline.save(settings, method, str(folder / 'config.json'))
    at = np.arange(1000, steps + 1, 1000)
    middle, end = (at > 10000) & (at <= 20000), (at > 40000) & (at <= 50000)
    noise = np.where(at % 2000, 1, -1)
    pd.DataFrame({'step': at, 'found': np.where(middle, value + 0.01 * noise, 9)}).to_csv(
        folder / 'metrics.csv', index=False)
    pd.DataFrame({
        'step': at, 'seconds': at, 'mode': 'train',
        'return': np.where(end, gained + 5 * noise, 999)}).to_csv(
            folder / 'episodes.csv', index=False)


@pytest.fixture
def runs(tmp_path):
    for seed, (value, gained) in enumerate([(0.1, 100), (0.3, 250), (0.2, 300), (0.4, 400)]):
        make_run(tmp_path / 'runs' / str(seed), seed, value, gained)
    make_run(tmp_path / 'runs' / 'short', 9, 0.9, 900, steps=48000)
    return tmp_path


def test_a_point_is_the_mean_of_the_metric_and_of_the_return_at_their_steps(runs, capsys):
    frame = relations.points([runs / 'runs'], ['found'], (10000, 20000), (40000, 50000))
    assert frame['seed'].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(frame['value'], [0.1, 0.3, 0.2, 0.4])
    np.testing.assert_allclose(frame['return'], [100, 250, 300, 400])
    assert 'short: left out' in capsys.readouterr().out
    assert '0.80' in relations.relation(frame) and '4 runs' in relations.relation(frame)
    assert 'too few' in relations.relation(frame[:3])
    for name in 'value', 'return':
        assert f'whose {name} is the same' in relations.relation(frame.assign(**{name: 0.0}))


def test_the_figure_and_its_points_are_written(runs, capsys):
    relations.main(['--indir', str(runs / 'runs'), '--metrics', 'found', '--outdir',
                    str(runs / 'plots')])
    assert 'dmc_walker_walk, found: rank correlation 0.80' in capsys.readouterr().out
    assert (runs / 'plots' / 'relations.png').stat().st_size > 5000
    assert len(pd.read_csv(runs / 'plots' / 'relations.csv')) == 4


def test_a_log_that_cannot_be_opened_leaves_out_its_run(runs, tmp_path, capsys):
    folder = shutil.copytree(runs / 'runs', tmp_path / 'copy')
    (folder / '1' / 'metrics.csv').unlink()
    (folder / '1' / 'metrics.csv').mkdir()
    found = relations.points([folder], ['found'], (10000, 20000), (40000, 50000))
    assert len(found) == 3 and '1: left out, ' in capsys.readouterr().out


@pytest.mark.parametrize('words, said', [
    ([], 'metrics'), (['--metrics', 'absent'], 'no run has absent'),
    (['--metrics', ''], '--metrics takes columns'),
    (['--metrics', 'found', '--at', '5-2'], '--at: takes steps as 10000-20000'),
    (['--metrics', 'found', '--at', '1-' + '9' * 400], '--at: takes steps as'),
    (['--metrics', 'found', '--at', '90000-99000'], 'no run has found'),
    (['--metrics', 'found', '--methods', 'cvrl'], 'no run has found'),
    (['--metrics', 'found', '--outdir', '{}/runs/1/plots'], 'is in the run')])
def test_a_mistake_is_one_line(words, said, runs, capsys):
    with pytest.raises(SystemExit) as stopped:
        relations.main(['--indir', str(runs / 'runs'), '--outdir', str(runs / 'plots'), *(
            word.format(runs) for word in words)])
    assert not (runs / 'runs' / '1' / 'plots').exists()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1 and said in error


@pytest.mark.parametrize('right, wanted', [
    ([1, 2, 3, 4], 2 / 24), ([1, 2, 4, 3], 8 / 24), ([1, 2, 3, 4, 5], 2 / 120),
    ([2, 1, 3, 4, 5], 10 / 120), ([1, 2, 3, 4, 5, 6], 2 / 720)])
def test_of_few_runs_the_p_value_counts_the_orders(right, wanted):
    assert relations.correlation(range(len(right)), right)[1] == pytest.approx(wanted)


def test_the_p_value_of_ties_and_of_many_runs():
    left, right = [1, 1, 2, 3], [5, 5, 6, 7]
    found = [np.corrcoef(left, order)[0, 1] for order in itertools.permutations([1, 1, 2, 3])]
    wanted = np.mean(np.array(found) > 0.999)
    assert relations.correlation(left, right) == pytest.approx((1, wanted))
    random = np.random.default_rng(0).normal(size=(2, 12))
    assert relations.correlation(*random) == pytest.approx(tuple(stats.spearmanr(*random)))
    frame = pd.DataFrame({'value': range(9), 'return': range(9)})
    assert relations.relation(frame) == 'rank correlation 1.00 (p < 0.01, 9 runs)'
