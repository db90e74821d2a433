"""A writer in contact with its streams: opens them, trims what their rows say is stored, gives up the lost.

After a failure whose outcome is unknown the streams' rows tell: a row stands where it stood, or where one
of our own attempts put it (an old connection may commit late).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from logger.database import line_of
from logger.errors import StreamMoved
from logger.forwarding.anchoring import Opened, open_streams, trimmed
from logger.forwarding.figures import Stored
from logger.forwarding.gathering import Lane
from logger.forwarding.retry import Action, Phase, action_for
from logger.forwarding.settings import ForwarderSettings
from logger.forwarding.transactions import Failure, Transactions, name_of
from logger.spool import Quarantine, Spool, Spooled

log = logging.getLogger(__name__)

_LOCKED_S = 1.0
"""How long a stream is left alone whose row another connection holds."""


class Contact(Transactions):
    """Streams of a writer's connection as the database has them; used by the writer's thread."""

    def __init__(
        self,
        spool: Spool,
        quarantine: Quarantine,
        settings: ForwarderSettings,
        on_stored: Callable[[Stored], None],
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(spool, quarantine, settings, on_stored)
        self._on_lost = on_lost
        self._refused: Mapping[str, str] = {}
        """Devices that the database does not let us log, and why."""

    def _open(self, lanes: Sequence[Lane]) -> None:
        """Open streams; one that cannot be opened is found by halves and left for later, by itself."""
        if not lanes:
            return
        assert self._connection is not None
        try:
            with self._deadline:
                opened = open_streams(self._connection, self._repository, self._spool, lanes, self._trim)
            self._repository.check_replicated()
        except Failure as exc:
            action = action_for(exc, Phase.CONNECTING)
            if action is not Action.CONFIGURATION or not self._is_well():
                raise
            self.counts.retries[action] += 1
            if len(lanes) == 1:
                self._hold_up(lanes[0], line_of(exc))
            else:
                middle = len(lanes) // 2
                self._open(lanes[:middle])
                self._open(lanes[middle:])
            return
        for one in opened:
            self._settle(one)
        for lane in lanes:
            if lane.lost is not None:
                self._lose(lane, lane.lost)
            elif lane.stream is None and lane.waiting:
                lane.resume_at = time.monotonic() + _LOCKED_S

    def _settle(self, opened: Opened) -> None:
        """Take from the stream's row what is stored, and go on behind it."""
        lane, stream, offset = opened
        stored = stream.head.last_scan - offset
        known = lane.unknown.get(stream.head)
        if known is None and lane.head is not None and stored >= max(lane.next, lane.new_from):
            lane.lost = StreamMoved(
                f"{name_of(lane)} stands at scan {stream.head.last_scan}, where this logger did not put it: "
                "is another logger using it?"
            )
            return
        if lane.head is not None and stored < lane.next - 1:
            log.warning("%s: the database has lost scans after %d", name_of(lane), stream.head.last_scan)
        lane.stream, lane.offset = stream, offset
        if known is not None:
            self._done(known, time.monotonic_ns())
            self._spool.release(known.items)
        lane.head, lane.next = stream.head, stored + 1
        self._trim(trimmed(lane, stored))

    def _trim(self, items: Sequence[Spooled]) -> None:
        """These are stored already."""
        self.counts.trimmed += len(items)
        self._forget(items)
        self._spool.release(items)

    def _lose(self, lane: Lane, why: Exception) -> None:
        lane.lost = why
        self._held_up.pop(lane.key, None)
        self._spool.set_aside(lane.key)
        log.error("%s: its scans stay in the spool until the logger is started again", why)
        self._on_lost()
