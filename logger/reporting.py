"""What one process of a logger says of itself, once a second: figures, alarms, and what has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from logger.figures import STORING, DeviceFigures, Figures, SpoolState
from logger.housekeeping import Housekeeper
from logger.reading.read_plan import plan_reads
from logger.scan import StreamKey
from logger.settings import LoggedStream, Settings
from logger.spool import Spool
from logger.status_file import write_status
from logger.storing import Storing

_MOST_NAMED = 5
"""Streams of which an alarm tells one by one."""
_FULL = 0.8
"""Of what a spool or a quarantine may hold: from there on it is an alarm."""
_LOOK_AGAIN_S = 10.0
"""For what only an operator changes: files in quarantine."""


class Reporter:
    """Puts together how the process stands; `devices` says how its devices do."""

    def __init__(
        self, settings: Settings, streams: Sequence[LoggedStream], spool: Spool, storing: Storing
    ) -> None:
        self._settings, self._spool, self._storing = settings, spool, storing
        self._started = time.monotonic()
        self._seen = Figures()
        self._blank = Figures(
            name=settings.name,
            worker=settings.worker,
            pid=os.getpid(),
            parameters=sum(each.layout.size for each in streams),
            requests=sum(len(plan_reads(each.config, each.group.name)) for each in streams),
        )
        self._strangers = _strangers(spool, {each.key for each in streams})
        self._quarantine_share, self._look_again_at = 0.0, 0.0
        self.devices: Callable[[], list[DeviceFigures]] = list
        self.database = "waiting for the database"
        """Until the forwarder has been started."""
        self.stopping = self.ended = False

    def report(self, on_status: Callable[[Figures], None], housekeeper: Housekeeper) -> None:
        """Write the status file, and tell whoever wants to know."""
        figures = self.figures()
        self._note_changes(figures, housekeeper)
        with suppress(OSError):  # a full disk, which the spool tells of
            write_status(self._settings.spool, figures)
        on_status(figures)

    def figures(self) -> Figures:
        forwarder, spool = self._storing.forwarder.figures(), self._spool.figures()
        return replace(
            self._blank,
            at=time.time(),
            seconds=time.monotonic() - self._started,
            cpu_s=time.process_time(),
            stopping=self.stopping,
            ended=self.ended,
            database=self.database or self._storing.forwarder.state,
            alarms=self._alarms(),
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
            devices=self.devices(),
            latencies=self._storing.latencies,
        )

    def _note_changes(self, figures: Figures, housekeeper: Housekeeper) -> None:
        """What an operator may ask for later goes into the database."""
        seen, self._seen = self._seen, figures
        if (dropped := figures.spool.dropped - seen.spool.dropped) > 0:
            housekeeper.tell(
                "scans dropped", f"{dropped} scans were dropped: the spool is full or they are too old"
            )
        if (damaged := figures.spool.damaged - seen.spool.damaged) > 0:
            housekeeper.tell("spool damaged", f"{damaged} records of the spool could not be read back")
        if (figures.database == STORING) != (seen.database == STORING):
            housekeeper.note("database", figures.database)

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
        lost = self._storing.forwarder.figures().lost
        alarms += [f"not stored any more: {why}" for why in list(lost.values())[:_MOST_NAMED]]
        if spool.last_error:
            alarms.append(f"the spool's disk: {spool.last_error}")
        if (share := self._share_of_quarantine()) >= _FULL:
            alarms.append(f"the quarantine is {100 * share:.0f} % full: see plclogger quarantine list")
        if self._strangers:
            alarms.append(self._strangers)
        return alarms

    def _share_of_quarantine(self) -> float:
        if (now := time.monotonic()) >= self._look_again_at:
            self._look_again_at = now + _LOOK_AGAIN_S
            with suppress(OSError):
                self._quarantine_share = self._storing.quarantine.share()
        return self._quarantine_share


def _strangers(spool: Spool, logged: set[StreamKey]) -> str:
    """The alarm about scans of former runs whose stream nobody logs now; empty: there are none."""
    left = {
        key: count
        for key, state in sorted(spool.streams().items())
        if key not in logged and (count := state.next_number - state.first_unreleased) > 0
    }
    if not left:
        return ""
    named = [f"{n} of {key.device_id}, stream {key.stream_id}" for key, n in list(left.items())[:_MOST_NAMED]]
    more = f", and of {len(left) - _MOST_NAMED} more streams" if len(left) > _MOST_NAMED else ""
    return f"scans wait that are not stored, because nobody logs their stream now: {', '.join(named)}{more}"
