"""The impact end to end: trials from emulator to commit in pairs, a part of part impact."""

from __future__ import annotations

import math
from typing import Any

from bench.analysis.statistics import Impact, paired_impact
from bench.load.slots import slot_order
from bench.report.table import Table
from bench.section import Section
from bench.suite.context import Suite
from bench.suite.histograms import latency_figures
from bench.suite.plan import SuitePlan
from bench.sweep.cell import problem_of
from bench.sweep.trial import Trial, TrialResult, run_trial

_PREPARING_S = 3.0
_TELLS_NOTHING = 9.0
"""An interval that reaches a tenfold increase."""
_FIGURES = {
    "median response": "ms",
    "mean response": "ms",
    "logger CPU a scan": "µs",
    "backend CPU a scan": "µs",
    "logger memory": "MB",
    "WAL a scan": "kB",
}


def planned_seconds(plan: SuitePlan) -> float:
    return 2 * plan.impact.modbus_pairs * (plan.impact.modbus_s * 1.1 + _PREPARING_S)


def run(bench: Suite, section: Section) -> None:
    """Fill the section with what pairs of trials say; nothing if the plan has none."""
    mine = bench.plan.impact
    if not mine.modbus_pairs:
        return
    for letter, arm in bench.letters:
        if problem := problem_of(_trial(bench.plan, arm)):
            not_measured = section.figures.setdefault("not_measured", [])
            not_measured.append(f"{letter}, end to end over Modbus TCP: {problem[1]}")
            return
    trials: dict[str, list[TrialResult]] = {"A": [], "B": []}
    arms = dict(bench.letters)
    for pair in slot_order(mine.modbus_pairs, bench.seed + 2):
        for letter in pair:
            bench.say("impact: over Modbus TCP", 0.0)
            result = run_trial(_trial(bench.plan, arms[letter]), bench.conninfo, bench.monitor)
            trials[letter].append(result)
            bench.say("impact: over Modbus TCP", mine.modbus_s * 1.1 + _PREPARING_S)
            if result.violations:
                where = f"{letter}, trial {len(trials[letter])} over Modbus TCP"
                section.invalid.append(f"{where}: the oracle found {result.violations} violations")
    section.tables.append(_table(bench, section, trials))


def _trial(plan: SuitePlan, arm: str) -> Trial:
    mine = plan.impact
    warm_up_s = 0.1 * mine.modbus_s
    return Trial(
        interval_s=mine.modbus_interval_s,
        devices=1,
        repository=arm,
        parameters=plan.parameters,
        duration_s=mine.modbus_s + warm_up_s,
        warm_up_s=warm_up_s,
    )


def _table(bench: Suite, section: Section, trials: dict[str, list[TrialResult]]) -> Table:
    mine = bench.plan.impact
    table = Table(
        f"End to end over Modbus TCP, a scan every {mine.modbus_interval_s * 1000:g} ms",
        ["figure", "A", "B", "B costs", "95 % interval", "pairs"],
        note="From the moment a scan is due to its proven commit, spool included. Shown, not judged: what "
        "is judged is the writer alone, where the difference is larger. CPU of the backends includes their "
        "start; those on another machine are not measured.",
    )
    figures: dict[str, Any] = {
        letter: [_figures_of(result) for result in results] for letter, results in trials.items()
    }
    impacts = {}
    for name, unit in _FIGURES.items():
        a, b = ([one[name] for one in figures[letter]] for letter in "AB")
        impact = paired_impact(a, b)
        impacts[name] = impact.to_json()
        mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
        table.rows.append(
            [f"{name} [{unit}]", _figure(mean_a), _figure(mean_b), *_cells(impact), str(len(a))]
        )
    section.figures["over_modbus"] = {
        "trials": figures,
        "impact": impacts,
        "latency": {
            letter: [latency_figures(result.merged("response")) for result in results]
            for letter, results in trials.items()
        },
    }
    return table


def _figures_of(result: TrialResult) -> dict[str, float]:
    """One figure a trial of each kind; NaN where there is none."""
    scans = result.stored_rows / result.trial.parameters
    if not scans:
        return dict.fromkeys(_FIGURES, math.nan)
    response = result.merged("response")
    backend_s = sum(use.cpu_s for use in result.backends) if result.backends else math.nan
    return {
        "median response": response.percentile_us(50) / 1000,
        "mean response": response.mean_us / 1000,
        "logger CPU a scan": 1e6 * sum(run.cpu_s for run in result.runs) / scans,
        "backend CPU a scan": 1e6 * backend_s / scans,
        "logger memory": sum(run.private_bytes for run in result.runs) / 1e6,
        "WAL a scan": result.wal_bytes / scans / 1000,
    }


def _cells(impact: Impact) -> list[str]:
    if math.isnan(impact.effect):
        return ["-", "not measured"]
    wide = impact.high > _TELLS_NOTHING
    return [
        f"{impact.effect:+.1%}",
        "too wide to say" if wide else f"{impact.low:+.1%} to {impact.high:+.1%}",
    ]


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
