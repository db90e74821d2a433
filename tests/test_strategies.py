"""Strategies store what the product's repositories store, whole or not at all; they differ in how alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from fix_postgres import Schema
from fix_scans import BAKING, HEAT, TARGET, Oven

from bench.arms.spec import parse_arm
from bench.strategies import BREAKS_I2, STATEMENTS, STRATEGIES, UPDATES
from logger.errors import DatabaseError, StreamMoved
from logger.repositories import BaselineRepository, Repository, SynchronizingRepository
from logger.scan import Batch, Gap, Quality

EXACT = sorted(STRATEGIES.keys() - BREAKS_I2 - {"two_tables_several"})
"""Those that keep all that the synchronizing repository keeps."""


@pytest.fixture
def other(postgres: str) -> Iterator[Schema]:
    """A second schema, for the repository that says what is right."""
    made = Schema(postgres, f"test_other_{os.getpid()}")
    yield made
    made.drop()


def work(oven: Oven) -> list[Batch | Gap]:
    """Good scans, many scans, a process that begins and ends, a gap, what could not be read."""
    bad = {HEAT: Quality.BAD_SENSOR_FAILURE, TARGET: Quality.BAD_COMMUNICATION}
    return [
        oven.batch(oven.scan(1)),
        oven.batch(*oven.run_of(2, 4)),
        oven.batch(oven.scan(5, BAKING)),
        oven.batch(*oven.run_of(6, 8, BAKING)),
        Gap(9, 12, "the PLC was away"),
        oven.batch(oven.scan(13, bad=bad)),
        oven.batch(oven.scan(14), oven.scan(15, bad=bad)),
        oven.batch(oven.scan(16)),
    ]


def stored(schema: Schema) -> dict[str, list[tuple[Any, ...]]]:
    """Everything but when the ledger's rows were made, which no other run repeats."""
    contents = schema.contents()
    contents["logging_transactions"] = schema.rows(
        "SELECT transaction_id, device_id, stream_id, first_scan, last_scan, history_rows, process_rows,"
        " process_id, repository, previous_hash, hash, first_recorded_at, last_recorded_at"
        " FROM logging_transactions WHERE history_rows > 0 ORDER BY first_scan"
    )
    del contents["scan_gaps"]  # a gap's transaction has an id of its own each time
    return contents


def store_all(schema: Schema, kind: type[Repository], oven: Oven, items: list[Batch | Gap]) -> None:
    stream = schema.stream(kind, oven.config)
    for item in items:
        if isinstance(item, Gap):
            stream.record_gap(item)
        else:
            stream.store(item)


def without_gap(items: list[Batch | Gap]) -> list[Batch | Gap]:
    """Only what comes before the gap: a hash after it covers the gap's own id."""
    return items[: next(n for n, item in enumerate(items) if isinstance(item, Gap))]


@pytest.mark.parametrize("name", EXACT)
def test_strategy_stores_exactly_what_the_synchronizing_repository_stores(
    schema: Schema, other: Schema, oven: Oven, name: str
) -> None:
    items = without_gap(work(oven))
    store_all(schema, STRATEGIES[name], oven, items)
    store_all(other, SynchronizingRepository, oven, items)
    assert stored(schema) == stored(other)
    assert len(stored(schema)["process_data_points"]) == 4 * oven.layout.size


@pytest.mark.parametrize("name", EXACT)
def test_current_values_are_right_after_gaps_and_bad_values_too(
    schema: Schema, other: Schema, oven: Oven, name: str
) -> None:
    items = work(oven)
    store_all(schema, STRATEGIES[name], oven, items)
    store_all(other, SynchronizingRepository, oven, items)
    current = "SELECT component_parameters::text FROM component_parameters ORDER BY parameter_id"
    assert schema.rows(current) == other.rows(current)


def test_two_tables_by_several_statements_are_those_of_the_baseline(
    schema: Schema, other: Schema, oven: Oven
) -> None:
    items = without_gap(work(oven))
    store_all(schema, STATEMENTS["two_tables_several"], oven, items)
    store_all(other, BaselineRepository, oven, items)
    assert stored(schema) == stored(other)


def test_skip_unchanged_leaves_rows_alone_whose_value_stands(schema: Schema, oven: Oven) -> None:
    stream = schema.stream(UPDATES["skip_unchanged"], oven.config)
    first, second = oven.batch(oven.scan(1)), oven.scan(2)
    stream.store(first)
    second.values[:] = first.value
    second.values[HEAT] = 55.0
    stream.store(oven.batch(second))
    current = "SELECT scan, current_value FROM component_parameters ORDER BY parameter_id"
    expected = [(2, 55.0) if column == HEAT else (1, first.value[column]) for column in range(5)]
    assert schema.rows(current) == expected


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_batch_is_stored_once_and_a_repeat_says_so(schema: Schema, oven: Oven, name: str) -> None:
    batch = oven.batch(oven.scan(1))
    first, second = (schema.stream(STRATEGIES[name], oven.config) for _ in range(2))
    second.store(batch)
    before = schema.contents()
    with pytest.raises(StreamMoved):
        first.store(batch)
    assert schema.contents() == before
    assert first.is_certain


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_rows_that_a_trigger_swallows_undo_the_transaction(schema: Schema, oven: Oven, name: str) -> None:
    stream = schema.stream(STRATEGIES[name], oven.config)
    stream.store(oven.batch(oven.scan(1)))
    before = schema.contents()
    schema.rows(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.parameter_id = 12 THEN RETURN NULL; END IF; RETURN NEW; END'"
    )
    schema.rows(
        "CREATE TRIGGER swallow BEFORE INSERT ON parameter_value_history"
        " FOR EACH ROW EXECUTE FUNCTION swallow()"
    )
    with pytest.raises(DatabaseError, match="fewer rows"):
        stream.store(oven.batch(oven.scan(2)))
    assert schema.contents() == before
    schema.rows("DROP TRIGGER swallow ON parameter_value_history")
    stream.store(oven.batch(oven.scan(2)))
    assert schema.value("SELECT last_scan FROM logging_streams") == 2


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_is_an_arm(name: str) -> None:
    spec = parse_arm(f"strategy:{name}+fillfactor=70")
    assert spec.repository_class() is STRATEGIES[name]


def test_round_trips_stores_one_item_at_a_time(schema: Schema, oven: Oven) -> None:
    stream = schema.stream(STATEMENTS["round_trips"], oven.config)
    items = [(stream, oven.batch(oven.scan(1))), (stream, oven.batch(oven.scan(2)))]
    with pytest.raises(ValueError, match="one item"):
        stream.repository.store_together(items)
