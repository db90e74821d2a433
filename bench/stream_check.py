"""Checks one stream, scan by scan: contiguity, completeness, hash chain, and each value's truth.

A value is right if it equals the truth at the PLC scan that was read together with it: the group's
scan counter stands in the same reply. Where clients wrote set values, the PLC scan of the write
served the old value first and then the new one; either is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection

from bench.invariants import Check
from bench.stored_rows import LedgerRow, RowReader, Rows, executions_of, history_chunks, ledger_of
from logger.scan import Batch, Floats, Gap, Quality, ScanLayout
from logger.streams import GENESIS, StreamHead, batch_hash, gap_hash
from plcsim.config import DeviceConfig
from plcsim.signals import PlcScan
from plcsim.truth import Truth, Write

_PLC_SCANS = 2**32
"""PLC scan counters are below."""


class StreamCheck:
    """Adds what one stream shows to the checks I3 to I6, and to I1 whether a process ran."""

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
        self._recorded, self._contiguous, self._true = checks["I1"], checks["I3"], checks["I4"]
        self._complete, self._chained = checks["I5"], checks["I6"]
        self._values = _ValueCheck(config, self._layout, writes)
        self._executions: dict[UUID, tuple[int, str]] = {}
        self._process_number: int | None = None
        for check, unit in (
            (self._contiguous, "scans and gaps"),
            (self._true, "values"),
            (self._complete, "scans"),
            (self._chained, "transactions"),
        ):
            check.unit = unit
        if not (self._values.applicable or self._true.checked or self._true.violations):
            self._true.not_applicable = "the device file has no signals or no PLC scan counters"

    def run(self, connection: Connection[Any], head: StreamHead | None) -> int:
        """Check the stream whose row says `head`; returns how many history rows it read."""
        device_id = self._layout.device_id
        ledger = ledger_of(connection, device_id, self._stream_id)
        self._executions = executions_of(connection, device_id, self._stream_id)
        reader = RowReader(history_chunks(connection, device_id, self._stream_id))
        expected_scan, previous = 1, GENESIS
        for row in ledger:
            self._check_contiguity(row, expected_scan)
            rows = reader.up_to(row.last_scan)
            previous = self._check_link(row, rows, previous)
            if row.gap_reason is None:
                self._check_scans(row, rows)
            elif len(rows):
                self._violated(self._complete, f"gap {row.first_scan} has rows", len(np.unique(rows["scan"])))
            expected_scan = row.last_scan + 1
        self._contiguous.checked += 1
        if head is None:
            self._violated(self._contiguous, "logging_streams has no row of it")
        elif expected_scan - 1 != head.last_scan:
            self._violated(
                self._contiguous, f"ledger ends at {expected_scan - 1}, stream at {head.last_scan}"
            )
        if head is not None and previous != head.head_hash:
            self._violated(self._chained, "the last transaction is not the head of the stream")
        if scans := reader.scans_left():
            self._violated(self._complete, f"{scans} scans behind the last transaction", scans)
        self._flush_values()
        return reader.read

    def _check_contiguity(self, row: LedgerRow, expected_scan: int) -> None:
        self._contiguous.checked += 1
        if row.first_scan != expected_scan or row.last_scan < row.first_scan:
            self._violated(
                self._contiguous,
                f"transaction {row.transaction_id} has scans {row.first_scan} to {row.last_scan}, "
                f"expected from {expected_scan}",
            )

    def _check_link(self, row: LedgerRow, rows: Rows, previous: bytes) -> bytes:
        """Recompute the hash of a transaction; returns what the next one must link to."""
        self._chained.checked += 1
        linked, stored = bytes(row.previous_hash), bytes(row.hash)
        if linked != previous:
            self._violated(self._chained, f"transaction {row.transaction_id} does not link to the one before")
        if row.gap_reason is not None:
            gap = Gap(row.first_scan, row.last_scan, row.gap_reason)
            digest = gap_hash(gap, self._layout.device_id, self._stream_id, row.transaction_id, linked)
        else:
            digest = batch_hash(self._batch(row, rows), self._stream_id, row.process_id, linked)
        if digest != stored:
            self._violated(self._chained, f"transaction {row.transaction_id} is not what was hashed")
        return stored

    def _check_scans(self, row: LedgerRow, rows: Rows) -> None:
        """Each scan of the transaction must be there once, with every parameter, under its id."""
        scans, size = max(0, row.last_scan - row.first_scan + 1), self._layout.size
        self._complete.checked += scans
        whole = len(rows) == scans * size and bool(
            np.all(rows["parameter_id"] == self._layout.parameter_ids_of(scans))
            and np.all(rows["scan"] == np.repeat(np.arange(row.first_scan, row.last_scan + 1), size))
            and np.all(rows["transaction_id"] == np.void(row.transaction_id.bytes))
        )
        found = rows.reshape(scans, size) if whole else self._whole_scans(row, rows, scans)
        self._check_process(row, found)
        self._values.add(found)
        if self._values.is_full:
            self._flush_values()

    def _whole_scans(self, row: LedgerRow, rows: Rows, scans: int) -> Rows:
        """Those scans of a damaged transaction that are there as they must; counts the others."""
        numbers, starts = np.unique(rows["scan"], return_index=True)
        found, others = [], 0
        for number, scan in zip(numbers, np.split(rows, starts[1:]), strict=False):  # one array at least
            if not row.first_scan <= number <= row.last_scan:
                others += 1
            elif (
                np.array_equal(scan["parameter_id"], self._layout.parameter_ids)
                and np.all(scan["transaction_id"] == np.void(row.transaction_id.bytes))
            ):  # fmt: skip
                found.append(scan)
        self._violated(
            self._complete,
            f"transaction {row.transaction_id} has {len(found)} of its scans {row.first_scan} to "
            f"{row.last_scan} once, with all {self._layout.size} rows under its id",
            scans - len(found) + others,
        )
        return np.array(found, dtype=rows.dtype).reshape(len(found), self._layout.size)

    def _check_process(self, row: LedgerRow, scans: Rows) -> None:
        """A transaction belongs to the process that its scans show running, or to none."""
        runs = set()
        for values in scans["value"]:
            self._process_number = self._layout.process_number(values, self._process_number)
            runs.add(self._process_number)
        number, recipe = self._executions.get(row.process_id, (-1, "?")) if row.process_id else (None, "")
        if runs and (runs != {number} or (row.process_id and recipe != self._layout.recipe)):
            shown = ", ".join("none" if n is None else str(n) for n in sorted(runs, key=str))
            self._violated(
                self._recorded,
                f"transaction {row.transaction_id} is of process {number} ({recipe or 'no recipe'}), its "
                f"scans show process {shown} ({self._layout.recipe or 'no recipe'})",
            )

    def _flush_values(self) -> None:
        checked, wrong = self._values.flush()
        self._true.checked += checked
        for count, example in wrong:
            self._violated(self._true, example, count)

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

    def _violated(self, check: Check, example: str, count: int = 1) -> None:
        check.violated(f"{self._where}: {example}", count)


class _ValueCheck:
    """Compares scans with the truth, many at a time: computing the truth is vectorised."""

    _FULL = 200_000
    """Values that are taken before they are checked."""

    def __init__(self, config: DeviceConfig, layout: ScanLayout, writes: Sequence[Write]) -> None:
        parameters = config.register_map.logged
        self._names = [p.full_name for p in parameters]
        self._layout = layout
        self._truth = Truth(config)
        self._column_of = {p.parameter_id: i for i, p in enumerate(parameters)}
        place = {p.parameter_id: i for i, p in enumerate(config.register_map.parameters)}
        self._place = np.array([place[p.parameter_id] for p in parameters], dtype=np.intp)
        """Where the logged parameters stand among all, which is what the truth gives."""
        self._writes = [write for write in writes if write.parameter_id in place]
        counters = {p.group: i for i, p in enumerate(parameters) if isinstance(p.signal, PlcScan)}
        columns = [i for i, p in enumerate(parameters) if p.signal is not None and p.group in counters]
        self._columns = np.array(columns, dtype=np.intp)
        self._counter_of = np.array([counters[parameters[i].group] for i in columns], dtype=np.intp)
        self._scans: list[Rows] = []
        self._taken = 0
        self.applicable = bool(columns)

    @property
    def is_full(self) -> bool:
        return self._taken >= self._FULL

    def add(self, rows: Rows) -> None:
        """Take scans: rows of shape (scans, parameters)."""
        if self.applicable and len(rows):
            self._scans.append(rows)
            self._taken += rows.size

    def flush(self) -> tuple[int, list[tuple[int, str]]]:
        """Check what was taken: values checked, and per wrong parameter a count and an example."""
        if not self._scans:
            return 0, []
        rows = np.concatenate(self._scans)
        self._scans, self._taken = [], 0
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
        known = _is_plc_scan(counters)
        plc_scans, place = np.unique(np.where(known, counters, 0.0), return_inverse=True)
        place = place.reshape(counters.shape)
        right = _equal(stored, self._true(plc_scans.astype(np.int64))[place, self._columns])
        for write in self._writes:
            # the PLC scan of a write may have served what it wrote, too
            column = self._column_of.get(write.parameter_id)
            if column is None:
                continue
            served = self._truth.written_value(write)
            right |= (self._columns == column) & (counters == write.plc_scan) & (stored == served)
        return np.asarray((right & known) | np.isnan(stored))

    def _true(self, plc_scans: NDArray[np.int64]) -> Floats:
        """True values of the logged parameters: shape (scans, logged)."""
        return self._truth.values_at(plc_scans, self._writes)[:, self._place]

    def _examples(self, wrong: NDArray[np.bool_], rows: Rows) -> list[tuple[int, str]]:
        examples = []
        for k in np.flatnonzero(wrong.any(axis=0)):
            scan = int(np.flatnonzero(wrong[:, k])[0])
            column = self._columns[k]
            row = rows[scan, column]
            stored = f"{row['value']} (set value {row['set_value']}, quality {row['quality']})"
            plc_scan = rows[scan, self._counter_of[k]]["value"]
            true = self._true(np.array([int(plc_scan)]))[0, column] if _is_plc_scan(plc_scan) else "unknown"
            examples.append(
                (
                    int(wrong[:, k].sum()),
                    f"{self._names[column]} in scan {row['scan']}: stored {stored}, truth {true} at PLC scan "
                    f"{plc_scan:.15g}",
                )
            )
        return examples


def _equal(a: Floats, b: Floats) -> NDArray[np.bool_]:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def _is_plc_scan(counters: Any) -> Any:
    """Which of these a PLC scan counter can show."""
    return (counters >= 0) & (counters < _PLC_SCANS) & (counters == np.floor(counters))
