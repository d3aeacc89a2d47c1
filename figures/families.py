"""The page of all families of tasks: python figures/families.py writes docs/families.md and
figures/families.png, what an agent sees of a task of each, with its sensors, actions and rate.

It needs the packages of requirements-tasks.txt.
"""

import pathlib
import sys
import time

import numpy as np
from matplotlib.figure import Figure

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import commandline  # noqa: E402
import config  # noqa: E402
import environments.spaces  # noqa: E402
import pictures  # noqa: E402
import wrappers  # noqa: E402

EVERYTHING = 'image,depth,touch,proprioception,audio'
# Of each family a task or more -> sensors.
TASKS = {
    'dmc_walker_walk': EVERYTHING, 'wipe_table': EVERYTHING, 'gym_Walker2d-v5': 'all',
    'gym_AdroitHandDoor-v1': 'all', 'gym_CartPole-v1': 'all',
    'gym_MiniGrid-Empty-8x8-v0': 'all', 'atari_pong': 'all'}
SEED = 3
DECISIONS = 60  # of random actions; of the last, or of the last before an end, is the picture
WINDOW = 3.0  # seconds of the processor for which a rate is counted
LEAD = '''# What the agent sees

Written by `python figures/families.py`: a task or more of each family ([tasks.md](tasks.md)), some
decisions of random actions after its start, the sensors side by side in the order of the table.
Touch and proprioception are a bar for each number, audio is a spectrogram of the last decisions.

![Seven tasks as the agent sees them](../figures/families.png)

The rate is of random actions with all sensors of the row, backgrounds and resets included, in
decisions for each second of the processor's time (one core; pictures by Mesa's software renderer),
which a busy machine lowers less than one by the clock.
'''


def sensors_of(env):
    """sensor -> shape, in the order of the table of sensors."""
    spaces = env.observation_space.spaces
    return {name: spaces[name].shape for name in config.SENSORS if name in spaces}


def played(env):
    """(an episode's last arrays [time, ...], decisions for each second of the processor)."""
    env.action_space.seed(SEED)
    observation, _ = env.reset(seed=SEED)
    entries, kept = [observation], None
    done, begun = 0, time.process_time()
    while time.process_time() - begun < WINDOW or not kept:
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        entries.append(observation)
        done += 1
        if kept is None and (terminated or truncated or done == DECISIONS):
            kept = entries[:-1]
        if terminated or truncated:
            observation, _ = env.reset()
            entries = [observation]
        del entries[:-DECISIONS]
    rate = done / (time.process_time() - begun)
    return {name: np.stack([entry[name] for entry in kept]) for name in kept[0]}, rate


def actions(space):
    if isinstance(space, environments.spaces.OneHot):
        return f'one of {space.n}'
    return f'{space.shape[0]} numbers'


def main():
    rows, lines = {}, ['| task | sensors | actions | decisions a second |',
                       '| --- | --- | --- | --- |']
    for task, sensors in TASKS.items():
        settings = commandline.parse(config.Method('families'), [
            '--logdir', 'unused', '--task', task, '--sensors', sensors, '--miss_ratio', '0',
            '--natural_train', str(ROOT / 'natural_train.pkl'),
            '--natural_valid', str(ROOT / 'natural_valid.pkl')])
        env = wrappers.make(settings, 'train', SEED)
        found = ', '.join(f'{name} {" x ".join(map(str, shape))}'
                          for name, shape in sensors_of(env).items())
        episode, rate = played(env)
        rows[task] = pictures.seen(episode, 2)[-1]
        lines.append(f'| `{task}` | {found} | {actions(env.action_space)} | {rate:.0f} |')
        print(lines[-1])
        env.close()
    widest = max(row.shape[1] for row in rows.values())
    figure = Figure((widest / 80, 1.95 * len(rows)))
    for axes, (task, row) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        axes.imshow(row, interpolation='nearest')
        axes.set_xlim(0, widest)
        axes.set_title(task, loc='left', fontsize=10)
        axes.axis('off')
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.97, 0, 0.16)
    figure.savefig(ROOT / 'figures' / 'families.png', dpi=80)
    (ROOT / 'docs' / 'families.md').write_text(
        '\n'.join([LEAD, *lines, '']), encoding='utf-8')


if __name__ == '__main__':
    main()
