"""`plclogger plan`, `probe` and `status`: they look, and change nothing."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from logger.cli import options
from logger.cli.view import Line, age
from logger.figures import Figures
from logger.reading.plc import Lines
from logger.reading.probe import Probed
from logger.reading.probe import probe as read_once
from logger.reading.read_plan import explain, left_out
from logger.settings import at_address, check_devices
from logger.status_file import how_it_is, read_status
from plcsim.command import HostPort
from plcsim.config import DeviceConfig
from plcsim.errors import InputError
from plcsim.parameters import ByteOrder

_MOST_DEVICES = 20
"""That `status` shows one by one, those first that need a look."""


@click.command()
@options.files
def plan(files: Sequence[Path]) -> None:
    """Show the requests that one scan of each device sends, and why each starts and ends where it does.

    Example: plclogger plan configs/ald.yaml
    """
    _, devices = options.load(files)
    shown: set[int] = set()
    for config in devices:
        if len(devices) > 1:
            if id(config.register_map) in shown:  # devices of one template have one plan
                continue
            shown.add(id(config.register_map))
            click.echo(f"{config.device.device_id}:")
        _show_plan(config)


def _show_plan(config: DeviceConfig) -> None:
    for group in config.poll_groups:
        if len(config.poll_groups) > 1:
            click.echo(f"poll group {group.name or 'of the device'}, every {group.interval_s:g} s:")
        for number, each in enumerate(explain(config, group.name), 1):
            block = each.block
            click.echo(
                f"{number}. {each.written}: {block.count} addresses, {len(block.parameters)} parameters "
                f"({', '.join(each.groups)}); starts: {each.starts}; ends: {each.ends}"
            )
    if missing := left_out(config):
        click.echo(missing)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--plc", type=HostPort(), help="HOST:PORT of the PLC.  [default: from the device file]")
@options.as_json
def probe(file: Path, plc: tuple[str, int] | None, as_json: bool) -> int:
    """Read the device of FILE once: raw words beside the value, and what the other byte orders would give.

    Example: plclogger probe configs/ald.yaml --plc 192.168.0.10:502
    """
    _, devices = options.load([file])
    if len(devices) != 1:
        raise InputError(f"{file}: probe reads one device, there are {len(devices)}")
    config = at_address(devices[0], *plc) if plc else devices[0]
    check_devices([config])
    rows = asyncio.run(_probe(config))
    if as_json:
        for row in rows:
            click.echo(json.dumps(_as_json(row)))
    else:
        _show_probed(config, rows)
    return 1 if any(row.problem for row in rows) else 0


async def _probe(config: DeviceConfig) -> list[Probed]:
    lines = Lines()
    try:
        unit = lines.unit(config.modbus.host, config.modbus.port, config.modbus)
        await unit.connect()
        return await read_once(unit, config)
    finally:
        lines.close()


def _show_probed(config: DeviceConfig, rows: Sequence[Probed]) -> None:
    table = Table(box=None, pad_edge=False)
    orders = list(ByteOrder)
    for name in ("id", "parameter", "address", "type", "words", "value", "unit", *(o.value for o in orders)):
        table.add_column(name, no_wrap=True)
    for row in rows:
        p = row.parameter
        table.add_row(
            str(p.parameter_id), p.full_name, row.written, f"{p.data_type.value} {p.byte_order.value}",
            row.words, row.problem or row.text, p.unit, *(row.in_order.get(order, "") for order in orders),
        )  # fmt: skip
    _console().print(table)


def _console() -> Console:
    """In a pipe nothing is cut off."""
    return Console(width=None if sys.stdout.isatty() else 250, highlight=False)


def _as_json(row: Probed) -> dict[str, object]:
    p = row.parameter
    return {
        "id": p.parameter_id,
        "parameter": p.full_name,
        "address": row.written,
        "type": p.data_type.value,
        "byte_order": p.byte_order.value,
        "words": row.words,
        "value": row.value,
        "text": row.text,
        "quality": None if row.quality is None else int(row.quality),
        "problem": row.problem,
        "in_order": {order.value: value for order, value in row.in_order.items()},
    }


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE...]")
@options.spool_option("The logger's spool.  [default: that of FILE, or the only one there is]")
@options.as_json
def status(files: Sequence[Path], spool: Path | None, as_json: bool) -> int:
    """Show how the logger of FILE stands. Exit code 1 if it does not run, or is not well.

    Example: plclogger status configs/ald.yaml
    """
    folder = options.spool_of(files, spool)
    figures = read_status(folder)
    state = how_it_is(figures)
    if as_json:
        click.echo(json.dumps({"state": state, "well": figures.is_well, **figures.to_json()}))
    else:
        _show_status(folder, figures, state)
    return 0 if state == "running" and figures.is_well else 1


def _show_status(folder: Path, figures: Figures, state: str) -> None:
    said = {
        "running": f"runs (process {figures.pid}) since {age(figures.seconds)}",
        "stopping": f"is stopping (process {figures.pid}), and stores what waits",
        "ended": "has ended",
        "gone": f"is gone: process {figures.pid} did not end, and is not there any more",
        "silent": f"is silent: process {figures.pid} is there, but wrote nothing",
    }[state]
    click.echo(f"{figures.device_id}: {said}; the newest figures are {age(time.time() - figures.at)} old")
    click.echo(Line().whole(figures))
    click.echo(f"database: {figures.database}")
    spooled = figures.spool
    click.echo(
        f"spool {folder}: {spooled.depth} waiting, {spooled.bytes:,} of {spooled.max_bytes:,} bytes, "
        f"the oldest for {age(spooled.oldest_age_s)}"
    )
    for alarm in figures.alarms:
        click.echo(f"ALARM: {alarm}")
    _show_devices(figures)


def _show_devices(figures: Figures) -> None:
    table = Table(box=None, pad_edge=False)
    for name in (
        "device",
        "state",
        "scans",
        "missed",
        "failed",
        "timeouts",
        "bad replies",
        "exceptions",
        "refused",
    ):
        table.add_column(name, no_wrap=True)
    worst = sorted(figures.devices, key=lambda d: (d.state == "connected", -d.failed - d.missed))
    for device in worst[:_MOST_DEVICES]:
        exceptions = ", ".join(f"{int(code):02d}: {count}" for code, count in device.exceptions.items())
        table.add_row(
            device.device_id, device.state, str(device.scans), str(device.missed), str(device.failed),
            str(device.timeouts), str(device.bad_replies), exceptions, str(len(device.refused)),
        )  # fmt: skip
    console = _console()
    console.print(table)
    if (more := len(worst) - _MOST_DEVICES) > 0:
        console.print(f"and {more} more devices")
