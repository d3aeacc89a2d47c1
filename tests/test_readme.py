"""The README's tables say what the code says."""

import dataclasses
import pathlib
import re

import pytest

import config

TEXT = (pathlib.Path(config.__file__).parent / 'README.md').read_text(encoding='utf-8')
ROWS = {
    match[1]: [cell.strip() for cell in match[0].split(' |')]
    for match in re.finditer(r'^\| `(\w+)`.*$', TEXT[TEXT.index('## Options'):], re.MULTILINE)}


def same(cell, value):
    """Whether a cell shows `value`: a number by its size, the rest by its text."""
    if isinstance(value, bool) or isinstance(value, str):
        return cell == (str(value) or '(none)')
    return float(cell) == pytest.approx(value)


@pytest.mark.parametrize('field', dataclasses.fields(config.Config), ids=lambda field: field.name)
def test_options_table_has_the_values_of_every_preset(field):
    name, *values = ROWS[field.name][:4]
    assert ('\\*' in name) == field.metadata['model']
    if field.name == 'refine_actions':
        assert values[0] == 'False in `dreamer.py`, True in the others'
    elif field.name != 'preset':
        assert same(values[0], field.default)
        for preset, cell in zip(('cpu', 'debug'), values[1:], strict=True):
            changed = config.PRESETS[preset].get(field.name)
            assert (cell == '') == (changed is None)
            assert changed is None or same(cell, changed)


def test_options_table_says_the_help_of_every_option():
    for field in dataclasses.fields(config.Config):
        said = ROWS[field.name][4].replace('`', '')
        assert said.startswith(field.metadata['help']), field.name
