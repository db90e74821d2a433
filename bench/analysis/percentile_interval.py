"""A percentile of merged histograms with an interval over the slots that they came from; pure.

The unit is the slot (or a second of a run), not the transaction: what is slow is slow together. Whole
slots are drawn with replacement and merged; the interval is the middle 95 % of their percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.analysis.statistics import CONFIDENCE, FEWEST_SLOTS
from bench.measuring.latency import INTERVAL_BEYOND, Latencies, Merged

_RESAMPLES = 1000


def percentile_interval(slots: Sequence[Latencies], percent: float, seed: int) -> tuple[float, float, float]:
    """The percentile in µs with its 95 % interval; NaN where too few values lie beyond it to say.

    The interval is NaN for fewer than six slots that recorded anything, and where fewer than 30 values lie
    beyond: the percentile itself is told from 10 on.
    """
    used = [slot for slot in slots if slot.count]
    if not used:
        return math.nan, math.nan, math.nan
    merged = Merged(used)
    value = merged.percentile_us(percent)
    if math.isnan(value) or len(used) < FEWEST_SLOTS or merged.beyond(percent) < INTERVAL_BEYOND:
        return value, math.nan, math.nan
    chosen = np.random.default_rng(seed).integers(0, len(used), size=(_RESAMPLES, len(used)))
    weights = np.stack([np.bincount(row, minlength=len(used)) for row in chosen]).astype(float)
    found = np.minimum(merged.weighted_percentiles_us(percent, weights), merged.max_us)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return value, min(float(low), value), max(float(high), value)
