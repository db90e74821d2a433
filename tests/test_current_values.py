"""Current values: the newest good value of each parameter, in step with history, never older again."""

from __future__ import annotations

import pytest
from fix_postgres import Schema
from fix_scans import BAKING, HEAT, LAMP, START_US, TARGET, Oven

from logger.repositories import BaselineRepository, SynchronizingRepository
from logger.repositories.synchronizing import SharedSynchronizingRepository
from logger.scan import Quality

KINDS = [SynchronizingRepository, SharedSynchronizingRepository]
NOW = (
    "SELECT current_value, scan, (extract(epoch FROM updated_at) * 1000000)::bigint, transaction_id,"
    " set_value, last_quality, last_attempt_scan, (extract(epoch FROM last_attempt_at) * 1000000)::bigint"
    " FROM component_parameters ORDER BY parameter_id"
)
BAD, SENSOR = Quality.BAD_COMMUNICATION, Quality.BAD_SENSOR_FAILURE
Kind = type[SynchronizingRepository]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


def at(scan: int, column: int) -> int:
    return START_US + scan * 1_000_000 + column


def test_parameter_without_a_value_yet_says_so(schema: Schema, kind: Kind, oven: Oven) -> None:
    schema.repository(kind, oven.config)
    assert schema.rows(NOW) == [(None, 0, None, None, None, 32, 0, None)] * 5
    assert schema.rows(
        "SELECT component, name, unit, low_limit, high_limit FROM component_parameters"
        " WHERE parameter_id = 12"
    ) == [("oven", "heat", "degC", 0.0, 300.0)]


@pytest.mark.parametrize("process", [None, BAKING])
def test_good_batch_leaves_its_last_scan(schema: Schema, kind: Kind, oven: Oven, process: int | None) -> None:
    batch = oven.batch(*oven.run_of(1, 3, process))
    schema.repository(kind, oven.config).store(batch)
    last = oven.scan(3, process)
    assert schema.rows(NOW) == [
        (
            last.values[column],
            3,
            at(3, column),
            batch.transaction_id,
            last.values[TARGET] if column == HEAT else None,
            192,
            3,
            at(3, column),
        )
        for column in range(5)
    ]


def test_bad_value_keeps_the_last_good_one_with_its_own_time(schema: Schema, kind: Kind, oven: Oven) -> None:
    repository = schema.repository(kind, oven.config)
    good, bad = oven.batch(oven.scan(1)), oven.batch(oven.scan(2, bad={HEAT: SENSOR, LAMP: BAD}))
    repository.store(good)
    repository.store(bad)
    now = schema.rows(NOW)
    assert now[HEAT] == (102.0, 1, at(1, HEAT), good.transaction_id, 203.0, 16, 2, at(2, HEAT))
    assert now[LAMP] == (104.0, 1, at(1, LAMP), good.transaction_id, None, 24, 2, at(2, LAMP))
    assert now[TARGET] == (203.0, 2, at(2, TARGET), bad.transaction_id, None, 192, 2, at(2, TARGET))
    again = oven.batch(oven.scan(3))
    repository.store(again)
    assert schema.rows(NOW)[HEAT] == (302.0, 3, at(3, HEAT), again.transaction_id, 303.0, 192, 3, at(3, HEAT))


def test_newest_good_value_may_stand_in_the_middle_of_a_batch(schema: Schema, kind: Kind, oven: Oven) -> None:
    batch = oven.batch(
        oven.scan(1, bad={LAMP: BAD}), oven.scan(2, bad={LAMP: BAD}), oven.scan(3, bad={HEAT: BAD, LAMP: BAD})
    )
    schema.repository(kind, oven.config).store(batch)
    now = schema.rows(NOW)
    assert now[HEAT] == (202.0, 2, at(2, HEAT), batch.transaction_id, 303.0, 24, 3, at(3, HEAT))
    assert now[LAMP] == (None, 0, None, None, None, 24, 3, at(3, LAMP))


def test_no_value_good_at_all_changes_only_what_stands_now(schema: Schema, kind: Kind, oven: Oven) -> None:
    repository = schema.repository(kind, oven.config)
    repository.store(oven.batch(oven.scan(1)))
    before = schema.rows(NOW)
    repository.store(oven.batch(oven.scan(2, bad=dict.fromkeys(range(5), BAD))))
    now = schema.rows(NOW)
    assert [row[:4] for row in now] == [row[:4] for row in before]
    assert [row[4:] for row in now] == [(None, 24, 2, at(2, column)) for column in range(5)]


@pytest.mark.parametrize("bad", [{}, {HEAT: BAD}], ids=["good", "bad"])
def test_late_scan_of_another_stream_never_moves_a_value_back(
    schema: Schema, oven: Oven, bad: dict[int, Quality]
) -> None:
    ahead, behind = (
        schema.repository(SharedSynchronizingRepository, oven.config, stream) for stream in (1, 2)
    )
    ahead.store(oven.batch(*oven.run_of(1, 5)))
    before = schema.rows(NOW)
    behind.store(oven.batch(oven.scan(1, bad=bad)))
    behind.store(oven.batch(*oven.run_of(2, 3), oven.scan(4, bad=bad)))
    assert schema.rows(NOW) == before
    assert schema.value("SELECT count(*) FROM parameter_value_history WHERE stream_id = 2") == 20
    behind.store(oven.batch(*oven.run_of(5, 6)))
    assert {row[1] for row in schema.rows(NOW)} == {6}


def test_late_good_value_fills_in_where_the_newer_one_was_bad(schema: Schema, oven: Oven) -> None:
    ahead, behind = (
        schema.repository(SharedSynchronizingRepository, oven.config, stream) for stream in (1, 2)
    )
    ahead.store(oven.batch(oven.scan(1)))
    ahead.store(oven.batch(oven.scan(2), oven.scan(3), oven.scan(4, bad={HEAT: BAD, LAMP: BAD})))
    ahead.store(oven.batch(oven.scan(5, bad={HEAT: BAD})))
    behind.store(oven.batch(*oven.run_of(1, 4)))
    now = schema.rows(NOW)
    assert now[HEAT][:3] == (402.0, 4, at(4, HEAT))  # newer than the 3 that was the newest good one
    assert now[HEAT][5:] == (24, 5, at(5, HEAT))  # but the newest attempt failed
    assert now[LAMP][:3] == (504.0, 5, at(5, LAMP))


def test_value_moves_back_without_the_comparison_of_scans(schema: Schema, oven: Oven) -> None:
    """The negative control: the same late scan, with the protection taken out of the statement."""

    class Careless(SharedSynchronizingRepository):
        def _statement(self, batch):  # type: ignore[no-untyped-def]
            statement, more = super()._statement(batch)
            for gate in ("new.scan > c.scan", "new.attempt_scan > c.last_attempt_scan", "c.scan < new.scan"):
                assert gate in statement
                statement = statement.replace(gate, "true")
            return statement, more

    schema.repository(SharedSynchronizingRepository, oven.config).store(oven.batch(*oven.run_of(1, 5)))
    schema.repository(Careless, oven.config, 2).store(oven.batch(oven.scan(1)))
    assert schema.rows(NOW)[HEAT][0] == 102.0


@pytest.mark.parametrize("process", [None, BAKING])
def test_baseline_never_touches_current_values(schema: Schema, oven: Oven, process: int | None) -> None:
    repository = schema.repository(BaselineRepository, oven.config)
    before = schema.rows("SELECT xmin, ctid, * FROM component_parameters ORDER BY parameter_id")
    repository.store(oven.batch(oven.scan(1, process)))
    repository.store(oven.batch(oven.scan(2, process), oven.scan(3, process, {HEAT: BAD})))
    assert schema.rows("SELECT xmin, ctid, * FROM component_parameters ORDER BY parameter_id") == before
    assert schema.value("SELECT count(*) FROM parameter_value_history") == 15


def test_two_devices_keep_their_own_values(schema: Schema, kind: Kind) -> None:
    one, two = Oven("oven-1"), Oven("oven-2")
    first, second = schema.repository(kind, one.config), schema.repository(kind, two.config)
    first.store(one.batch(one.scan(1)))
    second.store(two.batch(*two.run_of(1, 4)))
    scans = schema.rows("SELECT DISTINCT device_id, scan FROM component_parameters ORDER BY 1")
    assert scans == [("oven-1", 1), ("oven-2", 4)]
