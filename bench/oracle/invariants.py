"""The invariants of what is stored, and what checking them has shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

INVARIANTS = {
    "I1": "each transaction has exactly its rows in history and process tables",
    "I2": "current values are those of the newest usable history row that counts",
    "I3": "scans and gaps of each stream are contiguous, without overlap",
    "I4": "each value is what the PLC served at the PLC scan that it carries",
    "I5": "no scan is stored twice, none is missing",
    "I6": "the hash chain of each stream verifies",
}

_MOST_EXAMPLES = 3


@dataclass
class Check:
    """What one invariant showed."""

    invariant: str
    checked: int = 0
    """Things looked at: transactions, parameters, scans or values, as `unit` says."""
    unit: str = ""
    violations: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few violations in words."""
    not_applicable: str = ""
    """Why it could not be checked; empty if it was."""

    @property
    def title(self) -> str:
        return INVARIANTS[self.invariant]

    def violated(self, example: str, count: int = 1) -> None:
        """Count violations that one example shows."""
        self.violations += count
        self.not_applicable = ""
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(example)


@dataclass
class Verification:
    """All checks of one schema."""

    checks: dict[str, Check]
    rows: int = 0
    """History rows that were read."""

    @property
    def violations(self) -> int:
        return sum(check.violations for check in self.checks.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "violations": self.violations,
            "invariants": {
                name: {
                    "checked": c.checked,
                    "unit": c.unit,
                    "violations": c.violations,
                    "examples": c.examples,
                    "not_applicable": c.not_applicable,
                }
                for name, c in self.checks.items()
            },
        }
