"""What an import did to each item of its source: taken, taken with a change, or left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Remark:
    """One line of the report."""

    where: str
    """Line or key of the source, and the name found there."""
    problem: str
    items: int = 1
    """How many items of the source it stands for."""

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.problem}")


@dataclass(slots=True)
class Report:
    """Counts each item of the source (a modpoll `ref`, a SunSpec point) exactly once as taken or left out."""

    items: str
    """What is counted, in the plural."""
    taken: int = 0
    changed: list[Remark] = field(default_factory=list)
    """Of those taken: what a user must know about them. An item may have several."""
    left_out: list[Remark] = field(default_factory=list)

    @property
    def missed(self) -> int:
        """How many items were left out."""
        return sum(remark.items for remark in self.left_out)

    @property
    def total(self) -> int:
        return self.taken + self.missed

    def take(self) -> None:
        self.taken += 1

    def change(self, where: str, problem: str) -> None:
        """Say what is different about an item that was or will be taken."""
        self.changed.append(Remark(where, problem))

    def leave_out(self, where: str, problem: str, items: int = 1) -> None:
        self.left_out.append(Remark(where, problem, items))

    def summary(self) -> str:
        """`16 of 18 refs imported; 2 left out; 3 remarks`"""
        parts = [f"{self.taken} of {self.total} {self.items} imported"]
        if self.missed:
            parts.append(f"{self.missed} left out")
        if self.changed:
            parts.append(f"{len(self.changed)} remark{'s' if len(self.changed) > 1 else ''}")
        return "; ".join(parts)

    def lines(self) -> Iterator[str]:
        """What was left out, then what was changed: a line each."""
        yield from (f"left out: {remark}" for remark in self.left_out)
        yield from (f"changed: {remark}" for remark in self.changed)


def printable(text: str, most: int = 300) -> str:
    """One line that no terminal and no YAML comment takes for anything but text."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= most else f"{shown[: most - 4]} ..."
