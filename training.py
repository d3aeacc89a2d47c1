"""A run: set-up, the loop of collecting, training, evaluating and saving, and its errors."""

import contextlib
import dataclasses
import errno
import sys
import time

import numpy as np
import tensorflow as tf

import checks
import commandline
import dry_run
import evaluation
import opening
import pictures
import records
import replay
import sharing
import stopping
import tools
import underway
from acting import AgentPolicy, Driver, NotFinite, evaluate, summary
from config import UserError
from environments.sound import RATE
from experiment import Progress
from health import Health
from screen import Screen, say
from texts import told

# What an error says where the system has no more: of open files, processes, memory.
SHORT = errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM


def main(experiment):
    """Train the agent of an `Experiment`, or resume, or judge it, as its configuration says.

    A mistake of the user's ends in one line and exit code 2.
    """
    config = experiment.config
    training = not (config.dry_run or config.judging)
    resumes = training * f'; the same command resumes {config.logdir}'
    try:
        if config.dry_run:
            dry_run.show(experiment)
        elif config.test:
            evaluation.test(experiment)
        elif config.inspect:
            import inspection  # and matplotlib, which training does without
            inspection.inspect(experiment)
        elif config.export:
            sharing.export(experiment)
        else:
            with Trainer(experiment) as trainer:
                trainer.train()
    except UserError as error:
        commandline.fail(error)
    except BrokenPipeError:
        commandline.unread(resumes)
    except OSError as error:
        if not error.filename:
            if error.errno not in SHORT:
                raise
            commandline.fail(UserError(
                f'{error.strerror}; type fewer --envs, end what else runs here, or raise the limit '
                f'of the shell (ulimit -n, ulimit -u){resumes}'))
        commandline.fail(UserError(
            f'{error.filename}: {error.strerror}' + training * (
                f'; what was saved is whole, and once this is mended the same command resumes '
                f'{config.logdir}')))
    except (MemoryError, tf.errors.ResourceExhaustedError):  # the second of a GPU
        commandline.fail(UserError(
            'the memory is full; type fewer --envs, a smaller --replay_memory or --batch, or end '
            f'what else runs here{resumes}'))
    except stopping.Stopped as stopped:
        with contextlib.suppress(OSError):  # of a terminal that is gone
            print(f'\nstopped by {stopped.name}{resumes}', file=sys.stderr)
        raise SystemExit(stopped.code) from None
    except KeyboardInterrupt:
        print(f'\ninterrupted{resumes}', file=sys.stderr)
        raise SystemExit(130) from None


class Trainer:
    """Everything of a run in `config.logdir`; a context that closes what it opened."""

    def __init__(self, experiment):
        self.experiment, self.config = experiment, experiment.config
        config, self.folder = experiment.config, experiment.folder
        computing = experiment.device  # what is wrong with the devices...
        # ... or with the environment, or for its actions, shows before...
        self.sensors, _ = experiment.sensors, experiment.actions
        checks.logs_alone(self.folder)  # not all who train come by a command line
        self.lock = opening.locked(self.folder, say)  # ... anything is written
        before = opening.settings_before(config, experiment.method, self.folder)
        self.environments = experiment.environments(
            'train', config.envs, experiment.seeds('train', 0, 1)[0])
        self.valid = None
        self.replay = replay.Replay(
            self.folder / 'episodes', config.action_repeat, config.replay_memory, say,
            config.across_episodes)
        opening.same_observations(experiment.description, self.replay, self.folder)
        self.logger = tools.Logger(self.folder, say)
        self.agent = experiment.agent()
        self.progress = Progress(self.agent)
        self.checkpoints = tools.Checkpoints(
            self.folder, self.progress, config.keep_checkpoints, say)
        resumed = self.checkpoints.restore()
        if config.init and not resumed:
            sharing.restore(self.agent, config.init)
            say(f'begins with the weights of {config.init}')
        self.agent.refresh()
        if resumed and self.progress.begun and not self.replay.episodes:
            raise UserError(
                f'{self.folder} has a checkpoint at {int(self.progress.step):,} steps and no '
                f'episodes to go on from; put {self.folder / "episodes"} back, or begin another '
                f'run with these weights: --export FOLDER here, then --logdir ANOTHER --init '
                'FOLDER')
        if not resumed and self.replay.number:
            records.begin_anew(
                self.logger, self.replay, bool(self.checkpoints.paths()), say)
        elif not resumed and (self.logger.episodes.rows() or self.logger.metrics.rows()):
            raise UserError(
                f'{self.folder} has the logs of a run, no checkpoint that can be read and no '
                'episodes to go on from; choose another --logdir')
        if before and self.progress.begun:
            # These were for its beginning, and stay what they were.
            self.config = dataclasses.replace(
                self.config, prefill=before.prefill, pretrain=before.pretrain)
        config, written = self.config, records.seconds(self.logger)
        records.mend(
            self.logger, self.replay, self.progress, self.sensors, config, say)
        self.step = self.replay.steps
        # Also after a kill, wall time does not step back.
        self.began = time.monotonic() - max(float(self.progress.seconds), written)
        self.driver = Driver(self.environments, config.action_repeat)
        self.policy = AgentPolicy(self.agent, config.envs, exploring=True)
        self.health = Health(self.agent.actions.saturated)
        self.uniform = None  # the generator of random actions
        self.totals, self.averaged = {}, 0  # sums of metrics since their last row, of updates
        underway.unpack(self, self.progress.underway.numpy())
        opening.write_settings(
            config, before, experiment.method, self.folder, self.step,
            before and self._finished(), say)
        self.saved = self._state() if resumed else None
        self.screen, self.compiled = Screen(), False
        say(
            f'{experiment.title}: {", ".join(self.sensors)}; {self.agent.compute.name} '
            f'products on {computing}; ' + (
                f'resumed at {self.step:,} steps, {int(self.agent.updates):,} updates'
                if resumed or self.step else 'a new run') + f' in {self.folder}')
        for advice in experiment.advice(self.agent):
            say(advice)

    def _finished(self):
        """Whether nothing is left to learn; not where a kill lost the last updates: `due` is then
        that of the phase before."""
        progress, config = self.progress, self.config
        return progress.begun and self.agent.updates >= progress.due and (
            config.steps <= self.step < progress.next_phase(config))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for environments in (self.environments, self.valid and self.valid.environments):
            if environments:
                environments.close()
        self.lock.close()

    # --- The loop ---

    def train(self):
        """Collect, train, evaluate, save, until `config.steps`."""
        with self.screen.following(self.step, self.config.steps):
            try:
                with stopping.noting():
                    self._train_or_save()
            except NotFinite as error:
                raise self._not_finite(str(error)) from None
        say(f'finished: {self.step:,} steps, {int(self.agent.updates):,} updates')

    def _train_or_save(self):
        try:
            self._train()
        except stopping.Stopped:
            self.save()
            raise

    def _train(self):
        config = self.config
        # Also where the prefill has all its steps and was stopped while it waited for an episode.
        if not self.progress.begun and (
                self.step < config.prefill or not self._can_sample()):
            self.collect_random(config.prefill)
        if not self.progress.begun and self.driver.begun:
            # The agent goes on amid episodes, as training sequences begin there: without a latent,
            # but with the action that led to what is seen.
            self.policy.state |= {'action': tf.constant(self.driver.last_actions())}
        self.catch_up()
        while self.step < config.steps:
            self.collect(min(self.progress.next_phase(config), config.steps))
            self.catch_up()

    def catch_up(self):
        """Updates and evaluation that are due at the present step, perhaps since before a kill."""
        self.train_until_due()
        if self.progress.evaluation_due(self.step, self.config):
            self.evaluate()
        self.save()

    def collect_random(self, until):
        """Uniformly random actions until step `until`, and until a sequence can be drawn."""
        self.screen.show(phase='prefill')
        self.uniform = self.uniform or np.random.default_rng(
            self.experiment.seeds('random', self.step, 4))

        def act(observation, is_first):
            return self.agent.actions.uniform(self.uniform, self.driver.count)

        self._collect('prefill', act, lambda: self.step >= until and self._can_sample())

    def collect(self, until):
        """Exploring actions of the agent until step `until`."""
        self.screen.show(phase='collect')
        self._collect('train', self.policy, lambda: self.step >= until)

    def _collect(self, mode, act, done):
        driver = self.driver
        if not driver.begun:
            driver.reset(self.experiment.seeds('collect', self.replay.number, driver.count))
        while not done():
            finished = driver.step(act, mode)
            self.step += driver.advanced
            self.screen.advance(driver.advanced)
            for row, episode in finished:
                number = self.replay.number
                self.replay.add(episode)
                # The return of a part is no point of a curve, nor of what random actions get;
                # nor is that of an episode which was begun by these.
                began = driver.labels[row] or mode
                self._episode('cut' if driver.cut[row] else mode if began == mode else 'mixed',
                              episode, number)

    def _can_sample(self):
        return any(self.replay.ends(self.config.length)[-1:])

    def train_until_due(self):
        """Updates until the schedule is met, with the progress shown at each."""
        config, updates = self.config, int(self.agent.updates)
        due = self.progress.advance(self.step, config)
        if updates >= due:
            return
        seeds = ([config.seed, number] for number in range(updates, due))
        begun, made = time.monotonic(), 0
        self.screen.show(phase='train')
        if not self.compiled:
            self.compiled = True
            self.screen.show('building the graph of the first update', at_once=True)
        for batch in self.replay.batches(config.batch, config.length, seeds):
            metrics = self.agent.train(batch)
            updates, made = updates + 1, made + 1
            for key, value in metrics.items():
                self.totals[key] = self.totals.get(key, 0.0) + value
            self.averaged += 1
            rate = made / (time.monotonic() - begun)
            if updates % config.log_every == 0 or updates == due:
                values = {k: float(value) / self.averaged for k, value in self.totals.items()}
                self._log(updates, values | {'updates_per_second': rate})
                self.totals, self.averaged, begun, made = {}, 0, time.monotonic(), 0
            self.screen.show(
                f'update {updates}/{due}, {rate:.2f} updates/s, {self.screen.recent()}')
            stopping.check()

    def _log(self, updates, values):
        bad = [key for key, value in values.items()
               if key.endswith(('_loss', '_gradient')) and not np.isfinite(value)]
        # In float16 an update that overflows changes no weight and halves the loss scale, to 1 at
        # the least.
        if bad and (self.agent.compute != tf.float16 or any(
                float(o.scale.numpy()) <= 1 for o in self.agent.optimisers.values())):
            raise NotFinite(f'not finite at update {updates}: {", ".join(bad)}')
        self.logger.update(
            {'step': self.step, 'updates': updates, 'seconds': self.seconds()} | values)
        for line in self.health.lines(values):
            say(line)

    def _not_finite(self, what):
        """The `UserError` for a run that cannot go on, with what can be done."""
        paths = self.checkpoints.paths()
        there = f'{paths[-1].name} is whole and finite: resume' if paths else (
            'there is no checkpoint yet: begin again')
        return UserError(
            f'{what}; {there} with --precision float32, or smaller --model_rate, --actor_rate and '
            '--value_rate')

    def evaluate(self):
        """Episodes on validation backgrounds by the mode, the first as a video and, where there is
        audio, as a sound, and open-loop predictions on replayed sequences."""
        config = self.config
        self.screen.show(phase='evaluate')
        if self.valid is None:
            self.valid = Driver(self.experiment.environments(
                'valid', 1, self.experiment.seeds('valid', 0, 1)[0]), config.action_repeat,
                keep=['sound'])
        seed, *seeds = self.experiment.seeds('evaluate', self.step, 1 + config.eval_episodes)
        self.agent.judging.reset_from_seed(int(seed))
        for number, episode in enumerate(evaluate(self.agent, self.valid, seeds)):
            self._episode('eval', episode, number)
            if number == 0:
                self.logger.video('eval', self.step, pictures.seen(episode))
                if 'sound' in episode:
                    self.logger.sound('eval', self.step, episode['sound'].ravel(), RATE)
        batch = self.replay.sample(
            min(config.batch, 4), config.length, self.experiment.seeds('open_loop', self.step, 4))
        predictions = self.agent.open_loop({k: tf.constant(v) for k, v in batch.items()})
        predictions = {sensor: value.numpy() for sensor, value in predictions.items()}
        for sensor, video in pictures.open_loop(batch, predictions).items():
            self.logger.video(f'open_loop_{sensor}', self.step, video, rate=5)
        self.progress.evaluated.assign(np.array(self.step))

    def _state(self):
        """What tells one state of the run from another; wall time does not."""
        progress = self.progress
        return (self.step, *(int(value) for value in (
            self.agent.updates, progress.evaluated, progress.phase, progress.due, progress.every,
            progress.updates)))

    def save(self):
        """A checkpoint of all that is not in the episode files; none where nothing is new."""
        if self._state() == self.saved:
            return
        self.progress.step.assign(np.array(self.step))
        self.progress.seconds.assign(np.array(self.seconds()))  # arrays: see tools.Logger._scalars
        self.progress.underway.assign(underway.pack(self))
        if bad := self.checkpoints.not_finite():
            raise NotFinite(f'not finite at update {int(self.agent.updates)}: {bad}')
        self.checkpoints.save(int(self.agent.updates))
        self.saved = self._state()

    def seconds(self):
        """Wall time of the run, all its sessions together."""
        return time.monotonic() - self.began

    def _episode(self, mode, episode, number):
        row = {
            'step': self.step, 'updates': int(self.agent.updates), 'seconds': self.seconds(),
            'mode': mode} | summary(episode, self.sensors) | {'episode': number}
        self.logger.episode(row)
        if mode == 'eval':
            say(f'evaluation at {self.step:,} steps: return {told(row["return"])}')
        elif mode in ('prefill', 'train'):
            self.screen.returned(row['return'])
