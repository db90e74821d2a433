"""Results as plcbench stores them, made of planted figures: for comparison, reports and advice."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.comparison import Comparison, compare
from bench.analysis.conclusion import conclude
from bench.analysis.fingerprint import comparability_key
from bench.analysis.verdict import Targets, overall
from bench.load.slots import Pair, Slot
from bench.load.workload import Loop, SlotResult
from bench.measuring.latency import latencies_of
from bench.oracle.invariants import INVARIANTS, Check, Verification
from bench.quick.result import QuickResult, QuickSettings, quick_json
from bench.results import write_result
from bench.section import Section

RATE_PER_S = 400.0
_NONE = latencies_of([])


def environment(**changes: Any) -> dict[str, Any]:
    """A machine like the one that results come from."""
    where = {
        "cpu": "AMD EPYC",
        "cores": 2,
        "load_average": [0.5, 0.5, 0.5],
        "memory_bytes": 25_276_502_016,
        "platform": "Linux-6.18.44-fc-v669-x86_64-with-glibc2.36",
        "host": {
            "cpu_limit": None,
            "file_system": "ext4",
            "clock": "tsc",
            "governor": None,
            "cores_for_us": 2,
        },
        "python": "3.11.7",
        "packages": {"psycopg": "3.3.9", "numpy": "2.4.6"},
        "commit": "f23d155",
        "fsync_us": {"p50": 174.5, "p99": 394.2},
        "sleep_overshoot_us": {"p50": 95.7, "p99": 264.9},
        "postgresql": {"version": "18.4", "settings": {"fsync": "on", "synchronous_commit": "on"}},
        **changes,
    }
    return {"comparability_key": comparability_key(where), **where}


def quick_content(
    a_per_s: float = 1000.0,
    loss: float = 0.15,
    increase: float = 0.10,
    seed: int = 1,
    count: int = 12,
    spread: float = 0.02,
    rate_per_s: float = RATE_PER_S,
    invalid: tuple[str, ...] = (),
    where: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """What `plcbench quick` writes of pairs with this throughput of A, loss and increase of B."""
    chosen = QuickSettings(**{"duration_s": 2.5 * count, "seed": seed, "extras": False, **settings})
    comparison, pairs = _planted(a_per_s, loss, increase, seed, count, spread)
    doubts = list(invalid)
    verifications = {"A": verification(), "B": verification()}
    outcome = overall(comparison.judgements, doubts)
    result = QuickResult(chosen, comparison, [], {}, verifications, doubts, outcome, {})
    return quick_json(result, pairs, rate_per_s, where or environment(), 0.0)


@cache
def _planted(
    a_per_s: float, loss: float, increase: float, seed: int, count: int, spread: float
) -> tuple[Comparison, list[Pair]]:
    random = np.random.default_rng(seed)
    pairs = []
    for index in range(count):
        a, b = random.lognormal(0, spread, 2)
        pairs.append(
            Pair(
                _slot("A", index, a_per_s * a, 2.0 * a, 3_000_000, random),
                _slot("B", index, a_per_s * (1 - loss) * b, 2.0 * (1 + increase) * b, 3_300_000, random),
            )
        )
    return compare(pairs, Targets(), seed), pairs


def _slot(
    arm: str, pair: int, per_second: float, median_ms: float, memory: int, random: np.random.Generator
) -> Slot:
    result = SlotResult(
        parameters=84,
        saturated=_loop(per_second, 1000 / per_second, random),
        paced=_loop(RATE_PER_S, median_ms, random),
        transactions=round(per_second) + 400,
        cpu_s=0.3,
        worker_bytes=memory,
        backend_bytes=2_000_000,
    )
    return Slot(arm, pair, 2 * pair, result, 40_000 * result.transactions, 1.0, ())


def _loop(per_second: float, median_ms: float, random: np.random.Generator) -> Loop:
    count = round(per_second)
    latencies = latencies_of((random.lognormal(0, 0.1, count) * median_ms * 1e6).astype(np.int64).tolist())
    return Loop(
        seconds=count / per_second,
        transactions=count,
        failures={},
        skipped=0,
        service=latencies,
        response=latencies,
        wait=_NONE,
        cpu_s=count * 3e-4,
        backend_cpu_s=count * 4e-4,
    )


def verification(violations: int = 0, checked: int = 1000) -> Verification:
    """What the oracle says where it found so many values that are not true."""
    checks = {name: Check(name, checked, "values") for name in INVARIANTS}
    if violations:
        checks["I4"].violated("chamber.pressure in scan 3: stored 123.5, true 2.5", violations)
    return Verification(checks, checked)


def run_content(sections: list[Section], where: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """What a suite or a stress run writes of these sections."""
    return {
        "finished_at": "2026-11-23T13:27:26.451+00:00",
        "took_s": 280.0,
        "command": ["suite", "--short"],
        "settings": {"a": "baseline", "b": "synchronizing", "seed": 1, "short": True},
        "environment": where or environment(),
        "sections": [section.to_json() for section in sections],
        **conclude(sections).to_json(),
        **more,
    }


def stored(folder: Path, name: str, kind: str, content: dict[str, Any]) -> Path:
    """Write a result as plcbench does."""
    path = folder / name
    write_result(path, kind, content)
    assert json.loads(path.read_text())["kind"] == kind
    return path
