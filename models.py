"""The model that the three methods share: latent dynamics, world model, behaviour, agent.

A method is one `Representation`, handed to `WorldModel`; nothing in this file asks which.
Shapes: B sequences of a batch, L entries of a sequence, N environments or starts, H imagined
decisions; F = stoch + deter, the width of the features; A values of an action.
"""

from typing import NamedTuple

import tensorflow as tf
import tf_keras

import networks
import tools
from config import flag
from networks import Dense, Perceptron, TanhNormal, log_normal, normal, tfd
from soft_actor_critic import SoftActorCritic


class State(NamedTuple):
    """A latent: the stochastic part with its distribution [..., S], and the deterministic part
    [..., D]; all float32."""

    mean: tf.Tensor
    deviation: tf.Tensor
    stochastic: tf.Tensor
    deterministic: tf.Tensor

    def distribution(self):
        return tfd.Normal(self.mean, self.deviation)

    def features(self):
        """[z, h], [..., F]: what every head reads."""
        return tf.concat([self.stochastic, self.deterministic], -1)

    def map(self, function):
        return State(*(function(part) for part in self))


class RecurrentStateSpaceModel(tf.Module):
    """h_t = GRU(elu(W1 [z_{t-1}, a_t]), h_{t-1}), prior p(z_t | h_t), posterior
    q(z_t | h_t, e_t) (PlaNet, arXiv 1811.04551): the weights; `read` gives the functions."""

    def __init__(self, config, actions, embedding, precision):
        super().__init__()
        self.deter, self.stoch, self.precision = config.deter, config.stoch, precision
        hidden, elu = config.hidden, tf.nn.elu
        self.input = Dense(config.stoch + actions, hidden, elu, precision)
        self.gates = Dense(hidden, 3 * config.deter, None, precision)
        self.recurrent = Dense(config.deter, 3 * config.deter, None, precision)
        self.recurrent.kernel.assign(
            tf_keras.initializers.Orthogonal()(self.recurrent.kernel.shape))
        self.prior_hidden = Dense(config.deter, hidden, elu, precision)
        self.prior_output = Dense(hidden, 2 * config.stoch, None, precision)
        self.posterior_hidden = Dense(config.deter + embedding, hidden, elu, precision)
        self.posterior_output = Dense(hidden, 2 * config.stoch, None, precision)

    def initial(self, count):
        """The zero latent of `count` rows."""
        return State(*(tf.zeros([count, width]) for width in (
            self.stoch, self.stoch, self.stoch, self.deter)))

    def read(self, compute=None):
        """The functions of one step, with the weights read and cast to `compute` once."""
        return Dynamics(self, compute or self.precision.compute)

    def filter(self, embedding, action, noise):
        """Posterior and prior states [B, L, ...] of sequences that start from zeros; of the
        posterior a sample, of the prior its mean.

        embedding [B, L, E], action [B, L, A] (a_t led to entry t), noise [B, L, S]. The same
        as transition, posterior and prior entry by entry; what does not depend on the
        recurrence is computed for all entries at once, before or after the loop.
        """
        # B rows are too few to gain from half precision: the recurrence runs in float32.
        step = self.read(tf.float32)
        from_state = self.input.read(
            tf.float32, rows=slice(self.stoch), bias=False, activation=False)
        from_action = self.input.read(
            tf.float32, rows=slice(self.stoch, None), activation=False)
        from_deterministic = self.posterior_hidden.read(
            tf.float32, rows=slice(self.deter), bias=False, activation=False)
        from_embedding = self.posterior_hidden.read(
            self.precision.compute, rows=slice(self.deter, None), activation=False)
        action, embedding = from_action(action), tf.cast(from_embedding(embedding), tf.float32)
        state, states = self.initial(action.shape[0]), []
        for a, e, step_noise in zip(*(
                tf.unstack(x, axis=1) for x in (action, embedding, noise))):
            inputs = tf.nn.elu(from_state(state.stochastic) + a)
            deterministic = step.gated(inputs, state.deterministic)
            hidden = tf.nn.elu(from_deterministic(deterministic) + e)
            state = step.state(step.posterior_output(hidden), step_noise, deterministic)
            states.append(state)
        posterior = State(*(tf.stack(parts, 1) for parts in zip(*states)))
        return posterior, self.read().prior(posterior.deterministic, 0.0)


class Dynamics:
    """The functions of one step of a `RecurrentStateSpaceModel`, for N rows. Products are in
    `compute`; gates, distributions and states are float32."""

    def __init__(self, model, compute):
        self.model = model
        self.input = model.input.read(compute)
        self.gates, self.recurrent = model.gates.read(compute), model.recurrent.read(compute)
        self.prior_hidden = model.prior_hidden.read(compute)
        self.prior_output = model.prior_output.read(compute)
        self.posterior_hidden = model.posterior_hidden.read(compute)
        self.posterior_output = model.posterior_output.read(compute)

    def transition(self, previous, action):
        """h_t [N, D] after `action` [N, A] in the state `previous`."""
        inputs = self.input(tf.concat([previous.stochastic, action], -1))
        return self.gated(inputs, previous.deterministic)

    def gated(self, inputs, deterministic):
        """A gated recurrent unit (arXiv 1406.1078) with the reset after the product, as cuDNN's
        and Keras's."""
        size = self.model.deter
        new, old = (tf.split(tf.cast(x, tf.float32), [2 * size, size], -1) for x in (
            self.gates(inputs), self.recurrent(deterministic)))
        update, reset = tf.split(tf.sigmoid(new[0] + old[0]), 2, -1)
        candidate = tf.tanh(new[1] + reset * old[1])
        return candidate + update * (deterministic - candidate)

    def prior(self, deterministic, noise):
        """The state predicted without an observation. noise: standard normal [..., S]; 0 gives
        the mean."""
        return self.state(
            self.prior_output(self.prior_hidden(deterministic)), noise, deterministic)

    def posterior(self, deterministic, embedding, noise):
        """The state after the embedding [N, E] of an observation."""
        hidden = self.posterior_hidden(tf.concat(
            [deterministic, tf.cast(embedding, tf.float32)], -1))
        return self.state(self.posterior_output(hidden), noise, deterministic)

    @staticmethod
    def state(parameters, noise, deterministic):
        """The state whose stochastic part is mean + deviation * noise."""
        mean, deviation = normal(parameters)
        return State(mean, deviation, mean + deviation * noise, deterministic)


class Representation(tf.Module):
    """The seam: what makes a method. A subclass says how an observation becomes the embedding
    that the dynamics read, and what is asked of the features.

    config: `Config`. shapes: sensor -> shape of its raw observation. features: F.
    precision: `networks.Precision`. `self.width` is the width of the joint embedding.
    """

    # Whether `reconstruct` predicts the sensors as part of the method. Where it does not, the
    # agent trains decoders beside it for the pictures.
    reconstructs = False

    def __init__(self, config, shapes, features, precision):
        super().__init__()
        self.encoders = networks.encoders(config, shapes, precision)
        self.width = 32 * config.conv_depth * len(shapes)

    def embed(self, observation):
        """Dict of embeddings [..., E]: 'joint' feeds the dynamics, other keys are the method's
        own. observation: raw values and flags [..., *shape] of each sensor."""
        raise NotImplementedError

    def loss(self, features, embeddings, observation):
        """Dict of losses, each float32 [B, L] whose mean is minimised. features [B, L, F]."""
        raise NotImplementedError

    def reconstruct(self, features):
        """sensor -> scaled predictions [..., *shape]; for pictures only."""
        return {}

    def metrics(self, features, embeddings, observation):
        """Scalars for the log: how well the latents and the sensors agree, where that can be
        said. features [B, L, F]."""
        return {}

    def trust(self, embeddings):
        """sensor -> its share [...] in the joint embedding; {} where it has none."""
        return {}

    def joined(self, observation):
        """All sensors' embeddings side by side, [..., 32 conv_depth sensors]."""
        return tf.concat([
            encoder(observation[sensor]) for sensor, encoder in self.encoders.items()], -1)


class WorldModel(tf.Module):
    """Representation, latent dynamics, and the heads for reward and discount."""

    def __init__(self, config, representation, shapes, actions, precision):
        super().__init__()
        self.config = config
        self.width = config.stoch + config.deter
        self.representation = representation(config, shapes, self.width, precision)
        self.dynamics = RecurrentStateSpaceModel(
            config, actions, self.representation.width, precision)
        self.reward_head = Perceptron(self.width, 2, config.units, 1, precision)
        self.discount_head = Perceptron(
            self.width, 3, config.units, 1, precision) if config.pcont else None

    def reward(self, features):
        """The most likely reward, [..., F] -> [...]."""
        return self.reward_head(features)[..., 0]

    def discount(self, features):
        """The discount of going on, [..., F] -> [...]."""
        if self.discount_head is None:
            return tf.fill(tf.shape(features)[:-1], self.config.discount)
        return tf.sigmoid(self.discount_head(features)[..., 0])

    def loss(self, batch, noise):
        """Total loss (scalar), its named terms and metrics, and the posterior [B, L, ...].

        batch: raw observations with flags, action, reward, discount, each [B, L, ...].
        noise: standard normal [B, L, S], of the posterior's samples.
        """
        leading = list(batch['reward'].shape)
        embeddings = self.representation.embed(batch)
        posterior, prior = self.dynamics.filter(
            embeddings['joint'], batch['action'], noise)
        features = posterior.features()
        divergence = tf.reduce_mean(tf.reduce_sum(
            tfd.kl_divergence(posterior.distribution(), prior.distribution()), -1))
        terms = {'reward_loss': -log_normal(batch['reward'], self.reward(features))}
        if self.discount_head is not None:
            ends = tfd.Bernoulli(logits=self.discount_head(features)[..., 0])
            terms['discount_loss'] = -ends.log_prob(
                self.config.discount * batch['discount'])
        for name, value in self.representation.loss(features, embeddings, batch).items():
            terms[name] = value
        for name, value in terms.items():
            assert value.shape == leading and value.dtype == tf.float32, (name, value)
        terms = {name: tf.reduce_mean(value) for name, value in terms.items()}
        # Averaged before it is clipped: only the mean has the free nats.
        total = tf.maximum(divergence, self.config.free_nats) + tf.add_n(list(terms.values()))
        metrics = {
            'model_loss': total, 'divergence': divergence,
            # Below the free nats nothing trains the prior, by which all imagination is made.
            'prior_learns': tf.cast(divergence > self.config.free_nats, tf.float32), **terms,
            'posterior_entropy': tf.reduce_mean(
                tf.reduce_sum(posterior.distribution().entropy(), -1)),
            'prior_entropy': tf.reduce_mean(
                tf.reduce_sum(prior.distribution().entropy(), -1)),
            **self.representation.metrics(features, embeddings, batch)}
        return total, metrics, posterior

    def observe(self, state, action, observation, noise):
        """The posterior after one more observation of N environments: raw [N, ...]."""
        embedding = self.representation.embed(observation)['joint']
        step = self.dynamics.read(tf.float32)  # as the recurrence of `filter`
        return step.posterior(step.transition(state, action), embedding, noise)

    def imagine(self, state, choose, noise):
        """Unroll the prior from `state` [N, ...] by the actions [N, A] = choose(state, step).

        noise [H, N, S]. Returns features [H, N, F]: the first is of the state *after* the
        first action.
        """
        dynamics, features = self.dynamics.read(), []
        for step, step_noise in enumerate(tf.unstack(noise)):
            action = choose(state, step)
            state = dynamics.prior(dynamics.transition(state, action), step_noise)
            features.append(state.features())
        return tf.stack(features)


def lambda_return(reward, value, discount, disclam):
    """V_k = r_k + gamma_k ((1 - lambda) v_{k+1} + lambda V_{k+1}), V_H = v_H, for k = 1..H-1.

    reward, value, discount [H, N] of the imagined states; returns [H - 1, N]
    (Dreamer, arXiv 1912.01603, eq. 6).
    """
    # What does not depend on the recurrence, for all steps at once.
    inputs = reward[:-1] + discount[:-1] * (1 - disclam) * value[1:]
    last, returns = value[-1], []
    for step, gamma in zip(*(
            reversed(tf.unstack(x)) for x in (inputs, disclam * discount[:-1]))):
        last = step + gamma * last
        returns.append(last)
    return tf.stack(returns[::-1])


class ActorCritic(tf.Module):
    """The actor and the value, learned on imagined features."""

    def __init__(self, config, features, actions, precision):
        super().__init__()
        self.config, self.actions = config, actions
        self.actor = Perceptron(features, 4, config.units, 2 * actions, precision)
        self.value_head = Perceptron(features, 3, config.units, 1, precision)

    def policy(self, features):
        """The distribution of actions given features [..., F]."""
        return TanhNormal(self.actor(features))

    def value(self, features):
        """The expected return, [..., F] -> [...]."""
        return self.value_head(features)[..., 0]

    def returns(self, world, features):
        """(lambda-returns [H - 1, N], rewards, values and discounts [H, N]) of features
        [H, N, F]."""
        rewards, values, discounts = (
            head(features) for head in (world.reward, self.value, world.discount))
        returns = lambda_return(rewards, values, discounts, self.config.disclam)
        return returns, rewards, values, discounts

    def losses(self, world, features):
        """(actor loss, value loss, metrics) on imagined features [H, N, F].

        The value is evaluated once: the actor loss goes back through it to the features, the
        value loss to its weights.
        """
        returns, rewards, values, discounts = self.returns(world, features)
        # The chance that an imagined state is reached at all: 1 for the first.
        weights = tf.stop_gradient(tf.math.cumprod(
            tf.concat([tf.ones_like(discounts[:1]), discounts[:-2]], 0), 0))
        actor_loss = -tf.reduce_mean(weights * returns)
        value_loss = -tf.reduce_mean(
            weights * log_normal(tf.stop_gradient(returns), values[:-1]))
        metrics = {
            'actor_loss': actor_loss, 'value_loss': value_loss,
            'imagined_reward': tf.reduce_mean(rewards),
            'imagined_return': tf.reduce_mean(returns), 'value': tf.reduce_mean(values)}
        return actor_loss, value_loss, metrics


class Agent(tf.Module):
    """World model, behaviour and their optimisers: `policy` acts, `train` learns.

    shapes: sensor -> raw shape. actions: A. All randomness is drawn from one generator that
    is part of the state, so a restored agent goes on exactly as the saved one would have.
    """

    def __init__(self, config, representation, shapes, actions):
        super().__init__()
        self.config, self.shapes, self.actions = config, dict(shapes), actions
        self.precision = networks.Precision(tools.compute_type(config.precision))
        self.compute = self.precision.compute
        self.random = tf.random.Generator.from_seed(config.seed)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.world = WorldModel(config, representation, shapes, actions, self.precision)
        self.behaviour = ActorCritic(config, self.world.width, actions, self.precision)
        self.decoders = networks.decoders(config, shapes, self.world.width, self.precision) if (
            config.probe_frames and not self.world.representation.reconstructs) else {}
        self.soft = SoftActorCritic(
            config, self.world.width, actions, self.precision) if config.use_sac else None
        world, actor, value = (part.trainable_variables for part in (
            self.world, self.behaviour.actor, self.behaviour.value_head))
        learners = {
            'model': (world, config.model_rate), 'actor': (actor, config.actor_rate),
            'value': (value, config.value_rate)}
        if self.decoders:
            learners['decoders'] = (
                [v for d in self.decoders.values() for v in d.trainable_variables],
                config.model_rate)
        if self.soft:
            learners |= {
                'critic': (self.soft.critics_variables(), config.sac_rate),
                'soft_actor': (actor, config.actor_rate),
                'temperature': ([self.soft.log_temperature], config.sac_rate)}
        self.optimisers = {
            name: tools.Optimiser(
                name, variables, rate, config.clip, config.weight_decay,
                loss_scaling=self.compute == tf.float16)
            for name, (variables, rate) in learners.items()}
        self.precision.copy(world + actor + value)
        # Loops and branches here are Python's own, so AutoGraph would find nothing to convert,
        # at half of the time that building the graph takes.
        self.train = tf.function(self._train, autograph=False, jit_compile=config.xla or None)
        self.policy = tf.function(self._policy, autograph=False)
        self.open_loop = tf.function(self._open_loop, autograph=False)
        self.explain = tf.function(self._explain, autograph=False)

    def parts(self):
        """name -> trainable values of each part, for reports."""
        count = lambda variables: sum(int(tf.size(v)) for v in variables)  # noqa: E731
        parts = {
            'world model': count(self.world.trainable_variables),
            'actor': count(self.behaviour.actor.trainable_variables),
            'value': count(self.behaviour.value_head.trainable_variables)}
        for name, optimiser in self.optimisers.items():
            if name in ('decoders', 'critic'):
                parts[name + (' (for pictures)' if name == 'decoders' else '')] = count(
                    optimiser.targets)
        return parts

    # --- Learning ---

    def _train(self, batch):
        """One update of every part on a batch of tensors [B, L, ...]; returns scalar metrics."""
        config = self.config
        size = list(batch['reward'].shape)
        start, metrics = self._train_model(
            batch, self.random.normal([*size, config.stoch]))
        metrics |= self._train_behaviour(start)
        if self.decoders:
            metrics |= self._train_decoders(start.features(), batch)
        if self.soft:
            metrics |= self.soft.train(
                self.behaviour, self.optimisers, start.features(), batch, self.random)
        self.precision.refresh()
        self.updates.assign_add(1)
        return metrics

    def _train_model(self, batch, noise):
        optimiser = self.optimisers['model']
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(optimiser.targets)
            loss, metrics, posterior = self.world.loss(batch, noise)
            scaled = optimiser.scaled(loss)
        metrics['model_gradient'] = optimiser.step(tape, scaled)
        return posterior.map(tf.stop_gradient), metrics

    def _train_behaviour(self, posterior):
        """Imagine from every posterior state [B, L, ...] and step the actor and the value."""
        config = self.config
        start = posterior.map(lambda part: tf.reshape(part, [-1, part.shape[-1]]))
        count = start.stochastic.shape[0]
        prior_noise = self.random.normal([config.horizon, count, config.stoch])
        actor_noise = self.random.normal([config.horizon, count, self.actions])
        actor, value = self.optimisers['actor'], self.optimisers['value']
        noises, policies = tf.unstack(actor_noise), []

        def choose(state, step):
            # Features without gradient: the actor learns through the dynamics alone.
            policies.append(self.behaviour.policy(tf.stop_gradient(state.features())))
            return policies[-1].sample(noises[step])

        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([actor.targets, value.targets])
            features = self.world.imagine(start, choose, prior_noise)
            actor_loss, value_loss, metrics = self.behaviour.losses(self.world, features)
            actor_scaled, value_scaled = actor.scaled(actor_loss), value.scaled(value_loss)
        metrics['actor_gradient'] = actor.step(tape, actor_scaled)
        metrics['value_gradient'] = value.step(tape, value_scaled)
        _, logs = policies[0].sample_and_log(noises[0])
        metrics['actor_entropy'] = -tf.reduce_mean(logs)
        return metrics

    def _train_decoders(self, features, batch):
        """Fit the decoders of the pictures to a few frames; they change nothing else."""
        optimiser = self.optimisers['decoders']
        total = features.shape[0] * features.shape[1]
        rows = self.random.uniform(
            [min(self.config.probe_frames, total)], maxval=total, dtype=tf.int32)
        take = lambda x: tf.gather(tf.reshape(x, [total, *x.shape[2:]]), rows)  # noqa: E731
        features = tf.stop_gradient(take(features))
        keys = [key for sensor in self.shapes for key in (sensor, flag(sensor))]
        observation = {key: take(batch[key]) for key in keys}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(optimiser.targets)
            losses = networks.reconstruction_losses(
                {s: decoder(features) for s, decoder in self.decoders.items()}, observation)
            loss = tf.add_n([tf.reduce_mean(value) for value in losses.values()])
            scaled = optimiser.scaled(loss)
        return {'decoders_loss': loss, 'decoders_gradient': optimiser.step(tape, scaled)}

    # --- Acting ---

    def initial(self, count):
        """The policy state of `count` environments: latent and last action, zeros."""
        state = self.world.dynamics.initial(count)
        return state._asdict() | {'action': tf.zeros([count, self.actions])}

    def _policy(self, observation, state, exploring):
        """(actions [N, A], next policy state) for raw observations [N, ...] of N environments.

        observation also holds is_first [N] (bool): rows where an episode begins, whose state
        is reset. exploring: True acts by a sample with noise, False by the mode.
        """
        first = observation['is_first'][:, None]
        state = {key: tf.where(first, 0.0, value) for key, value in state.items()}
        action = state.pop('action')
        noise = self.random.normal([action.shape[0], self.config.stoch])
        with self.precision.reading_copies():
            latent = self.world.observe(State(**state), action, observation, noise)
            action = self.act(latent, exploring)
        return action, latent._asdict() | {'action': action}

    def act(self, latent, exploring):
        """Actions [N, A] in [-1, 1] for latents [N, ...]."""
        config, count = self.config, latent.stochastic.shape[0]
        policy = self.behaviour.policy(latent.features())
        if exploring:
            action = policy.sample(self.random.normal([count, self.actions]))
        else:
            action = policy.mode(self.random.normal([100, count, self.actions]))
        if config.search_candidates:
            action = self._search(latent, policy, action)
        if config.refine_actions:
            action = self._refine(latent, action)
        if exploring and config.explore_noise:
            action += config.explore_noise * self.random.normal([count, self.actions])
        return tf.clip_by_value(action, -1, 1)

    def imagined_return(self, latent, action):
        """The lambda-return [N] of the first imagined state when `action` [N, A] is taken in
        `latent` [N, ...] and the actor's samples follow."""
        config, count = self.config, action.shape[0]
        prior_noise = self.random.normal([config.horizon, count, config.stoch])
        actor_noise = self.random.normal([config.horizon, count, self.actions])

        def choose(state, step):
            if step == 0:
                return action
            # As in learning, no gradient through what the actor sees: the first action is moved
            # for the later ones as they are.
            return self.behaviour.policy(
                tf.stop_gradient(state.features())).sample(actor_noise[step])

        features = self.world.imagine(latent, choose, prior_noise)
        return self.behaviour.returns(self.world, features)[0][0]

    def _refine(self, latent, action):
        """Trajectory optimisation: a <- a + rate dV/da, each environment by its own return."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(action)
            # The sum's gradient in a row is that row's own: rows do not meet in the model.
            total = tf.reduce_sum(self.imagined_return(latent, action))
        return action + self.config.refine_rate * tape.gradient(total, action)

    def _search(self, latent, policy, action):
        """Forward search: the best first action of several imagined rollouts, by each
        environment's own returns; the given action is one of the candidates."""
        count, candidates = action.shape[0], self.config.search_candidates
        others = policy.sample(self.random.normal([candidates - 1, count, self.actions]))
        actions = tf.concat([action[None], others], 0)
        tiled = latent.map(lambda part: tf.tile(part, [candidates, 1]))
        returns = self.imagined_return(tiled, tf.reshape(actions, [-1, self.actions]))
        best = tf.argmax(tf.reshape(returns, [candidates, count]), 0)
        return tf.reduce_sum(
            actions * tf.one_hot(best, candidates, axis=0)[..., None], 0)

    # --- Pictures ---

    def reconstruct(self, features):
        """sensor -> scaled predictions [..., *shape]; {} where nothing decodes."""
        if self.decoders:
            return {sensor: decoder(features) for sensor, decoder in self.decoders.items()}
        return self.world.representation.reconstruct(features)

    def _open_loop(self, batch, observed=5):
        """sensor -> scaled predictions [B, L, *shape]: the first `observed` entries from the
        posterior, the others imagined by the recorded actions without looking."""
        count, length = batch['reward'].shape
        observed = min(observed, length)
        embeddings = self.world.representation.embed(
            {key: value[:, :observed] for key, value in batch.items()})
        posterior, _ = self.world.dynamics.filter(
            embeddings['joint'], batch['action'][:, :observed],
            self.random.normal([count, observed, self.config.stoch]))
        features = posterior.features()
        if length > observed:
            imagined = self.world.imagine(
                posterior.map(lambda part: part[:, -1]),
                lambda state, step: batch['action'][:, observed + step],
                self.random.normal([length - observed, count, self.config.stoch]))
            features = tf.concat([features, tf.transpose(imagined, [1, 0, 2])], 1)
        return self.reconstruct(features)

    def _explain(self, latents, observation):
        """What the model holds of an episode, entry by entry: latents and raw observations
        [T, ...] -> divergence, predicted reward, value and trust [T], the representation's
        metrics, and reconstructions."""
        state = State(**latents)
        features = state.features()
        prior = self.world.dynamics.read().prior(state.deterministic, 0.0)
        embeddings = self.world.representation.embed(observation)
        # The representation's numbers are defined for sequences: here, one of length T.
        sequence = lambda x: tf.nest.map_structure(lambda y: y[None], x)  # noqa: E731
        return {
            'divergence': tf.reduce_sum(
                tfd.kl_divergence(state.distribution(), prior.distribution()), -1),
            'reward': self.world.reward(features),
            'value': self.behaviour.value(features),
            'trust': self.world.representation.trust(embeddings),
            'metrics': self.world.representation.metrics(
                features[None], sequence(embeddings), sequence(observation)),
            'pictures': self.reconstruct(features)}
