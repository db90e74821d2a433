"""GO, NO-GO, CANNOT TELL: which section's word counts, and what must have been measured."""

from __future__ import annotations

import json
import math

import pytest
from planted_results import verification

from bench.analysis.conclusion import Conclusion, conclude
from bench.analysis.finding import Finding
from bench.analysis.readiness import Decision, readiness
from bench.analysis.statistics import Impact
from bench.analysis.verdict import Outcome, judge_cost, judge_success, judge_zero
from bench.section import Section

GO, NO_GO, CANNOT_TELL = Decision


def cost(low: float, high: float) -> Impact:
    return Impact((low + high) / 2, low, high, 8, 0.05)


def impact(throughput: tuple[float, float] = (0.05, 0.15)) -> Section:
    """A section in which everything that must be judged passes, unless the throughput is told otherwise."""
    return Section(
        "impact",
        judgements=[
            judge_cost("throughput", cost(*throughput), 0.2),
            judge_cost("median response (fixed rate)", cost(0.05, 0.15), 0.3),
            judge_cost("memory", cost(0.05, 0.15), 0.4),
            judge_success([(10_000, 10_000)] * 2, 0.95),
        ],
        verifications={"A": verification(), "B": verification()},
    )


def test_all_targets_met_and_data_right_is_a_go_that_says_what_held() -> None:
    found = readiness([impact()])
    assert found.decision is GO
    assert (
        "impact: throughput loss +10.0% [+5.0%, +15.0%], target below 20%: LOW-MEDIUM, PASS" in found.reasons
    )
    assert len(found.reasons) == 4
    assert any("12,000 rows, values and records" in line for line in found.conditions)


def test_one_missed_target_of_any_section_stops_it_and_is_named() -> None:
    storm = Section("storm", judgements=[judge_zero("deadlocks", 3, 900)])
    found = readiness([impact(), storm])
    assert (found.decision, found.reasons) == (NO_GO, ["storm: deadlocks: 3, must be 0: FAIL (900 checked)"])


def test_wrong_data_stops_it_though_every_target_is_met() -> None:
    section = impact()
    section.verifications["B"] = verification(violations=2)
    found = readiness([section])
    assert found.decision is NO_GO
    assert found.reasons == ["impact: 2 violations of the invariants in B"]


@pytest.mark.parametrize("throughput", [(0.15, 0.25), (math.nan, math.nan)])
def test_an_interval_that_straddles_leaves_it_open(throughput: tuple[float, float]) -> None:
    found = readiness([impact(throughput)])
    assert found.decision is CANNOT_TELL
    assert [reason.endswith("INCONCLUSIVE") for reason in found.reasons] == [True]


def test_a_missed_target_outranks_an_open_one() -> None:
    storm = Section("storm", judgements=[judge_zero("deadlocks", 3, 900)])
    assert readiness([impact((0.15, 0.25)), storm]).decision is NO_GO


def test_a_missed_target_of_a_section_that_cannot_be_believed_stops_nothing() -> None:
    disturbed = impact((0.3, 0.4))
    disturbed.invalid.append("pair 3 was disturbed: a checkpoint ran")
    found = readiness([impact(), disturbed])
    assert found.decision is CANNOT_TELL
    assert found.reasons == ["impact cannot be believed: pair 3 was disturbed: a checkpoint ran"]


def test_a_section_that_did_not_end_leaves_it_open() -> None:
    found = readiness([impact(), Section("storm", error="the server is gone")])
    assert (found.decision, found.reasons) == (CANNOT_TELL, ["storm did not end: the server is gone"])


@pytest.mark.parametrize("name", ["throughput", "median response", "memory", "success"])
def test_what_was_not_measured_leaves_it_open(name: str) -> None:
    section = impact()
    section.judgements = [one for one in section.judgements if not one.metric.startswith(name)]
    found = readiness([section])
    assert (found.decision, found.reasons) == (
        CANNOT_TELL,
        [f"not measured so that it may be believed: {name}"],
    )
    assert readiness([section], required=()).decision is GO


def test_nothing_is_ready_where_the_oracle_looked_at_nothing() -> None:
    section = impact()
    section.verifications = {}
    found = readiness([section])
    assert found.decision is CANNOT_TELL
    assert "whether the stored data is right" in found.reasons[0]


def test_of_an_interrupted_run_nobody_can_tell() -> None:
    """What ran passed; what was to run might have failed."""
    found = readiness([impact()], planned=["impact", "memory", "races"])
    assert (found.decision, found.reasons) == (CANNOT_TELL, ["not run: memory", "not run: races"])
    assert readiness([impact()], planned=["impact"]).decision is GO
    assert "it rests on impact" in found.conditions


def test_nothing_at_all_cannot_be_told() -> None:
    assert readiness([]).decision is CANNOT_TELL


def test_what_a_section_could_not_measure_and_long_readers_are_conditions() -> None:
    section = impact()
    section.figures["not_measured"] = ["a full disk: needs root"]
    lines = readiness([section]).conditions
    assert "not measured in impact: a full disk: needs root" in lines
    assert any("long snapshot" in line for line in lines)
    section.findings.append(Finding("long_reader_throughput", 0.9, 0.8, 1.0, "share", "x", {"seconds": 5}))
    assert not any("long snapshot" in line for line in readiness([section]).conditions)


def test_what_was_too_uncertain_to_be_judged_is_a_condition() -> None:
    memory = Section("memory")
    at = {"repository": "synchronizing"}
    open_one = Finding("memory_growth_mb_per_h", 9.0, -50.0, 70.0, "MB/h", "memory", at, Outcome.INCONCLUSIVE)
    memory.findings.append(open_one)
    found = readiness([impact(), memory])
    assert found.decision is GO
    assert f"left open in memory: {open_one.in_words()}" in found.conditions
    memory.findings[0] = Finding("memory_growth_mb_per_h", 0.0, -1.0, 1.0, "MB/h", "memory", at, Outcome.PASS)
    assert not any(line.startswith("left open") for line in readiness([impact(), memory]).conditions)


@pytest.mark.parametrize(
    ("sections", "outcome"),
    [
        ([impact()], Outcome.PASS),
        ([impact((0.3, 0.4))], Outcome.FAIL),
        ([impact((0.15, 0.25))], Outcome.INCONCLUSIVE),
        ([impact(), Section("storm", invalid=["the oracle"])], Outcome.INVALID),
        ([impact((0.3, 0.4)), Section("storm", invalid=["the oracle"])], Outcome.INVALID),
    ],
)
def test_the_outcome_of_the_run(sections: list[Section], outcome: Outcome) -> None:
    assert conclude(sections).outcome is outcome


def test_a_conclusion_is_read_back_as_it_was_written() -> None:
    conclusion = conclude([impact()])
    again = Conclusion.from_json(json.loads(json.dumps(conclusion.to_json())))
    assert again.to_json() == conclusion.to_json()
    assert again.readiness == conclusion.readiness
