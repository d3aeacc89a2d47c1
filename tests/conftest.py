"""Fixtures that several files of tests share."""

import pytest


@pytest.fixture
def eager():
    """Runs tf.functions as plain Python, so that spies and stubs see every call and value."""
    import tensorflow as tf
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope='session')
def shaken():
    """An agent with all weights shaken, that no test changes."""
    import helpers
    agent = helpers.build('mummi', '--pcont')
    helpers.shake(agent)
    return agent
