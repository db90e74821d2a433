"""How a fault looked from outside: when storing went on, was as fast as before, and had caught up; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.stress.journal import Records

SHARE = 0.95
"""Of the level before: from there on it counts as recovered."""
WINDOW_S = 1.0
STEADY_S = 2.0
"""How long it must stay there."""
_STEP_S = 0.05
_SLACK_S = 0.1
"""A scan is late once it took so much longer than twice the longest before the fault."""


@dataclass(frozen=True)
class RecoveryTimes:
    """In seconds after the end of the fault; infinite where it was not seen."""

    before_per_s: float
    """Good scans stored a second before the fault."""
    lowest_per_s: float
    """In the worst second since the fault began."""
    silence_s: float
    """The longest time in which no good scan was stored."""
    first_success_s: float
    """Until the next good scan was stored that was due after the fault began."""
    back_s: float
    """Until 95 % of the level before was reached and kept for 2 s."""
    drained_s: float
    """Until the last scan was stored that came late; scans are then as fresh as before."""
    late_scans: int
    worst_response_s: float

    @property
    def is_over(self) -> bool:
        return math.isfinite(self.back_s + self.drained_s)

    def to_json(self) -> dict[str, Any]:
        return {
            "before_per_s": round(self.before_per_s, 2),
            "lowest_per_s": round(self.lowest_per_s, 2),
            "silence_s": _rounded(self.silence_s),
            "first_success_s": _rounded(self.first_success_s),
            "back_to_95_s": _rounded(self.back_s),
            "drained_s": _rounded(self.drained_s),
            "late_scans": self.late_scans,
            "worst_response_s": _rounded(self.worst_response_s),
        }


def recovery_times(
    stored: Records, before_s: float, begun_ns: int, ended_ns: int, now_ns: int
) -> RecoveryTimes:
    """From what was stored up to now; the `before_s` seconds before the fault began are the level before.

    Only good scans count: one that could not be read is stored as well, and is no success.
    """
    good = stored[stored["is_good"] == 1]
    good = good[np.argsort(good["at_ns"], kind="stable")]
    at, due = good["at_ns"], good["due_ns"]
    is_before = (at >= begun_ns - round(before_s * 1e9)) & (at < begun_ns)
    level = int(is_before.sum()) / before_s
    response = (at - due) / 1e9
    limit_s = 2 * float(response[is_before].max(initial=0.0)) + _SLACK_S
    after = at >= begun_ns
    successes = at[(at >= ended_ns) & (due >= begun_ns)]
    first_ns = int(successes[0]) if len(successes) else None
    late = at[after & (response > limit_s)]
    is_up_to_date = bool(len(due)) and (now_ns - int(due.max())) / 1e9 <= limit_s + WINDOW_S
    rates = _rates(at, begun_ns, now_ns)
    return RecoveryTimes(
        level,
        float(rates.min()) if len(rates) else math.nan,
        _longest_silence_s(at, begun_ns, now_ns),
        math.inf if first_ns is None else (first_ns - ended_ns) / 1e9,
        _back_s(at, level, first_ns, ended_ns, now_ns),
        math.inf if not is_up_to_date else max(0.0, (int(late.max()) - ended_ns) / 1e9) if len(late) else 0.0,
        len(late),
        float(response[after].max(initial=0.0)),
    )


def _rates(at: NDArray[np.int64], from_ns: int, to_ns: int) -> NDArray[np.float64]:
    """Scans a second in the window that begins at each step; those that reach beyond `to_ns` have none."""
    window, step = round(WINDOW_S * 1e9), round(_STEP_S * 1e9)
    starts = np.arange(from_ns, to_ns - window + 1, step, dtype=np.int64)
    counts = np.searchsorted(at, starts + window) - np.searchsorted(at, starts)
    return np.asarray(counts / WINDOW_S)


def _back_s(at: NDArray[np.int64], level: float, first_ns: int | None, ended_ns: int, now_ns: int) -> float:
    """After the first success: else a backlog that is stored at once would count for the silence before."""
    if first_ns is None or level == 0:
        return math.inf
    # a second of a steady schedule holds one scan more or less, as its edges fall
    low = np.flatnonzero(_rates(at, first_ns, now_ns) < SHARE * level - 1 / WINDOW_S)
    back_ns = first_ns
    if len(low):
        # the window after the last low one may begin in silence and reach into a backlog's end
        later = at[at >= first_ns + (int(low[-1]) + 1) * round(_STEP_S * 1e9)]
        if not len(later):
            return math.inf
        back_ns = int(later[0])
    if now_ns - back_ns < (STEADY_S + WINDOW_S) * 1e9:
        return math.inf  # not seen for long enough
    return (back_ns - ended_ns) / 1e9


def _longest_silence_s(at: NDArray[np.int64], begun_ns: int, now_ns: int) -> float:
    last = at[at < begun_ns]
    moments = np.concatenate([last[-1:], at[at >= begun_ns], [now_ns]])
    return float(np.diff(moments).max(initial=0)) / 1e9


def _rounded(seconds: float) -> float | None:
    return round(seconds, 3) if math.isfinite(seconds) else None
