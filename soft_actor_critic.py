"""Soft actor-critic in latent space, beside imagination: CVRL's hybrid (`--use_sac`).

Two Q functions learn from real transitions (s_t, a_{t+1}, r_{t+1}, d_{t+1}, s_{t+1}) along time:
a_{t+1} led from entry t to entry t + 1, where its reward and discount are stored. Latents are
given without gradient (arXiv 1812.05905; CVRL, arXiv 2008.02430, section 3.3).
"""

import tensorflow as tf

from networks import Perceptron


class SoftActorCritic(tf.Module):
    """Two critics, their slowly moving copies, and the temperature.

    features: width F of the features. actions: A.
    """

    # How far the target critics move to the critics at each update.
    TARGET_RATE = 0.005

    def __init__(self, config, features, actions, precision):
        super().__init__()
        def critics():
            return [Perceptron(features + actions, 3, config.units, 1, precision)
                    for _ in range(2)]
        self.discount, self.actions = config.discount, actions
        self.critics, self.targets = critics(), critics()
        self.log_temperature = tf.Variable(0.0)
        for target, critic in self._pairs():
            target.assign(critic)

    def _pairs(self):
        for target, critic in zip(self.targets, self.critics):
            yield from zip(target.trainable_variables, critic.trainable_variables)

    def critics_variables(self):
        """The variables of both critics."""
        return [v for critic in self.critics for v in critic.trainable_variables]

    @staticmethod
    def values(critics, features, action):
        """Both critics' values [2, ...] of features [..., F] and actions [..., A]."""
        inputs = tf.concat([features, action], -1)
        return tf.stack([critic(inputs)[..., 0] for critic in critics])

    def target(self, policy, features, reward, discount, noise):
        """r + gamma d (min Q'(s', a') - alpha log pi(a' | s')), [...]; no gradient.

        policy(features) is the distribution of actions; features [..., F] are of s'.
        """
        action, logs = policy(features).sample_and_log(noise)
        value = tf.reduce_min(self.values(self.targets, features, action), 0)
        value -= tf.exp(self.log_temperature) * logs
        return tf.stop_gradient(reward + self.discount * discount * value)

    def train(self, behaviour, optimisers, features, batch, random):
        """One step each of critics, actor and temperature; returns metrics.

        features [B, L, F] of the posterior; batch: action, reward, discount [B, L, ...].
        """
        features = tf.stop_gradient(features)
        before, after = features[:, :-1], features[:, 1:]
        action, reward, discount = (
            batch[key][:, 1:] for key in ('action', 'reward', 'discount'))
        noise = random.normal([2, *action.shape])

        target = self.target(behaviour.policy, after, reward, discount, noise[0])
        critic = optimisers['critic']
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(critic.targets)
            values = self.values(self.critics, before, action)
            critic_loss = 0.5 * tf.reduce_mean(
                tf.reduce_sum(tf.math.squared_difference(values, target), 0))
            scaled = critic.scaled(critic_loss)
        metrics = {
            'critic_loss': critic_loss, 'critic_gradient': critic.step(tape, scaled),
            'critic_value': tf.reduce_mean(values)}

        actor = optimisers['soft_actor']
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(actor.targets)
            action, logs = behaviour.policy(before).sample_and_log(noise[1])
            value = tf.reduce_min(self.values(self.critics, before, action), 0)
            actor_loss = tf.reduce_mean(tf.exp(self.log_temperature) * logs - value)
            scaled = actor.scaled(actor_loss)
        metrics |= {
            'soft_actor_loss': actor_loss, 'soft_actor_gradient': actor.step(tape, scaled)}

        # Entropy below -A raises the temperature, entropy above lowers it.
        temperature = optimisers['temperature']
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(temperature.targets)
            loss = -self.log_temperature * tf.stop_gradient(
                tf.reduce_mean(logs) - self.actions)
            scaled = temperature.scaled(loss)
        temperature.step(tape, scaled)
        metrics |= {
            'temperature': tf.exp(self.log_temperature), 'soft_entropy': -tf.reduce_mean(logs)}

        for target, critic in self._pairs():
            target.assign(target + self.TARGET_RATE * (critic - target))
        return metrics
