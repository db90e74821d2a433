"""A unit of work: scans that are inserted again, all or none, however many transactions it takes.

Each transaction has an id that follows from the unit, so that doing the unit again after a crash finds
what is stored and goes on. If a later part fails for good, those before it are voided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, pairwise
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import psycopg
from psycopg import Connection
from psycopg.types.numeric import Int8

from logger.database.compensation import void
from logger.database.connection import line_of
from logger.database.operators import Rows, reinsertion_hash, retried, turn
from logger.database.partitions import create_partitions_for
from logger.database.reinserted_rows import NotTaken, ReinsertedRows
from logger.repositories.wire import Timestamptz
from logger.scan import Batch, Longs, Scan, ScanLayout, StreamKey, batch_of
from plcsim.device_file import parse_device
from plcsim.errors import InputError

_NAMESPACE = UUID("3d0b9a52-6c1f-5e0e-8a53-0f6a2c5d7e11")
MAX_ROWS = 20_000
"""That one transaction may hold."""
_ATTEMPTS = 32
"""That are asked for at once."""

_LAYOUT = """
SELECT d.configuration, s.poll_group, s.last_scan FROM devices d JOIN logging_streams s USING (device_id)
WHERE device_id = %s AND stream_id = %s"""

_ENTERED = """
SELECT l.transaction_id, v.transaction_id IS NULL FROM logging_transactions l
LEFT JOIN compensations v ON v.transaction_id = l.transaction_id WHERE l.transaction_id = ANY(%s)"""

_INSERTED = """
SELECT scan FROM reinsertions r WHERE device_id = %s AND stream_id = %s AND scan = ANY(%s)
  AND NOT EXISTS (SELECT FROM compensations v WHERE v.transaction_id = r.ledger_id)"""

_IN_NO_GAP = """
SELECT scan FROM unnest(%s) AS scan
WHERE NOT EXISTS (SELECT FROM scan_gaps g WHERE g.device_id = %s AND g.stream_id = %s
                  AND g.first_scan <= scan AND g.last_scan >= scan) ORDER BY 1"""

_IS_STORED = """
SELECT count(*) = %s FROM parameter_value_history
WHERE device_id = %s AND stream_id = %s AND scan = %s AND recorded_at BETWEEN %s AND %s"""

# How the device is logged: as what was recorded last, and where there is nothing, as its last gap was.
_REPOSITORY = """
SELECT l.repository FROM (SELECT transaction_id FROM parameter_value_history WHERE device_id = %(device)s
    ORDER BY recorded_at DESC LIMIT 1) newest JOIN logging_transactions l USING (transaction_id)
UNION ALL
(SELECT l.repository FROM scan_gaps g JOIN logging_transactions l USING (transaction_id)
 WHERE g.device_id = %(device)s ORDER BY g.last_scan DESC LIMIT 1)
LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Reinsertable:
    """A scan, and where its gap stands in the database."""

    key: StreamKey
    number: int
    scan: Scan


@dataclass(frozen=True, slots=True)
class ReinsertionReport:
    """What became of a unit of work."""

    scans: int
    stored: int = 0
    """Scans that this call stored."""
    already: int = 0
    """Scans that were in the database before."""
    rows: int = 0
    """History rows that this call stored."""
    transactions: tuple[UUID, ...] = ()
    """Of the unit, in the operators' stream, that stand."""
    undone: tuple[UUID, ...] = ()
    """Of the unit, that were voided since a later part failed for good."""
    error: str = ""
    """Why it failed, on one line; empty: it did not."""

    @property
    def is_done(self) -> bool:
        """Whether every scan is in the database, so that it may leave the quarantine."""
        return not self.error


@dataclass(frozen=True, slots=True)
class _Part:
    """What one transaction stores: scans of one stream, all in one process or none."""

    key: StreamKey
    layout: ScanLayout
    members: tuple[Reinsertable, ...]
    unit: str

    @property
    def recorded_at(self) -> Longs:
        return np.concatenate([each.scan.recorded_at for each in self.members])

    def transaction_id(self, attempt: int) -> UUID:
        """The same however often the unit is done, until the attempt before was undone."""
        numbers = ",".join(str(each.number) for each in self.members)
        return uuid5(_NAMESPACE, f"{self.unit}/{self.key.device_id}/{self.key.stream_id}/{numbers}/{attempt}")


class Unit:
    """Stores its parts one after the other, or undoes them."""

    def __init__(
        self, connection: Connection[Any], scans: Sequence[Reinsertable], by: str, max_rows: int
    ) -> None:
        self._connection = connection
        self._by = by
        self._scans = len(scans)
        self._layouts: dict[StreamKey, ScanLayout] = {}
        members = sorted(scans, key=lambda each: (each.key, each.number))
        name = "\n".join(f"{each.key.device_id}/{each.key.stream_id}/{each.number}" for each in members)
        unit = hashlib.sha256(f"{max_rows}\n{name}".encode()).hexdigest()
        for earlier, later in pairwise(members):
            if (earlier.key, earlier.number) == (later.key, later.number):
                raise InputError(f"{_name(later)} is there twice; leave one of them out")
        self._parts = [
            _Part(group[0].key, self._layout(group[0].key), tuple(group), unit)
            for group in self._grouped(members, max_rows)
        ]

    def run(self) -> ReinsertionReport:
        """Store all parts; if one fails for good, void those that stand."""
        for part in self._parts:
            self._wanted(part)
        for part in self._parts:
            create_partitions_for(self._connection, part.recorded_at)
        stored = rows = 0
        for part in self._parts:
            try:
                scans, more = retried(partial(self._store, part))
            except psycopg.OperationalError:
                raise  # nobody knows what was stored: doing the unit again tells
            except (psycopg.Error, InputError, NotTaken) as exc:
                return self._undone(exc)
            stored, rows = stored + scans, rows + more
        return ReinsertionReport(self._scans, stored, self._scans - stored, rows, tuple(self._standing()))

    def _undone(self, failure: Exception) -> ReinsertionReport:
        reason = "".join(c if c.isprintable() else "?" for c in line_of(failure))
        standing = tuple(self._standing())
        for transaction_id in standing:
            void(self._connection, transaction_id, f"unit of work undone: {reason}", self._by)
        return ReinsertionReport(self._scans, undone=standing, error=reason)

    def _standing(self) -> list[UUID]:
        """Transactions of the unit that are stored and not voided."""
        found = [self._find(part) for part in self._parts]
        return [transaction_id for transaction_id, is_stored in found if is_stored]

    def _find(self, part: _Part) -> tuple[UUID, bool]:
        """The transaction of a part: the one that stands, or the id of the next try."""
        for first in count(step=_ATTEMPTS):
            ids = [part.transaction_id(attempt) for attempt in range(first, first + _ATTEMPTS)]
            entered = dict(self._connection.execute(_ENTERED, (ids,)).fetchall())
            for transaction_id in ids:
                if entered.get(transaction_id, True):
                    return transaction_id, transaction_id in entered
        raise AssertionError("count() does not end")

    def _store(self, part: _Part) -> tuple[int, int]:
        """One transaction; returns how many scans and rows it stored."""
        with turn(self._connection, part.key.device_id) as mine:
            transaction_id, is_stored = self._find(part)
            members = () if is_stored else self._wanted(part)
            if not members:
                return 0, 0
            batch, numbers = _batch(members, part.layout, transaction_id)
            stream_id, size = part.key.stream_id, len(batch.value)
            rows = ReinsertedRows(mine, batch, stream_id, numbers, part.layout.recipe)
            repository = self._repository(part.key.device_id)
            rows.insert()
            digest = reinsertion_hash(batch, stream_id, numbers, rows.process_id, mine.action, mine.previous)
            mine.enter(transaction_id, digest, repository, _entered(batch, rows.process_id))
            rows.finish(synchronizing=repository == "synchronizing")
            return len(members), size

    def _wanted(self, part: _Part) -> tuple[Reinsertable, ...]:
        """Those scans of a part that are not in the database; raises InputError for one without a gap."""
        key = (part.key.device_id, part.key.stream_id)
        numbers = [Int8(each.number) for each in part.members]
        there = {row[0] for row in self._connection.execute(_INSERTED, (*key, numbers))}
        stored = {row[0] for row in self._connection.execute(_IN_NO_GAP, (numbers, *key))}
        for each in part.members:
            if each.number in stored:
                self._check_stored(each, part.layout.size)
        return tuple(each for each in part.members if each.number not in there | stored)

    def _check_stored(self, member: Reinsertable, size: int) -> None:
        """What stands in no gap must be stored by its logger, as this very scan."""
        at = member.scan.recorded_at
        times = (Timestamptz(int(at.min())), Timestamptz(int(at.max())))
        row = self._connection.execute(
            _IS_STORED, (size, *member.key, Int8(member.number), *times)
        ).fetchone()
        if row is None or not row[0]:
            raise InputError(
                f"{_name(member)} has no gap record that it could fill, and is not stored there either: its "
                "logger must record the gap first, or another scan has that number; export it instead"
            )

    def _repository(self, device_id: str) -> str:
        row = self._connection.execute(_REPOSITORY, {"device": device_id}).fetchone()
        return row[0] if row else "baseline"

    def _grouped(self, members: Sequence[Reinsertable], max_rows: int) -> list[list[Reinsertable]]:
        """By stream and process, at most so many rows each (but one scan at least).

        Scans of a process must follow each other: a PLC may use a number again.
        """
        groups: list[list[Reinsertable]] = []
        for each in members:
            last = groups[-1][-1] if groups else None
            number = each.scan.process_number
            if (
                last is None
                or (last.key, last.scan.process_number) != (each.key, number)
                or (number is not None and last.number + 1 != each.number)
                or (len(groups[-1]) + 1) * self._layout(each.key).size > max_rows
            ):
                groups.append([])
            if len(each.scan.values) != self._layout(each.key).size:
                raise InputError(
                    f"{_name(each)} has {len(each.scan.values)} values, the device's configuration in this "
                    f"database has {self._layout(each.key).size}: it is of another one"
                )
            groups[-1].append(each)
        return groups

    def _layout(self, key: StreamKey) -> ScanLayout:
        """Of a stream, from the configuration that is stored with it."""
        if key not in self._layouts:
            row = self._connection.execute(_LAYOUT, key).fetchone()
            if row is None:
                raise InputError(f"stream {key.stream_id} of {key.device_id} is not in this database")
            config = parse_device(row[0], f"stored configuration of {key.device_id}")
            self._layouts[key] = ScanLayout(config, row[1])
        return self._layouts[key]


def _batch(members: Sequence[Reinsertable], layout: ScanLayout, transaction_id: UUID) -> tuple[Batch, Longs]:
    """The rows of scans, and the numbers of the scans, which need not follow each other."""
    numbers = np.array([each.number for each in members], dtype=np.int64)
    batch = batch_of([each.scan for each in members], layout)
    first, last = int(numbers[0]), int(numbers[-1])
    return replace(batch, transaction_id=transaction_id, first_scan=first, last_scan=last), numbers


def _entered(batch: Batch, process_id: UUID | None) -> Rows:
    """What the ledger says of the rows."""
    times = (Timestamptz(int(batch.recorded_at.min())), Timestamptz(int(batch.recorded_at.max())))
    size = len(batch.value)
    return Rows(size, size if process_id else 0, process_id, *times)


def _name(member: Reinsertable) -> str:
    return f"scan {member.number} of stream {member.key.stream_id} of {member.key.device_id}"
