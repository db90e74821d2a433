"""What was accepted and is not released: in memory while there is room, otherwise read back."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from logger.scan import Gap, Item, StreamKey
from logger.spool.disk import Disk
from logger.spool.records import Kind, item_of
from logger.spool.segments import Segment, read_records
from logger.spool.streams import SpoolStream, Ticket, newest_time_us

_READ_BYTES = 4 << 20


class Spooled(NamedTuple):
    """One accepted item, as take() hands it out."""

    key: StreamKey
    item: Item
    ticket: Ticket
    """For release(); nobody else's business."""


class Backlog:
    """Hands out each accepted item once, in the order in which they were accepted.

    Items come from memory, or from the segments once more wait than `memory_bytes`; the lock is the
    spool's. Memory holds at most that, what was handed out, and a piece that is being read.
    """

    def __init__(
        self,
        disk: Disk,
        lock: threading.Lock,
        segments: list[Segment],
        stream_of: Callable[[StreamKey], SpoolStream],
        memory_bytes: int,
    ) -> None:
        self._disk, self._lock, self._segments, self._stream_of = disk, lock, segments, stream_of
        self._memory_bytes = memory_bytes
        self._ready: deque[Spooled] = deque()
        self._ready_bytes = 0
        self._cursor: tuple[Segment, int] | None = None
        """Where reading back goes on; None: all that was accepted is or was in memory."""
        self._taken: OrderedDict[int, int] = OrderedDict()
        """What is handed out and not released, in order: when it was read; whoever took it holds it."""
        self._order = 0
        self._reading = threading.Lock()
        """One taker at a time waits for items or reads back."""
        self._some = threading.Condition(lock)
        self._first_own = 1
        self._closed = False
        self.changed: set[SpoolStream] = set()
        """Of which more is released than the newest note says."""
        self.depth = 0
        self.dropped = 0
        self.damaged = 0

    def recovered(self, first_own: int) -> None:
        """Begin with what the segments of former runs hold; this run's have that number or a higher one."""
        self._first_own = first_own
        self.depth = sum(segment.unreleased for segment in self._segments)
        if self._segments:
            self._cursor = (self._segments[0], 0)

    def accept(
        self,
        segment: Segment,
        start: int,
        group: Sequence[tuple[SpoolStream, Item, int]],
        sizes: Sequence[int],
    ) -> None:
        """Items are durable in the segment from that offset on; under the lock."""
        self.depth += len(group)
        if self._cursor is None and self._ready_bytes + sum(sizes) > self._memory_bytes:
            self._cursor = (segment, start)
        for (stream, item, _), size in zip(group, sizes, strict=True):
            first, last = numbers_of(item)
            segment.hold(stream, first, last)
            stream.accepted = last
            if self._cursor is None:
                self._add(stream, item, last, segment, size)
        self._some.notify_all()

    def take(self, max_items: int, timeout_s: float) -> list[Spooled]:
        """At most so many of the oldest; none if none came in that time, or the spool is closed."""
        end = time.monotonic() + timeout_s
        if not self._reading.acquire(timeout=max(0.0, timeout_s)):
            return []
        try:
            while self._wait_for_some(end):
                if not self._ready:
                    self._read_back()
                with self._lock:
                    if self._ready:
                        return [self._hand_out() for _ in range(min(max_items, len(self._ready)))]
            return []
        finally:
            self._reading.release()

    def release(self, items: Iterable[Spooled]) -> bool:
        """Items need not be kept; whether a segment holds nothing more that waits. Under the lock."""
        is_empty = False
        for _, _, ticket in items:
            if ticket.done:
                continue
            del self._taken[ticket.order]
            segment = ticket.segment.standing()
            if ticket.stream.release(ticket):
                self.changed.add(ticket.stream)
            if segment.is_dropped:
                self.dropped -= 1  # it was in good hands
                continue
            self.depth -= 1
            segment.unreleased -= 1
            is_empty = is_empty or not segment.unreleased
        return is_empty

    def drop(self, segment: Segment, reason: str) -> None:
        """Forget the items of a segment that nobody took yet, and say so of all that wait. Under the lock."""
        segment.is_dropped = True
        for stream, (first, last) in segment.ranges.items():
            stream.drop(first, last, reason)
            stream.handed = max(stream.handed, last)
            self.changed.add(stream)
        self.depth -= segment.unreleased
        self.dropped += segment.unreleased
        kept = deque(spooled for spooled in self._ready if not spooled.ticket.segment.standing().is_dropped)
        if len(kept) != len(self._ready):
            self._ready, self._ready_bytes = kept, sum(spooled.ticket.bytes for spooled in kept)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._some.notify_all()

    def oldest_us(self) -> int:
        """When the oldest item that waits was read, microseconds since 1970; 0: none, or unknown."""
        if self._taken:
            return next(iter(self._taken.values()))
        if self._ready:
            return newest_time_us(self._ready[0].item)
        waiting = next((segment for segment in self._segments if segment.unreleased), None)
        if waiting is None:
            return 0
        return int(1e6 * (time.time() - time.monotonic() + waiting.made_at))

    def _wait_for_some(self, end: float) -> bool:
        with self._lock:
            while not self._ready and self._cursor is None and not self._closed:
                left = end - time.monotonic()
                if left <= 0 or not self._some.wait(left):
                    return bool(self._ready) or self._cursor is not None
            return not self._closed

    def _add(self, stream: SpoolStream, item: Item, number: int, segment: Segment, size: int) -> None:
        if not stream.is_aside:
            self._ready.append(Spooled(stream.key, item, Ticket(stream, segment, number, size)))
            self._ready_bytes += size
        stream.handed = number
        segment.handed += 1

    def _hand_out(self) -> Spooled:
        spooled = self._ready.popleft()
        ticket = spooled.ticket
        self._ready_bytes -= ticket.bytes
        self._order += 1
        ticket.order = self._order
        self._taken[self._order] = newest_time_us(spooled.item)
        ticket.stream.taken.append(ticket)
        return spooled

    def _read_back(self) -> None:
        """Read one piece from where the cursor stands; only its bookkeeping needs the lock."""
        with self._lock:
            if self._cursor is None:
                return
            known, start = self._cursor
            segment = known.standing()
            if segment is not known:
                self._cursor, start = (segment, 0), 0
            end = segment.size
            if segment.is_dropped or start >= end:
                self._go_on(segment)
                return
        found: list[tuple[StreamKey, Item, int]] = []
        at = start
        try:
            at = self._read_piece(segment, start, end, found)
        except FileNotFoundError:
            at = end  # dropped meanwhile; if not, it counts as damaged when the cursor leaves it
        with self._lock:
            if segment.is_dropped or segment.moved_to is not None:
                return
            for key, item, size in found:
                stream, number = self._stream_of(key), numbers_of(item)[1]
                if number > stream.handed:
                    if segment.handed == segment.items:  # it could not be read when items were counted
                        segment.hold(stream, *numbers_of(item))
                        self.depth += 1
                    self._add(stream, item, number, segment, size)
            self._cursor = (segment, at)

    def _read_piece(
        self, segment: Segment, start: int, end: int, found: list[tuple[StreamKey, Item, int]]
    ) -> int:
        size, at = 0, start
        is_own = segment.number >= self._first_own
        for record, at in read_records(self._disk, segment, start, end):
            if record.kind != Kind.NOTE:
                found.append((*item_of(record, is_own), len(record.payload)))
                size += len(record.payload)
                if size >= min(_READ_BYTES, self._memory_bytes):
                    return at
        return end

    def _go_on(self, segment: Segment) -> None:
        """The cursor leaves a segment, for the next one or because all is read."""
        following = next((other for other in self._segments if other.number > segment.number), None)
        self._cursor = None if following is None else (following, 0)
        lost = segment.items - segment.handed
        if lost > 0 and not segment.is_dropped:
            self.damaged += lost
            self.depth -= lost
            segment.unreleased -= lost
            segment.handed = segment.items


def numbers_of(item: Item) -> tuple[int, int]:
    """First and last number of an item."""
    return (item.first_scan, item.last_scan) if isinstance(item, Gap) else (item.number, item.number)
