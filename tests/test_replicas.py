"""Several devices share an update: the same is learned as on one."""

import dataclasses
import json
import os
import subprocess
import sys

import helpers
import numpy as np
import pytest
import stubs
import tensorflow as tf

import commandline
import dry_run
import replicas
import training
from config import UserError


@pytest.mark.parametrize('words', [('2', 'cvrl', 'dreamer'), ('4', 'mummi')])
def test_several_devices_learn_what_one_does(tmp_path, words):
    """Losses, norms and weights after three updates, copies of weights, checkpoints."""
    script = os.path.join(os.path.dirname(__file__), 'several_devices.py')
    ended = subprocess.run(
        [sys.executable, script, str(tmp_path), *words], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    for method in words[1:]:
        assert found[method]['losses'] < 1e-4, found
        # Adam divides by the size of a gradient, so it makes more of the rounding of small ones.
        assert found[method]['weights'] < 1e-3, found
        assert found[method]['copies'] == 0 and found[method]['moved'] > 0.9, found
    assert found['exchanged'] and found['rounded'] and found['logged']


def test_on_one_device_nothing_is_shared():
    values, batch = [tf.constant([1.0, 2.0]), tf.constant(3.0)], {'x': tf.zeros([3, 2])}
    variable, strategy = tf.Variable(1.0), replicas.strategy(helpers.settings('mummi'))
    assert replicas.averaged(values) is values and replicas.gathered(values[0]) is values[0]
    assert replicas.own(variable) is variable and replicas.count() == 1 and not replicas.number()
    random = tf.random.Generator.from_seed(0)
    given = replicas.run(strategy, lambda *both: both, batch, random)
    assert given[0] is batch and given[1] is random


@pytest.mark.parametrize('flags', [[1, 1], [0, 0]])
def test_a_share_may_have_nothing_of_a_sensor(flags, monkeypatch, eager):
    """The second share of two; the first has two steps, one of them with the sensor."""
    ahead, code, mean = (helpers.normals(1, 2, 4, seed=seed) for seed in range(3))
    other = {1: np.float32([1, 0]), 2: ahead[0]}  # by the rank of what is gathered
    monkeypatch.setattr(replicas, 'number', lambda: 1)
    monkeypatch.setattr(
        replicas, 'gathered', lambda rows: tf.concat([other[len(rows.shape)], rows], 0))
    representation = helpers.build('mummi').world.representation
    found = representation.bound(*map(tf.constant, (code, mean, np.float32([flags]))))
    wanted = np.zeros((1, 2))
    if all(flags):
        ratios = -np.sum((code[0][:, None] - np.concatenate([ahead[0][:1], mean[0]])) ** 2, -1)
        wanted[0] = ratios[[0, 1], [1, 2]] - np.log(np.exp(ratios).sum(1))
    helpers.close(found, wanted)


def test_streams_of_replicas_differ_and_move_on_and_begin_again_by_the_seed():
    def drawn():
        random = tf.random.Generator.from_seed(3)
        streams = replicas.streams(random, 3) + replicas.streams(random, 3)
        return [value for stream in streams for value in (
            *stream.normal([2]).numpy(), *stream.normal([2]).numpy(), *stream.uniform([2]).numpy())]
    found = drawn()
    assert len(set(found)) == len(found) and found == drawn()
    whole = replicas.streams(tf.random.Generator.from_seed(3), 1)[0].uniform(
        [100], maxval=4, dtype=tf.int32)
    assert set(whole.numpy()) == {0, 1, 2, 3}


def test_a_batch_that_cannot_be_shared_is_a_line(monkeypatch):
    monkeypatch.setattr(replicas.devices, 'all_of_a_kind', lambda: ['CPU:0', 'CPU:1', 'CPU:2'])
    config = helpers.settings('mummi', '--devices', 'all', '--batch', '50')
    with pytest.raises(UserError, match='--batch 50 .* 3 devices .* type --batch 48 or 51'):
        replicas.strategy(config)
    with pytest.raises(UserError, match='type --batch 3$'):
        replicas.strategy(helpers.settings('mummi', '--devices', 'all', '--batch', '2'))
    for judging in 'test', 'inspect':  # acts, and that is done by one
        judged = dataclasses.replace(config, **{judging: True})
        assert replicas.strategy(judged).num_replicas_in_sync == 1


def test_a_run_whose_batch_cannot_be_shared_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(replicas.devices, 'all_of_a_kind', lambda: ['CPU:0', 'CPU:1'])
    experiment = stubs.Experiment(tmp_path / 'run', '--devices', 'all')  # with a batch of 3
    for begin in training.Trainer, dry_run.show:
        with pytest.raises(UserError, match='--batch 3 cannot be shared'):
            begin(experiment)
    assert not (tmp_path / 'run').exists() and not experiment.made


def test_xla_is_for_one_device():
    words = ['--preset', 'debug', '--logdir', 'unused', '--no-natural', '--xla']
    with pytest.raises(UserError, match='--xla compiles for one device'):
        commandline.parse(helpers.METHODS['mummi'][1], [*words, '--devices', 'all'])
