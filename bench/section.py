"""What a part of the suite or a scenario of the stress run found: figures, judgements, doubts, tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench.analysis.finding import Finding
from bench.analysis.verdict import Judgement, Outcome, overall
from bench.oracle.invariants import Verification
from bench.report.table import Table


@dataclass
class Section:
    """One part or scenario as it ran. Filled while it runs, so that an interruption keeps what there is."""

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    """All that was measured, for JSON; a key ends in its unit (_ms, _us, _per_s, _bytes, _share)."""
    findings: list[Finding] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    verifications: dict[str, Verification] = field(default_factory=dict)
    """What the oracle said of each schema that the section wrote."""
    invalid: list[str] = field(default_factory=list)
    """Why it may not be believed."""
    error: str = ""
    """Why it did not end, in one line."""
    seconds: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """INVALID if the oracle found a violation, or it did not end."""
        violated = [name for name, one in self.verifications.items() if one.violations]
        return overall(self.judgements, [*self.invalid, *violated, *([self.error] if self.error else [])])

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "outcome": self.outcome.value,
            "invalid": self.invalid,
            "error": self.error,
            "seconds": round(self.seconds, 1),
            "judgements": [judgement.to_json() for judgement in self.judgements],
            "findings": [finding.to_json() for finding in self.findings],
            "figures": self.figures,
            "tables": [table.to_json() for table in self.tables],
            "verification": {name: one.to_json() for name, one in self.verifications.items()},
        }
