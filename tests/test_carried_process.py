"""A process that is open in the database goes on over scans that could not read whether it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fix_forwarder import OVEN_1, SETTINGS, Start
from fix_postgres import Schema
from fix_scans import BAKING, NUMBER, RUNNING, Oven

from logger.forwarding import gathering
from logger.repositories import BaselineRepository
from logger.scan import Quality, Scan

UNREAD = {RUNNING: Quality.BAD_NOT_CONNECTED, NUMBER: Quality.BAD_NOT_CONNECTED}


def unread(oven: Oven, number: int) -> Scan:
    """A scan of a logger that has never seen the state of the process."""
    return oven.scan(number, None, UNREAD)


def executions(schema: Schema) -> list[tuple[int, int, bool]]:
    return schema.rows("SELECT plc_number, first_scan, ended_at IS NULL FROM process_executions ORDER BY 2")


def process_scans(schema: Schema) -> list[int]:
    return [scan for (scan,) in schema.rows("SELECT DISTINCT scan FROM process_data_points ORDER BY 1")]


@pytest.fixture
def baked(schema: Schema, oven: Oven) -> None:
    """Another logger left scans 1 to 3 and a process that runs."""
    schema.stream(BaselineRepository, oven.config).store(oven.batch(*oven.run_of(1, 3, BAKING)))


@pytest.mark.usefixtures("baked")
@pytest.mark.parametrize("max_scans", [1, 20])
def test_new_spool_whose_plc_cannot_be_read_leaves_the_process_open(
    schema: Schema, oven: Oven, storing: Start, max_scans: int
) -> None:
    run = storing(settings=replace(SETTINGS, max_scans=max_scans))
    run.put(unread(oven, 1), unread(oven, 2), oven.scan(3, BAKING), oven.scan(4), unread(oven, 5))
    run.start()
    assert run.close() == 0
    assert executions(schema) == [(BAKING, 1, False)]  # it ended with our scan 4, and one row is all
    assert process_scans(schema) == [1, 2, 3, 4, 5, 6]
    assert schema.value("SELECT ended_at FROM process_executions") == schema.value(
        "SELECT min(recorded_at) FROM parameter_value_history WHERE scan = 7"
    )


@pytest.mark.usefixtures("baked")
def test_first_scan_that_shows_another_process_ends_the_one_before(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing()
    run.put(unread(oven, 1), oven.scan(2, BAKING + 1), unread(oven, 3))
    run.start()
    assert run.close() == 0
    # What is unread is of what ran before it, where the logger did not say so itself.
    assert executions(schema) == [(BAKING, 1, False), (BAKING + 1, 5, True)]
    assert process_scans(schema) == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("baked")
def test_poison_in_a_batch_of_unread_scans_leaves_the_process_as_it_is(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    schema.rows("ALTER TABLE parameter_value_history ADD CONSTRAINT sane CHECK (value <> 304) NOT VALID")
    run = storing()
    run.put(*(unread(oven, number) for number in range(1, 7)), oven.scan(7))
    run.start()
    assert run.close() == 0
    assert [entry.number for entry in run.quarantine.list()] == [3]
    assert process_scans(schema) == [1, 2, 3, 4, 5, 7, 8, 9]
    assert executions(schema) == [(BAKING, 1, False)]


@pytest.mark.usefixtures("baked")
def test_control_as_the_spool_has_it_the_process_would_end(
    schema: Schema, oven: Oven, storing: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "process_of", lambda lane, scan, before: scan.process_number)
    run = storing()
    run.put(unread(oven, 1), key=OVEN_1)
    run.start()
    assert run.close() == 0
    assert executions(schema) == [(BAKING, 1, False)]
    assert process_scans(schema) == [1, 2, 3]
