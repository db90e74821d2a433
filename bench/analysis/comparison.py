"""Slots -> figures of both arms, impacts with intervals, judgements; pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.analysis.statistics import Impact, paired_impact, percentile_impact, rounded
from bench.analysis.verdict import Judgement, Targets, judge_cost, judge_success, shown_class
from bench.load.failures import Failure
from bench.load.slots import Pair, Slot
from bench.load.work import Loop
from bench.measuring.latency import Merged

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

    @property
    def shown_class(self) -> str:
        """Its class where it is shown and not judged; empty where it has none."""
        if self.judged or self.cost is None:
            return ""
        return shown_class(self.name, self.cost.low, self.cost.high)


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
    failures: dict[str, tuple[dict[str, int], Merged]]
    """Of A and of B: what was given up or skipped, by its class, and how long that took."""

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
    cpu_target = targets.cpu_increase
    cpu = _metric(
        "cpu", "µs/tx", [_cpu_us(s) for s in a], [_cpu_us(s) for s in b], judged=cpu_target is not None
    )
    parts = [
        _metric(name, unit, [figure(s) for s in a], [figure(s) for s in b], judged=False)
        for name, unit, figure in _PARTS
    ]
    histograms = {
        "response": _merged([_paced(s).response for s in a], [_paced(s).response for s in b]),
        "service": _merged([_paced(s).service for s in a], [_paced(s).service for s in b]),
        "wait": _merged([_paced(s).wait for s in a], [_paced(s).wait for s in b]),
        "saturated service": _merged([_saturated(s).service for s in a], [_saturated(s).service for s in b]),
    }
    tails = [_percentile(histograms["response"], percent, seed) for percent in TAIL_PERCENTILES]
    success = (_success(a), _success(b))
    return Comparison(
        metrics=[throughput, latency, mean, *tails, memory, cpu, *parts],
        judgements=[
            _judge(throughput, targets.throughput_loss),
            _judge(latency, targets.latency_increase, targets.latency_floor_ms),
            _judge(memory, targets.memory_increase, targets.memory_floor_mb),
            *([] if cpu_target is None else [_judge(cpu, cpu_target)]),
            judge_success(success, targets.success),
        ],
        histograms=histograms,
        success=success,
        wal_bytes=(_wal_bytes(a), _wal_bytes(b)),
        failures={"A": _failures(a), "B": _failures(b)},
    )


def worker_share(slots: Sequence[Slot]) -> float:
    """Share of the time at saturation in which the worker itself was at work; NaN where none ran.

    Near 1 the client process is what limits: the server was not loaded as far as it goes.
    """
    loops = [_saturated(slot) for slot in slots]
    seconds = sum(loop.seconds for loop in loops)
    return sum(loop.cpu_s for loop in loops) / seconds if seconds else math.nan


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
        "reasons": loop.reasons,
        "retried": loop.retried,
        "cpu_s": rounded(loop.cpu_s),
        "backend_cpu_s": None if loop.backend_cpu_s is None else rounded(loop.backend_cpu_s),
        "per_second": round(loop.per_second, 3),
        "service": loop.service.to_json(),
        "response": loop.response.to_json(),
        "wait": loop.wait.to_json(),
        **({"failed": loop.failed.to_json()} if loop.failed.count else {}),
        **({"pool_wait": loop.pool_wait.to_json()} if loop.pool_wait.count else {}),
    }


def _metric(
    name: str, unit: str, a: list[float], b: list[float], loss: bool = False, judged: bool = True
) -> Metric:
    impact = paired_impact(a, b)
    cost = impact.negated() if loss else impact
    return Metric(name, unit, sum(a) / len(a), sum(b) / len(b), cost, judged)


def _judge(metric: Metric, target: float, floor: float = 0.0) -> Judgement:
    assert metric.cost is not None
    return judge_cost(metric.name, metric.cost, target, metric.a, floor)


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


def _cpu_us(slot: Slot) -> float:
    """Of worker and backend, a transaction at saturation: nothing is paced there, so none of it is waiting.

    NaN where the backends are on another machine: then the worker's share alone would mislead.
    """
    loop = _saturated(slot)
    spent = math.nan if loop.backend_cpu_s is None else loop.cpu_s + loop.backend_cpu_s
    return 1e6 * spent / loop.transactions if loop.transactions else math.nan


def _worker_cpu_us(slot: Slot) -> float:
    loop = _saturated(slot)
    return 1e6 * loop.cpu_s / loop.transactions if loop.transactions else math.nan


def _backend_mb(slot: Slot) -> float:
    return math.nan if slot.result.backend_bytes is None else slot.result.backend_bytes / 1e6


_PARTS: tuple[tuple[str, str, Callable[[Slot], float]], ...] = (
    ("worker memory", "MB", lambda slot: slot.result.worker_bytes / 1e6),
    ("backend memory", "MB", _backend_mb),
    ("worker cpu", "µs/tx", _worker_cpu_us),
    ("backend cpu", "µs/tx", lambda slot: _cpu_us(slot) - _worker_cpu_us(slot)),
)
"""What memory and CPU are made of: by process, shown and not judged."""


def _success(slots: Sequence[Slot]) -> tuple[int, int]:
    ok = tried = 0
    for slot in slots:
        for loop in (_saturated(slot), _paced(slot)):
            ok += loop.transactions
            tried += loop.tried
    return ok, tried


def _failures(slots: Sequence[Slot]) -> tuple[dict[str, int], Merged]:
    counts: Counter[str] = Counter()
    loops = [loop for slot in slots for loop in (_saturated(slot), _paced(slot))]
    for loop in loops:
        counts.update(loop.failures)
        counts[Failure.SKIPPED.value] += loop.skipped
    return dict(+counts), Merged([loop.failed for loop in loops])


def _wal_bytes(slots: Sequence[Slot]) -> float:
    return sum(s.wal_bytes for s in slots) / max(1, sum(s.result.transactions for s in slots))
