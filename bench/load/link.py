"""A worker's connection or pool, and the streams that it stores through; made anew after it is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from psycopg import Connection

from bench.arms.foreign import ForeignStream
from bench.arms.pool import TimedPool, open_pool
from bench.arms.spec import parse_arm
from bench.load.failures import Failure
from bench.load.scan_source import ScanSource
from bench.load.work import WorkerSettings
from bench.measuring.resources import cpu_seconds, is_postgres, process_use
from logger.database import connect
from logger.repositories import Stream
from logger.scan import ScanLayout, StreamKey, batch_of

_POOL_START_S = 30.0


@dataclass
class Writer:
    """One machine's scans on their way into one schema."""

    source: ScanSource
    layout: ScanLayout
    stream: Stream | ForeignStream

    @property
    def last_scan(self) -> int:
        """The last scan that is known to be stored."""
        return self.stream.head.last_scan

    def store_next(self, scans: int = 1) -> None:
        """Make the next scans and store them in one transaction."""
        first = self.last_scan + 1
        made = [self.source.next(number) for number in range(first, first + scans)]
        self.stream.store(batch_of(made, self.layout))


class Link:
    """What a worker stores through, in one schema. Raises DatabaseError and psycopg.Error.

    After a failure with an unknown outcome the streams are opened again, which reads where they stand:
    what was stored although we were not told is found then.
    """

    def __init__(
        self, settings: WorkerSettings, sources: Mapping[int, ScanSource], layouts: Mapping[int, ScanLayout]
    ) -> None:
        self._settings = settings
        self._sources, self._layouts = sources, layouts
        self._arm = parse_arm(settings.repository)
        self._writer_id = uuid4()
        self._stood: dict[int, int] = {}
        """Where each stream stood when it was closed."""
        self.connections: Connection[Any] | TimedPool | None = None
        self.writers: dict[int, Writer] = {}
        self.found: int = 0
        """Transactions found stored of which nobody told us, since this was asked last."""
        self.found_scans: int = 0
        self.in_doubt: int = 0
        """Transactions of an arm that is not ours of which nobody knows, since this was asked last."""
        try:
            self.open()
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        return bool(self.writers) and self.connections is not None and not self.connections.closed

    @property
    def pool(self) -> TimedPool | None:
        return self.connections if isinstance(self.connections, TimedPool) else None

    def open(self) -> None:
        """Connect if we are not, and open the streams."""
        settings = self._settings
        if self.connections is None or self.connections.closed:
            self.connections = self._connected()
        repository = self._arm.open(self.connections, settings.several_writers)
        writers = {}
        for n, layout in self._layouts.items():
            key = StreamKey(layout.device_id, settings.stream_id)
            stream = repository.open(key, layout.recipe, self._writer_id)
            if isinstance(stream, ForeignStream) and n in self._stood:
                stream.resume(self._stood[n])
            writers[n] = Writer(self._sources[n], layout, stream)
        for n, last_scan in self._stood.items():
            self.found += writers[n].last_scan > last_scan
            self.found_scans += writers[n].last_scan - last_scan
        self.writers, self._stood = writers, {}

    def after(self, failure: Failure, parameters: int) -> None:
        """Keep what a failed transaction left in order; close what is in doubt.

        The database's own no leaves connection and stream as they were; anything else does not.
        """
        writer = self.writers.get(parameters)
        if writer is None:
            return  # it was not open
        if failure is not Failure.CONNECTION_LOST and writer.stream.is_certain and self._is_usable():
            return
        self.in_doubt += not self._arm.is_ours and failure is Failure.CONNECTION_LOST
        self.disconnect()

    def disconnect(self) -> None:
        """Close the streams, and the connection; a pool replaces its own."""
        if self.writers:
            self._stood = {n: writer.last_scan for n, writer in self.writers.items()}
        self.writers = {}
        if isinstance(self.connections, Connection):
            self.connections.close()

    def close(self) -> None:
        """Close everything."""
        if self.connections is not None:
            self.connections.close()

    def backends(self) -> list[int]:
        """Process ids of our connections' backends."""
        return [connection.info.backend_pid for connection in self._all(flush=False)]

    def flush_statistics(self) -> None:
        """Let the server's counters tell at once what our connections did."""
        self._all(flush=True)

    def backend_bytes(self) -> int | None:
        """Private memory of our backends; None if they are on another machine."""
        uses = [process_use(pid) if is_postgres(pid) else None for pid in self.backends()]
        return sum(use.private_bytes for use in uses if use) if all(uses) else None

    def backend_cpu(self) -> dict[int, float] | None:
        """CPU seconds of each backend by its process id; None if they are on another machine."""
        seconds = {pid: cpu_seconds(pid) if is_postgres(pid) else None for pid in self.backends()}
        known = {pid: spent for pid, spent in seconds.items() if spent is not None}
        return known if len(known) == len(seconds) else None

    def _all(self, flush: bool) -> list[Connection[Any]]:
        """All our connections; those of a pool are taken out of it for a moment."""
        if isinstance(self.connections, Connection):
            taken = [self.connections]
            if flush:
                _flush(taken)
            return taken
        pool, taken = self.pool, []
        assert pool is not None
        try:
            for _ in range(pool.size):
                taken.append(pool.getconn())
            if flush:
                _flush(taken)
        finally:
            for connection in taken:
                pool.putconn(connection)
            pool.take_waits_ns()
        return taken

    def _connected(self) -> Connection[Any] | TimedPool:
        settings, size = self._settings, self._arm.settings.pool
        if size is None:
            return connect(settings.conninfo, settings.schema)
        pool = open_pool(settings.conninfo, settings.schema, size, settings=self._arm.settings)
        try:
            pool.wait(_POOL_START_S)
        except BaseException:
            pool.close()
            raise
        return pool

    def _is_usable(self) -> bool:
        connections = self.connections
        if isinstance(connections, Connection):
            return not connections.closed and connections.info.transaction_status.name == "IDLE"
        return True


def _flush(connections: list[Connection[Any]]) -> None:
    for connection in connections:
        connection.execute("SELECT pg_stat_force_next_flush()")
