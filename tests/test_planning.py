"""Tests of trajectory optimisation and forward search."""

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import ACTIONS, close, latents, quiet


def plain_imagined_return(agent, latent, action, noise):
    """The first lambda-return [N] with `action` first and samples after, all noise `noise`."""
    world, state, features = agent.world, latent, []
    dynamics = world.dynamics.read()
    for index in range(agent.config.horizon):
        if index:
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
    agent.random = agent.judging = helpers.constant_noise()
    latent = latents(agent, 3)
    policy = agent.behaviour.policy(latent.features())
    start = tf.tanh(policy.mean + 0.5 * policy.deviation)
    refined = agent.act(latent, exploring, agent.random)
    for row in range(3):
        own = latent.map(lambda part, row=row: part[row:row + 1])
        with tf.GradientTape() as tape:
            action = start[row:row + 1]
            tape.watch(action)
            value = plain_imagined_return(agent, own, action, 0.5)
        close(agent.planner.imagined_return(own, action, agent.random), value)
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
        agent.random = agent.judging = helpers.random_noise()
        actions.append(agent.act(latent, True, agent.random).numpy())
    close(actions[0][0], actions[1][0], 1e-6)
    assert not np.allclose(actions[0][1], actions[1][1])


@pytest.mark.parametrize('exploring', [False, True])
def test_search_takes_each_environments_own_best_candidate(exploring, eager, monkeypatch):
    """By a stub return: minus the distance to a goal that the latent holds."""
    agent = quiet('--search_candidates', '20', '--explore_noise', '0')
    agent.random = agent.judging = helpers.random_noise()
    latent = latents(agent, 6)
    tried = []

    def imagined_return(state, action, random):
        tried.append((state.mean.numpy(), action.numpy()))
        goal = tf.tanh(state.mean[:, :ACTIONS])
        return -tf.reduce_sum((action - goal) ** 2, -1)

    monkeypatch.setattr(agent.planner, 'imagined_return', imagined_return)
    found = agent.act(latent, exploring, agent.random)
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
    agent.random = agent.judging = helpers.constant_noise(0.0)
    latent = latents(agent, 6)
    planner, random = agent.planner, agent.random
    base = planner.imagined_return(
        latent, agent.act(latent, True, random), random).numpy()
    agent.random = agent.judging = Mixed()
    found = agent.act(latent, True, agent.random)
    agent.random = agent.judging = helpers.constant_noise(0.0)
    better = planner.imagined_return(latent, found, agent.random).numpy()
    assert (better >= base - 1e-6).all()
    assert (better > base + 1e-4).any()


class Mixed(helpers.Noise):
    """No noise, except in the candidates of a search."""

    def __init__(self):
        draw = np.random.default_rng(0).standard_normal
        super().__init__(lambda shape: draw(shape) if shape[0] == 19 else np.zeros(shape))
