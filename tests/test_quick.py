"""Short quick runs end to end: what they find, write and leave behind; and what makes one invalid."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from fix_postgres import reachable_folder
from hdrh.histogram import HdrHistogram
from rich.console import Console
from scipy import stats
from waiting import wait_for

from bench.analysis.verdict import Judgement, Outcome, overall
from bench.arms.clones import Clones
from bench.measuring.latency import Merged, latencies_of
from bench.oracle.invariants import INVARIANTS, Check, Verification
from bench.quick import result as quick_result
from bench.quick import run as quick
from bench.quick.doubts import clipped, violations
from bench.quick.run import QuickSettings, run_quick
from bench.report.text import print_quick
from logger.database import connect

PAIRS, PAIR_S = 3, 0.8
SHORTER = f"""
from bench.quick import result as quick_result
from bench.quick import run as quick
quick.PAIR_S = quick_result.PAIR_S = {PAIR_S}
quick_result.FEWEST_PAIRS = {PAIRS}
quick.WARM_UP_S = 0.3
quick._wal_segments = lambda settings: 2
from bench.cli import main
main()
"""
"""The command with shorter slots, for nothing here depends on how precise it is."""


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "PAIR_S", PAIR_S)
    monkeypatch.setattr(quick_result, "PAIR_S", PAIR_S)
    monkeypatch.setattr(quick_result, "FEWEST_PAIRS", PAIRS)
    monkeypatch.setattr(quick, "WARM_UP_S", 0.3)


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """PLCSIM_DATA_DIR, in which nothing must be left."""
    folder = reachable_folder()
    yield folder
    assert list(folder.iterdir()) == []
    folder.rmdir()


def command(data_folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SHORTER, "quick", "--duration", "1", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PLCSIM_DATA_DIR": str(data_folder)},
        start_new_session=True,
    )


def alive_in_session(leader: int) -> list[str]:
    """Processes of a session that still run; zombies have ended."""
    found = []
    for process in psutil.process_iter(["status", "cmdline"]):
        try:
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.info["cmdline"] or []))
        except ProcessLookupError:
            continue
    return found


def schemas_left(postgres: str) -> list[Any]:
    with connect(postgres) as connection:
        statement = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'plcbench%'"
        return connection.execute(statement).fetchall()


def median_us(slot: dict[str, Any]) -> float:
    return float(HdrHistogram.decode(slot["paced"]["response"]["hdr_v2"]).get_value_at_percentile(50))


def recomputed(slots: list[dict[str, Any]], figure: Any) -> tuple[float, float, float]:
    """Effect and interval of B over A from a figure of each slot, by other means than the bench's."""
    logs = {arm: np.log([figure(slot) for slot in slots if slot["arm"] == arm]) for arm in "AB"}
    differences = logs["B"] - logs["A"]
    mean, error = np.mean(differences), stats.sem(differences)
    low, high = stats.t.interval(0.95, len(differences) - 1, loc=mean, scale=error) if error else (mean, mean)
    return float(np.expm1(mean)), float(np.expm1(low)), float(np.expm1(high))


def test_a_run_on_a_server_of_its_own_gives_an_answer_that_follows_from_its_slots(
    data_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    with command(data_folder, "--parameters", "12", "--comparison-only", "--json", str(path)) as process:
        said, complaints = process.communicate(timeout=100)
    assert complaints == ""
    content = json.loads(path.read_text())
    outcome = Outcome(content["outcome"])
    assert process.returncode == outcome.exit_code
    assert f"\n{outcome.value}: " in said
    assert f"result: {path}" in said
    wait_for(lambda: not alive_in_session(process.pid))

    slots = content["slots"]
    assert [(slot["arm"], slot["pair"]) for slot in slots] == [(a, n) for n in range(PAIRS) for a in "AB"]
    for slot in slots:
        for part in ("saturated", "paced"):
            loop = slot[part]
            assert loop["per_second"] == pytest.approx(loop["transactions"] / loop["seconds"], rel=1e-3)
            for kind in ("service", "response", "wait"):
                decoded = HdrHistogram.decode(loop[kind]["hdr_v2"])
                assert decoded.get_total_count() == loop[kind]["count"]
            assert loop["service"]["count"] == loop["transactions"]
    costs = {judged["metric"]: judged["cost"] for judged in content["judgements"]}
    effect, low, high = recomputed(slots, lambda slot: slot["saturated"]["per_second"])
    assert_close(costs["throughput"], -effect, -high, -low)
    shown = {metric["name"]: metric["cost"] for metric in content["metrics"]}
    assert_close(shown["mean response"], *recomputed(slots, lambda s: s["paced"]["response"]["mean_us"]))
    effect, _, _ = recomputed(slots, median_us)
    assert costs["median response"]["effect"] == pytest.approx(effect, abs=0.005)
    assert_close(costs["memory"], *recomputed(slots, lambda s: s["worker_bytes"] + s["backend_bytes"]))
    if not content["invalid"]:
        outcomes = [verdict(judged, content) for judged in content["judgements"]]
        assert [judged["outcome"] for judged in content["judgements"]] == outcomes
        expected = next((o for o in ("FAIL", "INCONCLUSIVE") if o in outcomes), "PASS")
        assert content["outcome"] == expected
    for verification in content["verification"].values():
        assert verification["violations"] == 0
        assert verification["rows"] > 12 * PAIRS
    assert content["verification"]["A"]["invariants"]["I2"]["not_applicable"]
    assert content["environment"]["postgresql"]["settings"]["max_wal_size"]


def assert_close(cost: dict[str, float], effect: float, low: float, high: float) -> None:
    assert (cost["effect"], cost["low"], cost["high"]) == pytest.approx(
        (effect, low, high), abs=2e-3, rel=2e-3
    )


def verdict(judged: dict[str, Any], content: dict[str, Any]) -> str:
    """By the rule, from the numbers in the file."""
    if judged["cost"] is None:
        return "PASS" if judged["value"] > judged["target"] else judged["outcome"]
    low, high, target = judged["cost"]["low"], judged["cost"]["high"], judged["target"]
    targets = content["settings"]["targets"]
    floors = {"median response": targets["latency_floor_ms"], "memory": targets["memory_floor_mb"]}
    (of_a,) = [metric["a"] for metric in content["metrics"] if metric["name"] == judged["metric"]]
    if high * of_a < floors.get(judged["metric"], 0.0):
        return "PASS"
    return "PASS" if high < target else "FAIL" if low > target else "INCONCLUSIVE"


@pytest.mark.usefixtures("shorter")
@pytest.mark.long
def test_equal_arms_over_modbus_with_all_extras_where_somebody_tampers_with_b(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "BATCH_SIZES", (7,))
    monkeypatch.setattr(quick_result, "BATCH_SIZES", (7,))
    monkeypatch.setattr(quick, "_BATCH_SLOT_S", 0.1)
    monkeypatch.setattr(quick, "_WRITERS_S", 0.3)
    seen: list[str] = []

    def on_progress(what: str, seconds: float) -> None:
        if what not in seen:
            seen.append(what)
            if what == "comparison":
                change_a_value(postgres, "plcbench%_b")

    settings = QuickSettings(
        parameters=7, duration_s=1, a="synchronizing", b="synchronizing", url=postgres, plc=True
    )
    result = run_quick(settings, on_progress)
    assert schemas_left(postgres) == []
    assert seen == ["warm-up", "comparison", "parameters per scan", "verify", "concurrent writers"]
    assert result.json["settings"]["over_modbus"] is True
    assert [size.parameters for size in result.batch_sizes] == [7]
    assert all(0 < ok <= tried for ok, tried in result.comparison.success)

    (check,) = result.concurrency.values()
    assert (check.verification.violations, check.failures, check.deadlocks) == (0, {}, 0)
    assert check.success == 1.0
    assert check.verification.checks["I6"].checked >= check.transactions > 3

    assert result.verifications["A"].violations == 0
    checks = result.verifications["B"].checks
    assert {name: c.violations for name, c in checks.items() if c.violations} == {"I1": 1, "I4": 1, "I6": 1}
    assert "arm B: 3 violations of the invariants" in result.invalid
    assert (result.outcome, result.outcome.exit_code) == (Outcome.INVALID, 5)


def change_a_value(postgres: str, schemas: str) -> None:
    """In the middle of a transaction's rows, in the one schema that is called so."""
    with connect(postgres) as owner:
        find = "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s"
        ((schema,),) = owner.execute(find, (schemas,)).fetchall()
        table = f"{schema}.parameter_value_history"
        owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only".encode())
        changed = (
            f"UPDATE {table} SET value = -1 WHERE device_id = 'bench-7' AND scan = 2 AND parameter_id = 4"
        )
        assert owner.execute(changed.encode()).rowcount == 1


@pytest.mark.usefixtures("shorter")
@pytest.mark.long
def test_arms_of_the_users_own_on_clones_of_a_table_of_theirs(postgres: str, tmp_path: Path) -> None:
    sections = (
        "-- plcbench: transaction\nINSERT INTO kept ({});\n-- plcbench: stored\nSELECT count(*) FROM kept"
    )
    (tmp_path / "good.sql").write_text(sections.format("scan) VALUES (%(first_scan)s"))
    (tmp_path / "failing.sql").write_text(
        "-- plcbench: setup\nCREATE SEQUENCE tries;\n"
        + sections.format("scan, odd) VALUES (%(first_scan)s, (nextval('tries') %% 5) - 1")
    )
    plant = f"plant_{os.getpid()}"
    with connect(postgres) as owner:
        owner.execute(f"CREATE SCHEMA {plant}".encode())
        try:
            owner.execute(
                f"CREATE TABLE {plant}.kept (scan bigint, odd integer DEFAULT 0 CHECK (odd >= 0))".encode()
            )
            owner.execute(f"INSERT INTO {plant}.kept VALUES (7, 1)".encode())
            result = run_quick(
                QuickSettings(
                    parameters=5,
                    duration_s=1,
                    a=f"{tmp_path / 'good.sql'}+synchronous_commit=off",
                    b=str(tmp_path / "failing.sql"),
                    url=postgres,
                    extras=False,
                    clones=Clones((f"{plant}.kept",), copy_rows=True),
                )
            )
            assert owner.execute(f"SELECT * FROM {plant}.kept".encode()).fetchall() == [(7, 1)]
        finally:
            owner.execute(f"DROP SCHEMA {plant} CASCADE".encode())
    assert schemas_left(postgres) == []
    assert result.violations == 0
    assert [v.checks["stored"].checked > 10 for v in result.verifications.values()] == [True, True]
    assert sum("I1 to I6 are not checked" in note for note in result.notes) == 2
    assert result.json["settings"]["tables"] == [f"{plant}.kept"]
    (ok_a, tried_a), (ok_b, tried_b) = result.comparison.success
    assert ok_a / tried_a > 0.95
    assert 0.6 < ok_b / tried_b < 0.85  # one in five is refused: no goodput
    outcomes = {judged.metric: judged.outcome for judged in result.comparison.judgements}
    assert outcomes["success"] is Outcome.FAIL
    refused = result.json["failures"]["B"]["refused"]
    assert refused > 3
    console = Console(width=160, record=True, file=io.StringIO())
    print_quick(result, console, "nowhere")
    said = console.export_text()
    assert "I1 to I6 not checked" in said
    assert f"arm B failed: {refused:,} × refused" in said


@pytest.mark.parametrize("invariant", INVARIANTS)
@pytest.mark.parametrize("arm", ["A", "B"])
def test_one_violation_of_any_invariant_outranks_passed_targets(arm: str, invariant: str) -> None:
    verifications = {name: Verification({i: Check(i) for i in INVARIANTS}) for name in "AB"}
    assert violations(verifications, {}) == []
    verifications[arm].checks[invariant].violated("found")
    (reason,) = violations(verifications, {})
    assert reason.startswith(f"arm {arm}: 1 violation")
    passed = [Judgement("throughput", Outcome.PASS, "LOW", 0.2, None)]
    assert overall(passed, []) is Outcome.PASS
    assert overall(passed, [reason]) is Outcome.INVALID


def test_a_latency_that_no_histogram_holds_is_said() -> None:
    minute, short = latencies_of([61_000_000_000, 5_000_000]), latencies_of([5_000_000])
    merged = {"response": (Merged([short]), Merged([short, minute]))}
    assert clipped(SimpleNamespace(histograms=merged)) == [  # type: ignore[arg-type]
        "arm B: 1 values of response lie beyond 60 s and count as 60 s in percentiles"
    ]


LONG = ("--duration", "30")
"""So that it has not ended by itself when it is told to, on a machine that is busy."""


def begun(process: subprocess.Popen[str]) -> None:
    """Read until both arms are warm and slots are being run."""
    assert process.stdout is not None
    assert any("warm-up" in line for line in process.stdout)


def test_ctrl_c_removes_the_server_and_says_so_in_one_line(data_folder: Path, tmp_path: Path) -> None:
    with command(data_folder, *LONG, "--json", str(tmp_path / "result.json")) as process:
        begun(process)
        assert len(list(data_folder.iterdir())) == 1
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints.strip() == "plcbench: stopped"
    wait_for(lambda: not alive_in_session(process.pid))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_sigterm_drops_the_schemas_on_a_given_server(
    postgres: str, data_folder: Path, tmp_path: Path
) -> None:
    options = (*LONG, "--database", postgres, "--json", str(tmp_path / "result.json"))
    with command(data_folder, *options) as process:
        begun(process)
        assert len(schemas_left(postgres)) == 2
        process.terminate()
        _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (143, "")
    wait_for(lambda: not alive_in_session(process.pid))
    assert schemas_left(postgres) == []
