"""What the writers of a crowd store through: a connection each, or a pool that they share."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from psycopg import Connection

from bench.arms.pool import open_pool
from bench.arms.spec import ArmSpec
from bench.load.failures import DATABASE_ERRORS
from logger.database import connect


class OwnConnection:
    """One writer's connection."""

    def __init__(self, conninfo: str, schema: str, arm: ArmSpec, shared: bool) -> None:
        self._conninfo, self._schema, self._arm, self._shared = conninfo, schema, arm, shared
        self._connection: Connection[Any] | None = None

    def repository(self) -> Any:
        """The arm over a new connection. Raises one of `DATABASE_ERRORS`."""
        connection = connect(self._conninfo, self._schema)
        try:
            repository = self._arm.open(connection, self._shared)
        except DATABASE_ERRORS:
            connection.close()
            raise
        self._connection = connection
        return repository

    def is_lost(self, repository: Any) -> bool:
        return self._connection is None or self._connection.closed

    def waited_ns(self) -> int:
        return 0

    def release(self, repository: Any) -> None:
        if self._connection is not None:
            self._connection.close()


class SharedPool:
    """One pool and one repository for all writers of a process; tells each thread how long it waited."""

    def __init__(
        self, conninfo: str, schema: str, arm: ArmSpec, shared: bool, size: int, timeout_s: float
    ) -> None:
        self._pool = open_pool(conninfo, schema, size, timeout_s, arm.settings)
        self._size = size
        self._here = threading.local()
        self._leaked: list[Connection[Any]] = []
        self._repository = arm.open(self, shared)

    def repository(self) -> Any:
        return self._repository

    def is_lost(self, repository: Any) -> bool:
        return False

    def waited_ns(self) -> int:
        waited, self._here.waited_ns = getattr(self._here, "waited_ns", 0), 0
        return waited

    def release(self, repository: Any) -> None:
        """The repository stays: it is everybody's."""

    def leak(self, until_ns: int) -> int:
        """Take all connections and keep them, as a program with a mistake does; returns how many could be
        had by then."""
        while len(self._leaked) < self._size and time.monotonic_ns() < until_ns:
            with suppress(*DATABASE_ERRORS):
                self._leaked.append(self._pool.getconn())
        return len(self._leaked)

    def give_back(self) -> None:
        """Give back what was leaked."""
        while self._leaked:
            self._pool.putconn(self._leaked.pop())

    # What a repository asks of a pool:

    def getconn(self) -> Connection[Any]:
        begun = time.monotonic_ns()
        try:
            return self._pool.getconn()
        finally:
            self._here.waited_ns = getattr(self._here, "waited_ns", 0) + time.monotonic_ns() - begun

    def putconn(self, connection: Connection[Any]) -> None:
        self._pool.putconn(connection)

    def drain(self) -> None:
        self._pool.drain()

    def close(self) -> None:
        self.give_back()
        self._pool.close()
