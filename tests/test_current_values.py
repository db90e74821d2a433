"""Current values: the newest good value of each parameter, in step with history, never older again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fix_postgres import Schema
from fix_scans import BAKING, HEAT, LAMP, NUMBER, RUNNING, START_US, TARGET, Oven

from logger.repositories import BaselineRepository, SynchronizingRepository
from logger.repositories.synchronizing import SharedSynchronizingRepository
from logger.scan import Batch, Quality, Scan, Text

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
    schema.stream(kind, oven.config)
    assert schema.rows(NOW) == [(None, 0, None, None, None, 32, 0, None)] * 5
    assert schema.rows(
        "SELECT component, name, unit, low_limit, high_limit FROM component_parameters"
        " WHERE parameter_id = 12"
    ) == [("oven", "heat", "degC", 0.0, 300.0)]


@pytest.mark.parametrize("process", [None, BAKING])
def test_good_batch_leaves_its_last_scan(schema: Schema, kind: Kind, oven: Oven, process: int | None) -> None:
    batch = oven.batch(*oven.run_of(1, 3, process))
    schema.stream(kind, oven.config).store(batch)
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
    stream = schema.stream(kind, oven.config)
    good, bad = oven.batch(oven.scan(1)), oven.batch(oven.scan(2, bad={HEAT: SENSOR, LAMP: BAD}))
    stream.store(good)
    stream.store(bad)
    now = schema.rows(NOW)
    assert now[HEAT] == (102.0, 1, at(1, HEAT), good.transaction_id, 203.0, 16, 2, at(2, HEAT))
    assert now[LAMP] == (104.0, 1, at(1, LAMP), good.transaction_id, None, 24, 2, at(2, LAMP))
    assert now[TARGET] == (203.0, 2, at(2, TARGET), bad.transaction_id, None, 192, 2, at(2, TARGET))
    again = oven.batch(oven.scan(3))
    stream.store(again)
    assert schema.rows(NOW)[HEAT] == (302.0, 3, at(3, HEAT), again.transaction_id, 303.0, 192, 3, at(3, HEAT))


def test_newest_good_value_may_stand_in_the_middle_of_a_batch(schema: Schema, kind: Kind, oven: Oven) -> None:
    batch = oven.batch(
        oven.scan(1, bad={LAMP: BAD}), oven.scan(2, bad={LAMP: BAD}), oven.scan(3, bad={HEAT: BAD, LAMP: BAD})
    )
    schema.stream(kind, oven.config).store(batch)
    now = schema.rows(NOW)
    assert now[HEAT] == (202.0, 2, at(2, HEAT), batch.transaction_id, 303.0, 24, 3, at(3, HEAT))
    assert now[LAMP] == (None, 0, None, None, None, 24, 3, at(3, LAMP))


def test_no_value_good_at_all_changes_only_what_stands_now(schema: Schema, kind: Kind, oven: Oven) -> None:
    stream = schema.stream(kind, oven.config)
    stream.store(oven.batch(oven.scan(1)))
    before = schema.rows(NOW)
    stream.store(oven.batch(oven.scan(2, bad=dict.fromkeys(range(5), BAD))))
    now = schema.rows(NOW)
    assert [row[:4] for row in now] == [row[:4] for row in before]
    assert [row[4:] for row in now] == [(None, 24, 2, at(2, column)) for column in range(5)]


@pytest.mark.parametrize("bad", [{}, {HEAT: BAD}], ids=["good", "bad"])
def test_late_scan_of_another_stream_never_moves_a_value_back(
    schema: Schema, oven: Oven, bad: dict[int, Quality]
) -> None:
    ahead, behind = (schema.stream(SharedSynchronizingRepository, oven.config, stream) for stream in (1, 2))
    ahead.store(oven.batch(*oven.run_of(1, 5)))
    before = schema.rows(NOW)
    behind.store(oven.batch(oven.scan(1, bad=bad)))
    behind.store(oven.batch(*oven.run_of(2, 3), oven.scan(4, bad=bad)))
    assert schema.rows(NOW) == before
    assert schema.value("SELECT count(*) FROM parameter_value_history WHERE stream_id = 2") == 20
    behind.store(oven.batch(*oven.run_of(5, 6)))
    assert {row[1] for row in schema.rows(NOW)} == {6}


def test_late_good_value_fills_in_where_the_newer_one_was_bad(schema: Schema, oven: Oven) -> None:
    ahead, behind = (schema.stream(SharedSynchronizingRepository, oven.config, stream) for stream in (1, 2))
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
        def statement(self, batch):  # type: ignore[no-untyped-def]
            statement, more = super().statement(batch)
            for gate in ("new.scan > c.scan", "new.attempt_scan > c.last_attempt_scan", "c.scan < new.scan"):
                assert gate in statement
                statement = statement.replace(gate, "true")
            return statement, more

    schema.stream(SharedSynchronizingRepository, oven.config).store(oven.batch(*oven.run_of(1, 5)))
    schema.stream(Careless, oven.config, 2).store(oven.batch(oven.scan(1)))
    assert schema.rows(NOW)[HEAT][0] == 102.0


@pytest.mark.parametrize("process", [None, BAKING])
def test_baseline_never_touches_current_values(schema: Schema, oven: Oven, process: int | None) -> None:
    stream = schema.stream(BaselineRepository, oven.config)
    before = schema.rows("SELECT xmin, ctid, * FROM component_parameters ORDER BY parameter_id")
    stream.store(oven.batch(oven.scan(1, process)))
    stream.store(oven.batch(oven.scan(2, process), oven.scan(3, process, {HEAT: BAD})))
    assert schema.rows("SELECT xmin, ctid, * FROM component_parameters ORDER BY parameter_id") == before
    assert schema.value("SELECT count(*) FROM parameter_value_history") == 15


def test_two_devices_keep_their_own_values(schema: Schema, kind: Kind) -> None:
    one, two = Oven("oven-1"), Oven("oven-2")
    first, second = schema.stream(kind, one.config), schema.stream(kind, two.config)
    first.store(one.batch(one.scan(1)))
    second.store(two.batch(*two.run_of(1, 4)))
    scans = schema.rows("SELECT DISTINCT device_id, scan FROM component_parameters ORDER BY 1")
    assert scans == [("oven-1", 1), ("oven-2", 4)]


TEXTS = "SELECT current_value, current_text, scan FROM component_parameters WHERE parameter_id = %s"
STORED = "SELECT scan, value, value_text, quality FROM {} WHERE parameter_id = %s ORDER BY scan"


def says(scan: Scan, text: str, value: float = np.nan, column: int = HEAT) -> Scan:
    """The scan with a text in one column."""
    scan.values[column] = value
    return replace(scan, texts=(Text(column, text),))


@pytest.mark.parametrize("before", [0, 1], ids=["one scan", "the last of two"])
@pytest.mark.parametrize("lamp", [{}, {LAMP: BAD}], ids=["all good", "another bad"])
def test_texts_are_stored_and_stand_as_the_current_value(
    schema: Schema, kind: Kind, oven: Oven, before: int, lamp: dict[int, Quality]
) -> None:
    stream = schema.stream(kind, oven.config)
    texts = ["Rezept Ä", "18446744073709551615", ""]
    values = [np.nan, 1.8446744073709552e19, np.nan]
    for n, (text, value) in enumerate(zip(texts, values, strict=True)):
        number = stream.head.last_scan + 1 + before
        scans = [*oven.run_of(number - before, number - 1, BAKING), oven.scan(number, BAKING, lamp)]
        stream.store(oven.batch(*scans[:-1], says(scans[-1], text, value)))
        now = None if np.isnan(value) else value
        assert schema.rows(TEXTS, HEAT + 10) == [(now, text, number)], n
        for table in ("parameter_value_history", "process_data_points"):
            assert schema.rows(STORED.format(table), HEAT + 10)[-1] == (number, now, text, 192)
    number += 1
    stream.store(oven.batch(oven.scan(number, bad={HEAT: BAD})))
    assert schema.rows(TEXTS, HEAT + 10) == [(now, "", number - 1)]  # the last usable one stands
    stream.store(oven.batch(oven.scan(number + 1, bad=lamp)))
    assert schema.rows(TEXTS, HEAT + 10) == [(100 * number + 102, None, number + 1)]
    assert schema.value("SELECT count(value_text) FROM parameter_value_history") == 3


QUALITIES: list[tuple[int, float, bool]] = [
    (Quality.UNCERTAIN_LIMITS_EXCEEDED, 500.0, True),
    (Quality.BAD_SENSOR_FAILURE, 501.0, False),
    (Quality.UNCERTAIN_LAST_USABLE, 502.0, True),
    (63, 503.0, False),
    (64, 504.0, True),
    (Quality.UNCERTAIN_LIMITS_EXCEEDED, np.nan, False),
    (216, 505.0, True),  # good, local override
    (Quality.GOOD, np.nan, False),
]
"""Quality, value, and whether a parameter's current value moves there."""


@pytest.mark.parametrize("others", [{}, {LAMP: BAD}], ids=["alone", "beside a bad one"])
def test_current_value_is_the_newest_that_is_not_bad_and_is_there(
    schema: Schema, kind: Kind, oven: Oven, others: dict[int, Quality]
) -> None:
    stream = schema.stream(kind, oven.config)
    stream.store(oven.batch(oven.scan(1)))
    stands = (102.0, 1, at(1, HEAT))
    for number, (quality, value, moves) in enumerate(QUALITIES, 2):
        scan = oven.scan(number, bad=others)
        scan.values[HEAT], scan.quality[HEAT] = value, quality
        stream.store(oven.batch(scan))
        if moves:
            stands = (value, number, at(number, HEAT))
        now = schema.rows(NOW)[HEAT]
        assert (now[:3], now[5:]) == (stands, (quality, number, at(number, HEAT))), (quality, value)


def test_streams_of_poll_groups_move_their_own_parameters_only(schema: Schema, oven: Oven) -> None:
    """The slow group's numbers stay far behind; its values must not."""
    fast, slow = (schema.stream(SynchronizingRepository, oven.config, n) for n in (1, 2))
    batch = oven.batch(*oven.run_of(1, 50))
    fast.store(part(batch, [RUNNING, NUMBER, HEAT]))
    slow.store(part(oven.batch(oven.scan(1)), [TARGET, LAMP]))
    fast.store(part(oven.batch(oven.scan(51)), [RUNNING, NUMBER, HEAT]))
    slow.store(part(oven.batch(oven.scan(2)), [TARGET, LAMP]))
    assert [row[:2] for row in schema.rows(NOW)] == [
        (0.0, 51),
        (0.0, 51),
        (5102.0, 51),
        (203.0, 2),
        (204.0, 2),
    ]


def part(batch: Batch, columns: list[int]) -> Batch:
    """The batch with these columns only."""
    rows = np.isin(np.arange(len(batch.value)) % batch.parameters, columns)
    fields = ("parameter_id", "recorded_at", "value", "set_value", "quality")
    arrays: dict[str, Any] = {name: getattr(batch, name)[rows] for name in fields}
    return replace(batch, parameters=len(columns), **arrays)
