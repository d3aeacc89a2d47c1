"""Tests of the three representations: bounds, fusion, reconstruction, sizes, and learning."""

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import METHODS, SHAPES, close, normals

import commandline
import networks
from actions import Continuous
from agent import Agent
from config import flag


@pytest.fixture(scope='module', params=['float32', 'bfloat16'])
def mummi(request):
    """MuMMI's representation with all weights shaken, that no test changes."""
    return representation('mummi', '--precision', request.param)


def representation(method, *words):
    agent = helpers.build(method, *words)
    helpers.shake(agent, 0.03)
    return agent.world.representation


def log_mean_free_softmax(scores):
    """score_i0 - logsumexp_j score_ij for one row whose own score is the first, in float64."""
    scores = np.asarray(scores, np.float64)
    return scores[0] - scores.max() - np.log(np.sum(np.exp(scores - scores.max())))


# --- MuMMI -------------------------------------------------------------------------------


def plain_bound(code, mean, flags, kind):
    """f_i ( log F_ii - logsumexp_{j: f_j = 1} log F_ij ) by loops over all steps."""
    width = code.shape[-1]
    codes, means, here = code.reshape(-1, width), mean.reshape(-1, width), flags.reshape(-1)

    def ratio(i, j):
        one, other = codes[i].astype(np.float64), means[j].astype(np.float64)
        return one @ other if kind == 'bilinear' else -np.sum((one - other) ** 2)

    result = np.zeros(len(codes))
    for i in range(len(codes)):
        if here[i]:
            others = [j for j in range(len(codes)) if here[j] and j != i]
            result[i] = log_mean_free_softmax([ratio(i, i)] + [ratio(i, j) for j in others])
    return result.reshape(flags.shape)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('kind', ['mse', 'bilinear'])
def test_bound_is_its_double_loop_over_the_steps_where_the_sensor_is_present(kind, precision):
    method = representation('mummi', '--density_ratio', kind, '--precision', precision)
    code, mean = 0.3 * normals(3, 5, 16), 0.3 * normals(3, 5, 16, seed=1)
    flags = np.float32(normals(3, 5, seed=2) > -0.3)
    assert 5 < flags.sum() < 14
    found = method.bound(*map(tf.constant, (code, mean, flags)))
    assert found.dtype == tf.float32
    close(found, plain_bound(code, mean, flags, kind), 1e-5)
    assert not np.any(found.numpy()[flags == 0])


@pytest.mark.parametrize('kind', ['mse', 'bilinear'])
def test_missing_steps_are_nobodys_negatives_and_get_no_gradient(kind):
    method = representation('mummi', '--density_ratio', kind)
    code, mean = normals(2, 4, 16), normals(2, 4, 16, seed=1)
    flags = np.ones((2, 4), np.float32)
    flags[0, 1] = flags[1, 3] = 0
    bounds = []
    for content in 0, 100:
        code[flags == 0], mean[flags == 0] = -content, content
        inputs = [tf.constant(code), tf.constant(mean)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            bounds.append(method.bound(*inputs, tf.constant(flags)))
        for gradient in tape.gradient(bounds[-1], inputs):
            assert not np.any(gradient.numpy()[flags == 0])
            assert np.all(np.any(gradient.numpy()[flags == 1], -1))
    np.testing.assert_array_equal(*bounds)


@pytest.mark.parametrize('kind', ['mse', 'bilinear'])
@pytest.mark.parametrize('wrap', [lambda function: function, tf.function])
def test_bound_of_a_sensor_that_is_never_present_is_zero_with_zero_gradient(kind, wrap):
    method = representation('mummi', '--density_ratio', kind)

    @wrap
    def run(code, mean, flags):
        with tf.GradientTape() as tape:
            tape.watch([code, mean])
            bound = method.bound(code, mean, flags)
            loss = tf.reduce_mean(bound)
        return bound, tape.gradient(loss, [code, mean], unconnected_gradients='zero')

    bound, gradients = run(
        tf.constant(normals(2, 3, 16)), tf.constant(normals(2, 3, 16, seed=1)), tf.zeros([2, 3]))
    np.testing.assert_array_equal(bound, np.zeros([2, 3]))
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros([2, 3, 16]))


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
def test_bound_of_1024_values_far_apart_is_finite_and_right(precision):
    """Squared distances near 1e7, where half precision ends at 65504."""
    method = representation('mummi', '--precision', precision)
    code, mean = 100 * normals(2, 4, 1024), 100 * normals(2, 4, 1024, seed=1)
    inputs = [tf.constant(code), tf.constant(mean)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        found = method.bound(*inputs, tf.ones([2, 4]))
    wanted = plain_bound(code, mean, np.ones((2, 4)), 'mse')
    assert np.abs(wanted).max() > 65504
    close(found, wanted, 1e-4)
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(found, inputs))


def plain_experts(method, observation):
    """sensor -> (mean, deviation) as float64 arrays."""
    result = {}
    for sensor, encoder in method.encoders.items():
        embedding = encoder(tf.constant(observation[sensor])).numpy()
        raw = helpers.perceptron(method.experts[sensor], embedding, helpers.relu)
        mean, deviation = np.split(raw, 2, -1)
        result[sensor] = mean, helpers.softplus(deviation) + 0.1
    return result


def test_fusion_is_the_mean_of_the_experts_weighted_by_presence_over_deviation():
    method = representation('mummi')
    observation = helpers.observations(5, 6)
    experts = plain_experts(method, observation)
    embeddings = method.embed(helpers.tensors(observation))
    assert list(method.experts) == list(SHAPES)
    for sensor, (mean, _) in experts.items():
        close(embeddings['means'][sensor], mean)
    wanted = np.zeros((5, 6, method.width))
    for b in range(5):
        for t in range(6):
            for value in range(method.width):
                top = bottom = 0
                for sensor, (mean, deviation) in experts.items():
                    weight = observation[flag(sensor)][b, t, 0] / deviation[b, t, value]
                    top += weight * mean[b, t, value]
                    bottom += weight
                wanted[b, t, value] = top / (bottom + 0.01)
    close(embeddings['joint'], wanted)
    counts = sum(observation[flag(sensor)] for sensor in SHAPES)
    assert len(set(counts.ravel())) == 4


def test_fused_code_is_zero_where_every_sensor_is_missing(mummi):
    observation = helpers.observations(3, 4)
    for sensor in SHAPES:
        observation[flag(sensor)][1, 2] = 0
        observation[flag(sensor)][1, 1] = 1
    joint = mummi.embed(helpers.tensors(observation))['joint'].numpy()
    assert joint.dtype == np.float32
    assert not np.any(joint[1, 2])
    assert np.all(np.any(joint[1, 1]))


def test_content_of_a_dropped_sensor_changes_no_embedding_loss_or_gradient():
    agent = helpers.build('mummi', '--free_nats', '0')
    helpers.shake(agent, 0.03)
    batch = helpers.sequences()
    garbage = {key: value.copy() for key, value in batch.items()}
    random = np.random.default_rng(9)
    for sensor in SHAPES:
        gone = batch[flag(sensor)][..., 0] == 0
        assert gone.any() and not np.any(batch[sensor][gone])
        garbage[sensor][gone] = random.uniform(0, 255, garbage[sensor][gone].shape)
    noise = tf.constant(normals(4, 8, agent.config.stoch))
    results = []
    for arrays in batch, garbage:
        with tf.GradientTape() as tape:
            loss, metrics, posterior = agent.world.loss(helpers.tensors(arrays), noise)
        joint = agent.world.representation.embed(helpers.tensors(arrays))['joint']
        results.append([
            joint, loss, *posterior, *metrics.values(),
            *tape.gradient(loss, agent.world.trainable_variables)])
    for one, other in zip(*results, strict=True):
        close(one, other, 1e-6)


@pytest.mark.parametrize('kind', ['mse', 'bilinear'])
def test_mummis_loss_is_the_weighted_bound_of_the_transformed_features(kind):
    method = representation('mummi', '--density_ratio', kind)
    observation = helpers.observations(3, 4)
    features = normals(3, 4, 40)
    losses = method.loss(
        tf.constant(features), method.embed(helpers.tensors(observation)),
        helpers.tensors(observation))
    code = helpers.relu(helpers.dense(method.transform, features))
    experts = plain_experts(method, observation)
    assert set(losses) == {'image_loss', 'depth_loss', 'touch_loss'}
    for sensor, weight in ('image', 1), ('depth', 1), ('touch', 0.001):
        bound = plain_bound(code, experts[sensor][0], observation[flag(sensor)][..., 0], kind)
        assert np.abs(bound).max() > 0.1
        close(losses[f'{sensor}_loss'], -weight * bound, 1e-4)


def test_trust_is_the_share_of_each_sensors_weight_in_the_fusion(mummi):
    observation = helpers.observations(3, 4, missing=False)
    observation['depth_flag'][:] = 0
    embeddings = mummi.embed(helpers.tensors(observation))
    trust = mummi.trust(embeddings)
    assert not np.any(trust['depth'])
    total = sum(weight.numpy() for weight in embeddings['weights'].values()) + 0.01
    for sensor in 'image', 'touch':
        share = np.mean(embeddings['weights'][sensor] / total, -1)
        assert 0.2 < share.min()
        close(trust[sensor], share)
    metrics = mummi.metrics(
        tf.constant(normals(3, 4, 40)), embeddings, helpers.tensors(observation))
    close(metrics['weight_image'], np.mean(trust['image']))


@pytest.mark.parametrize('words, weight, floor', [
    (('--fusion', 'precision'), lambda deviation: deviation ** -2, 0.01),
    (('--fusion', 'precision', '--prior_expert'), lambda deviation: deviation ** -2, 1),
    (('--prior_expert',), lambda deviation: 1 / deviation, 1)])
def test_experts_may_be_a_product_and_have_a_prior_among_them(words, weight, floor):
    """By precision and with the prior, of each value: the mean of the product of the present
    experts' normals with a standard one."""
    method = representation('mummi', *words)
    observation = helpers.observations(3, 4)
    top, bottom = 0, floor
    for sensor, (mean, deviation) in plain_experts(method, observation).items():
        share = observation[flag(sensor)] * weight(deviation)
        top, bottom = top + share * mean, bottom + share
    embeddings = method.embed(helpers.tensors(observation))
    close(embeddings['joint'], top / bottom)
    # What the prior has is nobody's.
    trust = sum(np.asarray(share) for share in method.trust(embeddings).values())
    close(trust, np.mean((bottom - floor) / bottom, -1))


def test_each_sensor_is_learned_by_the_loss_and_the_weight_that_are_given_it():
    method = representation(
        'mummi', '--sensor_loss', 'depth=reconstruct', '--bound_weight', 'touch=0.1')
    observation = helpers.observations(3, 4)
    tensors, features = helpers.tensors(observation), tf.constant(normals(3, 4, 40))
    embeddings = method.embed(tensors)
    losses = method.loss(features, embeddings, tensors)
    code = helpers.relu(helpers.dense(method.transform, features))
    for sensor, weight in ('image', 1), ('touch', 0.1):
        close(losses[f'{sensor}_loss'], -weight * plain_bound(
            code, embeddings['means'][sensor].numpy(), observation[flag(sensor)][..., 0], 'mse'),
            1e-4)
    prediction = method.reconstruct(features)
    assert list(prediction) == ['depth']
    wanted = -observation['depth_flag'][..., 0] * np.sum(helpers.log_normal(
        observation['depth'] / 200 - 0.5, prediction['depth'].numpy()), (2, 3, 4))
    close(losses['depth_loss'], wanted)
    metrics = method.metrics(features, embeddings, tensors)
    assert {'agree_image', 'agree_touch', 'find_image_depth'} <= set(metrics)
    assert 'agree_depth' not in metrics


@pytest.mark.parametrize('length', [20, 30])
def test_agreement_is_measured_over_the_whole_batch_evenly(length):
    """In three quarters of the batch the sensors agree; in the last quarter they do not."""
    method = representation('mummi')
    leading = 20, length
    features = normals(*leading, 40)
    code = method.transform(tf.constant(features)).numpy()
    strange = 50 * normals(*leading, method.width, seed=1)
    means = {
        'image': code, 'touch': code,
        'depth': np.where(np.arange(20)[:, None, None] < 15, code, strange)}
    embeddings = {
        'means': {s: tf.constant(x) for s, x in means.items()},
        'weights': {s: tf.ones(leading + (method.width,)) for s in means}}
    metrics = method.metrics(
        tf.constant(features), embeddings,
        helpers.tensors(helpers.observations(*leading, missing=False)))
    assert float(metrics['agree_image']) == 0
    # Own distances are large in the last quarter alone. A row's partner is half of the batch
    # away, so the foreign distances are large where the partner is in that quarter: as often.
    close(metrics['agree_depth'], 1, 0.1)
    assert metrics['find_image_touch'] == 1
    assert abs(metrics['find_image_depth'] - 0.75) < 0.02


@pytest.mark.parametrize('wrap', [lambda function: function, tf.function(jit_compile=True)])
def test_entries_are_counted_through_the_whole_batch_whatever_their_type(wrap):
    arrays = helpers.observations(3, 5)
    arrays['bytes'] = np.arange(45, dtype=np.uint8).reshape(3, 5, 3)  # no whole words
    rows = np.array([14, 0, 7, 7], np.int32)
    for array in arrays.values():
        found = wrap(networks.entries)(tf.constant(array), tf.constant(rows))
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array.reshape(15, *array.shape[2:])[rows])


# --- CVRL --------------------------------------------------------------------------------


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('size', [0.5, 400.0])
def test_cvrls_loss_is_the_double_loop_in_float32(precision, size, monkeypatch):
    """On stub codes, so that only their ELU, the scores and the bound are computed; the larger
    ones have products near 1e6, which half precision does not hold."""
    method = representation('cvrl', '--precision', precision)
    state, other = size * normals(3, 5, 32), size * normals(3, 5, 32, seed=1)
    monkeypatch.setattr(method, 'state_code', lambda _: tf.constant(state))
    monkeypatch.setattr(method, 'observation_code', lambda _: tf.constant(other))
    found = method.loss(tf.zeros([3, 5, 40]), {'whole': tf.zeros([3, 5, 7])}, {})
    u, v = (helpers.elu(x.reshape(15, 32).astype(np.float64)) for x in (state, other))
    wanted = [-log_mean_free_softmax(
        [u[i] @ v[i]] + [u[i] @ v[j] for j in range(15) if j != i]) for i in range(15)]
    assert list(found) == ['contrast_loss']
    assert found['contrast_loss'].dtype == tf.float32
    close(found['contrast_loss'], np.reshape(wanted, (3, 5)))


def test_cvrls_codes_are_two_layers_with_elu_each_on_features_and_on_all_sensors_side_by_side():
    method = representation('cvrl')
    helpers.shake(method, 0.2)  # codes whose last layer has clear negative values
    observation = helpers.observations(3, 4)
    tensors = helpers.tensors(observation)
    features = normals(3, 4, 40)
    embeddings = method.embed(tensors)
    joint = np.concatenate([method.encoders[s](tensors[s]) for s in SHAPES], -1)
    close(embeddings['joint'], joint)
    assert joint.shape == (3, 4, method.width)

    def code(module, x):
        assert len(module.hidden) == 1
        linear = helpers.dense(module.output, helpers.elu(helpers.dense(module.hidden[0], x)))
        assert linear.min() < -1 and linear.max() > 1
        return helpers.elu(linear).reshape(12, -1).astype(np.float64)

    u, v = code(method.state_code, features), code(method.observation_code, joint)
    wanted = np.zeros(12)
    for i in range(12):
        scores = [sum(u[i, k] * v[j, k] for k in range(u.shape[1])) for j in range(12)]
        wanted[i] = np.logaddexp.reduce(scores) - scores[i]
    assert wanted.max() > 1
    close(method.loss(tf.constant(features), embeddings, tensors)['contrast_loss'],
          wanted.reshape(3, 4), 1e-4)
    find = np.mean(np.argmax(u @ v.T, 1) == np.arange(12))
    close(method.metrics(tf.constant(features), embeddings, tensors)['find_latent_observation'],
          find)


def test_cvrls_contrast_has_the_gradient_of_its_double_loop_on_both_sides():
    method = representation('cvrl')
    helpers.shake(method, 0.2)
    inputs = [tf.constant(normals(2, 3, width, seed=width)) for width in (40, method.width)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        features, joint = inputs
        found = tf.reduce_sum(method.loss(features, {'whole': joint}, {})['contrast_loss'])
        u, v = (tf.reshape(tf.nn.elu(code), [6, -1]) for code in (
            method.state_code(features), method.observation_code(joint)))
        plain = 0.0
        for i in range(6):
            scores = tf.stack([tf.reduce_sum(u[i] * v[j]) for j in range(6)])
            plain += tf.reduce_logsumexp(scores) - scores[i]
    close(found, plain, 1e-4)
    for one, other in zip(*(tape.gradient(x, inputs) for x in (found, plain)), strict=True):
        assert np.abs(other).max() > 0.01
        close(one, other, 1e-4)


# --- Dreamer -----------------------------------------------------------------------------


def test_dreamers_loss_is_the_log_density_of_the_present_sensors():
    method = representation('dreamer')
    observation = helpers.observations(3, 4)
    features = normals(3, 4, 40)
    losses = method.loss(
        tf.constant(features), method.embed(helpers.tensors(observation)),
        helpers.tensors(observation))
    predictions = method.reconstruct(tf.constant(features))
    assert set(losses) == {'image_loss', 'depth_loss', 'touch_loss'}
    scaled = {
        'image': observation['image'] / 255 - 0.5, 'depth': observation['depth'] / 200 - 0.5,
        'touch': observation['touch'] / 200}
    for sensor, target in scaled.items():
        assert predictions[sensor].shape == (3, 4, *SHAPES[sensor])
        wanted = np.zeros((3, 4))
        for b in range(3):
            for t in range(4):
                if observation[flag(sensor)][b, t, 0]:
                    wanted[b, t] = -np.sum(helpers.log_normal(
                        target[b, t], predictions[sensor][b, t].numpy()))
        assert 0 < np.sum(wanted == 0) < 12
        close(losses[f'{sensor}_loss'], wanted)


@pytest.mark.parametrize('precision', ['bfloat16', 'float16'])
def test_reconstruction_is_summed_in_float32(precision):
    """12288 values of at least 0.9 each: float16 would lose their sum's digits."""
    method = representation('dreamer', '--precision', precision)
    observation = helpers.observations(2, 3, missing=False)
    features = tf.constant(normals(2, 3, 40))
    losses = method.loss(features, {}, helpers.tensors(observation))
    prediction = method.reconstruct(features)['image']
    assert prediction.dtype == losses['image_loss'].dtype == tf.float32
    close(losses['image_loss'], -np.sum(helpers.log_normal(
        observation['image'] / 255 - 0.5, prediction.numpy().astype(np.float64)), (2, 3, 4)))


def test_dreamers_embedding_is_all_sensors_side_by_side():
    method = representation('dreamer')
    tensors = helpers.tensors(helpers.observations(2, 3))
    close(method.embed(tensors)['joint'], np.concatenate(
        [method.encoders[s](tensors[s]) for s in SHAPES], -1))


@pytest.mark.parametrize('method', METHODS)
def test_pictures_that_are_missing_are_neither_encoded_nor_reconstructed(method, monkeypatch):
    agent = helpers.build(method)
    batch = helpers.sequences()
    for sensor in 'image', 'depth':
        batch[flag(sensor)][:, :2], batch[flag(sensor)][:, 2:] = 1, 0
        batch[sensor][:, 2:] = 0
    spies = [helpers.spy(monkeypatch, part, '__call__') for part in (
        networks.PictureEncoder, networks.PictureDecoder)]
    agent.world.loss(helpers.tensors(batch), tf.zeros([4, 8, agent.config.stoch]))
    encoded, decoded = (
        [np.prod(call[0][1].shape[:-axes]) for call in calls] for calls, axes in zip(spies, (3, 1)))
    assert encoded == [10, 10]  # of 32: the 8 that are there, one that is not, and one beside
    assert decoded == [10, 10] * (method == 'dreamer')


def test_only_dreamer_has_decoders_in_its_world_and_no_others_beside_it():
    for method in METHODS:
        agent = helpers.build(method)
        predictions = agent.painter.reconstruct(tf.zeros([2, agent.world.width]))
        assert {s: tuple(p.shape[1:]) for s, p in predictions.items()} == SHAPES
        assert ('pictures' in agent.learners) == (method != 'dreamer')
        own = agent.world.representation.reconstruct(tf.zeros([2, agent.world.width]))
        assert bool(own) == (method == 'dreamer')


# --- Ablations -----------------------------------------------------------------------------

RIVAL = ('--fusion', 'precision', '--prior_expert', '--sensor_loss', 'reconstruct')
ABLATIONS = {
    # what is trained beside dynamics and encoders, the losses beside the reward's, and whether
    # the pictures are of the method itself
    ('cvrl', ()): ({'state_code', 'observation_code'}, {'contrast_loss'}, False),
    ('cvrl', ('--obs_model', 'generative')): (
        {'decoders'}, {'image_loss', 'depth_loss', 'touch_loss'}, True),
    ('cvrl', ('--reward_only',)): (set(), set(), False),
    ('mummi', ()): ({'experts', 'transform'}, {'image_loss', 'depth_loss', 'touch_loss'}, False),
    ('mummi', ('--sensor_loss', 'touch=reconstruct')): (
        {'experts', 'transform', 'decoders'}, {'image_loss', 'depth_loss', 'touch_loss'}, False),
    ('mummi', RIVAL): (
        {'experts', 'decoders'}, {'image_loss', 'depth_loss', 'touch_loss'}, True)}


@pytest.mark.parametrize('method, words', ABLATIONS)
def test_gradient_of_an_ablation_reaches_what_it_names_and_it_has_nothing_else(
        method, words, eager):
    """That of its representation loss alone, without the reward's and the divergence's."""
    agent = helpers.build(method, *words)
    helpers.shake(agent, 0.03)
    part, (names, losses, paints) = agent.world.representation, ABLATIONS[method, words]
    batch = helpers.tensors(helpers.sequences(missing=False))
    noise = tf.constant(normals(4, 8, agent.config.stoch))
    parts = {name: getattr(part, name) for name in (
        'state_code', 'observation_code', 'decoders', 'experts', 'transform', 'encoders')
        if getattr(part, name, None)}
    assert set(parts) == names | {'encoders'}
    # Nothing of the representation is outside of these.
    owned = {v.ref() for name in parts for v in variables_of(parts[name])}
    assert owned == {v.ref() for v in part.trainable_variables}
    with tf.GradientTape() as tape:
        embeddings = part.embed(batch)
        posterior, _ = agent.world.dynamics.filter(embeddings['joint'], batch['action'], noise)
        found = part.loss(posterior.features(), embeddings, batch)
        total = tf.add_n([tf.reduce_mean(x) for x in found.values()]) if found else None
    assert set(found) == losses
    if found:
        groups = {name: variables_of(value) for name, value in parts.items()}
        slopes = tape.gradient(total, groups)
        for name, gradients in slopes.items():
            assert max(np.abs(g).max() for g in gradients if g is not None) > 1e-7, name
    # The whole update is possible: a variable without a gradient would be an error.
    metrics = agent.train(batch)
    assert losses <= set(metrics) and np.isfinite(list(metrics.values())).all()
    assert ('pictures' in agent.learners) != paints
    assert set(agent.painter.reconstruct(tf.zeros([2, agent.world.width]))) == set(SHAPES)


def variables_of(part):
    """The trainable variables of a module or of a dict of them."""
    modules = part.values() if hasattr(part, 'values') else [part]
    return [v for module in modules for v in module.trainable_variables]


def test_features_of_reward_only_are_shaped_by_the_reward_alone(eager):
    """With the divergence free, no gradient is left where the reward head is silent."""
    agent = helpers.build('cvrl', '--reward_only', '--free_nats', '1000')
    batch = helpers.tensors(helpers.sequences())
    noise = tf.constant(normals(4, 8, agent.config.stoch))

    def largest():
        with tf.GradientTape() as tape:
            loss, _, _ = agent.world.loss(batch, noise)
        encoders = variables_of(agent.world.representation.encoders)
        return max(np.abs(g).max() for g in tape.gradient(loss, encoders))
    assert largest() > 1e-6
    output = agent.world.reward_head.output
    output.kernel.assign(tf.zeros_like(output.kernel))
    assert largest() == 0


# --- Sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize('method, count', [
    ('mummi', 12_038_833), ('cvrl', 4_161_289), ('dreamer', 10_395_287)])
def test_published_sizes_and_rates(method, count):
    """Walker: two touch values, six actions; of Dreamer's image, three channels are decoded."""
    settings = commandline.parse(METHODS[method][1], ['--logdir', 'unused', '--no-natural'])
    agent = Agent(settings, METHODS[method][0], SHAPES, Continuous(6, 0.3))
    parts = agent.parts()
    assert parts['world model'] == count
    assert parts['actor'] == 578_412
    assert parts['value'] == 413_601
    assert {name: (agent.optimisers[name].rate, agent.optimisers[name].clip) for name in (
        'model', 'actor', 'value')} == {
            'model': (6e-4, 30), 'actor': (8e-5, 30), 'value': (8e-5, 30)}
    assert agent.world.representation.width == {
        'mummi': 1024, 'cvrl': 3072, 'dreamer': 3072}[method]
    assert (settings.horizon, settings.discount, settings.disclam, settings.free_nats) == (
        15, 0.99, 0.95, 3)


# --- Learning ----------------------------------------------------------------------------


# With an inner product, the larger rate may leave two steps whose rectified codes are all 0.
# Dreamer's reward is still falling after 300 updates, and rounding decides how far it is.
@pytest.mark.parametrize('method, words, updates', [
    ('mummi', (), 300), ('mummi', ('--density_ratio', 'bilinear', '--model_rate', '0.001'), 300),
    ('cvrl', (), 300), ('dreamer', (), 600)])
def test_one_batch_is_learned_to_the_floor_of_its_loss(method, words, updates):
    agent = helpers.build(method, '--model_rate', '0.003', '--free_nats', '30', *words)
    arrays = helpers.sequences(2, 4, missing=False)
    # Eight pictures, each of its own shade.
    shades = np.linspace(0, 1, 8).reshape(2, 4, 1, 1, 1)
    arrays['image'][:] = (255 * shades).astype(np.uint8)
    arrays['depth'][:] = 20 + 100 * shades
    batch = helpers.tensors(arrays)

    @tf.function(autograph=False)
    def update():
        return agent.world_learner.learn(batch, agent.random)[1]

    history = [{key: float(value) for key, value in update().items()} for _ in range(updates)]
    last = {key: np.median([row[key] for row in history[-30:]]) for key in history[0]}
    # Normal densities of deviation 1 leave log(2 pi) / 2 for each value: of the reward one, of
    # Dreamer's sensors as many as they have. The bounds leave nothing.
    half = 0.5 * np.log(2 * np.pi)
    floor = half * (1 + (64 * 64 * 4 + 2 if method == 'dreamer' else 0)) + 30
    begin, end = history[0]['model_loss'] - floor, last['model_loss'] - floor
    assert begin > 1
    assert end < 0.06 * begin
    assert last['reward_loss'] - half < 0.1
    for key, value in last.items():
        if method != 'dreamer' and key in ('image_loss', 'depth_loss', 'contrast_loss'):
            assert value < 0.1 < 1 < history[0][key]


def test_agreement_numbers_equal_plain_loops_over_the_flagged_rows():
    random = np.random.default_rng(3)
    left = random.normal(size=(9, 4)).astype(np.float32)
    right = (left + 0.8 * random.normal(size=(9, 4))).astype(np.float32)
    right[[2, 3]] = right[[3, 2]]  # not found by two rows
    right[0], right[1] = left[0] + 0.1, left[0]  # a missing row would be the closest to row 0
    flags = np.array([1, 0, 1, 1, 0, 1, 1, 1, 1], np.float32)
    rows = np.flatnonzero(flags)
    distances = ((left[:, None] - right[None]) ** 2).sum(-1)
    np.testing.assert_allclose(networks.squared_distances(left, right), distances, atol=1e-4)
    found = [rows[distances[i, rows].argmin()] == i for i in rows]
    assert 0 < np.mean(found) < 1
    np.testing.assert_allclose(
        networks.retrieval(tf.constant(distances), tf.constant(flags)), np.mean(found))
    others = np.roll(rows, len(rows) // 2)
    wanted = distances[rows, rows].sum() / distances[rows, others].sum()
    np.testing.assert_allclose(
        networks.relative_distance(left, right, tf.constant(flags)), wanted, rtol=1e-4)
    none = tf.zeros(9)
    assert float(networks.retrieval(tf.constant(distances), none)) == 0
    assert float(networks.relative_distance(left, right, none)) == 0


def flagged(count, **missing):
    """The flags of `count` steps in one sequence, 0 for the steps named of a sensor."""
    flags = {flag(sensor): np.ones((1, count, 1), np.float32) for sensor in SHAPES}
    for sensor, steps in missing.items():
        flags[flag(sensor)][0, steps] = 0
    return helpers.tensors(flags)


def test_agreement_of_a_sensor_is_between_the_code_of_the_latent_and_its_own_expert(monkeypatch):
    """0 where they are the same point, and not 0 for a sensor whose expert says another."""
    method = representation('mummi')
    points = {s: tf.constant(normals(1, 6, 32, seed=i)) for i, s in enumerate(SHAPES)}
    embeddings = {'means': points, 'weights': {s: tf.ones([1, 6, 32]) for s in SHAPES}}
    for sensor in SHAPES:
        monkeypatch.setattr(method, 'transform', lambda features, s=sensor: tf.reshape(
            points[s], [*features.shape[:-1], 32]))
        metrics = method.metrics(tf.zeros([1, 6, 40]), embeddings, flagged(6))
        for other in SHAPES:
            agree = float(metrics[f'agree_{other}'])
            assert (agree < 1e-6) == (other == sensor) and agree < 3


def test_sensors_find_each_other_by_the_closest_of_the_named_other(monkeypatch):
    """On a line: image 0, 10, 20; depth 0, 4, 30; touch 3, 9, 21, the second missing."""
    method = representation('mummi')
    line = {'image': [0, 10, 20], 'depth': [0, 4, 30], 'touch': [3, 9, 21]}
    means = {s: tf.constant(np.float32(x)[None, :, None] * np.eye(1, 32, dtype=np.float32))
             for s, x in line.items()}
    embeddings = {'means': means, 'weights': {s: tf.ones([1, 3, 32]) for s in SHAPES}}
    metrics = method.metrics(tf.zeros([1, 3, 40]), embeddings, flagged(3, touch=[1]))
    found = {key: float(metrics[key]) for key in metrics if key.startswith('find_')}
    assert found == pytest.approx({
        'find_image_depth': 1.0, 'find_depth_image': 2 / 3,  # 4 is nearer to 0 than to 10
        'find_image_touch': 1.0, 'find_touch_image': 1.0,
        # 3 is nearer to 4, at whose step touch is missing.
        'find_depth_touch': 1.0, 'find_touch_depth': 1.0})


def test_cvrl_finds_the_observation_of_the_highest_score(monkeypatch):
    """Three latents and observations on axes; the last latent points to the first observation."""
    method = representation('cvrl')
    eye = np.eye(3, 32, dtype=np.float32)
    states, others = eye[[0, 1, 0]] + 0.5 * eye, 2 * eye
    monkeypatch.setattr(method, 'state_code', lambda _: tf.constant(states[None]))
    monkeypatch.setattr(method, 'observation_code', lambda _: tf.constant(others[None]))
    metrics = method.metrics(tf.zeros([1, 3, 40]), dict.fromkeys(
        ('joint', 'whole'), tf.zeros([1, 3, 7])), flagged(3))
    assert float(metrics['find_latent_observation']) == pytest.approx(2 / 3)
    # By rows, the latents: in columns, each observation is of the highest score to its own.
    assert (states @ others.T).argmax(0).tolist() == [0, 1, 2]


def test_chance_is_the_loss_of_codes_that_tell_nothing_apart(eager):
    agent = helpers.build('mummi')
    method = agent.world.representation
    for part in (*method.experts.values(), method.transform):
        kernel = getattr(part, 'output', part).kernel
        kernel.assign(tf.zeros_like(kernel))
    batch = helpers.tensors(helpers.sequences(4, 8))
    features = tf.constant(normals(4, 8, agent.world.width))
    embeddings = method.embed(batch)
    losses, metrics = (
        part(features, embeddings, batch) for part in (method.loss, method.metrics))
    for sensor in SHAPES:
        close(metrics[f'chance_{sensor}'], np.mean(losses[f'{sensor}_loss']))
        assert metrics[f'chance_{sensor}'] > 0
