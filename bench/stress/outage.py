"""A schedule that goes on through a fault -> what was stored meanwhile, and how it recovered; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.load.failures import Failure
from bench.stress.window import Window, window_of
from bench.stress.writer import OUTCOMES, Schedule

_OK = OUTCOMES.index(Failure.OK)
LATE_MS = 100.0
"""A response that took longer counts as late: the fault is still felt."""


@dataclass(frozen=True)
class Outage:
    """One fault of some seconds."""

    seconds: float
    due: tuple[int, int, int]
    """Transactions that were due before, during and after it."""
    stored: tuple[int, int, int]
    """Of each of those."""
    failures: dict[str, int]
    """During and after it, by `Failure`."""
    first_success_s: float | None
    """From its end to the next transaction stored; None: none was."""
    recovered_s: float | None
    """From its end until the last transaction that failed or was late was over; None: nobody saw that."""
    window: Window
    """All of it."""

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "due": list(self.due),
            "stored": list(self.stored),
            "failures": self.failures,
            "first_success_s": self.first_success_s,
            "recovered_s": self.recovered_s,
            "window": self.window.to_json(),
        }


def outage_of(attempts: NDArray[np.void], schedule: Schedule, begun_ns: int, ended_ns: int) -> Outage:
    """A fault from one instant of the monotonic clock to another; attempts of dtype `ATTEMPT`, paced."""
    ordered = np.sort(attempts, order="intended_ns")
    ok = ordered["outcome"] == _OK
    phase = np.searchsorted([begun_ns, ended_ns], ordered["intended_ns"], side="right")
    counts = np.bincount(ordered["outcome"][phase > 0], minlength=len(OUTCOMES))
    return Outage(
        seconds=(ended_ns - begun_ns) / 1e9,
        due=_three(phase),
        stored=_three(phase[ok]),
        failures={str(OUTCOMES[i]): int(n) for i, n in enumerate(counts) if n and i != _OK},
        first_success_s=_first_success_s(ordered[ok], ended_ns),
        recovered_s=_recovered_s(ordered, ok, ended_ns),
        window=window_of(attempts, schedule),
    )


def _three(phase: NDArray[np.int64]) -> tuple[int, int, int]:
    before, during, after = np.bincount(phase, minlength=3)
    return int(before), int(during), int(after)


def _first_success_s(ok: NDArray[np.void], ended_ns: int) -> float | None:
    after = ok["done_ns"][ok["done_ns"] >= ended_ns]
    return float(after.min() - ended_ns) / 1e9 if len(after) else None


def _recovered_s(ordered: NDArray[np.void], ok: NDArray[np.bool_], ended_ns: int) -> float | None:
    """None too if the last that was due felt it still: then nobody saw the end."""
    late = ~ok | (ordered["done_ns"] - ordered["intended_ns"] > LATE_MS * 1e6)
    if not len(ordered) or late[-1]:
        return None
    over = ordered["done_ns"][late & (ordered["done_ns"] >= ended_ns)]
    return float(over.max() - ended_ns) / 1e9 if len(over) else 0.0
