"""Tests of latent dynamics, the loss of the world model and behaviour, against plain numpy and
against the same sums written entry by entry."""

import dataclasses
import types

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import ACTIONS, METHODS, close, normals, plain_model_loss, stepped

import models
from actions import Continuous
from dynamics import State
from precision import Precision

FLOAT32 = Precision('float32')


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


def test_the_recurrence_over_observations_is_in_float32_whatever_the_rest_is(monkeypatch):
    agent = helpers.build('dreamer', '--precision', 'bfloat16')
    read = helpers.spy(monkeypatch, agent.world.dynamics, 'read')
    state = agent.initial(2)
    action = state.pop('action')
    noise = tf.zeros([2, agent.config.stoch])
    agent.world.observe(State(**state), action, helpers.tensors(helpers.observations(2)), noise)
    agent.world.loss(helpers.tensors(helpers.sequences(2, 3)), tf.zeros([2, 3, noise.shape[-1]]))
    assert [given for given, _ in read][:2] == [(tf.float32,)] * 2


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


@pytest.mark.parametrize('looping', [True, False])
def test_imagination_steps_the_prior_and_begins_after_the_first_action(looping, shaken, eager):
    world = shaken.world
    start, _ = world.dynamics.filter(*(
        tf.constant(normals(4, 1, width, seed=width)) for width in (
            world.representation.width, ACTIONS, world.dynamics.stoch)))
    start = start.map(lambda part: part[:, 0])
    noise = tf.constant(normals(5, 4, world.dynamics.stoch))
    actions = tf.constant(normals(5, 4, ACTIONS, seed=1))
    seen = []

    def choose(state, action, number):
        seen.append(state.features())
        return action, tf.fill([4], number)

    numbers = tf.range(5.0)
    features, said = world.imagine(start, choose, [actions, numbers], noise, looping)
    state, dynamics = start, world.dynamics.read()
    assert features.shape == (5, 4, world.width)
    np.testing.assert_array_equal(said, np.repeat(np.arange(5)[:, None], 4, 1))
    for index in range(5):
        close(seen[index], state.features())
        state = dynamics.prior(dynamics.transition(state, actions[index]), noise[index])
        close(features[index], state.features(), 2e-6)


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


def test_entropies_are_those_of_the_posterior_and_of_the_prior_each_under_its_name(shaken):
    world = shaken.world
    batch = helpers.tensors(helpers.sequences())
    noise = tf.constant(normals(4, 8, world.dynamics.stoch))
    joint = world.representation.embed(batch)['joint']
    states = stepped(world.dynamics, joint, batch['action'], noise)
    _, metrics, _ = world.loss(batch, noise)
    wanted = [np.mean(np.sum(0.5 * np.log(
        2 * np.pi * np.e * np.float64(state.deviation) ** 2), -1)) for state in states]
    assert abs(wanted[0] - wanted[1]) > 0.01
    for name, entropy in zip(('posterior_entropy', 'prior_entropy'), wanted):
        close(metrics[name], entropy, 1e-4)


def test_below_the_free_nats_the_prior_learns_nothing():
    world = helpers.build('cvrl', '--free_nats', '100').world
    batch = helpers.tensors(helpers.sequences())
    with tf.GradientTape() as tape:
        loss, metrics, _ = world.loss(batch, tf.constant(normals(4, 8, world.dynamics.stoch)))
    assert metrics['prior_learns'] == 0
    for gradient in tape.gradient(loss, [*world.dynamics.prior_output.trainable_variables]):
        assert gradient is None or not np.any(gradient)


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
    behaviour = models.ActorCritic(helpers.settings('mummi'), 3, Continuous(ACTIONS, 0.3), FLOAT32)
    behaviour.value_head = behaviour.bootstrap_head = lambda features: features[..., 2:]
    world = types.SimpleNamespace(reward=lambda f: f[..., 0], discount=lambda f: f[..., 1])
    features = normals(5, 3, 3)
    features[..., 1] = np.random.default_rng(0).uniform(0.2, 1, (5, 3))
    inputs = tf.constant(features)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        losses = behaviour.losses(world, inputs, tf.zeros([5, 3]))[:2]
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


# --- Remedies ----------------------------------------------------------------------------


@pytest.mark.parametrize('method', ['mummi', 'cvrl', 'dreamer'])
def test_reward_weight_multiplies_the_loss_of_the_reward_alone(method):
    batch = helpers.tensors(helpers.sequences())
    found = {}
    for weight in 1, 10:
        world = helpers.build(method, '--reward_weight', str(weight)).world
        found[weight] = world.loss(batch, tf.zeros([4, 8, world.config.stoch]))[1]
    helpers.close(found[1]['reward_loss'], found[10]['reward_loss'])
    helpers.close(
        found[10]['model_loss'] - found[1]['model_loss'], 9 * found[1]['reward_loss'], 1e-4)


def test_balanced_divergence_moves_the_prior_at_any_size_and_the_posterior_above_the_free_nats():
    for free_nats, holds in ('100000', False), ('0.01', True):
        world = helpers.build(
            'mummi', '--kl_balance', '0.8', '--free_nats', free_nats).world
        parts = [State(*(tf.Variable(normals(4, 8, 8, seed=seed + 9 * part) ** 2 + 0.1)
                                for seed in range(4))) for part in range(2)]
        posterior, prior = parts
        with tf.GradientTape(persistent=True) as tape:
            plain = tf.reduce_mean(tf.reduce_sum(
                tf.math.log(prior.deviation / posterior.deviation)
                + (posterior.deviation ** 2 + (posterior.mean - prior.mean) ** 2)
                / (2 * prior.deviation ** 2) - 0.5, -1))
            divergence, pull, learns = world.divergence(posterior, prior)
        close(divergence, plain)
        close(pull, 0.8 * plain + 0.2 * (plain if holds else 100000))
        assert learns == 1
        for part, share in (prior, 0.8), (posterior, 0.2 if holds else None):
            for variable in part.mean, part.deviation:
                found = tape.gradient(pull, variable)
                if share is None:
                    assert not np.any(found)
                else:
                    close(found, share * tape.gradient(plain, variable), 1e-4)


def test_entropy_raises_the_actors_objective_by_its_weight():
    features, losses = tf.constant(normals(5, 3, 12)), []
    entropy = tf.constant(normals(5, 3, seed=1))
    world = types.SimpleNamespace(
        reward=lambda f: f[..., 0], discount=lambda f: tf.fill(f.shape[:-1], 0.9))
    for bonus in '0', '0.25':
        behaviour = helpers.build('mummi', '--entropy_bonus', bonus).behaviour
        behaviour.bootstrap_head = behaviour.value_head = lambda f: f[..., 2:3]
        losses.append(behaviour.losses(world, features, entropy)[:2])
    # Of the first four actions, each as likely to be taken as the state that it leads to.
    weights = 0.9 ** np.arange(4)[:, None]
    close(losses[1][0] - losses[0][0], -0.25 * np.mean(weights * entropy[:-1]))
    close(losses[1][1], losses[0][1])


@pytest.mark.parametrize('method', METHODS)
def test_a_withheld_sensor_reaches_the_dynamics_as_missing_and_the_loss_as_present(method):
    world = helpers.build(method).world
    helpers.shake(world)
    arrays = helpers.sequences(3, 4, missing=False)
    dropped = {key: value.copy() for key, value in arrays.items()}
    dropped['image'][1:], dropped['image_flag'][1:] = 0, 0
    hidden = {'image': tf.constant([False, True, True])[:, None, None]}
    embed = world.representation.embed
    whole, gone = embed(helpers.tensors(arrays)), embed(helpers.tensors(dropped))
    found = embed(helpers.tensors(arrays), hidden)
    close(found['joint'], gone['joint'])
    assert not np.allclose(found['joint'][1:], whole['joint'][1:])
    # A sequence from which nothing is withheld trains the encoder as ever.
    weights = world.representation.encoders['image'].trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        sums = [tf.reduce_sum(tf.cast(embed(helpers.tensors(arrays), what)['joint'][0], tf.float32))
                for what in ({}, hidden)]
    for one, other in zip(*(tape.gradient(x, weights) for x in sums), strict=True):
        assert np.abs(one).max() > 0
        close(one, other, 1e-4)
    noise = tf.constant(normals(3, 4, world.dynamics.stoch))
    _, metrics, posterior = world.loss(helpers.tensors(arrays), noise, hidden)
    wanted = world.dynamics.filter(
        gone['joint'], tf.constant(arrays['action']), noise)[0]
    close(posterior.mean, wanted.mean)
    terms = world.representation.loss(wanted.features(), whole, helpers.tensors(arrays))
    assert terms
    for name, term in terms.items():
        close(metrics[name], np.mean(term))
