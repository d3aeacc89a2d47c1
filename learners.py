"""What an update does, a learner for each part that learns. A learner owns its optimisers:

    WorldLearner        the world model, on replayed sequences; gives the posterior latents
    soft_actor_critic.SoftActorCritic    critics, on real transitions between these latents
    BehaviourLearner    actor and value, in imagination from these latents; the actor by the
                        critics too
    PictureLearner      decoders that draw what the latents hold, and change nothing else

All but the first have `learn(posterior, batch, random) -> metrics`, with posterior a `State`
[B, L, ...] without gradient, batch tensors [B, L, ...], random a `tf.random.Generator`, and
metrics scalars for the log. `optimisers` lists their optimisers, `parts` names the
variables that are theirs alone.
"""

import tensorflow as tf

import networks
import replicas
from config import flag, ratios
from models import Representation
from optimisers import adam, minimise
from soft_actor_critic import departures


class WorldLearner(tf.Module):
    """Fits the world model to replayed sequences."""

    def __init__(self, config, world, precision):
        super().__init__()
        self.world = world
        chances = ratios(config.withhold, world.representation.encoders)
        self.chances = {sensor: chance for sensor, chance in chances.items() if chance}
        self.spare = len(self.chances) < len(chances)  # one is there that is never withheld
        self.optimiser = adam(
            'model', world.trainable_variables, config.model_rate, config, precision)

    def optimisers(self):
        return [self.optimiser]

    def learn(self, batch, random):
        """(posterior [B, L, ...] without gradient, metrics) of one update."""
        noise = random.normal([*batch['reward'].shape, self.world.config.stoch])
        withheld = self.withheld(batch['reward'].shape[0], random)

        def losses():
            loss, metrics, posterior = self.world.loss(batch, noise, withheld)
            return [loss], (metrics, posterior)

        (norm,), (metrics, posterior) = minimise([self.optimiser], losses, self.world)
        return posterior.map(tf.stop_gradient), metrics | {'model_gradient': norm}

    def withheld(self, count, random):
        """sensor -> bool [count, 1, 1]: the sequences from whose embedding it is withheld, each
        sensor by its own chance; none where these would be all sensors that there are. {} without
        chances."""
        if not self.chances:
            return {}
        drawn = random.uniform([count, 1, 1, len(self.chances)]) < list(self.chances.values())
        if not self.spare:
            drawn &= ~tf.reduce_all(drawn, -1, keepdims=True)
        return dict(zip(self.chances, tf.unstack(drawn, axis=-1)))


class BehaviourLearner(tf.Module):
    """Fits actor and value in imagination, `horizon` decisions from the posterior latents: of
    all entries, or of every `imagine_every`-th, as neighbours are much alike.

    What the actor learns from is one loss, L_Dreamer + sac_weight L_SAC, whose gradient is one
    step of one optimiser (CVRL's hybrid, arXiv 2008.02430). Two optimisers that take turns would
    not do: Adam divides each gradient by its own size, so the weight of a loss would mean nothing.

    soft: `SoftActorCritic`, or None: L_Dreamer alone. Without `use_dreamer` it is L_SAC alone.
    The value learns in imagination all the same, as planning and reports read it.
    """

    def __init__(self, config, world, behaviour, soft, precision):
        super().__init__()
        self.config, self.world, self.behaviour, self.soft = config, world, behaviour, soft
        self.imagined = {'dynamics': self.through_dynamics, 'reinforce': self.reinforced}[
            config.actor_gradient]
        self.actor = adam('actor', behaviour.actor.trainable_variables, config.actor_rate,
                          config, precision)
        self.value = adam('value', behaviour.value_head.trainable_variables, config.value_rate,
                          config, precision)

    def optimisers(self):
        return [self.actor, self.value]

    def parts(self):
        return {}

    def learn(self, posterior, batch, random):
        config, actions = self.config, self.behaviour.actions
        # Counted from the last, whose latent has seen the most of its sequence.
        chosen = slice((posterior.stochastic.shape[1] - 1) % config.imagine_every, None,
                       config.imagine_every)
        start = posterior.map(lambda part: tf.reshape(part[:, chosen], [-1, part.shape[-1]]))
        count = start.stochastic.shape[0]
        prior_noise = random.normal([config.horizon, count, config.stoch])
        actor_noise = actions.noise(random, config.horizon, count)
        if self.soft:
            # From the last entry no transition leads on.
            left = posterior.features()[:, :-1]
            soft = left, actions.noise(random, *left.shape[:-1]), departures(batch)
        # Where nothing is learned of ends, all entries are as if the episode went on.
        alive = tf.reshape(batch['discount'][:, chosen], [-1]) if config.pcont else 1.0

        def losses():
            features, entropy, *held = self.imagined(start, actor_noise, prior_noise)
            imagined, value, metrics = self.behaviour.losses(
                self.world, features, entropy, alive, *held)
            terms = [imagined] if config.use_dreamer else []
            if self.soft:
                metrics['soft_actor_loss'] = loss = self.soft.actor_loss(*soft)
                terms.append(config.sac_weight * loss)
            return [tf.add_n(terms), value], (metrics, entropy)

        (actor, value), (metrics, entropy) = minimise([self.actor, self.value], losses)
        for copy in self.behaviour.followers:
            copy.follow()
        return metrics | {
            'actor_gradient': actor, 'value_gradient': value,
            'actor_entropy': tf.reduce_mean(entropy[0])}

    def through_dynamics(self, start, actor_noise, prior_noise):
        """(features [H, N, F], entropies of the actions that led to them [H, N], nats): the actor
        learns through the dynamics, whose gradient passes through each action."""
        def choose(state, noise):
            # Features without gradient: the actor learns through the dynamics alone.
            policy = self.behaviour.policy(tf.stop_gradient(state.features()))
            action, log = policy.sample_and_log(noise)
            return action, -log

        return self.world.imagine(start, choose, [actor_noise], prior_noise)

    def reinforced(self, start, actor_noise, prior_noise):
        """(features [H + 1, N, F] from the start on, entropies [H, N] of the actions taken in all
        but the last, their log probabilities [H, N]): the actor learns by the probabilities of
        what was drawn (REINFORCE), and no gradient passes through the dynamics."""
        def choose(state, noise):
            action = self.behaviour.policy(state.features()).sample(noise)
            return tf.stop_gradient(action), tf.zeros(action.shape[:1])

        imagined, _ = self.world.imagine(start, choose, [actor_noise], prior_noise)
        features = tf.stop_gradient(tf.concat([start.features()[None], imagined], 0))
        # The same noise draws the same actions again, of all decisions at once.
        held, entropy = self.behaviour.policy(features[:-1]).held_and_entropy(actor_noise)
        return features, entropy, held


class PictureLearner(tf.Module):
    """Decoders of all sensors for a method that has none, fitted to a few frames an update.
    What they learn reaches nothing else; `reconstruct` is for pictures."""

    def __init__(self, config, shapes, features, precision):
        super().__init__()
        self.frames, self.shapes = config.probe_frames, dict(shapes)
        self.decoders = networks.decoders(config, shapes, features, precision)
        self.optimiser = adam(
            'decoders', [v for d in self.decoders.values() for v in d.trainable_variables],
            config.model_rate, config, precision)

    def optimisers(self):
        return [self.optimiser]

    def parts(self):
        return {'decoders (for pictures)': self.optimiser.trained}

    reconstruct = Representation.reconstruct

    def chosen(self, total):
        """Which of the `total` entries of a batch, which is drawn itself, are learned. The agent's
        random numbers are left to the others: they are the same with and without pictures."""
        frames = min(total, max(1, self.frames // replicas.count()))
        seed = [replicas.number(), replicas.own(self.optimiser.count)]
        return tf.random.stateless_uniform([frames], seed, maxval=total, dtype=tf.int32)

    def learn(self, posterior, batch, random):
        features = posterior.features()
        rows = self.chosen(features.shape[0] * features.shape[1])
        features = networks.entries(features, rows)
        keys = [key for sensor in self.shapes for key in (sensor, flag(sensor))]
        observation = {key: networks.entries(batch[key], rows) for key in keys}

        def losses():
            found = networks.reconstruction_losses(self.decoders, features, observation)
            loss = tf.add_n([tf.reduce_mean(value) for value in found.values()])
            return [loss], loss

        (norm,), loss = minimise([self.optimiser], losses)
        return {'decoders_loss': loss, 'decoders_gradient': norm}
