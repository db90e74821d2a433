"""Parts of the suite and scenarios of the stress run for a terminal; and what the whole run comes to."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from bench.analysis.conclusion import Conclusion
from bench.analysis.readiness import Decision
from bench.analysis.recommendation import Recommendation
from bench.analysis.verdict import Outcome
from bench.oracle.invariants import Verification
from bench.report.verification import verification_table
from bench.section import Section

VALUE_CHECKS = ("I4", "recorded")
"""The checks that compare values: with the truth, or with a recording that was played."""
NOT_JUDGED = " (nothing to judge)"
"""Said of a PASS that only means that nothing went wrong."""
NOT_BELIEVED = "not believed: "
"""Said before each judgement of a section that is INVALID: its PASS is none."""
OUTCOME_COLOURS = {
    Outcome.PASS: "bold green",
    Outcome.FAIL: "bold red",
    Outcome.INCONCLUSIVE: "bold yellow",
    Outcome.INVALID: "bold magenta",
}
_DECISION_COLOURS = {
    Decision.GO: "bold green",
    Decision.NO_GO: "bold red",
    Decision.CANNOT_TELL: "bold yellow",
}
_MEANS = {
    Decision.GO: "every target that was judged is met with its whole interval",
    Decision.NO_GO: "a target is missed, or stored data is wrong",
    Decision.CANNOT_TELL: "too little is certain",
}


def print_section(section: Section, console: Console) -> None:
    """Print one section: its outcome and why, its tables, what the oracle said."""
    console.print()
    outcome = section.outcome
    judged = "" if section.judgements or outcome is Outcome.INVALID else NOT_JUDGED
    console.print(
        Text.assemble(
            (section.name, "bold"), ": ", (outcome.value, OUTCOME_COLOURS[outcome]), judged,
            f", {section.seconds:.0f} s",
        )
    )  # fmt: skip
    for line in section_lines(section):
        console.print(Text(f"  {line}"), soft_wrap=True)
    for table in section.tables:
        console.print(table.to_rich())
    for name, verification in section.verifications.items():
        if verification.violations:
            console.print(verification_table(verification, f"{name}: what was stored, against the truth"))


def section_lines(section: Section) -> Iterator[str]:
    """What a section says in words, the same on a terminal and in Markdown."""
    if section.error:
        yield f"did not end: {section.error}"
    yield from (f"cannot be believed: {reason}" for reason in section.invalid)
    doubted = NOT_BELIEVED if section.outcome is Outcome.INVALID else ""
    yield from (doubted + judgement.in_words() for judgement in section.judgements)
    yield from (f"not measured: {what}" for what in section.figures.get("not_measured", ()))
    yield from (verified_in_words(name, one) for name, one in section.verifications.items())


def verified_in_words(name: str, verification: Verification) -> str:
    """What the oracle found in one schema, in a line."""
    checks = verification.checks.values()
    held = " ".join(check.invariant for check in checks if not check.violations and not check.not_applicable)
    values = sum(check.checked for key, check in verification.checks.items() if key in VALUE_CHECKS)
    return (
        f"{name}: {values:,} values checked, {verification.violations:,} violations ({held or 'none'} hold)"
    )


def print_conclusion(conclusion: Conclusion, console: Console, path: str) -> None:
    """Print whether B may be deployed, what to do, and what cannot be said."""
    ready = conclusion.readiness
    console.print()
    console.print(
        Text.assemble(
            "Deployment: ", (ready.decision.value, _DECISION_COLOURS[ready.decision]),
            f": {_MEANS[ready.decision]}",
        )
    )  # fmt: skip
    if conclusion.outcome is Outcome.INVALID:
        console.print(
            Text.assemble(
                "  ", ("INVALID", OUTCOME_COLOURS[Outcome.INVALID]), ": a part of the run cannot be believed"
            )
        )
    for reason in ready.reasons:
        console.print(Text(f"  {reason}"), soft_wrap=True)
    for condition in ready.conditions:
        console.print(Text(f"  taken for granted: {condition}"), soft_wrap=True)
    if conclusion.recommendations:
        console.print(Text("\nRecommendations"))
    for recommendation in conclusion.recommendations:
        for line in recommendation_lines(recommendation):
            console.print(Text(f"  {line}"), soft_wrap=True)
    if conclusion.not_advised:
        console.print(Text("\nNo recommendation"))
    for topic, why in conclusion.not_advised.items():
        console.print(Text(f"  {topic}: {why}"), soft_wrap=True)
    console.print(Text(f"\nresult: {path}"), soft_wrap=True)


def recommendation_lines(recommendation: Recommendation) -> Iterator[str]:
    """A recommendation, its evidence, its margin and its limits."""
    yield f"{recommendation.topic}: {recommendation.advice}"
    yield from (f"    {finding.in_words()}" for finding in recommendation.evidence)
    yield f"    margin: {recommendation.margin}"
    if recommendation.limits:
        yield f"    but: {recommendation.limits}"
