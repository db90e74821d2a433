"""The `plclogger` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from logger.database import DEFAULT_SCHEMA, database
from logger.reading.read_plan import left_out, plan_reads
from logger.repositories import REPOSITORIES
from logger.service import Hooks, Settings, Status, run_logger
from plcsim.command import HostPort, Seconds, run_command
from plcsim.config import DeviceConfig
from plcsim.device_file import load_device
from plcsim.errors import InputError

SHORTEST_INTERVAL_S = 0.01
_PIPE_EVERY_S = 10


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Log a PLC into PostgreSQL over Modbus TCP.

    Example: plclogger run configs/ald.yaml --plc 192.168.0.10:502
    """


@cli.command()
@click.argument("device_file", type=click.Path(path_type=Path))
@click.option("--plc", type=HostPort(), help="HOST:PORT of the PLC.  [default: from the device file]")
@click.option(
    "--database",
    "url",
    envvar="PLCSIM_DATABASE",
    help="postgresql:// URL, also read from PLCSIM_DATABASE.  [default: the embedded PostgreSQL]",
)
@click.option("--schema", default=DEFAULT_SCHEMA, show_default=True, help="Schema for our tables.")
@click.option(
    "--repository",
    type=click.Choice(sorted(REPOSITORIES)),
    default="synchronizing",
    show_default=True,
    help="baseline: history and process rows; synchronizing: current values too.",
)
@click.option(
    "--interval",
    type=Seconds(),
    help="Time from scan to scan, 10ms or more; 0: as fast as it goes.  [default: from the device file]",
)
@click.option(
    "--stream",
    type=click.IntRange(1, 2**31 - 1),
    default=1,
    show_default=True,
    help="Number of this logger's stream of scans, where several log one device.",
)
@click.option("--for", "duration", type=Seconds(), help="Stop after this time.  [default: at Ctrl-C]")
@click.option("--json", "as_json", is_flag=True, help="Print the final figures as one line of JSON.")
def run(
    device_file: Path,
    plc: tuple[str, int] | None,
    url: str | None,
    schema: str,
    repository: str,
    interval: float | None,
    stream: int,
    duration: float | None,
    as_json: bool,
) -> int:
    """Poll the machine of DEVICE_FILE and store each scan in one transaction, until Ctrl-C.

    Example: plclogger run configs/ald.yaml --interval 100ms
    """
    config = _load(device_file)
    interval_s = config.logging.interval_s if interval is None else interval
    if interval_s != 0 and interval_s < SHORTEST_INTERVAL_S:
        raise InputError(
            f"--interval {interval_s:g}s is too short: 10ms or more, or 0 for as fast as it goes"
        )
    host, port = plc or (config.modbus.host, config.modbus.port)
    with database(url) as conninfo:
        settings = Settings(config, conninfo, repository, host, port, interval_s, schema, stream, duration)
        if not as_json:
            click.echo(_banner(settings, embedded=url is None))
            if missing := left_out(config):
                click.echo(missing)
        with _status_line(quiet=as_json) as show:
            status = run_logger(settings, Hooks(on_status=show))
    click.echo(json.dumps(_figures(status)) if as_json else f"stopped: {_line(status)}")
    return 1 if status.not_stored else 0


@cli.command()
@click.argument("device_file", type=click.Path(path_type=Path))
def plan(device_file: Path) -> None:
    """Show the requests that one scan of DEVICE_FILE sends.

    Example: plclogger plan configs/ald.yaml
    """
    config = _load(device_file)
    for number, block in enumerate(plan_reads(config), 1):
        groups = ", ".join(dict.fromkeys(p.group for p in block.parameters))
        click.echo(
            f"{number}. {block.table.value} {block.address} to {block.end - 1}: {block.count} addresses, "
            f"{len(block.parameters)} parameters ({groups})"
        )
    if missing := left_out(config):
        click.echo(missing)


def _load(device_file: Path) -> DeviceConfig:
    config = load_device(device_file)
    if not config.register_map.logged:
        raise InputError(f"{device_file}: there is nothing to log; {left_out(config)}")
    return config


def _banner(settings: Settings, embedded: bool) -> str:
    config = settings.config
    every = f"every {settings.interval_s:g} s" if settings.interval_s else "as fast as it goes"
    into = "the embedded PostgreSQL" if embedded else "the given database"
    until = f"for {settings.duration_s:g} s" if settings.duration_s is not None else "until Ctrl-C"
    return (
        f"{config.device.device_id}: {len(config.register_map.logged)} parameters in "
        f"{len(plan_reads(config))} requests from {settings.host}:{settings.port} {every} into {into}, "
        f"{settings.repository} repository, {until}"
    )


def _line(status: Status) -> str:
    problems = "".join(
        f", {count} {what}"
        for count, what in (
            (status.missed, "missed"),
            (status.read_errors, "read errors"),
            (status.waiting, "waiting"),
            (status.not_stored, "NOT STORED"),
        )
        if count
    )
    return (
        f"{status.stored_scans} scans stored, {status.rows_per_second():,.0f} rows/s, lag p99 "
        f"{status.lag_p99_ms():.1f} ms, commit p99 {status.commit_p99_ms():.1f} ms{problems}"
    )


def _figures(status: Status) -> dict[str, Any]:
    names = (
        "device_id",
        "parameters",
        "requests",
        "scans",
        "missed",
        "stored_scans",
        "stored_rows",
        "transactions",
        "read_errors",
        "not_stored",
        "reconnects",
    )
    return {
        **{name: getattr(status, name) for name in names},
        "rows_per_s": round(status.rows_per_second(), 1),
        "lag_p99_ms": _rounded(status.lag_p99_ms()),
        "commit_p99_ms": _rounded(status.commit_p99_ms()),
    }


def _rounded(milliseconds: float) -> float | None:
    """JSON has no NaN: what was never measured is null."""
    return None if isnan(milliseconds) else round(milliseconds, 3)


class _status_line:
    """Shows the status: one line that changes every second on a terminal, now and then a line in a pipe."""

    def __init__(self, quiet: bool) -> None:
        self._live = None
        self._quiet = quiet
        if not quiet and sys.stdout.isatty():
            self._live = Live(Text("waiting for the first scan"), console=Console(), transient=True)

    def __enter__(self) -> Callable[[Status], None]:
        if self._quiet:
            return lambda status: None
        if self._live is None:
            return _say_now_and_then
        self._live.start()
        live = self._live
        return lambda status: live.update(Text(_line(status)), refresh=True)

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()


def _say_now_and_then(status: Status) -> None:
    if round(status.seconds()) % _PIPE_EVERY_S == 0:
        click.echo(_line(status))


def main() -> None:
    """Entry point of the `plclogger` command."""
    run_command("plclogger", cli)
