"""Tests of networks, latent dynamics, behaviour, acting, soft actor-critic and the optimiser,
against plain numpy and against the same sums written step by step."""

import dataclasses
import types

import helpers
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from helpers import ACTIONS, METHODS, SHAPES, close, normals, spy

import models
import networks
import tools
import training
from config import SENSORS, flag
from soft_actor_critic import SoftActorCritic

FLOAT32 = networks.Precision('float32')


@pytest.fixture(scope='module')
def shaken():
    """An agent with all weights shaken, that no test changes."""
    agent = helpers.build('mummi', '--pcont')
    helpers.shake(agent)
    return agent


# --- Layers ------------------------------------------------------------------------------


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
    state = models.State(z, z, tf.constant(z), tf.constant(h))
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
def test_picture_encoder_is_four_convolutions_of_the_scaled_picture(sensor):
    encoder = networks.PictureEncoder(sensor, SHAPES[sensor], 4, FLOAT32)
    helpers.shake(encoder)
    raw = helpers.observations(2, 3)[sensor]
    x = raw.reshape(6, *SHAPES[sensor]).astype(np.float32)
    x = tf.constant(x / 255 - 0.5 if sensor == 'image' else x / 200 - 0.5)
    for kernel, bias in zip(encoder.kernels, encoder.biases):
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 2, 'VALID') + bias)
    assert x.shape == (6, 2, 2, 32)
    result = encoder(tf.constant(raw))
    assert result.shape == (2, 3, 128)
    close(result, tf.reshape(x, [2, 3, 128]))


def test_vector_encoder_is_four_relu_layers_of_newtons_over_200():
    encoder = networks.VectorEncoder('touch', (2,), 16, 128, FLOAT32)
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
        'depth', (64, 64, 1), 16, networks.Precision('bfloat16'))
    flat = np.full((1, 64, 64, 1), 3, np.float32)
    bumps = flat + 0.1 * (normals(1, 64, 64, 1) > 0)
    assert np.any(encoder(tf.constant(flat)) != encoder(tf.constant(bumps)))


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
def test_single_numbers_keep_their_fractions_where_values_are_large(precision):
    """Above 128 the steps of bfloat16 are 1, and those of float16 1/8."""
    tf_keras.utils.set_random_seed(0)
    head = networks.Perceptron(6, 2, 8, 1, networks.Precision(precision))
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
    compute = networks.Precision(precision)
    if layer == 'dense':
        part, inputs = networks.Dense(3, 5, tf.nn.relu, compute), normals(4096, 3)
    elif layer == 'encoder':
        part = networks.PictureEncoder('image', (64, 64, 3), 4, compute)
        inputs = helpers.observations(400, missing=False)['image']
    else:
        part, inputs = networks.PictureDecoder(6, (64, 64, 1), 4, compute), normals(1, 6)
    bias = part.bias if layer == 'dense' else part.biases[-1]
    with tf.GradientTape() as tape:
        outputs = tf.cast(part(tf.constant(inputs)), tf.float32)
        loss = tf.reduce_sum(outputs)
    active = outputs != 0 if layer != 'decoder' else tf.ones_like(outputs)
    wanted = np.sum(np.reshape(active, (-1, bias.shape[0])), 0)
    assert wanted.max() > 1000
    np.testing.assert_allclose(tape.gradient(loss, bias), wanted, rtol=0.01)


def test_picture_decoder_is_dense_and_four_transposed_convolutions_without_last_relu():
    decoder = networks.PictureDecoder(10, (64, 64, 3), 4, FLOAT32)
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


@pytest.mark.parametrize('compute', ['float32', 'bfloat16', 'float16'])
def test_decoders_predict_every_sensor_in_its_own_shape_and_in_float32(compute):
    config = helpers.settings('dreamer')
    decoders = networks.decoders(config, SHAPES, 12, networks.Precision(compute))
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


# --- Distribution of actions -------------------------------------------------------------


def transformed(policy):
    return tfp.distributions.Independent(tfp.distributions.TransformedDistribution(
        tfp.distributions.Normal(policy.mean, policy.deviation), tfp.bijectors.Tanh()), 1)


def test_tanh_normal_has_the_mean_and_deviation_of_the_papers():
    raw = 4 * normals(6, 2 * ACTIONS)
    policy = networks.TanhNormal(tf.constant(raw))
    close(policy.mean, 5 * np.tanh(raw[:, :ACTIONS] / 5))
    close(policy.deviation, helpers.softplus(
        raw[:, ACTIONS:] + np.log(np.exp(5) - 1)) + 1e-4)


def test_sample_and_log_agree_with_a_transformed_normal():
    policy = networks.TanhNormal(tf.constant(np.concatenate(
        [normals(6, ACTIONS), normals(6, ACTIONS, seed=1) - 5], -1)))
    noise = normals(6, ACTIONS, seed=2)
    action, logs = policy.sample_and_log(tf.constant(noise))
    close(action, np.tanh(policy.mean + policy.deviation * noise))
    np.testing.assert_array_equal(action, policy.sample(tf.constant(noise)))
    close(logs, transformed(policy).log_prob(action), 1e-4)


def test_log_density_of_saturated_actions_is_finite():
    policy = networks.TanhNormal(tf.constant(normals(6, 2 * ACTIONS)))
    action, logs = policy.sample_and_log(tf.constant(6 * normals(6, ACTIONS)))
    assert np.abs(action).max() == 1
    assert np.isfinite(logs).all()


def test_mode_is_each_rows_own_most_likely_sample():
    policy = networks.TanhNormal(tf.constant(np.concatenate(
        [normals(6, ACTIONS), normals(6, ACTIONS, seed=1) - 5], -1)))
    noise = normals(20, 6, ACTIONS, seed=2)
    actions = [policy.sample(tf.constant(draw)).numpy() for draw in noise]
    logs = np.array([transformed(policy).log_prob(action) for action in actions])
    best = logs.argmax(0)
    assert len(set(best)) > 1
    result = policy.mode(tf.constant(noise))
    for row in range(6):
        np.testing.assert_array_equal(result[row], actions[best[row]][row])


# --- Latent dynamics ---------------------------------------------------------------------


def stepped(dynamics, embedding, action, noise):
    """What `filter` gives, one entry after the other."""
    step, state = dynamics.read(), dynamics.initial(len(embedding))
    posteriors, priors = [], []
    for t in range(embedding.shape[1]):
        deterministic = step.transition(state, action[:, t])
        state = step.posterior(deterministic, embedding[:, t], noise[:, t])
        posteriors.append(state)
        priors.append(step.prior(deterministic, tf.zeros_like(noise[:, t])))
    return [models.State(*(tf.stack(p, 1) for p in zip(*s))) for s in (posteriors, priors)]


@pytest.mark.parametrize('wrap', [lambda function: function, tf.function])
def test_filter_and_its_gradients_equal_stepping_entry_by_entry(shaken, wrap):
    dynamics, size = shaken.world.dynamics, (3, 6)
    inputs = [tf.constant(normals(*size, width, seed=width + seed)) for seed, width in enumerate((
        shaken.world.representation.width, ACTIONS, dynamics.stoch))]
    weights = [tf.constant(normals(*size, width, seed=seed)) for seed, width in enumerate(
        2 * [dynamics.stoch] * 3 + 2 * [dynamics.deter])]

    @wrap
    def run(function):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            states = function(*inputs)
            parts = [part for state in states for part in state]
            loss = tf.add_n([
                tf.reduce_sum(part * weights[0 if part.shape[-1] == dynamics.stoch else -1])
                * (1 + 0.1 * number) for number, part in enumerate(parts)])
        return parts, tape.gradient(loss, [*inputs, *dynamics.trainable_variables])

    found, gradients = run(dynamics.filter)
    wanted, wanted_gradients = run(lambda *given: stepped(dynamics, *given))
    for one, other in zip(found, wanted, strict=True):
        close(one, other, 2e-6)
    for one, other in zip(gradients, wanted_gradients, strict=True):
        assert np.abs(other).max() > 0
        close(one, other, 1e-5)


def test_filter_sees_nothing_of_later_entries(shaken):
    dynamics = shaken.world.dynamics
    embedding, action, noise = (
        normals(2, 6, width, seed=seed) for seed, width in enumerate((
            shaken.world.representation.width, ACTIONS, dynamics.stoch)))
    first, _ = dynamics.filter(*map(tf.constant, (embedding, action, noise)))
    embedding[:, 4:], action[:, 4:] = 7, 0.5
    second, _ = dynamics.filter(*map(tf.constant, (embedding, action, noise)))
    for one, two in zip(first, second):
        close(one[:, :4], two[:, :4], 1e-6)
        assert not np.allclose(one[:, 4:], two[:, 4:])


def test_imagination_steps_the_prior_and_begins_after_the_first_action(shaken):
    world = shaken.world
    start, _ = world.dynamics.filter(*(
        tf.constant(normals(4, 1, width, seed=width)) for width in (
            world.representation.width, ACTIONS, world.dynamics.stoch)))
    start = start.map(lambda part: part[:, 0])
    noise = tf.constant(normals(5, 4, world.dynamics.stoch))
    actions = tf.constant(normals(5, 4, ACTIONS, seed=1))
    seen = []

    def choose(state, step):
        seen.append(state.features())
        return actions[step]

    features = world.imagine(start, choose, noise)
    state, dynamics = start, world.dynamics.read()
    assert features.shape == (5, 4, world.width)
    for step in range(5):
        close(seen[step], state.features())
        state = dynamics.prior(dynamics.transition(state, actions[step]), noise[step])
        close(features[step], state.features(), 2e-6)


def test_sequences_of_a_batch_and_environments_get_independent_noise(monkeypatch, eager):
    agent = helpers.build('mummi')
    one = helpers.sequences(1)
    batch = helpers.tensors({key: np.repeat(value, 3, 0) for key, value in one.items()})
    filtered = spy(monkeypatch, agent.world.dynamics, 'filter')
    imagined = spy(monkeypatch, agent.world, 'imagine')
    agent.train(batch)
    posterior, prior = filtered[0][1]
    noise = (posterior.stochastic - posterior.mean) / posterior.deviation
    flat = np.reshape(noise, -1)
    assert len(np.unique(flat.round(4))) > 0.95 * len(flat)
    close(posterior.mean[0, 0], posterior.mean[1, 0])
    np.testing.assert_array_equal(prior.stochastic, prior.mean)
    assert len(np.unique(np.reshape(imagined[0][1][..., 0], -1))) == np.size(
        imagined[0][1][..., 0])
    observation = helpers.tensors({
        key: np.repeat(value, 2, 0) for key, value in helpers.observations(1).items()})
    observation['is_first'] = tf.constant([True, True])
    action, state = agent.policy(observation, agent.initial(2), True)
    close(state['mean'][0], state['mean'][1])
    assert not np.isclose(state['stochastic'][0], state['stochastic'][1]).any()
    assert not np.isclose(action[0], action[1]).any()


# --- The loss of the world model ---------------------------------------------------------


def plain_model_loss(world, batch, noise):
    """(total loss, its terms, posterior, divergences [B, L]) by the equations of the method."""
    embeddings = world.representation.embed(batch)
    posterior, prior = stepped(
        world.dynamics, embeddings['joint'], batch['action'], noise)
    divergence = tf.reduce_sum(
        tf.math.log(prior.deviation / posterior.deviation)
        + (posterior.deviation ** 2 + (posterior.mean - prior.mean) ** 2)
        / (2 * prior.deviation ** 2) - 0.5, -1)
    features = posterior.features()
    terms = {'reward_loss': -tf.reduce_mean(
        -0.5 * (batch['reward'] - world.reward_head(features)[..., 0]) ** 2
        - 0.5 * np.log(2 * np.pi))}
    if world.discount_head:
        target = world.config.discount * batch['discount']
        logits = world.discount_head(features)[..., 0]
        terms['discount_loss'] = tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(target, logits))
    for name, loss in world.representation.loss(features, embeddings, batch).items():
        terms[name] = tf.reduce_mean(loss)
    total = tf.maximum(tf.reduce_mean(divergence), world.config.free_nats) + sum(terms.values())
    return total, terms, posterior, divergence


@pytest.mark.parametrize('method', METHODS)
def test_model_loss_is_divergence_reward_discount_and_representation(method):
    world = helpers.build(method, '--pcont').world
    helpers.shake(world)
    batch = helpers.tensors(helpers.sequences())
    noise = tf.constant(normals(4, 8, world.dynamics.stoch))
    _, _, _, divergence = plain_model_loss(world, batch, noise)
    mean = np.mean(divergence)
    # Between: were each value clipped before the mean, the second would differ.
    for free_nats in 0, 0.9 * mean, 2 * mean:
        world.config = dataclasses.replace(world.config, free_nats=float(free_nats))
        wanted, terms, _, _ = plain_model_loss(world, batch, noise)
        total, metrics, posterior = world.loss(batch, noise)
        close(total, wanted)
        close(metrics['model_loss'], wanted)
        close(metrics['divergence'], mean, 1e-4)
        assert metrics['prior_learns'] == float(mean > free_nats)
        for name, term in terms.items():
            close(metrics[name], term)
        assert posterior.features().shape == (4, 8, world.width)
    assert np.min(divergence) < 0.9 * mean < np.max(divergence)
    close(total, 2 * mean + sum(np.float64(term) for term in terms.values()), 1e-4)


def test_below_the_free_nats_the_prior_learns_nothing():
    world = helpers.build('cvrl', '--free_nats', '100').world
    batch = helpers.tensors(helpers.sequences())
    with tf.GradientTape() as tape:
        loss, metrics, _ = world.loss(batch, tf.constant(normals(4, 8, world.dynamics.stoch)))
    assert metrics['prior_learns'] == 0
    for gradient in tape.gradient(loss, [*world.dynamics.prior_output.trainable_variables]):
        assert gradient is None or not np.any(gradient)


# --- Behaviour ---------------------------------------------------------------------------


def plain_return(reward, value, discount, disclam, k):
    """V_k by its recursion, k from 0."""
    if k == len(value) - 1:
        return value[k].astype(np.float64)
    after = plain_return(reward, value, discount, disclam, k + 1)
    return reward[k] + discount[k] * ((1 - disclam) * value[k + 1] + disclam * after)


@pytest.mark.parametrize('disclam', [0.0, 0.95, 1.0])
def test_lambda_return_is_its_recursion(disclam):
    reward, value = normals(7, 5), normals(7, 5, seed=1)
    discount = np.random.default_rng(2).uniform(0, 1, (7, 5)).astype(np.float32)
    result = models.lambda_return(*map(tf.constant, (reward, value, discount)), disclam)
    close(result, [plain_return(reward, value, discount, disclam, k) for k in range(6)])


def plain_losses(features, weights, targets):
    """(actor loss, value loss) on features (reward, discount, value) [H, N, 3]; the weights and
    the targets of the value are constants."""
    reward, discount, value = np.moveaxis(features.astype(np.float64), -1, 0)
    actor = critic = 0.0
    for k in range(len(value) - 1):
        returns = plain_return(reward, value, discount, 0.95, k)
        for n in range(value.shape[1]):
            actor -= weights[k][n] * returns[n]
            critic -= weights[k][n] * helpers.log_normal(targets[k][n], value[k, n])
    return np.array([actor, critic]) / (len(weights) * value.shape[1])


def test_losses_weigh_returns_by_the_discounts_before_them_and_stop_the_right_gradients():
    """On a stub whose features are reward, discount and value, with gradients by differences."""
    behaviour = models.ActorCritic(helpers.settings('mummi'), 3, ACTIONS, FLOAT32)
    behaviour.value_head = lambda features: features[..., 2:]
    world = types.SimpleNamespace(reward=lambda f: f[..., 0], discount=lambda f: f[..., 1])
    features = normals(5, 3, 3)
    features[..., 1] = np.random.default_rng(0).uniform(0.2, 1, (5, 3))
    inputs = tf.constant(features)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        losses = behaviour.losses(world, inputs)[:2]
    weights = [np.prod(features[:k, :, 1], 0) for k in range(4)]
    targets = [plain_return(
        features[..., 0], features[..., 2], features[..., 1], 0.95, k) for k in range(4)]
    close(losses, plain_losses(features, weights, targets))
    found = [tape.gradient(loss, inputs).numpy() for loss in losses]
    wanted = np.zeros([2, 5, 3, 3])
    for index in np.ndindex(5, 3, 3):
        moved = [features.astype(np.float64) for _ in range(2)]
        moved[0][index] += 1e-4
        moved[1][index] -= 1e-4
        up, down = (plain_losses(m, weights, targets) for m in moved)
        wanted[(slice(None), *index)] = (up - down) / 2e-4
    close(found, wanted)


# --- Gradients and updates ---------------------------------------------------------------


def plain_imagination(agent, start, noise):
    """Features [H, N, F] of actions by samples on features without gradient."""
    state, dynamics, features = start, agent.world.dynamics.read(), []
    for _ in range(agent.config.horizon):
        policy = agent.behaviour.policy(tf.stop_gradient(state.features()))
        action = tf.tanh(policy.mean + policy.deviation * noise)
        state = dynamics.prior(
            dynamics.transition(state, action), tf.fill(state.mean.shape, noise))
        features.append(state.features())
    return tf.stack(features)


def plain_gradients(agent, batch, noise):
    """part -> (loss, gradients) of one update where every draw of noise is `noise`."""
    world, behaviour = agent.world, agent.behaviour
    size = [*batch['reward'].shape, agent.config.stoch]
    with tf.GradientTape() as tape:
        loss, _, posterior, _ = plain_model_loss(world, batch, tf.fill(size, noise))
    found = {'model': (loss, tape.gradient(loss, world.trainable_variables))}
    start = posterior.map(lambda part: tf.reshape(part, [-1, part.shape[-1]]))
    start = start.map(tf.stop_gradient)
    with tf.GradientTape(persistent=True) as tape:
        features = plain_imagination(agent, start, noise)
        value, discount = behaviour.value(features), world.discount(features)
        reward = world.reward(features)
        returns = [value[-1]]
        for k in reversed(range(agent.config.horizon - 1)):
            returns.insert(0, reward[k] + discount[k] * (
                0.05 * value[k + 1] + 0.95 * returns[0]))
        returns = tf.stack(returns[:-1])
        weights = tf.stop_gradient(tf.stack([
            tf.reduce_prod(discount[:k], 0) for k in range(agent.config.horizon - 1)]))
        actor_loss = -tf.reduce_mean(weights * returns)
        value_loss = tf.reduce_mean(weights * 0.5 * (
            np.log(2 * np.pi) + (tf.stop_gradient(returns) - value[:-1]) ** 2))
    for name, loss, part in (
            ('actor', actor_loss, behaviour.actor), ('value', value_loss, behaviour.value_head)):
        found[name] = loss, tape.gradient(loss, part.trainable_variables)
    return found


@pytest.mark.parametrize('method, words', [
    ('mummi', ()), ('mummi', ('--density_ratio', 'bilinear', '--pcont')), ('cvrl', ()),
    ('dreamer', ('--pcont',))])
def test_gradients_of_an_update_are_those_of_a_plain_implementation(method, words, eager):
    agent = helpers.build(
        method, '--model_rate', '0', '--clip', '0', '--free_nats', '0', *words)
    helpers.shake(agent.world, 0.03)
    helpers.shake(agent.behaviour, 0.03)
    agent.random = helpers.constant_noise(0.25)
    batch = helpers.tensors(helpers.sequences())
    wanted = plain_gradients(agent, batch, 0.25)
    metrics = agent.train(batch)
    for name, (loss, gradients) in wanted.items():
        close(metrics[f'{name}_loss'], loss)
        close(metrics[f'{name}_gradient'], tf.linalg.global_norm(gradients), 1e-4)
        # After the first step Adam's first moment is a tenth of the gradient.
        optimiser = agent.optimisers[name]
        largest = max(np.abs(gradient).max() for gradient in gradients)
        for found, gradient in zip(optimiser.first, gradients, strict=True):
            np.testing.assert_allclose(10 * found, gradient, rtol=1e-3, atol=2e-5 * largest)


def without_gradient(method, agent):
    """References of variables whose gradient is zero by right: in CVRL's score u(s_i) . v(e_j)
    the last bias of v adds the same to every j, which the softmax takes away again."""
    return {agent.world.representation.observation_code.output.bias.ref()} if (
        method == 'cvrl') else set()


@pytest.mark.parametrize('method', METHODS)
def test_every_trainable_variable_gets_a_gradient(method, eager):
    agent = helpers.build(method, '--pcont', '--use_sac', '--free_nats', '0')
    trained = [v.ref() for optimiser in agent.optimisers.values() for v in optimiser.targets]
    targets = {v.ref() for critic in agent.soft.targets for v in critic.variables}
    assert set(trained) | targets == {v.ref() for v in agent.trainable_variables}
    # The actor alone has two optimisers: imagination's and soft actor-critic's.
    assert len(trained) - len(set(trained)) == len(agent.behaviour.actor.trainable_variables)
    agent.train(helpers.tensors(helpers.sequences()))
    idle = without_gradient(method, agent)
    for name, optimiser in agent.optimisers.items():
        for variable, first in zip(optimiser.targets, optimiser.first):
            if variable.ref() in idle:
                assert np.abs(first).max() < 1e-7
            else:
                assert np.abs(first).max() > 1e-9, (name, variable.shape)


@pytest.mark.parametrize('method', METHODS)
def test_each_loss_changes_its_own_part_and_no_other(method, eager):
    agent = helpers.build(method, '--pcont', '--use_sac', '--free_nats', '0')
    batch = helpers.tensors(helpers.sequences())
    rates = {name: optimiser.rate for name, optimiser in agent.optimisers.items()}
    own = {name: set() for name in rates}
    for name, optimiser in agent.optimisers.items():
        own[name] = {v.ref() for v in optimiser.targets}
    assert own['actor'] == {v.ref() for v in agent.behaviour.actor.trainable_variables}
    assert own['value'] == {v.ref() for v in agent.behaviour.value_head.trainable_variables}
    assert own['model'] == {v.ref() for v in agent.world.trainable_variables}
    targets = {v.ref() for critic in agent.soft.targets for v in critic.variables}
    idle = without_gradient(method, agent)
    for name in rates:
        for other, optimiser in agent.optimisers.items():
            optimiser.rate = rates[other] if other == name else 0.0
        variables = [v for v in agent.trainable_variables if v.ref() not in targets]
        before = helpers.values(variables)
        agent.train(batch)
        for variable, same in zip(variables, helpers.unchanged(before, variables)):
            assert same == (variable.ref() not in own[name]) or (
                variable.ref() in idle), (name, variable.shape)


@pytest.mark.parametrize('method', ['mummi', 'cvrl'])
def test_decoders_for_pictures_change_nothing_else(method, eager):
    batch = helpers.tensors(helpers.sequences())
    results = []
    for frames in 8, 0:
        agent = helpers.build(method, '--probe_frames', str(frames))
        assert bool(agent.decoders) == bool(frames)
        metrics = agent.train(batch)
        results.append(helpers.values(
            agent.world.trainable_variables + agent.behaviour.trainable_variables))
        assert ('decoders_loss' in metrics) == bool(frames)
    for one, other in zip(*results, strict=True):
        close(one, other, 1e-6)


def test_decoders_for_pictures_learn_the_loss_of_the_frames_that_they_are_shown(eager):
    agent = helpers.build('cvrl', '--clip', '0')
    agent.random = helpers.constant_noise()
    batch = helpers.sequences()
    noise = tf.fill([4, 8, agent.config.stoch], 0.5)
    _, _, posterior, _ = plain_model_loss(agent.world, helpers.tensors(batch), noise)
    features = tf.reshape(posterior.features(), [32, -1])[:8]
    frames = {key: value.reshape(32, *value.shape[2:])[:8] for key, value in batch.items()}
    wanted = 0
    for sensor, decoder in agent.decoders.items():
        target = frames[sensor] * SENSORS[sensor].scale + SENSORS[sensor].offset
        for row in range(8):
            wanted -= frames[flag(sensor)][row, 0] * np.sum(
                helpers.log_normal(target[row], decoder(features)[row].numpy())) / 8
    close(agent.train(helpers.tensors(batch))['decoders_loss'], wanted)


@pytest.mark.parametrize('method', METHODS)
def test_first_update_in_bfloat16_is_close_to_that_in_float32(method, eager):
    batch = helpers.tensors(helpers.sequences())
    metrics = {}
    for precision in 'float32', 'bfloat16':
        agent = helpers.build(method, '--pcont', '--precision', precision)
        metrics[precision] = agent.train(batch)
        assert agent.compute == precision
        assert all(v.dtype == tf.float32 for v in agent.trainable_variables)
        assert all(v.dtype == tf.float32 for v in metrics[precision].values())
    for key, value in metrics['float32'].items():
        if key.endswith('_loss') or key == 'divergence':
            np.testing.assert_allclose(
                metrics['bfloat16'][key], value, rtol=0.05, atol=0.02, err_msg=key)
        if key.endswith('_gradient'):
            np.testing.assert_allclose(
                metrics['bfloat16'][key], value, rtol=0.15, err_msg=key)


def test_float16_begins_with_the_losses_of_float32_and_finds_a_loss_scale(eager):
    agent = helpers.build('cvrl', '--precision', 'float16', '--horizon', '2')
    batch = helpers.tensors(helpers.sequences(2, 4))
    first = agent.train(batch)
    for key, value in helpers.build('cvrl', '--horizon', '2').train(batch).items():
        if key.endswith('_loss'):
            np.testing.assert_allclose(first[key], value, rtol=0.05, atol=0.02, err_msg=key)
    updates = 1
    while not all(int(optimiser.count) for optimiser in agent.optimisers.values()):
        agent.train(batch)
        updates += 1
        assert updates < 12
    assert all(np.isfinite(v).all() for v in agent.trainable_variables)


# --- Optimiser ---------------------------------------------------------------------------


def quadratic(optimiser, variables, slopes, factor=1.0):
    """One step on sum_i slopes_i . v_i^2 / 2 + factor sum v; returns the norm."""
    with tf.GradientTape() as tape:
        loss = tf.add_n([
            tf.reduce_sum(slope * v ** 2 / 2 + factor * v) for slope, v in zip(slopes, variables)])
        scaled = optimiser.scaled(loss)
    return optimiser.step(tape, scaled)


@pytest.mark.parametrize('loss_scaling', [False, True])
@pytest.mark.parametrize('clip, decay', [(0, 0), (1.5, 0), (1.5, 0.1), (1e9, 0.1)])
def test_optimiser_is_adam_with_clipping_and_decoupled_decay(clip, decay, loss_scaling):
    variables = [tf.Variable(normals(3, 2)), tf.Variable(normals(4, seed=1))]
    slopes = [normals(3, 2, seed=2), normals(4, seed=3)]
    optimiser = tools.Optimiser('some', variables, 0.01, clip, decay, loss_scaling)
    plain = [v.astype(np.float64) for v in helpers.values(variables)]
    first, second = ([np.zeros_like(v) for v in plain] for _ in range(2))
    clipped = 0
    for count in range(1, 9):
        gradients = [slope * v + 1 for slope, v in zip(slopes, plain)]
        norm = np.sqrt(sum(np.sum(g ** 2) for g in gradients))
        close(quadratic(optimiser, variables, slopes), norm)
        clipped += bool(clip) and norm > clip
        for number, gradient in enumerate(gradients):
            gradient = gradient * (min(1, clip / norm) if clip else 1)
            first[number] = 0.9 * first[number] + 0.1 * gradient
            second[number] = 0.999 * second[number] + 0.001 * gradient ** 2
            plain[number] *= 1 - 0.01 * decay
            plain[number] -= 0.01 * first[number] / (1 - 0.9 ** count) / (
                np.sqrt(second[number] / (1 - 0.999 ** count)) + 1e-7)
        for variable, wanted in zip(variables, plain):
            close(variable, wanted, 1e-5)
    assert clipped == (8 if clip == 1.5 else 0)
    assert int(optimiser.count) == 8


def test_optimiser_takes_a_variable_without_gradient_for_an_error():
    variables = [tf.Variable(1.0), tf.Variable(1.0, name='lonely')]
    optimiser = tools.Optimiser('some', variables, 0.01, 1.0)
    with tf.GradientTape() as tape:
        loss = variables[0] ** 2
    with pytest.raises(ValueError, match='some: no gradient for 1 variables.*lonely'):
        optimiser.step(tape, loss)
    assert float(variables[0]) == 1


@pytest.mark.parametrize('wrap', [lambda function: function, tf.function])
def test_loss_scale_halves_without_a_step_at_infinity_and_doubles_after_patience(wrap):
    variables = [tf.Variable(normals(3)), tf.Variable(normals(2, seed=1))]
    slopes = [normals(3, seed=2), normals(2, seed=3)]
    optimiser = tools.Optimiser('some', variables, 0.01, 1.0, 0.1, loss_scaling=True)
    optimiser.PATIENCE = 3
    step = wrap(lambda factor: quadratic(optimiser, variables, slopes, factor))
    state = (*variables, *optimiser.first, *optimiser.second, optimiser.count)
    good, bad = tf.constant(1.0), tf.constant(np.inf)
    scale = float(optimiser.scale)
    assert scale == 2 ** 15
    for factor, wanted in (
            (good, 1), (good, 1), (bad, 1 / 2), (good, 1 / 2), (good, 1 / 2), (good, 1),
            (good, 1), (good, 1), (good, 2), (tf.constant(np.nan), 1), (bad, 1 / 2)):
        before = helpers.values(state)
        step(factor)
        assert float(optimiser.scale) == wanted * scale
        assert helpers.unchanged(before, state) == [factor is not good] * len(state)
    optimiser.scale.assign(1.0)
    step(bad)
    assert float(optimiser.scale) == 1
    optimiser.scale.assign(optimiser.LARGEST)
    for _ in range(4):
        step(good)
    assert float(optimiser.scale) == optimiser.LARGEST


def test_loss_is_scaled_in_float16_alone_which_a_run_may_go_over_to(tmp_path):
    half, other = (helpers.build('cvrl', '--precision', name) for name in ('float16', 'bfloat16'))
    assert half.optimisers['model'].loss_scaling and not other.optimisers['model'].loss_scaling
    other.optimisers['model'].count.assign(7)
    tools.Checkpoints(tmp_path, other).save(1)
    tools.Checkpoints(tmp_path, half).restore()
    assert int(half.optimisers['model'].count) == 7
    assert float(half.optimisers['model'].scale) == 2 ** 15
    variable = tf.Variable(3.0)
    assert float(tools.Optimiser('some', [variable], 0.01, 1.0).scaled(variable)) == 3


def test_optimisers_take_their_rates_and_clipping_from_the_configuration():
    words = ['--model_rate', '1', '--actor_rate', '2', '--value_rate', '3', '--sac_rate', '4',
             '--clip', '5', '--weight_decay', '6', '--use_sac']
    optimisers = helpers.build('mummi', *words).optimisers
    assert {name: optimiser.rate for name, optimiser in optimisers.items()} == dict(
        model=1, actor=2, value=3, decoders=1, critic=4, soft_actor=2, temperature=4)
    assert {(o.clip, o.weight_decay) for o in optimisers.values()} == {(5, 6)}


def test_seed_decides_the_weights():
    weights = []
    for seed in 1, 1, 2:
        tools.seed_everything(seed)
        agent = models.Agent(helpers.settings('cvrl'), METHODS['cvrl'][0], SHAPES, ACTIONS)
        weights.append(np.concatenate([np.ravel(v) for v in agent.trainable_variables]))
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


# --- Acting ------------------------------------------------------------------------------


def latents(agent, count, seed=0):
    config = agent.config
    return models.State(*(
        tf.constant(normals(count, width, seed=seed + number)) for number, width in enumerate(
            (config.stoch, config.stoch, config.stoch, config.deter))))


def quiet(*words, method='mummi', **options):
    """An agent of moderate actions, whose deviations are about 0.7."""
    agent = helpers.build(method, *words, **options)
    helpers.shake(agent)
    bias = agent.behaviour.actor.output.bias
    bias.assign(tf.concat([bias[:ACTIONS], bias[ACTIONS:] - 5], 0))
    return agent


@pytest.mark.parametrize('precision, tolerance', [('float32', 1e-5), ('bfloat16', 0.02)])
@pytest.mark.parametrize('method', METHODS)
def test_acting_and_training_give_the_encoders_and_the_latents_the_same(
        method, precision, tolerance, tmp_path, monkeypatch, eager):
    """An episode as a driver stores it: by replay to an update, and step by step to a policy."""
    agent = helpers.build(method, '--precision', precision)
    helpers.shake(agent, 0.03)
    agent.random = helpers.constant_noise()
    length = 8
    episode = {key: value[0] for key, value in helpers.sequences(1, length).items()}
    read = {sensor: [] for sensor in SHAPES}
    encoders = agent.world.representation.encoders

    def recorded(sensor, encoder):
        def call(raw):
            read[sensor].append(raw)
            return encoder(raw)
        return call

    for sensor in SHAPES:
        encoders[sensor] = recorded(sensor, encoders[sensor])
    embedded = spy(monkeypatch, agent.world.representation, 'embed')
    policy = training.AgentPolicy(agent, 1, exploring=True)
    states = []
    for t in range(length):
        observation = {
            key: episode[key][None, t] for s in SHAPES for key in (s, flag(s))}
        policy(observation, np.array([t == 0]))
        states.append({key: value.numpy() for key, value in policy.state.items()})
        if t + 1 < length:
            policy.state['action'] = tf.constant(episode['action'][None, t + 1])
    acted = embedded.copy()
    read_acting = {sensor: seen.copy() for sensor, seen in read.items()}

    replay = tools.Replay(tmp_path, 1)
    replay.add(episode)
    filtered = spy(monkeypatch, agent.world.dynamics, 'filter')
    embedded.clear()
    for seen in read.values():
        seen.clear()
    agent.train(next(replay.batches(1, length, [0])))
    posterior = filtered[0][1][0]
    for t in range(length):
        for name, part in zip(posterior._fields, posterior):
            close(states[t][name], part[:, t], tolerance)
        one, other = acted[t][1]['joint'], embedded[0][1]['joint'][:, t]
        assert one.dtype == other.dtype
        close(tf.cast(one, tf.float32), tf.cast(other, tf.float32), tolerance)
        for sensor in SHAPES:
            one, other = read_acting[sensor][t], read[sensor][0][:, t]
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
            one, other = (call[0][0][flag(sensor)] for call in (acted[t], embedded[0]))
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other[:, t])


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('exploring', [True, False])
def test_acting_by_copies_is_acting_by_weights_that_are_rounded_at_each_action(
        method, exploring, eager):
    """After an update, so that copies from before it would show."""
    agent = helpers.build(
        method, '--precision', 'bfloat16', '--refine_actions', '--search_candidates', '3',
        '--actor_rate', '0.1', '--model_rate', '0.1')
    agent.train(helpers.tensors(helpers.sequences()))
    observation = helpers.tensors(helpers.observations(2)) | {'is_first': tf.constant([True, True])}
    results, copies = [], agent.precision.copies
    assert len(copies) > 20 and all(v.dtype == tf.bfloat16 for v in copies.values())
    for agent.precision.copies in copies, {}:
        agent.random = helpers.constant_noise()
        results.append(agent.policy(observation, agent.initial(2), exploring))
    for one, other in zip(*(tf.nest.flatten(result) for result in results)):
        np.testing.assert_array_equal(one, other)


def test_copies_are_what_acting_reads_and_nothing_else(eager):
    batch = helpers.tensors(helpers.sequences())
    observation = helpers.tensors(helpers.observations(2)) | {'is_first': tf.constant([True, True])}
    acted, learned = [], []
    for forgotten in False, True:
        agent = helpers.build('cvrl', '--precision', 'bfloat16')
        agent.random = helpers.constant_noise()
        if forgotten:
            for copy in agent.precision.copies.values():
                copy.assign(tf.zeros_like(copy))
        acted.append(agent.policy(observation, agent.initial(2), False)[0])
        pictures = agent.open_loop(batch)
        learned.append([*pictures.values(), *agent.train(batch).values()])
    assert np.ptp(acted[0]) > 0.001 and np.ptp(acted[1]) == 0  # of zeros, the same for all
    for one, other in zip(*learned):
        np.testing.assert_array_equal(one, other)


def test_copies_are_made_only_where_weights_are_rounded_and_follow_a_restore(tmp_path, eager):
    assert not helpers.build('mummi').precision.copies
    saved, agent = (
        helpers.build('mummi', '--precision', 'bfloat16', seed=seed) for seed in (1, 2))
    tools.Checkpoints(tmp_path, saved).save(1)
    tools.Checkpoints(tmp_path, agent).restore()
    observation, actions = helpers.observations(1), []
    for each in saved, agent:
        policy = training.AgentPolicy(each, 1, exploring=False)
        each.random = helpers.constant_noise()
        actions.append(policy(observation, np.array([True])))
    np.testing.assert_array_equal(*actions)


def test_episode_start_resets_its_own_row_only(eager):
    agent = helpers.build('mummi')
    agent.random = helpers.constant_noise()
    observation = helpers.tensors(helpers.observations(3, missing=False))
    state = latents(agent, 3)._asdict() | {'action': tf.constant(normals(3, ACTIONS))}

    def run(state, is_first):
        return agent.policy(
            observation | {'is_first': tf.constant(is_first)}, state, False)[1]

    mixed = run(state, [False, True, False])
    going, fresh = run(state, [False] * 3), run(agent.initial(3), [False] * 3)
    for key in mixed:
        for row, wanted in enumerate((going, fresh, going)):
            close(mixed[key][row], wanted[key][row], 1e-6)
    assert not np.allclose(going['mean'][1], fresh['mean'][1])
    assert not any(np.any(value) for value in agent.initial(3).values())


def test_policy_keeps_the_action_that_it_gives(eager):
    agent = helpers.build('mummi')
    observation = helpers.tensors(helpers.observations(2))
    action, state = agent.policy(
        observation | {'is_first': tf.constant([True, False])}, agent.initial(2), True)
    np.testing.assert_array_equal(action, state['action'])


def test_evaluation_acts_by_the_mode_of_100_samples_and_adds_no_noise(eager):
    agent = quiet('--explore_noise', '0.3')
    agent.random = helpers.random_noise()
    latent = latents(agent, 5)
    action = agent.act(latent, False)
    assert [draw.shape for draw in agent.random.drawn] == [(100, 5, ACTIONS)]
    policy = agent.behaviour.policy(latent.features())
    np.testing.assert_array_equal(action, policy.mode(tf.constant(agent.random.drawn[0])))


def test_collecting_acts_by_a_sample_with_clipped_noise(eager):
    agent = quiet('--explore_noise', '0.3')
    for noise in 0.5, 3.0:
        agent.random = helpers.constant_noise(noise)
        latent = latents(agent, 5)
        policy = agent.behaviour.policy(latent.features())
        sample = np.tanh(policy.mean + policy.deviation * noise)
        action = agent.act(latent, True)
        close(action, np.clip(sample + 0.3 * noise, -1, 1))
    assert np.max(action) == 1
    agent.random = helpers.constant_noise(-3.0)
    assert np.min(agent.act(latent, True)) == -1


def test_imagined_reward_is_logged_apart_from_the_value(eager):
    agent = helpers.build('dreamer')
    for head, level in (agent.world.reward_head, 0.7), (agent.behaviour.value_head, 5.0):
        head.output.kernel.assign(tf.zeros_like(head.output.kernel))
        head.output.bias.assign([level])
    agent.optimisers['model'].rate = 0.0
    metrics = agent.train(helpers.tensors(helpers.sequences()))
    close(metrics['imagined_reward'], 0.7)
    close(metrics['value'], 5.0)


def plain_imagined_return(agent, latent, action, noise):
    """The first lambda-return [N] with `action` first and samples after, all noise `noise`."""
    world, state, features = agent.world, latent, []
    dynamics = world.dynamics.read()
    for step in range(agent.config.horizon):
        if step:
            policy = agent.behaviour.policy(tf.stop_gradient(state.features()))
            action = tf.tanh(policy.mean + policy.deviation * noise)
        state = dynamics.prior(
            dynamics.transition(state, action), tf.fill(state.mean.shape, noise))
        features.append(state.features())
    reward, value, discount = (
        tf.stack([head(f) for f in features])
        for head in (world.reward, agent.behaviour.value, world.discount))
    last = value[-1]
    for k in reversed(range(agent.config.horizon - 1)):
        last = reward[k] + discount[k] * (0.05 * value[k + 1] + 0.95 * last)
    return last


@pytest.mark.parametrize('exploring', [False, True])
def test_refinement_moves_each_action_along_the_gradient_of_its_own_return(exploring, eager):
    agent = quiet('--refine_actions', '--refine_rate', '0.01', '--explore_noise', '0', '--pcont')
    agent.random = helpers.constant_noise()
    latent = latents(agent, 3)
    policy = agent.behaviour.policy(latent.features())
    start = tf.tanh(policy.mean + 0.5 * policy.deviation)
    refined = agent.act(latent, exploring)
    for row in range(3):
        own = latent.map(lambda part, row=row: part[row:row + 1])
        with tf.GradientTape() as tape:
            action = start[row:row + 1]
            tape.watch(action)
            value = plain_imagined_return(agent, own, action, 0.5)
        close(agent.imagined_return(own, action), value)
        gradient = tape.gradient(value, action)
        assert np.abs(gradient).max() > 1e-3
        close(refined[row] - start[row], 0.01 * gradient[0], 1e-3)
        after = plain_imagined_return(agent, own, action + 0.01 * gradient, 0.5)
        assert float(after[0]) > float(value[0])


def test_refined_action_of_an_environment_ignores_the_other_environments(eager):
    agent = quiet('--refine_actions', '--refine_rate', '0.1')
    first = latents(agent, 2)
    second = first.map(lambda part: tf.concat([part[:1], 3 - part[1:]], 0))
    actions = []
    for latent in first, second:
        agent.random = helpers.random_noise()
        actions.append(agent.act(latent, True).numpy())
    close(actions[0][0], actions[1][0], 1e-6)
    assert not np.allclose(actions[0][1], actions[1][1])


@pytest.mark.parametrize('exploring', [False, True])
def test_search_takes_each_environments_own_best_candidate(exploring, eager, monkeypatch):
    """By a stub return: minus the distance to a goal that the latent holds."""
    agent = quiet('--search_candidates', '20', '--explore_noise', '0')
    agent.random = helpers.random_noise()
    latent = latents(agent, 6)
    tried = []

    def imagined_return(state, action):
        tried.append((state.mean.numpy(), action.numpy()))
        goal = tf.tanh(state.mean[:, :ACTIONS])
        return -tf.reduce_sum((action - goal) ** 2, -1)

    monkeypatch.setattr(agent, 'imagined_return', imagined_return)
    found = agent.act(latent, exploring)
    means, actions = (np.concatenate(parts) for parts in zip(*tried))
    policy = agent.behaviour.policy(latent.features())
    drawn = agent.random.drawn
    given = policy.sample(drawn[0]) if exploring else policy.mode(tf.constant(drawn[0]))
    for row in range(6):
        own = np.all(means == latent.mean[row], -1)
        assert own.sum() == 20
        candidates = actions[own]
        assert len(np.unique(candidates.round(5), axis=0)) == 20
        assert np.isclose(candidates, given[row]).all(-1).any()
        goal = np.tanh(latent.mean[row, :ACTIONS])
        best = candidates[np.argmin(np.sum((candidates - goal) ** 2, -1))]
        close(found[row], best, 1e-6)


def test_search_finds_better_returns_than_the_sample(eager):
    agent = quiet('--search_candidates', '20', '--explore_noise', '0')
    agent.random = helpers.constant_noise(0.0)
    latent = latents(agent, 6)
    base = agent.imagined_return(latent, agent.act(latent, True)).numpy()
    agent.random = Mixed()
    found = agent.act(latent, True)
    agent.random = helpers.constant_noise(0.0)
    better = agent.imagined_return(latent, found).numpy()
    assert (better >= base - 1e-6).all()
    assert (better > base + 1e-4).any()


class Mixed(helpers.Noise):
    """No noise, except in the candidates of a search."""

    def __init__(self):
        draw = np.random.default_rng(0).standard_normal
        super().__init__(lambda shape: draw(shape) if shape[0] == 19 else np.zeros(shape))


@pytest.mark.parametrize('entries', [2, 5, 8])
def test_open_loop_filters_five_entries_and_imagines_the_rest_by_the_recorded_actions(
        entries, eager):
    agent = quiet()
    agent.random = helpers.constant_noise()
    batch = helpers.sequences(2, entries)
    found = agent.open_loop(helpers.tensors(batch))
    dynamics, state = agent.world.dynamics.read(), agent.world.dynamics.initial(2)
    joint = agent.world.representation.embed(helpers.tensors(batch))['joint']
    for t in range(entries):
        h = dynamics.transition(state, tf.constant(batch['action'][:, t]))
        noise = tf.fill([2, agent.config.stoch], 0.5)
        state = dynamics.posterior(h, joint[:, t], noise) if t < 5 else dynamics.prior(h, noise)
        for sensor, prediction in agent.reconstruct(state.features()).items():
            assert found[sensor].shape == (2, entries, *SHAPES[sensor])
            close(found[sensor][:, t], prediction, 1e-4)


# --- Soft actor-critic -------------------------------------------------------------------


@pytest.fixture
def soft_agent():
    agent = quiet('--use_sac', '--sac_rate', '0', '--clip', '0', method='cvrl')
    for number, critic in enumerate(agent.soft.targets):
        helpers.shake(critic, 0.1, seed=50 * number)
    agent.soft.log_temperature.assign(-1.0)
    agent.random = helpers.constant_noise()
    return agent


def plain_critic(critics, features, action):
    inputs = np.concatenate([features, action], -1)
    return np.stack([helpers.perceptron(critic, inputs)[..., 0] for critic in critics])


def test_target_is_reward_and_discounted_smaller_value_and_entropy(soft_agent):
    soft, features = soft_agent.soft, normals(2, 5, soft_agent.world.width)
    reward, discount = normals(2, 5, seed=1), np.float32(normals(2, 5, seed=2) > 0)
    noise = normals(2, 5, ACTIONS, seed=3)
    policy = soft_agent.behaviour.policy
    with tf.GradientTape() as tape:
        found = soft.target(policy, *map(tf.constant, (features, reward, discount, noise)))
    action, logs = policy(tf.constant(features)).sample_and_log(tf.constant(noise))
    both = plain_critic(soft.targets, features, action)
    assert np.ptp(np.argmin(both, 0)) == 1
    close(found, reward + 0.99 * discount * (both.min(0) - np.exp(-1) * logs))
    weights = [*soft_agent.behaviour.actor.trainable_variables,
               *(v for critic in soft.targets for v in critic.trainable_variables)]
    assert tape.gradient(found, weights) == [None] * len(weights)


def test_soft_losses_are_over_transitions_along_time(soft_agent):
    soft, batch = soft_agent.soft, helpers.sequences(3, 5)
    features = normals(3, 5, soft_agent.world.width)
    policy = soft_agent.behaviour.policy
    critic_loss = actor_loss = entropy = 0
    for b in range(3):
        for t in range(4):
            action, logs = policy(tf.constant(features[b, t + 1])).sample_and_log(
                tf.fill([ACTIONS], 0.5))
            after = plain_critic(soft.targets, features[b, t + 1], action).min()
            target = batch['reward'][b, t + 1] + 0.99 * batch['discount'][b, t + 1] * (
                after - np.exp(-1) * logs)
            both = plain_critic(soft.critics, features[b, t], batch['action'][b, t + 1])
            critic_loss += 0.5 * np.sum((both - target) ** 2) / 12
            action, logs = policy(tf.constant(features[b, t])).sample_and_log(
                tf.fill([ACTIONS], 0.5))
            actor_loss += (np.exp(-1) * logs - plain_critic(
                soft.critics, features[b, t], action).min()) / 12
            entropy -= logs / 12
    given = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(given)
        before, noise = given[:, :-1], tf.fill([3, 4, ACTIONS], 0.5)
        action, logs = policy(before).sample_and_log(noise)
        loss = tf.reduce_mean(np.exp(-1) * logs - tf.minimum(*(
            critic(tf.concat([before, action], -1))[..., 0] for critic in soft.critics)))
    gradients = tape.gradient(loss, soft_agent.behaviour.actor.trainable_variables)
    metrics = soft.train(
        soft_agent.behaviour, soft_agent.optimisers, given, helpers.tensors(batch),
        soft_agent.random)
    close(metrics['critic_loss'], critic_loss)
    close(metrics['soft_actor_loss'], actor_loss)
    close(metrics['soft_entropy'], entropy)
    for first, gradient in zip(
            soft_agent.optimisers['soft_actor'].first, gradients, strict=True):
        close(10 * first, gradient, 1e-3)


def test_soft_step_changes_critics_actor_and_temperature_and_targets_follow_by_0_005():
    agent = quiet('--use_sac', method='cvrl')
    soft = agent.soft
    for number, critic in enumerate(soft.targets):
        helpers.shake(critic, 0.1, seed=50 * number)
    parts = {
        'critics': soft.critics_variables(), 'actor': agent.behaviour.actor.trainable_variables,
        'temperature': [soft.log_temperature], 'world': agent.world.trainable_variables,
        'value': agent.behaviour.value_head.trainable_variables,
        'targets': [v for critic in soft.targets for v in critic.trainable_variables]}
    before = {name: helpers.values(variables) for name, variables in parts.items()}
    features = tf.constant(normals(3, 5, agent.world.width))
    soft.train(agent.behaviour, agent.optimisers, features,
               helpers.tensors(helpers.sequences(3, 5)), agent.random)
    for name, variables in parts.items():
        same = helpers.unchanged(before[name], variables)
        assert same == [name in ('world', 'value')] * len(variables), name
    assert len(parts['targets']) == len(parts['critics']) == 16
    for old, new, critic in zip(before['targets'], parts['targets'], parts['critics']):
        close(new - old, 0.005 * (critic - old), 1e-3)


def test_target_critics_begin_as_the_critics():
    soft = SoftActorCritic(helpers.settings('cvrl'), 7, ACTIONS, FLOAT32)
    inputs = tf.constant(normals(4, 7)), tf.constant(normals(4, ACTIONS, seed=1))
    one, other = (soft.values(critics, *inputs) for critics in (soft.critics, soft.targets))
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one[0], one[1])
    close(one, plain_critic(soft.critics, *inputs))


@pytest.mark.parametrize('deviation, rises', [(1e-3, True), (0.9, False)])
def test_temperature_rises_where_the_entropy_is_below_minus_the_actions_and_falls_above(
        deviation, rises):
    agent = helpers.build('cvrl', '--use_sac')
    output = agent.behaviour.actor.output
    output.kernel.assign(tf.zeros_like(output.kernel))
    raw = np.log(np.expm1(deviation)) - np.log(np.expm1(5))
    output.bias.assign(tf.concat([tf.zeros([ACTIONS]), tf.fill([ACTIONS], float(raw))], 0))
    metrics = agent.soft.train(
        agent.behaviour, agent.optimisers, tf.constant(normals(3, 5, agent.world.width)),
        helpers.tensors(helpers.sequences(3, 5)), agent.random)
    assert (float(metrics['soft_entropy']) < -ACTIONS) == rises
    step = float(agent.soft.log_temperature)
    assert np.sign(step) == (1 if rises else -1)
    np.testing.assert_allclose(abs(step), 3e-4, rtol=1e-3)
