"""Trained agents to be shared: `python mummi.py --logdir RUN --export FOLDER`, and back again.

An exported folder holds weights.npz (name -> array, no moments of optimisers, no generators: all
to act by and none of what learning goes on from), config.json, results.csv where the run was
judged, and a card, README.md. `--test`, `--inspect`, `--init` and `experiment.load` read it.
"""

import dataclasses
import os
import pathlib
import shutil

import numpy as np

import card
import commandline
import evaluation
import files
import provenance
from config import UserError
from optimisers import named

# A variable is stored in half precision where that moves none of its values by more than this
# share of its largest: all but those that are too large or too small for float16.
ROUNDING = 1e-3

# Entries of weights.npz that are no weights: how far the run was.
NUMBERS = {'step': np.int64, 'updates': np.int64, 'seconds': np.float64}


# The files of an exported folder.
WRITTEN = {files.WEIGHTS, 'config.json', 'results.csv', 'README.md'}


def variables(agent):
    """name -> variable, of all networks, slow copies and temperatures of an agent."""
    found = {}
    for name in 'world', 'behaviour', 'learners':
        known = {variable.ref() for variable in found.values()}
        found |= {path: variable for path, variable in named(getattr(agent, name), name).items()
                  if variable.ref() not in known}
    return found


def halved(value):
    """A float32 array as float16, or as it is where `ROUNDING` does not allow it."""
    with np.errstate(over='ignore', invalid='ignore'):
        half = value.astype(np.float16)
        moved = np.abs(half.astype(np.float32) - value).max(initial=0)
    return half if moved <= ROUNDING * np.abs(value).max(initial=0) else value


def write(progress, path, half):
    """Write the weights of the agent of an `experiment.Progress`, and how far it was, to `path`.
    Returns a `card.Stored`."""
    arrays = {name: variable.numpy() for name, variable in variables(progress.agent).items()}
    if bad := [name for name, value in arrays.items() if not np.isfinite(value).all()]:
        raise UserError(f'{bad[0]} is not finite, and is not exported; name an earlier checkpoint '
                        'by --checkpoint')
    if half:
        arrays = {name: halved(value) for name, value in arrays.items()}
    numbers = {'step': progress.step, 'updates': progress.agent.updates,
               'seconds': progress.seconds}
    with files.writing(path) as file:
        np.savez_compressed(file, **arrays, **{
            name: kind(numbers[name].numpy()) for name, kind in NUMBERS.items()})
    sizes = [(value.dtype == np.float16, value.size) for value in arrays.values()]
    return card.Stored(sum(size for _, size in sizes),
                       sum(size for rounded, size in sizes if rounded))


def restore(agent, folder):
    """Give an agent the weights of the exported `folder`, as float32; to be followed by
    `agent.refresh`. Returns the entries NUMBERS. UserError, with nothing changed, where they are
    damaged or of another model."""
    path = pathlib.Path(folder) / files.WEIGHTS
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        numbers = {name: kind(arrays.pop(name)) for name, kind in NUMBERS.items()}
        damaged = not all(np.isfinite(value).all() for value in arrays.values())
    except Exception as error:  # damage can do anything to numpy's reader
        what, *_ = [*str(error).splitlines(), type(error).__name__]
        raise UserError(f'{path} is damaged ({what})') from None
    if damaged:
        raise UserError(f'{path} is damaged (a weight is not finite)')
    wanted = variables(agent)
    shapes = [{name: tuple(value.shape) for name, value in one.items()}
              for one in (arrays, wanted)]
    for name in [*wanted, *arrays]:
        there, here = (f'{list(one[name])}' if name in one else 'absent' for one in shapes)
        if there != here:
            raise UserError(
                f'{path} is of another model: {name} is {there} there, and {here} in this agent; '
                'name one of the same method, sensors, actions and sizes')
    for name, variable in wanted.items():
        variable.assign(np.asarray(arrays[name], np.float32))
    return numbers


def _ours(place):
    """Whether the folder `place` holds nothing but what an export writes."""
    return place.is_dir() and not place.is_symlink() and {
        name.removesuffix(files.PARTIAL) for name in os.listdir(place)} <= WRITTEN


def export(experiment):
    """Write the agent of the run's last (or `config.checkpoint`) state to the new folder
    `config.export`, all of it or nothing. Nothing of the run is touched."""
    config, method = experiment.config, experiment.method
    target = pathlib.Path(os.path.realpath(config.export))  # an empty folder may be a link
    place = target.with_name(target.name + files.PARTIAL)
    if os.path.lexists(place) and not _ours(place):
        raise UserError(f'{place} is in the way of what is written; move it, or name another '
                        '--export')
    results = evaluation.read(experiment.folder / 'results.csv')
    progress, path = experiment.progress()
    step = int(progress.step)
    # Of this state and its own settings: what the card is about.
    others = (results['step'] != step) | (results['options'] != '')
    if others.any():
        print(f'{others.sum()} rows of results.csv are left out, of other checkpoints or options')
    results = results[~others]
    own = experiment.folder / 'config.json'
    kept, _ = commandline.load(own)
    kept = dataclasses.replace(kept, logdir='')  # a folder of this machine
    history = provenance.history(own)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)  # what a kill left
    try:
        place.mkdir()
        stored = write(progress, place / files.WEIGHTS, config.export_half)
        commandline.save(kept, method.name, place / 'config.json', history)
        if len(results):
            evaluation.add(results, place / 'results.csv')
        with files.writing(place / 'README.md') as file:
            file.write(card.text(
                experiment, kept, step, int(progress.agent.updates), float(progress.seconds),
                history, stored, results, config.export).encode())
        os.rename(place, target)
    except OSError as error:
        raise UserError(f'cannot write {target} ({error.strerror or error})') from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f'{experiment.title}, {path.name} ({step:,} steps): {config.export}, '
          f'{size / 1e6:.1f} MB; its README.md says what it is')
