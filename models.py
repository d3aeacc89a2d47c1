"""The model that the three methods share: world model and behaviour, on latent dynamics.

A method is one `Representation`, handed to `WorldModel`; nothing in this file asks which.
Shapes: B sequences of a batch, L entries of a sequence, N environments or starts, H imagined
decisions; F = stoch + deter, the width of the features; A values of an action.
"""

import tensorflow as tf

import networks
from dynamics import RecurrentStateSpaceModel, unrolled
from networks import Perceptron, log_normal, tfd
from optimisers import SlowCopy
from replicas import averaged


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
        self.shapes, self.compiled = dict(shapes), config.xla
        self.encoders = networks.encoders(config, shapes, precision)
        self.width = 32 * config.conv_depth * len(shapes)
        self.decoders = {}

    def embed(self, observation, withheld=None):
        """Dict of embeddings [..., E]: 'joint' feeds the dynamics, other keys are the method's
        own. observation: raw values and flags [..., *shape] of each sensor; those of one that is
        missing are zeros. withheld: sensor ->
        bool [..., 1], where it counts as missing in 'joint' and in nothing else (`--withhold`)."""
        return {'joint': self.joined(self.encoded(observation), withheld)}

    def loss(self, features, embeddings, observation):
        """Dict of losses, each float32 [B, L] whose mean is minimised. features [B, L, F]."""
        raise NotImplementedError

    def reconstruct(self, features):
        """sensor -> scaled predictions [..., *shape], of those that have a decoder."""
        return {sensor: decoder(features) for sensor, decoder in self.decoders.items()}

    def reconstruction_losses(self, features, observation):
        """sensor -> - f log p(o | s), [B, L] float32, of the sensors that have a decoder."""
        return networks.reconstruction_losses(
            self.decoders, features, observation, self.compiled)

    def metrics(self, features, embeddings, observation):
        """Scalars for the log: how well the latents and the sensors agree, where that can be
        said. features [B, L, F]."""
        return {}

    def trust(self, embeddings):
        """sensor -> its share [...] in the joint embedding; {} where it has none."""
        return {}

    def encoded(self, observation):
        """sensor -> its embedding [..., 32 conv_depth]."""
        def code(sensor, encoder):
            raw, flags = observation[sensor], networks.present(sensor, observation)
            if networks.worthwhile(encoder, flags, self.compiled):
                return networks.of_present(encoder, flags, raw)
            return encoder(raw)
        return {sensor: code(sensor, encoder) for sensor, encoder in self.encoders.items()}

    def joined(self, encoded, withheld=None):
        """All sensors' embeddings side by side, [..., 32 conv_depth sensors]. A withheld one is
        that of zeros, as which a missing sensor is read."""
        for sensor, mask in (withheld or {}).items():
            encoder = self.encoders[sensor]
            zeros = encoder(tf.zeros([1, *self.shapes[sensor]]))[0]
            encoded = encoded | {sensor: tf.where(mask, zeros, encoded[sensor])}
        return tf.concat(list(encoded.values()), -1)


def united(*parts):
    """All of `parts`, dicts of losses and metrics by name; ValueError where one name is two."""
    found = {}
    for part in parts:
        if twice := found.keys() & part.keys():
            raise ValueError(f'{min(twice)!r} is already the name of a loss or a metric; give '
                             'yours another')
        found |= part
    return found


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

    def loss(self, batch, noise, withheld=None):
        """Total loss (scalar), its named terms and metrics, and the posterior [B, L, ...].

        batch: raw observations with flags, action, reward, discount, each [B, L, ...]; is_first
        where a sequence may hold more than one episode.
        noise: standard normal [B, L, S], of the posterior's samples. withheld: sensor -> bool
        [B, 1, 1], sequences whose dynamics do not see it; it is predicted or scored all the same.
        """
        leading = list(batch['reward'].shape)
        embeddings = self.representation.embed(batch, withheld)
        posterior, prior = self.dynamics.filter(
            embeddings['joint'], batch['action'], noise, batch.get('is_first'))
        features = posterior.features()
        divergence, pull, learns = self.divergence(posterior, prior)
        terms = {'reward_loss': -log_normal(batch['reward'], self.reward(features))}
        if self.discount_head is not None:
            ends = tfd.Bernoulli(logits=self.discount_head(features)[..., 0])
            terms['discount_loss'] = -ends.log_prob(
                self.config.discount * batch['discount'])
        terms = united(terms, self.representation.loss(features, embeddings, batch))
        for name, value in terms.items():
            if value.shape != leading or value.dtype != tf.float32:
                raise ValueError(
                    f'the loss {name!r} is {value.dtype.name} {list(value.shape)}, and has to be '
                    f'float32 [B, L] = {leading}: one for each entry, by tf.cast where it comes '
                    'from products in half precision')
        terms = {name: tf.reduce_mean(value) for name, value in terms.items()}
        total = pull + tf.add_n(list(terms.values())) + (
            self.config.reward_weight - 1) * terms['reward_loss']
        metrics = united({
            'model_loss': total, 'divergence': divergence, 'prior_learns': learns,
            'posterior_entropy': tf.reduce_mean(
                tf.reduce_sum(posterior.distribution().entropy(), -1)),
            'prior_entropy': tf.reduce_mean(
                tf.reduce_sum(prior.distribution().entropy(), -1))},
            terms, self.representation.metrics(features, embeddings, batch))
        return total, metrics, posterior

    def divergence(self, posterior, prior):
        """(mean divergence of posterior from prior, what of it is minimised, whether that trains
        the prior: 1 or 0), scalars, of states [B, L, ...]."""
        def mean(left, right):  # of the whole batch: it is clipped
            return averaged(tf.reduce_mean(tf.reduce_sum(
                tfd.kl_divergence(left.distribution(), right.distribution()), -1)))
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

    def losses(self, world, features, entropy, alive=1.0, held=None):
        """(actor loss, value loss, metrics) on imagined features [H, N, F] and the entropies of
        the imagined actions [.., N], in nats. alive [N]: 0 for starts at the end of a task, after
        which nothing follows.

        The actor ascends the returns through what led to the features. held [H - 1, N]: the log
        probabilities of the actions that were taken in the features, all but the last, by which
        it ascends instead: log pi(a | s) (V - v(s)), by REINFORCE.

        Where returns are bootstrapped from the value itself it is evaluated once: the actor loss
        goes back through it to the features, the value loss to its weights.
        """
        returns, rewards, bootstraps, discounts = self.returns(world, features)
        ascended = returns if held is None else held * tf.stop_gradient(
            returns - bootstraps[:-1])
        values = self.value(features) if self.followers else bootstraps
        # The chance that an imagined state is reached at all: 1 for the first.
        weights = tf.stop_gradient(tf.math.cumprod(
            tf.concat([tf.ones_like(discounts[:1]) * alive, discounts[:-2]], 0), 0))
        if self.config.entropy_bonus:
            # An action's entropy has the weight of the state that it leads to, or by REINFORCE of
            # the state in which it is taken: nothing is decided after the end of a task.
            ascended += self.config.entropy_bonus * entropy[:weights.shape[0]]
        actor_loss = -tf.reduce_mean(weights * ascended)
        value_loss = -tf.reduce_mean(
            weights * log_normal(tf.stop_gradient(returns), values[:-1]))
        # By REINFORCE the first features are no imagined ones, but those of the start.
        reward, gained, value = (
            tf.reduce_mean(x if held is None else x[1:]) for x in (rewards, returns, values))
        metrics = {
            'actor_loss': actor_loss, 'value_loss': value_loss,
            'imagined_reward': reward, 'imagined_return': gained, 'value': value,
            # Of a value that is a mean over the future of such rewards: above 1 it is too high.
            'value_ratio': tf.math.divide_no_nan((1 - self.config.discount) * value, reward)}
        return actor_loss, value_loss, metrics
