"""A quick run's figures for comparison: its impacts, and each arm's own figures over its slots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.analysis.compare import Measure
from bench.analysis.statistics import mean_interval, wilson
from bench.analysis.verdict import cost_name
from bench.measuring.latency import Latencies, Merged

_RATES_APART = 0.1


def quick_measures(content: dict[str, Any]) -> list[Measure]:
    """Impacts first: those that were judged decide."""
    judged = {each["metric"] for each in content["judgements"]}
    found = [_impact(metric, metric["name"] in judged) for metric in content["metrics"] if metric["cost"]]
    for letter in "AB":
        found.append(_success(content, letter))
        for name, unit, take, more in _OF_AN_ARM:
            measure = _over_slots(f"{name} of {letter}", unit, content, letter, take, more)
            if measure is not None:
                found.append(measure)
    return found


def _impact(metric: dict[str, Any], decides: bool) -> Measure:
    effect, low, high = (_number(metric["cost"][key]) for key in ("effect", "low", "high"))
    return Measure(
        cost_name(metric["name"]), "share", effect, low, high, more_is_better=False, is_share=True,
        is_headline=decides, is_absolute=False,
    )  # fmt: skip


def rates_apart(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Why response times of two runs are not of the same load; empty if they are."""
    before, after = (_number(each["settings"].get("fixed_rate_per_s")) for each in (a, b))
    if not (before > 0 and after > 0):
        return "the rate of one of them was not recorded"
    if abs(after / before - 1) <= _RATES_APART:
        return ""
    return f"paced at {before:,.0f}/s and {after:,.0f}/s"


def _success(content: dict[str, Any], letter: str) -> Measure:
    stored, tried = content["success"][letter.lower()]
    low, high = wilson(stored, tried)
    value = stored / tried if tried else math.nan
    return Measure(f"success of {letter}", "share", value, low, high, more_is_better=True, is_share=True,
                   is_headline=True, is_absolute=False)  # fmt: skip


def _over_slots(
    name: str,
    unit: str,
    content: dict[str, Any],
    letter: str,
    take: Callable[[dict[str, Any]], float],
    more_is_better: bool,
) -> Measure | None:
    """The geometric mean over an arm's slots with its t interval; None where they have no such figure."""
    figures = [take(slot) for slot in content["slots"] if slot["arm"] == letter]
    if len(figures) < 2 or not all(figure > 0 for figure in figures):
        return None
    mean, low, high = (math.exp(each) for each in mean_interval([math.log(figure) for figure in figures]))
    return Measure(name, unit, mean, low, high, more_is_better)


def _throughput(slot: dict[str, Any]) -> float:
    return _number((slot["saturated"] or {}).get("per_second"))


def _median_ms(slot: dict[str, Any]) -> float:
    response = (slot["paced"] or {}).get("response")
    if not response or not response["count"]:
        return math.nan
    total_us = (response["mean_us"] or 0.0) * response["count"]
    merged = Merged(
        [Latencies(response["hdr_v2"], response["count"], total_us, response["max_us"], response["clipped"])]
    )
    return float(merged.weighted_percentiles_us(50, np.ones((1, 1)))[0]) / 1000


def _memory_mb(slot: dict[str, Any]) -> float:
    return float(slot["worker_bytes"] + (slot["backend_bytes"] or 0)) / 1e6


def _worker_cpu_us(slot: dict[str, Any]) -> float:
    return _cpu_us(slot, "cpu_s")


def _backend_cpu_us(slot: dict[str, Any]) -> float:
    return _cpu_us(slot, "backend_cpu_s")


def _cpu_us(slot: dict[str, Any], key: str) -> float:
    """At saturation, where no pacing is in it."""
    part = slot["saturated"] or {}
    used, transactions = part.get(key), part.get("transactions")
    return 1e6 * float(used) / float(transactions) if used and transactions else math.nan


def _wal_kb(slot: dict[str, Any]) -> float:
    return float(slot["wal_bytes"] / 1000 / slot["transactions"]) if slot["transactions"] else math.nan


_OF_AN_ARM: Sequence[tuple[str, str, Callable[[dict[str, Any]], float], bool]] = (
    ("throughput", "tx/s", _throughput, True),
    ("median response", "ms", _median_ms, False),
    ("memory", "MB", _memory_mb, False),
    ("worker CPU a transaction", "µs", _worker_cpu_us, False),
    ("backend CPU a transaction", "µs", _backend_cpu_us, False),
    ("WAL a transaction", "kB", _wal_kb, False),
)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
