"""The agent: world model and behaviour; `train` updates them, `policy` acts by them."""

import tensorflow as tf

import replicas
from csv_log import COLUMN
from dynamics import State
from learners import BehaviourLearner, PictureLearner, WorldLearner
from models import ActorCritic, WorldModel, united
from networks import tfd
from planning import Planner
from precision import Precision, compute_type
from soft_actor_critic import SoftActorCritic

# What training.py writes beside the numbers of an update.
ROW = 'step', 'updates', 'seconds', 'updates_per_second'


class Agent(tf.Module):
    """World model, behaviour, and what they learn by.

    config: `Config`. representation: a `models.Representation`, the method. shapes: sensor ->
    raw shape. actions: the part of actions.py for the action space; A values. strategy: of
    `replicas.strategy`, the devices that share an update; all else is done by the first of them.

    What is random in learning and collecting is drawn from one generator, `random`, which is
    part of the state: a restored agent goes on exactly as the saved one would have. Judging
    draws from `judging` alone, so that it changes nothing of what is learned.
    """

    def __init__(self, config, representation, shapes, actions, strategy=None):
        super().__init__()
        self.strategy = strategy or tf.distribute.get_strategy()
        self.config, self.shapes, self.actions = config, dict(shapes), actions
        self.precision = Precision(compute_type(config.precision))
        self.compute = self.precision.compute
        self.random = tf.random.Generator.from_seed(config.seed)
        self.judging = tf.random.Generator.from_seed(config.seed)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        with self.strategy.scope():
            self._build(config, representation, shapes, actions)
        # Loops and branches here are Python's own, so AutoGraph would find nothing to convert,
        # at half of the time that building the graph takes.
        self.update = tf.function(self._train, autograph=False, jit_compile=config.xla or None)
        self.train = replicas.taking_shares(self.strategy, self.update)
        self.policy = tf.function(self._policy, autograph=False)
        self.open_loop = tf.function(self._open_loop, autograph=False)
        self.explain = tf.function(self._explain, autograph=False)
        self.agreement = tf.function(self._agreement, autograph=False)

    def _build(self, config, representation, shapes, actions):
        """What has variables that an update changes."""
        self.world = WorldModel(config, representation, shapes, actions, self.precision)
        self.behaviour = ActorCritic(config, self.world.width, actions, self.precision)
        self.planner = Planner(config, self.world, self.behaviour)
        self.world_learner = WorldLearner(config, self.world, self.precision)
        # In the order in which they learn: the actor asks critics that have just learned.
        soft = SoftActorCritic(
            config, self.world.width, self.behaviour, self.precision) if config.use_sac else None
        self.learners = {'soft': soft} if soft else {}
        self.learners['behaviour'] = BehaviourLearner(
            config, self.world, self.behaviour, soft, self.precision)
        if config.probe_frames and not self.world.representation.reconstructs:
            self.learners['pictures'] = PictureLearner(
                config, shapes, self.world.width, self.precision)
        # What draws the pictures: the method itself where it reconstructs.
        self.painter = self.learners.get('pictures', self.world.representation)
        # Acting reads these weights at each decision.
        self.precision.copy([
            *self.world.trainable_variables, *self.behaviour.trainable_variables])

    @property
    def optimisers(self):
        """name -> optimiser, of all learners."""
        learners = [self.world_learner, *self.learners.values()]
        return {o.name: o for learner in learners for o in learner.optimisers()}

    def parts(self):
        """name -> number of trainable values of each part, for reports."""
        parts = {
            'world model': self.world.trainable_variables,
            'actor': self.behaviour.actor.trainable_variables,
            'value': self.behaviour.value_head.trainable_variables}
        for learner in self.learners.values():
            parts |= learner.parts()
        return {name: sum(int(tf.size(v)) for v in variables) for name, variables in parts.items()}

    def refresh(self):
        """To be called where weights have changed other than by `train`: by a restore."""
        self.precision.refresh()

    # --- Learning ---

    def trace(self, count, length, observed):
        """Build the graph of an update on batches of `count` sequences of `length` entries, without
        making one. observed: the space of the raw observations and flags, a Dict."""
        kinds = {name: (space.shape, space.dtype) for name, space in observed.spaces.items()} | {
            'action': ((self.actions.size,), tf.float32), 'reward': ((), tf.float32),
            'discount': ((), tf.float32), 'steps': ((), tf.int32), 'is_first': ((), tf.bool)}
        if self.strategy.num_replicas_in_sync == 1:  # of several, each traces its own share
            self.update.get_concrete_function({
                name: tf.TensorSpec([count, length, *shape], kind)
                for name, (shape, kind) in kinds.items()})

    def _train(self, batch):
        """One update of every part on a batch of tensors [B, L, ...]; returns scalar metrics."""
        metrics = replicas.run(self.strategy, self._learn, batch, self.random)
        for name, value in metrics.items():
            if not COLUMN.fullmatch(name):
                raise ValueError(
                    f'{name!r} cannot be the name of a loss or a metric: letters of ASCII, digits, '
                    'spaces and _ . / - make one')
            if value.shape.rank != 0:
                raise ValueError(f'the metric {name!r} is {list(value.shape)}; it has to be one '
                                 'number, as by tf.reduce_mean')
        self.updates.assign_add(1)
        return metrics

    def _learn(self, batch, random):
        posterior, metrics = self.world_learner.learn(batch, random)
        metrics = united(dict.fromkeys(ROW), metrics, *(
            learner.learn(posterior, batch, random) for learner in self.learners.values()))
        self.precision.refresh()
        return {name: tf.cast(value, tf.float32) for name, value in metrics.items()
                if name not in ROW}

    # --- Acting ---

    def initial(self, count):
        """The policy state of `count` environments: latent and last action, zeros."""
        state = self.world.dynamics.initial(count)
        return state._asdict() | {'action': tf.zeros([count, self.actions.size])}

    def _policy(self, observation, state, exploring):
        """(actions [N, A], next policy state) for raw observations [N, ...] of N environments.

        observation also holds is_first [N] (bool): rows where an episode begins, whose state
        is reset. exploring: True acts by a sample with noise, False by the mode.
        """
        random = self.random if exploring else self.judging
        first = observation['is_first'][:, None]
        state = {key: tf.where(first, 0.0, value) for key, value in state.items()}
        action = state.pop('action')
        noise = random.normal([action.shape[0], self.config.stoch])
        with self.precision.reading_copies():
            latent = self.world.observe(State(**state), action, observation, noise)
            action = self.act(latent, exploring, random)
        return action, latent._asdict() | {'action': action}

    def act(self, latent, exploring, random):
        """Actions [N, A] for latents [N, ...]: a sample as it is tried while collecting, or the
        mode, of 100 samples the most likely."""
        count = latent.stochastic.shape[0]
        policy = self.behaviour.policy(latent.features())
        if exploring:
            action = policy.sample(self.actions.noise(random, count))
        else:
            action = policy.mode(self.actions.noise(random, 100, count))
        action = self.planner.improved(latent, policy, action, random)
        if exploring:
            action = self.actions.explored(action, random)
        return self.actions.valid(action)

    # --- Pictures ---

    def _open_loop(self, batch, observed=5):
        """sensor -> scaled predictions [B, L, *shape]: the first `observed` entries from the
        posterior, the others imagined by the recorded actions without looking."""
        count, length = batch['reward'].shape
        observed = min(observed, length)
        embeddings = self.world.representation.embed(
            {key: value[:, :observed] for key, value in batch.items()})
        posterior, _ = self.world.dynamics.filter(
            embeddings['joint'], batch['action'][:, :observed],
            self.judging.normal([count, observed, self.config.stoch]),
            batch['is_first'][:, :observed] if 'is_first' in batch else None)
        features = posterior.features()
        if length > observed:
            imagined, _ = self.world.imagine(
                posterior.map(lambda part: part[:, -1]),
                lambda state, action: (action, tf.zeros([count])),
                [tf.transpose(batch['action'][:, observed:], [1, 0, 2])],
                self.judging.normal([length - observed, count, self.config.stoch]))
            features = tf.concat([features, tf.transpose(imagined, [1, 0, 2])], 1)
        return self.painter.reconstruct(features)

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
            'pictures': self.painter.reconstruct(features)}

    def _agreement(self, episode):
        """The representation's numbers, as `Representation.metrics`, on an episode of raw
        observations with flags and actions [T, ...]."""
        episode = {key: value[None] for key, value in episode.items()}
        representation = self.world.representation
        embeddings = representation.embed(episode)
        count = episode['action'].shape[1]
        posterior, _ = self.world.dynamics.filter(
            embeddings['joint'], episode['action'], tf.zeros([1, count, self.config.stoch]))
        return representation.metrics(posterior.features(), embeddings, episode)
