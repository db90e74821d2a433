"""The views: how each parameter stands now, with age and staleness, and the trend of one parameter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from fix_postgres import WRITER, Schema
from fix_scans import HEAT, START_US, Oven

from logger.database import register_device
from logger.database.maintenance import maintain
from logger.database.partitions import create_days
from logger.repositories import SynchronizingRepository
from logger.scan import Quality, StreamKey

Connection = psycopg.Connection[Any]
HEAT_ID = HEAT + 10


@pytest.fixture
def connection(schema: Schema, oven: Oven) -> Iterator[Connection]:
    """One of a schema in which two scans of the oven are logged; the second could not read its heat."""
    with schema.connect() as opened:
        register_device(opened, oven.config)
        stream = SynchronizingRepository(opened).open(StreamKey("oven-1"), "bake", WRITER, interval_s=10.0)
        stream.store(oven.batch(oven.scan(1)))
        stream.store(oven.batch(oven.scan(2, bad={HEAT: Quality.BAD_COMMUNICATION})))
        yield opened


def current(schema: Schema, columns: str) -> tuple[Any, ...]:
    (row,) = schema.rows(f"SELECT {columns} FROM current_values WHERE parameter_id = {HEAT_ID}")
    return row


def attempt(schema: Schema, seconds_ago: float, quality: int = 192) -> None:
    """Let the newest attempt be of another time."""
    schema.rows(
        "UPDATE component_parameters SET last_quality = %s,"
        " last_attempt_at = clock_timestamp() - make_interval(secs => %s)",
        quality,
        seconds_ago,
    )


@pytest.mark.usefixtures("connection")
def test_current_value_is_the_last_usable_with_how_it_stands_now(schema: Schema) -> None:
    row = current(
        schema, "device_id, component, name, unit, value, text, set_value, quality, low_limit, high_limit"
    )
    assert row == ("oven-1", "oven", "heat", "degC", 102.0, None, 203.0, 24, 0.0, 300.0)
    first, last, age = current(schema, "updated_at, last_attempt_at, age")
    assert last - first == timedelta(seconds=1)
    assert first.timestamp() * 1e6 == START_US + 1_000_000 + HEAT
    assert abs(age - (datetime.now(first.tzinfo) - first)) < timedelta(seconds=30)
    assert schema.value("SELECT count(*) FROM current_values") == 5


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize(
    ("seconds_ago", "quality", "interval_s", "stale"),
    [
        (0, 192, 10, False),
        (29, 192, 10, False),
        (31, 192, 10, True),
        (0, 84, 10, False),
        (0, 64, 10, False),
        (0, 63, 10, True),
        (0, 24, 10, True),
        (4, 192, 0.1, False),  # at least 5 s: a scan may be late
        (6, 192, 0.1, True),
        (4, 192, None, False),
        (6, 192, None, True),
        (-20, 192, 10, False),
    ],
)
def test_value_is_stale_behind_three_intervals_or_with_bad_quality(
    schema: Schema, seconds_ago: float, quality: int, interval_s: float | None, stale: bool
) -> None:
    schema.rows("UPDATE logging_streams SET interval_s = %s", interval_s)
    attempt(schema, seconds_ago, quality)
    assert current(schema, "stale") == (stale,)


def test_parameter_that_was_never_read_is_stale(schema: Schema, oven: Oven) -> None:
    with schema.connect() as connection:
        register_device(connection, oven.config)
    assert current(schema, "value, text, updated_at, age, last_attempt_at, stale, quality") == (
        *[None] * 5,
        True,
        32,
    )


def test_each_parameter_has_the_interval_of_its_own_stream(
    schema: Schema, connection: Connection, oven: Oven
) -> None:
    """Poll groups of one device are streams of it."""
    slow = SynchronizingRepository(connection).open(StreamKey("oven-1", 2), "", interval_s=100.0)
    slow.store(oven.batch(oven.scan(1)))
    schema.rows(
        "UPDATE component_parameters c SET transaction_id = l.transaction_id FROM logging_transactions l"
        " WHERE l.stream_id = CASE c.parameter_id WHEN %s THEN 2 ELSE 1 END",
        HEAT_ID,
    )
    attempt(schema, 60)
    stale = dict(schema.rows("SELECT parameter_id, stale FROM current_values"))
    assert stale == {10: True, 11: True, HEAT_ID: False, 13: True, 14: True}


@pytest.mark.usefixtures("connection")
def test_trend_has_each_value_with_what_it_means(schema: Schema) -> None:
    rows = schema.rows(
        "SELECT component, name, unit, value, value_text, set_value, quality, low_limit, high_limit"
        " FROM parameter_trend WHERE device_id = 'oven-1' AND parameter_id = %s ORDER BY recorded_at",
        HEAT_ID,
    )
    what = ("oven", "heat", "degC")
    assert rows == [
        (*what, 102.0, None, 103.0, 192, 0.0, 300.0),
        (*what, None, None, 203.0, 24, 0.0, 300.0),
    ]


@pytest.mark.usefixtures("connection")
def test_trend_leaves_out_what_was_voided(schema: Schema) -> None:
    (first,) = schema.rows("SELECT transaction_id FROM logging_transactions WHERE first_scan = 1")
    schema.rows(
        "INSERT INTO compensations (transaction_id, device_id, action, ledger_id, reason, voided_by)"
        " VALUES (%s, 'oven-1', 1, gen_random_uuid(), 'wrong sensor', 'me')",
        *first,
    )
    assert schema.value("SELECT count(*) FROM parameter_trend") == 5
    assert schema.value("SELECT min(quality) FROM parameter_trend") == 24
    assert schema.value("SELECT count(*) FROM parameter_value_history") == 10  # nothing is erased


def test_trend_of_a_closed_day_reads_its_index_and_no_other_day(
    schema: Schema, connection: Connection
) -> None:
    create_days(connection, [date(2023, 11, 15)])
    maintain(connection)
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(
        "EXPLAIN SELECT recorded_at, value FROM parameter_trend WHERE device_id = 'oven-1'"
        f" AND parameter_id = {HEAT_ID}"
        " AND recorded_at >= '2023-11-14 10:00Z' AND recorded_at < '2023-11-14 23:00Z'".encode()
    ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "parameter_value_history_2023_11_14_by_parameter" in text
    assert "2023_11_15" not in text
