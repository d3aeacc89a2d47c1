"""Layers and distributions: encoders, decoders and heads, without losses or learning rules.

Every layer knows its input width, so variables exist as soon as an object does. Weights are
float32; products run in the layer's compute type, and what leaves a head is float32 again.
"""

import itertools
import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import replicas
from config import SENSORS, flag
from convolutions import transposed

tfd = tfp.distributions


def glorot(*shape):
    """A float32 variable, uniform by Glorot & Bengio (2010); fans from the last two axes."""
    return tf.Variable(tf_keras.initializers.GlorotUniform()(shape))


def zeros(*shape):
    """A float32 variable of zeros."""
    return tf.Variable(tf.zeros(shape))


def add_bias(x, bias, apart=False):
    """x [..., units] + bias [units], whose gradient is a sum over all rows. apart: TensorFlow may
    not make one operation of this and the product before it.

    Not tf.nn.bias_add: on a processor its gradient adds bfloat16 numbers one by one, and stops
    at 256 where a sum of ones should reach thousands. A plain sum's gradient is accumulated in
    float32, except for float16, which is therefore widened first.
    """
    if x.dtype == tf.float16:
        return tf.cast(tf.cast(x, tf.float32) + tf.cast(bias, tf.float32), tf.float16)
    if apart:  # A reshape in between is enough, and costs nothing.
        return tf.reshape(tf.reshape(x, [1, *x.shape]) + bias, x.shape)
    return x + bias


class Dense(tf.Module):
    """[..., inputs] -> [..., units] in the compute type: activation(x kernel + bias)."""

    def __init__(self, inputs, units, activation, precision):
        super().__init__()
        self.kernel, self.bias = glorot(inputs, units), zeros(units)
        self.activation, self.precision = activation, precision

    def __call__(self, x):
        return self.read(self.precision.compute)(x)

    def read(self, compute, rows=slice(None), bias=True, activation=True):
        """The layer as a function of x, its weights read and cast once: for loops.

        rows: only these rows of the kernel, for the inputs that belong to them; with bias or
        activation left out, a product can be taken in two parts. While acting, what comes out may
        be float32 where `compute` is not (`Precision.product`).
        """
        compute = self.precision.product(self.kernel, compute)
        kernel = self.precision.weight(self.kernel, compute)
        kernel = kernel[rows] if rows != slice(None) else kernel
        offset = self.precision.weight(self.bias, compute) if bias else None
        function = self.activation if activation else None

        def layer(x):
            leading = x.shape[:-1]
            x = tf.cast(x, compute)
            x = tf.reshape(x, [-1, x.shape[-1]]) if len(leading) != 1 else x
            x = self.precision.multiply(tf.matmul, x, kernel)
            # No reshape before the activation: TensorFlow fuses the three into one operation.
            x = add_bias(x, offset, self.precision.apart(compute)) if bias else x
            x = function(x) if function else x
            return tf.reshape(x, [*leading, x.shape[-1]]) if len(leading) != 1 else x
        return layer


class Perceptron(tf.Module):
    """`layers` hidden layers of `units`, then a linear layer: [..., inputs] -> float32
    [..., outputs].

    The linear layer of a single output is computed in float32, at no cost: bfloat16 has no
    fractions above 128, and the values of a good policy come near 200.
    """

    def __init__(self, inputs, layers, units, outputs, precision, activation=tf.nn.elu):
        super().__init__()
        widths = [inputs] + [units] * layers
        self.hidden = [
            Dense(width, units, activation, precision) for width in widths[:-1]]
        self.output = Dense(widths[-1], outputs, None, precision)
        self.last = tf.float32 if outputs == 1 else precision.compute

    def __call__(self, x):
        for layer in self.hidden:
            x = layer(x)
        return tf.cast(self.output.read(self.last)(x), tf.float32)


def reshaped(x, leading, *shape):
    """x as [*leading, *shape], of which one size may be unknown before the run."""
    return tf.reshape(x, [-1 if size is None else size for size in (*leading, *shape)])


def scaled(sensor, raw):
    """The raw observation of `sensor` as the float32 numbers that a model reads or predicts."""
    row = SENSORS[sensor]
    return tf.cast(raw, tf.float32) * row.scale + row.offset


def present(sensor, observation):
    """The presence flag of `sensor` without its last axis: float32 [...], 1 or 0."""
    return tf.cast(observation[flag(sensor)], tf.float32)[..., 0]


def visible(sensor, observation, withheld=None):
    """As `present`, and 0 where the sensor is withheld: sensor -> bool [..., 1]."""
    flags = present(sensor, observation)
    if withheld and sensor in withheld:
        flags *= 1 - tf.cast(withheld[sensor][..., 0], tf.float32)
    return flags


# Of the layers of encoders. A ReLU that is negative for every input has no gradient and stays so.
ACTIVATIONS = {'relu': tf.nn.relu, 'elu': tf.nn.elu}


class PictureEncoder(tf.Module):
    """Raw pictures [..., 64, 64, channels] -> [..., 32 depth]: four convolutions, kernel 4,
    stride 2, no padding, 64 -> 31 -> 14 -> 6 -> 2, each with an activation of ACTIVATIONS; of
    pictures of 32 x 32 three, 32 -> 15 -> 6 -> 2."""

    by_entry = True

    def __init__(self, sensor, shape, precision, depth, activation='relu'):
        super().__init__()
        self.sensor, self.shape, self.precision = sensor, shape, precision
        self.activation = ACTIVATIONS[activation]
        widths = {64: (1, 2, 4, 8), 32: (1, 2, 8)}[shape[0]]
        channels = [shape[-1], *(depth * width for width in widths)]
        self.kernels = [glorot(4, 4, i, o) for i, o in itertools.pairwise(channels)]
        self.biases = [zeros(width) for width in channels[1:]]

    def __call__(self, raw):
        compute = self.precision.compute
        x = tf.cast(tf.reshape(raw, [-1, *self.shape]), compute)
        row = SENSORS[self.sensor]
        for layer, (kernel, bias) in enumerate(zip(self.kernels, self.biases)):
            if layer == 0:
                # The first layer takes the scaling of its input into its weights, exactly, as
                # nothing is padded: k * (s x + o) = (s k) * x + o sum(k). So raw bytes are
                # read as they are, and in half precision depth is rounded in proportion to
                # itself, where 3 m / 200 - 0.5 would be rounded to the nearest 0.4 m.
                bias = tf.cast(bias + row.offset * tf.reduce_sum(kernel, [0, 1, 2]), compute)
                kernel = tf.cast(kernel * row.scale, compute)
            else:
                kernel, bias = (self.precision.weight(v, compute) for v in (kernel, bias))
            x = self.precision.multiply(tf.nn.conv2d, x, kernel, strides=2, padding='VALID')
            x = add_bias(x, bias, self.precision.apart(compute))
            x = self.activation(x)
        return reshaped(x, raw.shape[:-3], math.prod(x.shape[1:]))


class VectorEncoder(tf.Module):
    """Raw vectors [..., values] -> [..., width]: three hidden layers, likewise."""

    def __init__(self, sensor, shape, precision, units, width, activation='relu'):
        super().__init__()
        self.sensor, self.precision = sensor, precision
        widths = [shape[0], units, units, units, width]
        self.layers = [
            Dense(i, o, ACTIVATIONS[activation], precision)
            for i, o in itertools.pairwise(widths)]

    def __call__(self, raw):
        x = scaled(self.sensor, raw)
        for layer in self.layers:
            x = layer(x)
        return tf.cast(x, self.precision.compute)  # as all embeddings


class PictureDecoder(tf.Module):
    """Features [..., width] -> means of scaled pictures, float32 [..., 64, 64, channels]:
    dense, then transposed convolutions of kernel 5, 5, 6, 6, stride 2, 1 -> 5 -> 13 -> 30 -> 64,
    ReLU between; of pictures of 32 x 32, of kernel 5, 6, 6, 1 -> 5 -> 14 -> 32."""

    by_entry = True

    def __init__(self, width, shape, precision, depth):
        super().__init__()
        self.shape, self.precision = shape, precision
        self.dense = Dense(width, 32 * depth, None, precision)
        kernels, self.sizes, widths = {
            64: ((5, 5, 6, 6), (5, 13, 30, 64), (4, 2, 1)),
            32: ((5, 6, 6), (5, 14, 32), (2, 1))}[shape[0]]
        channels = [32 * depth, *(depth * width for width in widths), shape[-1]]
        self.kernels = [
            glorot(kernel, kernel, o, i)
            for kernel, i, o in zip(kernels, channels[:-1], channels[1:])]
        self.biases = [zeros(width) for width in channels[1:]]

    def __call__(self, features):
        leading, compute = features.shape[:-1], self.precision.compute
        x = self.dense(tf.reshape(features, [-1, features.shape[-1]]))
        for layer, (size, kernel, bias) in enumerate(zip(self.sizes, self.kernels, self.biases)):
            kernel, bias = (self.precision.weight(v, compute) for v in (kernel, bias))
            if layer == 0:
                # From a single pixel the transposed convolution is a plain product, which is
                # several times faster, above all its gradient.
                width = kernel.shape[2]
                x = self.precision.multiply(
                    tf.matmul, x, tf.reshape(kernel, [-1, kernel.shape[3]]), transpose_b=True)
                x = tf.reshape(x, [-1, size, size, width])
            else:
                x = self.precision.multiply(transposed, x, kernel)
            x = add_bias(x, bias)
            x = x if size == self.sizes[-1] else tf.nn.relu(x)
        return reshaped(tf.cast(x, tf.float32), leading, *self.shape)


# Numbers of entries at most for which `of_present` computes.
COUNTS = 16

# kind of a sensor -> what makes its encoder, of (config, sensor, shape, precision), and its
# decoder, of (config, width of the features, shape, precision).
PARTS = {
    'picture': (
        lambda config, *rest: PictureEncoder(*rest, config.conv_depth, config.encoder_activation),
        lambda config, *rest: PictureDecoder(*rest, config.conv_depth)),
    'vector': (
        lambda config, *rest: VectorEncoder(
            *rest, config.vector_units, 32 * config.conv_depth, config.encoder_activation),
        lambda config, width, shape, precision: Perceptron(
            width, 3, config.decoder_units, shape[0], precision))}
PARTS['spectrum'] = PARTS['vector']  # only drawn otherwise


def encoders(config, shapes, precision):
    """An encoder for each sensor, all 32 conv_depth wide. shapes: sensor -> raw shape."""
    return {
        sensor: PARTS[SENSORS[sensor].kind][0](config, sensor, shape, precision)
        for sensor, shape in shapes.items()}


def decoders(config, shapes, features, precision):
    """A decoder for each sensor from features of width `features` to scaled observations."""
    return {
        sensor: PARTS[SENSORS[sensor].kind][1](config, features, shape, precision)
        for sensor, shape in shapes.items()}


def computed(there, total):
    """For how many of `total` entries `of_present` computes, of which so many are there: for one
    that is missing too, and of few different numbers, as kernels are made for each when it first
    comes."""
    step = -(-total // COUNTS)
    return (there // step + 1) * step


def of_present(function, flags, *inputs):
    """function(*inputs), of entries [B, L], computed for those whose flag [B, L] is set, and for
    one of the others, whose inputs are alike, or whose results are: pictures that are missing are
    zeros, and have no loss. More than a quarter of all is missing at the usual drop-outs, and
    convolutions are most of an update's work.

    function: of tensors [N, ...], entry by entry; N is unknown before the run. inputs: [B, L, ...].
    """
    order = tf.argsort(tf.reshape(flags, [-1]), direction='DESCENDING', stable=True)
    there, total = tf.cast(tf.math.count_nonzero(flags), tf.int32), order.shape[0]
    chosen = order[:tf.minimum(computed(there, total), total)]
    result = function(*(entries(x, chosen) for x in inputs))
    places = tf.minimum(tf.math.invert_permutation(order), there)
    # The gradient of the one that stands for many is a sum, to be taken in float32: a reshape's
    # is no longer the sparse one of picking rows, which would be rounded before it is summed.
    rows = tf.reshape(tf.cast(result, tf.float32), tf.shape(result))
    return tf.cast(tf.gather(rows, tf.reshape(places, flags.shape)), result.dtype)


def worthwhile(part, flags, compiled):
    """Whether an encoder or decoder is left to `of_present`: where it says that it takes any
    entries (`by_entry`), in batches of sequences, and not for the few observations of acting.
    compiled: XLA makes the update, which knows no sizes that depend on what is drawn."""
    return getattr(part, 'by_entry', False) and flags.shape.rank == 2 and not compiled


def reconstruction_losses(decoders, features, observation, compiled=False):
    """Of each sensor - f log Normal(o; prediction, 1), over all its values: [...] float32.

    A missing sensor contributes nothing. decoders: sensor -> that of its scaled means from
    features [..., F]. compiled: see `worthwhile`.
    """
    losses = {}
    for sensor, decoder in decoders.items():
        def negative_log(features, raw, flags, sensor=sensor, decoder=decoder):
            mean = decoder(features)
            axes = list(range(flags.shape.rank, mean.shape.rank))
            size = np.prod([mean.shape[axis] for axis in axes])
            squares = tf.reduce_sum(
                tf.math.squared_difference(mean, scaled(sensor, raw)), axes)
            return flags * (0.5 * squares + 0.5 * math.log(2 * math.pi) * size)
        flags = present(sensor, observation)
        inputs = features, observation[sensor], flags
        losses[sensor] = of_present(negative_log, flags, *inputs) if worthwhile(
            decoder, flags, compiled) else negative_log(*inputs)
    return losses


def normal(parameters):
    """(mean, deviation) of a diagonal normal from raw parameters [..., 2 size]: mean,
    softplus(.) + 0.1; float32."""
    mean, deviation = tf.split(tf.cast(parameters, tf.float32), 2, -1)
    return mean, tf.nn.softplus(deviation) + 0.1


def entries(x, rows):
    """The entries `rows` [R] of x [B, L, ...], counted through the whole batch: [R, ...]."""
    flat = tf.reshape(x, [-1, *x.shape[2:]])
    if x.dtype != tf.uint8 or flat.shape[1:].num_elements() % 4:
        return tf.gather(flat, rows)
    # TensorFlow gathers bytes on the processor alone, and would fetch the batch from a GPU for
    # it: four bytes at a time they are numbers that it gathers anywhere. No value is copied.
    words = tf.bitcast(tf.reshape(flat, [flat.shape[0], -1, 4]), tf.int32)
    return tf.reshape(tf.bitcast(tf.gather(words, rows), tf.uint8), [-1, *x.shape[2:]])


def candidates(rows, flags):
    """(what a contrastive bound compares with, how many of them stand before its own): the rows
    [N, width] whose flag [N] is set, of the whole batch where replicas share it."""
    others = replicas.gathered(flags)
    earlier = others[:replicas.number() * flags.shape[0]]
    rows, before = tf.gather_nd(replicas.gathered(rows), tf.where(others > 0)), 0
    if replicas.number():
        before = tf.math.count_nonzero(earlier > 0, dtype=tf.int32)
        # A share without rows of its own may be the last: there is no diagonal after all rows.
        before = tf.minimum(before, tf.maximum(tf.shape(rows)[0] - 1, 0))
    return rows, before


def log_normal(value, mean):
    """log Normal(value; mean, 1), float32, elementwise."""
    return -0.5 * tf.math.squared_difference(value, mean) - 0.5 * math.log(2 * math.pi)


def squared_distances(left, right):
    """|| left_i - right_j ||^2 of float32 rows [N, width] and [M, width]: [N, M]."""
    squares = [tf.reduce_sum(tf.square(x), -1) for x in (left, right)]
    return squares[0][:, None] + squares[1][None, :] - 2 * tf.matmul(
        left, right, transpose_b=True)


def relative_distance(left, right, flags):
    """The mean squared distance of left_i to its own right_i over that to another flagged
    right_j, [N, width] each: 0 where they are the same, 1 where they are not related."""
    # The flagged rows first, and the others without weight: shapes that depend on the flags are
    # not for XLA, which rolls such a row among its padding.
    order = tf.argsort(flags, direction='DESCENDING', stable=True)
    left, right, flags = (tf.gather(x, order) for x in (left, right, flags))
    count = tf.cast(tf.reduce_sum(flags), tf.int32)
    # Half the batch away is another sequence, or a distant time of the same.
    away = (tf.range(flags.shape[0]) - count // 2) % tf.maximum(count, 1)
    own, foreign = (
        tf.reduce_sum(flags[:, None] * tf.math.squared_difference(left, x))
        for x in (right, tf.gather(right, away)))
    return tf.math.divide_no_nan(own, foreign)


def retrieval(distances, flags):
    """How often row i's smallest distance [N, N] is to column i, among flagged rows and columns:
    chance is one over their number."""
    far = tf.where(flags[None, :] > 0, distances, tf.fill(distances.shape, math.inf))
    own = tf.argmin(far, 1) == tf.range(far.shape[0], dtype=tf.int64)
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.cast(own, tf.float32) * flags), tf.reduce_sum(flags))
