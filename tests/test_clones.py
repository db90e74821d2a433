"""Clones of the user's tables: whole, and the user's own stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_postgres import Schema

from bench.arms.clones import Clones, parse_tables
from bench.arms.spec import parse_arm
from plcsim.errors import InputError

PLANT = """
CREATE TABLE {s}.machines (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE {s}.elsewhere (id integer PRIMARY KEY);
CREATE TABLE {s}.audit (n integer);
CREATE TABLE {s}.readings (
    id      bigserial PRIMARY KEY,
    machine integer REFERENCES {s}.machines,
    other   integer REFERENCES {s}.elsewhere,
    value   double precision CHECK (value > 0),
    twice   double precision GENERATED ALWAYS AS (value * 2) STORED,
    number  integer GENERATED ALWAYS AS IDENTITY
) WITH (fillfactor = 61);
CREATE INDEX ON {s}.readings (machine, value DESC);
CREATE FUNCTION {s}.negate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.value := NEW.value + 1000; RETURN NEW; END $$;
CREATE TRIGGER negate BEFORE INSERT ON {s}.readings FOR EACH ROW EXECUTE FUNCTION {s}.negate();
INSERT INTO {s}.machines VALUES (1, 'oven');
INSERT INTO {s}.readings (machine, value) VALUES (1, 5), (1, 7);
"""


@pytest.fixture
def plant(schema: Schema) -> Iterator[str]:
    """A schema of the user's with tables that refer to each other; it must be as before afterwards."""
    name = f"{schema.name}_plant"
    schema.rows(f"CREATE SCHEMA {name}")
    with schema.connect().cursor() as cursor:
        cursor.execute(PLANT.format(s=name).encode())
    before = state(schema, name)
    yield name
    assert state(schema, name) == before
    schema.rows(f"DROP SCHEMA {name} CASCADE")


def state(schema: Schema, plant: str) -> list[object]:
    tables = ("machines", "elsewhere", "audit", "readings")
    rows = [schema.rows(f"SELECT * FROM {plant}.{table} ORDER BY 1") for table in tables]
    sequences = schema.rows("SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = %s", plant)
    return [*rows, sorted(sequences)]


def cloned(schema: Schema, plant: str, *tables: str, rows: bool = False) -> list[str]:
    clones = Clones(tuple(f"{plant}.{table}" for table in tables), rows)
    clones.check(schema.connect())
    return clones.make(schema.connect(), schema.name)


def test_a_clone_has_all_that_its_table_has_and_nothing_of_it_moves(schema: Schema, plant: str) -> None:
    notes = cloned(schema, plant, "machines", "readings")
    assert notes == [f"{plant}.readings: foreign key readings_other_fkey to {plant}.elsewhere is left out"]
    assert schema.value("SELECT count(*) FROM readings") == 0
    options = "SELECT reloptions FROM pg_class WHERE oid = %s::regclass"
    assert schema.value(options, f"{schema.name}.readings") == ["fillfactor=61"]
    indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND tablename = 'readings'"
    assert schema.value(indexes, schema.name) == 2
    schema.rows("INSERT INTO machines VALUES (9, 'here')")
    schema.rows("INSERT INTO readings (machine, value) VALUES (9, 5), (9, 6)")
    assert schema.rows("SELECT id, value, twice, number FROM readings ORDER BY id") == [
        (1, 1005.0, 2010.0, 1),
        (2, 1006.0, 2012.0, 2),
    ]
    for wrong in ("(8, 5)", "(9, -2000)"):  # the clone's own machines, and its check
        with pytest.raises(Exception, match="violates"):
            schema.rows(f"INSERT INTO readings (machine, value) VALUES {wrong}")


def test_rows_are_copied_as_they_are_and_numbers_go_on_behind_them(schema: Schema, plant: str) -> None:
    cloned(schema, plant, "machines", "readings", rows=True)
    copied = schema.rows("SELECT * FROM readings ORDER BY id")
    assert copied == schema.rows(f"SELECT * FROM {plant}.readings ORDER BY id")
    schema.rows("INSERT INTO readings (machine, value) VALUES (1, 8)")
    assert schema.rows("SELECT id, number, value FROM readings WHERE id > 2") == [(3, 3, 1008.0)]


def test_a_table_of_ours_gives_way_to_one_of_the_same_name(schema: Schema, plant: str) -> None:
    schema.rows(f"CREATE TABLE {plant}.scan_gaps (mine integer)")
    try:
        cloned(schema, plant, "scan_gaps")
        assert schema.rows("SELECT mine FROM scan_gaps") == []
    finally:
        schema.rows(f"DROP TABLE {plant}.scan_gaps")


def test_a_trigger_that_writes_to_a_table_of_the_users_is_refused(
    schema: Schema, plant: str, tmp_path: Path
) -> None:
    schema.rows(
        f"CREATE FUNCTION {plant}.tell() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN INSERT INTO {plant}.audit VALUES (1); RETURN NULL; END $$"
    )
    schema.rows(
        f"CREATE TRIGGER tell AFTER INSERT ON {plant}.machines FOR EACH ROW EXECUTE FUNCTION {plant}.tell()"
    )
    file = tmp_path / "own.sql"
    file.write_text("INSERT INTO machines VALUES (%(first_scan)s, 'x')")
    cloned(schema, plant, "machines")
    with pytest.raises(InputError, match=rf"would write to {plant}\.audit"):
        parse_arm(str(file)).prepare_schema(schema.connect(), schema.name)
    schema.rows("DROP TRIGGER tell ON machines")
    parse_arm(str(file)).prepare_schema(schema.connect(), schema.name)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (("nowhere",), r"there is no table .*\.nowhere in database"),
        (("machines", "machines"), "names two tables 'machines'"),
        (("view",), "is no table"),
    ],
)
def test_what_cannot_be_cloned_is_told(
    schema: Schema, plant: str, tables: tuple[str, ...], said: str
) -> None:
    schema.rows(f"CREATE VIEW {plant}.view AS SELECT 1 AS n")
    with pytest.raises(InputError, match=said):
        cloned(schema, plant, *tables)


def test_names_are_read_from_one_option() -> None:
    assert parse_tables("a.b, c") == Clones(("a.b", "c"))
    assert parse_tables("", copy_rows=True).tables == ()
    with pytest.raises(InputError, match="a name is empty"):
        parse_tables("a.b,,c")
