"""Fixtures that several files of tests share."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle

import numpy as np
import pytest

import processor
from config import Config

processor.prepare()  # as a run does, before a test imports TensorFlow

# Read when XLA first compiles: two thirds of the time, for code that is slower to run.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')


@pytest.fixture
def eager():
    """Runs tf.functions as plain Python, so that spies and stubs see every call and value."""
    import tensorflow as tf
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def unread():
    """Gives an output, as stdout, of which nobody reads what is written."""
    made = []

    def output():
        read, write = os.pipe()
        os.close(read)
        made.append(os.fdopen(write, 'w', buffering=1))
        return made[-1]
    yield output
    for one in made:
        with contextlib.suppress(OSError):
            one.close()


@pytest.fixture(scope='session')
def shaken():
    """An agent with all weights shaken, that no test changes."""
    import helpers
    agent = helpers.build('mummi', '--pcont')
    helpers.shake(agent)
    return agent


@pytest.fixture(scope='module')
def elsewhere():
    """Runs a function of the file of tests in a process without TensorFlow."""
    import workers
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        def run(function, *arguments):
            with workers.spawning():
                future = pool.submit(function, *arguments)
            return future.result()
        yield run


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    path = tmp_path_factory.mktemp('natural') / 'videos.pkl'
    random = np.random.default_rng(0)
    path.write_bytes(pickle.dumps(random.integers(0, 256, (3, 5, 3, 64, 64), np.uint8)))
    return str(path)


@pytest.fixture
def config(videos):
    return Config(natural_train=videos, natural_valid=videos, time_limit=6)


@pytest.fixture(scope='session')
def stub_run(tmp_path_factory):
    """Words of the command line -> the finished run on the stub task with them, made once. No
    test changes its folder."""
    import functools

    import stubs
    return functools.cache(
        lambda *words: stubs.trained(tmp_path_factory.mktemp('stub') / 'run', *words))


@pytest.fixture(scope='session')
def whole(stub_run):
    """A run of MuMMI on the stub task, with an evaluation at each 40 steps."""
    return stub_run('--log_every', '3')


@pytest.fixture(scope='session')
def unjudged(stub_run):
    """The same run without evaluations."""
    return stub_run('--log_every', '3', '--eval_episodes', '0')


@pytest.fixture(scope='session')
def reseeded(stub_run):
    """The same run with another seed."""
    return stub_run('--log_every', '3', '--seed', '1')
