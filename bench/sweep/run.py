"""`plcbench sweep`: one trial a cell; the result is on disk after each, and a failed one ends none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.arms import bench_server
from bench.measuring.environment import environment
from bench.results import command_line, now_utc, write_result
from bench.sweep.cell import Trial
from bench.sweep.findings import section_of
from bench.sweep.live import Live
from bench.sweep.measured import Cell, TrialResult
from bench.sweep.plan import SweepSpec
from bench.sweep.resume import Earlier, sources_of
from bench.sweep.trial import run_trial
from logger.database import connect, mapped_errors
from plcsim.errors import PlcsimError


@dataclass(frozen=True)
class Watcher:
    """Who wants to know how a sweep stands."""

    on_begin: Callable[[Trial], None] = lambda trial: None
    on_live: Callable[[Trial, Live], None] = lambda trial, live: None
    on_cell: Callable[[Cell], None] = lambda cell: None
    """Once it is on disk."""
    on_earlier: Callable[[Cell], None] = lambda cell: None
    """Of each cell that an earlier result has."""


def run_sweep(
    spec: SweepSpec,
    url: str | None,
    path: Path,
    on_cell: Callable[[Cell], None] = lambda cell: None,
    *,
    watcher: Watcher = Watcher(),
    earlier: Earlier | None = None,
) -> list[Cell]:
    """Run all cells, or those that an earlier result does not have; returns all, as they are on disk.

    Interrupted, it leaves a result that says so and can be resumed. Raises PlcsimError if the server is
    not there, or is another one than that of the earlier result.
    """
    trials = spec.trials()
    with bench_server(url) as conninfo, connect(conninfo) as monitor:
        with mapped_errors():
            where = environment(monitor)
        cells: list[Cell] = []
        started, before_s = now_utc(), 0.0
        if earlier is not None:
            earlier.check_environment(where)
            started, before_s = earlier.started_at, earlier.took_s
            cells = [Cell(result.trial, result, "", seconds) for result, seconds in earlier.done(trials)]
            for cell in cells:
                watcher.on_earlier(cell)
        sheet = _Sheet(spec, path, where, started, before_s, len(trials), cells, sources_of(spec))
        sheet.write("")
        done = {cell.trial for cell in cells}
        try:
            for trial in trials:
                if trial in done:
                    continue
                watcher.on_begin(trial)
                begun = time.monotonic()
                result, error = _ran(trial, conninfo, monitor, watcher)
                cells.append(Cell(trial, result, error, time.monotonic() - begun))
                sheet.write("")
                watcher.on_cell(cells[-1])
                on_cell(cells[-1])
        except BaseException as exc:
            sheet.write(f"interrupted by {type(exc).__name__} after {len(cells)} of {len(trials)} runs")
            raise
    return cells


def _ran(trial: Trial, conninfo: str, monitor: Any, watcher: Watcher) -> tuple[TrialResult | None, str]:
    """What came of a trial, or in one line why nothing did."""
    try:
        with mapped_errors():
            return run_trial(trial, conninfo, monitor, lambda live: watcher.on_live(trial, live)), ""
    except (PlcsimError, OSError) as exc:
        return None, _line(exc)
    except Exception as exc:  # noqa: BLE001 - an arm may be anybody's code: the other cells go on
        return None, f"{type(exc).__name__}: {_line(exc)}"


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__


@dataclass(frozen=True)
class _Sheet:
    """The result file, written anew after each cell."""

    spec: SweepSpec
    path: Path
    environment: dict[str, Any]
    started_at: str
    before_s: float
    """What the runs before this one took."""
    planned: int
    cells: Sequence[Cell]
    sources: dict[str, str]
    """Digests of the arms that are the user's own code, as it was when the run began."""
    begun: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "begun", time.monotonic())

    def write(self, unfinished: str) -> None:
        left = self.planned - len(self.cells)
        content = {
            "started_at": self.started_at,
            "finished_at": now_utc(),
            "took_s": round(self.before_s + time.monotonic() - self.begun, 1),
            "command": command_line(),
            "settings": {"seed": self.spec.seed, "repeats": self.spec.repeats},
            "arms": self.sources,
            "plan": self.spec.model_dump(mode="json", exclude_unset=True),
            "planned_cells": self.planned,
            "unfinished": unfinished or (f"{left} of {self.planned} runs are to come" if left else ""),
            "environment": self.environment,
            "sections": [section_of(self.cells).to_json()],
            "cells": [
                {
                    "trial": str(cell.trial),
                    "error": cell.error,
                    "seconds": round(cell.seconds, 2),
                    "result": cell.result.to_json() if cell.result else None,
                }
                for cell in self.cells
            ],
        }
        write_result(self.path, "sweep", content)
