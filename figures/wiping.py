"""The figure of docs/wiping.md: python figures/wiping.py writes figures/wiping.png, what an agent
sees while a scripted wiper cleans the table."""

import pathlib
import sys

from matplotlib.figure import Figure

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import natural  # noqa: E402
import pictures  # noqa: E402
import wrappers  # noqa: E402
from environments import wiping  # noqa: E402

DECISIONS = 0, 6, 14, 22, 32, 50
SEED = 1

env = wiping.WipeTable()
behind = wrappers.NaturalBackground(env, natural.load(str(ROOT / 'natural_train.pkl')), SEED)
observation, _ = behind.reset(seed=SEED)
figure = Figure((9.6, 5.2))
axes = figure.subplots(3, len(DECISIONS))
gained = 0
for decision in range(DECISIONS[-1] + 1):
    if decision in DECISIONS:
        column = axes[:, DECISIONS.index(decision)]
        bare = env.readers['image'].read(env)
        for axis, picture in zip(column, (bare, observation['image'], pictures.pixels(
                'depth', observation['depth'], (60, 200))), strict=True):
            axis.imshow(picture, interpolation='nearest')
            axis.set(xticks=[], yticks=[])
        column[0].set_title(f'{decision / 20:.1f} s\nreturn {gained:.0f}', fontsize=9)
    observation, reward, *_ = behind.step(wiping.toward_dirt(env))
    gained += reward
for axis, name in zip(axes[:, 0], ('image, --no-natural', 'image', 'depth'), strict=True):
    axis.set_ylabel(name, fontsize=9)
figure.subplots_adjust(0.04, 0.01, 0.995, 0.9, 0.03, 0.03)
figure.savefig(ROOT / 'figures/wiping.png', dpi=110)
env.close()
