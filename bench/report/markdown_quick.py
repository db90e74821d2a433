"""A stored quick run as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.analysis.verdict import Judgement, shown_class
from bench.report.markdown_sections import verification_table
from bench.report.table import Table, in_cell


def quick_blocks(result: dict[str, Any]) -> Iterator[str]:
    """Judgements in words, then tables; the plant's units between."""
    settings = result["settings"]
    arms = f"B = {settings['b']} instead of A = {settings['a']}"
    yield f"{in_cell(arms)}, {settings['parameters']} parameters a scan.\n"
    lines = [f"INVALID because {reason}" for reason in result["invalid"]]
    lines += [Judgement.from_json(data).in_words() for data in result["judgements"]]
    lines += result.get("notes", ())
    yield "".join(f"- {in_cell(line)}\n" for line in lines)
    yield _plant(result)
    yield _metrics(result).to_markdown()
    for arm, counts in result.get("failures", {}).items():
        if counts:
            shown = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
            yield f"Arm {arm} did not store: {in_cell(shown)}.\n"
    if result["parameters_per_scan"]:
        yield _sizes(result["parameters_per_scan"]).to_markdown()
    for name, check in result["concurrency"].items():
        failed = ", ".join(f"{count} × {code}" for code, count in check["failures"].items()) or "none failed"
        yield (
            f"{check['writers']} writers on the same parameters, {in_cell(name)}: {check['per_second']:,.0f} "
            f"transactions/s, {failed}, {check['deadlocks']} deadlocks, "
            f"{check['verification']['violations']} violations.\n"
        )
    for name, data in result["verification"].items():
        yield verification_table(f"Arm {name}", data).to_markdown()
    disturbed = [slot for slot in result["slots"] if slot["disturbed"]]
    for slot in disturbed:
        yield f"- slot {slot['position']} of {slot['arm']} was disturbed: {'; '.join(slot['disturbed'])}"


def _plant(result: dict[str, Any]) -> str:
    plant = result["plant"]
    ms, wal, machines = plant["ms_per_scan"], plant["wal_bytes_per_machine_day"], plant["machines"]
    return (
        f"In the plant: {_ms(ms['a'])} -> {_ms(ms['b'])} ms a scan; WAL of a machine at one scan a second "
        f"{wal['a'] / 1e9:.2f} -> {wal['b'] / 1e9:.2f} GB a day; one connection carries {machines['a']:,} -> "
        f"{machines['b']:,} such machines at saturation.\n"
    )


def _metrics(result: dict[str, Any]) -> Table:
    rows: list[Sequence[str]] = [
        (
            f"{metric['name']} [{metric['unit']}]",
            _figure(metric["a"]),
            _figure(metric["b"]),
            _share(metric["cost"], "effect"),
            f"{_share(metric['cost'], 'low')} to {_share(metric['cost'], 'high')}",
            "judged" if metric["judged"] else _class(metric) or "shown",
        )
        for metric in result["metrics"]
    ]
    pairs = result["settings"]["pairs"]
    return Table(
        f"A {result['settings']['a']}, B {result['settings']['b']}",
        ("figure", "A", "B", "B costs", "95 % interval", ""),
        rows,
        f"{pairs} pairs of slots; positive costs are worse",
    )


def _sizes(sizes: list[dict[str, Any]]) -> Table:
    return Table(
        "Parameters per scan",
        ("parameters", "A [values/s]", "B [values/s]", "B loses"),
        [
            (str(s["parameters"]), f"{s['a_per_s']:,.0f}", f"{s['b_per_s']:,.0f}", _share(s, "loss"))
            for s in sizes
        ],
        "a first look: two pairs each, no interval, no class",
    )


def _share(cost: dict[str, Any] | None, key: str) -> str:
    return "n/a" if cost is None or cost[key] is None else f"{cost[key]:+.1%}"


def _class(metric: dict[str, Any]) -> str:
    cost = metric["cost"]
    if cost is None or cost["low"] is None or cost["high"] is None:
        return ""
    return shown_class(metric["name"], cost["low"], cost["high"])


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _figure(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
