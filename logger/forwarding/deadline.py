"""A deadline of our own on every call of the database: cancel first, then cut the connection.

A COMMIT that hangs (a frozen server process, a synchronous standby that is away) is freed by neither
statement_timeout nor keepalives: the server's kernel still answers, and statement_timeout does not cover
it. A socket that is shut down frees the thread that waits for it at once; what became of the commit is
then unknown, and the streams' rows tell.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import psycopg
from psycopg import Connection

log = logging.getLogger(__name__)

GRACE_S = 2.0
"""After the cancel, before the connection is cut."""


class Deadline:
    """A context for the calls of one connection; it ends the connection when one takes too long.

    Costs two assignments a call: the watchdog looks from time to time, nobody wakes it.
    """

    def __init__(self, connection: Connection[Any], seconds: float, grace_s: float = GRACE_S) -> None:
        self._connection = connection
        self._seconds, self._grace_s = seconds, grace_s
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._until = math.inf
        self._cancelled = math.inf
        """Deadline of the call that was asked to end; each is asked once."""
        self.cuts = 0

    def __enter__(self) -> None:
        self._until = time.monotonic() + self._seconds

    @contextmanager
    def of(self, seconds: float) -> Iterator[None]:
        """For something longer than a call: at least so many seconds."""
        with self:
            self._until += max(0.0, seconds - self._seconds)
            yield

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._until = math.inf

    def look(self, now: float) -> None:
        """What the watchdog does: cancel a call at its deadline, cut the connection when that is in vain."""
        until = self._until
        if now < until:
            return
        if now >= until + self._grace_s:
            self.cut("it did not end after a cancel")
        elif self._cancelled != until:
            self._cancelled = until
            log.warning("the database has not answered for %g s: cancelling", self._seconds)
            threading.Thread(target=self._cancel, name="cancel", daemon=True).start()

    def cut(self, why: str) -> None:
        """End the connection under whoever waits for it; he gets an OperationalError."""
        self._until = math.inf
        self.cuts += 1
        log.warning("the database connection was cut: %s", why)
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._until = math.inf
        self._socket.close()

    def _cancel(self) -> None:
        try:
            self._connection.cancel_safe(timeout=self._grace_s)
        except psycopg.Error as exc:
            log.warning("the cancel failed: %s", str(exc).strip())


class Watchdog:
    """One thread that looks after the deadlines of all connections."""

    def __init__(self, seconds: float, grace_s: float = GRACE_S) -> None:
        self._seconds, self._grace_s = seconds, grace_s
        self._deadlines: set[Deadline] = set()
        self._changed = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, connection: Connection[Any]) -> Deadline:
        """The deadline of a connection; `forget` it before the connection is closed."""
        deadline = Deadline(connection, self._seconds, self._grace_s)
        with self._changed:
            self._deadlines.add(deadline)
        return deadline

    def forget(self, deadline: Deadline) -> None:
        with self._changed:
            self._deadlines.discard(deadline)
        deadline.close()

    def cut_all(self, why: str) -> None:
        """End every call that is under way, and every connection."""
        with self._changed:
            for deadline in self._deadlines:
                deadline.cut(why)

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        step_s = min(0.5, self._seconds / 4, self._grace_s / 4)
        while not self._stop.wait(step_s):
            now = time.monotonic()
            with self._changed:
                for deadline in self._deadlines:
                    deadline.look(now)
