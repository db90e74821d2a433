"""docs/reliability.md names tests, long parts, modules and alarms that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from long.run import PARTS, SOAK

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
EMULATOR = {"hostile_frames", "coverage_guided", "descriptors", "slow_clients"}
"""Parts that are about plcsim."""


BENCH = {"parts_of_bench"}


def missing(page: str) -> set[str]:
    """Tests that a page names, as `file::test`, and that there are not."""
    named = set(re.findall(r"`(test_\w+)::(test_\w+)`", page))
    assert len(named) >= 30
    return {
        f"{file}::{test}"
        for file, test in named
        if not (path := ROOT / "tests" / f"{file}.py").exists()
        or not re.search(rf"^(async )?def {test}\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_every_test_is_there() -> None:
    assert missing(PAGE) == set()


def test_a_test_that_is_not_there_is_noticed() -> None:
    assert missing(PAGE + "`test_scan::test_nothing` `test_nowhere::test_scan`") == {
        "test_scan::test_nothing",
        "test_nowhere::test_scan",
    }


def test_every_long_part_of_the_logger_is_there_and_no_other() -> None:
    rows = [
        line.split(" | ") for line in PAGE.partition("## Reading")[0].splitlines() if line.startswith("| ")
    ]
    named = {name for row in rows[1:] for name in re.findall(r"`(\w+)`", row[3])}
    assert named == {part.name for part in (*PARTS, SOAK)} - EMULATOR - BENCH


@pytest.mark.parametrize("heading", ["What breaks", "Reading", "Storing"])
def test_every_module_is_there(heading: str) -> None:
    section = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    named = {
        name
        for row in section.splitlines()
        if row.startswith("| ") and len(row.split(" | ")) > 2
        for name in re.findall(r"`([a-z_]+(?:/[a-z_]*)?)`(?!::)", row.split(" | ")[1])
    }
    modules = {name for name in named if "/" in name or (ROOT / "logger" / f"{name}.py").exists()}
    assert len(modules) >= 4
    for name in modules:
        assert (ROOT / "logger" / f"{name}.py").exists() or (ROOT / "logger" / name).is_dir(), name
