"""SIGTERM, Ctrl-C and SIGHUP, in processes without TensorFlow."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import stopping

ROOT = pathlib.Path(stopping.__file__).parent
SCRIPT = """
import sys, time, stopping
stopping.listen('type it again')
print('ready', flush=True)
def busy():
    end = time.monotonic() + 20
    while time.monotonic() < end:
        time.sleep(0.01)
        stopping.check()
try:
    if sys.argv[1] == 'end':
        busy()
    elif sys.argv[1] == 'note':
        with stopping.noting():
            busy()
    else:
        with stopping.noting():
            time.sleep(20)
except stopping.Stopped as stopped:
    print('caught', stopped.name, stopping.asked())
    sys.exit(stopped.code)
"""


def hearing():
    """In a new process: Ctrl-C as at a terminal, whatever this one was started to ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize('how, out, error, times', [
    ('end', '', 'ended at once; type it again', 1),
    ('note', 'caught', 'finishing the update', 1), ('deaf', '', 'ended at once', 2)])
@pytest.mark.parametrize('number, code', [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_process_as_its_phase_asks(how, out, error, times, number, code):
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT, how], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=hearing)
    try:
        assert process.stdout.readline() == 'ready\n'
        for _ in range(times):
            time.sleep(0.3)
            os.kill(process.pid, number)
        if (how, number) == ('deaf', signal.SIGHUP):
            time.sleep(1)
            process.kill()
        said, errors = process.communicate(timeout=15)
    finally:
        process.kill()
    if (how, number) == ('deaf', signal.SIGHUP):  # of a terminal that closes there may be two
        assert process.returncode == -signal.SIGKILL and errors.count('SIGHUP') == 1
        return
    assert process.returncode == code and 'Traceback' not in errors
    assert out in said and error in errors and signal.Signals(number).name in said + errors


def test_a_signal_that_was_to_be_ignored_stays_so():
    done = subprocess.run(
        [sys.executable, '-c', 'import signal, stopping\nstopping.listen("")\n'
         'print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)'],
        cwd=ROOT, text=True, capture_output=True, check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert done.stdout == 'True\n'
