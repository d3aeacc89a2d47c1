"""How weights change: Adam, `minimise` (one tape for every loss of the project), slow copies."""

import tensorflow as tf

from replicas import averaged, count, own


class Optimiser(tf.Module):
    """Adam (arXiv 1412.6980) on the variables of one part, with clipping to a global norm,
    decoupled weight decay, and a loss scale for float16 gradients.

    The moments, the count of updates and the loss scale are variables, so a checkpoint of this
    object is all that there is to restore.
    """

    # The scale of the loss doubles after so many good updates, and halves after a bad one, between
    # 1 and the largest: a gradient that does not go through float16 never stops it.
    PATIENCE, SCALE, LARGEST = 1000, 2.0 ** 15, 2.0 ** 24

    def __init__(self, name, variables, rate, clip, weight_decay=0.0, loss_scaling=False):
        super().__init__(name=name)
        self.trained = tuple(variables)
        self.rate, self.clip, self.weight_decay = rate, clip, weight_decay
        self.first = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.trained]
        self.second = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.trained]
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.loss_scaling = loss_scaling
        self.scale = tf.Variable(self.SCALE, trainable=False)
        self.good = tf.Variable(0, trainable=False)

    def scaled(self, loss):
        """The loss that is differentiated: times the loss scale."""
        return loss * self.scale if self.loss_scaling else loss

    def update(self, gradients, within=None):
        """Move the variables down `gradients`, those of `scaled(loss)`. Returns their global norm
        before clipping, without the scale. A variable without a gradient is an error, in which it
        has its name in the module `within`."""
        missing = [v for v, g in zip(self.trained, gradients) if g is None]
        if missing:
            raise ValueError(
                f'{self.name}: no gradient for {len(missing)} variables: {told(missing, within)}')
        if not self.loss_scaling:
            norm = tf.linalg.global_norm(gradients)
            self._apply(gradients, norm)
            return norm
        gradients = [g / self.scale for g in gradients]
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm)

        def good():
            self._apply(gradients, norm)
            grow = self.good + 1 >= self.PATIENCE
            own(self.scale).assign(tf.minimum(
                tf.where(grow, self.scale * 2, self.scale), self.LARGEST))
            own(self.good).assign(tf.where(grow, 0, self.good + 1))
            return True

        def bad():
            own(self.scale).assign(tf.maximum(self.scale / 2, 1.0))
            own(self.good).assign(0)
            return False

        tf.cond(finite, good, bad)
        return norm

    def _apply(self, gradients, norm):
        factor = tf.minimum(1.0, self.clip / (norm + 1e-12)) if self.clip else 1.0
        own(self.count).assign_add(1)
        count = tf.cast(self.count, tf.float32)
        first_power, second_power = 0.9 ** count, 0.999 ** count
        for variable, gradient, first, second in zip(
                self.trained, gradients, self.first, self.second):
            if self.weight_decay:
                own(variable).assign(variable * (1 - self.rate * self.weight_decay))
            # The fused kernel makes one pass over memory where separate operations make nine.
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=first.handle, v=second.handle,
                beta1_power=first_power, beta2_power=second_power, lr=self.rate, beta1=0.9,
                beta2=0.999, epsilon=1e-7, grad=tf.cast(gradient, tf.float32) * factor)


def adam(name, variables, rate, config, precision, decays=True):
    """The `Optimiser` of a part of an agent, with the configuration's clipping and, where it is a
    network that `decays`, its weight decay."""
    return Optimiser(
        name, variables, rate, config.clip, config.weight_decay * decays,
        loss_scaling=precision.compute == tf.float16)


def minimise(optimisers, losses, within=None):
    """One update of each of `optimisers` down its own loss. All gradients are taken before any
    variable moves, and where replicas share the batch they are averaged before they are clipped.

    losses: function -> (a scalar float32 loss for each optimiser, anything else). within: the
    module whose losses these are, all of them: to read a variable that none of the optimisers has
    is an error. Returns (the global norm of each gradient before clipping, anything else).
    """
    with tf.GradientTape(
            persistent=len(optimisers) > 1, watch_accessed_variables=within is not None) as tape:
        tape.watch([optimiser.trained for optimiser in optimisers])
        values, anything = losses()
        scaled = [o.scaled(value) for o, value in zip(optimisers, values, strict=True)]
    if within is not None and count() == 1:  # of several, each replica reads its own copies
        known = {v.ref() for optimiser in optimisers for v in optimiser.trained}
        if strange := [v for v in tape.watched_variables() if v.ref() not in known]:
            raise ValueError(
                f'{len(strange)} variables are read that nothing trains: {told(strange, within)}; '
                'make them in __init__, as tf.Variable or of networks.py (layers of Keras are made '
                'or found too late)')
    gradients = [
        tape.gradient(value, o.trained) for o, value in zip(optimisers, scaled)]
    return [
        o.update(_whole(gradient), within)
        for o, gradient in zip(optimisers, gradients)], anything


def named(module, path):
    """name -> variable, of floating type, of all that a module has but optimisers; a name is where
    it is, from `path` on."""
    view, found, seen = tf.train.TrackableView(module), {}, set()

    def walk(part, path):
        if id(part) in seen or isinstance(part, Optimiser):
            return
        seen.add(id(part))
        if not isinstance(part, tf.Variable):
            for name, inside in view.children(part).items():
                walk(inside, f'{path}/{name}')
        elif part.dtype.is_floating:
            found[path] = part
    walk(module, path)
    return found


def told(variables, within=None):
    """Variables in words: names and shapes, the former by `within`, a module that has them."""
    names = {v.ref(): name for name, v in named(within, 'world').items()} if within else {}
    return ', '.join(f'{names.get(v.ref(), v.name)} {list(v.shape)}' for v in variables)


def _whole(gradients):
    """The gradients of the whole batch; those of the share where one is missing, an error that
    `update` tells."""
    return gradients if any(g is None for g in gradients) else averaged(gradients)


class SlowCopy(tf.Module):
    """A second network that begins as `source` and follows it: each `follow` moves every weight
    by `rate` of what is between them.

    make: function -> a network with the variables of `source`. Calling this calls the copy.
    """

    def __init__(self, source, make, rate):
        super().__init__()
        self.source, self.network, self.rate = source, make(), rate
        for target, variable in self._pairs():
            target.assign(variable)

    def _pairs(self):
        return zip(
            self.network.trainable_variables, self.source.trainable_variables, strict=True)

    def __call__(self, *inputs):
        return self.network(*inputs)

    def follow(self):
        for target, variable in self._pairs():
            own(target).assign(target + self.rate * (variable - target))
