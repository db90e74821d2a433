"""Targets from YAML, floors below which no percent counts, the gate of equal arms, judgements in words."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from bench.analysis.statistics import Impact, paired_impact
from bench.analysis.targets import load_targets
from bench.analysis.verdict import (
    Judgement,
    Outcome,
    Targets,
    aa_gate,
    judge_cost,
    judge_least,
    judge_most,
    judge_success,
    judge_zero,
)
from bench.cli import main
from plcsim.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "configs" / "bench" / "targets.yaml"
PASS, FAIL, INCONCLUSIVE, INVALID = Outcome


def cost(low: float, high: float, is_loss: bool = False) -> Impact:
    return Impact((low + high) / 2, low, high, 8, 0.05, is_loss)


def test_the_example_has_the_defaults_and_every_key() -> None:
    assert load_targets(EXAMPLE) == Targets()
    text = EXAMPLE.read_text()
    assert all(f"\n{name}: " in text for name in Targets.__dataclass_fields__)


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "targets.yaml"
    file.write_text("throughput_loss: 0.1\ncpu_increase: 0.25\n")
    targets = load_targets(file)
    assert (targets.throughput_loss, targets.cpu_increase) == (0.1, 0.25)
    assert targets.latency_increase == Targets().latency_increase


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("success: 0.95\nthroughput_loss: 20.0\n", "targets.yaml:2: throughput_loss: 20: must be a share"),
        ("throughput_loss: 20.0\n", "20 % is written 0.2"),
        ("success: 1.0\n", "targets.yaml:1: success: 1: must be a share, more than 0 and less than 1"),
        ("memory_increase: -0.1\n", "memory_increase: -0.1: must be a share"),
        ("\nthruput_loss: 0.2\n", "targets.yaml:2: thruput_loss: is not a known key here"),
        ("success: high\n", "success: 'high': must be a number"),
        ("recovery_s: 0.0\n", "recovery_s: 0.0: must be more than 0"),
        ("latency_floor_ms: .nan\n", "latency_floor_ms: nan: must be a finite number"),
        ("- 0.2\n", "a mapping of keys is expected"),
    ],
)
def test_what_is_wrong_is_told_with_line_key_and_what_is_right(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "targets.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_targets(file)
    assert said in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("command", ["quick", "suite", "stress"])
def test_the_commands_that_judge_refuse_a_wrong_file_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("success: 95.0\n")
    monkeypatch.setattr("sys.argv", ["plcbench", command, "--targets", "mine.yaml"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert (
        "mine.yaml:1: success: 95: must be a share, more than 0 and less than 1; 95 % is written 0.95" in err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("low", "high", "a", "outcome", "level"),
    [
        (0.4, 0.9, 0.2, PASS, "LOW"),  # at most 0.18 ms more
        (0.4, 1.1, 0.2, FAIL, "HIGH"),  # up to 0.22 ms: the floor does not hold with the whole interval
        (0.4, 0.9, 2.0, FAIL, "HIGH"),
        (0.4, 0.9, math.nan, FAIL, "HIGH"),  # without an absolute figure there is no floor
        (math.nan, math.nan, 0.2, INCONCLUSIVE, ""),
    ],
)
def test_a_percent_of_very_little_is_not_high(
    low: float, high: float, a: float, outcome: Outcome, level: str
) -> None:
    judgement = judge_cost("median response", cost(low, high), 0.3, a, floor=0.2)
    assert (judgement.outcome, judgement.level) == (outcome, level)
    assert bool(judgement.note) is (outcome is PASS)


def test_a_baseline_of_nothing_has_no_percent() -> None:
    nothing = paired_impact([0.0, 0.0, 0.0], [1.0, 2.0, 1.0])
    judgement = judge_cost("memory", nothing, 0.4, 0.0, floor=1.0)
    assert judgement.outcome is INCONCLUSIVE
    assert "n/a [n/a, n/a]" in judgement.in_words()


@pytest.mark.parametrize(
    ("low", "high", "passes"),
    [
        (-0.05, 0.05, True),
        (0.01, 0.09, True),  # leaves 0 out, and yet is inside
        (-0.05, 0.11, False),  # holds 0, and is too wide to tell half of the target
        (-0.1, 0.05, False),
        (math.nan, math.nan, False),
    ],
)
def test_equal_arms_must_differ_by_less_than_half_of_the_target(
    low: float, high: float, passes: bool
) -> None:
    reason = aa_gate(cost(low, high), 0.2)
    assert (reason == "") is passes
    if not math.isnan(low) and not passes:
        assert "is not inside ±10%" in reason


def test_an_interval_that_is_only_too_wide_says_how_many_pairs_would_do() -> None:
    wide = paired_impact([1.0] * 6, [math.exp(0.1 * (-1) ** i) for i in range(6)])
    pairs = re.search(r"±10%; with such a spread (\d+) pairs are needed$", aa_gate(wide, 0.2))
    assert pairs
    enough = int(pairs[1])
    assert (
        aa_gate(paired_impact([1.0] * enough, [math.exp(0.1 * (-1) ** i) for i in range(enough)]), 0.2) == ""
    )
    apart = aa_gate(Impact(0.2, 0.15, 0.25, 8, 0.05), 0.2)
    assert "pairs are needed" not in apart  # more pairs would not bring these arms together
    hopeless = aa_gate(Impact(0.0, -0.9, 1e9, 2, 1e9), 0.2)
    assert "pairs are needed" not in hopeless


@pytest.mark.parametrize(
    ("low", "high", "least", "most"),
    [
        (0.6, 0.8, PASS, FAIL),
        (0.4, 0.6, INCONCLUSIVE, INCONCLUSIVE),
        (0.1, 0.3, FAIL, PASS),
        (math.nan, math.nan, INCONCLUSIVE, INCONCLUSIVE),
    ],
)
def test_limits_are_judged_with_the_whole_interval(
    low: float, high: float, least: Outcome, most: Outcome
) -> None:
    value = (low + high) / 2
    assert judge_least("long reader", value, low, high, 0.5).outcome is least
    assert judge_most("recovery", value, low, high, 0.5, "s").outcome is most


def test_a_recovery_that_nobody_saw_misses_its_target_in_words() -> None:
    judged = judge_most("recovery", math.inf, math.inf, math.inf, 30.0, "s")
    assert judged.in_words() == "recovery: no end seen, target below 30 s: FAIL"


def test_what_must_never_happen_passes_only_if_somebody_looked() -> None:
    assert judge_zero("deadlocks", 0, 10_000).outcome is PASS
    assert judge_zero("deadlocks", 1, 10_000).outcome is FAIL
    assert judge_zero("deadlocks", 0, 0).outcome is INCONCLUSIVE


JUDGEMENTS = [
    judge_cost("throughput", cost(0.05, 0.15, is_loss=True), 0.2),
    judge_cost("median response (10×)", cost(0.05, 0.15), 0.3, 0.5, 0.2),
    judge_success([(100, 100), (148, 148)], 0.95),
    judge_least("long reader", 0.7, 0.6, 0.8, 0.5),
    judge_most("recovery", 12.0, 10.0, 14.0, 30.0, "s"),
    judge_zero("lost scans", 2, 900),
    judge_most("recovery (killed)", 12.5, 12.5, 12.5, 30.0, "s"),
    judge_cost("memory", Impact(math.nan, math.nan, math.nan, 4, math.nan), 0.4),
]


@pytest.mark.parametrize("judgement", JUDGEMENTS, ids=lambda judgement: judgement.metric)
def test_a_judgement_is_read_back_as_it_was_written(judgement: Judgement) -> None:
    data = json.loads(json.dumps(judgement.to_json()))
    again = Judgement.from_json(data)
    assert again.in_words() == judgement.in_words()
    assert again.to_json() == judgement.to_json()


def test_a_judgement_of_an_older_result_is_read_too() -> None:
    data = JUDGEMENTS[0].to_json()
    for key in ("low", "high", "kind", "unit", "note"):
        del data[key]
    assert Judgement.from_json(data).in_words() == JUDGEMENTS[0].in_words()


@pytest.mark.parametrize(
    ("judgement", "said"),
    list(
        zip(
            JUDGEMENTS,
            (
                "throughput loss +10.0% [+5.0%, +15.0%], target below 20%: LOW-MEDIUM, PASS",
                "latency increase (median response) (10×) +10.0% [+5.0%, +15.0%], target below 30%: "
                "LOW, PASS (at most +0.075 ms, below the floor of 0.2 ms)",
                "success: above 96.30% (target 95%): PASS",
                "long reader: 70.0% [60.0%, 80.0%], target above 50.0%: PASS",
                "recovery: 12 s [10 s, 14 s], target below 30 s: PASS",
                "lost scans: 2, must be 0: FAIL (900 checked)",
                "recovery (killed): 12.5 s, target below 30 s: PASS",
                "memory increase n/a [n/a, n/a], target below 40%: INCONCLUSIVE",
            ),
            strict=True,
        )
    ),
)
def test_in_words(judgement: Judgement, said: str) -> None:
    assert judgement.in_words() == said
