"""An agent in parallel environments: driven, and its episodes summed up."""

import numpy as np
import tensorflow as tf

import processes
import stopping
from config import UserError, flag


class NotFinite(UserError):
    """A number of the agent's is not finite."""


class Driver:
    """Acts in parallel environments and hands over finished episodes.

    environments: a gymnasium vector environment that resets at the step after an end, by the seed
    `processes.following`. Steps are environment control steps: those that an environment counts
    in its info as `steps`, or else action_repeat a decision. An environment that says `again` in
    its info has begun its episode anew; what was unfinished is dropped. keep: what of an
    environment's info episodes hold beside observations, where it is there at all; the replay
    would have no use for it.
    """

    def __init__(self, environments, action_repeat, keep=()):
        self.environments, self.action_repeat, self.keep = environments, action_repeat, keep
        self.count = environments.num_envs
        self.begun = False

    def reset(self, seeds, options=None):
        """Begin an episode in every environment; what was unfinished is dropped."""
        self.seeds = [int(seed) for seed in seeds]
        self.observation, info = self.environments.reset(seed=self.seeds, options=options)
        self.is_first = np.ones(self.count, bool)
        self.ended = np.zeros(self.count, bool)
        self.entries = [[] for _ in range(self.count)]
        self.taken = [[] for _ in range(self.count)]  # the actions of the episodes under way
        self.labels = [''] * self.count  # what these episodes were begun by
        self.whole = np.zeros(self.count, bool)  # whether an episode has ended
        self.begun = True
        action = np.zeros(self.environments.action_space.shape, np.float32)
        for row in range(self.count):
            self._append(row, self._row(row, info), action[row], 0, False, 0)

    def step(self, act, label=''):
        """One decision of every environment: act(observation, is_first) -> actions [N, A] float32.
        Returns the finished episodes as (row, arrays [T + 1, ...]); labels[row] is then the label
        of the first of its decisions."""
        stopping.check()
        action = act(self.observation, self.is_first)
        # Where no answer comes, the policy has decided on what is not stored: nothing goes on.
        self.begun = False
        self.observation, reward, terminated, truncated, info = self.environments.step(action)
        self.begun = True
        again = np.array(info.get('again', np.zeros(self.count)), bool)
        begins, self.is_first = self.ended, self.ended | again
        self.ended = terminated | truncated
        # Those of the rows that tell theirs: gymnasium fills up the others with zeros.
        told = info.get('_steps', np.full(self.count, 'steps' in info))
        steps = np.where(told, info.get('steps', 0), self.action_repeat)
        steps = np.where(self.is_first, 0, steps)
        self.advanced = int(np.sum(steps))  # by this decision; a reset takes none
        self.cut = np.asarray(info.get('cut', np.zeros(self.count, bool)))  # see StaggeredStart
        finished = []
        for row in range(self.count):
            if begins[row]:
                self.seeds[row] = processes.following(self.seeds[row])
            elif again[row]:
                self.advanced -= self._under_way(row)
            if self.is_first[row]:
                self.entries[row], self.taken[row] = [], []
            else:
                if not self.taken[row]:
                    self.labels[row] = label
                self.taken[row].append(action[row])
            self._append(row, self._row(row, info), action[row], reward[row], terminated[row],
                         steps[row])
            if self.ended[row]:
                self.whole[row] = True
                finished.append((row, {
                    key: np.stack([entry[key] for entry in self.entries[row]])
                    for key in self.entries[row][0]}))
        return finished

    def last_actions(self):
        """The actions that led to what is seen now, [N, A]; zeros where an episode begins."""
        blank = np.zeros(self.environments.action_space.shape, np.float32)
        return np.stack([taken[-1] if taken else blank[row]
                         for row, taken in enumerate(self.taken)]).astype(np.float32)

    def _row(self, row, info):
        seen = {key: value[row] for key, value in self.observation.items()}
        return seen | {key: info[key][row] for key in self.keep if key in info}

    def _append(self, row, observation, action, reward, terminated, steps):
        """Store an entry: an observation with the action, reward, discount and number of steps
        that led to it; 0, 0, 1 and 0 for the first of an episode."""
        first = not self.entries[row]
        entry = {key: value.copy() for key, value in observation.items()}
        entry['action'] = np.zeros_like(action) if first else action.copy()
        entry['reward'] = np.float32(0 if first else reward)
        entry['discount'] = np.float32(0 if terminated else 1)
        entry['steps'] = np.int32(steps)
        self.entries[row].append(entry)

    # --- An episode that goes on in another process ---

    def _under_way(self, row):
        """Steps of the unfinished episode of a row."""
        return 0 if self.ended[row] else sum(int(entry['steps']) for entry in self.entries[row])

    @property
    def under_way(self):
        """Steps of all unfinished episodes."""
        return sum(self._under_way(row) for row in range(self.count)) if self.begun else 0

    def state(self):
        """name -> array, from which `go_on` brings the unfinished episodes back: their seeds, and
        the actions and rewards of each; what was observed is not among them."""
        state = {'seeds': np.array(self.seeds, np.int64), 'ended': self.ended,
                 'is_first': self.is_first, 'whole': self.whole, 'labels': np.array(self.labels)}
        for row in range(self.count):
            entries = self.entries[row][1:] * (not self.ended[row])
            state[f'actions_{row}'] = np.array(self.taken[row] * (not self.ended[row]))
            state[f'rewards_{row}'] = np.array([entry['reward'] for entry in entries], np.float32)
        return state

    def go_on(self, state):
        """Play the unfinished episodes of a `state` again, by their seeds and actions. False, with
        nothing begun, where the environments are not as they were: their rewards say it."""
        actions = [None if ended else list(state[f'actions_{row}'])
                   for row, ended in enumerate(state['ended'])]
        played = self.environments.play(state['seeds'], actions, state['whole'])
        if played is None or any(
                (terminated or truncated) or np.float32(reward) != wanted
                for row, answers in enumerate(played)
                for (_, reward, terminated, truncated, _), wanted in zip(
                    answers[1:], state[f'rewards_{row}'])):
            return False
        self.begun, self.seeds = True, [int(seed) for seed in state['seeds']]
        self.ended, self.is_first, self.whole = (
            state[name] for name in ('ended', 'is_first', 'whole'))
        self.labels = [str(label) for label in state.get('labels', [''] * self.count)]
        self.entries = [[] for _ in range(self.count)]
        self.taken = [list(taken or ()) for taken in actions]
        blank = np.zeros(self.environments.action_space.shape, np.float32)
        for row, answers in enumerate(played):
            for action, (observation, reward, terminated, _, info) in zip(
                    [blank[row], *self.taken[row]], answers):
                steps = info.get('steps', self.action_repeat) if self.entries[row] else 0
                self._append(row, observation, action, reward, terminated, steps)
        self.observation = {
            key: np.stack([answers[-1][0][key] for answers in played])
            for key in played[0][0][0]}
        return True


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
        action = action.numpy()
        if not np.isfinite(action).all():
            raise NotFinite('an action is not finite')
        return action


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
