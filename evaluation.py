"""How well an agent acts when its sensors fail or lie: `python mummi.py --logdir L --test`."""

import io

import numpy as np
import pandas as pd
import tensorflow as tf

import commandline
import config as configuration
import faults
import files
import screen
from acting import Driver, evaluate, summary
from config import UserError, flag
from pictures import LONGEST
from texts import CONDITIONS, condition_name, told

# Environments that test in parallel, where the run's own --envs are fewer.
ENVIRONMENTS = 5

# What identifies a row of results.csv: testing again replaces it.
KEYS = ['step', 'condition', 'sensor', 'ratio', 'seed', 'options']
NUMBERS = ('step', 'ratio', 'seed')
FORMAT = '%.6g'


def conditions(ratios, sensors, corrupt=''):
    """What is tested, in order: (condition, sensor, ratio, options of the environments' reset).

    'ratio': all sensors at a drop-out chance; 'without': one sensor gone altogether; 'only': all
    but one gone; 'corrupt': nothing missing, and a fault of `--corrupt`, which stands in place of
    the sensor, or all of them. The others have no faults.
    """
    tests = [('ratio', '', ratio, dict.fromkeys(sensors, ratio)) for ratio in ratios]
    if len(sensors) > 1:
        for name in sensors:
            tests.append(('without', name, 1.0, {s: float(s == name) for s in sensors}))
        for name in sensors:
            tests.append(('only', name, 1.0, {s: float(s != name) for s in sensors}))
    tests = [(*test, {'miss_ratio': miss_ratio} | ({'corrupt': ''} if corrupt else {}))
             for *test, miss_ratio in tests]
    parts = [f'{sensor}={kind}:{amount:g}'
             for sensor, kind, amount in faults.asked(corrupt)]
    together = [parts] if len(parts) > 1 else []
    for part in [[fault] for fault in parts] + together:
        # A comma would end a cell of results.csv.
        tests.append(('corrupt', '+'.join(part), 0.0, {
            'miss_ratio': dict.fromkeys(sensors, 0.0), 'corrupt': ','.join(part)}))
    return tests


def test(experiment):
    """Evaluate the run's last (or `config.checkpoint`) state on validation backgrounds, and
    write results.csv: a row an episode. Every condition has the same seeds. Nothing else of the
    run is touched. Where nothing can be written, which is said first, the table is printed
    alone."""
    config, sensors = experiment.config, experiment.sensors
    target = experiment.folder / 'results.csv'
    read(target)  # a damaged one is named before anything is played
    # The drop-out chance and the faults are left out, since every condition has its own.
    options = changed(config, but={'miss_ratio', 'corrupt', 'length', 'bound_weight'})
    kept = files.writable(target.parent)
    if not kept:
        print(f'warning: cannot write in {target.parent}: results are printed and not kept',
              flush=True)
    agent, step, path = experiment.restored()
    count = max(config.envs, min(ENVIRONMENTS, config.test_episodes))
    tests = conditions(configuration.test_ratios(config), sensors, config.corrupt)
    with screen.bar(len(tests) * config.test_episodes, 'episode') as bar:
        results = play(experiment, agent, step, tests, config.test_episodes, count, bar)
    results['options'] = options
    try:
        if kept:  # before it is printed: whoever reads that may be gone
            add(results, target)
    finally:
        print(f'\n{experiment.title}, {path.name} ({step:,} steps), '
              f'{config.test_episodes} episodes each{options and f", with {options}"}; '
              f'{f"for {target}" if kept else "not kept"}\n')
        print(table(results))
        if noticed := agreement_table(results):
            print(f'\n{noticed}')


def play(experiment, agent, step, tests, episodes, count, bar):
    """The rows of `episodes` episodes under each of the `conditions` in `tests`, in `count`
    environments, as a table; bar: is told of each by `update`."""
    config, sensors = experiment.config, experiment.sensors
    environments = experiment.environments('valid', count, config.seed)
    # Seeds of their own: far from those of training and of the evaluations in it.
    seeds = np.random.SeedSequence([config.seed, *b'test']).generate_state(episodes)
    rows = []
    try:
        driver = Driver(environments, config.action_repeat)
        for condition, sensor, ratio, reset in tests:
            bar.set_description_str(f'{condition} {sensor or ratio}')
            agent.judging.reset_from_seed(config.seed)
            for number, (seed, episode) in enumerate(
                    zip(seeds, evaluate(agent, driver, seeds, reset))):
                rows.append({
                    'step': step, 'condition': condition, 'sensor': sensor, 'ratio': ratio,
                    'episode': number, 'seed': int(seed), 'options': '',
                    **summary(episode, sensors),
                    **(agreement(agent, episode, sensors) if config.corrupt else {})})
                bar.update()
    finally:
        environments.close()
    return pd.DataFrame(rows)


def agreement(agent, episode, sensors):
    """What the representation holds of the sensors of an episode (of its first `LONGEST` entries,
    since each is compared with each), column -> number: whether it notices one that lies. {} for
    a method that has no such numbers."""
    keys = ['action', *(key for sensor in sensors for key in (sensor, flag(sensor)))]
    numbers = agent.agreement({key: tf.constant(episode[key][:LONGEST]) for key in keys})
    return {name: float(number) for name, number in numbers.items()
            if not name.startswith('chance_')}


# Settings that only learning asks for. An inspection shows sequences of `length` entries.
LEARNING = {
    name for name, field in configuration.FIELDS.items()
    if field.metadata['section'] in ('Replay', 'Schedule', 'Optimisers')} - {'length'} | {
    'natural_train', 'free_nats', 'reward_weight', 'kl_balance', 'withhold', 'imagine_every',
    'actor_gradient', 'entropy_bonus', 'explore_noise', 'explore_epsilon', 'sac_weight',
    'use_dreamer'}


def changed(config, but=frozenset(), seeded=False):
    """The settings under which the run is judged or inspected that are not its own, as
    'natural=False render=full', those in `but` and those that only learning asks for left out:
    rows of results.csv that were made under others are no repetition. seeded: the seed too, which
    rows of results.csv say by themselves."""
    own = commandline.load(commandline.judged(config.logdir))[0]
    left_out = configuration.FREE - ({'seed'} if seeded else set()) | but | LEARNING
    values = ((name, getattr(own, name), getattr(config, name)) for name in vars(config)
              if name not in left_out)
    return ' '.join(f'{name}={now}' for name, then, now in values if now != then).replace(',', ';')


def read(path):
    """The rows of the results at `path`, none if it is absent; UserError for a damaged file."""
    if not path.exists():
        return pd.DataFrame(columns=KEYS)
    try:
        # Opened here, since pandas takes some names of files for addresses.
        with open(path, encoding='utf-8-sig') as file:
            rows = rows_of(file)
        if rows['return'].isna().any():
            raise ValueError('a return is no number')
        return rows
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f'{path} cannot be read ({error}); move it away') from None


def rows_of(file):
    """The rows of results in an open file. Those of one test have equal KEYS, however their
    numbers are written."""
    rows = pd.read_csv(file, keep_default_na=False)
    if 'options' not in rows:  # written before there was this column
        rows['options'] = ''
    for key in KEYS:
        rows[key] = pd.to_numeric(rows[key]) if key in NUMBERS else rows[key].astype(str)
    rows['return'] = pd.to_numeric(rows['return'])
    if others := set(rows['condition']) - set(CONDITIONS):
        raise ValueError(f'no condition is called {others.pop()!r}')
    return rows


def add(results, path):
    """Add the rows of `results` to the CSV at `path`, atomically; rows of the same test are
    replaced, and those that another process added meanwhile are kept."""
    # Both as they are written: 1 / 3 is 0.333333 there.
    written = rows_of(io.StringIO(results.to_csv(index=False, float_format=FORMAT)))
    try:
        with files.alone(path):
            before = read(path)
            merged = pd.concat([before, written]) if len(before) else written
            merged = merged.drop_duplicates(KEYS, keep='last')
            with files.writing(path) as file:
                merged.to_csv(file, index=False, float_format=FORMAT)
    except OSError as error:
        raise UserError(f'cannot write {path} ({error.strerror or error})') from None


def table(results):
    """Mean and standard deviation (of the sample, as in the figures) of the returns of each
    condition, and the mean as a fraction of the mean with nothing missing, as text."""
    groups = results.groupby(['condition', 'sensor', 'ratio'], sort=False)
    full = results[(results.condition == 'ratio') & (results.ratio == 0)]['return'].mean()
    width = max(24, 9 + results.sensor.str.len().max())
    lines = [f'{"missing":<{width}}{"return":>9}{"std":>9}{"fraction":>10}{"really missing":>18}']
    for (condition, sensor, ratio), group in groups:
        name = condition_name(condition, sensor or ratio)
        returns = group['return']
        missing = group[[c for c in group if c.startswith('missing_')]].mean()
        fraction = f'{returns.mean() / full:.2f}' if full > 0 else '-'
        mean = told(returns.mean())
        spread = told(returns.std(), returns.mean()) if len(returns) > 1 else '-'
        lines.append(
            f'{name:<{width}}{mean:>9}{spread:>9}{fraction:>10}'
            '   ' + ' '.join(f'{m:5.0%}' for m in missing))
    sensors = [c.removeprefix('missing_') for c in results if c.startswith('missing_')]
    lines[0] = lines[0].replace('really missing', 'missing ' + '/'.join(sensors))
    return '\n'.join(lines)


def agreement_table(results):
    """The means of what the representation held of the sensors, with nothing missing and under
    each fault, as text; '' where no fault was asked for, a line where the method has no such
    numbers."""
    columns = [c for c in results if c.startswith(('weight_', 'agree_', 'find_'))]
    rows = results[((results.condition == 'ratio') & (results.ratio == 0))
                   | (results.condition == 'corrupt')]
    if not columns and (rows.condition == 'corrupt').any():
        return 'weights and agreement of the sensors: - (this method has none)'
    if not columns or rows.empty:
        return ''
    names = rows.sensor.where(rows.condition == 'corrupt', 'as they are')
    means = rows[columns].groupby(names.str.replace('+', ' + '), sort=False).mean()
    return means.T.to_string(float_format='{:.3f}'.format)
