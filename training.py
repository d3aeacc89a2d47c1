"""A run: set-up, the loop of collecting, training, evaluating and saving, and its errors."""

import os
import sys
import time

import numpy as np
import tensorflow as tf
import tqdm

import commandline
import config as configuration
import devices
import evaluation
import files
import inspection
import pictures
import replay
import tools
from acting import AgentPolicy, Driver, evaluate, summary
from config import UserError
from environments.sound import RATE
from experiment import Progress
from health import Health

# Seconds between two prints of the progress bar when it goes to a file.
FILE_INTERVAL = 15


def main(experiment):
    """Train the agent of an `Experiment`, or resume, or judge it, as its configuration says.

    A mistake of the user's ends in one line and exit code 2.
    """
    config = experiment.config
    try:
        if config.dry_run:
            dry_run(experiment)
        elif config.test:
            evaluation.test(experiment)
        elif config.inspect:
            inspection.inspect(experiment)
        else:
            with Trainer(experiment) as trainer:
                trainer.train()
    except UserError as error:
        commandline.fail(error)
    except KeyboardInterrupt:
        training = not (config.dry_run or config.test or config.inspect)
        print('\ninterrupted' + training * f'; the same command resumes {config.logdir}',
              file=sys.stderr)
        raise SystemExit(130) from None


def dry_run(experiment):
    """Build everything and print what it is: sensors, sizes, memory and disk."""
    config, computing = experiment.config, experiment.device  # a batch that it cannot share: first
    description, agent = experiment.description, experiment.agent()
    print(f'{experiment.title}, preset {config.preset}, {agent.compute.name} products on '
          f'{computing}')
    print('\nsensors')
    for sensor, shape in experiment.shapes.items():
        row, kind = configuration.SENSORS[sensor], description.observation_space[sensor].dtype
        print(f'  {sensor:<22}{shape!s:<16}{kind!s:<9}{row.unit}')
    choice = ' one of' * (not agent.actions.smooth)
    print(f'  {"actions":<22}{description.action_space.shape}{choice}')
    print('\ntrainable values')
    for part, count in agent.parts().items():
        print(f'  {part:<22}{count:>14,}')
    entry = sum(
        int(np.prod(space.shape)) * space.dtype.itemsize
        for space in description.observation_space.values()) + 4 * (agent.actions.size + 2)
    disk = entry * config.steps / config.action_repeat / 1e9
    print('\nestimates')
    print(f'  replay on disk        {disk:>10.2f} GB after {config.steps:,} steps')
    print(f'  replay in memory      {min(disk, config.replay_memory):>10.2f} GB (--replay_memory)')
    print(f'  one training batch    {entry * config.batch * config.length / 1e9:>10.2f} GB')
    for advice in filter(None, (devices.advice(), agent.planner.advice())):
        print(f'\n{advice}')


class Trainer:
    """Everything of a run in `config.logdir`; a context that closes what it opened."""

    def __init__(self, experiment):
        self.experiment, self.config = experiment, experiment.config
        config, self.folder = experiment.config, experiment.folder
        computing = experiment.device  # what is wrong with the devices...
        # ... or with the environment, or for its actions, shows before...
        self.sensors, _ = experiment.sensors, experiment.actions
        self._prepare_folder()  # ... anything is written
        self.environments = experiment.environments(
            'train', config.envs, experiment.seeds('train', 0, 1)[0])
        self.valid = None
        self.replay = replay.Replay(
            self.folder / 'episodes', config.action_repeat, config.replay_memory, self.say)
        self.logger = tools.Logger(self.folder)
        self.agent = experiment.agent()
        self.progress = Progress(self.agent)
        self.checkpoints = tools.Checkpoints(
            self.folder, self.progress, config.keep_checkpoints, self.say)
        resumed = self.checkpoints.restore()
        self.agent.refresh()
        self.step = self.replay.steps
        self.began = time.time() - float(self.progress.seconds)
        self.driver = Driver(self.environments, config.action_repeat)
        self.policy = AgentPolicy(self.agent, config.envs, exploring=True)
        self.health = Health(self.agent.actions.size)
        self.last_returns, self.compiled, self.shown = [], False, -FILE_INTERVAL
        self.say(
            f'{experiment.title}: {", ".join(self.sensors)}; {self.agent.compute.name} '
            f'products on {computing}; ' + (
                f'resumed at {self.step:,} steps, {int(self.agent.updates):,} updates'
                if resumed or self.step else 'a new run') + f' in {self.folder}')
        for advice in filter(None, (devices.advice(), self.agent.planner.advice())):
            self.say(advice)

    def _prepare_folder(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = open(self.folder / 'lock', 'w')
        except OSError as error:
            raise UserError(f'cannot write in {self.folder} ({error.strerror})') from None
        try:
            locked = files.lock(self.lock)
        except BlockingIOError:
            raise UserError(
                f'another process is training in {self.folder}; stop it, or choose another '
                '--logdir') from None
        if not locked:
            self.say(
                f'warning: the file system of {self.folder} gives no locks; see to it that no '
                'other process trains there')
        path = str(self.folder / 'config.json')
        if os.path.exists(path):
            commandline.check_resume(self.config, self.experiment.method.name, path)
        commandline.save(self.config, self.experiment.method.name, path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for environments in (self.environments, self.valid and self.valid.environments):
            if environments:
                environments.close(terminate=True)
        self.lock.close()

    def say(self, text):
        """A line above the progress bar."""
        tqdm.tqdm.write(text)

    # --- The loop ---

    def train(self):
        """Collect, train, evaluate, save, until `config.steps`."""
        config = self.config
        with tqdm.tqdm(
                total=config.steps, initial=min(self.step, config.steps), unit='step',
                unit_scale=True, dynamic_ncols=True, smoothing=0.05,
                mininterval=0.5 if sys.stderr.isatty() else FILE_INTERVAL) as self.bar:
            if not self.progress.begun and self.step < config.prefill:
                self.collect_random(config.prefill)
            self.catch_up()
            while self.step < config.steps:
                self.collect(min(self.step + config.train_every, config.steps))
                self.catch_up()
        self.say(f'finished: {self.step:,} steps, {int(self.agent.updates):,} updates')

    def catch_up(self):
        """Updates and evaluation that are due at the present step, perhaps since before a kill."""
        self.train_until_due()
        if self.progress.evaluation_due(self.step, self.config):
            self.evaluate()
        self.save()

    def collect_random(self, until):
        """Uniformly random actions until step `until`, and until a sequence can be drawn."""
        self._show(phase='prefill')
        generator = np.random.default_rng(self.experiment.seeds('random', self.step, 4))

        def act(observation, is_first):
            return self.agent.actions.uniform(generator, self.driver.count)

        self._collect('prefill', act, lambda: self.step >= until and self._can_sample())

    def collect(self, until):
        """Exploring actions of the agent until step `until`."""
        self._show(phase='collect')
        self._collect('train', self.policy, lambda: self.step >= until)

    def _collect(self, mode, act, done):
        driver = self.driver
        if not driver.begun:
            driver.reset(self.experiment.seeds('collect', self.replay.number, driver.count))
        while not done():
            finished = driver.step(act)
            self.step += driver.advanced
            self.bar.update(driver.advanced)
            for row, episode in finished:
                self.replay.add(episode)
                # The return of a part is no point of a curve.
                part = mode == 'train' and driver.cut[row]
                self._episode('cut' if part else mode, episode)

    def _can_sample(self):
        return bool(self.replay.starts(self.config.length).any())

    def train_until_due(self):
        """Updates until the schedule is met, with the progress shown at each."""
        config, updates = self.config, int(self.agent.updates)
        due = self.progress.advance(self.step, config)
        if updates >= due:
            return
        seeds = [[config.seed, number] for number in range(updates, due)]
        totals, begun, rows, rate = {}, time.time(), 0, 0.0
        self._show(phase='train')
        if not self.compiled:
            self.compiled = True
            self._show('building the graph of the first update', at_once=True)
        for batch in self.replay.batches(config.batch, config.length, seeds):
            metrics = self.agent.train(batch)
            updates, rows = updates + 1, rows + 1
            for key, value in metrics.items():
                totals[key] = totals.get(key, 0.0) + value
            if updates % config.log_every == 0 or updates == due:
                values = {key: float(value) / rows for key, value in totals.items()}
                rate = rows / (time.time() - begun)
                self._log(updates, values | {'updates_per_second': rate})
                totals, begun, rows = {}, time.time(), 0
            elif rows:
                rate = rows / (time.time() - begun)
            self._show(f'update {updates}/{due}, {rate:.2f} updates/s, {self._recent()}')

    def _log(self, updates, values):
        bad = [key for key, value in values.items()
               if key.endswith(('_loss', '_gradient')) and not np.isfinite(value)]
        # In float16 an update that overflows changes no weight and halves the loss scale, to 1 at
        # the least.
        if bad and (self.agent.compute != tf.float16 or any(
                float(o.scale) <= 1 for o in self.agent.optimisers.values())):
            raise UserError(
                f'not finite at update {updates}: {", ".join(bad)}; the last checkpoint is whole: '
                'resume with --precision float32, or smaller --model_rate, --actor_rate and '
                '--value_rate')
        self.logger.update(
            {'step': self.step, 'updates': updates, 'seconds': self.seconds()} | values)
        for line in self.health.lines(values):
            self.say(line)

    def evaluate(self):
        """Episodes on validation backgrounds by the mode, the first as a video and, where there is
        audio, as a sound, and open-loop predictions on replayed sequences."""
        config = self.config
        self._show(phase='evaluate')
        if self.valid is None:
            self.valid = Driver(self.experiment.environments(
                'valid', 1, self.experiment.seeds('valid', 0, 1)[0]), config.action_repeat,
                keep=['sound'])
        seed, *seeds = self.experiment.seeds('evaluate', self.step, 1 + config.eval_episodes)
        self.agent.judging.reset_from_seed(int(seed))
        for number, episode in enumerate(evaluate(self.agent, self.valid, seeds)):
            self._episode('eval', episode)
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
        self.progress.evaluated.assign(self.step)

    def save(self):
        """A checkpoint of all that is not in the episode files."""
        self.progress.step.assign(self.step)
        self.progress.seconds.assign(self.seconds())
        self.checkpoints.save(int(self.agent.updates))

    # --- What the user sees ---

    def seconds(self):
        """Wall time of the run, all its sessions together."""
        return time.time() - self.began

    def _show(self, text=None, phase=None, at_once=False):
        """Changes what stands beside the bar: drawn at once on a terminal, seldom in a file (but
        for what must be seen `at_once`), where a line for each of 5,000 updates hides the others.
        """
        if text is not None:
            self.bar.set_postfix_str(text, refresh=False)
        if phase is not None:
            self.bar.set_description_str(f'{phase:<8}', refresh=False)
        now = time.monotonic()
        if at_once or sys.stderr.isatty() or now - self.shown >= FILE_INTERVAL:
            self.shown = now
            self.bar.refresh()

    def _recent(self):
        if not self.last_returns:
            return 'no return yet'
        return f'return {np.mean(self.last_returns[-10:]):.1f}'

    def _episode(self, mode, episode):
        row = {
            'step': self.step, 'updates': int(self.agent.updates), 'seconds': self.seconds(),
            'mode': mode} | summary(episode, self.sensors)
        self.logger.episode(row)
        if mode == 'eval':
            self.say(f'evaluation at {self.step:,} steps: return {row["return"]:.1f}')
        elif mode != 'cut':
            self.last_returns.append(row['return'])
            self._show(self._recent())
