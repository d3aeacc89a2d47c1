"""CVRL (arXiv 2008.02430): the representation is learned by telling the step's own observation
from those of the other steps of the batch.

    python cvrl.py --logdir ./logdir/dmc_walker_walk/cvrl --task dmc_walker_walk

`--help` lists the options; `--use_sac` adds the paper's hybrid with soft actor-critic, and
`--search_candidates 20` its forward search. The same command again resumes. Beside this file:
dreamer.py, mummi.py.
"""

import config

if __name__ == '__main__':  # A mistake is answered before TensorFlow loads.
    CONFIG = config.from_command_line('cvrl', own=('probe_frames',), refine_actions=True)

import tensorflow as tf

import training
from models import Representation
from networks import Perceptron


class JointContrast(Representation):
    """R = mean_i( score_ii - logsumexp_j score_ij ) with score_ij = u(s_i) . v(e_j), over all
    N = B L steps: the InfoNCE bound (arXiv 1807.03748) on I(s; o), less log N."""

    def __init__(self, config, shapes, features, precision):
        super().__init__(config, shapes, features, precision)
        units = config.hidden
        self.state_code = Perceptron(features, 1, units, units, precision)
        self.observation_code = Perceptron(self.width, 1, 2 * units, units, precision)

    def embed(self, observation):
        return {'joint': self.joined(observation)}

    def loss(self, features, embeddings, observation):
        leading = features.shape[:-1]
        state = tf.reshape(self.state_code(features), [leading.num_elements(), -1])
        other = tf.reshape(self.observation_code(embeddings['joint']), state.shape)
        scores = tf.matmul(state, other, transpose_b=True)
        bound = tf.linalg.diag_part(scores) - tf.reduce_logsumexp(scores, 1)
        return {'contrast_loss': tf.reshape(-bound, leading)}


if __name__ == '__main__':
    training.main('cvrl', JointContrast, CONFIG)
