"""Whole runs of the three scripts on real tasks: what they write, and how they go on.

Scripts run in processes of their own: beside the TensorFlow of this one, OpenGL crashes.
"""

import errno
import fcntl
import hashlib
import io
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import imageio.v3
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tqdm
from helpers import names
from PIL import Image
from tensorboard.backend.event_processing import event_file_loader

import commandline
import config
import logs
import opening
import screen
import training
from health import LASTING, Health

ROOT = pathlib.Path(training.__file__).parent
# The names of the losses of each method, by the sensors of its task.
COMMON = {
    'model_loss', 'divergence', 'reward_loss', 'actor_loss', 'value_loss', 'imagined_return',
    'imagined_reward', 'value',
    'posterior_entropy', 'prior_entropy', 'model_gradient', 'actor_gradient', 'value_gradient'}
RUNS = {
    'mummi': (('--task', 'dmc_walker_walk'), ['image', 'depth', 'touch'], 1, {
        'image_loss', 'depth_loss', 'touch_loss', 'weight_image', 'decoders_loss'}),
    'cvrl': (('--task', 'dmc_cheetah_run', '--envs', '2', '--no-stagger'), [
        'image', 'depth', 'touch'], 2, {
        'contrast_loss', 'decoders_loss'}),
    'dreamer': (('--task', 'dmc_cartpole_balance', '--no-natural', '--miss_ratio', '0'),
                ['image', 'depth'], 1, {'image_loss', 'depth_loss'})}


def start(method, *words, **environment):
    return subprocess.Popen(
        [sys.executable, f'{method}.py', *map(str, words)], cwd=ROOT, text=True,
        env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '2'} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    """(exit code, output, errors) of a process, which is never left behind."""
    try:
        out, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, out, errors


def debug(method, folder, *words, **environment):
    return start(method, '--logdir', folder, '--preset', 'debug', *words, **environment)


def refused(result, *parts):
    """Whether a process ended with code 2 and one line of error that holds all of the parts."""
    code, _, errors = result
    lines = [line for line in errors.splitlines() if line.startswith('error: ')]
    return code == 2 and len(lines) == 1 and 'Traceback' not in errors and all(
        part in lines[0] for part in parts)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Method -> the folder of its run, which no test changes, and the run's output."""
    root = tmp_path_factory.mktemp('runs')
    processes = {
        method: debug(method, root / method, *words) for method, (words, *_) in RUNS.items()}
    results = {method: finish(process) for method, process in processes.items()}
    for code, _, errors in results.values():
        assert code == 0, errors[-2000:]
    return {method: (root / method, results[method][1]) for method in RUNS}


@pytest.fixture(scope='module')
def continued(trained, tmp_path_factory):
    """What later sessions made of copies of the runs, side by side: name -> (folder, output).

    'longer': MuMMI's with more steps. 'damaged': CVRL's with more steps and another setting, after
    damage to its newest checkpoint and an episode. 'picture': a new run of Dreamer from images
    alone, of 32 pixels, with the task of MuMMI's run and another seed. 'late': Dreamer's, as a
    kill in its last phase leaves it, with all episodes and without the last updates and
    evaluation.
    """
    root = tmp_path_factory.mktemp('continued')
    folders = {name: root / name for name in ('longer', 'damaged', 'picture', 'late')}
    shutil.copytree(trained['mummi'][0], folders['longer'])
    shutil.copytree(trained['cvrl'][0], folders['damaged'])
    data = folders['damaged'] / 'state-000000010.data-00000-of-00001'
    content = bytearray(data.read_bytes())
    content[len(content) // 2:len(content) // 2 + 64] = bytes(64)
    data.write_bytes(content)
    path = folders['damaged'] / 'episodes' / '0000003-51.npz'
    path.write_bytes(path.read_bytes()[:5000])
    shutil.copytree(trained['dreamer'][0], folders['late'])
    for path in folders['late'].glob('state-000000010.*'):
        path.unlink()
    table = folders['late'] / 'episodes.csv'
    table.write_text(''.join(table.read_text().splitlines(True)[:-1]))
    processes = {
        'longer': debug('mummi', folders['longer'], *RUNS['mummi'][0], '--steps', 800),
        'damaged': debug('cvrl', folders['damaged'], *RUNS['cvrl'][0], '--steps', 800,
                         '--entropy_bonus', 0.01),
        'picture': debug(
            'dreamer', folders['picture'], '--task', 'dmc_walker_walk', '--sensors', 'image',
            '--seed', 1, '--steps', 300, '--no-natural', '--picture_size', 32),
        'late': debug('dreamer', folders['late'], *RUNS['dreamer'][0])}
    results = {name: finish(process) for name, process in processes.items()}
    for code, _, errors in results.values():
        assert code == 0, errors[-2000:]
    return {name: (folders[name], results[name][1]) for name in processes}


# --- What a run writes -------------------------------------------------------------------


def episodes(folder):
    """The arrays of all episodes of a run, in order."""
    found = []
    for path in sorted((folder / 'episodes').glob('*.npz')):
        with np.load(path) as arrays:
            found.append(dict(arrays))
        assert path.name == f'{len(found) - 1:07d}-{len(found[-1]["reward"])}.npz'
    return found


def tables(folder):
    return pd.read_csv(folder / 'episodes.csv'), pd.read_csv(folder / 'metrics.csv')


@pytest.fixture(params=RUNS)
def run(request, trained):
    """(method, its folder, its sensors, number of environments)."""
    _, sensors, count, _ = RUNS[request.param]
    return request.param, trained[request.param][0], sensors, count


def test_folder_of_a_run_holds_what_it_should_and_nothing_else(run):
    _, folder, _, _ = run
    assert sorted(path.name for path in folder.iterdir()) == sorted([
        'config.json', 'episodes', 'episodes.csv', 'lock', 'metrics.csv', 'tensorboard',
        'videos', *(f'state-{number:09d}.{ending}' for number in (6, 8, 10)
                    for ending in ('index', 'data-00000-of-00001'))])
    assert not list(folder.rglob('*.partial'))


def test_saved_configuration_is_that_of_the_command_line(run):
    method, folder, _, count = run
    found, found_method = commandline.load(folder / 'config.json')
    assert found_method == method
    assert (found.logdir, found.preset, found.steps, found.envs) == (
        str(folder), 'debug', 600, count)
    assert found.task == RUNS[method][0][1]


def test_output_tells_sensors_evaluations_and_end(run, trained):
    method, folder, sensors, _ = run
    lines = [line for line in trained[method][1].splitlines() if line.strip()]
    assert f'{method} on ' in lines[0] and f': {", ".join(sensors)}; ' in lines[0]
    assert f'a new run in {folder}' in lines[0]
    table, _ = tables(folder)
    steps = table['step'][table['mode'] == 'eval']
    told = [re.fullmatch(r'evaluation at ([\d,]+) steps: return (-?[\d.]+)\s*', line)
            for line in lines[1:-1]]
    assert [int(match[1]) for match in told] == list(steps)
    assert lines[-1].strip() == 'finished: 600 steps, 10 updates'


def test_episode_files_have_all_arrays_and_begin_at_rest(run):
    _, folder, sensors, _ = run
    found = episodes(folder)
    assert len(found) == 6
    for arrays in found:
        assert set(arrays) == {'action', 'reward', 'discount', 'steps'} | {
            name for sensor in sensors for name in (sensor, config.flag(sensor))}
        assert {len(value) for value in arrays.values()} == {51}
        assert not arrays['action'][0].any() and arrays['reward'][0] == 0
        assert arrays['action'][1:].any(1).all() and np.abs(arrays['action']).max() <= 1
        assert (arrays['discount'] == 1).all()
        assert arrays['steps'].tolist() == [0] + [2] * 50
        for sensor in sensors:
            present = arrays[config.flag(sensor)][:, 0]
            assert set(present) <= {0, 1} and not arrays[sensor][present == 0].any()
        assert arrays['image'].any((1, 2, 3))[arrays['image_flag'][:, 0] == 1].all()


def test_episode_table_agrees_with_the_episode_files(run):
    method, folder, sensors, count = run
    table, _ = tables(folder)
    assert table.notna().all().all()
    assert list(table.columns) == [
        'step', 'updates', 'seconds', 'mode', 'return', 'length',
        *(f'missing_{sensor}' for sensor in sensors), 'episode']
    collected = table[table['mode'] != 'eval']
    assert collected['mode'].tolist() == ['prefill'] * 2 + ['train'] * 4
    for (_, row), arrays in zip(collected.iterrows(), episodes(folder), strict=True):
        assert row['return'] == pytest.approx(arrays['reward'].sum(), rel=1e-5)
        assert row['length'] == 2 * (len(arrays['reward']) - 1) == 100
        for sensor in sensors:
            assert row[f'missing_{sensor}'] == pytest.approx(
                1 - arrays[config.flag(sensor)].mean(), abs=1e-5)
    # Environments that step together end together.
    ends = [100 * count * (number // count + 1) for number in range(6)]
    assert collected['step'].tolist() == ends
    missing = table[[f'missing_{sensor}' for sensor in sensors]].to_numpy()
    assert (missing == 0).all() if method == 'dreamer' else 0.05 < missing.mean() < 0.6


def test_evaluations_come_when_a_multiple_of_their_interval_has_passed_and_at_the_end(run):
    _, folder, _, _ = run
    table, _ = tables(folder)
    evaluated = table[table['mode'] == 'eval']
    assert evaluated['step'].tolist() == [200, 400, 600]
    assert evaluated['updates'].tolist() == [2, 6, 10]
    assert (evaluated['length'] == 100).all()
    assert evaluated['return'].nunique() == 3


def test_metrics_table_has_every_update_of_the_schedule_and_all_losses_finite(run):
    method, folder, _, _ = run
    _, table = tables(folder)
    assert np.isfinite(table.to_numpy()).all()
    assert table['updates'].tolist() == list(range(1, 11))
    assert table['step'].tolist() == [200, 200, 300, 300, 400, 400, 500, 500, 600, 600]
    assert table['seconds'].is_monotonic_increasing and (table['updates_per_second'] > 0).all()
    assert set(table.columns) >= COMMON | RUNS[method][3]
    # An update changes the weights, so no two losses are equal.
    for name in (COMMON | RUNS[method][3]) - {'divergence'}:
        assert table[name].nunique() > 5, name


def test_videos_move_and_last_as_long_as_what_they_show(run):
    _, folder, sensors, _ = run
    whole = 388 + 60 * ('touch' in sensors), 192  # two pictures, and bars for two values of touch
    kinds = {'eval': 51 * 50, 'open_loop_image': 8 * 200, 'open_loop_depth': 8 * 200}
    assert sorted(path.name for path in (folder / 'videos').iterdir()) == sorted(
        f'{step:09d}-{kind}.gif' for step in (200, 400, 600) for kind in kinds)
    for path in (folder / 'videos').iterdir():
        with Image.open(path) as picture:
            assert picture.size == (whole if 'eval' in path.name else (512, 384))
            frames, total = [], 0
            for number in range(picture.n_frames):
                picture.seek(number)
                total += picture.info['duration']
                frames.append(np.asarray(picture.convert('RGB')))
        assert total == kinds[path.stem.split('-', 1)[1]]
        frames = np.stack(frames)
        assert len(frames) > 3 and np.ptp(frames, (1, 2)).max() > 50
        assert any((frames[0] != frame).any() for frame in frames[1:])


def test_tensorboard_shows_the_numbers_of_the_tables(run):
    _, folder, sensors, _ = run
    found = {}
    for path in (folder / 'tensorboard').iterdir():
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    table, metrics = tables(folder)
    expected = {f'train/{name}': (metrics['step'], metrics[name]) for name in COMMON}
    for mode in 'prefill', 'train', 'eval':
        rows = table[table['mode'] == mode]
        for name in 'return', 'length', *(f'missing_{sensor}' for sensor in sensors):
            expected[f'{mode}/{name}'] = rows['step'], rows[name]
    for tag, (steps, values) in expected.items():
        assert [step for step, _ in found[tag]] == steps.tolist()
        np.testing.assert_allclose([value for _, value in found[tag]], values, rtol=1e-5)
    for path in (folder / 'videos').iterdir():
        step, kind = path.stem.split('-', 1)
        [shown] = [value[2] for at, value in found[kind] if at == int(step)]
        assert shown == path.read_bytes()


# --- Going on ----------------------------------------------------------------------------


def test_the_same_command_with_more_steps_goes_on_where_the_run_ended(trained, continued):
    before, (after, out) = trained['mummi'][0], continued['longer']
    assert f'resumed at 600 steps, 10 updates in {after}' in out
    assert 'finished: 800 steps, 14 updates' in out
    for name in 'episodes.csv', 'metrics.csv':
        assert (after / name).read_text().startswith((before / name).read_text())
    (old, _), (table, metrics) = tables(before), tables(after)
    new = table[len(old):]
    assert new['mode'].tolist() == ['train', 'train', 'eval']
    assert new['step'].tolist() == [700, 800, 800] and new['updates'].tolist() == [10, 12, 14]
    assert metrics['updates'].tolist() == list(range(1, 15))
    assert metrics['step'][10:].tolist() == [700, 700, 800, 800]
    assert np.isfinite(metrics.to_numpy()).all()
    assert table['seconds'].is_monotonic_increasing and metrics['seconds'].is_monotonic_increasing
    assert len(episodes(after)) == 8
    assert sorted(path.name for path in after.glob('*.index')) == [
        f'state-{number:09d}.index' for number in (10, 12, 14)]
    assert commandline.load(after / 'config.json')[0].steps == 800


def test_settings_that_a_resumed_run_did_not_have_are_said(continued):
    notes = {name: [line for line in out.splitlines() if line.startswith('note: ')]
             for name, (_, out) in continued.items()}
    said = notes.pop('damaged')
    assert not any(notes.values())
    assert said == [
        'note: from here on the run has other settings: entropy_bonus 0.01 (0.0 before)']


def test_settings_that_were_changed_are_written_down_and_said_of_its_curves(continued, capsys):
    changes = {name: logs.load_run(folder).history['changes']
               for name, (folder, _) in continued.items()}
    (change,) = changes.pop('damaged')
    assert re.fullmatch(r'from step \d00 on: entropy_bonus 0.01 \(0.0 before\)', change)
    assert not any(changes.values())
    capsys.readouterr()
    folder = continued['damaged'][0]
    logs.load([folder])
    assert f'{folder}: other settings {change}' in capsys.readouterr().out.splitlines()


def test_a_resumed_run_repeats_no_episode(continued):
    actions = [arrays['action'].tobytes() for arrays in episodes(continued['longer'][0])]
    assert len(set(actions)) == len(actions) == 8


def test_damaged_checkpoint_and_episode_are_named_and_training_goes_on(continued):
    folder, out = continued['damaged']
    warnings = [line for line in out.splitlines() if line.startswith('warning: ')]
    assert len(warnings) == 2
    assert any('state-000000010' in line for line in warnings)
    assert any('0000003-51.npz' in line for line in warnings)
    assert (folder / 'episodes' / '0000003-51.npz.damaged').stat().st_size == 5000
    # An episode of 100 steps and the two updates of the newest checkpoint are lost.
    assert 'resumed at 500 steps, 8 updates' in out
    assert re.search(r'finished: 8\d\d steps, 14 updates', out)
    after = tables(folder)[1]
    assert after['updates'].tolist() == list(range(1, 15))  # the rows of what was lost went too
    assert np.isfinite(after.to_numpy()).all()


def test_a_run_that_was_killed_in_its_last_phase_is_evaluated_at_its_end(trained, continued):
    folder, out = continued['late']
    assert 'resumed at 600 steps, 8 updates' in out and 'finished: 600 steps, 10 updates' in out
    (whole, _), (table, _) = tables(trained['dreamer'][0]), tables(folder)
    assert whole['mode'].iloc[-1] == 'eval'
    columns = ['step', 'updates', 'mode']
    pd.testing.assert_frame_equal(table[columns], whole[columns])
    assert table['return'][:-1].tolist() == whole['return'][:-1].tolist()


def test_a_run_from_images_alone_has_no_other_sensor(continued):
    folder, out = continued['picture']
    assert 'dreamer on dmc_walker_walk: image; ' in out
    table, metrics = tables(folder)
    assert [name for name in table.columns if name.startswith('missing')] == ['missing_image']
    assert 'image_loss' in metrics.columns and 'depth_loss' not in metrics.columns
    assert not {'depth', 'touch'} & set(episodes(folder)[0])
    assert {path.stem.split('-', 1)[1] for path in (folder / 'videos').iterdir()} == {
        'eval', 'open_loop_image'}
    # Of 32 pixels, drawn as large as those of 64.
    assert {episode['image'].shape[1:] for episode in episodes(folder)} == {(32, 32, 3)}
    shapes = {path.stem.split('-', 1)[1]: imageio.v3.imread(path).shape[1:3]
              for path in (folder / 'videos').iterdir()}
    assert shapes == {'eval': (192, 192), 'open_loop_image': (384, 512)}


# --- Killed ------------------------------------------------------------------------------


def children(process):
    """The processes that a process started, and theirs, as {id: time of start}."""
    found, parents = {}, [process.pid]
    while parents:
        born = {}
        for entry in pathlib.Path('/proc').glob('[0-9]*/stat'):
            state = stat(entry)
            if state and int(state[1]) in parents:
                born[int(entry.parent.name)] = state[19]
        found |= born
        parents = list(born)
    return found


def stat(path):
    """The fields after the name of /proc/<id>/stat: state, parent, ... (19: time of start)."""
    try:
        return pathlib.Path(path).read_text().rsplit(') ', 1)[1].split()
    except OSError:
        return None


def alive(found):
    states = {pid: stat(f'/proc/{pid}/stat') for pid in found}
    return [pid for pid, state in states.items()
            if state and state[0] != 'Z' and state[19] == found[pid]]


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    """A run of MuMMI that a second one found busy and that was then killed while training.

    Returns its folder, what the second process said, the rows of metrics.csv at the kill, and
    the worker processes before and those that were left five seconds after.
    """
    folder = tmp_path_factory.mktemp('killed') / 'run'
    process = debug('mummi', folder, *RUNS['mummi'][0])
    metrics = folder / 'metrics.csv'
    try:
        assert wait(lambda: metrics.exists() or process.poll() is not None, 200)
        assert process.poll() is None
        process.send_signal(signal.SIGSTOP)  # so that it is not at its end too soon
        workers = children(process)
        second = finish(debug('mummi', folder, *RUNS['mummi'][0], '--steps', 700))
        rows = len(metrics.read_text().splitlines()) - 1
        process.send_signal(signal.SIGCONT)
        wait(lambda: len(metrics.read_text().splitlines()) - 1 > rows + 1, 60)
        rows = len(metrics.read_text().splitlines()) - 1
    finally:
        process.kill()
    process.wait()
    wait(lambda: not alive(workers), 5)
    left = alive(workers)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)  # ends when nobody holds the pipes any more
    return folder, second, rows, workers, left


def test_a_second_process_in_the_folder_of_a_run_is_refused(killed):
    folder, second, _, _, _ = killed
    assert refused(second, 'another process', str(folder))
    assert commandline.load(folder / 'config.json')[0].steps == 600


def test_killed_run_leaves_no_process_behind(killed):
    _, _, rows, workers, left = killed
    assert 0 < rows < 10  # it was training
    assert len(workers) >= 1 and left == []


def test_killed_run_leaves_tables_and_episodes_that_can_be_read(killed):
    folder, _, rows, _, _ = killed
    table, metrics = tables(folder)
    assert np.isfinite(metrics.to_numpy()).all() and len(metrics) >= rows
    assert table['mode'].tolist()[:2] == ['prefill'] * 2
    assert 2 <= len(episodes(folder)) < 6


def test_same_seed_gives_the_same_prefill_and_another_seed_another(killed, trained, continued):
    first, again, other = (
        episodes(folder)[:2] for folder in (trained['mummi'][0], killed[0],
                                            continued['picture'][0]))
    for one, same in zip(first, again, strict=True):
        assert all(np.array_equal(one[key], same[key]) for key in one)
    for one, another in zip(first, other):
        assert not np.array_equal(one['action'], another['action'])
        assert one['reward'].sum() != another['reward'].sum()
    assert not np.array_equal(first[0]['action'], first[1]['action'])


def test_the_same_command_finishes_a_killed_run(killed, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(killed[0], folder)
    before, _ = tables(folder)
    code, out, errors = finish(debug('mummi', folder, *RUNS['mummi'][0]))
    assert code == 0, errors[-2000:]
    assert 'resumed at ' in out and 'finished: 600 steps, 10 updates' in out
    table, metrics = tables(folder)
    assert table['mode'].tolist().count('prefill') == 2
    collected = table[table['mode'] != 'eval']
    assert collected['step'].tolist() == [100, 200, 300, 400, 500, 600]
    assert len(episodes(folder)) == 6 and len(table) > len(before)
    assert metrics['updates'].iloc[-1] == 10 and set(metrics['updates']) == set(range(1, 11))
    assert np.isfinite(metrics.to_numpy()).all()


# --- Refused -----------------------------------------------------------------------------


def content(folder):
    return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest())
            for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('method, words, parts', [
    ('dreamer', (), ['mummi.py', 'dreamer.py']),
    ('mummi', ('--task', 'dmc_walker_run'), [
        'task (dmc_walker_walk in the run, dmc_walker_run now)']),
    ('mummi', ('--deter', '64'), ['deter (32 in the run, 64 now)']),
    ('mummi', ('--sensors', 'image'), ['sensors (all in the run, image now)'])])
def test_folder_of_a_different_run_is_refused_and_left_as_it_is(method, words, parts, trained):
    folder = trained['mummi'][0]
    before = content(folder)
    result = finish(debug(method, folder, '--task', 'dmc_walker_walk', *words))
    assert refused(result, str(folder), *parts) and result[2].count('\n') == 1
    assert content(folder) == before


MISTAKES = {
    'task': (['--task', 'dmc_walker_wlak'], {}, ['dmc_walker_wlak', '--task dmc_walker_walk?']),
    'sensor': (['--task', 'dmc_cartpole_balance', '--sensors', 'touch'], {}, [
        'dmc_cartpole_balance', 'touch', '--sensors image,depth']),
    'videos': (['--natural_valid', '{damaged}'], {}, ['{damaged}', 'natural.py']),
    'opengl': (['--no-natural'], {
        'MUJOCO_GL': 'egl', '__EGL_VENDOR_LIBRARY_FILENAMES': '/dev/null'}, [
        'OpenGL', 'libegl1', 'libgl1-mesa-dri', 'libosmesa6']),
    'folder': (['--no-natural', '--logdir', '{damaged}'], {}, ['{damaged}'])}


@pytest.fixture(scope='module')
def mistakes(tmp_path_factory):
    """Name of a mistake -> (folder, path of a damaged file, result); started side by side."""
    root = tmp_path_factory.mktemp('mistakes')
    damaged = root / 'damaged.pkl'
    damaged.write_bytes((ROOT / 'natural_valid.pkl').read_bytes()[:100000])
    results, waiting = {}, list(MISTAKES)
    while waiting:
        group, waiting = waiting[:2], waiting[2:]
        processes = {name: debug(
            'cvrl', root / name, *(word.format(damaged=damaged) for word in MISTAKES[name][0]),
            **MISTAKES[name][1]) for name in group}
        results |= {
            name: (root / name, damaged, finish(process)) for name, process in processes.items()}
    return results


@pytest.mark.parametrize('name', MISTAKES)
def test_mistake_that_only_the_environment_can_see_is_one_line_and_no_folder(name, mistakes):
    folder, damaged, result = mistakes[name]
    assert refused(result, *(part.format(damaged=damaged) for part in MISTAKES[name][2]))
    assert result[1] == '' and not folder.exists()


def test_dry_run_prints_the_published_sizes_and_writes_nothing(tmp_path):
    folder = tmp_path / 'run'
    code, out, errors = finish(start(
        'mummi', '--logdir', folder, '--task', 'dmc_walker_walk', '--dry_run'))
    assert code == 0, errors[-2000:]
    for part, size in ('world model', '12,038,833'), ('actor', '578,412'), ('value', '413,601'):
        assert re.search(rf'^ +{part} +{size}$', out, re.MULTILINE), part
    for sensor in 'image', 'depth', 'touch':
        assert re.search(rf'^ +{sensor} +\(', out, re.MULTILINE), sensor
    assert re.search(r'^ +actions +\(6,\)$', out, re.MULTILINE)
    # An entry: the pictures, 12,288 and 8,192 bytes, 2 pressures, 3 flags, 6 actions, reward,
    # discount and the number of steps; two steps an entry.
    replay = 12288 + 2 * 64 * 64 + 4 * (2 + 3 + 6 + 3)
    assert f'{replay * 1e6 / 1e9:.2f} GB after 2,000,000 steps' in out
    assert not folder.exists() and not list(tmp_path.iterdir())


def test_lock_of_a_finished_run_is_free(trained):
    with open(trained['mummi'][0] / 'lock') as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize('number, refused', [
    (errno.EWOULDBLOCK, True), (errno.EACCES, True), (errno.ENOLCK, False),
    (errno.EOPNOTSUPP, False), (errno.ENOSYS, False)])
def test_a_file_system_without_locks_is_told_from_another_process(
        number, refused, tmp_path, monkeypatch):
    def no_lock(*_):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(fcntl, 'flock', no_lock)
    said = []
    if refused:
        with pytest.raises(config.UserError, match='another process is training'):
            opening.locked(tmp_path, said.append)
    else:
        with opening.locked(tmp_path, said.append) as lock:
            assert not lock.closed
    assert names(tmp_path) == ['lock']  # nothing else is written
    assert len(said) == (not refused) and all('gives no locks' in line for line in said)


@pytest.mark.parametrize('broken', ['model_loss', 'actor_loss', 'value_gradient'])
def test_update_that_is_not_finite_stops_the_run_before_it_is_saved(broken):
    rows = []
    run = types.SimpleNamespace(
        agent=types.SimpleNamespace(compute=tf.bfloat16), step=1000, seconds=lambda: 1.0,
        logger=types.SimpleNamespace(update=rows.append), health=Health(6))
    values = {'model_loss': 1.0, 'actor_loss': 2.0, 'value_gradient': 3.0, 'find_image': np.nan}
    training.Trainer._log(run, 7, values)
    assert rows[0]['updates'] == 7 and rows[0]['actor_loss'] == 2.0
    for value in np.nan, np.inf:
        with pytest.raises(config.UserError, match=f'not finite at update 8: {broken}$'):
            training.Trainer._log(run, 8, values | {broken: value})
    assert len(rows) == 1
    # A loss scale that is too large shows in the same way, and heals itself while it can fall.
    run.agent.compute = tf.float16
    run.agent.optimisers = {'model': types.SimpleNamespace(scale=tf.Variable(2.0))}
    training.Trainer._log(run, 9, values | {broken: np.inf})
    assert len(rows) == 2
    run.agent.optimisers['value'] = types.SimpleNamespace(scale=tf.Variable(1.0))
    with pytest.raises(config.UserError, match='not finite at update 10'):
        training.Trainer._log(run, 10, values | {broken: np.inf})


def test_what_lasts_in_the_metrics_is_said(monkeypatch):
    said = []
    run = types.SimpleNamespace(
        agent=types.SimpleNamespace(compute=tf.bfloat16), step=1000, seconds=lambda: 1.0,
        logger=types.SimpleNamespace(update=lambda row: None), health=Health(-60.0))
    monkeypatch.setattr(training, 'say', said.append)
    for update in range(3 * LASTING):
        training.Trainer._log(run, update, {'value_ratio': 9.0, 'value': 30.0})
    assert len(said) == 1 and said[0].startswith('warning: the value is 9.0 times')


@pytest.mark.parametrize('terminal, drawn', [(True, 40), (False, 3)])
def test_bar_is_drawn_at_each_update_on_a_terminal_and_seldom_in_a_file(
        terminal, drawn, monkeypatch):
    errors, clock = io.StringIO(), iter(range(1000, 1041))
    errors.isatty = lambda: terminal
    monkeypatch.setattr(sys, 'stderr', errors)
    monkeypatch.setattr(screen.time, 'monotonic', lambda: next(clock))
    output, shown = io.StringIO(), screen.Screen()
    with tqdm.tqdm(total=100, file=output, miniters=100) as shown.bar:
        for number in range(40):
            shown.show(f'update {number}.', phase='train' if number == 5 else None)
        text = output.getvalue()
        shown.show('building', at_once=True)
        assert 'building' in output.getvalue()
    assert text.count('update ') == drawn
    assert ('train ' in text) and 'update 0.' in text and 'update 30.' in text
