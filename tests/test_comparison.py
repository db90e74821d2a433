"""From slots to figures, impacts and judgements, against what the slots were made of."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.analysis.comparison import Comparison, Metric, compare, slot_json, worker_share
from bench.analysis.plant import plant_units
from bench.analysis.statistics import Impact
from bench.analysis.verdict import Outcome, Targets
from bench.load.slots import Pair, Slot
from bench.load.workload import Loop, SlotResult
from bench.measuring.latency import Merged, latencies_of

NONE = latencies_of([])


def loop(
    per_second: float,
    response_ms: float,
    seed: int,
    skipped: int = 0,
    failures: dict[str, int] | None = None,
) -> Loop:
    """A loop of one second with so many transactions and about this mean response."""
    count = round(per_second)
    values = np.random.default_rng(seed).gamma(4, response_ms / 4, count) * 1e6
    latencies = latencies_of(values)
    return Loop(count / per_second, count, failures or {}, skipped, latencies, latencies, NONE)


def slot(arm: str, pair: int, rate: float, response_ms: float, memory: int) -> Slot:
    result = SlotResult(
        84,
        saturated=loop(rate, 1000 / rate, pair),
        paced=loop(400, response_ms, 1000 + pair),
        transactions=round(rate) + 400,
        cpu_s=1.0,
        worker_bytes=memory,
        backend_bytes=2_000_000,
    )
    return Slot(arm, pair, 2 * pair, result, 40_000 * result.transactions, 1.0, ())


def pairs(loss: float = 0.1, increase: float = 0.2, count: int = 8) -> list[Pair]:
    speed = [1000 * (1 + 0.02 * (i % 3)) for i in range(count)]
    return [
        Pair(
            slot("A", i, speed[i], 2.0, 1_000_000),
            slot("B", i, speed[i] * (1 - loss), 2.0 * (1 + increase), 1_300_000),
        )
        for i in range(count)
    ]


def outcomes(comparison: Comparison) -> dict[str, Outcome]:
    return {judgement.metric: judgement.outcome for judgement in comparison.judgements}


def test_impacts_are_those_the_slots_were_made_with() -> None:
    comparison = compare(pairs(), Targets(), seed=1)
    assert comparison.metric("throughput").cost is not None
    effects = {metric.name: metric.cost.effect for metric in comparison.metrics if metric.cost}
    assert effects["throughput"] == pytest.approx(0.1, abs=0.005)
    assert effects["median response"] == pytest.approx(0.2, abs=0.005)
    assert effects["mean response"] == pytest.approx(0.2, abs=0.001)
    assert effects["memory"] == pytest.approx(0.3 / 3, abs=0.001)
    assert effects["p95 response"] == pytest.approx(0.2, abs=0.01)
    assert comparison.metric("throughput").a == pytest.approx(1018, abs=3)
    assert comparison.metric("memory").b == pytest.approx(3.3)
    assert comparison.wal_bytes == (pytest.approx(40_000), pytest.approx(40_000))


@pytest.mark.parametrize(
    ("loss", "increase", "throughput", "response"),
    [
        (0.1, 0.2, Outcome.PASS, Outcome.PASS),
        (0.3, 0.2, Outcome.FAIL, Outcome.PASS),
        (0.1, 0.5, Outcome.PASS, Outcome.FAIL),
        (-0.3, -0.5, Outcome.PASS, Outcome.PASS),  # B is better
    ],
)
def test_each_target_is_judged_by_its_own_figure(
    loss: float, increase: float, throughput: Outcome, response: Outcome
) -> None:
    judged = outcomes(compare(pairs(loss, increase), Targets(), seed=1))
    assert judged == {
        "throughput": throughput,
        "median response": response,
        "memory": Outcome.PASS,
        "success": Outcome.PASS,
    }


def test_cpu_that_is_not_judged_is_shown_with_its_class() -> None:
    impact = Impact(0.2, 0.16, 0.24, 8, 0.05)
    assert Metric("cpu", "µs/tx", 700.0, 840.0, impact, judged=False).shown_class == "MEDIUM"
    assert Metric("cpu", "µs/tx", 700.0, 840.0, impact, judged=True).shown_class == ""
    assert Metric("cpu", "µs/tx", 700.0, math.nan, None, judged=False).shown_class == ""
    assert Metric("mean response", "ms", 7.0, 8.4, impact, judged=False).shown_class == ""


def test_percentiles_are_shown_from_merged_slots_and_not_judged() -> None:
    all_pairs = pairs()
    comparison = compare(all_pairs, Targets(), seed=1)
    merged = Merged([pair.b.result.paced.response for pair in all_pairs if pair.b.result.paced])
    p99 = comparison.metric("p99 response")
    assert p99.b == merged.percentile_us(99) / 1000
    assert p99.judged is False
    assert {judgement.metric for judgement in comparison.judgements}.isdisjoint({"p99 response"})


def test_a_percentile_that_too_few_values_support_has_no_figure() -> None:
    few = pairs(count=2)  # 800 responses an arm: 8 beyond p99
    p99 = compare(few, Targets(), seed=1).metric("p99 response")
    assert math.isnan(p99.a)
    assert math.isnan(p99.b)
    assert p99.cost is None


def with_paced(pair: Pair, paced: Loop) -> Pair:
    return Pair(pair.a, replace(pair.b, result=replace(pair.b.result, paced=paced)))


def test_skipped_and_failed_scans_are_no_success() -> None:
    changed = [with_paced(pair, loop(400, 2, 1, skipped=30, failures={"40P01": 7})) for pair in pairs()]
    comparison = compare(changed, Targets(), seed=1)
    (ok_a, tried_a), (ok_b, tried_b) = comparison.success
    assert ok_a == tried_a
    assert (tried_b - ok_b) == 8 * 37
    assert outcomes(comparison)["success"] is Outcome.PASS
    bad = [with_paced(pair, loop(400, 2, 1, skipped=200)) for pair in pairs()]
    assert outcomes(compare(bad, Targets(), seed=1))["success"] is Outcome.FAIL


def test_a_slot_without_a_transaction_leaves_the_figure_open() -> None:
    empty = Loop(1.0, 0, {"57P01": 3}, 0, NONE, NONE, NONE)
    some = pairs()
    some[3] = with_paced(some[3], empty)
    comparison = compare(some, Targets(), seed=1)
    assert outcomes(comparison)["median response"] is Outcome.INCONCLUSIVE
    assert outcomes(comparison)["throughput"] is Outcome.PASS


def test_memory_counts_the_backend_where_it_is_on_this_machine() -> None:
    there = pairs()
    away = [
        Pair(*(replace(s, result=replace(s.result, backend_bytes=None)) for s in (p.a, p.b))) for p in there
    ]
    assert compare(there, Targets(), seed=1).metric("memory").a == pytest.approx(3.0)
    assert compare(away, Targets(), seed=1).metric("memory").a == pytest.approx(1.0)


def with_cpu(pair: Pair, a: float, b: float, backend: float | None = 0.2) -> Pair:
    """CPU seconds of the workers' loops at saturation; so many of each backend."""

    def spending(slot: Slot, seconds: float) -> Slot:
        assert slot.result.saturated is not None
        loop = replace(slot.result.saturated, cpu_s=seconds, backend_cpu_s=backend)
        return replace(slot, result=replace(slot.result, saturated=loop))

    return Pair(spending(pair.a, a), spending(pair.b, b))


def test_cpu_is_that_of_worker_and_backend_a_transaction() -> None:
    known = [with_cpu(pair, 0.3, 0.43) for pair in pairs()]
    comparison = compare(known, Targets(), seed=1)
    cpu = comparison.metric("cpu")
    assert cpu.cost is not None
    assert cpu.a == pytest.approx(0.5 / 1018 * 1e6, rel=0.01)
    assert cpu.cost.effect == pytest.approx(0.63 / 0.9 / 0.5 - 1, abs=0.005)
    assert (cpu.judged, "cpu" in outcomes(comparison)) == (False, False)
    parts = {name: comparison.metric(name) for name in ("worker cpu", "backend cpu", "worker memory")}
    assert parts["worker cpu"].a + parts["backend cpu"].a == pytest.approx(cpu.a)
    assert parts["worker memory"].b == pytest.approx(1.3)
    assert comparison.metric("backend memory").a == pytest.approx(2.0)
    assert worker_share([pair.a for pair in known]) == pytest.approx(0.3, rel=0.01)
    judged = compare(known, Targets(cpu_increase=0.5), seed=1)
    assert outcomes(judged)["cpu"] is Outcome.PASS
    assert outcomes(compare(known, Targets(cpu_increase=0.2), seed=1))["cpu"] is Outcome.FAIL


def test_cpu_without_that_of_the_backends_is_no_figure() -> None:
    away = [with_cpu(pair, 0.3, 0.4, backend=None) for pair in pairs()]
    cpu = compare(away, Targets(), seed=1).metric("cpu")
    assert cpu.cost is not None
    assert math.isnan(cpu.cost.effect)


def test_failures_are_counted_by_class_and_have_times_of_their_own() -> None:
    some = pairs()
    failing = replace(
        loop(400, 2, 1, skipped=5, failures={"deadlock": 2}), failed=latencies_of([3_000_000, 5_000_000])
    )
    some[0] = with_paced(some[0], failing)
    comparison = compare(some, Targets(), seed=1)
    counts, took = comparison.failures["B"]
    assert counts == {"deadlock": 2, "skipped": 5}
    assert (took.count, took.max_us) == (2, 5000)
    assert comparison.failures["A"][0] == {}
    assert comparison.histograms["response"][1].max_us < 100_000


def test_a_slot_in_json_has_all_that_its_figures_need() -> None:
    one = pairs()[2].b
    data = slot_json(one)
    assert (data["arm"], data["pair"], data["position"]) == ("B", 2, 4)
    assert data["saturated"]["per_second"] == pytest.approx(one.result.saturated.per_second, abs=1e-3)  # type: ignore[union-attr]
    assert data["paced"]["response"]["mean_us"] == pytest.approx(one.result.paced.response.mean_us, abs=1e-3)  # type: ignore[union-attr]
    assert data["worker_bytes"] + data["backend_bytes"] == 3_300_000


def test_plant_units_follow_from_the_figures() -> None:
    comparison = compare(pairs(), Targets(), seed=1)
    units = plant_units(comparison)
    assert units["wal_bytes_per_machine_day"]["a"] == pytest.approx(40_000 * 86_400, rel=1e-6)
    assert units["machines"]["b"] == int(comparison.metric("throughput").b)
    assert units["ms_per_scan"]["a"] == pytest.approx(comparison.metric("median response").a, abs=1e-4)
