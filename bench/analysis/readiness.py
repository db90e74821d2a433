"""May B be deployed? GO, NO-GO or CANNOT TELL, with the reasons; pure.

A missed target or data that is wrong stops it. What was left open, could not be believed, did not end or
was not measured at all leaves it open: absence of a bad figure is no good figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bench.analysis.finding import Finding
from bench.analysis.verdict import Judgement, Outcome

if TYPE_CHECKING:
    from bench.section import Section

REQUIRED = ("throughput", "median response", "memory", "success")
"""What must have been judged at least once before anybody may go."""


class Decision(StrEnum):
    GO = "GO"
    NO_GO = "NO-GO"
    CANNOT_TELL = "CANNOT TELL"

    @property
    def outcome(self) -> Outcome:
        return {"GO": Outcome.PASS, "NO-GO": Outcome.FAIL, "CANNOT TELL": Outcome.INCONCLUSIVE}[self.value]


@dataclass(frozen=True)
class Readiness:
    """The decision and what it rests on; each line names its section."""

    decision: Decision
    reasons: list[str]
    """Why not, or why it cannot be told; of a GO, what was judged and held."""
    conditions: list[str]
    """What the answer takes for granted."""

    def to_json(self) -> dict[str, Any]:
        return {"decision": self.decision.value, "reasons": self.reasons, "conditions": self.conditions}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Readiness:
        return cls(Decision(data["decision"]), data["reasons"], data["conditions"])


def readiness(
    sections: Sequence[Section], required: Sequence[str] = REQUIRED, planned: Sequence[str] = ()
) -> Readiness:
    """Decide from all sections of a run.

    `required` names the judgements without which nothing can be told; a qualified name such as
    `throughput (500 parameters)` counts for `throughput`. `planned` names the sections that were to run:
    of a run that was interrupted nobody can tell.
    """
    stopping = [line for section in sections for line in _stopping(section)]
    if stopping:
        return Readiness(Decision.NO_GO, stopping, _conditions(sections))
    ran = {section.name for section in sections}
    open_ones = [
        *(line for section in sections for line in _open(section)),
        *(f"not run: {name}" for name in planned if name not in ran),
        *_missing(sections, required),
    ]
    if open_ones:
        return Readiness(Decision.CANNOT_TELL, open_ones, _conditions(sections))
    held = [f"{section.name}: {judgement.in_words()}" for section, judgement in _judged(sections)]
    return Readiness(Decision.GO, held, _conditions(sections))


def _stopping(section: Section) -> Iterator[str]:
    """Wrong data, whatever else is wrong with the section; a missed target, if it may be believed."""
    for name, verification in section.verifications.items():
        if verification.violations:
            yield f"{section.name}: {verification.violations:,} violations of the invariants in {name}"
    if not section.invalid:
        for judgement in section.judgements:
            if judgement.outcome is Outcome.FAIL:
                yield f"{section.name}: {judgement.in_words()}"


def _open(section: Section) -> Iterator[str]:
    if section.error:
        yield f"{section.name} did not end: {section.error}"
    for reason in section.invalid:
        yield f"{section.name} cannot be believed: {reason}"
    if not section.error and not section.invalid:  # else its judgements say nothing
        for judgement in section.judgements:
            if judgement.outcome in (Outcome.INCONCLUSIVE, Outcome.INVALID):
                yield f"{section.name}: {judgement.in_words()}"


def _missing(sections: Sequence[Section], required: Sequence[str]) -> list[str]:
    judged = {judgement.metric for _, judgement in _judged(sections)}
    lines = [
        f"not measured so that it may be believed: {name}"
        for name in required
        if not any(metric == name or metric.startswith(f"{name} ") for metric in judged)
    ]
    if not any(_checked(section) for section in sections):
        lines.append("not checked: whether the stored data is right (the oracle checked nothing)")
    return lines


def _judged(sections: Sequence[Section]) -> list[tuple[Section, Judgement]]:
    return [
        (section, judgement)
        for section in sections
        if not section.invalid and not section.error
        for judgement in section.judgements
    ]


def _checked(section: Section) -> int:
    return sum(check.checked for one in section.verifications.values() for check in one.checks.values())


def _conditions(sections: Sequence[Section]) -> list[str]:
    values = sum(_checked(section) for section in sections)
    lines = [
        f"it rests on {', '.join(section.name for section in sections) or 'nothing'}",
        "it holds for this machine, this server and its settings, and the rates and sizes that were measured",
    ]
    if values:
        lines.append(f"the oracle checked {values:,} rows, values and records of what was stored")
    if not any(f.metric == "long_reader_throughput" for s in sections for f in s.findings):
        lines.append("a long snapshot (dump, dashboard) was not part of it: see `plcbench stress`")
    for section in sections:
        lines += [
            f"not measured in {section.name}: {what}" for what in section.figures.get("not_measured", ())
        ]
        lines += [f"left open in {section.name}: {finding.in_words()}" for finding in _left_open(section)]
    return lines


def _left_open(section: Section) -> list[Finding]:
    """Findings that were too uncertain to be judged at all: no judgement of the section tells of them."""
    if section.invalid or any(one.outcome is Outcome.INCONCLUSIVE for one in section.judgements):
        return []
    return [finding for finding in section.findings if finding.outcome is Outcome.INCONCLUSIVE]
