"""Figures of suite, stress, sweep or replay for comparison: judgements decide, findings explore."""

from __future__ import annotations

import math
from typing import Any

from bench.analysis.compare import Measure
from bench.analysis.finding import Finding
from bench.analysis.statistics import paired_impact
from bench.analysis.verdict import Judgement, Outcome, cost_name

_MORE_IS_BETTER = {
    "success",
    "throughput",
    "parameters_per_s",
    "long_reader_throughput",
    "limit",
    "usl_peak",
}
_BY_DIFFERENCE = {
    *("throughput_loss", "latency_increase", "memory_increase", "cpu_increase", "success"),
    *("long_reader_throughput", "usl_sigma", "usl_kappa", "memory_growth_mb_per_h"),
    *("violations", "deadlocks"),
}
_OF_ANY_MACHINE = {
    *("throughput_loss", "latency_increase", "memory_increase", "cpu_increase", "success"),
    *("long_reader_throughput", "violations", "deadlocks"),
}
_NOT_CONDITIONS = {"rule", "cause", "why_not", "tested", "confirmed", "detectable"}
"""Keys of a finding's `at` that tell what came out, not what was asked."""


def section_measures(content: dict[str, Any]) -> list[Measure]:
    """All measures of the sections that may be believed; a name that comes twice keeps its first figure."""
    found: dict[str, Measure] = {}
    for section in content.get("sections", ()):
        if section["outcome"] == Outcome.INVALID.value:
            continue
        for data in section["judgements"]:
            measure = _of_judgement(section["name"], Judgement.from_json(data))
            found.setdefault(measure.name, measure)
        for data in section["findings"]:
            measure = _of_finding(section["name"], Finding.from_json(data))
            found.setdefault(measure.name, measure)
    return list(found.values())


def unbelieved(content: dict[str, Any]) -> list[str]:
    """Names of the sections that were left out."""
    sections = content.get("sections", ())
    return [section["name"] for section in sections if section["outcome"] == Outcome.INVALID.value]


def judged_sections(content: dict[str, Any]) -> list[str]:
    """Names of the sections that may be believed and in which something was judged."""
    return [
        section["name"]
        for section in content.get("sections", ())
        if section["judgements"] and section["outcome"] != Outcome.INVALID.value
    ]


def cells_together(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[Measure, Measure]]:
    """Sweep cells that both results have and the oracle believes, as pairs: the change over all of them.

    The first of each pair of measures is 1 and has no width: all doubt is in the second.
    """
    before, after = _cells(a), _cells(b)
    common = [name for name in before if name in after]
    if len(common) < 2:
        return []
    found = []
    for name, unit, key, more in (
        ("values stored", "of A's", "values_per_s", True),
        ("mean response", "of A's", "response_mean_us", False),
    ):
        figures = [(before[cell][key], after[cell][key]) for cell in common]
        if not all(x > 0 and y > 0 for x, y in figures):
            continue
        impact = paired_impact([x for x, _ in figures], [y for _, y in figures])
        title = f"{name} over {len(common)} cells"
        found.append(
            (
                Measure(title, unit, 1.0, 1.0, 1.0, more, is_headline=True),
                Measure(
                    title, unit, 1 + impact.effect, 1 + impact.low, 1 + impact.high, more, is_headline=True
                ),
            )
        )
    return found


def _cells(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {
        cell["trial"]: {
            "values_per_s": float(cell["result"]["values_per_s"] or 0.0),
            "response_mean_us": _mean_response_us(cell["result"]),
        }
        for cell in content.get("cells", ())
        if cell["result"] and not (cell["result"].get("verification") or {}).get("violations")
    }


def _mean_response_us(result: dict[str, Any]) -> float:
    histograms = [run["response"] for run in result["loggers"] if run["response"]["count"]]
    count = sum(each["count"] for each in histograms)
    return sum(each["mean_us"] * each["count"] for each in histograms) / count if count else math.nan


def _of_judgement(section: str, judgement: Judgement) -> Measure:
    if judgement.cost is not None:
        cost = judgement.cost
        name = f"{section}: {cost_name(judgement.metric)}"
        return Measure(name, "share", cost.effect, cost.low, cost.high, more_is_better=False, is_share=True,
                       is_headline=True, is_absolute=False)  # fmt: skip
    is_share = judgement.unit == "share" or judgement.kind == "zero"
    value, low, high = judgement.value, judgement.low, judgement.high
    return Measure(
        f"{section}: {judgement.metric}", judgement.unit, value, low, high,
        more_is_better=judgement.kind == "least", is_share=is_share, is_headline=True,
        is_absolute=not is_share,
    )  # fmt: skip


def _of_finding(section: str, finding: Finding) -> Measure:
    conditions = ", ".join(
        f"{key} {value}" for key, value in sorted(finding.at.items()) if key not in _NOT_CONDITIONS
    )
    name = f"{section}: {finding.metric}{f' ({conditions})' if conditions else ''}"
    return Measure(
        name, finding.unit, finding.value, finding.low, finding.high,
        more_is_better=finding.metric in _MORE_IS_BETTER, is_share=finding.metric in _BY_DIFFERENCE,
        is_absolute=finding.metric not in _OF_ANY_MACHINE,
    )  # fmt: skip
