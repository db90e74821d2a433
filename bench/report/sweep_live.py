"""A sweep while it runs: the cells that ended last, the one at work, and what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from bench.report.sweep_table import p99_or_max
from bench.sweep.cell import Trial
from bench.sweep.live import Live
from bench.sweep.measured import Cell

_MOST_SHOWN = 12
_COLUMNS = ("cell", "offered/s", "achieved/s", "p99 [ms]", "waiting", "missed")


def live_table(cells: Sequence[Cell], running: Trial | None, live: Live, left: int, eta_s: float) -> Table:
    """The table of now; `left` counts the runs that are to come after the one at work."""
    caption = f"{len(cells)} done, {left} to come, about {duration(eta_s)} left"
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for column in _COLUMNS:
        table.add_column(Text(column), justify="left" if column == "cell" else "right")
    for cell in list(cells)[-_MOST_SHOWN:]:
        table.add_row(*_ended(cell))
    if running is not None:
        table.add_row(*_running(running, live), style="bold")
    return table


def duration(seconds: float) -> str:
    """Seconds in words short enough for a line."""
    whole = math.ceil(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 7200 else f"{seconds / 3600:.1f} h"


def _ended(cell: Cell) -> list[Text]:
    offered = f"{cell.trial.offered_per_s:,.0f}"
    if cell.result is None:
        return [Text(each) for each in (str(cell.trial), offered, f"failed: {cell.error}", "", "", "")]
    result = cell.result
    response = p99_or_max(result.merged("response"))
    figures = (f"{result.values_per_s:,.0f}", response, str(result.spooled_most), str(result.missed))
    return [Text(each) for each in (str(cell.trial), offered, *figures)]


def _running(trial: Trial, live: Live) -> list[Text]:
    offered = f"{trial.offered_per_s:,.0f}"
    if not live.reports:
        return [Text(each) for each in (f"▸ {trial}", offered, "starting", "", "", "")]
    p99 = "" if math.isnan(live.p99_ms) else f"~{live.p99_ms:.1f}"
    figures = (f"{live.values_per_s:,.0f}", p99, str(live.spooled), str(live.missed))
    return [Text(each) for each in (f"▸ {trial}", offered, *figures)]
