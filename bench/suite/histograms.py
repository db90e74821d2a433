"""Histograms of a part for other tools: one .hlog with a tag an arm and kind, one .hgrm of each tag."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measuring.hgrm import write_hgrm
from bench.measuring.hlog import tag_of, write_hlog
from bench.measuring.latency import Latencies, Merged, together

PERCENTILES = (50.0, 95.0, 99.0)


@dataclass
class Histograms:
    """What was recorded, by tag, in the order of time."""

    rows: list[tuple[str, float, float, Latencies]] = field(default_factory=list)
    """(tag, start in seconds since 1970, length in seconds, what was recorded)."""

    def add(self, tag: str, start_s: float, length_s: float, latencies: Latencies) -> None:
        """Keep an interval; one in which nothing was recorded says nothing."""
        if latencies.count:
            self.rows.append((tag, start_s, length_s, latencies))

    def write(self, folder: Path | None, name: str) -> None:
        """Write NAME.hlog and NAME-TAG.hgrm into the folder, which is made; raises OSError."""
        if folder is None or not self.rows:
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_hlog(folder / f"{name}.hlog", self.rows)
        for tag in dict.fromkeys(row[0] for row in self.rows):
            merged = together([row[3] for row in self.rows if row[0] == tag])
            write_hgrm(folder / f"{name}-{tag_of(tag).replace('/', '_')}.hgrm", merged)


def latency_figures(merged: Merged) -> dict[str, Any]:
    """Mean, percentiles and maximum in ms; NaN (null in JSON) where too few values lie beyond to say."""
    return {
        "count": merged.count,
        "mean_ms": merged.mean_us / 1000,
        **{f"p{percent:g}_ms": merged.percentile_us(percent) / 1000 for percent in PERCENTILES},
        "max_ms": merged.max_us / 1000,
    }


LATENCY_COLUMNS = ("mean", "p50", "p95", "p99", "max")


def latency_cells(figures: dict[str, Any]) -> list[str]:
    """The cells of a table for `LATENCY_COLUMNS`."""
    keys = ("mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    return [milliseconds(figures[key]) if figures["count"] else "-" for key in keys]


def milliseconds(value: float) -> str:
    """A time in ms with three digits or so; what too few values lie beyond is "too few"."""
    if value != value:
        return "too few"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
