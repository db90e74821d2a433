"""What every repository does: store batches in one transaction, and say for certain that it did."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection
from psycopg.types.numeric import Int4
from psycopg_pool import ConnectionPool

from logger.repositories import statements
from logger.repositories.prepared import Session
from logger.repositories.stream import Standing, Stream
from logger.repositories.transaction import Step, Transaction
from logger.scan import Batch, Gap, StreamKey
from logger.streams import GENESIS, StreamHead

MOST_STREAMS = 64
"""Of one transaction: so many answers fit a socket's buffer while we still send."""


def peek(connection: Connection[Any], key: StreamKey) -> tuple[int, UUID | None] | None:
    """A stream's last scan and its writer, without claiming it; None: the database does not know it.

    Raises psycopg.Error.
    """
    names = {"device_id": key.device_id, "stream_id": Int4(key.stream_id)}
    return connection.execute(statements.PEEK, names).fetchone()


class Repository(ABC):
    """Stores scans of many streams; subclasses say by which statement.

    It is given a connection that `logger.database.connect` made, or a `connection_pool`. Threads may
    share a repository that has a pool; one with a connection is used by one thread.
    """

    name: ClassVar[str]

    def __init__(self, connections: Connection[Any] | ConnectionPool[Any]) -> None:
        self._connections = connections
        self._sessions: dict[Connection[Any], Session] = {}
        self._lock = threading.Lock()

    def open(
        self,
        key: StreamKey,
        recipe: str = "",
        writer: UUID | None = None,
        poll_group: str = "",
        interval_s: float | None = None,
    ) -> Stream:
        """Claim the stream for a writer (None: a new one) and read where it stands.

        What another writer sends for it after that stores nothing. `recipe` names the processes that
        it will enter. Raises psycopg.Error.
        """
        names = {"device_id": key.device_id, "stream_id": Int4(key.stream_id)}
        writer = writer or uuid4()
        claim = {
            **names,
            "genesis": GENESIS,
            "writer": writer,
            "poll_group": poll_group,
            "interval_s": interval_s,
        }
        with self._session() as session:
            row = session.connection.execute(statements.OPEN_STREAM, claim).fetchone()
            assert row is not None
            process = session.connection.execute(statements.READ_OPEN_PROCESS, names).fetchone()
        standing = Standing(StreamHead(row[0], bytes(row[1])), *(process or (None, None)))
        return Stream(self, key, recipe, writer, standing)

    def store_together(self, work: Sequence[tuple[Stream, Batch | Gap]]) -> None:
        """Store what continues several streams in ONE transaction, all or none; raises as Stream.store.

        A stream may come more than once, its items oldest first. Returns when the commit is proven.
        At most 64 streams: ValueError.
        """
        for stream, _ in work:
            stream.attempted, stream.is_certain = None, True
        try:
            steps, after = _planned(work)
        except UnicodeEncodeError as exc:  # half a surrogate pair, say
            raise psycopg.DataError(f"PostgreSQL stores no such text: {exc.object!r}") from None
        for stream, standing in after.items():
            stream.attempted = standing.head
        with self._session() as session:
            transaction = Transaction(session)
            try:
                if len(steps) == 1:
                    transaction.run_alone(steps[0])
                elif steps:
                    transaction.run_together(steps)
            except BaseException:
                for stream in after:
                    stream.is_certain = transaction.is_certain
                raise
        for stream, standing in after.items():
            stream.standing = standing

    def check_replicated(self) -> None:
        """Whether what was committed on our connection outside of `store_together` is on its standby.

        Raises TransactionResolutionUnknown, and ValueError if there is a pool.
        """
        if not isinstance(self._connections, Connection):
            raise ValueError("a pool has many connections: ask the one that committed")
        self._session_of(self._connections).check_replicated()

    def close(self) -> None:
        """Close the connection or the pool."""
        self._connections.close()

    @abstractmethod
    def statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        """The statement that stores the batch, and what it needs beyond the batch's rows."""

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """A connection with what is prepared on it, ours until the end of the block."""
        if isinstance(self._connections, Connection):
            yield self._session_of(self._connections)
            return
        connection = self._connections.getconn()
        try:
            yield self._session_of(connection)
        finally:
            lost = connection.broken
            self._connections.putconn(connection)
            if lost:  # one is lost: the others of the pool may be, and each would cost a try to find out
                self._connections.drain()

    def _session_of(self, connection: Connection[Any]) -> Session:
        session = self._sessions.get(connection)
        if session is None:
            session = Session(connection)
            with self._lock:
                self._sessions = {c: s for c, s in self._sessions.items() if not c.closed}
                self._sessions[connection] = session
        return session


def _planned(work: Sequence[tuple[Stream, Batch | Gap]]) -> tuple[list[Step], dict[Stream, Standing]]:
    """The steps of a transaction and how the streams stand after it.

    In the order of the streams' keys: two writers that store the same streams together lock what they
    share, the rows of streams and of devices, in one order.
    """
    ordered = sorted(work, key=lambda one: one[0].key) if len(work) > 1 else work
    steps: list[Step] = []
    after: dict[Stream, Standing] = {}
    for stream, item in ordered:
        more, after[stream] = stream.steps(item, after.get(stream, stream.standing))
        steps += more
    if len(after) > MOST_STREAMS:
        raise ValueError(f"{len(after)} streams are too many for one transaction, at most {MOST_STREAMS}")
    return steps, after
