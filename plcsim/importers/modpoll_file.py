"""Reads the rows of a modpoll configuration (github.com/gavinying/modpoll): `device`, `poll` and `ref`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from plcsim.errors import ConfigError
from plcsim.importers.report import Report
from plcsim.importers.source_file import read_text
from plcsim.limits import MAX_ADDRESS
from plcsim.parameters import ByteOrder, Table

_BYTE_ORDERS = {
    "be_be": ByteOrder.ABCD,
    "be_le": ByteOrder.CDAB,
    "le_be": ByteOrder.BADC,
    "le_le": ByteOrder.DCBA,
}
"""That of the bytes in a register, then that of the registers."""


class Row(NamedTuple):
    """One row of the file, its cells without blanks around them."""

    line: int
    cells: list[str]

    def cell(self, column: int) -> str:
        return self.cells[column] if column < len(self.cells) else ""


@dataclass(slots=True)
class Poll:
    """One request of modpoll, and the refs that it serves."""

    table: Table
    address: int
    count: int
    byte_order: ByteOrder
    refs: list[Row] = field(default_factory=list)

    @property
    def range(self) -> range:
        return range(self.address, self.address + self.count)


@dataclass(slots=True)
class ModpollDevice:
    """A `device` row and what follows it."""

    name: str
    unit_id: int
    line: int
    polls: list[Poll] = field(default_factory=list)


def read_devices(path: Path, report: Report) -> list[ModpollDevice]:
    """All devices of a file; a `ref` without a poll goes into the report.

    Raises ConfigError, with line and value, for any other row that says nothing usable.
    """
    devices: list[ModpollDevice] = []
    for row in _rows(path):
        kind = row.cell(0).lower()
        if kind == "device":
            unit_id = _whole(path, row, 2, "the unit id", 0, 255)
            devices.append(ModpollDevice(row.cell(1), unit_id, row.line))
        elif kind == "poll":
            if not devices:
                raise _wrong(path, row, 0, "must come after a `device` row")
            devices[-1].polls.append(_poll(path, row))
        elif kind != "ref":
            raise _wrong(path, row, 0, "must be device, poll or ref, and commas between the columns")
        elif not devices or not devices[-1].polls:
            report.leave_out(where(row), "stands before the first `poll` of its device")
        else:
            devices[-1].polls[-1].refs.append(row)
    return devices


def _rows(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            raise ConfigError(f"is not CSV: {exc}", source=str(path), line=line) from None
        cells = [cell.strip() for cell in cells]
        if any(cells) and not cells[0].startswith("#"):
            yield Row(line, cells)


def _poll(path: Path, row: Row) -> Poll:
    tables = ", ".join(table.value for table in Table)
    if row.cell(1).lower() not in list(Table):
        raise _wrong(path, row, 1, f"must be one of {tables}")
    table = Table(row.cell(1).lower())
    address = _whole(path, row, 2, "the address", 0, MAX_ADDRESS)
    count = _whole(path, row, 3, "the size", 1, min(table.max_read, MAX_ADDRESS + 1 - address))
    if row.cell(4).lower() not in _BYTE_ORDERS:
        raise _wrong(path, row, 4, "must be one of BE_BE, BE_LE, LE_BE, LE_LE")
    return Poll(table, address, count, _BYTE_ORDERS[row.cell(4).lower()])


def _whole(path: Path, row: Row, column: int, what: str, low: int, high: int) -> int:
    value = integer(row.cell(column))
    if value is None or not low <= value <= high:
        raise _wrong(path, row, column, f"{what} must be an integer, {low} to {high}")
    return value


def integer(cell: str) -> int | None:
    """Like modpoll, decimal or 0x…"""
    try:
        return int(cell, 0) if len(cell) < 20 else None
    except ValueError:
        return None


def _wrong(path: Path, row: Row, column: int, problem: str) -> ConfigError:
    shown = repr(row.cell(column)[:60])
    return ConfigError(f"{shown}: {problem}", source=str(path), line=row.line, key=f"column {column + 1}")


def where(row: Row) -> str:
    """Where a ref stands, for the report."""
    return f"line {row.line}: {row.cell(1)[:60] or 'a ref without a name'}"
