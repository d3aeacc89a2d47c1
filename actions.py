"""What an action is: the distribution that the actor gives, noise, exploration, random draws.

A part is chosen by the action space, and nothing else asks what kind of action there is.
"""

import math

import gymnasium
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd, tfb = tfp.distributions, tfp.bijectors


class TanhNormal:
    """A normal squashed to [-1, 1] by tanh; actions of size A are its last axis.

    mean = 5 tanh(m / 5), deviation = softplus(s + log(e^5 - 1)) + 1e-4 for the raw parameters
    (m, s) [..., 2 A] (Dreamer, arXiv 1912.01603, appendix A).
    """

    def __init__(self, parameters):
        mean, deviation = tf.split(tf.cast(parameters, tf.float32), 2, -1)
        self.mean = 5 * tf.tanh(mean / 5)
        self.deviation = tf.nn.softplus(deviation + math.log(math.exp(5) - 1)) + 1e-4

    def sample(self, noise):
        """Actions [..., A] for standard normal noise of that shape; differentiable."""
        return tf.tanh(self.mean + self.deviation * noise)

    def sample_and_log(self, noise):
        """(actions [..., A], their log density [...])."""
        before = self.mean + self.deviation * noise
        logs = tfd.Normal(self.mean, self.deviation).log_prob(before)
        logs -= tfb.Tanh().forward_log_det_jacobian(before, event_ndims=0)
        return tf.tanh(before), tf.reduce_sum(logs, -1)

    def mode(self, noise):
        """The most likely of the samples, each row's own. noise: [samples, ..., A]."""
        samples, logs = self.sample_and_log(noise)
        best = tf.one_hot(tf.argmax(logs, 0), samples.shape[0], axis=0)
        return tf.reduce_sum(samples * best[..., None], 0)


class Continuous:
    """Actions in [-1, 1]^A, by a `TanhNormal`.

    size: A. parameters: how many numbers the actor gives for one action. explore_noise: standard
    deviation of the noise added while collecting.
    """

    def __init__(self, size, explore_noise):
        self.size, self.parameters, self.explore_noise = size, 2 * size, explore_noise

    def distribution(self, parameters):
        """The distribution of actions [..., A] for parameters [..., 2 A]."""
        return TanhNormal(parameters)

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


def of(space, config):
    """The part for the action space of one environment."""
    assert isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1, space
    return Continuous(space.shape[0], config.explore_noise)
