"""One process of a logger: reads its devices, spools and stores what they say, until told to stop.

It starts in any order: without a PLC scans are stored as not read, without a database they wait in the
spool. What is still in the spool at the end is stored by the next run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from logger.database import mapped_errors
from logger.errors import DatabaseError, DatabaseRefused
from logger.figures import STORING, Figures, Latencies, SpoolState
from logger.forwarding.forwarder import Forwarder
from logger.housekeeping import Housekeeper
from logger.polling import OnScan, Polling
from logger.reading.read_plan import plan_reads
from logger.reading.schedule import Due
from logger.reading.ticker import Ticker
from logger.scan import Scan
from logger.settings import Settings, logged_streams
from logger.spool import Spool
from logger.status_file import write_status
from logger.storing import OnStored, Storing
from plcsim.event_loop import new_event_loop

log = logging.getLogger(__name__)

_PATIENCE_S = 1.0
"""How long reading waits for the first answer of the database: one that refuses us is told at once."""
_SWITCH_S = 0.0005
"""How long a thread may keep the others waiting: reading must not wait for what storing computes."""
_MOST_LOST = 5
"""Streams that are not stored any more, of which the alarms tell one by one."""
_FULL = 0.8
"""Of the spool's bytes: from there on it is an alarm."""


@dataclass(frozen=True)
class Hooks:
    """Who wants to know what; each is called in the thread where it happens."""

    on_status: Callable[[Figures], None] = lambda figures: None
    """Once a second, and at the end."""
    on_ready: Callable[[Figures], None] = lambda figures: None
    on_scan: OnScan = lambda due, scan: None
    on_stored: OnStored = lambda stored: None


def run_logger(settings: Settings, hooks: Hooks = Hooks(), parent: int | None = None) -> Figures:
    """Log until SIGINT or SIGTERM; with a descriptor of a `parent`, until SIGTERM or its end of file.

    Raises InputError if the spool cannot be used or the database refuses us at the start, DatabaseError
    if no stream can be stored any more.
    """
    spool = Spool(settings.spool, settings.limits, target=settings.target, writer=settings.writer)
    spool.open()
    sys.setswitchinterval(_SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(_Service(settings, spool, hooks).run(parent))
    finally:
        spool.close()


class _Service:
    def __init__(self, settings: Settings, spool: Spool, hooks: Hooks) -> None:
        self._settings = settings
        self._spool = spool
        self._hooks = hooks
        self._started = time.monotonic()
        self._latencies = Latencies()
        streams = logged_streams(settings)
        self._streams = streams
        self._parameters = sum(each.layout.size for each in streams)
        self._requests = sum(len(plan_reads(each.config, each.group.name)) for each in streams)
        self._storing = Storing(settings, streams, spool, self._latencies, hooks.on_stored)
        self._housekeeper = Housekeeper(self._storing.connect, settings.keep_days)
        self._polling: Polling | None = None
        self._has_asked = self._stopping = self._ended = False
        self._seen = Figures()

    @property
    def _forwarder(self) -> Forwarder:
        return self._storing.forwarder

    async def run(self, parent: int | None) -> Figures:
        stop, hurry = asyncio.Event(), asyncio.Event()
        self._stop_on_signals(stop, hurry, parent)
        failed = _in_loop(stop.set)
        self._forwarder.on_failure = self._spool.on_failure = failed
        first = asyncio.create_task(self._first_contact(stop))
        await asyncio.wait([first], timeout=_PATIENCE_S)
        if first.done():
            first.result()
        with Ticker() as ticker:
            self._polling = Polling(self._streams, self._spool, ticker, self._on_scan, self._on_step)
            self._report()
            self._hooks.on_ready(self._figures())
            reporter = asyncio.create_task(self._every_second())
            try:
                await self._polling.run(stop, self._settings.drain_s / 2)
                await asyncio.wait([first], timeout=self._settings.drain_s / 2)
                if first.done():
                    first.result()
            finally:
                self._stopping = True
                self._report()
                await self._drained(hurry)
                reporter.cancel()
                self._ended = True
                self._report()
        self._raise_failure()
        return self._figures()

    async def _first_contact(self, stop: asyncio.Event) -> None:
        try:
            await asyncio.to_thread(self._storing.first_contact)
        except DatabaseRefused:
            stop.set()
            raise
        except DatabaseError as exc:
            log.debug("no database yet: %s", exc)  # the forwarder tries again, and says so
        self._has_asked = True
        self._forwarder.start()
        self._housekeeper.start()

    def _stop_on_signals(self, stop: asyncio.Event, hurry: asyncio.Event, parent: int | None) -> None:
        """The first signal drains, a second one ends at once."""
        loop = asyncio.get_running_loop()

        def told() -> None:
            (hurry if stop.is_set() else stop).set()

        loop.add_signal_handler(signal.SIGTERM, told)
        if parent is None:
            loop.add_signal_handler(signal.SIGINT, told)
        else:

            def gone() -> None:
                loop.remove_reader(parent)
                stop.set()

            loop.add_reader(parent, gone)
        if self._settings.duration_s is not None:
            loop.call_later(self._settings.duration_s, stop.set)

    def _on_scan(self, due: Due, scan: Scan) -> None:
        self._latencies.lag.add((scan.started_ns - due.due_ns) / 1e9)
        self._hooks.on_scan(due, scan)

    def _on_step(self, step: object) -> None:
        self._housekeeper.tell("clock step", str(step))

    async def _every_second(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            assert self._polling is not None
            self._polling.look()
            self._report()

    def _report(self) -> None:
        figures = self._figures()
        self._note_changes(figures)
        with suppress(OSError):  # a full disk, which the spool tells of
            write_status(self._settings.spool, figures)
        self._hooks.on_status(figures)

    def _note_changes(self, figures: Figures) -> None:
        """What an operator may ask for later goes into the database."""
        seen, self._seen = self._seen, figures
        if (dropped := figures.spool.dropped - seen.spool.dropped) > 0:
            self._housekeeper.tell(
                "scans dropped", f"{dropped} scans were dropped: the spool is full or they are too old"
            )
        if (damaged := figures.spool.damaged - seen.spool.damaged) > 0:
            self._housekeeper.tell("spool damaged", f"{damaged} records of the spool could not be read back")
        if (figures.database == STORING) != (seen.database == STORING):
            self._housekeeper.note("database", figures.database)

    def _figures(self) -> Figures:
        forwarder, spool = self._forwarder.figures(), self._spool.figures()
        return Figures(
            name=self._settings.name,
            worker=self._settings.worker,
            pid=os.getpid(),
            at=time.time(),
            seconds=time.monotonic() - self._started,
            cpu_s=time.process_time(),
            stopping=self._stopping,
            ended=self._ended,
            database=self._forwarder.state if self._has_asked else "waiting for the database",
            alarms=self._alarms(),
            parameters=self._parameters,
            requests=self._requests,
            stored_scans=forwarder.scans,
            stored_rows=forwarder.rows,
            transactions=forwarder.transactions,
            reconnects=forwarder.reconnects,
            gaps=forwarder.gaps,
            quarantined=forwarder.quarantined,
            retries=forwarder.retries.copy(),
            spool=SpoolState(
                spool.depth,
                spool.bytes,
                self._settings.limits.max_bytes,
                spool.oldest_age_s,
                spool.accepted,
                spool.dropped,
                spool.damaged,
                spool.torn,
                spool.last_error,
            ),
            devices=self._polling.figures() if self._polling else [],
            latencies=self._latencies,
        )

    def _alarms(self) -> list[str]:
        """What an operator should look at now."""
        spool, limit = self._spool.figures(), self._settings.limits.max_bytes
        alarms = []
        if self._spool.failed is not None:
            alarms.append(f"the spool has failed: {self._spool.failed}")
        elif self._spool.is_full:
            alarms.append("the spool is full")
        elif spool.bytes > _FULL * limit:
            alarms.append(f"the spool is {100 * spool.bytes / limit:.0f} % full")
        lost = self._forwarder.figures().lost
        alarms += [f"not stored any more: {why}" for why in list(lost.values())[:_MOST_LOST]]
        if spool.last_error:
            alarms.append(f"the spool's disk: {spool.last_error}")
        return alarms

    async def _drained(self, hurry: asyncio.Event) -> None:
        """Store what waits, as long as that may take; a daemon thread, so that nothing waits for it."""
        done = asyncio.Event()
        tell = _in_loop(done.set)

        def drain() -> None:
            try:
                self._spool.flush(self._settings.drain_s)
                self._forwarder.close(self._settings.drain_s)
                self._housekeeper.close(1.0)
            finally:
                tell()

        threading.Thread(target=drain, name="drain", daemon=True).start()
        await _first_of(done, hurry)

    def _raise_failure(self) -> None:
        failure = self._spool.failed or self._forwarder.failed
        if failure is None:
            return
        left = self._spool.figures().depth
        waiting = (
            f"; {left} scans or gaps were not stored, they wait in {self._settings.spool}" if left else ""
        )
        try:
            with mapped_errors():
                raise failure
        except DatabaseError as exc:
            raise type(exc)(f"{exc}{waiting}") from failure


async def _first_of(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _in_loop(callback: Callable[[], None]) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def call() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(callback)

    return call
