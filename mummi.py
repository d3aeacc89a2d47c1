"""MuMMI (arXiv 2107.02339): every sensor has an expert; the present experts are fused into one
code, and each is pulled toward it by a bound on mutual information, so that the sensors share a
latent space and one can stand in for another.

    python mummi.py --logdir ./logdir/dmc_walker_walk/mummi --task dmc_walker_walk

`--help` lists the options. The same command again resumes. Beside this file: dreamer.py, cvrl.py.
"""

import commandline
from config import Method

METHOD = Method('mummi', refine_actions=True, own=(
    'bound_weight', 'density_ratio', 'expert_width', 'fusion', 'prior_expert', 'probe_frames',
    'sensor_loss'))

if __name__ == '__main__':  # A mistake is answered before TensorFlow loads.
    CONFIG = commandline.from_command_line(METHOD)

import tensorflow as tf

import networks
import training
from experiment import Experiment
from models import Representation
from networks import (
    Dense,
    Perceptron,
    candidates,
    entries,
    normal,
    present,
    relative_distance,
    retrieval,
    squared_distances,
    visible,
)
from replicas import gathered
from variants import bound_weights, sensor_losses

# Added to the sum of the fusion's weights: where every sensor is missing, the fused code is
# then 0 and not 0 / 0. A present sensor's weight is up to 10, so its code hardly shrinks.
FUSION_FLOOR = 0.01

# In its place the weight of an expert that always says 0 with deviation 1 (`--prior_expert`).
PRIOR_WEIGHT = 1.0

# Entries of a batch on which the agreement of the sensors is measured for the log.
COMPARED = 256


class ExpertContrast(Representation):
    """R = sum over sensors of weight^m I^m, with the bound I^m of `bound`."""

    def __init__(self, config, shapes, features, precision):
        super().__init__(config, shapes, features, precision)
        self.width, self.density_ratio = config.expert_width, config.density_ratio
        self.experts = {
            sensor: Perceptron(
                32 * config.conv_depth, 1, self.width, 2 * self.width, precision, tf.nn.relu)
            for sensor in shapes}
        self.spread = {'deviation': tf.identity, 'precision': tf.square}[config.fusion]
        self.floor = PRIOR_WEIGHT if config.prior_expert else FUSION_FLOOR
        # The paper's are all contrasted; the others have decoders (`--sensor_loss`).
        losses, self.bound_weights = sensor_losses(config, shapes), bound_weights(config, shapes)
        self.contrasted = tuple(s for s in shapes if losses[s] == 'contrast')
        self.reconstructs = not self.contrasted
        if self.contrasted:
            self.transform = Dense(features, self.width, tf.nn.relu, precision)
        self.decoders = networks.decoders(
            config, {s: shape for s, shape in shapes.items() if s not in self.contrasted},
            features, precision)

    def embed(self, observation, withheld=None):
        """The fused code e = sum_m w^m mu^m / (sum_m w^m + 0.01), w^m = f^m / sigma^m (with
        `--fusion precision`, over its square), beside the experts' means mu^m and their weights
        w^m [..., width]."""
        experts = {
            sensor: normal(self.experts[sensor](code))
            for sensor, code in self.encoded(observation).items()}
        weights = {
            sensor: visible(sensor, observation, withheld)[..., None] / self.spread(deviation)
            for sensor, (_, deviation) in experts.items()}
        total = tf.add_n(list(weights.values())) + self.floor
        joint = tf.add_n([weights[s] * mean for s, (mean, _) in experts.items()]) / total
        return {
            'joint': joint, 'weights': weights,
            'means': {sensor: mean for sensor, (mean, _) in experts.items()}}

    def loss(self, features, embeddings, observation):
        """Of each sensor minus its weighted bound, or, where it is learned by `reconstruct`, minus
        its log-likelihood."""
        losses = self.reconstruction_losses(features, observation)
        if self.contrasted:
            code = tf.cast(self.transform(features), tf.float32)
        for sensor in self.contrasted:
            losses[sensor] = -self.bound_weights[sensor] * self.bound(
                code, embeddings['means'][sensor], present(sensor, observation))
        return {f'{sensor}_loss': loss for sensor, loss in losses.items()}

    def bound(self, code, mean, flags):
        """f_i ( log F_ii - logsumexp_{j: f_j = 1} log F_ij ) of every entry i, [B, L].

        code = g(s), mean = mu^m [B, L, width]; flags [B, L]. Only entries at which the sensor
        is present are compared: a missing one is neither scored nor anybody's negative.
        """
        code, mean = (tf.reshape(x, [-1, x.shape[-1]]) for x in (code, mean))
        shape, flags = flags.shape, tf.reshape(flags, [-1])
        rows = tf.where(flags > 0)
        mean, before = candidates(mean, flags)
        scores = self.log_ratio(tf.gather_nd(code, rows), mean)
        bound = tf.linalg.diag_part(scores, k=before) - tf.reduce_logsumexp(scores, 1)
        return tf.reshape(tf.scatter_nd(rows, bound, flags.shape), shape)

    def log_ratio(self, code, mean):
        """log F_ij [N, N]: - || g(s_i) - mu_j ||^2, or g(s_i) . mu_j; float32 throughout."""
        if self.density_ratio == 'bilinear':
            return tf.matmul(code, mean, transpose_b=True)
        return -squared_distances(code, mean)

    def trust(self, embeddings):
        """The share of each sensor's weight, averaged over the values of the code."""
        weights = embeddings['weights']
        total = tf.add_n(list(weights.values())) + self.floor
        return {
            sensor: tf.reduce_mean(weight / total, -1) for sensor, weight in weights.items()}

    def metrics(self, features, embeddings, observation):
        """weight_<sensor>: its share in the fused code. chance_<sensor>: what the loss of its bound
        is for codes that tell nothing apart. Of some entries, spread evenly over the batch, for
        the sensors m, n present: agree_<m>, where m has a bound, the squared distance of g(s_i) to
        mu^m_i over that to another entry's mu^m_j (1: no relation; the bound leaves the length of
        g free, so that it does not go to 0 where all entries are told apart);
        find_<m>_<n>, how often mu^n_i is the closest to mu^m_i of all entries' mu^n."""
        count = features.shape[0] * features.shape[1]
        compared = min(count, COMPARED)
        rows = tf.range(compared) * count // compared
        codes = {
            s: tf.cast(entries(mean, rows), tf.float32)
            for s, mean in embeddings['means'].items()}
        flags = {s: entries(present(s, observation), rows) for s in codes}
        metrics = {
            f'weight_{s}': tf.reduce_mean(share) for s, share in self.trust(embeddings).items()}
        if self.contrasted:
            code = tf.cast(self.transform(entries(features, rows)), tf.float32)
        for s in self.contrasted:
            flag = gathered(present(s, observation))
            metrics[f'chance_{s}'] = self.bound_weights[s] * tf.reduce_mean(flag) * tf.math.log(
                tf.maximum(tf.reduce_sum(flag), 1.0))
            metrics[f'agree_{s}'] = relative_distance(code, codes[s], flags[s])
        for s, mean in codes.items():
            for other in codes:
                if other != s:
                    metrics[f'find_{s}_{other}'] = retrieval(
                        squared_distances(mean, codes[other]), flags[s] * flags[other])
        return metrics


if __name__ == '__main__':
    training.main(Experiment(METHOD, ExpertContrast, CONFIG))
