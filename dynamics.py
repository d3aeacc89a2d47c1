"""Latent dynamics: a recurrent state-space model (PlaNet, arXiv 1811.04551).

Shapes: B sequences of a batch, L entries of a sequence, N rows; S = stoch, D = deter, F = S + D
the width of the features; A values of an action; E of an embedding.
"""

from typing import NamedTuple

import tensorflow as tf
import tf_keras

from networks import Dense, normal, tfd


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

    def filter(self, embedding, action, noise, first=None):
        """Posterior and prior states [B, L, ...] of sequences that start from zeros; of the
        posterior a sample, of the prior its mean.

        embedding [B, L, E], action [B, L, A] (a_t led to entry t), noise [B, L, S]; first [B, L]
        (bool): entries that begin an episode, which start from zeros too. The same
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

        def entry(state, action, embedding, noise, goes_on=None):
            if goes_on is not None:
                state = state.map(lambda part: part * goes_on)
            inputs = tf.nn.elu(from_state(state.stochastic) + action)
            deterministic = dynamics.gated(inputs, state.deterministic)
            hidden = tf.nn.elu(from_deterministic(deterministic) + embedding)
            return dynamics.state(dynamics.posterior_output(hidden), noise, deterministic)

        inputs = [action, embedding, noise]
        if first is not None:
            inputs.append(1 - tf.cast(first, tf.float32)[..., None])
        states = unrolled(entry, self.initial(action.shape[0]), [
            tf.transpose(x, [1, 0, 2]) for x in inputs])
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
