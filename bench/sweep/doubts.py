"""What besides its conditions may have made a trial's figures: whose limit it was, what ran into it; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.analysis.steady import FEWEST_BINS, warm_up_length
from bench.measuring.resources import ServerCounters
from bench.sweep.cell import MADE, Trial
from bench.sweep.measured import LoggerRun

_BUSY_MACHINE = 0.95
_BUSY_PROCESS = 0.9
"""Of one core: a process of Python computes on no more."""


def doubts_of(
    trial: Trial,
    runs: Sequence[LoggerRun],
    machine_busy: float,
    before: ServerCounters,
    after: ServerCounters,
) -> list[str]:
    """Each in one line; none where the figures are what the conditions made of them.

    `machine_busy` is the share of all cores' time that was busy meanwhile; NaN: not known.
    """
    doubts = []
    if not math.isnan(machine_busy) and machine_busy > _BUSY_MACHINE:
        doubts.append(
            f"this machine's processors were busy for {machine_busy:.0%} of the time: its limit, perhaps"
        )
    busiest = max((run.cpu_s / run.seconds for run in runs if run.seconds), default=0.0)
    if busiest > _BUSY_PROCESS:
        whose = "the generator's, not the database's" if trial.source == MADE else "the logger's"
        doubts.append(f"a process computed for {busiest:.0%} of its time: the limit is {whose}")
    if (before.checkpoints, before.checkpoint_lsn) != (after.checkpoints, after.checkpoint_lsn):
        doubts.append("a checkpoint ran")
    if before.vacuums != after.vacuums:
        doubts.append("a vacuum or analyze ran")
    if left := sum(run.spooled_left for run in runs):
        doubts.append(f"{left} scans were still in a spool when the drain was over")
    return doubts + _unsteady(runs)


def _unsteady(runs: Sequence[LoggerRun]) -> list[str]:
    """Whether the response was level from the window's begin; nothing of a window too short to say."""
    parts = list(zip(*(run.response_parts for run in runs), strict=True))
    counts = [sum(each.count for each in part) for part in parts]
    if len(parts) < FEWEST_BINS or not all(counts):
        return []
    means_us = [sum(each.sum_us for each in part) / n for part, n in zip(parts, counts, strict=True)]
    warm_up = warm_up_length(means_us)
    if warm_up is None:
        return ["the response never became steady: its figures depend on when one looks"]
    seconds = warm_up * runs[0].part_s
    return [f"the response was steady only after {seconds:.0f} s: a longer warm_up_s"] if warm_up else []
