"""Quarantined scans come back: in their gaps, with their process, and current values if they are newer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fix_forwarder import Start
from fix_plant import Plant, violations
from fix_postgres import Schema
from fix_refused import KEY, STANDING, Refused, refusing
from fix_scans import BAKING, HEAT, LAMP, MAP, Oven

from logger.database.compensation import void
from logger.database.reinsertion import (
    Reinsertable,
    insert_quarantined,
    reinsert,
)
from logger.errors import DatabaseError
from logger.repositories import BaselineRepository, SynchronizingRepository
from logger.scan import Quality, Scan, ScanLayout, StreamKey, Text
from logger.spool.quarantine import Quarantine
from plcsim.device_file import parse_device
from plcsim.errors import InputError

BAD = Quality.BAD_COMMUNICATION


def test_scans_come_back_into_their_gaps(refused: Refused) -> None:
    report = refused.insert()
    assert (report.scans, report.stored, report.already, report.rows) == (4, 4, 0, 20)
    assert report.is_done
    assert len(report.transactions) == 2
    history = refused.schema.rows(
        "SELECT scan, count(*), min(stream_id), sum(value), min(transaction_id::text)"
        " FROM parameter_value_history WHERE scan BETWEEN 4 AND 7 GROUP BY 1 ORDER BY 1"
    )
    first, second = map(str, report.transactions)
    sums = [refused.oven.scan(number).values.sum() for number in range(4, 8)]
    assert history == [
        (4, 5, 1, sums[0], first), (5, 5, 1, sums[1], first),
        (6, 5, 1, sums[2], second), (7, 5, 1, sums[3], second),
    ]  # fmt: skip
    assert refused.schema.rows("SELECT DISTINCT scan FROM component_parameters") == [(11,)]
    refused.check()


def test_doing_it_again_changes_nothing(refused: Refused) -> None:
    done = refused.insert()
    before = refused.schema.contents()
    report = refused.insert()
    assert (report.stored, report.already, report.rows) == (0, 4, 0)
    assert report.transactions == done.transactions
    part = refused.insert(5, 6)  # another unit of scans that are there
    assert (part.stored, part.already, part.transactions, part.is_done) == (0, 2, (), True)
    assert refused.schema.contents() == before


def test_the_newest_scans_move_current_values_forward(schema: Schema, oven: Oven) -> None:
    refused = Refused(schema, oven)
    newest = [oven.scan(4, bad={HEAT: BAD}), oven.scan(5, bad={LAMP: BAD}), oven.scan(6, bad={HEAT: BAD})]
    refused.log(*oven.run_of(1, 3), *newest, refused=[4, 5, 6])
    refused.insert()
    assert schema.rows("SELECT scan, last_attempt_scan FROM component_parameters ORDER BY parameter_id") == [
        (6, 6), (6, 6), (5, 6), (6, 6), (6, 6),
    ]  # fmt: skip
    refused.check()
    refused.log(oven.scan(7))
    refused.check()


def test_a_baseline_device_gets_no_current_values(schema: Schema, oven: Oven) -> None:
    refused = Refused(schema, oven, BaselineRepository)
    refused.log(*oven.run_of(1, 2), refused=[2])
    refused.insert()
    assert schema.rows("SELECT DISTINCT scan FROM component_parameters") == [(0,)]
    refused.check()


@pytest.mark.parametrize("kind", [BaselineRepository, SynchronizingRepository])
def test_a_device_of_which_nothing_is_stored_is_treated_as_its_logger_does(
    schema: Schema, oven: Oven, kind: Any
) -> None:
    refused = Refused(schema, oven, kind)
    refused.log(*oven.run_of(1, 2), refused=[1, 2])
    refused.insert()
    expected = 2 if kind is SynchronizingRepository else 0
    assert schema.rows("SELECT DISTINCT scan FROM component_parameters") == [(expected,)]
    refused.check()


PROCESSES = {
    "in the middle": ([5], "uuid of the logger", 3),
    "its first scans": ([3, 4], "uuid of the logger", 3),
    "its last scans": ([6, 7], "uuid of the logger", 3),
    "its first and last": ([3, 7], "uuid of the logger", 3),
    "all of it": ([3, 4, 5, 6, 7], "an own one", 3),
    "all of it and more": ([2, 3, 4, 5, 6, 7, 8], "an own one", 3),
}


@pytest.mark.parametrize("case", PROCESSES)
@pytest.mark.parametrize("one_by_one", [False, True], ids=["at once", "backwards one by one"])
def test_scans_of_a_process_are_its_points_again(
    schema: Schema, oven: Oven, case: str, one_by_one: bool
) -> None:
    numbers, _, first = PROCESSES[case]
    refused = Refused(schema, oven)
    scans = [*oven.run_of(1, 2), *oven.run_of(3, 7, BAKING), *oven.run_of(8, 9)]
    refused.log(*scans, refused=numbers)
    for each in reversed(numbers) if one_by_one else [None]:
        assert (refused.insert(each) if each else refused.insert()).is_done
        refused.check()
    points = schema.rows("SELECT scan, count(*) FROM process_data_points GROUP BY 1 ORDER BY 1")
    assert points == [(scan, 5) for scan in range(3, 8)]
    if not (one_by_one and len(numbers) >= 5):  # each scan alone does not know of the one before it
        assert schema.rows("SELECT first_scan, plc_number FROM process_executions") == [(first, BAKING)]


def test_a_running_process_takes_its_newest_scans_back(schema: Schema, oven: Oven) -> None:
    refused = Refused(schema, oven)
    refused.log(*oven.run_of(1, 4, BAKING), refused=[3, 4])
    refused.insert()
    refused.check()
    refused.log(oven.scan(5, BAKING), oven.scan(6))
    refused.check()
    assert schema.value("SELECT count(*) FROM process_executions") == 1


def test_texts_and_bad_values_come_back_as_they_were(schema: Schema) -> None:
    text = {"id": 15, "component": "oven", "name": "batch", "address": 20, "type": "string", "length": 8}
    groups = [*MAP["groups"], {"name": "texts", "table": "holding_register", "parameters": [text]}]
    oven = Oven()
    oven.config = parse_device({"device": {"device_id": "oven-1"}, **MAP, "groups": groups})
    oven.layout = ScanLayout(oven.config)
    refused = Refused(schema, oven)

    def scan(number: int, text: str, bad: dict[int, Quality]) -> Scan:
        plain = oven.scan(number, bad=bad)
        values = np.where(np.arange(oven.layout.size) == 5, np.nan, plain.values)
        return Scan(number, values, plain.quality, plain.recorded_at, texts=(Text(5, text),))

    refused.log(scan(1, "A1", {}), scan(2, "B2 µ", {HEAT: BAD}), scan(3, "", {}), refused=[2, 3])
    refused.insert()
    texts = "SELECT value_text FROM parameter_value_history WHERE parameter_id = 15 ORDER BY scan"
    assert schema.rows(texts) == [("A1",), ("B2 µ",), ("",)]
    assert schema.value("SELECT current_text FROM component_parameters WHERE parameter_id = 15") == ""
    assert schema.rows(
        "SELECT value, quality FROM parameter_value_history WHERE parameter_id = 12 AND scan = 2"
    ) == [(None, 24)]
    refused.check()
    for (transaction_id,) in schema.rows("SELECT ledger_id FROM reinsertions"):
        void(refused.operator, transaction_id, "no", "J. Doe")
    assert schema.value("SELECT current_text FROM component_parameters WHERE parameter_id = 15") == "A1"
    refused.check()


def test_what_was_inserted_can_be_voided_and_inserted_again(refused: Refused) -> None:
    for transaction_id in refused.insert().transactions:
        report = void(refused.operator, transaction_id, "they were wrong after all", "J. Doe")
        assert (report.stream_id, report.rows, report.fell_back) == (1, 10, 0)
    refused.check()
    again = refused.insert()
    assert (again.stored, again.already) == (4, 0)
    assert refused.schema.value("SELECT count(*) FROM parameter_trend WHERE parameter_id = 12") == 11
    refused.check()


def test_current_values_fall_back_from_scans_that_were_inserted(schema: Schema, oven: Oven) -> None:
    refused = Refused(schema, oven)
    refused.log(*oven.run_of(1, 4), refused=[2, 3, 4])
    *_, last = refused.insert().transactions
    assert void(refused.operator, last, "wrong", "J. Doe").fell_back == 5
    assert schema.rows("SELECT DISTINCT scan FROM component_parameters") == [(3,)]
    refused.check()


def test_a_later_part_that_fails_for_good_undoes_those_before(refused: Refused) -> None:
    with refusing(refused.schema):  # scan 7, in the second part
        report = refused.insert()
        assert (report.is_done, report.stored, len(report.undone)) == (False, 0, 1)
        assert 'violates check constraint "poison"' in report.error
        assert refused.schema.value(STANDING) == 0
        refused.check()
    reason = refused.schema.value("SELECT reason FROM compensations")
    assert reason.startswith("unit of work undone: new row for relation")
    report = refused.insert()
    assert (report.is_done, report.stored, report.undone) == (True, 4, ())
    refused.check()


def test_a_table_that_swallows_rows_stores_nothing(refused: Refused) -> None:
    refused.schema.rows(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE INSERT ON parameter_value_history FOR EACH ROW WHEN (NEW.scan = 7)"
        " EXECUTE FUNCTION swallow()"
    )
    report = refused.insert()
    assert "the database took 5 rows of 10" in report.error
    assert refused.schema.value(STANDING) == 0
    refused.check()


def test_two_operators_at_once_insert_each_scan_once(refused: Refused) -> None:
    connections = [refused.schema.connect() for _ in range(4)]
    with ThreadPoolExecutor(4) as operators:
        reports = list(operators.map(lambda each: refused.insert(connection=each), connections))
    assert sum(report.stored for report in reports) == 4
    assert all(report.is_done for report in reports)
    refused.check()


def without_gap(refused: Refused) -> list[Reinsertable]:
    return [refused.quarantine[4], Reinsertable(KEY, 12, refused.oven.scan(12))]


REFUSALS: dict[str, tuple[Any, str]] = {
    "nothing": (lambda refused: [], "there is nothing in quarantine to insert"),
    "no gap yet": (without_gap, "scan 12 of stream 1 of oven-1 has no gap record that it could fill"),
    "another scan has the number": (
        lambda refused: [Reinsertable(KEY, 3, refused.oven.scan(4))],
        "scan 3 of stream 1 of oven-1 has no gap record",
    ),
    "twice": (lambda refused: [refused.quarantine[4]] * 2, "scan 4 of stream 1 of oven-1 is there twice"),
    "another stream": (
        lambda refused: [Reinsertable(StreamKey("oven-1", 2), 4, refused.oven.scan(4))],
        "stream 2 of oven-1 is not in this database",
    ),
    "another configuration": (
        lambda refused: [Reinsertable(KEY, 4, Scan(4, *np.zeros((3, 3))))],
        "scan 4 of stream 1 of oven-1 has 3 values, the device's configuration in this database has 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_scans_without_a_place_are_refused_before_anything_is_stored(refused: Refused, case: str) -> None:
    make, message = REFUSALS[case]
    before = refused.schema.contents()
    with pytest.raises(InputError, match=message) as said:
        reinsert(refused.operator, make(refused), "J. Doe")
    assert "\n" not in str(said.value)
    assert refused.schema.contents() == before


def test_a_scan_that_its_logger_stored_after_all_is_there(refused: Refused) -> None:
    scans = [Reinsertable(KEY, number, refused.oven.scan(number)) for number in (3, 8)]
    report = reinsert(refused.operator, [*scans, refused.quarantine[4]], "J. Doe")
    assert (report.scans, report.stored, report.already) == (3, 1, 2)
    refused.check()


def test_errors_of_the_connection_are_ours(refused: Refused) -> None:
    refused.operator.close()
    with pytest.raises(DatabaseError):
        refused.insert()


def test_scans_leave_the_quarantine_when_all_are_stored(refused: Refused, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    for number, each in refused.quarantine.items():
        quarantine.add(each.key, each.scan, number, "refused", "23514")
    with refusing(refused.schema):
        assert not insert_quarantined(refused.operator, quarantine, None, "J. Doe").is_done
        assert len(quarantine.list()) == 4
    first = quarantine.list()[0].id
    assert insert_quarantined(refused.operator, quarantine, [first, first], "J. Doe").stored == 1
    assert [entry.number for entry in quarantine.list()] == [5, 6, 7]
    assert insert_quarantined(refused.operator, quarantine, None, "J. Doe").stored == 3
    assert quarantine.list() == []
    with pytest.raises(InputError, match="there is nothing in quarantine to insert"):
        insert_quarantined(refused.operator, quarantine, None, "J. Doe")
    refused.check()


def test_what_a_forwarder_has_set_aside_comes_back(schema: Schema, oven: Oven, storing: Start) -> None:
    run, operator = storing(), schema.connect()
    with refusing(schema, "value NOT IN (704, 1904)"):  # the lamp in scans 7 and 19
        run.put(*oven.run_of(1, 5), *oven.run_of(6, 20, BAKING))
        run.start()
        assert run.close() == 0
        assert len(run.quarantine.list()) == 2
        assert not insert_quarantined(operator, run.quarantine, None, "J. Doe").is_done
    assert insert_quarantined(operator, run.quarantine, None, "J. Doe").stored == 2
    assert run.quarantine.list() == []
    assert schema.value("SELECT count(*) FROM parameter_trend") == 20 * 5
    assert schema.value("SELECT count(*) FROM process_data_points") == 15 * 5
    assert violations(Plant(schema).verify()) == {}
