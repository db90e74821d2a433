"""Notices when somebody sets the wall clock: scans keep their time, but their time stamps jump."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

SMALLEST_STEP_NS = 500_000_000
"""What NTP slews (0.5 ms a second at most) is far below it, whatever the time between two looks."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The wall clock went its own way for a moment."""

    at_us: int
    """After the step, by the wall clock: microseconds since 1970, UTC."""
    seconds: float
    """Forwards; negative: backwards."""

    def __str__(self) -> str:
        way = "forwards" if self.seconds > 0 else "backwards"
        return (
            f"the wall clock stepped {abs(self.seconds):.3f} s {way} (or the machine was suspended); "
            "scans go on by the monotonic clock, their time stamps follow the wall clock"
        )


class ClockWatch:
    """Compares the wall clock with the monotonic clock; look about once a second."""

    def __init__(
        self,
        on_step: Callable[[ClockStep], None],
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._on_step = on_step
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._apart_ns = wall_ns() - monotonic_ns()
        self.steps = 0

    def check(self) -> None:
        """Report a step since the last look; slow corrections between two looks are none."""
        wall_ns = self._wall_ns()
        apart_ns = wall_ns - self._monotonic_ns()
        jump_ns, self._apart_ns = apart_ns - self._apart_ns, apart_ns
        if abs(jump_ns) > SMALLEST_STEP_NS:
            self.steps += 1
            step = ClockStep(wall_ns // 1000, jump_ns / 1e9)
            log.warning("%s", step)
            self._on_step(step)
