"""MuMMI (arXiv 2107.02339): every sensor has an expert; the present experts are fused into one
code, and each is pulled toward it by a bound on mutual information, so that the sensors share a
latent space and one can stand in for another.

    python mummi.py --logdir ./logdir/dmc_walker_walk/mummi --task dmc_walker_walk

`--help` lists the options. The same command again resumes. Beside this file: dreamer.py, cvrl.py.
"""

import config

if __name__ == '__main__':  # A mistake is answered before TensorFlow loads.
    CONFIG = config.from_command_line(
        'mummi', own=('density_ratio', 'expert_width', 'probe_frames'), refine_actions=True)

import tensorflow as tf

import training
from config import SENSORS
from models import Representation
from networks import Dense, Perceptron, normal, present

# Added to the sum of the fusion's weights: where every sensor is missing, the fused code is
# then 0 and not 0 / 0. A present sensor's weight is up to 10, so its code hardly shrinks.
FUSION_FLOOR = 0.01


class ExpertContrast(Representation):
    """R = sum over sensors of weight^m I^m, with the bound I^m of `bound`."""

    def __init__(self, config, shapes, features, precision):
        super().__init__(config, shapes, features, precision)
        self.width, self.density_ratio = config.expert_width, config.density_ratio
        self.experts = {
            sensor: Perceptron(
                32 * config.conv_depth, 1, self.width, 2 * self.width, precision, tf.nn.relu)
            for sensor in shapes}
        self.transform = Dense(features, self.width, tf.nn.relu, precision)

    def embed(self, observation):
        """The fused code e = sum_m w^m mu^m / (sum_m w^m + 0.01), w^m = f^m / sigma^m, beside
        the experts' means mu^m and their weights w^m [..., width]."""
        experts = {
            sensor: normal(self.experts[sensor](encoder(observation[sensor])))
            for sensor, encoder in self.encoders.items()}
        weights = {
            sensor: present(sensor, observation)[..., None] / deviation
            for sensor, (_, deviation) in experts.items()}
        total = tf.add_n(list(weights.values())) + FUSION_FLOOR
        joint = tf.add_n([weights[s] * mean for s, (mean, _) in experts.items()]) / total
        return {
            'joint': joint, 'weights': weights,
            'means': {sensor: mean for sensor, (mean, _) in experts.items()}}

    def loss(self, features, embeddings, observation):
        code = tf.cast(self.transform(features), tf.float32)
        return {
            f'{sensor}_loss': -SENSORS[sensor].bound_weight * self.bound(
                code, mean, present(sensor, observation))
            for sensor, mean in embeddings['means'].items()}

    def bound(self, code, mean, flags):
        """f_i ( log F_ii - logsumexp_{j: f_j = 1} log F_ij ) of every step i, [B, L].

        code = g(s), mean = mu^m [B, L, width]; flags [B, L]. Only steps at which the sensor is
        present are compared: a missing one is neither scored nor anybody's negative.
        """
        rows = tf.where(tf.reshape(flags, [-1]) > 0)
        code, mean = (
            tf.gather_nd(tf.reshape(x, [-1, x.shape[-1]]), rows) for x in (code, mean))
        scores = self.log_ratio(code, mean)
        bound = tf.linalg.diag_part(scores) - tf.reduce_logsumexp(scores, 1)
        return tf.reshape(
            tf.scatter_nd(rows, bound, [flags.shape.num_elements()]), flags.shape)

    def log_ratio(self, code, mean):
        """log F_ij [N, N]: - || g(s_i) - mu_j ||^2, or g(s_i) . mu_j; float32 throughout."""
        products = tf.matmul(code, mean, transpose_b=True)
        if self.density_ratio == 'bilinear':
            return products
        squares = [tf.reduce_sum(tf.square(x), -1) for x in (code, mean)]
        return 2 * products - squares[0][:, None] - squares[1][None, :]

    def metrics(self, embeddings, observation):
        """The share of each sensor in the fused code, averaged over steps and values."""
        weights = embeddings['weights']
        total = tf.add_n(list(weights.values())) + FUSION_FLOOR
        return {
            f'weight_{sensor}': tf.reduce_mean(weight / total)
            for sensor, weight in weights.items()}


if __name__ == '__main__':
    training.main('mummi', ExpertContrast, CONFIG)
