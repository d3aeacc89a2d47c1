"""Environments in processes without TensorFlow, for the process that learns.

TensorFlow and Mesa's software OpenGL crash in one process, so the environments of a run live
in spawned processes of their own.

    describe    what there is to observe and to do; or in one line why it cannot be built
    vector      environments that step at the same time
"""

import contextlib
import dataclasses
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import types

import gymnasium
import gymnasium.vector.async_vector_env
import numpy as np

from config import SENSORS, UserError
from environments import no_opengl
from wrappers import StaggeredStart, background_videos, make

KILLS = ('SIGKILL', 'SIGTERM', 'SIGHUP', 'SIGINT', 'SIGXCPU')  # signals that no fault sends
RESUMES = '; a run goes on from its last checkpoint by the same command'

def _ended(what, code, then=''):
    """The `UserError` for a process that ended by itself, with the exit code `code`."""
    if code is None or code >= 0:
        return UserError(f'{what} ended, for the reason above{then}')
    name = signal.Signals(-code).name
    if name in KILLS:
        return UserError(
            f'{what} was killed from outside ({name}){then}; a full memory does that: try fewer '
            '--envs, or a smaller --replay_memory')
    return no_opengl(f'{what} crashed: {name}{then}')


@dataclasses.dataclass(frozen=True)
class Description:
    """What the process that learns knows of an environment; sensors in the order of SENSORS."""

    observation_space: gymnasium.spaces.Dict
    action_space: gymnasium.spaces.Box
    sensors: tuple[str, ...]


def describe(config):
    """The `Description` of a configuration's environment, from a process that builds it.

    Raises `UserError` for whatever keeps the environment from being built and rendered, the
    videos of both splits included.
    """
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_describe, args=(config, sender), daemon=True)
    try:
        with _spawning():
            process.start()
        sender.close()
        try:
            answer = receiver.recv()
        except (EOFError, OSError):  # it ended before its answer, or amid it
            process.join()
            raise _ended('the process that builds the environment', process.exitcode) from None
    finally:
        if process.pid:
            process.kill()
    if isinstance(answer, UserError):
        raise answer
    return answer


def _describe(config, sender):
    # What a library says while half-built objects are taken down; the reason is sent.
    sys.unraisablehook = lambda _: None
    try:
        env = make(config, 'train', config.seed)
        if config.natural and 'image' in env.observation_space.spaces:
            background_videos(config, 'valid')
        env.reset()
        spaces = env.observation_space
        sender.send(Description(
            spaces, env.action_space, tuple(name for name in SENSORS if name in spaces.spaces)))
    except UserError as error:
        sender.send(error)


def vector(config, split, count, description, seed):
    """`count` environments that step at the same time, each in a process of its own.

    description: of `describe`. Worker i is seeded by `seed`, the split and i. Those of 'train' are
    staggered, as the configuration says: the replay gets an episode now and then, not `count`
    at once.

    Observations are copies, with a leading axis of `count`. The step after the end of an
    episode ignores the action and returns the observation of `reset` with reward 0. Ctrl-C
    does not reach the workers; they end when this process does, however it ends.
    """
    makers = []
    for index in range(count):
        # The split takes part so that evaluation does not begin where training does.
        entropy = np.random.SeedSequence((seed, split == 'valid', index))
        makers.append(_Maker(
            config, split, int(entropy.generate_state(1)[0]), description, os.getpid(),
            index, count))
    with _spawning():
        return _Vector(
            makers, shared_memory=True, copy=True, context='spawn', worker=_work,
            autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP)


class _Vector(gymnasium.vector.AsyncVectorEnv):
    """Says which of its processes ended by itself, in a `UserError`."""

    def __init__(self, *arguments, **words):
        with self._watched(''):
            super().__init__(*arguments, **words)

    def reset(self, **words):
        with self._watched(RESUMES):
            return super().reset(**words)

    def step(self, actions):
        with self._watched(RESUMES):
            return super().step(actions)

    @contextlib.contextmanager
    def _watched(self, then):
        try:
            yield
        except (EOFError, ConnectionError) as error:
            # Its pipes end a moment before a process does.
            ended = multiprocessing.connection.wait(
                [process.sentinel for process in self.processes], timeout=5)
            index, code = 0, None
            for number, process in enumerate(self.processes):
                if process.sentinel in ended:
                    process.join(5)
                    index, code = number, process.exitcode
            self._state = gymnasium.vector.async_vector_env.AsyncState.DEFAULT
            self.close(terminate=True)
            raise _ended(f'the process of environment {index}', code, then) from error


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Makes the environment of a worker; in process `owner`, which asks only for the spaces
    and may have TensorFlow, one that has nothing else."""

    config: object
    split: str
    seed: int
    description: Description
    owner: int
    index: int
    count: int

    def __call__(self):
        if os.getpid() != self.owner:
            env = make(self.config, self.split, self.seed)
            episode = math.ceil(self.config.time_limit / self.config.action_repeat)
            return StaggeredStart(env, self.index, self.count, episode) if (
                self.config.stagger and self.split == 'train' and self.count > 1) else env
        env = gymnasium.Env()
        env.observation_space = self.description.observation_space
        env.action_space = self.description.action_space
        return env


def _work(*arguments):
    # These errors say that the parent is gone, and with it whoever would read a traceback.
    with contextlib.suppress(EOFError, ConnectionError):
        gymnasium.vector.async_vector_env._async_worker(*arguments)


@contextlib.contextmanager
def _spawning():
    """Within, started processes run no main script and are deaf to Ctrl-C."""
    # A spawned process imports the main script of its parent, and with it TensorFlow. An
    # empty module in its place has no file to import.
    main = sys.modules['__main__']
    # A blocked signal stays blocked in the started process, from its first moment on. The
    # tracker is started before, since its start would end the blocking.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules['__main__'] = types.ModuleType('__main__')
    try:
        yield
    finally:
        sys.modules['__main__'] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
