"""Two results beside each other, for a terminal: the answer first, then every line."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from bench.analysis.compare import Change, Line
from bench.analysis.verdict import Outcome
from bench.compare.run import Compared
from bench.report.sections import OUTCOME_COLOURS
from bench.report.table import Table

_MOST_NAMES = 4
_ANSWERS = {
    Outcome.PASS: "no headline figure of B is worse",
    Outcome.FAIL: "a headline figure of B is worse with its whole interval",
    Outcome.INCONCLUSIVE: "of a headline figure nobody can tell, or B has none",
    Outcome.INVALID: "a run cannot be believed",
}


def print_compared(compared: Compared, console: Console) -> None:
    """Print the whole comparison."""
    outcome = compared.outcome
    decides = any(line.before.is_headline for line in compared.lines) or outcome is Outcome.INVALID
    answer = _ANSWERS[outcome] if decides else "the results have no judged figure in common"
    console.print(Text.assemble((outcome.value, OUTCOME_COLOURS[outcome]), f": {answer}"))
    for line in compared_lines(compared):
        console.print(Text(f"  {line}"), soft_wrap=True)
    for table in compared_tables(compared):
        console.print(table.to_rich())


def compared_lines(compared: Compared) -> Iterator[str]:
    """What one must know beside the figures."""
    yield f"A {compared.a.path}"
    yield f"B {compared.b.path}"
    yield from compared.invalid
    yield from (f"accepted: {difference}" for difference in compared.accepted)
    yield from (f"changed: {difference}" for difference in compared.changed)
    yield from (f"doubt: {doubt}" for doubt in compared.doubts)
    yield from (
        f"nobody can tell: {name} was not judged in both, or not believed" for name in compared.untold
    )
    for name, missing in zip("AB", compared.only_in, strict=True):
        if missing:
            more = f" and {len(missing) - _MOST_NAMES} more" if len(missing) > _MOST_NAMES else ""
            yield f"only in {name}: {'; '.join(missing[:_MOST_NAMES])}{more}"


def compared_tables(compared: Compared) -> Iterator[Table]:
    """Headlines, then what explores."""
    headlines = [line for line in compared.lines if line.before.is_headline]
    others = [line for line in compared.lines if not line.before.is_headline]
    note = (
        f"a change within ±{compared.margin:.0%} (points, where the figure is a share) is none; "
        "95 % intervals from those of both runs"
    )
    if headlines:
        yield _table("What decides", headlines, note)
    if others:
        told = sum(line.change not in (Change.UNKNOWN, Change.NOT_COMPARABLE) for line in others)
        by_chance = (
            f"of {told} lines that can be told about {math.ceil(told / 20)} would differ by chance alone; "
            "the intervals hold what varied within each run, not what varies from run to run"
        )
        yield _table("Exploratory", others, by_chance if told else "")


def _table(title: str, lines: list[Line], note: str) -> Table:
    return Table(
        title,
        ("figure", "A", "B", "B over A", "95 % interval", "B is"),
        [
            (
                f"{line.before.name} [{'%' if line.before.unit == 'share' else line.before.unit}]",
                _figure(line.before.value, line.before.unit),
                _figure(line.after.value, line.after.unit),
                _effect(line, line.effect),
                f"{_effect(line, line.low)} to {_effect(line, line.high)}"
                if math.isfinite(line.low)
                else "n/a",
                line.change.value + (f": {line.why}" if line.why else ""),
            )
            for line in lines
        ],
        note,
    )


def _figure(value: float, unit: str) -> str:
    if math.isnan(value):
        return "n/a"
    if unit == "share":
        return f"{100 * value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _effect(line: Line, effect: float) -> str:
    if math.isnan(effect):
        return "n/a"
    if not line.before.is_share:
        return f"{effect:+.1%}"
    return f"{100 * effect:+.1f} pp" if line.before.unit == "share" else f"{effect:+.3g}"
