"""Part memory: what a logger needs by parameters and by scans of a transaction, and whether it leaks."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from bench.analysis.finding import Finding
from bench.analysis.leak import FEWEST_WINDOWS, LeakVerdict, judge_leak
from bench.analysis.statistics import mean_interval
from bench.analysis.verdict import Judgement, Outcome, judge_most
from bench.load.arms import spawn_worker, workers_alive
from bench.report.table import Table
from bench.section import Section
from bench.suite.checked import check, not_measured
from bench.suite.context import Suite
from bench.suite.crowd import crowd_device
from bench.suite.memory_probe import MemoryUse, ProbeSettings, probe
from bench.suite.plan import SuitePlan
from bench.suite.words import megabytes, milliseconds

NAME = "memory"
TITLE = "memory of a logger by parameters and by scans of a transaction, and over time"

_NAN = math.nan
_START_S = 1.3
"""Of a process."""
_SIZES = ("repository", "parameters", "scans", "used MB", "peak MB", "backend MB", "transactions", "mean ms")
_SIZES_NOTE = (
    "Each size in a process of its own. Used: private memory after the run above what it had before it "
    "connected; peak: the kernel's high-water mark above the same moment. The backend's "
    "is its private memory as a whole. 1 MB = 10^6 bytes. Of several processes the mean."
)
_FEWEST_BYTES = 200_000
"""So much must the budget allow in the time: a few pages come and go without being a leak."""
_LEAK = ("repository", "of", "slope MB/h", "95 % interval", "smallest leak seen", "judged", "why")


def _sizes(plan: SuitePlan) -> dict[tuple[int, int], int]:
    """(parameters, scans of a transaction) and in how many processes each is measured."""
    own = plan.parameters
    sizes = [(n, 1) for n in plan.memory.parameters] + [(own, n) for n in plan.memory.scans]
    return {size: max(plan.memory.repeats, 2 if size == (own, 1) else 1) for size in sizes}


def planned_seconds(plan: SuitePlan) -> float:
    """Both arms at once: they share a core's time, not memory."""
    memory = plan.memory
    return sum(_sizes(plan).values()) * (memory.slot_s + _START_S) + memory.leak_s + 4


def run(bench: Suite, section: Section) -> None:
    """Sizes, then time; raises DatabaseError."""
    plan, sizes = bench.plan.memory, _sizes(bench.plan)
    section.tables.append(Table("Memory of one logger", _SIZES, note=_SIZES_NOTE))
    parameters = bench.plan.parameters
    devices = [crowd_device(n, 0) for n in dict.fromkeys(n for n, _ in sizes)] + [crowd_device(parameters, 1)]
    with ExitStack() as stack:
        schemas = [stack.enter_context(bench.schema(devices, arm, NAME)) for _, arm in bench.letters]
        arms = list(zip(schemas, bench.arms, strict=True))
        rows = [0, 0]
        for size, repeats in sizes.items():
            uses: list[list[MemoryUse]] = [[], []]
            for _ in range(repeats):
                asked = [ProbeSettings(bench.conninfo, *arm, *size, plan.slot_s) for arm in arms]
                for index, use in enumerate(_probed(asked)):
                    uses[index].append(use)
                    rows[index] += use.rows
                bench.say("memory by size", plan.slot_s + _START_S)
            for arm, of_arm in zip(bench.arms, uses, strict=True):
                _show_size(section, arm, size, of_arm)
        _slopes(section, bench, [n for n, scans in sizes if scans == 1])
        over_time = [
            ProbeSettings(
                *(bench.conninfo, *arm, parameters, 1, plan.leak_s),
                device=1,
                rate_per_s=plan.leak_rate_per_s,
                window_s=plan.leak_window_s,
            )
            for arm in arms
        ]
        _leaks(bench, section, over_time, rows)
        bench.say("memory over time", plan.leak_s)
        for (letter, arm), schema, stored in zip(bench.letters, schemas, rows, strict=True):
            check(bench, section, letter, arm, schema, stored)


def _probed(all_settings: Sequence[ProbeSettings]) -> list[MemoryUse]:
    """Each in a fresh process, all at once."""
    with ExitStack() as stack, workers_alive():
        workers = [stack.enter_context(spawn_worker(signal.SIGTERM)) for _ in all_settings]
        pairs = zip(workers, all_settings, strict=True)
        return [future.result() for future in [worker.submit(probe, each) for worker, each in pairs]]


def _show_size(section: Section, arm: str, size: tuple[int, int], uses: Sequence[MemoryUse]) -> None:
    parameters, scans = size
    used, peak = (_mean([getattr(use, kind) for use in uses]) for kind in ("used_bytes", "peak_bytes"))
    backend = _mean([_NAN if use.backend_bytes is None else use.backend_bytes for use in uses])
    transactions, duration = sum(use.transactions for use in uses), _mean([u.duration.mean_us for u in uses])
    of_size = (str(parameters), str(scans), *map(megabytes, (used, peak, backend)))
    section.tables[0].rows.append((arm, *of_size, f"{transactions:,}", milliseconds(duration)))
    section.figures.setdefault(arm, {})[f"{parameters} parameters, {scans} scans"] = {
        "used_bytes": used,
        "peak_bytes": peak,
        "interpreter_bytes": _mean([use.interpreter_bytes for use in uses]),
        "backend_bytes": backend,
        "processes": len(uses),
        "transactions": transactions,
        "duration_mean_us": duration,
    }
    rates = [rate for use in uses for rate in use.rates_per_s]
    cell = f"{NAME}: {parameters} parameters, {scans} scans a transaction"
    at = {"repository": arm, "parameters": parameters, "scans": scans}
    if len(rates) > 1:  # both arms at once, so half of the machine: sizes compare, levels do not
        rate = mean_interval(rates)
        section.findings.append(
            Finding("parameters_per_s", *rate, "values/s", cell, at | {"half_machine": True})
        )
    whole = [(use.interpreter_bytes + use.peak_bytes) / 1e6 for use in uses]
    mean, low, high = mean_interval(whole) if len(whole) > 1 else (whole[0], _NAN, _NAN)
    section.findings.append(Finding("memory_mb", mean, low, high, "MB", cell, at))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _slopes(section: Section, bench: Suite, sizes: Sequence[int]) -> None:
    """Bytes a parameter: the line through the sizes with one scan."""
    for arm in dict.fromkeys(bench.arms):
        figures = section.figures[arm]
        for kind in ("used", "peak"):
            used = [figures[f"{n} parameters, 1 scans"][f"{kind}_bytes"] for n in sizes]
            if len(set(sizes)) > 1:
                figures[f"{kind}_bytes_per_parameter"] = round(float(np.polyfit(sizes, used, 1)[0]), 1)


def _leaks(bench: Suite, section: Section, over_time: Sequence[ProbeSettings], rows: list[int]) -> None:
    plan = bench.plan.memory
    note = (
        f"{plan.leak_rate_per_s:g} transactions/s for {plan.leak_s:g} s; minima of windows of "
        f"{plan.leak_window_s:g} s after the warm-up, Mann-Kendall and Theil-Sen. Budget "
        f"{plan.leak_budget_mb_per_h:g} MB/h. A run too short to see a leak of that size is not judged."
    )
    table = Table("Memory over time", _LEAK, note=note)
    section.tables.append(table)
    for index, use in enumerate(_probed(over_time)):
        arm = over_time[index].arm
        rows[index] += use.rows
        for whose, used in (("worker", use.worker_bytes), ("backend", use.backend_over_time)):
            if len(used) != len(use.times_s):
                not_measured(section, f"backend's memory of {arm}", "the server is on another machine")
                continue
            verdict = judge_leak(use.times_s, used, plan.leak_budget_mb_per_h, plan.leak_window_s)
            judgement = _judged(verdict, arm, whose, plan.leak_s)
            _show_leak(section, table, arm, whose, verdict, judgement)
            section.figures[arm][f"{whose}_over_time"] = verdict.to_json() | {
                "times_s": [round(at, 2) for at in use.times_s],
                "private_bytes": list(used),
            }


def _judged(verdict: LeakVerdict, arm: str, whose: str, seconds: float) -> Judgement | None:
    """None where the run was too short to see a leak as large as the budget: then it says nothing."""
    allowed = verdict.budget_mb_per_h * 1e6 * seconds / 3600
    is_blind = verdict.windows < FEWEST_WINDOWS or not verdict.detectable_mb_per_h <= verdict.budget_mb_per_h
    if allowed < _FEWEST_BYTES or (is_blind and not verdict.is_leak):
        return None
    name, slope = f"memory growth of {arm}, {whose}", verdict.slope_mb_per_h
    judged = judge_most(name, slope, verdict.low, verdict.high, verdict.budget_mb_per_h, "MB/h")
    if verdict.is_leak or judged.outcome is not Outcome.FAIL:
        return judged
    return judge_most(name, slope, _NAN, _NAN, verdict.budget_mb_per_h, "MB/h")  # it rises, but not as a leak


def _show_leak(
    section: Section,
    table: Table,
    arm: str,
    whose: str,
    verdict: LeakVerdict,
    judgement: Judgement | None,
) -> None:
    interval = f"{verdict.low:,.2f} to {verdict.high:,.2f}"
    smallest = f"{verdict.detectable_mb_per_h:,.2f} MB/h"
    said = judgement.outcome.value if judgement else "not judged: too short for this budget"
    table.rows.append((arm, whose, f"{verdict.slope_mb_per_h:,.2f}", interval, smallest, said, verdict.why))
    if judgement:
        section.judgements.append(judgement)
    if whose == "worker":
        outcome = judgement.outcome if judgement else Outcome.INCONCLUSIVE
        slope, low, high = verdict.slope_mb_per_h, verdict.low, verdict.high
        at = {"repository": arm, "detectable": verdict.detectable_mb_per_h}
        cell = f"{NAME}: over time"
        section.findings.append(
            Finding("memory_growth_mb_per_h", slope, low, high, "MB/h", cell, at, outcome)
        )
