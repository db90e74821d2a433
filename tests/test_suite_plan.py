"""The suite's plan file, and the small things that its parts share."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fix_suite import CONFIG, small_plan
from waiting import wait_for

from bench.load.failures import Failure
from bench.suite import run as suite_run
from bench.suite.levels import Level
from bench.suite.plan import SuiteFile, SuitePlan, load_suite
from bench.suite.run import SuiteSettings, planned_seconds
from bench.suite.waits import Waits, watched_waits
from logger.database import connect
from plcsim.errors import ConfigError


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
        ("share_of_capacity: 0.65 ", "share_of_capacity: 0.0 ", "full.impact.share_of_capacity: 0.0: must"),
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
