"""Sections, readiness and recommendations of a stored result as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.analysis.conclusion import Conclusion
from bench.analysis.finding import Finding
from bench.analysis.recommendation import Recommendation
from bench.analysis.verdict import Judgement, Outcome
from bench.report.sections import NOT_BELIEVED, NOT_JUDGED, VALUE_CHECKS
from bench.report.table import Table, in_cell

_MOST_FINDINGS = 200


def conclusion_blocks(conclusion: Conclusion) -> Iterator[str]:
    """Whether B may be deployed and what to do."""
    ready = conclusion.readiness
    yield f"## Deployment: {ready.decision.value}\n"
    yield _list(ready.reasons)
    if ready.conditions:
        yield "Taken for granted:\n\n" + _list(ready.conditions)
    if conclusion.recommendations:
        yield "## Recommendations\n"
        yield from map(_recommendation, conclusion.recommendations)
    if conclusion.not_advised:
        yield "Nothing is recommended on:\n\n" + _list(
            f"{topic}: {why}" for topic, why in conclusion.not_advised.items()
        )


def section_blocks(section: dict[str, Any]) -> Iterator[str]:
    """One section, as `Section.to_json` wrote it."""
    judged = "" if section["judgements"] or section["outcome"] == Outcome.INVALID.value else NOT_JUDGED
    yield f"## {in_cell(section['name'])}: {section['outcome']}{judged}\n"
    lines = [f"did not end: {section['error']}"] if section["error"] else []
    lines += [f"cannot be believed: {reason}" for reason in section["invalid"]]
    doubted = NOT_BELIEVED if section["outcome"] == Outcome.INVALID.value else ""
    lines += [doubted + Judgement.from_json(data).in_words() for data in section["judgements"]]
    lines += [f"not measured: {what}" for what in (section["figures"] or {}).get("not_measured", ())]
    lines += [_verified(name, data) for name, data in section["verification"].items()]
    if lines:
        yield _list(lines)
    for data in section["tables"]:
        yield Table.from_json(data).to_markdown()
    if section["findings"]:
        yield _findings([Finding.from_json(data) for data in section["findings"]])


def verification_table(name: str, data: dict[str, Any]) -> Table:
    """What the oracle found in one schema, invariant by invariant."""
    rows: list[Sequence[str]] = []
    for invariant, check in data["invariants"].items():
        found = check["not_applicable"] or "; ".join(check["examples"])
        rows.append((invariant, f"{check['checked']:,} {check['unit']}", f"{check['violations']:,}", found))
    return Table(
        f"{name}: what was stored, against the truth",
        ("invariant", "checked", "violations", "examples"),
        rows,
    )


def _verified(name: str, data: dict[str, Any]) -> str:
    checks = data["invariants"]
    checked = sum(checks.get(key, {}).get("checked", 0) for key in VALUE_CHECKS)
    held = [key for key, check in checks.items() if not check["violations"] and not check["not_applicable"]]
    return (
        f"oracle, {name}: {checked:,} values checked, {data['violations']:,} violations "
        f"({' '.join(held) or 'none'} hold)"
    )


def _recommendation(recommendation: Recommendation) -> str:
    lines = [f"**{in_cell(recommendation.topic)}**: {in_cell(recommendation.advice)}", ""]
    lines += [f"- {in_cell(finding.in_words())}" for finding in recommendation.evidence]
    lines.append(f"- margin: {in_cell(recommendation.margin)}")
    if recommendation.limits:
        lines.append(f"- but: {in_cell(recommendation.limits)}")
    return "\n".join(lines) + "\n"


def _findings(findings: list[Finding]) -> str:
    shown = findings[:_MOST_FINDINGS]
    body = _list(finding.in_words() for finding in shown)
    more = (
        f"\n{len(findings) - len(shown)} more are in the result file.\n" if len(findings) > len(shown) else ""
    )
    return f"<details><summary>{len(findings)} findings</summary>\n\n{body}{more}\n</details>\n"


def _list(lines: Any) -> str:
    return "".join(f"- {in_cell(line)}\n" for line in lines)
