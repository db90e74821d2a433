"""Slots -> figures of both arms, impacts with intervals, judgements; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.latency import Merged
from bench.slots import Pair, Slot
from bench.statistics import Impact, paired_impact, percentile_impact
from bench.verdict import Judgement, Targets, judge_cost, judge_success
from bench.workload import Loop

TAIL_PERCENTILES = (95.0, 99.0)


@dataclass(frozen=True)
class Metric:
    """One figure of both arms and how much B differs."""

    name: str
    unit: str
    a: float
    b: float
    cost: Impact | None
    """Positive is worse; None where too little was measured to say."""
    judged: bool


@dataclass(frozen=True)
class Comparison:
    """What all pairs together say."""

    metrics: list[Metric]
    judgements: list[Judgement]
    histograms: dict[str, tuple[Merged, Merged]]
    success: tuple[tuple[int, int], tuple[int, int]]
    """Of A and of B: transactions stored, and tried or planned."""
    wal_bytes: tuple[float, float]
    """Per transaction."""

    def metric(self, name: str) -> Metric:
        return next(metric for metric in self.metrics if metric.name == name)


def compare(pairs: Sequence[Pair], targets: Targets, seed: int) -> Comparison:
    """Compare the arms over pairs; every pair needs both parts of its slots.

    Latency is judged by the median response of each slot: one stall of the disk at a fixed rate delays
    all that is due meanwhile, and a slot's mean then tells of the stall. Mean and tail are shown.
    """
    a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    throughput = _metric(
        "throughput",
        "tx/s",
        [_saturated(s).per_second for s in a],
        [_saturated(s).per_second for s in b],
        loss=True,
    )
    latency = _metric("median response", "ms", [_median_ms(s) for s in a], [_median_ms(s) for s in b])
    mean = _metric("mean response", "ms", [_mean_ms(s) for s in a], [_mean_ms(s) for s in b], judged=False)
    memory = _metric("memory", "MB", [_memory_mb(s) for s in a], [_memory_mb(s) for s in b])
    histograms = {
        "response": _merged([_paced(s).response for s in a], [_paced(s).response for s in b]),
        "service": _merged([_paced(s).service for s in a], [_paced(s).service for s in b]),
        "wait": _merged([_paced(s).wait for s in a], [_paced(s).wait for s in b]),
        "saturated service": _merged([_saturated(s).service for s in a], [_saturated(s).service for s in b]),
    }
    tails = [_percentile(histograms["response"], percent, seed) for percent in TAIL_PERCENTILES]
    success = (_success(a), _success(b))
    return Comparison(
        metrics=[throughput, latency, mean, *tails, memory],
        judgements=[
            _judge(throughput, targets.throughput_loss),
            _judge(latency, targets.latency_increase),
            _judge(memory, targets.memory_increase),
            judge_success(success, targets.success),
        ],
        histograms=histograms,
        success=success,
        wal_bytes=(_wal_bytes(a), _wal_bytes(b)),
    )


def slot_json(slot: Slot) -> dict[str, Any]:
    """A slot with everything that was measured in it."""
    result = slot.result
    return {
        "arm": slot.arm,
        "pair": slot.pair,
        "position": slot.position,
        "disturbed": list(slot.disturbed),
        "transactions": result.transactions,
        "wal_bytes": slot.wal_bytes,
        "hot_ratio": slot.hot_ratio,
        "cpu_s": round(result.cpu_s, 4),
        "worker_bytes": result.worker_bytes,
        "backend_bytes": result.backend_bytes,
        "saturated": _loop_json(result.saturated),
        "paced": _loop_json(result.paced),
    }


def _loop_json(loop: Loop | None) -> dict[str, Any] | None:
    if loop is None:
        return None
    return {
        "seconds": round(loop.seconds, 6),
        "transactions": loop.transactions,
        "skipped": loop.skipped,
        "failures": loop.failures,
        "per_second": round(loop.per_second, 3),
        "service": loop.service.to_json(),
        "response": loop.response.to_json(),
        "wait": loop.wait.to_json(),
    }


def _metric(
    name: str, unit: str, a: list[float], b: list[float], loss: bool = False, judged: bool = True
) -> Metric:
    impact = paired_impact(a, b)
    cost = impact.negated() if loss else impact
    return Metric(name, unit, sum(a) / len(a), sum(b) / len(b), cost, judged)


def _judge(metric: Metric, target: float) -> Judgement:
    assert metric.cost is not None
    return judge_cost(metric.name, metric.cost, target)


def _percentile(merged: tuple[Merged, Merged], percent: float, seed: int) -> Metric:
    a, b = merged
    impact = percentile_impact(a, b, percent, seed)
    return Metric(
        f"p{percent:g} response",
        "ms",
        a.percentile_us(percent) / 1000,
        b.percentile_us(percent) / 1000,
        impact,
        judged=False,
    )


def _merged(a: list[Any], b: list[Any]) -> tuple[Merged, Merged]:
    return Merged(a), Merged(b)


def _saturated(slot: Slot) -> Loop:
    assert slot.result.saturated is not None
    return slot.result.saturated


def _paced(slot: Slot) -> Loop:
    assert slot.result.paced is not None
    return slot.result.paced


def _mean_ms(slot: Slot) -> float:
    return _paced(slot).response.mean_us / 1000


def _median_ms(slot: Slot) -> float:
    merged = Merged([_paced(slot).response])
    return float(merged.weighted_percentiles_us(50, np.ones((1, 1)))[0]) / 1000 if merged.count else math.nan


def _memory_mb(slot: Slot) -> float:
    return max(slot.result.worker_bytes + (slot.result.backend_bytes or 0), 1) / 1e6


def _success(slots: Sequence[Slot]) -> tuple[int, int]:
    ok = tried = 0
    for slot in slots:
        for loop in (_saturated(slot), _paced(slot)):
            ok += loop.transactions
            tried += loop.transactions + sum(loop.failures.values()) + loop.skipped
    return ok, tried


def _wal_bytes(slots: Sequence[Slot]) -> float:
    return sum(s.wal_bytes for s in slots) / max(1, sum(s.result.transactions for s in slots))
