"""The server that a run uses: the user's, or an embedded one of its own with the bench's settings."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.load.emulators import signals_held
from logger.database import checked_conninfo, connect
from logger.database.embedded import EmbeddedPostgres, data_folder

BENCH_SETTINGS = {
    "max_wal_size": "16GB",
    "min_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "1GB",
    "max_connections": "300",
    "autovacuum_naptime": "1h",
}
"""No checkpoint and no automatic vacuum falls into a run of minutes; both would hit one arm only."""


@contextmanager
def bench_server(url: str | None) -> Iterator[str]:
    """Connection string of the given server, or of an embedded one of its own that is removed after.

    SIGTERM ends the program as Ctrl-C does meanwhile, so that what was made is removed.
    """
    with ended_by_sigterm():
        if url is not None:
            yield checked_conninfo(url)
            return
        with ExitStack() as stack:
            with signals_held(signal.SIGINT, signal.SIGTERM):  # a server half started cannot be removed
                folder = data_folder()
                folder.mkdir(parents=True, exist_ok=True)
                server = EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="bench-", dir=folder)), BENCH_SETTINGS)
                stack.callback(server.remove)
                stack.enter_context(server)
            yield server.conninfo


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Meanwhile SIGTERM raises SystemExit in the main thread, once: what cleans up is not disturbed."""

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: let us clean up
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # nobody but the main thread can handle signals
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def growing_wal(conninfo: str, segments: int) -> Iterator[Future[None]]:
    """Meanwhile make WAL segments that the next checkpoint recycles, as a server has that ran for long.

    A new server fills each segment with zeros when it first needs it, in the middle of somebody's
    commit: 20 to 50 ms, once or twice a second under load.
    """
    with ThreadPoolExecutor(1) as aside:
        yield aside.submit(_grow_wal, conninfo, segments)


def _grow_wal(conninfo: str, segments: int) -> None:
    with connect(conninfo) as connection:
        for _ in range(segments):
            connection.execute("SELECT pg_logical_emit_message(false, 'plcbench', 'fill')")
            connection.execute("SELECT pg_switch_wal()")
