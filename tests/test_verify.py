"""The oracle on whole tables: true data passes, and tampering with any table is noticed where it must be."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fix_plant import (
    ALD,
    ALD_1,
    CURRENT,
    EXECUTIONS,
    GAPS,
    HISTORY,
    LEDGER,
    OF_ALD_1,
    POINTS,
    STREAMS,
    Plant,
    TrueStream,
    copy_of,
    row,
    tx,
    update,
    violations,
)
from fix_postgres import Schema
from fix_scans import BAKING, HEAT, Oven
from psycopg.errors import ForeignKeyViolation
from waiting import wait_for

from bench.oracle.invariants import INVARIANTS
from logger.repositories import BaselineRepository, SynchronizingRepository
from logger.scan import Quality

BAD = Quality.BAD_SENSOR_FAILURE

OF_BASE_1 = "WHERE device_id = 'base-1'"
PARAMETER_5 = "WHERE device_id = 'ald-1' AND parameter_id = 5"


def test_true_data_violates_nothing(plant: Plant) -> None:
    verification = plant.verify()
    assert violations(verification) == {}
    rows = 84 * (11 + 2) + 45 * 3
    assert {name: check.checked for name, check in verification.checks.items()} == {
        "I1": 10,  # transactions
        "I2": 84,  # parameters of the machine with a synchronizing logger
        "I3": 10 + 3,  # transactions, and where each stream ends
        "I4": rows,
        "I5": 11 + 2 + 3,  # scans
        "I6": 10,
    }
    assert verification.rows == rows
    assert not any(check.examples or check.not_applicable for check in verification.checks.values())


def test_the_result_is_json_that_names_every_invariant(plant: Plant) -> None:
    plant.tamper(f"DELETE FROM {HISTORY} {row(3)}")
    result = json.loads(json.dumps(plant.verify().to_json()))
    assert result["violations"] == 3
    assert list(result["invariants"]) == list(INVARIANTS)
    damaged = result["invariants"]["I5"]
    assert (damaged["violations"], damaged["unit"]) == (1, "scans")
    assert "ald-1, stream 1: " in damaged["examples"][0]


def test_only_a_few_examples_are_kept_of_many_violations(plant: Plant) -> None:
    plant.tamper(update(CURRENT, "current_value = 1e6 WHERE device_id = 'ald-1'"))
    check = plant.verify().checks["I2"]
    assert (check.violations, len(check.examples)) == (84, 3)


TAMPERED = {
    # process rows
    "process value": (update(POINTS, "value = value + 1", row(5)), {"I1": 1}),
    "process value NULL": (update(POINTS, "value = NULL", row(5)), {"I1": 1}),
    "process quality": (update(POINTS, "quality = 24", row(5)), {"I1": 1}),
    "process time": (update(POINTS, "recorded_at = recorded_at + interval '1us'", row(5)), {"I1": 1}),
    "process row deleted": (f"DELETE FROM {POINTS} {row(5)}", {"I1": 1}),
    "process row twice": (copy_of(POINTS, row(5)), {"I1": 1}),
    "process row of an idle scan": (copy_of(POINTS, row(5), transaction_id=tx(3), scan="3"), {"I1": 1}),
    "process row of another parameter": (update(POINTS, "parameter_id = 6", row(5)), {"I1": 1}),
    "process row of another process": (update(POINTS, "process_id = gen_random_uuid()", row(5)), {"I1": 1}),
    "process row of another device": (update(POINTS, "device_id = 'base-1'", row(5)), {"I1": 1}),
    "process row of another stream": (update(POINTS, "stream_id = 2", row(5)), {"I1": 1}),
    "process row of nobody": (copy_of(POINTS, row(5), transaction_id="gen_random_uuid()"), {"I1": 1}),
    "all process rows deleted": (f"DELETE FROM {POINTS}", {"I1": 6}),
    # process executions
    "execution deleted": (f"DELETE FROM {EXECUTIONS} WHERE {ALD_1}", {"I1": 1 + 3}),
    "execution's number": (update(EXECUTIONS, "plc_number = 9", OF_ALD_1), {"I1": 3}),
    "execution's recipe": (update(EXECUTIONS, "recipe = 'other'", OF_ALD_1), {"I1": 3}),
    "execution's first scan": (update(EXECUTIONS, "first_scan = 4", OF_ALD_1), {"I1": 1}),
    "execution's start": (update(EXECUTIONS, "started_at = started_at - interval '1s'", OF_ALD_1), {"I1": 1}),
    "execution's end": (update(EXECUTIONS, "ended_at = ended_at + interval '1s'", OF_ALD_1), {"I1": 1}),
    "execution without end": (update(EXECUTIONS, "ended_at = NULL", OF_ALD_1), {"I1": 1}),
    "running one ended": (update(EXECUTIONS, "ended_at = started_at", "WHERE stream_id = 2"), {"I1": 1}),
    "execution of nothing": (
        f"INSERT INTO {EXECUTIONS} SELECT device_id, gen_random_uuid(), 7, plc_number, recipe, first_scan,"
        f" started_at FROM {EXECUTIONS} WHERE {ALD_1}",
        {"I1": 1},
    ),
    # current values
    "current value": (update(CURRENT, "current_value = current_value + 1", PARAMETER_5), {"I2": 1}),
    "no current value": (update(CURRENT, "current_value = NULL", PARAMETER_5), {"I2": 1}),
    "scan of the value before": (update(CURRENT, "scan = 12", PARAMETER_5), {"I2": 1}),
    "an older good value": (
        f"UPDATE {CURRENT} c SET (current_value, scan, updated_at, transaction_id)"
        f" = (SELECT value, scan, recorded_at, transaction_id FROM {HISTORY} {row(12)}) {PARAMETER_5}",
        {"I2": 1},
    ),
    "time of the value": (update(CURRENT, "updated_at = updated_at + '1us'", PARAMETER_5), {"I2": 1}),
    "transaction of the value": (f"UPDATE {CURRENT} SET transaction_id = {tx(10)} {PARAMETER_5}", {"I2": 1}),
    "current set value": (update(CURRENT, "set_value = set_value + 1", PARAMETER_5), {"I2": 1}),
    "last quality": (update(CURRENT, "last_quality = 24", PARAMETER_5), {"I2": 1}),
    "last attempt's scan": (update(CURRENT, "last_attempt_scan = 14", PARAMETER_5), {"I2": 1}),
    "last attempt's time": (update(CURRENT, "last_attempt_at = NULL", PARAMETER_5), {"I2": 1}),
    "everything forgotten": (
        f"UPDATE {CURRENT} SET current_value = NULL, scan = 0, updated_at = NULL, transaction_id = NULL,"
        f" set_value = NULL, last_quality = 32, last_attempt_scan = 0, last_attempt_at = NULL {PARAMETER_5}",
        {"I2": 1},
    ),
    "parameter deleted": (f"DELETE FROM {CURRENT} {PARAMETER_5}", {"I2": 1}),
    "parameter that the device has not": (
        f"INSERT INTO {CURRENT} (device_id, parameter_id, component, name, unit)"
        " VALUES ('ald-1', 99, '', '', '')",
        {"I2": 1},
    ),
    "parameter renamed": (update(CURRENT, "name = 'depth'", PARAMETER_5), {"I2": 1}),
    "parameter's unit": (update(CURRENT, "unit = 'Pa'", PARAMETER_5), {"I2": 1}),
    "parameter's limit": (update(CURRENT, "high_limit = 5000", PARAMETER_5), {"I2": 1}),
    "current value that nobody synchronized": (
        update(CURRENT, "current_value = 7 WHERE device_id = 'base-1' AND parameter_id = 5"),
        {"I2": 1},
    ),
    "synchronizing transaction called baseline": (
        f"UPDATE {LEDGER} SET repository = 'baseline' WHERE transaction_id = {tx(13)}",
        {"I2": 84},
    ),
    # streams
    "stream moved back": (update(STREAMS, "last_scan = 12", OF_ALD_1), {"I3": 1}),
    "stream moved on": (update(STREAMS, "last_scan = 14", OF_ALD_1), {"I3": 1}),
    "stream's head": (update(STREAMS, "head_hash = sha256('')", OF_ALD_1), {"I6": 1}),
    "stream deleted": (f"DELETE FROM {STREAMS} WHERE {ALD_1}", {"I3": 1}),
    "stream under another number": (update(STREAMS, "stream_id = 3", OF_ALD_1), {"I3": 2, "I6": 1}),
    "stream of another device": (
        update(STREAMS, "device_id = 'base-1', stream_id = 5", OF_ALD_1),
        {"I3": 2, "I6": 1},
    ),
    # gaps
    "gap record deleted": (f"DELETE FROM {GAPS}", {"I3": 1, "I5": 2, "I6": 1}),
    "gap record longer": (update(GAPS, "last_scan = 9"), {"I3": 1}),
    "gap record earlier": (update(GAPS, "first_scan = 6"), {"I3": 1}),
    "gap record of another stream": (update(GAPS, "stream_id = 2"), {"I3": 1}),
    "gap's reason": (update(GAPS, "reason = 'none'"), {"I6": 1}),
    "gap record too many": (
        f"INSERT INTO {GAPS} VALUES ('ald-1', 1, 20, 21, '', gen_random_uuid())",
        {"I3": 1},
    ),
    "gap record over stored scans": (
        f"INSERT INTO {GAPS} VALUES ('ald-1', 1, 3, 4, 'away', {tx(3)})",
        {"I3": 1, "I5": 2, "I6": 1},
    ),
    # devices
    "name in the configuration": (
        "UPDATE devices SET configuration = jsonb_set(configuration, '{device,name}', '\"other\"')"
        " WHERE device_id = 'ald-1'",
        {"I4": 1},
    ),
    "hash of the configuration": (update("devices", "configuration_sha256 = ''", OF_BASE_1), {"I4": 1}),
    "configuration that is none": (update("devices", "configuration = '{}'", OF_BASE_1), {"I4": 1 + 1}),
    "configuration of another device": (
        "UPDATE devices SET configuration = (SELECT configuration FROM saved_devices"
        f" WHERE device_id = 'ald-1') {OF_BASE_1}",
        {"I4": 1 + 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED)
def test_tampering_is_noticed(plant: Plant, case: str) -> None:
    statement, expected = TAMPERED[case]
    plant.tamper(statement)
    verification = plant.verify()
    assert violations(verification) == expected
    assert all(check.examples for check in verification.checks.values() if check.violations)


def test_a_swap_that_leaves_the_counts_is_noticed_in_process_rows(plant: Plant) -> None:
    plant.tamper(f"DELETE FROM {POINTS} {row(5)}", copy_of(POINTS, row(5, 6)))
    assert violations(plant.verify()) == {"I1": 1}


CHANGED = {
    "integer": "{0} + 1000",
    "bigint": "{0} + 1",
    "smallint": "{0} + 1",
    "double precision": "coalesce({0} + 1.5, 1.5)",
    "text": "coalesce({0} || 'x', 'x')",
    "timestamp with time zone": "coalesce({0} + interval '1s', now())",
    "uuid": "gen_random_uuid()",
    "bytea": "sha256({0})",
    "jsonb": "jsonb_set({0}, '{{device,seed}}', '99')",
}
ONE_ROW = {
    "devices": "WHERE device_id = 'ald-1'",
    CURRENT: PARAMETER_5,
    EXECUTIONS: f"WHERE {ALD_1}",
    HISTORY: row(5),
    POINTS: row(5),
    STREAMS: f"WHERE {ALD_1}",
    LEDGER: f"WHERE transaction_id = {tx(5)}",
    GAPS: "",
}
UNPROTECTED = {
    ("devices", "name"),
    ("devices", "registered_at"),
    (EXECUTIONS, "outcome"),
    (STREAMS, "writer"),
    (STREAMS, "interval_s"),
    (LEDGER, "logged_at"),
    (LEDGER, "repository"),  # noticed where a current value comes from the transaction
}
"""Columns that neither a hash nor an invariant covers: nothing is computed from them."""


def test_a_change_in_any_column_is_noticed_or_known_to_be_none_of_ours(plant: Plant) -> None:
    columns = plant.schema.rows(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = ANY(%s)",
        list(ONE_ROW),
    )
    assert len(columns) > 60
    unnoticed = set()
    for table, column, kind in columns:
        try:
            plant.tamper(f"UPDATE {table} SET {column} = {CHANGED[kind].format(column)} {ONE_ROW[table]}")
        except ForeignKeyViolation:
            continue  # the database itself refuses
        if not plant.verify().violations:
            unnoticed.add((table, column))
        plant.restore_only(table)
    assert unnoticed == UNPROTECTED


def test_a_schema_without_data_holds(schema: Schema) -> None:
    verification = Plant(schema).verify()
    assert (violations(verification), verification.rows) == ({}, 0)
    assert verification.checks["I2"].not_applicable


def test_devices_that_never_logged_hold(schema: Schema) -> None:
    TrueStream(schema, ALD)
    verification = Plant(schema).verify()
    assert violations(verification) == {}
    assert verification.checks["I3"].checked == 1


def test_values_of_a_real_plc_are_checked_but_for_their_truth(schema: Schema, oven: Oven) -> None:
    stream = schema.stream(SynchronizingRepository, oven.config)
    for batch in (oven.run_of(1, 3), oven.run_of(4, 5, BAKING), [oven.scan(6, bad={HEAT: BAD})]):
        stream.store(oven.batch(*batch))
    plant = Plant(schema)
    verification = plant.verify()
    assert violations(verification) == {}
    checks = verification.checks
    assert (checks["I4"].checked, checks["I4"].not_applicable != "") == (0, True)
    assert (checks["I5"].checked, checks["I6"].checked, checks["I2"].checked) == (6, 3, 5)
    plant.tamper(update(HISTORY, "value = 1 WHERE scan = 2 AND parameter_id = 12"))
    assert violations(plant.verify()) == {"I6": 1}


def test_current_values_of_a_device_that_went_back_to_baseline_may_be_old(schema: Schema) -> None:
    TrueStream(schema, ALD).store(18, 19)
    stream = TrueStream(schema, ALD, kind=BaselineRepository)
    stream.store(20, 21)
    plant = Plant(schema)
    verification = plant.verify()
    assert violations(verification) == {}
    assert verification.checks["I2"].not_applicable
    plant.tamper(update(CURRENT, "current_value = current_value + 1", PARAMETER_5))
    assert violations(plant.verify()) == {"I2": 1}


def test_a_logger_at_work_does_not_look_like_a_violation(schema: Schema) -> None:
    stream, plant = TrueStream(schema, ALD), Plant(schema)
    stop = threading.Event()

    def work() -> None:
        plc_scan = 20
        while not stop.is_set():
            stream.store(plc_scan)
            plc_scan += 1

    with ThreadPoolExecutor(1) as aside:
        working = aside.submit(work)
        try:
            seen: set[int] = set()

            def is_right_several_times() -> bool:
                verification = plant.verify()
                assert violations(verification) == {}
                seen.add(verification.rows)
                return len(seen) > 5

            wait_for(is_right_several_times)
        finally:
            stop.set()
        working.result()
