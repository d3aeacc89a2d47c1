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
        # A choice has no neighbours to be moved to.
        self.refines = config.refine_actions and self.actions.smooth

    def advice(self):
        """A line on what the configuration asks for and the actions do not allow; or None."""
        if self.config.refine_actions and not self.refines:
            return ('no trajectory optimisation (--refine_actions): it moves actions along a '
                    'gradient, and those of this task are choices')
        return None

    def improved(self, latent, policy, action, random):
        """Actions [N, A] in place of `action`, which is drawn from `policy` in `latent` [N, ...]:
        searched and refined, as far as the configuration asks for it."""
        if self.config.search_candidates:
            action = self.search(latent, policy, action, random)
        if self.refines:
            action = self.refine(latent, action, random)
        return action

    def imagined_return(self, latent, action, random):
        """The lambda-return [N] of the first imagined state when `action` [N, A] is taken in
        `latent` [N, ...] and the actor's samples follow."""
        return self.rollout(latent, [action], *self.noise(random, action.shape[0]))[0]

    def noise(self, random, count):
        """What the rollouts of `count` rows are drawn by: (of the prior, of the actor)."""
        config = self.config
        return (random.normal([config.horizon, count, config.stoch]),
                self.actions.noise(random, config.horizon, count))

    def rollout(self, latent, plan, prior_noise, actor_noise, watch=lambda action: None):
        """(lambda-return [N] of the first imagined state, the H actions [N, A] in order) when the
        actions of `plan` are taken one after the other and the actor's samples follow. Each
        action is given to `watch` before it is used."""
        taken = []

        def choose(state, noise):
            # As in learning, no gradient through what the actor sees: actions are moved for the
            # later ones as they are.
            given = len(taken) < len(plan)
            action = plan[len(taken)] if given else tf.stop_gradient(
                self.behaviour.policy(state.features()).sample(noise))
            watch(action)
            taken.append(action)
            return action, tf.zeros(action.shape[:1])

        features, _ = self.world.imagine(
            latent, choose, [actor_noise], prior_noise, looping=False)
        return self.behaviour.returns(self.world, features)[0][0], taken

    def refine(self, latent, action, random):
        """Trajectory optimisation: `refine_steps` times, a_k <- a_k + refine_rate dV/da_k.

        `refine_plan` says for which k: all actions of one rollout (guided planning of CVRL, arXiv
        2008.02430), or the first, after which the actor chooses anew at each step.
        The first step moves the first action alike, as dV/da_1 is taken at the same rollout.
        """
        plan, noise = [action], self.noise(random, action.shape[0])
        for _ in range(self.config.refine_steps):
            plan = [self.actions.valid(action) for action in plan]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                returns, taken = self.rollout(latent, plan, *noise, tape.watch)
                # The sum's gradient in a row is that row's own: rows do not meet in the model.
                total = tf.reduce_sum(returns)
            moved = taken if self.config.refine_plan == 'all' else taken[:1]
            plan = [action + self.config.refine_rate * slope for action, slope in zip(
                moved, tape.gradient(total, moved))]
        return plan[0]

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
