"""CVRL (arXiv 2008.02430): the representation is learned by telling an entry's own observation
from those of the other entries of the batch.

    python cvrl.py --logdir ./logdir/dmc_walker_walk/cvrl --task dmc_walker_walk

`--help` lists the options; `--use_sac` adds the paper's hybrid with soft actor-critic, and
`--obs_model generative`, `--reward_only`, `--no-refine_actions` are the ablations of the paper. The
same command again resumes. Beside this file: dreamer.py, mummi.py.
"""

import commandline
from config import Method

METHOD = Method(
    'cvrl', own=('obs_model', 'probe_frames', 'reward_only'), refine_actions=True,
    refine_plan='all')

if __name__ == '__main__':  # A mistake is answered before TensorFlow loads.
    CONFIG = commandline.from_command_line(METHOD)

import tensorflow as tf

import replicas
import training
from dreamer import Reconstruction
from experiment import Experiment
from models import Representation
from networks import Perceptron


class JointContrast(Representation):
    """R = mean_i( score_ii - logsumexp_j score_ij ) with score_ij = u(s_i) . v(e_j), over all
    N = B L entries: the InfoNCE bound (arXiv 1807.03748) on I(s; o), less log N. Both codes are
    two dense layers, each with ELU, as in the published code."""

    def __init__(self, config, shapes, features, precision):
        super().__init__(config, shapes, features, precision)
        self.code_width = width = config.hidden
        self.state_code = Perceptron(features, 1, width, width, precision)
        self.observation_code = Perceptron(self.width, 1, 2 * width, width, precision)

    def embed(self, observation, withheld=None):
        encoded = self.encoded(observation)
        return {'joint': self.joined(encoded, withheld), 'whole': self.joined(encoded)}

    def scores(self, features, joint):
        """(score_ij [N, M], how many j stand before an entry's own): of the N entries of
        features [B, L, F] with the embeddings of all sensors of all M entries of the batch."""
        state, other = (
            tf.reshape(tf.nn.elu(code), [-1, self.code_width]) for code in (
                self.state_code(features), self.observation_code(joint)))
        scores = tf.matmul(state, replicas.gathered(other), transpose_b=True)
        return scores, replicas.number() * state.shape[0]

    def loss(self, features, embeddings, observation):
        leading = features.shape[:-1]
        scores, before = self.scores(features, embeddings['whole'])
        bound = tf.linalg.diag_part(scores, k=before) - tf.reduce_logsumexp(scores, 1)
        return {'contrast_loss': tf.reshape(-bound, leading)}

    def metrics(self, features, embeddings, observation):
        """find_latent_observation: how often an entry's own observation scores highest of all."""
        scores, before = self.scores(features, embeddings['whole'])
        found = tf.argmax(scores, 1, tf.int32) == before + tf.range(scores.shape[0])
        return {'find_latent_observation': tf.reduce_mean(tf.cast(found, tf.float32))}


class RewardOnly(Representation):
    """R = 0: the features are learned by the reward alone."""

    def loss(self, features, embeddings, observation):
        return {}


def representation(config, *rest):
    """The part that `config` asks for: CVRL's, or what its paper's ablations put in its place."""
    observed = {'contrastive': JointContrast, 'generative': Reconstruction}[config.obs_model]
    return (RewardOnly if config.reward_only else observed)(config, *rest)


if __name__ == '__main__':
    training.main(Experiment(METHOD, representation, CONFIG))
