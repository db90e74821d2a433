"""Voids: nothing is erased, views leave it out, current values fall back, loggers at work go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from fix_plant import Plant, violations
from fix_postgres import Schema
from fix_scans import HEAT, LAMP, Oven
from psycopg.errors import DeadlockDetected
from waiting import wait_for

from logger.database import create_partitions
from logger.database.compensation import VoidReport, void
from logger.database.operators import Turn
from logger.errors import DatabaseError
from logger.repositories import BaselineRepository, Stream, SynchronizingRepository
from logger.repositories.synchronizing import SharedSynchronizingRepository
from logger.scan import Gap, Quality, Scan
from plcsim.errors import InputError

BAD = Quality.BAD_COMMUNICATION
SCANS = "SELECT scan, last_attempt_scan FROM component_parameters ORDER BY parameter_id"


class Logged:
    """An oven that was logged, and an operator's connection."""

    def __init__(self, schema: Schema, oven: Oven, kind: Any = SynchronizingRepository) -> None:
        self.schema, self.oven, self.kind = schema, oven, kind
        self.stream = self.stream_of(1)
        self.operator = schema.connect()
        self._plant = Plant(schema)

    def stream_of(self, stream_id: int) -> Stream:
        return self.schema.stream(self.kind, self.oven.config, stream_id)

    def store(self, *scans: Scan, stream: Stream | None = None) -> UUID:
        """One transaction; returns its id."""
        batch = self.oven.batch(*scans)
        (stream or self.stream).store(batch)
        return batch.transaction_id

    def void(self, transaction: UUID | str) -> VoidReport:
        return void(self.operator, transaction, "the sensor was on the bench", "J. Doe")

    def now(self) -> list[tuple[int, int]]:
        """Scans of the current values, and of the last attempts."""
        return self.schema.rows(SCANS)

    def check(self) -> None:
        assert violations(self._plant.verify()) == {}


@pytest.fixture
def logged(schema: Schema, oven: Oven) -> Logged:
    return Logged(schema, oven)


def test_current_values_fall_back_and_nothing_is_erased(logged: Logged) -> None:
    first = logged.store(*logged.oven.run_of(1, 2))
    second = logged.store(*logged.oven.run_of(3, 4))
    rows = logged.schema.rows("SELECT * FROM parameter_value_history ORDER BY scan, parameter_id")
    report = logged.void(second)
    assert (report.device_id, report.stream_id, report.first_scan, report.last_scan) == ("oven-1", 1, 3, 4)
    assert (report.rows, report.fell_back, report.emptied, report.already) == (10, 5, 0, False)
    assert rows == logged.schema.rows("SELECT * FROM parameter_value_history ORDER BY scan, parameter_id")
    assert logged.now() == [(2, 2)] * 5
    current = "SELECT current_value, transaction_id, set_value FROM component_parameters"
    assert logged.schema.rows(f"{current} WHERE parameter_id = 12") == [(202.0, first, 203.0)]
    assert logged.schema.value("SELECT count(*) FROM parameter_trend") == 10
    logged.check()


def test_the_void_says_who_why_and_when_in_the_ledger(logged: Logged) -> None:
    stored = logged.store(logged.oven.scan(1))
    report = logged.void(stored)
    record = logged.schema.rows(
        "SELECT c.transaction_id, reason, voided_by, voided_at, action, l.stream_id, l.repository,"
        " l.history_rows FROM compensations c JOIN logging_transactions l ON l.transaction_id = ledger_id"
    )
    assert record == [
        (stored, "the sensor was on the bench", "J. Doe", report.voided_at, 1, 0, "void", 0)
    ]  # fmt: skip


def test_without_an_older_value_there_is_none(logged: Logged) -> None:
    report = logged.void(logged.store(logged.oven.scan(1)))
    assert (report.fell_back, report.emptied) == (0, 5)
    rows = logged.schema.rows(
        "SELECT current_value, current_text, updated_at, transaction_id, set_value, last_quality,"
        " last_attempt_at, scan, last_attempt_scan FROM component_parameters"
    )
    assert rows == [(None, None, None, None, None, 32, None, 0, 0)] * 5
    logged.check()


def test_each_parameter_falls_back_to_its_own_newest_usable_value(logged: Logged) -> None:
    logged.store(logged.oven.scan(1))
    logged.store(logged.oven.scan(2, bad={HEAT: BAD}))
    gone = logged.store(logged.oven.scan(3, bad={LAMP: BAD}))
    logged.store(logged.oven.scan(4, bad={HEAT: BAD, LAMP: BAD}))
    report = logged.void(gone)
    assert (report.fell_back, report.emptied) == (1, 0)  # heat; the others have newer ones, lamp an older
    assert logged.now() == [(4, 4), (4, 4), (1, 4), (4, 4), (2, 4)]
    logged.check()


def test_what_was_voided_before_is_no_value_to_fall_back_to(logged: Logged) -> None:
    stored = [logged.store(logged.oven.scan(number)) for number in range(1, 5)]
    for transaction in (stored[1], stored[2], stored[3]):
        logged.void(transaction)
    assert logged.now() == [(1, 1)] * 5
    logged.check()


def test_voiding_an_older_transaction_moves_no_current_value(logged: Logged) -> None:
    old = logged.store(logged.oven.scan(1))
    logged.store(logged.oven.scan(2))
    report = logged.void(old)
    assert (report.fell_back, report.emptied, logged.now()) == (0, 0, [(2, 2)] * 5)
    logged.check()


def test_voiding_twice_changes_nothing_and_says_so(logged: Logged) -> None:
    stored = logged.store(logged.oven.scan(1))
    first = logged.void(stored)
    before = logged.schema.contents()
    again = void(logged.operator, str(stored), "another reason", "somebody else")
    assert again.already
    assert (again.reason, again.voided_by, again.voided_at) == (first.reason, "J. Doe", first.voided_at)
    assert logged.schema.contents() == before


def test_the_logger_goes_on_after_a_void(logged: Logged) -> None:
    logged.store(*logged.oven.run_of(1, 2))
    logged.void(logged.store(logged.oven.scan(3)))
    logged.store(logged.oven.scan(4))
    assert logged.now() == [(4, 4)] * 5
    logged.check()


def test_history_of_a_baseline_device_is_voided_without_current_values(schema: Schema, oven: Oven) -> None:
    logged = Logged(schema, oven, BaselineRepository)
    report = logged.void(logged.store(oven.scan(1)))
    assert (report.rows, report.fell_back, report.emptied) == (5, 0, 0)
    assert logged.now() == [(0, 0)] * 5
    logged.check()


def test_an_older_value_is_found_behind_a_clock_that_was_set(logged: Logged) -> None:
    """The scan before the voided one stands hours later, another one close to it in time is older."""
    create_partitions(logged.operator, 1_699_900_000_000_000, 1_700_200_000_000_000)

    def at(number: int, hours: int) -> Scan:
        scan = logged.oven.scan(number)
        return Scan(scan.number, scan.values, scan.quality, scan.recorded_at + hours * 3_600_000_000)

    logged.store(at(1, 0))
    logged.store(at(2, 30))
    logged.void(logged.store(at(3, 0)))
    assert logged.now() == [(2, 2)] * 5
    logged.check()


REFUSED = {
    "no id": ("4711", r"'4711' is no transaction id; one looks like 00000000-"),
    "unknown": (str(UUID(int=7)), r"there is no transaction 00000000-0000-0000-0000-000000000007"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_transaction_is_refused_in_one_line(logged: Logged, case: str) -> None:
    given, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as refused:
        logged.void(given)
    assert "\n" not in str(refused.value)


def test_gaps_and_voids_are_refused(logged: Logged) -> None:
    logged.stream.record_gap(Gap(1, 4, "away"))
    logged.void(logged.store(logged.oven.scan(5)))
    gap = logged.schema.value("SELECT transaction_id FROM scan_gaps")
    entered = logged.schema.value("SELECT ledger_id FROM compensations")
    before = logged.schema.contents()
    with pytest.raises(InputError, match="is a gap of scans 1 to 4: it stored no value"):
        logged.void(gap)
    with pytest.raises(InputError, match="is a void itself"):
        logged.void(entered)
    assert logged.schema.contents() == before


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "NUL\0"])
def test_a_reason_must_say_something_on_one_line(logged: Logged, reason: str) -> None:
    with pytest.raises(InputError, match=r"the reason is .*; say it in a few words"):
        void(logged.operator, uuid4(), reason, "J. Doe")


def test_two_operators_at_once_void_each_transaction_once(logged: Logged) -> None:
    stored = [logged.store(logged.oven.scan(number)) for number in range(1, 9)]
    connections = [logged.schema.connect() for _ in range(4)]

    def void_all(connection: Any) -> list[VoidReport]:
        return [void(connection, transaction, "twice at once", "J. Doe") for transaction in stored[1:]]

    with ThreadPoolExecutor(4) as operators:
        reports = [report for done in operators.map(void_all, connections) for report in done]
    assert sum(not report.already for report in reports) == 7
    assert logged.now() == [(1, 1)] * 5
    assert logged.schema.value("SELECT last_scan FROM logging_streams WHERE stream_id = 0") == 7
    logged.check()


@contextmanager
def at_work(logged: Logged, streams: int) -> Iterator[list[UUID]]:
    """Loggers that store one scan after the other, some values bad; yields the ids of what they stored."""
    stop, stored = threading.Event(), list[UUID]()

    def work(stream: Stream) -> None:
        number = stream.head.last_scan
        while not stop.is_set():
            number += 1
            stored.append(
                logged.store(logged.oven.scan(number, bad={HEAT: BAD} if number % 20 else {}), stream=stream)
            )

    with ThreadPoolExecutor(streams) as loggers:
        jobs = [loggers.submit(work, logged.stream_of(k + 1)) for k in range(streams)]
        try:
            yield stored
        finally:
            stop.set()
        for job in jobs:
            job.result()


@pytest.mark.parametrize(
    ("kind", "streams"), [(SynchronizingRepository, 1), (SharedSynchronizingRepository, 3)]
)
def test_loggers_at_work_are_not_disturbed(schema: Schema, oven: Oven, kind: Any, streams: int) -> None:
    logged = Logged(schema, oven, kind)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before, fell_back = schema.value(deadlocks), 0
    heat = "SELECT transaction_id FROM component_parameters WHERE parameter_id = 12"
    for number in range(1, 31):
        logged.store(oven.scan(number))  # enough to fall back to
    with at_work(logged, streams) as stored:
        wait_for(lambda: len(stored) > 25)
        for _ in range(25):
            fell_back += logged.void(schema.value(heat)).fell_back
    assert fell_back > 0, "no void met a current value"
    assert schema.value(deadlocks) == before
    logged.check()


@pytest.mark.parametrize("is_protected", [True, False], ids=["as it is", "loggers not stopped"])
def test_a_logger_in_the_middle_of_its_update_does_not_deadlock(
    logged: Logged, monkeypatch: pytest.MonkeyPatch, is_protected: bool
) -> None:
    """A plan may update current values in any order; this logger's goes backwards."""
    if not is_protected:
        monkeypatch.setattr(Turn, "stop_loggers", lambda mine: None)
    logged.store(logged.oven.scan(1))
    stored, logger = logged.store(logged.oven.scan(2)), logged.schema.connect()
    logger.execute("SET deadlock_timeout = '10ms'")
    backend = logged.operator.info.backend_pid
    is_waiting = f"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {backend}"
    touch = "UPDATE component_parameters SET last_quality = last_quality WHERE parameter_id = %s"
    deadlocks = 0
    with ThreadPoolExecutor(1) as aside:
        try:
            with logger.transaction():
                logger.execute("UPDATE logging_streams SET last_scan = last_scan WHERE stream_id = 1")
                logger.execute(touch, (14,))
                voiding = aside.submit(logged.void, stored)
                wait_for(lambda: logged.schema.value(is_waiting))
                logger.execute(touch, (10,))
        except DeadlockDetected:
            deadlocks = 1
        assert voiding.result().fell_back == 5
    assert deadlocks == (0 if is_protected else 1)
    logged.check()


def test_a_commit_between_search_and_update_is_not_moved_back(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged.store(logged.oven.scan(1))
    gone = logged.store(logged.oven.scan(2))

    def stored_meanwhile(mine: Any) -> None:
        logged.store(logged.oven.scan(3, bad={HEAT: BAD}))
        stop_loggers(mine)

    stop_loggers = Turn.stop_loggers
    monkeypatch.setattr(Turn, "stop_loggers", stored_meanwhile)
    assert logged.void(gone).fell_back == 1  # heat alone
    assert logged.now() == [(3, 3), (3, 3), (1, 3), (3, 3), (3, 3)]
    logged.check()


def test_a_late_scan_of_another_stream_between_search_and_update_is_found(
    schema: Schema, oven: Oven, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = Logged(schema, oven, SharedSynchronizingRepository)
    late = logged.stream_of(2)
    logged.store(oven.scan(1))
    logged.store(oven.scan(1), stream=late)
    gone = logged.store(*oven.run_of(2, 9))
    stop_loggers = Turn.stop_loggers

    def stored_meanwhile(mine: Any) -> None:
        logged.store(*oven.run_of(2, 5), stream=late)
        stop_loggers(mine)

    monkeypatch.setattr(Turn, "stop_loggers", stored_meanwhile)
    logged.void(gone)
    assert logged.now() == [(5, 5)] * 5
    logged.check()


def test_a_row_that_somebody_holds_for_long_fails_the_void_whole(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = logged.store(logged.oven.scan(1))
    monkeypatch.setattr("logger.database.operators._HASTE", {"lock_timeout": "10ms"})
    before = logged.schema.contents()
    holder = logged.schema.connect()
    with holder.transaction():
        holder.execute("UPDATE logging_streams SET last_scan = last_scan WHERE stream_id = 1")
        with pytest.raises(DatabaseError, match="nothing was changed, try again"):
            logged.void(stored)
    assert logged.schema.contents() == before
    assert logged.void(stored).emptied == 5


def test_rows_of_an_expired_partition_may_be_voided(logged: Logged) -> None:
    stored = logged.store(logged.oven.scan(1))
    logged.schema.rows(
        "DO $$ DECLARE part regclass; BEGIN"
        " SELECT tableoid::regclass INTO part FROM parameter_value_history LIMIT 1;"
        " EXECUTE format('ALTER TABLE parameter_value_history DETACH PARTITION %s', part); END $$"
    )
    logged.schema.rows(
        "INSERT INTO expired_partitions (parent, partition, from_at, to_at, rows, detached_at)"
        " VALUES ('parameter_value_history', 'x', '2023-11-14', '2023-11-15', 5, now())"
    )
    logged.check()
    report = logged.void(stored)
    assert (report.rows, report.fell_back, report.emptied) == (5, 0, 5)
    logged.check()


def test_nobody_claims_the_operators_stream(logged: Logged) -> None:
    logged.void(logged.store(logged.oven.scan(1)))
    streams = logged.schema.rows("SELECT stream_id, writer IS NULL FROM logging_streams ORDER BY 1")
    assert streams == [(0, True), (1, False)]
