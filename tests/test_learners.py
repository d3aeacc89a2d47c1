"""Tests of what an update does: its gradients against a plain implementation, and that each part
learns by its own loss alone."""

import helpers
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import METHODS, close, normals, plain_model_loss, spy

from config import SENSORS, flag
from dynamics import State


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
    assert len(np.unique(np.reshape(imagined[0][1][0][..., 0], -1))) == np.size(
        imagined[0][1][0][..., 0])
    observation = helpers.tensors({
        key: np.repeat(value, 2, 0) for key, value in helpers.observations(1).items()})
    observation['is_first'] = tf.constant([True, True])
    action, state = agent.policy(observation, agent.initial(2), True)
    close(state['mean'][0], state['mean'][1])
    assert not np.isclose(state['stochastic'][0], state['stochastic'][1]).any()
    assert not np.isclose(action[0], action[1]).any()


def plain_imagination(agent, start, noise):
    """Features [H, N, F] of actions by samples on features without gradient, and the entropies of
    these actions [H, N]."""
    state, dynamics, features, entropies = start, agent.world.dynamics.read(), [], []
    for _ in range(agent.config.horizon):
        policy = agent.behaviour.policy(tf.stop_gradient(state.features()))
        before = policy.mean + policy.deviation * noise
        action = tf.tanh(before)
        # Of the normal, and of what the tangent hyperbolic does to a density.
        logs = -0.5 * noise ** 2 - tf.math.log(policy.deviation) - 0.5 * np.log(2 * np.pi) - (
            tf.math.log(1 - action ** 2))
        entropies.append(-tf.reduce_sum(logs, -1))
        state = dynamics.prior(
            dynamics.transition(state, action), tf.fill(state.mean.shape, noise))
        features.append(state.features())
    return tf.stack(features), tf.stack(entropies)


def imagination_starts(config):
    """The entries of a sequence at which imagination starts, counted back from the last."""
    return sorted(config.length - 1 - back for back in range(0, config.length,
                                                             config.imagine_every))


def plain_gradients(agent, batch, noise):
    """part -> (loss, gradients) of one update where every draw of noise is `noise`."""
    world, behaviour = agent.world, agent.behaviour
    size = [*batch['reward'].shape, agent.config.stoch]
    with tf.GradientTape() as tape:
        loss, _, posterior, _ = plain_model_loss(world, batch, tf.fill(size, noise))
    found = {'model': (loss, tape.gradient(loss, world.trainable_variables))}
    starts = imagination_starts(agent.config)
    start = State(*(
        tf.stop_gradient(tf.reshape(tf.gather(part, starts, axis=1), [-1, part.shape[-1]]))
        for part in posterior))
    with tf.GradientTape(persistent=True) as tape:
        features, entropies = plain_imagination(agent, start, noise)
        value, discount = behaviour.value(features), world.discount(features)
        reward = world.reward(features)
        ahead = value
        if agent.config.slow_value:  # by a copy whose weights stand still, but not its input
            ahead = behaviour.bootstrap_head(features)[..., 0]
            assert np.abs(ahead - value).max() > 0.01
        returns = [ahead[-1]]
        for k in reversed(range(agent.config.horizon - 1)):
            returns.insert(0, reward[k] + discount[k] * (
                0.05 * ahead[k + 1] + 0.95 * returns[0]))
        returns = tf.stack(returns[:-1])
        weights = tf.stop_gradient(tf.stack([
            tf.reduce_prod(discount[:k], 0) for k in range(agent.config.horizon - 1)]))
        if agent.config.pcont:  # nothing is imagined from where the task ended
            weights *= tf.reshape(tf.gather(batch['discount'], starts, axis=1), [1, -1])
        actor_loss = -tf.reduce_mean(weights * (
            returns + agent.config.entropy_bonus * entropies[:-1]))
        value_loss = tf.reduce_mean(weights * 0.5 * (
            np.log(2 * np.pi) + (tf.stop_gradient(returns) - value[:-1]) ** 2))
    for name, loss, part in (
            ('actor', actor_loss, behaviour.actor), ('value', value_loss, behaviour.value_head)):
        found[name] = loss, tape.gradient(loss, part.trainable_variables)
    return found


@pytest.mark.parametrize('method, words', [
    ('mummi', ()), ('mummi', ('--density_ratio', 'bilinear', '--pcont')), ('cvrl', ()),
    ('dreamer', ('--pcont',)), ('dreamer', ('--pcont', '--imagine_every', '3')),
    ('mummi', ('--imagine_every', '4')), ('cvrl', ('--imagine_every', '100')),
    ('mummi', ('--slow_value', '0.1')), ('cvrl', ('--entropy_bonus', '0.3'))])
def test_gradients_of_an_update_are_those_of_a_plain_implementation(method, words, eager):
    agent = helpers.build(
        method, '--model_rate', '0', '--clip', '0', '--free_nats', '0', *words)
    helpers.shake(agent.world, 0.03)
    helpers.shake(agent.behaviour, 0.03)
    agent.random = agent.judging = helpers.constant_noise(0.25)
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


def test_actor_entropy_is_that_of_the_actions_in_the_latents_of_the_batch(monkeypatch, eager):
    """Minus the mean log density of the first imagined actions, by the transformed normal."""
    agent = helpers.quiet('--actor_rate', '0', '--model_rate', '0')
    agent.random = agent.judging = helpers.constant_noise(0.25)
    filtered = spy(monkeypatch, agent.world.dynamics, 'filter')
    metrics = agent.train(helpers.tensors(helpers.sequences()))
    policy = agent.behaviour.policy(filtered[0][1][0].features())
    action = policy.sample(tf.fill(policy.mean.shape, 0.25))
    logs = tfp.distributions.TransformedDistribution(
        tfp.distributions.Normal(policy.mean, policy.deviation), tfp.bijectors.Tanh()).log_prob(
            action)
    wanted = -np.mean(np.sum(logs, -1))
    assert abs(wanted) > 0.1
    close(metrics['actor_entropy'], wanted, 1e-4)


def test_learners_follow_the_world_model_in_order_on_the_posterior_of_before_it_changed(
        monkeypatch, eager):
    agent = helpers.build('cvrl', '--use_sac', '--model_rate', '0.01')
    filtered = spy(monkeypatch, agent.world.dynamics, 'filter')
    imagined = spy(monkeypatch, agent.world, 'imagine')
    before = helpers.values(agent.world.trainable_variables)
    order = []
    for name, learner in agent.learners.items():
        def learn(posterior, batch, random, name=name, learn=learner.learn):
            order.append((name, posterior, sum(helpers.unchanged(
                before, agent.world.trainable_variables))))
            return learn(posterior, batch, random)
        monkeypatch.setattr(learner, 'learn', learn)
    agent.train(helpers.tensors(helpers.sequences()))
    posterior = filtered[0][1][0]
    assert [name for name, _, _ in order] == ['soft', 'behaviour', 'pictures']
    for _, given, same in order:
        assert same < len(before) / 4
        for one, other in zip(given, posterior):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(imagined[0][0][0], posterior):
        np.testing.assert_array_equal(one, np.reshape(other, one.shape))


@pytest.mark.parametrize('words', [
    ('--use_sac',), ('--actor_gradient', 'reinforce'), ('--use_sac', '--no-use_dreamer')])
def test_imagination_starts_at_the_chosen_entries_however_the_actor_learns(
        words, monkeypatch, eager):
    agent = helpers.build('cvrl', '--imagine_every', '3', '--pcont', *words)
    filtered = spy(monkeypatch, agent.world.dynamics, 'filter')
    imagined = spy(monkeypatch, agent.world, 'imagine')
    metrics = agent.train(helpers.tensors(helpers.sequences()))
    assert np.isfinite(list(metrics.values())).all()
    for one, other in zip(imagined[0][0][0], filtered[0][1][0]):
        np.testing.assert_array_equal(one, np.reshape(other[:, 1::3], one.shape))


def test_numbers_of_imagination_are_means_of_what_they_are_called(monkeypatch, eager):
    agent = helpers.build('dreamer', '--pcont', '--value_rate', '0', '--actor_rate', '0',
                          '--model_rate', '0')
    helpers.shake(agent)
    agent.random = agent.judging = helpers.constant_noise(0.25)
    imagined = spy(monkeypatch, agent.world, 'imagine')
    metrics = agent.train(helpers.tensors(helpers.sequences()))
    features = imagined[0][1][0]
    reward, value = agent.world.reward(features), agent.behaviour.value(features)
    returns = agent.behaviour.returns(agent.world, features)[0]
    wanted = {'imagined_reward': reward, 'value': value, 'imagined_return': returns}
    assert len({round(float(np.mean(x)), 4) for x in wanted.values()}) == 3
    for name, numbers in wanted.items():
        close(metrics[name], np.mean(numbers), 1e-4)
    # A constant reward r for ever is worth r / (1 - discount).
    close(metrics['value_ratio'],
          np.mean(value) * (1 - agent.config.discount) / np.mean(reward), 1e-3)


def test_numbers_of_imagination_leave_out_where_it_starts_by_reinforce_too(monkeypatch, eager):
    agent = helpers.build('cvrl', '--actor_gradient', 'reinforce', '--value_rate', '0',
                          '--actor_rate', '0', '--model_rate', '0', '--slow_value', '0.1')
    helpers.shake(agent)
    imagined = spy(monkeypatch, agent.world, 'imagine')
    metrics = agent.train(helpers.tensors(helpers.sequences()))
    features = imagined[0][1][0]
    reward, value = agent.world.reward(features), agent.behaviour.value(features)
    close(metrics['imagined_reward'], np.mean(reward), 1e-4)
    close(metrics['value'], np.mean(value), 1e-4)
    close(metrics['value_ratio'],
          np.mean(value) * (1 - agent.config.discount) / np.mean(reward), 1e-3)


def test_frames_of_pictures_are_drawn_anew_and_from_all_entries():
    pictures = helpers.build('cvrl', '--probe_frames', '20').learners['pictures']
    drawn = []
    for update in range(100):
        pictures.optimiser.count.assign(update)
        drawn.append(pictures.chosen(1000).numpy())
    assert all(len(frames) == 20 for frames in drawn)
    assert len(np.unique(drawn)) > 800 and np.max(drawn) > 980 and np.min(drawn) < 20


@pytest.mark.parametrize('method', METHODS)
def test_every_trainable_variable_gets_a_gradient(method, eager):
    agent = helpers.build(method, '--pcont', '--use_sac', '--free_nats', '0')
    trained = [v.ref() for optimiser in agent.optimisers.values() for v in optimiser.trained]
    targets = {v.ref() for v in agent.learners['soft'].slow_critics.network.variables}
    assert set(trained) | targets == {v.ref() for v in agent.trainable_variables}
    assert len(trained) == len(set(trained))  # one optimiser each, the actor of the hybrid too
    agent.train(helpers.tensors(helpers.sequences()))
    for name, optimiser in agent.optimisers.items():
        for variable, first in zip(optimiser.trained, optimiser.first):
            assert np.abs(first).max() > 1e-9, (name, variable.shape)


@pytest.mark.parametrize('method', METHODS)
def test_each_loss_changes_its_own_part_and_no_other(method, eager):
    agent = helpers.build(method, '--pcont', '--use_sac', '--free_nats', '0')
    batch = helpers.tensors(helpers.sequences())
    rates = {name: optimiser.rate for name, optimiser in agent.optimisers.items()}
    own = {name: set() for name in rates}
    for name, optimiser in agent.optimisers.items():
        own[name] = {v.ref() for v in optimiser.trained}
    assert own['actor'] == {v.ref() for v in agent.behaviour.actor.trainable_variables}
    assert own['value'] == {v.ref() for v in agent.behaviour.value_head.trainable_variables}
    assert own['model'] == {v.ref() for v in agent.world.trainable_variables}
    targets = {v.ref() for v in agent.learners['soft'].slow_critics.network.variables}
    for name in rates:
        for other, optimiser in agent.optimisers.items():
            optimiser.rate = rates[other] if other == name else 0.0
        variables = [v for v in agent.trainable_variables if v.ref() not in targets]
        before = helpers.values(variables)
        agent.train(batch)
        for variable, same in zip(variables, helpers.unchanged(before, variables)):
            assert same == (variable.ref() not in own[name]), (name, variable.shape)


@pytest.mark.parametrize('method', ['mummi', 'cvrl'])
def test_decoders_for_pictures_change_nothing_else(method, eager):
    """Not the random numbers of later updates either, nor those of acting."""
    batch = helpers.tensors(helpers.sequences())
    results = []
    for frames in 8, 0:
        agent = helpers.build(method, '--probe_frames', str(frames))
        assert ('pictures' in agent.learners) == bool(frames)
        for _ in range(2):
            metrics = agent.train(batch)
        results.append(helpers.values(
            agent.world.trainable_variables + agent.behaviour.trainable_variables) + [
                agent.random.normal([3]).numpy()])
        assert ('decoders_loss' in metrics) == bool(frames)
    for one, other in zip(*results, strict=True):
        close(one, other, 1e-6)


def test_decoders_for_pictures_learn_the_loss_of_the_frames_that_they_are_shown(eager):
    agent = helpers.build('cvrl', '--clip', '0')
    agent.random = agent.judging = helpers.constant_noise()
    agent.learners['pictures'].chosen = lambda total: tf.range(8)
    batch = helpers.sequences()
    noise = tf.fill([4, 8, agent.config.stoch], 0.5)
    _, _, posterior, _ = plain_model_loss(agent.world, helpers.tensors(batch), noise)
    features = tf.reshape(posterior.features(), [32, -1])[:8]
    frames = {key: value.reshape(32, *value.shape[2:])[:8] for key, value in batch.items()}
    wanted = 0
    for sensor, decoder in agent.learners['pictures'].decoders.items():
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


def test_imagined_reward_is_logged_apart_from_the_value(eager):
    agent = helpers.build('dreamer')
    for head, level in (agent.world.reward_head, 0.7), (agent.behaviour.value_head, 5.0):
        head.output.kernel.assign(tf.zeros_like(head.output.kernel))
        head.output.bias.assign([level])
    agent.optimisers['model'].rate = 0.0
    metrics = agent.train(helpers.tensors(helpers.sequences()))
    close(metrics['imagined_reward'], 0.7)
    close(metrics['value'], 5.0)


# What the first three updates of fresh agents gave at revision d495e0b, at which MuMMI and Dreamer
# were found to equal the published release on equal weights.
GOLDEN_COLUMNS = (
    'model_loss', 'divergence', 'reward_loss', 'image_loss', 'actor_loss', 'value_loss',
    'actor_entropy', 'model_gradient', 'actor_gradient', 'value_gradient')
GOLDEN = {
    'mummi': [
        [9.531085, 0.4800025, 1.500282, 2.646883, 0.2099697, 1.18335, -10.71982,
         0.7122127, 0.09834656, 0.8935223],
        [9.313129, 0.5023189, 1.407984, 2.122687, -0.04685037, 1.12282, -8.512588,
         0.7924336, 0.07290022, 0.7594276],
        [9.079956, 0.4186727, 1.572363, 2.122155, 0.2802835, 1.200826, -13.02757,
         1.360289, 0.07193795, 0.9791269],
    ],
    'dreamer': [
        [12643.8, 0.37833, 1.684971, 9592.727, 0.007949308, 0.7793291, -10.11752,
         1166.853, 0.0336048, 0.8289139],
        [11546.93, 0.3862154, 1.392344, 8116.617, -0.09369759, 0.8090733, -12.47051,
         1317.836, 0.02736999, 0.9046915],
        [11166.62, 0.4826927, 1.573532, 8118.236, -0.05897632, 0.8546364, -12.56101,
         1172.835, 0.03408634, 1.121071],
    ],
}


@pytest.mark.parametrize('method, words', [('mummi', ()), ('dreamer', ('--pcont',))])
def test_first_updates_are_those_that_equal_the_release(method, words, monkeypatch):
    agent = helpers.build(method, *words)
    losses = agent.behaviour.losses
    # At that revision the ends of a task were starts of imagination like all others.
    monkeypatch.setattr(agent.behaviour, 'losses', lambda world, features, entropy, alive: losses(
        world, features, entropy))
    if pictures := agent.learners.get('pictures'):
        # ... and which frames the pictures learn was drawn by the agent's generator.
        pictures.chosen = lambda total: agent.random.uniform(
            [min(pictures.frames, total)], maxval=total, dtype=tf.int32)
    for seed, wanted in enumerate(GOLDEN[method]):
        metrics = agent.train(helpers.tensors(helpers.sequences(seed=seed)))
        np.testing.assert_allclose(
            [metrics[name] for name in GOLDEN_COLUMNS], wanted, rtol=2e-4, err_msg=str(seed))


# --- Remedies ----------------------------------------------------------------------------


def test_slow_value_follows_the_value_and_is_what_returns_are_bootstrapped_from(eager):
    agent = helpers.build('mummi', '--slow_value', '0.25', '--value_rate', '0.01')
    slow = agent.behaviour.bootstrap_head
    behaviour, batch = agent.behaviour, helpers.tensors(helpers.sequences())
    before = helpers.values(slow.network.trainable_variables)
    for one, other in zip(before, helpers.values(behaviour.value_head.trainable_variables)):
        np.testing.assert_array_equal(one, other)
    agent.train(batch)
    after = helpers.values(slow.network.trainable_variables)
    for old, new, value in zip(
            before, after, helpers.values(behaviour.value_head.trainable_variables)):
        assert not np.array_equal(value, old)
        close(new - old, 0.25 * (value - old), 1e-3)
    features = tf.constant(normals(4, 3, agent.world.width))
    behaviour.value_head.output.bias.assign([100.0])
    returns, _, values, _ = behaviour.returns(agent.world, features)
    assert np.max(np.abs(returns)) < 50 and np.max(np.abs(values)) < 50
    # The value itself still learns toward these returns.
    _, value_loss, metrics = behaviour.losses(agent.world, features, tf.zeros([4, 3]))
    assert value_loss > 1000 and metrics['value'] > 50


@pytest.mark.parametrize('chances, wanted', [
    ({'image': 0.3}, [0.3]), ({'image': 0.3, 'depth': 0.6}, [0.3, 0.6]),
    # Where all would be withheld, none is.
    ({'image': 0.3, 'depth': 0.6, 'touch': 0.5}, [0.3 - 0.09, 0.6 - 0.09, 0.5 - 0.09])])
def test_sensors_are_withheld_from_whole_sequences_by_their_chances_and_never_all(
        chances, wanted, eager):
    words = ','.join(f'{sensor}={chance}' for sensor, chance in chances.items())
    learner = helpers.build('mummi', '--withhold', words).world_learner
    drawn = learner.withheld(20000, tf.random.Generator.from_seed(0))
    assert list(drawn) == list(chances)
    drawn = np.stack([hidden.numpy() for hidden in drawn.values()])
    assert drawn.shape[1:] == (20000, 1, 1) and not np.any(drawn.sum(0) == 3)
    np.testing.assert_allclose(drawn.mean((1, 2, 3)), wanted, atol=0.01)


def test_nothing_is_withheld_without_chances(eager):
    assert helpers.build('mummi').world_learner.withheld(
        4, tf.random.Generator.from_seed(0)) == {}


def test_what_is_withheld_in_an_update_is_drawn_anew_each_time(monkeypatch, eager):
    agent = helpers.build('cvrl', '--withhold', '0.5')
    calls = spy(monkeypatch, agent.world, 'loss')
    for _ in range(2):
        agent.train(helpers.tensors(helpers.sequences(8)))
    one, other = (np.array([v for v in arguments[2].values()]) for arguments, _ in calls)
    assert one.shape == (3, 8, 1, 1) and not np.array_equal(one, other)
