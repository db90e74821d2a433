"""How much may wait in a spool, what happens then, and the figures that say how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plcsim.errors import InputError

_LEAST_BYTES = 64 << 10
_SEGMENTS = 8
"""At least so many segments fit into max_bytes: room comes back a segment at a time."""
_TIME_PARTS = 64
"""A segment holds at most this part of the longest age: age is judged by segment."""


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much may wait, and what happens then. Raises InputError for what cannot work."""

    max_bytes: int = 2 << 30
    """Of the files. At `block` each device may still add the scan that it is reading."""
    max_age_s: float = 7 * 86_400.0
    policy: Literal["block", "drop_oldest"] = "block"
    """`block`: no scan is read until there is room; the gap is recorded. `drop_oldest`: the oldest make
    room; each of them is a gap record."""
    segment_bytes: int = 16 << 20
    memory_bytes: int = 64 << 20
    """Of items that wait, encoded; more are read back from the files."""

    def __post_init__(self) -> None:
        if self.max_bytes < _LEAST_BYTES:
            raise InputError(f"a spool of {self.max_bytes} bytes is too small: give {_LEAST_BYTES} or more")
        if not self.max_age_s > 0:
            raise InputError(f"the longest age of {self.max_age_s:g} s is too short: give more than 0 s")
        if self.policy not in ("block", "drop_oldest"):
            raise InputError(f"{self.policy!r} is no way to meet a full spool: block or drop_oldest")

    @property
    def bytes_a_segment(self) -> int:
        return min(self.segment_bytes, self.max_bytes // _SEGMENTS)

    @property
    def seconds_a_segment(self) -> float:
        return self.max_age_s / _TIME_PARTS


@dataclass(frozen=True, slots=True)
class SpoolFigures:
    """How a spool stands."""

    depth: int
    """Items that are accepted and not released."""
    bytes: int
    """Of the segment files."""
    oldest_age_s: float
    """Since the oldest item that waits was read; 0: none waits."""
    accepted: int
    """Items, by this run."""
    dropped: int
    """Items, by this run: gone unstored by the policy drop_oldest."""
    damaged: int
    """Scans that were accepted and could not be read back."""
    torn: int
    """Segments that a former run left in the middle of a record."""
    syncs: int
    last_error: str
    """One line; empty: there was none."""
