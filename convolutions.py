"""The convolutions of the picture encoders and decoders: those of TensorFlow, and by faster ways
what it computes slowly on a processor.

Both have stride 2 and no padding. What differs from TensorFlow's own operations is the order in
which numbers are summed, so results are the same to rounding. docs/speed.md has what it saves.
"""

import tensorflow as tf

STRIDE = 2
# Positions (height times width) of an output up to which the kernel's gradient is one product.
FEW_POSITIONS = 4
# Channels of an output up to which it is made at a quarter of its size.
FEW_CHANNELS = 4


def convolution(x, kernel):
    """x [N, h, w, i] by kernel [k, k, i, o]: [N, (h - k) // 2 + 1, (w - k) // 2 + 1, o]."""
    outputs = tf.nn.conv2d(x, kernel, STRIDE, 'VALID')
    if outputs.shape[1] * outputs.shape[2] > FEW_POSITIONS:
        return outputs
    return _convolution_to_few(x, tf.convert_to_tensor(kernel))


@tf.custom_gradient
def _convolution_to_few(x, kernel):
    """`convolution` to few positions, whose kernel's gradient is a product of all patches of x
    and what comes back: TensorFlow's takes three times as long there."""
    outputs = tf.nn.conv2d(x, kernel, STRIDE, 'VALID')
    size, _, channels, width = kernel.shape
    corners = [(STRIDE * row, STRIDE * column)
               for row in range(outputs.shape[1]) for column in range(outputs.shape[2])]

    def gradient(upstream):
        patches = tf.stack(
            [x[:, row:row + size, column:column + size] for row, column in corners], 1)
        patches = tf.reshape(patches, [-1, size * size * channels])
        return (
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream,
                strides=[1, STRIDE, STRIDE, 1], padding='VALID'),
            tf.reshape(tf.matmul(
                patches, tf.reshape(upstream, [-1, width]), transpose_a=True), kernel.shape))
    return outputs, gradient


def transposed(x, kernel):
    """x [N, h, w, i] by kernel [k, k, o, i]: [N, 2 h + k - 2, 2 w + k - 2, o]."""
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
