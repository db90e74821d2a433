"""How each stream of a spool stands, in memory and as the notes that make it last.

A note is a JSON object: `version`, `revision` (counts up), `writer`, `target`, `clean` (the last of a run
that ended with close()), and `streams`, one list for each: device id, stream id, next number, first number
that is not released, offset or null, time and process of the newest item, and what was dropped. A segment
begins with a note of all streams, so that those before it can be deleted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from logger.scan import Gap, Item, Scan, StreamKey

if TYPE_CHECKING:
    from logger.spool.segments import Segment

NOTE_VERSION = 1

RELEASED_BEFORE = "stored before, and no longer in the database"
DAMAGED = "lost in the spool: its record was damaged"
NOT_THERE = "never came to the spool"
LEFT_OUT = "dropped: the stream was not stored, and its part of the spool was full"


class Last(NamedTuple):
    """The newest item of a stream."""

    recorded_at_us: int
    """Of its newest value; of a gap its end. Microseconds since 1970, UTC; 0: nobody knows."""
    process_number: int | None
    """Of the newest scan."""
    number: int


class Dropped(NamedTuple):
    """Numbers that were dropped, first to last, and why."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class StreamState:
    """How a stream stands in a spool, for another spool to go on with (Spool.adopt)."""

    next_number: int
    first_unreleased: int
    last: Last | None
    offset: int | None
    """None: not anchored."""
    dropped: tuple[Dropped, ...] = ()


@dataclass(slots=True, eq=False)
class Ticket:
    """One item that was handed out or is about to be."""

    stream: SpoolStream
    segment: Segment
    number: int
    bytes: int
    order: int = 0
    """Of being handed out."""
    done: bool = False


@dataclass(slots=True, eq=False)
class SpoolStream:
    """One stream's counters; the spool's lock guards them."""

    key: StreamKey
    newest: int = 0
    """Number of the newest item that was put."""
    accepted: int = 0
    """Number of the newest item that is on the disk."""
    least_next: int = 1
    """Numbers below it were given out before, even if no item of theirs is known."""
    released: int = 0
    """Up to here everything was released."""
    offset: int | None = None
    dropped: list[Dropped] = field(default_factory=list)
    first_new: int = 1
    """Number of the first item of this run."""
    handed: int = 0
    """Number of the newest item that came out of the spool, or is in memory to do so."""
    taken: deque[Ticket] = field(default_factory=deque)
    """What is handed out and not released, in order; released ones may stand behind an open one."""
    revision: int = -1
    """Of the note that says how it stands."""
    is_aside: bool = False
    """Whether nobody stores it in this run: what waits of it must not stop the others."""
    _newest_scan: Scan | None = None
    _recorded_at_us: int = 0
    _process_number: int | None = None

    @property
    def next_number(self) -> int:
        return max(self.newest + 1, self.least_next)

    @property
    def last(self) -> Last | None:
        if self.newest == 0 and self._recorded_at_us == 0:
            return None
        self._settle()
        return Last(self._recorded_at_us, self._process_number, self.newest)

    def see(self, item: Item) -> None:
        """The item is now the newest."""
        if isinstance(item, Scan):
            self._newest_scan = item
            self.newest = item.number
        else:
            self._settle()
            self._recorded_at_us = max(self._recorded_at_us, item.last_at)
            self.newest = item.last_scan

    def see_recovered(self, scan: Scan) -> None:
        """The newest scan that a former run left; a note may know of a newer one that is lost."""
        recorded_at_us = int(scan.recorded_at.max()) if len(scan.recorded_at) else 0
        if recorded_at_us >= self._recorded_at_us:
            self._recorded_at_us, self._process_number = recorded_at_us, scan.process_number

    def _settle(self) -> None:
        """Read time and process off the newest scan: once when asked, not for each scan."""
        scan, self._newest_scan = self._newest_scan, None
        if scan is not None:
            self._process_number = scan.process_number
            if len(scan.recorded_at):
                self._recorded_at_us = int(scan.recorded_at.max())

    def release(self, ticket: Ticket) -> bool:
        """Whether more is released than before without a hole."""
        ticket.done = True
        before, taken = self.released, self.taken
        while taken and taken[0].done:
            self.released = max(self.released, taken.popleft().number)
        if self.dropped and self.released != before:
            self.dropped = [part for part in self.dropped if part.last > self.released]
        return self.released != before

    def drop(self, first: int, last: int, reason: str) -> None:
        first = max(first, self.released + 1)
        if first > last:
            return
        if self.dropped and self.dropped[-1].reason == reason and self.dropped[-1].last >= first - 1:
            first = self.dropped.pop().first
        self.dropped.append(Dropped(first, last, reason))

    def leave_out(self, item: Item, reason: str) -> None:
        """The item is not kept; its number is spent, and the gap record says why."""
        self.see(item)
        first = item.first_scan if isinstance(item, Gap) else item.number
        self.least_next = self.newest + 1
        self.drop(first, self.newest, reason)

    def reason_missing(self, number: int, has_damage: bool) -> str:
        if number <= self.released:
            return RELEASED_BEFORE
        for part in self.dropped:
            if part.first <= number <= part.last:
                return part.reason
        return DAMAGED if has_damage else NOT_THERE

    def state(self) -> StreamState:
        dropped = tuple(self.dropped)
        return StreamState(self.next_number, self.released + 1, self.last, self.offset, dropped)

    def adopt(self, state: StreamState) -> None:
        self.least_next, self.offset, self.dropped = state.next_number, state.offset, list(state.dropped)
        self.newest = self.accepted = self.released = state.first_unreleased - 1
        if state.last is not None:
            self._recorded_at_us, self._process_number = state.last.recorded_at_us, state.last.process_number

    def noted(self) -> list[Any]:
        """Its part of a note."""
        self._settle()
        next_number = max(self.accepted + 1, self.least_next)
        return [
            *self.key, next_number, self.released + 1, self.offset, self._recorded_at_us,
            self._process_number, [list(part) for part in self.dropped],
        ]  # fmt: skip

    def recover(self, part: list[Any], revision: int) -> None:
        """Take over what a note says; of what may change both ways the newest note is right."""
        _, _, next_number, first_unreleased, offset, recorded_at_us, process_number, dropped = part
        self.least_next = max(self.least_next, next_number)
        self.released = max(self.released, first_unreleased - 1)
        if revision > self.revision:
            self.revision, self.offset = revision, offset
            self.dropped = [Dropped(*entry) for entry in dropped]
            self._recorded_at_us, self._process_number = recorded_at_us, process_number


def newest_time_us(item: Item) -> int:
    """When the item is from, for its age; 0: nobody knows."""
    if isinstance(item, Gap):
        return item.first_at
    return int(item.recorded_at[0]) if len(item.recorded_at) else 0
