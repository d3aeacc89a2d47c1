"""The model that the three methods share: latent dynamics, world model, behaviour.

A method is one `Representation`, handed to `WorldModel`; nothing in this file asks which.
Shapes: B sequences of a batch, L entries of a sequence, N environments or starts, H imagined
decisions; F = stoch + deter, the width of the features; A values of an action.
"""

from typing import NamedTuple

import tensorflow as tf
import tf_keras

import networks
from networks import Dense, Perceptron, log_normal, normal, tfd
from optimisers import SlowCopy


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


def unrolled(entry, state, inputs, looping=True):
    """States [T, ...] after each of T entries: state = entry(state, *inputs of the entry).

    state: nested tensors. inputs: tensors [T, ...]. looping: by a loop of TensorFlow, so that the
    graph holds one entry and is built in a fraction of the time; otherwise by one of Python, which
    is a millisecond or two faster where an entry has few rows.
    """
    if not looping:
        states = []
        for each in zip(*(tf.unstack(x) for x in inputs)):
            state = entry(state, *each)
            states.append(state)
        return tf.nest.map_structure(lambda *parts: tf.stack(parts), *states)
    length = inputs[0].shape[0]
    arrays = [
        tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in inputs]
    states = [tf.TensorArray(part.dtype, length, element_shape=part.shape)
              for part in tf.nest.flatten(state)]

    def body(index, state, states):
        state = entry(state, *(array.read(index) for array in arrays))
        parts = tf.nest.flatten(state)
        return index + 1, state, [
            array.write(index, part) for array, part in zip(states, parts, strict=True)]

    _, _, states = tf.while_loop(
        lambda index, *_: index < length, body, (0, state, states), maximum_iterations=length)
    return tf.nest.pack_sequence_as(state, [array.stack() for array in states])


class RecurrentStateSpaceModel(tf.Module):
    """h_t = GRU(elu(W1 [z_{t-1}, a_t]), h_{t-1}), prior p(z_t | h_t), posterior
    q(z_t | h_t, e_t) (PlaNet, arXiv 1811.04551): the weights; `read` gives the functions."""

    def __init__(self, config, actions, embedding, precision):
        super().__init__()
        self.deter, self.stoch, self.precision = config.deter, config.stoch, precision
        hidden, elu = config.hidden, tf.nn.elu
        self.input = Dense(config.stoch + actions.size, hidden, elu, precision)
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
        """The functions of one entry, with the weights read and cast to `compute` once."""
        return Dynamics(self, compute or self.precision.compute)

    def filter(self, embedding, action, noise):
        """Posterior and prior states [B, L, ...] of sequences that start from zeros; of the
        posterior a sample, of the prior its mean.

        embedding [B, L, E], action [B, L, A] (a_t led to entry t), noise [B, L, S]. The same
        as transition, posterior and prior entry by entry; what does not depend on the
        recurrence is computed for all entries at once, before or after the loop.
        """
        # B rows are too few to gain from half precision: the recurrence runs in float32.
        dynamics = self.read(tf.float32)
        from_state = self.input.read(
            tf.float32, rows=slice(self.stoch), bias=False, activation=False)
        from_action = self.input.read(
            tf.float32, rows=slice(self.stoch, None), activation=False)
        from_deterministic = self.posterior_hidden.read(
            tf.float32, rows=slice(self.deter), bias=False, activation=False)
        from_embedding = self.posterior_hidden.read(
            self.precision.compute, rows=slice(self.deter, None), activation=False)
        action, embedding = from_action(action), tf.cast(from_embedding(embedding), tf.float32)

        def entry(state, action, embedding, noise):
            inputs = tf.nn.elu(from_state(state.stochastic) + action)
            deterministic = dynamics.gated(inputs, state.deterministic)
            hidden = tf.nn.elu(from_deterministic(deterministic) + embedding)
            return dynamics.state(dynamics.posterior_output(hidden), noise, deterministic)

        states = unrolled(entry, self.initial(action.shape[0]), [
            tf.transpose(x, [1, 0, 2]) for x in (action, embedding, noise)])
        posterior = states.map(lambda part: tf.transpose(part, [1, 0, 2]))
        return posterior, self.read().prior(posterior.deterministic, 0.0)


class Dynamics:
    """The functions of one entry of a `RecurrentStateSpaceModel`, for N rows. Products are in
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
    precision: `precision.Precision`. `self.width` is the width of the joint embedding.
    """

    # Whether `reconstruct` predicts the sensors as part of the method. Where it does not, the
    # agent trains decoders beside it for the pictures.
    reconstructs = False

    def __init__(self, config, shapes, features, precision):
        super().__init__()
        self.shapes = dict(shapes)
        self.encoders = networks.encoders(config, shapes, precision)
        self.width = 32 * config.conv_depth * len(shapes)

    def embed(self, observation, hidden=None):
        """Dict of embeddings [..., E]: 'joint' feeds the dynamics, other keys are the method's
        own. observation: raw values and flags [..., *shape] of each sensor. hidden: sensor -> bool
        [..., 1], where it counts as missing in 'joint' and in nothing else (`--withhold`)."""
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

    def encoded(self, observation):
        """sensor -> its embedding [..., 32 conv_depth]."""
        return {sensor: encoder(observation[sensor]) for sensor, encoder in self.encoders.items()}

    def joined(self, encoded, hidden=None):
        """All sensors' embeddings side by side, [..., 32 conv_depth sensors]. A hidden one is that
        of zeros, as which a missing sensor is read."""
        for sensor, mask in (hidden or {}).items():
            encoder = self.encoders[sensor]
            zeros = encoder(tf.zeros([1, *self.shapes[sensor]]))[0]
            encoded = encoded | {sensor: tf.where(mask, zeros, encoded[sensor])}
        return tf.concat(list(encoded.values()), -1)


class WorldModel(tf.Module):
    """Representation, latent dynamics, and the heads for reward and discount. actions: the part of
    actions.py for the action space."""

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

    def loss(self, batch, noise, hidden=None):
        """Total loss (scalar), its named terms and metrics, and the posterior [B, L, ...].

        batch: raw observations with flags, action, reward, discount, each [B, L, ...].
        noise: standard normal [B, L, S], of the posterior's samples. hidden: sensor -> bool
        [B, 1, 1], sequences whose dynamics do not see it; it is predicted or scored all the same.
        """
        leading = list(batch['reward'].shape)
        embeddings = self.representation.embed(batch, *([hidden] if hidden else []))
        posterior, prior = self.dynamics.filter(
            embeddings['joint'], batch['action'], noise)
        features = posterior.features()
        divergence, pull, learns = self.divergence(posterior, prior)
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
        total = pull + tf.add_n(list(terms.values()))
        metrics = {
            'model_loss': total, 'divergence': divergence, 'prior_learns': learns, **terms,
            'posterior_entropy': tf.reduce_mean(
                tf.reduce_sum(posterior.distribution().entropy(), -1)),
            'prior_entropy': tf.reduce_mean(
                tf.reduce_sum(prior.distribution().entropy(), -1)),
            **self.representation.metrics(features, embeddings, batch)}
        return total, metrics, posterior

    def divergence(self, posterior, prior):
        """(mean divergence of posterior from prior, what of it is minimised, whether that trains
        the prior: 1 or 0), scalars, of states [B, L, ...]."""
        def mean(left, right):
            return tf.reduce_mean(tf.reduce_sum(
                tfd.kl_divergence(left.distribution(), right.distribution()), -1))
        config, divergence = self.config, mean(posterior, prior)
        if config.kl_balance:
            # DreamerV2 (arXiv 2010.02193, section 2): the prior learns faster than the posterior
            # is held back; here, at any divergence, as the free nats are the posterior's alone.
            still = tf.stop_gradient
            pull = config.kl_balance * mean(posterior.map(still), prior) + (
                1 - config.kl_balance) * tf.maximum(
                    mean(posterior, prior.map(still)), config.free_nats)
            return divergence, pull, tf.ones([])
        # Averaged before it is clipped: only the mean has the free nats. Below them nothing trains
        # the prior, by which all imagination is made.
        return divergence, tf.maximum(divergence, config.free_nats), tf.cast(
            divergence > config.free_nats, tf.float32)

    def observe(self, state, action, observation, noise):
        """The posterior after one more observation of N environments: raw [N, ...]."""
        embedding = self.representation.embed(observation)['joint']
        dynamics = self.dynamics.read(tf.float32)  # as the recurrence of `filter`
        return dynamics.posterior(dynamics.transition(state, action), embedding, noise)

    def imagine(self, state, choose, inputs, noise, looping=True):
        """Unroll the prior from `state` [N, ...] by the actions (action [N, A], said) =
        choose(state, *inputs of the decision).

        inputs: tensors [H, ...]; noise [H, N, S]; said: a tensor [N]. Returns features [H, N, F],
        the first of the state *after* the first action, and all that was said [H, N]. looping: see
        `unrolled`.
        """
        dynamics = self.dynamics.read()

        def decide(before, noise, *inputs):
            state, _ = before
            action, said = choose(state, *inputs)
            return dynamics.prior(dynamics.transition(state, action), noise), said

        states, said = unrolled(
            decide, (state, tf.zeros(noise.shape[1:2])), [noise, *inputs], looping)
        return states.features(), said


def lambda_return(reward, value, discount, disclam):
    """V_k = r_k + gamma_k ((1 - lambda) v_{k+1} + lambda V_{k+1}), V_H = v_H, for k = 1..H-1.

    reward, value, discount [H, N] of the imagined states; returns [H - 1, N]
    (Dreamer, arXiv 1912.01603, eq. 6).
    """
    # What does not depend on the recurrence, for all of them at once.
    inputs = reward[:-1] + discount[:-1] * (1 - disclam) * value[1:]
    last, returns = value[-1], []
    for start, factor in zip(*(
            reversed(tf.unstack(x)) for x in (inputs, disclam * discount[:-1]))):
        last = start + factor * last
        returns.append(last)
    return tf.stack(returns[::-1])


class ActorCritic(tf.Module):
    """The actor and the value, learned on imagined features. actions: the part of actions.py."""

    def __init__(self, config, features, actions, precision):
        super().__init__()
        self.config, self.actions = config, actions
        self.actor = Perceptron(features, 4, config.units, actions.parameters, precision)
        def make():
            return Perceptron(features, 3, config.units, 1, precision)
        self.value_head = make()
        # What returns are bootstrapped from: the value, or a copy that follows it slowly, so that
        # the value does not learn from what it has just said.
        self.followers = [SlowCopy(self.value_head, make, config.slow_value)] if (
            config.slow_value) else []
        self.bootstrap_head = (self.followers or [self.value_head])[0]

    def policy(self, features):
        """The distribution of actions given features [..., F]."""
        return self.actions.distribution(self.actor(features))

    def value(self, features):
        """The expected return, [..., F] -> [...]."""
        return self.value_head(features)[..., 0]

    def returns(self, world, features):
        """(lambda-returns [H - 1, N], rewards, values that they are bootstrapped from and
        discounts [H, N]) of features [H, N, F]."""
        rewards, discounts = world.reward(features), world.discount(features)
        values = self.bootstrap_head(features)[..., 0]
        returns = lambda_return(rewards, values, discounts, self.config.disclam)
        return returns, rewards, values, discounts

    def losses(self, world, features, entropy):
        """(actor loss, value loss, metrics) on imagined features [H, N, F] and the entropies of
        the actions that led to them [H, N], in nats.

        Where returns are bootstrapped from the value itself it is evaluated once: the actor loss
        goes back through it to the features, the value loss to its weights.
        """
        returns, rewards, values, discounts = self.returns(world, features)
        values = self.value(features) if self.followers else values
        # The chance that an imagined state is reached at all: 1 for the first.
        weights = tf.stop_gradient(tf.math.cumprod(
            tf.concat([tf.ones_like(discounts[:1]), discounts[:-2]], 0), 0))
        actor_loss = -tf.reduce_mean(weights * returns)
        if self.config.entropy_bonus:
            actor_loss -= self.config.entropy_bonus * tf.reduce_mean(entropy)
        value_loss = -tf.reduce_mean(
            weights * log_normal(tf.stop_gradient(returns), values[:-1]))
        metrics = {
            'actor_loss': actor_loss, 'value_loss': value_loss,
            'imagined_reward': tf.reduce_mean(rewards),
            'imagined_return': tf.reduce_mean(returns), 'value': tf.reduce_mean(values),
            # Of a value that is a mean over the future of such rewards: above 1 it is too high.
            'value_ratio': tf.math.divide_no_nan(
                (1 - self.config.discount) * tf.reduce_mean(values), tf.reduce_mean(rewards))}
        return actor_loss, value_loss, metrics
