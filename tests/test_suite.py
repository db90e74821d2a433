"""The suite: its plan file, small real runs, parts that fail, and what is left when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_postgres import reachable_folder
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from waiting import wait_for

from bench.analysis.verdict import Judgement, Outcome
from bench.cli.suite import exit_code
from bench.load.failures import Failure
from bench.section import Section
from bench.suite import run as suite_run
from bench.suite import scalability
from bench.suite.context import Suite
from bench.suite.levels import Level
from bench.suite.plan import SuiteFile, SuitePlan, load_suite
from bench.suite.run import SuiteRun, SuiteSettings, histogram_folder, planned_seconds, run_suite
from bench.suite.waits import Waits, watched_waits
from logger.database import connect
from logger.errors import DatabaseError
from plcsim.errors import ConfigError, InputError, PlcsimError

CONFIG = Path(__file__).parent.parent / "configs" / "bench" / "suite.yaml"

SMALL: dict[str, Any] = {
    "parameters": 7,
    "baseline": {
        "cases": [{"name": "quick one", "parameters": 7, "interval_s": 0.05}],
        "machines": 1,
        "seconds": 1.0,
    },
    "impact": {
        "pairs": 2,
        "slot_s": 0.2,
        "noise_pairs": 2,
        "modbus_pairs": 0,
        "modbus_s": 1.0,
        "modbus_interval_s": 0.05,
    },
    "why": {"transactions": 40},
    "strategies": {"parameters": [5, 7], "slot_s": 0.03, "slots": 2},
    "overhead": {"pairs": 2, "slot_s": 0.05},
    "scalability": {
        "connections": [1, 2, 3],
        "slot_s": 0.15,
        "slots": 1,
        "parameters": [5, 9],
        "parameters_slot_s": 0.1,
    },
}


def small_plan() -> SuitePlan:
    """The parts of this file, as short as they go; the others as they are in the short plan."""
    return SuitePlan.model_validate({**load_suite(CONFIG, short=True).model_dump(), **SMALL})


def schemas_left(postgres: str) -> list[str]:
    with connect(postgres) as connection:
        rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'plcbench%'")
        return [name for (name,) in rows]


def spawned() -> list[str]:
    return [
        line
        for child in psutil.Process().children(recursive=True)
        if "spawn_main" in (line := " ".join(child.cmdline()))
    ]


# --- the plan ---


@pytest.mark.parametrize("short", [False, True])
def test_the_plan_that_comes_with_it_loads_in_both_lengths(short: bool) -> None:
    plan = load_suite(CONFIG, short)
    assert plan.impact.pairs >= 8
    assert planned_seconds(SuiteSettings(plan)) < (300 if short else 2 * 3600)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    pairs: 16\n", "    pairs: 1\n", "full.impact.pairs: 1: must be 2 or more"),
        ("    pairs: 16\n", "    pears: 16\n", "full.impact.pears: is not a known key here"),
        ("    modbus_pairs: 4", "    modbus_pairs: 1", "full.impact.modbus_pairs: 1: must be 0, or 2"),
        ("share_of_capacity: 0.65 ", "share_of_capacity: 1.5 ", "full.impact.share_of_capacity: 1.5: must"),
        ("[10, 25, 50, 84, 100, 200, 500, 1000]", "[25, 10]", "full.strategies.parameters: [25, 10]: must"),
        ("[1, 2, 4, 8, 16, 32, 64, 100, 128]", "[1, 1]", "full.scalability.connections: [1, 1]: must ascend"),
        ("name: twice as often", "name: normal", "full.baseline.cases: normal, normal"),
        ("interval_s: 0.5}", "interval_s: 0.001}", "full.baseline.cases[1].interval_s: 0.001: must be 0.01"),
        ("  why:\n    transactions: 3000              # of each arm\n", "", "full.why: is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_plan_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = CONFIG.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "suite.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_suite(path)
    where, _, what = str(refused.value).partition(": ")
    line = int(where.removeprefix(f"{path}:"))
    assert what.startswith(said)
    key = new.strip().split(":")[0]
    assert not key or "missing" in said or line > 1
    assert "\n" not in what


def test_both_lengths_have_the_same_parts() -> None:
    assert set(SuiteFile.model_fields) == {"full", "short"}
    names = {part.NAME for part in suite_run.PARTS}
    assert names <= set(SuitePlan.model_fields)
    assert all(part.planned_seconds(small_plan()) > 0 for part in suite_run.PARTS)


# --- real runs, small ---


@pytest.fixture
def result_path(tmp_path: Path) -> Path:
    return tmp_path / "suite.json"


def run_small(postgres: str, path: Path, *only: str, **more: Any) -> tuple[SuiteRun, dict[str, Any]]:
    """Run parts; everything that they made must be gone."""
    told: list[str] = []
    settings = SuiteSettings(small_plan(), url=postgres, only=only, **more)
    done = run_suite(
        settings,
        path,
        lambda section: told.append(json.loads(path.read_text())["sections"][-1]["name"]),
        lambda what, seconds: None,
    )
    assert told == [section.name for section in done.sections]  # on disk before anybody was told
    assert schemas_left(postgres) == []
    wait_for(lambda: not spawned())
    return done, json.loads(path.read_text())


def test_parts_that_compare_strategies_and_statements(postgres: str, result_path: Path) -> None:
    done, content = run_small(postgres, result_path, "strategies", "overhead", "why")
    strategies, overhead, why = sorted(
        done.sections, key=lambda one: "soh".index(one.name[0]) if one.name[0] in "soh" else 9
    )
    for section in done.sections:
        assert (section.error, section.invalid) == ("", [])
        assert section.verifications
        assert not any(one.violations for one in section.verifications.values())
    updates = strategies.figures["by_parameters"]
    assert set(updates) == {"5", "7"}
    assert "update_us" not in updates["7"]["baseline"]
    for name in ("synchronizing", "array_join", "in_case", "row_by_row", "temporary_table", "skip_unchanged"):
        one = updates["7"][name]
        assert one["update_us"] == pytest.approx(
            sum(
                b - a
                for a, b in zip(updates["7"]["baseline"]["slots_mean_us"], one["slots_mean_us"], strict=True)
            )
            / 2,
            abs=0.2,
        )
    assert strategies.figures["skip_unchanged_wrong_values"] == 0
    assert strategies.figures["skip_unchanged_i2_violations_by_design"] > 0
    advised = {finding.at["strategy"] for finding in strategies.findings}
    assert "skip_unchanged" not in advised
    assert {"in_case", "synchronizing"} <= advised
    assert len(overhead.figures["contrasts"]) == 5
    counters = why.figures["counters"]
    assert counters["A"]["rows_updated"] == 0
    assert counters["B"]["rows_updated"] == pytest.approx(7, abs=0.01)
    # a stream's row, a ledger's row and seven rows of history and of the process
    assert counters["A"]["rows_inserted"] == counters["B"]["rows_inserted"] == pytest.approx(15, abs=0.3)
    assert counters["B"]["wal_bytes"] > counters["A"]["wal_bytes"]
    split = why.figures["split"]["three tables"]
    steps = [figure["mean"] for name, figure in split.items() if name not in ("whole_us", "round trip_us")]
    assert 0 < sum(steps) <= split["whole_us"]["mean"]
    assert split["current values_us"]["mean"] > 0
    assert content["unfinished"] == ""


def test_impact_is_judged_only_beside_its_own_noise(postgres: str, result_path: Path) -> None:
    done, content = run_small(postgres, result_path, "impact")
    (section,) = done.sections
    assert section.error == ""
    assert {judgement.metric for judgement in section.judgements} >= {
        "throughput",
        "median response",
        "memory",
        "success",
    }
    assert {finding.metric for finding in section.findings} >= {
        "throughput_loss",
        "latency_increase",
        "success",
    }
    pairs, noise = section.figures["pairs"], section.figures["noise"]
    assert noise["arms"] == ["baseline", "baseline"]
    assert pairs["arms"] == ["baseline", "synchronizing"]
    for name in ("A", "B", "A/A A", "A/A B"):
        assert section.verifications[name].violations == 0
    wide = [
        metric
        for metric in noise["metrics"]
        if metric["name"] == "throughput" and not -0.1 < metric["cost"]["low"] <= metric["cost"]["high"] < 0.1
    ]
    assert bool(wide) == any(
        reason.startswith("throughput, baseline against itself") for reason in section.invalid
    )
    assert content["sections"][0]["outcome"] == section.outcome.value

    folder = histogram_folder(result_path)
    reader = HistogramLogReader(str(folder / "impact.hlog"), HdrHistogram(1, 60_000_000, 3))
    count = 0
    while (histogram := reader.get_next_interval_histogram()) is not None:
        if histogram.get_tag() == "B-response":
            count += histogram.get_total_count()
    assert count == pairs["latency"]["response"]["b"]["count"] > 10
    assert (folder / "impact-B-response.hgrm").read_text().lstrip().startswith("Value")


def test_scalability_fits_both_arms_on_both_kinds_of_rows(
    postgres: str, result_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scalability, "_PROCESSES", 1)
    done, _ = run_small(postgres, result_path, "scalability")
    (section,) = done.sections
    assert (section.error, section.invalid) == ("", [])
    assert len(section.verifications) == 6
    assert not any(one.violations for one in section.verifications.values())
    for rows in ("disjoint", "same"):
        figures = section.figures[f"{rows}_rows"]
        for letter in "AB":
            assert [level["connections"] for level in figures[letter]] == [1, 2, 3]
            assert all(level["success_share"] == 1.0 for level in figures[letter])
            assert figures["law"][letter]["levels"] == [1, 2, 3]
    found = {(f.metric, f.at.get("rows")) for f in section.findings}
    assert {("usl_sigma", "same"), ("usl_peak", "disjoint"), ("parameters_per_s", None)} <= found


def test_baseline_logs_over_modbus_by_both_arms(postgres: str, result_path: Path) -> None:
    done, _ = run_small(postgres, result_path, "baseline")
    (section,) = done.sections
    assert (section.error, section.invalid) == ("", [])
    for letter in "AB":
        figures = section.figures["quick one"][letter]
        assert figures["scans_stored"] == figures["response"]["count"] > 10
        assert figures["response"]["max_ms"] >= figures["service"]["max_ms"]
        assert figures["logger_cpu_s"] > 0
        assert figures["emulator_bytes"] > 1e6
        assert figures["verification"]["violations"] == 0
    assert [judgement.metric for judgement in section.judgements] == ["success"]


# --- what goes wrong ---


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
    postgres: str, result_path: Path, monkeypatch: pytest.MonkeyPatch, exc: Exception, said: str
) -> None:
    monkeypatch.setattr(suite_run, "PARTS", (Scripted("first", exc), Scripted("second")))
    done, content = run_small(postgres, result_path)
    assert [(s["name"], s["error"]) for s in content["sections"]] == [("first", said), ("second", "")]
    assert content["sections"][0]["figures"] == {"begun": True}
    assert content["sections"][0]["outcome"] == "INVALID"
    assert exit_code(done) == 1


def test_what_interrupts_a_run_leaves_its_result_and_no_schema(
    postgres: str, result_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        suite_run, "PARTS", (Scripted("first"), Scripted("second", KeyboardInterrupt()), Scripted("third"))
    )
    with pytest.raises(KeyboardInterrupt):
        run_small(postgres, result_path)
    content = json.loads(result_path.read_text())
    assert [(s["name"], s["error"]) for s in content["sections"]] == [
        ("first", ""),
        ("second", "stopped before its end"),
    ]
    assert content["unfinished"] == "stopped before its end"
    assert schemas_left(postgres) == []


def test_an_arm_that_is_none_is_refused_before_a_server_is_started(result_path: Path) -> None:
    with pytest.raises(InputError, match="'nonsense' is not an arm"):
        run_suite(SuiteSettings(small_plan(), b="nonsense"), result_path, print, print)
    assert not result_path.exists()


def test_the_exit_code_follows_from_the_sections(result_path: Path) -> None:
    done = SuiteRun(SuiteSettings(small_plan()), result_path)
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


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """PLCSIM_DATA_DIR, in which nothing must be left."""
    folder = reachable_folder()
    yield folder
    assert list(folder.iterdir()) == []
    folder.rmdir()


def test_ctrl_c_keeps_what_there_is_and_removes_the_server(data_folder: Path, result_path: Path) -> None:
    arguments = ("suite", "--short", "--part", "overhead", "--part", "why", "--json", str(result_path))
    with subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PLCSIM_DATA_DIR": str(data_folder)},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any("overhead: preparing" in line for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints.strip() == "plcbench: stopped"
    assert f"what there is stands in {result_path}" in said
    content = json.loads(result_path.read_text())
    assert content["unfinished"] == "stopped before its end"
    assert content["sections"][-1]["error"] == "stopped before its end"


# --- helpers ---


def test_waits_see_a_lock_and_what_does_not_wait(postgres: str) -> None:
    with connect(postgres) as one, connect(postgres) as other:
        pids = [one.info.backend_pid, other.info.backend_pid]
        one.execute("SELECT pg_advisory_lock(77)")
        with watched_waits(postgres, pids) as idle:
            wait_for(lambda: idle.looks > 3)
        assert idle.shares == {}
        waiting = threading.Thread(target=other.execute, args=("SELECT pg_advisory_lock(77)",))
        waiting.start()
        with watched_waits(postgres, pids) as waits:
            wait_for(lambda: waits.seen["Lock:advisory"] > 3)
        one.execute("SELECT pg_advisory_unlock(77)")
        waiting.join()
        assert waits.share_of("Lock") > 0.5  # the first looks may have come before it waited
        assert waits.in_words().startswith("Lock:advisory ")


def test_shares_of_waits_add_up() -> None:
    waits = Waits()
    waits.seen.update({"IO:WalSync": 3, "computing": 1})
    waits.looks = 2
    assert waits.shares == {"IO:WalSync": 0.75, "computing": 0.25}
    assert waits.backends_at_work == 2.0


def test_a_level_counts_what_was_not_stored_and_says_who_was_the_limit() -> None:
    level = Level(8, slots_per_s=[100.0, 300.0], stored=90, tried=100, busiest=0.95)
    level.failures = {Failure.DEADLOCK.value: 10}
    assert (level.per_s, level.success, level.is_generator_limited) == (200.0, 0.9, True)
    assert level.in_words() == "200*"
    assert level.p95_in_words == "too few"
    assert Level(8, slots_per_s=[100.0], busiest=0.5).in_words() == "100"
