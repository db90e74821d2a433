"""Register images of the next PLC scans, computed many at once: the signals are vectorised over scans.

The parameters are computed in batches that take turns, so that no PLC scan has to wait for all of them. A
write changes what was computed ahead only where it must: what was written stays as it is in memory, and
the parameters that depend on it are computed again.
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

_BATCH = 256
"""Parameters that are computed in one go: 2 or 3 ms."""

_FEW = 8
"""So many written parameters are worth looking at one by one."""


class LookAhead:
    """Makes the images of one device, PLC scan by PLC scan."""

    def __init__(self, truth: Truth, layout: Layout, turn: int) -> None:
        """The first go is of `turn` PLC scans, 1 to AHEAD, so that the devices of a fleet take turns."""
        self._truth = truth
        self._layout = layout
        columns = layout.plan.with_signal
        starts = range(0, len(columns), _BATCH)
        self._batches = [
            _Batch(columns[start : start + _BATCH], 1 + (turn - 1 + AHEAD * i // len(starts)) % AHEAD)
            for i, start in enumerate(starts)
        ]
        self._buttons = sorted(layout.plan.columns[i] for i in layout.plan.commands)
        self._rows: dict[Table, Bytes] = {}
        """Images by PLC scan modulo AHEAD, of the tables that signals change."""
        self._held: dict[Table, NDArray[np.bool_]] = {}
        """Which bytes of a table's image clients have written, as far as parameters go."""
        self._written: set[int] = set()
        """parameter_ids written since the last PLC scan."""
        self.forget()

    def forget(self) -> None:
        """Nothing is written, nothing computed."""
        for table, mapped in self._layout.tables.items():
            if mapped.columns:
                image = np.frombuffer(mapped.initial, dtype=np.uint8)
                self._rows[table] = np.repeat(image[np.newaxis], AHEAD, axis=0)
        self._held.clear()
        self._written.clear()
        self.outdate()

    def outdate(self) -> None:
        """What was computed ahead holds no more."""
        for batch in self._batches:
            batch.first = batch.end = 0
            batch.length = batch.turn

    def written(self, table: Table, start: int, end: int, parameter_ids: Sequence[int]) -> None:
        """Clients have written these parameters, which take these bytes of the table's image."""
        if table in self._rows:
            held = self._held.get(table)
            if held is None:
                held = self._held[table] = np.zeros(self._layout.tables[table].size, dtype=np.bool_)
            held[start:end] = True
        self._written.update(parameter_ids)

    def show(self, plc_scan: int, history: History, images: Mapping[Table, TableImage]) -> None:
        """Put the image of a PLC scan in the place of the one before."""
        due = [batch for batch in self._batches if not batch.first <= plc_scan < batch.end]
        if due or self._written:
            history.forget_before(plc_scan)
            for batch in due:
                batch.first, batch.end = plc_scan, plc_scan + batch.length
                batch.length = AHEAD
                self._encode(batch.columns, plc_scan, batch.end, history)
            self._follow_writes(plc_scan, history)
            self._keep_what_is_held(images)
        for table, rows in self._rows.items():
            images[table].data = rows[plc_scan % AHEAD].tobytes()

    def _follow_writes(self, plc_scan: int, history: History) -> None:
        changed = [columns for i in self._written if (columns := self._layout.plan.dependents(i))]
        self._written.clear()
        if len(changed) <= _FEW:
            end = max((batch.end for batch in self._batches), default=plc_scan)
            for columns in changed:
                self._encode(columns, plc_scan, end, history)
        else:
            of_them = {column for columns in changed for column in columns}
            for batch in self._batches:
                if batch.first < plc_scan and not of_them.isdisjoint(batch.columns):
                    self._encode(batch.columns, plc_scan, batch.end, history)

    def _keep_what_is_held(self, images: Mapping[Table, TableImage]) -> None:
        """Put what clients wrote into all images ahead; push buttons come up again."""
        for table, held in self._held.items():
            places = np.flatnonzero(held)
            image = np.frombuffer(images[table].data, dtype=np.uint8)
            self._rows[table][:, places] = image[places]
        if self._held and self._buttons:
            for part in self._layout.parts.of(self._buttons):
                part.codec.encode(np.zeros((AHEAD, len(part.places))), self._rows[part.table])

    def _encode(self, columns: Sequence[int], first: int, end: int, history: History) -> None:
        values = self._truth.signals_at(np.arange(first, end, dtype=np.int64), columns, history)
        row, wraps = first % AHEAD, AHEAD - first % AHEAD
        for part in self._layout.parts.of(columns):
            rows, mine = self._rows[part.table], values[:, part.places]
            part.codec.encode(mine[:wraps], rows[row : row + len(mine)])
            if len(mine) > wraps:
                part.codec.encode(mine[wraps:], rows[: len(mine) - wraps])


class _Batch:
    """Parameters that are computed together, and the PLC scans of which they are."""

    __slots__ = ("columns", "end", "first", "length", "turn")

    def __init__(self, columns: Sequence[int], turn: int) -> None:
        self.columns = columns
        self.turn = turn
        """PLC scans of the first go; AHEAD of every later one."""
        self.length = turn
        self.first, self.end = 0, 0
