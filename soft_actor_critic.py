"""Soft actor-critic in latent space, beside imagination: CVRL's hybrid (`--use_sac`).

Two Q functions learn from real transitions (s_t, a_{t+1}, r_{t+1}, d_{t+1}, s_{t+1}) along time:
a_{t+1} led from entry t to entry t + 1, where its reward and discount are stored. Latents are
given without gradient (arXiv 1812.05905; CVRL, arXiv 2008.02430, section 3.3).
"""

import tensorflow as tf

from networks import Perceptron
from optimisers import SlowCopy, adam, minimise


class Critics(tf.Module):
    """Two Q functions: features [..., F] and actions [..., A] -> [2, ...]."""

    def __init__(self, config, inputs, precision):
        super().__init__()
        self.pair = [Perceptron(inputs, 3, config.units, 1, precision) for _ in range(2)]

    def __call__(self, features, action):
        inputs = tf.concat([features, action], -1)
        return tf.stack([critic(inputs)[..., 0] for critic in self.pair])


class SoftActorCritic(tf.Module):
    """The critics, their slow copies and the temperature; a learner (see learners.py) of the
    actor of `behaviour`.

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
        self.actor = adam('soft_actor', behaviour.actor.trainable_variables, config.actor_rate,
                          config, precision)
        self.temperature = adam('temperature', [self.log_temperature],
                                config.temperature_rate, config, precision)

    def optimisers(self):
        return [*self.critic, self.actor, self.temperature]

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
        """One update each of critics, actor and temperature; batch: action, reward, discount
        [B, L, ...]."""
        features = posterior.features()
        before, after = features[:, :-1], features[:, 1:]
        action, reward, discount = (
            batch[key][:, 1:] for key in ('action', 'reward', 'discount'))
        noise = random.normal([2, *action.shape])
        target = self.target(after, reward, discount, noise[0])

        def critic_losses():
            values = self.critics(before, action)
            losses = [0.5 * tf.reduce_mean(tf.math.squared_difference(value, target))
                      for value in tf.unstack(values)]
            return losses, {
                'critic_loss': tf.add_n(losses), 'critic_value': tf.reduce_mean(values)}

        def actor_losses():
            tried, logs = self.behaviour.policy(before).sample_and_log(noise[1])
            value = tf.reduce_min(self.critics(before, tried), 0)
            loss = tf.reduce_mean(tf.exp(self.log_temperature) * logs - value)
            return [loss], (loss, tf.reduce_mean(logs))

        def temperature_losses():
            # Entropy below -A raises the temperature, entropy above lowers it.
            excess = tf.stop_gradient(logs - self.behaviour.actions.size)
            return [-tf.exp(self.log_temperature) * excess], None

        critic_norms, metrics = minimise(self.critic, critic_losses)
        (actor_norm,), (actor_loss, logs) = minimise([self.actor], actor_losses)
        minimise([self.temperature], temperature_losses)
        self.slow_critics.follow()
        return metrics | {
            'critic_gradient': tf.linalg.global_norm(critic_norms), 'soft_actor_loss': actor_loss,
            'soft_actor_gradient': actor_norm, 'temperature': tf.exp(self.log_temperature),
            'soft_entropy': -logs}
