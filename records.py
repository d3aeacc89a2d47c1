"""episodes.csv and metrics.csv of a run that goes on: made to agree with its episodes and its
checkpoint, whatever a kill left of them.

Every finished episode has exactly one row, and every evaluation and update that the checkpoint
holds has its rows once. Rows of what is done again are dropped; rows that lack are made.
"""

import numpy as np

import csv_log
import files
from acting import summary
from config import flag


def begin_anew(logger, replay, damaged, report):
    """Say that the weights of a run begin anew on the episodes of a `Replay`, since it has no
    checkpoint, or (`damaged`) none that can be read; the logs of what is lost are kept."""
    episodes = f'the run goes on from its {len(replay.episodes)} episodes'
    if not (damaged or logger.metrics.rows()):  # as after a kill before the first
        report(f'there is no checkpoint; {episodes}, with new weights')
        return
    kept = [files.set_aside(table.path, copy=True)
            for table in (logger.metrics, logger.episodes) if table.path.exists()]
    why = 'no checkpoint can be read' if damaged else 'there is no checkpoint'
    report(
        f'warning: {why}: what was learned is lost; {episodes} with new weights, and first makes '
        'the updates that are due at their steps; the logs until now are kept as '
        + ' and '.join(kept))


def mend(logger, replay, progress, sensors, config, report):
    """Bring the tables of a `tools.Logger` in agreement with a `Replay` and a restored `Progress`.

    config: `Config`, whose steps of random actions say the mode of an episode without a row.
    """
    updates, evaluated = int(progress.agent.updates), int(progress.evaluated)
    rows = logger.metrics.rows()
    kept = {int(float(row['updates'])): row for row in reversed(rows)}  # the first of each
    kept = [kept[number] for number in sorted(kept) if number <= updates]
    if kept != rows:
        report(f'metrics.csv: {len(rows) - len(kept)} rows of updates dropped that the checkpoint '
               'does not hold')
        logger.metrics.replace(kept)

    rows = logger.episodes.rows()
    older = bool(rows) and 'episode' not in rows[0]
    if older:
        _number(rows, replay)
    found = {}
    for row in rows:
        known, number = row['mode'] != 'eval', _whole(row.get('episode'))
        if number is None or (number >= replay.number if known else (
                int(float(row['step'])) > evaluated)):
            continue
        found.setdefault(('', number) if known else (row['step'], number), row)
    made = _made(found, replay, progress, logger.metrics.rows(), sensors, config)
    kept = _merged(list(found.values()), made)
    if made or older or len(kept) != len(rows):
        dropped = len(rows) - len(found)
        if made:
            report(f'episodes.csv: {len(made)} rows that were missing are made from the episodes')
        if dropped:
            report(f'episodes.csv: {dropped} rows dropped, of evaluations that are made again '
                   'or episodes that are gone')
        logger.episodes.replace(kept)


def seconds(logger):
    """The wall time of the last row of any table."""
    found = [row.get('seconds') for table in (logger.episodes, logger.metrics)
             for row in table.rows()[-1:]]
    return max([float(text) for text in found if text], default=0.0)


def _whole(text):
    try:
        return int(text)
    except (TypeError, ValueError):
        return None


def _number(rows, replay):
    """Give the rows of a table that is older than its column `episode` their numbers, in order."""
    collected = [row for row in rows if row['mode'] != 'eval']
    numbers = sorted(replay.numbers)
    for row, number in zip(collected, numbers + [None] * len(collected)):
        row['episode'] = '' if number is None else str(number)
    before, count = None, 0
    for row in rows:
        if row['mode'] == 'eval':
            count = count + 1 if row['step'] == before else 0
            before, row['episode'] = row['step'], str(count)


def _made(found, replay, progress, metrics, sensors, config):
    """The rows of the episodes that have none. Their updates are those of the phases before, which
    have a row of metrics.csv each; their seconds lie between those of the rows around, by the
    steps."""
    phases = [(float(row['step']), int(float(row['updates']))) for row in metrics]
    known = sorted((float(row['step']), float(row['seconds']))
                   for row in [*found.values(), *metrics] if row.get('seconds'))
    known = [(0.0, 0.0), *known]
    if float(progress.step) > known[-1][0]:
        known.append((float(progress.step), float(progress.seconds)))
    steps, wall = (np.maximum.accumulate(values) for values in zip(*known))
    rows, collected, last, then = [], 0, 0, 0.0
    for episode in replay.episodes:
        collected += episode.steps
        if row := found.get(('', episode.number)):
            last, then = int(float(row['step'])), float(row.get('seconds') or then)
            continue
        # With several environments more was collected by then: what the others had under way.
        step = max(collected, last)
        try:
            arrays = episode.read(0, episode.entries, ['reward', *map(flag, sensors)])
        except ValueError:  # it will be set aside where it is drawn
            continue
        arrays['steps'] = np.array([episode.steps])
        rows.append(csv_log.texts({
            'step': step,
            'updates': max((updates for at, updates in phases if at < step), default=0),
            'seconds': then if step == last else float(np.interp(step, steps, wall)),
            'mode': _mode(step, episode.steps, config, episode is replay.episodes[0]),
            **summary(arrays, sensors), 'episode': episode.number}))
    return [{key: str(value) for key, value in row.items()} for row in rows]


def _mode(step, length, config, first):
    """Of an episode of `length` steps that ended at `step`, beside which the others went on. The
    first is of random actions however long it is: until then there is nothing to learn from."""
    if first or step <= config.prefill:
        return 'prefill'
    return 'mixed' if step - config.envs * length < config.prefill else 'train'


def _merged(rows, made):
    """Both in order: of the episodes by their numbers, of the evaluations by their steps."""
    merged = []
    for row in rows:
        while made and (
                int(made[0]['episode']) < int(row['episode']) if row['mode'] != 'eval'
                else float(made[0]['step']) <= float(row['step'])):
            merged.append(made.pop(0))
        merged.append(row)
    return merged + made
