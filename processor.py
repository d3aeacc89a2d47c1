"""The processor, and what TensorFlow is to make of it: how many cores, which instructions.

Nothing here imports TensorFlow: it reads these environment variables when it is imported (which
kernels) or first computes (how many threads).
"""

import itertools
import os


def cores():
    """How many cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def facts():
    """What /proc/cpuinfo says of the first processor: name -> its words, as 'flags' -> the names
    of its instructions; {} where there is no such file."""
    try:
        with open('/proc/cpuinfo', encoding='ascii', errors='ignore') as file:
            first = list(itertools.takewhile(str.strip, file))
    except OSError:
        return {}
    parts = (line.partition(':') for line in first)
    return {key.strip(): value.split() for key, _, value in parts}


def kernels():
    """Environment variable -> value: convolutions and products by oneDNN wherever it has them for
    this processor. TensorFlow by itself takes it only where there are instructions for neural
    networks; but with AVX2 alone, too, updates take 0.6 of the time by it (docs/speed.md)."""
    return {'TF_ENABLE_ONEDNN_OPTS': '1'} if 'avx2' in facts().get('flags', []) else {}


def threads(count):
    """Environment variable -> value, for a process that has `count` cores for itself.

    As TensorFlow's own choice, each operation is divided among all cores, and as many operations
    run at once; but with two cores an operation has one, as two that do not wait for each other
    (the sensors' encoders, say) fill both, and none is divided (docs/speed.md).
    """
    return {'TF_NUM_INTRAOP_THREADS': str(1 if count == 2 else count),
            'TF_NUM_INTEROP_THREADS': str(count)}


def prepare():
    """Set, where the user's environment does not say otherwise, what TensorFlow reads when it is
    imported: to be called before. Of its greetings those that it writes later are off."""
    # Keras 3 is not used here, as TensorFlow Probability cannot, and would be imported beside
    # Keras 2, a second longer (docs/speed.md).
    others = {'TF_CPP_MIN_LOG_LEVEL': '3', 'TF_USE_LEGACY_KERAS': '1'}
    for name, value in (others | kernels()).items():
        os.environ.setdefault(name, value)
