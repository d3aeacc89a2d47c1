"""A trained agent from inside, on one episode: `python mummi.py --logdir L --inspect`.

Writes to <logdir>/inspect/<checkpoint>: the episode as seen, open-loop predictions beside the
truth, the trust in each sensor moment by moment, and what the heads predict. Under other settings
than the run's, as `--corrupt image=noise:0.3`, to a folder that is named after them too.
"""

import itertools
import re
import zlib

import numpy as np
import pandas as pd
import tensorflow as tf
from scipy.io import wavfile

import evaluation
import files
import pictures
import tools
from acting import AgentPolicy, Driver, summary
from config import SENSORS, flag
from drawing import new_figure, shade, sheet, write
from environments.sound import RATE
from palette import BLUE, GREEN, PALETTE, VERMILION
from texts import told

DOTS = 110  # an inch
LONGEST_NAME = 120  # letters of a folder
OBSERVED = 5  # entries seen before a prediction runs open-loop


class Recorder(AgentPolicy):
    """The agent's policy by its mode, which keeps the latents of the decisions."""

    def __init__(self, agent):
        super().__init__(agent, 1, exploring=False)
        self.latents = []

    def __call__(self, observation, is_first):
        if is_first[0]:  # also of an episode that had to be begun anew
            self.latents.clear()
        action = super().__call__(observation, is_first)
        self.latents.append({
            key: value.numpy()[0] for key, value in self.state.items() if key != 'action'})
        return action


def play(experiment, agent, options=None, report=lambda decisions: None):
    """One episode on validation backgrounds: (its arrays [T + 1, ...], what the agent holds of
    its decisions, see `Agent.explain`, as numpy).

    options: of the environment's reset, as {'miss_ratio': 0.1}. report: is told after each
    decision how many there were.
    """
    config = experiment.config
    environments = experiment.environments('valid', 1, config.seed)
    try:
        driver = Driver(environments, config.action_repeat, keep=['sound'])
        policy = Recorder(agent)
        agent.judging.reset_from_seed(config.seed)
        driver.reset(
            np.random.SeedSequence([config.seed, *b'inspect']).generate_state(1), options)
        finished = []
        while not finished:
            finished = driver.step(policy)
            report(len(policy.latents))
    finally:
        environments.close()
    episode = finished[0][1]
    # The last entry of an episode is stored, but nothing is decided on it.
    latents = {key: tf.constant(np.stack([entry[key] for entry in policy.latents]))
               for key in policy.latents[0]}
    observation = {key: tf.constant(episode[key][:len(policy.latents)])
                   for sensor in experiment.sensors for key in (sensor, flag(sensor))}
    return episode, explained(agent, latents, observation)


def explained(agent, latents, observation):
    """`Agent.explain` as numpy arrays, an episode's at most LONGEST entries at once, since all of
    them are in memory together; its metrics, which compare each with each, of the first of these.
    Of the reconstructions those of spectra alone, which are drawn."""
    entries, pieces = len(next(iter(latents.values()))), []
    for start in range(0, entries, pictures.LONGEST):
        piece = tf.nest.map_structure(lambda x: x.numpy(), agent.explain(*(
            {key: value[start:start + pictures.LONGEST] for key, value in part.items()}
            for part in (latents, observation))))
        piece['pictures'] = {sensor: value for sensor, value in piece['pictures'].items()
                             if SENSORS[sensor].kind == 'spectrum'}
        pieces.append((piece.pop('metrics'), piece))
    return {'metrics': pieces[0][0]} | tf.nest.map_structure(
        lambda *parts: np.concatenate(parts), *(piece for _, piece in pieces))


def inspect(experiment):
    """Play one episode of the run's last (or `config.checkpoint`) state on validation
    backgrounds, with the run's drop-outs where no others are typed, and draw it. Nothing else of
    the run is touched."""
    config = experiment.config
    options = evaluation.changed(config, seeded=True)
    agent, step, path = experiment.restored()
    episode, inside = play(experiment, agent)
    sensors, entries = list(experiment.sensors), len(inside['value'])

    name = path.name + (options and re.sub(r'[^\w.=-]+', '_', f'-{options}', flags=re.ASCII))
    if len(name) > LONGEST_NAME:  # its last letters tell it from others of the same beginning
        name = f'{name[:LONGEST_NAME]}-{zlib.crc32(options.encode()):08x}'
    folder = experiment.folder / 'inspect' / name
    folder.mkdir(parents=True, exist_ok=True)
    times = np.cumsum(episode['steps'])
    title = f'{experiment.title}, {step:,} steps{options and f", with {options}"}'
    frames = pictures.seen(episode)
    with files.writing(folder / 'episode.gif') as file:
        file.write(tools.gif(frames, 20))
    write(sheet(frames, [f'step {time}' for time in times],
                f'{title}: the episode as seen (orange frame: sensor missing)'),
          folder / 'episode.png', DOTS)
    if 'sound' in episode:
        with files.writing(folder / 'episode.wav') as file:
            wavfile.write(file, RATE, episode['sound'].ravel())
    for sensor in (s for s in sensors if SENSORS[s].kind == 'spectrum'):
        draw_spectrum(sensor, episode, inside['pictures'].get(sensor), times[:entries],
                      folder / f'{sensor}.png', title)
    length = min(config.length, entries)
    start = min(entries // 3, entries - length)
    batch = {key: value[None, start:start + length] for key, value in episode.items()}
    predictions = {s: value.numpy() for s, value in agent.open_loop(
        {key: tf.constant(value) for key, value in batch.items()}, OBSERVED).items()}
    errors = draw_predictions(
        batch, predictions, times[start:start + length], folder, title)
    draw_trust(inside['trust'], episode, times[:entries], sensors, folder / 'trust.png', title)
    ahead = discounted_returns(
        episode['reward'], inside['value'], config.discount, episode['discount'][-1] == 0)
    draw_heads(inside, ahead, episode, times[:entries], sensors, folder / 'heads.png', title)
    numbers = {
        'return': float(episode['reward'].sum()),
        'reward_error': float(np.abs(inside['reward'] - episode['reward'][:entries]).mean()),
        'reward_deviation': float(episode['reward'][:entries].std()),
        'value': float(inside['value'].mean()), 'discounted_return': float(ahead.mean())}
    numbers |= {k: v for k, v in summary(episode, sensors).items()
                if k.startswith('missing_')}
    numbers |= {key: float(value) for key, value in inside['metrics'].items()}
    unseen = {sensor: error[OBSERVED:] for sensor, error in errors.items()}
    numbers |= {f'open_loop_error_{s}': float(np.nanmean(e)) for s, e in unseen.items()
                if np.isfinite(e).any()}
    with files.writing(folder / 'numbers.csv') as file:
        pd.Series(numbers, name='value').to_csv(
            file, index_label='number', float_format='%.4g')
    print(f'{title}: return {told(numbers["return"])}; pictures and numbers in {folder}')


def draw_predictions(batch, predictions, times, folder, title, columns=10):
    """A GIF and a contact sheet of each picture sensor: truth, open-loop prediction, error.
    Returns the mean absolute error of each sensor at each entry, in its own unit."""
    errors = {}
    videos = pictures.open_loop(batch, predictions)
    for sensor, video in videos.items():
        with files.writing(folder / f'open_loop_{sensor}.gif') as file:
            file.write(tools.gif(video, 10))
        truth = np.asarray(batch[sensor][0], np.float32)
        guess = pictures.unscaled(sensor, predictions[sensor][0])
        # Where the sensor was missing there is no truth to compare with.
        missing = batch[flag(sensor)][0, :, 0] == 0
        errors[sensor] = np.where(
            missing, np.nan, np.abs(truth - guess).reshape(len(truth), -1).mean(1))
        chosen = np.unique(np.linspace(0, len(video) - 1, columns).astype(int))
        figure, axes = new_figure(
            4, len(chosen), (1.25 * len(chosen), 5.6), height_ratios=[1, 1, 1, 1.1])
        size = video.shape[1] // 3
        for column, t in enumerate(chosen):
            for row, name in enumerate(('truth', 'prediction', 'error')):
                axis = axes[row, column]
                axis.imshow(video[t, row * size:(row + 1) * size])
                axis.set_xticks([])
                axis.set_yticks([])
                if column == 0:
                    axis.set_ylabel(name, fontsize=9)
            seen = ' (seen)' if t < OBSERVED else ''
            axes[0, column].set_title(f'{times[t]}{seen}', fontsize=8)
        grid = axes[3, 0].get_gridspec()
        for axis in axes[3]:
            axis.remove()
        axis = figure.add_subplot(grid[3, :])
        axis.plot(times, errors[sensor], color=BLUE)
        shade(axis, times, missing, '0.85')
        axis.axvline(times[min(OBSERVED, len(times) - 1)], color='0.4', linestyle='--')
        axis.set_xlim(times[0], max(times[-1], times[0] + 1))
        axis.set_xlabel('environment steps (dashed: from here on without looking; shaded: the '
                        'sensor was missing, there is no truth)', fontsize=8)
        axis.set_ylabel(f'mean error\n({SENSORS[sensor].unit})', fontsize=8)
        axis.set_ylim(bottom=0)
        figure.suptitle(f'{title}: {sensor}, open loop', fontsize=10)
        write(figure, folder / f'open_loop_{sensor}.png', DOTS)
    return errors


def draw_spectrum(sensor, episode, predicted, times, path, title):
    """The spectrogram of an episode as it was heard and, below, as the model's latents have it
    (`predicted`, scaled [T, bands], or None without decoders)."""
    heard = episode[sensor][:len(times)]
    parts = {'heard': heard}
    if predicted is not None:
        parts['in the latents'] = pictures.unscaled(sensor, predicted)
    figure, axes = new_figure(len(parts), 1, (10, 2.5 * len(parts) + 0.5), sharex=True)
    for axis, (name, values) in zip(axes[:, 0], parts.items()):
        picture = axis.pcolormesh(times, np.arange(values.shape[1]), values.T, shading='nearest',
                                  cmap='magma', vmin=0, vmax=max(heard.max(), 1e-6))
        axis.set_ylabel(f'{name}\nband (lowest: 0)')
    figure.colorbar(picture, ax=list(axes[:, 0]), label=SENSORS[sensor].unit)
    axes[-1, 0].set_xlabel('environment steps (black from top to bottom: the sensor is missing)')
    figure.suptitle(f'{title}: {sensor}', fontsize=10)
    write(figure, path, DOTS)


def draw_trust(trust, episode, times, sensors, path, title):
    """The share of each sensor in the fused code over time, its drop-outs shaded; without
    shares, the drop-outs alone."""
    figure, axes = new_figure(len(sensors), 1, (10, 1.5 * len(sensors) + 1), sharex=True)
    for axis, sensor, colour in zip(axes[:, 0], sensors, itertools.cycle(PALETTE)):
        missing = episode[flag(sensor)][:len(times), 0] == 0
        shade(axis, times, missing, '0.8')
        if sensor in trust:
            axis.plot(times, trust[sensor], color=colour, linewidth=1)
        axis.set_ylim(-0.02, 1.02)
        axis.set_xlim(times[0], max(times[-1], times[0] + 1))
        axis.set_ylabel(f'{sensor}\n(share)' if trust else sensor)
    axes[-1, 0].set_xlabel('environment steps (shaded: the sensor is missing)')
    what = 'share of each sensor in the fused code' if trust else (
        'drop-outs (this method has no fusion weights)')
    figure.suptitle(f'{title}: {what}', fontsize=10)
    write(figure, path, DOTS)


def discounted_returns(reward, value, discount, terminated):
    """What the value should have said: the discounted rewards that followed, float64 [T - 1].

    reward [T] of the entries of an episode, value [T - 1] of its decisions. Rewards count from
    the entry's own, as in the lambda-return. After a time limit, which the agent does not know of,
    the value of the last decision stands for what was cut off; after the end of a task nothing
    follows.
    """
    ahead = np.empty(len(value))
    following = float(reward[-1]) if terminated else None
    for t in reversed(range(len(value))):
        following = float(value[t]) if following is None else reward[t] + discount * following
        ahead[t] = following
    return ahead


def draw_heads(inside, ahead, episode, times, sensors, path, title):
    """Reward received and predicted, the value beside the discounted returns that it should have
    said, and the divergence over time."""
    figure, axes = new_figure(3, 1, (10, 6.5), sharex=True)
    axes = axes[:, 0]
    any_missing = np.any([episode[flag(s)][:len(times), 0] == 0 for s in sensors], 0)
    axes[0].plot(times, episode['reward'][:len(times)], color='0.2', label='received')
    axes[0].plot(times, inside['reward'], color=VERMILION, linewidth=1, label='predicted')
    axes[0].set_ylabel('reward\n(a decision)')
    axes[1].plot(times, ahead, color='0.2', label='received from here on\n(then the last value)')
    axes[1].plot(times, inside['value'], color=BLUE, linewidth=1, label='value')
    axes[1].set_ylabel('discounted return')
    for axis in axes[:2]:
        axis.legend(loc='upper left', bbox_to_anchor=(1, 1), frameon=False)
    axes[2].plot(times, inside['divergence'], color=GREEN)
    axes[2].set_ylabel('KL(posterior, prior)\n(nats)')
    for axis in axes:
        shade(axis, times, any_missing, '0.9')
        axis.set_xlim(times[0], max(times[-1], times[0] + 1))
    axes[2].set_xlabel('environment steps (shaded: some sensor is missing)')
    figure.suptitle(f'{title}: what the heads say', fontsize=10)
    write(figure, path, DOTS)
