"""Tests of the schedule of a run, changed and killed at any time, and of where a run begins."""

import dataclasses
import types

import helpers
import numpy as np
import pytest
import stubs
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import actions
import processes
import variants
from config import Config, Method, UserError
from environments.spaces import OneHot
from experiment import Experiment, Progress, Trained

# --- The schedule --------------------------------------------------------------------------


def schedule(prefill, pretrain, train_every, train_updates):
    return Config(prefill=prefill, pretrain=pretrain, train_every=train_every,
                  train_updates=train_updates)


SCHEDULES = st.builds(
    schedule, st.integers(1, 60), st.integers(0, 9), st.integers(1, 40), st.integers(1, 9))


def restored(saved):
    """Another `Progress`, with the values of `saved`, as from a checkpoint."""
    progress = Progress(tf.Module())
    for variable, value in zip(progress.variables, saved, strict=True):
        variable.assign(value)
    return progress


class Plain:
    """The schedule, a step at a time: at which step the next phase comes, by which settings."""

    def __init__(self):
        self.due, self.next, self.config = 0, None, None

    def advance(self, step, config):
        if self.next is None and step >= config.prefill:
            self.due, self.next = config.pretrain, config.prefill + config.train_every
            self.config = config
        while self.next is not None and step >= self.next:
            self.due += self.config.train_updates
            self.next += self.config.train_every
        if self.next is not None and config.train_every != self.config.train_every:
            last = self.next - self.config.train_every
            self.next = max(step, last) + config.train_every
        self.config = self.config and config
        return self.due


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(
    SCHEDULES, st.lists(st.integers(1, 50), max_size=6), st.booleans(), st.integers(0, 30)),
    min_size=1, max_size=5))
def test_due_updates_are_those_of_a_plain_loop_whatever_is_changed_and_when(sessions):
    """Sessions: settings, the steps between savings, whether a kill undoes the last saving, and
    the steps of unfinished episodes, which every end of a session loses."""
    progress, plain, step, saved = Progress(tf.Module()), Plain(), 0, None
    for config, advances, killed, lost in sessions:
        for advance in [0, *advances]:
            saved = [variable.numpy() for variable in progress.variables], dict(vars(plain))
            step += advance
            before = int(progress.due)
            assert progress.advance(step, config) == plain.advance(step, config)
            assert int(progress.due) >= before
        if killed:
            progress = restored(saved[0])
            vars(plain).update(saved[1])
        else:
            progress = restored([variable.numpy() for variable in progress.variables])
        step = max(0, step - lost)


@settings(max_examples=50, deadline=None)
@given(SCHEDULES, st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=20))
def test_kills_change_nothing_of_what_is_due_in_the_end(config, history):
    progress, step = Progress(tf.Module()), 0
    for advance, killed in history:
        saved = [variable.numpy() for variable in progress.variables]
        step += advance
        progress.advance(step, config)
        if killed:
            progress = restored(saved)
    due = progress.advance(step, config)
    wanted = config.pretrain + (step - config.prefill) // config.train_every * config.train_updates
    assert due == (wanted if step >= config.prefill else 0)


@settings(max_examples=50, deadline=None)
@given(SCHEDULES, SCHEDULES, st.integers(60, 500))
def test_changed_settings_ask_for_nothing_of_the_past(before, after, step):
    progress = Progress(tf.Module())
    due = progress.advance(step, before)
    resumed = restored([variable.numpy() for variable in progress.variables])
    assert resumed.begun and resumed.advance(step, after) == due
    # An interval as before goes on from the last phase, a new one begins here.
    if after.train_every != before.train_every:
        assert resumed.advance(step + after.train_every - 1, after) == due
    assert resumed.advance(step + after.train_every, after) == due + after.train_updates


def test_shorter_interval_does_not_divide_the_steps_since_the_last_phase():
    progress = Progress(tf.Module())
    assert progress.advance(5000, schedule(5000, 100, 10000, 100)) == 100
    assert progress.advance(14000, schedule(5000, 100, 10000, 100)) == 100
    changed = schedule(5000, 100, 10, 100)
    assert progress.advance(14000, changed) == 100
    assert progress.advance(14010, changed) == 200


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2), st.lists(st.integers(1, 60), min_size=1))
def test_an_evaluation_is_due_at_each_multiple_that_was_passed_and_once_at_the_end(
        every, episodes, advances):
    # A phase of updates at every step, so that the last phase is where the run is.
    config = Config(eval_every=every, eval_episodes=episodes, steps=sum(advances), prefill=1,
                    train_every=1)
    progress, step, evaluated = Progress(tf.Module()), 0, []
    for advance in advances:
        passed = any(number % every == 0 for number in range(step + 1, step + advance + 1))
        step += advance
        progress.advance(step, config)
        due = progress.evaluation_due(step, config)
        assert due == (episodes > 0 and (passed or step == config.steps))
        if due:
            evaluated.append(step)
            progress.evaluated.assign(step)
            assert not progress.evaluation_due(step, config)
    assert not episodes or evaluated[-1] == config.steps


# --- Where a run begins ----------------------------------------------------------------------


def experiment(*words):
    representation, method = helpers.METHODS['dreamer']
    return Experiment(method, representation, helpers.settings('dreamer', *words))


def test_every_purpose_number_environment_and_seed_has_a_stream_of_its_own():
    drawn = [
        tuple(experiment('--seed', str(seed)).seeds(purpose, number, count))
        for seed in (0, 1) for purpose in ('collect', 'evaluate', 'train', 'valid')
        for number in (0, 1) for count in (3,)]
    assert len({seed for seeds in drawn for seed in seeds}) == 16 * 3
    assert list(experiment().seeds('collect', 1, 2)) == list(drawn[1][:2])


def test_environments_are_of_the_split_and_the_seed_that_are_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr(processes, 'vector', lambda *arguments: calls.append(arguments) or 'made')
    monkeypatch.setattr(processes, 'describe', lambda config: ('described', config.task))
    made = experiment()
    assert made.environments('valid', 3, 17) == 'made'
    assert calls == [(made.config, 'valid', 3, ('described', 'dmc_walker_walk'), 17)]
    # Those of a trained agent have whole episodes from the first on.
    monkeypatch.setattr(type(made), 'restored', lambda self: (None, 0, None))
    assert made.config.stagger
    Trained(made).environments(2, 'train')
    settings, *rest = calls[1]
    assert settings == dataclasses.replace(made.config, stagger=False)
    assert rest == ['train', 2, ('described', 'dmc_walker_walk'), 0]


def test_agents_of_one_seed_are_the_same_and_of_another_are_not(tmp_path):
    first, again, other = (
        stubs.Experiment(tmp_path, '--seed', seed).agent() for seed in ('3', '3', '4'))
    assert all(helpers.unchanged(helpers.values(first.variables), again.variables))
    same = helpers.unchanged(
        helpers.values(first.world.trainable_variables), other.world.trainable_variables)
    kernels = [v.shape.rank > 1 for v in first.world.trainable_variables]
    assert not any(np.array(same)[kernels])
    assert not np.array_equal(first.random.state, other.random.state)
    assert first.shapes == {'touch': (6,)} and first.actions.size == 2


def test_an_experiment_without_a_checkpoint_has_no_agent_to_judge(tmp_path):
    with pytest.raises(UserError, match='no checkpoint in'):
        stubs.Experiment(tmp_path).restored()


def test_options_of_sensors_and_actions_that_the_task_has_not_are_told(tmp_path):
    planner = types.SimpleNamespace(planner=types.SimpleNamespace(advice=lambda: None))

    def said(*words):
        return [line for line in stubs.Experiment(tmp_path, *words).advice(planner)
                if 'does nothing' in line]
    assert not said('--miss_ratio', 'touch=0.3', '--sensor_loss', 'reconstruct')
    assert said(
        '--miss_ratio', 'image=0.3,touch=0.1', '--sensor_loss', 'depth=reconstruct',
        '--explore_epsilon', '0.2') == [
        '--explore_epsilon is for actions that are choices, and does nothing: those of '
        'dmc_walker_walk are numbers',
        '--miss_ratio of image does nothing: dmc_walker_walk has touch',
        '--sensor_loss of depth does nothing: dmc_walker_walk has touch']
    config = helpers.settings('mummi', '--task', 'gym_CartPole-v1', '--explore_noise', '0.1')
    choices = actions.of(OneHot(2), config)
    usual = variants.usual(config.task, config.preset)
    assert choices.advice(config, usual) == (
        '--explore_noise is for actions that are numbers, and does nothing: those of '
        'gym_CartPole-v1 are choices')
    assert choices.advice(dataclasses.replace(config, explore_noise=0.3), usual) is None
    # What a method has for its own default, nobody typed.
    own = variants.usual(config.task, config.preset, Method('mine', explore_noise=0.1))
    assert choices.advice(config, own) is None
