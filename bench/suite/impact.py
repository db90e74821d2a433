"""Part impact: what B costs over A, at saturation, at one rate that both carry, and end to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.analysis.comparison import Comparison, Metric, compare, slot_json
from bench.analysis.finding import Finding
from bench.analysis.statistics import Impact, mean_interval
from bench.analysis.verdict import Judgement, aa_gate
from bench.load.failures import Failure
from bench.load.slots import Pair
from bench.load.work import SlotRequest
from bench.measuring.latency import Merged
from bench.report.table import Table
from bench.section import Section
from bench.suite import end_to_end
from bench.suite.context import Suite
from bench.suite.histograms import LATENCY_COLUMNS, Histograms, latency_cells, latency_figures
from bench.suite.paired import RAMP_S, PairedArms, loops, paired_arms
from bench.suite.plan import SuitePlan

NAME = "impact"
TITLE = "what B costs over A: throughput at saturation, latency at one rate both carry, end to end"

_WARM_UP_S = 0.6
_STARTING_S = 5.0
"""Of two arms: workers, scans made beforehand, and the oracle at the end."""
_FINDINGS = {
    "throughput": "throughput_loss",
    "median response": "latency_increase",
    "memory": "memory_increase",
    "CPU": "cpu_increase",
    "cpu": "cpu_increase",
}
"""A metric's name in a finding."""


def planned_seconds(plan: SuitePlan) -> float:
    mine = plan.impact
    pairs = mine.pairs + mine.noise_pairs
    slots_s = pairs * 2 * (2 * mine.slot_s + RAMP_S + 0.05)
    return 2 * (_STARTING_S + 4 * _WARM_UP_S) + slots_s + end_to_end.planned_seconds(plan)


def run(bench: Suite, section: Section) -> None:
    """First A against itself: what cannot be told apart here; then B against A; then over Modbus."""
    histograms = Histograms()
    noise, _ = _compared(bench, section, (bench.arms[0], bench.arms[0]), histograms, "A/A ")
    _gate(section, noise, bench)
    found, pairs = _compared(bench, section, bench.arms, histograms, "")
    _take(bench, section, found, noise, pairs)
    histograms.write(bench.folder, NAME)
    bench.say("impact: over Modbus TCP", 0.0)
    end_to_end.run(bench, section)


def _compared(
    bench: Suite, section: Section, arms: tuple[str, str], histograms: Histograms, prefix: str
) -> tuple[Comparison, list[Pair]]:
    mine = bench.plan.impact
    pairs_planned = mine.noise_pairs if prefix else mine.pairs
    slot_s = 2 * mine.slot_s + RAMP_S
    with paired_arms(bench, arms, bench.plan.parameters) as paired:
        bench.say(f"impact: {prefix}warm-up", _STARTING_S / 2 + 4 * _WARM_UP_S)
        rate = max(1.0, mine.share_of_capacity * paired.warm_up(_WARM_UP_S))
        request = SlotRequest(bench.plan.parameters, RAMP_S, mine.slot_s, mine.slot_s, rate)
        pairs = paired.run(
            request,
            pairs_planned,
            bench.seed + bool(prefix),
            lambda: bench.say(f"impact: {prefix}pairs", slot_s),
        )
        paired.keep_histograms(pairs, histograms, prefix.replace("/", "").strip() + "-" if prefix else "")
        paired.check(section, pairs, prefix)
        bench.say(f"impact: {prefix}verify", _STARTING_S / 2)
    comparison = compare(pairs, bench.targets, bench.seed)
    _note(section, prefix, paired, pairs, comparison, rate)
    return comparison, pairs


def _note(
    section: Section, prefix: str, paired: PairedArms, pairs: list[Pair], found: Comparison, rate: float
) -> None:
    """All figures of one comparison."""
    section.figures["noise" if prefix else "pairs"] = {
        "fixed_rate_per_s": rate,
        "arms": [arm.repository for arm in paired.arms],
        "metrics": [
            {
                "name": metric.name,
                "unit": metric.unit,
                "a": metric.a,
                "b": metric.b,
                "cost": metric.cost.to_json() if metric.cost else None,
                "detectable_share": metric.cost.detectable if metric.cost else None,
            }
            for metric in found.metrics
        ],
        "latency": {
            kind: {"a": latency_figures(a), "b": latency_figures(b)}
            for kind, (a, b) in found.histograms.items()
        },
        "success": {"a": list(found.success[0]), "b": list(found.success[1])},
        "failures": {letter: _failures(pairs, letter) for letter in "AB"},
        "wal_bytes_per_transaction": {"a": found.wal_bytes[0], "b": found.wal_bytes[1]},
        "slots": [slot_json(slot) for pair in pairs for slot in (pair.a, pair.b)],
    }


def _gate(section: Section, noise: Comparison, bench: Suite) -> None:
    """Where A differs from itself by more than half of a target, no target can be judged here.

    A difference below the floor at which a share begins to count is none.
    """
    floors = {
        "median response": bench.targets.latency_floor_ms,
        "memory": bench.targets.memory_floor_mb,
    }
    for judgement in noise.judgements:
        if judgement.cost is None:
            continue
        metric = noise.metric(judgement.metric)
        most = metric.a * max(abs(judgement.cost.low), abs(judgement.cost.high))
        why = aa_gate(judgement.cost, judgement.target)
        if why and not most < floors.get(judgement.metric, 0.0):
            section.invalid.append(f"{judgement.metric}, {why}")


def _take(
    bench: Suite, section: Section, found: Comparison, noise: Comparison, pairs: Sequence[Pair]
) -> None:
    a, b = bench.arms
    section.judgements += found.judgements
    judged = {judgement.metric: judgement for judgement in found.judgements}
    section.tables.append(_impact_table(bench, found, noise, judged))
    section.tables.append(_latency_table(found, pairs))
    at = {"a": a, "b": b, "repository": b, "parameters": bench.plan.parameters}
    for metric in found.metrics:
        name = _FINDINGS.get(metric.name)
        if name and metric.cost is not None:
            cost, judgement = metric.cost, judged.get(metric.name)
            outcome = judgement.outcome if judgement else None
            section.findings.append(
                Finding(name, cost.effect, cost.low, cost.high, "share", f"{NAME}, pairs", at, outcome)
            )
    success = judged["success"]
    section.findings.append(
        Finding(
            "success", success.low, success.low, success.high, "share", f"{NAME}, pairs", at, success.outcome
        )
    )
    section.findings += _costs(bench, pairs)


def _costs(bench: Suite, pairs: Sequence[Pair]) -> Iterator[Finding]:
    """What a transaction of each arm takes, with its interval over slots."""
    for letter, arm in bench.letters:
        at = {"repository": arm, "parameters": bench.plan.parameters}
        cell = f"{NAME}, pairs, {letter}"
        slots = [pair.a if letter == "A" else pair.b for pair in pairs]
        wal = [slot.wal_bytes / slot.result.transactions for slot in slots if slot.result.transactions]
        yield Finding("wal_bytes", *mean_interval(wal), "B", cell, at)
        cpu_us = [
            1e6 * (loop.cpu_s + loop.backend_cpu_s) / loop.transactions
            for loop in loops(pairs, letter, "saturated")
            if loop.transactions and loop.backend_cpu_s is not None
        ]
        if cpu_us:
            yield Finding("cpu_us", *mean_interval(cpu_us), "µs", cell, at)


def _failures(pairs: Sequence[Pair], letter: str) -> dict[str, int]:
    """What was not stored, and what was at a later try, by kind."""
    counts: Counter[str] = Counter()
    for kind in ("saturated", "paced"):
        for loop in loops(pairs, letter, kind):
            counts.update(loop.failures)
            counts.update({Failure.SKIPPED.value: loop.skipped, Failure.RETRIED.value: loop.retried})
    return {kind: count for kind, count in counts.items() if count}


def _impact_table(bench: Suite, found: Comparison, noise: Comparison, judged: dict[str, Judgement]) -> Table:
    table = Table(
        f"B ({bench.arms[1]}) against A ({bench.arms[0]}), {bench.plan.parameters} parameters a scan",
        ["figure", "A", "B", "B costs", "95 % interval", "seen from", "A against A", "judged"],
        note="Throughput at saturation, where a latency is only its reciprocal; latency at one fixed rate, "
        "from the intended start. Seen from: the smallest difference that a run like this finds in four of "
        "five. A against A: the interval of no difference at all.",
    )
    for metric in found.metrics:
        same = next(one for one in noise.metrics if one.name == metric.name)
        judgement = judged.get(metric.name)
        table.rows.append(
            [
                f"{metric.name} [{metric.unit}]",
                _figure(metric.a),
                _figure(metric.b),
                f"{metric.cost.effect:+.1%}" if metric.cost else "-",
                _interval(metric.cost),
                f"{metric.cost.detectable:.1%}" if _is_known(metric) and metric.cost else "-",
                _interval(same.cost),
                f"{judgement.level} {judgement.outcome.value}".strip()
                if judgement
                else f"{metric.shown_class}, not judged".removeprefix(", "),
            ]
        )
    return table


def _is_known(metric: Metric) -> bool:
    return metric.cost is not None and metric.cost.detectable == metric.cost.detectable


def _latency_table(found: Comparison, pairs: Sequence[Pair]) -> Table:
    table = Table(
        "Latency at the fixed rate, and service at saturation [ms]",
        ["figure", "arm", *LATENCY_COLUMNS],
        note="Service at saturation hides what waits: at a closed loop nothing is due while one is slow.",
    )
    for kind, both in found.histograms.items():
        for letter, merged in zip("AB", both, strict=True):
            table.rows.append([kind, letter, *latency_cells(latency_figures(merged))])
    for letter in "AB":
        waits = [loop.pool_wait for loop in loops(pairs, letter, "paced") if loop.pool_wait.count]
        if waits:
            figures = latency_figures(Merged(waits))
            table.rows.append(["wait for a pool's connection", letter, *latency_cells(figures)])
    return table


def _interval(cost: Impact | None) -> str:
    return f"{cost.low:+.1%} to {cost.high:+.1%}" if cost is not None else "too few values"


def _figure(value: float) -> str:
    if value != value:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
