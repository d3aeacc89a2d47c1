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
    given, noise = tf.constant(features), tf.fill([3, 4, ACTIONS], 0.5)
    # Before a critic has moved: their optimisers' rate is 0.
    metrics = soft.learn(
        posterior(soft_agent, given), helpers.tensors(batch), soft_agent.random)
    close(metrics['critic_loss'], critic_loss)
    close(soft.actor_loss(given[:, :-1], noise, 1.0), actor_loss)
    close(metrics['soft_entropy'], entropy)


def test_every_transition_is_drawn_by_noise_of_its_own(soft_agent, monkeypatch):
    soft = soft_agent.learners['soft']
    asked = helpers.spy(monkeypatch, soft, 'target')
    policy = helpers.spy(monkeypatch, soft_agent.behaviour, 'policy')
    features = tf.constant(np.repeat(normals(1, 5, soft_agent.world.width), 3, 0))
    soft.learn(posterior(soft_agent, features), helpers.tensors(helpers.sequences(3, 5)),
               helpers.random_noise())
    noise = asked[0][0][3].numpy()
    assert noise.shape == (3, 4, ACTIONS) and len(np.unique(noise)) == noise.size
    assert len(policy) == 2  # of the target, and of the entropy


def test_numbers_of_the_critics_are_over_transitions_alone(soft_agent):
    soft, batch = soft_agent.learners['soft'], helpers.tensors(helpers.sequences(3, 5))
    begins = np.zeros((3, 5), bool)
    begins[0, 2] = begins[2, 4] = True
    batch['is_first'] = tf.constant(begins)
    features = normals(3, 5, soft_agent.world.width)
    metrics = soft.learn(posterior(soft_agent, tf.constant(features)), batch, soft_agent.random)
    values = np.mean(plain_critic(soft.critics, features[:, :-1], batch['action'][:, 1:]), 0)
    _, logs = soft_agent.behaviour.policy(tf.constant(features[:, :-1])).sample_and_log(
        tf.fill([3, 4, ACTIONS], 0.5))
    real = ~begins[:, 1:]
    close(metrics['critic_value'], values[real].mean(), 1e-4)
    close(metrics['soft_entropy'], -logs.numpy()[real].mean(), 1e-4)
    assert abs(values.mean() - values[real].mean()) > 1e-4


def actor_gradient(*words):
    """(the gradient that reaches the actor in an update of CVRL, its metrics)."""
    agent = quiet('--critic_rate', '0', '--temperature_rate', '0', '--model_rate', '0',
                  '--clip', '0', *words, method='cvrl')
    agent.random = helpers.constant_noise()
    metrics = agent.train(helpers.tensors(helpers.sequences(3, 5)))
    assert int(agent.optimisers['actor'].count) == 1
    return [10 * first.numpy() for first in agent.optimisers['actor'].first], metrics


def test_hybrid_is_one_step_down_the_sum_of_both_losses(eager):
    sac = ('--use_sac', '--no-use_dreamer')
    both, metrics = actor_gradient('--use_sac', '--sac_weight', '0.3')
    soft, alone = actor_gradient(*sac)
    weighted, _ = actor_gradient(*sac, '--sac_weight', '0.3')
    # With the weights of the same agent, for which no loss but imagination's is left.
    imagined, _ = actor_gradient('--use_sac', '--sac_weight', '0')
    for one, other, scaled, total in zip(imagined, soft, weighted, both, strict=True):
        assert np.abs(one).max() > 1e-4 < np.abs(other).max()
        close(scaled, 0.3 * other, 1e-4)
        close(total, one + scaled, 1e-4)
    close(metrics['soft_actor_loss'], alone['soft_actor_loss'])
    close(metrics['actor_loss'], alone['actor_loss'])
    close(metrics['actor_gradient'], np.sqrt(sum(np.sum(g ** 2) for g in both)), 1e-4)


def test_gradient_of_the_soft_loss_goes_through_the_action_into_the_actor_alone(soft_agent):
    soft, features = soft_agent.learners['soft'], tf.constant(
        normals(3, 4, soft_agent.world.width))
    actor = soft_agent.behaviour.actor.trainable_variables
    noise = tf.fill([3, 4, ACTIONS], 0.5)
    with tf.GradientTape(persistent=True) as tape:
        loss = soft.actor_loss(features, noise, 1.0)
        action, logs = soft_agent.behaviour.policy(features).sample_and_log(noise)
        plain = tf.reduce_mean(np.exp(-1) * logs - tf.minimum(*(
            critic(tf.concat([features, action], -1))[..., 0] for critic in soft.critics.pair)))
    for found, wanted in zip(*(tape.gradient(x, actor) for x in (loss, plain)), strict=True):
        assert np.abs(wanted).max() > 0
        close(found, wanted, 1e-4)


PARTS = {
    'critics': lambda agent: agent.learners['soft'].critics.trainable_variables,
    'targets': lambda agent: agent.learners['soft'].slow_critics.network.trainable_variables,
    'temperature': lambda agent: [agent.learners['soft'].log_temperature],
    'actor': lambda agent: agent.behaviour.actor.trainable_variables,
    'value': lambda agent: agent.behaviour.value_head.trainable_variables,
    'world': lambda agent: agent.world.trainable_variables}


@pytest.mark.parametrize('learner, moved', [
    ('soft', {'critics', 'targets', 'temperature'}), ('behaviour', {'actor', 'value'})])
@pytest.mark.parametrize('words', [(), ('--no-use_dreamer',)])
def test_an_update_of_each_half_of_the_hybrid_moves_its_own_parts_and_no_other(
        learner, moved, words, eager):
    agent = quiet('--use_sac', *words, method='cvrl')
    for number, critic in enumerate(agent.learners['soft'].slow_critics.network.pair):
        helpers.shake(critic, 0.1, seed=50 * number)
    before = {name: helpers.values(part(agent)) for name, part in PARTS.items()}
    features = tf.constant(normals(3, 5, agent.world.width))
    agent.learners[learner].learn(
        posterior(agent, features), helpers.tensors(helpers.sequences(3, 5)), agent.random)
    for name, part in PARTS.items():
        same = helpers.unchanged(before[name], part(agent))
        assert same == [name not in moved] * len(same), name
    if learner == 'soft':
        targets, critics = PARTS['targets'](agent), PARTS['critics'](agent)
        assert len(targets) == len(critics) == 16
        for old, new, critic in zip(before['targets'], targets, critics):
            close(new - old, 0.005 * (critic - old), 1e-3)


def test_without_use_sac_there_are_no_critics_and_without_use_dreamer_no_gradient_of_imagination(
        eager):
    assert 'soft' not in helpers.build('cvrl').learners
    agent = quiet('--use_sac', '--no-use_dreamer', '--sac_weight', '0', '--value_rate', '0.1',
                  method='cvrl')
    actor, value = (helpers.values(PARTS[name](agent)) for name in ('actor', 'value'))
    agent.train(helpers.tensors(helpers.sequences(3, 5)))
    assert all(helpers.unchanged(actor, PARTS['actor'](agent)))
    assert not any(helpers.unchanged(value, PARTS['value'](agent)))


def test_soft_actor_critic_alone_solves_a_bandit_of_one_step_in_a_fake_latent_space():
    """Two kinds of latents, each with its own best action, no discount: after 600 updates the
    mode is within 0.15 of it, and the temperature has come down from 1."""
    agent = helpers.build(
        'cvrl', '--use_sac', '--no-use_dreamer', '--horizon', '2', '--actor_rate', '0.003',
        '--critic_rate', '0.003', '--temperature_rate', '0.01', '--discount', '0')
    best = tf.constant([[0.6, -0.5, 0.0], [-0.4, 0.3, 0.5]])
    random = tf.random.Generator.from_seed(7)

    @tf.function(autograph=False)
    def update():
        kind = random.uniform([64], maxval=2, dtype=tf.int32)
        features = tf.gather(latents, kind)
        action = random.uniform([64, ACTIONS], -1, 1)
        reward = -tf.reduce_sum((action - tf.gather(best, kind)) ** 2, -1)
        batch = {  # what came with the second entry was earned in the first
            'action': tf.stack([0 * action, action], 1),
            'reward': tf.stack([0 * reward, reward], 1), 'discount': tf.zeros([64, 2])}
        both = posterior(agent, tf.stack([features, features], 1))
        return {**agent.learners['soft'].learn(both, batch, random),
                **agent.learners['behaviour'].learn(both, batch, random)}

    latents = tf.constant(normals(2, agent.world.width))
    for _ in range(600):
        metrics = update()
    policy = agent.behaviour.policy(latents)
    assert np.abs(tf.tanh(policy.mean) - best).max() < 0.15
    assert float(metrics['temperature']) < 0.5


def test_target_critics_begin_as_the_critics():
    agent = helpers.build('cvrl', '--use_sac')
    soft = agent.learners['soft']
    inputs = tf.constant(normals(4, agent.world.width)), tf.constant(normals(4, ACTIONS, seed=1))
    one, other = soft.critics(*inputs), soft.slow_critics(*inputs)
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one[0], one[1])
    close(one, plain_critic(soft.critics, *inputs))


@pytest.mark.parametrize('deviation, rises', [(0.07, True), (0.11, False)])
def test_temperature_rises_where_the_entropy_is_below_minus_the_actions_and_falls_above(
        deviation, rises):
    """Actions of so small a deviation have about the entropy of a normal: -3.7 and -2.4 nats."""
    agent = helpers.build('cvrl', '--use_sac')
    output = agent.behaviour.actor.output
    output.kernel.assign(tf.zeros_like(output.kernel))
    raw = np.log(np.expm1(deviation)) - np.log(np.expm1(5))
    output.bias.assign(tf.concat([tf.zeros([ACTIONS]), tf.fill([ACTIONS], float(raw))], 0))
    soft = agent.learners['soft']
    metrics = soft.learn(
        posterior(agent, tf.constant(normals(30, 5, agent.world.width))),
        helpers.tensors(helpers.sequences(30, 5)), agent.random)
    assert (float(metrics['soft_entropy']) < -ACTIONS) == rises
    assert abs(float(metrics['soft_entropy']) + ACTIONS) < 1
    step = float(soft.log_temperature)
    assert np.sign(step) == (1 if rises else -1)
    np.testing.assert_allclose(abs(step), 3e-4, rtol=1e-3)
