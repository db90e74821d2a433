"""The SQL of the strategies. Each statement returns one row that begins with a count."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache


def counted(change: str) -> str:
    """A statement that returns how many rows it changed."""
    return f"WITH changed AS ({change} RETURNING 1) SELECT count(*) FROM changed"


_NEWER = "new.attempt_scan > c.last_attempt_scan"
_NEWER_VALUE = "new.scan > c.scan"


def _newest(column: str, value: str, newer: str) -> str:
    return f"{column} = CASE WHEN {newer} THEN {value} ELSE c.{column} END"


_MERGED = ",\n    ".join(
    (
        "scan = greatest(new.scan, c.scan)",
        "last_attempt_scan = greatest(new.attempt_scan, c.last_attempt_scan)",
        _newest("current_value", "new.value", _NEWER_VALUE),
        _newest("updated_at", "new.updated_at", _NEWER_VALUE),
        _newest("transaction_id", "%(transaction_id)s", _NEWER_VALUE),
        _newest("current_text", "new.text", _NEWER_VALUE),
        _newest("set_value", "new.set_value", _NEWER),
        _newest("last_quality", "new.quality", _NEWER),
        _newest("last_attempt_at", "new.attempt_at", _NEWER),
    )
)

ARRAY_JOIN = counted(
    f"""UPDATE component_parameters AS c SET {_MERGED}
    FROM unnest(%(new_id)s, %(new_value)s, %(new_scan)s, %(new_updated_at)s, %(new_set_value)s,
            %(new_quality)s, %(new_attempt_scan)s, %(new_attempt_at)s, %(new_text)s)
        AS new (parameter_id, value, scan, updated_at, set_value, quality, attempt_scan, attempt_at, text)
    WHERE c.device_id = %(device_id)s AND c.parameter_id = new.parameter_id
      AND ({_NEWER_VALUE} OR {_NEWER})"""
)
"""Takes any batch; the others below take one whose last scan is good in every value."""

_SET = """scan = %(last_scan)s, last_attempt_scan = %(last_scan)s, current_value = new.value,
        updated_at = new.recorded_at, last_attempt_at = new.recorded_at, set_value = new.set_value,
        transaction_id = %(transaction_id)s, last_quality = 192, current_text = NULL"""
_OLDER = "c.last_attempt_scan < %(last_scan)s"

_FROM_ARRAYS = """unnest(%(now_id)s, %(now_at)s, %(now_value)s, %(now_set)s)
        AS new (parameter_id, recorded_at, value, set_value)"""

GOOD_ARRAY_JOIN = counted(
    f"""UPDATE component_parameters AS c SET {_SET} FROM {_FROM_ARRAYS}
    WHERE c.device_id = %(device_id)s AND c.parameter_id = new.parameter_id AND {_OLDER}"""
)

SKIP_UNCHANGED = counted(
    f"""UPDATE component_parameters AS c SET {_SET} FROM {_FROM_ARRAYS}
    WHERE c.device_id = %(device_id)s AND c.parameter_id = new.parameter_id AND {_OLDER}
      AND (c.current_value, c.set_value, c.last_quality)
          IS DISTINCT FROM (new.value, new.set_value, 192::smallint)"""
)

ONE_ROW = counted(
    f"""UPDATE component_parameters AS c
    SET scan = %(last_scan)s, last_attempt_scan = %(last_scan)s, current_value = %(one_value)s::float8,
        updated_at = %(one_at)s, last_attempt_at = %(one_at)s, set_value = %(one_set)s::float8,
        transaction_id = %(transaction_id)s, last_quality = 192, current_text = NULL
    WHERE c.device_id = %(device_id)s AND c.parameter_id = %(one_id)s AND {_OLDER}"""
)

TEMPORARY = "plcbench_now"
CREATE_TEMPORARY = f"""CREATE TEMPORARY TABLE IF NOT EXISTS {TEMPORARY} (
    parameter_id integer PRIMARY KEY, recorded_at timestamptz, value float8, set_value float8
) ON COMMIT DELETE ROWS"""
FILL_TEMPORARY = counted(
    f"""INSERT INTO {TEMPORARY} (parameter_id, recorded_at, value, set_value)
    SELECT * FROM unnest(%(now_id)s, %(now_at)s, %(now_value)s, %(now_set)s)"""
)
FROM_TEMPORARY = counted(
    f"""UPDATE component_parameters AS c SET {_SET} FROM {TEMPORARY} AS new
    WHERE c.device_id = %(device_id)s AND c.parameter_id = new.parameter_id AND {_OLDER}"""
)


@lru_cache(maxsize=64)
def in_case(parameter_ids: tuple[int, ...], at_once: bool) -> str:
    """One UPDATE that finds each row's value in a CASE over the parameters' ids.

    `at_once`: all were recorded at one moment; otherwise their times are a CASE too.
    """

    def case(name: str, kind: str) -> str:
        whens = " ".join(
            f"WHEN {number} THEN %({name}_{place})s::{kind}" for place, number in enumerate(parameter_ids)
        )
        return f"CASE parameter_id {whens} END"

    at = "%(at_0)s::timestamptz" if at_once else case("at", "timestamptz")
    return counted(
        f"""UPDATE component_parameters AS c
        SET scan = %(last_scan)s, last_attempt_scan = %(last_scan)s,
            current_value = {case("value", "float8")}, updated_at = {at}, last_attempt_at = {at},
            set_value = {case("set", "float8")},
            transaction_id = %(transaction_id)s, last_quality = 192, current_text = NULL
        WHERE c.device_id = %(device_id)s AND {_OLDER}
          AND c.parameter_id IN ({_listed(parameter_ids)})"""
    )


def _listed(parameter_ids: Sequence[int]) -> str:
    return ", ".join(map(str, parameter_ids))


# --- a statement for each table, as a program writes that grew table by table ---

ADVANCE = counted(
    """UPDATE logging_streams SET last_scan = %(last_scan)s, head_hash = %(hash)s
    WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s AND last_scan = %(expected_scan)s
      AND head_hash = %(previous_hash)s AND writer = %(writer)s"""
)
LEDGER = counted(
    """INSERT INTO logging_transactions (transaction_id, device_id, stream_id, first_scan, last_scan,
        history_rows, process_rows, process_id, repository, first_recorded_at, last_recorded_at,
        previous_hash, hash)
    VALUES (%(transaction_id)s, %(device_id)s, %(stream_id)s, %(first_scan)s, %(last_scan)s, %(rows)s,
        %(process_rows)s, %(process_id)s::uuid, %(repository)s, %(first_recorded_at)s, %(last_recorded_at)s,
        %(previous_hash)s, %(hash)s)"""
)


def rows_into(table: str, texts: bool) -> str:
    """INSERT of a batch's rows into history, or into the process's table."""
    text, sent = (", value_text", ", %(value_text)s") if texts else ("", "")
    column, value = (", process_id", ", %(process_id)s::uuid") if table == "process_data_points" else ("", "")
    return counted(
        f"""INSERT INTO {table} (device_id, stream_id, scan, parameter_id, recorded_at, value, set_value,
            quality{text}, transaction_id{column})
        SELECT %(device_id)s, %(stream_id)s, %(first_scan)s + (place - 1) / %(parameters)s, parameter_id,
            recorded_at, value, set_value, coalesce(quality, 192::smallint){text}, %(transaction_id)s{value}
        FROM unnest(%(parameter_id)s, %(recorded_at)s, %(value)s, %(set_value)s, %(quality)s{sent})
            WITH ORDINALITY AS row (parameter_id, recorded_at, value, set_value, quality{text}, place)"""
    )
