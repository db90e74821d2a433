"""How late PLC scans were: counts in buckets that many processes can add up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

_PER_OCTAVE = 8
_EDGES = 1e-5 * 2.0 ** (np.arange(25 * _PER_OCTAVE) / _PER_OCTAVE)
"""Upper edges of the buckets in seconds, 0.01 ms to 300 s, each 9 % above the one before; the last
bucket has none."""

Counts = tuple[int, ...]

NOTHING: Counts = (0,) * (len(_EDGES) + 1)


def counted(counts: Counts, lateness_s: Iterable[float]) -> Counts:
    """The counts with some more values in them."""
    values = np.fromiter(lateness_s, dtype=np.float64)
    new = np.bincount(np.searchsorted(_EDGES, values), minlength=len(NOTHING))
    return tuple((np.array(counts) + new).tolist())


def added(all_counts: Iterable[Counts]) -> Counts:
    """The counts of all together."""
    return tuple(np.sum([NOTHING, *all_counts], axis=0).tolist())


def since(now: Counts, before: Counts) -> Counts:
    """What was counted between two looks; never below 0, although a process may have begun anew."""
    return tuple(max(0, a - b) for a, b in zip(now, before, strict=True))


def percentile_ms(counts: Sequence[int], percent: float) -> float | None:
    """The lateness that so many percent of the scans do not exceed, in ms, at most 9 % too high."""
    total = sum(counts)
    if not total:
        return None
    rank = np.searchsorted(np.cumsum(counts), total * percent / 100.0)
    return float(round(1000.0 * _EDGES[min(int(rank), len(_EDGES) - 1)], 3))
