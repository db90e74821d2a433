"""One writer of a crowd: a thread with a stream of its own, on its own connection or on a shared pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from bench.arms.foreign import ForeignStream
from bench.load.failures import DATABASE_ERRORS, Failure, failure_of, reason_of
from bench.load.scan_source import ScanSource
from logger.scan import ScanLayout, StreamKey, batch_of

OUTCOMES = list(Failure)
"""An attempt's outcome is the index in here."""
ATTEMPT = np.dtype(
    [
        ("writer", np.int32),
        ("intended_ns", np.int64),
        ("begun_ns", np.int64),
        ("pool_ns", np.int64),
        ("done_ns", np.int64),
        ("outcome", np.int8),
    ]
)
"""One transaction that was tried: when it was due, begun and over on the monotonic clock that all
processes of a machine share; how much of that it waited for a connection of the pool."""


@dataclass(frozen=True)
class Schedule:
    """What each writer does from one instant on."""

    start_ns: int
    """On the monotonic clock, the same in all processes."""
    seconds: float
    rate_per_s: float = 0.0
    """Of all writers together, each with its own phase; 0: each as fast as it goes."""
    active: int = 0
    """The first so many writers take part; 0: all."""
    count: int = 0
    """Attempts of each writer at most; 0: as many as there is time for."""
    leak: tuple[float, float] | None = None
    """Seconds after the start at which each process takes all connections of its pool and keeps them, and
    at which it gives them back."""


class Connector(Protocol):
    """Gives a writer what it stores through."""

    def repository(self) -> Any:
        """A repository over an open connection, or over the pool. Raises one of `DATABASE_ERRORS`."""

    def is_lost(self, repository: Any) -> bool:
        """Whether the writer has to ask for another one."""

    def waited_ns(self) -> int:
        """What the calling thread has waited for a connection of the pool since it asked last."""

    def release(self, repository: Any) -> None:
        """The writer is done with it."""


class Writer:
    """Stores the scans of one stream; what it has stored although it was not told so is found out."""

    def __init__(
        self, index: int, key: StreamKey, source: ScanSource, layout: ScanLayout, connector: Connector
    ) -> None:
        self.index = index
        self.stored = 0
        """Scans that are known to be in the database."""
        self.reasons: dict[str, int] = {}
        """Failed attempts by SQLSTATE."""
        self._key, self._source, self._layout, self._connector = key, source, layout, connector
        self._id = uuid4()
        self._repository: Any = None
        self._stream: Any = None
        self._last_scan: int | None = None
        """Where the stream stood when it was seen last."""

    def open(self) -> None:
        """Connect and claim the stream. Raises one of `DATABASE_ERRORS`."""
        if self._repository is None:
            self._repository = self._connector.repository()
        stream = self._repository.open(self._key, self._layout.recipe, self._id)
        if self._last_scan is not None and isinstance(stream, ForeignStream):
            stream.resume(self._last_scan)  # nobody knows better where it stands
        self._stream = stream
        last_scan = int(stream.head.last_scan)
        if self._last_scan is not None:
            self.stored += last_scan - self._last_scan
        self._last_scan = last_scan

    def store_next(self) -> None:
        """Store one more scan. Raises one of `DATABASE_ERRORS`."""
        if self._stream is None:
            self.open()
        assert self._last_scan is not None
        number = self._last_scan + 1
        self._stream.store(batch_of([self._source.next(number)], self._layout))
        self._last_scan = number
        self.stored += 1

    def attempt(self) -> Failure:
        """Store one more scan, and say what became of it; the next attempt begins anew what is lost."""
        try:
            self.store_next()
        except DATABASE_ERRORS as exc:
            reason = reason_of(exc)
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            self._stream = None
            if self._repository is not None and self._connector.is_lost(self._repository):
                self._leave()
            return failure_of(exc)
        return Failure.OK

    def settle(self) -> None:
        """Find out what the last attempt has stored, if it was not told."""
        if self._stream is None and self._last_scan is not None:
            with suppress(*DATABASE_ERRORS):
                self.open()

    def close(self) -> None:
        self._stream = None
        if self._repository is not None:
            self._leave()

    def run(self, schedule: Schedule, writers: int) -> list[tuple[int, int, int, int, int, int]]:
        """Follow the schedule as one of so many writers; an `ATTEMPT` each, planned ones that were never
        begun as SKIPPED. What is late is begun at once; after twice the time nothing is begun any more."""
        give_up = schedule.start_ns + round(2e9 * schedule.seconds)
        end = schedule.start_ns + round(1e9 * schedule.seconds)
        intended_at = self._plan(schedule, writers)
        tried: list[tuple[int, int, int, int, int, int]] = []
        index = 0
        done = schedule.start_ns
        while not schedule.count or index < schedule.count:
            intended = intended_at(index, done)
            if intended >= end:
                break
            if schedule.rate_per_s and done >= give_up:
                tried.append((self.index, intended, 0, 0, 0, OUTCOMES.index(Failure.SKIPPED)))
            else:
                begun = wait_until(intended)
                outcome = self.attempt()
                done = time.monotonic_ns()
                waited = self._connector.waited_ns()
                tried.append((self.index, intended, begun, waited, done, OUTCOMES.index(outcome)))
            index += 1
        return tried

    def _plan(self, schedule: Schedule, writers: int) -> Callable[[int, int], int]:
        """When attempt i is due, told when the one before was done."""
        if not schedule.rate_per_s:
            return lambda index, done: done
        period_ns = 1e9 / schedule.rate_per_s
        return lambda index, done: schedule.start_ns + round((self.index + index * writers) * period_ns)

    def _leave(self) -> None:
        self._connector.release(self._repository)
        self._repository = None


def wait_until(intended_ns: int) -> int:
    """Return the time once it is `intended_ns` or later; at once if it is late already.

    All of it asleep: a thread that waits awake keeps the others of its process from running.
    """
    while (now := time.monotonic_ns()) < intended_ns:
        time.sleep((intended_ns - now) / 1e9)
    return now
