"""A small part of tests/torture.py, and that it finds what is broken on purpose."""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name('torture.py')


@pytest.mark.parametrize('words, code, found', [
    (['--only', 'damage', '--only', 'signals', '--kills', '1', '--files', '10'], 0, 'checkpoints'),
    (['--only', 'damage', '--files', '30', '--without', 'rows'], 1, 'BROKEN: rows of episodes')])
def test_runs_survive_a_little_torture_and_a_lack_of_mending_is_found(words, code, found):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], text=True, capture_output=True, timeout=500)
    assert done.returncode == code, done.stdout + done.stderr[-2000:]
    assert found in done.stdout
