"""Files that are written whole or not at all."""

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import sys

import pytest

import files


def test_a_file_is_there_once_it_is_whole_and_not_before(tmp_path):
    path = tmp_path / 'file'
    with files.writing(path) as file:
        file.write(b'new')
        assert os.listdir(tmp_path) == ['file.partial']
    assert os.listdir(tmp_path) == ['file'] and path.read_bytes() == b'new'


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError, ValueError])
def test_an_error_leaves_what_was_there_and_nothing_else(error, tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    with pytest.raises(error), files.writing(path) as file:
        file.write(b'new')
        raise error
    assert os.listdir(tmp_path) == ['file'] and path.read_bytes() == b'old'


def test_content_and_name_reach_the_disk_in_this_order(tmp_path, monkeypatch):
    done = []

    def noting(name, original):
        def call(*arguments):
            done.append((name, *(os.path.basename(os.readlink(f'/proc/self/fd/{a}'))
                                 for a in arguments if isinstance(a, int))))
            return original(*arguments)
        return call
    for name in ('fsync', 'replace'):
        monkeypatch.setattr(files.os, name, noting(name, getattr(os, name)))
    with files.writing(tmp_path / 'file') as file:
        file.write(b'new')
    assert done == [('fsync', 'file.partial'), ('replace',), ('fsync', tmp_path.name)]


def test_what_a_kill_leaves_is_cleaned_and_nothing_else(tmp_path):
    code = """if True:
        import files, os, signal, sys
        with files.writing(sys.argv[1]) as file:
            file.write(b'new')
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    path = tmp_path / '7.csv'
    path.write_bytes(b'old')
    done = subprocess.run([sys.executable, '-c', code, str(path)], cwd=os.path.dirname(
        files.__file__))
    assert done.returncode == -signal.SIGKILL and path.read_bytes() == b'old'
    for name in ('notes.partial', '7.csv.partial.csv', 'x7.csv.partial', '8.csv'):
        (tmp_path / name).touch()
    files.clean(tmp_path, re.compile(r'\d\.csv'))
    assert sorted(os.listdir(tmp_path)) == [
        '7.csv', '7.csv.partial.csv', '8.csv', 'notes.partial', 'x7.csv.partial']


def test_lock_is_held_by_one_until_it_is_closed(tmp_path):
    with open(tmp_path / 'lock', 'w') as first, open(tmp_path / 'lock', 'w') as second:
        assert files.lock(first) is True
        with pytest.raises(BlockingIOError):
            files.lock(second)
        first.close()
        assert files.lock(second) is True


@pytest.mark.parametrize('number', ['ENOLCK', 'EOPNOTSUPP', 'ENOSYS', 'EBADF', 'EINVAL'])
def test_a_file_system_without_locks_is_not_another_process(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(getattr(errno, number), 'no locks')
    monkeypatch.setattr(fcntl, 'flock', refuse)
    with open(tmp_path / 'lock', 'w') as file:
        assert files.lock(file) is False
    with files.alone(tmp_path / 'file'):
        pass


def _count(path, times):
    for _ in range(times):
        with files.alone(path):
            value = int(path.read_text())
            with files.writing(path) as file:
                file.write(str(value + 1).encode())


def test_processes_that_are_alone_with_a_file_lose_nothing(tmp_path):
    path = tmp_path / 'count'
    path.write_text('0')
    context = multiprocessing.get_context('fork')
    others = [context.Process(target=_count, args=(path, 40)) for _ in range(4)]
    for process in others:
        process.start()
    for process in others:
        process.join(60)
    assert path.read_text() == '160'


def _write(path, letter, written, go):
    with files.writing(path) as file:
        file.write(letter * 5)
        file.flush()
        written.set()
        go.wait(30)
        file.write(letter * 5)


def test_two_processes_that_write_one_file_leave_the_whole_of_the_last(tmp_path):
    path, context = tmp_path / 'file', multiprocessing.get_context('fork')
    events = [context.Event() for _ in range(4)]
    first = context.Process(target=_write, args=(path, b'a', events[0], events[1]))
    second = context.Process(target=_write, args=(path, b'b', events[2], events[3]))
    first.start()
    assert events[0].wait(30)
    second.start()
    assert not events[2].wait(0.5)  # it waits for the first
    events[1].set()
    assert events[2].wait(30) and path.read_bytes() == 10 * b'a'
    events[3].set()
    for process in first, second:
        process.join(30)
        assert process.exitcode == 0
    assert path.read_bytes() == 10 * b'b' and os.listdir(tmp_path) == ['file']


def test_place_that_does_not_exist_is_writable_as_the_one_above_it(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    assert files.writable(tmp_path / 'a' / 'b') and not files.writable(tmp_path / 'file' / 'a')
    monkeypatch.setattr(os, 'access', lambda path, mode: path != str(tmp_path))
    assert not files.writable(tmp_path / 'a' / 'b') and not files.writable(tmp_path)
