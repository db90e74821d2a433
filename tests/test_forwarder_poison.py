"""Scans that the database refuses for good, and days that have no partition yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fix_forwarder import OVEN_1, SETTINGS, Start, as_logged, gaps, ledger, stored_values
from fix_postgres import Schema
from fix_scans import BAKING, Oven
from waiting import wait_for

from logger.forwarding import transactions
from logger.scan import Gap, Quality, Scan, StreamKey
from logger.spool import Quarantine

DAY_US = 86_400_000_000


def refuse_value(schema: Schema, *values: float) -> None:
    """Let the database refuse these values by a constraint."""
    listed = ", ".join(map(str, values))
    schema.rows(
        f"ALTER TABLE parameter_value_history ADD CONSTRAINT sane CHECK (value NOT IN ({listed})) NOT VALID"
    )


def at_day(scan: Scan, day_us: int) -> Scan:
    return replace(scan, recorded_at=np.full_like(scan.recorded_at, day_us))


@pytest.mark.parametrize("poison", [1, 7, 20])
def test_one_poison_scan_is_set_aside_and_all_others_are_stored(
    schema: Schema, oven: Oven, storing: Start, poison: int
) -> None:
    refuse_value(schema, poison * 100 + 4)
    run = storing()
    run.put(*oven.run_of(1, 20))
    run.start()
    assert run.close() == 0
    scans = oven.run_of(1, 20)
    assert stored_values(schema) == as_logged([scan for scan in scans if scan.number != poison])
    ((first, last, reason),) = gaps(schema)
    assert (first, last) == (poison, poison)
    assert "quarantined" in reason
    assert "sane" in reason
    (entry,) = run.quarantine.list()
    assert (entry.key, entry.number, entry.number_in_database) == (OVEN_1, poison, poison)
    assert entry.sqlstate == "23514"
    _, scan = run.quarantine.load(entry.id)
    np.testing.assert_array_equal(scan.values, scans[poison - 1].values)
    figures = run.forwarder.figures()
    assert (figures.quarantined, figures.scans) == (1, 19)
    assert figures.transactions <= 7  # by halves: 20 → 10 → 5 → 2 → 1, and the gap
    assert sum(last - first + 1 for first, last in ledger(schema)) == 20


def test_poison_of_one_stream_touches_no_other_in_the_transaction(schema: Schema, storing: Start) -> None:
    ovens = [Oven(f"oven-{n}") for n in range(1, 9)]
    refuse_value(schema, 304, 504)
    run = storing(*ovens)
    for oven in ovens:
        scans = [3, 4, 5] if oven is ovens[2] else [1, 2, 6]
        values = [oven.scan(number) for number in scans]
        run.put(
            *(replace(v, number=n) for n, v in enumerate(values, 1)), key=StreamKey(oven.layout.device_id)
        )
    run.start()
    assert run.close() == 0
    assert [(e.key.device_id, e.number) for e in run.quarantine.list()] == [("oven-3", 1), ("oven-3", 3)]
    for oven in ovens:
        expected = [(2, 404.0)] if oven is ovens[2] else [(1, 104.0), (2, 204.0), (3, 604.0)]
        assert stored_values(schema, device=oven.layout.device_id) == expected
    assert [(first, last) for first, last, _ in gaps(schema)] == [(1, 1), (3, 3)]


def test_poison_scan_that_begins_a_process_leaves_the_process_to_the_next(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    refuse_value(schema, 304, 604)
    run = storing()
    run.put(*oven.run_of(1, 2), *oven.run_of(3, 5, BAKING), *oven.run_of(6, 8))
    run.start()
    assert run.close() == 0
    assert [entry.number for entry in run.quarantine.list()] == [3, 6]
    assert schema.rows("SELECT plc_number, first_scan, ended_at IS NULL FROM process_executions") == [
        (BAKING, 4, False)
    ]
    assert schema.rows("SELECT DISTINCT scan FROM process_data_points ORDER BY 1") == [(4,), (5,)]
    assert [scan for scan, _ in stored_values(schema)] == [1, 2, 4, 5, 7, 8]


def test_text_that_no_database_takes_is_poison(schema: Schema, oven: Oven, storing: Start) -> None:
    """A NUL byte never reaches the server: the client refuses it, without a SQLSTATE."""
    run = storing()
    run.put(oven.scan(1), Gap(2, 2, "what \0 is this"), oven.scan(3))
    run.start()
    assert run.close() == 0
    assert [(first, last) for first, last, _ in gaps(schema)] == [(2, 2)]
    assert stored_values(schema) == as_logged([oven.scan(1), oven.scan(3)])
    assert run.quarantine.list() == []


def test_scan_of_another_description_of_the_device_is_set_aside(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    odd = Scan(2, np.zeros(3), np.full(3, Quality.GOOD, np.int16), oven.scan(2).recorded_at[:3])
    run = storing()
    run.put(oven.scan(1), odd, oven.scan(3))
    run.start()
    assert run.close() == 0
    (entry,) = run.quarantine.list()
    assert (entry.number, entry.error) == (2, "a scan of 3 values, the device has 5")
    assert [scan for scan, _ in stored_values(schema)] == [1, 3]


def test_quarantine_that_is_full_keeps_the_scan_in_the_spool(
    schema: Schema, oven: Oven, storing: Start, tmp_path: Path
) -> None:
    second = Oven("oven-2")
    refuse_value(schema, 104)
    run = storing(oven, second)
    full = Quarantine(tmp_path, max_bytes=1)
    run.forwarder._writers[0]._quarantine = full
    run.put(oven.scan(1))
    run.put(*second.run_of(2, 3), key=StreamKey("oven-2"))
    run.start()
    wait_for(lambda: "quarantine is full" in run.forwarder.state, what="the state to say so")
    wait_for(lambda: len(stored_values(schema, device="oven-2")) == 2, what="the other stream")
    wait_for(lambda: run.waits() == 1, what="what is stored to leave the spool")
    full._max_bytes = 10_000
    run.until_stored()
    assert len(full.list()) == 1


def test_crash_between_quarantine_and_gap_record_sets_the_scan_aside_once(
    schema: Schema, oven: Oven, storing: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_value(schema, 204)
    run = storing()
    run.put(*oven.run_of(1, 3))
    add = Quarantine.add

    def add_and_crash(self: Quarantine, *arguments: Any) -> str:
        add(self, *arguments)
        raise RuntimeError("crash")

    monkeypatch.setattr(Quarantine, "add", add_and_crash)
    run.start()
    wait_for(lambda: run.forwarder.failed, what="the crash")
    assert len(run.quarantine.list()) == 1
    run.close(0)
    monkeypatch.undo()
    again = storing().start()
    assert again.close() == 0
    assert [entry.number for entry in again.quarantine.list()] == [2]
    assert [(first, last) for first, last, _ in gaps(schema)] == [(2, 2)]


def test_days_without_a_partition_get_one(schema: Schema, oven: Oven, storing: Start) -> None:
    """As after a long outage, and of a PLC whose logger's clock was set: days far apart in one batch."""
    run = storing()
    days = [1_500_000_000_000_000, 1_500_000_000_000_000 + 3 * DAY_US, 86_400_000_000]
    scans = [at_day(oven.scan(number, BAKING), day) for number, day in enumerate(days, 1)]
    run.put(*scans)
    run.start()
    assert run.close() == 0
    assert stored_values(schema) == as_logged(scans)
    figures = run.forwarder.figures()
    assert figures.retries["partition"] >= 1
    assert (figures.transactions, figures.quarantined) == (1, 0)


def test_time_that_has_no_date_is_poison_and_not_a_missing_partition(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing()
    run.put(oven.scan(1), at_day(oven.scan(2), 20_000 * 365 * DAY_US), oven.scan(3))
    run.start()
    assert run.close() == 0
    assert [entry.number for entry in run.quarantine.list()] == [2]
    assert [(first, last) for first, last, _ in gaps(schema)] == [(2, 2)]
    assert [scan for scan, _ in stored_values(schema)] == [1, 3]


def test_partition_that_cannot_be_made_keeps_the_scans(
    schema: Schema, oven: Oven, storing: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "create_partitions", lambda *_: None)
    run = storing(settings=replace(SETTINGS, slow_s=0.05)).start()
    run.put(at_day(oven.scan(1), 1_400_000_000_000_000))
    wait_for(lambda: run.forwarder.figures().retries["configuration"] >= 2, what="tries in vain")
    assert "no partition" in run.forwarder.state
    assert run.waits() == 1
    assert run.quarantine.list() == []
    monkeypatch.undo()
    run.until_stored()
    assert len(stored_values(schema)) == 1
