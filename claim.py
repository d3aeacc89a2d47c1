"""MuMMI's claim in a toy world: what its density ratio does that reconstruction does not.

    python claim.py --outdir logdir/claim        (or make claim)

A point walks at random in a room (environments/plane.py), seen by a camera and by a range finder,
either of which may drop out. Nothing is rewarded. MuMMI and its rival, a product of experts that
reconstructs, are trained on the same walks; then each sensor is asked alone. The figure and the
sentences above it say what came out, be it as the paper says or not.
"""

import argparse
import contextlib
import dataclasses
import os
import sys

import commandline
import files
import processor
from config import SENSORS, Config, UserError

RIVALS = ('product', 'reconstruction')


def arguments(words=None):
    """The command line; a mistake prints one line and exits with 2."""
    def count(text):
        if int(text) < 1:
            raise ValueError
        return int(text)

    def seed(text):
        if not 0 <= int(text) < 2 ** 31:
            raise ValueError
        return int(text)

    def rivals(text):
        names = tuple(dict.fromkeys(text.split(',')))
        if not set(names) <= set(RIVALS):
            raise argparse.ArgumentTypeError(f'takes {" or ".join(RIVALS)}, or both as '
                                             f'{",".join(RIVALS)}, not {text!r}')
        return names

    parser = argparse.ArgumentParser(
        prog='claim.py', description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = commandline.fail
    parser.add_argument('--outdir', default='logdir/claim', help='folder written to [%(default)s]')
    parser.add_argument('--rivals', type=rivals, default=RIVALS[:1], help=(
        'product: of experts; reconstruction: the same loss, but fused as in MuMMI [product]'))
    parser.add_argument('--updates', type=count, default=600, help='of each [%(default)s]')
    parser.add_argument('--seed', type=seed, default=0, help='of walks and weights [%(default)s]')
    given = parser.parse_args(words)
    given.outdir = os.path.expanduser(given.outdir)
    try:
        files.output_folder(given.outdir)
    except UserError as error:
        commandline.fail(error)
    return given


if __name__ == '__main__':  # A mistake is answered before TensorFlow loads.
    processor.prepare()
    GIVEN = arguments()

import numpy as np
import tensorflow as tf
import tqdm

import claim_figure
import devices
import networks
import tools
from actions import Continuous
from config import flag
from environments import plane
from learners import WorldLearner
from models import WorldModel
from mummi import ExpertContrast
from networks import normal
from precision import Precision
from wrappers import SensorDropout

WALKS, TESTS = 400, 64  # walks to learn from; to judge by
MISS_RATIO = 0.05  # as in the paper's tasks
SETTINGS = Config(
    precision='float32', batch=16, length=16, deter=64, stoch=16, hidden=64, conv_depth=4,
    vector_units=64, decoder_units=64, expert_width=128, units=32, model_rate=1e-3)


# What makes a rival of MuMMI, as options of mummi.py: the product of experts with a prior expert
# Normal(0, 1) (arXiv 1802.05335, section 2.2), whose code is learned by reconstructing the sensors;
# and MuMMI's own fusion with that loss, so that the loss alone differs.
OPTIONS = {
    'mummi': {},
    'product': dict(fusion='precision', prior_expert=True, sensor_loss='reconstruct'),
    'reconstruction': dict(sensor_loss='reconstruct')}


def walks(count, length, miss_ratio, seed):
    """Random walks as a batch of training has them, numpy arrays [count, length, ...]: raw
    observations with their flags, action, reward (0), discount (1); and `position`, metres.
    miss_ratio: as in `wrappers.SensorDropout`."""
    random = np.random.default_rng([seed, 1])
    env = SensorDropout(plane.Plane(), miss_ratio, seed)
    actions = random.uniform(-1, 1, (count, length, plane.ACTIONS)).astype(np.float32)
    actions[:, 0] = 0
    entries = []
    for number in range(count):
        for t in range(length):
            observation = env.step(actions[number, t])[0] if t else env.reset(
                # The first reset seeds the drop-outs too, which then go on by themselves.
                seed=seed if number == 0 else None)[0]
            entries.append(observation | {'position': np.float32(env.unwrapped.position)})
    keys = [*plane.SHAPES, *map(flag, plane.SHAPES), 'position']
    batch = {key: np.stack([entry[key] for entry in entries]) for key in keys}
    batch = {key: x.reshape(count, length, *x.shape[1:]) for key, x in batch.items()}
    return batch | {
        'action': actions, 'reward': np.zeros((count, length), np.float32),
        'discount': np.ones((count, length), np.float32)}


@contextlib.contextmanager
def sensing():
    """Within, the table of sensors, by which encoders and losses go, has the toy's as well."""
    SENSORS.update(plane.SENSORS)
    try:
        yield
    finally:
        for sensor in plane.SENSORS:
            del SENSORS[sensor]


def trained(method, data, updates, seed):
    """The `WorldModel` of `method` after `updates` on batches of `data`, as `walks` makes it."""
    tools.seed_everything(seed)
    settings = dataclasses.replace(SETTINGS, **OPTIONS[method])
    precision = Precision(settings.precision)
    world = WorldModel(
        settings, ExpertContrast, plane.SHAPES, Continuous(plane.ACTIONS, 0.0), precision)
    learner = WorldLearner(settings, world, precision)
    random, rows = tf.random.Generator.from_seed(seed), np.random.default_rng(seed)
    update = tf.function(lambda batch: learner.learn(batch, random)[1], autograph=False)
    bar = tqdm.tqdm(range(updates), method, file=sys.stdout, mininterval=5)
    for _ in bar:
        chosen = rows.integers(len(data['reward']), size=settings.batch)
        metrics = update({
            key: tf.constant(values[chosen]) for key, values in data.items()
            if key != 'position'})
        bar.set_postfix(
            {s: f'{float(metrics[s + "_loss"]):.1f}' for s in plane.SHAPES}, refresh=False)
    return world


def asked(world, data):
    """What the sensors say of N entries of `data` in which none is missing, numpy:
    position [N, 2], metres; code: sensor -> mean of its expert [N, E], deviation: likewise its
    sigma; fused: e [N, E]; latent: sensor -> features [N, F] of latents that saw it alone."""
    representation = world.representation
    observation = {
        key: tf.constant(values) for key, values in data.items() if key != 'position'}
    embeddings = representation.embed(observation)

    def flat(x):
        return np.array(x).reshape(-1, x.shape[-1])

    def alone(sensor):
        """Features of the walks, filtered without the other sensors and without noise."""
        gone = {
            key: tf.zeros_like(observation[key]) for other in plane.SHAPES if other != sensor
            for key in (other, flag(other))}
        joint = representation.embed(observation | gone)['joint']
        noise = tf.zeros([*data['reward'].shape, SETTINGS.stoch])
        posterior, _ = world.dynamics.filter(joint, observation['action'], noise)
        return flat(posterior.features())

    return {
        'position': flat(data['position']), 'fused': flat(embeddings['joint']),
        'code': {s: flat(mean) for s, mean in embeddings['means'].items()},
        'deviation': {
            s: flat(normal(representation.experts[s](encoded))[1])
            for s, encoded in representation.encoded(observation).items()},
        'latent': {s: alone(s) for s in plane.SHAPES}}


def agreement(code):
    """(the squared distance of the two sensors' codes of an entry over that to another entry's
    code: 0 where they are the same, 1 where they are not related; how often, of COMPARED
    entries, the range finder's code that is closest to the camera's is its own)."""
    rows = np.linspace(0, len(code['camera']) - 1, claim_figure.COMPARED).astype(int)
    camera, other = (tf.constant(code[s][rows]) for s in ('camera', 'range'))
    flags = tf.ones(len(rows))
    return float(networks.relative_distance(camera, other, flags)), float(
        networks.retrieval(networks.squared_distances(camera, other), flags))


def main(given):
    devices.set_up()
    with commandline.answering(given.outdir), sensing():
        data = walks(WALKS, SETTINGS.length, MISS_RATIO, 2 * given.seed)
        tests = walks(TESTS, SETTINGS.length, 0.0, 2 * given.seed + 1)
        found = {}
        for method in ('mummi', *given.rivals):
            answers = asked(trained(method, data, given.updates, given.seed), tests)
            found[method] = claim_figure.judged(answers, *agreement(answers['code']))
        claim_figure.write(found, given.outdir, f'{given.updates} updates, seed {given.seed}')


if __name__ == '__main__':
    main(GIVEN)
