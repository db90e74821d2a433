"""A writer's lanes by what is next for them: opened first, stored from, or left alone for a while."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from logger.forwarding.gathering import Lane
from logger.spool import Spooled


class Queues:
    """Each lane that has something waiting stands in one of them; first come, first served."""

    def __init__(self, on_forgotten: Callable[[Iterable[Spooled]], None]) -> None:
        self.ready: deque[Lane] = deque()
        """Open: their next scans can be stored."""
        self.to_open: deque[Lane] = deque()
        self.paused: list[Lane] = []
        self._on_forgotten = on_forgotten

    @property
    def has_work(self) -> bool:
        return bool(self.ready or self.to_open)

    def add(self, lane: Lane) -> None:
        """Something has come to wait in this lane."""
        if not lane.is_queued:
            self._put(lane)

    def again(self, lanes: Iterable[Lane]) -> None:
        """These were taken out and dealt with; they may have more."""
        for lane in lanes:
            lane.is_queued = False
            self._put(lane)

    def wake(self) -> None:
        """Put lanes back to work whose pause is over."""
        paused, self.paused = self.paused, []
        self.again(paused)

    def some_to_open(self, most: int) -> list[Lane]:
        return [self.to_open.popleft() for _ in range(min(len(self.to_open), most))]

    def clear(self) -> None:
        """Take all out."""
        self.ready.clear()
        self.to_open.clear()
        self.paused.clear()

    def _put(self, lane: Lane) -> None:
        if lane.lost is not None:
            self._on_forgotten(lane.waiting)  # in memory; in the spool they stay
            lane.waiting.clear()
        elif lane.waiting:
            if lane.resume_at > time.monotonic():
                self.paused.append(lane)
            else:
                (self.to_open if lane.stream is None else self.ready).append(lane)
            lane.is_queued = True
