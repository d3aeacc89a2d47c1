"""Soft actor-critic in latent space: the other half of CVRL's hybrid (`--use_sac`).

Two Q functions learn from real transitions (s_t, a_{t+1}, r_{t+1}, d_{t+1}, s_{t+1}) along time:
a_{t+1} led from entry t to entry t + 1, where its reward and discount are stored. Latents are
given without gradient (arXiv 1812.05905; CVRL, arXiv 2008.02430, section 3.3). The actor is
trained where all that it learns from is summed: in `learners.BehaviourLearner`.
"""

import tensorflow as tf

from networks import Perceptron
from optimisers import SlowCopy, adam, minimise


def departures(batch):
    """1 for the entries [B, L - 1] from which a transition leads on, 0 where the next one begins
    another episode."""
    reward = batch['reward'][:, 1:]
    if 'is_first' not in batch:
        return tf.ones_like(reward)
    return 1 - tf.cast(batch['is_first'][:, 1:], reward.dtype)


def mean_over(real, values):
    """The mean of values [B, L - 1] where there is a transition, see `departures`."""
    return tf.math.divide_no_nan(tf.reduce_sum(real * values), tf.reduce_sum(real))


class Critics(tf.Module):
    """Two Q functions: features [..., F] and actions [..., A] -> [2, ...]."""

    def __init__(self, config, inputs, precision):
        super().__init__()
        self.pair = [Perceptron(inputs, 3, config.units, 1, precision) for _ in range(2)]

    def __call__(self, features, action):
        inputs = tf.concat([features, action], -1)
        return tf.stack([critic(inputs)[..., 0] for critic in self.pair])


class SoftActorCritic(tf.Module):
    """The critics, their slow copies and the temperature: a learner (see learners.py) of what the
    actor of `behaviour` is worth, and `actor_loss`, by which the actor gets better.

    features: width F of the features.
    """

    # How far the slow critics move to the critics at each update.
    SLOW_RATE = 0.005

    def __init__(self, config, features, behaviour, precision):
        super().__init__()
        self.discount, self.behaviour = config.discount, behaviour

        def make():
            return Critics(config, features + behaviour.actions.size, precision)
        self.critics = make()
        self.slow_critics = SlowCopy(self.critics, make, self.SLOW_RATE)
        self.log_temperature = tf.Variable(0.0)
        # An optimiser a critic: the gradient of one does not clip the other's.
        self.critic = [
            adam(f'critic_{number}', critic.trainable_variables, config.critic_rate, config,
                 precision) for number, critic in enumerate(self.critics.pair)]
        # No weight decay: it would draw the temperature to 1 and not to what the entropy asks.
        self.temperature = adam('temperature', [self.log_temperature], config.temperature_rate,
                                config, precision, decays=False)

    def optimisers(self):
        return [*self.critic, self.temperature]

    def parts(self):
        return {'critics': self.critics.trainable_variables}

    def target(self, features, reward, discount, noise):
        """r + gamma d (min Q'(s', a') - alpha log pi(a' | s')), [...]; no gradient.

        features [..., F] are of s'; noise [..., A] draws a'.
        """
        action, logs = self.behaviour.policy(features).sample_and_log(noise)
        value = tf.reduce_min(self.slow_critics(features, action), 0)
        value -= tf.exp(self.log_temperature) * logs
        return tf.stop_gradient(reward + self.discount * discount * value)

    def learn(self, posterior, batch, random):
        """One update each of critics and temperature; batch: action, reward, discount and perhaps
        is_first [B, L, ...]."""
        features = posterior.features()
        before, after = features[:, :-1], features[:, 1:]
        action, reward, discount = (
            batch[key][:, 1:] for key in ('action', 'reward', 'discount'))
        noise = self.behaviour.actions.noise(random, 2, *reward.shape)
        real = departures(batch)
        target = self.target(after, reward, discount, noise[0])

        def critic_losses():
            values = self.critics(before, action)
            losses = [0.5 * tf.reduce_mean(real * tf.math.squared_difference(value, target))
                      for value in tf.unstack(values)]
            return losses, {
                'critic_loss': tf.add_n(losses),
                'critic_value': mean_over(real, tf.reduce_mean(values, 0))}

        _, logs = self.behaviour.policy(before).sample_and_log(noise[1])

        def temperature_losses():
            # Entropy below -A raises the temperature, entropy above lowers it.
            excess = tf.reduce_mean(real * (logs - self.behaviour.actions.size))
            return [-tf.exp(self.log_temperature) * excess], None

        critic_norms, metrics = minimise(self.critic, critic_losses)
        minimise([self.temperature], temperature_losses)
        self.slow_critics.follow()
        return metrics | {
            'critic_gradient': tf.linalg.global_norm(critic_norms),
            'temperature': tf.exp(self.log_temperature), 'soft_entropy': -mean_over(real, logs)}

    def actor_loss(self, features, noise, real):
        """L_SAC, scalar: mean( alpha log pi(a | s) - min Q(s, a) ) over features [..., F], each
        action a drawn by noise [..., A]. real [...], of `departures`: states at the end of an
        episode have no loss, as the critics learn nothing of actions there."""
        action, logs = self.behaviour.policy(features).sample_and_log(noise)
        value = tf.reduce_min(self.critics(features, action), 0)
        return tf.reduce_mean(real * (tf.exp(self.log_temperature) * logs - value))
