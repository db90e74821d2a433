"""What a whole run of parts or scenarios comes to: readiness, recommendations, what cannot be said; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.analysis.advice import advise, unadvised
from bench.analysis.readiness import REQUIRED, Readiness, readiness
from bench.analysis.recommendation import Recommendation
from bench.analysis.verdict import Outcome

if TYPE_CHECKING:
    from bench.section import Section


@dataclass(frozen=True)
class Conclusion:
    """The end of a run."""

    outcome: Outcome
    readiness: Readiness
    recommendations: list[Recommendation]
    not_advised: dict[str, str]
    """Topic: why nothing is recommended."""

    def to_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome.value,
            "readiness": self.readiness.to_json(),
            "recommendations": [recommendation.to_json() for recommendation in self.recommendations],
            "not_advised": self.not_advised,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Conclusion:
        return cls(
            Outcome(data["outcome"]),
            Readiness.from_json(data["readiness"]),
            [Recommendation.from_json(each) for each in data["recommendations"]],
            data["not_advised"],
        )


def conclude(
    sections: Sequence[Section], required: Sequence[str] = REQUIRED, planned: Sequence[str] = ()
) -> Conclusion:
    """Decide and advise; findings of a section that cannot be believed count for nothing.

    INVALID where a section is; otherwise as the readiness says.
    """
    ready = readiness(sections, required, planned)
    believed = [section for section in sections if section.outcome is not Outcome.INVALID]
    findings = [finding for section in believed for finding in section.findings]
    outcome = Outcome.INVALID if len(believed) < len(sections) else ready.decision.outcome
    return Conclusion(outcome, ready, advise(findings), unadvised(findings))
