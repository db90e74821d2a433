"""How a device's map lies in its register image: what all devices of one map can share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from plcsim.codec import Bytes, Codec, encode_text
from plcsim.config import DeviceConfig
from plcsim.missing_values import MissingValues
from plcsim.parameters import DataType, Parameter, RegisterMap, Table
from plcsim.parts import Parts
from plcsim.signals import Text, noise_key, uniform
from plcsim.truth_plan import TruthPlan


class Layout:
    """What follows from a device's map alone; a thousand devices of one map share one Layout."""

    def __init__(self, config: DeviceConfig) -> None:
        self.register_map = config.register_map
        self.tables = {table: TableLayout(config, table) for table in Table}
        self.plan = TruthPlan(config)
        self.parts = Parts(config.register_map)


class TableLayout:
    """What one table of a device holds, computed once; nothing in it ever changes."""

    def __init__(self, config: DeviceConfig, table: Table) -> None:
        register_map = config.register_map
        self.table = table
        self.parameters: Sequence[Parameter] = register_map.in_table(table)
        self.codec = Codec(self.parameters, table, 0)
        """Of all `parameters`, over the whole table."""
        with_signal = [p for p in self.parameters if p.signal and p.data_type is not DataType.STRING]
        self.signals = Codec(with_signal, table, 0)
        """Of the numbers that a signal makes, in the order of `columns`."""
        index = {p.parameter_id: i for i, p in enumerate(register_map.parameters)}
        self.columns = [index[p.parameter_id] for p in with_signal]
        """Where these parameters stand among all of the device."""
        readable = [(run.address, run.end) for run in register_map.readable(table)]
        writable = [(p.address, p.end) for p in self.parameters if p.writable]
        self.readable = Addresses(readable)
        self.writable = Addresses(writable)
        self.size = max((end for _, end in readable + writable), default=0) * (1 if table.is_bits else 2)
        """Bytes of the table's image."""
        self.initial = _initial(register_map, table, self.size)
        """The image before the first PLC scan: junk in gaps that have it, constant texts, zeros."""

    @cached_property
    def missing(self) -> MissingValues:
        """Made when it is first asked for, as few devices ever are."""
        return MissingValues(self.parameters, self.table, self.size)


def _initial(register_map: RegisterMap, table: Table, size: int) -> bytes:
    width = 1 if table.is_bits else 2
    image = bytearray(size)
    for gap in register_map.junk_gaps:
        if gap.table is table:
            image[width * gap.address : width * gap.end] = _junk(table, gap.address, gap.end)
    for p in register_map.in_table(table):
        own = encode_text(p.signal.value, p) if isinstance(p.signal, Text) else bytes(width * p.width)
        image[width * p.address : width * p.end] = own
    return bytes(image)


def _junk(table: Table, start: int, end: int) -> bytes:
    """Bytes that look random, the same for an address in every device and every run."""
    share = uniform(noise_key(0, "junk", list(Table).index(table)), np.arange(start, end, dtype=np.int64))
    if table.is_bits:
        return (share * 2).astype(np.uint8).tobytes()
    return (share * 2**16).astype(">u2").tobytes()


class Addresses:
    """A set of addresses that answers in constant time whether a whole range belongs to it."""

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        member: Bytes = np.zeros(max((end for _, end in ranges), default=0), dtype=np.uint8)
        for start, end in ranges:
            member[start:end] = 1
        self._below: list[int] = [0, *np.cumsum(member, dtype=np.int64).tolist()]

    def all_in(self, address: int, count: int) -> bool:
        below, end = self._below, address + count
        return end < len(below) and below[end] - below[address] == count
