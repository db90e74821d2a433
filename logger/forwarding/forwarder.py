"""Scans -> transactions: a thread that stores what has gathered, oldest first, exactly once.

One thread owns the database connection, so that neither side waits for the other: while a
transaction is under way the next scans are read. What gathers meanwhile goes into one transaction
(scans of one process, without a gap), because current values are paid for once a transaction.

After an error whose outcome is unknown the stream's row in the database says what was stored: it
stands where it stood, or where one of our own attempts put it (an old connection may commit late).
What is stored waits no more, the rest is tried again. If the row stands anywhere else, somebody else
moved it: then nothing is dropped, and the forwarder fails.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import psycopg

from logger.database import first_line
from logger.errors import DatabaseUnreachable, StreamMoved
from logger.repositories import Repository
from logger.scan import Batch, Gap, Scan, ScanLayout, batch_of
from logger.streams import StreamHead

log = logging.getLogger(__name__)

MAX_SCANS_A_BATCH = 20
MAX_WAITING = 1000
"""Scans kept in memory while the database is slow or away; then the poller waits and scans are missed."""
_BACK_OFF_S = (0.1, 5.0)
_MOST_UNKNOWN = 100
"""Attempts of unknown outcome that are remembered, the newest."""
_LAST_WORD_S = 1.0
"""How long after the time for draining the thread may take to give up by itself."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One transaction that was proven to be committed."""

    batch: Batch
    scans: tuple[Scan, ...]
    started_ns: int
    committed_ns: int


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one transaction was to store: the oldest that waits."""

    what: Batch | Gap
    scans: tuple[Scan, ...] = ()
    started_ns: int = field(default_factory=time.monotonic_ns)


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
        self._unknown: dict[StreamHead, _Attempt] = {}
        """Attempts that may have been committed, by where they would have put the stream."""
        self._failures = 0
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

    async def wait_for_room(self, stop: asyncio.Event) -> None:
        """Return when fewer than `max_waiting` scans wait, or when `stop` is set."""
        while self._is_full() and not stop.is_set():
            loop, room = asyncio.get_running_loop(), asyncio.Event()
            self._room = (loop, room)
            if self._is_full():
                ends = [loop.create_task(event.wait()) for event in (room, stop)]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ends:
                    end.cancel()

    def close(self, drain_s: float = 10.0) -> int:
        """Store what waits, for at most `drain_s`; returns how many items could not be stored."""
        if self._thread.ident is None:  # never started
            self._repository.close()
            return len(self._waiting)
        with self._changed:
            self._closing = True
            self._give_up_at = time.monotonic() + drain_s
            self._changed.notify()
        self._thread.join(drain_s + _LAST_WORD_S)
        if self._thread.is_alive():
            self.failed = DatabaseUnreachable(f"the database gave no answer in {drain_s:g} s")
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

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._max_waiting and self.failed is None

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return bool(self._waiting)

    def _store_next(self) -> None:
        attempt = self._next_attempt()
        try:
            if isinstance(attempt.what, Gap):
                self._repository.record_gap(attempt.what)
            else:
                self._repository.store(attempt.what)
        except (psycopg.OperationalError, psycopg.InternalError, StreamMoved) as exc:
            self._find_out(attempt, exc)
        else:
            self._release(attempt)
        self._tell_room()

    def _release(self, attempt: _Attempt) -> None:
        """The attempt is proven to be committed: what it held waits no more."""
        if not isinstance(attempt.what, Gap):
            self._on_stored(Stored(attempt.what, attempt.scans, attempt.started_ns, time.monotonic_ns()))
        self._unknown.clear()
        self._failures = 0
        for _ in range(max(1, len(attempt.scans))):
            self._waiting.popleft()

    def _find_out(self, attempt: _Attempt, failure: psycopg.Error | StreamMoved) -> None:
        """After a failure: read where the stream stands, and go on from there."""
        before, attempted = self._repository.head, self._repository.attempted
        if attempted is not None and not self._repository.is_certain:
            self._unknown[attempted] = attempt
            while len(self._unknown) > _MOST_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
        self._failures += 1
        if isinstance(failure, psycopg.Error):
            log.warning("storing failed, trying again: %s", first_line(failure))
            if self._failures > 1:
                self._pause(self._failures, failure)
        self._reopen()
        head = self._repository.head
        if head in self._unknown:
            self._release(self._unknown[head])
        elif head != before:
            raise StreamMoved(
                f"the stream stands at scan {head.last_scan}, where this logger did not put it: is "
                "another logger using it?"
            )
        elif isinstance(failure, StreamMoved):
            raise failure

    def _next_attempt(self) -> _Attempt:
        """What goes into the next transaction: one gap, or contiguous scans of one process."""
        first = self._waiting[0]
        if isinstance(first, Gap):
            return _Attempt(first)
        scans = [first]
        for i in range(1, min(len(self._waiting), self._max_scans_a_batch)):
            item = self._waiting[i]
            if isinstance(item, Gap) or item.process_number != first.process_number:
                break
            scans.append(item)
        started_ns = time.monotonic_ns()  # combining them is part of the transaction's time
        return _Attempt(batch_of(scans, self._layout), tuple(scans), started_ns)

    def _reopen(self) -> None:
        self._repository.close()
        for attempt in count(1):
            try:
                self._repository = self._open_repository()
            except (DatabaseUnreachable, psycopg.OperationalError) as exc:
                log.warning("no database, trying again: %s", exc)
                self._pause(attempt, exc)
            else:
                self.reconnects += 1
                return

    def _pause(self, failures: int, failure: Exception) -> None:
        """Wait, longer each time; once the time for draining is over, raise the failure instead."""
        shortest, longest = _BACK_OFF_S
        seconds = random.uniform(shortest, min(longest, shortest * 2 ** min(failures, 16)))
        with self._changed:
            if not self._closing:  # a stop ends the pause
                self._changed.wait_for(lambda: self._closing, seconds)
                return
            left = self._give_up_at - time.monotonic()
            if left <= 0:
                raise failure
            self._changed.wait(min(seconds, left))

    def _tell_room(self) -> None:
        if self._room is not None and not self._is_full():
            loop, event = self._room
            self._room = None
            loop.call_soon_threadsafe(event.set)
