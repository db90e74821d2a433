"""A SQL file as an arm: sections that lines such as `-- plcbench: transaction` begin.

    -- plcbench: setup         once, before anything is stored: tables, indexes, functions
    -- plcbench: transaction   for each batch of scans; several statements are one transaction
    -- plcbench: stored        a query for the number of batches that the tables hold
    -- plcbench: check TITLE   a query for the number of things that are wrong; any number of these

A file without such lines is one transaction. Statements take what `PARAMETERS` says, as %(name)s; any
other % is written %%. See examples/own_transaction.sql.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plcsim.errors import ConfigError

PARAMETERS = {
    "device_id": "text",
    "stream_id": "integer",
    "transaction_id": "uuid, another one each time",
    "first_scan": "bigint",
    "last_scan": "bigint",
    "process_number": "bigint, what the PLC calls the running process; NULL: none runs",
    "parameters": "bigint, of each scan",
    "scan": "bigint[]: from here on arrays with one element a value, by scan, then parameter_id",
    "parameter_id": "integer[]",
    "recorded_at": "timestamptz[]",
    "value": "double precision[], NULL: not read",
    "set_value": "double precision[]",
    "quality": "smallint[], OPC DA: 192 is good",
    "value_text": "text[], where a number cannot hold the value",
}
"""What a statement of the transaction may use."""

_DIRECTIVE = re.compile(r"--\s*plcbench:\s*(\S*)\s*(.*?)\s*$")
_SECTIONS = ("setup", "transaction", "stored", "check")
_TOKENS = re.compile(r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$\w*\$).*?\1|(;)""", re.DOTALL)
"""What may hold a semicolon that ends nothing; the last group is one that does."""
_PLACEHOLDER = re.compile(r"%(?:\((\w+)\)s|%|)")


@dataclass(frozen=True)
class Statement:
    """A statement and the line where it begins."""

    text: str
    line: int


@dataclass(frozen=True)
class SqlFile:
    """A file's sections."""

    path: Path
    transaction: tuple[Statement, ...]
    setup: str = ""
    stored: str = ""
    checks: dict[str, str] = field(default_factory=dict)
    """By title."""


def load_sql(path: Path) -> SqlFile:
    """Read a file; raises ConfigError that names file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot be read: {reason}", source=str(path)) from None
    source = str(path)
    statements: list[Statement] = []
    setup, stored, checks = "", "", {}
    for section, title, body, line in _sections(text, source):
        found = list(_statements(body, line))
        if section == "transaction":
            for statement in found:
                _check_placeholders(statement, source)
            statements += found
        elif section == "setup":
            setup += body
        elif len(found) != 1:
            problem = f"section {section!r} must be one query, it has {len(found)} statements"
            raise ConfigError(problem, source=source, line=line)
        elif section == "stored":
            stored = found[0].text
        else:
            checks[title or f"check of line {line}"] = found[0].text
    if not statements:
        raise ConfigError("has no statement to run as the transaction", source=source)
    return SqlFile(path, tuple(statements), setup, stored, checks)


def _sections(text: str, source: str) -> Iterator[tuple[str, str, str, int]]:
    """(section, its title, its text, the line where that begins)."""
    lines = text.splitlines()
    marks = [(n, match) for n, line in enumerate(lines, 1) if (match := _DIRECTIVE.match(line))]
    if not marks:
        yield "transaction", "", text, 1
        return
    before = "\n".join(lines[: marks[0][0] - 1])
    if list(_statements(before, 1)):
        problem = "statements before the first line `-- plcbench: …` belong to no section"
        raise ConfigError(problem, source=source, line=next(_statements(before, 1)).line)
    ends = [n - 1 for n, _ in marks[1:]] + [len(lines)]
    for (line, match), end in zip(marks, ends, strict=True):
        if match[1] not in _SECTIONS:
            problem = f"{match[1]!r} is no section; there are {', '.join(_SECTIONS)}"
            raise ConfigError(problem, source=source, line=line)
        yield match[1], match[2], "\n".join(lines[line:end]), line + 1


def _statements(text: str, first_line: int) -> Iterator[Statement]:
    """Statements that semicolons end; quotes, dollar quotes and comments hide theirs."""
    begin = 0
    ends = [match.start() for match in _TOKENS.finditer(text) if match[2]]
    for end in (*ends, len(text)):
        part = text[begin:end]
        code = re.sub(r"^(\s+|--[^\n]*(\n|$)|/\*.*?\*/)*", "", part, flags=re.DOTALL)
        if code:
            line = first_line + text.count("\n", 0, end - len(code))
            yield Statement(code.rstrip(), line)
        begin = end + 1


def _check_placeholders(statement: Statement, source: str) -> None:
    for match in _PLACEHOLDER.finditer(statement.text):
        line = statement.line + statement.text.count("\n", 0, match.start())
        if match[1] is None and match[0] != "%%":
            raise ConfigError("a % that begins no %(name)s is written %%", source=source, line=line)
        if match[1] is not None and match[1] not in PARAMETERS:
            problem = f"%({match[1]})s is not known; there are {', '.join(PARAMETERS)}"
            raise ConfigError(problem, source=source, line=line)
