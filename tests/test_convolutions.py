"""Tests of the convolutions against TensorFlow's own, forward and back."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import close, normals

import convolutions


def plain_convolution(x, kernel):
    return tf.nn.conv2d(x, kernel, 2, 'VALID')


def plain_transposed(x, kernel):
    height, width = (2 * length + kernel.shape[0] - 2 for length in x.shape[1:3])
    return tf.nn.conv2d_transpose(x, kernel, [x.shape[0], height, width, kernel.shape[2]], 2,
                                  'VALID')


def there_and_back(function, x, kernel, upstream=None):
    """What comes out, and the gradients of its product with `upstream`."""
    def run(x, kernel, upstream):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            outputs = function(x, kernel)
        return outputs, *tape.gradient(outputs, [x, kernel], output_gradients=upstream)
    upstream = normals(*function(x, kernel).shape, seed=2) if upstream is None else upstream
    return tf.function(run, autograph=False)(x, kernel, tf.cast(upstream, x.dtype))


def both(function, plain, shape, kernel, kind=tf.float32):
    x, kernel = (tf.cast(normals(*size, seed=seed), kind)
                 for seed, size in enumerate((shape, kernel)))
    return there_and_back(function, x, kernel), there_and_back(plain, x, kernel)


# The last layer of the encoders first; then odd sizes, one position, more than two in a row, a
# picture that is not square, and one too large for the faster way.
@pytest.mark.parametrize('shape, kernel', [
    ((3, 6, 6, 8), (4, 4, 8, 5)), ((2, 7, 7, 3), (4, 4, 3, 2)), ((2, 4, 5, 3), (4, 4, 3, 2)),
    ((2, 4, 10, 3), (4, 4, 3, 6)), ((1, 7, 6, 1), (5, 5, 1, 1)), ((2, 14, 14, 4), (4, 4, 4, 8))])
def test_convolution_and_its_gradients_are_tensorflows(shape, kernel):
    for one, other in zip(*both(convolutions.convolution, plain_convolution, shape, kernel)):
        assert one.shape == other.shape
        close(one, other)


# The last layer of the decoders first; then an odd kernel, a single pixel, a picture that is not
# square, four channels, and too many for the faster way.
@pytest.mark.parametrize('shape, kernel', [
    ((2, 30, 30, 5), (6, 6, 3, 5)), ((2, 5, 5, 3), (5, 5, 2, 3)), ((3, 1, 1, 4), (5, 5, 1, 4)),
    ((2, 3, 6, 2), (6, 6, 1, 2)), ((1, 4, 4, 2), (3, 3, 4, 2)), ((2, 5, 5, 3), (5, 5, 8, 3))])
def test_transposed_convolution_and_its_gradients_are_tensorflows(shape, kernel):
    for one, other in zip(*both(convolutions.transposed, plain_transposed, shape, kernel)):
        assert one.shape == other.shape
        close(one, other)


@pytest.mark.parametrize('function, plain, shape, kernel', [
    (convolutions.convolution, plain_convolution, (4, 6, 6, 16), (4, 4, 16, 8)),
    (convolutions.transposed, plain_transposed, (4, 13, 13, 16), (6, 6, 3, 16))])
def test_half_precision_is_as_near_to_the_exact_as_tensorflows(function, plain, shape, kernel):
    x, weights = (tf.cast(normals(*size, seed=seed), tf.bfloat16)
                  for seed, size in enumerate((shape, kernel)))
    exact = there_and_back(plain, tf.cast(x, tf.float32), tf.cast(weights, tf.float32))
    for one, other, right in zip(
            there_and_back(function, x, weights), there_and_back(plain, x, weights), exact):
        assert one.dtype == tf.bfloat16
        mine, theirs = (np.abs(np.float32(y) - right).max() for y in (one, other))
        assert mine <= 1.5 * theirs


def test_faster_ways_are_taken_where_the_model_has_few_positions_and_few_channels(monkeypatch):
    taken = []
    for name in '_convolution_to_few', '_transposed_to_few':
        monkeypatch.setattr(convolutions, name, lambda x, kernel, name=name: taken.append(name))
    convolutions.convolution(tf.zeros([1, 6, 6, 2]), tf.zeros([4, 4, 2, 3]))
    convolutions.convolution(tf.zeros([1, 14, 14, 2]), tf.zeros([4, 4, 2, 3]))
    convolutions.transposed(tf.zeros([1, 30, 30, 2]), tf.zeros([6, 6, 3, 2]))
    convolutions.transposed(tf.zeros([1, 13, 13, 2]), tf.zeros([6, 6, 16, 2]))
    assert taken == ['_convolution_to_few', '_transposed_to_few']


@pytest.mark.parametrize('function, shape, kernel', [
    (convolutions.convolution, (2, 6, 6, 3), (4, 4, 3, 2)),
    (convolutions.transposed, (2, 5, 5, 3), (6, 6, 2, 3))])
def test_variables_get_gradients_and_any_number_of_pictures_is_taken(function, shape, kernel):
    weights = tf.Variable(normals(*kernel))

    @tf.function(input_signature=[tf.TensorSpec([None, *shape[1:]])], autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(function(x, weights)))
        return tape.gradient(loss, weights)

    one, other = (normals(count, *shape[1:], seed=count) for count in (1, 4))
    close(gradient(tf.concat([one, other], 0)), gradient(one) + gradient(other))
