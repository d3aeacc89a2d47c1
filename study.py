"""A study: every method on every task with every seed, on this machine or on a cluster, by Ray.

    python study.py --methods mummi,cvrl,dreamer --tasks dmc_walker_walk,dmc_cheetah_run \\
        --seeds 0-4 --logdir logdir/study --preset cpu

The options of the scripts follow; each of them goes to the scripts that know it. The same command
again does what is missing. docs/cluster.md: clusters.
"""

import argparse
import dataclasses
import os
import secrets
import subprocess
import sys

import commandline
import config
import files
import jobs
import logs
import processor
import variants
from config import UserError
from overview import Display
from screen import Stream

HERE = os.path.dirname(os.path.abspath(__file__))
METHODS = logs.METHODS
INSTEAD = {  # options that are not for a study, and what is
    'task': 'type --tasks', 'seed': 'type --seeds', 'inspect': 'type it for one run',
    'checkpoint': 'type it for one run', 'export': 'type it for one run'}
LOOK = 5  # seconds between two looks at the runs


# --- What is asked for -----------------------------------------------------------------------


def arguments(words):
    """(the study's own options, the words for the scripts) of a command line."""
    parser = commandline._Parser(
        prog='study.py', allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__, usage='%(prog)s --logdir FOLDER [--option value ...]')
    add = parser.add_argument
    add('--logdir', default='', help='folder of the study: <task>/<method>/<seed> in it are runs')
    add('--methods', default=','.join(METHODS), help='[%(default)s]')
    add('--tasks', default='dmc_walker_walk', help='as dmc_walker_walk,dmc_cheetah_run')
    add('--seeds', default='0', help='as 0-4 or 0,2,7')
    add('--address', default='', help='of a Ray cluster, or auto; default: Ray is started here')
    add('--cores', default='1', help='cores of a run [1]')
    add('--gpus', default='0', help='GPUs of a run, as 0.5 where two share one [0]')
    add('--retries', default='10', help='how often a run that was killed or crashed is tried again')
    add('--test', action='store_true', help='judge each run when it is trained')
    add('--test_ratios', default='', help='of --test')
    add('--test_episodes', default='', help='of --test')
    add('--dry_run', action='store_true', help='print the runs and what is missing, and stop')
    own, rest = parser.parse_known_args(words)
    for name in own.methods.split(','):
        if not variants.method_of(name):
            raise UserError(
                f'--methods takes some of {",".join(METHODS)}, or scripts of your own beside them, '
                f'not {name!r}')
    own.methods = list(dict.fromkeys(own.methods.split(',')))
    own.tasks = list(dict.fromkeys(own.tasks.split(',')))
    own.seeds = seeds(own.seeds)
    own.cores = number('cores', own.cores, int, 1)
    own.gpus = number('gpus', own.gpus, float, 0)
    if own.gpus > 1 and own.gpus % 1:
        raise UserError(f'--gpus takes a part of one, or whole ones, not {own.gpus}')
    own.retries = number('retries', own.retries, int, 0)
    if not own.logdir:
        raise UserError('no folder for the study; type for example --logdir logdir/study')
    own.logdir = os.path.abspath(os.path.expanduser(own.logdir))
    own.judging = [word for name in ('test_ratios', 'test_episodes') if getattr(own, name)
                   for word in (f'--{name}', getattr(own, name))]
    if own.judging and not own.test:
        raise UserError(f'{own.judging[0]} is for --test; type both')
    if own.test and 'corrupt' in map(option_of, rest):
        raise UserError(
            '--corrupt is what the runs would be trained with, and --test would judge without it; '
            'leave --test out, and type --test with --corrupt for a run when it is trained')
    for word in rest:
        name = word.split('=')[0].removeprefix('--')
        if word.startswith('--') and name in INSTEAD:
            raise UserError(f'--{name} is not for a study; {INSTEAD[name]}')
    return own, rest


def number(name, text, kind, low):
    try:
        value = kind(text)
        if not low <= value <= config.LARGEST:
            raise ValueError
        return value
    except ValueError:
        wanted = 'a whole number' if kind is int else 'a number'
        raise UserError(f'--{name} takes {wanted} from {low}, not {text!r}') from None


def seeds(text):
    """The numbers of `0-4` or `0,2,7-9`, each once."""
    found = []
    for part in text.split(','):
        first, dash, last = part.partition('-')
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and max(len(first), len(last)) <= 10
                and int(first) <= int(last) < 2 ** 32
                and int(last) - int(first) < 10 ** 4):
            raise UserError(f'--seeds takes numbers as 0-4 or 0,2,7, not {text!r}')
        found += range(int(first), int(last) + 1)
    return list(dict.fromkeys(found))


def option_of(word):
    """The option that a word of a command line is of, as refine_rate; '' where it is a value."""
    return word.split('=')[0][2:].removeprefix('no-') if word.startswith('--') else ''


def without(words, options):
    """The words without those options and their values."""
    kept, skipping = [], False
    for word in words:
        name = option_of(word)
        if name:
            skipping = name in options
        if not skipping:
            kept.append(word)
        if not name or '=' in word or word.startswith('--no-'):
            skipping = False
    return kept


def suited(words, method, used, why):
    """(words, Config) of a run of `method`: without the options that other methods own, and those
    that do nothing in this one, for the reason that is put into `why`. What is left is added to the
    set `used`."""
    words = without(words, {
        name for name, field in config.FIELDS.items()
        if field.metadata['own'] and name not in method.own})
    try:
        settings = commandline.parse(method, words)
    except commandline.Unused as unused:
        why.update(dict.fromkeys(unused.names, str(unused)))
        words = without(words, unused.names)
        settings = commandline.parse(method, words)
    used.update(map(option_of, words))
    return words, settings


def planned(own, rest, token):
    """The `jobs.Job`s of a study, seeds outermost, so that all comparisons grow together. Raises
    UserError for whatever the scripts would refuse."""
    found, known = [], {name: variants.method_of(name) for name in own.methods}
    used, why = {''}, {}
    for seed in own.seeds:
        for task in own.tasks:
            for name, method in known.items():
                run = f'{task}/{name}/{seed}'
                folder = os.path.join(own.logdir, run)
                words = ['--logdir', folder, '--task', task, '--seed', str(seed), *rest]
                try:
                    words, settings = suited(words, method, used, why)
                    saved = os.path.join(folder, 'config.json')
                    if os.path.exists(saved):
                        before = commandline.check_resume(settings, name, saved)
                        if changed := commandline.changes(before, settings):
                            raise UserError('the run that is there has other settings than '
                                            f'{changed}; choose another --logdir')
                    if own.test:
                        judged(settings, own)
                except UserError as error:
                    raise UserError(f'{run}: {error}') from None
                found.append(jobs.Job(
                    run, own.logdir, token, os.path.join(HERE, f'{name}.py'), tuple(words),
                    ('--logdir', folder, '--test', *own.judging) if own.test else (),
                    os.getcwd(), settings.steps, own.cores, own.gpus))
    if idle := [name for name in map(option_of, rest) if name not in used]:
        raise UserError(why.get(
            idle[0], f'--{idle[0]} is an option of none of --methods {",".join(own.methods)}'))
    return found


def judged(settings, own):
    """Raise UserError for what --test would refuse, before anything is trained for it."""
    if own.test_ratios:
        config.test_ratios(dataclasses.replace(settings, test_ratios=own.test_ratios))
    if own.test_episodes:
        commandline.value('test_episodes', own.test_episodes)


# --- Ray -------------------------------------------------------------------------------------


def connected(address):
    """Ray, started on this machine or joined at `address`."""
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        import ray
    except ImportError:
        raise UserError(
            'Ray is not installed; type '
            'python -m pip install -r requirements-cluster.txt') from None
    words = dict(address=address) if address else dict(address='local', include_dashboard=False)
    try:
        ray.init(log_to_driver=False, logging_level='ERROR', **words)
    except Exception as error:  # Ray's own have no type in common
        ray.shutdown()
        reason = str(error).split('\n')[0]
        what = f'no Ray cluster at --address {address}' if address else (
            'Ray did not start; it gives itself 30 seconds, too few on a busy machine: try again')
        raise UserError(f'{what} ({reason})') from None
    return ray


def check_nodes(ray, job):
    """Raise UserError where no node can hold a job, or one does not see its files."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    nodes = [node for node in ray.nodes() if node['Alive'] and node['Resources'].get('CPU')]
    if not any(node['Resources']['CPU'] >= job.cores and
               node['Resources'].get('GPU', 0) >= job.gpus for node in nodes):
        raise UserError(
            f'no node has --cores {job.cores} and --gpus {job.gpus:g}; the largest of each are '
            f'{max((n["Resources"]["CPU"] for n in nodes), default=0):g} and '
            f'{max((n["Resources"].get("GPU", 0) for n in nodes), default=0):g}')
    look = ray.remote(jobs.sees)
    answers = {
        node['NodeManagerAddress']: look.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(
                node['NodeID'], soft=False)).remote(job.study, job.token, job.script)
        for node in nodes}
    for address, answer in answers.items():
        try:
            lacks = ray.get(answer, timeout=300)
        except ray.exceptions.RayError as error:  # as where it cannot import jobs.py
            reason = str(error).strip() or type(error).__name__
            lacks = f'does not answer ({reason.splitlines()[-1]})'
        if lacks:
            raise UserError(
                f'the node {address} {lacks}; all nodes must share the folder of the study and '
                'that of the scripts, see docs/cluster.md')


def done(ray, todo, retries, look):
    """See all jobs to their end: name -> '', or why it did not come to it. look: called with what
    is known so far, every few seconds."""
    work = ray.remote(jobs.work)
    waiting = {
        work.options(num_cpus=job.cores, num_gpus=job.gpus, max_retries=retries,
                     retry_exceptions=[jobs.Failed]).remote(job): job for job in todo}
    ended = {}
    while waiting:
        ready, _ = ray.wait(list(waiting), timeout=LOOK)
        for reference in ready:
            job = waiting.pop(reference)
            try:
                ended[job.name] = ray.get(reference)
            except Exception as error:  # of the job, or of the cluster that could not do it
                cause = getattr(error, 'cause', None)
                text = str(cause if isinstance(cause, jobs.Failed) else error).split('\n')
                ended[job.name] = f'{text[0]} ({retries} retries)'
        look(ended)
    return ended


# --- All of it -------------------------------------------------------------------------------


def run(words):
    """Do a study. Returns whether all of its runs came to their end."""
    own, rest = arguments(words)
    token = secrets.token_hex(8)
    todo = planned(own, rest, token)
    if own.dry_run:
        for job in todo:
            print(f'{job.name:<39} {"missing" if job.missing() else "done"}')
        return True
    os.makedirs(own.logdir, exist_ok=True)
    with open(os.path.join(own.logdir, jobs.TOKEN), 'a+', encoding='utf-8') as lock:
        try:
            files.lock(lock)
        except BlockingIOError:
            raise UserError(f'another study is under way in {own.logdir}; stop it, or choose '
                            'another --logdir') from None
        lock.truncate(0)
        print(token, file=lock, flush=True)
        missing = [job for job in todo if job.missing()]
        ended = {}
        if missing:
            ray = connected(own.address)
            try:
                check_nodes(ray, missing[0])
                with Display(todo) as display:
                    ended = done(ray, missing, own.retries, display)
            finally:
                ray.shutdown()
    said = Stream(sys.stdout), Stream(sys.stderr)  # the figures are drawn also if nobody reads
    for name, why in ended.items():
        if why:
            print(f'{name}: {why}', file=said[1])
    failed = sum(map(bool, ended.values()))
    print(f'{len(todo) - failed} of {len(todo)} runs are done in {own.logdir}', file=said[0])
    if failed < len(todo):
        subprocess.run([sys.executable, os.path.join(HERE, 'plotting.py'), '--indir', own.logdir,
                        '--outdir', os.path.join(own.logdir, 'figures')], check=False)
    return not failed


def main():
    processor.prepare()
    with commandline.answering('the folder of the study', '; the same command goes on'):
        raise SystemExit(0 if run(sys.argv[1:]) else 1)


if __name__ == '__main__':
    main()
