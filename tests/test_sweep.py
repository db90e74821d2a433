"""Sweeps: cells that run, fail or die while the result stays on disk; Ctrl-C and what goes on after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from waiting import wait_for

from bench.measuring.latency import Latencies, Merged
from bench.report.sweep_table import cell_line, sweep_table
from bench.sweep import trial
from bench.sweep.measured import Cell, TrialResult
from bench.sweep.plan import SweepSpec, load_sweep
from bench.sweep.resume import load_earlier, newest_of
from bench.sweep.run import run_sweep
from logger.database import connect
from plcsim.errors import InputError

RESUMED = """\
parameters: 7
duration_s: 0.8
warm_up_s: 0.2
fault_profiles:
  bad: [{kind: exception, code: 4, every: 4}]
cells:
  - {interval_s: 0.05, faults: bad}
  - {interval_s: 0.02, source: made, devices: 2, loggers: 1, scans: 2, synchronous_commit: "off"}
  - interval_s: 0.04
    devices: 2
    loggers: 1
    connections: 2
    repository: logger.repositories:SharedSynchronizingRepository+fillfactor=50
"""


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    """Connection string of a role that may make schemas until somebody revokes it."""
    with connect(postgres) as owner:
        database = sql.Identifier(owner.info.dbname)
        owner.execute("CREATE ROLE sweeper LOGIN IN ROLE pg_read_all_stats")
        owner.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO sweeper").format(database))
        yield make_conninfo(postgres, user="sweeper")
        assert schemas_left(owner) == []
        owner.execute("DROP OWNED BY sweeper CASCADE")
        owner.execute("DROP ROLE sweeper")


def schemas_left(connection: psycopg.Connection[Any]) -> list[Any]:
    statement = "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%sweep'"
    return connection.execute(statement).fetchall()


def may_create(postgres: str, may: bool) -> None:
    verb, to = ("GRANT", "TO") if may else ("REVOKE", "FROM")
    with connect(postgres) as owner:
        database = owner.info.dbname
        owner.execute(f'{verb} CREATE ON DATABASE "{database}" {to} sweeper'.encode())


def at_work(postgres: str, strike: Callable[[psutil.Process], None]) -> None:
    """Strike the process that was started last, once loggers are at work."""
    with connect(postgres) as owner:
        wait_for(
            lambda: owner.execute(
                "SELECT 1 FROM pg_stat_activity WHERE usename = 'sweeper' AND query LIKE '%advanced%'"
            ).fetchall(),
            deadline_s=30,
        )
    strike(max(workers(), key=lambda child: child.create_time()))


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.long
def test_cells_that_fail_or_die_do_not_end_the_sweep(postgres: str, role: str, tmp_path: Path) -> None:
    spec = SweepSpec(
        interval_s=[0.05, 0.06, 0.07], parameters=7, duration_s=0.5, warm_up_s=0.0, repository="synchronizing"
    )
    path = tmp_path / "sweep.json"
    on_disk: list[int] = []

    def on_cell(cell: Cell) -> None:
        on_disk.append(len(json.loads(path.read_text())["cells"]))
        may_create(postgres, len(on_disk) != 1)

    killer = threading.Thread(target=at_work, args=(postgres, psutil.Process.kill))
    killer.start()
    cells = run_sweep(spec, role, path, on_cell)
    killer.join()

    assert on_disk == [1, 2, 3]
    assert "a worker process died" in cells[0].error
    assert "permission denied" in cells[1].error
    assert cells[2].error == ""
    result = cells[2].result
    assert result is not None
    assert result.violations == 0
    assert len(result.runs) == len(result.emulators) == 1
    assert result.backends
    content = json.loads(path.read_text())
    assert (content["kind"], content["planned_cells"], content["unfinished"]) == ("sweep", 3, "")
    assert [cell["error"] == "" for cell in content["cells"]] == [False, False, True]
    assert content["sections"][0]["outcome"] == "INVALID"
    assert all("failed: " in cell_line(cell) for cell in cells[:2])
    assert len(sweep_table(cells).rows) == 3
    loggers = content["cells"][2]["result"]["loggers"]
    for logger, run in zip(loggers, result.runs, strict=True):
        assert logger["stored_rows"] == run.stored_rows == 7 * run.scans
        response = logger["response"]
        decoded = Latencies(response["hdr_v2"], response["count"], 0.0, response["max_us"], 0)
        assert Merged([decoded]).count == run.window_stored == run.window_due
        # what a scan waits for its start and for its commit is part of its response
        assert run.response.max_us >= max(run.lag.max_us, run.commit.max_us)
    assert not workers()


def test_a_process_that_hangs_is_ended_and_told(
    postgres: str, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "DRAIN_S", 0.5)
    monkeypatch.setattr(trial, "_GRACE_S", 0.5)
    spec = SweepSpec(interval_s=0.05, parameters=7, duration_s=0.3, warm_up_s=0.0)
    freezer = threading.Thread(target=at_work, args=(postgres, psutil.Process.suspend))
    freezer.start()
    (cell,) = run_sweep(spec, role, tmp_path / "sweep.json")
    freezer.join()
    assert cell.error == "a process had not ended 1 s after its time"
    assert not workers()


@pytest.mark.long
def test_ctrl_c_keeps_what_there_is_and_resume_does_the_rest(postgres: str, tmp_path: Path) -> None:
    plan, path = tmp_path / "plan.yaml", tmp_path / "result.json"
    plan.write_text(RESUMED, encoding="utf-8")
    command = [sys.executable, "-m", "bench", "sweep", str(plan), "--json", str(path), "--database", postgres]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as sweep:
        assert sweep.stdout is not None
        assert sweep.stderr is not None
        wait_for(lambda: path.exists() and json.loads(path.read_text())["cells"], deadline_s=60)
        with connect(postgres) as monitor:
            wait_for(lambda: schemas_left(monitor), deadline_s=30)  # the next cell is at work
            family = psutil.Process(sweep.pid).children(recursive=True)
            os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
            out, err = sweep.communicate(timeout=60)
            assert schemas_left(monitor) == []
    assert (sweep.returncode, err.strip()) == (130, "plcbench: stopped")
    assert f"--resume --json {path} goes on" in out
    assert psutil.wait_procs(family, timeout=10)[1] == []
    first = json.loads(path.read_text())
    assert len(first["cells"]) == 1
    assert "interrupted by KeyboardInterrupt after 1 of 3 runs" in first["unfinished"]

    spec = load_sweep(plan)
    cells = run_sweep(spec, postgres, path, earlier=load_earlier(spec, path))
    whole = json.loads(path.read_text())
    assert (whole["unfinished"], whole["started_at"]) == ("", first["started_at"])
    assert [cell["error"] for cell in whole["cells"]] == [""] * 3
    assert whole["cells"][0] == first["cells"][0]
    assert {str(cell.trial) for cell in cells} == {str(trial) for trial in spec.trials()}
    results = {cell.trial.source + cell.trial.faults: cell.result for cell in cells}
    check_each(results)


def check_each(results: dict[str, TrialResult | None]) -> None:
    faulty, made, plain = (results[key] for key in ("plcbad", "made", "plc"))
    assert faulty is not None
    assert made is not None
    assert plain is not None
    assert [result.violations for result in (faulty, made, plain)] == [0, 0, 0]
    assert faulty.runs[0].read_errors > 0
    assert plain.runs[0].read_errors == 0
    assert (len(plain.runs), len(plain.emulators), len(made.emulators)) == (1, 2, 0)
    assert made.scans_a_transaction == 2
    assert made.success == (60, 60)  # 0.6 s of two devices, a scan each 20 ms
    assert made.merged("pool_wait").count > 0
    assert made.values_per_s == pytest.approx(made.trial.offered_per_s, rel=0.35)


def test_what_is_not_this_sweep_is_not_resumed(tmp_path: Path) -> None:
    spec, path = SweepSpec(devices=[1, 2]), tmp_path / "sweep-1.json"
    with pytest.raises(InputError, match="there is nothing to resume: No such file"):
        load_earlier(spec, path)
    path.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_earlier(spec, path)
    head = {"format": "plcbench-result", "version": 1, "kind": "quick"}
    path.write_text(json.dumps(head))
    with pytest.raises(InputError, match="is not the result of a sweep"):
        load_earlier(spec, path)
    content = {
        **head, "kind": "sweep", "plan": {"devices": [1, 3]}, "cells": [], "started_at": "", "took_s": 1,
        "environment": {"cores": 2},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is of another plan: devices changed since"):
        load_earlier(spec, path)
    with pytest.raises(InputError, match="holds no sweep of this plan"):
        newest_of(spec, tmp_path)
    path.write_text(json.dumps({**content, "plan": {"devices": [1, 2]}}))
    assert newest_of(spec, tmp_path) == path
    earlier = load_earlier(spec, path)
    earlier.check_environment({"cores": 2})
    with pytest.raises(InputError, match=r"cannot be resumed here.*cores: 2 and 4"):
        earlier.check_environment({"cores": 4})
    path.write_text(json.dumps({**content, "plan": {"devices": [1, 2]}, "cells": [{"result": {}}]}))
    with pytest.raises(InputError, match="a cell of it cannot be read"):
        load_earlier(spec, path)
