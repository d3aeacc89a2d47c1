"""An environment in a process of its own: what runs there, and its handle for who asks.

    Worker      the handle: starts the process, asks it, ends it
    work        what the process of a vector's environment runs
    shared      observations where both sides see them
    spawning    how processes without TensorFlow are started
    ended       in one line why one of them ended by itself
"""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
import types

import numpy as np

import stopping
from config import UserError
from environments import Broken, no_opengl, time_limit
from wrappers import StaggeredStart, make

KILLS = ('SIGKILL', 'SIGTERM', 'SIGHUP', 'SIGINT', 'SIGXCPU')  # signals that no fault sends
ENDED = 'ended'
GRACE = 5  # seconds that an environment has to answer where the run is to stop
LEAVE = 2  # seconds that it has to end what it started, where its process is to end
LOOK = 200  # milliseconds after which a silent worker is thought about


class Died(Exception):
    """A worker ended, does not answer, or has an episode that cannot go on; and which of them."""


def ended(what, code, rendered=False):
    """The `UserError` for a process that ended by itself, with the exit code `code`. rendered:
    whether it is known to work, so that nothing lacks that it needs."""
    if code is None or code >= 0:
        return UserError(f'{what} ended, for the reason above')
    try:
        name = signal.Signals(-code).name
    except ValueError:  # Python has no name for the real-time signals in between
        name = f'signal {-code}'
    if name in KILLS:
        return UserError(
            f'{what} was killed from outside ({name}); a full memory does that: try fewer '
            '--envs, or a smaller --replay_memory')
    crash = f'{what} crashed: {name}'
    return UserError(crash) if rendered else no_opengl(crash)


@contextlib.contextmanager
def spawning():
    """Within, started processes run no main script and are deaf to Ctrl-C, SIGTERM and SIGHUP."""
    # A spawned process imports the main script of its parent, and with it TensorFlow. An
    # empty module in its place has no file to import.
    main = sys.modules['__main__']
    # A blocked signal stays blocked in the started process, from its first moment on. The
    # tracker is started before, since its start would end the blocking.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(stopping.SIGNALS))
    sys.modules['__main__'] = types.ModuleType('__main__')
    try:
        yield
    finally:
        sys.modules['__main__'] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shared(space, count):
    """Memory for `count` observations of a Dict space, to be given to processes as they start; it
    has no name, and so goes with the last of them. `arrays` reads it."""
    context = multiprocessing.get_context('spawn')
    return {key: context.RawArray('B', count * math.prod(part.shape) * part.dtype.itemsize)
            for key, part in space.spaces.items()}


def arrays(memory, space, count):
    """key -> array [count, ...] in `memory`."""
    return {key: np.frombuffer(memory[key], part.dtype).reshape(count, *part.shape)
            for key, part in space.spaces.items()}


def silence(poll):
    """Seconds without an answer, at each look that finds none. poll: waits milliseconds for it and
    says whether it is there.

    Between two looks pass no more than two of them, whatever the clock says: where this process
    and who shall answer were stopped together (Ctrl-Z, a suspended job), nobody was silent.
    """
    silent, before = 0.0, time.monotonic()
    while not poll(LOOK):
        now = time.monotonic()
        silent += min(now - before, 2 * LOOK / 1000)
        before = now
        yield silent


class Worker:
    """A process `name` that builds an environment. limit: seconds in which it has to answer.

    What it observes it writes into the memory that it was started with; all else that it answers
    comes by a pipe, and after it: an observation is whole once its answer is there.
    """

    def __init__(self, name, limit):
        self.name, self.limit = name, limit
        self.process = self.pipe = None
        self.answered = False  # ever, by a process of this name: so it could be rendered

    def start(self, target, *arguments):
        """Have the process run target(its end of the pipe, *arguments)."""
        context = multiprocessing.get_context('spawn')
        self.pipe, end = context.Pipe()
        self.silence = select.poll()
        self.silence.register(self.pipe, select.POLLIN)
        self.process = context.Process(target=target, daemon=True, args=(end, *arguments))
        with spawning():
            self.process.start()
        end.close()

    def leave(self):
        """Have the process close its environment and end: nobody asks it any more."""
        if self.pipe:
            self.pipe.close()

    def end(self, until=None):
        """End the process, and all that it has started: by itself until that moment of the
        monotonic clock, LEAVE seconds from now where none is given, and else whatever it does."""
        self.leave()
        if self.process and self.process.pid:
            self._wait(time.monotonic() + LEAVE if until is None else until)
            end_group(self.process.pid)
            self.process.kill()  # also one that is stopped, or has yet to have a group of its own
            self._wait(time.monotonic() + 5)

    def _wait(self, until):
        """Until the process has ended, or that moment. Not `join`, which waits for all that the
        process has forked too."""
        while self.process.exitcode is None and time.monotonic() < until:
            time.sleep(0.005)

    def ask(self, command, *words):
        """Have the worker do `command`, one of COMMANDS, with these arguments."""
        with contextlib.suppress(OSError):  # the answer will tell
            self.pipe.send_bytes(pickle.dumps((command, words), pickle.HIGHEST_PROTOCOL))

    def ready(self):
        """Wait until the environment is built; its `UserError` is raised."""
        self._receive()

    def answer(self):
        """What the command gave (the next of it, where it gives several); `Died` where nothing
        comes in time. An error of the environment is raised."""
        answer = self._receive()
        self.answered = True
        return answer

    def _receive(self):
        stop = None
        try:
            for silent in silence(self.silence.poll):
                if stopping.asked():  # not for one that hangs
                    stop = stop or silent + GRACE
                    if silent > stop:
                        stopping.check()
                if silent > self.limit:
                    raise Died(f'gave no answer for {self.limit:g} seconds (--env_timeout)')
            answer = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            raise Died(ENDED) from None
        if isinstance(answer, BaseException):
            stopping.check()  # what the environment asked may have heard the signal too
            raise answer
        return answer

    def reason(self, error):
        """The `UserError` for what `Died` says."""
        if str(error) != ENDED:
            return UserError(f'{self.name} {error}')
        self._wait(time.monotonic() + 5)  # its pipes end a moment before a process does
        return ended(self.name, self.process.exitcode, self.answered)


# --- In the worker ---


@contextlib.contextmanager
def environment():
    """What a process of an environment does around all else. Gives a list for the environment,
    which is closed at the end, whatever that is; and this process, and all that it has started,
    end with the parent, also amid an environment that hangs.

    The process ends here: at once, as libraries that draw may crash in what Python does at its
    end."""
    with contextlib.suppress(OSError):
        # A group of its own, which can be ended as a whole, and which Ctrl-C does not reach.
        os.setsid()
    parent = multiprocessing.parent_process().sentinel

    def watch():
        multiprocessing.connection.wait([parent])
        time.sleep(LEAVE)
        end_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    # What is blocked is blocked in the processes that this one starts too, and they could not be
    # ended by a signal; what is handled is not handled there.
    for number in stopping.SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    os.register_at_fork(after_in_child=hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping.SIGNALS)
    held, code = [], 0
    try:
        yield held
    except BaseException:
        traceback.print_exc()
        code = 1
    for env in held:
        with contextlib.suppress(Exception):
            env.close()
    for output in sys.stdout, sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            output.flush()
    os._exit(code)


def hear():
    """Let signals end this process, which one of an environment has forked."""
    for number in stopping.SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def end_group(leader):
    """End all processes of the group that the process number `leader` has made, if there are any,
    the leader among them or not."""
    with contextlib.suppress(OSError):
        os.killpg(leader, signal.SIGKILL)


def work(pipe, config, split, seed, index, neighbours, memory, count):
    """What the process of a vector's environment does: builds it, staggered as `index` of
    `neighbours`, and answers commands until its parent is gone. memory: of `shared`, for `count`
    observations."""
    # Errors of the pipe say that the parent is gone, and with it whoever would read a traceback.
    with environment() as held, contextlib.suppress(EOFError, OSError):
        try:
            env = make(config, split, seed)
            held.append(env)
            if neighbours > 1:
                episode = math.ceil(time_limit(config) / config.action_repeat)
                env = StaggeredStart(env, index, neighbours, episode)
        except UserError as error:
            pipe.send(error)
            return
        except OSError as error:  # the environment's own
            pipe.send_bytes(_sendable(error))
            return
        pipe.send('ready')
        rows = {key: value[index] for key, value in arrays(
            memory, env.observation_space, count).items()}
        while True:
            command, words = pickle.loads(pipe.recv_bytes())
            for answer in _answers(COMMANDS[command], env, rows, *words):
                pipe.send_bytes(_sendable(answer))


def _answers(command, *words):
    """What a command answers, and the error that ends it."""
    try:
        yield from command(*words)
    except Broken as error:
        yield Died(f'cannot go on, as {error}')
    except Exception as error:
        yield error


def _sendable(answer):
    """`answer` as bytes; an error that has to be raised elsewhere with a note of where it was.

    One of a class that the other process need not have, or which says there something else, as
    that a pipe is broken, comes as a RuntimeError of its words."""
    if not isinstance(answer, BaseException):
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    if not isinstance(answer, Died):
        trace = ''.join(traceback.format_exception(answer))
        answer.add_note(f'in the environment:\n{trace}')
    known = type(answer) in (Died, UserError) or (type(answer).__module__ == 'builtins' and not (
        isinstance(answer, OSError) and not answer.filename))
    with contextlib.suppress(Exception):
        content = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        pickle.loads(content)
        if known:
            return content
    told = RuntimeError(f'{type(answer).__name__}: {answer}')
    told.add_note(answer.__notes__[-1])
    return pickle.dumps(told, pickle.HIGHEST_PROTOCOL)


# A replay holds rewards in this type.
LARGEST_REWARD = float(np.finfo(np.float32).max)


def checked(observation, reward=0.0):
    """Raises `Broken` for numbers that nothing can be learned from: they would stay in the replay,
    where each update that meets them is not finite."""
    if not abs(reward) <= LARGEST_REWARD:
        raise Broken(f'its reward is {reward}')
    for key, value in observation.items():
        # Whole numbers are finite, and pictures of them large.
        if np.asarray(value).dtype.kind == 'f' and not np.isfinite(value).all():
            raise Broken(f'a number of its {key} is not finite')


def _reset(env, rows, seed, options):
    observation, info = env.reset(seed=seed, options=options)
    checked(observation)
    _show(observation, rows)
    yield 0.0, False, False, info


def _step(env, rows, action, begins):
    if begins is not None:
        yield from _reset(env, rows, begins, None)
        return
    observation, *answer = env.step(action)
    checked(observation, answer[0])
    _show(observation, rows)
    yield answer


def _show(observation, rows):
    for key, row in rows.items():
        value = np.asarray(observation[key])
        if value.shape != row.shape:  # it would be repeated until it fits
            raise ValueError(f'{key} is {value.shape}, and its space says {row.shape}')
        np.copyto(row, value)


def _play(env, rows, seed, actions, whole):
    """An answer to the reset and one to each action, as far as the episode goes, each behind its
    observation: an episode may take longer than the answer to one decision may."""
    if whole and isinstance(env, StaggeredStart):
        env.skip()
    asked = [_reset(env, rows, seed, None), *(
        _step(env, rows, action, None) for action in actions or ())]
    for (answer,) in asked:
        yield {key: row.copy() for key, row in rows.items()}, *answer
        if answer[1] or answer[2]:  # sooner than it did: another step would be an error
            return


COMMANDS = {'reset': _reset, 'step': _step, 'play': _play}
