"""A suite whose part fails, or that is stopped: what stands in the result, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from fix_suite import run_small, schemas_left, small_plan
from waiting import wait_for

from bench.analysis.verdict import Judgement, Outcome
from bench.cli.suite import exit_code
from bench.section import Section
from bench.suite import run as suite_run
from bench.suite.context import Suite
from bench.suite.plan import SuitePlan
from bench.suite.run import SuiteRun, SuiteSettings, run_suite
from logger.errors import DatabaseError
from plcsim.errors import InputError, PlcsimError


class Scripted:
    """A part that does what a test says."""

    TITLE = "scripted"

    def __init__(self, name: str, exc: BaseException | None = None) -> None:
        self.NAME = name
        self._exc = exc

    def planned_seconds(self, plan: SuitePlan) -> float:
        return 1.0

    def run(self, bench: Suite, section: Section) -> None:
        section.figures["begun"] = True
        with bench.schema([], name="scripted"):
            if self._exc:
                raise self._exc


@pytest.mark.parametrize(
    ("exc", "said"),
    [
        (PlcsimError("the line\nis cut"), "the line is cut"),
        (DatabaseError("no room"), "no room"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("a mistake of ours"), "ValueError: a mistake of ours"),
    ],
)
def test_a_part_that_fails_is_noted_and_the_next_one_runs(
    postgres: str, suite_path: Path, monkeypatch: pytest.MonkeyPatch, exc: Exception, said: str
) -> None:
    monkeypatch.setattr(suite_run, "PARTS", (Scripted("first", exc), Scripted("second")))
    done, content = run_small(postgres, suite_path)
    assert [(s["name"], s["error"]) for s in content["sections"]] == [("first", said), ("second", "")]
    assert content["sections"][0]["figures"] == {"begun": True}
    assert content["sections"][0]["outcome"] == "INVALID"
    assert exit_code(done) == 1


def test_what_interrupts_a_run_leaves_its_result_and_no_schema(
    postgres: str, suite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        suite_run, "PARTS", (Scripted("first"), Scripted("second", KeyboardInterrupt()), Scripted("third"))
    )
    with pytest.raises(KeyboardInterrupt):
        run_small(postgres, suite_path)
    content = json.loads(suite_path.read_text())
    assert [(s["name"], s["error"]) for s in content["sections"]] == [
        ("first", ""),
        ("second", "stopped before its end"),
    ]
    assert content["unfinished"] == "stopped before its end"
    assert schemas_left(postgres) == []


def test_an_arm_that_is_none_is_refused_before_a_server_is_started(suite_path: Path) -> None:
    with pytest.raises(InputError, match="'nonsense' is not an arm"):
        run_suite(SuiteSettings(small_plan(), b="nonsense"), suite_path, print, print)
    assert not suite_path.exists()


def test_the_exit_code_follows_from_the_sections(suite_path: Path) -> None:
    done = SuiteRun(SuiteSettings(small_plan()), suite_path)
    section = Section("impact")
    section.judgements = [
        Judgement(metric, Outcome.FAIL if metric == "throughput" else Outcome.PASS, "LOW", 0.2, None)
        for metric in ("throughput", "median response", "memory", "success")
    ]
    done.sections.append(section)
    assert exit_code(done) == 3
    section.invalid.append("disturbed")
    assert exit_code(done) == 5
    section.error = "stopped"
    assert exit_code(done) == 1


def test_ctrl_c_keeps_what_there_is_and_drops_the_schemas(postgres: str, suite_path: Path) -> None:
    arguments = ("--short", "--part", "overhead", "--database", postgres, "--json", str(suite_path))
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "suite", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any("overhead: preparing" in line for line in process.stdout)  # its worker is at it now
        assert len(schemas_left(postgres)) == 5
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints.strip() == "plcbench: stopped"
    assert f"stopped after 0 parts; what there is stands in {suite_path}" in said
    wait_for(lambda: not alive_in_session(process.pid))
    assert schemas_left(postgres) == []
    content = json.loads(suite_path.read_text())
    assert content["unfinished"] == "stopped before its end"
    assert [(s["name"], s["error"]) for s in content["sections"]] == [("overhead", "stopped before its end")]


def alive_in_session(leader: int) -> list[int]:
    """Processes of a session that still run; zombies have ended."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
