"""Tests of what a run says of its own numbers."""

import pytest

from actions import Continuous, Discrete
from health import LASTING, Health

SIX = Continuous(6, 0.3).saturated

GOOD = {'value_ratio': 1.1, 'value': 30.0, 'actor_entropy': -40.0, 'image_loss': 1.0,
        'chance_image': 5.0, 'touch_loss': 0.004, 'chance_touch': 0.005}


def test_a_healthy_run_says_nothing():
    health = Health(SIX)
    assert [health.lines(GOOD) for _ in range(3 * LASTING)] == [[]] * (3 * LASTING)
    # Dreamer and CVRL have no bound of a sensor; an early value is low, or below 0.
    assert Health(SIX).lines({'value_ratio': -3.0, 'value': -2.0, 'actor_entropy': -22.0}) == []
    # A return that is not discounted has no such ratio, and what is nearly 0 is nothing.
    for values in {'imagined_reward': 0.5}, {'imagined_reward': -1e-3, 'value': 0.3}:
        assert not list(Health(SIX).signs({'value_ratio': 0.0, 'value': 30.0} | values))
    # Where rewards are negative, a value that is too low is no value that runs away.
    assert not list(Health(SIX).signs({'value_ratio': 3.0, 'value': -90.0}))


@pytest.mark.parametrize('changes, words', [
    ({'value_ratio': -3.0, 'imagined_reward': -0.1}, ['the value is 30, which', '--actor_rate']),
    ({'value_ratio': 0.0, 'imagined_reward': 0.0}, ['the value is 30, which', '--slow_value']),
    ({'value_ratio': 2.4}, ['2.4 times', '--slow_value', '--actor_rate']),
    ({'actor_entropy': -71.0}, ['-71 nats', '--entropy_bonus']),
    ({'touch_loss': 0.00499}, ['touch', 'at chance'])])
def test_a_bad_sign_is_said_once_when_it_has_lasted_and_again_when_it_comes_back(changes, words):
    health, bad = Health(SIX), GOOD | changes
    said = [health.lines(bad) for _ in range(LASTING - 1)]
    said += [health.lines(GOOD)]  # it did not last
    assert said == [[]] * LASTING
    said = [line for _ in range(3 * LASTING) for line in health.lines(bad)]
    assert len(said) == 1 and said[0].startswith('warning: ') and '\n' not in said[0]
    assert all(word in said[0] for word in words)
    health.lines(GOOD)
    assert [line for _ in range(LASTING) for line in health.lines(bad)] == said


def test_an_actor_that_always_makes_the_same_choice_is_said_too():
    """Entropies of a choice are between 0 and log A."""
    health = Health(Discrete(7, 0.1).saturated)
    for entropy, said in (1.9, 0), (0.05, 0), (0.001, 1):
        rows = [health.lines({'actor_entropy': entropy}) for _ in range(2 * LASTING)]
        assert sum(map(len, rows)) == said, entropy
    assert '0.001 nats' in rows[LASTING - 1][0] and '--entropy_bonus' in rows[LASTING - 1][0]
    # With a single choice there is nothing to decide, and a row without the column says nothing.
    one = Discrete(1, 0.1).saturated
    assert not list(Health(one).signs({'actor_entropy': 0.0})) and not list(Health(SIX).signs({}))
