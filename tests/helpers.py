"""Small agents, random batches, stubs and plain numpy layers for the tests of the models."""

import errno
import io
import pathlib

import gymnasium
import numpy as np
import tensorflow as tf

import commandline
import cvrl
import dreamer
import mummi
import tools
from actions import of
from agent import Agent
from config import flag
from dynamics import State

SHAPES = {'image': (64, 64, 3), 'depth': (64, 64, 1), 'touch': (2,)}
ACTIONS = 3
METHODS = {
    'mummi': (mummi.ExpertContrast, mummi.METHOD),
    'cvrl': (cvrl.representation, cvrl.METHOD),
    'dreamer': (dreamer.Reconstruction, dreamer.METHOD)}


def settings(method, *words):
    """The debug preset in float32, acting by the policy alone, with more words of the command
    line."""
    return commandline.parse(METHODS[method][1], [
        '--preset', 'debug', '--logdir', 'unused', '--no-natural', '--precision', 'float32',
        '--no-refine_actions', *words])


def build(method, *words, seed=0, actions=ACTIONS, part=None):
    """A fresh agent; the same seed gives the same weights and noise. part: of actions.py, instead
    of so many numbers."""
    tools.seed_everything(seed)
    config = settings(method, *words)
    space = gymnasium.spaces.Box(-1, 1, (actions,), np.float32)
    return Agent(config, METHODS[method][0], SHAPES, part or of(space, config))


def observations(*leading, seed=0, missing=True):
    """Raw observations and flags as numpy arrays [*leading, ...], zeros where missing."""
    random = np.random.default_rng(seed)
    raw = {
        'image': random.integers(0, 256, (*leading, 64, 64, 3)).astype(np.uint8),
        'depth': random.uniform(0.5, 50, (*leading, 64, 64, 1)).astype(np.float32),
        'touch': random.uniform(0, 300, (*leading, 2)).astype(np.float32)}
    for sensor in SHAPES:
        here = random.random((*leading, 1)) > 0.3 if missing else np.ones((*leading, 1), bool)
        raw[flag(sensor)] = here.astype(np.float32)
        raw[sensor] *= here.reshape(*leading, *[1] * len(SHAPES[sensor])).astype(
            raw[sensor].dtype)
    return raw


def sequences(batch=4, length=8, seed=0, missing=True):
    """A training batch as numpy arrays [batch, length, ...]; every sequence begins an episode."""
    random = np.random.default_rng(seed + 1)
    arrays = observations(batch, length, seed=seed, missing=missing)
    arrays['action'] = random.uniform(-1, 1, (batch, length, ACTIONS)).astype(np.float32)
    arrays['reward'] = random.normal(size=(batch, length)).astype(np.float32)
    arrays['discount'] = (random.random((batch, length)) > 0.2).astype(np.float32)
    for key, first in ('action', 0), ('reward', 0), ('discount', 1):
        arrays[key][:, 0] = first
    return arrays


def tensors(arrays):
    return {key: tf.constant(value) for key, value in arrays.items()}


def normals(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shake(module, size=0.1, seed=0):
    """Add noise to every weight, so that no bias is zero and no error in one can hide."""
    for number, variable in enumerate(module.trainable_variables):
        variable.assign_add(size * normals(*variable.shape, seed=seed + number))


def values(variables):
    return [np.array(v) for v in variables]


def unchanged(before, variables):
    """Whether each of the variables still has the value that `values` gave."""
    return [np.array_equal(old, new) for old, new in zip(before, values(variables), strict=True)]


class Noise:
    """In place of an agent's generator: `make(shape)` for every draw, all of them kept."""

    def __init__(self, make):
        self.make, self.drawn = make, []

    def normal(self, shape, **_):
        self.drawn.append(np.asarray(self.make([int(size) for size in shape]), np.float32))
        return tf.constant(self.drawn[-1])

    def uniform(self, shape, maxval, dtype):
        return tf.cast(tf.range(shape[0]) % maxval, dtype)


def constant_noise(value=0.5):
    """The same number for every draw, in whatever order and shape it is drawn."""
    return Noise(lambda shape: np.full(shape, value))


def random_noise(seed=0):
    return Noise(np.random.default_rng(seed).standard_normal)


def spy(monkeypatch, target, name):
    """The list of (arguments, result) of every later call of target.name."""
    calls, original = [], getattr(target, name)

    def wrapped(*arguments):
        calls.append((arguments, original(*arguments)))
        return calls[-1][1]
    monkeypatch.setattr(target, name, wrapped)
    return calls


# --- Agents for acting ---------------------------------------------------------------------


def latents(agent, count, seed=0):
    config = agent.config
    return State(*(
        tf.constant(normals(count, width, seed=seed + number)) for number, width in enumerate(
            (config.stoch, config.stoch, config.stoch, config.deter))))


def quiet(*words, method='mummi', **options):
    """An agent of moderate actions, whose deviations are about 0.7."""
    agent = build(method, *words, **options)
    shake(agent)
    bias = agent.behaviour.actor.output.bias
    bias.assign(tf.concat([bias[:ACTIONS], bias[ACTIONS:] - 5], 0))
    return agent


# --- The world model, entry by entry ----------------------------------------------------------


def stepped(dynamics, embedding, action, noise):
    """What `filter` gives, one entry after the other."""
    step, state = dynamics.read(), dynamics.initial(len(embedding))
    posteriors, priors = [], []
    for t in range(embedding.shape[1]):
        deterministic = step.transition(state, action[:, t])
        state = step.posterior(deterministic, embedding[:, t], noise[:, t])
        posteriors.append(state)
        priors.append(step.prior(deterministic, tf.zeros_like(noise[:, t])))
    return [State(*(tf.stack(p, 1) for p in zip(*s))) for s in (posteriors, priors)]


def plain_model_loss(world, batch, noise):
    """(total loss, its terms, posterior, divergences [B, L]) by the equations of the method."""
    embeddings = world.representation.embed(batch)
    posterior, prior = stepped(
        world.dynamics, embeddings['joint'], batch['action'], noise)
    divergence = tf.reduce_sum(
        tf.math.log(prior.deviation / posterior.deviation)
        + (posterior.deviation ** 2 + (posterior.mean - prior.mean) ** 2)
        / (2 * prior.deviation ** 2) - 0.5, -1)
    features = posterior.features()
    terms = {'reward_loss': -tf.reduce_mean(
        -0.5 * (batch['reward'] - world.reward_head(features)[..., 0]) ** 2
        - 0.5 * np.log(2 * np.pi))}
    if world.discount_head:
        target = world.config.discount * batch['discount']
        logits = world.discount_head(features)[..., 0]
        terms['discount_loss'] = tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(target, logits))
    for name, loss in world.representation.loss(features, embeddings, batch).items():
        terms[name] = tf.reduce_mean(loss)
    total = tf.maximum(tf.reduce_mean(divergence), world.config.free_nats) + sum(terms.values())
    return total, terms, posterior, divergence


# --- Files ---


def names(folder):
    """The names of what is in a folder, sorted."""
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


def flipped(content, place, mask=255):
    """Bytes with one of them changed."""
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1:]


# --- Plain numpy -------------------------------------------------------------------------


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def relu(x):
    return np.maximum(x, 0)


def softplus(x):
    return np.logaddexp(x, 0)


def dense(layer, x):
    return np.asarray(x) @ layer.kernel.numpy() + layer.bias.numpy()


def perceptron(module, x, activation=elu):
    for layer in module.hidden:
        x = activation(dense(layer, x))
    return dense(module.output, x)


def log_normal(value, mean):
    return -0.5 * (value - mean) ** 2 - 0.5 * np.log(2 * np.pi)


def close(actual, wanted, tolerance=1e-5):
    """Assert equality within `tolerance` of the largest wanted value."""
    wanted = np.asarray(wanted, np.float64)
    scale = max(np.abs(wanted).max(initial=0), 1e-6)
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), wanted, rtol=0, atol=tolerance * scale)


class _Deaf(io.RawIOBase):
    """A file that can be opened and not be read."""

    def readable(self):
        return True

    seekable = readable

    def seek(self, *_):
        return 0

    def tell(self):
        return 0

    def readinto(self, _):
        raise OSError(errno.EIO, 'Input/output error')


def unreadable(*_, **__):
    """In place of `open`: a file that opens, and whose reading fails."""
    return io.BufferedReader(_Deaf())
