"""Tests of what runs on a GPU, as far as it can be known without one: how TensorFlow is set up,
that every operation has a kernel there, and that XLA computes the same."""

import functools
import os
import pathlib
import re
import subprocess
import sys

import helpers
import numpy as np
import pytest
import stand_in
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.kernels import get_registered_kernels_for_op

import devices
import processor

ROOT = pathlib.Path(devices.__file__).parent


# --- Set-up ------------------------------------------------------------------------------


def test_a_run_lets_a_gpus_memory_grow_and_names_it_before_anything_is_computed(tmp_path):
    done = subprocess.run(
        [sys.executable, 'tests/stand_in.py', 'mummi.py', '--preset', 'debug', '--no-natural',
         '--task', 'dmc_cartpole_balance', '--logdir', str(tmp_path)],
        cwd=ROOT, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said, configured = done.stdout.splitlines()  # and no advice
    assert 'float32 products on Stand-in 7000 (compute capability 7.5); a new run' in said
    assert configured == 'STAND-IN growth True rounded False'


COUNT = '''
import collections, pathlib
import tensorflow as tf
import devices, processor
processor.cores = lambda: 7
devices.set_up()
tf.function(lambda x: tf.matmul(x, x) + tf.matmul(x, x + 1))(tf.ones([500, 500]))
names = [path.read_text().strip() for path in pathlib.Path('/proc/self/task').glob('*/comm')]
print(names.count('tf_Compute'))
'''


@pytest.mark.skipif(not os.path.isdir('/proc/self/task'), reason='its threads are not told')
def test_tensorflow_takes_the_threads_that_it_is_given_after_it_was_imported():
    given = {name: '3' for name in processor.threads(1) if 'INTER' in name}
    for environment, count in ({}, 7), (given, 3):
        done = subprocess.run(
            [sys.executable, '-c', COUNT], cwd=ROOT, text=True, capture_output=True, timeout=300,
            env={k: v for k, v in os.environ.items() if k not in processor.threads(1)}
            | environment)
        assert done.stdout == f'{count}\n', done.stderr


def test_on_two_cores_an_operation_has_one(monkeypatch):
    """As independent ones fill both; and what the user's environment says stands."""
    for name in processor.threads(1):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processor, 'cores', lambda: 2)
    monkeypatch.setenv('TF_NUM_INTEROP_THREADS', '7')
    devices.set_up()
    assert os.environ['TF_NUM_INTRAOP_THREADS'] == '1'
    assert os.environ['TF_NUM_INTEROP_THREADS'] == '7'
    for count in 1, 3, 64:
        assert set(processor.threads(count).values()) == {str(count)}
    assert processor.threads(2) == {
        'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '2'}


@pytest.mark.parametrize('flags, wanted', [
    ('fpu avx2', '1'), ('avx avx512f avx2 avx512_vnni', '1'), ('fpu avx', None), ('asimd', None)])
def test_onednn_computes_where_it_is_faster(flags, wanted, monkeypatch):
    monkeypatch.setattr(processor, 'facts', lambda: {'flags': flags.split()})
    monkeypatch.setattr(os, 'environ', {})
    processor.prepare()
    assert os.environ.get('TF_ENABLE_ONEDNN_OPTS') == wanted
    os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'
    processor.prepare()
    assert os.environ['TF_ENABLE_ONEDNN_OPTS'] == '0'  # the user's word stands
    monkeypatch.setattr(processor, 'facts', dict)  # not on Linux
    assert processor.kernels() == {}


CONVOLVE = '''
import commandline
from config import Method
commandline.from_command_line(Method('mummi'), ['--logdir', 'nowhere', '--task', 'dmc_walker_walk'])
import tensorflow as tf
tf.function(tf.nn.conv2d)(tf.ones([8, 31, 31, 16]), tf.ones([4, 4, 16, 32]), 2, 'VALID')
import networks, sys
assert 'tf_keras' in sys.modules and 'keras' not in sys.modules, 'two of Keras are imported'
'''


@pytest.mark.skipif(not processor.kernels(), reason='oneDNN is not chosen for this processor')
@pytest.mark.parametrize('given', [None, '0'])
def test_a_script_computes_by_onednn_and_the_user_can_say_no(given):
    environment = {k: v for k, v in os.environ.items() if k not in processor.kernels() | {
        'TF_USE_LEGACY_KERAS': ''}}
    environment |= {'DNNL_VERBOSE': '1'} | ({'TF_ENABLE_ONEDNN_OPTS': given} if given else {})
    done = subprocess.run(
        [sys.executable, '-c', CONVOLVE], cwd=ROOT, text=True, capture_output=True, timeout=300,
        env=environment)
    assert done.returncode == 0, done.stderr
    assert ('exec,cpu,convolution' in done.stdout) == (given is None)


def test_the_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {5, 7, 8}, raising=False)
    assert processor.cores() == 3
    monkeypatch.delattr(os, 'sched_getaffinity')
    monkeypatch.setattr(os, 'cpu_count', lambda: 6)
    assert processor.cores() == 6


def give_gpu(monkeypatch, count=1, **details):
    monkeypatch.setattr(
        tf.config, 'get_visible_devices',
        lambda kind: [stand_in.GPU] * count if kind == 'GPU' else [])
    monkeypatch.setattr(tf.config.experimental, 'get_device_details', lambda _: details)


def test_the_device_is_named_for_a_person(monkeypatch):
    assert devices.name() == 'the CPU'
    assert devices.capability() == (0, 0)
    give_gpu(monkeypatch, device_name='NVIDIA X1', compute_capability=(8, 6))
    assert devices.name() == 'NVIDIA X1 (compute capability 8.6)'
    give_gpu(monkeypatch, 2, device_name='NVIDIA X1', compute_capability=(12, 0))
    assert devices.name() == 'NVIDIA X1 (compute capability 12.0, the first of 2 GPUs)'
    assert devices.name(2) == 'NVIDIA X1 (compute capability 12.0, and 1 more GPUs)'


def test_a_gpu_that_tensorflow_does_not_see_is_one_line_that_says_what_to_type(monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    line = devices.advice(driver=lambda: True)
    assert line.startswith('warning: ') and '\n' not in line
    assert 'pip install -r requirements-gpu.txt' in line
    assert not devices.advice(driver=lambda: False)
    for hidden in '', '-1':
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', hidden)
        assert not devices.advice(driver=lambda: True)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    assert devices.advice(driver=lambda: True)
    give_gpu(monkeypatch)
    assert not devices.advice(driver=lambda: True)


def test_the_driver_is_found_by_its_tool_or_by_its_version(monkeypatch, tmp_path):
    paths = []
    monkeypatch.setattr(devices.os.path, 'exists', lambda path: path in paths)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert not devices.has_driver()
    paths.append('/proc/driver/nvidia/version')
    assert devices.has_driver()
    paths[:] = [str(tmp_path / 'nvidia-smi')]
    (tmp_path / 'nvidia-smi').touch(0o755)
    assert devices.has_driver()


def test_a_machine_with_a_driver_is_told_at_the_start(tmp_path):
    """nvidia-smi is in the path; the GPU is not there."""
    tool = tmp_path / 'bin' / 'nvidia-smi'
    tool.parent.mkdir()
    tool.touch(0o755)
    done = subprocess.run(
        [sys.executable, 'dreamer.py', '--preset', 'debug', '--no-natural', '--dry_run',
         '--task', 'dmc_cartpole_balance', '--logdir', str(tmp_path / 'run')],
        cwd=ROOT, text=True, capture_output=True, timeout=300,
        env={k: v for k, v in os.environ.items() if k != 'CUDA_VISIBLE_DEVICES'} | {
            'PATH': f'{tool.parent}:{os.environ["PATH"]}'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('pip install -r requirements-gpu.txt') == 1
    assert ' products on the CPU\n' in done.stdout


def test_the_requirements_of_a_gpu_are_the_pinned_ones_and_cuda():
    usual, gpu = (
        (ROOT / f'requirements{name}.txt').read_text(encoding='utf-8') for name in ('', '-gpu'))
    version = re.search(r'^tensorflow(==.*)$', usual, re.MULTILINE)[1]
    assert [line for line in gpu.splitlines() if not line.startswith('#')] == [
        '-r requirements.txt', f'tensorflow[and-cuda]{version}']


# --- Kernels -----------------------------------------------------------------------------


DATA = {tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.uint8}


def nodes(function):
    """Every operation of a function's graph and of the functions that it calls."""
    graph = function.graph.as_graph_def()
    yield from graph.node
    for called in graph.library.function:
        yield from called.node_def


def arguments(node):
    """name -> types of an operation's inputs and outputs."""
    definition, result = op_def_registry.get(node.op), {}
    for argument in [*definition.input_arg, *definition.output_arg]:
        if argument.type_list_attr:
            kinds = node.attr[argument.type_list_attr].list.type
        else:
            kinds = [argument.type or node.attr[argument.type_attr].type]
        result[argument.name] = {tf.as_dtype(kind) for kind in kinds}
    return result


@functools.cache
def kernels(name):
    """Those that may run on a GPU. 'DEFAULT' is of operations that compute nothing."""
    return [kernel for kernel in get_registered_kernels_for_op(name).kernel
            if kernel.device_type in ('GPU', 'DEFAULT')]


def fits(kernel, node):
    return all(
        node.attr[limit.name].type in limit.allowed_values.list.type
        for limit in kernel.constraint if limit.allowed_values.list.type)


def without_kernel(function):
    """The operations on floating-point numbers or bytes that a GPU hands to the processor: none
    has a kernel there, or it wants such data in the processor's memory."""
    bad = set()
    for node in nodes(function):
        # An input of the function; a call, whose operations are looked at themselves.
        if node.op in ('Placeholder', 'If', 'StatelessIf', 'While', 'StatelessWhile') or (
                op_def_registry.get(node.op) is None):
            continue
        data = {name: kinds for name, kinds in arguments(node).items() if kinds & DATA}
        # One number, which is a constant of the graph.
        data.pop('padding_value', None)
        if data and not any(
                fits(kernel, node) and not set(kernel.host_memory_arg) & set(data)
                for kernel in kernels(node.op)):
            bad.add((node.op, *sorted(kind.name for kinds in data.values() for kind in kinds)))
    return bad


def traced(agent):
    """An update, and an action with and without noise."""
    observation = helpers.tensors(helpers.observations(2)) | {'is_first': tf.zeros([2], bool)}
    return [
        agent.train.get_concrete_function(helpers.tensors(helpers.sequences(2, 3))), *(
            agent.policy.get_concrete_function(observation, agent.initial(2), exploring)
            for exploring in (True, False))]


@pytest.mark.parametrize('method, words', [
    ('mummi', ('--pcont', '--search_candidates', '2', '--withhold', '0.5')),
    ('mummi', ('--density_ratio', 'bilinear', '--precision', 'bfloat16')),
    ('cvrl', ('--use_sac', '--weight_decay', '0.1')),
    ('cvrl', ('--use_sac', '--precision', 'float16')),
    ('dreamer', ('--refine_actions', '--slow_value', '0.1', '--kl_balance', '0.5')),
    ('dreamer', ('--precision', 'bfloat16'))])
def test_every_operation_of_an_update_and_of_an_action_has_a_kernel_on_a_gpu(
        method, words, monkeypatch):
    # As on a GPU, whatever this processor can.
    monkeypatch.setattr('precision.type_of_sums', lambda compute: compute)
    for function in traced(helpers.build(method, '--horizon', '2', *words)):
        kinds = {node.op for node in nodes(function)}
        assert kinds > {'MatMul', 'Conv2D', 'ReadVariableOp'}
        assert not without_kernel(function)


@pytest.mark.parametrize('method', helpers.METHODS)
@pytest.mark.parametrize('able', [False, True])
@pytest.mark.parametrize('half, instruction', [
    (tf.bfloat16, 'amx_bf16'), (tf.float16, 'avx512_fp16')])
def test_a_processor_without_half_precision_sums_every_product_in_float32(
        half, instruction, able, method, monkeypatch):
    flags = {'avx2', 'avx512f', 'amx_bf16', 'avx512_fp16'} - (set() if able else {instruction})
    monkeypatch.setattr('processor.facts', lambda: {'flags': sorted(flags)})
    agent = helpers.build(method, '--horizon', '2', '--precision', half.name)
    for function in traced(agent):
        products = [node for node in nodes(function)
                    if node.op.startswith(('Conv2D', 'MatMul', 'BatchMatMul', 'Einsum'))]
        assert {node.op for node in products} >= {'MatMul', 'Conv2D'}
        kinds = {node.attr['T'].type for node in products}
        assert (half.as_datatype_enum in kinds) == able
        assert half.as_datatype_enum in {node.attr['DstT'].type for node in nodes(function)}


def test_an_operation_that_a_gpu_lacks_is_found_wherever_it_stands():
    @tf.function
    def inner(x):
        return tf.gather(x, [1, 0])

    @tf.function
    def outer(x, flag):
        return tf.cond(flag, lambda: inner(x), lambda: x)

    function = outer.get_concrete_function(tf.zeros([2, 4], tf.uint8), tf.constant(True))
    assert without_kernel(function) == {('GatherV2', 'uint8', 'uint8')}


# --- XLA ---------------------------------------------------------------------------------


class CompiledNoise:
    """Draws from a generator as XLA does, also outside of it: from the same state, its normals
    are others than TensorFlow's own."""

    def __init__(self, generator):
        self.generator = generator
        self.normal, self.uniform = (
            tf.function(draw, autograph=False, jit_compile=True)
            for draw in (generator.normal, generator.uniform))


@pytest.mark.parametrize('method, words', [
    ('mummi', ('--pcont', '--withhold', '0.5')), ('cvrl', ('--use_sac',)),
    ('dreamer', ('--slow_value', '0.1', '--kl_balance', '0.5', '--entropy_bonus', '0.1'))])
def test_an_update_by_xla_changes_and_logs_what_the_plain_one_does(method, words):
    batch = helpers.tensors(helpers.sequences(6, 3))
    results = []
    for xla in (), ('--xla',):
        agent = helpers.build(method, '--free_nats', '0', '--horizon', '2', *words, *xla)
        helpers.shake(agent.world, 0.03)
        agent.random = CompiledNoise(agent.random)
        metrics = agent.train(batch)
        results.append((metrics, agent.variables, agent.random.generator.state))
    (plain, *states), (compiled, *others) = results
    assert plain.keys() == compiled.keys()
    for key, value in plain.items():
        np.testing.assert_allclose(compiled[key], value, rtol=1e-3, atol=1e-5, err_msg=key)
    np.testing.assert_array_equal(states[1], others[1])
    for one, other in zip(states[0], others[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)
