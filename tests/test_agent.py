"""Tests of acting and of the pictures that the agent draws."""

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import ACTIONS, METHODS, SHAPES, close, latents, normals, quiet, spy

import tools
from acting import AgentPolicy
from config import flag
from replay import Replay


@pytest.mark.parametrize('precision, tolerance', [('float32', 1e-5), ('bfloat16', 0.02)])
@pytest.mark.parametrize('method', METHODS)
def test_acting_and_training_give_the_encoders_and_the_latents_the_same(
        method, precision, tolerance, tmp_path, monkeypatch, eager):
    """An episode as a driver stores it: by replay to an update, and step by step to a policy."""
    agent = helpers.build(method, '--precision', precision)
    helpers.shake(agent, 0.03)
    agent.refresh()
    agent.random = agent.judging = helpers.constant_noise()
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
    policy = AgentPolicy(agent, 1, exploring=True)
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

    replay = Replay(tmp_path, 1)
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


def test_episode_start_resets_its_own_row_only(eager):
    agent = helpers.build('mummi')
    agent.random = agent.judging = helpers.constant_noise()
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
    agent.random = agent.judging = helpers.random_noise()
    latent = latents(agent, 5)
    action = agent.act(latent, False, agent.random)
    assert [draw.shape for draw in agent.random.drawn] == [(100, 5, ACTIONS)]
    policy = agent.behaviour.policy(latent.features())
    np.testing.assert_array_equal(action, policy.mode(tf.constant(agent.random.drawn[0])))


def test_collecting_acts_by_a_sample_with_clipped_noise(eager):
    agent = quiet('--explore_noise', '0.3')
    for noise in 0.5, 3.0:
        agent.random = agent.judging = helpers.constant_noise(noise)
        latent = latents(agent, 5)
        policy = agent.behaviour.policy(latent.features())
        sample = np.tanh(policy.mean + policy.deviation * noise)
        action = agent.act(latent, True, agent.random)
        close(action, np.clip(sample + 0.3 * noise, -1, 1))
    assert np.max(action) == 1
    agent.random = agent.judging = helpers.constant_noise(-3.0)
    assert np.min(agent.act(latent, True, agent.random)) == -1


@pytest.mark.parametrize('method', METHODS)
def test_explanation_is_what_each_part_says_of_the_latents_and_observations(method, eager):
    agent = helpers.build(method)
    helpers.shake(agent)
    observation = helpers.tensors(helpers.observations(7))
    latent = latents(agent, 7)
    latent = latent._replace(deviation=tf.abs(latent.deviation) + 0.1)
    inside = agent.explain(latent._asdict(), observation)
    features = latent.features()
    close(inside['reward'], agent.world.reward_head(features)[:, 0])
    close(inside['value'], agent.behaviour.value_head(features)[:, 0])
    assert not np.allclose(inside['reward'], inside['value'], atol=0.01)
    # KL(posterior, prior), the divergence that the world model is trained by.
    step = agent.world.dynamics.read()
    prior = step.prior(latent.deterministic, tf.zeros_like(latent.mean))
    wanted = np.sum(
        np.log(prior.deviation / latent.deviation)
        + (latent.deviation ** 2 + (latent.mean - prior.mean) ** 2)
        / (2 * prior.deviation ** 2) - 0.5, -1)
    close(inside['divergence'], wanted, 1e-4)
    embeddings = agent.world.representation.embed(observation)
    trust = agent.world.representation.trust(embeddings)
    assert set(inside['trust']) == (set(SHAPES) if method == 'mummi' else set())
    for sensor, share in trust.items():
        close(inside['trust'][sensor], share)
    for sensor, picture in agent.painter.reconstruct(features).items():
        close(inside['pictures'][sensor], picture)


@pytest.mark.parametrize('exploring', [True, False])
def test_acting_is_in_a_sampled_latent_judged_or_not(exploring, eager):
    agent = helpers.build('mummi')
    agent.random = agent.judging = helpers.constant_noise(0.5)
    observation = helpers.tensors(helpers.observations(2)) | {'is_first': tf.constant([True, True])}
    _, state = agent.policy(observation, agent.initial(2), exploring)
    close((state['stochastic'] - state['mean']) / state['deviation'],
          tf.fill(state['mean'].shape, 0.5), 1e-4)


def test_judging_draws_from_its_own_generator_alone(eager):
    agent = helpers.build('mummi', '--refine_actions', '--search_candidates', '2')
    observation = helpers.tensors(helpers.observations(2)) | {'is_first': tf.constant([True, True])}
    batch = helpers.tensors(helpers.sequences(2, 8))

    def draws(function):
        """Which of (random, judging) `function` draws from."""
        before = agent.random.state.numpy(), agent.judging.state.numpy()
        function()
        return [not np.array_equal(old, generator.state) for old, generator in zip(
            before, (agent.random, agent.judging))]

    assert draws(lambda: agent.policy(observation, agent.initial(2), False)) == [False, True]
    assert draws(lambda: agent.policy(observation, agent.initial(2), True)) == [True, False]
    assert draws(lambda: agent.open_loop(batch)) == [False, True]
    assert draws(lambda: agent.train(batch)) == [True, False]


@pytest.mark.parametrize('entries', [2, 5, 8])
def test_open_loop_filters_five_entries_and_imagines_the_rest_by_the_recorded_actions(
        entries, eager):
    agent = quiet()
    agent.random = agent.judging = helpers.constant_noise()
    batch = helpers.sequences(2, entries)
    found = agent.open_loop(helpers.tensors(batch))
    dynamics, state = agent.world.dynamics.read(), agent.world.dynamics.initial(2)
    joint = agent.world.representation.embed(helpers.tensors(batch))['joint']
    for t in range(entries):
        h = dynamics.transition(state, tf.constant(batch['action'][:, t]))
        noise = tf.fill([2, agent.config.stoch], 0.5)
        state = dynamics.posterior(h, joint[:, t], noise) if t < 5 else dynamics.prior(h, noise)
        for sensor, prediction in agent.painter.reconstruct(state.features()).items():
            assert found[sensor].shape == (2, entries, *SHAPES[sensor])
            close(found[sensor][:, t], prediction, 1e-4)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('exploring', [True, False])
def test_acting_by_copies_is_acting_by_weights_that_are_rounded_at_each_action(
        method, exploring, eager, monkeypatch):
    """After an update, so that copies from before it would show. Half of the layers are large."""
    monkeypatch.setattr('precision.SMALL', 1024)
    agent = helpers.build(
        method, '--precision', 'bfloat16', '--refine_actions', '--search_candidates', '3',
        '--actor_rate', '0.1', '--model_rate', '0.1')
    agent.train(helpers.tensors(helpers.sequences()))
    observation = helpers.tensors(helpers.observations(2)) | {'is_first': tf.constant([True, True])}
    results, copies = [], agent.precision.copies
    assert len(copies) > 20 and all(v.dtype == tf.bfloat16 for v in copies.values())
    for agent.precision.copies in copies, {}:
        agent.random = agent.judging = helpers.constant_noise()
        results.append(agent.policy(observation, agent.initial(2), exploring))
    for one, other in zip(*(tf.nest.flatten(result) for result in results)):
        np.testing.assert_array_equal(one, other)


def test_copies_are_what_acting_reads_and_nothing_else(eager, monkeypatch):
    monkeypatch.setattr('precision.SMALL', 0)
    batch = helpers.tensors(helpers.sequences())
    observation = helpers.tensors(helpers.observations(2)) | {'is_first': tf.constant([True, True])}
    acted, learned = [], []
    for forgotten in False, True:
        agent = helpers.build('cvrl', '--precision', 'bfloat16')
        agent.random = agent.judging = helpers.constant_noise()
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
    agent.refresh()
    observation, actions = helpers.observations(1), []
    for each in saved, agent:
        policy = AgentPolicy(each, 1, exploring=False)
        each.random = each.judging = helpers.constant_noise()
        actions.append(policy(observation, np.array([True])))
    np.testing.assert_array_equal(*actions)
