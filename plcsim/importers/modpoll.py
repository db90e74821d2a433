"""Turns one device of a modpoll configuration into a draft.

What modpoll does with a row decides what it means here: addresses are those on the wire, and `poll`
reads its whole range, so that the device answers there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from plcsim.errors import ConfigError, InputError
from plcsim.importers.defaults import constant, signal_for, text
from plcsim.importers.draft import (
    Draft,
    Entry,
    Gap,
    Group,
    Names,
    clean_name,
    gaps_between,
    split_runs,
    width_of,
)
from plcsim.importers.modpoll_file import ModpollDevice, Poll, Row, integer, read_devices, where
from plcsim.importers.report import Report
from plcsim.limits import MAX_READ_REGISTERS
from plcsim.parameters import ByteOrder, DataType, Table

_NUMBERS = {
    name: DataType(name)
    for name in ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
}
_BITS = {"bool": 1, "bool8": 8, "bool16": 16}
_COIL_BYTE = 8
"""In a poll of bits modpoll counts the addresses of refs in bytes from the poll's start."""


def import_modpoll(path: Path, wanted: str | None = None) -> tuple[Draft, Report]:
    """Read one device of a modpoll file: the one named `wanted`, else the first.

    Raises ConfigError (line and value) for a `device` or `poll` row that says nothing usable. A `ref`
    row never stops the import: what it cannot give is in the report.
    """
    report = Report("refs")
    devices = read_devices(path, report)
    chosen = _choose(path, devices, wanted)
    for other in devices:
        if other is not chosen and (refs := sum(len(poll.refs) for poll in other.polls)):
            what = f"a device file describes one device; import its {refs} refs with --device"
            report.leave_out(f"line {other.line}: device {other.name!r}", what, refs)
    device = _Importer(chosen, report)
    groups = device.groups()
    if not groups:
        first = f"; the first: {report.left_out[0]}" if report.left_out else ""
        raise ConfigError(f"no ref can be imported{first}", source=str(path), line=chosen.line)
    return (
        Draft(
            device_id=clean_name(chosen.name, "modpoll"),
            name=chosen.name,
            origin=f"{path.name}, a modpoll configuration",
            unit_id=chosen.unit_id,
            groups=groups,
            gaps=device.gaps(),
        ),
        report,
    )


def _choose(path: Path, devices: Sequence[ModpollDevice], wanted: str | None) -> ModpollDevice:
    if not devices:
        raise ConfigError("has no `device` row (device,NAME,UNIT_ID)", source=str(path))
    for device in devices:
        if wanted is None or device.name == wanted:
            return device
    names = ", ".join(repr(device.name) for device in devices[:20])
    raise InputError(f"{path}: has no device {wanted!r}; there are {names}")


class _Importer:
    """Turns the refs of one device into entries, one after the other."""

    def __init__(self, device: ModpollDevice, report: Report) -> None:
        self._device = device
        self._report = report
        self._component = clean_name(device.name, "device")
        self._names = Names()
        self._taken: dict[Table, dict[int, str]] = {table: {} for table in Table}
        self._entries: list[Entry] = []
        self._changes: list[str] = []
        """Of the ref at hand."""

    def groups(self) -> list[Group]:
        """A group a poll, so that what modpoll read in one request is read in one here."""
        groups, names = [], Names()
        for poll in self._device.polls:
            entries = [entry for row in poll.refs for entry in self._entries_of(row, poll)]
            self._entries += entries
            name = f"{poll.table.value} {poll.address}"
            groups += [
                Group(names.unique(name), poll.table, run) for run in split_runs(entries, poll.table.max_read)
            ]
        return groups

    def gaps(self) -> list[Gap]:
        return [
            gap
            for table in Table
            for gap in gaps_between(
                table, (p.range for p in self._device.polls if p.table is table), self._entries
            )
        ]

    def _entries_of(self, row: Row, poll: Poll) -> list[Entry]:
        """The entries of a ref: none if the report says why, eight for a bool8 in coils, else one."""
        self._changes = []
        places = self._places(row, poll)
        if isinstance(places, str):
            self._report.leave_out(where(row), places)
            return []
        data_type, length, addresses = places
        entries = self._made(row, poll, data_type, length, addresses)
        for entry in entries:
            self._taken[poll.table].update(dict.fromkeys(range(entry.address, entry.end), entry.name))
        self._report.take()
        for change in self._changes:
            self._report.change(where(row), change)
        return entries

    def _made(
        self, row: Row, poll: Poll, data_type: DataType, length: int | None, addresses: Sequence[int]
    ) -> list[Entry]:
        unit = row.cell(5)[:60]
        writable, scale = self._writable(row, poll), self._scale(row, data_type)
        return [
            Entry(
                self._component,
                name := self._name(row, f"_{bit}" if len(addresses) > 1 else ""),
                poll.table,
                at,
                data_type,
                _signal(name, unit, data_type, scale, length, writable),
                ByteOrder.ABCD if length is not None else poll.byte_order,
                length,
                scale=scale,
                unit=unit,
                writable=writable,
            )
            for bit, at in enumerate(addresses)
        ]

    def _places(self, row: Row, poll: Poll) -> tuple[DataType, int | None, Sequence[int]] | str:
        """Type, length of a string, and where its values lie; or why it cannot be."""
        address = integer(row.cell(2))
        if address is None:
            return f"{row.cell(2)[:60]!r}: the address must be an integer"
        found = self._type(row.cell(3).lower(), poll.table)
        if isinstance(found, str):
            return found
        data_type, length, bits = found
        addresses = range(address, address + bits)
        if bits > 1:
            address = poll.address + _COIL_BYTE * (address - poll.address)
            addresses = range(address, max(address + 1, min(address + bits, poll.range.stop)))
            what = f"became {len(addresses)} parameters, one a bit"
            self._changes.append(f"{what}, from {poll.table.value} {address}")
        problem = self._conflict(poll, addresses, width_of(data_type, poll.table, length))
        return (data_type, length, addresses) if problem is None else problem

    def _type(self, dtype: str, table: Table) -> tuple[DataType, int | None, int] | str:
        """Type, length of a string, and over how many parameters it spreads; or why there is none."""
        if table.is_bits:
            if dtype in _BITS:
                return DataType.BOOL, None, _BITS[dtype]
            return f"{dtype[:60]!r} in a {table.value}; there can be bool, bool8 and bool16"
        if dtype in _NUMBERS:
            return _NUMBERS[dtype], None, 1
        if dtype in _BITS:
            self._changes.append(f"{dtype} in a register became uint16: its bits are not split")
            return DataType.UINT16, None, 1
        if match := re.fullmatch(r"string([0-9]{1,3})", dtype):
            if 1 <= int(match[1]) <= 2 * MAX_READ_REGISTERS:
                return DataType.STRING, int(match[1]), 1
            return f"{dtype!r}: a string has 1 to {2 * MAX_READ_REGISTERS} bytes"
        if dtype == "float16":
            return "float16 is no type of a device file; its register is answered with 0"
        return f"{dtype[:60]!r} is not a type of modpoll"

    def _conflict(self, poll: Poll, addresses: Sequence[int], width: int) -> str | None:
        start, end = addresses[0], addresses[-1] + width
        if not poll.range.start <= start < end <= poll.range.stop:
            place = f"{start} lies" if end - start == 1 else f"{start} to {end - 1} lie"
            return f"{place} outside of its poll ({poll.range.start} to {poll.range.stop - 1})"
        taken = self._taken[poll.table]
        other = next((taken[at] for at in range(start, end) if at in taken), None)
        return None if other is None else f"overlaps {other} in {poll.table.value} {start} to {end - 1}"

    def _name(self, row: Row, suffix: str) -> str:
        wished = row.cell(1).replace(" ", "_")
        name = self._names.unique(clean_name(wished)[: 63 - len(suffix)] + suffix)
        if name != wished + suffix:
            self._changes.append(f"is called {name!r}")
        return name

    def _writable(self, row: Row, poll: Poll) -> bool:
        access = row.cell(4).lower() or "r"
        if set(access) - set("rw"):
            self._changes.append(f"{access[:20]!r} is not r, w or rw; imported as r")
            return False
        if "w" in access and not poll.table.is_writable:
            self._changes.append(f"a client cannot write {poll.table.value}s; imported as r")
            return False
        if access == "w":
            self._changes.append("its poll reads a register of access w too; imported as rw")
        return "w" in access

    def _scale(self, row: Row, data_type: DataType) -> float:
        cell = row.cell(6)
        if not cell or data_type in (DataType.BOOL, DataType.STRING):
            return 1.0
        try:
            scale = float(cell)
        except ValueError:
            scale = math.nan
        if not 1e-300 < abs(scale) < 1e300:
            self._changes.append(f"scale {cell[:20]!r} is not a number other than 0; imported as 1")
            return 1.0
        return scale


def _signal(
    name: str, unit: str, data_type: DataType, scale: float, length: int | None, writable: bool
) -> dict[str, object]:
    if length is not None:
        return text(name, length)
    return signal_for(name, unit, data_type, scale, fixed=writable) or constant(0)
