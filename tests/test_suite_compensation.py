"""The suite's part compensation: failures leave nothing, and what is left or lost is noticed."""

from __future__ import annotations

import pytest
from fix_checks import run_part
from fix_plant import APPEND_ONLY
from fix_postgres import Schema

from bench.analysis.verdict import Outcome
from bench.load.scan_source import PrecomputedScans
from bench.suite import compensation
from bench.suite.audit import Trace, trace
from bench.suite.crowd import crowd_configs, crowd_device
from bench.suite.failing_steps import STEPS, fail_each_step
from bench.suite.failing_units import KILLED, REFUSED, FailingUnits
from logger.database import register_devices
from logger.database.unit_of_work import Unit
from logger.repositories import BaselineRepository, SynchronizingRepository
from logger.scan import ScanLayout, batch_of


def failing_units(schema: Schema) -> FailingUnits:
    register_devices(schema.connect(), crowd_configs(10, 0))
    return FailingUnits(schema.connect(), schema.connect, SynchronizingRepository(schema.connect()), 10)


@pytest.mark.parametrize("how", [REFUSED, KILLED])
def test_what_a_failed_unit_left_is_undone_or_finished(schema: Schema, how: str) -> None:
    units = failing_units(schema)
    for step in (0, 1):
        case = units.fail(how, step, transactions=2)
        assert case.wrong == []
        assert (case.undone, case.recorded) == ((step, step) if how == REFUSED else (0, 0))
    assert units.rows == schema.value("SELECT count(*) FROM parameter_value_history")


def test_a_unit_that_is_not_undone_is_noticed(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a unit that believes that nothing of it stands voids nothing."""
    monkeypatch.setattr(Unit, "_standing", lambda unit: [])
    case = failing_units(schema).fail(REFUSED, 1, transactions=2)
    assert "after try 1 something of it stands" in case.wrong
    assert "after try 1 0 transactions are voided" in case.wrong
    assert "current values have changed" in case.wrong


def test_a_transaction_that_fails_in_any_step_leaves_nothing(schema: Schema) -> None:
    register_devices(schema.connect(), crowd_configs(10, 1))
    owner = schema.connect()
    cases = fail_each_step(owner, SynchronizingRepository(schema.connect()), 10, 0)
    assert [(case.step, case.has_step, case.wrong) for case in cases] == [(step, True, []) for step in STEPS]
    cases = fail_each_step(owner, BaselineRepository(schema.connect()), 10, 1)
    assert [case.step for case in cases if not case.has_step] == ["current values"]


def traced(schema: Schema) -> dict[str, Trace]:
    return {each.table: each for each in trace(schema.connect())}


def test_the_trace_follows_every_row_and_finds_what_was_tampered_with(schema: Schema) -> None:
    config = crowd_device(10, 0)
    layout, source = ScanLayout(config), PrecomputedScans(config, 4)
    stream = schema.stream(SynchronizingRepository, config)
    for number in (1, 2, 3):
        stream.store(batch_of([source.next(number)], layout))
    history, points, current = (
        *("parameter_value_history", "process_data_points"),
        "component_parameters",
    )
    whole = traced(schema)
    assert {name: (each.rows, each.back, each.wrong) for name, each in whole.items()} == {
        history: (30, 3, 0),
        points: (30, 3, 0),
        current: (10, 10, 0),
    }
    for table in APPEND_ONLY:
        schema.rows(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
    schema.rows("DELETE FROM logging_transactions WHERE first_scan = 3")
    schema.rows("UPDATE component_parameters SET current_value = current_value + 1 WHERE parameter_id = 7")
    schema.rows("UPDATE logging_transactions SET process_rows = 11 WHERE first_scan = 1")
    found = traced(schema)
    assert (found[history].orphans, found[history].back_wrong) == (10, 0)
    assert (found[points].orphans, found[points].back_wrong) == (10, 1)
    assert (found[current].orphans, found[current].back_wrong) == (10, 1)


def test_part_compensation(postgres: str) -> None:
    section = run_part(postgres, compensation, transactions=2)
    assert section.outcome is Outcome.PASS
    for arm in ("baseline", "synchronizing"):
        units = section.figures[arm]["units"]
        assert [(unit["how"], unit["step"], unit["wrong"]) for unit in units] == [
            (how, step, []) for how in (REFUSED, KILLED) for step in (0, 1)
        ]
    assert all(one.violations == 0 for one in section.verifications.values())
    assert len(section.verifications) == 2
