"""A partition a day: made ahead and on demand, at any time that a clock may show, while loggers go on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from fix_postgres import SCANS_AT_US, Schema
from psycopg.conninfo import make_conninfo

from logger.database import connect, create_partitions, create_partitions_for
from logger.database.partitions import DAYS_AHEAD, PARENTS, create_ahead, create_days, partitions
from logger.errors import DatabaseError

Connection = psycopg.Connection[Any]
HISTORY, POINTS = PARENTS
DAY_US = 86_400_000_000


@pytest.fixture
def connection(schema: Schema) -> Iterator[Connection]:
    with schema.connect() as opened:
        yield opened


def microseconds(time: str) -> int:
    """Since 1970, of an ISO time without zone, UTC."""
    return (datetime.fromisoformat(f"{time}+00:00") - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


def log_row(connection: Connection, time: str, table: str = HISTORY) -> str:
    """Log one value at a time; returns the partition that took it."""
    process = ", process_id" if table == POINTS else ""
    row = connection.execute(
        f"INSERT INTO {table} (recorded_at, scan, transaction_id, stream_id, parameter_id, quality,"
        f" device_id{process}) VALUES (%s, 1, %s, 1, 1, 192, 'd'{', gen_random_uuid()' if process else ''})"
        " RETURNING tableoid::regclass::text".encode(),
        (time, uuid4()),
    ).fetchone()
    assert row is not None
    return str(row[0])


def names(connection: Connection, parent: str = HISTORY) -> list[str]:
    return [p.name.removeprefix(f"{parent}_") for p in partitions(connection) if p.parent == parent]


def test_today_and_the_next_days_are_ready(connection: Connection) -> None:
    ((today,),) = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchall()
    ahead = [f"{today + timedelta(days=n):%Y_%m_%d}" for n in range(DAYS_AHEAD + 1)]
    assert names(connection) == names(connection, POINTS) == ["2023_11_14", *ahead]
    assert create_ahead(connection) == []
    assert create_ahead(connection, today + timedelta(days=1)) == [
        f"{parent}_{today + timedelta(days=DAYS_AHEAD + 1):%Y_%m_%d}" for parent in PARENTS
    ]


@pytest.mark.parametrize("table", PARENTS)
def test_a_day_ends_at_midnight_utc(connection: Connection, table: str) -> None:
    create_days(connection, [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)])
    connection.execute("SET timezone = 'Asia/Kathmandu'")
    for time, day in {
        "2024-02-28 23:59:59.999999Z": "2024_02_28",
        "2024-02-29 00:00:00Z": "2024_02_29",
        "2024-02-29 23:59:59.999999Z": "2024_02_29",
        "2024-03-01 05:44:59.999999+05:45": "2024_02_29",
        "2024-03-01 00:00:00Z": "2024_03_01",
    }.items():
        assert log_row(connection, time, table) == f"{table}_{day}"


def test_a_day_made_in_another_time_zone_is_a_day_of_utc(connection: Connection) -> None:
    connection.execute("SET timezone = 'America/St_Johns'")
    create_partitions(connection, microseconds("2024-05-01T00:00:00"), microseconds("2024-05-01T23:59:59"))
    (made,) = (p for p in partitions(connection) if p.name == f"{HISTORY}_2024_05_01")
    assert made.from_at == datetime(2024, 5, 1, tzinfo=UTC)
    assert made.to_at == datetime(2024, 5, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "time",
    ["1970-01-01T00:00:00", "1969-12-31T23:59:59.999999", "2099-12-31T12:00:00", "0001-01-01T00:00:00",
     "9999-12-30T23:59:59"],
)  # fmt: skip
def test_wrong_clock_is_given_its_day_and_what_it_logged_is_kept(connection: Connection, time: str) -> None:
    before = names(connection)
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
        log_row(connection, f"{time}Z")
    at = microseconds(time)
    made = create_partitions(connection, at, at)
    day = time[:10].replace("-", "_")
    assert made == [f"{HISTORY}_{day}", f"{POINTS}_{day}"]
    assert log_row(connection, f"{time}Z") == f"{HISTORY}_{day}"
    assert set(names(connection)) == {*before, day}
    assert create_partitions(connection, at, at) == []


@pytest.mark.parametrize("time_us", [2**62, -(2**62), microseconds("9999-12-31T23:59:59")])
def test_time_without_a_date_is_named(connection: Connection, time_us: int) -> None:
    before = partitions(connection)
    with pytest.raises(DatabaseError, match=f"no partition can be made for {time_us // DAY_US * DAY_US}"):
        create_partitions_for(connection, np.array([0, time_us]))
    with pytest.raises(DatabaseError, match=f"no partition can be made for {time_us} µs since 1970"):
        create_partitions(connection, 0, time_us)
    assert partitions(connection) == before


def test_range_gets_all_of_its_days(connection: Connection) -> None:
    first = microseconds("2024-01-30T23:59:59.999999")
    made = create_partitions(connection, first, first + DAY_US + 1)
    days = ("2024_01_30", "2024_01_31", "2024_02_01")
    assert made == [f"{parent}_{day}" for parent in PARENTS for day in days]


def test_leap_of_a_clock_does_not_make_a_partition_of_each_day(connection: Connection) -> None:
    made = create_partitions(connection, 0, microseconds("2024-01-01T12:00:00"))
    assert made == [f"{parent}_{day}" for parent in PARENTS for day in ("1970_01_01", "2024_01_01")]


def test_exactly_the_days_of_a_batch_are_made(connection: Connection) -> None:
    times = [microseconds(t) for t in ("2030-06-01T10:00:00", "1970-01-01T00:00:01", "2030-06-01T11:00:00")]
    made = create_partitions_for(connection, np.array([*times, SCANS_AT_US]))
    assert made == [f"{parent}_{day}" for parent in PARENTS for day in ("1970_01_01", "2030_06_01")]
    assert create_partitions_for(connection, np.array([], dtype=np.int64)) == []


def test_loggers_that_need_the_same_day_at_once_all_go_on(schema: Schema) -> None:
    loggers, days = 8, [date(2031, 1, day) for day in range(1, 5)]
    ready = Barrier(loggers)

    def store(number: int) -> int:
        with schema.connect() as connection:
            made = 0
            for day in days:
                ready.wait(30)
                made += len(create_days(connection, [day]))
                log_row(connection, f"{day} 12:00Z")
        return made

    with ThreadPoolExecutor(loggers) as pool:
        made = sum(pool.map(store, range(loggers)))
    assert made == 2 * len(days)  # each once, by whoever came first
    assert schema.value(f"SELECT count(*) FROM {HISTORY}") == loggers * len(days)


def test_a_transaction_under_way_is_no_hindrance(schema: Schema, connection: Connection) -> None:
    """CREATE TABLE … PARTITION OF, the control, would have to wait until it ends."""
    with schema.connect() as busy, busy.transaction():
        log_row(busy, "2023-11-14 12:00Z")
        assert len(create_days(connection, [date(2032, 1, 1)])) == 2
        connection.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute(
                f"CREATE TABLE waits PARTITION OF {HISTORY}"
                " FOR VALUES FROM ('2032-01-02 00:00Z') TO ('2032-01-03 00:00Z')".encode()
            )


def test_days_that_cannot_be_made_leave_none(schema: Schema, connection: Connection) -> None:
    before = partitions(connection)
    schema.rows(
        "CREATE FUNCTION refuse_table() RETURNS event_trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF current_schema() = '{schema.name}' THEN RAISE 'injected'; END IF; END $$"
    )
    trigger = f"refuse_{schema.name}"
    schema.rows(
        f"CREATE EVENT TRIGGER {trigger} ON ddl_command_end WHEN TAG IN ('ALTER TABLE')"
        " EXECUTE FUNCTION refuse_table()"
    )
    try:
        with pytest.raises(psycopg.Error, match="injected"):
            create_days(connection, [date(2033, 1, 1)])
    finally:
        schema.rows(f"DROP EVENT TRIGGER {trigger}")
    assert partitions(connection) == before
    assert schema.value("SELECT count(*) FROM pg_class WHERE relname LIKE '%_2033_01_01%'") == 0
    assert len(create_days(connection, [date(2033, 1, 1)])) == 2


def test_a_name_that_is_taken_is_left_alone(schema: Schema, connection: Connection) -> None:
    schema.rows(f"CREATE TABLE {HISTORY}_2034_01_01 (theirs integer)")
    made = create_days(connection, [date(2034, 1, 1)])
    assert made == [f"{HISTORY}_2034_01_01_2", f"{POINTS}_2034_01_01"]
    assert log_row(connection, "2034-01-01 12:00Z") == f"{HISTORY}_2034_01_01_2"


def test_partition_that_somebody_else_made_is_reckoned_with(schema: Schema, connection: Connection) -> None:
    schema.rows(
        f"CREATE TABLE older PARTITION OF {HISTORY} FOR VALUES FROM (MINVALUE) TO ('2000-01-01Z');"
        f"CREATE TABLE newer PARTITION OF {HISTORY} FOR VALUES FROM ('2100-01-01Z') TO (MAXVALUE);"
        f"CREATE TABLE others PARTITION OF {HISTORY} DEFAULT"
    )
    assert create_partitions_for(connection, np.array([0, microseconds("2150-01-01T00:00:00")])) == [
        f"{POINTS}_1970_01_01",
        f"{POINTS}_2150_01_01",
    ]
    assert create_partitions(connection, SCANS_AT_US, SCANS_AT_US + DAY_US) == [
        f"{parent}_2023_11_15" for parent in PARENTS
    ]


@pytest.mark.parametrize("table", PARENTS)
@pytest.mark.parametrize("verb", ["UPDATE {} SET scan = 2", "DELETE FROM {}", "TRUNCATE {}"])
def test_what_a_partition_holds_stays(connection: Connection, table: str, verb: str) -> None:
    partition = log_row(connection, "2023-11-14 12:00Z", table)
    for name in (table, partition):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"{table}.*: logged records"):
            connection.execute(verb.format(name).encode())
    # the negative control:
    connection.execute(f"ALTER TABLE {partition} DISABLE TRIGGER append_only".encode())
    connection.execute(verb.format(partition).encode())


def test_partition_of_a_table_owned_by_another_is_the_owners(schema: Schema) -> None:
    owner, member = (f"{name}_{schema.name}" for name in ("owner", "member"))
    ours = schema.rows("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    schema.rows(f"CREATE ROLE {owner}; CREATE ROLE {member} LOGIN PASSWORD 'member' IN ROLE {owner}")
    schema.rows(f"GRANT CREATE, USAGE ON SCHEMA {schema.name} TO {owner}, {member}")
    for (table,) in ours:
        schema.rows(f"ALTER TABLE {table} OWNER TO {owner}")
    try:
        with connect(make_conninfo(schema.conninfo, user=member, password="member"), schema.name) as theirs:
            (made, _) = create_days(theirs, [date(2035, 1, 1)])
            assert theirs.execute("SELECT current_user").fetchone() == (member,)
            assert schema.value("SELECT tableowner FROM pg_tables WHERE tablename = %s", made) == owner
            schema.rows(f"REVOKE {owner} FROM {member}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied to set role"):
                create_days(theirs, [date(2035, 1, 2)])
    finally:
        schema.rows(f"REASSIGN OWNED BY {owner} TO CURRENT_USER")
        schema.rows(f"DROP OWNED BY {owner}, {member}; DROP ROLE {owner}, {member}")
