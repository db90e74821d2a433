"""Due -> read -> Scan: polls one device at its interval, whatever the PLC does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from logger.reading.reader import Reader
from logger.reading.schedule import Due, Schedule
from logger.reading.ticker import Ticker
from logger.scan import Gap, Item, Scan, ScanLayout, StreamKey

LONGEST_OUTAGE_S = 60.0
"""An outage that is one gap record is written down this often, so that nobody waits for its end."""
_SPIN_PAUSE_NS = 100_000_000
"""Between two scans of a device that fails at once, if it is to be polled as fast as it goes."""


class Sink(Protocol):
    """Takes the scans and gaps of many streams, each stream's in order."""

    async def wait_for_room(self, stop: asyncio.Event) -> None:
        """Return when `put` will take another item, or when `stop` is set."""

    def put(self, key: StreamKey, item: Item) -> None:
        """Take what comes next in the stream; returns at once."""


@dataclass(slots=True)
class ProcessState:
    """Which process a device runs: what one of its poll groups shows holds for all of them."""

    number: int | None = None
    """The PLC's number of it; None while idle."""


@dataclass(slots=True)
class _Outage:
    """Scans that read nothing, and are to be one gap record."""

    first: Scan
    last: Scan
    reason: str

    def gap(self) -> Gap:
        first_at, last_at = int(self.first.recorded_at.min()), int(self.last.recorded_at.max())
        return Gap(self.first.number, self.last.number, self.reason, first_at, last_at)


class Poller:
    """Reads the scans of one stream when they are due and hands them on."""

    def __init__(
        self,
        key: StreamKey,
        reader: Reader,
        schedule: Schedule,
        layout: ScanLayout,
        sink: Sink,
        ticker: Ticker,
        process: ProcessState | None = None,
        on_failure: Literal["rows", "gap"] = "rows",
        on_scan: Callable[[Due, Scan], None] = lambda due, scan: None,
    ) -> None:
        self._key = key
        self._reader = reader
        self._schedule = schedule
        self._layout = layout
        self._sink = sink
        self._ticker = ticker
        self._process = process or ProcessState()
        self._on_failure = on_failure
        self._on_scan = on_scan
        self._outage: _Outage | None = None
        self.scans = 0
        self.missed = 0
        self.failed = 0
        """Scans that read nothing."""

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop` is set; the scan in hand is finished."""
        self._schedule.begin()
        try:
            while not stop.is_set():
                asked_ns = time.monotonic_ns()
                await self._sink.wait_for_room(stop)
                full_ns = time.monotonic_ns() - asked_ns
                due = self._schedule.next_due()
                if not await self._ticker.wait_until(due.due_ns, stop):
                    return
                if due.missed:
                    self._record_missed(due, full_ns)
                await self._scan(due)
                if self._reader.failure and self._schedule.interval_ns == 0:
                    await self._ticker.wait_until(time.monotonic_ns() + _SPIN_PAUSE_NS, stop)
        finally:
            self._end_outage()

    async def _scan(self, due: Due) -> None:
        scan = await self._reader.read(due.number)
        if self._layout.shows_process:
            self._process.number = self._layout.process_number(scan.values, self._process.number)
        scan = scan.timed(due.due_ns, self._process.number)
        self.scans += 1
        self._on_scan(due, scan)
        failure = self._reader.failure
        self.failed += bool(failure)
        if failure and self._on_failure == "gap":
            self._go_on_failing(scan, failure)
            return
        self._end_outage()
        self._sink.put(self._key, scan)

    def _record_missed(self, due: Due, full_ns: int) -> None:
        self.missed += due.missed
        interval_ns = self._schedule.interval_ns
        first_ns = due.due_ns - due.missed * interval_ns
        apart_ns = time.time_ns() - time.monotonic_ns()
        why = "the spool was full" if full_ns >= interval_ns else "the scan before took too long"
        self._end_outage()
        gap = Gap(
            due.number - due.missed,
            due.number - 1,
            f"missed: {why}",
            (first_ns + apart_ns) // 1000,
            (due.due_ns - interval_ns + apart_ns) // 1000,
        )
        self._sink.put(self._key, gap)

    def _go_on_failing(self, scan: Scan, reason: str) -> None:
        if self._outage is None:
            self._outage = _Outage(scan, scan, reason)
        self._outage.last = scan
        if scan.due_ns - self._outage.first.due_ns >= LONGEST_OUTAGE_S * 1e9:
            self._end_outage()

    def _end_outage(self) -> None:
        if self._outage is not None:
            self._sink.put(self._key, self._outage.gap())
            self._outage = None
