"""Scans -> transactions: a thread that stores what has gathered, oldest first, exactly once.

One thread owns the database connection, so that neither side waits for the other: while a
transaction is under way the next scans are read. What gathers meanwhile goes into one transaction
(scans of one process, without a gap), because current values are paid for once a transaction.

After an error whose outcome is unknown the stream's row in the database says what was stored; that
is dropped from what waits, and the rest is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from logger.database import first_line
from logger.errors import DatabaseUnreachable
from logger.repositories import Repository
from logger.scan import Batch, Gap, Scan, ScanLayout, batch_of

log = logging.getLogger(__name__)

MAX_SCANS_A_BATCH = 20
MAX_WAITING = 1000
"""Scans kept in memory while the database is slow or away; then the poller waits and scans are missed."""
_BACK_OFF_S = (0.1, 5.0)


@dataclass(frozen=True, slots=True)
class Stored:
    """One transaction that was proven to be committed."""

    batch: Batch
    scans: tuple[Scan, ...]
    started_ns: int
    committed_ns: int


class Forwarder:
    """Stores scans and gaps in the order in which they are put; a Sink for a poller.

    `open_repository` connects and is called again after a lost connection; it raises
    DatabaseUnreachable while there is no database. Any other error ends the thread: `failed` holds it.
    """

    def __init__(
        self,
        open_repository: Callable[[], Repository],
        layout: ScanLayout,
        on_stored: Callable[[Stored], None] = lambda stored: None,
        max_scans_a_batch: int = MAX_SCANS_A_BATCH,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._open_repository = open_repository
        self._layout = layout
        self._on_stored = on_stored
        self._max_scans_a_batch = max_scans_a_batch
        self._max_waiting = max_waiting
        self._waiting: deque[Scan | Gap] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._give_up_at = float("inf")
        self._room: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)
        self.failed: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.reconnects = 0
        self._repository = open_repository()
        self.next_scan = self._repository.head.last_scan + 1
        """Number of the first scan that continues the stream."""
        self.process_number = self._repository.process_number
        """The process that was running when the stream was last written."""

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Scan | Gap) -> None:
        """Take what comes next in the stream; returns at once."""
        with self._changed:
            self._waiting.append(item)
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Scans and gaps that are not stored yet."""
        return len(self._waiting)

    async def wait_for_room(self) -> None:
        """Return when fewer than `max_waiting` scans wait."""
        while len(self._waiting) >= self._max_waiting and self.failed is None:
            loop, event = asyncio.get_running_loop(), asyncio.Event()
            self._room = (loop, event)
            if len(self._waiting) >= self._max_waiting:
                await event.wait()

    def close(self, drain_s: float = 10.0) -> int:
        """Store what waits, for at most `drain_s`; returns how many items could not be stored."""
        with self._changed:
            self._closing = True
            self._give_up_at = time.monotonic() + drain_s
            self._changed.notify()
        self._thread.join()
        return len(self._waiting)

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._store_next()
        except BaseException as exc:  # noqa: BLE001 - the thread's top: whoever waits for us is told
            self.failed = exc
            self.on_failure()
        finally:
            self._tell_room()
            self._repository.close()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return bool(self._waiting)

    def _store_next(self) -> None:
        items = self._next_items()
        started_ns = time.monotonic_ns()
        try:
            first = items[0]
            if isinstance(first, Gap):
                self._repository.record_gap(first)
            else:
                scans = [item for item in items if isinstance(item, Scan)]
                batch = batch_of(scans, self._layout)
                self._repository.store(batch)
                self._on_stored(Stored(batch, tuple(scans), started_ns, time.monotonic_ns()))
        except (psycopg.OperationalError, psycopg.InternalError) as exc:
            log.warning("storing failed, trying again: %s", first_line(exc))
            self._reopen()
            self._drop_stored()
        else:
            for _ in items:
                self._waiting.popleft()
        self._tell_room()

    def _next_items(self) -> list[Scan | Gap]:
        """What goes into the next transaction: one gap, or contiguous scans of one process."""
        first = self._waiting[0]
        items = [first]
        if isinstance(first, Gap):
            return items
        for i in range(1, min(len(self._waiting), self._max_scans_a_batch)):
            item = self._waiting[i]
            if isinstance(item, Gap) or item.process_number != first.process_number:
                break
            items.append(item)
        return items

    def _reopen(self) -> None:
        self._repository.close()
        shortest, longest = _BACK_OFF_S
        pause = shortest
        while True:
            try:
                self._repository = self._open_repository()
            except (DatabaseUnreachable, psycopg.OperationalError) as exc:
                if time.monotonic() > self._give_up_at:
                    raise
                log.warning("no database, trying again: %s", exc)
            else:
                self.reconnects += 1
                return
            with self._changed:  # a stop ends the pause
                self._changed.wait_for(lambda: self._closing, random.uniform(shortest, pause))
            pause = min(2 * pause, longest)

    def _drop_stored(self) -> None:
        """Drop what the database has already: an unknown outcome may have been a commit."""
        last = self._repository.head.last_scan
        while self._waiting:
            item = self._waiting[0]
            end = item.last_scan if isinstance(item, Gap) else item.number
            if end > last:
                return
            self._waiting.popleft()

    def _tell_room(self) -> None:
        if self._room is not None and len(self._waiting) < self._max_waiting:
            loop, event = self._room
            self._room = None
            loop.call_soon_threadsafe(event.set)
