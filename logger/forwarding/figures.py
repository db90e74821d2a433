"""What the forwarder tells: each transaction as it is stored, and counts since the start."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from logger.scan import Batch, Scan, StreamKey


@dataclass(frozen=True, slots=True)
class Stored:
    """One stream's part of a transaction that was proven to be committed."""

    key: StreamKey
    batch: Batch
    """In the database's numbers."""
    scans: tuple[Scan, ...]
    """In the logger's numbers; those that were read back from the spool's files have no due time."""
    started_ns: int
    committed_ns: int


@dataclass
class Counts:
    """What a writer did; written by its thread, read by whoever shows it."""

    transactions: int = 0
    scans: int = 0
    rows: int = 0
    gaps: int = 0
    quarantined: int = 0
    trimmed: int = 0
    """Items that turned out to be stored already."""
    connects: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    """By class of failure."""
    commits_ms: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """Start of a transaction to its proven commit, the newest."""


@dataclass(frozen=True)
class ForwarderFigures:
    """What was done since the start, by all writers; counted on errors too."""

    transactions: int
    scans: int
    rows: int
    retries: Counter[str]
    """Failures by class, the values of `retry.Action`."""
    reconnects: int
    quarantined: int
    gaps: int
    trimmed: int
    """Items that were stored already: their transaction's answer was lost, or it was before a restart."""
    backlog: dict[StreamKey, int]
    """Items in the writers' hands, of the streams that have any; the spool's depth counts all."""
    commits_ms: list[float]
    """Start of a transaction to its proven commit, the newest."""
    lost: dict[StreamKey, str]
    """Streams that this logger stores no more, and why."""


def summed(
    counts: Sequence[Counts], backlog: dict[StreamKey, int], lost: dict[StreamKey, str]
) -> ForwarderFigures:
    """The figures of all writers as one."""
    return ForwarderFigures(
        transactions=sum(c.transactions for c in counts),
        scans=sum(c.scans for c in counts),
        rows=sum(c.rows for c in counts),
        retries=sum((Counter(dict(c.retries)) for c in counts), Counter()),
        reconnects=sum(max(0, c.connects - 1) for c in counts),
        quarantined=sum(c.quarantined for c in counts),
        gaps=sum(c.gaps for c in counts),
        trimmed=sum(c.trimmed for c in counts),
        backlog=backlog,
        commits_ms=[ms for c in counts for ms in list(c.commits_ms)],
        lost=lost,
    )
