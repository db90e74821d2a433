"""Register images of the next PLC scans, computed in one go: the signals are vectorised over scans.

A write changes what was computed ahead only where it must: what was written stays as it is in memory,
and the parameters that depend on it are computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from plcsim.codec import Bytes
from plcsim.history import History
from plcsim.layout import Layout
from plcsim.memory import TableImage
from plcsim.parameters import Table
from plcsim.truth import Truth

AHEAD = 64
"""PLC scans that are computed in one go."""

_FEW = 8
"""So many written parameters are worth looking at one by one."""


class LookAhead:
    """Makes the images of one device, PLC scan by PLC scan."""

    def __init__(self, truth: Truth, layout: Layout, first_length: int) -> None:
        """The first go is of `first_length` PLC scans, so that the devices of a fleet take turns."""
        self._truth = truth
        self._layout = layout
        self._tables = {table: mapped for table, mapped in layout.tables.items() if mapped.columns}
        self._buttons = sorted(layout.plan.columns[i] for i in layout.plan.commands)
        self._length = first_length
        self._first, self._end = 0, 0
        self._rows: dict[Table, Bytes] = {}
        self._held: dict[Table, NDArray[np.bool_]] = {}
        """Which bytes of a table's image clients have written, as far as parameters go."""
        self._written: set[int] = set()
        """parameter_ids written since the last PLC scan."""

    def forget(self) -> None:
        """Nothing is written, nothing computed."""
        self._held.clear()
        self.outdate()

    def outdate(self) -> None:
        """What was computed ahead holds no more."""
        self._end = self._first
        self._written.clear()

    def written(self, table: Table, start: int, end: int, parameter_ids: Sequence[int]) -> None:
        """Clients have written these parameters, which take these bytes of the table's image."""
        if table in self._tables:
            held = self._held.get(table)
            if held is None:
                held = self._held[table] = np.zeros(self._tables[table].size, dtype=np.bool_)
            held[start:end] = True
        self._written.update(parameter_ids)

    def show(self, plc_scan: int, history: History, images: Mapping[Table, TableImage]) -> None:
        """Put the image of a PLC scan in the place of the one before."""
        if self._written and self._first <= plc_scan < self._end:
            history.forget_before(plc_scan)
            if len(self._written) > _FEW:
                self._compute(plc_scan, self._end, history, images)
            else:
                self._recompute(plc_scan, history, images)
        elif not self._first <= plc_scan < self._end:
            history.forget_before(plc_scan)
            self._compute(plc_scan, plc_scan + self._length, history, images)
            self._length = AHEAD
        self._written.clear()
        for table, rows in self._rows.items():
            images[table].data = rows[plc_scan - self._first].tobytes()

    def _compute(self, first: int, end: int, history: History, images: Mapping[Table, TableImage]) -> None:
        scans = np.arange(first, end, dtype=np.int64)
        columns = self._layout.plan.with_signal
        values = np.full((len(scans), len(self._layout.plan.parameters)), np.nan)
        values[:, columns] = self._truth.signals_at(scans, columns, history)
        self._rows = {}
        for table, mapped in self._tables.items():
            image = np.frombuffer(images[table].data, dtype=np.uint8)
            rows = self._rows[table] = np.repeat(image[np.newaxis], len(scans), axis=0)
            mapped.signals.encode(values[:, mapped.columns], rows)
        self._first, self._end = first, end
        self._keep_what_is_held(first, images)
        self._encode(self._buttons, first, history)

    def _recompute(self, plc_scan: int, history: History, images: Mapping[Table, TableImage]) -> None:
        self._keep_what_is_held(plc_scan, images)
        for parameter_id in self._written:
            self._encode(self._layout.plan.dependents(parameter_id), plc_scan, history)
        self._encode(self._buttons, plc_scan, history)

    def _keep_what_is_held(self, plc_scan: int, images: Mapping[Table, TableImage]) -> None:
        for table, held in self._held.items():
            places = np.flatnonzero(held)
            image = np.frombuffer(images[table].data, dtype=np.uint8)
            self._rows[table][plc_scan - self._first :, places] = image[places]

    def _encode(self, columns: Sequence[int], plc_scan: int, history: History) -> None:
        if not columns:
            return
        values = self._truth.signals_at(np.arange(plc_scan, self._end, dtype=np.int64), columns, history)
        for part in self._layout.parts.of(columns):
            part.codec.encode(values[:, part.places], self._rows[part.table][plc_scan - self._first :])
