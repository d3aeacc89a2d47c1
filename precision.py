"""The type of the networks' products: which one, and the copies of weights rounded to it."""

import contextlib

import tensorflow as tf

import devices
import processor
from replicas import own


def compute_type(precision):
    """The type of products that `precision` names; auto: bfloat16 on a GPU of compute
    capability 8.0 or later or on a processor that is faster in it, float32 elsewhere."""
    if precision != 'auto':
        return tf.as_dtype(precision)
    if devices.gpus():
        # Older ones have no units for bfloat16, and are slower in it.
        return tf.bfloat16 if devices.capability() >= (8, 0) else tf.float32
    return tf.bfloat16 if _fast(tf.bfloat16) else tf.float32


def _fast(half):
    """Whether the processor has products of the type `half` that are faster than of float32.
    docs/speed.md, "Precision", has the rates. By name and not by a stopwatch, so that one machine
    always makes the same choice."""
    facts = processor.facts()
    flags, vendor = (facts.get(key, []) for key in ('flags', 'vendor_id'))
    if half == tf.float16:
        return 'avx512_fp16' in flags
    return 'amx_bf16' in flags or ('avx512_bf16' in flags and 'AuthenticAMD' in vendor)


def type_of_sums(compute):
    """The type in which products of factors of the type `compute` are taken: float32 for half
    precision on a processor that is not faster in it, and otherwise that itself.

    With AVX2 alone TensorFlow's own are nine times as slow, and not only rounded: a product of
    matrices in bfloat16 cuts its sums off, 0.3 % too small each, gradients too, and gradients of
    convolutions are added up in half precision, which leaves them 1 to 2 % off (docs/speed.md).
    """
    half = compute != tf.float32 and not devices.gpus()
    return tf.float32 if half and not _fast(compute) else compute


# Weights of a dense layer up to which acting on a processor computes in float32 (docs/speed.md).
SMALL = 2 ** 18


class Precision:
    """The type of the networks' products, shared by all layers of an agent.

    In half precision, learning rounds a weight where it is used, for each update gives it a new
    value. An action reads as many weights as an update, and computes little with each: acting
    reads copies, which are rounded once an update. On a processor it does so for large weights
    alone: a product of one row and few weights takes longer to begin in half precision than it
    saves by reading less.
    """

    def __init__(self, compute):
        self.compute = tf.as_dtype(compute)
        self.sums = type_of_sums(self.compute)
        self.acting, self.copies = False, {}

    def copy(self, variables):
        """Keep a rounded copy of each of `variables` for acting, of those that it may read rounded.
        They are not part of a checkpoint: `refresh` makes them from what was restored."""
        if self.compute != tf.float32:
            self.copies = {v.ref(): tf.Variable(
                tf.cast(v, self.compute), trainable=False)
                for v in variables if not _exact(v)}

    def refresh(self):
        """Round the variables to their copies again, after they have changed."""
        for reference, copy in self.copies.items():
            own(copy).assign(tf.cast(reference.deref(), self.compute))

    def product(self, kernel, compute):
        """The type of a dense layer's product with `kernel` where `compute` is asked for."""
        return tf.float32 if self.acting and _exact(kernel) else compute

    def multiply(self, operation, x, kernel, **options):
        """operation(x, kernel), both of one type, in this type: a product of matrices or a
        convolution, each sum of which is rounded once, and each of its gradients."""
        sums = self.sums if x.dtype == self.compute else x.dtype
        return tf.cast(
            operation(tf.cast(x, sums), tf.cast(kernel, sums), **options), x.dtype)

    def apart(self, compute):
        """Whether a layer's product of the type `compute` and its bias are better two operations:
        on a processor, in float32, for the few rows of an action. oneDNN's single one begins with
        sorting the weights, every time, which takes longer than the product of one row; in half
        precision, whose sums are slow, it is faster all the same (docs/speed.md)."""
        return self.acting and compute == tf.float32 and not devices.gpus()

    @contextlib.contextmanager
    def reading_copies(self):
        """What is traced inside reads the copies."""
        self.acting = True
        try:
            yield
        finally:
            self.acting = False

    def weight(self, variable, compute):
        """`variable` in the type `compute`: its copy while acting, where it has one of that type,
        and otherwise the variable, rounded."""
        if self.acting and compute == self.compute and variable.ref() in self.copies:
            return self.copies[variable.ref()].read_value()
        return tf.cast(variable, compute)


def _exact(variable):
    """Whether acting reads `variable` as it is: kernels of small dense layers, on a processor."""
    return len(variable.shape) == 2 and variable.shape.num_elements() <= SMALL and (
        not devices.gpus())
