"""Several `quick` runs: do the intervals hold the effect pooled over all of them?

And as many of baseline against baseline: how often does an interval exclude 0? By default a few short
ones, so that it ends within 3 minutes; `--runs 10 --duration 30` is the real thing (a quarter of an hour).
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from figures import figure, finish

from bench.analysis.statistics import Impact
from bench.quick.result import QuickResult, QuickSettings
from bench.quick.run import run_quick

SHARE_EXCLUDING = 0.2
"""Of the intervals of two equal arms; one may always miss, of 10 two."""


def cost(result: QuickResult, metric: str) -> Impact:
    found = result.comparison.metric(metric).cost
    assert found is not None
    return found


def is_worse_than_low(result: QuickResult) -> bool:
    """Whether its whole throughput interval lies above LOW; one that reaches into LOW calls nothing worse."""
    (level,) = (each.level for each in result.comparison.judgements if each.metric == "throughput")
    return "LOW" not in level


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
    parser.add_argument("--runs", type=int, default=4, help="of each kind")
    parser.add_argument("--only", choices=["ab", "aa"])
    options = parser.parse_args()
    count: int = options.runs
    if options.only != "aa":
        results = runs("synchronizing", options.duration, range(1, count + 1))
        for metric in ("throughput", "median response", "mean response"):
            costs = [cost(result, metric) for result in results]
            effect = pooled(costs, metric == "throughput")
            holding = sum(c.low <= effect <= c.high for c in costs)
            half = float(np.median([(c.high - c.low) / 2 for c in costs]))
            figure(f"{metric}: cost pooled over {count} runs", 100 * effect, "%")
            figure(f"{metric}: half width of an interval, median", 100 * half, "points")
            figure(
                f"{metric}: intervals that hold it",
                holding,
                f"of {count}",
                f">= {count - 1}",
                holding >= count - 1,
            )
    if options.only != "ab":
        results = runs("baseline", options.duration, range(101, 101 + count))
        most = max(1, round(SHARE_EXCLUDING * count))
        excluding = sum(not c.low <= 0 <= c.high for c in (cost(r, "throughput") for r in results))
        figure(
            "baseline against baseline: throughput intervals that exclude 0",
            excluding,
            f"of {count}",
            f"<= {most}",
            excluding <= most,
        )
        worse = sum(is_worse_than_low(result) for result in results)
        name = "baseline against baseline: called worse than LOW in throughput"
        figure(name, worse, f"of {count}", "= 0", worse == 0)
    finish()


if __name__ == "__main__":
    main()
