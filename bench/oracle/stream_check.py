"""Checks one stream, scan by scan: contiguity, completeness, hash chain, and each value's truth."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any
from uuid import UUID

import numpy as np
from psycopg import Connection

from bench.oracle.invariants import Check
from bench.oracle.operators_check import Reinserted, batch_from, reinsertions_of
from bench.oracle.stored_rows import LedgerRow, RowReader, Rows, executions_of, history_chunks, ledger_of
from bench.oracle.value_check import ValueCheck
from logger.scan import ScanLayout
from logger.streams import GENESIS, StreamHead, batch_hash, gap_hash
from plcsim.config import DeviceConfig
from plcsim.truth import Write

_UNKNOWN = -1
"""Which process runs where a gap hides it: the scans in it may have shown another one."""


class StreamCheck:
    """Adds what one stream of a logger shows to the checks I3 to I6, and to I1 whether a process ran."""

    def __init__(
        self,
        config: DeviceConfig,
        stream_id: int,
        checks: dict[str, Check],
        writes: Sequence[Write],
        poll_group: str = "",
    ) -> None:
        self._layout = ScanLayout(config, poll_group)
        self._stream_id = stream_id
        self._where = f"{config.device.device_id}, stream {stream_id}"
        self._recorded, self._contiguous, self._true = checks["I1"], checks["I3"], checks["I4"]
        self._complete, self._chained = checks["I5"], checks["I6"]
        self._values = ValueCheck(config, self._layout, writes)
        self._executions: dict[UUID, tuple[int, str]] = {}
        self._process_number: int | None = None
        self._due: dict[int, list[Reinserted]] = {}
        for check, unit in (
            (self._contiguous, "scans and gaps"),
            (self._true, "values"),
            (self._complete, "scans"),
            (self._chained, "transactions"),
        ):
            check.unit = unit
        if not (self._values.applicable or self._true.checked or self._true.violations):
            self._true.not_applicable = "the device file has no signals or no PLC scan counters"

    def run(self, connection: Connection[Any], head: StreamHead | None) -> tuple[int, list[Reinserted]]:
        """Check the stream whose row says `head`.

        Returns how many history rows it read, and what operators inserted again.
        """
        device_id = self._layout.device_id
        ledger = ledger_of(connection, device_id, self._stream_id)
        self._executions = executions_of(connection, device_id, self._stream_id)
        reinserted = reinsertions_of(connection, device_id, self._stream_id)
        for each in reinserted:
            self._due.setdefault(each.scan, []).append(each)
        with closing(history_chunks(connection, device_id, self._stream_id)) as chunks:
            reader = RowReader(chunks)
            end, previous = self._check_ledger(ledger, reader)
            if scans := reader.scans_left():
                self._violated(self._complete, f"{scans} scans behind the last transaction", scans)
        self._contiguous.checked += 1
        if head is None:
            self._violated(self._contiguous, "logging_streams has no row of it")
        elif end != head.last_scan:
            self._violated(self._contiguous, f"ledger ends at {end}, stream at {head.last_scan}")
        if head is not None and previous != head.head_hash:
            self._violated(self._chained, "the last transaction is not the head of the stream")
        self._check_reinserted()
        self._flush_values()
        return reader.read, reinserted

    def _check_ledger(self, ledger: Sequence[LedgerRow], reader: RowReader) -> tuple[int, bytes]:
        """Check each transaction with its rows; returns the last scan and the head of the chain."""
        last_scan, previous = 0, GENESIS
        for row in ledger:
            self._check_contiguity(row, last_scan + 1)
            rows = reader.up_to(row.last_scan)
            if row.gap is None:
                self._check_scans(row, rows)
            else:
                self._check_gap(row, rows)
            previous = self._check_link(row, rows, previous)
            last_scan = row.last_scan
        return last_scan, previous

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
        if row.gap is not None:
            digest = gap_hash(row.gap, self._layout.device_id, self._stream_id, row.transaction_id, linked)
        elif row.is_expired and not self._is_whole(row, rows):
            return stored  # what was hashed is gone
        else:
            batch = batch_from(rows, row, self._layout)
            digest = batch_hash(batch, self._stream_id, row.process_id, linked)
        if digest != stored:
            self._violated(self._chained, f"transaction {row.transaction_id} is not what was hashed")
        return stored

    def _check_scans(self, row: LedgerRow, rows: Rows) -> None:
        """Each scan of the transaction must be there once, with every parameter, under its id."""
        scans = max(0, row.last_scan - row.first_scan + 1)
        if self._is_whole(row, rows):
            found, others = rows.reshape(scans, self._layout.size), 0
        else:
            found, others = self._whole_scans(row, rows)
        missing = scans - len(found) + others
        if row.is_expired:
            scans = len(found)
            missing = int(np.any(rows["transaction_id"] != np.void(row.transaction_id.bytes)))
        self._complete.checked += scans
        if missing:
            self._violated(
                self._complete,
                f"transaction {row.transaction_id} has {len(found)} of its scans {row.first_scan} to "
                f"{row.last_scan} once, with all {self._layout.size} rows under its id",
                missing,
            )
        self._check_process(row.transaction_id, row.process_id, found)
        self._values.add(found)
        if self._values.is_full:
            self._flush_values()

    def _is_whole(self, row: LedgerRow, rows: Rows) -> bool:
        scans, size = max(0, row.last_scan - row.first_scan + 1), self._layout.size
        return len(rows) == scans * size and bool(
            np.all(rows["parameter_id"] == self._layout.parameter_ids_of(scans))
            and np.all(rows["scan"] == np.repeat(np.arange(row.first_scan, row.last_scan + 1), size))
            and np.all(rows["transaction_id"] == np.void(row.transaction_id.bytes))
        )

    def _whole_scans(self, row: LedgerRow, rows: Rows) -> tuple[Rows, int]:
        """Those scans of a damaged transaction that are there as they must, and how many are others'."""
        numbers, starts = np.unique(rows["scan"], return_index=True)
        found, others = [], 0
        for number, scan in zip(numbers, np.split(rows, starts[1:]), strict=False):  # one array at least
            if not row.first_scan <= number <= row.last_scan:
                others += 1
            elif self._is_scan(scan, row.transaction_id):
                found.append(scan)
        return np.array(found, dtype=rows.dtype).reshape(len(found), self._layout.size), others

    def _is_scan(self, rows: Rows, transaction_id: UUID) -> bool:
        return np.array_equal(rows["parameter_id"], self._layout.parameter_ids) and bool(
            np.all(rows["transaction_id"] == np.void(transaction_id.bytes))
        )

    def _check_gap(self, row: LedgerRow, rows: Rows) -> None:
        """In a gap stand only scans that an operator inserted again, each whole."""
        strange = 0
        for number in np.unique(rows["scan"]):
            scan = rows[rows["scan"] == number]
            due = self._due.get(int(number), [])
            for each in due:
                mine = scan["transaction_id"] == np.void(each.ledger_id.bytes)
                each.rows = scan[mine]
                each.is_whole = self._is_scan(each.rows, each.ledger_id)
                scan = scan[~mine]
                if each.is_whole:
                    self._complete.checked += 1
                    self._values.add(each.rows_of_scan())
            strange += bool(len(scan))
            standing = [each for each in due if each.is_whole and not each.is_voided]
            for each in standing or due[-1:]:
                if each.is_whole:
                    self._check_process(each.ledger_id, each.process_id, each.rows_of_scan())
        if strange:
            self._violated(self._complete, f"gap {row.first_scan} has rows", strange)
        if len(np.unique(rows["scan"])) <= row.last_scan - row.first_scan:
            self._process_number = _UNKNOWN

    def _check_reinserted(self) -> None:
        """Each scan that was inserted again is there, in a gap, and counts once at most."""
        for scan, due in self._due.items():
            lost = [each for each in due if not each.is_whole and not each.is_expired]
            standing = [each for each in due if not each.is_voided]
            if lost:
                self._violated(
                    self._complete,
                    f"scan {scan} was inserted again by transaction {lost[0].ledger_id}; it is not in its "
                    f"gap with all {self._layout.size} rows",
                    len(lost),
                )
            if len(standing) > 1:
                self._violated(
                    self._complete, f"scan {scan} was inserted {len(standing)} times", len(standing) - 1
                )

    def _check_process(self, transaction_id: UUID, process_id: UUID | None, scans: Rows) -> None:
        """A transaction belongs to the process that its scans show running, or to none."""
        number, recipe = self._executions.get(process_id, (_UNKNOWN, "?")) if process_id else (None, "")
        runs = set()
        for values in scans["value"]:
            if self._layout.shows_process:
                self._process_number = self._layout.process_number(values, self._process_number)
            else:
                self._process_number = number  # the device's other poll group shows it
            runs.add(number if self._process_number == _UNKNOWN else self._process_number)
        if runs and (runs != {number} or (process_id and recipe != self._layout.recipe)):
            shown = ", ".join("none" if n is None else str(n) for n in sorted(runs, key=str))
            self._violated(
                self._recorded,
                f"transaction {transaction_id} is of process {number} ({recipe or 'no recipe'}), its "
                f"scans show process {shown} ({self._layout.recipe or 'no recipe'})",
            )

    def _flush_values(self) -> None:
        checked, wrong = self._values.flush()
        self._true.checked += checked
        for count, example in wrong:
            self._violated(self._true, example, count)

    def _violated(self, check: Check, example: str, count: int = 1) -> None:
        check.violated(f"{self._where}: {example}", count)
