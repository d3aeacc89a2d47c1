"""An agent in parallel environments: driven, and its episodes summed up."""

import numpy as np
import tensorflow as tf

from config import flag


class Driver:
    """Acts in parallel environments and hands over finished episodes.

    environments: a gymnasium vector environment that resets at the step after an end. Steps are
    environment control steps: those that an environment counts in its info as `steps`, or else
    action_repeat a decision. keep: what of an environment's info episodes hold beside
    observations, where it is there at all; the replay would have no use for it.
    """

    def __init__(self, environments, action_repeat, keep=()):
        self.environments, self.action_repeat, self.keep = environments, action_repeat, keep
        self.count = environments.num_envs
        self.begun = False

    def reset(self, seeds, options=None):
        """Begin an episode in every environment; what was unfinished is dropped."""
        self.observation, info = self.environments.reset(
            seed=[int(s) for s in seeds], options=options)
        self.is_first = np.ones(self.count, bool)
        self.ended = np.zeros(self.count, bool)
        self.entries = [[] for _ in range(self.count)]
        self.begun = True
        zeros = np.zeros(self.count, np.float32)
        action = np.zeros(self.environments.action_space.shape, np.float32)
        for row in range(self.count):
            self._append(row, action, zeros, zeros.astype(bool), zeros, info)

    def step(self, act):
        """One decision of every environment: act(observation, is_first) -> actions [N, A] float32.
        Returns the finished episodes as (row, arrays [T + 1, ...])."""
        action = act(self.observation, self.is_first)
        self.observation, reward, terminated, truncated, info = self.environments.step(action)
        self.is_first = self.ended
        self.ended = terminated | truncated
        steps = np.where(self.is_first, 0, info.get('steps', self.action_repeat))
        self.advanced = int(np.sum(steps))  # by this decision; a reset takes none
        self.cut = np.asarray(info.get('cut', np.zeros(self.count, bool)))  # see StaggeredStart
        finished = []
        for row in range(self.count):
            if self.is_first[row]:
                self.entries[row] = []
            self._append(row, action, reward, terminated, steps, info)
            if self.ended[row]:
                finished.append((row, {
                    key: np.stack([entry[key] for entry in self.entries[row]])
                    for key in self.entries[row][0]}))
        return finished

    def _append(self, row, action, reward, terminated, steps, info):
        """Store an entry: an observation with the action, reward, discount and number of steps
        that led to it; 0, 0, 1 and 0 for the first of an episode."""
        first = self.is_first[row]
        entry = {key: value[row].copy() for key, value in self.observation.items()}
        entry['action'] = np.zeros_like(action[row]) if first else action[row].copy()
        entry['reward'] = np.float32(0 if first else reward[row])
        entry['discount'] = np.float32(0 if terminated[row] else 1)
        entry['steps'] = np.int32(steps[row])
        entry |= {key: info[key][row].copy() for key in self.keep if key in info}
        self.entries[row].append(entry)


class AgentPolicy:
    """The agent as a policy for a `Driver`, with the state that it carries from step to step."""

    def __init__(self, agent, count, exploring):
        self.agent, self.exploring = agent, exploring
        self.state = agent.initial(count)

    def __call__(self, observation, is_first):
        # Tensors of fixed type and shape: numpy or Python arguments would trace anew.
        observation = {key: tf.constant(value) for key, value in observation.items()}
        observation['is_first'] = tf.constant(is_first)
        action, self.state = self.agent.policy(observation, self.state, self.exploring)
        return action.numpy()


def summary(episode, sensors):
    """Return, length in steps, and the missing fraction of each sensor, of an episode."""
    row = {
        'return': float(episode['reward'].sum()),
        'length': int(episode['steps'].sum())}
    for sensor in sensors:
        row[f'missing_{sensor}'] = float(1 - episode[flag(sensor)].mean())
    return row


def evaluate(agent, driver, seeds, options=None):
    """An episode by the mode of the policy for each of `seeds`, which decide the environments'
    randomness. options: of the environments' reset, as {'miss_ratio': 0.1}. Yields the episodes'
    arrays, in the order of the seeds."""
    seeds = list(seeds)
    for begin in range(0, len(seeds), driver.count):
        group = seeds[begin:begin + driver.count]
        driver.reset(group + [group[-1]] * (driver.count - len(group)), options)
        policy = AgentPolicy(agent, driver.count, exploring=False)
        done = {}
        while len(done) < driver.count:
            for row, episode in driver.step(policy):
                done.setdefault(row, episode)
        for row in range(len(group)):
            yield done[row]
