"""What scripted and random actions get on `wipe_table`, and what its environment costs.

    python benchmarks/wiping.py --episodes 10
"""

import argparse
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import commandline
from environments import wiping

DEEPEST = np.array([0, 0, -1.0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.error = commandline.fail
    parser.add_argument('--episodes', type=int, default=10, help='of each way to act [10]')
    chosen = parser.parse_args()
    if chosen.episodes < 1:
        parser.error(f'--episodes takes a whole number from 1, not {chosen.episodes}')
    env, random = wiping.WipeTable(), np.random.default_rng(0)
    for name, act in (
            ('scripted', wiping.toward_dirt),
            ('random', lambda env: random.uniform(-1, 1, 3)),
            ('pressing', lambda env: DEEPEST)):
        returns, clean = [], []
        begun, used, decisions = time.perf_counter(), time.process_time(), 0
        for seed in range(chosen.episodes):
            env.reset(seed=seed)
            total, dirty, over = 0.0, 0, False
            while not over:
                _, reward, _, over, info = env.step(act(env))
                total, dirty, decisions = total + reward, dirty + (info['dirt'] > 0), decisions + 1
            returns.append(total)
            clean += [dirty] * (info['dirt'] == 0)
        cleaned = f'{min(clean)} to {max(clean)} decisions' if clean else '-'
        print(f'{name:8}  return {min(returns):.0f} to {max(returns):.0f}, mean '
              f'{np.mean(returns):.0f}; clean in {len(clean)} episodes, after {cleaned}; '
              f'{decisions / (time.perf_counter() - begun):.0f} decisions/s, '
              f'{decisions / (time.process_time() - used):.0f} a second of the processor')
    env.close()


if __name__ == '__main__':
    main()
