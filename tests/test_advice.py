"""Recommendations: planted figures give the advice that follows from them, other figures another one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.analysis.advice import TOPICS, advise, unadvised
from bench.analysis.conclusion import conclude
from bench.analysis.finding import METRICS, Finding, usl_findings
from bench.analysis.percentile_interval import percentile_interval
from bench.analysis.recommendation import Recommendation, conditions
from bench.analysis.scaling import fit_usl
from bench.analysis.verdict import Outcome
from bench.measuring.latency import latencies_of
from bench.section import Section


def finding(metric: str, value: float, half: float = 0.03, unit: str = "", **at: Any) -> Finding:
    """A finding with an interval of ± half of its value."""
    where = "/".join(f"{key}={item}" for key, item in at.items())
    return Finding(metric, value, value * (1 - half), value * (1 + half), unit, f"planted {where}", at)


def advice_on(topic: str, findings: Sequence[Finding]) -> list[Recommendation]:
    return [each for each in advise(findings) if each.topic == topic]


def of_scans(values: dict[int, float], half: float = 0.03) -> list[Finding]:
    return [
        finding("parameters_per_s", value, half, scans=scans, parameters=84, repository="synchronizing")
        for scans, value in values.items()
    ]


def test_two_planted_plants_get_two_different_recommendations() -> None:
    """One whose batches pay off and whose joins are slow; one where neither is so, on a smaller pool."""
    first = [
        *of_scans({1: 60_000, 5: 90_000, 20: 150_000, 60: 152_000}),
        finding("strategy_us", 900, strategy="array_join", parameters=84),
        finding("strategy_us", 600, strategy="temporary_table", parameters=84),
        finding("pool_wait_ms", 40, pool_size=4, demand=50, percentile=95),
        finding("pool_wait_ms", 2, pool_size=16, demand=50, percentile=95),
        finding("memory_mb", 80, repository="synchronizing", parameters=84),
    ]
    second = [
        *of_scans({1: 100_000, 5: 101_000, 20: 99_000, 60: 80_000}),
        finding("strategy_us", 500, strategy="array_join", parameters=84),
        finding("strategy_us", 600, strategy="temporary_table", parameters=84),
        finding("pool_wait_ms", 2, pool_size=4, demand=50, percentile=95),
        finding("pool_wait_ms", 2, pool_size=16, demand=50, percentile=95),
        finding("memory_mb", 200, repository="synchronizing", parameters=84),
    ]
    said = [{each.topic: each.advice for each in advise(findings)} for findings in (first, second)]
    assert said[0]["batch size"].startswith(
        "20 scans a transaction are enough (84 parameters, synchronizing)"
    )
    assert said[1]["batch size"].startswith("1 scans a transaction are enough")
    assert said[0]["update strategy"].startswith("temporary_table at 84 parameters: 600 µs")
    assert said[1]["update strategy"].startswith("array_join at 84 parameters: 500 µs")
    assert said[0]["pool size"].startswith("23 connections for 50 transactions at once")  # 16 / 0.7
    assert said[1]["pool size"].startswith("6 connections")  # 4 / 0.7
    assert said[0]["memory per logger"].startswith("a limit of 124 MB")  # 1.5 × 82.4
    assert said[1]["memory per logger"].startswith("a limit of 309 MB")


def test_each_recommendation_cites_cells_with_intervals_and_a_margin() -> None:
    given = advise(everything())
    assert {each.topic for each in given} == set(TOPICS)
    for each in given:
        assert each.margin
        assert each.evidence
        assert all(one in everything() for one in each.evidence)
        assert each.evidence[0].cell in each.evidence[0].in_words()
    assert unadvised(everything()) == {}


def everything() -> list[Finding]:
    """One planted run in which every topic has what it needs."""
    return [
        *of_scans({1: 60_000, 20: 150_000}),
        finding("strategy_us", 900, strategy="array_join", parameters=84),
        finding("strategy_us", 600, strategy="in_case", parameters=84),
        finding("pool_wait_ms", 2, pool_size=16, demand=50, percentile=99),
        finding("response_ms", 20, percentile=99, interval_s=1.0, devices=4, repository="baseline"),
        finding("memory_mb", 80, repository="baseline", parameters=84),
        *(finding("throughput", x, connections=n, repository="baseline") for n, x in CURVE.items()),
    ]


CURVE = {1: 1000.0, 2: 1800.0, 4: 2900.0, 8: 3500.0, 16: 3400.0}


@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.INVALID])
def test_nothing_is_recommended_from_what_was_left_open(outcome: Outcome) -> None:
    findings = [replace(each, outcome=outcome) for each in everything()]
    assert advise(findings) == []
    assert set(unadvised(findings)) == set(TOPICS)


def test_nothing_is_recommended_without_an_interval() -> None:
    findings = [replace(each, low=math.nan, high=math.nan) for each in everything()]
    assert advise(findings) == []
    assert all("interval" in why for topic, why in unadvised(findings).items() if topic != "pool size")


def test_nothing_is_recommended_from_a_section_that_cannot_be_believed() -> None:
    believed = Section("memory", findings=everything())
    assert conclude([believed]).recommendations
    believed.invalid.append("the oracle found violations")
    assert conclude([believed]).recommendations == []


def test_a_size_is_enough_only_if_its_interval_says_so() -> None:
    narrow, wide = of_scans({1: 97, 20: 100}, half=0.02), of_scans({1: 97, 20: 100}, half=0.2)
    assert advice_on("batch size", narrow)[0].advice.startswith("1 scans")
    assert advice_on("batch size", [wide[0], narrow[1]]) == []  # 1 may be enough: nobody can tell
    less = of_scans({1: 80}, half=0.02)
    assert advice_on("batch size", [*less, narrow[1]])[0].advice.startswith("20 scans")


@pytest.mark.parametrize("half", [0.3, 1.5])
def test_where_luck_makes_the_best_nothing_is_chosen(half: float) -> None:
    """Two slots on a busy machine: intervals that reach below nothing."""
    sizes = of_scans({1: 60_000, 5: 90_000, 20: 150_000}, half)
    levels = [finding("throughput", x, half, connections=n, repository="baseline") for n, x in CURVE.items()]
    times = [
        finding("strategy_us", us, 1.5, strategy=name, parameters=84)
        for name, us in (("array_join", 900), ("in_case", 100))
    ]
    findings = [*sizes, *levels, *times]
    assert advise(findings) == []
    silent = unadvised(findings)
    assert all("too wide to choose by" in silent[t] for t in ("batch size", "scaling", "update strategy"))


def test_the_repository_itself_is_the_strategy_to_keep() -> None:
    times = [
        finding("strategy_us", us, 0.1, strategy=name, parameters=84)
        for name, us in (("synchronizing", 500), ("array_join", 490), ("skip_unchanged", 50))
    ]  # the last one does less: never recommended
    assert advice_on("update strategy", times)[0].advice.startswith("synchronizing at 84 parameters")


def test_where_it_still_rose_at_the_largest_size_that_is_said() -> None:
    (given,) = advice_on("batch size", of_scans({1: 60_000, 20: 150_000}))
    assert "nothing above 20 was measured, where it still rose" in given.limits
    (given,) = advice_on("batch size", of_scans({1: 60_000, 20: 150_000, 60: 100_000}))
    assert "still rose" not in given.limits


def test_the_most_is_not_recommended_because_less_cannot_be_told() -> None:
    """Two slots a level: 100 connections happen to have a narrow interval, 8 and 16 do not."""
    wide = [
        finding("throughput", per_s, half, connections=n, repository="baseline", rows="disjoint")
        for n, per_s, half in ((1, 376, 0.3), (8, 1439, 0.6), (16, 1511, 0.4), (100, 1577, 0.05))
    ]
    assert advice_on("scaling", wide) == []
    assert "too wide" in unadvised(wide)["scaling"]
    told = [
        finding("throughput", per_s, 0.05, connections=n, repository="baseline", rows="disjoint")
        for n, per_s in ((1, 376), (8, 900), (16, 1200), (100, 1577))
    ]
    (given,) = advice_on("scaling", told)
    assert given.advice.startswith("100 connections (baseline, rows disjoint)")


def test_conditions_read_as_words() -> None:
    at = {"repository": "baseline", "scans": 1, "half_machine": True, "pool": False, "rows": "same"}
    assert conditions(Finding("x", 1, 1, 1, "", "cell", at)) == "baseline, 1 scans, half machine, rows same"


def test_what_a_schedule_offers_is_no_batch_size() -> None:
    paced = [
        finding("parameters_per_s", 84 * n, scans=1, parameters=84 * n, interval_s=1.0) for n in (1, 2, 5)
    ]
    assert advice_on("batch size", paced) == []


def test_another_strategy_only_where_the_intervals_lie_apart() -> None:
    near = [
        finding("strategy_us", 500, 0.1, strategy="array_join", parameters=84),
        finding("strategy_us", 480, 0.1, strategy="in_case", parameters=84),
    ]
    (given,) = advice_on("update strategy", near)
    assert given.advice.startswith("array_join at 84 parameters")
    sizes = [
        *near,
        finding("strategy_us", 9000, strategy="array_join", parameters=1000),
        finding("strategy_us", 5000, strategy="temporary_table", parameters=1000),
    ]
    said = [each.advice for each in advice_on("update strategy", sizes)]
    assert said == [
        "array_join at 84 parameters: 500 µs at 84",
        "temporary_table at 1000 parameters: 5,000 µs at 1000",
    ]


def test_no_pool_is_recommended_where_every_one_makes_wait() -> None:
    waits = [finding("pool_wait_ms", 50, pool_size=n, demand=100, percentile=95) for n in (2, 8)]
    assert advice_on("pool size", waits) == []
    assert "the largest pool, of 8, makes some wait" in unadvised(waits)["pool size"]
    tail = finding("pool_wait_ms", 50, pool_size=4, demand=100, percentile=99)
    p95 = finding("pool_wait_ms", 1, pool_size=4, demand=100, percentile=95)
    assert advice_on("pool size", [p95, tail]) == []  # the farther percentile counts
    medians = [finding("pool_wait_ms", 1, pool_size=8, demand=100, percentile=50)]
    assert "no tail" in unadvised(medians)["pool size"]


@pytest.mark.parametrize(
    ("p99_ms", "interval"), [({0.1: 90.0, 0.5: 100.0, 1.0: 90.0}, "0.5 s"), ({0.1: 40.0, 1.0: 90.0}, "0.1 s")]
)
def test_the_shortest_interval_that_leaves_room(p99_ms: dict[float, float], interval: str) -> None:
    findings = [
        finding("response_ms", ms, percentile=99, interval_s=s, devices=4, repository="baseline")
        for s, ms in p99_ms.items()
    ]
    (given,) = advice_on("polling rate", findings)
    assert given.advice.startswith(f"an interval of {interval} or longer (4 devices, baseline)")


def test_what_holds_of_the_smallest_holds_of_what_is_larger_too() -> None:
    """A lucky small one beside a larger one that fails is no evidence for "this much, or more"."""
    cells = [
        finding("response_ms", ms, percentile=99, interval_s=s, repository="baseline")
        for s, ms in ((0.1, 40.0), (0.5, 400.0), (1.0, 90.0), (2.0, 90.0))
    ]
    (given,) = advice_on("polling rate", cells)
    assert given.advice.startswith("an interval of 1 s or longer")
    assert given.limits == "shorter ones were stored too late"
    pools = [
        finding("pool_wait_ms", ms, pool_size=n, demand=50, percentile=95)
        for n, ms in ((4, 2.0), (8, 40.0), (16, 2.0), (32, 2.0))
    ]
    (given,) = advice_on("pool size", pools)
    assert given.advice.startswith("23 connections")  # 16 / 0.7


def limit(resource: str, low: float, high: float, cause: str = "disk") -> Finding:
    at = {"resource": resource, "rule": "p99 above the target", "cause": cause}
    return Finding("limit", low, low, high, "/s", f"escalation {resource}", at)


def test_limits_are_planned_with_a_margin_and_the_generators_are_not() -> None:
    (given,) = advice_on("polling rate", [limit("rate", 1000, 1200)])
    assert given.advice == "at most 700 scans/s altogether"
    assert "ended at 1,200: p99 above the target; at its limit: disk" in given.limits
    assert advice_on("polling rate", [limit("rate", 1000, 1200, "the load generator")]) == []
    (open_ended,) = advice_on("polling rate", [limit("rate", 1000, math.nan)])
    assert "no limit was reached up to 1,000" in open_ended.limits


def test_alerts_come_from_what_was_measured() -> None:
    findings = [
        finding("response_ms", 20, 0.5, percentile=99, interval_s=1.0, repository="baseline"),
        finding("recovery_s", 7, 0.0, fault="killed"),
        finding("long_reader_throughput", 0.95, seconds=5, reader="dump", repository="synchronizing"),
        finding("long_reader_throughput", 0.4, seconds=30, reader="dump", repository="synchronizing"),
        finding("long_reader_throughput", 0.2, seconds=60, reader="dump", repository="synchronizing"),
        limit("connections", 100, 120),
    ]
    said = [each.advice for each in advice_on("alert thresholds", findings)]
    assert said[0] == "p99 of plclogger_response_seconds above 0.09 s for 5 minutes"
    assert said[1] == "plclogger_spool_oldest_seconds above 10 s"
    assert "above 21 s: after 30 s 40% of the throughput is left" in said[2]
    assert said[3] == "more than 70 connections in pg_stat_activity"


def test_memory_that_grows_is_told_with_its_limit() -> None:
    size = finding("memory_mb", 100, repository="baseline", parameters=84)
    growing = finding("memory_growth_mb_per_h", 60, repository="baseline")
    assert (
        "grows by 60 MB/h [58, 62]: no limit is enough"
        in advice_on("memory per logger", [size, growing])[0].limits
    )
    flat = Finding("memory_growth_mb_per_h", 0.1, -0.5, 0.7, "MB/h", "memory", {"repository": "baseline"})
    assert "up to 0.7 MB/h cannot be ruled out" in advice_on("memory per logger", [size, flat])[0].limits
    assert "was not measured" in advice_on("memory per logger", [size])[0].limits


def law(levels: Sequence[float], kappa: float, seed: int = 1) -> list[Finding]:
    """Findings of the law fitted to slots with sigma 0.03 and this kappa, with 2 % of noise."""
    random = np.random.default_rng(seed)
    slots = [
        [1000 * n / (1 + 0.03 * (n - 1) + kappa * n * (n - 1)) * random.lognormal(0, 0.02) for _ in range(4)]
        for n in levels
    ]
    return usl_findings(fit_usl(levels, slots, seed), "scalability", "baseline", "disjoint", max(levels))


def curve(levels: Sequence[float], kappa: float) -> list[Finding]:
    return [
        finding("throughput", 1000 * n / (1 + 0.03 * (n - 1) + kappa * n * (n - 1)), 0.02, connections=n,
                repository="baseline", rows="disjoint")
        for n in levels
    ]  # fmt: skip


def test_scaling_is_told_from_measured_levels_and_the_law_only_as_far_as_it_carries() -> None:
    levels = [1, 2, 4, 8, 16, 32, 64, 128]
    (given,) = advice_on("scaling", [*curve(levels, 4e-4), *law(levels, 4e-4)])
    assert given.advice.startswith("32 connections (baseline, rows disjoint) reach ")
    assert "throughput peaks at 4" in given.limits or "throughput peaks at 5" in given.limits  # N* = 49
    few = [1, 2, 3, 4, 6, 8]
    (unsure,) = advice_on("scaling", [*curve(few, 4e-4), *law(few, 4e-4)])
    assert unsure.limits.startswith("the scalability law tells no peak: ")
    assert "peaks" not in unsure.limits
    (without,) = advice_on("scaling", curve(few, 4e-4))
    assert without.limits == "nothing above 8 connections was measured"


def test_a_recommendation_is_read_back_as_it_was_written() -> None:
    for each in advise(everything()):
        again = Recommendation.from_json(json.loads(json.dumps(each.to_json())))
        assert again == each


def test_every_word_of_a_finding_is_explained() -> None:
    assert {each.metric for each in everything()} <= set(METRICS)
    assert {each.metric for each in law([1, 2, 4, 8, 16, 32], 4e-4)} <= set(METRICS)


def test_an_interval_of_a_percentile_holds_it_over_whole_slots() -> None:
    """Slots of different speed: their differences, not the 2,000 values, make the width."""
    random = np.random.default_rng(4)

    def run() -> list[Any]:
        speeds = random.lognormal(0, 0.2, 10)
        return [latencies_of((random.exponential(2e6, 200) * s).astype(np.int64).tolist()) for s in speeds]

    runs = [run() for _ in range(20)]
    truth = percentile_interval([slot for one in runs for slot in one], 95, 1)[0]
    intervals = [percentile_interval(one, 95, seed) for seed, one in enumerate(runs)]
    assert sum(low <= truth <= high for _, low, high in intervals) >= 16
    assert all(low <= value <= high for value, low, high in intervals)
    alone = [percentile_interval([latencies_of(range(10**6, 10**7, 4500))] * 10, 95, 1)]
    assert max(high / low for _, low, high in alone) < 1.01  # equal slots leave no doubt


def test_a_percentile_without_enough_slots_or_values_has_no_interval() -> None:
    few = [latencies_of([1_000_000] * 1000)] * 5
    assert math.isnan(percentile_interval(few, 99, 1)[1])
    assert percentile_interval(few, 99, 1)[0] == pytest.approx(1000, rel=0.01)
    assert math.isnan(percentile_interval([latencies_of([1_000_000] * 10)] * 8, 99.9, 1)[0])
    assert math.isnan(percentile_interval([], 50, 1)[0])


@pytest.mark.parametrize(("values", "given"), [(500, True), (490, False)])
def test_an_interval_of_a_percentile_needs_thirty_values_beyond_it(values: int, given: bool) -> None:
    value, low, high = percentile_interval([latencies_of(range(10**6, 10**6 + values))] * 6, 99, 1)
    assert value == pytest.approx(1000, rel=0.01)  # told from ten on
    assert (not math.isnan(low), not math.isnan(high)) == (given, given)


def test_no_strategy_is_the_fastest_where_two_cannot_be_told_apart() -> None:
    """The one that is used anyway was not measured: nothing else may be recommended by a hair."""
    near = [
        finding("strategy_us", 500, 0.1, strategy="row_by_row", parameters=84),
        finding("strategy_us", 480, 0.1, strategy="in_case", parameters=84),
    ]
    assert advice_on("update strategy", near) == []
    assert "too wide" in unadvised(near)["update strategy"]
    apart = [near[0], finding("strategy_us", 300, 0.1, strategy="in_case", parameters=84)]
    (given,) = advice_on("update strategy", apart)
    assert given.advice.startswith("in_case at 84 parameters")


@pytest.mark.parametrize(("confirmed", "given"), [(1, False), (2, True)])
def test_a_limit_that_held_once_is_no_limit(confirmed: int, given: bool) -> None:
    for resource, topic in (("rate", "polling rate"), ("connections", "alert thresholds")):
        found = limit(resource, 1000, 1200)
        seen = [replace(found, at={**found.at, "confirmed": confirmed})]
        assert bool(advice_on(topic, seen)) is given


def test_an_alert_rests_on_what_was_stored_in_time() -> None:
    """An overloaded cell of a sweep: its 9 s are no reason to let an alert sleep for 27 s."""
    cells = [
        finding("response_ms", 20, 0.5, percentile=99, interval_s=1.0, repository="baseline"),
        finding("response_ms", 9000, 0.5, percentile=99, interval_s=0.1, repository="baseline"),
    ]
    (given,) = advice_on("alert thresholds", cells)
    assert given.advice.startswith("p99 of plclogger_response_seconds above 0.09 s")
    assert advice_on("alert thresholds", cells[1:]) == []


def test_a_memory_limit_says_how_long_it_lasts() -> None:
    size = finding("memory_mb", 100, repository="baseline", parameters=84)  # a limit of 155, 103 are used

    def limits(low: float, high: float) -> str:
        at = {"repository": "baseline"}
        growth = Finding("memory_growth_mb_per_h", (low + high) / 2, low, high, "MB/h", "memory", at)
        return advice_on("memory per logger", [size, growth])[0].limits

    assert "this one lasts 5.2 h at least" in limits(5, 10)
    assert "cannot be ruled out: the limit lasts 5.2 h at least" in limits(-5, 10)
    assert "a year at least" in limits(-1, 0.001)
    assert limits(-2, -1) == "no growth was seen"
