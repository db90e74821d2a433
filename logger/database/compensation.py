"""Voids a transaction without erasing it: a record in the operators' stream, and current values fall back.

What a logger stored stays where it is; views leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection
from psycopg.types.numeric import Int8

from logger.database.connection import mapped_errors
from logger.database.fall_back import FallBack, Target
from logger.database.operators import OPERATORS_STREAM, VOID, Turn, retried, turn, void_hash, words
from plcsim.errors import InputError

_FIND = """
SELECT l.transaction_id, l.device_id, l.stream_id, l.first_scan, l.last_scan, l.history_rows,
    l.first_recorded_at, l.last_recorded_at, l.logged_at, g.reason, l.repository
FROM logging_transactions l LEFT JOIN scan_gaps g USING (transaction_id)
WHERE l.transaction_id = %s"""

_INSERTED_SCANS = """
SELECT min(stream_id), min(scan), max(scan) FROM reinsertions WHERE ledger_id = %s"""

_VOIDED = """
SELECT reason, voided_by, voided_at FROM compensations WHERE transaction_id = %s"""

_RECORD = """
INSERT INTO compensations (transaction_id, device_id, stream_id, action, ledger_id, reason, voided_by,
    voided_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""


@dataclass(frozen=True, slots=True)
class VoidReport:
    """What a void did, or what it found done."""

    transaction_id: UUID
    device_id: str
    stream_id: int
    """Of its scans, also if an operator inserted them."""
    first_scan: int
    last_scan: int
    rows: int
    """History rows that no longer count."""
    reason: str
    voided_by: str
    voided_at: datetime
    already: bool
    """It was voided before, for this reason and then; nothing was changed."""
    fell_back: int = 0
    """Current values that fell back to an older one."""
    emptied: int = 0
    """Current values that have no older one."""


def void(connection: Connection[Any], transaction_id: UUID | str, reason: str, by: str) -> VoidReport:
    """Void a transaction for good, in one transaction; what was voided before stays as it was voided.

    Raises InputError for what is no transaction with rows, and DatabaseError. After DatabaseUnreachable
    nobody knows whether it was done: doing it again tells.
    """
    reason, by = words("the reason", reason), words("the name of who voids", by)
    try:
        wanted = UUID(str(transaction_id))
    except ValueError:
        raise InputError(
            f"{str(transaction_id)!r} is no transaction id; one looks like {UUID(int=0)} and stands in "
            "logging_transactions"
        ) from None
    with mapped_errors():
        return retried(lambda: _void(connection, wanted, reason, by))


def _void(connection: Connection[Any], wanted: UUID, reason: str, by: str) -> VoidReport:
    target = _find(connection, wanted)
    with turn(connection, target.device_id) as mine:
        if done := connection.execute(_VOIDED, (wanted,)).fetchone():
            return _report(target, done, already=True)
        at = _now(connection)
        enter_void(mine, wanted, reason, by, at)
        fell_back, emptied = FallBack(mine, target).run()
    return _report(target, (reason, by, at), False, fell_back, emptied)


def enter_void(mine: Turn, voided: UUID, reason: str, by: str, at: datetime) -> None:
    """Record a void, and enter it in the ledger."""
    ledger_id, action = uuid4(), mine.action
    digest = void_hash(
        mine.device_id, action, ledger_id, voided, reason, by, _microseconds(at), mine.previous
    )
    mine.enter(ledger_id, digest, VOID)
    mine.connection.execute(
        _RECORD,
        (voided, mine.device_id, OPERATORS_STREAM, Int8(action), ledger_id, reason, by, at),
    )


def _find(connection: Connection[Any], wanted: UUID) -> Target:
    """The transaction that is meant; raises InputError if it is not there or has nothing to void."""
    row = connection.execute(_FIND, (wanted,)).fetchone()
    if row is None:
        raise InputError(f"there is no transaction {wanted} in this database")
    target = Target(*row)
    if target.repository == VOID and target.stream_id == OPERATORS_STREAM:
        raise InputError(
            f"transaction {wanted} is a void itself, which stays; what it voided can only be stored again"
        )
    if target.gap_reason is not None or not target.rows:
        raise InputError(
            f"transaction {wanted} is a gap of scans {target.first_scan} to {target.last_scan}: it stored "
            "no value that could be voided"
        )
    if target.stream_id == OPERATORS_STREAM:
        place = connection.execute(_INSERTED_SCANS, (wanted,)).fetchone()
        assert place is not None
        target = target._replace(stream_id=place[0], first_scan=place[1], last_scan=place[2])
    return target


def _report(
    target: Target, void: tuple[str, str, datetime], already: bool, fell_back: int = 0, emptied: int = 0
) -> VoidReport:
    place = (target.transaction_id, target.device_id, target.stream_id, target.first_scan, target.last_scan)
    return VoidReport(*place, target.rows, *void, already, fell_back, emptied)


def _now(connection: Connection[Any]) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at


def _microseconds(at: datetime) -> int:
    """Since 1970; exact, as a float is not."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
