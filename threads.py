"""How many threads TensorFlow computes with, by the cores that it may use.

Nothing here imports it: it reads these environment variables when it first computes.
"""

import os


def cores():
    """How many cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def variables(count):
    """Environment variable -> value, for a process that has `count` cores for itself.

    As TensorFlow's own choice, each operation is divided among all cores, and as many operations
    run at once; but with two cores an operation has one, as two that do not wait for each other
    (the sensors' encoders, say) fill both, and none is divided (docs/speed.md).
    """
    return {'TF_NUM_INTRAOP_THREADS': str(1 if count == 2 else count),
            'TF_NUM_INTEROP_THREADS': str(count)}
