"""Tests of the hybrid against its equations written transition by transition."""

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import ACTIONS, close, normals, quiet

from dynamics import State


@pytest.fixture
def soft_agent():
    agent = quiet('--use_sac', '--critic_rate', '0', '--temperature_rate', '0', '--clip', '0',
                  method='cvrl')
    soft = agent.learners['soft']
    for number, critic in enumerate(soft.slow_critics.network.pair):
        helpers.shake(critic, 0.1, seed=50 * number)
    soft.log_temperature.assign(-1.0)
    agent.random = agent.judging = helpers.constant_noise()
    return agent


def plain_critic(critics, features, action):
    inputs = np.concatenate([features, action], -1)
    return np.stack([helpers.perceptron(critic, inputs)[..., 0] for critic in critics.pair])


def posterior(agent, features):
    """Latents whose features are these."""
    stochastic, deterministic = tf.split(features, [agent.config.stoch, agent.config.deter], -1)
    return State(stochastic, stochastic, stochastic, deterministic)


def test_target_is_reward_and_discounted_smaller_value_and_entropy(soft_agent):
    soft, features = soft_agent.learners['soft'], normals(2, 5, soft_agent.world.width)
    reward, discount = normals(2, 5, seed=1), np.float32(normals(2, 5, seed=2) > 0)
    noise = normals(2, 5, ACTIONS, seed=3)
    policy = soft_agent.behaviour.policy
    with tf.GradientTape() as tape:
        found = soft.target(*map(tf.constant, (features, reward, discount, noise)))
    action, logs = policy(tf.constant(features)).sample_and_log(tf.constant(noise))
    both = plain_critic(soft.slow_critics.network, features, action)
    assert np.ptp(np.argmin(both, 0)) == 1
    close(found, reward + 0.99 * discount * (both.min(0) - np.exp(-1) * logs))
    weights = [*soft_agent.behaviour.actor.trainable_variables,
               *soft.slow_critics.network.trainable_variables]
    assert tape.gradient(found, weights) == [None] * len(weights)


def test_soft_losses_are_over_transitions_along_time(soft_agent):
    soft, batch = soft_agent.learners['soft'], helpers.sequences(3, 5)
    features = normals(3, 5, soft_agent.world.width)
    policy = soft_agent.behaviour.policy
    critic_loss = actor_loss = entropy = 0
    for b in range(3):
        for t in range(4):
            action, logs = policy(tf.constant(features[b, t + 1])).sample_and_log(
                tf.fill([ACTIONS], 0.5))
            after = plain_critic(soft.slow_critics.network, features[b, t + 1], action).min()
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
            critic(tf.concat([before, action], -1))[..., 0] for critic in soft.critics.pair)))
    gradients = tape.gradient(loss, soft_agent.behaviour.actor.trainable_variables)
    metrics = soft.learn(
        posterior(soft_agent, given), helpers.tensors(batch), soft_agent.random)
    close(metrics['critic_loss'], critic_loss)
    close(metrics['soft_actor_loss'], actor_loss)
    close(metrics['soft_entropy'], entropy)
    for first, gradient in zip(
            soft_agent.optimisers['soft_actor'].first, gradients, strict=True):
        close(10 * first, gradient, 1e-3)


def test_soft_step_changes_critics_actor_and_temperature_and_targets_follow_by_0_005():
    agent = quiet('--use_sac', method='cvrl')
    soft = agent.learners['soft']
    for number, critic in enumerate(soft.slow_critics.network.pair):
        helpers.shake(critic, 0.1, seed=50 * number)
    parts = {
        'critics': soft.critics.trainable_variables,
        'actor': agent.behaviour.actor.trainable_variables,
        'temperature': [soft.log_temperature], 'world': agent.world.trainable_variables,
        'value': agent.behaviour.value_head.trainable_variables,
        'targets': soft.slow_critics.network.trainable_variables}
    before = {name: helpers.values(variables) for name, variables in parts.items()}
    features = tf.constant(normals(3, 5, agent.world.width))
    soft.learn(posterior(agent, features), helpers.tensors(helpers.sequences(3, 5)), agent.random)
    for name, variables in parts.items():
        same = helpers.unchanged(before[name], variables)
        assert same == [name in ('world', 'value')] * len(variables), name
    assert len(parts['targets']) == len(parts['critics']) == 16
    for old, new, critic in zip(before['targets'], parts['targets'], parts['critics']):
        close(new - old, 0.005 * (critic - old), 1e-3)


def test_target_critics_begin_as_the_critics():
    agent = helpers.build('cvrl', '--use_sac')
    soft = agent.learners['soft']
    inputs = tf.constant(normals(4, agent.world.width)), tf.constant(normals(4, ACTIONS, seed=1))
    one, other = soft.critics(*inputs), soft.slow_critics(*inputs)
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
    soft = agent.learners['soft']
    metrics = soft.learn(
        posterior(agent, tf.constant(normals(3, 5, agent.world.width))),
        helpers.tensors(helpers.sequences(3, 5)), agent.random)
    assert (float(metrics['soft_entropy']) < -ACTIONS) == rises
    step = float(soft.log_temperature)
    assert np.sign(step) == (1 if rises else -1)
    np.testing.assert_allclose(abs(step), 3e-4, rtol=1e-3)
