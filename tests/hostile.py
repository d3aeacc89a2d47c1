"""What ends the process that reads it. Alone in this file: a process that is handed one imports its
module, and with that of the tests TensorFlow, which takes seconds."""

import os


class Hostile:
    """A configuration that ends the process that reads it, by a signal or an error."""

    def __init__(self, ending):
        self.ending = ending
        self.seed, self.env_timeout, self.stagger = 0, 60, False

    @property
    def task(self):
        if self.ending:
            os.kill(os.getpid(), self.ending)
        raise ZeroDivisionError
