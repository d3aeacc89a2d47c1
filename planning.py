"""Better actions by imagination: trajectory optimisation and forward search."""

import tensorflow as tf


class Planner:
    """Improves the actions of a policy by what the model imagines of them.

    world, behaviour: `models.WorldModel` and `models.ActorCritic`. Shapes: N environments, A
    values of an action, C candidates. Every environment goes by its own return.
    """

    def __init__(self, config, world, behaviour):
        self.config, self.world, self.behaviour = config, world, behaviour
        self.actions = behaviour.actions

    def improved(self, latent, policy, action, random):
        """Actions [N, A] in place of `action`, which is drawn from `policy` in `latent` [N, ...]:
        searched and refined, as far as the configuration asks for it."""
        if self.config.search_candidates:
            action = self.search(latent, policy, action, random)
        if self.config.refine_actions:
            action = self.refine(latent, action, random)
        return action

    def imagined_return(self, latent, action, random):
        """The lambda-return [N] of the first imagined state when `action` [N, A] is taken in
        `latent` [N, ...] and the actor's samples follow."""
        config, count = self.config, action.shape[0]
        prior_noise = random.normal([config.horizon, count, config.stoch])
        actor_noise = self.actions.noise(random, config.horizon, count)
        first = tf.one_hot(0, config.horizon)

        def choose(state, noise, first):
            # As in learning, no gradient through what the actor sees: the first action is moved
            # for the later ones as they are.
            policy = self.behaviour.policy(tf.stop_gradient(state.features()))
            return tf.where(first > 0, action, policy.sample(noise)), tf.zeros([count])

        features, _ = self.world.imagine(
            latent, choose, [actor_noise, first], prior_noise, looping=False)
        return self.behaviour.returns(self.world, features)[0][0]

    def refine(self, latent, action, random):
        """Trajectory optimisation (CVRL, arXiv 2008.02430): a <- a + refine_rate dV/da."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(action)
            # The sum's gradient in a row is that row's own: rows do not meet in the model.
            total = tf.reduce_sum(self.imagined_return(latent, action, random))
        return action + self.config.refine_rate * tape.gradient(total, action)

    def search(self, latent, policy, action, random):
        """Forward search: the best first action of C imagined rollouts; the given action is one
        of the candidates."""
        count, candidates = action.shape[0], self.config.search_candidates
        others = policy.sample(self.actions.noise(random, candidates - 1, count))
        actions = tf.concat([action[None], others], 0)
        tiled = latent.map(lambda part: tf.tile(part, [candidates, 1]))
        returns = self.imagined_return(
            tiled, tf.reshape(actions, [-1, self.actions.size]), random)
        best = tf.argmax(tf.reshape(returns, [candidates, count]), 0)
        return tf.reduce_sum(
            actions * tf.one_hot(best, candidates, axis=0)[..., None], 0)
