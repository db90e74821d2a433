"""Part baseline: what logging a machine takes, as it is and under more load, by each arm."""

from __future__ import annotations

import math
import time
from typing import Any

from bench.analysis.finding import Finding
from bench.analysis.percentile_interval import percentile_interval
from bench.analysis.verdict import judge_success
from bench.report.table import Table
from bench.section import Section
from bench.suite.context import Suite
from bench.suite.histograms import LATENCY_COLUMNS, PERCENTILES, Histograms, latency_cells, latency_figures
from bench.suite.plan import Case, SuitePlan
from bench.sweep.cell import problem_of
from bench.sweep.trial import Trial, TrialResult, run_trial
from plcsim.errors import PlcsimError

NAME = "baseline"
TITLE = "machines logged over Modbus TCP at several rates, from due to committed"

_PREPARING_S = 3.0
"""Of a trial: schema, emulators and logger; and the oracle after it."""
_WARM_UP_SHARE = 0.1
_KINDS = {"response": "due to committed", "service": "begun to committed", "lag": "due to begun"}


def planned_seconds(plan: SuitePlan) -> float:
    return len(plan.baseline.cases) * 2 * _trial_s(plan)


def run(bench: Suite, section: Section) -> None:
    """Log every case by A and B in turn, so that drift of the machine meets both."""
    histograms = Histograms()
    section.tables += _tables()
    success: dict[str, list[int]] = {letter: [0, 0] for letter, _ in bench.letters}
    for number, case in enumerate(bench.plan.baseline.cases):
        order = bench.letters if number % 2 == 0 else bench.letters[::-1]
        results = {letter: _result(bench, section, case, letter, arm, histograms) for letter, arm in order}
        for letter, arm in bench.letters:
            result = results[letter]
            if result is None:
                continue
            _take(section, case, letter, arm, result, bench.seed)
            for place, count in enumerate(result.success):
                success[letter][place] += count
    stored = [(ok, tried) for ok, tried in success.values() if tried]
    if stored:
        section.judgements.append(judge_success(stored, bench.targets.success))
    histograms.write(bench.folder, NAME)


def _result(
    bench: Suite, section: Section, case: Case, letter: str, arm: str, histograms: Histograms
) -> TrialResult | None:
    """Run one trial; None, and a note, for an arm that cannot log over Modbus."""
    trial = _trial(bench.plan, case, arm)
    if problem := problem_of(trial):
        not_measured = section.figures.setdefault("not_measured", [])
        not_measured.append(f"{letter}, {case.name}: {problem[1]}")
        return None
    bench.say(f"baseline: {case.name}", 0.0)
    start = time.time()
    result = run_trial(trial, bench.conninfo, bench.monitor)
    for run in result.runs:
        tag = f"{letter}-{case.name}"
        for second, latencies in run.response_by_s:
            histograms.add(f"{tag}-response", second, run.part_s, latencies)
        for kind in ("service", "lag"):
            histograms.add(f"{tag}-{kind}", start, run.window_s, getattr(run, kind))
    bench.say(f"baseline: {case.name}", _trial_s(bench.plan))
    return result


def _trial_s(plan: SuitePlan) -> float:
    return plan.baseline.seconds * (1 + _WARM_UP_SHARE) + _PREPARING_S


def _trial(plan: SuitePlan, case: Case, arm: str) -> Trial:
    """All machines by one logger process, as one plant is logged."""
    mine = plan.baseline
    warm_up_s = mine.seconds * _WARM_UP_SHARE
    return Trial(
        interval_s=case.interval_s,
        devices=mine.machines,
        repository=arm,
        parameters=case.parameters,
        duration_s=mine.seconds + warm_up_s,
        loggers=1,
        warm_up_s=warm_up_s,
    )


def _tables() -> list[Table]:
    latency = Table(
        "Logging over Modbus TCP [ms]",
        ["case", "arm", "figure", *LATENCY_COLUMNS],
        note="A percentile is told only where ten values or more lie beyond it. Response is what counts: "
        "from the moment a scan was due; service hides what waited.",
    )
    use = Table(
        "What it takes",
        ["case", "arm", "values/s", "of those due", "missed", "scans a tx", "WAL a scan [kB]",
         "logger CPU [%]", "logger [MB]", "backends CPU [%]", "backends [MB]", "emulators CPU [%]",
         "emulators [MB]"],
        note="CPU in percent of one core over the whole trial; memory is private, of all such processes.",
    )  # fmt: skip
    return [latency, use]


def _take(section: Section, case: Case, letter: str, arm: str, result: TrialResult, seed: int) -> None:
    """One trial's figures, rows and findings."""
    cell = f"{NAME}, {case.name}, {letter}"
    figures = _figures(result)
    section.figures.setdefault(case.name, {})[letter] = figures
    for kind, meaning in _KINDS.items():
        cells = latency_cells(figures[kind])
        section.tables[0].rows.append([case.name, letter, f"{kind} ({meaning})", *cells])
    section.tables[1].rows.append([case.name, letter, *_use_cells(figures, result)])
    at = {
        "repository": arm,
        "interval_s": case.interval_s,
        "devices": result.trial.devices,
        "parameters": case.parameters,
    }
    seconds = [latencies for run in result.runs for _, latencies in run.response_by_s]
    for percent in PERCENTILES:
        found = [us / 1000 for us in percentile_interval(seconds, percent, seed)]
        if not math.isnan(found[0]):
            where = {**at, "percentile": percent}
            section.findings.append(Finding("response_ms", found[0], found[1], found[2], "ms", cell, where))
            figures["response"][f"p{percent:g}_interval_ms"] = found[1:]
    if result.violations:
        section.invalid.append(f"{cell}: the oracle found {result.violations} violations")
    lost = sum(run.read_errors for run in result.runs)
    if lost:
        section.invalid.append(f"{cell}: {lost} reads failed although nothing was made to fail")
    section.figures[case.name][letter]["verification"] = result.verification


def _figures(result: TrialResult) -> dict[str, Any]:
    if not result.runs:
        raise PlcsimError("no logger has reported")
    seconds = max(run.seconds for run in result.runs)
    scans = max(1, result.stored_rows // result.trial.parameters)
    ok, due = result.success
    return {
        "interval_s": result.trial.interval_s,
        "parameters": result.trial.parameters,
        "machines": result.trial.devices,
        **{kind: latency_figures(result.merged(kind)) for kind in (*_KINDS, "commit")},
        "values_per_s": result.values_per_s,
        "offered_per_s": result.trial.offered_per_s,
        "scans_stored": ok,
        "scans_due": due,
        "scans_missed": result.missed,
        "failures": result.failures,
        "scans_a_transaction": result.scans_a_transaction,
        "wal_bytes_a_scan": result.wal_bytes / scans,
        "seconds": seconds,
        "logger_cpu_s": sum(run.cpu_s for run in result.runs),
        "logger_bytes": sum(run.private_bytes for run in result.runs),
        "backend_cpu_s": sum(use.cpu_s for use in result.backends),
        "backend_bytes": sum(use.private_bytes for use in result.backends),
        "emulator_cpu_s": sum(use.cpu_s for use in result.emulators),
        "emulator_bytes": sum(use.private_bytes for use in result.emulators),
    }


def _use_cells(figures: dict[str, Any], result: TrialResult) -> list[str]:
    def share(kind: str, there: bool = True) -> list[str]:
        if not there:
            return ["not here", "not here"]
        percent = 100 * figures[f"{kind}_cpu_s"] / figures["seconds"]
        return [f"{percent:.1f}", f"{figures[f'{kind}_bytes'] / 1e6:.1f}"]

    due = figures["scans_due"]
    return [
        f"{figures['values_per_s']:,.0f}",
        f"{figures['scans_stored'] / due:.1%}" if due else "-",
        str(figures["scans_missed"]),
        f"{figures['scans_a_transaction']:.2f}",
        f"{figures['wal_bytes_a_scan'] / 1000:.1f}",
        *share("logger"),
        *share("backend", bool(result.backends)),
        *share("emulator"),
    ]
