"""One process of a logger: reads its devices, spools and stores what they say, until told to stop.

It starts in any order: without a PLC scans are stored as not read, without a database they wait in the
spool. What is still in the spool at the end is stored by the next run.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from logger.database import mapped_errors
from logger.errors import DatabaseError, DatabaseRefused, SpoolFailed
from logger.figures import Figures
from logger.forwarding.forwarder import Forwarder
from logger.housekeeping import Housekeeper
from logger.polling import OnScan, Polling
from logger.reading.schedule import Due
from logger.reading.ticker import Ticker
from logger.reporting import Reporter
from logger.scan import Scan
from logger.settings import Settings, logged_streams
from logger.spool import Spool
from logger.storing import OnStored, Storing
from plcsim.event_loop import new_event_loop

log = logging.getLogger(__name__)

_PATIENCE_S = 1.0
"""How long reading waits for the first answer of the database: one that refuses us is told at once."""
_FIRST_CONTACT_S = 30.0
"""How much longer it waits for one that did answer, while it makes tables and enters devices."""
_MOST_FILES = 65_536
_COLLECT_EVERY_S = 60
"""By itself the collector would come by so seldom that memory grew for hours before it stood."""
_SWITCH_S = 0.0005
"""How long a thread may keep the others waiting: reading must not wait for what storing computes."""


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
    raise_file_limit()
    sys.setswitchinterval(_SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(_Service(settings, spool, hooks).run(parent))
    finally:
        gc.unfreeze()
        spool.close()


def _keep_what_is_loaded() -> None:
    """Spare the collector the devices: to look at a thousand again and again takes a tenth of our time."""
    gc.collect()
    gc.freeze()


def raise_file_limit() -> None:
    """Let this process open as many files as it may: each device is a connection, a shell allows 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Service:
    def __init__(self, settings: Settings, spool: Spool, hooks: Hooks) -> None:
        self._settings = settings
        self._spool = spool
        self._hooks = hooks
        self._streams = logged_streams(settings)
        self._storing = Storing(settings, self._streams, spool, hooks.on_stored)
        self._housekeeper = Housekeeper(self._storing.connect, settings.keep_days)
        self._reporter = Reporter(settings, self._streams, spool, self._storing)

    @property
    def _forwarder(self) -> Forwarder:
        return self._storing.forwarder

    async def run(self, parent: int | None) -> Figures:
        stop, hurry = asyncio.Event(), asyncio.Event()
        self._stop_on_signals(stop, hurry, parent)
        failed = _in_loop(stop.set)
        self._forwarder.on_failure = self._spool.on_failure = failed
        first = asyncio.create_task(self._first_contact(stop))
        await self._wait_for_database(first, stop)
        with Ticker() as ticker:
            polling = Polling(self._streams, self._spool, ticker, self._on_scan, self._on_step)
            _keep_what_is_loaded()
            self._reporter.devices = polling.figures
            self._report()
            self._hooks.on_ready(self._reporter.figures())
            reporter = asyncio.create_task(self._every_second(polling))
            try:
                await polling.run(stop, self._settings.drain_s / 2)
                await asyncio.wait([first], timeout=self._settings.drain_s / 2)
                if first.done():
                    first.result()
            finally:
                self._reporter.stopping = True
                self._report()
                await self._drained(hurry)
                reporter.cancel()
                self._reporter.ended = True
                self._report()
        self._raise_failure()
        return self._reporter.figures()

    async def _wait_for_database(self, first: asyncio.Task[None], stop: asyncio.Event) -> None:
        """Reading begins once the database is ready, or at once if there is none.

        To enter a thousand devices and claim their streams takes seconds, and all of one processor:
        scans that were due meanwhile would be missed.
        """
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([first, stopped], timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if self._storing.is_in_touch:
            await asyncio.wait(
                [first, stopped], timeout=_FIRST_CONTACT_S, return_when=asyncio.FIRST_COMPLETED
            )
        stopped.cancel()
        if first.done():
            first.result()

    async def _first_contact(self, stop: asyncio.Event) -> None:
        try:
            await asyncio.to_thread(self._storing.first_contact)
        except DatabaseRefused:
            stop.set()
            raise
        except DatabaseError as exc:
            log.debug("no database yet: %s", exc)  # the forwarder tries again, and says so
        self._reporter.database = ""
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
        self._storing.latencies.lag.add((scan.started_ns - due.due_ns) / 1e9)
        self._hooks.on_scan(due, scan)

    def _on_step(self, step: object) -> None:
        self._housekeeper.tell("clock step", str(step))

    async def _every_second(self, polling: Polling) -> None:
        for second in count(1):
            await asyncio.sleep(1.0)
            polling.look()
            self._report()
            if second % _COLLECT_EVERY_S == 0:
                gc.collect()

    def _report(self) -> None:
        self._reporter.report(self._hooks.on_status, self._housekeeper)

    async def _drained(self, hurry: asyncio.Event) -> None:
        """Store what waits, as long as that may take; a daemon thread, so that nothing waits for it."""
        done = asyncio.Event()
        tell = _in_loop(done.set)

        def drain() -> None:
            try:
                with suppress(SpoolFailed):  # what it accepted before is stored all the same
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
