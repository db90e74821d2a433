"""What waits -> what goes into the next transaction: pure, and nothing is done for each value.

A lane holds what waits of one stream, oldest first. A transaction takes from many lanes, each in its
turn, so that a stream with a long backlog never holds up the others: of one lane the oldest scans that are
contiguous and of one process, or one gap. Numbers that the spool does not have become a gap of their own.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from logger.repositories import Stream
from logger.scan import Batch, Gap, Item, Scan, ScanLayout, StreamKey, batch_of
from logger.spool import Spooled
from logger.streams import StreamHead


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What the forwarder must know of a stream before anything comes of it."""

    key: StreamKey
    layout: ScanLayout
    recipe: str = ""
    poll_group: str = ""
    interval_s: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one transaction may hold."""

    scans: int
    """Of each stream."""
    streams: int
    rows: int

    def halved(self) -> Limits:
        """Half of it, at least one scan of one stream."""
        return Limits(max(1, self.scans // 2), max(1, self.streams // 2), max(1, self.rows // 2))

    def grown(self, most: Limits) -> Limits:
        """A bit more of it, at most so much."""
        return Limits(
            min(most.scans, self.scans + 1),
            min(most.streams, self.streams + 1),
            min(most.rows, self.rows + self.rows // 4 + 1),
        )


@dataclass(slots=True, eq=False)
class Lane:
    """What waits of one stream, and where the stream stands; used by one thread."""

    spec: StreamSpec
    new_from: int
    """The first number of this run; what is older was in the spool before."""
    waiting: deque[Spooled] = field(default_factory=deque)
    stream: Stream | None = None
    """None: not opened on the connection of now."""
    offset: int = 0
    """What the database's numbers are ahead of ours."""
    next: int = 0
    """Our number of what continues the stream."""
    head: StreamHead | None = None
    """Where this run last saw it, or put it; None: this run has not been in touch with it yet."""
    unknown: dict[StreamHead, Work] = field(default_factory=dict)
    """Attempts that may have been committed, by where they would have put the stream."""
    resume_at: float = -math.inf
    """Monotonic time before which it is left alone."""
    is_queued: bool = False
    """Whether it stands in one of its writer's queues."""
    lost: Exception | None = None
    """Why nothing of this stream can be stored any more."""

    @property
    def key(self) -> StreamKey:
        return self.spec.key


@dataclass(slots=True, eq=False)
class Work:
    """A lane's part in one transaction."""

    lane: Lane
    items: Sequence[Spooled]
    """What is done with when this is stored: the oldest that wait; none for numbers that are missing."""
    last: int
    """The last number that it covers."""
    what: Batch | Gap | None
    """As it goes into the database; None: a scan that no batch can hold."""
    started_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def scans(self) -> tuple[Scan, ...]:
        return tuple(each.item for each in self.items if isinstance(each.item, Scan))

    @property
    def rows(self) -> int:
        return len(self.what.value) if isinstance(self.what, Batch) else 1


Reason = Callable[[StreamKey, int], str]
"""Why a number is missing."""


def gather(ready: deque[Lane], limits: Limits, reason: Reason) -> list[Work]:
    """Work of the lanes that have waited longest, one part of each; they leave the queue.

    `ready` holds lanes that are open and have something waiting.
    """
    works: list[Work] = []
    rows = 0
    while ready and len(works) < limits.streams:
        size = max(1, ready[0].spec.layout.size)
        if works and rows + size > limits.rows:
            break
        scans = min(limits.scans, max(1, (limits.rows - rows) // size))
        works.append(next_work(ready.popleft(), scans, reason))
        rows += works[-1].rows
    return works


def next_work(lane: Lane, most_scans: int, reason: Reason) -> Work:
    """The oldest of what waits in a lane, as one batch or one gap in the database's numbers."""
    first = lane.waiting[0]
    number = first_number(first.item)
    if number > lane.next:
        gap = missing(lane.key, lane.next, number - 1, reason)
        return Work(lane, (), gap.last_scan, _moved(gap, lane.offset))
    if isinstance(first.item, Gap):
        gap = replace(first.item, first_scan=lane.next)  # the first of it may be stored already
        return Work(lane, (first,), gap.last_scan, _moved(gap, lane.offset))
    running = process_of(lane, first.item, lane.stream.process_number if lane.stream else None)
    return work_of(lane, contiguous(lane, most_scans, running), running)


def process_of(lane: Lane, scan: Scan, before: int | None) -> int | None:
    """The process of a scan; one that could not read it goes on with the one `before` it.

    The logger does so itself, but a new spool does not know of a process that is open in the database.
    """
    if scan.process_number is None and before is not None and len(scan.values) == lane.spec.layout.size:
        return lane.spec.layout.process_number(scan.values, before)
    return scan.process_number


def contiguous(lane: Lane, most_scans: int, running: int | None) -> list[Spooled]:
    """The oldest scans that wait, without a gap, all of this process, or of none."""
    first = lane.waiting[0].item
    assert isinstance(first, Scan)
    found: list[Spooled] = []
    for each in islice(lane.waiting, most_scans):
        scan = each.item
        if (
            not isinstance(scan, Scan)
            or scan.number != first.number + len(found)
            or process_of(lane, scan, running) != running
            or (found and len(scan.values) != len(first.values))
        ):
            break
        found.append(each)
    return found


def work_of(lane: Lane, items: Sequence[Spooled], running: int | None) -> Work:
    """The batch of contiguous scans of one process; none if they do not fit the device as described now."""
    started_ns = time.monotonic_ns()  # combining them is part of the transaction's time
    scans = [each.item for each in items if isinstance(each.item, Scan)]
    if len(scans[0].values) != lane.spec.layout.size:
        return Work(lane, items[:1], scans[0].number, None, started_ns)
    batch = batch_of(scans, lane.spec.layout, lane.offset)
    if batch.process_number != running:
        batch = replace(batch, process_number=running)
    return Work(lane, items, scans[-1].number, batch, started_ns)


def halves(works: Sequence[Work]) -> tuple[Sequence[Work], Sequence[Work]] | None:
    """What a transaction is split into to find what is wrong with it; None: it is one scan or gap.

    The parts must be stored in their order.
    """
    middle = len(works) // 2
    if middle:
        return works[:middle], works[middle:]
    (work,) = works
    middle = len(work.items) // 2
    if not middle or not isinstance(work.what, Batch):
        return None
    running = work.what.process_number
    parts = work.items[:middle], work.items[middle:]
    return [work_of(work.lane, parts[0], running)], [work_of(work.lane, parts[1], running)]


def missing(key: StreamKey, first: int, last: int, reason: Reason) -> Gap:
    """The gap of the first missing numbers that are missing for one reason."""
    why = reason(key, first)
    end = first
    while end < last and reason(key, end + 1) == why:
        end += 1
    return Gap(first, end, why)


def first_number(item: Item) -> int:
    return item.number if isinstance(item, Scan) else item.first_scan


def last_number(item: Item) -> int:
    return item.number if isinstance(item, Scan) else item.last_scan


def _moved(gap: Gap, offset: int) -> Gap:
    return replace(gap, first_scan=gap.first_scan + offset, last_scan=gap.last_scan + offset)
