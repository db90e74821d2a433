"""Figures of the parts that check, as their tables show them; what is not known is a dash."""

from __future__ import annotations

import math
from collections.abc import Mapping

NONE = "–"


def milliseconds(microseconds: float) -> str:
    """A latency; a dash where too few values lie beyond a percentile to say."""
    return NONE if math.isnan(microseconds) else f"{microseconds / 1000:,.1f}"


def megabytes(count: float) -> str:
    """A size in units of 10^6 bytes."""
    return NONE if math.isnan(count) else f"{count / 1e6:,.2f}"


def percent(share: float, digits: int = 0) -> str:
    return NONE if math.isnan(share) else f"{share:.{digits}%}"


def failures(counts: Mapping[str, int]) -> str:
    """Failures by class, the most frequent first; 'none' if there were none."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"
