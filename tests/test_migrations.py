"""A database of version 1, with what its plclogger logged, is brought forward; nothing logged changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_plant import ALD, TrueStream
from fix_postgres import Schema
from psycopg import sql

from bench.oracle.verify import verify
from logger.database import (
    Retention,
    connect,
    hold,
    maintain,
    prepare_schema,
    require_schema,
)
from logger.database.partitions import partitions
from logger.errors import DatabaseError, DatabaseRefused

Connection = psycopg.Connection[Any]
VERSION_1 = (Path(__file__).parent / "golden" / "version_1.sql").read_bytes()
MADE_ANEW = ["component_parameters", "parameter_value_history", "process_data_points"]
_numbers = count(1)


class Old:
    """A schema of version 1."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection, self.name = connection, name
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        connection.execute(VERSION_1)
        self.columns: dict[str, str] = dict(
            self.rows(
                "SELECT table_name, string_agg(quote_ident(column_name), ', ' ORDER BY column_name)"
                " FROM information_schema.columns WHERE table_schema = current_schema()"
                " AND table_name <> 'plcsim_schema' GROUP BY 1"
            )
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of version 1, in its columns, whatever else the tables have now."""
        return {
            table: self.rows(f"SELECT ROW({names})::text FROM {table} ORDER BY 1")
            for table, names in self.columns.items()
        }

    def bring_forward(self) -> None:
        prepare_schema(self.connection, self.name)


@pytest.fixture
def old(postgres: str) -> Iterator[Old]:
    name = f"old_{os.getpid()}_{next(_numbers)}"
    with connect(postgres, name) as connection:
        yield Old(connection, name)
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def logged_again(old: Old, column: str, value: str) -> None:
    """Change what version 1 has stored, as its owner can."""
    for table in ("parameter_value_history", "process_data_points"):
        old.rows(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        old.rows(f"UPDATE {table} SET {column} = {value} WHERE parameter_id = 7")
        old.rows(f"ALTER TABLE {table} ENABLE TRIGGER append_only")


def parts(old: Old, parent: str = "parameter_value_history") -> dict[str, tuple[str, str]]:
    return {
        p.name.removeprefix(f"{parent}_"): (f"{p.from_at:%Y-%m-%d}", f"{p.to_at:%Y-%m-%d}")
        for p in partitions(old.connection)
        if p.parent == parent
    }


def tomorrow(old: Old) -> str:
    ((day,),) = old.rows("SELECT ((now() AT TIME ZONE 'UTC')::date + 1)::text")
    return str(day)


def test_no_row_and_no_hash_is_changed(old: Old) -> None:
    before = old.contents()
    assert len(before["parameter_value_history"]) == 504
    old.bring_forward()
    assert old.contents() == before
    assert old.rows("SELECT version FROM plcsim_schema ORDER BY 1") == [(1,), (2,)]
    old.bring_forward()
    assert old.contents() == before


def test_verify_finds_nothing_and_the_stream_goes_on(postgres: str, old: Old) -> None:
    with connect(postgres) as control:
        schema = Schema(postgres, old.name, control)  # prepares it, as every start of plclogger does
        assert not verify(old.connection).violations
        stream = TrueStream(schema, ALD)
        stream.store(70)
        stream.close()
        assert old.rows("SELECT last_scan FROM logging_streams") == [(9,)]
        assert not verify(old.connection).violations
        old.rows("ALTER TABLE parameter_value_history_v1 DISABLE TRIGGER append_only")
        old.rows(
            "UPDATE parameter_value_history_v1 SET value = value + 1 WHERE parameter_id = 7 AND scan = 1"
        )
        assert verify(old.connection).violations  # the negative control


def catalog(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    """Of all of our tables and views but the partitions."""
    ours = "relnamespace = to_regnamespace(quote_ident(current_schema())) AND NOT relispartition"
    return connection.execute(query.format(ours=ours).encode()).fetchall()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT relname, relkind, reloptions FROM pg_class"
        " WHERE {ours} AND relkind IN ('r', 'p', 'v') ORDER BY 1",
        "SELECT relname, attname, atttypid::regtype::text, attnotnull, attcollation,"
        " pg_get_expr(adbin, adrelid) FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid"
        " LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum"
        " WHERE {ours} AND relkind IN ('r', 'p', 'v') AND attnum > 0 AND NOT attisdropped ORDER BY 1, 2",
        "SELECT relname, attname FROM pg_class c JOIN pg_attribute ON attrelid = c.oid"
        " WHERE {ours} AND relkind IN ('r', 'p', 'v') AND attnum > 0 ORDER BY relname, attnum",
        "SELECT replace(indexdef, current_schema() || '.', '') FROM pg_indexes JOIN pg_class c"
        " ON relname = tablename WHERE schemaname = current_schema() AND {ours} ORDER BY 1",
        "SELECT relname, tgname, tgtype, tgenabled FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
        " WHERE {ours} AND NOT tgisinternal ORDER BY 1, 2",
        "SELECT relname, conname, contype FROM pg_constraint JOIN pg_class c ON c.oid = conrelid"
        " WHERE {ours} AND contype <> 'n' ORDER BY 1, 2",
        "SELECT relname, pg_get_viewdef(c.oid) FROM pg_class c WHERE {ours} AND relkind = 'v' ORDER BY 1",
    ],
    ids=["tables", "columns", "order of columns", "indexes", "triggers", "constraints", "views"],
)
def test_both_ways_end_in_the_same_tables(old: Old, schema: Schema, query: str) -> None:
    old.bring_forward()
    with schema.connect() as connection:
        made = catalog(connection, query)
    assert made
    assert catalog(old.connection, query) == made


def test_old_table_is_the_partition_of_its_days(old: Old) -> None:
    old.bring_forward()
    for parent in ("parameter_value_history", "process_data_points"):
        assert parts(old, parent)["v1"] == ("2023-11-14", "2023-11-15")
        assert len(parts(old, parent)) == 4  # and today, and the next two days
        for verb in (f"DELETE FROM {parent}_v1", f"TRUNCATE {parent}_v1", f"UPDATE {parent}_v1 SET scan = 0"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"{parent}_v1: .* append-only"):
                old.rows(verb)


def test_old_table_goes_as_any_other_partition(old: Old) -> None:
    old.bring_forward()
    later = datetime.now(UTC) + timedelta(days=60)
    hold(old.connection, "process_data_points_v1", "audit")
    report = maintain(old.connection, later, Retention(keep_days=30))
    assert "parameter_value_history_v1" in report.detached
    assert report.held == ["process_data_points_v1"]
    assert old.rows("SELECT rows FROM expired_partitions WHERE partition = 'parameter_value_history_v1'") == [
        (504,)
    ]
    assert not verify(old.connection).violations


def test_old_table_that_reaches_until_today_ends_with_it(old: Old) -> None:
    logged_again(old, "recorded_at", "now()")
    old.bring_forward()
    assert parts(old)["v1"] == ("2023-11-14", tomorrow(old))
    assert len(parts(old)) == 3  # today's rows go on into the old table
    assert old.rows("SELECT count(*) FROM parameter_value_history_v1") == [(504,)]


def test_rows_of_days_to_come_get_their_own_partitions(old: Old) -> None:
    """Otherwise the old table would take everything until 2099."""
    logged_again(old, "recorded_at", "'2099-01-02 03:04:05Z'")
    before = old.contents()
    old.bring_forward()
    assert old.contents() == before
    assert parts(old)["2099_01_02"] == ("2099-01-02", "2099-01-03")
    assert parts(old)["v1"] == ("2023-11-14", tomorrow(old))
    assert old.rows("SELECT count(*) FROM parameter_value_history_2099_01_02") == [(6,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        old.rows("DELETE FROM parameter_value_history_v1")


def test_empty_old_table_leaves_no_partition(old: Old) -> None:
    for table in ("parameter_value_history", "process_data_points"):
        old.rows(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        old.rows(f"DELETE FROM {table}")
    old.bring_forward()
    assert "v1" not in parts(old)
    assert len(parts(old)) == 3


def test_failure_on_the_way_changes_nothing(old: Old) -> None:
    before = old.contents()
    old.rows("CREATE VIEW parameter_trend AS SELECT 1")  # the last thing that is made
    with pytest.raises(DatabaseError, match="parameter_trend"):
        old.bring_forward()
    assert old.contents() == before
    assert old.rows("SELECT max(version) FROM plcsim_schema") == [(1,)]
    old.rows("DROP VIEW parameter_trend")
    old.bring_forward()
    assert old.contents() == before


@pytest.mark.parametrize("table", MADE_ANEW)
def test_somebody_elses_view_is_not_cut_off(old: Old, table: str) -> None:
    before = old.contents()
    old.rows(f"CREATE VIEW dashboard AS SELECT * FROM {table}")
    with pytest.raises(DatabaseRefused, match=f"view dashboard stands on {table}: drop the view") as refused:
        old.bring_forward()
    assert refused.value.exit_code == 2
    assert old.contents() == before


def test_rights_and_owner_stay(old: Old) -> None:
    owner, reader = (f"{name}_{os.getpid()}" for name in ("owner", "reader"))
    try:
        for role in (owner, reader):
            old.rows(f"CREATE ROLE {role}")
        old.rows(f"GRANT CREATE, USAGE ON SCHEMA {old.name} TO {owner}")
        for table in [*old.columns, "plcsim_schema"]:
            old.rows(f"ALTER TABLE {table} OWNER TO {owner}")
            old.rows(f"GRANT SELECT ON {table} TO {reader}")
        old.rows(f"ALTER FUNCTION refuse_change OWNER TO {owner}")
        old.bring_forward()
        for table in old.columns:
            assert old.rows(f"SELECT has_table_privilege('{reader}', '{table}', 'SELECT')") == [(True,)]
            assert old.rows(f"SELECT has_table_privilege('{reader}', '{table}', 'INSERT')") == [(False,)]
        owners = old.rows("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = current_schema()")
        assert owners == [(owner,)]
    finally:
        old.rows(f"DROP OWNED BY {owner}, {reader} CASCADE")
        old.rows(f"DROP ROLE {owner}, {reader}")
        old.rows(f"CREATE SCHEMA IF NOT EXISTS {old.name}")


def test_two_loggers_bring_it_forward_once(postgres: str, old: Old) -> None:
    before = old.contents()

    def start(_: int) -> None:
        with connect(postgres, old.name) as connection:
            prepare_schema(connection, old.name)

    with ThreadPoolExecutor(4) as loggers:
        list(loggers.map(start, range(4)))
    assert old.contents() == before
    assert old.rows("SELECT version FROM plcsim_schema ORDER BY 1") == [(1,), (2,)]


def test_only_looking_brings_nothing_forward(old: Old) -> None:
    with pytest.raises(DatabaseRefused, match=r"has version 1; this plclogger knows 2: plclogger run brings"):
        require_schema(old.connection, old.name)
    assert old.rows("SELECT max(version) FROM plcsim_schema") == [(1,)]
