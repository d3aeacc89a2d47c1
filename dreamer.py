"""Dreamer (arXiv 1912.01603): the representation is learned by reconstructing the sensors.

    python dreamer.py --logdir ./logdir/dmc_walker_walk/dreamer --task dmc_walker_walk

`--help` lists the options. The same command again resumes. Beside this file: cvrl.py, mummi.py.
"""

import commandline
from config import Method

METHOD = Method('dreamer')

if __name__ == '__main__':  # A mistake is answered before TensorFlow loads.
    CONFIG = commandline.from_command_line(METHOD)

import networks
import training
from experiment import Experiment
from models import Representation


class Reconstruction(Representation):
    """R = sum over sensors of mean( f^m log p(o^m | s) )."""

    reconstructs = True

    def __init__(self, config, shapes, features, precision):
        super().__init__(config, shapes, features, precision)
        self.decoders = networks.decoders(config, shapes, features, precision)

    def loss(self, features, embeddings, observation):
        losses = self.reconstruction_losses(features, observation)
        return {f'{sensor}_loss': loss for sensor, loss in losses.items()}


if __name__ == '__main__':
    training.main(Experiment(METHOD, Reconstruction, CONFIG))
