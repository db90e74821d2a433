"""Small scans for spools, and a spool that works in the test's own thread, round by round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from logger.scan import Gap, Item, Scan, StreamKey, Text
from logger.spool import Spool, Spooled

KEY = StreamKey("oven-1")
OTHER = StreamKey("pump: 2/b", 3)
START_US = 1_700_000_000_000_000


def scan_of(number: int, size: int = 4, process: int | None = None, text: str = "") -> Scan:
    """A scan whose values say which one it is; the second value is missing."""
    values = number * 100.0 + np.arange(size)
    values[1:2] = np.nan
    quality = np.full(size, 192, dtype=np.int16)
    quality[1:2] = 24
    recorded_at = START_US + number * 1_000_000 + np.arange(size, dtype=np.int64)
    texts = (Text(2, text),) if text else ()
    return Scan(number, values, quality, recorded_at, process, 11, 22, texts)


def content_of(item: Item) -> tuple[object, ...]:
    """An item as what can be compared; the monotonic times, which end with a run, are left out."""
    if isinstance(item, Gap):
        return (item.first_scan, item.last_scan, item.reason, item.first_at, item.last_at)
    arrays = (item.values.tobytes(), item.quality.tobytes(), item.recorded_at.tobytes())
    return (item.number, *arrays, item.process_number, item.texts)


def number_of(item: Item) -> int:
    return item.last_scan if isinstance(item, Gap) else item.number


def take_all(spool: Spool) -> list[Spooled]:
    """All that is accepted now."""
    found: list[Spooled] = []
    while part := spool.take(500, 0.0):
        found += part
    return found


def segments_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("segment-*.spool"))


class SteppedSpool(Spool):
    """Without its thread: `step` does what the thread does in a round."""

    def step(self, with_note: bool = False) -> None:
        if with_note:  # as if time had passed
            self._noted_at = self._looked_at = float("-inf")
        self._round()

    def grow_older(self, seconds: float) -> None:
        """As if so much time had passed on the monotonic clock."""
        for segment in self._segments:
            segment.made_at -= seconds
            segment.newest_at -= seconds

    def accepted_of(self, key: StreamKey) -> int:
        """Number of the newest item that is accepted."""
        return self._streams[key].accepted if key in self._streams else 0

    def released_of(self, key: StreamKey) -> int:
        return self._streams[key].released if key in self._streams else 0

    def _start(self) -> None:
        pass

    def _stop(self) -> None:
        self._last_round()

    def _wait(self, is_done: Callable[[], bool], timeout: float | None) -> None:
        tried = 0
        while not is_done() and self.failed is None and tried < 2:
            tried += self._no_space  # a note may be kept where no scan is
            self._lock.release()
            try:
                self._round()
            finally:
                self._lock.acquire()
        if not is_done():
            super()._wait(is_done, 0.0)
