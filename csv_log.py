"""Logs of a run as CSV files: appended row by row, whole after a kill, mended where damaged."""

import contextlib
import csv
import io
import os
import pathlib
import re

import numpy as np

import files

# A name that a log can have: damage leaves others.
COLUMN = re.compile(r'[\w./ -]+', re.ASCII)
# What a row of episodes.csv can say of its episode.
MODES = 'prefill', 'train', 'mixed', 'cut', 'eval'


class Table:
    """A CSV file to which rows (dicts) are appended, each flushed; still valid after a kill.

    A line that was cut off is dropped when the file is opened; a row with new columns widens
    the file, atomically. A file that is damaged is set aside, and its rows that can be read are
    kept: those for which `valid`, a function of a row as text, is true.
    """

    def __init__(self, path, valid=None, report=print):
        self.path = pathlib.Path(path)
        self.columns = None
        files.clean(self.path.parent, re.compile(re.escape(self.path.name)))
        if self.path.exists():
            content = self.path.read_bytes()
            whole = content[:content.rfind(b'\n') + 1]
            if valid and self._damaged(whole, valid):
                kept = self.rows(valid)
                aside = files.set_aside(self.path, copy=True)  # what is readable stays there
                report(f'warning: damaged rows in {self.path}; {len(kept)} can be read, and the '
                       f'file is set aside as {aside}')
                self.replace(kept)
                return
            if whole != content:
                self._replace(whole)
            header = whole.split(b'\n')[0].decode('utf-8-sig', 'replace').strip()
            self.columns = header.split(',') if header else None

    def _damaged(self, content, valid):
        try:
            lines = list(csv.reader(io.StringIO(content.decode('utf-8-sig'))))
        except (ValueError, csv.Error):
            return True
        if not lines:
            return False
        header, *rows = lines
        return len(set(header)) < len(header) or not all(
            COLUMN.fullmatch(name) for name in header) or not all(
            len(row) == len(header) and valid(dict(zip(header, row))) for row in rows)

    def rows(self, valid=lambda row: True):
        """The rows as dicts of text; without those that cannot be read or are not `valid`."""
        if not self.path.exists():
            return []
        text = self.path.read_bytes().decode('utf-8-sig', 'replace')
        found, header = [], None
        for line in text[:text.rfind('\n') + 1].splitlines():
            with contextlib.suppress(csv.Error):
                for cells in csv.reader([line]):
                    if header is None:
                        header = cells
                    elif len(cells) == len(header):
                        row = dict(zip(header, cells))
                        if '\ufffd' not in line and valid(row):
                            found.append(row)
        return found

    def replace(self, rows):
        """Make the table these rows (dicts), atomically."""
        self.columns = list(dict.fromkeys(key for row in rows for key in row)) or None
        text = io.StringIO()
        if self.columns:
            writer = csv.DictWriter(text, self.columns, restval='', lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)
        self._replace(text.getvalue().encode())

    def _replace(self, content):
        with files.writing(self.path) as file:
            file.write(content)

    def append(self, row):
        row = texts(row)
        if set(row) - set(self.columns or ()):
            self.replace([*self.rows(), row])
            return
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator='\n').writerow(row)
        self._append(text.getvalue().encode())

    def _append(self, line):
        """Write a line at the end, all of it or, where the disk is full, nothing."""
        with open(self.path, 'ab', buffering=0) as file:
            before = file.tell()
            try:
                while line:
                    line = line[file.write(line):]
            except OSError as error:
                error.filename = error.filename or os.fspath(self.path)
                with contextlib.suppress(OSError):
                    file.truncate(before)
                raise


def texts(row):
    """The row of a table as it is written: numbers to six digits."""
    return {key: f'{v:.6g}' if isinstance(v, float) else v for key, v in row.items()}


def valid_row(row, least):
    """Whether a row of a log, as text, has a number in each cell but `mode`, empty ones aside, and
    a finite one in those of the columns `least`."""
    try:
        values = {key: float(cell) for key, cell in row.items() if cell and key != 'mode'}
    except ValueError:
        return False
    return all(np.isfinite(values.get(key, np.nan)) for key in least) and row.get(
        'mode', 'train') in MODES
