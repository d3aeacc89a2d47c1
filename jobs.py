"""A run of a study as a job: what is typed for it, and how a worker sees it to its end.

A job is one script in a process of its own, which ends with its worker, and the same command again
when it was killed, as the scripts resume. A record beside the run's logs, `study.json`, says what
is done already and where it is under way. Nothing here imports TensorFlow or Ray.
"""

import dataclasses
import errno
import itertools
import json
import os
import socket
import subprocess
import sys
import time

import files
import processor

RECORD, LOG = 'study.json', 'study.log'
# In the folder of a study: locked while it is under way, it holds the study's token, by which a
# worker knows that its folder is the study's and not another of the same name.
TOKEN = 'study.lock'
# Seconds to wait for the process of an attempt that is dying elsewhere.
PATIENCE = 120

# Begins a script so that it is killed with the worker that began it: on Linux, by signal 9.
LAUNCHER = '''
import ctypes, os, sys
worker, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(worker):
    os.execv(sys.executable, [sys.executable, *command])
'''


# What the scripts say, beside their exit code 2, of what is wrong with a machine and may pass: it
# is no mistake in what was typed.
PASSING = ('the memory is full', 'was killed from outside', *map(os.strerror, (
    errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EIO,
    errno.ESTALE)))


class Failed(Exception):
    """An attempt that ended as no user's mistake does: the job is tried again."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A run of a study.

    name: <task>/<method>/<seed>. study: the folder of all runs, absolute. token: of the study.
    script: the method's, absolute. words: its command line. judging: the words of --test after it,
    or (). place: the folder in which the commands are typed. steps: in all. cores, gpus: what it
    is given.
    """

    name: str
    study: str
    token: str
    script: str
    words: tuple
    judging: tuple
    place: str
    steps: int
    cores: int
    gpus: float

    @property
    def folder(self):
        return os.path.join(self.study, self.name)

    @property
    def commands(self):
        """The command lines of the job, in order."""
        return [list(self.words)] + [list(self.judging)] * bool(self.judging)

    def record(self):
        """What `study.json` says: `done`, the command lines that have come to their end; `token`,
        `node` and `attempts` of the last study that worked on it."""
        try:
            with open(os.path.join(self.folder, RECORD), encoding='utf-8') as file:
                record = json.load(file)
            known = isinstance(record, dict) and isinstance(record.get('done', []), list)
            return record if known else {}
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}

    def write(self, **changes):
        os.makedirs(self.folder, exist_ok=True)
        text = json.dumps(self.record() | changes, indent=1)
        with files.writing(os.path.join(self.folder, RECORD)) as file:
            file.write(f'{text}\n'.encode())

    def missing(self):
        """The command lines that have not come to their end, and all after the first of them."""
        done = self.record().get('done', [])
        return list(itertools.dropwhile(lambda command: command in done, self.commands))

    def finish(self, command):
        """Write down that a command line has come to its end. After training nothing else counts
        as done: what was judged, however, was an earlier state."""
        trained = command == self.commands[0]
        self.write(done=[*([] if trained else self.record().get('done', [])), command])


def sees(study, token, script):
    """'' where this node sees the study's folder and the scripts, or else what it lacks."""
    try:
        with open(os.path.join(study, TOKEN), encoding='utf-8') as file:
            same = file.read().strip() == token
    except OSError:
        same = False
    if not same:
        return f'does not see {study}'
    return '' if os.path.isfile(script) else f'has no {script}'


def work(job):
    """Do what is missing of a job. Returns '', or the line of a user's mistake, by which the job
    ends. Raises `Failed` for every other end of a script, and for what this node fails at."""
    if lacks := sees(job.study, job.token, job.script):
        raise Failed(f'{socket.gethostname()} {lacks}')
    try:
        return _work(job)
    except OSError as error:  # of this node, or of what it sees of the folder
        raise Failed(f'{socket.gethostname()}: {error.filename or "the system"}: '
                     f'{error.strerror or error}') from None


def _work(job):
    record = job.record()
    attempts = record.get('attempts', 0) + 1 if record.get('token') == job.token else 1
    job.write(token=job.token, node=socket.gethostname(), attempts=attempts)
    for command in job.missing():
        wait_for_lock(job.folder)
        code, line = execute(job, command)
        if code == 2 and not any(words in line for words in PASSING):
            return line
        if code:
            ended = f'was killed by signal {-code}' if code < 0 else f'ended with code {code}'
            raise Failed(f'{os.path.basename(job.script)} {ended}: {line}')
        job.finish(command)
    return ''


def wait_for_lock(folder, patience=PATIENCE):
    """Return when no process trains in `folder`; `Failed` after `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            with open(os.path.join(folder, 'lock'), 'a') as file:
                files.lock(file)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise Failed(f'another process is training in {folder}') from None
            time.sleep(1)


def execute(job, command):
    """(exit code, last line said) of a script with a command line; negative where a signal ended
    it. All that it says is added to `study.log`."""
    words = [job.script, *command]
    # No more threads than it has cores: Ray counts cores and binds nobody to them.
    environment = os.environ | processor.threads(job.cores) | {'OMP_NUM_THREADS': str(job.cores)}
    if not job.gpus:
        environment['CUDA_VISIBLE_DEVICES'] = ''
    with open(os.path.join(job.folder, LOG), 'ab') as log:
        head = f'{time.strftime("%F %T")} {socket.gethostname()}: {" ".join(words)}'
        log.write(f'\n{head}\n'.encode())
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            [sys.executable, '-c', LAUNCHER, str(os.getpid()), *words], cwd=job.place,
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        code = process.wait()
    with open(os.path.join(job.folder, LOG), 'rb') as log:
        log.seek(begin)
        said = log.read().decode(errors='replace').replace('\r', '\n').split('\n')
    said = [line.strip() for line in said if line.strip()]
    errors = [line for line in said if line.startswith('error: ')]
    return code, (errors or said or ['it said nothing'])[-1].removeprefix('error: ')
