"""Tests of runs whose actions are choices and whose episodes are short, on a user's own task
(corridor.py)."""

import functools
import types

import gymnasium
import helpers
import numpy as np
import pytest
import stubs
import tensorflow as tf
import tensorflow_probability as tfp

import actions
import experiment
import models
import processes
import training
import wrappers
from config import SENSORS, UserError, flag
from dynamics import Dynamics
from precision import Precision
from soft_actor_critic import departures

CORRIDOR = 'gym_corridor:Corridor-v0'
RIGHT, LEFT = np.float32([0, 1]), np.float32([1, 0])

def test_own_task_is_described_and_steps_in_processes():
    config = helpers.settings('mummi', '--task', CORRIDOR, '--miss_ratio', '0')
    description = processes.describe(config)
    assert description.sensors == ('image', 'proprioception')
    assert description.action_space.n == 2
    vector = processes.vector(config, 'train', 2, description, 0)
    try:
        before = vector.reset(seed=[1, 2])[0]
        actions = np.stack([RIGHT, LEFT])
        after, reward, *_, info = vector.step(actions)
        place = before['proprioception'][:, 3]
        wanted = np.maximum(place + [1, -1], 0)
        np.testing.assert_array_equal(after['proprioception'][:, 3], wanted)
        np.testing.assert_array_equal(reward, wanted)
        assert info['steps'].tolist() == [1, 1]
    finally:
        vector.close()


def test_pictures_that_no_sensor_reads_are_told_to_the_user():
    representation, method = helpers.METHODS['mummi']
    one = experiment.Experiment(method, representation, helpers.settings(
        'mummi', '--task', 'gym_corridor:Cameras-v0'))
    assert one.sensors == ('image', 'proprioception')
    said = one.advice(types.SimpleNamespace(planner=types.SimpleNamespace(advice=lambda: None)))
    told = [line for line in said if 'no sensor reads' in line]
    assert [line.split('--sensor_map ')[1].split(' (')[0] for line in told] == [
        'depth=far or proprioception=joints+far', 'proprioception=joints+frames']
    for line in told:  # what is said can be typed
        for words in line.split('--sensor_map ')[1].split(' (')[0].split(' or '):
            other = experiment.Experiment(method, representation, helpers.settings(
                'mummi', '--task', 'gym_corridor:Cameras-v0', '--sensor_map', words))
            assert other.sensors


class Experiment(experiment.Experiment):
    """An experiment whose environments are in this process."""

    def __init__(self, folder, *words, method='mummi'):
        representation, described = helpers.METHODS[method]
        super().__init__(described, representation, helpers.settings(
            method, '--logdir', str(folder), '--task', CORRIDOR, '--length', '9', '--batch', '3',
            '--prefill', '40', '--steps', '60', '--train_every', '10', '--eval_every', '30',
            '--pretrain', '1', '--train_updates', '1', '--time_limit', '0', *words))

    @functools.cached_property
    def description(self):
        env = wrappers.make(self.config, 'train', 0)
        return processes.Description(
            env.observation_space, env.action_space,
            tuple(name for name in SENSORS if name in env.observation_space.spaces))

    def environments(self, split, count, seed):
        return gymnasium.vector.SyncVectorEnv(
            [functools.partial(wrappers.make, self.config, split, seed + i)
             for i in range(count)],
            autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize('method', helpers.METHODS)
def test_run_on_a_task_of_short_episodes_and_choices_comes_to_its_end(method, tmp_path, capsys):
    one = Experiment(tmp_path / 'run', '--refine_actions', '--envs', '2', method=method)
    with stubs.eagerly(), training.Trainer(one) as trainer:
        batches, train = [], trainer.agent.train

        def recorded(batch):
            batches.append({key: value.numpy() for key, value in batch.items()})
            return train(batch)
        trainer.agent.train = recorded
        trainer.train()
    assert 'no trajectory optimisation' in capsys.readouterr().out
    assert trainer.step >= 60 and len(batches) == 3
    for batch in batches:
        # Episodes have 3 to 7 entries, so a sequence of 9 holds at least two.
        assert batch['is_first'][:, 1:].any(1).all()
        sums = batch['action'].sum(-1)
        np.testing.assert_array_equal(sums, np.where(batch['is_first'], 0, 1))
        assert set(np.unique(batch['action'])) <= {0, 1}
    ends = {int(episode.read(0, episode.entries)['discount'][-1])
            for episode in trainer.replay.episodes}
    assert ends == {0, 1}  # by the task, and by its limit
    for episode in trainer.replay.episodes:
        assert episode.steps == episode.entries - 1 <= 6
    assert (tmp_path / 'run' / 'metrics.csv').exists() and flag('image') in batches[0]


def test_sequences_of_a_run_go_across_episodes_where_the_task_s_are_short(tmp_path):
    """Also where they would fit into one; --no-across_episodes keeps them in one."""
    for words, across in ((), True), (('--no-across_episodes',), False):
        one = Experiment(tmp_path / str(across), '--length', '3', *words)
        with stubs.eagerly(), training.Trainer(one) as trainer:
            trainer.collect_random(60)
            first = trainer.replay.sample(200, 3, 0)['is_first'][:, 1:]
        assert first.any() == across


def test_soft_actor_critic_is_refused_for_choices():
    config = helpers.settings('mummi', '--task', CORRIDOR, '--use_sac')
    env = wrappers.make(config, 'train', 0)
    with pytest.raises(UserError, match=r'--use_sac') as caught:
        actions.of(env.action_space, config)
    assert CORRIDOR in str(caught.value)


# --- Sequences that hold several episodes ---


def test_filter_starts_from_zeros_where_an_episode_begins():
    agent = helpers.build('mummi')
    helpers.shake(agent)
    dynamics, width = agent.world.dynamics, agent.world.representation.width
    sizes = width, helpers.ACTIONS, agent.config.stoch
    embedding, action, noise = (
        helpers.normals(2, 7, size, seed=number) for number, size in enumerate(sizes))
    first = np.zeros((2, 7), bool)
    first[0, 3] = first[1, 5] = True
    together = dynamics.filter(*map(tf.constant, (embedding, action, noise, first)))
    for row, cut in (0, 3), (1, 5):
        for part in slice(0, cut), slice(cut, None):
            alone = dynamics.filter(*(
                tf.constant(x[row:row + 1, part]) for x in (embedding, action, noise)))
            for state, wanted in zip(together, alone):
                for x, y in zip(state, wanted):
                    helpers.close(x[row, part], y[0], 1e-5)
    whole = dynamics.filter(*map(tf.constant, (embedding, action, noise)))[0]
    assert not np.allclose(whole.mean[0, 3:], together[0].mean[0, 3:], atol=1e-3)


def test_model_and_open_loop_start_anew_where_an_episode_of_the_batch_begins(eager):
    agent = helpers.build('dreamer')
    helpers.shake(agent.world)
    batch = helpers.tensors(helpers.sequences())
    noise = tf.constant(helpers.normals(4, 8, agent.config.stoch))
    first = np.zeros((4, 8), bool)
    first[:, 3] = True
    together = agent.world.loss(batch | {'is_first': tf.constant(first)}, noise)[2]
    for part in slice(0, 3), slice(3, None):
        alone = agent.world.loss(
            {key: value[:, part] for key, value in batch.items()}, noise[:, part])[2]
        for x, y in zip(together, alone):
            helpers.close(x[:, part], y)
    # What was seen before entry 3 is nothing to the pictures from there on.
    agent.judging = helpers.constant_noise()
    others = helpers.tensors(helpers.sequences(seed=1))
    mixed = {key: tf.concat([others[key][:, :3], batch[key][:, 3:]], 1) for key in batch}
    for begins in True, False:
        told = {'is_first': tf.constant(first & begins)}
        one, other = (agent.open_loop(x | told)['image'] for x in (batch, mixed))
        assert not np.allclose(one[:, :3], other[:, :3], atol=1e-3)
        assert np.allclose(one[:, 3:], other[:, 3:], atol=1e-5) == begins


def test_hybrid_s_actor_loss_is_of_the_latents_from_which_transitions_lead_on(eager, monkeypatch):
    agent = helpers.build('cvrl', '--use_sac')
    batch = helpers.sequences() | {'is_first': np.zeros((4, 8), bool)}
    batch['is_first'][:, 5] = True
    filtered = helpers.spy(monkeypatch, agent.world.dynamics, 'filter')
    asked = helpers.spy(monkeypatch, agent.learners['soft'], 'actor_loss')
    agent.train(helpers.tensors(batch))
    (features, noise, real), _ = asked[0]
    np.testing.assert_array_equal(features, filtered[0][1][0].features()[:, :-1])
    np.testing.assert_array_equal(real, [[1, 1, 1, 1, 0, 1, 1]] * 4)
    assert noise.shape == (4, 7, helpers.ACTIONS) and len(np.unique(noise)) == noise.numpy().size


def test_end_of_a_task_is_no_start_of_imagination(eager, monkeypatch):
    """With --pcont; what is imagined from there moves neither actor nor value."""
    agent = helpers.build('mummi', '--pcont', '--entropy_bonus', '0.5')
    calls = helpers.spy(monkeypatch, agent.behaviour, 'losses')
    batch = helpers.sequences()
    agent.train(helpers.tensors(batch))
    (world, features, entropy, alive), _ = calls[0]
    np.testing.assert_array_equal(alive, batch['discount'].ravel())
    assert 0 < alive.numpy().mean() < 1
    kept = alive.numpy() > 0
    share = kept.mean()
    only = agent.behaviour.losses(
        world, tf.boolean_mask(features, kept, axis=1), tf.boolean_mask(entropy, kept, axis=1))
    # The losses are of the weights after the update in both, and means over all starts.
    again = agent.behaviour.losses(world, features, entropy, alive)
    for mine, theirs in zip(again[:2], only[:2]):
        helpers.close(mine, theirs * share, 1e-4)


def latents(agent):
    return agent.world.dynamics.initial(4).map(
        lambda part: tf.constant(helpers.normals(4, 8, part.shape[-1])))


def test_soft_critics_do_not_learn_from_one_episode_to_another(eager):
    def critic_loss(batch):
        agent = helpers.build('cvrl', '--use_sac')
        agent.random = helpers.constant_noise()
        return float(agent.learners['soft'].learn(
            latents(agent), helpers.tensors(batch), agent.random)['critic_loss'])
    batch = helpers.sequences() | {'is_first': np.zeros((4, 8), bool)}
    batch['is_first'][:, 5] = True
    absurd = batch | {'reward': batch['reward'].copy()}
    absurd['reward'][:, 5] = 100
    assert critic_loss(batch) == critic_loss(absurd)
    absurd['reward'][:, 4] = 100
    assert critic_loss(absurd) > 10 * critic_loss(batch)


def test_nothing_is_learned_softly_of_actions_at_the_end_of_an_episode(eager):
    """Its critics learn nothing of them."""
    batch = helpers.sequences() | {'is_first': np.zeros((4, 8), bool)}
    batch['is_first'][:, 5] = True
    agent = helpers.build('cvrl', '--use_sac', '--no-use_dreamer')
    helpers.shake(agent)
    soft, noise = agent.learners['soft'], tf.fill([4, 7, helpers.ACTIONS], 0.5)
    real = departures(helpers.tensors(batch))
    np.testing.assert_array_equal(real, [[1, 1, 1, 1, 0, 1, 1]] * 4)
    features = tf.constant(helpers.normals(4, 7, agent.world.width))
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = soft.actor_loss(features, noise, real)
    sizes = np.abs(tape.gradient(loss, features)).sum(-1)
    assert np.all((sizes > 0) == (real.numpy() > 0))
    # Whether the temperature rises depends on the other entries alone.
    agent.behaviour.policy = lambda features: types.SimpleNamespace(
        sample_and_log=lambda noise: (tf.zeros(noise.shape), tf.where(
            departures(helpers.tensors(batch)) > 0, -1000.0, 1e9)))
    agent.random = helpers.constant_noise()
    found = []
    soft.temperature = types.SimpleNamespace(
        trained=(soft.log_temperature,), scaled=lambda loss: loss,
        update=lambda gradients, within: found.append(float(gradients[0])))
    soft.learn(latents(agent), helpers.tensors(batch), agent.random)
    assert found[0] > 0


# --- Choices ---


def chooser(*words, **options):
    agent = helpers.build('mummi', *words, part=actions.Discrete(3, 0.25), **options)
    helpers.shake(agent)
    return agent


def test_samples_have_the_probabilities_of_the_logits():
    random = tf.random.Generator.from_seed(0)
    part = actions.Discrete(3, 0)
    policy = part.distribution(tf.constant([[1.0, 0, -1], [0, 0, 3]]))
    drawn = policy.sample(part.noise(random, 20000, 2)).numpy()
    np.testing.assert_allclose(drawn.sum(-1), 1, atol=1e-6)
    wanted = tf.nn.softmax([[1.0, 0, -1], [0, 0, 3]]).numpy()
    np.testing.assert_allclose(drawn.mean(0), wanted, atol=0.015)
    _, logs = policy.sample_and_log(part.noise(random, 20000, 2))
    helpers.close(-np.mean(logs, 0), -np.sum(wanted * np.log(wanted), -1), 0.05)
    np.testing.assert_array_equal(policy.mode(None), [[1, 0, 0], [0, 0, 1]])


def test_gradients_pass_straight_through_and_of_the_entropy_are_exact():
    random, part = tf.random.Generator.from_seed(0), actions.Discrete(3, 0)
    logits, worth = tf.constant([[1.0, 0, -1]]), tf.constant([3.0, -1, 2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        chances = tf.nn.softmax(logits)
        value = tf.reduce_sum(chances * worth)
        entropy = -tf.reduce_sum(chances * tf.math.log(chances))
        policy = part.distribution(tf.tile(logits, [40000, 1]))
        action, logs = policy.sample_and_log(part.noise(random, 40000))
        sampled = tf.reduce_mean(tf.reduce_sum(action * worth, -1))
        said = -tf.reduce_mean(logs)
    helpers.close(tape.gradient(sampled, logits), tape.gradient(value, logits), 1e-3)
    helpers.close(tape.gradient(said, logits), tape.gradient(entropy, logits), 0.05)


def test_exploring_replaces_its_share_of_choices_by_random_ones():
    random = tf.random.Generator.from_seed(0)
    action = tf.tile(RIGHT[None], [20000, 1])
    for epsilon in 0, 0.3, 1:
        found = actions.Discrete(2, epsilon).explored(action, random).numpy()
        assert set(np.unique(found)) <= {0, 1} and np.all(found.sum(-1) == 1)
        assert abs(found[:, 0].mean() - epsilon / 2) < 0.015
    drawn = actions.Discrete(3, 0).uniform(np.random.default_rng(0), 9000)
    assert drawn.dtype == np.float32 and np.all(drawn.sum(-1) == 1)
    np.testing.assert_allclose(drawn.mean(0), 1 / 3, atol=0.02)


@pytest.mark.parametrize('exploring', [False, True])
def test_acting_gives_plain_ones_and_zeros_and_the_mode_without_exploring(exploring, eager):
    agent = chooser('--refine_actions')
    latent = helpers.latents(agent, 50)
    found = agent.act(latent, exploring, agent.random).numpy()
    assert set(np.unique(found)) == {0, 1} and np.all(found.sum(-1) == 1)
    mode = agent.behaviour.policy(latent.features()).logits.numpy().argmax(-1)
    assert np.all(found.argmax(-1) == mode) == (not exploring)


def test_search_takes_the_best_of_the_choices(eager, monkeypatch):
    agent = chooser('--search_candidates', '40')
    latent = helpers.latents(agent, 6)
    worth = np.float32([1, 3, 2])
    monkeypatch.setattr(agent.planner, 'imagined_return', lambda state, action, random: (
        tf.linalg.matvec(action, worth)))
    found = agent.act(latent, False, agent.random).numpy()
    np.testing.assert_array_equal(found, [[0, 1, 0]] * 6)


def test_trajectory_optimisation_is_said_to_be_off_for_choices_alone():
    assert '--refine_actions' in chooser('--refine_actions').planner.advice()
    assert chooser().planner.advice() is None
    assert helpers.build('mummi', '--refine_actions').planner.advice() is None


def plain_return(rewards, discounts, values, k):
    if k == len(values) - 1:
        return values[k]
    after = plain_return(rewards, discounts, values, k + 1)
    return rewards[k] + discounts[k] * (0.05 * values[k + 1] + 0.95 * after)


def test_reinforce_has_the_gradient_of_log_probability_times_advantage():
    """On a stub whose features are reward, discount, the slow value, from which returns are
    bootstrapped and of which the advantage is, the fast one, and the logits of three choices."""
    part = actions.Discrete(3, 0)
    config = helpers.settings('mummi', '--slow_value', '0.1', '--entropy_bonus', '0.25')
    behaviour = models.ActorCritic(config, 7, part, Precision(tf.float32))
    behaviour.bootstrap_head, behaviour.value_head = lambda f: f[..., 2:3], lambda f: f[..., 3:4]
    world = types.SimpleNamespace(reward=lambda f: f[..., 0], discount=lambda f: f[..., 1])
    features = helpers.normals(4, 5, 7)
    features[..., 1] = np.random.default_rng(0).uniform(0.2, 1, (4, 5))
    alive = np.float32([1, 0, 1, 1, 1])
    noise = part.noise(tf.random.Generator.from_seed(0), 3, 5)
    logits = tf.constant(features[:-1, :, 4:])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        policy = part.distribution(logits)
        held, entropy = policy.held_and_entropy(noise)
        loss = behaviour.losses(world, tf.constant(features), entropy, alive, held)[0]
    found = tape.gradient(loss, logits)
    chosen, chances = policy.sample(noise).numpy().round(), tf.nn.softmax(logits).numpy()
    entropies = -(chances * np.log(chances)).sum(-1, keepdims=True)
    helpers.close(entropy, entropies[..., 0])
    rewards, discounts, values = np.moveaxis(features.astype(np.float64), -1, 0)[:3]
    wanted = 0.25 * chances * (np.log(chances) + entropies)
    for k in range(3):
        advantage = plain_return(rewards, discounts, values, k) - values[k]
        weight = alive * np.prod(discounts[:k], 0)
        wanted[k] *= weight[:, None]
        wanted[k] -= (weight * advantage)[:, None] * (chosen[k] - chances[k])
    helpers.close(found, wanted / 15)


def test_held_numbers_have_the_gradient_of_their_log_density():
    raw, noise = 0.5 * helpers.normals(6, 4), helpers.normals(6, 2, seed=1)
    raw[:, 2:] -= 5
    action = actions.TanhNormal(tf.constant(raw)).sample(noise)

    def logs(parameters):
        policy = actions.TanhNormal(parameters)
        return tf.reduce_sum(tfp.distributions.TransformedDistribution(
            tfp.distributions.Normal(policy.mean, policy.deviation),
            tfp.bijectors.Tanh()).log_prob(action), -1)
    results = [tfp.math.value_and_gradient(function, tf.constant(raw)) for function in (
        logs, lambda parameters: actions.TanhNormal(parameters).held_and_entropy(noise)[0])]
    for wanted, found in zip(*results):
        helpers.close(found, wanted, 1e-3)
    held, entropy = actions.TanhNormal(tf.constant(raw)).held_and_entropy(noise)
    helpers.close(entropy, -held)
    # Of the entropy, unlike of a held action's log density, the gradient passes through the draw.
    found, wanted = (tfp.math.value_and_gradient(function, tf.constant(raw))[1] for function in (
        lambda parameters: tf.reduce_sum(actions.TanhNormal(parameters).held_and_entropy(noise)[1]),
        lambda parameters: -tf.reduce_sum(actions.TanhNormal(parameters).sample_and_log(noise)[1])))
    assert np.abs(wanted).max() > 0.1
    helpers.close(found, wanted)


def test_actor_learns_by_reinforce_where_it_is_told_choices_and_numbers_alike(
        eager, monkeypatch):
    told = '--actor_gradient', 'reinforce'
    for build, words, wanted in (
            (chooser, (), False), (chooser, told, True),
            (functools.partial(helpers.build, 'mummi'), (*told, '--use_sac'), True)):
        agent = build(*words)
        calls = helpers.spy(monkeypatch, agent.behaviour, 'losses')
        latent = helpers.latents(agent, 6).map(lambda part: part[None])
        before = helpers.values(agent.behaviour.actor.trainable_variables)
        agent.learners['behaviour'].learn(latent, {'reward': tf.zeros([1, 6])}, agent.random)
        (_, features, entropy, _, *held), _ = calls[0]
        horizon = agent.config.horizon
        assert len(features) == horizon + wanted and entropy.shape == (horizon, 6)
        assert [x.shape for x in held] == [(horizon, 6)] * wanted
        if wanted:  # the value is a baseline of the state in which the action is taken
            helpers.close(features[0], latent.features()[0])
        assert not any(helpers.unchanged(before, agent.behaviour.actor.trainable_variables))


def test_reinforce_of_an_update_holds_what_was_done_in_each_latent(eager, monkeypatch):
    """The log probabilities are of the choices that lead from each imagined latent to the next."""
    agent = chooser('--actor_gradient', 'reinforce', '--actor_rate', '0')
    losses, taken = helpers.spy(monkeypatch, agent.behaviour, 'losses'), []

    def transition(self, state, action, original=Dynamics.transition):
        taken.append((state.features(), action))
        return original(self, state, action)
    monkeypatch.setattr(Dynamics, 'transition', transition)
    latent = helpers.latents(agent, 6).map(lambda part: part[None])
    agent.learners['behaviour'].learn(latent, {'reward': tf.zeros([1, 6])}, agent.random)
    (*_, held), _ = losses[0]
    wanted = [tf.reduce_sum(tf.round(action) * agent.behaviour.policy(features).logits, -1)
              for features, action in taken]
    assert len(wanted) == agent.config.horizon
    helpers.close(held, tf.stack(wanted))


@pytest.mark.parametrize('kind', ['dynamics', 'reinforce'])
def test_actor_learns_the_choice_that_the_model_rewards(kind, eager, monkeypatch):
    """By a stub of the imagination, in which the second choice is worth 1 and the others 0."""
    agent = chooser('--actor_rate', '0.01', '--value_rate', '0.01', '--actor_gradient', kind)
    latent = helpers.latents(agent, 64)

    def imagine(state, choose, inputs, noise):
        decisions = [choose(state, *(x[step] for x in inputs)) for step in range(len(noise))]
        taken, said = zip(*decisions)
        rest = tf.tile(state.features()[None, :, 3:], [len(noise), 1, 1])
        return tf.concat([tf.stack(taken), rest], -1), tf.stack(said)

    monkeypatch.setattr(agent.world, 'imagine', imagine)
    monkeypatch.setattr(agent.world, 'reward', lambda features: features[..., 1])

    def chance():
        return np.mean(tf.exp(agent.behaviour.policy(latent.features()).logits)[:, 1])
    before = chance()
    for _ in range(30):
        agent.learners['behaviour'].learn(
            latent.map(lambda part: part[None]), {'reward': tf.zeros([1, 64])}, agent.random)
    assert before < 0.8 and chance() > 0.9
