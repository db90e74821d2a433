"""All or none: a failure injected into any table, at any moment, leaves nothing of the batch behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from fix_postgres import TABLES, Schema
from fix_scans import BAKING, Oven

from logger.errors import DatabaseError
from logger.repositories import BaselineRepository, Repository, SynchronizingRepository
from logger.repositories.synchronizing import SharedSynchronizingRepository
from logger.scan import Gap

KINDS = [BaselineRepository, SynchronizingRepository, SharedSynchronizingRepository]
WRITTEN = [table for table in TABLES if table != "scan_gaps"]

RAISE = "BEGIN RAISE EXCEPTION ''injected''; END"
SWALLOW = "BEGIN RETURN NULL; END"
MOMENTS = {
    "before the first row": "TRIGGER fault BEFORE INSERT OR UPDATE ON {} FOR EACH ROW",
    "behind the last row": "TRIGGER fault AFTER INSERT OR UPDATE ON {} FOR EACH STATEMENT",
    "at the commit": "CONSTRAINT TRIGGER fault AFTER INSERT OR UPDATE ON {} DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW",
}

CASES = [
    (kind, table, running_before)
    for kind in KINDS
    for table in WRITTEN
    for running_before in (None, BAKING)
    if (kind, table) != (BaselineRepository, "component_parameters")  # it does not write there
    if (table, running_before) != ("process_executions", BAKING)  # nor does a process that goes on
]


@contextmanager
def fault(schema: Schema, table: str, trigger: str, body: str = RAISE) -> Iterator[None]:
    """A table that fails at some moment, until the end of the block."""
    schema.rows(f"CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
    schema.rows(f"CREATE {trigger.format(table)} EXECUTE FUNCTION fault()")
    yield
    schema.rows("DROP FUNCTION fault CASCADE")


@pytest.mark.parametrize(("kind", "table", "running_before"), CASES)
def test_failure_at_any_step_stores_nothing(
    schema: Schema, oven: Oven, kind: type[Repository], table: str, running_before: int | None
) -> None:
    stream = schema.stream(kind, oven.config)
    stream.store(oven.batch(*oven.run_of(1, 2, running_before)))
    head, batch = stream.head, oven.batch(*oven.run_of(3, 4, BAKING))
    before = schema.contents()
    for moment, trigger in MOMENTS.items():
        with fault(schema, table, trigger), pytest.raises(psycopg.Error, match="injected"):
            stream.store(batch)
        assert schema.contents() == before, moment
        assert stream.head == head == schema.stream(kind, oven.config).head, moment
        assert stream.process_number == running_before, moment
    stream.store(batch)  # the negative control: without the fault the same batch changes the table
    assert schema.contents()[table] != before[table]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", ["parameter_value_history", "process_data_points", "logging_transactions"])
def test_rows_that_a_trigger_swallows_undo_the_batch(
    schema: Schema, oven: Oven, kind: type[Repository], table: str
) -> None:
    stream = schema.stream(kind, oven.config)
    before, batch = schema.contents(), oven.batch(oven.scan(1, BAKING))
    with (
        fault(schema, table, "TRIGGER fault BEFORE INSERT ON {} FOR EACH ROW", SWALLOW),
        pytest.raises(DatabaseError, match="took fewer rows"),
    ):
        stream.store(batch)
    assert schema.contents() == before
    stream.store(batch)
    assert schema.contents()[table] != before[table]


@pytest.mark.parametrize("table", ["logging_streams", "logging_transactions", "scan_gaps"])
def test_failure_while_a_gap_is_recorded_stores_nothing(schema: Schema, oven: Oven, table: str) -> None:
    stream = schema.stream(BaselineRepository, oven.config)
    head, before = stream.head, schema.contents()
    for moment, trigger in MOMENTS.items():
        with fault(schema, table, trigger), pytest.raises(psycopg.Error, match="injected"):
            stream.record_gap(Gap(1, 5, "missed"))
        assert schema.contents() == before, moment
        assert stream.head == head, moment
    stream.record_gap(Gap(1, 5, "missed"))
    assert schema.contents()[table] != before[table]


@pytest.mark.parametrize("verb", ["UPDATE {} SET device_id = device_id", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize(
    "table", ["parameter_value_history", "process_data_points", "logging_transactions", "scan_gaps"]
)
def test_what_is_written_stays(schema: Schema, oven: Oven, table: str, verb: str) -> None:
    stream = schema.stream(SynchronizingRepository, oven.config)
    stream.store(oven.batch(oven.scan(1, BAKING)))
    stream.record_gap(Gap(2, 2, "missed"))
    before = schema.contents()
    assert before[table]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        schema.rows(verb.format(table))
    assert schema.contents() == before
    parts = schema.rows(f"SELECT relid::regclass::text FROM pg_partition_tree('{table}')") or [(table,)]
    for (part,) in parts:
        schema.rows(f"ALTER TABLE {part} DISABLE TRIGGER append_only")  # the negative control
    schema.rows(verb.format(table))
