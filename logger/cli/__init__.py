"""The `plclogger` command."""

from __future__ import annotations

import click

from logger.cli.look import plan, probe, status
from logger.cli.operate import maintain, void
from logger.cli.quarantine import quarantine
from logger.cli.run import run
from plcsim.command import run_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Log PLCs into PostgreSQL over Modbus TCP.

    Example: plclogger run configs/ald.yaml --plc 192.168.0.10:502
    """


for command in (run, plan, probe, status, void, quarantine, maintain):
    cli.add_command(command)


def main() -> None:
    """Entry point of the `plclogger` command."""
    run_command("plclogger", cli)
