"""Old partitions go as a whole, unless held, in steps that may be interrupted; maintenance does the rest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from fix_postgres import Schema
from test_partitions import HISTORY, POINTS, log_row, names
from waiting import wait_for

from logger.database.maintenance import maintain
from logger.database.partitions import DAYS_AHEAD, create_days, partitions
from logger.database.retention import Retention, detach, hold, release_hold
from plcsim.errors import InputError

Connection = psycopg.Connection[Any]
OLD, YOUNG = date(2023, 11, 14), date(2023, 11, 20)
"""Days with partitions; the old one alone expires at NOW if ten days are kept."""
NOW = datetime(2023, 11, 25, 9, 30, tzinfo=UTC)
TEN_DAYS = Retention(keep_days=10)
TEN_DAYS_DROPPED = Retention(keep_days=10, drop=True)
OLD_HISTORY, OLD_POINTS = f"{HISTORY}_2023_11_14", f"{POINTS}_2023_11_14"


@pytest.fixture
def connection(schema: Schema) -> Iterator[Connection]:
    """One of a schema that has some old partitions, with a row each."""
    with schema.connect() as opened:
        create_days(opened, [YOUNG])
        for table in (HISTORY, POINTS):
            log_row(opened, f"{OLD} 10:00Z", table)
            log_row(opened, f"{YOUNG} 10:00Z", table)
        yield opened


def expired(schema: Schema) -> dict[str, tuple[int | None, bool, bool, str | None]]:
    """By partition: rows, whether it is out, whether it is dropped, why it is held."""
    query = (
        "SELECT partition, rows, detached_at IS NOT NULL, dropped_at IS NOT NULL, held"
        " FROM expired_partitions ORDER BY 1"
    )
    return {name: tuple(rest) for name, *rest in schema.rows(query)}  # type: ignore[misc]


def exists(schema: Schema, table: str) -> bool:
    return bool(schema.value("SELECT to_regclass(%s) IS NOT NULL", table))


def test_without_retention_everything_stays(schema: Schema, connection: Connection) -> None:
    before = names(connection)
    report = maintain(connection, NOW + timedelta(days=20_000), Retention(drop=True))
    assert (report.detached, report.dropped) == ([], [])
    assert set(before) < set(names(connection))
    assert expired(schema) == {}


def test_what_is_old_is_taken_out_and_written_down(schema: Schema, connection: Connection) -> None:
    assert maintain(connection, NOW, TEN_DAYS).detached == [OLD_HISTORY, OLD_POINTS]
    out = (1, True, False, None)
    assert expired(schema) == {OLD_HISTORY: out, OLD_POINTS: out}
    assert schema.rows("SELECT DISTINCT from_at, to_at FROM expired_partitions") == [
        (datetime(2023, 11, 14, tzinfo=UTC), datetime(2023, 11, 15, tzinfo=UTC))
    ]
    assert schema.value(f"SELECT min(recorded_at)::date FROM {HISTORY}") == YOUNG
    assert schema.value(f"SELECT count(*) FROM {OLD_HISTORY}") == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        schema.rows(f"TRUNCATE {OLD_HISTORY}")
    assert maintain(connection, NOW, TEN_DAYS).detached == []


@pytest.mark.parametrize(
    ("now", "goes"),
    [
        ("2023-11-25 23:59:59.999999", True),
        ("2023-11-25 00:00:00", True),
        ("2023-11-24 23:59:59.999999", False),
    ],
)
def test_a_day_is_kept_as_many_days_as_were_asked(connection: Connection, now: str, goes: bool) -> None:
    report = maintain(connection, datetime.fromisoformat(f"{now}+00:00"), TEN_DAYS)
    assert (OLD_HISTORY in report.detached) is goes


@pytest.mark.parametrize("days", [0, -1])
def test_retention_of_less_than_a_day_is_refused(days: int) -> None:
    with pytest.raises(InputError, match=f"keep_days is {days}; it must be at least 1"):
        Retention(keep_days=days)


def test_what_is_out_is_dropped_if_that_is_wanted(schema: Schema, connection: Connection) -> None:
    maintain(connection, NOW, TEN_DAYS)
    report = maintain(connection, NOW, TEN_DAYS_DROPPED)
    assert report.dropped == [OLD_HISTORY, OLD_POINTS]
    assert expired(schema)[OLD_HISTORY] == (1, True, True, None)
    assert not exists(schema, OLD_HISTORY)
    assert maintain(connection, NOW, TEN_DAYS_DROPPED).dropped == []


def test_what_cannot_be_dropped_is_named_and_the_others_go(schema: Schema, connection: Connection) -> None:
    maintain(connection, NOW, TEN_DAYS)
    schema.rows(f"CREATE VIEW mine AS SELECT * FROM {OLD_HISTORY}")
    report = maintain(connection, NOW, TEN_DAYS_DROPPED)
    assert report.dropped == [OLD_POINTS]
    assert report.warnings[0].startswith(f"dropping {OLD_HISTORY}: cannot drop table")
    assert expired(schema)[OLD_HISTORY] == (1, True, False, None)
    schema.rows("DROP VIEW mine")
    assert maintain(connection, NOW, TEN_DAYS_DROPPED).dropped == [OLD_HISTORY]


def test_hold_that_comes_while_a_partition_is_dropped_comes_too_late_or_in_time(
    schema: Schema, connection: Connection
) -> None:
    """One of the two waits for the other, and sees what it did."""
    maintain(connection, NOW, TEN_DAYS)
    with schema.connect() as holder, holder.transaction():
        hold(holder, OLD_HISTORY, "in time")
        thread = threading.Thread(target=maintain, args=(connection, NOW, TEN_DAYS_DROPPED))
        thread.start()
        wait_for(lambda: waits(schema, connection.info.backend_pid), what="the drop to wait")
    thread.join(30)
    assert expired(schema)[OLD_HISTORY] == (1, True, False, "in time")
    assert exists(schema, OLD_HISTORY)


def test_held_partition_stays_in_its_table(schema: Schema, connection: Connection) -> None:
    hold(connection, OLD_HISTORY, "complaint 17")
    report = maintain(connection, NOW, TEN_DAYS_DROPPED)
    assert (report.held, report.dropped) == ([OLD_HISTORY], [OLD_POINTS])
    assert expired(schema)[OLD_HISTORY] == (None, False, False, "complaint 17")
    assert schema.value(f"SELECT count(*) FROM {HISTORY}") == 2
    release_hold(connection, OLD_HISTORY)
    assert maintain(connection, NOW, TEN_DAYS_DROPPED).dropped == [OLD_HISTORY]


def test_held_partition_that_is_out_is_not_dropped(schema: Schema, connection: Connection) -> None:
    maintain(connection, NOW, TEN_DAYS)
    hold(connection, OLD_POINTS, "audit")
    assert maintain(connection, NOW, TEN_DAYS_DROPPED).dropped == [OLD_HISTORY]
    assert exists(schema, OLD_POINTS)
    release_hold(connection, OLD_POINTS)
    assert maintain(connection, NOW, TEN_DAYS_DROPPED).dropped == [OLD_POINTS]


def test_hold_that_cannot_be_is_refused(schema: Schema, connection: Connection) -> None:
    with pytest.raises(InputError, match=f"no partition 'nothing'; there is {OLD_HISTORY} … {POINTS}_2"):
        hold(connection, "nothing", "why")
    with pytest.raises(InputError, match=f"a hold of {OLD_HISTORY} needs a reason"):
        hold(connection, OLD_HISTORY, " ")
    with pytest.raises(InputError, match=f"partition '{OLD_HISTORY}' is not held"):
        release_hold(connection, OLD_HISTORY)
    maintain(connection, NOW, TEN_DAYS_DROPPED)
    with pytest.raises(InputError, match=f"no partition '{OLD_HISTORY}'"):
        hold(connection, OLD_HISTORY, "too late")


def log_ledger(connection: Connection, transaction_id: object, logged_at: str) -> None:
    connection.execute(
        "INSERT INTO logging_transactions (transaction_id, device_id, stream_id, first_scan, last_scan,"
        " history_rows, process_rows, repository, previous_hash, hash, logged_at)"
        " VALUES (%s, 'd', 1, 1, 1, 1, 0, 'baseline', '', '', %s)",
        (transaction_id, logged_at),
    )


@pytest.mark.parametrize(("logged_at", "goes"), [("2023-11-24 10:00Z", False), ("2023-11-14 10:01Z", True)])
def test_what_was_written_lately_is_not_old(connection: Connection, logged_at: str, goes: bool) -> None:
    """Whatever the clock of the logger said when it was recorded; also behind many older rows."""
    row = "SELECT '2023-11-14 11:00Z'::timestamptz, {}, gen_random_uuid(), 1, 1, 192, 'd'"
    columns = "recorded_at, scan, transaction_id, stream_id, parameter_id, quality, device_id"
    insert = f"INSERT INTO {HISTORY} ({columns})"
    connection.execute(f"{insert} {row.format('scan')} FROM generate_series(1, 40000) AS scan".encode())
    connection.execute(f"{insert} {row.format(50_000)}".encode())
    newest = connection.execute(
        f"SELECT transaction_id FROM {HISTORY} WHERE scan = 50000".encode()
    ).fetchone()
    assert newest is not None
    log_ledger(connection, newest[0], logged_at)
    assert (OLD_HISTORY in maintain(connection, NOW, TEN_DAYS).detached) is goes


def test_late_rows_of_a_day_that_is_gone_get_a_new_partition(schema: Schema, connection: Connection) -> None:
    maintain(connection, NOW, TEN_DAYS_DROPPED)
    with pytest.raises(psycopg.errors.CheckViolation):
        log_row(connection, f"{OLD} 10:00Z")
    assert create_days(connection, [OLD]) == [f"{OLD_HISTORY}_2", f"{OLD_POINTS}_2"]
    log_row(connection, f"{OLD} 10:00Z")
    assert maintain(connection, NOW, TEN_DAYS_DROPPED).dropped == [f"{OLD_HISTORY}_2", f"{OLD_POINTS}_2"]
    assert list(expired(schema)) == [OLD_HISTORY, f"{OLD_HISTORY}_2", OLD_POINTS, f"{OLD_POINTS}_2"]


def interrupt_detach(schema: Schema, connection: Connection) -> None:
    """Leave a DETACH … CONCURRENTLY half done: it waits for a reader, and is cancelled."""
    (partition,) = (p for p in partitions(connection) if p.name == OLD_HISTORY)
    with schema.connect() as reader, reader.transaction():
        reader.execute(f"SELECT FROM {HISTORY}".encode())
        connection.execute("SET statement_timeout = '100ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            detach(connection, partition)
    connection.execute("SET statement_timeout = '10s'")
    (partition,) = (p for p in partitions(connection) if p.name == OLD_HISTORY)
    assert partition.is_detaching


def test_detach_that_was_interrupted_is_ended(schema: Schema, connection: Connection) -> None:
    interrupt_detach(schema, connection)
    assert expired(schema)[OLD_HISTORY] == (None, False, False, None)
    assert maintain(connection, NOW, Retention()).detached == [OLD_HISTORY]  # even if all is to stay now
    assert expired(schema)[OLD_HISTORY] == (1, True, False, None)


def test_logger_that_needs_the_day_of_an_interrupted_detach_gets_it(
    schema: Schema, connection: Connection
) -> None:
    interrupt_detach(schema, connection)
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
        log_row(connection, f"{OLD} 10:00Z")
    assert create_days(connection, [OLD]) == [f"{OLD_HISTORY}_2"]
    assert log_row(connection, f"{OLD} 10:00Z") == f"{OLD_HISTORY}_2"
    assert maintain(connection, NOW, Retention()).detached == [OLD_HISTORY]


def test_partition_that_is_out_and_not_written_down_is_written_down(
    schema: Schema, connection: Connection
) -> None:
    """A crash right behind the detach."""
    schema.rows(
        "INSERT INTO expired_partitions (parent, partition, from_at, to_at)"
        " VALUES (%s, %s, '2023-11-14Z', '2023-11-15Z')",
        HISTORY,
        OLD_HISTORY,
    )
    schema.rows(f"ALTER TABLE {HISTORY} DETACH PARTITION {OLD_HISTORY}")
    assert maintain(connection, NOW, Retention(drop=True)).detached == [OLD_HISTORY]
    assert expired(schema)[OLD_HISTORY] == (1, True, True, None)


def waits(schema: Schema, process: int) -> bool:
    return bool(
        schema.value(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", process
        )
    )


def test_logger_goes_on_while_a_partition_is_taken_out(schema: Schema, connection: Connection) -> None:
    with schema.connect() as logging, schema.connect() as reader:
        with reader.transaction():
            reader.execute(f"SELECT FROM {HISTORY}".encode())
            thread = threading.Thread(target=maintain, args=(connection, NOW, TEN_DAYS))
            thread.start()
            try:
                wait_for(lambda: waits(schema, connection.info.backend_pid), what="the detach to wait")
                log_row(logging, f"{YOUNG} 11:00Z")
                assert len(create_days(logging, [date(2024, 2, 2)])) == 2
                logging.execute("SET lock_timeout = '50ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):  # the control would wait
                    logging.execute(f"ALTER TABLE {HISTORY} DETACH PARTITION {HISTORY}_2023_11_20".encode())
            finally:
                reader.execute("ROLLBACK")
                thread.join(30)
        assert expired(schema)[OLD_HISTORY] == (1, True, False, None)


def test_logger_of_maintenance_that_is_killed_leaves_it_to_the_next(
    schema: Schema, connection: Connection
) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            maintain(connection, NOW, TEN_DAYS)
        except psycopg.OperationalError as exc:
            failed.append(exc)

    with schema.connect() as reader, reader.transaction():
        reader.execute(f"SELECT FROM {HISTORY}".encode())
        thread = threading.Thread(target=work)
        thread.start()
        wait_for(lambda: waits(schema, connection.info.backend_pid), what="the detach to wait")
        schema.rows("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
        thread.join(30)
    assert len(failed) == 1
    with schema.connect() as another:
        report = maintain(another, NOW, TEN_DAYS)
        assert report.ran
        assert sorted(report.detached) == [OLD_HISTORY, OLD_POINTS]


def test_detach_inside_a_transaction_is_refused_and_undone(schema: Schema, connection: Connection) -> None:
    (partition,) = (p for p in partitions(connection) if p.name == OLD_HISTORY)
    with pytest.raises(psycopg.errors.ActiveSqlTransaction), connection.transaction():
        detach(connection, partition)
    assert expired(schema) == {}


def test_one_pass_at_a_time(schema: Schema, connection: Connection) -> None:
    with schema.connect() as reader, schema.connect() as second:
        with reader.transaction():
            reader.execute(f"SELECT FROM {HISTORY}".encode())
            thread = threading.Thread(target=maintain, args=(connection, NOW, TEN_DAYS))
            thread.start()
            wait_for(lambda: waits(schema, connection.info.backend_pid), what="the detach to wait")
            assert not maintain(second, NOW, TEN_DAYS).ran
        thread.join(30)
        assert maintain(second, NOW, TEN_DAYS).ran


def indexes(schema: Schema, table: str) -> list[str]:
    return [
        name
        for (name,) in schema.rows(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = %s"
            " AND indexname LIKE '%%by_parameter' ORDER BY 1",
            table,
        )
    ]


def test_closed_partitions_get_the_index_for_trends(schema: Schema, connection: Connection) -> None:
    report = maintain(connection, datetime(2023, 11, 21, 0, 59, tzinfo=UTC))
    assert report.indexed == [OLD_HISTORY]
    assert maintain(connection, datetime(2023, 11, 21, 1, 0, tzinfo=UTC)).indexed == [f"{HISTORY}_2023_11_20"]
    assert maintain(connection, datetime(2023, 11, 21, 1, 0, tzinfo=UTC)).indexed == []
    assert indexes(schema, OLD_HISTORY)[0].endswith("USING btree (device_id, parameter_id, recorded_at)")
    assert indexes(schema, OLD_POINTS) == []


def test_index_that_was_interrupted_is_made_anew(schema: Schema, connection: Connection) -> None:
    index = f"{OLD_HISTORY}_by_parameter"
    log_row(connection, f"{OLD} 10:00Z")
    with pytest.raises(psycopg.errors.UniqueViolation):  # leaves it behind, invalid
        connection.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {OLD_HISTORY} (device_id)".encode())
    assert not schema.value("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", index)
    assert OLD_HISTORY in maintain(connection, NOW).indexed
    assert schema.value("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", index)


def test_a_step_that_fails_is_a_warning_and_the_others_are_done(
    schema: Schema, connection: Connection
) -> None:
    schema.rows(f"CREATE TABLE {OLD_HISTORY}_by_parameter ()")
    report = maintain(connection, NOW)
    assert report.warnings[0].startswith(f"index on {OLD_HISTORY}: ")
    assert report.indexed == [f"{HISTORY}_2023_11_20"]


def test_session_is_as_before(connection: Connection) -> None:
    def settings() -> list[Any]:
        keys = ("statement_timeout", "lock_timeout", "role", "search_path", "timezone")
        return [connection.execute(f"SHOW {key}".encode()).fetchone() for key in keys]

    before = settings()
    maintain(connection, NOW, TEN_DAYS)
    assert settings() == before


def test_partitions_ahead_are_counted_and_odd_ones_named(schema: Schema, connection: Connection) -> None:
    report = maintain(connection)
    assert report.days_ahead == DAYS_AHEAD
    assert report.warnings == []
    create_days(connection, [date(2099, 1, 1)])
    report = maintain(connection, datetime(2098, 12, 1, tzinfo=UTC))
    assert report.created[0] == f"{HISTORY}_2098_12_01"
    assert report.warnings == [
        f"{parent}_2099_01_01 is of a day to come: a clock was wrong" for parent in (HISTORY, POINTS)
    ]
    schema.rows(f"DROP TABLE {POINTS}_2098_12_03")
    schema.rows(f"CREATE TABLE {POINTS}_x (LIKE {POINTS})")
    assert maintain(connection, datetime(2098, 12, 1, tzinfo=UTC)).days_ahead == DAYS_AHEAD  # made again
