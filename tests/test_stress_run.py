"""The whole command: what it writes, and that it leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_postgres import reachable_folder
from waiting import wait_for

from bench.analysis.verdict import Targets
from bench.section import Section
from bench.stress.plan import StressPlan
from bench.stress.run import SCENARIOS, StressSettings, run_stress
from bench.stress.server import NotMeasured, stress_server
from logger.database import connect
from plcsim.errors import PlcsimError

PLAN = """
full:
  parameters: 5
  workers: 2
  storm: {transactions: [%s], rows: [disjoint], waves: %s}
"""
QUICK, LONG = (4, 2), (4, 20_000)
SHORTER = """
from bench.stress import storm
storm._FEWEST_TRIED = 1
from bench.cli import main
main()
"""


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """PLCSIM_DATA_DIR, in which nothing must be left."""
    folder = reachable_folder()
    yield folder
    assert list(folder.iterdir()) == []
    folder.rmdir()


def command(data_folder: Path, tmp_path: Path, length: tuple[int, int]) -> subprocess.Popen[str]:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN % length)
    arguments = ("stress", "--scenario", "storm", "--b", "baseline", "--plan", str(plan))
    return subprocess.Popen(
        [sys.executable, "-c", SHORTER, *arguments, "--output", str(tmp_path / "result.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PLCSIM_DATA_DIR": str(data_folder)},
        start_new_session=True,
    )


def of_session(leader: int) -> list[psutil.Process]:
    """Processes of a session that still run; zombies have ended."""
    found = []
    for process in psutil.process_iter(["status", "cmdline"]):
        try:
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except ProcessLookupError:
            continue
    return found


def begun(process: subprocess.Popen[str]) -> None:
    """Read until the crowd is at work."""
    assert process.stdout is not None
    assert any("storm of baseline" in line for line in process.stdout)


def servers_of(data_folder: Path) -> list[int]:
    """Postmasters whose data is in the folder and that run."""
    pids = [int(file.read_text().split()[0]) for file in data_folder.glob("*/data/postmaster.pid")]
    return [pid for pid in pids if psutil.pid_exists(pid)]


def result(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "result.json").read_text())


@pytest.mark.long
def test_a_run_that_nobody_disturbs_ends_well(data_folder: Path, tmp_path: Path) -> None:
    """The control of those below: the same run, and it finds nothing wrong."""
    with command(data_folder, tmp_path, QUICK) as process:
        said, complaints = process.communicate(timeout=100)
    assert complaints == ""
    content = result(tmp_path)
    storm, limits = content["sections"]
    assert (storm["name"], storm["error"], storm["invalid"]) == ("storm", "", [])
    assert content["unfinished"] == ""
    assert process.returncode == {"PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4}[content["outcome"]]
    assert limits["name"] == "operational limits"
    assert content["settings"]["scenarios"] == ["storm"]
    assert content["environment"]["postgresql"]["settings"]["max_wal_size"]
    assert f"result: {tmp_path / 'result.json'}" in said
    wait_for(lambda: not of_session(process.pid))


def test_ctrl_c_keeps_the_result_and_leaves_nothing(data_folder: Path, tmp_path: Path) -> None:
    with command(data_folder, tmp_path, LONG) as process:
        begun(process)
        assert servers_of(data_folder)
        assert len(of_session(process.pid)) >= 3
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints.strip() == "plcbench: stopped"
    assert "what there is stands in" in said
    content = result(tmp_path)
    assert content["unfinished"] == "stopped before its end"
    assert content["sections"][0]["error"] == "stopped before its end"
    wait_for(lambda: not of_session(process.pid))


@pytest.mark.long
def test_kill_9_of_a_worker_is_an_error_of_its_scenario_and_leaves_nothing(
    data_folder: Path, tmp_path: Path
) -> None:
    with command(data_folder, tmp_path, LONG) as process:
        begun(process)
        assert servers_of(data_folder)
        children = psutil.Process(process.pid).children()
        worker = next(child for child in children if "spawn_main" in " ".join(child.cmdline()))
        worker.kill()
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    content = result(tmp_path)
    storm = content["sections"][0]
    assert storm["error"] == "a worker process died: was it killed, or was memory short?"
    assert content["unfinished"] == ""
    assert content["outcome"] == "INVALID"
    assert f"did not end: {storm['error']}" in said
    wait_for(lambda: not of_session(process.pid))


class Failing:
    """A scenario that fails, and one that cannot be measured here."""

    NAME = "failing"
    TITLE = "fails"

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def planned_seconds(self, plan: StressPlan) -> float:
        return 0.0

    def run(self, bench: Any, section: Section) -> None:
        section.figures["before"] = 1
        if self.error:
            raise self.error


def test_one_failing_scenario_does_not_end_the_run(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenarios = (Failing(PlcsimError("it broke")), Failing(NotMeasured("no mounts")), Failing(None))
    monkeypatch.setattr("bench.stress.run.SCENARIOS", scenarios)
    on_disk: list[int] = []
    path = tmp_path / "r.json"

    def seen(section: Section) -> None:
        on_disk.append(len(json.loads(path.read_text())["sections"]))

    settings = StressSettings(StressPlan(), url=postgres, targets=Targets())
    done = run_stress(settings, path, seen, lambda what, seconds: None)
    failed, not_measured, fine = done.sections
    assert (failed.error, failed.figures) == ("it broke", {"before": 1})
    assert (not_measured.error, not_measured.figures["not_measured"]) == ("", ["failing: no mounts"])
    assert fine.error == ""
    assert on_disk == [2, 3, 4]  # each with the operational limits behind it
    assert done.exit_code == 1
    failed.invalid.append("disturbed")
    assert done.exit_code == 5


def test_every_scenario_has_what_the_run_asks_for() -> None:
    names = [scenario.NAME for scenario in SCENARIOS]
    assert len(set(names)) == len(names) == 9
    for scenario in SCENARIOS:
        assert scenario.planned_seconds(StressPlan()) > 0
        assert "\n" not in scenario.TITLE


def test_a_killed_server_comes_back_with_its_data_and_leaves_no_shared_memory(data_folder: Path,
    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("PLCSIM_DATA_DIR", str(data_folder))
    made: list[int] = []
    with stress_server(None) as server:
        made.append(server.own.postmaster_pid)
        with server.connect() as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
        server.own.kill()
        assert not psutil.pid_exists(made[0]) or psutil.Process(made[0]).status() == psutil.STATUS_ZOMBIE
        with pytest.raises(PlcsimError):
            connect(server.conninfo)
        server.own.start()
        server.wait_until_up()
        made.append(server.own.postmaster_pid)
        with server.connect() as connection:
            assert connection.execute("SELECT x FROM kept").fetchall() == [(1,)]
        server.own.kill()
    table = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    creator = table[0].index("cpid")
    assert {int(row[creator]) for row in table[1:]} & set(made) == set()
    assert len(set(made)) == 2
