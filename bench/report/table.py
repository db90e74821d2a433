"""A table of a report: the same for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True)
class Table:
    """A title, columns and rows of text; a note says what the numbers mean and what they do not."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""

    def to_rich(self) -> RichTable:
        """For a terminal; brackets stay what they are."""
        table = RichTable(
            title=Text(self.title),
            title_justify="left",
            caption=Text(self.note) if self.note else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for index, column in enumerate(self.columns):
            table.add_column(Text(column), justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        return table

    def to_markdown(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(map(in_cell, cells)) + " |"

        rule = "|" + "|".join("---:" if index else "---" for index in range(len(self.columns))) + "|"
        lines = [f"**{in_cell(self.title)}**", "", line(self.columns), rule, *map(line, self.rows)]
        return "\n".join([*lines, *(["", in_cell(self.note)] if self.note else [])]) + "\n"

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "note": self.note,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Table:
        return cls(data["title"], data["columns"], data["rows"], data["note"])


_MARKDOWN = str.maketrans({"|": "\\|", "<": "&lt;", "*": "\\*", "_": "\\_", "`": "\\`", "\n": " ", "\r": " "})


def in_cell(text: str) -> str:
    """Text as Markdown shows it: what has a meaning there is escaped."""
    return text.translate(_MARKDOWN)
