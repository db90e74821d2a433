"""Checks one stream, scan by scan: contiguity, completeness, hash chain, and each value's truth.

A value is right if it equals the truth at the PLC scan that was read together with it: the group's
scan counter stands in the same reply. Where clients wrote set values, the PLC scan of the write
served the old value first and then the new one; either is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection

from bench.stored_rows import LedgerRow, Rows, history_chunks, ledger_of
from logger.scan import Batch, Floats, Gap, Quality, ScanLayout
from logger.streams import GENESIS, batch_hash, gap_hash
from plcsim.config import DeviceConfig
from plcsim.signals import PlcScan
from plcsim.truth import Truth, Write

if TYPE_CHECKING:
    from bench.verify import Check

_MOST_EXAMPLES = 3


class StreamCheck:
    """Adds what one stream shows to the checks I3 to I6."""

    def __init__(
        self,
        config: DeviceConfig,
        stream_id: int,
        checks: dict[str, Check],
        writes: Sequence[Write],
    ) -> None:
        self._layout = ScanLayout(config)
        self._stream_id = stream_id
        self._where = f"{config.device.device_id}, stream {stream_id}"
        self._contiguous, self._true = checks["I3"], checks["I4"]
        self._complete, self._chained = checks["I5"], checks["I6"]
        self._values = _ValueCheck(config, writes)
        for check, unit in (
            (self._contiguous, "scans and gaps"),
            (self._true, "values"),
            (self._complete, "scans"),
            (self._chained, "transactions"),
        ):
            check.unit = unit
        if not self._values.applicable and not self._true.checked:
            self._true.not_applicable = "the device file has no signals or no PLC scan counters"

    def run(self, connection: Connection[Any], last_scan: int, head_hash: bytes) -> int:
        """Check the stream that stands at `last_scan`; returns how many history rows it read."""
        device_id = self._layout.device_id
        ledger = ledger_of(connection, device_id, self._stream_id)
        reader = _Reader(history_chunks(connection, device_id, self._stream_id))
        expected_scan, previous = 1, GENESIS
        for row in ledger:
            self._check_contiguity(row, expected_scan)
            rows = reader.up_to(row.last_scan)
            previous = self._check_link(row, rows, previous)
            if row.gap_reason is None:
                self._check_scans(row, rows)
            elif len(rows):
                self._violation(self._complete, f"{len(rows)} rows in gap {row.first_scan}", len(rows))
            expected_scan = row.last_scan + 1
        self._contiguous.checked += 1
        if expected_scan - 1 != last_scan:
            self._violation(self._contiguous, f"ledger ends at {expected_scan - 1}, stream at {last_scan}")
        if previous != head_hash:
            self._violation(self._chained, "the last transaction is not the head of the stream")
        if rest := reader.rest():
            self._violation(self._complete, f"{rest} rows behind the last transaction", rest)
        self._flush_values()
        return reader.read

    def _check_contiguity(self, row: LedgerRow, expected_scan: int) -> None:
        self._contiguous.checked += 1
        if row.first_scan != expected_scan or row.last_scan < row.first_scan:
            self._violation(
                self._contiguous,
                f"transaction {row.transaction_id} has scans {row.first_scan} to {row.last_scan}, "
                f"expected from {expected_scan}",
            )

    def _check_link(self, row: LedgerRow, rows: Rows, previous: bytes) -> bytes:
        """Recompute the hash of a transaction; returns what the next one must link to."""
        self._chained.checked += 1
        if bytes(row.previous_hash) != previous:
            self._violation(
                self._chained, f"transaction {row.transaction_id} does not link to the one before"
            )
        if row.gap_reason is not None:
            gap = Gap(row.first_scan, row.last_scan, row.gap_reason)
            digest = gap_hash(
                gap, self._layout.device_id, self._stream_id, row.transaction_id, bytes(row.previous_hash)
            )
        else:
            digest = batch_hash(
                self._batch(row, rows), self._stream_id, row.process_id, bytes(row.previous_hash)
            )
        if digest != bytes(row.hash):
            self._violation(self._chained, f"transaction {row.transaction_id} is not what was hashed")
        return bytes(row.hash)

    def _check_scans(self, row: LedgerRow, rows: Rows) -> None:
        """Each scan of the transaction must be there once, with every parameter, under its id."""
        scans = row.last_scan - row.first_scan + 1
        self._complete.checked += scans
        size = self._layout.size
        complete = len(rows) == scans * size and bool(
            np.all(rows["parameter_id"] == self._layout.parameter_ids_of(scans))
            and np.all(rows["scan"] == np.repeat(np.arange(row.first_scan, row.last_scan + 1), size))
            and np.all(rows["transaction_id"] == np.void(row.transaction_id.bytes))
        )
        if not complete:
            self._violation(
                self._complete,
                f"scans {row.first_scan} to {row.last_scan} have {len(rows)} rows of their transaction, not "
                f"{scans} · {size}",
            )
            return
        if self._values.applicable:
            self._values.add(rows.reshape(scans, size))
            if self._values.is_full:
                self._flush_values()

    def _flush_values(self) -> None:
        checked, wrong = self._values.flush()
        self._true.checked += checked
        for count, example in wrong:
            self._violation(self._true, example, count)

    def _batch(self, row: LedgerRow, rows: Rows) -> Batch:
        return Batch(
            transaction_id=row.transaction_id,
            device_id=self._layout.device_id,
            first_scan=row.first_scan,
            last_scan=row.last_scan,
            process_number=None,
            parameters=self._layout.size,
            parameter_id=rows["parameter_id"],
            recorded_at=rows["recorded_at"],
            value=rows["value"],
            set_value=rows["set_value"],
            quality=rows["quality"],
            has_bad=False,
            last_scan_is_good=False,
        )

    def _violation(self, check: Check, example: str, count: int = 1) -> None:
        check.violations += count
        if len(check.examples) < _MOST_EXAMPLES:
            check.examples.append(f"{self._where}: {example}")


class _Reader:
    """Hands out rows up to a scan, from chunks that end anywhere."""

    def __init__(self, chunks: Iterator[Rows]) -> None:
        self._chunks = chunks
        self._rows = next(chunks)
        self._position = 0
        self.read = len(self._rows)

    def up_to(self, scan: int) -> Rows:
        while not len(self._rows) or self._rows["scan"][-1] <= scan:
            more = next(self._chunks, None)
            if more is None:
                break
            self.read += len(more)
            self._rows = np.concatenate([self._rows[self._position :], more])
            self._position = 0
        end = int(np.searchsorted(self._rows["scan"], scan, side="right"))
        rows = self._rows[self._position : end]
        self._position = max(end, self._position)
        return rows

    def rest(self) -> int:
        left = len(self._rows) - self._position
        for more in self._chunks:
            self.read += len(more)
            left += len(more)
        return left


class _ValueCheck:
    """Compares scans with the truth, many at a time: computing the truth is vectorised."""

    _FULL = 2000

    def __init__(self, config: DeviceConfig, writes: Sequence[Write]) -> None:
        parameters = config.register_map.parameters
        self._names = [p.full_name for p in parameters]
        self._ids = [p.parameter_id for p in parameters]
        self._layout = ScanLayout(config)
        self._truth = Truth(config)
        self._writes = list(writes)
        counters = {p.group: i for i, p in enumerate(parameters) if isinstance(p.signal, PlcScan)}
        columns = [i for i, p in enumerate(parameters) if p.signal is not None and p.group in counters]
        self._columns = np.array(columns, dtype=np.intp)
        self._counter_of = np.array([counters[parameters[i].group] for i in columns], dtype=np.intp)
        self._scans: list[Rows] = []
        self.applicable = bool(columns)

    @property
    def is_full(self) -> bool:
        return sum(len(rows) for rows in self._scans) >= self._FULL

    def add(self, rows: Rows) -> None:
        """Take scans: rows of shape (scans, parameters)."""
        self._scans.append(rows)

    def flush(self) -> tuple[int, list[tuple[int, str]]]:
        """Check what was taken: values checked, and per wrong parameter a count and an example."""
        if not self._scans:
            return 0, []
        rows = np.concatenate(self._scans)
        self._scans = []
        values = np.ascontiguousarray(rows["value"])
        stored = values[:, self._columns]
        wrong = ~self._right(values, stored)
        wrong |= np.isnan(stored) != (rows["quality"][:, self._columns] != Quality.GOOD)
        set_values = np.ascontiguousarray(rows["set_value"])
        wrong |= ~_equal(set_values, self._layout.set_values(values))[:, self._columns]
        return stored.size, self._examples(wrong, rows)

    def _right(self, values: Floats, stored: Floats) -> NDArray[np.bool_]:
        """Whether each value is the truth of the PLC scan that its group's counter shows.

        A value that was not read is right: its quality says so. A group without its counter tells
        nothing about when it was read, so none of its values is right.
        """
        counters = values[:, self._counter_of]
        plc_scans, place = np.unique(np.nan_to_num(counters, nan=0.0), return_inverse=True)
        at = plc_scans.astype(np.int64)
        place = place.reshape(counters.shape)
        column = self._columns
        right = _equal(stored, self._truth.values_at(at, self._writes)[place, column])
        if self._writes and not right.all():
            later = [Write(w.plc_scan - 1, w.parameter_id, w.value) for w in self._writes]
            at_write = np.array([[w.plc_scan, self._ids.index(w.parameter_id)] for w in self._writes])
            new = _equal(stored, self._truth.values_at(at, later)[place, column])
            for plc_scan, index in at_write:
                right |= new & (counters == plc_scan) & (column == index)
        known = ~np.isnan(counters)
        return np.asarray((right & known) | np.isnan(stored))

    def _examples(self, wrong: NDArray[np.bool_], rows: Rows) -> list[tuple[int, str]]:
        examples = []
        for k in np.flatnonzero(wrong.any(axis=0)):
            scan = int(np.flatnonzero(wrong[:, k])[0])
            column = self._columns[k]
            row = rows[scan, column]
            plc_scan = rows[scan, self._counter_of[k]]["value"]
            true = (
                "unknown"
                if np.isnan(plc_scan)
                else self._truth.values_at(np.array([int(plc_scan)]), self._writes)[0, column]
            )
            examples.append(
                (
                    int(wrong[:, k].sum()),
                    f"{self._names[column]} in scan {row['scan']}: stored {row['value']} (quality "
                    f"{row['quality']}), truth {true} at PLC scan {plc_scan:.0f}",
                )
            )
        return examples


def _equal(a: Floats, b: Floats) -> NDArray[np.bool_]:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))
