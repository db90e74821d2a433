"""Contact with streams: first and again, behind another logger, with a restored database or an old spool."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from fix_forwarder import OVEN_1, Start, as_logged, gaps, ledger, stored_values
from fix_postgres import Schema
from fix_proxy import Proxy
from fix_scans import Oven
from waiting import wait_for

from logger.forwarding import anchoring
from logger.forwarding.intake import TAKEN_AT_ONCE
from logger.repositories import BaselineRepository
from logger.scan import Gap

STREAM = "SELECT last_scan FROM logging_streams WHERE device_id = 'oven-1' AND stream_id = 1"


def other_logger_stores(schema: Schema, oven: Oven, first: int, last: int) -> None:
    """Another logger claims the stream and stores scans that are not ours."""
    stream = schema.stream(BaselineRepository, oven.config)
    for number in range(first, last + 1):
        scan = oven.scan(number)
        scan.recorded_at[:] += 500_000
        stream.store(oven.batch(scan))


def test_numbers_go_on_behind_what_another_logger_stored(schema: Schema, oven: Oven, storing: Start) -> None:
    other_logger_stores(schema, oven, 1, 7)
    run = storing()
    run.put(oven.scan(1), Gap(2, 3, "missed"), oven.scan(4))
    run.start()
    assert run.close() == 0
    assert ledger(schema)[7:] == [(8, 8), (9, 10), (11, 11)]
    assert stored_values(schema)[7:] == as_logged([oven.scan(1), oven.scan(4)], offset=7)
    again = storing().start()
    assert again.spool.offset(OVEN_1) == 7
    again.put(oven.scan(5))
    assert again.close() == 0
    assert stored_values(schema)[-1] == (12, 504.0)


def test_logger_may_start_and_be_killed_before_it_ever_sees_a_database(
    schema: Schema, oven: Oven, storing: Start, proxy: Proxy
) -> None:
    proxy.refuses = True
    for number in (1, 2, 3):
        run = storing(through=proxy).start()
        run.put(oven.scan(number))
        assert run.close(0) == number
    proxy.refuses = False
    run = storing(through=proxy).start()
    assert run.close() == 0
    assert stored_values(schema) == as_logged(oven.run_of(1, 3))


@pytest.mark.parametrize("is_anchored", [True, False])
def test_stored_scans_that_the_spool_still_has_are_trimmed(
    schema: Schema, oven: Oven, storing: Start, tmp_path: Path, is_anchored: bool
) -> None:
    """As after a kill -9 between the commit and the release; without the anchor, as from an old copy."""
    run = storing()
    if is_anchored:
        run.spool.set_offset(OVEN_1, 0)
    run.put(*oven.run_of(1, 10), Gap(11, 14, "missed"), *oven.run_of(15, 16))
    shutil.copytree(tmp_path / "spool", tmp_path / "killed" / "spool")
    run.start()
    run.until_stored()
    again = storing(folder="killed").start()
    again.put(oven.scan(17))
    again.until_stored()
    assert again.forwarder.figures().trimmed == 13
    assert stored_values(schema) == as_logged([*oven.run_of(1, 10), *oven.run_of(15, 17)])
    assert gaps(schema) == [(11, 14, "missed")]


def test_stored_scans_and_gaps_that_are_read_back_late_are_trimmed_too(
    schema: Schema, oven: Oven, storing: Start, tmp_path: Path
) -> None:
    """The spool gives what it holds part by part, and the stream is open when the second part comes."""
    run = storing()
    run.spool.set_offset(OVEN_1, 0)
    run.put(*oven.run_of(1, TAKEN_AT_ONCE), Gap(513, 520, "missed"), *oven.run_of(521, 530))
    shutil.copytree(tmp_path / "spool", tmp_path / "killed" / "spool")
    run.start()
    run.until_stored()
    before = schema.contents()
    again = storing(folder="killed").start()
    again.until_stored()
    assert again.forwarder.figures().trimmed == TAKEN_AT_ONCE + 11
    assert {**schema.contents(), "logging_streams": None} == {**before, "logging_streams": None}


def test_database_from_a_backup_gets_what_is_left_and_a_gap_for_the_rest(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing().start()
    run.put(oven.scan(1), oven.scan(2))
    run.until_stored()
    backup = schema.rows("SELECT last_scan, head_hash FROM logging_streams")
    run.put(*oven.run_of(3, 6))
    run.until_stored()
    assert run.close() == 0
    restore(schema, backup, 2)
    again = storing().start()
    again.put(oven.scan(7))
    assert again.close() == 0
    assert stored_values(schema) == as_logged([*oven.run_of(1, 2), oven.scan(7)])
    ((first, last, reason),) = gaps(schema)
    assert (first, last) == (3, 6)
    assert "no longer in the database" in reason


def test_database_that_falls_back_under_way_gets_a_gap(
    schema: Schema, oven: Oven, storing: Start, proxy: Proxy
) -> None:
    """As at a failover to a standby that had not received everything."""
    run = storing(through=proxy).start()
    run.put(oven.scan(1))
    run.until_stored()
    backup = schema.rows("SELECT last_scan, head_hash FROM logging_streams")
    run.put(*oven.run_of(2, 3))
    run.until_stored()
    proxy.cut_all()
    restore(schema, backup, 1)
    run.put(oven.scan(4))
    run.until_stored()
    assert stored_values(schema) == as_logged([oven.scan(1), oven.scan(4)])
    assert [(first, last) for first, last, _ in gaps(schema)] == [(2, 3)]


def restore(schema: Schema, backup: list[tuple[Any, ...]], last: int) -> None:
    """Make the database as it was when its stream stood there."""
    schema.rows("SET session_replication_role = replica")
    for table, column in [("parameter_value_history", "scan"), ("logging_transactions", "last_scan")]:
        schema.rows(f"DELETE FROM {table} WHERE {column} > {last}")
    ((last_scan, head_hash),) = backup
    schema.rows("UPDATE logging_streams SET last_scan = %s, head_hash = %s", last_scan, head_hash)
    schema.rows("SET session_replication_role = origin")


def test_restart_after_a_take_over_claims_the_stream_and_repeats_nothing(
    schema: Schema, oven: Oven, storing: Start, tmp_path: Path
) -> None:
    """What it had stored before it lost the stream may still be in its spool: the values' times tell."""
    run = storing()
    run.put(*oven.run_of(1, 5))
    run.start()
    run.until_stored()
    shutil.copytree(tmp_path / "spool", tmp_path / "killed" / "spool")
    assert run.close() == 0
    other_logger_stores(schema, oven, 6, 8)
    again = storing(folder="killed").start()
    again.put(oven.scan(6))
    assert again.close() == 0
    assert len(stored_values(schema)) == 5 + 3 + 1
    assert stored_values(schema)[-1] == (9, 604.0)
    assert gaps(schema) == []


def test_take_over_stores_twice_without_a_look_at_the_times(
    schema: Schema, oven: Oven, storing: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test before, where it matters: nothing was noted as released."""
    monkeypatch.setattr(anchoring, "_stored_of", lambda connection, lane: 0)
    run = storing()
    run.put(*oven.run_of(1, 5))
    shutil.copytree(tmp_path / "spool", tmp_path / "killed" / "spool")
    run.start()
    run.until_stored()
    offset = run.spool.offset(OVEN_1)
    other_logger_stores(schema, oven, 6, 8)
    again = storing(folder="killed")
    again.spool.set_offset(OVEN_1, offset)
    again.start()
    assert again.close() == 0
    assert len(stored_values(schema)) == 5 + 3 + 5


def test_take_over_with_nothing_noted_as_released_repeats_nothing(
    schema: Schema, oven: Oven, storing: Start, tmp_path: Path
) -> None:
    run = storing()
    run.put(*oven.run_of(1, 5))
    shutil.copytree(tmp_path / "spool", tmp_path / "killed" / "spool")
    run.start()
    run.until_stored()
    offset = run.spool.offset(OVEN_1)
    other_logger_stores(schema, oven, 6, 8)
    again = storing(folder="killed")
    again.spool.set_offset(OVEN_1, offset)
    again.start()
    again.until_stored()
    again.put(oven.scan(6))
    assert again.close() == 0
    assert len(stored_values(schema)) == 5 + 3 + 1
    assert gaps(schema) == []


def test_new_database_gets_what_waits_and_numbers_of_its_own(
    schema: Schema, oven: Oven, storing: Start, proxy: Proxy
) -> None:
    run = storing(through=proxy).start()
    run.put(*oven.run_of(1, 3))
    run.until_stored()
    proxy.cut_all()
    schema.rows("SET session_replication_role = replica")
    for table in ("parameter_value_history", "logging_transactions", "logging_streams"):
        schema.rows(f"DELETE FROM {table}")
    schema.rows("SET session_replication_role = origin")
    run.put(oven.scan(4))
    run.until_stored()
    assert stored_values(schema) == [(1, 404.0)]


def test_row_that_is_gone_while_its_history_is_not_stops_the_stream(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing().start()
    run.put(oven.scan(1))
    run.until_stored()
    schema.rows("DELETE FROM logging_streams")
    run.put(oven.scan(2))
    wait_for(lambda: run.forwarder.failed, what="it to stop")
    assert "has lost its row" in str(run.forwarder.failed)
    assert run.close() == 1


def test_old_copy_of_a_spool_loses_and_repeats_nothing(
    schema: Schema, oven: Oven, storing: Start, tmp_path: Path
) -> None:
    """The row is ours and knows more than the spool: numbers are given out a second time."""
    run = storing()
    run.put(*oven.run_of(1, 3))
    run.start()
    run.until_stored()
    shutil.copytree(tmp_path / "spool", tmp_path / "old" / "spool")
    run.put(*oven.run_of(4, 6))
    assert run.close() == 0
    again = storing(folder="old").start()
    assert again.spool.next_number(OVEN_1) == 4
    again.put(oven.scan(4))
    assert again.close() == 0
    assert stored_values(schema) == [*as_logged(oven.run_of(1, 6)), (7, 404.0)]
    assert gaps(schema) == []


def test_stream_whose_row_is_locked_holds_up_no_other(schema: Schema, oven: Oven, storing: Start) -> None:
    """As by the transaction of a connection that was given up and has not ended yet."""
    second = Oven("oven-2")
    first = storing(oven, second).start()
    first.put(oven.scan(1))
    first.until_stored()
    assert first.close() == 0
    zombie = schema.connect()
    zombie.execute("BEGIN")
    zombie.execute(f"{STREAM} FOR UPDATE")
    run = storing(oven, second).start()
    run.put(oven.scan(2))
    run.put(second.scan(1), key=next(key for key in run.ovens if key != OVEN_1))
    wait_for(lambda: len(stored_values(schema, device="oven-2")) == 1, 1.5, "the other stream")
    assert run.waits() == 1
    zombie.execute("ROLLBACK")
    run.until_stored()
    assert stored_values(schema) == as_logged(oven.run_of(1, 2))


def test_crash_between_anchor_and_claim_changes_nothing(
    schema: Schema, oven: Oven, storing: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_logger_stores(schema, oven, 1, 4)
    run = storing()
    run.put(*oven.run_of(1, 2))
    monkeypatch.setattr(
        "logger.repositories.Repository.open", lambda *_: (_ for _ in ()).throw(RuntimeError("crash"))
    )
    run.start()
    wait_for(lambda: run.forwarder.failed, what="the crash")
    assert run.close(0) == 2
    monkeypatch.undo()
    again = storing()
    assert again.spool.anchored(OVEN_1)
    again.start()
    assert again.close() == 0
    assert stored_values(schema)[4:] == as_logged(oven.run_of(1, 2), offset=4)
