"""What `verify` found, as a table."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from bench.oracle.invariants import Verification


def verification_table(verification: Verification, title: str) -> Table:
    """One row an invariant: what was looked at, and how often it was violated."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("invariant")
    table.add_column("checked", justify="right")
    table.add_column("violations", justify="right")
    for name, check in verification.checks.items():
        if check.not_applicable:
            table.add_row(f"{name} {check.title}", "-", Text(f"not applicable: {check.not_applicable}"))
            continue
        table.add_row(f"{name} {check.title}", f"{check.checked:,} {check.unit}", f"{check.violations:,}")
        for example in check.examples:
            table.add_row(Text(f"     {example}"), "", "")
    return table
