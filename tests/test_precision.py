"""Tests of the choice of the products' type."""

import pytest
import tensorflow as tf

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
