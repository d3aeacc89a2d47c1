"""python several_devices.py FOLDER COUNT METHOD...: for each method three updates on one device and
the same on COUNT, logical ones of the processor, which a process can be given only when it
begins; what was learned is compared, and printed as JSON: method -> name -> difference."""

import functools
import json
import os
import sys
import types

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import helpers
import numpy as np
import tensorflow as tf

import devices
import replicas
import tools
import training
from actions import Continuous
from agent import Agent
from experiment import Progress

BATCH, LENGTH = 4, 3
SHAPES = {sensor: helpers.SHAPES[sensor] for sensor in ('depth', 'touch')}
# The gradients are clipped, and some shares' divergence is below the free nats.
WORDS = ['--clip', '1', '--horizon', '2', '--batch', str(BATCH)]
OWN = {
    'mummi': ['--withhold', '0.5', '--pcont', '--weight_decay', '0.1'],
    'cvrl': ['--use_sac', '--kl_balance', '0.5'],
    'dreamer': ['--slow_value', '0.1', '--imagine_every', '2']}


class Whole:
    """Random numbers of an update on one device, the same at each; kept for `Share`."""

    def __init__(self):
        self.kept = []

    def normal(self, shape):
        self.kept.append(np.random.default_rng(len(self.kept)).normal(size=shape))
        return tf.constant(self.kept[-1], tf.float32)

    def uniform(self, shape):
        self.kept.append(np.random.default_rng(len(self.kept)).uniform(size=shape))
        return tf.constant(self.kept[-1], tf.float32)


class Share:
    """What replica `number` has of the numbers that a `Whole` kept."""

    def __init__(self, kept, number):
        self.kept, self.number = iter(kept), number

    def normal(self, shape):
        values = next(self.kept)
        for axis, size in enumerate(shape):
            if size < values.shape[axis]:
                values = np.split(values, values.shape[axis] // size, axis)[self.number]
        assert list(values.shape) == list(shape)
        return tf.constant(values, tf.float32)

    uniform = normal


@functools.cache  # a second one in a process would number its messages as the first
def all_devices():
    return replicas.strategy(helpers.settings('dreamer', *WORDS, '--devices', 'all'))


def build(method, strategy, *words, count=1):
    """An agent; on one device it learns the frames for pictures that `count` shares learn."""
    tools.seed_everything(0)
    config = helpers.settings(method, *WORDS, *OWN[method], '--devices', 'all', *words)
    agent = Agent(config, helpers.METHODS[method][0], SHAPES, Continuous(helpers.ACTIONS, 0.3),
                  strategy or all_devices())
    helpers.shake(agent.world, 0.03)
    if pictures := agent.learners.get('pictures'):
        shares = count if agent.strategy.num_replicas_in_sync == 1 else 1
        frames = pictures.frames // max(count, agent.strategy.num_replicas_in_sync)
        pictures.chosen = lambda total: tf.concat([
            tf.range(frames) + share * (total // shares) for share in range(shares)], 0)
    return agent


def batches():
    for seed in range(3):
        batch = helpers.tensors(helpers.sequences(BATCH, LENGTH, seed=seed))
        yield {key: value for key, value in batch.items() if not key.startswith('image')}


def difference(found, wanted):
    """The largest difference of two arrays, in parts of the largest value or of 1e-3."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    return float(np.abs(found - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-3))


def compared(method, count):
    """name -> difference of the two ways, of each loss and gradient norm, and of the weights."""
    losses = []
    tf.config.run_functions_eagerly(True)
    one = build(method, tf.distribute.get_strategy(), count=count)
    before = helpers.values(one.variables)
    for batch in batches():
        one.random = Whole()
        losses.append(one.train(batch))
        noise = one.random
    tf.config.run_functions_eagerly(False)
    replicas.streams = lambda random, many: [Share(noise.kept, i) for i in range(many)]
    several = build(method, None)
    assert several.strategy.num_replicas_in_sync == count
    found = {'losses': 0.0, 'copies': 0.0, 'weights': 0.0}
    for batch, wanted in zip(batches(), losses):
        metrics = several.train(batch)
        for key, value in wanted.items():
            if key.endswith(('_loss', '_gradient', 'divergence')):
                found['losses'] = max(found['losses'], difference(metrics[key], value))
    moved = []
    for old, variable, wanted in zip(before, several.variables, one.variables, strict=True):
        found['weights'] = max(found['weights'], difference(variable, wanted))
        moved.append(not np.array_equal(old, wanted))
        for copy in getattr(variable, 'values', []):
            found['copies'] = max(found['copies'], difference(copy, variable))
    found['moved'] = float(np.mean(moved))
    return several, found


def exchanged(method, several, folder):
    """Whether a checkpoint of several devices restores on one, and the other way round."""
    one = build(method, tf.distribute.get_strategy())
    tools.Checkpoints(folder, Progress(several)).save(1)
    assert tools.Checkpoints(folder, Progress(one)).restore()
    same = [np.array_equal(*pair) for pair in zip(one.variables, several.variables)]
    for variable in one.trainable_variables:
        variable.assign(variable + 1)
    tools.Checkpoints(folder, Progress(one)).save(2)
    assert tools.Checkpoints(folder, Progress(several)).restore()
    for pair in zip(several.trainable_variables, one.trainable_variables):
        same += [np.array_equal(copy, pair[1]) for copy in pair[0].values]
    return all(same)


def rounded(method):
    """Whether the rounded copies for acting follow the weights on every replica."""
    agent = build(method, None, '--precision', 'bfloat16')
    for variable in agent.trainable_variables:
        variable.assign(variable + 1)
    agent.refresh()
    outside = [np.array_equal(copy, tf.cast(reference.deref(), tf.bfloat16))
               for reference, mirrored in agent.precision.copies.items()
               for copy in mirrored.values]
    for variable in agent.trainable_variables:
        variable.assign(variable + 1)
    tf.function(lambda: agent.strategy.run(agent.precision.refresh))()
    inside = [np.array_equal(copy, tf.cast(reference.deref(), tf.bfloat16))
              for reference, mirrored in agent.precision.copies.items()
              for copy in mirrored.values]
    return all(outside) and all(inside) and len(inside) > 20


def logged(method):
    """Whether an update that overflowed in float16 is a row of the log as any other."""
    rows, agent = [], build(method, None, '--precision', 'float16')
    training.Trainer._log(types.SimpleNamespace(
        agent=agent, step=0, seconds=lambda: 0.0, logger=types.SimpleNamespace(update=rows.append),
        health=types.SimpleNamespace(lines=lambda values: [])), 1, {'model_gradient': np.inf})
    return len(rows) == 1


def main(folder, count, *methods):
    processor, = tf.config.list_physical_devices('CPU')
    tf.config.set_logical_device_configuration(
        processor, [tf.config.LogicalDeviceConfiguration()] * int(count))
    # Its passes over the graph take longer than these few updates.
    tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': True})
    devices.set_up()
    results = {}
    for method in methods:
        several, results[method] = compared(method, int(count))
    results['exchanged'] = exchanged(method, several, folder)
    results['rounded'] = rounded(method)
    results['logged'] = logged(method)
    print(json.dumps(results))


if __name__ == '__main__':
    main(*sys.argv[1:])
