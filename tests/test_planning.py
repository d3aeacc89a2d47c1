"""Tests of trajectory optimisation and forward search."""

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import ACTIONS, close, latents, quiet


def plain_imagined_return(agent, latent, action, noise):
    """The first lambda-return [N] with `action` first and samples after, all noise `noise`."""
    return plain_rollout(agent, latent, [action], noise)[0]


def plain_rollout(agent, latent, plan, noise):
    """(the first lambda-return [N], the actions) of the actions `plan` and samples after them."""
    world, state, features, taken = agent.world, latent, [], []
    dynamics = world.dynamics.read()
    for index in range(agent.config.horizon):
        policy = agent.behaviour.policy(tf.stop_gradient(state.features()))
        taken.append(plan[index] if index < len(plan) else tf.tanh(
            policy.mean + policy.deviation * noise))
        state = dynamics.prior(
            dynamics.transition(state, taken[-1]), tf.fill(state.mean.shape, noise))
        features.append(state.features())
    reward, value, discount = (
        tf.stack([head(f) for f in features])
        for head in (world.reward, agent.behaviour.value, world.discount))
    last = value[-1]
    for k in reversed(range(agent.config.horizon - 1)):
        last = reward[k] + discount[k] * (0.05 * value[k + 1] + 0.95 * last)
    return last, taken


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


def refined(latent, *words):
    agent = quiet('--refine_actions', '--refine_rate', '0.2', '--explore_noise', '0', *words)
    agent.random = helpers.constant_noise()
    return agent, agent.act(latent(agent), True, agent.random)


def test_plan_is_moved_whole_along_its_gradient_and_its_first_action_taken(eager):
    """Two steps by plain numbers; the later actions, which the second step finds moved, are why it
    ends elsewhere than where only the first action moves."""
    words = '--refine_steps', '2'
    agent, found = refined(lambda agent: latents(agent, 2), '--refine_plan', 'all', *words)
    latent = latents(agent, 2)
    for row in range(2):
        own = latent.map(lambda part, row=row: part[row:row + 1])
        _, plan = plain_rollout(agent, own, [], 0.5)
        for _ in range(2):
            with tf.GradientTape() as tape:
                tape.watch(plan)
                value, _ = plain_rollout(agent, own, plan, 0.5)
            slopes = tape.gradient(value, plan)
            assert all(np.abs(slope).max() > 1e-4 for slope in slopes)
            plan = [tf.clip_by_value(
                action + 0.2 * slope, -1, 1) for action, slope in zip(plan, slopes)]
        close(found[row], plan[0][0], 1e-4)
    _, first = refined(lambda agent: latents(agent, 2), *words)
    assert np.abs(found - first).max() > 1e-5


def test_a_single_step_takes_the_same_action_whether_one_or_all_are_moved(eager):
    actions = [refined(lambda agent: latents(agent, 3), '--refine_plan', plan)[1]
               for plan in ('first', 'all')]
    close(*actions, 1e-6)


def test_first_action_alone_is_moved_before_the_actors_own_in_each_step(eager):
    agent, found = refined(lambda agent: latents(agent, 1), '--refine_steps', '3')
    latent = latents(agent, 1)
    policy = agent.behaviour.policy(latent.features())
    action = tf.tanh(policy.mean + 0.5 * policy.deviation)
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(action)
            value = plain_imagined_return(agent, latent, action, 0.5)
        action = tf.clip_by_value(action + 0.2 * tape.gradient(value, action), -1, 1)
    close(found, action, 1e-4)


@pytest.mark.parametrize('plan', ['first', 'all'])
def test_environments_whose_rewards_differ_get_different_actions(plan, eager):
    """From one latent, by a reward that for the second environment has the other sign."""
    agent = quiet('--refine_actions', '--refine_plan', plan, '--refine_rate', '0.1')
    agent.random = helpers.constant_noise()
    same, actions = latents(agent, 1).map(lambda part: tf.repeat(part, 2, 0)), []
    agent.world.reward = lambda features: features[..., 0] * rewards
    for signs in [1.0, 1.0], [1.0, -1.0]:
        rewards = tf.constant(signs)
        actions.append(agent.planner.refine(
            same, tf.zeros([2, ACTIONS]), agent.random).numpy())
    close(actions[0][0], actions[0][1], 1e-6)
    close(actions[1][0], actions[0][0], 1e-6)
    assert np.abs(actions[1][1] - actions[1][0]).max() > 1e-3


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


def test_what_the_search_found_is_refined(eager, monkeypatch):
    agent = quiet('--search_candidates', '5', '--refine_actions', '--explore_noise', '0')
    latent = latents(agent, 2)
    searched = helpers.spy(monkeypatch, agent.planner, 'search')
    refined = helpers.spy(monkeypatch, agent.planner, 'refine')
    action = agent.act(latent, False, agent.judging)
    np.testing.assert_array_equal(refined[0][0][1], searched[0][1])
    np.testing.assert_array_equal(action, tf.clip_by_value(refined[0][1], -1, 1))


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
    assert (19, 6, ACTIONS) in [noise.shape for noise in drawn]  # other candidates for each
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


def test_rollouts_are_drawn_by_noise_of_their_own_at_each_decision():
    agent = quiet()
    config = agent.config
    prior, actor = (part.numpy() for part in agent.planner.noise(agent.random, 3))
    assert prior.shape == (config.horizon, 3, config.stoch)
    assert actor.shape == (config.horizon, 3, ACTIONS)
    for noise in prior, actor:
        assert len(np.unique(noise)) == noise.size


def test_exploration_is_added_to_what_was_planned(eager):
    found = []
    for size in '0', '0.3':
        agent = quiet('--refine_actions', '--refine_rate', '0.05', '--explore_noise', size)
        agent.random = helpers.constant_noise()
        found.append(agent.act(latents(agent, 3), True, agent.random).numpy())
    close(found[1], np.clip(found[0] + 0.3 * 0.5, -1, 1), 1e-6)
    assert (np.abs(found[1]) < 1).any()


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
