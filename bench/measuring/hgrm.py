"""Writes a histogram as a percentile table (.hgrm) that HdrHistogram's plotters read.

The rows are those of Java's `outputPercentileDistribution`: five steps for each half of the distance to
100 %. Everything is in milliseconds, the standard deviation too. Written by us because the Python
package leaves the standard deviation in the histogram's unit and reads levels off a step that drifts.
One histogram a file; it cannot be read back into one: the .hlog can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.measuring.latency import Latencies, Merged, bucket_tops_us, buckets_and_sub_buckets

_STEPS_A_HALF = 5
_US_PER_MS = 1000


def write_hgrm(path: Path, latencies: Latencies) -> None:
    """Write one histogram; an empty one gives a table without rows. Raises OSError."""
    path.write_text(hgrm_text(latencies), encoding="ascii")


def hgrm_text(latencies: Latencies) -> str:
    """The text of the file."""
    merged = Merged([latencies])
    mean, deviation = _moments(merged)
    buckets, sub_buckets = buckets_and_sub_buckets()
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    lines += [_line(*row) for row in percentile_rows(merged)]
    lines += [
        f"#[Mean    = {mean / _US_PER_MS:12.3f}, StdDeviation   = {deviation / _US_PER_MS:12.3f}]",
        f"#[Max     = {merged.max_us / _US_PER_MS:12.3f}, Total count    = {merged.count:12d}]",
        f"#[Buckets = {buckets:12d}, SubBuckets     = {sub_buckets:12d}]",
    ]
    return "\n".join(lines) + "\n"


def percentile_rows(merged: Merged) -> Iterator[tuple[float, float, int]]:
    """(value in microseconds, percent, values up to it) from 0 to 100 %."""
    counts = merged.counts.sum(axis=0)
    tops = np.minimum(bucket_tops_us(merged.values_us), merged.max_us)
    cumulative, level = 0, 0.0
    for top, count in zip(tops.tolist(), counts.tolist(), strict=True):
        cumulative += int(count)
        while 100 * cumulative / merged.count >= level:
            yield top, level, cumulative
            halvings = math.floor(math.log2(100 / (100 - level))) + 1
            level += 100 / (_STEPS_A_HALF * 2**halvings)
            if cumulative == merged.count:
                yield top, 100.0, cumulative
                return


def _line(value_us: float, percent: float, total: int) -> str:
    share = percent / 100
    beyond = f" {1 / (1 - share):14.2f}" if share < 1 else ""
    return f"{value_us / _US_PER_MS:12.3f} {share:14.12f} {total:10d}{beyond}"


def _moments(merged: Merged) -> tuple[float, float]:
    """Mean, exact, and standard deviation, of the buckets' middles; microseconds."""
    if not merged.count:
        return 0.0, 0.0
    counts = merged.counts.sum(axis=0)
    middle = float(counts @ merged.values_us) / merged.count
    return merged.mean_us, math.sqrt(float(counts @ (merged.values_us - middle) ** 2) / merged.count)
