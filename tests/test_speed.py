"""Smoke tests of benchmarks/speed.py, and of its count of products against a count by hand."""

import importlib.util
import itertools
import json
import pathlib
import subprocess
import sys
import types

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / 'benchmarks' / 'speed.py'


def run(*words):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=300,
        cwd=SCRIPT.parent.parent)


def test_environment_and_update_of_the_debug_preset():
    result = run(
        '--method', 'mummi', '--preset', 'debug', '--repeats', '1', '--envs', '2', '--parts',
        'environment,update', '--no-natural', '--time_limit', '40', '--length', '4',
        '--horizon', '2', '--json', '-')
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    machine, results = report['machine'], report['results']
    assert machine.keys() >= {
        'processor', 'cores', 'load', 'tensorflow', 'products', 'task', 'preset', 'sensors'}
    assert results.keys() == {'environment', 'mummi'}
    assert results['environment'].keys() == {
        'environments: 1', 'environments: 2', 'physics alone, best', 'rendering alone, best'}
    assert results['mummi'].keys() >= {
        'one update', 'rate of its products', 'products in float32', 'present steps',
        'ceiling in float32', 'ceiling in bfloat16'}
    for group in results.values():
        for figure, row in group.items():
            assert row.keys() == {'value', 'unit', 'share'} and row['unit']
            assert row['value'] > 0, figure
            assert row['share'] is None or row['share'] > 0, figure
    assert results['mummi']['present steps']['value'] <= 4 * 4
    assert 'TensorFlow' not in result.stdout and 'of the ceiling' in result.stderr


@pytest.mark.parametrize('words', [
    ['--lenght', '3'], ['--repeats', 'x'], ['--envs', '0'], ['--parts', 'updates'],
    ['--method', 'planet'], ['--method', 'dreamer', '--probe_frames', '3'], ['--json'],
    ['--json', 'tests'], ['--json', 'nowhere/speed.json']])
def test_a_mistake_is_one_line(words):
    result = run(*words)
    assert result.returncode == 2
    assert result.stdout == ''
    assert result.stderr.startswith('error: ') and result.stderr.count('\n') == 1


@pytest.fixture
def speed():
    """The script as a module."""
    specification = importlib.util.spec_from_file_location('speed', SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_an_update_on_several_devices_is_timed_alone(speed, monkeypatch):
    """Their graph is made elsewhere, and holds the products of all."""
    learner = types.SimpleNamespace(
        agent=types.SimpleNamespace(strategy=types.SimpleNamespace(num_replicas_in_sync=2)),
        learn=lambda count: [9.0] if count == speed.WARM_UP else [1.0, 2.0, 6.0])
    monkeypatch.setattr(speed, 'Learner', lambda config, chosen: learner)
    assert speed.update(None, types.SimpleNamespace(repeats=5)) == [('one update', 2.0, 's')]


def test_the_ceiling_is_that_of_all_cores_whatever_an_operation_has(speed, monkeypatch):
    """As many products are made at once as there are cores, and all of them count."""
    monkeypatch.setattr(speed, 'PRODUCT', 8)
    monkeypatch.setattr(speed.processor, 'cores', lambda: 3)
    monkeypatch.setattr(speed.time, 'perf_counter', itertools.count().__next__)
    assert speed.product_rate('float32', 1) == pytest.approx(2e-9 * 3 * 8 ** 3)


def test_products_are_counted_with_their_gradients(speed):
    import tensorflow as tf
    kernel = tf.Variable(tf.ones([4, 4, 3, 5]))
    weights, back = tf.Variable(tf.ones([7, 11])), tf.Variable(tf.ones([6, 6, 2, 5]))

    @tf.function
    def function(pictures, rows, flags):
        tf.matmul(weights, rows, transpose_a=True)  # its result is not needed: not counted
        with tf.GradientTape() as tape:
            x = tf.nn.conv2d(pictures, kernel, 2, 'VALID')
            y = tf.nn.conv2d_transpose(x, back, [tf.shape(x)[0], 12, 12, 2], 2, 'VALID')
            kept = tf.gather_nd(rows, tf.where(flags > 0))
            z = tf.matmul(tf.cast(kept, tf.bfloat16), tf.cast(weights, tf.bfloat16))
            loss = tf.reduce_sum(y * y) + tf.reduce_sum(tf.cast(z * z, tf.float32))
        return tape.gradient(loss, [kernel, back, weights])

    graph = function.get_concrete_function(
        tf.TensorSpec([None, 10, 10, 3]), tf.zeros([7, 7]), tf.ones([7])).graph
    work, guessed = speed.products(graph, 6, 2)
    # 2 pictures x 4 x 4 places x 5 channels meet kernels of 4 x 4 x 3, forward and for the
    # kernel, and of 6 x 6 x 2, forward, for the kernel and for the input.
    convolutions = 2 * 2 * 4 * 4 * 5 * (2 * 4 * 4 * 3 + 3 * 6 * 6 * 2)
    assert work['float32'] == pytest.approx(1e-9 * convolutions)
    assert work['bfloat16'] == pytest.approx(1e-9 * 2 * (2 * 6 * 7 * 11))
    assert guessed == 5 + 2
