"""One update on several devices: each has a replica of all variables and a share of the batch.

What learning does is written for one device, and asks this file in the few places where a share is
not the whole: gradients (`optimisers.minimise`), variables that an update assigns (`own`), means
that something nonlinear is done to (`averaged`), and the negatives of a contrastive bound
(`gathered`). On one device each of them gives back what it is given.

A loss is a mean over the replica's share, so the whole batch's loss is the mean of the replicas';
what has crossed between them has a gradient to all of them, so the mean of their gradients is the
whole one's.
"""

import tensorflow as tf

import devices
from config import UserError


def strategy(config):
    """The `tf.distribute.Strategy` under which an agent's variables are made and updated: with
    `--devices all` over all devices of the kind that computes, where there are several and the run
    is not only judged, which is acting.

    Raises UserError where the batch cannot be shared equally.
    """
    learns = not config.judging
    names = devices.all_of_a_kind() if config.devices == 'all' and learns else []
    if len(names) < 2:
        return tf.distribute.get_strategy()
    if config.batch % len(names):
        below = config.batch // len(names) * len(names)
        near = [str(size) for size in (below, below + len(names)) if size]
        raise UserError(
            f'--batch {config.batch} cannot be shared equally by the {len(names)} devices of '
            f'--devices all; type --batch {" or ".join(near)}')
    return tf.distribute.MirroredStrategy(names)


def count():
    """How many replicas share the update that this is called in; 1 elsewhere."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def number():
    """Which of them this is called in, from 0."""
    return 0 if count() == 1 else int(tf.get_static_value(
        tf.distribute.get_replica_context().replica_id_in_sync_group))


def own(variable):
    """The replica's own copy of a variable, to be assigned: each replica makes the same change to
    its copy. The variable itself elsewhere, whose assignment reaches all copies."""
    if count() == 1 or tf.distribute.in_cross_replica_context():
        return variable
    return variable.values[number()]


def averaged(values):
    """The means over the replicas of a tensor or a list of them; differentiable."""
    if count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, values)


def gathered(rows):
    """The rows [N, ...] of all replicas, in their order, [replicas N, ...]; differentiable."""
    if count() == 1:
        return rows
    found = tf.distribute.get_replica_context().all_gather(rows, 0)
    # Its gradient takes no sparse one, as that of picking rows is; a reshape's makes it dense.
    return tf.reshape(found, [count() * rows.shape[0], *rows.shape[1:]])


def run(strategy, learn, batch, random):
    """The metrics of `learn(batch, random)`, scalars by name: on one device with the generator
    `random`; on several the means of what each makes of its share, with random numbers of its own.

    batch: of `shares`. To be called in no replica.
    """
    many = strategy.num_replicas_in_sync
    if many == 1:
        return learn(batch, random)
    own_random = streams(random, many)
    metrics = strategy.run(lambda share: learn(share, own_random[number()]), (batch,))
    return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
            for name, value in metrics.items()}


def taking_shares(strategy, train):
    """`train`, a function of `shares`, as one of whole batches."""
    if strategy.num_replicas_in_sync == 1:
        return train
    return lambda batch: train(shares(strategy, batch))


def shares(strategy, batch):
    """A batch of tensors [B, ...] by name, dealt out: replica i has the i-th of equal parts."""
    size = len(next(iter(batch.values()))) // strategy.num_replicas_in_sync

    def share(context):
        begin = context.replica_id_in_sync_group * size
        return {key: value[begin:begin + size] for key, value in batch.items()}
    return strategy.experimental_distribute_values_from_function(share)


def streams(random, many):
    """A `Stream` for each of `many` replicas, begun by a `tf.random.Generator`, which moves on."""
    seeds = random.uniform_full_int([many, 2], tf.int32)
    return [Stream(seed) for seed in tf.unstack(seeds)]


class Stream:
    """Random numbers in place of a `tf.random.Generator` where none can be: one is a variable, of
    which every replica would have the same. seed: int32 [2]; all draws follow from it."""

    def __init__(self, seed):
        self.seed, self.draws = seed, 0

    def _next(self):
        self.draws += 1
        return tf.random.fold_in(self.seed, self.draws)

    def normal(self, shape, **words):
        return tf.random.stateless_normal(shape, self._next(), **words)

    def uniform(self, shape, **words):
        return tf.random.stateless_uniform(shape, self._next(), **words)
