"""Environments in processes without TensorFlow, for the process that learns.

TensorFlow and Mesa's software OpenGL crash in one process, so the environments of a run live
in spawned processes of their own.

    describe    what there is to observe and to do; or in one line why it cannot be built
    vector      environments that step at the same time
"""

import atexit
import contextlib
import dataclasses
import sys
import time
import weakref

import gymnasium
import gymnasium.vector
import numpy as np

from config import SENSORS, UserError, coloured
from environments import Broken
from screen import say
from workers import LEAVE, Died, Worker, arrays, checked, environment, shared, work
from wrappers import background_videos, make

DEATHS = 3  # of a worker in a row, at which a run stops
RESUMES = '; a run goes on from its last checkpoint by the same command'


@dataclasses.dataclass(frozen=True)
class Description:
    """What the process that learns knows of an environment; sensors in the order of SENSORS, and
    what it gives that none reads, as `environments.gymnasium_tasks.readers` says."""

    observation_space: gymnasium.spaces.Dict
    action_space: gymnasium.spaces.Box
    sensors: tuple[str, ...]
    unread: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def describe(config):
    """The `Description` of a configuration's environment, from a process that builds it.

    Raises `UserError` for whatever keeps the environment from being built and rendered, the
    videos of both splits included, or, where a finished agent is looked at, of evaluation's.
    """
    worker = Worker('the process that builds the environment', config.env_timeout)
    try:
        worker.start(_describe, config)
        return worker.answer()
    except Died as error:
        raise worker.reason(error) from None
    finally:
        worker.end()


def _describe(sender, config):
    # What a library says while half-built objects are taken down; the reason is sent.
    sys.unraisablehook = lambda _: None
    with environment() as held:
        try:
            env = make(config, 'valid', config.seed)
            held.append(env)
            if config.natural and coloured(env.observation_space.spaces) and not config.judging:
                background_videos(config, 'train')
            observation, spaces = env.reset()[0], env.observation_space
            checked(observation)
            for name, space in spaces.spaces.items():
                if (shape := np.shape(observation[name])) != space.shape:
                    raise Broken(f'its {name} is {shape}, and its space says {space.shape}')
            answer = Description(
                spaces, env.action_space, tuple(n for n in SENSORS if n in spaces.spaces),
                getattr(env.unwrapped, 'unread', {}))
        except UserError as error:
            answer = error
        except Broken as error:
            answer = UserError(f'{config.task} cannot be learned from, as {error}')
        with contextlib.suppress(OSError):  # whoever asked is gone
            sender.send(answer)


def vector(config, split, count, description, seed):
    """`count` environments that step at the same time, each in a process of its own.

    description: of `describe`. Worker i is seeded by `seed`, the split and i. Those of 'train' are
    staggered, as the configuration says: the replay gets an episode now and then, not `count`
    at once.

    Observations are copies, with a leading axis of `count`. The step after the end of an
    episode ignores the action and returns the observation of `reset` with reward 0; `following`
    gives its seed. Ctrl-C, SIGTERM and SIGHUP do not reach the workers; they end when this
    process does, however it ends.

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
        self.memory = shared(self.single_observation_space, self.num_envs)
        self.shown = arrays(self.memory, self.single_observation_space, self.num_envs)
        self.workers = [Worker(f'the process of environment {index}', config.env_timeout)
                        for index in range(self.num_envs)]
        _alive.add(self)
        try:
            for index in range(self.num_envs):
                self._start(index)
            for worker in self.workers:
                try:
                    worker.ready()
                except Died as error:
                    raise worker.reason(error) from None
        except BaseException:
            self.close()
            raise

    @property
    def processes(self):
        """Those of the workers, as they are now."""
        return [worker.process for worker in self.workers]

    def reset(self, *, seed=None, options=None):
        """Begin an episode in every environment, by a list of seeds or the next in turn; an int is
        the seed of the first, and one more is that of each after it. ValueError for a list of
        another length."""
        if isinstance(seed, (int, np.integer)):
            seed = [(int(seed) + index) % 2 ** 32 for index in range(self.num_envs)]
        seed = [None] * self.num_envs if seed is None else list(seed)
        if len(seed) != self.num_envs:
            raise ValueError(f'{len(seed)} seeds for {self.num_envs} environments')
        self.seeds = [following(own) if new is None else int(new)
                      for own, new in zip(self.seeds, seed)]
        self.options = options
        observations, _, _, _, infos = self._all('reset', [(s, options) for s in self.seeds])
        return observations, infos

    def step(self, actions):
        begins = self.ended
        self.seeds = [
            following(seed) if begin else seed for seed, begin in zip(self.seeds, begins)]
        return self._all('step', [
            (actions[index], self.seeds[index] if begins[index] else None)
            for index in range(self.num_envs)])

    def play(self, seeds, actions, whole):
        """Begin an episode by its seed in every environment and take its `actions`, or, where they
        are None, take it for ended. Returns a list for each environment: (observation, reward,
        terminated, truncated, info) of the reset and of each action, to an end that comes sooner;
        or, where it could not be played again, None in place of all. whole: for each, whether it
        had ended an episode before, so that this one is not its first, which is staggered."""
        self.seeds, self.ended = [int(s) for s in seeds], [a is None for a in actions]
        self.whole = [bool(ended) for ended in whole]
        for index, worker in enumerate(self.workers):
            worker.ask('play', self.seeds[index], actions[index], self.whole[index])
        answers = []
        for index, taken in enumerate(actions):
            try:
                answers.append(self._played(index, 1 + len(taken or ())))
            except Died as error:
                self._again(index, error)
                answers.append(None)
            except Exception as error:  # of an episode that need not be the one that it was
                words = ' '.join(f'{type(error).__name__}: {error}'.split())
                say(f'warning: environment {index} ended its unfinished episode by {words}')
                for note in getattr(error, '__notes__', ()) * (not isinstance(error, UserError)):
                    print(note, file=sys.stderr)
                answers.append(None)
        return None if None in answers else answers

    def _played(self, index, count):
        """The answers of an environment that plays an episode: `count`, or to an end that comes
        sooner."""
        found = []
        while len(found) < count and not (found and (found[-1][2] or found[-1][3])):
            found.append(self.workers[index].answer())
        return found

    def _all(self, command, words):
        for worker, arguments in zip(self.workers, words):
            worker.ask(command, *arguments)
        answers, infos, wrong = [], {}, None
        for index, worker in enumerate(self.workers):
            try:
                answers.append(worker.answer())
            except Died as error:
                answers.append(self._again(index, error))
            except Exception as error:  # the others' answers are of this step, and of no later one
                wrong = wrong or error
                answers.append((0.0, False, False, {}))
            infos = self._add_info(infos, answers[-1][3], index)
        rewards, terminated, truncated, _ = zip(*answers)
        self.ended = [bool(a or b) for a, b in zip(terminated, truncated)]
        for index in range(self.num_envs):
            if self.ended[index]:
                self.deaths[index], self.whole[index] = 0, True
        if wrong:
            raise wrong
        # Every row was answered for, so none is half written: also not that of a worker that died
        # as it wrote, since the next one has written it anew.
        return ({key: value.copy() for key, value in self.shown.items()},
                np.array(rewards, np.float64), np.array(terminated), np.array(truncated), infos)

    def close(self, **_):
        """End the workers. A repetition does nothing."""
        for worker in self.workers:  # at the same time
            worker.leave()
        until = time.monotonic() + LEAVE
        for worker in self.workers:
            worker.end(until)
        _alive.discard(self)

    def _start(self, index):
        staggered = self.config.stagger and self.split == 'train' and not self.whole[index]
        self.workers[index].start(
            work, self.config, self.split, self.seeds[index], index,
            self.num_envs if staggered else 1, self.memory, self.num_envs)

    def _again(self, index, error):
        """Start a dead worker anew. Returns the first answer of its episode."""
        worker = self.workers[index]
        while True:
            reason = worker.reason(error)
            self.deaths[index] += 1
            if self.deaths[index] >= DEATHS:
                self.close()
                raise UserError(f'{reason}; {DEATHS} times without a whole episode{RESUMES}')
            say(f'warning: {reason}; it is started again, and its unfinished episode is dropped')
            worker.end()
            self._start(index)
            try:
                worker.ready()
                worker.ask('reset', self.seeds[index], self.options)
                worker.answer()
                return 0.0, False, False, {'again': True, 'steps': 0}
            except Died as another:
                error = another


_alive = weakref.WeakSet()


@atexit.register  # before multiprocessing's own, whose SIGTERM the workers do not hear
def _end_all():
    for environments in list(_alive):
        environments.close()
