"""Arms whose cost over the baseline is known beforehand: what `planted_effects.py` must find again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from logger.repositories import BaselineRepository, Stream
from logger.scan import Batch, Gap, StreamKey

_TWIN = 1000
"""What the stream of the second transaction is ahead of the first."""
SPUN = 0.10
"""Of the time of each transaction."""


class Twice(BaselineRepository):
    """Runs the baseline's transaction twice, the second time into a stream beside the first: half as many."""

    def __init__(self, connections: Any) -> None:
        super().__init__(connections)
        self._twins: dict[StreamKey, Stream] = {}

    def open(
        self,
        key: StreamKey,
        recipe: str = "",
        writer: UUID | None = None,
        poll_group: str = "",
        interval_s: float | None = None,
    ) -> Stream:
        twin = StreamKey(key.device_id, key.stream_id + _TWIN)
        self._twins[key] = super().open(twin, recipe, writer, poll_group, interval_s)
        return super().open(key, recipe, writer, poll_group, interval_s)

    def store_together(self, work: Sequence[tuple[Stream, Batch | Gap]]) -> None:
        again = [
            (self._twins[stream.key], replace(item, transaction_id=uuid4()))
            for stream, item in work
            if isinstance(item, Batch)
        ]
        super().store_together(again)
        super().store_together(work)


class Spinning(BaselineRepository):
    """Computes for a tenth of each transaction's own time after it: one that takes 10 % longer."""

    def store_together(self, work: Sequence[tuple[Stream, Batch | Gap]]) -> None:
        begun = time.perf_counter_ns()
        super().store_together(work)
        done = time.perf_counter_ns()
        until = done + round(SPUN * (done - begun))
        while time.perf_counter_ns() < until:
            pass
