"""Finds and codes some of a device's parameters, without the work that all of them would be."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from plcsim.codec import Codec
from plcsim.parameters import RegisterMap, Table


class Part(NamedTuple):
    """Those of some parameters that lie in one table."""

    table: Table
    codec: Codec
    """Over the whole table."""
    places: list[int]
    """Where they stand among the parameters that were asked for."""


class Parts:
    """Keeps what it made: a codec for each parameter and for what depends on it, at most."""

    def __init__(self, register_map: RegisterMap) -> None:
        self._parameters = register_map.parameters
        columns = {p.parameter_id: i for i, p in enumerate(self._parameters)}
        in_tables = {table: register_map.in_table(table) for table in Table}
        self._columns = {t: [columns[p.parameter_id] for p in all_] for t, all_ in in_tables.items()}
        self._starts = {table: [p.address for p in all_] for table, all_ in in_tables.items()}
        self._ends = {table: [p.end for p in all_] for table, all_ in in_tables.items()}
        self._made: dict[tuple[int, ...], Sequence[Part]] = {}

    def touching(self, table: Table, address: int, end: int) -> range:
        """Which of a table's parameters, in the order of their addresses, take any of these addresses."""
        return range(bisect_right(self._ends[table], address), bisect_left(self._starts[table], end))

    def columns(self, table: Table, touching: range) -> list[int]:
        """Where these parameters stand among all of the device."""
        return self._columns[table][touching.start : touching.stop]

    def of(self, columns: Sequence[int]) -> Sequence[Part]:
        """What codes the parameters of these columns."""
        key = tuple(columns)
        if key not in self._made:
            chosen = [self._parameters[i] for i in key]
            self._made[key] = [
                Part(table, Codec([p for p in chosen if p.table is table], table, 0), places)
                for table in Table
                if (places := [i for i, p in enumerate(chosen) if p.table is table])
            ]
        return self._made[key]
