"""The operators' stream: what people do to logged data, in stream 0 of its device, with its own hash chain.

A void or a re-insertion never touches the stream of a logger. Locks are taken in one order, which is
the loggers' too, so that nobody deadlocks: the row of stream 0 (operators one after the other), the
process execution, the device, the loggers' streams by their number, current values.
"""

from __future__ import annotations

import hashlib
import random
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure
from psycopg.types.numeric import Int8

from logger.errors import DatabaseError
from logger.repositories.wire import Timestamptz
from logger.scan import Batch, Longs
from logger.streams import GENESIS, StreamHead, batch_hash
from plcsim.errors import InputError

OPERATORS_STREAM = 0
VOID = "void"
"""What the ledger says in place of a repository."""

_VOID_DOMAIN = b"plcsim void v1\x00"
_REINSERTION_DOMAIN = b"plcsim reinsertion v1\x00"
_TRIES = 6
_PATIENCE = {"statement_timeout": "10min", "transaction_timeout": "0", "lock_timeout": "30s"}
_HASTE = {"statement_timeout": "10s", "lock_timeout": "5s"}
"""While loggers wait for us."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Rows:
    """What a row of the ledger says of the rows that it stands for."""

    history: int = 0
    process: int = 0
    process_id: UUID | None = None
    first_at: Timestamptz | None = None
    last_at: Timestamptz | None = None


NO_ROWS = Rows()


class Turn:
    """One transaction of an operator on a device; others who want one wait."""

    def __init__(self, connection: Connection[Any], device_id: str, head: StreamHead) -> None:
        self.connection = connection
        self.device_id = device_id
        self._head = head

    @property
    def action(self) -> int:
        """The number that the next entry has."""
        return self._head.last_scan + 1

    @property
    def previous(self) -> bytes:
        return self._head.head_hash

    def enter(self, ledger_id: UUID, digest: bytes, repository: str, rows: Rows = NO_ROWS) -> None:
        """Write the next row of the ledger, and move the stream to it."""
        self.connection.execute(
            "INSERT INTO logging_transactions (transaction_id, device_id, stream_id, first_scan, last_scan,"
            " history_rows, process_rows, process_id, repository, previous_hash, hash, first_recorded_at,"
            " last_recorded_at) VALUES (%s, %s, 0, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                *(ledger_id, self.device_id, Int8(self.action), Int8(self.action)),
                *(rows.history, rows.process, rows.process_id, repository, self.previous, digest),
                *(rows.first_at, rows.last_at),
            ),
        )
        self.connection.execute(
            "UPDATE logging_streams SET last_scan = %s, head_hash = %s"
            " WHERE device_id = %s AND stream_id = 0",
            (Int8(self.action), digest, self.device_id),
        )
        self._head = StreamHead(self.action, digest)

    def stop_loggers(self) -> None:
        """Let no transaction of the device's loggers begin until this one ends: make it short."""
        _set(self.connection, _HASTE)
        self.connection.execute(
            "SELECT FROM devices WHERE device_id = %s FOR NO KEY UPDATE", (self.device_id,)
        )
        self.connection.execute(
            "SELECT FROM logging_streams WHERE device_id = %s AND stream_id > 0"
            " ORDER BY stream_id FOR NO KEY UPDATE",
            (self.device_id,),
        )

    def stored(self) -> dict[int, int]:
        """How far each logger of the device is: the last scan of its stream."""
        rows = self.connection.execute(
            "SELECT stream_id, last_scan FROM logging_streams WHERE device_id = %s AND stream_id > 0",
            (self.device_id,),
        )
        return dict(rows.fetchall())


@contextmanager
def turn(connection: Connection[Any], device_id: str) -> Iterator[Turn]:
    """A transaction in which nobody else is an operator of the device; commits at the end."""
    with connection.transaction():
        _set(connection, _PATIENCE)
        connection.execute(
            "INSERT INTO logging_streams (device_id, stream_id, head_hash) VALUES (%s, 0, %s)"
            " ON CONFLICT DO NOTHING",
            (device_id, GENESIS),
        )
        row = connection.execute(
            "SELECT last_scan, head_hash FROM logging_streams WHERE device_id = %s AND stream_id = 0"
            " FOR NO KEY UPDATE",
            (device_id,),
        ).fetchone()
        assert row is not None
        yield Turn(connection, device_id, StreamHead(row[0], bytes(row[1])))


def retried(work: Callable[[], _T]) -> _T:
    """Do a whole transaction again if it lost against another one; DatabaseError if it loses every time."""
    for attempt in range(_TRIES):
        try:
            return work()
        except (DeadlockDetected, LockNotAvailable, SerializationFailure) as exc:
            why = exc
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
    raise DatabaseError(
        f"others held what this needs all the time ({why.diag.message_primary}); nothing was changed, "
        "try again"
    )


def words(name: str, text: str) -> str:
    """What a person gave as the reason or as their name; raises InputError."""
    text = text.strip()
    if not text or not text.isprintable():
        raise InputError(f"{name} is {text!r}; say it in a few words on one line")
    return text


def void_hash(
    device_id: str,
    action: int,
    ledger_id: UUID,
    voided: UUID,
    reason: str,
    by: str,
    at: int,
    previous: bytes,
) -> bytes:
    """Hash of a ledger row that voids a transaction; `at` in microseconds since 1970."""
    digest = hashlib.sha256(_VOID_DOMAIN + previous)
    digest.update(struct.pack(">qq", action, at) + ledger_id.bytes + voided.bytes)
    for text in (device_id, reason, by):
        digest.update(_counted(text))
    return digest.digest()


def reinsertion_hash(
    batch: Batch, stream_id: int, scans: Longs, process_id: UUID | None, action: int, previous: bytes
) -> bytes:
    """Hash of a ledger row that inserts scans again: over where they belong and over their rows.

    `scans` are the numbers of the batch's scans, ascending; its transaction id is that of the row.
    """
    digest = hashlib.sha256(_REINSERTION_DOMAIN + previous)
    digest.update(struct.pack(">qiq", action, stream_id, len(scans)) + scans.astype(">i8").tobytes())
    digest.update(batch_hash(batch, stream_id, process_id, GENESIS))
    return digest.digest()


def _counted(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">i", len(data)) + data


def _set(connection: Connection[Any], settings: dict[str, str]) -> None:
    """For this transaction; a setting that the server does not know is left out."""
    for name, value in settings.items():
        connection.execute(
            "SELECT set_config(name, %s, true) FROM pg_settings WHERE name = %s", (value, name)
        )
