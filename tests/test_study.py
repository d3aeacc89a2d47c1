"""Studies: what is planned, how a worker does a job, and a real cluster that loses its parts."""

import contextlib
import dataclasses
import errno
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import helpers
import pytest
from rich.console import Console

import commandline
import config
import jobs
import overview
import processor
import study
import variants
from config import UserError

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'study_script.py')
TOKEN = 'token'


def plan(*words):
    own, rest = study.arguments(['--logdir', 'unused', *words])
    return study.planned(own, ['--no-natural', *rest], TOKEN)


def job(folder, name='task/method/0', steps=3, judging=False, **changes):
    place = os.path.join(str(folder), name)
    (folder / jobs.TOKEN).write_text(TOKEN)
    return dataclasses.replace(jobs.Job(
        name, str(folder), TOKEN, SCRIPT, ('--logdir', place, '--steps', str(steps)),
        ('--logdir', place, '--test') if judging else (), str(folder), steps, 1, 0), **changes)


def steps(run):
    lines = (pathlib.Path(run.folder) / 'episodes.csv').read_text().splitlines()
    return [int(line.split(',')[0]) for line in lines[1:]]


# --- What is planned -------------------------------------------------------------------------


def test_a_study_is_every_method_on_every_task_with_every_seed_in_a_folder_of_its_own():
    found = plan('--methods', 'mummi,cvrl', '--tasks', 'dmc_walker_walk,dmc_cheetah_run', '--seeds',
                 '0-1,7', '--steps', '9000', '--test', '--test_ratios', '0,0.5', '--gpus', '0.5')
    assert len({run.folder for run in found}) == len(found) == 12
    assert [run.name for run in found[:3]] == [
        'dmc_walker_walk/mummi/0', 'dmc_walker_walk/cvrl/0', 'dmc_cheetah_run/mummi/0']
    last = found[-1]
    assert last.name == 'dmc_cheetah_run/cvrl/7' and last.steps == 9000 and last.gpus == 0.5
    assert os.path.isfile(last.script) and last.script.endswith('cvrl.py')
    folder = os.path.join(os.getcwd(), 'unused', 'dmc_cheetah_run', 'cvrl', '7')
    assert last.commands == [
        ['--logdir', folder, '--task', 'dmc_cheetah_run', '--seed', '7', '--no-natural',
         '--steps', '9000'],
        ['--logdir', folder, '--test', '--test_ratios', '0,0.5']]


def test_an_option_goes_to_the_methods_that_have_it():
    words = ('--density_ratio', 'bilinear', '--probe_frames=3', '--pcont')
    mummi, cvrl, dreamer = plan(*words)
    common = list(mummi.words[6:-len(words)])
    assert list(mummi.words[6:]) == [*common, *words]
    assert list(cvrl.words[6:]) == [*common, '--probe_frames=3', '--pcont']
    assert list(dreamer.words[6:]) == [*common, '--pcont']
    mummi, cvrl, dreamer = plan('--no-prior_expert', '--refine_steps', '3', '--pcont')
    assert [list(run.words[6:]) for run in (mummi, cvrl, dreamer)] == [
        [*common, '--no-prior_expert', '--refine_steps', '3', '--pcont'],
        [*common, '--refine_steps', '3', '--pcont'], [*common, '--pcont']]
    assert plan('--test', '--test_episodes', '1e1')[0].judging[-1] == '1e1'


@pytest.mark.parametrize('method', helpers.METHODS)
def test_what_a_script_knows_is_read_without_running_it(method):
    assert variants.method_of(method) == helpers.METHODS[method][1]


def test_a_script_of_one_s_own_is_studied_beside_the_three(tmp_path, monkeypatch):
    """With the options that its `Method` owns."""
    for name in 'mummi', 'cosine':
        (tmp_path / f'{name}.py').write_text(
            'import no_such_module\nTEMPERATURE = 0.1\n'
            f"METHOD = Method('{name}', own=('probe_frames',))\n")
    for module in study, variants:
        monkeypatch.setattr(module, 'HERE', str(tmp_path))
    _, cosine = plan('--methods', 'mummi,cosine', '--probe_frames', '3')
    assert cosine.name == 'dmc_walker_walk/cosine/0' and cosine.words[-2:] == (
        '--probe_frames', '3')
    assert cosine.script == str(tmp_path / 'cosine.py')


def test_a_method_that_is_written_otherwise_is_read_or_named(tmp_path, monkeypatch):
    monkeypatch.setattr(variants, 'HERE', str(tmp_path))
    path = tmp_path / 'cosine.py'
    path.write_text("import config\nMETHOD = config.Method('cosine', own=('fusion',))\n")
    assert variants.method_of('cosine') == config.Method('cosine', own=('fusion',))
    path.write_text("METHOD: object = Method('cosine')\n")
    assert variants.method_of('cosine') == config.Method('cosine')
    for text in ("Method(NAME)", "Method('cosine', own=('no_such',))", "Method()", "'cosine'",
                 "{}['a']", "Method('cosine'"):
        path.write_text(f'METHOD = {text}\n')
        with pytest.raises(UserError, match=r'cosine\.py: METHOD is not what can be read'):
            variants.method_of('cosine')


@pytest.mark.parametrize('words, line', [
    (('--methods', 'mummi,ppo'), "--methods takes some of mummi,cvrl,dreamer, or scripts of your "
                                 "own beside them, not 'ppo'"),
    (('--methods', 'models'), "not 'models'"),
    (('--seeds', '4-1'), "--seeds takes numbers as 0-4 or 0,2,7, not '4-1'"),
    (('--seeds', ''), '--seeds takes numbers'), (('--seeds', 5000 * '9'), '--seeds takes numbers'),
    (('--cores', '0'), "--cores takes a whole number from 1, not '0'"),
    (('--gpus', '1.5'), '--gpus takes a part of one, or whole ones, not 1.5'),
    (('--task', 'dmc_walker_walk'), '--task is not for a study; type --tasks'),
    (('--seed=3',), '--seed is not for a study; type --seeds'),
    (('--test_ratios', '0'), '--test_ratios is for --test; type both'),
    (('--test', '--corrupt', 'image=noise:0.1'), '--corrupt is what the runs would be trained'),
    (('--corrupt=image=noise:0.1', '--test'), 'leave --test out, and type --test with --corrupt'),
    (('--test', '--test_ratios', '2'), 'dmc_walker_walk/mummi/0: --test_ratios takes numbers'),
    (('--tasks', 'walker'), "walker/mummi/0: --task 'walker' is not"),
    (('--btach', '3'), 'unknown option --btach for mummi.py; did you mean --batch?'),
    (('--methods', 'cvrl', '--expert_width', '3'),
     '--expert_width is an option of none of --methods cvrl'),
    (('--methods', 'dreamer', '--refine_steps', '3'),
     '--refine_steps does nothing without --refine_actions'),
    (('--export', 'x'), '--export is not for a study; type it for one run'),
    (('--test', '--test_episodes', '2000000'), '--test_episodes takes a whole number from 1 to')])
def test_a_mistake_is_a_line_before_anything_begins(words, line):
    with pytest.raises(UserError) as error:
        plan(*words)
    assert line in str(error.value)


def test_a_run_that_is_there_is_not_done_by_other_settings(tmp_path):
    words = ['--logdir', str(tmp_path), '--methods', 'dreamer', '--seeds', '0', '--no-natural']
    folder = tmp_path / 'dmc_walker_walk/dreamer/0'
    folder.mkdir(parents=True)
    own, rest = study.arguments([*words, '--reward_weight', '5'])
    (planned,) = study.planned(own, rest, '')
    settings = commandline.parse(variants.method_of('dreamer'), list(planned.words))
    commandline.save(settings, 'dreamer', str(folder / 'config.json'))
    # Longer, or computed otherwise, it is the same.
    for same in [], ['--steps', '3000000'], ['--envs', '2']:
        study.planned(*study.arguments([*words, '--reward_weight', '5', *same]), '')
    with pytest.raises(UserError, match=r'0: the run .* reward_weight 1.0 \(5.0 before\); choose'):
        study.planned(*study.arguments(words), '')


def test_a_study_has_a_folder():
    with pytest.raises(UserError, match='no folder for the study'):
        study.arguments(['--seeds', '0'])


@pytest.mark.parametrize('said, told', [
    ('Traceback\nModuleNotFoundError: No module named jobs', 'No module named jobs'),
    ('', 'RayError')])
def test_a_node_that_cannot_run_this_code_is_named(said, told, monkeypatch):
    class RayError(Exception):
        pass

    def get(*_, **__):
        raise RayError(said)
    monkeypatch.setitem(sys.modules, 'ray.util.scheduling_strategies', types.SimpleNamespace(
        NodeAffinitySchedulingStrategy=lambda *_, **__: None))
    look = types.SimpleNamespace(options=lambda **_: types.SimpleNamespace(remote=lambda *_: None))
    ray = types.SimpleNamespace(
        exceptions=types.SimpleNamespace(RayError=RayError), get=get, remote=lambda _: look,
        nodes=lambda: [{'Alive': True, 'Resources': {'CPU': 4}, 'NodeID': '1',
                        'NodeManagerAddress': '10.0.0.9'}])
    job = types.SimpleNamespace(cores=1, gpus=0, study='', token='', script='')
    with pytest.raises(UserError, match=f'node 10.0.0.9 does not answer .*{told}.*'
                       'all nodes must share'):
        study.check_nodes(ray, job)


def test_without_ray_the_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(UserError, match=r'pip install -r requirements-cluster.txt'):
        study.run(['--logdir', str(tmp_path), '--no-natural'])


# --- What a worker does ----------------------------------------------------------------------


def test_a_job_is_done_once_and_what_is_added_to_it_later(tmp_path):
    run = job(tmp_path)
    assert run.missing() == run.commands
    assert jobs.work(run) == '' and steps(run) == [1, 2, 3] and not run.missing()
    longer = dataclasses.replace(job(tmp_path, judging=True), token='other')
    (tmp_path / jobs.TOKEN).write_text('other')
    assert longer.missing() == [list(longer.judging)]
    assert jobs.work(longer) == '' and steps(run) == [1, 2, 3] and not longer.missing()
    assert (pathlib.Path(run.folder) / 'results.csv').read_text() == 'judged\n'
    assert longer.record()['attempts'] == 1  # of each study
    more = dataclasses.replace(longer, words=(*run.words[:-1], '5'))
    # What was judged is not what is there after more training, also if a kill comes between.
    assert more.missing() == more.commands
    more.finish(more.commands[0])
    assert more.missing() == [list(more.judging)]
    results = pathlib.Path(run.folder) / 'results.csv'
    results.unlink()
    more.write(done=longer.commands)
    # Nor where it was trained on by a study that did not judge, or judged otherwise.
    for judging in (), (*more.judging, '--test_episodes', '2'):
        between = dataclasses.replace(more, judging=judging)
        for command in between.missing():
            between.finish(command)
        assert more.missing() == [list(more.judging)]
        more.write(done=longer.commands)
    assert jobs.work(more) == '' and steps(run) == [1, 2, 3, 4, 5] and not more.missing()
    assert results.read_text() == 'judged\n'


def test_a_mistake_ends_a_job_and_a_crash_is_tried_again(tmp_path):
    assert jobs.work(job(tmp_path, steps=13)) == 'a mistake'
    crashing = job(tmp_path, name='task/other/0', steps=17)
    for attempt in 1, 2:
        with pytest.raises(jobs.Failed, match='ended with code 1: ValueError: a crash'):
            jobs.work(crashing)
        assert crashing.record()['attempts'] == attempt and crashing.missing()
    assert {'No space left on device', 'Too many open files'} < set(jobs.PASSING)
    # What may pass is no mistake, though a script ends by code 2 for it too.
    full = job(tmp_path, name='task/full/0', steps=19)
    with pytest.raises(jobs.Failed, match='ended with code 2: the memory is full; .* resumes'):
        jobs.work(full)
    log = (pathlib.Path(crashing.folder) / jobs.LOG).read_text()
    assert log.count('ValueError: a crash') == 2 and log.count('--steps 17') == 2


@pytest.mark.parametrize('gpus, hidden, cores', [(0, True, 5), (0.5, False, 2)])
def test_a_script_gets_its_cores_and_a_gpu_only_where_it_asked_for_one(
        gpus, hidden, cores, tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3')  # which Ray sets for the worker
    run, started = job(tmp_path, cores=cores, gpus=gpus), []

    def popen(command, **options):
        started.append(options)
        return types.SimpleNamespace(wait=lambda: 0)
    monkeypatch.setattr(jobs.subprocess, 'Popen', popen)
    os.makedirs(run.folder)
    assert jobs.execute(run, run.words)[0] == 0
    environment = started[0]['env']
    for name, value in processor.threads(cores).items():
        assert environment[name] == value
    assert environment['OMP_NUM_THREADS'] == str(cores)
    assert environment['CUDA_VISIBLE_DEVICES'] == ('' if hidden else '3')
    assert started[0]['cwd'] == run.place


def test_a_study_does_what_is_missing_and_tells_what_failed(tmp_path, monkeypatch, capsys):
    """And no second one in its folder meanwhile."""
    todo = [job(tmp_path, name=f'task/method/{seed}') for seed in range(3)]
    jobs.work(todo[0])
    given, drawn = [], []
    monkeypatch.setattr(study, 'planned', lambda *_: todo)
    monkeypatch.setattr(study, 'connected', lambda address: types.SimpleNamespace(
        shutdown=lambda: None))
    monkeypatch.setattr(study, 'check_nodes', lambda ray, job: None)
    monkeypatch.setattr(study.subprocess, 'run', lambda words, **_: drawn.append(words[2:4]))
    failing = {todo[2].name: 'a mistake'}

    def done(ray, jobs, retries, look):
        given.append([job.name for job in jobs])
        with pytest.raises(UserError, match='another study is under way'):
            study.run(words)
        return {job.name: failing.get(job.name, '') for job in jobs}
    monkeypatch.setattr(study, 'done', done)
    words = ['--logdir', str(tmp_path), '--no-natural']
    assert study.run(words) is False
    assert given == [[todo[1].name, todo[2].name]]
    said = capsys.readouterr()
    assert f'{todo[2].name}: a mistake' in said.err and todo[1].name not in said.err
    assert f'2 of 3 runs are done in {tmp_path}' in said.out
    assert drawn == [['--indir', str(tmp_path)]]
    failing.clear()
    assert study.run(words) is True


def test_a_folder_that_is_not_shared_is_seen(tmp_path):
    run = job(tmp_path)
    assert jobs.sees(run.study, TOKEN, SCRIPT) == ''
    assert jobs.sees(run.study, 'other', SCRIPT) == f'does not see {tmp_path}'
    assert jobs.sees(str(tmp_path / 'gone'), TOKEN, SCRIPT).startswith('does not see')
    assert jobs.sees(run.study, TOKEN, SCRIPT + 'x') == f'has no {SCRIPT}x'
    with pytest.raises(jobs.Failed, match='does not see'):
        jobs.work(dataclasses.replace(run, token='other'))


def test_a_process_that_is_still_dying_is_waited_for(tmp_path):
    run = job(tmp_path, steps=10 ** 6)
    process = subprocess.Popen([sys.executable, SCRIPT, *run.words])
    try:
        until(lambda: os.path.exists(os.path.join(run.folder, 'episodes.csv')))
        with pytest.raises(jobs.Failed, match='another process is training'):
            jobs.wait_for_lock(run.folder, 0)
        threading.Timer(1, process.kill).start()
        jobs.wait_for_lock(run.folder)
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()


def test_a_script_dies_with_its_worker(tmp_path):
    run = job(tmp_path, steps=10 ** 6)
    code = ('import sys; sys.path.insert(0, sys.argv[1]); import jobs; '
            f'jobs.work(jobs.{run!r})')
    worker = subprocess.Popen([sys.executable, '-c', code, os.path.dirname(jobs.__file__)])
    try:
        until(lambda: os.path.exists(os.path.join(run.folder, 'episodes.csv')))
    finally:
        worker.kill()
    jobs.wait_for_lock(run.folder, 10)


def until(test, seconds=200):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- What is seen ----------------------------------------------------------------------------


def lines(todo, ended, height):
    stream = io.StringIO()
    Console(file=stream, width=120).print(overview.table(todo, ended, height))
    return stream.getvalue().splitlines()


def test_the_table_shows_where_a_run_is_and_what_it_has_reached(tmp_path):
    runs = [job(tmp_path, name=f'task/{name}/0', steps=40) for name in ('a', 'b', 'c', 'd')]
    folder = pathlib.Path(runs[1].folder)
    runs[1].write(token=TOKEN, node='tower', attempts=3)
    (folder / 'episodes.csv').write_text('step,seconds,mode,return\n' + ''.join(
        f'{step},{2 * step},train,{step}\n' for step in range(1, 21)) + '20,40,eval,900\n')
    runs[2].write(done=[list(runs[2].words)])
    found = lines(runs, {'task/d/0': 'a mistake'}, 99)
    assert found[1].split() == [
        'task/b/0', 'running', 'tower', '(attempt', '3)', '20', '15.5', '0.5', '0:00', 'h']
    assert [line.split()[:2] for line in found[2:-1]] == [
        ['task/d/0', 'ended'], ['task/a/0', 'waiting'], ['task/c/0', 'done']]
    assert found[-1].strip() == '1 running, 1 ended, 1 waiting, 1 done'
    assert len(lines(runs, {}, 4)) == 4
    # Many environments that end at one step, of which some were cut.
    (folder / 'episodes.csv').write_text('step,seconds,mode,return\n' + ''.join(
        f'{step},{2 * step},{mode},{value}\n' for step, mode, value in [
            (10, 'train', 30), *[(20, 'cut', 1)] * 12, (20, 'mixed', 1), (20, 'train', 10)]))
    assert overview.progress(runs[1]) == (20, 20.0, 0.5)
    # A study that is typed again with fewer steps: nothing is left.
    assert lines([dataclasses.replace(runs[1], steps=3)], {}, 99)[1].split()[-2:] == ['0:00', 'h']


def test_the_table_is_drawn_over_itself_on_a_terminal_alone(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    monkeypatch.setenv('TERM', 'xterm')
    terminal, file = Terminal(), io.StringIO()
    for stream in terminal, file:
        with overview.Display([job(tmp_path)], stream) as display:
            display({})
            display({})
    assert '\x1b[2K' in terminal.getvalue()  # a line is cleared
    assert '\x1b' not in file.getvalue() and file.getvalue().count('1 waiting') == 1


def test_what_a_node_fails_at_is_tried_again_and_named(tmp_path, monkeypatch):
    run = job(tmp_path)
    run.write(done=[list(run.words)])
    def refuse(path, *_, **__):
        raise OSError(errno.ESTALE, 'Stale file handle', path)
    with monkeypatch.context() as patched:
        patched.setattr(jobs, 'open', refuse, raising=False)
        patched.setattr(jobs, 'sees', lambda *_: '')
        with pytest.raises(jobs.Failed, match='study.json: Stale file handle'):
            jobs.work(run)
    assert run.record()['done'] == [list(run.words)]  # which is not lost


@pytest.mark.parametrize('content', ['{"done": null}', '[]', '{"done"'])
def test_a_damaged_record_is_none(content, tmp_path):
    run = job(tmp_path)
    run.write(done=[list(run.words)])
    (pathlib.Path(run.folder) / jobs.RECORD).write_text(content)
    assert run.record() == {} and run.missing() == run.commands


def test_a_table_that_nobody_reads_ends_no_study(tmp_path, unread):
    with overview.Display([job(tmp_path)], unread()) as display:
        display({})
        display.shown = -overview.FILE_INTERVAL  # and once more
        display({})


@pytest.mark.parametrize('error', [errno.ESTALE, errno.EACCES])
def test_a_look_that_fails_ends_no_study(error, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(error, 'it is not there now')
    monkeypatch.setattr(overview.logs, 'read', refuse)
    assert overview.progress(job(tmp_path)) == (0, None, None)
    with overview.Display([job(tmp_path)], types.SimpleNamespace(
            write=refuse, flush=refuse, isatty=lambda: False)) as display:
        display({})


def test_a_folder_of_a_study_that_is_not_the_user_s_is_a_line(tmp_path, monkeypatch, capsys):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, 'Permission denied', path)
    monkeypatch.setattr(study.os, 'makedirs', refuse)
    monkeypatch.setattr(sys, 'argv', ['study.py', '--logdir', str(tmp_path / 'new')])
    with pytest.raises(SystemExit) as ended:
        study.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f'error: {tmp_path / "new"}: Permission denied\n'


# --- A real cluster --------------------------------------------------------------------------


@pytest.fixture(scope='module')
def cluster():
    """A Ray cluster of three raylets on this machine: a head without cores, and two nodes."""
    pytest.importorskip('ray', reason='Ray is not installed (requirements-cluster.txt)')
    from ray.cluster_utils import Cluster
    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    found = Cluster(initialize_head=True, head_node_args={
        'num_cpus': 0, 'include_dashboard': False})
    yield found
    found.shutdown()


def node(cluster, tries=5):
    """A node more, with one core. Ray gives one 30 seconds to start, too few on a busy machine."""
    for attempt in range(tries):
        try:
            return cluster.add_node(num_cpus=1)
        except Exception as error:
            if attempt == tries - 1 or 'timed out' not in str(error):
                raise


def processes_of(folder):
    """The numbers of the scripts that write in `folder`, and of their workers."""
    found = []
    for path in pathlib.Path('/proc').iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (path / 'cmdline').read_bytes().split(b'\0')
            if SCRIPT.encode() in words and str(folder).encode() in words and (
                    b'-c' not in words):
                parent = int((path / 'stat').read_text().rsplit(')', 1)[1].split()[1])
                found.append((int(path.name), parent))
    return found


def test_a_study_loses_a_worker_and_a_node_and_comes_to_its_end(cluster, tmp_path):
    nodes = [node(cluster) for _ in range(2)]
    runs = [job(tmp_path, name=f'task/{name}/0', steps=count, judging=True) for name, count in (
        ('a', 200), ('b', 200), ('c', 20), ('mistaken', 13))]
    seen = []
    ray = study.connected(cluster.address)
    try:
        study.check_nodes(ray, runs[0])
        with pytest.raises(UserError, match=r'the node .* does not see'):
            study.check_nodes(ray, dataclasses.replace(runs[0], token='other'))
        with pytest.raises(UserError, match='no node has --cores 2 and --gpus 0'):
            study.check_nodes(ray, dataclasses.replace(runs[0], cores=2))

        def disturb():
            for run in runs[:2]:
                until(lambda run=run: os.path.exists(os.path.join(run.folder, 'episodes.csv')))
            (_, worker), = processes_of(runs[0].folder)
            os.kill(worker, signal.SIGKILL)
            until(lambda: runs[0].record().get('attempts') == 2 and processes_of(runs[0].folder))
            cluster.remove_node(nodes[1], allow_graceful=False)
        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        ended = study.done(ray, runs, 10, lambda known: seen.append(dict(known)))
        disturbing.join()
    finally:
        ray.shutdown()
    assert ended == {'task/a/0': '', 'task/b/0': '', 'task/c/0': '', 'task/mistaken/0': 'a mistake'}
    for run in runs[:3]:  # each row once, though the script was killed amid them
        assert steps(run) == list(range(1, run.steps + 1))
        assert not run.missing() and (pathlib.Path(run.folder) / 'results.csv').exists()
    attempts = [run.record()['attempts'] for run in runs]
    assert attempts[0] >= 2 and sum(attempts[:2]) >= 4 and attempts[2:] == [1, 1]
    assert seen[-1] == ended


def test_a_crash_is_tried_so_often_and_the_study_goes_on(cluster, tmp_path):
    node(cluster)
    runs = [job(tmp_path, name='task/crash/0', steps=17), job(tmp_path, name='task/a/0')]
    ray = study.connected(cluster.address)
    try:
        ended = study.done(ray, runs, 1, lambda known: None)
    finally:
        ray.shutdown()
    assert ended == {
        'task/crash/0': 'study_script.py ended with code 1: ValueError: a crash (1 retries)',
        'task/a/0': ''}
    assert runs[0].record()['attempts'] == 2


def test_there_is_a_line_where_there_is_no_cluster():
    pytest.importorskip('ray', reason='Ray is not installed (requirements-cluster.txt)')
    with pytest.raises(UserError, match='no Ray cluster at --address 127.0.0.1:1'):
        study.connected('127.0.0.1:1')


