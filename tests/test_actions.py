"""Tests of the distribution of actions."""

import gymnasium
import helpers
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import ACTIONS, close, normals

import actions
from actions import TanhNormal
from environments.spaces import OneHot


def transformed(policy):
    return tfp.distributions.Independent(tfp.distributions.TransformedDistribution(
        tfp.distributions.Normal(policy.mean, policy.deviation), tfp.bijectors.Tanh()), 1)


def test_tanh_normal_has_the_mean_and_deviation_of_the_papers():
    raw = 4 * normals(6, 2 * ACTIONS)
    policy = TanhNormal(tf.constant(raw))
    close(policy.mean, 5 * np.tanh(raw[:, :ACTIONS] / 5))
    close(policy.deviation, helpers.softplus(
        raw[:, ACTIONS:] + np.log(np.exp(5) - 1)) + 1e-4)


def test_untrained_actor_has_the_deviation_that_was_asked_for():
    for words, deviation in ((), 5), (('--actor_deviation', '0.7'), 0.7):
        agent = helpers.build('mummi', *words)
        policy = agent.actions.distribution(tf.zeros([3, 2 * ACTIONS]))
        close(policy.deviation, np.full((3, ACTIONS), deviation + 1e-4), 1e-5)
        close(policy.mean, np.zeros((3, ACTIONS)))


def test_parts_have_the_exploration_that_was_asked_for():
    config = helpers.settings(
        'mummi', '--explore_noise', '0.17', '--actor_deviation', '0.7',
        '--explore_epsilon', '0.23')
    numbers = actions.of(gymnasium.spaces.Box(-1, 1, (5,), np.float32), config)
    assert (numbers.size, numbers.explore_noise, numbers.deviation) == (5, 0.17, 0.7)
    choices = actions.of(OneHot(4), config)
    assert (choices.size, choices.explore_epsilon) == (4, 0.23)


def test_random_actions_are_uniform_between_the_bounds():
    """By the Kolmogorov-Smirnov distance, whose 1e-6 quantile is 2.7 / sqrt(n)."""
    drawn = actions.Continuous(3, 0.3).uniform(np.random.default_rng(0), 6000)
    assert drawn.shape == (6000, 3) and drawn.dtype == np.float32
    for column in np.sort(drawn, 0).T:
        share = np.arange(1, 6001) / 6000
        assert np.abs((column + 1) / 2 - share).max() < 2.7 / np.sqrt(6000)


def test_sample_and_log_agree_with_a_transformed_normal():
    policy = TanhNormal(tf.constant(np.concatenate(
        [normals(6, ACTIONS), normals(6, ACTIONS, seed=1) - 5], -1)))
    noise = normals(6, ACTIONS, seed=2)
    action, logs = policy.sample_and_log(tf.constant(noise))
    close(action, np.tanh(policy.mean + policy.deviation * noise))
    np.testing.assert_array_equal(action, policy.sample(tf.constant(noise)))
    close(logs, transformed(policy).log_prob(action), 1e-4)


def test_log_density_of_saturated_actions_is_finite():
    policy = TanhNormal(tf.constant(normals(6, 2 * ACTIONS)))
    action, logs = policy.sample_and_log(tf.constant(6 * normals(6, ACTIONS)))
    assert np.abs(action).max() == 1
    assert np.isfinite(logs).all()


def test_mode_is_each_rows_own_most_likely_sample():
    policy = TanhNormal(tf.constant(np.concatenate(
        [normals(6, ACTIONS), normals(6, ACTIONS, seed=1) - 5], -1)))
    noise = normals(20, 6, ACTIONS, seed=2)
    actions = [policy.sample(tf.constant(draw)).numpy() for draw in noise]
    logs = np.array([transformed(policy).log_prob(action) for action in actions])
    best = logs.argmax(0)
    assert len(set(best)) > 1
    result = policy.mode(tf.constant(noise))
    for row in range(6):
        np.testing.assert_array_equal(result[row], actions[best[row]][row])
