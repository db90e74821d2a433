"""Latency histograms: recorded in microseconds, merged, coded; the only place that knows HdrHistogram.

HdrHistogram_py rejects values out of range silently, rounds ranks half up and computes means slowly,
so clipped values are counted here, percentiles use the rank ceil(p·n) over the merged counts, and
the exact sum is kept beside the histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

LOWEST_US, HIGHEST_US, DIGITS = 1, 60_000_000, 3
PRINTED_BEYOND = 10
"""A percentile is printed only if so many values lie beyond it …"""
INTERVAL_BEYOND = 30
"""… and is given an interval only if so many do: of fewer, resampled slots say too little."""


@dataclass(frozen=True)
class Latencies:
    """Latencies of one kind: a histogram that travels between processes, and exact sums."""

    encoded: str
    """HdrHistogram V2, compressed, base64."""
    count: int
    sum_us: float
    max_us: float
    clipped: int
    """Values out of range that were counted at its edge."""

    @property
    def mean_us(self) -> float:
        return self.sum_us / self.count if self.count else math.nan

    def to_json(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "mean_us": _rounded(self.mean_us),
            "max_us": _rounded(self.max_us),
            "clipped": self.clipped,
            "hdr_v2": self.encoded,
        }


def latencies_of(nanoseconds: Iterable[int]) -> Latencies:
    """Record latencies; values below 1 µs count as 1 µs, above 60 s as 60 s (and as clipped)."""
    exact = np.fromiter(nanoseconds, dtype=np.float64) / 1000.0
    whole = np.clip(np.rint(exact), LOWEST_US, HIGHEST_US).astype(np.int64)
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for value, times in zip(*np.unique(whole, return_counts=True), strict=True):
        if not histogram.record_value(int(value), int(times)):
            raise ValueError(f"the histogram refuses {value} us")
    return Latencies(
        encoded=histogram.encode().decode("ascii"),
        count=len(exact),
        sum_us=float(exact.sum()),
        max_us=float(exact.max()) if len(exact) else 0.0,
        clipped=int(np.count_nonzero((exact > HIGHEST_US) | (exact < 0))),
    )


def together(slots: Sequence[Latencies]) -> Latencies:
    """Several histograms as one, for a file or another process; at least one."""
    merged = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for slot in slots:
        if slot.count:  # adding an empty one would set the minimum to 0
            merged.decode_and_add(slot.encoded)
    return Latencies(
        encoded=merged.encode().decode("ascii"),
        count=sum(slot.count for slot in slots),
        sum_us=math.fsum(slot.sum_us for slot in slots),
        max_us=max((slot.max_us for slot in slots if slot.count), default=0.0),
        clipped=sum(slot.clipped for slot in slots),
    )


def by_interval(
    at_ns: Sequence[int], nanoseconds: Sequence[int], interval_s: float = 1.0
) -> list[tuple[float, Latencies]]:
    """Latencies by the interval in which they fall: (its start in seconds after the clock's 0, they).

    `at_ns` are their intended starts: by them a stall stays where it was, and none is counted twice.
    Intervals in which nothing was due are left out.
    """
    step_ns = round(interval_s * 1e9)
    groups: dict[int, list[int]] = {}
    for at, latency in zip(at_ns, nanoseconds, strict=True):
        groups.setdefault(at // step_ns, []).append(latency)
    return [(index * step_ns / 1e9, latencies_of(groups[index])) for index in sorted(groups)]


class Merged:
    """Several histograms as one array of counts a slot, so that slots can be weighted and merged.

    Of none, as of empty ones, no percentile and no mean can be told: NaN.
    """

    def __init__(self, slots: Sequence[Latencies]) -> None:
        self.slots = list(slots)
        one = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        counts = np.zeros((len(slots), len(one.counts)), dtype=np.uint64)
        for row, slot in zip(counts, slots, strict=True):
            row[:] = np.frombuffer(_decoded(slot).counts, dtype=np.uint64)
        used = np.flatnonzero(counts.any(axis=0))
        self.counts: NDArray[np.float64] = counts[:, used].astype(np.float64)
        """Shape (slots, buckets in use)."""
        self.values_us = np.array([_middle(one, int(index)) for index in used])
        self.count = int(self.counts.sum())
        self.mean_us = sum(s.sum_us for s in slots) / self.count if self.count else math.nan
        self.max_us = max((s.max_us for s in slots), default=0.0)

    def beyond(self, percent: float) -> int:
        """How many values lie beyond the percentile."""
        return self.count - int(_rank(percent, self.count))

    def percentile_us(self, percent: float) -> float:
        """Value at the rank ceil(p·n), at most the maximum; NaN where too few values lie beyond it to say."""
        if self.beyond(percent) < PRINTED_BEYOND:
            return math.nan
        value = self.weighted_percentiles_us(percent, np.ones((1, len(self.counts))))[0]
        return min(float(value), self.max_us)

    def weighted_percentiles_us(self, percent: float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The percentile of merges that take each slot so many times: weights (merges, slots).

        NaN for a merge without a value: of slots that stored nothing there is no percentile.
        """
        if not self.count:
            return np.full(len(weights), math.nan)
        cumulative = np.cumsum(weights @ self.counts, axis=1)
        rank = _rank(percent, cumulative[:, -1])
        position = (cumulative < rank[:, None]).sum(axis=1)
        return np.where(cumulative[:, -1] > 0, self.values_us[position], math.nan)


def bucket_tops_us(values_us: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest value that shares a bucket with each of these; microseconds."""
    one = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    return np.array([one.get_highest_equivalent_value(int(value)) for value in values_us], dtype=np.float64)


def buckets_and_sub_buckets() -> tuple[int, int]:
    """The geometry of our histograms, as .hgrm files name it."""
    one = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    return one.bucket_count, one.sub_bucket_count


def _rank(percent: float, count: Any) -> Any:
    """ceil(p·n), where p·n is not rounded up by what a float cannot hold."""
    return np.ceil(percent * count / 100 - 1e-9)


def _decoded(latencies: Latencies) -> HdrHistogram:
    return HdrHistogram.decode(latencies.encoded)


def _middle(histogram: HdrHistogram, index: int) -> float:
    value = histogram.get_value_from_index(index)
    return float(value + (histogram.get_highest_equivalent_value(value) - value) / 2)


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
