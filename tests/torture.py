"""Breaks runs on the stub task by seeded random moments, and checks what is left and goes on.

    python tests/torture.py                        all of it: hours
    python tests/torture.py --only kills --kills 5
    python tests/torture.py --without rows         with a mending taken out, which must be found

    kills      the process dies at a random moment of each phase, until --kills in each
    signals    SIGTERM and SIGINT at random moments; the episodes must be those of a run in peace
    disk       files may not grow beyond a random size
    damage     --files damaged files of each kind
    workers    environments that die or hang
    long       actions and updates by the thousand: memory, descriptors and processes stay

Exit code 1 where something broke. Processes are forked from one that has imported TensorFlow and
not begun to compute, so that each costs little.
"""

import argparse
import collections
import contextlib
import functools
import io
import os
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import numpy as np
import pandas as pd
import stubs
import test_reliability
import tqdm

import commandline
import config
import csv_log
import evaluation
import files
import natural
import processes
import records
import replay
import stopping
import tools
import training

PHASES = {'open': '__init__', 'prefill': 'collect_random', 'collect': 'collect',
          'train': 'train_until_due', 'evaluate': 'evaluate', 'save': 'save'}
WORDS = ('--envs', '1', '--steps', '80', '--pretrain', '3', '--log_every', '3', '--batch', '2')


class Broken(Exception):
    """What the harness found."""


# --- A run in a process of its own ----------------------------------------------------------


def forked(work):
    """(exit status as of `os.waitpid`, output) of `work()` in a forked process.

    The output comes through a pipe, as a file of it would grow against `run`'s limit."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        code = 70
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            work()
            code = 0
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    said = []

    def listen():
        with open(reader, 'rb', buffering=0) as pipe:
            said.extend(iter(lambda: pipe.read(65536), b''))
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    status = os.waitpid(process, 0)[1]
    listener.join(10)  # children of a process that was killed may hold the pipe a little longer
    return status, b''.join(said).decode(errors='replace')


def run(folder, phase=None, delays=(), strike=None, times=None, limit=None):
    """Train the stub run in `folder`. At the n-th entry of `phase` a timer of delays[n] seconds
    is set, which calls `strike`, or ends the process where that is None. times: a file for the
    seconds of each phase. limit: bytes of the largest file."""
    delays = list(delays)
    spent = collections.defaultdict(list)
    signal.signal(signal.SIGALRM, (lambda *_: strike()) if strike else signal.SIG_DFL)

    def watched(name, original):
        def call(*arguments):
            begun = time.monotonic()
            if name == phase and delays:
                signal.setitimer(signal.ITIMER_REAL, delays.pop(0))
            try:
                return original(*arguments)
            finally:
                if name == phase and not strike:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                spent[name].append(time.monotonic() - begun)
        return call
    for name, function in PHASES.items():
        setattr(training.Trainer, function, watched(name, getattr(training.Trainer, function)))
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    stopping.listen('the same command resumes')
    with stubs.eagerly():
        training.main(stubs.Experiment(folder, *WORDS))
    if times:
        times.write_text(repr({name: max(values) for name, values in spent.items()}))


def check(folder, said):
    """Raise `Broken` where a finished run is not whole."""
    if 'Traceback' in said or 'damaged' in said or 'finished: 8' not in said:
        raise Broken(f'it said: {said[-2000:]}')
    try:
        test_reliability.check_tables(folder)
    except AssertionError as error:
        raise Broken(f'tables: {str(error)[:500]}') from None
    left = [path.name for path in folder.rglob('*') if files.PARTIAL in path.name]
    if left:
        raise Broken(f'left behind: {left}')


def episodes(folder):
    return {path.name: path.read_bytes() for path in (folder / 'episodes').glob('*.npz')}


class Bench:
    """Folders, seeds and the seconds of the phases, which are those of a run in peace."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='torture-'))
        self.count = 0
        self.peace = self.new()
        times = self.root / 'times'
        status, said = forked(lambda: run(self.peace, times=times))
        if status:
            raise SystemExit(f'the run in peace failed: {said[-3000:]}')
        check(self.peace, said)
        self.seconds = eval(times.read_text())

    def new(self):
        self.count += 1
        return self.root / f'run{self.count}' / 'run'

    def delays(self, phase):
        return [self.random.uniform(0, 1.1 * self.seconds[phase]) for _ in range(50)]


def kills(bench, options):
    """Until each phase was hit `--kills` times; a run that ends is checked, and another begins."""
    hits, folder, ended, before = collections.Counter(), bench.new(), 0, {}
    bar = tqdm.tqdm(total=options.kills * len(PHASES), unit='kill', mininterval=15)
    while min(hits[phase] for phase in PHASES) < options.kills:
        phase = min(PHASES, key=lambda name: (hits[name] >= options.kills, bench.random.random()))
        delays = bench.delays(phase)
        delays = delays if phase == 'open' else [3600] * bench.random.randrange(3) + delays
        status, said = forked(functools.partial(run, folder, phase, delays))
        if os.WIFSIGNALED(status):
            hits[phase] += 1
            bar.update(hits[phase] <= options.kills)
        if (said.count('Traceback') or 'damaged' in said or (
                status and not os.WIFSIGNALED(status))):
            raise Broken(f'in {phase}: {status} {said[-2000:]}')
        now = episodes(folder)
        if any(now.get(name) != content for name, content in before.items()):
            raise Broken(f'an episode was lost or changed in {phase}')
        before = now
        if not status:
            check(folder, said)
            shutil.rmtree(folder.parent)
            folder, before, ended = bench.new(), {}, ended + 1
    return f'{sum(hits.values())} kills ({dict(hits)}), {ended} runs to their end'


def signals(bench, options):
    """The run that was stopped is that in peace, episode for episode."""
    wanted, count, slowest, ended = episodes(bench.peace), 0, 0.0, 0
    while count < options.kills:
        folder = bench.new()
        while True:
            number = bench.random.choice((signal.SIGINT, signal.SIGTERM))
            phase = bench.random.choice(list(PHASES))
            heard = bench.root / 'heard'
            heard.unlink(missing_ok=True)

            def strike(number=number, heard=heard):
                heard.write_text(repr(time.time()))
                os.kill(os.getpid(), number)
            status, said = forked(functools.partial(
                run, folder, phase, bench.delays(phase)[:1], strike))
            if not status:
                break
            if os.waitstatus_to_exitcode(status) != 128 + number or 'Traceback' in said or (
                    'resumes' not in said):
                raise Broken(f'{number} in {phase}: {status} {said[-2000:]}')
            slowest = max(slowest, time.time() - float(heard.read_text()))
            count += 1
        check(folder, said)
        if episodes(folder) != wanted:
            raise Broken('a run that was stopped collected other episodes')
        shutil.rmtree(folder.parent)
        ended += 1
    return f'{count} signals, {ended} runs equal to the one in peace; at most {slowest:.1f} s each'


def disk(bench, options):
    """A line, and what was there goes on when there is room. The disk is full from the start, from
    a random moment of a phase, or while a run that has ended is judged."""
    largest = max(path.stat().st_size for path in bench.peace.rglob('*') if path.is_file())
    places, count = collections.Counter(), 0

    def fill(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def judge(folder, limit=None):
        if limit:
            fill(limit)
        with stubs.eagerly():
            training.main(stubs.Experiment(folder, *WORDS, '--test', '--test_episodes', '1'))
    while count < 2 * options.kills:
        folder = bench.new()
        limit = int(np.exp(bench.random.uniform(np.log(20), np.log(largest))))
        phase = bench.random.choice([*PHASES, 'start', 'judge'])
        going_on = functools.partial(judge if phase == 'judge' else run, folder)
        if phase == 'judge' or count % 2:
            shutil.copytree(bench.peace, folder)
        if phase != 'judge':
            for path in folder.glob('state-*'):  # what is to be made again
                path.unlink()
        hindered = functools.partial(
            run, folder, phase, [3600] * bench.random.randrange(3) + bench.delays(phase)[:1],
            functools.partial(fill, limit)) if phase in PHASES else functools.partial(
                going_on, limit=limit)
        status, said = forked(hindered)
        count += 1
        lines = [line for line in said.splitlines() if line.startswith('error: ')]
        if status and (os.waitstatus_to_exitcode(status) != 2 or 'Traceback' in said
                       or len(lines) != 1):
            raise Broken(f'with {limit} bytes in {phase}: {status} {said[-2000:]}')
        if lines:
            where = lines[0].split(': ')[1].removeprefix(f'{folder}/')
            places[''.join(c for c in where if not c.isdigit())] += 1
        status, said = forked(going_on)
        if status:
            raise Broken(f'not resumed after {limit} bytes in {phase}: {said[-2000:]}')
        if phase == 'judge':
            evaluation.read(folder / 'results.csv')
        else:
            check(folder, said)
        shutil.rmtree(folder.parent)
    return f'{count} full disks, of which {sum(places.values())} were met, at {dict(places)}'


# --- Damaged files --------------------------------------------------------------------------


def damaged(content, chance):
    """The content as a disk, a kill or an editor may leave it."""
    size = max(1, len(content))
    place, count = chance.randrange(size), chance.randint(1, 64)
    other = chance.randbytes(count)
    return chance.choice([
        lambda: content[:place], lambda: content[place:],
        lambda: content[:place] + bytes([content[place] ^ chance.randint(1, 255)])
        + content[place + 1:],
        lambda: content[:place] + other + content[place + count:],
        lambda: content[:place] + other + content[place:],
        lambda: content[:place] + bytes(len(content) - place),
        lambda: content[:place] + content[place + count:],
        lambda: content + content[place:], lambda: b'', lambda: bytes(size),
        lambda: chance.randbytes(size)])()


def opened_tables(folder):
    """The tables of a copy of the run in peace, after they were opened as a run does it."""
    said = []
    logger = types.SimpleNamespace(
        folder=folder,
        episodes=csv_log.Table(folder / 'episodes.csv', lambda row: csv_log.valid_row(
            row, ('step', 'return', 'length')), said.append),
        metrics=csv_log.Table(folder / 'metrics.csv', lambda row: csv_log.valid_row(
            row, ('step', 'updates')), said.append))
    progress = types.SimpleNamespace(
        agent=types.SimpleNamespace(updates=7), evaluated=80, step=80, seconds=9.0)
    config = types.SimpleNamespace(prefill=40, envs=1)
    store = replay.Replay(folder / 'episodes', 2, 0, said.append)
    records.mend(logger, store, progress, ('touch',), config, said.append)
    table = logger.episodes.rows()
    numbers = [int(row['episode']) for row in table if row['mode'] != 'eval']
    if numbers != sorted(store.numbers):
        raise Broken(f'rows of episodes {numbers}')
    updates = [float(row['updates']) for row in logger.metrics.rows()]
    if updates != sorted(set(updates)):
        raise Broken(f'rows of updates {updates}')
    records.seconds(logger)


def opened_episodes(folder, whole):
    store = replay.Replay(folder / 'episodes', 2, 0, lambda text: None)
    batch = store.sample(64, 4, 0)['touch']
    for row in batch:
        if not any(row.tobytes() in part for part in whole):
            raise Broken('a batch has what no episode held')


def damage(bench, options):
    """Each file is read again after damage: refused in a line, set aside, or unharmed."""
    chance, results = bench.random, []
    source = bench.peace
    config_file, videos = source / 'config.json', bench.root / 'videos.pkl'
    with contextlib.redirect_stdout(io.StringIO()):
        natural.save(np.random.default_rng(0).integers(0, 256, (2, 2, 3, 64, 64), np.uint8), videos)
    judged = bench.root / 'results.csv'
    pd.DataFrame([{'step': 1, 'condition': 'ratio', 'sensor': '', 'ratio': 0.5, 'seed': 7,
                   'options': '', 'return': 1.5}] * 8).to_csv(judged, index=False)
    whole = [np.load(path)['touch'].tobytes() for path in (source / 'episodes').glob('*.npz')]
    before = config.Config(**vars(commandline.load(config_file)[0]))

    def in_copy(name, read):
        def attempt():
            folder = bench.new()
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns(
                'state-*', 'videos', 'tensorboard'))
            path = chance.choice(sorted(folder.glob(name)))
            path.write_bytes(damaged(path.read_bytes(), chance))
            try:
                read(folder)
            finally:
                shutil.rmtree(folder.parent)
        return attempt

    def alone(source, read):
        path = bench.root / 'damaged' / source.name
        path.parent.mkdir(exist_ok=True)

        def attempt():
            path.write_bytes(damaged(source.read_bytes(), chance))
            read(path)
        return attempt
    kinds = {
        'episode': in_copy('episodes/*.npz', lambda folder: opened_episodes(folder, whole)),
        'episodes.csv': in_copy('episodes.csv', opened_tables),
        'metrics.csv': in_copy('metrics.csv', opened_tables),
        'results.csv': alone(judged, evaluation.read),
        'config.json': alone(config_file, lambda path: commandline.check_resume(
            before, 'mummi', str(path))),
        'videos': alone(videos, lambda path: natural.load(str(path)))}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, attempt in kinds.items():
        outcomes = collections.Counter()
        for _ in tqdm.tqdm(range(options.files), kind, mininterval=15):
            try:
                attempt()
                outcomes['read'] += 1
            except config.UserError as error:
                outcomes['refused'] += 1
                if '\n' in str(error):
                    raise Broken(f'{kind}: more than a line: {error}') from None
            except Broken:
                raise
            except Exception as error:
                raise Broken(f'{kind}: {type(error).__name__}: {error}') from error
        results.append(f'{kind} {dict(outcomes)}')
    status, said = forked(lambda: checkpoints(bench, options))
    if status:
        raise Broken(said[-2000:])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1e3
    if grown > 1000:
        raise Broken(f'{grown:.0f} MB more than before')
    return f'{"; ".join(results)}; {said.strip().splitlines()[-1]}; {grown:.0f} MB of memory'


def checkpoints(bench, options):
    """A damaged newest state: it or the one before is restored, whole, or none where TensorFlow
    cannot tell; in a process of its own, which computes."""
    import test_tools
    folder, history = bench.root / 'states', {}
    folder.mkdir()
    part = test_tools.Part()
    for number in 1, 2:
        part.train()
        tools.Checkpoints(folder, part).save(number)
        history[f'state-{number:09d}'] = [value.tobytes() for value in part.values()]
    outcomes, chance = collections.Counter(), bench.random
    for _ in range(options.files):
        path = chance.choice(sorted(folder.glob('state-000000002.*')))
        content = path.read_bytes()
        path.write_bytes(damaged(content, chance))
        part = test_tools.Part()
        found = tools.Checkpoints(folder, part, report=lambda text: None).restore()
        if found is None or [v.tobytes() for v in part.values()] != history[found.name]:
            raise Broken(f'restored {found} with other values')
        outcomes[found.name] += 1
        path.write_bytes(content)
    print(f'checkpoints {dict(outcomes)}')


# --- Workers, and long runs -----------------------------------------------------------------


def workers(bench, options):
    """Real environments, of which one dies or hangs now and then."""
    settings = config.Config(
        natural=False, sensors='touch', time_limit=20, env_timeout=20.0, miss_ratio=0.0,
        stagger=False)
    description = processes.describe(settings)
    environments = processes.vector(settings, 'train', 2, description, 0)
    random_actions = np.random.default_rng(0)
    environments.reset(seed=[1, 2])
    struck = finished = 0
    try:
        while struck < options.kills:
            strike = bench.random.random() < 0.1
            if strike:
                victim, number = bench.random.randrange(2), bench.random.choice(
                    [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
                os.kill(environments.processes[victim].pid, number)
            _, _, terminated, truncated, info = environments.step(
                random_actions.uniform(-1, 1, (2, 6)).astype(np.float32))
            again = info.get('again', np.zeros(2))
            if strike and not again[victim]:
                raise Broken('a dead environment went on')
            struck += strike
            finished += int((terminated | truncated).sum())
            if strike:  # whole episodes between, or three deaths in a row stop it
                while not environments.ended[victim]:
                    environments.step(np.zeros((2, 6), np.float32))
    finally:
        environments.close()
    return f'{struck} workers died or hung, {finished} episodes finished between'


def resident():
    return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * 4096 / 1e6


def long(bench, options):
    """In a process of its own: resident memory by updates, and what else may grow."""
    status, said = forked(lambda: _long(bench.new(), options))
    if status:
        raise Broken(said[-2000:])
    return said.strip().splitlines()[-1]


def _long(folder, options):
    run = stubs.Experiment(
        folder, '--envs', '2', '--steps', str(options.actions * 2), '--train_every',
        str(max(2, options.actions * 4 // options.updates)), '--eval_every', '1000000000',
        '--replay_memory', '0.0001', '--batch', '2')
    run.acted = run.learned = types.SimpleNamespace(append=lambda value: None)
    seen = []
    with training.Trainer(run) as trainer:
        save = trainer.save

        def watched():
            save()
            if not seen or int(trainer.agent.updates) >= seen[-1][0] + options.updates / 50:
                held = sum(e.bytes for e in trainer.replay.episodes if e.memory is not None)
                seen.append((int(trainer.agent.updates), resident(),
                             len(os.listdir('/proc/self/fd')),
                             len(os.listdir('/proc/self/task')), held))
        trainer.save = watched
        trainer.train()
        total = sum(e.bytes for e in trainer.replay.episodes)
    table = np.array(seen)[len(seen) // 4:]
    for begin, end in zip(table[:-1:8], table[8::8]):
        print(f'updates {begin[0]:.0f} to {end[0]:.0f}: '
              f'{(end[1] - begin[1]) / (end[0] - begin[0]) * 1e3:.1f} kB an update')
    half = table[len(table) // 2:]
    slope = np.polyfit(half[:, 0], half[:, 1], 1)[0] * 1e3
    if np.ptp(table[:, 2]) > 3 or table[:, 4].max() > 1.1e5 or slope > options.slope:
        raise Broken(f'{table[-1]}, {slope:.1f} kB an update')
    print(f'{int(table[-1, 0])} updates, {trainer.step // 2} actions: {table[-1, 1]:.0f} MB, '
          f'{slope:.1f} kB an update in the last third, {table[-1, 2]:.0f} descriptors, '
          f'{table[-1, 4] / 1e3:.0f} kB of {total / 1e3:.0f} kB of episodes in memory')


# --- What the harness must find -------------------------------------------------------------


def without_checkpoint():
    """States are written in place, as TensorFlow does it, its index not last."""
    def save(self, number):
        path = self.folder / f'state-{number:09d}'
        self.checkpoint.write(str(path))
        content = pathlib.Path(f'{path}.index').read_bytes()
        with open(f'{path}.index', 'wb', buffering=0) as file:
            for byte in range(0, len(content), 16):
                file.write(content[byte:byte + 16])
        files.prune(self.folder, {p.name for p in self.paths()[-self.keep:]})
    tools.Checkpoints.save = save


def without_rows():
    records.mend = lambda *_: None


def without_saving():
    training.Trainer._train_or_save = lambda self: self._train()


def without_checksums():
    replay.Episode.check = lambda self: None


MENDINGS = {'checkpoint': without_checkpoint, 'rows': without_rows, 'saving': without_saving,
            'checksums': without_checksums}
PARTS = {part.__name__: part for part in (kills, signals, disk, damage, workers, long)}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--only', choices=PARTS, action='append')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kills', type=int, default=100, help='in each phase, and of each kind')
    parser.add_argument('--files', type=int, default=1000, help='damaged files of each kind')
    parser.add_argument('--actions', type=int, default=200_000)
    parser.add_argument('--updates', type=int, default=5000)
    parser.add_argument('--slope', type=float, default=2.0, help='kB an update that may grow')
    parser.add_argument('--without', choices=MENDINGS)
    options = parser.parse_args(words)
    bench, failed = Bench(options.seed), False
    if options.without:
        MENDINGS[options.without]()
    try:
        for name in options.only or PARTS:
            begun = time.monotonic()
            try:
                result = PARTS[name](bench, options)
            except Broken as error:
                failed, result = True, f'BROKEN: {error}'
            print(f'{name} ({time.monotonic() - begun:.0f} s): {result}', flush=True)
    finally:
        shutil.rmtree(bench.root)
    return failed


if __name__ == '__main__':
    sys.exit(main())
