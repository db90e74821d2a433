"""Little's law as a check of the load: N = X R, or somebody else held the requests; pure.

In a closed loop of N workers each request is in the system all the time, so throughput times mean
response must give N. If it gives less, the workers were busy with themselves: the generator, not the
database, was the limit (Little 1961; used so by Gunther).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bench.analysis.statistics import rounded

TOLERANCE = 0.05


@dataclass(frozen=True)
class LittleCheck:
    """Whether the requests were where they should have been."""

    workers: float
    in_system: float
    """X R: how many were in the system on average."""
    tolerance: float

    @property
    def share(self) -> float:
        """Of the workers that the system held."""
        return self.in_system / self.workers

    @property
    def holds(self) -> bool:
        return abs(self.share - 1) <= self.tolerance

    @property
    def why(self) -> str:
        """In words; empty where the law holds."""
        if self.holds:
            return ""
        if math.isnan(self.in_system):
            return "nothing was stored: no mean response, no law"
        said = f"throughput × mean response is {self.in_system:.3g}, {self.workers:g} workers were at it"
        if self.share < 1:
            return f"{said}: the generator held {1 - self.share:.0%} of them, so this is its limit"
        return f"{said}: some were counted twice, or the response holds more than one worker's time"

    def to_json(self) -> dict[str, Any]:
        return {
            "workers": self.workers,
            "in_system": rounded(self.in_system),
            "holds": self.holds,
            "why": self.why,
        }


def little(
    workers: float, throughput_per_s: float, mean_response_s: float, tolerance: float = TOLERANCE
) -> LittleCheck:
    """Check a closed loop; raises ValueError where nobody works."""
    if workers <= 0:
        raise ValueError(f"{workers:g} workers do nothing")
    return LittleCheck(workers, throughput_per_s * mean_response_s, tolerance)
