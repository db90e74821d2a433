"""Two stored results beside each other: what changed, what did not, and what nobody can tell."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.analysis.compare import MARGIN, Change, Line, Measure, compare_measures
from bench.analysis.fingerprint import Difference, comparability_key, differences, doubts
from bench.analysis.verdict import Outcome
from bench.compare.quick_measures import quick_measures, rates_apart
from bench.compare.scope import scope_differences
from bench.compare.section_measures import cells_together, judged_sections, section_measures, unbelieved
from bench.compare.stored import Stored
from plcsim.errors import InputError

ALL = "all"


@dataclass(frozen=True)
class Compared:
    """What comparing two results gave."""

    a: Stored
    b: Stored
    margin: float
    lines: list[Line]
    only_in: tuple[list[str], list[str]]
    """Names of measures that only A, only B has."""
    accepted: list[Difference]
    """That forbid a comparison, but are the question."""
    changed: list[Difference]
    """That may be the cause: code, packages, arms."""
    doubts: list[str]
    invalid: list[str]
    untold: list[str]
    """Sections by which A was judged, or which were begun, and that may not be believed of both runs."""

    @property
    def outcome(self) -> Outcome:
        """FAIL if a headline is worse, INCONCLUSIVE if one cannot be told, INVALID if a run is."""
        headlines = {line.change for line in self.lines if line.before.is_headline}
        if self.invalid:
            return Outcome.INVALID
        if Change.WORSE in headlines:
            return Outcome.FAIL
        if not headlines or self.untold or headlines & {Change.UNKNOWN, Change.NOT_COMPARABLE}:
            return Outcome.INCONCLUSIVE
        return Outcome.PASS

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.a.kind,
            "a": str(self.a.path),
            "b": str(self.b.path),
            "comparability_keys": [comparability_key(each.environment) for each in (self.a, self.b)],
            "margin": self.margin,
            "outcome": self.outcome.value,
            "invalid": self.invalid,
            "doubts": self.doubts,
            "untold": self.untold,
            "accepted": [str(difference) for difference in self.accepted],
            "changed": [str(difference) for difference in self.changed],
            "lines": [line.to_json() for line in self.lines],
            "only_in_a": self.only_in[0],
            "only_in_b": self.only_in[1],
        }


def compare_results(a: Stored, b: Stored, margin: float = MARGIN, accept: Collection[str] = ()) -> Compared:
    """Compare two results of one kind.

    `accept` names differences that are the question themselves; with `all` whatever differs is shown side by
    side, and absolute figures are marked as not comparable. Raises InputError if the kinds differ, or what
    else must be equal and is not accepted.
    """
    if a.kind != b.kind:
        raise InputError(f"{a.path} is a {a.kind} and {b.path} a {b.kind}: only equal kinds can be compared")
    found = [*scope_differences(a, b), *differences(a.environment, b.environment)]
    forbidding = [difference for difference in found if difference.forbids]
    refused = [each for each in forbidding if each.name not in accept and ALL not in accept]
    if refused:
        hint = f"--accept {refused[0].name} if that is the question"
        raise InputError(f"not comparable: {'; '.join(map(str, refused))} ({hint})")
    _know(accept, found)
    lines, only_in = _lines(a, b, margin)
    unasked = [difference for difference in forbidding if difference.name not in accept]
    compared = Compared(
        a, b, margin, lines, only_in, forbidding, [each for each in found if not each.forbids],
        doubts(a.environment, b.environment), _invalid(a, b), _untold(a, b),
    )  # fmt: skip
    return _judged(compared, unasked)


def _know(accept: Collection[str], found: Sequence[Difference]) -> None:
    unknown = [name for name in accept if name != ALL and name not in {each.name for each in found}]
    if unknown:
        names = ", ".join(each.name for each in found) or "nothing"
        raise InputError(f"--accept {unknown[0]}: that does not differ; what differs: {names}")


def _invalid(a: Stored, b: Stored) -> list[str]:
    found = []
    for name, each in (("A", a), ("B", b)):
        if each.kind == "quick" and each.content["outcome"] == Outcome.INVALID.value:
            found.append(f"{name} is INVALID: {'; '.join(each.content['invalid'])}")
        for section in each.content.get("sections", ()) if each.kind == "replay" else ():
            if section["outcome"] == Outcome.INVALID.value:
                why = [section["error"]] if section["error"] else section["invalid"]
                found.append(f"{name} is INVALID: {'; '.join(why) or 'the oracle found violations'}")
    return found


def _untold(a: Stored, b: Stored) -> list[str]:
    """What was not judged in both so that it may be believed; what is new in B is not in question.

    Of a sweep nothing: its cells decide, and each is believed or not by itself.
    """
    if a.kind == "sweep":
        return []
    judged = [set(judged_sections(each.content)) for each in (a, b)]
    asked = dict.fromkeys([*judged_sections(a.content), *unbelieved(a.content), *unbelieved(b.content)])
    return [name for name in asked if not all(name in each for each in judged)]


def _lines(a: Stored, b: Stored, margin: float) -> tuple[list[Line], tuple[list[str], list[str]]]:
    take = quick_measures if a.kind == "quick" else section_measures
    before, after = ({each.name: each for each in take(stored.content)} for stored in (a, b))
    pairs: list[tuple[Measure, Measure]] = [
        (measure, after[name]) for name, measure in before.items() if name in after
    ]
    pairs += cells_together(a.content, b.content)
    only_in = ([name for name in before if name not in after], [name for name in after if name not in before])
    return [compare_measures(one, other, margin) for one, other in pairs], only_in


def _judged(compared: Compared, unasked: Sequence[Difference]) -> Compared:
    """Take back what the conditions do not allow to say."""
    a, b = compared.a, compared.b
    said = list(compared.doubts)
    for name, each in (("A", a), ("B", b)):
        if each.content.get("unfinished"):
            said.append(f"{name} did not end: {each.content['unfinished']}")
        said += [
            f"{section} of {name} cannot be believed and was left out" for section in unbelieved(each.content)
        ]
    control = _control(compared)
    if control:
        said.append(control)
    lines = []
    for line in compared.lines:
        change, why = _allowed(line, compared, unasked, bool(control))
        lines.append(replace(line, change=change, why=why))
    return replace(compared, lines=lines, doubts=said)


def _allowed(
    line: Line, compared: Compared, unasked: Sequence[Difference], control_differs: bool
) -> tuple[Change, str]:
    """What may be said of a line, and why no more."""
    is_absolute = line.before.is_absolute
    if compared.invalid:
        return Change.UNKNOWN, "a run is INVALID"
    for difference in unasked:
        if is_absolute or difference.name.startswith("settings."):
            return Change.NOT_COMPARABLE, f"{difference.name} differs"
    if compared.a.kind == "quick" and line.before.name.startswith("median response of"):
        apart = rates_apart(compared.a.content, compared.b.content)
        if apart:
            return Change.NOT_COMPARABLE, apart
    if control_differs and is_absolute and line.change in (Change.BETTER, Change.WORSE):
        return Change.UNKNOWN, "arm A itself differs"
    return line.change, line.why


def _control(compared: Compared) -> str:
    """Why the machine was not the same for both, seen by the arm that did not change; empty if it was."""
    a, b = compared.a, compared.b
    commit = a.environment.get("commit")
    if a.kind != "quick" or not commit or commit != b.environment.get("commit"):
        return ""
    if a.settings.get("a") != b.settings.get("a"):
        return ""
    line = next((line for line in compared.lines if line.before.name == "throughput of A"), None)
    if line is None or line.change not in (Change.BETTER, Change.WORSE) or math.isnan(line.effect):
        return ""
    whose = (
        "the machine's, or of changes that were not committed" if commit.endswith("+") else "the machine's"
    )
    return (
        f"the same code in arm A ({a.settings.get('a')}) differs by {line.effect:+.1%} "
        f"[{line.low:+.1%}, {line.high:+.1%}] between the runs: so much is {whose}"
    )
