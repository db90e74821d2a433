"""Moves current values back from what was voided: the one place that may.

Each falls back to the newest usable value that counts, its last attempt to the newest one, and only
where what was voided still stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.types.numeric import Int8

from logger.database.operators import Turn

# A last attempt has no transaction beside it: its scan and time tell, and falling back to the newest
# attempt that counts leaves it as it is should it be another stream's.
_HIT_VALUE = "transaction_id = %(voided)s"
_HIT_ATTEMPT = """last_attempt_scan BETWEEN %(first_scan)s AND %(last_scan)s
    AND last_attempt_at BETWEEN %(first_at)s AND %(last_at)s"""
_HIT = """
SELECT parameter_id FROM component_parameters WHERE device_id = %(device_id)s AND {} ORDER BY 1"""

_NEWEST = """
SELECT DISTINCT ON (parameter_id) parameter_id, scan, recorded_at, value, value_text, transaction_id,
    set_value, quality
FROM parameter_value_history h
WHERE device_id = %(device_id)s AND parameter_id = ANY(%(parameters)s)
  AND recorded_at BETWEEN %(since)s AND %(until)s AND scan <= %(last_scan)s AND {}
  AND NOT EXISTS (SELECT FROM compensations v WHERE v.transaction_id = h.transaction_id)
ORDER BY parameter_id, scan DESC, recorded_at DESC"""
_USABLE = "quality >= 64 AND num_nonnulls(value, value_text) > 0"
_ANY = "true"

# Scans between what was found and what was voided that were not seen: a clock was set meanwhile, and
# they stand at another time. (Those inserted again are in a gap too.)
_UNSEEN = """
SELECT %(last_scan)s - %(found)s
    + (SELECT count(DISTINCT scan) FROM reinsertions
       WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s
         AND scan > %(found)s AND scan <= %(last_scan)s)
    - (SELECT count(DISTINCT scan) FROM parameter_value_history
       WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s
         AND recorded_at BETWEEN %(since)s AND %(until)s AND scan > %(found)s AND scan <= %(last_scan)s)
    - (SELECT coalesce(sum(least(last_scan, %(last_scan)s) - greatest(first_scan, %(found)s + 1) + 1), 0)
       FROM scan_gaps WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s
         AND first_scan <= %(last_scan)s AND last_scan > %(found)s)"""

_FALL_BACK_VALUE = """
UPDATE component_parameters AS c
SET scan = n.scan, updated_at = n.at, current_value = n.value, current_text = n.text,
    transaction_id = n.transaction_id
FROM unnest(%(parameters)s::int[], %(scans)s::bigint[], %(times)s::timestamptz[], %(values)s::float8[],
    %(texts)s::text[], %(transactions)s::uuid[]) AS n (parameter_id, scan, at, value, text, transaction_id)
WHERE c.device_id = %(device_id)s AND c.parameter_id = n.parameter_id AND c.transaction_id = %(voided)s
RETURNING n.scan = 0"""

_FALL_BACK_ATTEMPT = f"""
UPDATE component_parameters AS c
SET last_attempt_scan = n.scan, last_attempt_at = n.at, last_quality = n.quality, set_value = n.set_value
FROM unnest(%(parameters)s::int[], %(scans)s::bigint[], %(times)s::timestamptz[],
    %(qualities)s::smallint[], %(set_values)s::float8[]) AS n (parameter_id, scan, at, quality, set_value)
WHERE c.device_id = %(device_id)s AND c.parameter_id = n.parameter_id AND {_HIT_ATTEMPT}"""

_WINDOWS = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=30))
"""How far around the voided rows older ones are looked for, before everything is searched."""


class Target(NamedTuple):
    """A transaction to void; its scans stand where they belong, also if an operator inserted them."""

    transaction_id: UUID
    device_id: str
    stream_id: int
    first_scan: int
    last_scan: int
    rows: int
    first_at: datetime | None
    """When the first of its rows was recorded; None: it is of version 1."""
    last_at: datetime | None
    logged_at: datetime
    gap_reason: str | None
    repository: str


class _Newest(NamedTuple):
    """A row of history to which a current value may fall back."""

    parameter_id: int
    scan: int = 0
    at: datetime | None = None
    value: float | None = None
    text: str | None = None
    transaction_id: UUID | None = None
    set_value: float | None = None
    quality: int = 32


class FallBack:
    """Moves current values from a voided transaction back to what counts.

    The search may take its time: nobody waits for it. Then the loggers of the device are stopped for
    the update alone; whatever they stored meanwhile is searched again, and is newer or not there.
    """

    def __init__(self, mine: Turn, target: Target) -> None:
        self._turn = mine
        self._execute = mine.connection.execute
        self._first_at = target.first_at or datetime.min.replace(tzinfo=UTC)
        self._last_at = target.last_at or target.logged_at
        self._given: dict[str, Any] = {
            "device_id": target.device_id,
            "stream_id": target.stream_id,
            "voided": target.transaction_id,
            "first_scan": Int8(target.first_scan),
            "last_scan": Int8(target.last_scan),
            "first_at": self._first_at,
            "last_at": self._last_at,
        }

    def run(self) -> tuple[int, int]:
        """Returns how many current values fell back, and how many have nothing to fall back to."""
        before = self._turn.stored()
        newest = self._search()
        if not any(newest):
            return 0, 0  # newer ones stand there already, and no logger was disturbed
        self._turn.stop_loggers()
        if self._turn.stored() != before:
            newest = self._search()
        values, attempts = newest
        empty = [is_empty for (is_empty,) in self._update(_FALL_BACK_VALUE, values)]
        self._update(_FALL_BACK_ATTEMPT, attempts)
        return empty.count(False), empty.count(True)

    def _search(self) -> tuple[Sequence[_Newest], Sequence[_Newest]]:
        """For each current value, and each last attempt, of the voided transaction: what comes instead."""
        return self._instead(_HIT_VALUE, _USABLE), self._instead(_HIT_ATTEMPT, _ANY)

    def _instead(self, hit: str, condition: str) -> Sequence[_Newest]:
        parameters = [row[0] for row in self._execute(_HIT.format(hit).encode(), self._given)]
        found: dict[int, _Newest] = {}
        for since, until in self._windows():
            missing = [each for each in parameters if each not in found]
            if not missing:
                break
            window = {**self._given, "parameters": missing, "since": since, "until": until}
            rows = [_Newest(*row) for row in self._execute(_NEWEST.format(condition).encode(), window)]
            if rows and not self._is_unseen(window, min(row.scan for row in rows)):
                found.update((row.parameter_id, row) for row in rows)
        return [found.get(each, _Newest(each)) for each in parameters]

    def _windows(self) -> list[tuple[datetime | str, datetime | str]]:
        if self._first_at.year == 1:
            return [("-infinity", "infinity")]
        near = [(self._first_at - margin, self._last_at + margin) for margin in _WINDOWS]
        return [*near, ("-infinity", "infinity")]

    def _is_unseen(self, window: dict[str, Any], oldest: int) -> bool:
        """Whether scans since the oldest one that was found are not among those of the window."""
        if window["since"] == "-infinity":
            return False
        row = self._execute(_UNSEEN, {**window, "found": Int8(oldest)}).fetchone()
        return row is None or row[0] > 0

    def _update(self, statement: str, newest: Sequence[_Newest]) -> list[tuple[Any, ...]]:
        if not newest:
            return []
        columns: dict[str, Any] = {
            "parameters": [row.parameter_id for row in newest],
            "scans": [row.scan for row in newest],
            "times": [row.at for row in newest],
            "values": [row.value for row in newest],
            "texts": [row.text for row in newest],
            "transactions": [row.transaction_id for row in newest],
            "qualities": [row.quality for row in newest],
            "set_values": [row.set_value for row in newest],
        }
        cursor = self._execute(statement.encode(), {**self._given, **columns})
        return cursor.fetchall() if cursor.description else []
