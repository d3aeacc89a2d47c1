"""Environments in processes without TensorFlow, for the process that learns.

TensorFlow and Mesa's software OpenGL crash in one process, so the environments of a run live
in spawned processes of their own.

    describe    what there is to observe and to do; or in one line why it cannot be built
    vector      environments that step at the same time
"""

import atexit
import contextlib
import dataclasses
import math
import multiprocessing
import multiprocessing.resource_tracker
import signal
import sys
import time
import traceback
import types
import weakref

import gymnasium
import gymnasium.vector
import numpy as np
import tqdm

import stopping
from config import SENSORS, UserError
from environments import no_opengl
from wrappers import StaggeredStart, background_videos, make

KILLS = ('SIGKILL', 'SIGTERM', 'SIGHUP', 'SIGINT', 'SIGXCPU')  # signals that no fault sends
DEATHS = 3  # of a worker in a row, at which a run stops
GRACE = 5  # seconds that an environment has to answer where the run is to stop
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
        description = Description(
            spaces, env.action_space, tuple(name for name in SENSORS if name in spaces.spaces))
        with contextlib.suppress(OSError):  # whoever asked is gone
            sender.send(description)
    except UserError as error:
        with contextlib.suppress(OSError):  # whoever asked is gone
            sender.send(error)


def vector(config, split, count, description, seed):
    """`count` environments that step at the same time, each in a process of its own.

    description: of `describe`. Worker i is seeded by `seed`, the split and i. Those of 'train' are
    staggered, as the configuration says: the replay gets an episode now and then, not `count`
    at once.

    Observations are copies, with a leading axis of `count`. The step after the end of an
    episode ignores the action and returns the observation of `reset` with reward 0; `following`
    gives its seed. Ctrl-C and SIGTERM do not reach the workers; they end when this process does,
    however it ends.

    A worker that dies, or does not answer within `config.env_timeout` seconds, is started again:
    its row of the step has the observation of a reset by the seed of the episode that it had, and
    `info['again']`. It is a `UserError` if it happens DEATHS times to a worker that finishes no
    episode between.
    """
    seeds = []
    for index in range(count):
        # The split takes part so that evaluation does not begin where training does.
        entropy = np.random.SeedSequence((seed, split == 'valid', index))
        seeds.append(int(entropy.generate_state(1)[0]))
    return _Vector(config, split, seeds, description)


def following(seed):
    """The seed of the episode after that of `seed`: all seeds of 32 bits in turn (the numbers are
    those of Numerical Recipes), so a row of episodes is repeated from any one of them."""
    return (1664525 * int(seed) + 1013904223) % 2 ** 32


class _Died(Exception):
    """A worker ended, or does not answer."""


class _Vector(gymnasium.vector.VectorEnv):

    metadata = {'autoreset_mode': gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, config, split, seeds, description):
        self.config, self.split, self.num_envs = config, split, len(seeds)
        self.single_observation_space = description.observation_space
        self.single_action_space = description.action_space
        self.observation_space, self.action_space = (
            gymnasium.vector.utils.batch_space(space, self.num_envs)
            for space in (self.single_observation_space, self.single_action_space))
        self.seeds, self.options = list(seeds), None  # of the episodes that are under way
        self.deaths = [0] * self.num_envs
        self.ended = [False] * self.num_envs
        self.whole = [False] * self.num_envs  # whether an episode has ended
        self.processes, self.pipes = [None] * self.num_envs, [None] * self.num_envs
        _alive.add(self)
        try:
            for index in range(self.num_envs):
                self._start(index)
            for index in range(self.num_envs):
                try:
                    self._answer(index)
                except _Died as error:
                    raise self._reason(index, error) from None
        except BaseException:
            self.close(terminate=True)
            raise

    # --- What is asked of all ---

    def reset(self, *, seed=None, options=None):
        """Begin an episode in every environment, by a list of seeds or the next in turn."""
        self.seeds = [following(s) for s in self.seeds] if seed is None else [int(s) for s in seed]
        self.options = options
        observations, _, _, _, infos = self._all('reset', [
            dict(seed=s, options=options) for s in self.seeds])
        return observations, infos

    def step(self, actions):
        begins = self.ended
        self.seeds = [
            following(seed) if begin else seed for seed, begin in zip(self.seeds, begins)]
        return self._all('step', [
            dict(action=actions[index], begins=self.seeds[index] if begins[index] else None)
            for index in range(self.num_envs)])

    def play(self, seeds, actions, whole):
        """Begin an episode by its seed in every environment and take its `actions`, or, where they
        are None, take it for ended. Returns a list for each environment: (observation, reward,
        terminated, truncated, info) of the reset and of each action; or, where a worker died of
        it, None in place of all. whole: for each, whether it had ended an episode before, so that
        this one is not its first, which is staggered."""
        self.seeds, self.ended = [int(s) for s in seeds], [a is None for a in actions]
        self.whole = [bool(ended) for ended in whole]
        for index, taken in enumerate(actions):
            self._send(index, 'play', dict(
                seed=self.seeds[index], actions=taken, whole=self.whole[index]))
        answers = []
        for index, taken in enumerate(actions):
            try:
                answers.append(self._answer(index, 1 + len(taken or ())))
            except _Died as error:
                self._again(index, error)
                answers.append(None)
        return None if None in answers else answers

    def _all(self, command, words):
        for index, word in enumerate(words):
            self._send(index, command, word)
        answers, infos = [], {}
        for index in range(self.num_envs):
            try:
                answers.append(self._answer(index))
            except _Died as error:
                answers.append(self._again(index, error))
            infos = self._add_info(infos, answers[-1][4], index)
        observations, rewards, terminated, truncated, _ = zip(*answers)
        self.ended = [bool(a or b) for a, b in zip(terminated, truncated)]
        for index in range(self.num_envs):
            if self.ended[index]:
                self.deaths[index], self.whole[index] = 0, True
        return ({key: np.stack([o[key] for o in observations]) for key in observations[0]},
                np.array(rewards, np.float64), np.array(terminated), np.array(truncated), infos)

    def close(self, terminate=True, **_):
        """End the workers. A repetition does nothing."""
        for index in range(self.num_envs):
            self._end(index)
        _alive.discard(self)

    # --- One worker ---

    def _start(self, index):
        context = multiprocessing.get_context('spawn')
        self.pipes[index], end = context.Pipe()
        staggered = self.config.stagger and self.split == 'train' and not self.whole[index]
        self.processes[index] = context.Process(target=_work, daemon=True, args=(
            self.config, self.split, self.seeds[index], end, index,
            self.num_envs if staggered else 1))
        with _spawning():
            self.processes[index].start()
        end.close()

    def _end(self, index):
        if self.pipes[index]:
            self.pipes[index].close()
        if self.processes[index] and self.processes[index].pid:
            self.processes[index].kill()  # also one that is stopped
            self.processes[index].join(5)

    def _send(self, index, command, words):
        with contextlib.suppress(OSError):  # the answer will tell
            self.pipes[index].send((command, words))

    def _answer(self, index, steps=1):
        """What the worker sends next; `_Died` where nothing comes for so many steps. Its own errors
        are raised."""
        pipe, limit = self.pipes[index], self.config.env_timeout * steps
        until, stop = time.monotonic() + limit, None
        try:
            while not pipe.poll(0.2):
                now = time.monotonic()
                if stopping.asked():  # not for one that hangs
                    stop = stop or now + GRACE
                    if now > stop:
                        stopping.check()
                if now > until:
                    raise _Died(f'gave no answer for {limit:g} seconds')
            answer = pipe.recv()
        except (EOFError, OSError):
            raise _Died('ended') from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _again(self, index, error):
        """Start a dead worker anew. Returns the first answer of its episode."""
        while True:
            reason = self._reason(index, error)
            self.deaths[index] += 1
            if self.deaths[index] >= DEATHS:
                self.close()
                raise UserError(f'{reason}; {DEATHS} times without a whole episode{RESUMES}')
            _say(f'warning: {reason}; it is started again, and its unfinished episode is dropped')
            self._end(index)
            self._start(index)
            try:
                self._answer(index)
                self._send(index, 'reset', dict(seed=self.seeds[index], options=self.options))
                observation, *_ = self._answer(index)
                return observation, 0.0, False, False, {'again': True, 'steps': 0}
            except _Died as another:
                error = another

    def _reason(self, index, error):
        what = f'the process of environment {index}'
        if 'no answer' in str(error):
            return UserError(f'{what} {error} (--env_timeout)')
        self.processes[index].join(5)  # its pipes end a moment before a process does
        return _ended(what, self.processes[index].exitcode)


_alive = weakref.WeakSet()


@atexit.register  # before multiprocessing's own, whose SIGTERM the workers do not hear
def _end_all():
    for environments in list(_alive):
        environments.close()


def _say(text):
    tqdm.tqdm.write(text)


def _work(config, split, seed, pipe, index, count):
    """A worker: builds the environment, staggered as `index` of `count`, and answers commands until
    its parent is gone."""
    # Errors of the pipe say that the parent is gone, and with it whoever would read a traceback.
    with contextlib.suppress(EOFError, OSError):
        try:
            env = make(config, split, seed)
            if count > 1:
                episode = math.ceil(config.time_limit / config.action_repeat)
                env = StaggeredStart(env, index, count, episode)
        except UserError as error:
            pipe.send(error)
            return
        pipe.send('ready')
        while True:
            command, words = pipe.recv()
            try:
                answer = globals()[f'_{command}'](env, **words)
            except Exception as error:
                error.add_note(f'in the environment:\n{traceback.format_exc()}')
                answer = error
            pipe.send(answer)


def _reset(env, seed, options):
    observation, info = env.reset(seed=seed, options=options)
    return observation, 0.0, False, False, info


def _step(env, action, begins):
    if begins is not None:
        return _reset(env, begins, None)
    return env.step(action)


def _play(env, seed, actions, whole):
    if whole and isinstance(env, StaggeredStart):
        env.skip()
    return [_reset(env, seed, None), *(env.step(action) for action in actions or ())]


@contextlib.contextmanager
def _spawning():
    """Within, started processes run no main script and are deaf to Ctrl-C and SIGTERM."""
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
