"""A device file in the making: what every importer hands to the writer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plcsim.limits import MAX_ADDRESS
from plcsim.parameters import ByteOrder, DataType, Table

MAX_NAME = 63
SignalValues = Mapping[str, Any]
"""A signal as a device file says it: kind and the keys of that kind."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One parameter to be."""

    component: str
    name: str
    table: Table
    address: int
    data_type: DataType
    signal: SignalValues
    byte_order: ByteOrder = ByteOrder.ABCD
    length: int | None = None
    """Of a string, in bytes."""
    null_value: int | None = None
    scale: float = 1.0
    unit: str = ""
    writable: bool = False
    comment: str = ""
    """Stands in a line above it."""

    @property
    def full_name(self) -> str:
        return f"{self.component}.{self.name}"

    @property
    def width(self) -> int:
        """Addresses that the value takes."""
        return width_of(self.data_type, self.table, self.length)

    @property
    def end(self) -> int:
        return self.address + self.width


@dataclass(frozen=True, slots=True)
class Group:
    """Entries that one request reads."""

    name: str
    table: Table
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Gap:
    """Addresses that the device answers although no entry lies there."""

    table: Table
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A whole device file to be."""

    device_id: str
    name: str
    origin: str
    """Which files, of which format."""
    unit_id: int
    groups: Sequence[Group]
    gaps: Sequence[Gap] = field(default_factory=list)


def width_of(data_type: DataType, table: Table, length: int | None = None) -> int:
    """Addresses that a value takes: registers, or coils. `length` is that of a string in bytes."""
    if table.is_bits:
        return data_type.bits
    bits = data_type.bits if length is None else 8 * length
    return max(1, -(-bits // 16))


def clean_name(text: str, otherwise: str = "unnamed") -> str:
    """The nearest name that a device file takes: letters, digits and _ . : / - , 63 at most."""
    bare = text.strip()
    kept = re.sub(r"[^A-Za-z0-9_.:/ -]+", "_", bare)
    kept = kept if kept == bare else kept.strip("_ ")
    return re.sub(r"^[^A-Za-z0-9_]+", "", kept)[:MAX_NAME].rstrip() or otherwise


class Names:
    """Gives out names, each once: a second `voltage` becomes `voltage_2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def unique(self, name: str) -> str:
        found = name
        while found in self._taken:
            number = self._counts[name] = self._counts.get(name, 1) + 1
            suffix = f"_{number}"
            found = name[: MAX_NAME - len(suffix)] + suffix
        self._taken.add(found)
        return found


def split_runs(entries: Iterable[Entry], most: int) -> Iterator[list[Entry]]:
    """Entries by address, cut so that each run takes at most `most` addresses from first to last."""
    run: list[Entry] = []
    for entry in sorted(entries, key=lambda e: e.address):
        if run and entry.end - run[0].address > most:
            yield run
            run = []
        run.append(entry)
    if run:
        yield run


def gaps_between(table: Table, answered: Iterable[range], entries: Iterable[Entry]) -> Iterator[Gap]:
    """The addresses of `answered` at which no entry of the table lies, as few gaps as can be."""
    free = bytearray(MAX_ADDRESS + 1)
    for addresses in answered:
        free[addresses.start : addresses.stop] = b"\1" * len(addresses)
    for entry in entries:
        if entry.table is table:
            free[entry.address : entry.end] = bytes(entry.width)
    yield from (Gap(table, run.start(), len(run[0])) for run in re.finditer(rb"\x01+", free))
