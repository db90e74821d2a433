"""One level of a crowd: its slots at saturation, what was stored, and whether our side was the limit."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench.analysis.little import LittleCheck, little
from bench.measuring.latency import Latencies, Merged
from bench.stress.crowd import Crowd
from bench.stress.window import window_of

GENERATOR_LIMIT = 0.9
"""Of a core: a process of the generator that computes for so much of the time is what limits."""


@dataclass
class Level:
    """A number of connections, each storing as fast as it goes."""

    connections: int
    parameters: int = 0
    slots_per_s: list[float] = field(default_factory=list)
    """Stored transactions a second, of each slot."""
    failures: dict[str, int] = field(default_factory=dict)
    stored: int = 0
    tried: int = 0
    busiest: float = 0.0
    """Most CPU of a process of the generator in any slot, as a share of a core."""
    cores: float = 0.0
    """Of all its processes, in the last slot."""
    service: list[Latencies] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        return sum(self.slots_per_s) / len(self.slots_per_s) if self.slots_per_s else 0.0

    @property
    def success(self) -> float:
        """Share of what was tried that was stored."""
        return self.stored / self.tried if self.tried else 0.0

    @property
    def p95_in_words(self) -> str:
        """Of the service, in ms."""
        p95_us = Merged(self.service).percentile_us(95) if self.service else math.nan
        return "too few" if math.isnan(p95_us) else f"{p95_us / 1000:.1f}"

    @property
    def is_generator_limited(self) -> bool:
        return self.busiest >= GENERATOR_LIMIT

    @property
    def little(self) -> LittleCheck:
        """Whether the requests were with the server all the time, or with our side, over all slots."""
        mean_us = Merged(self.service).mean_us if self.service else math.nan
        return little(self.connections, self.per_s, mean_us / 1e6)

    def in_words(self) -> str:
        return f"{self.per_s:,.0f}{'*' if self.is_generator_limited else ''}"

    def to_json(self) -> dict[str, Any]:
        return {
            "connections": self.connections,
            **({"parameters": self.parameters} if self.parameters else {}),
            "slots_per_s": [round(per_s, 2) for per_s in self.slots_per_s],
            "success_share": self.success,
            "failures": self.failures,
            "generator_busiest_share": self.busiest,
            "generator_cores": self.cores,
            "generator_is_the_limit": self.is_generator_limited,
            "little": self.little.to_json(),
            "service": [latencies.to_json() for latencies in self.service],
        }


def measured_level(writers: Crowd, level: Level, settle_s: float, seconds: float) -> None:
    """Let so many writers of a crowd settle at work, and add a slot to the level; the others stay idle."""
    writers.run(settle_s, active=level.connections)
    done = writers.run(seconds, active=level.connections)
    window = window_of(done.attempts, done.schedule)
    level.slots_per_s.append(window.per_s)
    level.failures = dict(Counter(level.failures) + Counter(window.failures))
    level.stored += window.stored
    level.tried += window.tried
    level.busiest = max(level.busiest, done.busiest)
    level.cores = done.cores
    level.service.append(window.service)
