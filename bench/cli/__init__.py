"""The `plcbench` command."""

from __future__ import annotations

import click

from bench.cli.compare import compare
from bench.cli.doctor import doctor
from bench.cli.quick import demo, quick
from bench.cli.replay import replay
from bench.cli.report import report
from bench.cli.stress import stress
from bench.cli.suite import suite
from bench.cli.sweep import sweep
from bench.cli.verify import verify
from plcsim.command import run_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure what keeping current values in step with history costs, and whether the data is right.

    Exit codes: 0 pass, 1 run error, 2 usage or configuration, 3 target missed, 4 inconclusive,
    5 invalid measurement or violated invariant.

    Example: plcbench quick --parameters 84 --duration 30
    """


for command in (quick, demo, verify, sweep, suite, compare, report, doctor, stress, replay):
    cli.add_command(command)


def main() -> None:
    """Entry point of the `plcbench` command."""
    run_command("plcbench", cli)
