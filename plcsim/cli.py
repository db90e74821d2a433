"""The `plcsim` command."""

from __future__ import annotations

from pathlib import Path

import click

from plcsim.command import run_command
from plcsim.config import DeviceConfig
from plcsim.device_file import load_device
from plcsim.runner import run_emulator


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Emulate a PLC over Modbus TCP, with values that anybody can recompute.

    Example: plcsim run configs/ald.yaml
    """


@cli.command()
@click.argument("device_file", type=click.Path(path_type=Path))
@click.option("--host", help="Address to listen at.  [default: from the device file]")
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
def run(device_file: Path, host: str | None, port: int | None, start_scan: int, journal: Path | None) -> int:
    """Serve the machine of DEVICE_FILE until Ctrl-C.

    Example: plcsim run configs/ald.yaml --port 5021
    """
    config = load_device(device_file)
    where = host or config.modbus.host
    late = run_emulator(
        config,
        where,
        config.modbus.port if port is None else port,
        start_scan,
        journal,
        lambda actual: click.echo(_banner(config, where, actual)),
    )
    if late:
        click.echo(f"{late} PLC scans were skipped: this machine was too busy to compute them")
    return 0


def _banner(config: DeviceConfig, host: str, port: int) -> str:
    parameters = config.register_map.parameters
    components = len({p.component for p in parameters})
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return (
        f"{config.device.device_id}: {len(parameters)} parameters of {components} components at {where}, "
        f"a new register image every {config.device.plc_scan_ms:g} ms; Ctrl-C stops"
    )


def main() -> None:
    """Entry point of the `plcsim` command."""
    run_command("plcsim", cli)
