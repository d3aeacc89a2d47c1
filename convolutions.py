"""The transposed convolution of the picture decoders, by a faster way where TensorFlow's is slow
on a processor.

What differs from TensorFlow's own operation is the order in which numbers are summed, so results
are the same to rounding. docs/speed.md has what it saves.
"""

import tensorflow as tf

STRIDE = 2
# Channels of an output up to which it is made at a quarter of its size.
FEW_CHANNELS = 4


def transposed(x, kernel):
    """x [N, h, w, i] by kernel [k, k, o, i], stride 2, no padding:
    [N, 2 h + k - 2, 2 w + k - 2, o]."""
    if kernel.shape[2] > FEW_CHANNELS:
        return _transposed(x, kernel)
    return _transposed_to_few(x, tf.convert_to_tensor(kernel))


def _transposed(x, kernel):
    size, outputs = kernel.shape[0] - STRIDE, kernel.shape[2]
    height, width = (STRIDE * length + size for length in x.shape[1:3])
    return tf.nn.conv2d_transpose(
        x, kernel, [tf.shape(x)[0], height, width, outputs], STRIDE, 'VALID')


@tf.custom_gradient
def _transposed_to_few(x, kernel):
    """`transposed` to few channels. Of each 2 x 2 pixels that come out, every one is a convolution
    of the same neighbourhood of x, by the weights of the kernel at its rows and columns: one
    convolution to four times the channels, of which pixels are made (Shi et al., arXiv
    1609.07009). TensorFlow's takes three times as long there; its gradients are fast."""
    size, outputs, inputs = kernel.shape[1:]
    half = -(-size // STRIDE)
    odd = half * STRIDE - size
    weights = tf.pad(kernel, [[0, odd], [0, odd], [0, 0], [0, 0]])
    weights = tf.reverse(
        tf.reshape(weights, [half, STRIDE, half, STRIDE, outputs, inputs]), [0, 2])
    weights = tf.reshape(
        tf.transpose(weights, [0, 2, 5, 1, 3, 4]), [half, half, inputs, STRIDE ** 2 * outputs])
    around = [half - 1, half - 1]
    pixels = tf.nn.depth_to_space(
        tf.nn.conv2d(x, weights, 1, [[0, 0], around, around, [0, 0]]), STRIDE)
    if odd:
        pixels = pixels[:, :-odd, :-odd]

    def gradient(upstream):
        return tf.nn.conv2d(upstream, kernel, STRIDE, 'VALID'), tf.raw_ops.Conv2DBackpropFilter(
            input=upstream, filter_sizes=kernel.shape, out_backprop=x,
            strides=[1, STRIDE, STRIDE, 1], padding='VALID')
    return pixels, gradient
