"""A sweep's cells -> findings with intervals and one section; pure.

Each cell is exploratory: none is judged, and no class is given. Where a cell ran several times, its
figures have the t interval over its runs. A percentile comes from the merged histograms of all its runs,
its interval from whole seconds of them drawn again and again: few or slow seconds make it wide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bench.analysis.finding import Finding
from bench.analysis.percentile_interval import percentile_interval
from bench.analysis.statistics import mean_interval
from bench.measuring.latency import Latencies, together
from bench.report.sweep_table import sweep_table
from bench.report.table import Table
from bench.section import Section
from bench.sweep.cell import Trial
from bench.sweep.measured import Cell, TrialResult

PERCENTILES = (50.0, 95.0, 99.0)
_NOT_TOLD = ("repeat", "duration_s", "warm_up_s")


def section_of(cells: Sequence[Cell]) -> Section:
    """All cells as one section; INVALID if any stored what is not true, or none ended."""
    section = Section("sweep")
    groups = grouped([cell.result for cell in cells if cell.result is not None])
    for trial, runs in groups.items():
        section.findings += findings_of(trial, runs)
        section.invalid += [
            f"{run.trial}: {run.violations} violations of the invariants" for run in runs if run.violations
        ]
    failed = [f"{cell.trial}: {cell.error}" for cell in cells if cell.error]
    section.figures = {"runs": len(cells), "failed": failed, "exploratory": True}
    if failed:
        section.error = f"{len(failed)} of {len(cells)} runs failed: {failed[0]}"
    section.seconds = sum(cell.seconds for cell in cells)
    if cells:
        section.tables.append(sweep_table(cells))
    doubts = [(str(cell.trial), why) for cell in cells if cell.result for why in cell.result.doubts]
    if doubts:
        note = "these runs tell of more than their conditions: run them again on a quiet machine"
        section.tables.append(Table("Doubts", ("run", "why"), [*doubts], note))
    return section


def grouped(results: Sequence[TrialResult]) -> dict[Trial, list[TrialResult]]:
    """The runs of each cell, by the cell as its first run."""
    groups: dict[Trial, list[TrialResult]] = {}
    for result in sorted(results, key=lambda one: one.trial.repeat):
        groups.setdefault(replace(result.trial, repeat=1), []).append(result)
    return groups


def findings_of(trial: Trial, runs: Sequence[TrialResult]) -> list[Finding]:
    """What the runs of one cell found."""
    at: dict[str, Any] = {k: v for k, v in trial.conditions().items() if k not in _NOT_TOLD and v != ""}
    at["repository"] = trial.arm
    cell = str(trial)

    def finding(metric: str, unit: str, of: Callable[[TrialResult], float], **more: Any) -> Finding:
        return Finding(metric, *mean_interval([of(run) for run in runs]), unit, cell, {**at, **more})

    found = [
        finding("parameters_per_s", "values/s", lambda run: run.values_per_s),
        finding("memory_mb", "MB", _memory_mb),
        finding("wal_bytes", "bytes", _wal_of_transaction),
        *(_percentile(cell, at, runs, percent) for percent in PERCENTILES),
    ]
    checked = sum(run.stored_rows for run in runs)
    violations = float(sum(run.violations for run in runs))
    found.append(Finding("violations", violations, math.nan, math.nan, "", cell, {**at, "checked": checked}))
    stored, due = (sum(run.success[n] for run in runs) for n in (0, 1))
    if due:
        found.append(Finding("success", stored / due, math.nan, math.nan, "", cell, at))
    return [each for each in found if not math.isnan(each.value)]


def _percentile(cell: str, at: dict[str, Any], runs: Sequence[TrialResult], percent: float) -> Finding:
    figures = percentile_interval(_parts(runs), percent, runs[0].trial.parameters)
    value, low, high = (figure / 1000 for figure in figures)
    return Finding("response_ms", value, low, high, "ms", cell, {**at, "percentile": percent})


def _parts(runs: Sequence[TrialResult]) -> list[Latencies]:
    """The response by parts of the window, all processes of a run together: what is slow is slow together."""
    return [
        together(of_processes)
        for run in runs
        for of_processes in zip(*(one.response_parts for one in run.runs), strict=True)
    ]


def _memory_mb(run: TrialResult) -> float:
    return sum(each.private_bytes for each in run.runs) / len(run.runs) / 1e6


def _wal_of_transaction(run: TrialResult) -> float:
    transactions = sum(each.transactions for each in run.runs)
    return run.wal_bytes / transactions if transactions else math.nan
