"""Any stored result as Markdown: the verdict first, then why, then figures, the conditions folded away."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from bench.analysis.conclusion import Conclusion
from bench.report.markdown_quick import quick_blocks
from bench.report.markdown_sections import conclusion_blocks, section_blocks
from bench.report.table import Table, in_cell

LIMIT_BYTES = 1_000_000
"""A summary of GitHub's above 1 MiB vanishes as a whole."""


def markdown_of(result: dict[str, Any]) -> str:
    """The whole report of a result file's content; what LIMIT_BYTES does not hold is said to be left out."""
    taken: list[str] = []
    size = left_out = 0
    for block in _blocks(result):
        length = len(block.encode()) + 1
        if size + length > LIMIT_BYTES:
            left_out += 1
            continue
        taken.append(block)
        size += length
    if left_out:
        taken.append(f"_{left_out} parts of the report were left out: it would be larger than 1 MB._")
    return "\n".join(taken).rstrip() + "\n"


def _blocks(result: dict[str, Any]) -> Iterator[str]:
    yield f"# plcbench {result['kind']}{_outcome(result)}\n"
    if result.get("unfinished"):
        yield f"**Not finished: {in_cell(str(result['unfinished']))}**\n"
    if result["kind"] == "quick":
        yield from quick_blocks(result)
    else:
        if "readiness" in result:
            yield from conclusion_blocks(Conclusion.from_json(result))
        for section in result.get("sections", ()):
            yield from section_blocks(section)
        yield from _cells(result)
    yield from _run(result)
    yield from _environment(result.get("environment") or {})


def _outcome(result: dict[str, Any]) -> str:
    return f": {result['outcome']}" if result.get("outcome") else ""


def _cells(result: dict[str, Any]) -> Iterator[str]:
    """A sweep's cells, where it has no section that shows them."""
    cells = result.get("cells")
    if not cells or result.get("sections"):
        return
    rows: list[Sequence[str]] = [
        (
            cell["trial"],
            f"{cell['result']['values_per_s']:,.0f}" if cell["result"] else "",
            f"{cell['result']['missed']}" if cell["result"] else "",
            f"{cell['result']['verification']['violations']}" if cell["result"] else "",
            cell["error"] or "",
        )
        for cell in cells
    ]
    columns = ("cell", "values/s", "missed", "violations", "error")
    note = "one run a cell: exploratory, no interval"
    yield Table("Cells", columns, rows, note).to_markdown()


def _run(result: dict[str, Any]) -> Iterator[str]:
    yield "## The run\n"
    command = " ".join(map(str, result.get("command") or ()))
    environment = result.get("environment") or {}
    lines = [
        ("command", f"plcbench {command}" if command else ""),
        ("finished", result.get("finished_at", "")),
        ("took", f"{result['took_s']:g} s" if result.get("took_s") is not None else ""),
        ("commit", environment.get("commit", "")),
        ("comparability key", environment.get("comparability_key", "")),
    ]
    yield "\n".join(f"- {name}: {in_cell(str(value))}" for name, value in lines if value) + "\n"
    for name in ("settings", "targets", "plan"):
        if result.get(name):
            yield _folded(name, result[name])


def _environment(environment: dict[str, Any]) -> Iterator[str]:
    if environment:
        yield _folded("environment", environment)


def _folded(title: str, content: Any) -> str:
    text = json.dumps(content, indent=1, ensure_ascii=False).replace("```", "`` `")
    return f"<details><summary>{title}</summary>\n\n```json\n{text}\n```\n\n</details>\n"
