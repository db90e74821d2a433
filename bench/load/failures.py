"""What failed, in classes that a reader can act on; the bench's only place that knows psycopg's errors."""

from __future__ import annotations

import re
from enum import StrEnum

import psycopg
import psycopg_pool

from logger.errors import DatabaseError, DatabaseUnreachable

DATABASE_ERRORS: tuple[type[Exception], ...] = (psycopg.Error, DatabaseError)
"""What a database, or the lack of it, raises; whatever else a worker raises is a mistake of the program."""


class Failure(StrEnum):
    """What became of one transaction."""

    OK = "ok"
    RETRIED = "retried"
    """Stored, but not at the first try."""
    DEADLOCK = "deadlock"
    SERIALIZATION = "serialization"
    POOL_TIMEOUT = "pool timeout"
    """No connection of the pool was free in time: the database was not asked."""
    TOO_MANY_CONNECTIONS = "too many connections"
    STATEMENT_TIMEOUT = "statement timeout"
    """A statement, a lock or a transaction took too long, by a limit of the session."""
    CONNECTION_LOST = "connection lost"
    """Or none could be made: whether something was stored is not known before it is asked."""
    SKIPPED = "skipped"
    """Due, but never begun: the schedule was too far ahead."""
    REFUSED = "refused"
    """Whatever else the database says no to: `Loop.reasons` has its SQLSTATE."""


MAY_SUCCEED_LATER = frozenset(
    {
        Failure.DEADLOCK,
        Failure.SERIALIZATION,
        Failure.POOL_TIMEOUT,
        Failure.TOO_MANY_CONNECTIONS,
        Failure.STATEMENT_TIMEOUT,
        Failure.CONNECTION_LOST,
    }
)
"""Of which the same transaction is worth another try."""

_OF_SQLSTATE = {
    "40P01": Failure.DEADLOCK,
    "40001": Failure.SERIALIZATION,
    "53300": Failure.TOO_MANY_CONNECTIONS,
    "57014": Failure.STATEMENT_TIMEOUT,  # query_canceled
    "55P03": Failure.STATEMENT_TIMEOUT,  # lock_not_available
    "25P03": Failure.STATEMENT_TIMEOUT,  # idle_in_transaction_session_timeout
    "25P04": Failure.STATEMENT_TIMEOUT,  # transaction_timeout
}
_TOO_MANY = re.compile(r"too many (clients|connections)|remaining connection slots")
"""libpq gives no SQLSTATE for a connection that was not made; these are PostgreSQL's words in English."""


def failure_of(exc: BaseException) -> Failure:
    """The class of one of `DATABASE_ERRORS`, or of what it was raised from; REFUSED if it fits no other."""
    seen: BaseException | None = exc
    while seen is not None:
        found = _own_class(seen)
        if found is not None:
            return found
        seen = seen.__cause__
    return Failure.CONNECTION_LOST if isinstance(exc, DatabaseUnreachable) else Failure.REFUSED


def reason_of(exc: BaseException) -> str:
    """SQLSTATE of an error, of what it was raised from, or its name where there is none."""
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, psycopg.Error) and seen.sqlstate:
            return seen.sqlstate
        seen = seen.__cause__
    return type(exc).__name__


def _own_class(exc: BaseException) -> Failure | None:
    """The class that this error itself tells, without what it was raised from."""
    if isinstance(exc, psycopg_pool.PoolTimeout | psycopg_pool.TooManyRequests):
        return Failure.POOL_TIMEOUT
    if isinstance(exc, psycopg.Error | DatabaseUnreachable) and _TOO_MANY.search(str(exc)):
        return Failure.TOO_MANY_CONNECTIONS
    if not isinstance(exc, psycopg.Error):
        return None
    if exc.sqlstate:
        lost = exc.sqlstate.startswith(("08", "57P"))
        return Failure.CONNECTION_LOST if lost else _OF_SQLSTATE.get(exc.sqlstate, Failure.REFUSED)
    lost = isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)
    return Failure.CONNECTION_LOST if lost else Failure.REFUSED
