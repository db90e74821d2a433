"""Spool -> database: what the spool has accepted is stored by a few writers, exactly once, and then released.

due -> read -> Scan -> spool -> FORWARDER -> transaction -> release. Each writer is a thread with a
connection of its own and its share of the streams (`writer.py`); what goes into a transaction is decided in
`gathering.py`, what a failure asks for in `retry.py`, where streams stand in `anchoring.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from psycopg import Connection

from logger.forwarding.deadline import GRACE_S, Watchdog
from logger.forwarding.figures import ForwarderFigures, Stored, summed
from logger.forwarding.gathering import Lane, StreamSpec
from logger.forwarding.intake import Intake
from logger.forwarding.settings import Ending, ForwarderSettings
from logger.forwarding.writer import Prepare, Writer
from logger.scan import StreamKey
from logger.spool import Quarantine, Spool

log = logging.getLogger(__name__)

__all__ = ["Forwarder", "ForwarderFigures", "ForwarderSettings", "Stored", "StreamSpec"]

_LAST_WORD_S = 1.0
"""How long a writer may take to end once its connection was cut."""


class Forwarder:
    """Stores what the spool has accepted, oldest first, until it is closed.

    `open_connection` connects; it raises DatabaseUnreachable while there is no database. `prepare` is
    called on every new connection before a stream is opened: it makes the tables and registers the
    devices where they are missing; it may return those that the database refuses, by device id, and why:
    their scans stay in the spool. All callbacks are called in the writers' threads.
    """

    def __init__(
        self,
        spool: Spool,
        streams: Sequence[StreamSpec],
        open_connection: Callable[[], Connection[Any]],
        prepare: Prepare,
        settings: ForwarderSettings,
        quarantine: Quarantine,
        on_stored: Callable[[Stored], None] = lambda stored: None,
    ) -> None:
        self._spool = spool
        self._ending = Ending()
        self._watchdog = Watchdog(settings.deadline_s, GRACE_S)
        self._strangers: dict[StreamKey, str] = {}
        self._lanes = lanes = [Lane(spec, spool.first_new(spec.key)) for spec in streams]
        count = min(settings.writers, len(lanes))
        self._writers = [
            Writer(
                lanes[n::count],
                spool,
                quarantine,
                settings,
                open_connection,
                prepare,
                self._watchdog,
                self._ending,
                on_stored,
                self._on_lost,
                self._keeps_others_out,
            )
            for n in range(count)
        ]
        owner_of = {key: writer.inbox for writer in self._writers for key in writer.lanes}
        self._intake = Intake(spool, owner_of, settings.max_held_rows, self._on_stranger)
        self._threads = [
            threading.Thread(target=self._run, args=(writer,), name=f"writer-{n}", daemon=True)
            for n, writer in enumerate(self._writers)
        ]
        self.failed: BaseException | None = None
        """Why nothing is stored any more: every stream is lost, or a bug ended a thread."""
        self.on_failure: Callable[[], None] = lambda: None

    def start(self) -> None:
        self._watchdog.start()
        for writer, thread in zip(self._writers, self._threads, strict=True):
            writer.intake = self._intake
            thread.start()

    def close(self, drain_s: float = 10.0) -> int:
        """Store what the spool has accepted, for at most `drain_s`; returns how many items stay in it."""
        self._intake.ask_again()
        self._ending.begun.set()
        until = time.monotonic() + drain_s
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, until - time.monotonic()))
        self._ending.over.set()
        if any(thread.is_alive() for thread in started):
            self._watchdog.cut_all(f"the time to drain ({drain_s:g} s) is over")
        until = time.monotonic() + _LAST_WORD_S
        for thread in started:
            thread.join(max(0.0, until - time.monotonic()))
        self._watchdog.close()
        return self._spool.figures().depth

    @property
    def state(self) -> str:
        """One line: "storing", "waiting for the database: …" or "stopped: …"."""
        if self.failed is not None:
            return f"stopped: {self.failed}"
        return next((writer.trouble for writer in self._writers if writer.trouble), "storing")

    def figures(self) -> ForwarderFigures:
        backlog = {key: count for writer in self._writers for key, count in writer.backlog.items()}
        lost = {lane.key: str(lane.lost) for lane in self._lanes if lane.lost is not None}
        lost |= self._strangers
        return summed([writer.counts for writer in self._writers], backlog, lost)

    def _run(self, writer: Writer) -> None:
        try:
            writer.run()
        except BaseException as exc:  # the thread's top: whoever waits is told
            log.exception("a writer ended by a bug; what is not stored stays in the spool")
            self._fail(exc)

    def _on_lost(self) -> None:
        lost = [lane.lost for lane in self._lanes if lane.lost is not None]
        if len(lost) == len(self._lanes):
            self._fail(lost[-1])

    def _keeps_others_out(self) -> bool:
        """Whether scans wait in the spool, of a stream of which none are in memory."""
        return any(
            lane.lost is None
            and not lane.waiting
            and self._spool.first_unreleased(lane.key) < self._spool.next_number(lane.key)
            for lane in self._lanes
        )

    def _fail(self, why: BaseException) -> None:
        if self.failed is None:
            self.failed = why
            self.on_failure()

    def _on_stranger(self, key: StreamKey) -> None:
        """Scans of a stream that is not logged here (any more) stay, and stop no other."""
        if key in self._strangers:
            return
        self._spool.set_aside(key)
        why = (
            f"the spool holds scans of stream {key.stream_id} of {key.device_id}, which is not logged here: "
            "they stay there; log the device once more with this spool to store them"
        )
        self._strangers = {**self._strangers, key: why}
        log.error("%s", why)
