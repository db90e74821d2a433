"""Reports of stored results: the verdict first, everything traceable, nothing markup by accident."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from planted_results import quick_content, run_content, stored, verification
from rich.console import Console

from bench.analysis.conclusion import conclude
from bench.analysis.finding import Finding
from bench.analysis.statistics import Impact
from bench.analysis.verdict import judge_cost, judge_success, judge_zero
from bench.cli import main
from bench.report.markdown import LIMIT_BYTES, markdown_of
from bench.report.sections import print_conclusion, print_section
from bench.report.table import Table
from bench.section import Section


def section(name: str = "impact") -> Section:
    at = {"repository": "baseline", "parameters": 84}
    return Section(
        name,
        figures={"not_measured": ["a full disk: needs root"]},
        findings=[Finding("memory_mb", 80.0, 78.0, 82.0, "MB", f"{name}/84", at)],
        judgements=[
            judge_cost("throughput", Impact(0.1, 0.05, 0.15, 8, 0.02, is_loss=True), 0.2),
            judge_cost("median response", Impact(0.1, 0.05, 0.15, 8, 0.02), 0.3),
            judge_cost("memory", Impact(0.1, 0.05, 0.15, 8, 0.02), 0.4),
            judge_success([(9000, 9000), (9000, 9000)], 0.95),
        ],
        tables=[
            Table("A | [B]", ("size", "p99 [ms]"), [("84", "1.5"), ("[red]200", "2|5")], "*not* starred")
        ],
        verifications={"B": verification()},
        seconds=12.0,
    )


def printed(*sections: Section) -> str:
    console = Console(file=StringIO(), width=160)
    for each in sections:
        print_section(each, console)
    print_conclusion(conclude(sections), console, "suite.json")
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def suite_markdown(*sections: Section) -> str:
    return markdown_of({"kind": "suite", **run_content(list(sections))})


def test_a_table_shows_brackets_and_bars_as_they_are() -> None:
    out = printed(section())
    assert all(text in out for text in ("A | [B]", "p99 [ms]", "[red]200", "2|5", "*not* starred"))
    markdown = section().tables[0].to_markdown()
    assert "| \\[red]200 | 2\\|5 |" in markdown or "| [red]200 | 2\\|5 |" in markdown
    assert "\\*not\\* starred" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(line.replace("\\|", "").split("|")) for line in rows} == {4}


def test_a_table_is_read_back_as_it_was_written() -> None:
    table = section().tables[0]
    again = Table.from_json(json.loads(json.dumps(table.to_json())))
    assert again.to_json() == table.to_json()
    assert again.to_markdown() == table.to_markdown()


@pytest.mark.parametrize("say", [printed, suite_markdown])
def test_sections_are_told_alike_on_a_terminal_and_in_markdown(say: Any) -> None:
    out = say(section()).replace("\\", "")
    assert "throughput loss +10.0% [+5.0%, +15.0%], target below 20%: LOW-MEDIUM, PASS" in out
    assert "not measured: a full disk: needs root" in out
    assert "1,000 values checked, 0 violations" in out
    assert "GO" in out
    assert "a limit of 123 MB: the most was 80.0 MB (baseline, 84 parameters)" in out
    assert "memory_mb 80 MB [78, 82] in impact/84" in out
    assert "margin: 1.5 times the upper end" in out
    assert "update strategy: no two strategies were measured" in out


def test_the_deployment_comes_before_the_sections() -> None:
    markdown = suite_markdown(section())
    assert markdown.startswith("# plcbench suite: PASS\n")
    assert (
        markdown.index("## Deployment: GO")
        < markdown.index("## Recommendations")
        < markdown.index("## impact")
    )
    assert "comparability key: " in markdown


def test_a_section_that_failed_or_cannot_be_believed_says_why() -> None:
    failed = Section("storm", error="the server is gone", invalid=["the oracle found violations"])
    bad = replace(section("races"), verifications={"B": verification(violations=3)})
    out = printed(failed, bad)
    assert "storm: INVALID" in out
    assert "did not end: the server is gone" in out
    assert "cannot be believed: the oracle found violations" in out
    assert "stored 123.5, true 2.5" in out  # the oracle's table with its example
    assert "Deployment: NO-GO" in out
    assert "INVALID: a part of the run cannot be believed" in out
    markdown = suite_markdown(failed, bad)
    assert "## storm: INVALID" in markdown
    assert "## Deployment: NO-GO" in markdown


@pytest.mark.parametrize("say", [printed, suite_markdown])
@pytest.mark.parametrize("wrong", [{"invalid": ["a checkpoint ran"]}, {"error": "the server is gone"}])
def test_no_target_looks_met_in_a_section_that_cannot_be_believed(say: Any, wrong: dict[str, Any]) -> None:
    out = say(replace(section(), **wrong)).replace("\\", "")
    assert out.count("not believed: ") == 4
    assert "not believed: throughput loss +10.0% [+5.0%, +15.0%], target below 20%: LOW-MEDIUM, PASS" in out
    assert "not believed: " not in say(section())


def test_a_section_without_judgements_does_not_look_like_one_that_passed() -> None:
    assert "baseline: PASS (nothing to judge)" in printed(Section("baseline"))
    assert "(nothing to judge)" not in printed(section())


def test_markdown_says_it_too_that_nothing_was_judged_and_what_holds() -> None:
    markdown = suite_markdown(Section("baseline"), section("judged"), Section("storm", error="gone"))
    assert "## baseline: PASS (nothing to judge)\n" in markdown
    assert "## judged: PASS\n" in markdown
    assert "## storm: INVALID\n" in markdown
    assert "1,000 values checked, 0 violations (I1 I2" in markdown
    unchecked = verification()
    for check in unchecked.checks.values():
        check.not_applicable = "not our tables"
    foreign = replace(section(), verifications={"B": unchecked})
    assert "0 violations (none hold)" in suite_markdown(foreign)


def test_a_quick_run_in_which_an_arm_stored_nothing_is_reported(tmp_path: Path) -> None:
    """What was no number is null in the file."""
    content = quick_content()
    content["plant"]["ms_per_scan"]["b"] = None
    content["parameters_per_scan"] = [{"parameters": 84, "a_per_s": 100.0, "b_per_s": 0.0, "loss": None}]
    content["metrics"][0] |= {"b": None, "cost": None}
    markdown = markdown_of({"kind": "quick", **content})
    assert " -> n/a ms a scan" in markdown
    assert "| 84 | 100 | 0 | n/a |" in markdown


def test_a_missed_target_is_told_in_both() -> None:
    missed = Section("deadlocks", judgements=[judge_zero("deadlocks", 3, 900)])
    for out in (printed(section(), missed), suite_markdown(section(), missed)):
        assert "deadlocks: 3, must be 0: FAIL (900 checked)" in out
        assert "NO-GO" in out


def test_quick_as_markdown_has_judgements_figures_and_conditions() -> None:
    markdown = markdown_of({"kind": "quick", **quick_content(loss=0.15)})
    assert markdown.startswith("# plcbench quick: ")
    assert "throughput loss +1" in markdown
    assert "| throughput [tx/s] | 1," in markdown or "| throughput [tx/s] | 99" in markdown
    assert "Arm A: what was stored, against the truth" in markdown
    assert '"synchronous_commit": "on"' in markdown
    assert "INVALID because a checkpoint ran" in markdown_of(
        {"kind": "quick", **quick_content(invalid=("a checkpoint ran",))}
    )


def test_cpu_is_shown_with_its_class() -> None:
    (row,) = (
        line
        for line in markdown_of({"kind": "quick", **quick_content()}).splitlines()
        if line.startswith("| cpu [")
    )
    assert row.endswith("| LOW |")


def test_a_report_stays_below_the_limit_and_says_what_is_missing() -> None:
    long = Table("long", ("a", "b"), [("x" * 50, "y" * 50)] * 5000)
    sections = [replace(section(f"part {n}"), tables=[long]) for n in range(4)]
    markdown = suite_markdown(*sections)
    assert len(markdown.encode()) < LIMIT_BYTES + 1000
    assert "parts of the report were left out" in markdown
    assert "## Deployment" in markdown
    assert "left out" not in suite_markdown(section())


@pytest.mark.parametrize("kind", ["quick", "suite", "stress", "sweep"])
def test_the_command_writes_any_result(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content = quick_content() if kind == "quick" else run_content([section()])
    path = stored(tmp_path, "run.json", kind, content)
    for arguments in ([str(path)], [str(path), "--output", str(tmp_path / "report.md")]):
        monkeypatch.setattr(sys, "argv", ["plcbench", "report", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith(f"# plcbench {kind}")
    assert out.endswith(f"report: {tmp_path / 'report.md'}\n")
    assert (tmp_path / "report.md").read_text() == out.removesuffix(f"report: {tmp_path / 'report.md'}\n")


def test_cells_of_a_sweep_without_sections_are_shown() -> None:
    result = {"values_per_s": 3364.2, "missed": 2, "verification": {"violations": 0}}
    cells = [
        {"trial": "4 × 84 parameters", "error": "", "result": result},
        {"trial": "8 × 84 parameters", "error": "no disk", "result": None},
    ]
    markdown = markdown_of({"kind": "sweep", "cells": cells, "finished_at": "now"})
    assert "| 4 × 84 parameters | 3,364 | 2 | 0 |  |" in markdown
    assert "| 8 × 84 parameters |  |  |  | no disk |" in markdown


@pytest.mark.parametrize("target", ["a.json", "b.json", "nowhere/report.md"])
def test_a_report_overwrites_no_result(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, target: str
) -> None:
    for name in ("a.json", "b.json"):
        stored(tmp_path, name, "suite", run_content([section()]))
    before = (tmp_path / "b.json").read_text()
    monkeypatch.setattr(
        sys, "argv", ["plcbench", "report", str(tmp_path / "a.json"), "-o", str(tmp_path / target)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    err = capfd.readouterr().err
    assert err.startswith(f"plcbench: {tmp_path / target}: ")
    assert err.count("\n") == 1
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text() == before
