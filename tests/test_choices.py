"""Tests of runs whose actions are choices and whose episodes are short, on a user's own task
(corridor.py)."""

import functools

import gymnasium
import helpers
import numpy as np
import pytest
import stubs
import tensorflow as tf

import actions
import experiment
import processes
import training
import wrappers
from config import SENSORS, UserError, flag

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
        vector.close(terminate=True)


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


def test_end_of_a_task_is_no_start_of_imagination(eager, monkeypatch):
    """With --pcont; what is imagined from there moves neither actor nor value."""
    agent = helpers.build('mummi', '--pcont')
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


def test_soft_critics_do_not_learn_from_one_episode_to_another(eager):
    def critic_loss(batch):
        agent = helpers.build('cvrl', '--use_sac')
        agent.random = helpers.constant_noise()
        posterior = agent.world.dynamics.initial(4).map(
            lambda part: tf.constant(helpers.normals(4, 8, part.shape[-1])))
        return float(agent.learners['soft'].learn(
            posterior, helpers.tensors(batch), agent.random)['critic_loss'])
    batch = helpers.sequences() | {'is_first': np.zeros((4, 8), bool)}
    batch['is_first'][:, 5] = True
    absurd = batch | {'reward': batch['reward'].copy()}
    absurd['reward'][:, 5] = 100
    assert critic_loss(batch) == critic_loss(absurd)
    absurd['reward'][:, 4] = 100
    assert critic_loss(absurd) > 10 * critic_loss(batch)


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


def test_actor_learns_the_choice_that_the_model_rewards(eager, monkeypatch):
    """By a stub of the imagination, in which the second choice is worth 1 and the others 0."""
    agent = chooser('--actor_rate', '0.01')
    latent = helpers.latents(agent, 64)

    def imagine(state, choose, inputs, noise):
        decisions = [choose(state, *(x[step] for x in inputs)) for step in range(len(noise))]
        actions_, said = zip(*decisions)
        return tf.stack(actions_), tf.stack(said)

    def losses(world, features, entropy, alive):
        # A value loss that has a gradient, as the optimiser of the value asks for.
        value = tf.reduce_mean(agent.behaviour.value_head(latent.features()))
        return -tf.reduce_mean(features[..., 1]), value, {}

    monkeypatch.setattr(agent.world, 'imagine', imagine)
    monkeypatch.setattr(agent.behaviour, 'losses', losses)

    def chance():
        return np.mean(tf.exp(agent.behaviour.policy(latent.features()).logits)[:, 1])
    before = chance()
    for _ in range(20):
        agent.learners['behaviour'].learn(
            latent.map(lambda part: part[None]), {'reward': tf.zeros([1, 64])}, agent.random)
    assert before < 0.8 and chance() > 0.95
