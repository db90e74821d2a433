"""One PLC: its register image, replaced whole at each PLC scan, and what clients write into it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plcsim.codec import Bytes, Codec, Values
from plcsim.config import DeviceConfig
from plcsim.parameters import Parameter, Table
from plcsim.truth import Truth, Write

log = logging.getLogger(__name__)

_AHEAD = 64
"""PLC scans whose values are computed in one go: the signals are vectorised over scans."""


@dataclass(slots=True)
class TableImage:
    """What a table shows now: two bytes a register as on the wire, or one byte of 0 or 1 a coil."""

    data: bytes
    bytes_per_address: int


class Device:
    """Holds the register image of one PLC; not thread-safe, lives in one event loop.

    `scan(n)` makes the image of PLC scan n. Every read between two calls sees one and the same scan,
    but for what clients write: that shows at once, as in a PLC's memory, and is told to `on_write`.
    Parameters without a signal are such memory only: 0, or what was written last.
    """

    def __init__(self, config: DeviceConfig, on_write: Callable[[Write], None] | None = None) -> None:
        self.config = config
        self.plc_scan = -1
        self._on_write = on_write
        self._held: dict[int, Write] = {}
        self._truth = Truth(config)
        self._ahead: tuple[int, Values] = (0, np.empty((0, 0)))
        self._tables = {table: _TableMap(config, table) for table in Table}
        self.images = {
            table: TableImage(bytes(self._tables[table].size), 1 if table.is_bits else 2) for table in Table
        }
        self.scan(0)

    def scan(self, plc_scan: int) -> None:
        """Replace the whole image by that of a PLC scan."""
        values = self._values_at(plc_scan)
        for table, mapped in self._tables.items():
            if mapped.columns:
                data = np.frombuffer(self.images[table].data, dtype=np.uint8).copy()
                mapped.signals.encode(values[mapped.columns], data)
                self.images[table].data = data.tobytes()
        self.plc_scan = plc_scan

    def is_readable(self, table: Table, address: int, count: int) -> bool:
        """Whether every address holds a parameter or is a gap that this device answers."""
        return self._tables[table].readable.all_in(address, count)

    def is_writable(self, table: Table, address: int, count: int) -> bool:
        """Whether every address belongs to a writable parameter."""
        return self._tables[table].writable.all_in(address, count)

    def write(self, table: Table, address: int, data: bytes) -> None:
        """Put data (as in TableImage) at an address; the addresses must be writable."""
        image = self.images[table]
        start = address * image.bytes_per_address
        changed = bytearray(image.data)
        changed[start : start + len(data)] = data
        image.data = bytes(changed)
        end = address + len(data) // image.bytes_per_address
        mapped = self._tables[table]
        values = mapped.codec.decode(np.frombuffer(image.data, dtype=np.uint8))
        for parameter, value in zip(mapped.parameters, values, strict=True):
            if parameter.address < end and address < parameter.end:
                self._record(Write(self.plc_scan, parameter.parameter_id, float(value)))

    def _record(self, write: Write) -> None:
        self._held[write.parameter_id] = write
        self._ahead = (0, np.empty((0, 0)))
        log.info("parameter %d written: %r", write.parameter_id, write.value)
        if self._on_write:
            self._on_write(write)

    def _values_at(self, plc_scan: int) -> Values:
        first, values = self._ahead
        if not first <= plc_scan < first + len(values):
            first = plc_scan
            scans = np.arange(first, first + _AHEAD, dtype=np.int64)
            values = self._truth.values_at(scans, list(self._held.values()))
            self._ahead = (first, values)
        return np.asarray(values[plc_scan - first])


class _TableMap:
    """What one table of a device holds, computed once."""

    def __init__(self, config: DeviceConfig, table: Table) -> None:
        register_map = config.register_map
        self.parameters: Sequence[Parameter] = register_map.in_table(table)
        self.codec = Codec(self.parameters, table, 0)
        with_signal = [p for p in self.parameters if p.signal]
        self.signals = Codec(with_signal, table, 0)
        index = {p.parameter_id: i for i, p in enumerate(register_map.parameters)}
        self.columns = [index[p.parameter_id] for p in with_signal]
        runs = register_map.readable(table)
        self.readable = _Addresses([(run.address, run.end) for run in runs])
        self.writable = _Addresses([(p.address, p.end) for p in self.parameters if p.writable])
        self.size = max((run.end for run in runs), default=0) * (1 if table.is_bits else 2)


class _Addresses:
    """A set of addresses that answers in constant time whether a whole range belongs to it."""

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        member: Bytes = np.zeros(max((end for _, end in ranges), default=0), dtype=np.uint8)
        for start, end in ranges:
            member[start:end] = 1
        self._below: list[int] = [0, *np.cumsum(member, dtype=np.int64).tolist()]

    def all_in(self, address: int, count: int) -> bool:
        below, end = self._below, address + count
        return end < len(below) and below[end] - below[address] == count
