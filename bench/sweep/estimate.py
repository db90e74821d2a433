"""How long a sweep takes: at the most, said before it runs, and about, while it runs; pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.sweep.cell import PLC, Trial

START_S, START_A_PROCESS_S = 4.0, 1.5
"""A schema and its tables; each emulator, logger or load imports and connects, on two cores one by one."""
VERIFIED_PER_S = 30_000.0
"""Values that the oracle reads and checks each second, on a slow machine."""
SERVER_S = 10.0
"""An embedded server is made and removed."""


def processes(trial: Trial) -> int:
    """That are started: those that store, and the emulators."""
    return trial.processes + (trial.devices if trial.source == PLC else 0)


def longest_s(trial: Trial, drain_s: float) -> float:
    """Upper bound of one run: with the whole drain, as a cell needs that is overloaded."""
    values = trial.offered_per_s * trial.duration_s
    starting = START_S + START_A_PROCESS_S * processes(trial)
    return starting + trial.duration_s + drain_s + values / VERIFIED_PER_S


def longest_of_all_s(trials: Sequence[Trial], drain_s: float) -> float:
    """Upper bound of a sweep."""
    return SERVER_S + sum(longest_s(trial, drain_s) for trial in trials)


class Remaining:
    """What is left of a sweep, corrected by how long its runs took against their upper bounds."""

    def __init__(self, trials: Sequence[Trial], drain_s: float) -> None:
        self._drain_s = drain_s
        self._left = {trial: longest_s(trial, drain_s) for trial in trials}
        self._bound = self._took = 0.0

    def ran(self, trial: Trial, seconds: float) -> None:
        self._bound += self._left.pop(trial)
        self._took += seconds

    def seconds(self, in_cell_s: float = 0.0) -> float:
        """About how long is left, of which so much of the cell that runs now has passed."""
        share = self._took / self._bound if self._bound else 1.0
        return max(0.0, share * sum(self._left.values()) - in_cell_s)
