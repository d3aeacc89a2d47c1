"""In place of a method's script in a study: a run of some rows a second that locks its folder,
resumes where it stood, and ends as `--steps` asks: 13 by a user's mistake, 17 by a crash, 19 by a
full memory.

    python study_script.py --logdir FOLDER --steps N ...
"""

import argparse
import fcntl
import os
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument('--logdir')
parser.add_argument('--steps', type=int, default=0)
parser.add_argument('--test', action='store_true')
given, _ = parser.parse_known_args()
os.makedirs(given.logdir, exist_ok=True)
lock = open(os.path.join(given.logdir, 'lock'), 'w')
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print('error: another process is training here', flush=True)
    sys.exit(2)
path = os.path.join(given.logdir, 'episodes.csv')
if given.test:
    print('judged', file=open(os.path.join(given.logdir, 'results.csv'), 'a'))
    sys.exit(0)
if given.steps == 13:
    print('error: a mistake\nafter it', flush=True)
    sys.exit(2)
if given.steps == 19:
    print('error: the memory is full; the same command resumes', flush=True)
    sys.exit(2)
if given.steps == 17:
    print('Traceback\nValueError: a crash', flush=True)
    sys.exit(1)
if not os.path.exists(path):
    open(path, 'w').write('step,seconds,mode,return\n')
for step in range(len(open(path).readlines()), given.steps + 1):
    time.sleep(0.05)
    with open(path, 'a') as file:
        file.write(f'{step},{step / 20},train,{step / 2}\n')
        file.flush()
