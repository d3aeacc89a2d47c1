"""Tests of the transposed convolution against TensorFlow's own, forward and back."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import close, normals

import convolutions


def plain_transposed(x, kernel):
    height, width = (2 * length + kernel.shape[0] - 2 for length in x.shape[1:3])
    return tf.nn.conv2d_transpose(x, kernel, [x.shape[0], height, width, kernel.shape[2]], 2,
                                  'VALID')


def there_and_back(function, x, kernel):
    """What comes out, and the gradients of its product with random numbers."""
    def run(x, kernel, upstream):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            outputs = function(x, kernel)
        return outputs, *tape.gradient(outputs, [x, kernel], output_gradients=upstream)
    upstream = tf.cast(normals(*function(x, kernel).shape, seed=2), x.dtype)
    return tf.function(run, autograph=False)(x, kernel, upstream)


# The last layer of the decoders first; then an odd kernel, a single pixel, a picture that is not
# square, four channels, and too many for the faster way.
@pytest.mark.parametrize('shape, kernel', [
    ((2, 30, 30, 5), (6, 6, 3, 5)), ((2, 5, 5, 3), (5, 5, 2, 3)), ((3, 1, 1, 4), (5, 5, 1, 4)),
    ((2, 3, 6, 2), (6, 6, 1, 2)), ((1, 4, 4, 2), (3, 3, 4, 2)), ((2, 5, 5, 3), (5, 5, 8, 3))])
def test_results_and_gradients_are_tensorflows(shape, kernel):
    x, weights = (tf.constant(normals(*size, seed=seed))
                  for seed, size in enumerate((shape, kernel)))
    for one, other in zip(there_and_back(convolutions.transposed, x, weights),
                          there_and_back(plain_transposed, x, weights)):
        assert one.shape == other.shape
        close(one, other)


def test_half_precision_is_as_near_to_the_exact_as_tensorflows():
    x, weights = (tf.cast(normals(*size, seed=seed), tf.bfloat16)
                  for seed, size in enumerate(((4, 13, 13, 16), (6, 6, 3, 16))))
    exact = there_and_back(
        plain_transposed, tf.cast(x, tf.float32), tf.cast(weights, tf.float32))
    for one, other, right in zip(there_and_back(convolutions.transposed, x, weights),
                                 there_and_back(plain_transposed, x, weights), exact):
        assert one.dtype == tf.bfloat16
        mine, theirs = (np.abs(np.float32(y) - right).max() for y in (one, other))
        assert mine <= 1.5 * theirs


def test_the_faster_way_is_taken_where_channels_are_few(monkeypatch):
    taken = []
    monkeypatch.setattr(convolutions, '_transposed_to_few', lambda x, kernel: taken.append(kernel))
    convolutions.transposed(tf.zeros([1, 13, 13, 2]), tf.zeros([6, 6, 16, 2]))
    assert not taken
    convolutions.transposed(tf.zeros([1, 30, 30, 2]), tf.zeros([6, 6, 3, 2]))
    assert len(taken) == 1


def test_variables_get_gradients_and_any_number_of_pictures_is_taken():
    weights = tf.Variable(normals(6, 6, 2, 3))

    @tf.function(input_signature=[tf.TensorSpec([None, 5, 5, 3])], autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(convolutions.transposed(x, weights)))
        return tape.gradient(loss, weights)

    one, other = (normals(count, 5, 5, 3, seed=count) for count in (1, 4))
    close(gradient(tf.concat([one, other], 0)), gradient(one) + gradient(other))
