"""A sweep's cells as a table, one line a cell as it comes."""

from __future__ import annotations

import math

from rich import box
from rich.table import Table

from bench.latency import Merged
from bench.sweep import Cell

_COLUMNS = (
    "devices",
    "interval [s]",
    "repository",
    "values/s",
    "missed",
    "response mean [ms]",
    "p99 [ms]",
    "lag p99 [ms]",
    "commit p99 [ms]",
    "WAL a value [B]",
    "violations",
)


def sweep_table(cells: list[Cell]) -> Table:
    """All cells, ordered by the grid."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in _COLUMNS:
        table.add_column(column.replace("[", "\\["), justify="left" if column == "repository" else "right")
    for cell in sorted(cells, key=lambda c: (c.trial.devices, -c.trial.interval_s, c.trial.repository)):
        trial = cell.trial
        head = (str(trial.devices), f"{trial.interval_s:g}", trial.repository)
        table.add_row(*head, *(_figures(cell) if cell.result else (f"failed: {cell.error}",)))
    return table


def cell_line(cell: Cell) -> str:
    """One cell in a line of words."""
    if cell.result is None:
        return f"{cell.trial}: failed: {cell.error}"
    result = cell.result
    return (
        f"{cell.trial}: {result.values_per_s:,.0f} values/s, {result.missed} missed, response p99 "
        f"{_p99_or_max(result.merged('response'))} ms, {result.violations} violations"
    )


def _figures(cell: Cell) -> tuple[str, ...]:
    result = cell.result
    assert result is not None
    response = result.merged("response")
    rows = sum(run.stored_rows for run in result.runs)
    return (
        f"{result.values_per_s:,.0f}",
        str(result.missed),
        f"{response.mean_us / 1000:.2f}",
        _p99_or_max(response),
        _p99_or_max(result.merged("lag")),
        _p99_or_max(result.merged("commit")),
        f"{result.wal_bytes / max(1, rows):,.0f}",
        str(result.violations),
    )


def _p99_or_max(merged: Merged) -> str:
    """The 99th percentile; the maximum where too few values lie beyond it to say."""
    p99 = merged.percentile_us(99)
    return f"{merged.max_us / 1000:.2f} (max)" if math.isnan(p99) else f"{p99 / 1000:.2f}"
