"""A pool of connections for a repository that several threads share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import Connection
from psycopg_pool import ConnectionPool

from logger.database import DEFAULT_SCHEMA, configure_session, with_defaults

_RECONNECT_S = 20.0
"""After so long the pool's growing pauses between attempts to connect begin anew, at a second."""


def connection_pool(
    conninfo: str,
    schema: str = DEFAULT_SCHEMA,
    size: int = 2,
    timeout_s: float = 5.0,
    configure: Callable[[Connection[Any]], None] | None = None,
) -> ConnectionPool[Connection[Any]]:
    """A pool of `size` connections, each as `logger.database.connect` makes it; the caller closes it.

    Who waits longer than `timeout_s` for one gets psycopg_pool.PoolTimeout, an OperationalError.
    `configure` replaces `configure_session`, and should call it.
    """
    return ConnectionPool(
        with_defaults(conninfo),
        kwargs={"autocommit": True, "prepare_threshold": None},
        configure=configure or (lambda connection: configure_session(connection, schema)),
        min_size=size,
        max_size=size,
        timeout=timeout_s,
        reconnect_timeout=_RECONNECT_S,
        open=True,
    )
