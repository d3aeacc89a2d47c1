"""Measures on the machine at hand how fast the agents act, learn and start, and what they hold.

    python benchmarks/speed.py --method all --task dmc_walker_walk --preset paper

prints a table; `--json FILE` (or -) writes the same as one JSON object. Other options of the
training scripts, as --precision, --sensors or --batch, are passed on. With the paper's numbers on
two cores, memory and cycle take many minutes a method; --parts environment,action,update,start
leaves them out. Each part runs in a fresh process, so that memory and start-up are true:

    environment  decisions a second of random actions, in processes.vector as in a run, a reset
                 counted as one. Ceiling: rendering and physics one after the other, in as many
                 processes as there are cores
    action       latency of the exploring policy on replayed observations of one environment
    update       seconds of one update on replayed sequences, waiting for them included. Ceiling:
                 its products, each at the rate of a large matrix product of the same type
    start        from the start of the process to the end of the first update, on an existing
                 replay: prefill and the start of the environments that collect are left out
    memory       resident memory of a process that acts and learns, and how it grows once it
                 has acted and made --updates updates
    cycle        one round of training.py's loop: collect and update; evaluation is left out
    saving       a checkpoint in the middle of an episode, what of it is there that the run goes
                 on exactly (underway.py), and the playing of that episode again
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import commandline  # noqa: E402
import environments  # noqa: E402
import processes  # noqa: E402
import processor  # noqa: E402
import variants  # noqa: E402
from config import SENSORS, UserError, flag  # noqa: E402
from logs import METHODS  # noqa: E402

PARTS = ('environment', 'action', 'update', 'start', 'memory', 'cycle', 'saving')
NUMBERS = {
    'repeats': (5, 'repetitions, of which the median is shown'),
    'envs': (4, 'environments of the parallel measurement'),
    'actions': (2000, 'actions over which memory may grow'),
    'updates': (50, 'updates over which memory may grow, and as many before them')}
EPISODES = 4  # of random actions: the replay that everything learns from
WARM_UP = 3  # updates, and tens of actions, before anything is timed
WINDOW = 1.0  # seconds for which the environments are counted, at each repeat
PRODUCT = 2048  # rows and columns of the matrices whose product is the machine's ceiling


def options(arguments):
    """(the benchmark's own options, the words that are left for `Config`)."""
    parser = argparse.ArgumentParser(
        prog='speed.py', allow_abbrev=False, description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = commandline.fail
    parser.add_argument('--method', default='all', choices=(*METHODS, 'all'))
    parser.add_argument('--parts', default=','.join(PARTS), help='[%(default)s]')
    parser.add_argument('--json', default='', metavar='FILE', help='- for the standard output')
    for name, (default, text) in NUMBERS.items():
        parser.add_argument(
            f'--{name}', type=int, default=default, metavar='INT', help=f'{text} [{default}]')
    parser.add_argument('--part', help=argparse.SUPPRESS)  # of the processes that measure
    parser.add_argument('--folder', type=pathlib.Path, help=argparse.SUPPRESS)
    chosen, words = parser.parse_known_args(arguments)
    if min(getattr(chosen, name) for name in NUMBERS) < 1:
        raise UserError(f'--{", --".join(NUMBERS)} take a whole number from 1')
    if set(chosen.parts.split(',')) - set(PARTS):
        raise UserError(f'--parts takes some of {",".join(PARTS)}, not {chosen.parts!r}')
    path = pathlib.Path(chosen.json)
    if not path.parent.is_dir() or (chosen.json and path.is_dir()):
        raise UserError(f'--json {chosen.json} is not a file in a folder that is there')
    return chosen, words


def kept(method, folder):
    return os.path.join(folder, f'{method}.json')


def experiment(config, chosen):
    """The `Experiment` that the script of the method would begin."""
    from experiment import Experiment, script
    return Experiment(*script(chosen.method), config)


# --- Parts: each in a process of its own; rows of (figure, value, unit[, share of ceiling]) ---


def environment(config, chosen):
    # This process has no TensorFlow, beside which it could not render.
    random, rows, repeats = np.random.default_rng(config.seed), [], chosen.repeats
    alone = parts_alone(config, random, repeats)
    least = sum(1 / value for value in alone.values())  # seconds of a decision
    description = processes.describe(config)
    for count in dict.fromkeys((1, chosen.envs)):
        vector = processes.vector(config, 'train', count, description, config.seed)
        vector.reset()
        actions = random.uniform(-1, 1, (100, *vector.action_space.shape)).astype(np.float32)
        value = count * rate(lambda v=vector, a=actions: v.step(random.choice(a)), repeats)
        vector.close()
        share = [value * least / min(count, processor.cores())] if alone else []
        rows.append((f'environments: {count}', value, 'decisions/s', *share))
    return rows + [(name, value, 'decisions/s') for name, value in alone.items()]


def parts_alone(config, random, repeats):
    """Name -> decisions a second of physics, and of rendering, of an environment of this
    project's; {} for those of others, whose parts cannot be told apart."""
    env = environments.family(config.task).make(config, config.seed)
    if not hasattr(env, 'camera'):
        env.close()
        return {}
    camera, readers = env.camera, env.readers
    env.camera = None  # what is left is physics, touch and reward
    env.readers = {name: readers[name] for name in readers if SENSORS[name].kind != 'picture'}

    def physics():
        *_, terminated, truncated, _ = env.step(random.uniform(-1, 1, env.action_space.shape))
        if terminated or truncated:
            env.reset()

    env.reset()
    alone = {'physics alone, best': rate(physics, repeats, max)}
    env.camera, env.readers = camera, readers
    if camera:
        alone['rendering alone, best'] = rate(env._observe, repeats, max)
    env.close()
    return alone


def rate(function, repeats, choose=np.median):
    """Calls of `function` a second, by `choose` of several windows."""
    function()
    rates = []
    for _ in range(repeats):
        begun, done, passed = time.perf_counter(), 0, 0
        while passed < WINDOW:
            function()
            done, passed = done + 1, time.perf_counter() - begun
        rates.append(done / passed)
    return choose(rates)


def open_run(config, chosen):
    """A run of training.py, without its progress bar."""
    import training
    return training.Trainer(experiment(config, chosen))


def prepare(config, chosen):
    """Collects the replay; returns what else the head of the table says."""
    with open_run(dataclasses.replace(config, envs=1), chosen) as run:
        run.collect_random(EPISODES * config.time_limit)
        return {'products': run.agent.compute.name, 'sensors': ', '.join(run.sensors),
                'replay': f'{run.step} steps'}


class Learner:
    """The agent of a method with the prepared replay: acts and learns as a run does."""

    def __init__(self, config, chosen, begun=None):
        import acting
        import replay
        self.experiment = begun or experiment(config, chosen)
        self.config, self.sensors = config, self.experiment.sensors
        self.agent = self.experiment.agent()
        self.replay = replay.Replay(
            chosen.folder / 'episodes', config.action_repeat, config.replay_memory)
        self.policy = acting.AgentPolicy(self.agent, 1, exploring=True)

    def act(self, count):
        """Milliseconds of each of `count` actions on replayed observations."""
        episode, times = self.replay.episodes[-1], []
        entries = episode.read(0, episode.entries)
        keys = [key for sensor in self.sensors for key in (sensor, flag(sensor))]
        for number in range(count):
            at = number % episode.entries
            observation = {key: entries[key][at:at + 1] for key in keys}
            begun = time.perf_counter()
            self.policy(observation, np.array([at == 0]))
            times.append(1000 * (time.perf_counter() - begun))
        return times

    def batches(self, count):
        config, first = self.config, int(self.agent.updates)
        return self.replay.batches(
            config.batch, config.length, [[config.seed, first + n] for n in range(count)])

    def learn(self, count):
        """Seconds of each of `count` updates."""
        moments = [time.perf_counter()]
        for batch in self.batches(count):
            float(self.agent.train(batch)['model_loss'])  # waits for the result
            moments.append(time.perf_counter())
        return np.diff(moments)


def action(config, chosen):
    learner = Learner(config, chosen)
    learner.act(10 * WARM_UP)
    times = learner.act(50 * chosen.repeats)
    return [('one action, median', np.median(times), 'ms'),
            ('one action, 95 % are below', np.percentile(times, 95), 'ms')]


def update(config, chosen):
    learner = Learner(config, chosen)
    if learner.agent.strategy.num_replicas_in_sync > 1:
        # Whose graph holds the products of all, and whose ceiling is not that of one.
        learner.learn(WARM_UP)
        return [('one update', np.median(learner.learn(chosen.repeats)), 's')]
    kinds = dict.fromkeys(['float32', 'bfloat16', learner.agent.compute.name])
    before = [product_rate(kind, chosen.repeats) for kind in kinds]
    learner.learn(WARM_UP)
    seconds, batch = np.median(learner.learn(chosen.repeats)), next(learner.batches(1))
    # Before and after, as neighbours come and go: the better is the ceiling.
    ceilings = {kind: max(rate, product_rate(kind, chosen.repeats))
                for kind, rate in zip(kinds, before)}
    # MuMMI compares the N steps at which a sensor is present, and its work goes with N squared:
    # the root of the mean square over the sensors makes the sum right for this batch.
    there = {s: int(np.sum(batch[flag(s)])) for s in learner.sensors}
    present = np.sqrt(np.mean([float(count) ** 2 for count in there.values()]))
    work, guessed = products(
        learner.agent.train.get_concrete_function(batch).graph, present,
        convolved(there, batch['reward'].shape.num_elements()))
    share = sum(value / ceilings[kind] for kind, value in work.items()) / seconds
    return [
        ('one update', seconds, 's', share),
        ('rate of its products', sum(work.values()) / seconds, 'GFLOP/s', share),
        *((f'products in {kind}', value, 'GFLOP') for kind, value in work.items()),
        *([('present steps', present, f'mean; in {guessed} products')] if guessed else []),
        *((f'ceiling in {kind}', value, 'GFLOP/s') for kind, value in ceilings.items())]


def product_rate(kind, repeats):
    """GFLOP/s of large matrix products of type `kind`, the best of several; as many at once as a
    processor's threads make."""
    import tensorflow as tf
    count = 1 if tf.config.list_logical_devices('GPU') else processor.cores()
    left, *others = (
        tf.cast(tf.random.normal([PRODUCT, PRODUCT]), kind) for _ in range(1 + count))

    @tf.function(autograph=False)
    def corners():
        return tf.stack([tf.matmul(left, other)[0, 0] for other in others])
    times = []
    for _ in range(2 + repeats):
        begun = time.perf_counter()
        corners().numpy()
        times.append(time.perf_counter() - begun)
    return 2e-9 * count * PRODUCT ** 3 / min(times)


def convolved(there, total):
    """For how many of the `total` entries of a batch convolutions are computed, in the mean over
    its pictures; there: sensor -> number of entries that have it."""
    from networks import computed
    return np.mean([min(computed(count, total), total) for sensor, count in there.items()
                    if SENSORS[sensor].kind == 'picture'] or [0.0])


def products(graph, unknown, pictures):
    """(type -> GFLOP of the matrix products and convolutions that the results of a function's
    graph need; how many of them have a size that is known only in the run, for which `unknown` is
    taken, or, of convolutions, `pictures`).

    A multiplication and an addition count as two. As written, before TensorFlow simplifies;
    products within branches and loops, of which an update has none, are not seen.
    """
    reached, ahead = set(), [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    while ahead:
        operation = ahead.pop()
        if operation not in reached:
            reached.add(operation)
            ahead += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    work, guessed = {}, 0
    for operation in reached:
        kind, ins, out = operation.type, operation.inputs, operation.outputs
        if kind == 'MatMul':
            inner = 0 if operation.get_attr('transpose_a') else 1
            sizes = [*out[0].shape, ins[0].shape[inner]]
        # Each value on a convolution's far side meets height x width x channels of a kernel.
        elif kind == 'Conv2D':
            sizes = [*out[0].shape, *ins[1].shape[:3]]
        elif kind == 'Conv2DBackpropInput':
            sizes = [*ins[2].shape, *ins[1].shape[:3]]
        elif kind == 'Conv2DBackpropFilter':
            sizes = [*ins[2].shape, *out[0].shape[:3]]
        else:
            continue
        guessed += None in sizes
        guess = unknown if kind == 'MatMul' else pictures
        sizes = [float(guess if size is None else size) for size in sizes]
        name = out[0].dtype.name
        work[name] = work.get(name, 0) + 2e-9 * np.prod(sizes)
    return work, guessed


def start(config, chosen):
    ticks = pathlib.Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19]
    moments, rows = [int(ticks) / os.sysconf('SC_CLK_TCK')], []

    def passed(name):
        moments.append(time.clock_gettime(time.CLOCK_BOOTTIME))
        rows.append((f'start, {name}', moments[-1] - moments[-2], 's'))

    passed('interpreter')
    begun = experiment(config, chosen)
    passed('imports')
    assert begun.description
    passed('environment described')
    learner = Learner(config, chosen, begun)
    batch = next(learner.batches(1))
    passed('agent, replay, first batch')
    if learner.agent.strategy.num_replicas_in_sync == 1:
        learner.agent.train.get_concrete_function(batch)
        passed('update traced')
    float(learner.agent.train(batch)['model_loss'])
    passed('update run')
    return [('first update finished after', moments[-1] - moments[0], 's'), *rows]


def memory(config, chosen):
    learner = Learner(config, chosen)

    def resident():
        pages = pathlib.Path('/proc/self/statm').read_text().split()[1]
        return int(pages) * resource.getpagesize() / 1e6

    # The allocator needs many updates until it holds what any of them may ask for, as tensors of
    # present steps have another size in each.
    learner.act(10 * WARM_UP)
    learner.learn(chosen.updates)
    moments = [resident()]
    for advance, count in (learner.act, chosen.actions), (learner.learn, chosen.updates):
        advance(count)
        moments.append(resident())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return [('peak memory', peak, 'MB'), ('memory after warm-up', moments[0], 'MB'),
            ('growth by acting', moments[1] - moments[0], f'MB in {chosen.actions} actions'),
            ('growth by learning', moments[2] - moments[1], f'MB in {chosen.updates} updates')]


def resumed(config, chosen, part):
    """A run whose prefill is a copy of the prepared replay."""
    import replay
    folder = chosen.folder / f'{part}-{chosen.method}'
    shutil.copytree(chosen.folder / 'episodes', folder / 'episodes')
    steps = replay.Replay(folder / 'episodes', config.action_repeat).steps
    return open_run(dataclasses.replace(
        config, logdir=str(folder), envs=1, prefill=steps, pretrain=WARM_UP), chosen)


def cycle(config, chosen):
    with resumed(config, chosen, 'cycle') as run:
        run.collect(run.step + 1)  # warm-up: policy and update are traced
        run.train_until_due()
        moments = [(time.perf_counter(), run.step, int(run.agent.updates))]
        for advance in lambda: run.collect(run.step + config.train_every), run.train_until_due:
            advance()
            moments.append((time.perf_counter(), run.step, int(run.agent.updates)))
    collect, learn = np.diff(moments, axis=0)
    return [('one cycle', collect[0] + learn[0], 's'),
            ('cycle, collect', collect[0], f's for {collect[1]:.0f} steps'),
            ('cycle, update', learn[0], f's for {learn[2]:.0f} updates')]


def saving(config, chosen):
    import underway
    with resumed(config, chosen, 'saving') as run:
        run.train_until_due()  # there are moments
        # Half an episode, or where only the task knows its length, some decisions.
        run.collect(run.step + (config.time_limit // 2 or 20 * config.action_repeat))

        def seconds(function):
            begun = time.perf_counter()
            function()
            return time.perf_counter() - begun

        def save():
            run.saved = None
            run.save()
        whole = np.median([seconds(save) for _ in range(chosen.repeats)])
        size = sum(path.stat().st_size for path in run.folder.glob(
            f'{run.checkpoints.paths()[-1].name}.*'))
        pack = np.median([seconds(lambda: underway.pack(run)) for _ in range(chosen.repeats)])
        played = seconds(lambda: run.driver.go_on(run.driver.state()))
        return [('a checkpoint', whole, 's'), ('a checkpoint, size', size / 1e6, 'MB'),
                ('the unfinished episode in it', 1e3 * pack, 'ms'),
                ('the same, size', len(underway.pack(run)) / 1e3, 'kB'),
                ('played again on resuming', played,
                 f's for {run.driver.under_way // config.action_repeat} decisions')]


# --- The whole ---------------------------------------------------------------------------


def fresh(part, method, chosen):
    """What the function `part` returns in a fresh process."""
    own = [f'--{name}={getattr(chosen, name)}' for name in (*NUMBERS, 'folder')]
    result = subprocess.run(
        [sys.executable, __file__, f'--part={part}', f'--method={method}', *own],
        capture_output=True, text=True)
    if result.returncode == 2 and 'error: ' in result.stderr:
        raise UserError(result.stderr.strip().rpartition('error: ')[2])
    if result.returncode:
        raise RuntimeError(f'{part}, {method}: exit code {result.returncode}\n{result.stderr}')
    return json.loads(result.stdout.splitlines()[-1])  # a run says things above it


def measure(chosen, words, say):
    """{'machine': ..., 'results': group -> figure -> value, unit and share of the ceiling}; each
    line is said when it is known."""
    methods = METHODS if chosen.method == 'all' else [chosen.method]
    for method in reversed(methods):  # a mistake is answered before anything is measured
        config = commandline.parse(
            variants.method_of(method), [*words, '--logdir', str(chosen.folder)])
        commandline.save(config, method, kept(method, chosen.folder))
    config, _ = commandline.load(kept(methods[0], chosen.folder))
    machine = {
        'processor': ' '.join(processor.facts().get('model name', ['unknown'])),
        'cores': processor.cores(),
        'load': [round(load, 2) for load in os.getloadavg()], 'task': config.task,
        'tensorflow': importlib.metadata.version('tensorflow'), 'preset': config.preset,
        'options': ' '.join(words)}
    machine |= fresh('prepare', methods[0], chosen)
    for name, value in machine.items():
        say(f'{name:<34}{value}')
    results = {}
    for part in (part for part in PARTS if part in chosen.parts.split(',')):
        for method in methods[:1] if part == 'environment' else methods:
            group = part if part == 'environment' else method
            title = part if group == part else f'{method}, {part}'
            say(f'\n{title:<34}{"value":>10}  {"unit":<26}{"of the ceiling":>14}')
            repeats = chosen.repeats if part == 'start' else 1
            for rows in zip(*(fresh(part, method, chosen) for _ in range(repeats))):
                figure, _, unit, share = (*rows[0], None)[:4]
                value = float(np.median([row[1] for row in rows]))
                results.setdefault(group, {})[figure] = {
                    'value': value, 'unit': unit, 'share': share}
                number = f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.4g}'
                share = '' if share is None else f'{share:.1%}'
                say(f'{figure:<34}{number:>10}  {unit:<26}{share:>14}'.rstrip())
    return {'machine': machine, 'results': results}


def main():
    processor.prepare()
    with commandline.answering('the benchmark'):
        chosen, words = options(sys.argv[1:])
        if chosen.part:
            config, _ = commandline.load(kept(chosen.method, chosen.folder))
            return print(json.dumps(globals()[chosen.part](config, chosen)))
        with tempfile.TemporaryDirectory(prefix='speed-') as chosen.folder:
            output = sys.stderr if chosen.json == '-' else sys.stdout
            report = measure(chosen, words, lambda text: print(text, file=output, flush=True))
        text = json.dumps(report, indent=2)
        if chosen.json == '-':
            print(text)
        elif chosen.json:
            pathlib.Path(chosen.json).write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
