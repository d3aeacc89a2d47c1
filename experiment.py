"""An experiment: one method on one task with its settings. Whatever trains, judges, measures or
loads begins here."""

import dataclasses
import functools
import importlib
import os
import pathlib

import numpy as np
import tensorflow as tf

import actions
import commandline
import devices
import files
import processes
import replicas
import sharing
import tools
import variants
from agent import Agent
from config import SENSORS, UserError, flag
from models import Representation


class Experiment:
    """method: a `config.Method`. representation: its `models.Representation`, or a function that
    makes one. config: `Config`.

    Building one sets up the device and costs nothing: the environment is looked at when it is
    first asked for.
    """

    def __init__(self, method, representation, config):
        devices.set_up()  # before a summary writer, or anything else that computes
        self.method, self.representation, self.config = method, representation, config
        self.folder = pathlib.Path(config.logdir)
        self.title = f'{variants.name(method.name, config)} on {config.task}'

    @functools.cached_property
    def description(self):
        """The `processes.Description` of the environment. Raises `UserError` for whatever keeps it
        from being built and rendered."""
        return processes.describe(self.config)

    @property
    def sensors(self):
        """The names of the sensors that the agent is built for."""
        return self.description.sensors

    @property
    def shapes(self):
        """sensor -> shape of its raw observation."""
        return {s: self.description.observation_space[s].shape for s in self.sensors}

    @functools.cached_property
    def actions(self):
        """The part of actions.py for the environment's actions. Raises `UserError` for settings
        that they cannot have."""
        return actions.of(self.description.action_space, self.config)

    def seeds(self, purpose, number, count):
        """Seeds [count] for the `number`-th use of a purpose; no two share a stream."""
        words = [self.config.seed, *purpose.encode(), number]
        return np.random.SeedSequence(words).generate_state(count)

    def environments(self, split, count, seed, **settings):
        """`count` environments in processes of their own, see `processes.vector`. settings: in
        place of the configuration's."""
        config = dataclasses.replace(self.config, **settings)
        return processes.vector(config, split, count, self.description, seed)

    @functools.cached_property
    def strategy(self):
        """The devices that share the agent's updates, see `replicas.strategy`."""
        return replicas.strategy(self.config)

    @property
    def device(self):
        """What computes the updates, for a person."""
        return devices.name(self.strategy.num_replicas_in_sync)

    def advice(self, agent):
        """What the user of an agent should know of this machine and this task, a line each."""
        usual = variants.usual(self.config.task, self.config.preset, self.method)
        return list(filter(None, (
            devices.advice(), agent.planner.advice(), self.actions.advice(self.config, usual),
            *map(self._absent, variants.BY_SENSOR),
            *(f'warning: no sensor reads {name} of {self.config.task}; type for example '
              f'--sensor_map {" or ".join(maps)} (docs/tasks.md)'
              for name, maps in self.description.unread.items()))))

    def _absent(self, option):
        """A line on sensors that `option` names and the task has not; or None."""
        if others := [name for name in variants.named(getattr(self.config, option))
                      if name not in self.sensors]:
            return (f'--{option} of {" and ".join(others)} does nothing: {self.config.task} has '
                    f'{", ".join(self.sensors)}')
        return None

    def agent(self):
        """A fresh agent; the same seed gives the same weights, however many devices there are."""
        tools.seed_everything(self.config.seed)
        return Agent(
            self.config, self.representation, self.shapes, self.actions, self.strategy)

    def progress(self):
        """(`Progress`, path) of the run's last state, of `config.checkpoint`, or of an exported
        agent. UserError where there is none: an untrained agent is not judged."""
        config = self.config
        commandline.check_checkpoint(config)  # not all who judge come by a command line
        chosen = config.checkpoint.removesuffix('.index')
        exported = not chosen and files.exported(self.folder)
        progress = Progress(self.agent())
        checkpoints = tools.Checkpoints(config.logdir, progress)
        if chosen:
            checkpoints.load(chosen)
        if exported:
            numbers = sharing.restore(progress.agent, self.folder)
            progress.step.assign(numbers['step'])
            progress.seconds.assign(numbers['seconds'])
            progress.agent.updates.assign(numbers['updates'])
            chosen = self.folder / 'weights'
        path = chosen or checkpoints.restore()
        if not path:
            raise UserError(
                f'no checkpoint in {config.logdir} can be read; train on by the same command '
                'without --test, --inspect or --export, or name another by --checkpoint')
        progress.agent.refresh()
        return progress, pathlib.Path(path)

    def restored(self):
        """(agent, step of its checkpoint, path of the checkpoint), as `progress`."""
        progress, path = self.progress()
        return progress.agent, int(progress.step), path


def load(folder, *words):
    """The agent that was trained or exported in `folder`, as a `Trained`; the method is that of
    its config.json. words: of a command line, for other settings than its own, as '--no-natural',
    '--miss_ratio=0.2' or '--natural_valid=FILE'. UserError where no agent can be read."""
    folder = os.path.expanduser(folder)
    _, name = commandline.load(commandline.judged(folder))
    method, representation = script(name)
    config = commandline.parse(method, [f'--logdir={folder}', '--test', *words], acting=True)
    return Trained(Experiment(method, representation, config))


def script(name):
    """(METHOD, representation) of the script of a method beside this file: the class that it
    defines, and no other of its classes is made of, or what it calls `representation`."""
    beside = pathlib.Path(__file__).parent / f'{name}.py'
    module = importlib.import_module(name) if name.isidentifier() and beside.is_file() else None
    if not hasattr(module, 'METHOD'):
        raise UserError(f'there is no script {name}.py of a method here')
    if hasattr(module, 'representation'):
        return module.METHOD, module.representation
    own = [value for value in vars(module).values() if isinstance(value, type)
           and issubclass(value, Representation) and value.__module__ == name]
    # Not those that others are made of.
    last = [one for one in own if not any(
        other is not one and issubclass(other, one) for other in own)]
    if len(last) != 1:
        raise UserError(
            f'{name}.py defines {len(last)} representations; write which one it is of, as '
            f'representation = {last[-1].__name__ if last else "MyMethod"}')
    return module.METHOD, last[0]


class Trained:
    """A trained agent to act by, numpy in and numpy out; `step` says how long it was trained.

    experiment: an `Experiment` whose folder holds it.
    """

    def __init__(self, experiment):
        self.experiment = experiment
        with tools.keeping_generators():  # they are the caller's
            self.agent, self.step, _ = experiment.restored()

    def environments(self, count=1, split='valid', seed=0):
        """`count` environments of its task, see `processes.vector`; all episodes are whole."""
        return self.experiment.environments(split, count, seed, stagger=False)

    def policy(self, observation, state=None):
        """(actions, next state): the actor's mode in a sampled latent, after all that was seen
        since `state` was None, which begins an episode. ValueError for values of other shapes,
        or that are not finite, or not of the sensor's range, where a sensor is present; and for a
        state of another number of environments.

        observation: sensor -> raw values of N environments [N, ...], actions [N, A]; or of one
        alone [...], actions [A]. A sensor that is left out, or None, is missing, whatever its
        flag says, as one whose flag, <sensor>_flag [N, 1], is 0; without a flag, what is there is
        present. `is_first` [N], where it is among them: which environments begin an episode with
        this observation, and have nothing from before; without it, none does while there is a
        `state`.
        """
        shapes, spaces = self.experiment.shapes, self.experiment.description.observation_space
        known = {*shapes, *SENSORS}  # also a sensor that this agent has no use for
        if strange := observation.keys() - known - set(map(flag, known)) - {'is_first'}:
            raise ValueError(f'{min(map(str, strange))} is no sensor; the agent has '
                             f'{", ".join(shapes)}')
        given = {sensor: np.asarray(observation[sensor]) for sensor in shapes
                 if observation.get(sensor) is not None}
        if not given:
            raise ValueError(f'an observation has at least one of {", ".join(shapes)}')
        sensor = next(iter(given))
        alone = given[sensor].ndim == len(shapes[sensor])
        count = 1 if alone else len(given[sensor])
        values = {}
        for sensor, shape in shapes.items():
            raw = given.get(sensor, np.zeros((count, *shape)))
            if raw.shape not in ((count, *shape), shape if alone else None):
                raise ValueError(
                    f'{sensor} is {list(raw.shape)}; it has to be {list(shape)} of one robot, or '
                    f'[N, {", ".join(map(str, shape))}] of N, as the others')
            present = np.zeros((count, 1), np.float32)
            if sensor in given:
                told = observation.get(flag(sensor))
                present = np.float32(np.ones((count, 1)) if told is None else told).reshape(
                    count, 1)
            # A missing sensor gives zeros, as in training, whatever it says.
            there = (present > 0).reshape(count, *[1] * len(shape))
            raw = np.where(there, raw.reshape(count, *shape), 0)
            space = spaces[sensor]
            if np.issubdtype(space.dtype, np.integer) and not (
                    (raw >= space.low) & (raw <= space.high) & (raw == np.round(raw))).all():
                raise ValueError(f'{sensor} takes whole numbers from {space.low.min()} to '
                                 f'{space.high.max()}, and what is given has others')
            with np.errstate(over='ignore'):
                raw = raw.astype(space.dtype)
            if not np.isfinite(raw).all():
                raise ValueError(f'{sensor} is not finite as {raw.dtype}; give it the flag 0 where '
                                 'it is missing')
            values[sensor] = tf.constant(raw)
            values[flag(sensor)] = tf.constant(np.float32(present > 0))
        begins = observation.get('is_first')
        if state is None:
            begins, state = True, self.agent.initial(count)
        elif rows := {len(value) for value in state.values()} - {count}:
            raise ValueError(
                f'the state is of {rows.pop()} environments, and the observation of {count}')
        values['is_first'] = tf.constant(np.broadcast_to(
            np.asarray(False if begins is None else begins, bool).reshape(-1), count).copy())
        action, state = self.agent.policy(values, state, False)
        action = action.numpy()
        return action[0] if alone else action, state


class Progress(tf.Module):
    """What a checkpoint holds: the agent, how far the run was, what was due, how long it ran.

    Updates come in phases, one at each `train_every` steps. `due` counts the updates asked for
    by the phases up to the step `phase`, each by the settings of its time, which are kept:
    settings that are changed when a run is resumed hold from there on.

    `underway` is what is half done, as text; see underway.py.
    """

    def __init__(self, agent):
        super().__init__()
        self.agent = agent
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.evaluated = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.phase = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.due = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.every = tf.Variable(0, dtype=tf.int64, trainable=False)  # 0: no phase yet
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        with tf.device('CPU'):
            self.underway = tf.Variable(b'', dtype=tf.string, trainable=False)

    @property
    def begun(self):
        """Whether there was a phase of updates: a prefill that is changed later comes too late."""
        return int(self.every) > 0

    def advance(self, step, config):
        """Count the phases up to `step`. Returns the updates that are due in all. To be called
        where a run is resumed, before it goes on."""
        every = int(self.every)
        if not self.begun:
            if step < config.prefill:
                return 0
            # The first phase comes with the end of the prefill.
            self.phase.assign(config.prefill)
            self.due.assign(config.pretrain)
            self.updates.assign(config.train_updates)
            every = config.train_every
        phases = max(0, step - int(self.phase)) // every
        self.due.assign_add(phases * self.updates)
        self.phase.assign_add(phases * every)
        if config.train_every != every:  # counted from here, not from the last phase
            self.phase.assign(max(step, int(self.phase)))
        self.every.assign(config.train_every)
        self.updates.assign(config.train_updates)
        return int(self.due)

    def next_phase(self, config):
        """The step of the next phase of updates, however far the run is in collecting for it."""
        return int(self.phase) + int(self.every) if self.begun else config.prefill

    def evaluation_due(self, step, config):
        """Whether a multiple of `eval_every` was passed between the last evaluation and the last
        phase of updates, or the run is at its end."""
        before = int(self.evaluated)
        return config.eval_episodes > 0 and (
            int(self.phase) // config.eval_every > before // config.eval_every
            or step >= config.steps > before)
