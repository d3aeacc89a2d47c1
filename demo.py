"""make demo: a trained agent that acts while its sensors fail, then a fresh one that learns.

    python demo.py --agent agents/walker_walk/mummi --outdir logdir/demo

The pictures of the first go to <outdir>/agent; without a trained agent the second is all. Each
line says what is done and how long it takes.
"""

import argparse
import contextlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import time

import commandline
import environments
import files
import processor
import screen
from config import SENSORS, UserError, resolve

HERE = pathlib.Path(__file__).resolve().parent

# What is learned afresh: a task so small that the agent masters it within the time.
TASK = 'gym_MiniGrid-Empty-5x5-v0'
TRAINING = ('--task', TASK, '--sensors', 'image', '--miss_ratio', '0', '--preset', 'small',
            '--steps', '2500')
MINUTES = 'two to three minutes'

CHANCE = 0.1  # of a drop-out, in the episode that is drawn
EPISODES = 3  # of each row of the table
FRAMES = 8  # of the contact sheet


def arguments(words=None):
    """The command line; a mistake prints one line and exits with 2."""
    parser = argparse.ArgumentParser(
        prog='demo.py', description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = commandline.fail
    parser.add_argument('--agent', default='agents/walker_walk/mummi',
                        help='folder of a trained agent [%(default)s]')
    parser.add_argument('--outdir', default='logdir/demo', help='folder written to [%(default)s]')
    given = parser.parse_args(words)
    if not given.outdir:  # as of a variable of the shell that is not set
        commandline.fail(UserError('--outdir takes a path, and what is given is empty'))
    given.agent, given.outdir = (
        pathlib.Path(path).expanduser() for path in (resolve(given.agent), given.outdir))
    try:
        files.output_folder(given.outdir)
    except UserError as error:
        commandline.fail(error)
    if not importlib.util.find_spec('minigrid'):
        commandline.fail(UserError(
            'the demo learns a task of minigrid, which is not installed; type make demo, or '
            'python -m pip install -r requirements-tasks.txt'))
    return given


def say(text):
    print(text, flush=True)


# --- The trained agent -----------------------------------------------------------------------


def show(trained, folder):
    """Play and draw an episode of an `experiment.Trained`, and print the table. Returns the paths
    of the pictures."""
    import evaluation
    import inspection
    from texts import told
    experiment = trained.experiment
    config, sensors = experiment.config, list(experiment.sensors)
    decisions = environments.time_limit(config) // config.action_repeat
    say(f'one episode of {experiment.title}, trained for {trained.step:,} steps, with a drop-out '
        f'chance of {CHANCE:g}' + (f': {decisions} decisions, about half a minute' if decisions
                                   else ''))
    times = []  # of the decisions; the first builds the graph
    with screen.bar(decisions or None, 'decision', 5) as bar:
        def report(count):
            times.append(time.time())
            bar.update()
        episode, inside = inspection.play(
            experiment, trained.agent, {'miss_ratio': dict.fromkeys(sensors, CHANCE)}, report)
    pace = (times[-1] - times[0]) / len(times)
    say('drawing it: a few seconds')
    paths = draw(episode, inside['trust'], sensors, folder, (
        f'{experiment.title}: return {told(episode["reward"].sum(), digits=0)} with a drop-out '
        f'chance of {CHANCE:g}'))
    tests = [test for test in evaluation.conditions([0.0], sensors) if test[0] == 'ratio' or (
        test[0] == 'without' and SENSORS[test[1]].kind == 'picture')]
    total = len(tests) * EPISODES
    say(f'{EPISODES} episodes each with all sensors and without each picture: '
        f'{about(total * len(times) * pace)} at the pace of the first')
    with screen.bar(total, 'episode', 5) as bar:
        results = evaluation.play(
            experiment, trained.agent, trained.step, tests, EPISODES, EPISODES, bar)
    say('\n' + evaluation.table(results) + '\n')
    return paths


def about(seconds):
    """A time in words."""
    return f'about {seconds:.0f} s' if seconds < 100 else f'about {seconds / 60:.0f} min'


def draw(episode, trust, sensors, folder, title):
    """episode.gif, and episode.png, a contact sheet: the sensors at even distances (orange frame:
    missing), and over time each sensor's trust with its drop-outs shaded, and the reward. trust:
    sensor -> share [T], or {}. Returns the two paths."""
    import numpy as np

    import pictures
    import tools
    from config import flag
    from drawing import new_figure, shade, write
    from palette import BLUE
    frames = pictures.seen(episode)
    folder.mkdir(parents=True, exist_ok=True)
    with files.writing(folder / 'episode.gif') as file:
        file.write(tools.gif(frames, 20))
    times, entries = np.cumsum(episode['steps']), len(episode['reward']) - 1
    wide = 2 if frames.shape[2] > 1.5 * frames.shape[1] else 4
    tall = FRAMES // wide
    strips = [*sensors, 'reward']
    figure, axes = new_figure(
        tall + len(strips), wide, (11, 1.9 * tall + 1.1 * len(strips)),
        height_ratios=[1.9] * tall + [1] * len(strips))
    for one, t in zip(axes[:tall].flat, np.linspace(
            0, min(entries, len(frames) - 1), tall * wide).astype(int)):
        one.imshow(frames[t])
        one.set_title(f'step {times[t]}', fontsize=8)
        one.axis('off')
    grid = axes[0, 0].get_gridspec()
    for row, name in enumerate(strips, tall):
        for one in axes[row]:
            one.remove()
        one = figure.add_subplot(grid[row, :])
        if name == 'reward':
            one.plot(times[:entries], episode['reward'][:entries], color='0.2', linewidth=1)
            one.set_xlabel('environment steps (shaded: the sensor is missing)')
        else:
            shade(one, times[:entries], episode[flag(name)][:entries, 0] == 0, '0.8')
            if name in trust:
                one.plot(times[:entries], trust[name], color=BLUE, linewidth=1)
            one.set_ylim(-0.02, 1.02)
        one.set_ylabel(f'trust in\n{name}' if name in trust else name, fontsize=8)
        one.set_xlim(times[0], times[entries - 1])
    figure.suptitle(title, fontsize=10)
    write(figure, folder / 'episode.png', 110)
    return [folder / 'episode.gif', folder / 'episode.png']


# --- The fresh one -----------------------------------------------------------------------------


def train(outdir):
    """Train MuMMI afresh and draw its learning curve, by the commands that a user types. Returns
    the paths of the pictures."""
    run, plots = outdir / 'runs' / TASK / 'mummi', outdir / 'plots'
    if files.states(run):
        say(f'{run} is there already, and is gone on with; remove it to begin anew')
    else:
        say('now an agent that knows nothing: it learns to walk to the green square of a small '
            'maze from its picture. 1,500 steps at random, which return 0.3; then, within minutes, '
            '0.8 and more, where 0.96 is the most')
    command('training', MINUTES, 'mummi.py', '--logdir', str(run), *TRAINING)
    command('figures', 'half a minute', 'plotting.py', '--indir', str(outdir / 'runs'),
            '--outdir', str(plots), '--tasks', TASK, '--bin', '250')
    return [plots / 'returns.png', plots / 'index.html',
            *sorted((run / 'videos').glob('*-eval.gif'))[-1:]]


def command(what, how_long, script, *words):
    """Run a script of this folder in a process of its own; its mistakes are this one's."""
    say(f'{what}, {how_long}: python {script} {" ".join(words)}')
    process = subprocess.Popen([sys.executable, str(HERE / script), *words])
    # It saves what was learned, and would go on alone otherwise.
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:  # it has it too, and saves what was learned; once more ends it
        while process.returncode is None:
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


def main(words=None):
    given = arguments(words)
    with commandline.answering(given.outdir, '; the same command begins again'):
        run(given)


def run(given):
    """Show the trained agent, where there is one, then train another."""
    shown = []
    if os.path.exists(given.agent / 'config.json'):
        say(f'loading the trained agent {given.agent}: about 20 s')
        processor.prepare()
        from experiment import load
        shown += show(load(given.agent), given.outdir / 'agent')
    else:
        say(f'there is no trained agent in {given.agent}, so none is shown; it is trained afresh')
    shown += train(given.outdir)
    say('\nlook at')
    for path in shown:
        say(f'  {path}')


if __name__ == '__main__':
    main()
