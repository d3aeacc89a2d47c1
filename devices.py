"""The device that TensorFlow computes on: set up before it computes anything, and named."""

import os
import shutil

import tensorflow as tf

import processor


def gpus():
    """The GPUs that TensorFlow sees; the first of them computes, or all with `--devices all`."""
    return tf.config.get_visible_devices('GPU')


def all_of_a_kind():
    """The names of all devices of the kind that computes: of the GPUs, or else of the CPU, which
    is one unless TensorFlow was told otherwise. To be called after `set_up`."""
    return [device.name for device in (
        tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU'))]


def set_up():
    """Let a GPU's memory grow as it is needed, let float32 mean float32, and take the threads that
    are best for the cores there are, where the user's environment does not say how many.

    First of all in a process that trains, judges or measures: RuntimeError where TensorFlow has
    begun to compute on a GPU without it, for which a summary writer is enough. A second call
    changes nothing.
    """
    for name, value in processor.threads(processor.cores()).items():
        os.environ.setdefault(name, value)
    for gpu in gpus():
        tf.config.experimental.set_memory_growth(gpu, True)
    # TensorFlow's default rounds the factors of float32 products to 10 bits on a GPU that can.
    tf.config.experimental.enable_tensor_float_32_execution(False)


def capability():
    """Compute capability of the first GPU, as (8, 0); (0, 0) where there is none or it has
    none."""
    return _details().get('compute_capability', (0, 0))


def name(count=1):
    """What computes, for a person: the first GPU, or the CPU, or `count` devices."""
    found = gpus()
    if not found:
        return 'the CPU' if count == 1 else f'{count} devices of the CPU'
    name = _details().get('device_name', 'a GPU')
    major, minor = capability()
    others = f', the first of {len(found)} GPUs' if len(found) > 1 else ''
    if count > 1:
        others = f', and {count - 1} more GPUs'
    return f'{name} (compute capability {major}.{minor}{others})'


def _details():
    found = gpus()
    return tf.config.experimental.get_device_details(found[0]) if found else {}


def has_driver():
    """Whether the machine has a driver by NVIDIA."""
    return bool(shutil.which('nvidia-smi')) or os.path.exists('/proc/driver/nvidia/version')


def advice(driver=has_driver):
    """A line for a user whose GPU TensorFlow does not see, or ''. CUDA_VISIBLE_DEVICES set to
    nothing or to -1 hides a GPU on purpose."""
    hidden = os.environ.get('CUDA_VISIBLE_DEVICES', '0').strip() in ('', '-1')
    if gpus() or hidden or not driver():
        return ''
    return ('warning: this machine has an NVIDIA driver, but TensorFlow sees no GPU, so all is '
            'computed on the CPU; type python -m pip install -r requirements-gpu.txt '
            '(docs/usage.md)')
