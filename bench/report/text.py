"""A quick run's answer for a terminal: the answer in plain words first, then the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.analysis.statistics import Impact
from bench.analysis.verdict import Judgement, Outcome
from bench.oracle.invariants import INVARIANTS, Verification
from bench.quick.result import PAIR_S, QuickResult
from bench.report.verification import verification_table

_COLOURS = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "bold yellow",
    "INVALID": "bold magenta",
}
_IN_WORDS = {
    Outcome.PASS: "every target is met with the whole interval",
    Outcome.FAIL: "a target is missed with the whole interval",
    Outcome.INCONCLUSIVE: "an interval straddles its target: this run cannot say",
    Outcome.INVALID: "the measurement itself cannot be believed",
}


def print_quick(result: QuickResult, console: Console, path: str) -> None:
    """Print the whole answer."""
    console.print()
    console.print(answer(result))
    console.print(_metrics_table(result))
    for line in (*_failed(result), *result.notes, *_doubts(result)):
        console.print(Text(line))
    if result.batch_sizes:
        console.print(_batch_table(result))
    for line in _concurrency(result):
        console.print(Text(line))
    for name, verification in result.verifications.items():
        console.print(Text(_verified(name, verification)))
        if verification.violations:
            console.print(verification_table(verification, f"Arm {name}: what was stored, against the truth"))
    console.print(Text(f"result: {path}"))


def answer(result: QuickResult) -> RenderableType:
    """The answer in a few lines of words."""
    settings, plant = result.settings, result.json["plant"]
    ms, wal, machines = plant["ms_per_scan"], plant["wal_bytes_per_machine_day"], plant["machines"]
    lines = [
        Text.assemble(
            (result.outcome.value, _COLOURS[result.outcome.value]), f": {_IN_WORDS[result.outcome]}"
        )
    ]
    lines += [Text(f"  INVALID because {reason}") for reason in result.invalid]
    lines += [
        Text(
            f"{settings.b} instead of {settings.a}, {settings.parameters} parameters a scan, one scan a "
            f"transaction, process {'running' if settings.running else 'idle'}"
            f"{', read over Modbus TCP' if settings.plc else ''}:"
        ),
        Text(f"  {_goodput(result)}"),
        *(Text(f"  {judgement.in_words()}") for judgement in result.comparison.judgements),
        Text(
            f"In the plant: {ms['b'] - ms['a']:+.2f} ms a scan ({ms['a']:.2f} -> {ms['b']:.2f} ms); WAL of a "
            f"machine at one scan a second {_bytes(wal['a'])} -> {_bytes(wal['b'])} a day; one connection "
            f"carries {machines['a']:,} -> {machines['b']:,} such machines at saturation."
        ),
    ]
    return Group(*lines)


def _goodput(result: QuickResult) -> str:
    """Transactions that were stored: failed and skipped ones are none."""
    throughput = result.comparison.metric("throughput")
    shares = [f"{ok / max(1, tried):.2%}" for ok, tried in result.comparison.success]
    return (
        f"goodput at saturation {throughput.a:,.0f} -> {throughput.b:,.0f} stored transactions/s; of all "
        f"that were due {shares[0]} -> {shares[1]} were stored"
    )


def _failed(result: QuickResult) -> Iterator[str]:
    """What was given up, and how long that took; never mixed with the latencies of what was stored."""
    for arm, (failures, failed) in result.comparison.failures.items():
        if not failures:
            continue
        counts = ", ".join(f"{count:,} × {name}" for name, count in failures.items())
        took = (
            f"; they took {failed.mean_us / 1000:.2f} ms in the mean, {failed.max_us / 1000:.2f} ms at most"
        )
        yield f"arm {arm} failed: {counts}{took if failed.count else ''}"


def _metrics_table(result: QuickResult) -> Table:
    settings = result.settings
    table = Table(box=box.SIMPLE_HEAD, title=f"A {settings.a}, B {settings.b}", title_justify="left")
    for column, justify in (
        ("figure", "left"),
        ("A", "right"),
        ("B", "right"),
        ("B costs", "right"),
        ("95 % interval", "right"),
        ("judged", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    levels = {judgement.metric: judgement for judgement in result.comparison.judgements}
    for metric in result.comparison.metrics:
        cost, judgement = metric.cost, levels.get(metric.name)
        table.add_row(
            Text(f"{metric.name} [{metric.unit}]"),
            _figure(metric.a),
            _figure(metric.b),
            _percent(cost.effect) if cost else "n/a",
            f"{_percent(cost.low)} to {_percent(cost.high)}" if cost else "too few values",
            f"{judgement.level} {judgement.outcome.value}"
            if judgement
            else f"{metric.shown_class or 'shown'}, not judged",
        )
    (ok_a, tried_a), (ok_b, tried_b) = result.comparison.success
    success = levels["success"]
    table.add_row(
        Text("success [%]"),
        f"{100 * ok_a / max(1, tried_a):.2f}",
        f"{100 * ok_b / max(1, tried_b):.2f}",
        "",
        f"worse arm above {success.value:.2%}",
        success.outcome.value,
    )
    wal_a, wal_b = result.comparison.wal_bytes
    table.add_row(
        Text("WAL a transaction [kB]"),
        _figure(wal_a / 1000),
        _figure(wal_b / 1000),
        _percent(wal_b / wal_a - 1 if wal_a else math.nan),
        "",
        "shown, not judged",
    )
    return table


def _doubts(result: QuickResult) -> Iterator[str]:
    """What difference this run could have seen, and how long a run would settle what it left open."""
    yield f"{result.settings.pairs} pairs of slots; a run like this one sees differences of at least:"
    for judgement in result.comparison.judgements:
        cost = judgement.cost
        if cost is None:
            continue
        if math.isnan(cost.effect):
            yield f"  {judgement.metric}: n/a, a slot has no figure"
            continue
        line = f"  {judgement.metric}: {cost.detectable:.1%}"
        if judgement.outcome is Outcome.INCONCLUSIVE:
            line += f"; {_to_settle(judgement, cost)}"
        yield line


def _to_settle(judgement: Judgement, cost: Impact) -> str:
    loss = judgement.metric == "throughput"
    ratio = cost.negated() if loss else cost
    pairs = ratio.pairs_to_settle(-judgement.target if loss else judgement.target)
    if pairs is None or pairs * PAIR_S > 24 * 3600:
        return "it stands so close to its target that no run of a day would settle it"
    return f"--duration {math.ceil(max(pairs, cost.pairs + 1) * PAIR_S)} should settle it"


def _batch_table(result: QuickResult) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title="Parameters per scan (a first look: no class)", title_justify="left"
    )
    for column in ("parameters", "A [parameters/s]", "B [parameters/s]", "B loses"):
        table.add_column(Text(column), justify="right")
    for size in result.batch_sizes:
        table.add_row(
            str(size.parameters), f"{size.a_per_s:,.0f}", f"{size.b_per_s:,.0f}", _percent(size.loss)
        )
    return table


def _concurrency(result: QuickResult) -> Iterator[str]:
    for name, check in result.concurrency.items():
        failed = ", ".join(f"{count} × {code}" for code, count in check.failures.items()) or "none failed"
        yield (
            f"{check.writers} writers on the same {result.settings.parameters} parameters, {name}: "
            f"{check.per_second:,.0f} transactions/s, {failed}, {check.deadlocks} deadlocks, "
            f"{check.verification.violations} violations"
        )


def _verified(name: str, verification: Verification) -> str:
    checks = verification.checks.values()
    if not verification.rows and all(c.not_applicable for c in checks if c.invariant in INVARIANTS):
        own = [c for c in checks if c.invariant not in INVARIANTS and not c.not_applicable]
        said = ", ".join(c.invariant for c in own if not c.violations) or "none"
        return f"arm {name}: {verification.violations:,} violations ({said} hold; I1 to I6 not checked)"
    held = " ".join(check.invariant for check in checks if not check.violations and not check.not_applicable)
    return (
        f"arm {name}: {verification.checks['I4'].checked:,} stored values checked against the truth, "
        f"{verification.violations:,} violations ({held or 'none'} hold)"
    )


def _percent(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{share:+.1%}"


def _figure(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 1 else f"{value:.2f}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
