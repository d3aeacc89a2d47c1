"""Logs as CSV files: what is kept of them, and what survives damage."""

import os
import pathlib
import resource

import pandas as pd
import pytest
from helpers import names

import csv_log


def test_table_is_the_rows_in_order_also_when_reopened(tmp_path):
    path = tmp_path / 'log.csv'
    table = csv_log.Table(path)
    table.append({'step': 1, 'mode': 'train', 'return': 0.5})
    assert path.read_text() == 'step,mode,return\n1,train,0.5\n'  # flushed at once
    table.append({'return': 1 / 3, 'mode': 'with, "comma"', 'step': 1234567})
    csv_log.Table(path).append({'step': 3, 'mode': 'eval'})
    csv_log.Table(path).append({'step': 4, 'mode': 'eval', 'return': float('nan')})
    found = pd.read_csv(path)
    assert list(found.columns) == ['step', 'mode', 'return']
    assert found['step'].tolist() == [1, 1234567, 3, 4]
    assert found['mode'].tolist() == ['train', 'with, "comma"', 'eval', 'eval']
    assert found['return'][:2].tolist() == [0.5, 0.333333] and found['return'][2:].isna().all()


@pytest.mark.parametrize('cut', [1, 4, 9])
def test_line_that_was_cut_off_is_dropped_when_the_table_is_opened(cut, tmp_path):
    path = tmp_path / 'log.csv'
    table = csv_log.Table(path)
    for step in 1, 2, 3:
        table.append({'step': step, 'value': step / 4})
    path.write_bytes(path.read_bytes()[:-cut])
    csv_log.Table(path).append({'step': 9, 'value': 9.5})
    kept = 1 if cut == 9 else 2
    assert path.read_text() == 'step,value\n' + '1,0.25\n2,0.5\n'[:7 * kept] + '9,9.5\n'


@pytest.mark.parametrize('content', ['', 'step,va'])
def test_table_whose_header_was_cut_off_begins_anew(content, tmp_path):
    path = tmp_path / 'log.csv'
    path.write_text(content)
    csv_log.Table(path).append({'step': 9, 'value': 9.5})
    assert path.read_text() == 'step,value\n9,9.5\n'


def test_new_columns_widen_the_table_and_leave_the_old_text(tmp_path):
    path = tmp_path / 'log.csv'
    table = csv_log.Table(path)
    table.append({'step': 1, 'value': 1e-9, 'name': 'None'})
    csv_log.Table(path).append({'step': 2, 'more': 5, 'value': 2.0})
    csv_log.Table(path).append({'step': 3, 'last': 7})
    assert path.read_text() == (
        'step,value,name,more,last\n1,1e-09,None,,\n2,2,,5,\n3,,,,7\n')
    found = pd.read_csv(path, keep_default_na=False)
    assert found['more'].tolist() == ['', '5', ''] and found['step'].tolist() == [1, 2, 3]
    assert names(tmp_path) == ['log.csv']


def test_widening_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'log.csv'
    table = csv_log.Table(path)
    table.append({'step': 1})

    def killed(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
        table.append({'step': 2, 'more': 3})
    assert path.read_text() == 'step\n1\n'


def valid(row):
    return csv_log.valid_row(row, ('step',))


def test_a_damaged_table_keeps_its_rows_where_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / 'log.csv'
    path.write_bytes(b'step,mode,value\n1,train,0.5\nx,train,0.5\n')

    def full(*_, **__):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(csv_log.Table, 'replace', full)
    with pytest.raises(OSError, match='No space'):
        csv_log.Table(path, valid)
    monkeypatch.undo()
    assert [row['step'] for row in csv_log.Table(path, valid, lambda line: None).rows()] == ['1']


@pytest.mark.parametrize('damage, kept', [
    (lambda c: c.replace(b'2,train', b'2,tr\xffin'), [1, 3]),
    (lambda c: c.replace(b'2,train', b'2,trXin'), [1, 3]),
    (lambda c: c.replace(b'2,train', b'x,train'), [1, 3]),
    (lambda c: c.replace(b'2,train,0.5', b'2,train'), [1, 3]),
    (lambda c: c.replace(b'step,mode', b'st\x00p,mode'), []),
    (lambda c: b'\xff' * 50 + b'\n', []),
    (lambda c: bytes(60) + b'\n', [])])
def test_a_damaged_table_is_set_aside_and_its_whole_rows_go_on(damage, kept, tmp_path):
    path, said = tmp_path / 'log.csv', []
    table = csv_log.Table(path)
    for step in 1, 2, 3:
        table.append({'step': step, 'mode': 'train', 'value': step / 4})
    path.write_bytes(damage(path.read_bytes()))
    broken = path.read_bytes()
    table = csv_log.Table(path, valid, said.append)
    assert (tmp_path / 'log.csv.damaged').read_bytes() == broken
    assert len(said) == 1 and 'log.csv.damaged' in said[0] and '\n' not in said[0]
    assert [int(row['step']) for row in table.rows()] == kept
    table.append({'step': 9, 'mode': 'eval', 'value': 1.0})
    rows = csv_log.Table(path, valid, said.append).rows()
    assert [int(row['step']) for row in rows] == [*kept, 9]
    assert len(said) == 1


def test_a_full_disk_leaves_a_table_without_half_a_line(tmp_path, monkeypatch):
    path = tmp_path / 'log.csv'
    table = csv_log.Table(path)
    table.append({'step': 1, 'value': 2.0})
    size = path.stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 3, limit[1]))
        with pytest.raises(OSError) as caught:
            table.append({'step': 2, 'value': 1.25})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.filename == str(path) and path.stat().st_size == size
    table.append({'step': 2, 'value': 1.25})
    assert path.read_text() == 'step,value\n1,2\n2,1.25\n'


def test_a_table_of_a_relative_folder_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path('file:').mkdir()
    table = csv_log.Table('file:/log.csv')
    table.append({'step': 1})
    table.append({'step': 2, 'more': 3})
    assert pathlib.Path('file:/log.csv').read_text() == 'step,more\n1,\n2,3\n'


def test_a_table_that_another_program_marked_by_its_byte_order_goes_on(tmp_path):
    path = tmp_path / 'log.csv'
    path.write_bytes(b'\xef\xbb\xbfstep,value\r\n1,2\r\n')
    csv_log.Table(path).append({'step': 2, 'value': 3})
    csv_log.Table(path).append({'step': 3, 'more': 4})
    assert pd.read_csv(path, encoding='utf-8-sig').columns.tolist() == ['step', 'value', 'more']
