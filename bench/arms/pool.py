"""A pool of connections that says how long each request for one waited."""

from __future__ import annotations

import time
from typing import Any

from psycopg import Connection

from bench.arms.settings import ArmSettings
from logger.database import configure_session
from logger.repositories.pool import connection_pool


class TimedPool:
    """A pool as a repository takes it; the wait for a connection is no time of the database."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._waits_ns: list[int] = []

    def getconn(self, timeout: float | None = None) -> Connection[Any]:
        """Take a connection; raises PoolTimeout. What waited in vain counts as waited, too."""
        begun = time.perf_counter_ns()
        try:
            connection: Connection[Any] = self._pool.getconn(timeout)
        finally:
            self._waits_ns.append(time.perf_counter_ns() - begun)
        return connection

    def putconn(self, connection: Connection[Any]) -> None:
        """Give a connection back."""
        self._pool.putconn(connection)

    def drain(self) -> None:
        """Make all connections anew."""
        self._pool.drain()

    def wait(self, timeout_s: float = 30.0) -> None:
        """Wait until the pool has all its connections; raises PoolTimeout."""
        self._pool.wait(timeout_s)

    def get_stats(self) -> dict[str, int]:
        """The pool's own counters, of psycopg_pool."""
        return dict(self._pool.get_stats())

    def take_waits_ns(self) -> list[int]:
        """What each request waited since this was asked last, in nanoseconds."""
        taken, self._waits_ns = self._waits_ns, []
        return taken

    @property
    def size(self) -> int:
        """Connections that the pool has at most."""
        return int(self._pool.max_size)

    @property
    def closed(self) -> bool:
        return bool(self._pool.closed)

    def close(self) -> None:
        """Close the pool; its threads end."""
        self._pool.close()


def open_pool(
    conninfo: str, schema: str, size: int, timeout_s: float = 5.0, settings: ArmSettings | None = None
) -> TimedPool:
    """A pool whose sessions have our settings and an arm's; the caller closes it.

    It connects in the background: `wait` tells when it is ready.
    """

    def configure(connection: Connection[Any]) -> None:
        configure_session(connection, schema)
        if settings:
            settings.configure(connection)

    return TimedPool(connection_pool(conninfo, schema, size, timeout_s, configure))
