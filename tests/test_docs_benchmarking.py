"""The pages on plcbench name what there is: commands, options, parts, scenarios, targets, metrics."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest
from prometheus_client.core import Metric

from bench.analysis.advice import TOPICS
from bench.analysis.finding import METRICS
from bench.analysis.verdict import Outcome, Targets
from bench.cli import cli
from bench.stress.run import SCENARIOS
from bench.suite.run import PARTS
from logger.figures import DeviceFigures, Figures
from logger.metrics import FiguresCollector

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "benchmarking.md").read_text(encoding="utf-8")
WALK = (ROOT / "docs" / "deploy-with-confidence.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    found = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, f"there is no heading {heading!r}"
    return found


def table(text: str, head: str) -> set[str]:
    """The first cells, in backticks, of the table that begins with this head."""
    rows = text.partition(f"| {head}")[2].partition("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


def test_the_table_of_commands_has_each() -> None:
    shown = {name.split()[1] for name in table(PAGE, "command")}
    assert shown == set(cli.commands)


@pytest.mark.parametrize("name", ["quick", "suite", "stress", "sweep", "replay", "compare", "doctor"])
def test_every_option_is_named_in_the_section_of_its_command(name: str) -> None:
    named = set(re.findall(r"--[a-z-]+", section(name)))
    assert options_of(cli.commands[name]) - named <= {"--database"}


@pytest.mark.parametrize("page", [PAGE, WALK], ids=["benchmarking", "deploy"])
def test_every_command_line_uses_options_that_there_are(page: str) -> None:
    lines = re.findall(r"^plcbench (\w+)(.*)$|`plcbench (\w+)([^`]*)`", page, re.MULTILINE)
    assert len(lines) > 8
    for block in lines:
        name, rest = (block[0], block[1]) if block[0] else (block[2], block[3])
        assert name in cli.commands, name
        used = set(re.findall(r"--[a-z][a-z-]*", rest.replace("\n", " ")))
        assert used <= options_of(cli.commands[name]) | {"--help"}, (name, used)


def test_parts_and_scenarios_are_those_that_run() -> None:
    assert table(section("suite"), "part") == {part.NAME for part in PARTS}
    assert table(section("stress"), "scenario") == {scenario.NAME for scenario in SCENARIOS}


def test_targets_topics_and_findings_are_explained() -> None:
    assert table(section("What is judged"), "target") - {
        "configs/bench/targets.yaml",
        "--targets FILE",
    } == {field.name for field in fields(Targets)}
    rows = section("What is judged").partition("| topic")[2].partition("\n\n")[0].splitlines()[2:]
    assert {row.split("|")[1].strip() for row in rows} == set(TOPICS)
    assert table(section("report and results"), "finding") == set(METRICS)


def test_exit_codes_are_those_of_the_outcomes() -> None:
    assert [outcome.exit_code for outcome in Outcome] == [0, 3, 4, 5]
    assert "0 pass, 1 run error, 2 usage or configuration, 3 target missed, 4 inconclusive, 5 invalid" in PAGE


def test_files_and_links_that_are_named_are_there() -> None:
    for page in (PAGE, WALK):
        for name in re.findall(r"\b((?:configs|examples)/[\w./-]+\.\w+)", page):
            assert (ROOT / name).is_file(), name
        for name in re.findall(r"\]\(([\w-]+\.md)\)", page):
            assert (ROOT / "docs" / name).is_file(), name


def test_metrics_to_watch_are_those_that_the_logger_has() -> None:
    collected: list[Metric] = list(
        FiguresCollector(lambda: [Figures(devices=[DeviceFigures("a")])]).collect()
    )
    there = {each.name + ("_total" if each.type == "counter" else "") for each in collected}
    watched = set(re.findall(r"plclogger_\w+", WALK))
    assert len(watched) >= 5
    assert watched <= there
