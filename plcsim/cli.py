"""The `plcsim` command.

Commands import what they need when they run: a short question does not wait for modules that it has no
use for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from plcsim.command import run_command
from plcsim.control.option import control_option

if TYPE_CHECKING:
    from plcsim.config import DeviceConfig


class _Commands(click.Group):
    """A group some of whose commands are loaded only when they are asked for."""

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        self.later: dict[str, Callable[[], click.Command]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.later])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return self.later[name]() if name in self.later else super().get_command(ctx, name)


_request_journal_option = click.option(
    "--request-journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to which each request of a client is appended, and how it was answered.",
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Emulate a PLC over Modbus TCP, or a fleet of them, with values that anybody can recompute.

    Example: plcsim run configs/ald.yaml
    """


@cli.command()
@click.argument("device_file", type=click.Path(path_type=Path))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="Address to listen at, IPv4 or IPv6; several share the port.  [default: from the device file]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen at; 0 takes a free one.  [default: from the device file]",
)
@click.option(
    "--start-scan",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Number of the first PLC scan; it decides where in its process the machine starts.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="New file for what clients write; `plcbench verify --journal` reads it.",
)
@click.option(
    "--fault-journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to which each fault that lands is appended.",
)
@_request_journal_option
@control_option
def run(
    device_file: Path,
    hosts: tuple[str, ...],
    port: int | None,
    start_scan: int,
    journal: Path | None,
    fault_journal: Path | None,
    request_journal: Path | None,
    control: Path | None,
) -> int:
    """Serve the machine of DEVICE_FILE until Ctrl-C.

    Example: plcsim run configs/ald.yaml --port 5021
    """
    from plcsim.control.socket import default_socket
    from plcsim.device_file import load_device
    from plcsim.runner import run_emulator

    config = load_device(device_file)
    where = tuple(dict.fromkeys(hosts)) or (config.modbus.host,)
    skipped = run_emulator(
        config,
        where,
        config.modbus.port if port is None else port,
        start_scan,
        journal,
        lambda actual, tls: click.echo(_banner(config, where, actual, tls)),
        fault_journal=fault_journal,
        request_journal=request_journal,
        control=control or default_socket(config.device.device_id),
        folder=device_file.parent,
    )
    if skipped:
        click.echo(f"{skipped} PLC scans were skipped: this machine was too busy to compute them")
    return 0


def _banner(config: DeviceConfig, hosts: Sequence[str], port: int, tls_port: int | None) -> str:
    parameters = config.register_map.parameters
    components = len({p.component for p in parameters})
    where = ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)
    tls = f"; TLS at port {tls_port}" if tls_port else ""
    return (
        f"{config.device.device_id}: {len(parameters)} parameters of {components} components at {where}, "
        f"a new register image every {config.device.plc_scan_ms:g} ms{tls}; Ctrl-C stops"
    )


@cli.command()
@click.argument("fleet_file", type=click.Path(path_type=Path))
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    help="Processes that share the devices.  [default: from the fleet file, or one a core]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON status object a second, and a last one.")
@click.option(
    "--journal-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for what clients write, a file for each device, and for the faults that land.",
)
@_request_journal_option
@control_option
def fleet(
    fleet_file: Path,
    processes: int | None,
    as_json: bool,
    journal_dir: Path | None,
    request_journal: Path | None,
    control: Path | None,
) -> int:
    """Serve all machines of FLEET_FILE until Ctrl-C.

    They are shared out to several processes, each of which is started again if it dies.

    Example: plcsim fleet configs/fleet.yaml --processes 2
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads are of no use here, and bar a fork

    from plcsim.fleet.run import run_fleet

    run_fleet(fleet_file, processes, journal_dir, control, as_json, request_journal)
    return 0


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The whole status as one JSON object.")
@control_option
def status(as_json: bool, control: Path | None) -> int:
    """Say how a running emulator or fleet is.

    Example: plcsim status --json
    """
    from plcsim.control.socket import ask, find_running
    from plcsim.control.status import Status, described

    found = ask(find_running(control), {"op": "status"})["status"]
    if as_json:
        click.echo(json.dumps(found))
        return 0
    now = Status.from_json(found)
    click.echo(f"{now.kind} {now.name} (process {now.pid}), control socket {now.control}")
    for name, value in described(now):
        click.echo(f"  {name:<28} {value}")
    return 0


def _fault() -> click.Command:
    from plcsim.control.fault_cli import fault

    return fault


def _import() -> click.Command:
    from plcsim.importers.cli import import_command

    return import_command


cli.later["fault"] = _fault
cli.later["import"] = _import


def main() -> None:
    """Entry point of the `plcsim` command."""
    run_command("plcsim", cli)
