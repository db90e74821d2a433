"""A sweep's cells as a table, and one line a cell as it comes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.analysis.statistics import mean_interval
from bench.measuring.latency import Merged
from bench.report.table import Table
from bench.sweep.cell import Trial
from bench.sweep.measured import Cell, TrialResult

_HEADS = {
    "devices": "devices",
    "loggers": "loggers",
    "parameters": "parameters",
    "interval_s": "interval [s]",
    "repository": "repository",
    "update_strategy": "update strategy",
    "synchronous_commit": "synchronous_commit",
    "scans": "scans/tx",
    "connections": "connections",
    "source": "scans from",
    "faults": "faults",
    "running": "process",
    "plc_scan_ms": "PLC scan [ms]",
    "duration_s": "duration [s]",
    "warm_up_s": "warm-up [s]",
}
"""Conditions in the order of columns; one that does not vary has none, but for the first of these."""
_ALWAYS = ("devices", "interval_s", "repository")
_MOST_CONDITIONS = 5
"""If more vary, a cell is told in words instead: so many columns fit no terminal."""
_FIGURES = (
    "offered/s",
    "achieved/s",
    "stored",
    "p50",
    "p99",
    "lag",
    "commit",
    "waiting",
    "CPU %",
    "MB",
    "WAL",
    "viol.",
)
_NOTE = (
    "Exploratory: no cell is judged. offered, achieved: history rows due, and committed inside the window, "
    "with the 95 % interval over its runs where there are several. stored: of the scans that were due. "
    "p50, p99: of the response, due to commit [ms]. lag: due to start, commit: of a transaction, both p99 "
    "[ms]. <: too few values for a percentile, the maximum. waiting: most scans in the spool. CPU, MB of "
    "private memory: of each process that stores. WAL: bytes a value. viol.: of the invariants."
)


def sweep_table(cells: Sequence[Cell]) -> Table:
    """All cells, a row each with its runs together, ordered by the grid."""
    groups: dict[Trial, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(replace(cell.trial, repeat=1), []).append(cell)
    varied = [
        name for name in _HEADS if name in _ALWAYS or len({getattr(trial, name) for trial in groups}) > 1
    ]
    in_words = len(varied) > _MOST_CONDITIONS
    heads = ["cell"] if in_words else [_HEADS[name] for name in varied]
    table = Table("Sweep", [*heads, *_FIGURES], note=_NOTE)
    for trial in sorted(groups, key=lambda one: [_order(name, getattr(one, name)) for name in varied]):
        head = [str(trial)] if in_words else [_condition(name, getattr(trial, name)) for name in varied]
        runs = [cell.result for cell in groups[trial] if cell.result is not None]
        if runs:
            table.rows.append([*head, *_figures(runs)])
        for cell in groups[trial]:
            if cell.error:
                empty = [""] * (len(_FIGURES) - 1)
                table.rows.append([*head, "failed", *empty])
    return table


def cell_line(cell: Cell) -> str:
    """One cell in a line of words."""
    if cell.result is None:
        return f"{cell.trial}: failed: {cell.error}"
    result = cell.result
    return (
        f"{cell.trial}: {result.values_per_s:,.0f} of {result.trial.offered_per_s:,.0f} values/s, "
        f"{result.missed} missed, response p99 {p99_or_max(result.merged('response'))} ms, "
        f"{result.spooled_most} waited, {result.violations} violations"
    )


def p99_or_max(merged: Merged) -> str:
    """The 99th percentile; below the maximum where too few values lie beyond it to say more."""
    p99 = merged.percentile_us(99)
    return f"< {merged.max_us / 1000:.2f}" if math.isnan(p99) else f"{p99 / 1000:.2f}"


def _figures(runs: Sequence[TrialResult]) -> tuple[str, ...]:
    each = [one for run in runs for one in run.runs]
    response, lag, commit = (
        Merged([getattr(one, name) for one in each]) for name in ("response", "lag", "commit")
    )
    middle, low, high = mean_interval([run.values_per_s for run in runs])
    clipped = sum(one.response.clipped for one in each)
    median = response.percentile_us(50) / 1000
    stored, due = (sum(run.success[n] for run in runs) for n in (0, 1))
    rows = sum(run.stored_rows for run in runs)
    return (
        f"{runs[0].trial.offered_per_s:,.0f}",
        f"{middle:,.0f}" + ("" if math.isnan(low) else f" [{low:,.0f}, {high:,.0f}]"),
        f"{stored / due:.1%}" if due else "n/a",
        "n/a" if math.isnan(median) else f"{median:.2f}",
        p99_or_max(response) + (f" ({clipped} clipped)" if clipped else ""),
        p99_or_max(lag),
        p99_or_max(commit),
        str(max(run.spooled_most for run in runs)),
        f"{100 * sum(one.cpu_s for one in each) / max(1e-9, sum(one.seconds for one in each)):.0f}",
        f"{sum(one.private_bytes for one in each) / len(each) / 1e6:.0f}",
        f"{sum(run.wal_bytes for run in runs) / max(1, rows):,.0f}",
        str(sum(run.violations for run in runs)),
    )


def _order(name: str, value: Any) -> Any:
    return -value if name == "interval_s" else value


def _condition(name: str, value: Any) -> str:
    match name:
        case "loggers":
            return "one each" if value == 0 else str(value)
        case "connections":
            return "its own" if value == 0 else str(value)
        case "running":
            return "running" if value else "idle"
        case "faults":
            return value or "none"
        case "update_strategy" | "synchronous_commit":
            return value or "as is"
    return f"{value:g}" if isinstance(value, float) else str(value)
