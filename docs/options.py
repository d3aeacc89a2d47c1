"""Writes options.md, the page of all options, from config.py: `make docs`."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import config  # noqa: E402
import variants  # noqa: E402
from logs import METHODS as NAMES  # noqa: E402

PAGE = ROOT / 'docs' / 'options.md'
METHODS = tuple(map(variants.method_of, NAMES))
LEAD = '''# Options

Written by `make docs` from `config.py`. Each option is a flag of its name, as `--batch 16`; a
boolean is given as `--natural False`, `--no-natural` or `--pcont`. The column `paper` holds the
defaults; an empty cell is the same as `paper`. Options marked \\* are fixed when a run begins.
'''


def cell(value):
    """A value as it is typed."""
    if value == '':
        return '(none)'
    return f'{value:g}' if isinstance(value, float) else str(value)


def scripts(test):
    return ' and '.join(
        f'`{method.name}.py`' for method in METHODS if test(method)) or 'scripts of your own'


def row(field):
    """The line of one option in the table."""
    default = cell(field.default)
    changed = [m for m in METHODS if field.name in m.defaults]
    if changed:
        value = changed[0].defaults[field.name]
        default += f'; {cell(value)} in {scripts(lambda method: method in changed)}'
    presets = [cell(values[field.name]) if field.name in values else ''
               for name, values in config.PRESETS.items() if name != 'paper']
    text = field.metadata['help'].replace('|', '\\|').replace('<', '\\<')
    if choices := field.metadata['choices']:
        text += ' One of ' + ', '.join(f'`{choice}`' for choice in choices) + '.'
    if field.metadata['own']:
        text += f' Only {scripts(lambda method: field.name in method.own)}.'
    name = f'`{field.name}`' + ' \\*' * field.metadata['model']
    return '| ' + ' | '.join([name, default, *presets, text]) + ' |'


def page():
    """The text of the page."""
    names = [name for name in config.PRESETS if name != 'paper']
    head = ['| ' + ' | '.join(['option', 'paper', *names, 'what it does']) + ' |',
            '| ' + ' | '.join(['---'] * (3 + len(names))) + ' |']
    parts = [LEAD]
    for section, fields in config.sections().items():
        parts.append('\n'.join([f'## {section}', '', *head, *map(row, fields), '']))
    return '\n'.join(parts)


if __name__ == '__main__':
    PAGE.write_text(page(), encoding='utf-8')
    print(f'{PAGE.relative_to(ROOT)} is written')
