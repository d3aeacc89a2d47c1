"""What an action is: the distribution that the actor gives, noise, exploration, random draws.

A part is chosen by the action space, and nothing else asks what kind of action there is.
"""

import math

import gymnasium
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import environments.spaces
from config import UserError

tfd, tfb = tfp.distributions, tfp.bijectors


class TanhNormal:
    """A normal squashed to [-1, 1] by tanh; actions of size A are its last axis.

    mean = 5 tanh(m / 5), deviation = softplus(s + log(e^d - 1)) + 1e-4 for the raw parameters
    (m, s) [..., 2 A] (Dreamer, arXiv 1912.01603, appendix A, where d = 5). initial: d, what the
    deviation is for s = 0.
    """

    def __init__(self, parameters, initial=5.0):
        mean, deviation = tf.split(tf.cast(parameters, tf.float32), 2, -1)
        self.mean = 5 * tf.tanh(mean / 5)
        self.deviation = tf.nn.softplus(deviation + math.log(math.expm1(initial))) + 1e-4

    def sample(self, noise):
        """Actions [..., A] for standard normal noise of that shape; differentiable."""
        return tf.tanh(self.mean + self.deviation * noise)

    def sample_and_log(self, noise):
        """(actions [..., A], their log density [...])."""
        before = self.mean + self.deviation * noise
        logs = tfd.Normal(self.mean, self.deviation).log_prob(before)
        logs -= tfb.Tanh().forward_log_det_jacobian(before, event_ndims=0)
        return tf.tanh(before), tf.reduce_sum(logs, -1)

    def held_and_entropy(self, noise):
        """(log density of the samples, which are held as they were drawn: its gradient moves
        their probability and not them; entropy, by the samples), both [...]."""
        drawn = tf.stop_gradient(self.mean + self.deviation * noise)
        held = tfd.Normal(self.mean, self.deviation).log_prob(drawn)
        held -= tfb.Tanh().forward_log_det_jacobian(drawn, event_ndims=0)
        return tf.reduce_sum(held, -1), -self.sample_and_log(noise)[1]

    def mode(self, noise):
        """The most likely of the samples, each row's own. noise: [samples, ..., A]."""
        samples, logs = self.sample_and_log(noise)
        best = tf.one_hot(tf.argmax(logs, 0), samples.shape[0], axis=0)
        return tf.reduce_sum(samples * best[..., None], 0)


class OneHot:
    """A choice among A actions, as a vector [..., A] of zeros and a one; logits [..., A].

    Samples are differentiable straight through: forward the choice, backward the probabilities
    (Bengio et al., arXiv 1308.3432; as Dreamer has them for discrete actions).
    """

    def __init__(self, parameters):
        self.logits = tf.nn.log_softmax(tf.cast(parameters, tf.float32))

    def sample(self, noise):
        """Choices [..., A] for standard Gumbel noise of that shape: the largest of the logits with
        noise is drawn by its probability (Maddison et al., arXiv 1411.0030)."""
        chosen = _largest(self.logits + noise)
        chances = tf.exp(self.logits)
        return chosen + chances - tf.stop_gradient(chances)

    def sample_and_log(self, noise):
        """(choices [..., A], their log probability [...]); the gradient of its mean is that of
        the negative entropy."""
        action = self.sample(noise)
        return action, tf.reduce_sum(action * self.logits, -1)

    def held_and_entropy(self, noise):
        """(log probability of the choices, which are held as they were drawn; entropy), both
        [...]."""
        drawn = _largest(self.logits + noise)
        return (tf.reduce_sum(drawn * self.logits, -1),
                -tf.reduce_sum(tf.exp(self.logits) * self.logits, -1))

    def mode(self, noise):
        """The most likely choices. noise: [samples, ..., A], of which nothing is needed."""
        return _largest(self.logits)


def _largest(numbers):
    """Zeros with a one in place of the largest number of the last axis."""
    return tf.one_hot(tf.argmax(numbers, -1), numbers.shape[-1])


# Entropy at which an actor hardly learns any more. For each number of an action, nats: the good
# policies of results/ come down to -9, a tanh that is saturated in one action lies below this.
SATURATED = -10.0
# Of a choice, as a share of log A: all but one action have some chances in 1,000 together. A task
# that is learned may come down to it too, but not early.
DECIDED = 0.01


class Continuous:
    """Actions in [-1, 1]^A, by a `TanhNormal`.

    size: A. parameters: how many numbers the actor gives for one action. explore_noise: standard
    deviation of the noise added while collecting. deviation: of an untrained actor, before the
    tanh. smooth: an action can be moved a little, as trajectory optimisation does. saturated: the
    entropy, nats, below which an actor hardly learns.
    """

    smooth = True

    def __init__(self, size, explore_noise, deviation=5.0):
        self.size, self.parameters, self.explore_noise = size, 2 * size, explore_noise
        self.deviation = deviation
        self.saturated = SATURATED * size

    def distribution(self, parameters):
        """The distribution of actions [..., A] for parameters [..., 2 A]."""
        return TanhNormal(parameters, self.deviation)

    def noise(self, random, *leading):
        """What the distribution makes samples of: standard normal [*leading, A]."""
        return random.normal([*leading, self.size])

    def explored(self, action, random):
        """Actions [N, A] as they are tried while collecting."""
        if self.explore_noise:
            action += self.explore_noise * self.noise(random, action.shape[0])
        return action

    def valid(self, action):
        """Actions [..., A] cut to what the environment takes."""
        return tf.clip_by_value(action, -1, 1)

    def uniform(self, generator, count):
        """Actions float32 [count, A] drawn by a numpy generator: those of the prefill."""
        return generator.uniform(-1, 1, (count, self.size)).astype(np.float32)

    def advice(self, config, usual):
        """A line on options of exploration that are for choices; or None. usual: of
        `variants.usual`."""
        return _advice(config, usual, ('explore_epsilon',), 'choices', 'numbers')


class Discrete:
    """A choice among A actions, by a `OneHot`; see `Continuous` for what the parts are.

    explore_epsilon: the chance that a choice is replaced by a random one while collecting.
    """

    smooth = False

    def __init__(self, size, explore_epsilon):
        self.size, self.parameters, self.explore_epsilon = size, size, explore_epsilon
        self.saturated = DECIDED * math.log(size)

    def distribution(self, parameters):
        """The distribution of choices [..., A] for parameters [..., A]."""
        return OneHot(parameters)

    def noise(self, random, *leading):
        """What the distribution makes samples of: standard Gumbel [*leading, A]."""
        tiny = np.finfo(np.float32).tiny
        return -tf.math.log(-tf.math.log(random.uniform([*leading, self.size], minval=tiny)))

    def explored(self, action, random):
        """Choices [N, A] as they are tried while collecting."""
        count = action.shape[0]
        others = _largest(random.uniform([count, self.size]))
        return tf.where(random.uniform([count, 1]) < self.explore_epsilon, others, action)

    def valid(self, action):
        """Choices [..., A] without what rounding adds to them."""
        return _largest(action)

    def uniform(self, generator, count):
        """Choices float32 [count, A] drawn by a numpy generator: those of the prefill."""
        return np.eye(self.size, dtype=np.float32)[generator.integers(self.size, size=count)]

    def advice(self, config, usual):
        """A line on options that are for actions which are numbers; or None. usual: of
        `variants.usual`."""
        return _advice(config, usual, ('explore_noise', 'actor_deviation'), 'numbers', 'choices')


def _advice(config, usual, options, wanted, own):
    typed = [f'--{name}' for name in options if getattr(config, name) != usual[name]]
    return f'{" and ".join(typed)} is for actions that are {wanted}, and does nothing: those of ' \
           f'{config.task} are {own}' if typed else None


def of(space, config):
    """The part for the action space of one environment. Raises `UserError` for a setting that its
    actions cannot have."""
    if isinstance(space, environments.spaces.OneHot):
        if config.use_sac:
            raise UserError(
                f'soft actor-critic needs actions that are numbers, and those of {config.task} '
                'are choices; leave --use_sac out')
        return Discrete(space.n, config.explore_epsilon)
    assert isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1, space
    return Continuous(space.shape[0], config.explore_noise, config.actor_deviation)
