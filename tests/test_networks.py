"""Tests of layers, encoders, decoders and heads, against plain numpy."""

import os

import helpers
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from helpers import ACTIONS, SHAPES, close, normals
from tensorflow.python.eager import context

import networks
from dynamics import State
from precision import Precision

FLOAT32 = Precision('float32')


def test_transition_is_the_gru_of_keras_on_a_dense_elu_layer(shaken):
    dynamics = shaken.world.dynamics
    z, h = normals(5, dynamics.stoch), normals(5, dynamics.deter, seed=1)
    action = normals(5, ACTIONS, seed=2)
    keras = tf_keras.layers.GRUCell(dynamics.deter, reset_after=True)
    keras.build((None, dynamics.input.kernel.shape[1]))
    keras.set_weights([
        dynamics.gates.kernel.numpy(), dynamics.recurrent.kernel.numpy(),
        np.stack([dynamics.gates.bias, dynamics.recurrent.bias])])
    inputs = helpers.elu(helpers.dense(dynamics.input, np.concatenate([z, action], -1)))
    wanted, _ = keras(tf.constant(inputs, tf.float32), [tf.constant(h)])
    state = State(z, z, tf.constant(z), tf.constant(h))
    close(dynamics.read().transition(state, tf.constant(action)), wanted)


def test_posterior_and_prior_are_normals_from_two_layers_and_the_given_noise(shaken):
    dynamics = shaken.world.dynamics
    step = dynamics.read()
    h, noise = normals(5, dynamics.deter), normals(5, dynamics.stoch, seed=1)
    e = normals(5, shaken.world.representation.width, seed=2)
    for state, inputs, hidden, output in (
            (step.prior(tf.constant(h), tf.constant(noise)), h,
             dynamics.prior_hidden, dynamics.prior_output),
            (step.posterior(tf.constant(h), tf.constant(e), tf.constant(noise)),
             np.concatenate([h, e], -1), dynamics.posterior_hidden, dynamics.posterior_output)):
        raw = helpers.dense(output, helpers.elu(helpers.dense(hidden, inputs)))
        mean, deviation = np.split(raw, 2, -1)
        deviation = helpers.softplus(deviation) + 0.1
        close(state.mean, mean)
        close(state.deviation, deviation)
        close(state.stochastic, mean + deviation * noise)
        close(state.features(), np.concatenate([mean + deviation * noise, h], -1))


@pytest.mark.parametrize('sensor', ['image', 'depth'])
@pytest.mark.parametrize('activation', ['relu', 'elu'])
def test_picture_encoder_is_four_convolutions_of_the_scaled_picture(sensor, activation):
    encoder = networks.PictureEncoder(sensor, SHAPES[sensor], FLOAT32, 4, activation)
    helpers.shake(encoder)
    raw = helpers.observations(2, 3)[sensor]
    x = raw.reshape(6, *SHAPES[sensor]).astype(np.float32)
    x = tf.constant(x / 255 - 0.5 if sensor == 'image' else x / 200 - 0.5)
    for kernel, bias in zip(encoder.kernels, encoder.biases):
        x = getattr(tf.nn, activation)(tf.nn.conv2d(x, kernel, 2, 'VALID') + bias)
    assert x.shape == (6, 2, 2, 32)
    result = encoder(tf.constant(raw))
    assert result.shape == (2, 3, 128)
    close(result, tf.reshape(x, [2, 3, 128]))


@pytest.mark.parametrize('activation, learns', [('relu', False), ('elu', True)])
@pytest.mark.parametrize('sensor', ['image', 'touch'])
def test_a_layer_that_nothing_excites_goes_on_learning_with_elu_alone(activation, learns, sensor):
    config = helpers.settings('mummi', '--encoder_activation', activation)
    encoder = networks.encoders(config, {sensor: SHAPES[sensor]}, FLOAT32)[sensor]
    layer = encoder if sensor == 'image' else encoder.layers[1]
    biases = encoder.biases[1:2] if sensor == 'image' else [layer.bias]
    biases[0].assign(tf.fill(biases[0].shape, -9.0))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(encoder(helpers.observations(2, 3)[sensor]) - 1))
    assert bool(tf.reduce_any(tape.gradient(loss, biases)[0] != 0)) == learns


def test_vector_encoder_is_four_relu_layers_of_newtons_over_200():
    encoder = networks.VectorEncoder('touch', (2,), FLOAT32, 16, 128)
    helpers.shake(encoder)
    raw = helpers.observations(2, 3)['touch']
    x = raw / 200
    for layer in encoder.layers:
        x = helpers.relu(helpers.dense(layer, x))
    assert len(encoder.layers) == 4
    assert x.shape == (2, 3, 128)
    close(encoder(tf.constant(raw)), x)


def test_bfloat16_encoder_does_not_round_small_differences_of_depth_away():
    """At 3 m the scaled depth is -0.485, whose bfloat16 neighbours are 0.4 m apart."""
    tf_keras.utils.set_random_seed(0)
    encoder = networks.PictureEncoder(
        'depth', (64, 64, 1), Precision('bfloat16'), 16)
    flat = np.full((1, 64, 64, 1), 3, np.float32)
    bumps = flat + 0.1 * (normals(1, 64, 64, 1) > 0)
    assert np.any(encoder(tf.constant(flat)) != encoder(tf.constant(bumps)))


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
def test_single_numbers_keep_their_fractions_where_values_are_large(precision):
    """Above 128 the steps of bfloat16 are 1, and those of float16 1/8."""
    tf_keras.utils.set_random_seed(0)
    head = networks.Perceptron(6, 2, 8, 1, Precision(precision))
    head.output.bias.assign([195.3])
    outputs = head(tf.constant(normals(50, 6)))
    assert outputs.dtype == tf.float32 and outputs.shape == (50, 1)
    steps = outputs * 16
    assert np.mean(np.abs(steps - np.round(steps)) > 1e-3) > 0.9


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('layer', ['dense', 'encoder', 'decoder'])
def test_gradients_of_biases_are_whole_sums_over_many_rows(layer, precision):
    """Of outputs' sums, so that the gradient of the last bias is the count of active outputs.
    Summed one by one in bfloat16, a sum of ones ends at 256."""
    compute = Precision(precision)
    if layer == 'dense':
        part, inputs = networks.Dense(3, 5, tf.nn.relu, compute), normals(4096, 3)
    elif layer == 'encoder':
        part = networks.PictureEncoder('image', (64, 64, 3), compute, 4)
        inputs = helpers.observations(400, missing=False)['image']
    else:
        part, inputs = networks.PictureDecoder(6, (64, 64, 1), compute, 4), normals(1, 6)
    bias = part.bias if layer == 'dense' else part.biases[-1]
    with tf.GradientTape() as tape:
        outputs = tf.cast(part(tf.constant(inputs)), tf.float32)
        loss = tf.reduce_sum(outputs)
    active = outputs != 0 if layer != 'decoder' else tf.ones_like(outputs)
    wanted = np.sum(np.reshape(active, (-1, bias.shape[0])), 0)
    assert wanted.max() > 1000
    np.testing.assert_allclose(tape.gradient(loss, bias), wanted, rtol=0.01)


def test_picture_decoder_is_dense_and_four_transposed_convolutions_without_last_relu():
    decoder = networks.PictureDecoder(10, (64, 64, 3), FLOAT32, 4)
    helpers.shake(decoder)
    features = normals(2, 3, 10)
    x = tf.reshape(helpers.dense(decoder.dense, features), [6, 1, 1, 128])
    for number, (kernel, bias) in enumerate(zip(decoder.kernels, decoder.biases)):
        layer = tf_keras.layers.Conv2DTranspose(
            (16, 8, 4, 3)[number], (5, 5, 6, 6)[number], 2,
            activation='relu' if number < 3 else None)
        layer.build(x.shape)
        layer.set_weights([kernel.numpy(), bias.numpy()])
        x = layer(x)
    result = decoder(tf.constant(features))
    assert result.shape == (2, 3, 64, 64, 3)
    assert np.min(result) < 0
    close(result, tf.reshape(x, result.shape))


def test_pictures_of_32_pixels_have_three_convolutions_there_and_back():
    encoder = networks.PictureEncoder('image', (32, 32, 3), FLOAT32, 4, 'elu')
    decoder = networks.PictureDecoder(10, (32, 32, 3), FLOAT32, 4)
    helpers.shake(encoder)
    helpers.shake(decoder)
    raw = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
    x = tf.constant(raw.reshape(6, 32, 32, 3) / np.float32(255) - np.float32(0.5))
    for kernel, bias in zip(encoder.kernels, encoder.biases):
        x = tf.nn.elu(tf.nn.conv2d(x, kernel, 2, 'VALID') + bias)
    assert [kernel.shape[-1] for kernel in encoder.kernels] == [4, 8, 32]
    close(encoder(tf.constant(raw)), tf.reshape(x, [2, 3, 128]))  # as wide as that of 64 pixels
    features = normals(2, 3, 10)
    x = tf.reshape(helpers.dense(decoder.dense, features), [6, 1, 1, 128])
    for kernel, bias, size in zip(decoder.kernels, decoder.biases, (5, 14, 32)):
        assert x.shape[-1] == kernel.shape[-1]
        x = tf.nn.conv2d_transpose(
            x, kernel, [6, size, size, kernel.shape[2]], 2, 'VALID') + bias
        x = x if size == 32 else tf.nn.relu(x)
    close(decoder(tf.constant(features)), tf.reshape(x, [2, 3, 32, 32, 3]))


@pytest.mark.parametrize('missing', [0, 1, 7, 9, 47, 48])
def test_what_is_missing_is_computed_once_and_what_is_there_for_itself(missing):
    flags = np.ones(48, np.float32)
    flags[np.random.default_rng(1).permutation(48)[:missing]] = 0
    x = (normals(48, 2) * flags[:, None]).reshape(6, 8, 2)
    rows, weight, upstream = [], tf.Variable([2.0, 3.0]), tf.constant(normals(6, 8, 2, seed=2))

    def function(x):
        rows.append(len(x))
        return tf.exp(x * weight)

    with tf.GradientTape(persistent=True) as tape:
        result = networks.of_present(
            function, tf.constant(flags.reshape(6, 8)), tf.constant(x))
        wanted = function(tf.constant(x))
        losses = [tf.reduce_sum(found * upstream) for found in (result, wanted)]
    np.testing.assert_array_equal(result, wanted)
    close(*(tape.gradient(loss, weight) for loss in losses))
    # At most a sixteenth more than one more.
    assert rows[0] == {0: 48, 1: 48, 7: 42, 9: 42, 47: 3, 48: 3}[missing]


@pytest.mark.parametrize('compute', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('wrap', [lambda function: function, tf.function])
def test_the_gradient_of_what_is_missing_is_a_whole_sum_also_in_half_precision(compute, wrap):
    """Summed in bfloat16, a sum of ones ends at 256."""
    flags = np.zeros((32, 32), np.float32)
    flags[0, :8] = 1
    code = tf.Variable(tf.ones([1], compute))

    @wrap
    def gradient():
        with tf.GradientTape() as tape:
            found = networks.of_present(
                lambda x: tf.cast(x, compute) * code, tf.constant(flags), tf.ones([32, 32, 1]))
            loss = tf.reduce_sum(tf.cast(found, tf.float32))
        return tape.gradient(loss, code)

    assert gradient().numpy() == 1024


def test_all_is_computed_where_that_costs_less_or_sizes_must_be_known(monkeypatch):
    """Of what is no picture, of an encoder of one's own, of single observations, under XLA."""
    skipped = helpers.spy(monkeypatch, networks, 'of_present')
    batch = helpers.observations(4, 8)
    for words in (), ('--xla',):
        method = helpers.build('mummi', *words).world.representation
        method.encoded(helpers.tensors(batch))
        assert len(skipped) == (0 if words else 2)
        method.encoded(helpers.tensors({key: value[0] for key, value in batch.items()}))
        method.encoders['image'] = lambda raw: tf.zeros([*raw.shape[:-3], 128])
        method.encoded(helpers.tensors(batch))
        assert len(skipped) == (0 if words else 3)
        skipped.clear()


@pytest.mark.parametrize('compute', ['float32', 'bfloat16', 'float16'])
def test_decoders_predict_every_sensor_in_its_own_shape_and_in_float32(compute):
    config = helpers.settings('dreamer')
    decoders = networks.decoders(config, SHAPES, 12, Precision(compute))
    for sensor, shape in SHAPES.items():
        result = decoders[sensor](tf.constant(normals(2, 3, 12)))
        assert result.shape == (2, 3, *shape)
        assert result.dtype == tf.float32
    assert [layer.kernel.shape[0] for layer in decoders['touch'].hidden] == [12, 16, 16]


def test_vector_decoder_is_three_elu_layers():
    decoder = networks.decoders(helpers.settings('dreamer'), SHAPES, 12, FLOAT32)['touch']
    helpers.shake(decoder)
    features = normals(4, 12)
    close(decoder(tf.constant(features)), helpers.perceptron(decoder, features))


def test_heads_are_elu_layers_and_their_sizes_are_those_of_the_method(shaken):
    world, behaviour = shaken.world, shaken.behaviour
    features = normals(5, world.width)
    inputs = tf.constant(features)
    assert [len(m.hidden) for m in (
        world.reward_head, world.discount_head, behaviour.actor, behaviour.value_head)] == [
            2, 3, 4, 3]
    close(world.reward(inputs), helpers.perceptron(world.reward_head, features)[:, 0])
    close(behaviour.value(inputs), helpers.perceptron(behaviour.value_head, features)[:, 0])
    logits = helpers.perceptron(world.discount_head, features)[:, 0]
    close(world.discount(inputs), 1 / (1 + np.exp(-logits)))


def test_discount_without_a_head_is_that_of_the_configuration():
    world = helpers.build('cvrl', '--discount', '0.9').world
    np.testing.assert_array_equal(
        world.discount(tf.zeros([2, 3, world.width])), np.full([2, 3], 0.9, np.float32))


def operations(function, *arguments):
    """The names of the operations that TensorFlow makes of a concrete function at its first
    call."""
    context.context().enable_graph_collection()
    try:
        function(*arguments)
        graphs = context.context().export_run_metadata().partition_graphs
    finally:
        context.context().disable_graph_collection()
    return {node.op for graph in graphs for node in graph.node}


@pytest.mark.parametrize('layer, shape', [
    (lambda precision: networks.Dense(20, 30, tf.nn.elu, precision), [1, 20]),
    (lambda precision: networks.PictureEncoder('image', (64, 64, 3), precision, 2),
     [1, 64, 64, 3])])
def test_acting_takes_products_and_biases_apart_and_learning_does_not(layer, shape, monkeypatch):
    monkeypatch.setattr('devices.gpus', list)
    precision = Precision('float32')
    layer = layer(precision)
    helpers.shake(layer)
    x = tf.constant(normals(*shape))
    learning = tf.function(layer.__call__).get_concrete_function(x)
    with precision.reading_copies():
        acting = tf.function(layer.__call__).get_concrete_function(x)
    fused = [{op for op in operations(f, x) if 'Fused' in op} for f in (learning, acting)]
    assert fused[0] or os.environ.get('TF_ENABLE_ONEDNN_OPTS') != '1'  # who alone has them
    assert not fused[1]
    close(acting(x), learning(x))


@pytest.mark.parametrize('small', [True, False])
def test_in_half_precision_acting_takes_small_layers_apart_in_float32_and_no_large_ones(
        small, monkeypatch):
    """Of large ones the product in half precision is the faster, and fused (docs/speed.md)."""
    monkeypatch.setattr('precision.SMALL', 600 if small else 599)
    monkeypatch.setattr('devices.gpus', list)
    precision = Precision('bfloat16')
    layer = networks.Dense(20, 30, tf.nn.elu, precision)
    helpers.shake(layer)
    x = tf.constant(normals(1, 20))
    learning = tf.function(layer.__call__).get_concrete_function(x)
    with precision.reading_copies():
        acting = tf.function(layer.__call__).get_concrete_function(x)
    learned, acted = ([op.type for op in f.graph.get_operations()] for f in (learning, acting))
    if small:
        assert acting(x).dtype == tf.float32 and acted.count('Reshape') == 2
        close(acting(x), tf.nn.elu(x @ layer.kernel + layer.bias))
        assert not np.array_equal(acting(x), tf.cast(learning(x), tf.float32))
    else:
        assert learned == acted and 'MatMul' in learned and acting(x).dtype == tf.bfloat16
