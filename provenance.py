"""Where a run comes from: the revision of the code, and the command that makes another like it.
Nothing here imports TensorFlow or the simulator."""

import hashlib
import json
import os
import subprocess

import variants
from config import FIELDS, PRESETS

HERE = os.path.dirname(os.path.abspath(__file__))


def revision():
    """The revision of this code, as 65396d3, or where it was changed since 65396d3+1f0c2a, by what
    was changed; '' where it is in no repository."""
    try:
        said = _git('describe', '--always', '--dirty=+', '--exclude=*').decode().strip()
        changed = _changed()
        return said.rstrip('+') + f'+{changed}' * bool(changed)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ''


def _changed():
    """Six digits for what is not committed of what a run reads here, new files of code included;
    '' where all is, whatever else was changed."""
    new = _git('ls-files', '-z', '--others', '--exclude-standard', '*.py').decode().split('\0')
    texts = [_git('diff', '--no-ext-diff', 'HEAD', '--', '*.py', '*.pkl')]
    for name in filter(None, new):
        with open(os.path.join(HERE, name), 'rb') as file:
            texts += [name.encode(), file.read()]
    return hashlib.sha1(b'\0'.join(texts)).hexdigest()[:6] if any(texts) else ''


def _git(*words):
    return subprocess.run(
        ['git', *words], cwd=HERE, capture_output=True, timeout=20, check=True,
        env=os.environ | {'GIT_OPTIONAL_LOCKS': '0'}).stdout


def history(path):
    """What the configuration at `path` says about how its run went: the `revisions` of the code
    that trained it, and the `changes` of its settings on the way, both lists of texts in their
    order; empty where it does not say."""
    try:
        with open(path, encoding='utf-8') as file:
            values = dict(json.load(file))
    except (OSError, ValueError, TypeError, RecursionError):
        values = {}
    found = {name: values.get(name) for name in ('revisions', 'changes')}
    return {name: [text for text in texts if isinstance(text, str)]
            if isinstance(texts, list) else [] for name, texts in found.items()}


def continued(path, change=''):
    """The `history` at `path` with this revision and a `change` of settings."""
    found = history(path)
    found['revisions'] += [
        now for now in [revision()] if now and now not in found['revisions']]
    found['changes'] += [change] * bool(change)
    return found


def words(config, method):
    """The words of the command line of which `commandline.parse` makes the settings of `config`:
    what is neither a default, nor of its preset, nor about one folder or a finished run."""
    # A preset that is no more leaves its numbers, which differ from the defaults.
    known = config.preset in PRESETS
    usual = variants.usual(config.task, config.preset, method)
    found = ['--task', config.task] + ['--preset', config.preset] * known
    for name, field in FIELDS.items():
        value = getattr(config, name)
        if name in ('logdir', 'task', 'preset', 'dry_run') or (
                field.metadata['own'] and name not in method.own) or (
                field.metadata['section'].startswith('Judging')):
            continue
        if value != usual[name]:
            found += [f'--{name}', typed(value)]
    return found


def typed(value):
    """A value of an option as it is typed."""
    return ','.join(f'{sensor}={number}' for sensor, number in value.items()) if (
        isinstance(value, dict)) else str(value)
