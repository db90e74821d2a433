"""Slows every sync of a logger's spool; how much is told to the process while it runs."""

from __future__ import annotations

import multiprocessing
import time

from logger.spool.disk import OsDisk


class SlowSync:
    """Called in the logger's process before it begins; `delay_s` may be set in the parent at any time."""

    def __init__(self) -> None:
        self._delay = multiprocessing.get_context("spawn").RawValue("d", 0.0)

    @property
    def delay_s(self) -> float:
        """Added to each sync of a file."""
        return float(self._delay.value)

    @delay_s.setter
    def delay_s(self, seconds: float) -> None:
        self._delay.value = seconds

    def __call__(self) -> None:
        sync, delay = OsDisk.sync, self._delay

        def slow(disk: OsDisk, file: int) -> None:
            time.sleep(delay.value)
            sync(disk, file)

        OsDisk.sync = slow  # type: ignore[method-assign, assignment]
