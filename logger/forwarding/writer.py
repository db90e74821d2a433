"""One writer: a thread with a connection of its own that stores what waits in its lanes, exactly once."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from psycopg import Connection

from logger.database import line_of
from logger.errors import DatabaseError
from logger.forwarding.anchoring import MOST_AT_ONCE
from logger.forwarding.contact import Contact
from logger.forwarding.deadline import Watchdog
from logger.forwarding.figures import Stored
from logger.forwarding.gathering import Lane, gather, last_number
from logger.forwarding.intake import Intake
from logger.forwarding.queues import Queues
from logger.forwarding.retry import Action, BackOff, Phase, action_for
from logger.forwarding.settings import Ending, ForwarderSettings
from logger.forwarding.transactions import Failure, name_of
from logger.scan import StreamKey
from logger.spool import Quarantine, Spool

log = logging.getLogger(__name__)

_PREPARE_S = 120.0
"""For making tables and registering a thousand devices: many statements, each with its own timeout."""
_TRIES = 3
"""Of what could not be stored, before it may be given up to make room in memory."""
_AT_ONCE = 5
"""Tries in a row without a real pause after a deadlock, a lock timeout and the like."""
_JITTER_S = (0.001, 0.02)


Prepare = Callable[[Connection[Any]], Mapping[str, str] | None]


class Writer(Contact):
    """Stores the scans of its lanes; `run` is the thread's."""

    def __init__(
        self,
        lanes: Iterable[Lane],
        spool: Spool,
        quarantine: Quarantine,
        settings: ForwarderSettings,
        open_connection: Callable[[], Connection[Any]],
        prepare: Prepare,
        watchdog: Watchdog,
        ending: Ending,
        on_stored: Callable[[Stored], None],
        on_lost: Callable[[], None],
        keeps_others_out: Callable[[], bool],
    ) -> None:
        super().__init__(spool, quarantine, settings, on_stored, on_lost)
        self.lanes = {lane.key: lane for lane in lanes}
        self.intake: Intake
        self._open_connection, self._prepare = open_connection, prepare
        self._watchdog, self._ending = watchdog, ending
        self._keeps_others_out = keeps_others_out
        self._limits = settings.limits
        self._queues = Queues(self._forget)
        self._phase = Phase.CONNECTING
        self._connecting = BackOff(*settings.back_off_s)
        self._storing = BackOff(*settings.back_off_s)

    def run(self) -> None:
        """Store until the end; raises what is a bug."""
        try:
            while self._goes_on():
                self.intake.fetch(self.inbox, may_wait=not self._has_work())
                self._sort_in()
                try:
                    self._turn()
                except Failure as exc:
                    self._recover(exc)
        finally:
            self._disconnect()

    @property
    def backlog(self) -> dict[StreamKey, int]:
        """Items taken and not stored, of the streams that have any."""
        return {key: count for key, lane in self.lanes.items() if (count := len(lane.waiting))}

    def _goes_on(self) -> bool:
        if self._ending.over.is_set():
            return False
        return not self._ending.begun.is_set() or not self.intake.is_dry or self._has_something()

    def _has_something(self) -> bool:
        return bool(self.inbox.items) or any(lane.waiting for lane in self.lanes.values())

    def _has_work(self) -> bool:
        return self._queues.has_work or bool(self.inbox.items)

    def _sort_in(self) -> None:
        """Put what was taken into its lanes, and lanes that were left alone back into their queues."""
        items, lanes = self.inbox.items, self.lanes
        while items:
            spooled = items.popleft()
            lane = lanes[spooled.key]
            if lane.head is not None and last_number(spooled.item) < lane.next:
                self._trim([spooled])  # read back only now, and stored before this run
                continue
            lane.waiting.append(spooled)
            self._queues.add(lane)
        if self._queues.paused:
            self._queues.wake()
        if self._held_up and self.intake.is_full:
            self._shed()

    def _shed(self) -> None:
        """Give lanes up, for this run, if memory is full of what cannot be stored and keeps others out.

        If there are no others (it is the database that refuses everything), all wait for a person.
        """
        waiting = [lane for lane in self.lanes.values() if lane.waiting]
        if not waiting or not self._keeps_others_out():
            return
        long_ago = time.monotonic() - _TRIES * self._settings.slow_s
        if all(self._held_up.get(lane.key, math.inf) < long_ago for lane in waiting):
            for lane in waiting:
                self._lose(lane, DatabaseError(f"{name_of(lane)} cannot be stored"))
            self._queues.clear()
            self._queues.again(waiting)

    def _turn(self) -> None:
        self._phase = Phase.CONNECTING
        if self._connection is None:
            self._connect()
        if self._ending.over.is_set():
            return
        if self._queues.to_open:
            self._open_lanes()
        self._phase = Phase.STORING
        works = gather(self._queues.ready, self._limits, self._reason)
        try:
            unfit = [work for work in works if work.what is None]
            for work in unfit:
                size = work.lane.spec.layout.size
                self._set_aside(
                    work, f"a scan of {len(work.scans[0].values)} values, the device has {size}", ""
                )
            if fit := [work for work in works if work.what is not None]:
                self._store(fit)
        finally:
            self._queues.again(work.lane for work in works)

    def _went_well(self) -> None:
        self._storing.reset()
        if self._limits != self._settings.limits:
            self._limits = self._limits.grown(self._settings.limits)
        if not self._queues.paused and not self._held_up:
            self._say("")

    def _connect(self) -> None:
        connection = self._open_connection()
        self._deadline = self._watchdog.watch(connection)
        self._connection = connection
        try:
            with self._deadline.of(_PREPARE_S):
                self._refused = self._prepare(connection) or {}
        except BaseException:
            self._disconnect()
            raise
        self._repository = self._settings.repository(connection)
        self.counts.connects += 1
        self._connecting.reset()
        if not self._storing.failures:
            self._say("")

    def _disconnect(self) -> None:
        """Close the connection; all streams have to be opened again."""
        if self._connection is None:
            return
        self._watchdog.forget(self._deadline)
        self._connection.close()
        self._connection = None
        self._queues.clear()
        for lane in self.lanes.values():
            lane.stream = None
        self._queues.again(self.lanes.values())

    def _open_lanes(self) -> None:
        """Open some of the streams that have something waiting."""
        lanes = self._queues.some_to_open(MOST_AT_ONCE)
        try:
            for lane in lanes:
                if why := self._refused.get(lane.key.device_id):
                    self._hold_up(lane, why)
            self._open([lane for lane in lanes if lane.key.device_id not in self._refused])
        finally:
            self._queues.again(lanes)

    def _recover(self, exc: Exception) -> None:
        """After a failure: connect anew if need be, and wait as long as its class asks."""
        action = action_for(exc, self._phase)
        if action is None:
            raise exc
        self.counts.retries[action] += 1
        if action is Action.SMALLER:
            self._limits = self._limits.halved()
        if action in (Action.RECONNECT, Action.FIND_OUT) or not self._is_well():
            self._disconnect()
        self._ending.pause(self._pause_s(action, exc))

    def _pause_s(self, action: Action, exc: Exception) -> float:
        """Seconds to wait after a failure of this class."""
        slow_s = self._settings.slow_s
        back_off = self._storing if self._phase is Phase.STORING else self._connecting
        seconds = back_off.next_s()
        if action in (Action.CONFIGURATION, Action.WAIT):
            self._say(f"stopped: {line_of(exc)}")
            return slow_s if action is Action.CONFIGURATION else random.uniform(slow_s / 4, slow_s)
        if action is Action.AGAIN and back_off.failures <= _AT_ONCE:
            return random.uniform(*_JITTER_S)
        if self._phase is Phase.STORING and back_off.failures == 1:
            return 0.0  # there is another connection at once, mostly
        self._say(f"waiting for the database: {line_of(exc)}")
        return seconds

    def _reason(self, key: StreamKey, number: int) -> str:
        return self._spool.reason_missing(key, number)
