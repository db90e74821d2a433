"""Targets to outcomes and levels: every boundary, and which outcome outranks which."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import pytest

from bench.analysis.statistics import Impact
from bench.analysis.verdict import (
    Judgement,
    Outcome,
    Targets,
    judge_cost,
    judge_success,
    level_of,
    overall,
    shown_class,
)

PASS, FAIL, INCONCLUSIVE, INVALID = Outcome
TARGET = 0.2


def cost(low: float, high: float) -> Impact:
    return Impact((low + high) / 2, low, high, 8, 0.05)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.05, 0.19, PASS),
        (0.05, 0.2, INCONCLUSIVE),  # the target itself is not below the target
        (0.2, 0.4, INCONCLUSIVE),
        (0.1999, 0.2001, INCONCLUSIVE),
        (0.2001, 0.4, FAIL),
        (-0.4, -0.2, PASS),  # B is faster
        (-0.1, 0.1, PASS),
        (-0.1, 0.3, INCONCLUSIVE),
        (math.nan, math.nan, INCONCLUSIVE),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, outcome: Outcome) -> None:
    judgement = judge_cost("throughput", cost(low, high), TARGET)
    assert judgement.outcome is outcome
    assert judgement.cost == cost(low, high) or math.isnan(low)
    assert (judgement.metric, judgement.target) == ("throughput", TARGET)


@pytest.mark.parametrize(
    ("low", "high", "level"),
    [
        (0.01, 0.0999, "LOW"),
        (-0.5, 0.05, "LOW"),
        (0.01, 0.1, "LOW-MEDIUM"),  # half of the target is no longer below half of it
        (0.1, 0.1999, "MEDIUM"),
        (0.1, 0.2, "MEDIUM-HIGH"),
        (0.2, 0.9, "HIGH"),
        (0.05, 0.3, "LOW-HIGH"),
        (-0.3, 0.3, "LOW-HIGH"),
        (math.nan, math.nan, ""),
    ],
)
def test_level_is_a_span_where_the_interval_crosses_a_boundary(low: float, high: float, level: str) -> None:
    assert level_of(cost(low, high), TARGET) == level
    assert judge_cost("memory", cost(low, high), TARGET).level == level


@pytest.mark.parametrize(
    ("arms", "outcome"),
    [
        ([(10_000, 10_000), (10_000, 10_000)], PASS),
        ([(10_000, 10_000), (9_000, 10_000)], FAIL),  # the worse arm decides, whichever it is
        ([(9_000, 10_000), (10_000, 10_000)], FAIL),
        ([(9_510, 10_000), (10_000, 10_000)], INCONCLUSIVE),
        ([(20, 20), (20, 20)], INCONCLUSIVE),  # too few to say more than 84 %
        ([(0, 0), (10_000, 10_000)], INCONCLUSIVE),
        ([(0, 50), (50, 50)], FAIL),
    ],
)
def test_success_is_judged_by_the_interval_of_the_worse_arm(
    arms: list[tuple[int, int]], outcome: Outcome
) -> None:
    judgement = judge_success(arms, 0.95)
    assert judgement.outcome is outcome
    assert (judgement.cost, judgement.level) == (None, "")


def test_the_value_of_success_is_the_lower_end_of_its_interval() -> None:
    assert judge_success([(148, 148), (133, 148)], 0.95).value == pytest.approx(1 - 0.1605, abs=5e-5)


@pytest.mark.parametrize(
    ("stored", "tried", "said"),
    [
        (9_990, 10_000, "success: above 99.82% (target 95%): PASS"),
        (9_000, 10_000, "success: 89.40% to 90.57% (target 95%): FAIL"),
        (20, 20, "success: 83.89% to 100.00% (target 95%): INCONCLUSIVE (73 tries of each arm "
         "without another failure would pass)"),
    ],
)  # fmt: skip
def test_success_that_does_not_pass_shows_both_ends_and_what_would_settle_it(
    stored: int, tried: int, said: str
) -> None:
    assert judge_success([(stored, tried), (tried, tried)], 0.95).in_words() == said


def test_what_would_settle_success_does() -> None:
    found = judge_success([(118, 120), (120, 120)], 0.97)
    assert found.outcome is INCONCLUSIVE
    tries = int(found.note.split()[0].replace(",", ""))
    assert judge_success([(tries - 2, tries), (tries, tries)], 0.97).outcome is PASS
    assert judge_success([(tries - 3, tries - 1), (tries, tries)], 0.97).outcome is INCONCLUSIVE


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_a_faster_arm_passes_by_its_percent_and_not_by_a_floor(floor: float) -> None:
    judged = judge_cost("throughput", cost(-0.3, -0.1), TARGET, 1000.0, floor)
    assert (judged.outcome, judged.level, judged.note) == (PASS, "LOW", "")


@pytest.mark.parametrize(
    ("low", "high", "level"),
    [(0.0, 0.1, "LOW"), (0.1, 0.2, "LOW-MEDIUM"), (0.16, 0.29, "MEDIUM"), (0.31, 0.5, "HIGH"),
     (math.nan, math.nan, "")],
)  # fmt: skip
def test_cpu_has_a_class_though_it_has_no_target(low: float, high: float, level: str) -> None:
    assert shown_class("cpu", low, high) == level
    assert shown_class("p95 response", low, high) == ""


def judgement(outcome: Outcome) -> Judgement:
    return Judgement("any", outcome, "", 0.2, None)


@pytest.mark.parametrize("outcomes", list(combinations_with_replacement([PASS, FAIL, INCONCLUSIVE], 3)))
def test_one_miss_fails_and_one_doubt_leaves_it_open(outcomes: tuple[Outcome, ...]) -> None:
    expected = FAIL if FAIL in outcomes else INCONCLUSIVE if INCONCLUSIVE in outcomes else PASS
    for order in (outcomes, outcomes[::-1]):
        assert overall([judgement(outcome) for outcome in order], []) is expected


@pytest.mark.parametrize("outcome", [PASS, FAIL, INCONCLUSIVE])
def test_invalid_outranks_everything(outcome: Outcome) -> None:
    assert overall([judgement(outcome)] * 4, ["arm B: 1 violations of the invariants"]) is INVALID


def test_exit_codes_tell_the_outcomes_apart() -> None:
    assert [o.exit_code for o in (PASS, FAIL, INCONCLUSIVE, INVALID)] == [0, 3, 4, 5]


def test_default_targets_are_those_of_the_design() -> None:
    targets = Targets()
    assert (targets.throughput_loss, targets.latency_increase) == (0.20, 0.30)
    assert (targets.memory_increase, targets.success) == (0.40, 0.95)
