"""The SQL that stores a batch: one statement, all or none, gated by its first step.

PostgreSQL runs the parts of such a statement in no given order, so every part hangs on the one that
must come before it: nothing is inserted unless the stream's row moved, and current values change
last, when both inserts are counted, so that their rows are locked for the shortest time.
"""

from __future__ import annotations

from functools import cache

_ADVANCE = """
WITH advanced AS (
    UPDATE logging_streams SET last_scan = %(last_scan)s, head_hash = %(hash)s
    WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s
      AND last_scan = %(expected_scan)s AND head_hash = %(previous_hash)s
    RETURNING device_id, stream_id
)"""

# Where several streams write one device's current values, its row is locked before anything else:
# the order in which an UPDATE locks its rows is the plan's, and sorting does not change that.
_ADVANCE_SHARED = """
WITH device AS (
    SELECT device_id FROM devices WHERE device_id = %(device_id)s FOR NO KEY UPDATE
), advanced AS (
    UPDATE logging_streams AS s SET last_scan = %(last_scan)s, head_hash = %(hash)s
    FROM device
    WHERE s.device_id = device.device_id AND stream_id = %(stream_id)s
      AND last_scan = %(expected_scan)s AND head_hash = %(previous_hash)s
    RETURNING s.device_id, stream_id
)"""

_LEDGER = """, ledger AS (
    INSERT INTO logging_transactions (transaction_id, device_id, stream_id, first_scan, last_scan,
        history_rows, process_rows, process_id, repository, previous_hash, hash)
    SELECT %(transaction_id)s, device_id, stream_id, %(first_scan)s, %(last_scan)s,
        %(rows)s, %(process_rows)s, %(process_id)s::uuid, %(repository)s, %(previous_hash)s, %(hash)s
    FROM advanced RETURNING 1
)"""

# Scans of a batch are contiguous and each has the same parameters, so a row's scan is its place.
_ROWS = """(
        SELECT %(first_scan)s + (place - 1) / %(parameters)s AS scan, parameter_id, recorded_at,
            value, set_value, coalesce(quality, 192::smallint) AS quality
        FROM unnest(%(parameter_id)s, %(recorded_at)s, %(value)s, %(set_value)s, %(quality)s)
            WITH ORDINALITY AS row (parameter_id, recorded_at, value, set_value, quality, place)
    ) AS row"""

_HISTORY = f""", history AS (
    INSERT INTO parameter_value_history (device_id, stream_id, scan, parameter_id, recorded_at,
        value, set_value, quality, transaction_id)
    SELECT device_id, stream_id, scan, parameter_id, recorded_at, value, set_value, quality,
        %(transaction_id)s
    FROM advanced, {_ROWS} RETURNING 1
)"""

_POINTS = f""", points AS (
    INSERT INTO process_data_points (device_id, process_id, stream_id, scan, parameter_id,
        recorded_at, value, set_value, quality, transaction_id)
    SELECT device_id, %(process_id)s::uuid, stream_id, scan, parameter_id, recorded_at, value, set_value,
        quality, %(transaction_id)s
    FROM advanced, {_ROWS} WHERE %(process_id)s::uuid IS NOT NULL RETURNING 1
)"""

_NEWER = "new.attempt_scan > c.last_attempt_scan"

# What a batch says of now: where its last scan is good in every value, that scan; otherwise arrays
# of their own. Either way with the columns that the update takes.
_LAST_SCAN = """(
        SELECT parameter_id, value, set_value, 192::smallint AS quality,
            %(last_scan)s AS scan, recorded_at AS updated_at,
            %(last_scan)s AS attempt_scan, recorded_at AS attempt_at
        FROM unnest((%(parameter_id)s)[%(from)s:], (%(recorded_at)s)[%(from)s:],
                (%(value)s)[%(from)s:], (%(set_value)s)[%(from)s:])
            AS row (parameter_id, recorded_at, value, set_value)
    ) AS new"""

_NEWEST_GOOD = """unnest((%(parameter_id)s)[%(from)s:], %(new_value)s, %(new_scan)s,
            %(new_updated_at)s, %(new_set_value)s, %(new_quality)s, %(new_attempt_scan)s,
            %(new_attempt_at)s)
        AS new (parameter_id, value, scan, updated_at, set_value, quality, attempt_scan, attempt_at)
    """


def _current(source: str) -> str:
    return f""", current AS (
    UPDATE component_parameters AS c
    SET current_value = CASE WHEN new.scan > c.scan THEN new.value ELSE c.current_value END,
        scan = greatest(new.scan, c.scan),
        updated_at = CASE WHEN new.scan > c.scan THEN new.updated_at ELSE c.updated_at END,
        transaction_id = CASE WHEN new.scan > c.scan THEN %(transaction_id)s
                              ELSE c.transaction_id END,
        set_value = CASE WHEN {_NEWER} THEN new.set_value ELSE c.set_value END,
        last_quality = CASE WHEN {_NEWER} THEN new.quality ELSE c.last_quality END,
        last_attempt_scan = greatest(new.attempt_scan, c.last_attempt_scan),
        last_attempt_at = CASE WHEN {_NEWER} THEN new.attempt_at ELSE c.last_attempt_at END
    FROM {source}
    WHERE c.device_id = %(device_id)s AND c.parameter_id = new.parameter_id
      AND (c.scan < new.scan OR {_NEWER})
      AND (SELECT count(*) FROM history) = %(rows)s
      AND (SELECT count(*) FROM points) = %(process_rows)s
    RETURNING 1
)"""


# Fewer rows than were sent (a trigger, a rule, a partition that swallows them) divide by zero, so that
# the transaction fails instead of committing what is torn.
_COUNTS = """, counted AS MATERIALIZED (
    SELECT (SELECT count(*) FROM advanced) AS advanced, (SELECT count(*) FROM ledger) AS ledger,
           (SELECT count(*) FROM history) AS history, (SELECT count(*) FROM points) AS points
)
SELECT advanced, ledger, history, points,
    1 / (ledger = advanced AND history = advanced * %(rows)s AND points = advanced * %(process_rows)s)::int
FROM counted"""

_STORE = _LEDGER + _HISTORY + _POINTS


BASELINE = _ADVANCE + _STORE + _COUNTS


@cache
def synchronizing(last_scan_is_good: bool, shared_device: bool) -> str:
    """The baseline's statement with the update of current values."""
    advance = _ADVANCE_SHARED if shared_device else _ADVANCE
    current = _current(_LAST_SCAN if last_scan_is_good else _NEWEST_GOOD)
    return advance + _STORE + current + _COUNTS


GAP = (
    _ADVANCE
    + _LEDGER
    + """, gap AS (
    INSERT INTO scan_gaps (device_id, stream_id, first_scan, last_scan, reason, transaction_id)
    SELECT device_id, stream_id, %(first_scan)s, %(last_scan)s, %(reason)s, %(transaction_id)s
    FROM advanced RETURNING 1
), counted AS MATERIALIZED (
    SELECT (SELECT count(*) FROM advanced) AS advanced, (SELECT count(*) FROM ledger) AS ledger,
           (SELECT count(*) FROM gap) AS gap
)
SELECT advanced, 1 / (ledger = advanced AND gap = advanced)::int FROM counted"""
)

OPEN_STREAM = """
INSERT INTO logging_streams (device_id, stream_id, head_hash)
VALUES (%(device_id)s, %(stream_id)s, %(genesis)s) ON CONFLICT DO NOTHING"""

READ_STREAM = """
SELECT last_scan, head_hash FROM logging_streams
WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s"""

OPEN_PROCESS = """
INSERT INTO process_executions
    (device_id, process_id, stream_id, plc_number, recipe, first_scan, started_at)
VALUES (%(device_id)s, %(process_id)s, %(stream_id)s, %(number)s, %(recipe)s, %(first_scan)s,
    %(at)s)
ON CONFLICT DO NOTHING"""

CLOSE_PROCESS = """
UPDATE process_executions SET ended_at = %(at)s, outcome = 'ended'
WHERE device_id = %(device_id)s AND process_id = %(process_id)s AND ended_at IS NULL"""

READ_OPEN_PROCESS = """
SELECT process_id, plc_number FROM process_executions
WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s AND ended_at IS NULL"""
