"""What a logger does beside logging: partitions and retention once an hour, and events for the operator.

A thread with a connection of its own, so that it can be slow without a scan waiting for it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from logger.database import mapped_errors, record_event
from logger.database.maintenance import maintain
from logger.database.retention import Retention
from logger.errors import DatabaseError

log = logging.getLogger(__name__)

MAINTAIN_EVERY_S = 3600.0
_TRY_AGAIN_S = 30.0
_MOST_EVENTS = 1000
"""That wait for the database; then the oldest are let go, they are in the log too."""


@dataclass(frozen=True)
class Event:
    """Something that an operator may ask for later."""

    kind: str
    message: str
    event_id: UUID = field(default_factory=uuid4)
    happened_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Housekeeper:
    """Does its work while the database is there, and waits while it is not."""

    def __init__(
        self, open_connection: Callable[[], AbstractContextManager[Any]], keep_days: int | None
    ) -> None:
        self._open_connection = open_connection
        self._retention = Retention(keep_days=keep_days, drop=False)
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._changed = threading.Condition()
        self._closing = False
        self._maintain_at = 0.0
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, kind: str, message: str) -> None:
        """Log an event, and keep it for the database; any thread, returns at once."""
        log.warning("%s: %s", kind, message)
        self.note(kind, message)

    def note(self, kind: str, message: str) -> None:
        """Keep an event for the database only."""
        with self._changed:
            self._events.append(Event(kind, message))
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write the events that wait, if the database is there and quick."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                with self._open_connection() as connection:
                    self._work(connection)
            except DatabaseError as exc:  # whoever stores says so too: this is no news
                log.debug("housekeeping waits: %s", exc)
                if self._wait(_TRY_AGAIN_S):
                    return

    def _work(self, connection: Any) -> None:
        """Everything there is to do now."""
        with mapped_errors():
            self._write_events(connection)
            if time.monotonic() >= self._maintain_at and not self._closing:
                report = maintain(connection, retention=self._retention)
                self._maintain_at = time.monotonic() + MAINTAIN_EVERY_S
                log.info("maintenance: %s", report)

    def _write_events(self, connection: Any) -> None:
        host = socket.gethostname()
        while self._events:
            event = self._events[0]
            record_event(connection, event.happened_at, host, event.kind, event.message, event.event_id)
            with self._changed, suppress(IndexError):
                self._events.popleft()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._events and not self._closing and time.monotonic() < self._maintain_at:
                self._changed.wait(self._maintain_at - time.monotonic())
            return bool(self._events) or not self._closing

    def _wait(self, seconds: float) -> bool:
        """Pause; True if it is time to end."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closing, seconds)
