"""Tests of Adam, the loss scale and slow copies."""

import helpers
import numpy as np
import pytest
import tensorflow as tf
from helpers import close, normals

import optimisers
import tools


def quadratic(optimiser, variables, slopes, factor=1.0):
    """One update on sum_i slopes_i . v_i^2 / 2 + factor sum v; returns the norm."""
    def losses():
        return [tf.add_n([
            tf.reduce_sum(slope * v ** 2 / 2 + factor * v)
            for slope, v in zip(slopes, variables)])], None
    return optimisers.minimise([optimiser], losses)[0][0]


@pytest.mark.parametrize('loss_scaling', [False, True])
@pytest.mark.parametrize('clip, decay', [(0, 0), (1.5, 0), (1.5, 0.1), (1e9, 0.1)])
def test_optimiser_is_adam_with_clipping_and_decoupled_decay(clip, decay, loss_scaling):
    variables = [tf.Variable(normals(3, 2)), tf.Variable(normals(4, seed=1))]
    slopes = [normals(3, 2, seed=2), normals(4, seed=3)]
    optimiser = optimisers.Optimiser('some', variables, 0.01, clip, decay, loss_scaling)
    plain = [v.astype(np.float64) for v in helpers.values(variables)]
    first, second = ([np.zeros_like(v) for v in plain] for _ in range(2))
    clipped = 0
    for count in range(1, 9):
        gradients = [slope * v + 1 for slope, v in zip(slopes, plain)]
        norm = np.sqrt(sum(np.sum(g ** 2) for g in gradients))
        close(quadratic(optimiser, variables, slopes), norm)
        clipped += bool(clip) and norm > clip
        for number, gradient in enumerate(gradients):
            gradient = gradient * (min(1, clip / norm) if clip else 1)
            first[number] = 0.9 * first[number] + 0.1 * gradient
            second[number] = 0.999 * second[number] + 0.001 * gradient ** 2
            plain[number] *= 1 - 0.01 * decay
            plain[number] -= 0.01 * first[number] / (1 - 0.9 ** count) / (
                np.sqrt(second[number] / (1 - 0.999 ** count)) + 1e-7)
        for variable, wanted in zip(variables, plain):
            close(variable, wanted, 1e-5)
    assert clipped == (8 if clip == 1.5 else 0)
    assert int(optimiser.count) == 8


def test_optimiser_takes_a_variable_without_gradient_for_an_error():
    variables = [tf.Variable(1.0), tf.Variable(1.0, name='lonely')]
    optimiser = optimisers.Optimiser('some', variables, 0.01, 1.0)
    with pytest.raises(ValueError, match='some: no gradient for 1 variables.*lonely.* \\[.*\\]'):
        optimisers.minimise([optimiser], lambda: ([variables[0] ** 2], None))
    assert float(variables[0]) == 1


@pytest.mark.parametrize('wrap', [lambda function: function, tf.function])
def test_loss_scale_halves_without_a_step_at_infinity_and_doubles_after_patience(wrap):
    variables = [tf.Variable(normals(3)), tf.Variable(normals(2, seed=1))]
    slopes = [normals(3, seed=2), normals(2, seed=3)]
    optimiser = optimisers.Optimiser('some', variables, 0.01, 1.0, 0.1, loss_scaling=True)
    optimiser.PATIENCE = 3
    step = wrap(lambda factor: quadratic(optimiser, variables, slopes, factor))
    state = (*variables, *optimiser.first, *optimiser.second, optimiser.count)
    good, bad = tf.constant(1.0), tf.constant(np.inf)
    scale = float(optimiser.scale)
    assert scale == 2 ** 15
    for factor, wanted in (
            (good, 1), (good, 1), (bad, 1 / 2), (good, 1 / 2), (good, 1 / 2), (good, 1),
            (good, 1), (good, 1), (good, 2), (tf.constant(np.nan), 1), (bad, 1 / 2)):
        before = helpers.values(state)
        step(factor)
        assert float(optimiser.scale) == wanted * scale
        assert helpers.unchanged(before, state) == [factor is not good] * len(state)
    optimiser.scale.assign(1.0)
    step(bad)
    assert float(optimiser.scale) == 1
    optimiser.scale.assign(optimiser.LARGEST)
    for _ in range(4):
        step(good)
    assert float(optimiser.scale) == optimiser.LARGEST


def test_loss_is_scaled_in_float16_alone_which_a_run_may_go_over_to(tmp_path):
    half, other = (helpers.build('cvrl', '--precision', name) for name in ('float16', 'bfloat16'))
    assert half.optimisers['model'].loss_scaling and not other.optimisers['model'].loss_scaling
    other.optimisers['model'].count.assign(7)
    tools.Checkpoints(tmp_path, other).save(1)
    tools.Checkpoints(tmp_path, half).restore()
    assert int(half.optimisers['model'].count) == 7
    assert float(half.optimisers['model'].scale) == 2 ** 15
    variable = tf.Variable(3.0)
    assert float(optimisers.Optimiser('some', [variable], 0.01, 1.0).scaled(variable)) == 3


def test_optimisers_take_their_rates_and_clipping_from_the_configuration():
    words = ['--model_rate', '1', '--actor_rate', '2', '--value_rate', '3', '--critic_rate', '4',
             '--temperature_rate', '7', '--clip', '5', '--weight_decay', '6', '--use_sac']
    found = helpers.build('mummi', *words).optimisers
    assert {name: optimiser.rate for name, optimiser in found.items()} == dict(
        model=1, actor=2, value=3, decoders=1, critic_0=4, critic_1=4, temperature=7)
    assert {o.clip for o in found.values()} == {5}
    # A decaying temperature would be drawn to 1, and not to what the entropy asks.
    assert {name: o.weight_decay for name, o in found.items()} == dict.fromkeys(found, 6) | {
        'temperature': 0}


def test_seed_decides_the_weights():
    weights = []
    for seed in 1, 1, 2:
        agent = helpers.build('cvrl', seed=seed)
        weights.append(np.concatenate([np.ravel(v) for v in agent.trainable_variables]))
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
