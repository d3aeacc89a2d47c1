"""A task without a simulator, for whole runs within this process: what is observed tells where it
was observed, so whatever reaches the policy, the replay or an update can be checked by itself."""

import contextlib
import functools

import gymnasium
import helpers
import numpy as np
import tensorflow as tf

import experiment
import processes
import training

# Decisions of the episodes that end with the task, and of those that a time limit cuts off; they
# take turns.
ENDS, LIMIT = 5, 7
SPLITS = ['train', 'valid']
ACTIONS = 2
COUNT = 2  # environments of a run


def where(touch):
    """What touch [..., 4 + A] tells: a dict of arrays [...], and the last action [..., A]."""
    names = 'split', 'seed', 'episode', 'decision'
    return {name: touch[..., i] for i, name in enumerate(names)} | {'action': touch[..., 4:]}


def reward_of(episode, decision, action):
    """The reward that comes with `decision` of an episode, after `action` [..., A]."""
    return 0.1 * decision + 0.01 * (episode % 7) + action[..., 0]


def terminates(episode):
    """Whether the episode of this number ends with its task; the others are cut off."""
    return np.asarray(episode) % 2 == 0


class Environments:
    """`num_envs` environments with one sensor, touch, that holds: the split, the last digits of
    the seed of the episode, its number, how many decisions of it were taken, and the last action.
    The number is given by the seed, so all is repeated by the seed; odd and even ones take turns.

    The sensor is missing always or never: always where the chance of a drop-out is 1.
    """

    def __init__(self, split, count, seed):
        self.split, self.num_envs, self.seed, self.closed = split, count, seed, False
        self.action_space = gymnasium.spaces.Box(-1, 1, (count, ACTIONS), np.float32)
        self.resets, self.missing = [], False

    def reset(self, seed, options=None):
        self.resets.append((list(seed), options))
        if options and 'miss_ratio' in options:
            self.missing = options['miss_ratio']['touch'] == 1
        self._begin(seed)
        return self._observe(), {}

    def _begin(self, seeds):
        self.seeds = np.array(seeds, np.int64)
        self.decision = np.zeros(self.num_envs, int)
        self.ended = np.zeros(self.num_envs, bool)
        self.action = np.zeros((self.num_envs, ACTIONS), np.float32)

    @property
    def episode(self):
        return self.seeds % 1000 + np.arange(self.num_envs)

    def play(self, seeds, actions, whole):
        """As that of `processes.vector`."""
        self._begin(seeds)
        taken = [list(row) if row is not None else [] for row in actions]
        answers = [[] for _ in taken]
        for count in range(1 + max(map(len, taken))):
            for row, wanted in enumerate(taken):
                if count <= len(wanted):
                    self.decision[row] = count
                    self.action[row] = wanted[count - 1] if count else 0
                    seen = {key: value[row] for key, value in self._observe().items()}
                    reward = reward_of(self.episode[row], count, self.action[row])
                    answers[row].append((seen, reward if count else 0, False, False, {}))
        self.ended = np.array([row is None for row in actions])
        return answers

    def step(self, action):
        """After an end the action is ignored and the next episode begins, as gymnasium's vector
        environments do."""
        assert action.dtype == np.float32 and np.abs(action).max() <= 1
        begins = self.ended
        self.seeds = np.where(begins, [processes.following(s) for s in self.seeds], self.seeds)
        self.decision = np.where(begins, 0, self.decision + 1)
        self.action = np.where(begins[:, None], 0, action)
        reward = np.where(begins, 0, reward_of(self.episode, self.decision, self.action))
        ends = terminates(self.episode)
        self.ended = self.decision == np.where(ends, ENDS, LIMIT)
        return self._observe(), reward, self.ended & ends, self.ended & ~ends, {}

    def _observe(self):
        split = np.full(self.num_envs, SPLITS.index(self.split))
        touch = np.concatenate([
            np.stack([split, self.seeds % 10000, self.episode, self.decision], 1), self.action], 1)
        return {
            'touch': np.float32(touch * (not self.missing)),
            'touch_flag': np.full((self.num_envs, 1), not self.missing, np.float32)}

    def close(self):
        self.closed = True


class Experiment(experiment.Experiment):
    """An experiment on this task whose agent tells what it was given: `acted` (a dict of
    exploring, is_first, flag, what `where` tells, and the action, for each call of the policy)
    and `learned` (batches of updates, with their metrics). `made` has the environments.
    interrupted: the number of the update at which Ctrl-C is typed."""

    def __init__(self, folder, *words, method='mummi', interrupted=None):
        super().__init__(helpers.METHODS[method][1], helpers.METHODS[method][0], helpers.settings(
            method, '--logdir', str(folder), '--length', '4', '--batch', '3', '--prefill', '40',
            '--steps', '120', '--train_every', '20', '--eval_every', '40', *words))
        self.interrupted = interrupted
        self.made, self.acted, self.learned, self.replay_seeds = [], [], [], []

    @functools.cached_property
    def description(self):
        return processes.Description(
            gymnasium.spaces.Dict({
                'touch': gymnasium.spaces.Box(-np.inf, np.inf, (4 + ACTIONS,), np.float32),
                'touch_flag': gymnasium.spaces.Box(0, 1, (1,), np.float32)}),
            gymnasium.spaces.Box(-1, 1, (ACTIONS,), np.float32), ('touch',))

    def environments(self, split, count, seed, **_):
        self.made.append(Environments(split, count, seed))
        return self.made[-1]

    def agent(self):
        agent = super().agent()
        policy, train = agent.policy, agent.train

        def recorded_policy(observation, state, exploring):
            random = agent.random.state.numpy(), agent.judging.state.numpy()
            action, after = policy(observation, state, exploring)
            self.acted.append(where(observation['touch'].numpy()) | {
                'exploring': exploring, 'is_first': observation['is_first'].numpy(),
                'flag': observation['touch_flag'].numpy()[:, 0], 'chosen': action.numpy(),
                'told': state['action'].numpy(),
                'drew': [not np.array_equal(one, other.state) for one, other in zip(
                    random, (agent.random, agent.judging))]})
            return action, after

        def recorded_train(batch):
            metrics = train(batch)
            if int(agent.updates) == self.interrupted:
                raise KeyboardInterrupt
            self.learned.append({key: value.numpy() for key, value in batch.items()} | {
                'metrics': {key: float(value) for key, value in metrics.items()}})
            return metrics

        agent.policy, agent.train = recorded_policy, recorded_train
        return agent


@contextlib.contextmanager
def eagerly():
    """Within, tf.functions are plain Python: no graph of these few updates is built."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)



def trained(folder, *words, **options):
    """The experiment of a run in `folder` that has come to its end, with its `trainer` and the
    `replay_seeds` of its updates."""
    experiment = Experiment(folder, '--envs', str(COUNT), *words, **options)
    with eagerly(), training.Trainer(experiment) as trainer:
        sample = trainer.replay.sample

        def recorded(batch, length, seed):
            if isinstance(seed, list):
                experiment.replay_seeds.append(tuple(seed))
            return sample(batch, length, seed)
        trainer.replay.sample = recorded
        trainer.train()
    experiment.trainer = trainer
    return experiment
