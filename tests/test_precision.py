"""Tests of the choice of the products' type."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import normals

import convolutions
import precision
import processor


@pytest.mark.parametrize('name', ['float32', 'bfloat16', 'float16'])
def test_a_named_precision_is_its_type(name):
    assert precision.compute_type(name) == tf.as_dtype(name)


AMD, INTEL = 'AuthenticAMD', 'GenuineIntel'


@pytest.mark.parametrize('vendor, flags, gpu, wanted', [
    (AMD, 'fpu avx512f avx512_bf16 sse', None, tf.bfloat16),
    (INTEL, 'fpu avx512f avx512_bf16 sse', None, tf.float32),
    (INTEL, 'fpu avx512_bf16 amx_bf16', None, tf.bfloat16),
    (AMD, 'fpu avx512f avx512_bf16x', None, tf.float32),
    (None, 'fpu avx512_bf16', None, tf.float32), (None, None, None, tf.float32),
    (INTEL, 'fpu avx512_bf16', (8, 0), tf.bfloat16), (None, None, (12, 0), tf.bfloat16),
    (INTEL, 'fpu amx_bf16', (7, 5), tf.float32), (None, None, (6, 1), tf.float32),
    (AMD, 'fpu avx512_bf16', (), tf.float32)])
def test_auto_is_bfloat16_where_the_device_is_faster_in_it(
        vendor, flags, gpu, wanted, monkeypatch, tmp_path):
    path = tmp_path / 'cpuinfo'
    if flags:
        name = f'vendor_id\t: {vendor}\n' if vendor else ''
        path.write_text(
            f'processor : 0\n{name}flags\t\t: {flags}\nbugs : none\npower management:\n\n'
            f'processor : 1\nvendor_id\t: {AMD}\nflags\t\t: amx_bf16\n\n')
    monkeypatch.setattr(processor, 'open', lambda _, **kind: open(path, **kind), raising=False)
    # A GPU and its compute capability, which another maker's has not.
    monkeypatch.setattr(
        tf.config, 'get_visible_devices', lambda kind: [] if gpu is None else [kind])
    monkeypatch.setattr(
        tf.config.experimental, 'get_device_details',
        lambda _: {'compute_capability': gpu} if gpu else {})
    assert precision.compute_type('auto') == wanted


def there_and_back(multiply, operation, factors, options):
    """The product, and the gradients of a weighted sum of it, all as float64."""
    with tf.GradientTape() as tape:
        tape.watch(factors)
        product = multiply(operation, *factors, **options)
        weights = tf.cast(tf.cast(normals(*product.shape, seed=2), tf.bfloat16), product.dtype)
        total = tf.reduce_sum(tf.cast(product * weights, tf.float64))
    return [np.float64(tf.cast(x, tf.float64)) for x in (product, *tape.gradient(total, factors))]


@pytest.mark.parametrize('kind, step', [('bfloat16', 2 ** -8), ('float16', 2 ** -11)])
@pytest.mark.parametrize('operation, sizes, options', [
    (tf.matmul, [(600, 400), (400, 300)], {}),
    (tf.matmul, [(600, 400), (300, 400)], {'transpose_b': True}),
    (tf.nn.conv2d, [(24, 31, 31, 8), (4, 4, 8, 16)], {'strides': 2, 'padding': 'VALID'}),
    (convolutions.transposed, [(24, 13, 13, 16), (6, 6, 8, 16)], {})])
def test_half_precision_rounds_sums_to_the_nearest_and_once(operation, sizes, options, kind, step):
    """On whatever processor this is. A sum that is cut off is 0.7 steps too small, on average;
    one that is added up in half precision errs by many."""
    half = precision.Precision(kind)
    # What bfloat16 can say, so that the factors are the same in all types.
    factors = [tf.cast(normals(*size, seed=seed), tf.bfloat16) for seed, size in enumerate(sizes)]
    found = there_and_back(
        half.multiply, operation, [tf.cast(x, half.compute) for x in factors], options)
    exact = there_and_back(
        lambda operation, *factors, **options: operation(*factors, **options), operation,
        [tf.cast(x, tf.float64) for x in factors], options)
    for one, right in zip(found, exact, strict=True):
        errors = (one - right) * np.sign(right) / (step * np.abs(right).mean())
        assert abs(errors.mean()) < 0.1 and np.sqrt(np.square(errors).mean()) < 0.7
