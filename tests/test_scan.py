"""Scans as arrays: set values beside values, the running process, and what a batch says of now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fix_scans import BAKING, HEAT, LAMP, NUMBER, RUNNING, START_US, TARGET, Oven

from logger.scan import Quality, ScanLayout, Text, batch_of
from plcsim.device_file import load_device

ALD = Path(__file__).parent.parent / "configs" / "ald.yaml"
BAD = Quality.BAD_COMMUNICATION


def test_set_value_stands_beside_the_parameter_that_has_one(oven: Oven) -> None:
    values = np.array([[1.0, 7.0, 180.5, 200.0, 1.0], [1.0, 7.0, 181.5, 210.0, 0.0]])
    set_values = oven.layout.set_values(values)
    assert set_values[:, HEAT].tolist() == [200.0, 210.0]
    assert np.isnan(np.delete(set_values, HEAT, axis=1)).all()


def test_columns_are_in_the_order_of_parameter_ids() -> None:
    layout = ScanLayout(load_device(ALD))
    assert layout.parameter_ids.tolist() == list(range(1, 85))
    assert layout.parameter_ids_of(2).tolist() == [*range(1, 85), *range(1, 85)]


@pytest.mark.parametrize(
    ("running", "number", "before", "expected"),
    [
        (1.0, 7.0, None, 7),
        (1.0, 8.0, 7, 8),
        (0.0, 7.0, 7, None),
        (2.0, 0.0, None, 0),  # non-zero means running, and 0 is a number
        (1.0, float(2**32 - 1), None, 2**32 - 1),
        (np.nan, 7.0, 7, 7),  # not read: as it was
        (1.0, np.nan, 7, 7),
        (np.nan, np.nan, None, None),
        (1.0, 2.0**63, 7, 7),  # nonsense, as 64 bits of ones are: neither spool nor database holds it
        (1.0, -1e300, None, None),
        (1.0, 2.0**53, 7, 2**53),
    ],
)
def test_process_that_a_scan_shows(
    oven: Oven, running: float, number: float, before: int | None, expected: int | None
) -> None:
    values = np.zeros(oven.layout.size)
    values[RUNNING], values[NUMBER] = running, number
    assert oven.layout.process_number(values, before) == expected


def test_device_without_a_process_never_runs_one() -> None:
    spec = load_device(ALD).model_copy(update={"process": None})
    layout = ScanLayout(spec)
    assert layout.process_number(np.ones(layout.size), 3) is None
    assert layout.recipe == ""


def test_batch_holds_its_scans_one_after_the_other(oven: Oven) -> None:
    first, second = oven.run_of(41, 42, BAKING)
    batch = oven.batch(first, second)
    assert (batch.first_scan, batch.last_scan, batch.process_number) == (41, 42, BAKING)
    assert batch.scan.tolist() == [41] * 5 + [42] * 5
    assert batch.parameter_id.tolist() == [10, 11, 12, 13, 14] * 2
    assert batch.value.tolist() == [*first.values, *second.values]
    assert batch.recorded_at.tolist() == [*first.recorded_at, *second.recorded_at]
    assert batch.set_value[[HEAT, 5 + HEAT]].tolist() == [first.values[TARGET], second.values[TARGET]]
    assert not batch.has_bad
    assert batch.last_scan_is_good
    assert batch.transaction_id != oven.batch(first, second).transaction_id


@pytest.mark.parametrize(
    ("bad_in", "has_bad", "last_is_good"),
    [([], False, True), ([0], True, True), ([1], True, False), ([0, 1], True, False)],
)
def test_batch_knows_where_it_is_bad(
    oven: Oven, bad_in: list[int], has_bad: bool, last_is_good: bool
) -> None:
    batch = oven.batch(*(oven.scan(n + 1, bad={LAMP: BAD} if n in bad_in else None) for n in range(2)))
    assert (batch.has_bad, batch.last_scan_is_good) == (has_bad, last_is_good)


def test_good_with_a_remark_is_not_taken_for_plain_good(oven: Oven) -> None:
    scan = oven.scan(1)
    scan.quality[LAMP] = 216  # good, local override: the number must be stored as it is
    batch = oven.batch(scan)
    assert (batch.has_bad, batch.last_scan_is_good) == (True, False)
    assert batch.newest_usable().value[LAMP] == scan.values[LAMP]


def test_newest_usable_value_of_each_parameter(oven: Oven) -> None:
    batch = oven.batch(
        oven.scan(5, bad={RUNNING: BAD}),
        oven.scan(6, bad={LAMP: BAD, RUNNING: BAD}),
        oven.scan(7, bad={HEAT: Quality.BAD_SENSOR_FAILURE, LAMP: BAD, RUNNING: BAD}),
    )
    now = batch.newest_usable()
    assert np.isnan(now.value[RUNNING])
    assert now.value[[HEAT, TARGET, LAMP]].tolist() == [602.0, 703.0, 504.0]
    assert now.scan.tolist() == [0, 7, 6, 7, 5]
    assert now.updated_at[1:].tolist() == [
        START_US + scan * 1_000_000 + column for column, scan in ((1, 7), (2, 6), (3, 7), (4, 5))
    ]
    assert now.quality.tolist() == [BAD, 192, Quality.BAD_SENSOR_FAILURE, 192, BAD]
    assert now.attempt_scan.tolist() == [7] * 5
    assert now.attempt_at.tolist() == [START_US + 7_000_000 + column for column in range(5)]


def test_batch_counts_as_the_database_does(oven: Oven) -> None:
    batch = batch_of(oven.run_of(1, 2), oven.layout, offset=40)
    assert (batch.first_scan, batch.last_scan) == (41, 42)
    assert batch.scan.tolist() == [41] * 5 + [42] * 5
    assert batch.newest_usable().scan.tolist() == [42] * 5


def test_batch_knows_its_texts_by_row(oven: Oven) -> None:
    first, second, third = oven.run_of(1, 3)
    for scan in (first, second, third):
        scan.values[LAMP] = np.nan
    texts = (Text(LAMP, "on"),)
    batch = oven.batch(replace(first, texts=texts), second, replace(third, texts=(Text(LAMP, ""),)))
    assert batch.texts == ((LAMP, "on"), (10 + LAMP, ""))
    assert batch.last_scan_is_good
    assert batch.usable.reshape(3, 5)[:, LAMP].tolist() == [True, False, True]
    assert not oven.batch(first).last_scan_is_good  # a value that is neither a number nor a text
    now = oven.batch(replace(first, texts=texts), second).newest_usable()
    assert (now.scan[LAMP], now.texts) == (1, ((LAMP, "on"),))
