"""`plcbench sweep`: one trial a cell; the result is on disk after each, and a failed one ends none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.arms import bench_server
from bench.environment import environment
from bench.plan import SweepSpec
from bench.results import now_utc, write_result
from bench.trial import Trial, TrialResult, run_trial
from logger.database import connect
from plcsim.errors import PlcsimError

SECONDS_A_CELL = 6.0
"""Starting and stopping processes, verifying."""


@dataclass(frozen=True)
class Cell:
    """A trial and what came of it."""

    trial: Trial
    result: TrialResult | None
    error: str = ""


def run_sweep(
    spec: SweepSpec, url: str | None, path: Path, on_cell: Callable[[Cell], None] = lambda cell: None
) -> list[Cell]:
    """Run all cells; `on_cell` sees each once it is on disk."""
    cells: list[Cell] = []
    started = now_utc()
    with bench_server(url) as conninfo, connect(conninfo) as monitor:
        where = environment(monitor)
        for trial in spec.trials():
            cells.append(_run_cell(trial, conninfo, monitor))
            write_result(path, "sweep", _json(spec, cells, where, started))
            on_cell(cells[-1])
    return cells


def _run_cell(trial: Trial, conninfo: str, monitor: psycopg.Connection[Any]) -> Cell:
    try:
        return Cell(trial, run_trial(trial, conninfo, monitor))
    except (PlcsimError, psycopg.Error, OSError) as exc:
        return Cell(trial, None, " ".join(str(exc).split()) or type(exc).__name__)


def _json(spec: SweepSpec, cells: list[Cell], where: dict[str, Any], started: str) -> dict[str, Any]:
    return {
        "started_at": started,
        "finished_at": now_utc(),
        "plan": spec.model_dump(),
        "planned_cells": len(spec.trials()),
        "environment": where,
        "cells": [
            {
                "trial": str(cell.trial),
                "error": cell.error,
                "result": cell.result.to_json() if cell.result else None,
            }
            for cell in cells
        ],
    }
