"""One file of the spool: how many of its items still wait, and reading it back piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from logger.spool.disk import Disk, read_what_can_be
from logger.spool.records import Record, records_in
from logger.spool.streams import SpoolStream

_PIECE = 4 << 20
_NAME = re.compile(r"segment-(\d{12})\.spool")


@dataclass(slots=True, eq=False)
class Segment:
    """A file of records; the spool's lock guards its counters."""

    number: int
    path: Path
    size: int = 0
    """Bytes that are known to be durable."""
    items: int = 0
    """Accepted into it and not released when this run began."""
    handed: int = 0
    """Of these: came out of the spool, or are in memory to do so."""
    unreleased: int = 0
    ranges: dict[SpoolStream, list[int]] = field(default_factory=dict)
    """First and last number of each stream's items."""
    made_at: float = 0.0
    """When its first record was written, monotonic clock, seconds; of former runs: about."""
    newest_at: float = 0.0
    """When its newest item was accepted, monotonic clock, seconds."""
    is_dropped: bool = False
    moved_to: Segment | None = None
    """Where its records were written again because it could not be synced."""

    def hold(self, stream: SpoolStream, first: int, last: int) -> None:
        """Count an item in."""
        self.items += 1
        self.unreleased += 1
        known = self.ranges.get(stream)
        if known is None:
            self.ranges[stream] = [first, last]
        else:
            known[1] = last

    @property
    def is_wanted(self) -> bool:
        """Whether anything waits in it that this run stores."""
        return self.unreleased > 0 and any(
            last > stream.released and not stream.is_aside for stream, (_, last) in self.ranges.items()
        )

    def standing(self) -> Segment:
        """The segment that holds its items now."""
        segment = self
        while segment.moved_to is not None:
            segment = segment.moved_to
        return segment


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"segment-{number:012d}.spool"


def segment_numbers(disk: Disk, folder: Path) -> list[int]:
    """Of the segments in the folder, ascending."""
    found = (_NAME.fullmatch(name) for name in disk.names(folder))
    return sorted(int(match[1]) for match in found if match)


def read_records(disk: Disk, segment: Segment, start: int, end: int) -> Iterator[tuple[Record, int]]:
    """The whole records from `start` to `end`, each with the offset behind it; a piece at a time.

    Raises FileNotFoundError if the file is gone.
    """
    size = _PIECE
    while start < end:
        size = min(size, end - start)
        data = read_what_can_be(disk, segment.path, start, size)
        is_all = start + size >= end or len(data) < size
        after = 0
        for record in records_in(data, segment.number, is_all):
            after = record.end
            yield record, start + after
        if is_all:
            return
        if after:
            start += after
            size = _PIECE
        else:  # one record that is longer, or broken in its length
            size *= 4
