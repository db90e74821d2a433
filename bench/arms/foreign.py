"""Arms of yours at work: a class or a SQL file behind the calls that a worker makes of a repository.

Nothing is stored twice and nothing is resumed: a failed batch is given up, its scan's number is used for
the next. Whether a batch whose connection was lost is in the tables, nobody here can know.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import numpy as np
from psycopg import Connection

from bench.arms.own_class import load_class
from bench.arms.sql_file import SqlFile, load_sql
from bench.load.failures import DATABASE_ERRORS, Failure, failure_of
from logger.repositories.wire import (
    Float8Array,
    Int2Array,
    Int4Array,
    Int8Array,
    TextArray,
    TimestamptzArray,
)
from logger.scan import Batch, StreamKey
from logger.streams import StreamHead
from plcsim.errors import PlcsimError

if TYPE_CHECKING:
    from bench.arms.spec import ArmSpec


_SCANS_OF_A_STREAM = 10**9
"""Streams of one device number their scans apart: a batch says nothing of its stream."""


class Storer(Protocol):
    """What stores batches over one connection."""

    def store(self, batch: Batch, stream_id: int) -> None:
        """Store a batch of a stream; returns once it is committed."""


class ClassStorer:
    """Stores by a class of yours."""

    def __init__(self, connection: Connection[Any], name: str) -> None:
        self._own = load_class(name)(connection)

    def store(self, batch: Batch, stream_id: int) -> None:
        self._own.store(batch)


class SqlStorer:
    """Runs the statements of a SQL file: one as it is, several between BEGIN and COMMIT."""

    def __init__(self, connection: Connection[Any], file: SqlFile) -> None:
        self._connection = connection
        self._statements = [statement.text.encode() for statement in file.transaction]
        connection.prepare_threshold = 0  # nothing of ours is prepared on it, as logger.repositories does

    def store(self, batch: Batch, stream_id: int) -> None:
        values = sql_values(batch, stream_id)
        if len(self._statements) == 1:
            self._connection.execute(self._statements[0], values, prepare=True)
            return
        with self._connection.transaction():
            for statement in self._statements:
                self._connection.execute(statement, values, prepare=True)


def sql_values(batch: Batch, stream_id: int = 1) -> dict[str, Any]:
    """What a SQL file's statements may use of a batch: `bench.arms.sql_file.PARAMETERS`."""
    number = batch.process_number
    return {
        "device_id": batch.device_id,
        "stream_id": np.int32(stream_id),
        "transaction_id": batch.transaction_id,
        "first_scan": np.int64(batch.first_scan),
        "last_scan": np.int64(batch.last_scan),
        "process_number": None if number is None else np.int64(number),
        "parameters": np.int64(batch.parameters),
        "scan": Int8Array(batch.scan),
        "parameter_id": Int4Array(batch.parameter_id),
        "recorded_at": TimestamptzArray(batch.recorded_at),
        "value": Float8Array(batch.value),
        "set_value": Float8Array(batch.set_value),
        "quality": Int2Array(np.asarray(batch.quality)),
        "value_text": TextArray(len(batch.value), batch.texts),
    }


class ForeignStream:
    """Numbers the scans of one device and hands them to the arm."""

    def __init__(self, repository: ForeignRepository, key: StreamKey) -> None:
        self.key = key
        self.head = StreamHead((key.stream_id - 1) * _SCANS_OF_A_STREAM)
        self.is_certain = True
        """After an error: whether nothing was stored for certain, since the database has said so."""
        self._repository = repository

    def resume(self, last_scan: int) -> None:
        """Go on behind a scan that a stream before this one stored."""
        self.head = StreamHead(last_scan)

    def store(self, batch: Batch) -> None:
        """Store a batch; raises psycopg.Error, and PlcsimError for a mistake of the arm."""
        try:
            self._repository.store(batch, self.key.stream_id)
        except DATABASE_ERRORS as exc:
            self.is_certain = failure_of(exc) is not Failure.CONNECTION_LOST
            raise
        self.head = StreamHead(batch.last_scan)


class ForeignRepository:
    """Opens streams of an arm of yours, over a connection or a pool."""

    def __init__(self, spec: ArmSpec, connections: Any) -> None:
        self._spec = spec
        self._connections = connections
        self._storers: dict[Connection[Any], Storer] = {}

    def open(
        self,
        key: StreamKey,
        recipe: str = "",
        writer: UUID | None = None,
        poll_group: str = "",
        interval_s: float | None = None,
    ) -> ForeignStream:
        """A stream that begins anew; whoever knows better resumes it."""
        return ForeignStream(self, key)

    def close(self) -> None:
        """Close the connection or the pool."""
        self._connections.close()

    def store(self, batch: Batch, stream_id: int) -> None:
        """Store a batch over a connection that is free."""
        if isinstance(self._connections, Connection):
            self._store(self._connections, batch, stream_id)
            return
        connection = self._connections.getconn()
        try:
            self._store(connection, batch, stream_id)
        finally:
            self._connections.putconn(connection)

    def _store(self, connection: Connection[Any], batch: Batch, stream_id: int) -> None:
        storer = self._storers.get(connection)
        try:
            if storer is None:
                storer = self._storers[connection] = self._new(connection)
            storer.store(batch, stream_id)
        except DATABASE_ERRORS:
            _leave_idle(connection)
            raise
        except Exception as exc:  # whatever somebody's class raises: the run ends with it
            _leave_idle(connection)
            raise PlcsimError(f"arm {self._spec}: {type(exc).__name__}: {exc}") from exc
        if not _is_idle(connection):
            raise PlcsimError(f"arm {self._spec}: store() returned before its transaction was committed")

    def _new(self, connection: Connection[Any]) -> Storer:
        self._storers = {c: s for c, s in self._storers.items() if not c.closed}
        if self._spec.base.endswith(".sql"):
            return SqlStorer(connection, load_sql(Path(self._spec.base)))
        return ClassStorer(connection, self._spec.base)


def _is_idle(connection: Connection[Any]) -> bool:
    return connection.info.transaction_status.name == "IDLE"


def _leave_idle(connection: Connection[Any]) -> None:
    """Undo what a failed batch left open; a connection that cannot is closed."""
    try:
        if not connection.closed and not _is_idle(connection):
            connection.rollback()
    except DATABASE_ERRORS:  # the failure that brought us here is the one that counts
        connection.close()
