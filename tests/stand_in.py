"""Gives TensorFlow a GPU that does not exist, in a process of its own, and runs a script there:

    python tests/stand_in.py mummi.py --logdir ...

TensorFlow's own functions then configure it, and refuse where they would refuse for a true one.
Prints at the end how it was configured, after the word STAND-IN.
"""

import runpy
import sys

import tensorflow as tf
from tensorflow.python.eager import context as eager

GPU = tf.config.PhysicalDevice('/physical_device:GPU:0', 'GPU')
DETAILS = {'device_name': 'Stand-in 7000', 'compute_capability': (7, 5)}


def main():
    context = eager.context()
    tf.config.list_physical_devices()  # makes the lists
    context._physical_devices.append(GPU)
    context._visible_device_list.append(GPU)
    context._memory_growth_map[GPU] = None
    tf.config.experimental.get_device_details = lambda device: DETAILS
    sys.argv = sys.argv[1:]
    sys.path.insert(0, '.')
    import training
    training.Trainer.train = lambda self: None
    runpy.run_path(sys.argv[0], run_name='__main__')
    print('STAND-IN growth', tf.config.experimental.get_memory_growth(GPU), 'rounded',
          tf.config.experimental.tensor_float_32_execution_enabled())


if __name__ == '__main__':
    main()
