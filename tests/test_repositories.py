"""What every repository promises: history, process rows, ledger and stream in step, each scan once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from fix_postgres import Schema
from fix_scans import BAKING, HEAT, START_US, TARGET, Oven, recomputed_hash

from logger.database import register_device
from logger.errors import StreamMoved
from logger.repositories import BaselineRepository, Repository, Stream, SynchronizingRepository, peek
from logger.repositories.synchronizing import SharedSynchronizingRepository
from logger.scan import Batch, Gap, Quality, StreamKey
from logger.streams import GENESIS, StreamHead

KINDS = [BaselineRepository, SynchronizingRepository, SharedSynchronizingRepository]
US = "(extract(epoch FROM recorded_at) * 1000000)::bigint"
ROWS = f"scan, parameter_id, {US}, value, set_value, quality, transaction_id"


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Repository]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def stream(schema: Schema, kind: type[Repository], oven: Oven) -> Stream:
    return schema.stream(kind, oven.config)


def expected_rows(batch: Batch) -> list[tuple[Any, ...]]:
    """The batch's rows as SQL must give them back."""
    return [
        (
            int(batch.scan[i]),
            int(batch.parameter_id[i]),
            int(batch.recorded_at[i]),
            None if batch.value[i] != batch.value[i] else float(batch.value[i]),
            None if batch.set_value[i] != batch.set_value[i] else float(batch.set_value[i]),
            int(batch.quality[i]),
            batch.transaction_id,
        )
        for i in range(len(batch.value))
    ]


def test_batch_is_stored_in_history_and_ledger_and_moves_its_stream(
    schema: Schema, stream: Stream, oven: Oven
) -> None:
    batch = oven.batch(*oven.run_of(1, 3))
    stream.store(batch)
    assert schema.rows(f"SELECT {ROWS} FROM parameter_value_history ORDER BY 1, 2") == expected_rows(batch)
    assert schema.rows(
        "SELECT transaction_id, device_id, stream_id, first_scan, last_scan, history_rows, process_rows,"
        " process_id, repository, previous_hash, hash FROM logging_transactions"
    ) == [
        (batch.transaction_id, "oven-1", 1, 1, 3, 15, 0, None, stream.repository.name, GENESIS,
         stream.head.head_hash)
    ]  # fmt: skip
    assert schema.rows("SELECT device_id, stream_id, last_scan, head_hash FROM logging_streams") == [
        ("oven-1", 1, 3, stream.head.head_hash)
    ]
    assert schema.value("SELECT count(*) FROM process_data_points") == 0


def test_values_that_were_not_read_are_null_with_their_quality(
    schema: Schema, stream: Stream, oven: Oven
) -> None:
    bad = {HEAT: Quality.BAD_SENSOR_FAILURE, TARGET: Quality.BAD_COMMUNICATION}
    batch = oven.batch(oven.scan(1), oven.scan(2, bad=bad))
    stream.store(batch)
    stored = schema.rows(f"SELECT {ROWS} FROM parameter_value_history ORDER BY 1, 2")
    assert stored == expected_rows(batch)
    assert [row[3:6] for row in stored[5 + HEAT : 5 + TARGET + 1]] == [(None, None, 16), (None, None, 24)]


def test_process_rows_are_stored_while_it_runs_and_only_then(
    schema: Schema, stream: Stream, oven: Oven
) -> None:
    idle, running, more, after = (
        oven.batch(oven.scan(1)),
        oven.batch(*oven.run_of(2, 3, BAKING)),
        oven.batch(oven.scan(4, BAKING)),
        oven.batch(oven.scan(5)),
    )
    for batch in (idle, running, more, after):
        stream.store(batch)
    ((process_id, *execution),) = schema.rows(
        "SELECT process_id, device_id, stream_id, plc_number, recipe, first_scan,"
        " extract(epoch FROM started_at), extract(epoch FROM ended_at), outcome FROM process_executions"
    )
    started, ended = START_US // 1_000_000 + 2, START_US // 1_000_000 + 5
    assert execution == ["oven-1", 1, BAKING, "bake", 2, started, ended, "ended"]
    points = schema.rows(f"SELECT {ROWS}, process_id FROM process_data_points ORDER BY 1, 2")
    assert points == [(*row, process_id) for batch in (running, more) for row in expected_rows(batch)]
    ledger = schema.rows("SELECT process_rows, process_id FROM logging_transactions ORDER BY first_scan")
    assert ledger == [(0, None), (10, process_id), (5, process_id), (0, None)]


@pytest.mark.parametrize("number", [BAKING + 1, 2**32 - 1])
def test_process_with_another_number_is_another_process(
    schema: Schema, stream: Stream, oven: Oven, number: int
) -> None:
    stream.store(oven.batch(oven.scan(1, BAKING)))
    stream.store(oven.batch(oven.scan(2, number)))
    executions = schema.rows(
        "SELECT plc_number, first_scan, ended_at IS NULL FROM process_executions ORDER BY first_scan"
    )
    assert executions == [(BAKING, 1, False), (number, 2, True)]
    assert stream.process_number == number


def test_process_goes_on_when_the_logger_starts_again(
    schema: Schema, stream: Stream, kind: type[Repository], oven: Oven
) -> None:
    stream.store(oven.batch(oven.scan(1, BAKING)))
    again = schema.stream(kind, oven.config)
    assert (again.process_number, again.process_id) == (BAKING, stream.process_id)
    assert again.head == stream.head
    again.store(oven.batch(oven.scan(2, BAKING)))
    once_more = schema.stream(kind, oven.config)
    once_more.store(oven.batch(oven.scan(3)))
    assert schema.rows("SELECT plc_number, first_scan, outcome FROM process_executions") == [
        (BAKING, 1, "ended")
    ]
    assert schema.value("SELECT count(DISTINCT process_id) FROM process_data_points") == 1
    assert schema.stream(kind, oven.config).process_id is None


def test_repeated_batch_changes_nothing(
    schema: Schema, stream: Stream, kind: type[Repository], oven: Oven
) -> None:
    late = schema.stream(kind, oven.config)  # believes that the stream stands at 0
    batch = oven.batch(*oven.run_of(1, 2, BAKING))
    stream.store(batch)
    before = schema.contents()
    for repeated in (batch, oven.batch(*oven.run_of(1, 2, BAKING)), oven.batch(oven.scan(1, BAKING))):
        for stale in (stream, late):
            with pytest.raises(StreamMoved, match="stream 1 of oven-1 does not stand at"):
                stale.store(repeated)
    assert schema.contents() == before
    assert late.head == StreamHead()


def test_repeated_batch_is_stored_twice_without_the_gate(
    schema: Schema, kind: type[Repository], oven: Oven
) -> None:
    """The negative control of the test before."""

    class Ungated(kind):  # type: ignore[misc, valid-type]
        def statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
            statement, more = super().statement(batch)
            gate = "AND last_scan = %(expected_scan)s AND head_hash = %(previous_hash)s"
            assert gate in statement
            return statement.replace(gate, "AND %(expected_scan)s >= 0 AND %(previous_hash)s <> ''"), more

    first, late = (schema.stream(Ungated, oven.config) for _ in range(2))
    first.store(oven.batch(*oven.run_of(1, 2)))
    late.store(oven.batch(*oven.run_of(1, 2)))
    assert schema.value("SELECT count(*) FROM parameter_value_history WHERE scan = 1") == 10


@pytest.mark.parametrize("head", [StreamHead(2, GENESIS), StreamHead(1, bytes(31) + b"x")])
def test_other_head_than_the_stream_has_stores_nothing(
    schema: Schema, stream: Stream, oven: Oven, head: StreamHead
) -> None:
    stream.store(oven.batch(oven.scan(1)))
    stream.standing = replace(stream.standing, head=head)
    before = schema.contents()
    with pytest.raises(StreamMoved):
        stream.store(oven.batch(oven.scan(head.last_scan + 1)))
    with pytest.raises(StreamMoved):
        stream.store(oven.batch(oven.scan(head.last_scan + 1, BAKING)))
    with pytest.raises(StreamMoved):
        stream.record_gap(Gap(head.last_scan + 1, 9, "missed"))
    assert schema.contents() == before


def test_batch_that_leaves_scans_out_is_refused(schema: Schema, stream: Stream, oven: Oven) -> None:
    stream.store(oven.batch(oven.scan(1)))
    before = schema.contents()
    with pytest.raises(StreamMoved):
        stream.store(oven.batch(oven.scan(3)))
    assert schema.contents() == before


def test_gap_keeps_the_stream_contiguous(schema: Schema, stream: Stream, oven: Oven) -> None:
    stream.store(oven.batch(oven.scan(1)))
    stream.record_gap(Gap(2, 6, "missed: the scan before took too long"))
    with pytest.raises(StreamMoved):
        stream.record_gap(Gap(2, 6, "again"))
    stream.store(oven.batch(oven.scan(7)))
    gaps = schema.rows("SELECT device_id, stream_id, first_scan, last_scan, reason FROM scan_gaps")
    assert gaps == [("oven-1", 1, 2, 6, "missed: the scan before took too long")]
    assert schema.rows(
        "SELECT first_scan, last_scan, history_rows, process_rows FROM logging_transactions ORDER BY 1"
    ) == [(1, 1, 5, 0), (2, 6, 0, 0), (7, 7, 5, 0)]
    assert schema.value("SELECT last_scan FROM logging_streams") == 7


def test_every_hash_follows_from_what_is_stored(schema: Schema, stream: Stream, oven: Oven) -> None:
    stream.store(oven.batch(*oven.run_of(1, 2)))
    stream.store(oven.batch(oven.scan(3, BAKING, {HEAT: Quality.BAD_COMMUNICATION})))
    stream.record_gap(Gap(4, 6, "missed"))
    stream.store(oven.batch(oven.scan(7, BAKING)))
    previous = GENESIS
    ledger = schema.rows(
        "SELECT first_scan, last_scan, transaction_id, process_id, previous_hash, hash,"
        " coalesce((SELECT reason FROM scan_gaps g WHERE g.transaction_id = t.transaction_id), '')"
        " FROM logging_transactions t ORDER BY first_scan"
    )
    for first, last, transaction_id, process_id, stored_previous, stored_hash, reason in ledger:
        rows = schema.rows(
            f"SELECT parameter_id, {US}, value, set_value, quality FROM parameter_value_history"
            " WHERE transaction_id = %s ORDER BY scan, parameter_id",
            transaction_id,
        )
        assert stored_previous == previous
        previous = recomputed_hash(
            previous, 1, first, last, "oven-1", transaction_id, process_id, rows, reason
        )
        assert stored_hash == previous
    assert len(ledger) == 4
    assert previous == schema.value("SELECT head_hash FROM logging_streams") == stream.head.head_hash


def test_streams_of_one_device_are_numbered_each_by_itself(
    schema: Schema, kind: type[Repository], oven: Oven
) -> None:
    one, two = (schema.stream(kind, oven.config, stream_id) for stream_id in (1, 2**31 - 1))
    one.store(oven.batch(*oven.run_of(1, 3)))
    two.store(oven.batch(oven.scan(1)))
    assert schema.rows("SELECT stream_id, last_scan FROM logging_streams ORDER BY 1") == [
        (1, 3),
        (2**31 - 1, 1),
    ]


def test_streams_of_a_connection_share_one_prepared_statement(
    schema: Schema, kind: type[Repository], oven: Oven
) -> None:
    first = 2**31 - 3  # numbers beyond 32 bits use it too
    schema.stream(kind, oven.config)
    schema.rows("UPDATE logging_streams SET last_scan = %s", first - 1)
    connection = schema.connect()
    repository = kind(connection)
    stream, other = (repository.open(StreamKey("oven-1", stream_id)) for stream_id in (1, 2))
    today = oven.scan(1).recorded_at
    for scan in oven.run_of(first, first + 5):
        stream.store(oven.batch(replace(scan, recorded_at=today)))
    other.store(oven.batch(oven.scan(1)))
    statements = connection.execute(
        "SELECT count(*), max(statement) FROM pg_prepared_statements WHERE statement LIKE '%WITH%'"
    ).fetchone()
    assert statements is not None
    assert statements[0] == 1, statements
    assert schema.value("SELECT max(scan) FROM parameter_value_history") == 2**31 + 2
    assert schema.value("SELECT count(*) FROM parameter_value_history") == 35


def test_times_of_a_gap_and_of_a_batch_are_stored(schema: Schema, stream: Stream, oven: Oven) -> None:
    stream.store(oven.batch(*oven.run_of(1, 2)))
    gaps = [(0, 0), (START_US, 0), (START_US + 1, START_US + 5_000_000)]
    for number, (first_at, last_at) in enumerate(gaps, 3):
        stream.record_gap(Gap(number, number, "missed", first_at, last_at))
    us = "(extract(epoch FROM {}) * 1000000)::bigint"
    stored = schema.rows(
        f"SELECT {us.format('first_at')}, {us.format('last_at')} FROM scan_gaps ORDER BY first_scan"
    )
    assert stored == [(first or None, last or None) for first, last in gaps]
    ledger = schema.rows(
        f"SELECT {us.format('first_recorded_at')}, {us.format('last_recorded_at')}"
        " FROM logging_transactions ORDER BY first_scan"
    )
    assert ledger == [(START_US + 1_000_000, START_US + 2_000_004), *[(None, None)] * 3]


def test_opening_claims_the_stream_and_says_what_it_logs(
    schema: Schema, kind: type[Repository], oven: Oven
) -> None:
    key, first, second = StreamKey("oven-1", 7), uuid4(), uuid4()
    register_device(schema.connect(), oven.config)
    connection = schema.connect()
    assert peek(connection, key) is None
    stream = kind(connection).open(key, "bake", first, "slow", 10.0)
    assert peek(connection, key) == (0, first)
    row = "SELECT poll_group, interval_s FROM logging_streams"
    assert schema.rows(row) == [("slow", 10.0)]
    stream.store(oven.batch(*oven.run_of(1, 3)))
    again = kind(connection).open(key, "bake", first, "slow", 2.5)
    assert (again.head, schema.rows(row)) == (stream.head, [("slow", 2.5)])
    taken = kind(connection).open(key, "bake", second)
    assert (peek(connection, key), schema.rows(row)) == ((3, second), [("", None)])
    with pytest.raises(StreamMoved):
        again.record_gap(Gap(4, 4, "missed"))
    taken.record_gap(Gap(4, 4, "missed"))
    assert kind(connection).open(key).writer not in (first, second)
