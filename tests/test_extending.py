"""What a method of one's own can get wrong without a word: each is an error that names it."""

import helpers
import keras
import numpy as np
import pytest
import stubs
import tensorflow as tf
import tf_keras

import cvrl
import dry_run
import networks


class Mine(cvrl.JointContrast):
    """CVRL with one more of each: a layer, a loss of it, a metric."""

    layer = added_loss = added_metric = None  # functions that make them

    def __init__(self, config, shapes, features, precision):
        super().__init__(config, shapes, features, precision)
        self.own = self.layer and self.layer(features, precision)

    def loss(self, features, embeddings, observation):
        found = super().loss(features, embeddings, observation)
        return found | (
            self.added_loss(found['contrast_loss'], features) if self.added_loss else {})

    def metrics(self, features, embeddings, observation):
        return super().metrics(features, embeddings, observation) | (
            self.added_metric or dict)()


def updated(monkeypatch, *words, **changes):
    """The metrics of an update of CVRL with the changes."""
    for name, change in changes.items():
        monkeypatch.setattr(Mine, name, change)
    monkeypatch.setitem(helpers.METHODS, 'cvrl', (Mine, cvrl.METHOD))
    return helpers.build('cvrl', *words).train(helpers.tensors(helpers.sequences(4)))


def squares(self, _, features):
    return {'own_loss': tf.reduce_sum(tf.square(tf.cast(self.own(features), tf.float32)), -1)}


def built(layer, features):
    layer.build((None, features))
    return layer


@pytest.mark.parametrize('layer, names', [
    (lambda self, features, precision: tf_keras.layers.Dense(3), 'world/representation/own/kernel'),
    (lambda self, features, precision: keras.layers.Dense(3), 'kernel'),
    (lambda self, features, precision: built(keras.layers.Dense(3), features), 'kernel')])
def test_a_layer_that_no_optimiser_finds_is_an_error(layer, names, monkeypatch, eager):
    """Of Keras: made with the first call, or no part of a tf.Module. It would never learn."""
    with pytest.raises(ValueError, match=f'2 variables are read that nothing trains: .*{names}.*3'):
        updated(monkeypatch, layer=layer, added_loss=squares)


def test_a_layer_of_networks_is_trained(monkeypatch, eager):
    def layer(self, features, precision):
        return networks.Dense(features, 3, None, precision)
    assert float(updated(monkeypatch, layer=layer, added_loss=squares)['own_loss']) > 0


def test_a_layer_that_nothing_is_asked_of_is_named(monkeypatch, eager):
    def layer(self, features, precision):
        return networks.Perceptron(features, 1, 4, 2, precision)
    with pytest.raises(ValueError, match='no gradient for 4 .* world/representation/own/output/'):
        updated(monkeypatch, layer=layer)


@pytest.mark.parametrize('change, words', [
    (lambda loss: {'own_loss': tf.cast(loss, tf.bfloat16)}, "'own_loss' is bfloat16 .4, 8., and"),
    (lambda loss: {'own_loss': tf.reduce_mean(loss)}, r"'own_loss' is float32 .., .* = .4, 8."),
    (lambda loss: {'reward_loss': loss}, "'reward_loss' is already the name"),
    (lambda loss: {'divergence': loss}, "'divergence' is already the name")])
def test_a_loss_of_another_shape_or_of_a_name_that_is_taken_is_told(
        change, words, monkeypatch, eager):
    with pytest.raises(ValueError, match=words):
        updated(monkeypatch, added_loss=lambda self, loss, features: change(loss))


@pytest.mark.parametrize('metrics, words', [
    *(({name: tf.ones([])}, f"'{name}' is already the name") for name in (
        'step', 'updates', 'updates_per_second', 'value', 'contrast_loss', 'decoders_loss')),
    ({'mine': tf.ones([3])}, r"the metric 'mine' is \[3\]"),
    ({'mine/ü': tf.ones([])}, 'cannot be the name')])
def test_a_metric_that_would_replace_a_column_or_is_no_number_is_told(
        metrics, words, monkeypatch, eager):
    with pytest.raises(ValueError, match=words):
        updated(monkeypatch, added_metric=lambda self: metrics)


@pytest.mark.parametrize('value', [tf.constant(3, tf.int64), np.float64(3), 3])
def test_a_metric_is_any_number(value, monkeypatch, eager):
    found = updated(monkeypatch, added_metric=lambda self: {'mine': value})['mine']
    assert found.dtype == tf.float32 and float(found) == 3


def test_a_dry_run_builds_the_update_and_so_finds_mistakes(tmp_path, monkeypatch, capsys):
    experiment = stubs.Experiment(tmp_path, method='cvrl')
    dry_run.show(experiment)
    assert 'world model' in capsys.readouterr().out and not experiment.learned
    monkeypatch.setattr(Mine, 'added_loss', lambda self, loss, features: {
        'own_loss': tf.reduce_mean(loss)})
    monkeypatch.setitem(helpers.METHODS, 'cvrl', (Mine, cvrl.METHOD))
    with pytest.raises(ValueError, match="the loss 'own_loss' is float32 ..,"):
        dry_run.show(stubs.Experiment(tmp_path, method='cvrl'))
    assert not capsys.readouterr().out
