"""`plclogger run`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from logger.cli import options
from logger.cli.view import Line, banner, status_line
from logger.database import database
from logger.database.embedded import data_folder
from logger.database.target import target_of
from logger.deal import dealt
from logger.figures import Figures
from logger.metrics import MetricsServer
from logger.reading.read_plan import left_out
from logger.repositories import REPOSITORIES
from logger.service import Hooks, run_logger
from logger.settings import Settings, at_address, check_devices, check_interval
from logger.spool import SpoolLimits
from logger.spool_folder import taken
from logger.workers import run_workers
from plcsim.command import HostPort, Seconds
from plcsim.config import DeviceConfig
from plcsim.errors import InputError


@click.command()
@options.files
@click.option(
    "--plc", type=HostPort(), help="HOST:PORT of the PLC, of one device only.  [default: from its file]"
)
@options.url
@options.schema
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
@options.spool_option("Folder where scans wait until they are stored.  [default: in the data folder]")
@click.option(
    "--spool-max-bytes", type=options.Bytes(), default="2GiB", show_default=True, help="Of all that may wait."
)
@click.option(
    "--spool-max-age", type=Seconds(), default="168h", show_default=True, help="Of a scan that waits."
)
@click.option(
    "--when-full",
    type=click.Choice(["block", "drop-oldest"]),
    default="block",
    show_default=True,
    help="A full spool: stop reading, or give up the oldest scans. Each is a recorded gap.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that share the devices.",
)
@click.option(
    "--writers",
    type=click.IntRange(1, 64),
    help="Database connections a process.  [default: 2, for one device 1]",
)
@click.option(
    "--drain", type=Seconds(), default="10s", show_default=True, help="Longest wait for storing at the end."
)
@click.option("--keep-days", type=click.IntRange(1), help="Detach history that is older.  [default: keep it]")
@click.option(
    "--metrics", type=HostPort(), help="HOST:PORT where to serve /metrics and /health.  [default: not]"
)
def run(
    files: Sequence[Path],
    plc: tuple[str, int] | None,
    url: str | None,
    schema: str,
    repository: str,
    interval: float | None,
    stream: int,
    duration: float | None,
    as_json: bool,
    spool: Path | None,
    spool_max_bytes: int,
    spool_max_age: float,
    when_full: str,
    workers: int,
    writers: int | None,
    drain: float,
    keep_days: int | None,
    metrics: tuple[str, int] | None,
) -> int:
    """Poll the machines of each FILE, a device or a fleet, and store each scan in one transaction.

    Until Ctrl-C. Scans that cannot be stored yet wait in the spool, over restarts too.

    Example: plclogger run configs/ald.yaml --interval 100ms
    """
    check_interval(interval)
    name, devices = options.load(files)
    devices = _addressed(devices, plc)
    check_devices(devices)
    folder = spool or options.default_spool(name, stream)
    with ExitStack() as stack:
        stack.enter_context(taken(folder))
        conninfo = stack.enter_context(database(url))
        settings = Settings(
            devices,
            conninfo,
            folder,
            repository,
            interval,
            schema,
            stream,
            duration,
            SpoolLimits(
                spool_max_bytes, spool_max_age, "drop_oldest" if when_full == "drop-oldest" else "block"
            ),
            writers,
            drain,
            keep_days,
            target=_target(url, conninfo, schema),
            name=name,
            quarantine=folder,
        )
        shown = _Shown()
        if metrics:
            stack.enter_context(MetricsServer(*metrics, lambda: shown.newest))
        if not as_json:
            _introduce(settings, embedded=url is None, workers=workers)
        show = stack.enter_context(status_line(quiet=as_json))
        figures = _log(settings, workers, shown, show)
    click.echo(json.dumps(figures.summary()) if as_json else f"stopped: {Line().whole(figures)}")
    return 0


class _Shown:
    """The newest figures of each process, for /metrics and /health."""

    newest: Sequence[Figures] = ()


def _log(settings: Settings, workers: int, shown: _Shown, show: Callable[[Figures], None]) -> Figures:
    def on_status(together: Figures, each: Sequence[Figures]) -> None:
        shown.newest = each
        show(together)

    parts = dealt(settings, workers)
    if len(parts) > 1:
        return run_workers(settings, parts, on_status)
    return run_logger(parts[0], Hooks(on_status=lambda figures: on_status(figures, (figures,))))


def _addressed(devices: tuple[DeviceConfig, ...], plc: tuple[str, int] | None) -> tuple[DeviceConfig, ...]:
    if plc is None:
        return devices
    if len(devices) != 1:
        raise InputError(f"--plc is for one device, there are {len(devices)}")
    return (at_address(devices[0], *plc),)


def _target(url: str | None, conninfo: str, schema: str) -> str:
    if url is None:  # its socket may move
        return f"the embedded PostgreSQL in {data_folder()}, schema {schema}"
    return target_of(conninfo, schema)


def _introduce(settings: Settings, embedded: bool, workers: int) -> None:
    click.echo(banner(settings, embedded, workers))
    told = {missing for config in settings.devices if (missing := left_out(config))}
    for missing in sorted(told):
        click.echo(missing)
