"""A known effect is found again: arm B runs the transaction twice, or computes for 10 % of its time after it.

Each planted effect is measured by several `quick` runs; their intervals must hold it. By default a few short
ones, within 3 minutes; `--runs 20 --duration 30` is the real thing (half an hour): 19 of 20 must hold it.
"""

from __future__ import annotations

import argparse
import math

from figures import figure, finish
from planted_arms import SPUN

from bench.analysis.statistics import Impact
from bench.quick.result import QuickSettings
from bench.quick.run import run_quick

PLANTED = {
    "planted_arms:Twice": ("the transaction twice", 0.5),
    "planted_arms:Spinning": ("a tenth of it spun", 1 - 1 / (1 + SPUN)),
}
"""Arm B -> in words, and the throughput that it loses."""
HOLDING = 0.95
"""Of the intervals."""


def losses(arm: str, duration_s: float, seeds: range) -> list[Impact]:
    found = []
    for seed in seeds:
        result = run_quick(QuickSettings(duration_s=duration_s, b=arm, seed=seed, extras=False))
        loss = result.comparison.metric("throughput").cost
        assert loss is not None
        print(f"  {arm}, seed {seed}: throughput loss {loss.effect:+.2%} [{loss.low:+.2%}, {loss.high:+.2%}]")
        found.append(loss)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of each comparison")
    parser.add_argument("--runs", type=int, default=2, help="of each planted effect")
    parser.add_argument("--only", choices=["Twice", "Spinning"])
    options = parser.parse_args()
    for arm, (words, planted) in PLANTED.items():
        if options.only and not arm.endswith(options.only):
            continue
        found = losses(arm, options.duration, range(1, options.runs + 1))
        holding = sum(one.low <= planted <= one.high for one in found)
        least = max(1, math.floor(HOLDING * options.runs))
        mean = 100 * sum(one.effect for one in found) / len(found)
        figure(f"{words}: planted throughput loss", 100 * planted, "%")
        figure(f"{words}: found, mean of {options.runs} runs", mean, "%")
        name = f"{words}: intervals that hold it"
        figure(name, holding, f"of {options.runs}", f">= {least}", holding >= least)
    finish()


if __name__ == "__main__":
    main()
