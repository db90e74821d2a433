"""Inserts quarantined scans again, as one unit of work: they leave the quarantine when all are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from psycopg import Connection

from logger.database.connection import mapped_errors
from logger.database.operators import retried, words
from logger.database.unit_of_work import MAX_ROWS, Reinsertable, ReinsertionReport, Unit
from logger.scan import Scan
from plcsim.errors import InputError

__all__ = ["Reinsertable", "ReinsertionReport", "insert_quarantined", "reinsert"]

_LOCK = 0x706C6375
"""First half of the advisory lock of a unit of work; the second is the schema's oid."""


class Quarantine(Protocol):
    """What is asked of the folder where refused scans wait."""

    def list(self) -> Sequence[Any]: ...
    def load(self, id: str) -> tuple[Any, Scan]: ...
    def remove(self, id: str) -> None: ...


def insert_quarantined(
    connection: Connection[Any], quarantine: Quarantine, ids: Sequence[str] | None, by: str
) -> ReinsertionReport:
    """Insert scans of the quarantine (None: all) as one unit of work; raises as `reinsert`.

    They leave the quarantine when all are in the database, and not before.
    """
    chosen = [entry.id for entry in quarantine.list()] if ids is None else list(dict.fromkeys(ids))
    loaded = [quarantine.load(each) for each in chosen]
    scans = [Reinsertable(entry.key, entry.number_in_database, scan) for entry, scan in loaded]
    report = reinsert(connection, scans, by)
    if report.is_done:
        for each in chosen:
            with suppress(InputError):  # another operator did the same
                quarantine.remove(each)
    return report


def reinsert(
    connection: Connection[Any], scans: Sequence[Reinsertable], by: str, max_rows: int = MAX_ROWS
) -> ReinsertionReport:
    """Store scans where their gaps are, all or none; doing it again finishes or undoes what a crash left.

    Raises InputError, before anything is stored, for scans that have no gap to go to, and DatabaseError;
    after DatabaseUnreachable do it again.
    """
    by = words("the name of who inserts", by)
    if not scans:
        raise InputError("there is nothing in quarantine to insert")
    with mapped_errors(), _alone(connection):
        return Unit(connection, scans, by, max_rows).run()


@contextmanager
def _alone(connection: Connection[Any]) -> Iterator[None]:
    """One unit of work at a time: another must not count on scans that this one may still undo."""
    lock = "(%s, to_regnamespace(quote_ident(current_schema()))::oid::int)"
    retried(lambda: connection.execute(f"SELECT pg_advisory_lock{lock}".encode(), (_LOCK,)))
    try:
        yield
    finally:
        if not connection.closed:  # otherwise the server has let go of it
            connection.execute(f"SELECT pg_advisory_unlock{lock}".encode(), (_LOCK,))
