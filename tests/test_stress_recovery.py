"""What faults do to a logger: the times of recovery, what became of its scans, and that loss is seen."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fix_postgres import reachable_folder

from bench.analysis.verdict import Outcome
from bench.section import Section
from bench.stress import (
    cpu_hogs,
    full_disk,
    long_reader,
    memory_pressure,
    ordeal,
    recovery,
    recovery_times,
    slow_disk,
)
from bench.stress.account import account
from bench.stress.context import Stress
from bench.stress.journal import RECORD, Records, records_in
from bench.stress.logger_process import in_spool
from bench.stress.ordeal import Fault, Ordeal
from bench.stress.plan import StressPlan, short_plan
from bench.stress.plan_faults import RecoveryPlan
from bench.stress.recovery_times import RecoveryTimes
from bench.stress.rig import Rig, rig, until
from bench.stress.server import NotMeasured, Server, stress_server

S = 1_000_000_000
BEGUN, ENDED, NOW = 10 * S, 12 * S, 30 * S
PERIOD = S // 20


def stored(*spans: tuple[float, float, float], good: bool = True) -> Records:
    """Twenty scans a second that are due from .. to, each stored no earlier than the third second."""
    rows = [
        (due // 1000, due, max(due + S // 100, round(at_s * S)), int(good))
        for first_s, last_s, at_s in spans
        for due in range(round(first_s * S), round(last_s * S), PERIOD)
    ]
    return np.array(rows, dtype=RECORD)


def times_of(*records: Records, now_ns: int = NOW) -> RecoveryTimes:
    return recovery_times.recovery_times(np.concatenate(records), 5.0, BEGUN, ENDED, now_ns)


def test_calm_is_no_outage() -> None:
    times = times_of(stored((0, 30, 0)))
    assert times.before_per_s == times.lowest_per_s == 20
    assert times.silence_s == pytest.approx(0.05)
    assert 0 <= times.first_success_s < 0.06
    assert (times.back_s, times.drained_s, times.late_scans) == (times.first_success_s, 0, 0)
    assert times.is_over


def test_outage_with_a_backlog_that_is_stored_at_once() -> None:
    """Due from 10 s on, stored at 15 s: 3 s after the end of the fault at 12 s."""
    times = times_of(stored((0, 10, 0), (10, 15, 15), (15, 30, 0)))
    assert times.lowest_per_s == 0
    assert times.silence_s == pytest.approx(5.04, abs=0.02)
    assert times.first_success_s == times.drained_s == 3
    assert times.back_s == pytest.approx(3, abs=0.06)
    assert times.late_scans == 98
    assert times.worst_response_s == 5


def test_backlog_that_is_stored_at_once_does_not_hide_the_silence_after_it() -> None:
    """A little of the backlog at 13 s, nothing till 18 s: the level is back at 18 s, not at 13 s."""
    times = times_of(stored((0, 10, 0), (10, 12, 13), (12, 18, 18), (18, 30, 0)))
    assert times.first_success_s == 1
    assert times.back_s == pytest.approx(6, abs=0.06)
    assert times.drained_s == 6


def test_scans_that_could_not_be_read_are_no_success() -> None:
    times = times_of(stored((0, 10, 0)), stored((10, 16, 0), good=False), stored((16, 30, 0)))
    assert times.first_success_s == pytest.approx(4, abs=0.06)
    assert times.back_s == pytest.approx(4, abs=0.06)
    assert times.drained_s == 0, "nothing came late, it did not come"


@pytest.mark.parametrize("now_s", [13, 17])
def test_what_was_not_seen_for_long_enough_is_not_over(now_s: int) -> None:
    records = stored((0, 10, 0), (15, 30, 0))
    times = times_of(records[records["at_ns"] < now_s * S], now_ns=now_s * S)
    assert math.isinf(times.back_s)
    assert not times.is_over


def test_half_a_record_at_the_end_of_a_journal_is_left_out(tmp_path: Path) -> None:
    journal = tmp_path / "stored.journal"
    assert len(records_in(journal)) == 0
    whole = stored((0, 1, 0))
    journal.write_bytes(whole.tobytes()[:-5])
    assert records_in(journal).tolist() == whole[:-1].tolist()


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """PLCSIM_DATA_DIR, in which nothing must be left."""
    folder = reachable_folder()
    monkeypatch.setenv("PLCSIM_DATA_DIR", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    folder.rmdir()


@pytest.mark.long
def test_faults_lose_nothing_and_a_loss_would_show(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (recovery_times, ordeal):
        monkeypatch.setattr(module, "STEADY_S", 0.3)
    plan = RecoveryPlan(before_s=1.0, after_s=30.0, fault_s=0.5, interval_s=0.1, plcs=1)
    faults = {fault.name: fault for fault in recovery.every_fault(plan.fault_s, plan.interval_s)}
    chosen = [
        faults["logger killed (-9)"],
        faults["server killed (-9)"],
        Fault("logger dies unasked", lambda rig: os.kill(rig.logger.pid, signal.SIGKILL)),
    ]
    section = Section("recovery")
    bench = Stress(StressPlan(recovery=plan), ("baseline", "synchronizing"))
    settings = {"shared_buffers": "16MB", "max_wal_size": "1GB", "min_wal_size": "80MB"}
    with stress_server(None, settings) as server, rig(server, "synchronizing", 10, 1, 0.1) as made:
        trial = Ordeal(bench, section, made, plan, "synchronizing")
        trial.start()
        trial.suffer([*chosen, Fault("impossible here", _impossible)])
        trial.finish()
        _check_report(section, [fault.name for fault in chosen])
        _check_loss_is_seen(made)


def _impossible(rig: Rig) -> None:
    raise NotMeasured("no such thing")


def _check_report(section: Section, names: list[str]) -> None:
    assert section.outcome is not Outcome.INVALID, section.to_json()
    right = [each.outcome for each in section.judgements if not each.metric.startswith("recovery")]
    assert right == [Outcome.PASS] * 3
    assert section.figures["not_measured"] == ["impossible here: no such thing"]
    seen = section.figures["synchronizing"]
    assert [each["fault"] for each in seen] == names
    assert all(each["first_success_s"] is not None for each in seen)
    assert seen[0]["silence_s"] > 0.3, "a new process needs longer than that"
    assert [each["died"].split(":")[0] for each in seen] == ["", "", "exit code -9"]
    in_all = section.figures["synchronizing, in all"]
    assert (
        in_all["lost_scans"] == in_all["duplicated_values"] == in_all["torn"] == in_all["waiting_scans"] == 0
    )
    assert in_all["stored_scans"] >= in_all["accepted_scans"] > 30
    assert in_all["scans_in_gaps"] > 0, "while it was dead"
    assert [f.at["fault"] for f in section.findings if f.metric == "recovery_s"] == names
    assert len(section.tables[0].rows) == len(names) + 1


def _check_loss_is_seen(made: Rig) -> None:
    """The control: the spool is emptied between two lives, and rows are written twice."""
    stood = len(made.logger.read())
    made.line.cut()
    made.logger.start()
    until(lambda: len(made.logger.read()) > stood + 10, "scans in the spool")
    made.logger.kill()
    spool = made.logger.settings.spool
    waiting = in_spool(spool)
    assert waiting
    with made.server.connect(made.schema) as connection:
        found = account(connection, made.logger.accepted, waiting)
        assert (found.lost, found.waiting) == (0, len(waiting))
        assert [judgement.outcome for judgement in found.judgements()] == [Outcome.PASS] * 3
        shutil.rmtree(spool)
        connection.execute(
            "INSERT INTO parameter_value_history"
            " (device_id, stream_id, scan, parameter_id, recorded_at, value, quality, transaction_id)"
            " SELECT device_id, stream_id, scan + 1000000, parameter_id, recorded_at, value + 1, quality,"
            " transaction_id FROM parameter_value_history WHERE scan = 1"
        )
        found = account(connection, made.logger.accepted, in_spool(spool))
    assert found.lost == len(waiting)
    assert found.duplicated == 10
    assert found.torn > 0
    assert [judgement.outcome for judgement in found.judgements()] == [Outcome.FAIL] * 3


def test_server_of_the_user_is_not_harmed(postgres: str) -> None:
    section = Section("recovery")
    faults = list(recovery.every_fault(1.0, 0.1))
    left = recovery._possible(faults, Server(postgres, None), section)
    assert {fault.name for fault in faults} - {fault.name for fault in left} == set(recovery.NEEDS_OWN_SERVER)
    assert len(section.figures["not_measured"]) == len(recovery.NEEDS_OWN_SERVER)


def test_arm_that_no_logger_can_use_is_not_measured(postgres: str, tmp_path: Path) -> None:
    sql = tmp_path / "own.sql"
    sql.write_text("SELECT 1;\n")
    with (
        pytest.raises(NotMeasured, match="keeps our tables"),
        rig(Server(postgres, None), str(sql), 10, 1, 1.0),
    ):
        pass


def test_accepted_scans_are_compared_by_how_often_they_were_read() -> None:
    accepted = Counter({1: 1, 2: 2}) | Counter({2: 1, 3: 1})
    assert accepted.total() == 4


@pytest.mark.parametrize(
    "scenario", [memory_pressure, full_disk, slow_disk, cpu_hogs, long_reader, recovery], ids=lambda m: m.NAME
)
def test_planned_time_is_said_beforehand(scenario: Any) -> None:
    assert 10 < scenario.planned_seconds(short_plan()) < 120
    assert scenario.planned_seconds(short_plan()) < scenario.planned_seconds(StressPlan()) < 2000
