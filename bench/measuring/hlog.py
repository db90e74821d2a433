"""Writes histograms of many intervals and arms as one log (.hlog, version 1.3), which others read and cut.

A row is `Tag=arm,start,length,max,payload`: start in seconds since the log's BaseTime, max in
milliseconds, payload the histogram itself (HdrHistogram V2, zlib, base64) in microseconds. With Java's
HistogramLogProcessor give `-outputValueUnitRatio 1000` to read milliseconds. Written by us because the
Python package cannot write a start time or a tag and floors the maximum.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.measuring.latency import Latencies

_US_PER_MS = 1000
_NOT_IN_A_TAG = re.compile(r"[,\s\"#]+")

Interval = tuple[str, float, float, Latencies]
"""Tag, start in seconds since 1970, length in seconds, what was recorded meanwhile."""


def write_hlog(path: Path, intervals: Sequence[Interval]) -> None:
    """Write intervals, in order of their starts whatever order they come in. Raises OSError."""
    path.write_text(hlog_text(intervals), encoding="ascii")


def hlog_text(intervals: Sequence[Interval]) -> str:
    """The text of the file. What a tag may not hold (comma, space, quote, #) becomes _."""
    ordered = sorted(intervals, key=lambda interval: interval[1])
    base_s = round(ordered[0][1], 3) if ordered else 0.0
    date = datetime.fromtimestamp(base_s, UTC).isoformat(" ")
    lines = [
        "#[plcbench: values in microseconds, Interval_Max in milliseconds]",
        "#[Histogram log format version 1.3]",
        f"#[BaseTime: {base_s:.3f} (seconds since epoch)]",
        f"#[StartTime: {base_s:.3f} (seconds since epoch), {date}]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    for tag, start_s, length_s, latencies in ordered:
        shown = f"Tag={tag_of(tag)}," if tag else ""
        offset = max(0.0, start_s - base_s)
        maximum = max(0.0, latencies.max_us) / _US_PER_MS
        lines.append(f"{shown}{offset:.3f},{length_s:.3f},{maximum:.3f},{latencies.encoded}")
    return "\n".join(lines) + "\n"


def tag_of(text: str) -> str:
    """A text as a tag: ASCII, without what ends a field or a line."""
    return _NOT_IN_A_TAG.sub("_", text.encode("ascii", "replace").decode())
