"""Checks the operators' stream of a device: voids and scans inserted again, chained as what loggers store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from psycopg import Connection

from bench.oracle.invariants import Check
from bench.oracle.stored_rows import LedgerRow, Rows, ledger_of, may_be_expired, microseconds
from logger.database.operators import OPERATORS_STREAM, reinsertion_hash, void_hash
from logger.scan import Batch, ScanLayout
from logger.streams import GENESIS, StreamHead

_REINSERTIONS = f"""
SELECT r.scan, r.ledger_id, l.process_id, v.transaction_id IS NOT NULL, {may_be_expired()}
FROM reinsertions r JOIN logging_transactions l ON l.transaction_id = r.ledger_id
LEFT JOIN compensations v ON v.transaction_id = r.ledger_id
WHERE r.device_id = %s AND r.stream_id = %s ORDER BY r.scan, l.first_scan"""

_VOIDS = f"""
SELECT ledger_id, transaction_id, reason, voided_by, {microseconds("voided_at")}
FROM compensations WHERE device_id = %s"""


@dataclass
class Reinserted:
    """A scan that an operator inserted again, into the stream where it belongs."""

    scan: int
    ledger_id: UUID
    process_id: UUID | None
    is_voided: bool
    is_expired: bool
    """Whether its rows may be gone with a partition."""
    rows: Rows | None = field(default=None, repr=False)
    """What is stored of it; None: nothing was seen."""
    is_whole: bool = False

    def rows_of_scan(self) -> Rows:
        """Its rows in the shape (1, parameters)."""
        assert self.rows is not None
        return self.rows.reshape(1, -1)


@dataclass
class StreamReinserted:
    """All of one stream, with what a hash over them needs."""

    stream_id: int
    layout: ScanLayout
    scans: list[Reinserted]


def reinsertions_of(connection: Connection[Any], device_id: str, stream_id: int) -> list[Reinserted]:
    """What operators inserted again into a stream, by scan."""
    rows = connection.execute(_REINSERTIONS.encode(), (device_id, stream_id))
    return [Reinserted(*row) for row in rows]


def batch_from(rows: Rows, row: LedgerRow, layout: ScanLayout) -> Batch:
    """The batch that these stored rows were, as the hash of its ledger row takes it."""
    return Batch(
        transaction_id=row.transaction_id,
        device_id=layout.device_id,
        first_scan=row.first_scan,
        last_scan=row.last_scan,
        process_number=None,
        parameters=layout.size,
        parameter_id=rows["parameter_id"],
        recorded_at=rows["recorded_at"],
        value=rows["value"],
        set_value=rows["set_value"],
        quality=rows["quality"],
        has_bad=False,
        last_scan_is_good=False,
        texts=tuple((int(i), rows["text"][i]) for i in np.flatnonzero(rows["text_bytes"] >= 0)),
    )


class OperatorsCheck:
    """Adds what stream 0 of a device shows to the checks I3, I5 and I6."""

    def __init__(
        self, device_id: str, checks: dict[str, Check], reinserted: Sequence[StreamReinserted]
    ) -> None:
        self._device_id = device_id
        self._contiguous, self._complete, self._chained = checks["I3"], checks["I5"], checks["I6"]
        self._scans: dict[UUID, list[tuple[StreamReinserted, Reinserted]]] = defaultdict(list)
        for stream in reinserted:
            for each in stream.scans:
                self._scans[each.ledger_id].append((stream, each))

    def run(self, connection: Connection[Any], head: StreamHead | None) -> None:
        """Check the stream whose row says `head`."""
        voids = {row[0]: row[1:] for row in connection.execute(_VOIDS.encode(), (self._device_id,))}
        previous, expected = GENESIS, 1
        for row in ledger_of(connection, self._device_id, OPERATORS_STREAM):
            self._contiguous.checked += 1
            self._chained.checked += 1
            if row.first_scan != expected or row.last_scan != expected:
                self._violated(self._contiguous, f"action {row.first_scan} follows {expected - 1}")
            linked, stored = bytes(row.previous_hash), bytes(row.hash)
            if linked != previous:
                self._violated(self._chained, f"action {row.first_scan} does not link to the one before")
            if void := voids.get(row.transaction_id):
                voided, reason, by, at = void
                digest = void_hash(
                    self._device_id, row.first_scan, row.transaction_id, voided, reason, by, at, linked
                )
            else:
                digest = self._reinsertion(row, linked)
            if digest != stored:
                self._violated(self._chained, f"action {row.first_scan} is not what was hashed")
            previous, expected = stored, row.last_scan + 1
        self._contiguous.checked += 1
        if head is None or head.last_scan != expected - 1:
            self._violated(self._contiguous, f"the ledger ends at action {expected - 1}, the stream does not")
        elif head.head_hash != previous:
            self._violated(self._chained, "the last action is not the head of the stream")

    def _reinsertion(self, row: LedgerRow, linked: bytes) -> bytes:
        """The hash that a re-insertion must have; what cannot be recomputed any more is as it is stored."""
        scans = self._scans.get(row.transaction_id, [])
        wholes = [each.is_whole for _, each in scans]
        if not all(wholes) and all(each.is_whole or each.is_expired for _, each in scans):
            return bytes(row.hash)
        if not scans or len({stream.stream_id for stream, _ in scans}) > 1:
            return b""
        stream = scans[0][0]
        numbers = np.array([each.scan for _, each in scans], dtype=np.int64)
        parts = [each.rows for _, each in scans if each.rows is not None]
        if not parts:
            return b""
        place = row._replace(first_scan=int(numbers[0]), last_scan=int(numbers[-1]))
        batch = batch_from(np.concatenate(parts), place, stream.layout)
        return reinsertion_hash(batch, stream.stream_id, numbers, row.process_id, row.first_scan, linked)

    def _violated(self, check: Check, example: str) -> None:
        check.violated(f"{self._device_id}, stream {OPERATORS_STREAM}: {example}")
