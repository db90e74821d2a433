"""How long to leave alone what does not answer: growing pauses with full jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

LONGEST_S = 5.0


class BackOff:
    """The first failure costs no pause; the n-th up to `base · 2^(n-2)`, never more than LONGEST_S.

    Full jitter (any time up to that) keeps a thousand loggers from asking a gateway that has come back
    all at once: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(
        self,
        base_s: float,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._base_s = base_s
        self._clock_ns = clock_ns
        self._chance = chance
        self.failures = 0
        """In a row."""
        self._until_ns = 0

    @property
    def is_waiting(self) -> bool:
        """Whether it is too early to try again."""
        return self._until_ns != 0 and self._clock_ns() < self._until_ns

    def failed(self) -> None:
        """It was tried, in vain."""
        self.failures += 1
        if self.failures > 1:
            longest = min(LONGEST_S, self._base_s * 2.0 ** min(self.failures - 2, 32))
            self._until_ns = self._clock_ns() + round(longest * self._chance() * 1e9)

    def succeeded(self) -> None:
        """It answered."""
        self.failures = self._until_ns = 0
