"""The oracle after a part, or one line that says why it cannot look."""

from __future__ import annotations

from bench.arms.spec import parse_arm
from bench.section import Section
from bench.suite.context import Suite


def check(bench: Suite, section: Section, name: str, arm: str, schema: str, rows: int) -> None:
    """Verify what an arm stored, against the number of history rows that its clients counted.

    Of an arm with tables of its own the section says that this was not measured. Raises DatabaseError.
    """
    if parse_arm(arm).is_ours:
        bench.verified(section, name, schema, rows)
        return
    not_measured(section, f"invariants of {arm}", "the oracle does not know what is right in its own tables")


def not_measured(section: Section, what: str, why: str) -> None:
    """Say once in the section that something was not measured."""
    said: list[str] = section.figures.setdefault("not_measured", [])
    line = f"{what}: {why}"
    if line not in said:
        said.append(line)
