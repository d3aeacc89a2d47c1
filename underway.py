"""What is half done where a run is saved, so that it goes on as if it had not been stopped.

Text in the checkpoint holds the seeds, actions and rewards of the unfinished episodes, the
latents of the policy, the generator of random actions, and the sums of the metrics since their
last row. Where a run goes on, the episodes are played again to where they were. They are not
where another episode was finished since, which only a kill brings about: then new ones begin.
"""

import io
import json

import numpy as np
import tensorflow as tf

from screen import say


def pack(trainer):
    """The text for a checkpoint of a `training.Trainer`; empty before it has acted, and where it
    was stopped while an environment did not answer."""
    if not trainer.driver.begun:
        return b''
    arrays = {f'driver/{key}': value for key, value in trainer.driver.state().items()}
    arrays |= {f'policy/{key}': value.numpy() for key, value in trainer.policy.state.items()}
    arrays |= {f'total/{key}': value for key, value in trainer.totals.items()}
    generator = trainer.uniform and trainer.uniform.bit_generator.state
    arrays |= {'number': trainer.replay.number, 'averaged': trainer.averaged,
               'uniform': json.dumps(generator)}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def unpack(trainer, text):
    """Bring a trainer to where `pack` was called. Where that cannot be, nothing is changed but the
    sums of the metrics, which come with the updates."""
    if not text:
        return
    with np.load(io.BytesIO(text)) as stored:
        arrays = dict(stored)
    part = lambda name: {  # noqa: E731
        key.removeprefix(name): value for key, value in arrays.items() if key.startswith(name)}
    trainer.totals = {key: value[()] for key, value in part('total/').items()}
    trainer.averaged = int(arrays['averaged'])
    state = part('driver/')
    if int(arrays['number']) != trainer.replay.number:
        return
    if len(state['seeds']) != trainer.driver.count:
        say('note: with another number of --envs the unfinished episodes are dropped, and '
            'their steps are not counted')
        return
    if not trainer.driver.go_on(state):
        say('warning: the environment is not what it was, so new episodes begin')
        return
    trainer.step += trainer.driver.under_way
    trainer.policy.state = {key: tf.constant(value) for key, value in part('policy/').items()}
    if generator := json.loads(str(arrays['uniform'])):
        trainer.uniform = np.random.default_rng()
        trainer.uniform.bit_generator.state = generator
