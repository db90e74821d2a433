"""A pool that says how long each thread waited for a connection and how long connections were held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from psycopg import Connection

from logger.repositories.pool import connection_pool


class CrowdPool:
    """What a repository asks of a pool, timed; threads share it."""

    def __init__(
        self,
        conninfo: str,
        schema: str,
        size: int,
        timeout_s: float,
        configure: Callable[[Connection[Any]], None],
    ) -> None:
        self.size = size
        self.held_ns = 0
        """Of all connections together, those that were given back."""
        self._pool = connection_pool(conninfo, schema, size, timeout_s, configure)
        self._since: dict[Connection[Any], int] = {}
        self._lock = threading.Lock()
        self._mine = threading.local()

    def wait_until_full(self, seconds: float) -> None:
        """Wait for all connections; raises psycopg_pool.PoolTimeout."""
        self._pool.wait(seconds)

    def getconn(self) -> Connection[Any]:
        asked = time.perf_counter_ns()
        try:
            connection = self._pool.getconn()
        finally:
            got = time.perf_counter_ns()
            self._mine.waited_ns = getattr(self._mine, "waited_ns", 0) + got - asked
        self._since[connection] = got
        return connection

    def putconn(self, connection: Connection[Any]) -> None:
        held = time.perf_counter_ns() - self._since.pop(connection)
        with self._lock:
            self.held_ns += held
        self._pool.putconn(connection)

    def drain(self) -> None:
        self._pool.drain()

    def close(self) -> None:
        self._pool.close()

    def take_waited_ns(self) -> int:
        """How long this thread has waited since it asked here last."""
        waited: int = getattr(self._mine, "waited_ns", 0)
        self._mine.waited_ns = 0
        return waited
