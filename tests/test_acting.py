"""Tests of the driver, its episodes and the policy's state, on the stub task."""

import types

import numpy as np
import pytest
import stubs
from stubs import ENDS, LIMIT, Environments, reward_of, terminates, where

import acting
import processes

SEEDS = [11, 22, 34]  # of odd, odd and even episodes: the rows do not end together


def in_turn(seed, count):
    """The last digits of the seeds of `count` episodes of a row, as its environment tells them."""
    seeds = [seed]
    for _ in range(count - 1):
        seeds.append(processes.following(seeds[-1]))
    return [seed % 10000 for seed in seeds]


@pytest.fixture(scope='module')
def driven():
    """(what a random policy was shown and did at each step, finished episodes, steps told)."""
    driver = acting.Driver(Environments('train', 3, 0), action_repeat=2)
    generator, shown, finished, advanced = np.random.default_rng(0), [], [], []

    def act(observation, is_first):
        action = generator.uniform(-1, 1, (3, stubs.ACTIONS)).astype(np.float32)
        shown.append((where(observation['touch']), is_first.copy(), action))
        return action

    driver.reset(SEEDS)
    for _ in range(40):
        finished += driver.step(act)
        advanced.append(driver.advanced)
    return shown, finished, advanced


def test_policy_is_told_the_first_observation_of_each_episode_and_row(driven):
    shown, _, _ = driven
    for told, is_first, _ in shown:
        np.testing.assert_array_equal(is_first, told['decision'] == 0)
    firsts = {tuple(is_first) for _, is_first, _ in shown}
    assert len(firsts) > 3  # the rows begin at different times


def test_entries_are_consecutive_observations_of_one_row_and_episode(driven):
    _, finished, _ = driven
    rows, seen = [], set()
    for row, episode in finished:
        told = where(episode['touch'])
        np.testing.assert_array_equal(told['decision'], np.arange(len(episode['reward'])))
        assert len(set(told['seed'])) == len(set(told['episode'])) == 1
        rows.append(row)
        seen.add((row, told['seed'][0]))
        own = rows.count(row)
        assert told['seed'][0] == in_turn(SEEDS[row], own)[-1]
    assert set(rows) == {0, 1, 2} and len(seen) == len(finished) > 12


def test_an_entry_holds_the_action_and_the_reward_that_led_to_it(driven):
    shown, finished, _ = driven
    taken = {(told['seed'][row], told['episode'][row], told['decision'][row]): action[row]
             for told, _, action in shown for row in range(3)}
    for _, episode in finished:
        told = where(episode['touch'])
        assert episode['reward'][0] == 0 and not episode['action'][0].any()
        np.testing.assert_array_equal(episode['action'], told['action'])
        np.testing.assert_allclose(episode['reward'][1:], reward_of(
            told['episode'], told['decision'], told['action'])[1:], atol=1e-6)
        for t in range(1, len(episode['reward'])):
            np.testing.assert_array_equal(
                episode['action'][t], taken[told['seed'][0], told['episode'][0], t - 1])
        assert episode['reward'].dtype == episode['discount'].dtype == np.float32


def test_discount_is_0_where_the_task_ends_and_1_at_a_time_limit(driven):
    kinds = set()
    for _, episode in driven[1]:
        ends = bool(terminates(where(episode['touch'])['episode'][0]))
        kinds.add(ends)
        assert len(episode['discount']) == 1 + (ENDS if ends else LIMIT)
        assert (episode['discount'][:-1] == 1).all()
        assert episode['discount'][-1] == (0 if ends else 1)
    assert kinds == {True, False}


def test_steps_count_every_decision_and_no_reset(driven):
    shown, _, advanced = driven
    begun = [told['decision'] for told, _, _ in shown[1:]]
    for count, decision in zip(advanced, begun):
        assert count == 2 * np.sum(decision > 0)
    assert min(advanced) < 6 == max(advanced)


def test_reset_drops_what_was_unfinished_and_begins_with_these_seeds():
    driver = acting.Driver(Environments('valid', 2, 0), action_repeat=1)
    act = lambda observation, is_first: np.zeros((2, stubs.ACTIONS), np.float32)
    driver.reset([4, 8])
    for _ in range(3):
        assert driver.step(act) == []
    driver.reset([6, 8], {'miss_ratio': {'touch': 1}})
    assert driver.environments.resets == [([4, 8], None), ([6, 8], {'miss_ratio': {'touch': 1}})]
    finished = [done for _ in range(7) for done in driver.step(act)]
    assert [(row, len(episode['reward'])) for row, episode in finished] == [(0, 6), (1, 8)]
    assert all(not episode['touch'].any() and not episode['touch_flag'].any()
               for _, episode in finished)


class Dying(Environments):
    """Its rows die now and then, and begin the episode of their seed anew."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.random, self.died = np.random.default_rng(1), 0

    def step(self, action):
        _, reward, terminated, truncated, _ = super().step(action)
        again = self.random.random(self.num_envs) < 0.1
        self.died += again.sum()
        self.decision[again], self.action[again], self.ended[again] = 0, 0, False
        alive = ~again
        return self._observe(), reward * alive, terminated & alive, truncated & alive, {
            'again': again, 'steps': np.where(again, 0, 2)}


def test_an_episode_that_begins_anew_in_its_environment_begins_anew_here():
    """Nothing of what was unfinished is kept, and the policy is told; also where it dies in the
    step in which the episode begins anyway."""
    environments = Dying('train', 3, 0)
    driver, finished, told, advanced = acting.Driver(environments, 2), [], [], 0

    def act(observation, is_first):
        told.append((where(observation['touch'])['decision'], is_first.copy()))
        return np.full((3, stubs.ACTIONS), 0.5, np.float32)

    driver.reset(SEEDS)
    for _ in range(120):
        finished += driver.step(act)
        advanced += driver.advanced
        assert advanced == driver.under_way + sum(
            episode['steps'].sum() for _, episode in finished)
    assert environments.died > 20 and len(finished) > 12
    for decision, is_first in told:
        np.testing.assert_array_equal(is_first, decision == 0)
    for _, episode in finished:
        seen = where(episode['touch'])
        np.testing.assert_array_equal(seen['decision'], np.arange(len(episode['reward'])))
        assert len(set(seen['seed'])) == 1 and not episode['action'][0].any()
        assert len(seen['seed']) == 1 + (ENDS if terminates(seen['episode'][0]) else LIMIT)


def test_what_is_kept_of_the_info_is_in_the_episodes_and_else_nothing():
    class Sounding(Environments):
        def reset(self, seed, options=None):
            return super().reset(seed, options)[0], {'sound': self._sound()}

        def step(self, action):
            *rest, _ = super().step(action)
            return *rest, {'sound': self._sound(), 'other': np.zeros(self.num_envs)}

        def _sound(self):
            return np.stack([self.seeds % 10000, self.decision], 1).astype(np.int16)

    act = lambda observation, is_first: np.zeros((2, stubs.ACTIONS), np.float32)
    for keep in [], ['sound'], ['sound', 'smell']:
        driver = acting.Driver(Sounding('valid', 2, 0), 1, keep)
        driver.reset([4, 8])
        finished = [done for _ in range(18) for done in driver.step(act)]
        assert len(finished) > 3
        for _, episode in finished:
            assert 'other' not in episode and ('sound' in episode) == bool(keep)
            if keep:
                assert episode['sound'].dtype == np.int16
                assert episode['sound'].tolist() == [
                    [where(episode['touch'])['seed'][0], t] for t in range(len(episode['reward']))]


class Counter:
    """An agent whose state counts its decisions; its action tells whether it explores."""

    def __init__(self):
        self.calls = []

    def initial(self, count):
        return {'count': np.zeros(count)}

    def policy(self, observation, state, exploring):
        count = np.where(observation['is_first'].numpy(), 0, state['count']) + 1
        self.calls.append((where(observation['touch'].numpy()), count, exploring))
        action = np.full((len(count), stubs.ACTIONS), 0.5 if exploring else 0, np.float32)
        return types.SimpleNamespace(numpy=lambda: action), {'count': count}


@pytest.mark.parametrize('exploring', [True, False])
def test_policy_carries_its_state_through_an_episode_and_no_further(exploring):
    agent = Counter()
    driver = acting.Driver(Environments('train', 2, 0), action_repeat=1)
    driver.reset([3, 4])
    policy = acting.AgentPolicy(agent, 2, exploring)
    episodes = [done for _ in range(30) for done in driver.step(policy)]
    for told, count, asked in agent.calls:
        np.testing.assert_array_equal(count, told['decision'] + 1)
        assert asked is exploring
    for _, episode in episodes:
        assert (episode['action'][1:] == (0.5 if exploring else 0)).all()


def test_evaluation_plays_the_seeds_by_the_mode_from_the_beginning_of_each():
    agent = Counter()
    driver = acting.Driver(Environments('valid', 2, 0), action_repeat=1)
    episodes = list(acting.evaluate(agent, driver, [5, 6, 7], {'miss_ratio': {'touch': 0}}))
    told = [where(episode['touch']) for episode in episodes]
    assert [t['seed'][0] for t in told] == [5, 6, 7]
    assert [t['episode'][0] for t in told] == [5, 7, 7]  # the first of each, and its row's number
    assert not any(asked for _, _, asked in agent.calls)
    for t, count, _ in agent.calls:
        np.testing.assert_array_equal(count, t['decision'] + 1)


def test_evaluation_gives_the_first_episode_of_each_seed_however_long_the_others_are():
    class Uneven(Environments):
        """The first row's episodes end after each decision, the second's as ever."""

        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            self.ended[0] = self.decision[0] > 0
            return observation, reward, terminated, truncated | self.ended, info

    driver = acting.Driver(Uneven('valid', 2, 0), action_repeat=1)
    episodes = list(acting.evaluate(Counter(), driver, [5, 6]))
    assert [where(episode['touch'])['seed'][0] for episode in episodes] == [5, 6]
    assert [len(episode['reward']) for episode in episodes] == [2, stubs.LIMIT + 1]


def test_summary_is_the_sum_of_rewards_the_steps_and_the_missing_share():
    episode = {
        'reward': np.array([0, 1, 2.5, -1], np.float32),
        'touch_flag': np.array([[1], [0], [1], [1]], np.float32),
        'steps': np.array([0, 3, 3, 1])}
    assert acting.summary(episode, ['touch']) == {
        'return': 2.5, 'length': 7, 'missing_touch': 0.25}


class CutShort(Environments):
    """Counts its steps: the last decision of an episode is one step long."""

    def step(self, action):
        *outcome, info = super().step(action)
        ended = outcome[2] | outcome[3]
        return *outcome, info | {'steps': np.where(ended, 1, 2)}


def test_steps_are_those_that_the_environments_made():
    driver = acting.Driver(CutShort('train', 2, 0), action_repeat=2)
    driver.reset([3, 4])
    told, episodes = 0, []
    for _ in range(40):
        episodes += driver.step(lambda *_: np.zeros([2, stubs.ACTIONS], np.float32))
        told += driver.advanced
    under_way = sum(sum(int(entry['steps']) for entry in entries) for row, entries in enumerate(
        driver.entries) if not driver.ended[row])
    assert told == under_way + sum(acting.summary(e, ['touch'])['length'] for _, e in episodes)
    for _, episode in episodes:
        assert episode['steps'].tolist() == [0, *[2] * (len(episode['steps']) - 2), 1]
