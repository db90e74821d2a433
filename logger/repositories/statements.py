"""The SQL that stores a batch: one statement, all or none, gated by its first step.

PostgreSQL runs the parts of such a statement in no given order, so every part hangs on the one that
must come before it: nothing is inserted unless the stream's row moved, and current values change
last, when both inserts are counted, so that their rows are locked for the shortest time.
"""

from __future__ import annotations

from enum import Enum
from functools import cache


class Newest(Enum):
    """Where a batch's current values are found."""

    ONE_SCAN = 1
    """It has one scan, good in every value: the rows that went into history."""
    LAST_SCAN = 2
    """Its last scan is good in every value: the ends of its arrays."""
    ARRAYS = 3
    """Anywhere: arrays of their own."""


# Only the writer that owns the stream moves it, and only from where it believes it to stand.
_EXPECTED = """last_scan = %(expected_scan)s AND head_hash = %(previous_hash)s AND writer = %(writer)s"""

_ADVANCE = f"""
WITH advanced AS (
    UPDATE logging_streams SET last_scan = %(last_scan)s, head_hash = %(hash)s
    WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s
      AND {_EXPECTED}
    RETURNING device_id, stream_id
)"""

# Where several streams write one device's current values, its row is locked before anything else:
# the order in which an UPDATE locks its rows is the plan's, and sorting does not change that.
_ADVANCE_SHARED = f"""
WITH device AS (
    SELECT device_id FROM devices WHERE device_id = %(device_id)s FOR NO KEY UPDATE
), advanced AS (
    UPDATE logging_streams AS s SET last_scan = %(last_scan)s, head_hash = %(hash)s
    FROM device
    WHERE s.device_id = device.device_id AND stream_id = %(stream_id)s
      AND {_EXPECTED}
    RETURNING s.device_id, stream_id
)"""

_LEDGER = """, ledger AS (
    INSERT INTO logging_transactions (transaction_id, device_id, stream_id, first_scan, last_scan,
        history_rows, process_rows, process_id, repository, first_recorded_at, last_recorded_at,
        previous_hash, hash)
    SELECT %(transaction_id)s, device_id, stream_id, %(first_scan)s, %(last_scan)s,
        %(rows)s, %(process_rows)s, %(process_id)s::uuid, %(repository)s,
        %(first_recorded_at)s::timestamptz, %(last_recorded_at)s::timestamptz, %(previous_hash)s, %(hash)s
    FROM advanced RETURNING 1
)"""


def _inserts(texts: bool) -> str:
    """The rows of history, and of the process if one runs; with a column more where there are texts."""
    text, sent = (", value_text", ", %(value_text)s") if texts else ("", "")
    columns = f"value, set_value, quality{text}, transaction_id"
    # Scans of a batch are contiguous and each has the same parameters, so a row's scan is its place.
    rows = f"""(
        SELECT %(first_scan)s + (place - 1) / %(parameters)s AS scan, parameter_id, recorded_at,
            value, set_value, coalesce(quality, 192::smallint) AS quality{text}
        FROM unnest(%(parameter_id)s, %(recorded_at)s, %(value)s, %(set_value)s, %(quality)s{sent})
            WITH ORDINALITY AS row (parameter_id, recorded_at, value, set_value, quality{text}, place)
    ) AS row"""
    stored = f"device_id, stream_id, scan, parameter_id, recorded_at, value, set_value, quality{text}"
    # The process's rows are those that went into history: taking the arrays apart once more costs more.
    return f""", history AS (
    INSERT INTO parameter_value_history (device_id, stream_id, scan, parameter_id, recorded_at,
        {columns})
    SELECT {stored}, %(transaction_id)s
    FROM advanced, {rows} RETURNING {stored}
), points AS (
    INSERT INTO process_data_points (device_id, process_id, stream_id, scan, parameter_id,
        recorded_at, {columns})
    SELECT device_id, %(process_id)s::uuid, stream_id, scan, parameter_id, recorded_at,
        value, set_value, quality{text}, %(transaction_id)s
    FROM history WHERE %(process_id)s::uuid IS NOT NULL RETURNING 1
)"""


_ROWS_OF_NOW = "parameter_id, recorded_at, value, set_value"


def _good_scan(newest: Newest, texts: bool) -> str:
    """What a batch says of now if its last scan is good in every value: that scan."""
    text, sent = (", value_text", ", (%(value_text)s)[%(from)s:]") if texts else ("", "")
    rows = "history"  # once more from the arrays costs more, but many scans would have to be searched
    if newest is Newest.LAST_SCAN:
        rows = f"""unnest((%(parameter_id)s)[%(from)s:], (%(recorded_at)s)[%(from)s:],
                (%(value)s)[%(from)s:], (%(set_value)s)[%(from)s:]{sent})
            AS row ({_ROWS_OF_NOW}{text})"""
    return f"""(
        SELECT parameter_id, value, set_value, 192::smallint AS quality{text},
            %(last_scan)s AS scan, recorded_at AS updated_at,
            %(last_scan)s AS attempt_scan, recorded_at AS attempt_at
        FROM {rows}
    ) AS new"""


def _newest_usable(texts: bool) -> str:
    """What a batch says of now otherwise."""
    text, sent = (", value_text", ", %(new_text)s") if texts else ("", "")
    return f"""unnest((%(parameter_id)s)[%(from)s:], %(new_value)s, %(new_scan)s,
            %(new_updated_at)s, %(new_set_value)s, %(new_quality)s, %(new_attempt_scan)s,
            %(new_attempt_at)s{sent})
        AS new (parameter_id, value, scan, updated_at, set_value, quality, attempt_scan,
            attempt_at{text})"""


_NEWER_VALUE = "new.scan > c.scan"
_NEWER = "new.attempt_scan > c.last_attempt_scan"


def _merged(text: str) -> tuple[str, str]:
    """Assignments and condition where value and attempt may each be newer or older than what stands."""

    def newest(column: str, value: str, newer: str) -> str:
        return f"{column} = CASE WHEN {newer} THEN {value} ELSE c.{column} END"

    assignments = (
        "scan = greatest(new.scan, c.scan)",
        "last_attempt_scan = greatest(new.attempt_scan, c.last_attempt_scan)",
        newest("current_value", "new.value", _NEWER_VALUE),
        newest("updated_at", "new.updated_at", _NEWER_VALUE),
        newest("transaction_id", "%(transaction_id)s", _NEWER_VALUE),
        newest("current_text", text, _NEWER_VALUE),
        newest("set_value", "new.set_value", _NEWER),
        newest("last_quality", "new.quality", _NEWER),
        newest("last_attempt_at", "new.attempt_at", _NEWER),
    )
    return ",\n        ".join(assignments), f"(c.scan < new.scan OR {_NEWER})"


def _plain(text: str) -> tuple[str, str]:
    """The same where one stream alone writes these parameters and all of its last scan is good.

    Its numbers only grow, so an attempt that is newer has a value that is newer.
    """
    assignments = (
        "scan = new.scan, last_attempt_scan = new.attempt_scan, current_value = new.value",
        "updated_at = new.updated_at, last_attempt_at = new.attempt_at, set_value = new.set_value",
        f"transaction_id = %(transaction_id)s, last_quality = new.quality, current_text = {text}",
    )
    return ",\n        ".join(assignments), _NEWER


def _current(newest: Newest, shared_device: bool, texts: bool) -> str:
    text = "new.value_text" if texts else "NULL"
    source = _newest_usable(texts) if newest is Newest.ARRAYS else _good_scan(newest, texts)
    alone = newest is not Newest.ARRAYS and not shared_device
    assignments, newer = _plain(text) if alone else _merged(text)
    return f""", current AS (
    UPDATE component_parameters AS c
    SET {assignments}
    FROM {source}
    WHERE c.device_id = %(device_id)s AND c.parameter_id = new.parameter_id
      AND {newer}
      AND (SELECT history = %(rows)s AND points = %(process_rows)s FROM counted)
)"""


# Fewer rows than were sent (a trigger, a rule, a partition that swallows them) divide by zero, so that
# the transaction fails instead of committing what is torn.
_COUNTS = """, counted AS MATERIALIZED (
    SELECT (SELECT count(*) FROM advanced) AS advanced, (SELECT count(*) FROM ledger) AS ledger,
           (SELECT count(*) FROM history) AS history, (SELECT count(*) FROM points) AS points
)"""
_PROOF = """
SELECT advanced, ledger, history, points,
    1 / (ledger = advanced AND history = advanced * %(rows)s AND points = advanced * %(process_rows)s)::int
FROM counted"""


@cache
def baseline(texts: bool = False) -> str:
    """Stores a batch; `texts`: some of its values have one, in `value_text`."""
    return _ADVANCE + _LEDGER + _inserts(texts) + _COUNTS + _PROOF


@cache
def synchronizing(newest: Newest, shared_device: bool = False, texts: bool = False) -> str:
    """The baseline's statement with the update of current values."""
    advance = _ADVANCE_SHARED if shared_device else _ADVANCE
    current = _current(newest, shared_device, texts)
    return advance + _LEDGER + _inserts(texts) + _COUNTS + current + _PROOF


GAP = (
    _ADVANCE
    + _LEDGER
    + """, gap AS (
    INSERT INTO scan_gaps (device_id, stream_id, first_scan, last_scan, reason, first_at, last_at,
        transaction_id)
    SELECT device_id, stream_id, %(first_scan)s, %(last_scan)s, %(reason)s, %(first_at)s::timestamptz,
        %(last_at)s::timestamptz, %(transaction_id)s
    FROM advanced RETURNING 1
), counted AS MATERIALIZED (
    SELECT (SELECT count(*) FROM advanced) AS advanced, (SELECT count(*) FROM ledger) AS ledger,
           (SELECT count(*) FROM gap) AS gap
)
SELECT advanced, 1 / (ledger = advanced AND gap = advanced)::int FROM counted"""
)

PEEK = """
SELECT last_scan, writer FROM logging_streams
WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s"""

# Claims the stream. Waits for a transaction that still holds its row, of a connection long cut, too:
# what this returns has seen it end.
OPEN_STREAM = """
INSERT INTO logging_streams AS s (device_id, stream_id, head_hash, writer, poll_group, interval_s)
VALUES (%(device_id)s, %(stream_id)s, %(genesis)s, %(writer)s, %(poll_group)s,
    %(interval_s)s::double precision)
ON CONFLICT (device_id, stream_id) DO UPDATE
SET writer = excluded.writer, poll_group = excluded.poll_group, interval_s = excluded.interval_s
RETURNING last_scan, head_hash"""

# Not in one statement with the claim: it would not see the process that the transaction waited for opened.
READ_OPEN_PROCESS = """
SELECT process_id, plc_number FROM process_executions
WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s AND ended_at IS NULL"""

OPEN_PROCESS = """
WITH opened AS (
    INSERT INTO process_executions
        (device_id, process_id, stream_id, plc_number, recipe, first_scan, started_at)
    VALUES (%(device_id)s, %(process_id)s, %(stream_id)s, %(number)s, %(recipe)s, %(first_scan)s,
        %(at)s)
    RETURNING 1
)
SELECT count(*) FROM opened"""

CLOSE_PROCESS = """
WITH closed AS (
    UPDATE process_executions SET ended_at = %(at)s, outcome = 'ended'
    WHERE device_id = %(device_id)s AND process_id = %(process_id)s AND ended_at IS NULL
    RETURNING 1
)
SELECT count(*) FROM closed"""
