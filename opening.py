"""The folder of a run when training in it begins: locked, compared with what was there, and its
settings written."""

import dataclasses
import os

import commandline
import files
import provenance
from config import UserError

# What an episode holds that no environment observes.
OWN = 'reward', 'discount', 'steps'


def locked(folder, say):
    """Make the folder, where it is not there, and keep other processes from training in it: the
    file that holds the lock until it is closed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / 'lock', 'w')
    except OSError as error:
        raise UserError(f'cannot write in {folder} ({error.strerror})') from None
    try:
        given = files.lock(file)
    except BlockingIOError:
        raise UserError(
            f'another process is training in {folder}; stop it, or choose another '
            '--logdir') from None
    if not given:
        say(f'warning: the file system of {folder} gives no locks; see to it that no other '
            'process trains there')
    return file


def settings_before(config, method, folder):
    """The `Config` by which the run in the folder went until now; None where there is none.
    UserError where it cannot go on by `config`."""
    path = _settings(folder)
    return commandline.check_resume(config, method.name, path) if os.path.exists(path) else None


def same_observations(description, replay, folder):
    """UserError where what the episodes of a `Replay` hold is not what the environment gives now,
    as where one of the user's own was changed."""
    if not replay.keys:
        return
    spaces = description.observation_space.spaces | {'action': description.action_space}
    spaces = {name: (space.shape, space.dtype) for name, space in spaces.items()}
    for name in [*spaces, *(name for name in replay.keys if name not in spaces)]:
        there, here = replay.keys.get(name), spaces.get(name)
        if there != here and name not in OWN:
            there, here = (f'{kind[0]} {kind[1]}' if kind else 'absent' for kind in (there, here))
            raise UserError(
                f'the episodes in {folder} are of another environment: {name} is {there} '
                f'there, and {here} now; choose another --logdir')


def write_settings(config, before, method, folder, step, finished, say):
    """Write config.json, and say what is otherwise than `before`. To be called when nothing more
    can be refused: what was typed wrongly is not the run's. finished: nothing is left to learn."""
    path, change = _settings(folder), ''
    changed = commandline.changes(before, config) if before else ''
    if finished:
        # Its configuration says how it was trained; how long, may be cut to what was reached.
        if changed:
            say(f'note: the run is finished, and nothing is learned with {changed}')
        if config.steps != before.steps:
            kept = dataclasses.replace(before, steps=config.steps)
            commandline.save(kept, method.name, path, provenance.history(path))
        return
    if changed:
        say(f'note: from here on the run has other settings: {changed}')
        change = f'from step {step:,} on: {changed}'
    known, history = provenance.history(path), provenance.continued(path, change)
    if before and history['revisions'] != known['revisions']:
        say(f'note: from here on the run has other code: {history["revisions"][-1]}')
    commandline.save(config, method.name, path, history)


def _settings(folder):
    return str(folder / 'config.json')
