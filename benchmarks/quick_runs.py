"""Ten `quick` runs: do the intervals hold the effect pooled over all ten?

And ten of baseline against baseline: how often does an interval exclude 0? The comparison alone, 4 s
each, so that both together end in time; `--duration 30` is the real thing (a quarter of an hour).
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from figures import figure, finish

from bench.quick import run_quick
from bench.quick_result import QuickResult, QuickSettings
from bench.statistics import Impact

RUNS = 10
LEAST_HOLDING = 9
MOST_EXCLUDING = 2


def cost(result: QuickResult, metric: str) -> Impact:
    found = result.comparison.metric(metric).cost
    assert found is not None
    return found


def pooled(costs: list[Impact], loss: bool) -> float:
    """The effect over all runs: the mean of the runs' mean log ratios, all of one size."""
    sign = -1.0 if loss else 1.0
    return sign * math.expm1(float(np.mean([math.log1p(sign * c.effect) for c in costs])))


def runs(b: str, duration_s: float, seeds: range) -> list[QuickResult]:
    results = []
    for seed in seeds:
        result = run_quick(QuickSettings(duration_s=duration_s, b=b, seed=seed, extras=False))
        loss, latency = cost(result, "throughput"), cost(result, "median response")
        print(
            f"  baseline / {b}, seed {seed}: throughput loss {loss.effect:+.1%} [{loss.low:+.1%}, "
            f"{loss.high:+.1%}], median latency {latency.effect:+.1%} [{latency.low:+.1%}, "
            f"{latency.high:+.1%}], "
            f"{result.outcome} {'; '.join(result.invalid)}",
            flush=True,
        )
        results.append(result)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=4.0, help="seconds of each comparison")
    parser.add_argument("--only", choices=["ab", "aa"])
    options = parser.parse_args()
    if options.only != "aa":
        results = runs("synchronizing", options.duration, range(1, RUNS + 1))
        for metric in ("throughput", "median response", "mean response"):
            costs = [cost(result, metric) for result in results]
            effect = pooled(costs, metric == "throughput")
            holding = sum(c.low <= effect <= c.high for c in costs)
            half = float(np.median([(c.high - c.low) / 2 for c in costs]))
            figure(f"{metric}: cost pooled over {RUNS} runs", 100 * effect, "%")
            figure(f"{metric}: half width of an interval, median", 100 * half, "points")
            figure(
                f"{metric}: intervals that hold it",
                holding,
                f"of {RUNS}",
                f">= {LEAST_HOLDING}",
                holding >= LEAST_HOLDING,
            )
    if options.only != "ab":
        results = runs("baseline", options.duration, range(101, 101 + RUNS))
        excluding = sum(not c.low <= 0 <= c.high for c in (cost(r, "throughput") for r in results))
        figure(
            "baseline against baseline: throughput intervals that exclude 0",
            excluding,
            f"of {RUNS}",
            f"<= {MOST_EXCLUDING}",
            excluding <= MOST_EXCLUDING,
        )
    finish()


if __name__ == "__main__":
    main()
