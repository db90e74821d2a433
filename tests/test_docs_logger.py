"""docs/logger.md and the systemd unit name what there is: options, commands, metrics, status keys."""

from __future__ import annotations

import re
from pathlib import Path

import click
from prometheus_client.core import HistogramMetricFamily

from logger.cli import cli
from logger.figures import DeviceFigures, Figures
from logger.metrics import FiguresCollector

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "logger.md").read_text(encoding="utf-8")


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


def test_the_table_has_every_option_of_run() -> None:
    section = PAGE.partition("## Options of `plclogger run`")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `--")]
    named = {name for cell in cells for name in re.findall(r"--[a-z-]+", cell)}
    assert named == options_of(cli.commands["run"])


def test_the_unit_and_its_settings_use_options_that_there_are() -> None:
    unit = (DOCS / "plclogger.service").read_text() + (DOCS / "plclogger.env").read_text()
    lines = [line for line in unit.splitlines() if not line.startswith("#")]
    used = set(re.findall(r"(?<= )--[a-z-]+|(?<==)--[a-z-]+", "\n".join(lines)))
    assert len(used) >= 5
    assert used <= options_of(cli.commands["run"])


def test_every_command_is_shown() -> None:
    shown = set(re.findall(r"^plclogger (\w+)", PAGE, re.MULTILINE))
    assert shown == set(cli.commands)


def test_the_table_has_every_metric() -> None:
    section = PAGE.partition("| metric (")[2].partition("\n\n")[0]
    named = {name for line in section.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    figures = Figures(devices=[DeviceFigures("a")])
    there = {
        metric.name.removeprefix("plclogger_") + ("_total" if metric.type == "counter" else "")
        for metric in FiguresCollector(lambda: [figures]).collect()
    }
    assert named == there
    assert any(
        isinstance(metric, HistogramMetricFamily) for metric in FiguresCollector(lambda: [figures]).collect()
    )
