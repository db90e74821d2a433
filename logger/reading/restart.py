"""What was missed while the logger was away, as the gap record that its stream goes on with."""

from __future__ import annotations

from typing import Protocol

from logger.scan import Gap


class LastItem(Protocol):
    """The newest item that the spool accepted of a stream."""

    @property
    def recorded_at_us(self) -> int:
        """Wall clock: microseconds since 1970, UTC."""


def gap_over_restart(
    last: LastItem | None, clean: bool, interval_s: float, now_us: int, next_number: int
) -> Gap | None:
    """The scans that were due since the newest one, by the wall clock; None if there were none.

    Only the wall clock goes on over a restart, so a clock that was set meanwhile makes the number wrong,
    never the sequence. An end that was not clean costs at least the scan that was in hand.
    """
    if last is None:
        return None
    away_us = max(0, now_us - last.recorded_at_us)
    interval_us = round(interval_s * 1e6)
    missed = away_us // interval_us if interval_us else 0
    if not clean:
        missed = max(1, missed)
    if missed == 0:
        return None
    reason = "the logger was not running" if clean else "the logger was killed, or crashed"
    first_at = min(last.recorded_at_us + interval_us, now_us)
    return Gap(next_number, next_number + missed - 1, reason, first_at, now_us)
