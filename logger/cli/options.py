"""Options that several commands of `plclogger` have, and what follows from them."""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from logger.database import DEFAULT_SCHEMA
from logger.database.embedded import data_folder
from logger.reading.read_plan import left_out
from plcsim.config import DeviceConfig
from plcsim.errors import InputError
from plcsim.fleet_file import Devices, load_devices

Command = Callable[..., Any]

_UNITS = {
    "": 1,
    "B": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


class Bytes(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A size option: a number of bytes, or with a unit: 500MB, 2GB, 64MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?)B?", str(value).strip(), re.IGNORECASE)
        if match is None or match[2].upper() not in _UNITS:
            self.fail(f"{value!r} is not a size such as 500MB, 2GB or 64MiB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2].upper()])


files = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")

url = click.option(
    "--database",
    "url",
    envvar="PLCSIM_DATABASE",
    help="postgresql:// URL, also read from PLCSIM_DATABASE.  [default: the embedded PostgreSQL]",
)

schema = click.option("--schema", default=DEFAULT_SCHEMA, show_default=True, help="Schema for our tables.")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

by = click.option(
    "--by",
    default=getpass.getuser,
    show_default="the user of this process",
    help="Who does it, for the record.",
)


def spool_option(help: str) -> Callable[[Command], Command]:
    return click.option(
        "--spool", type=click.Path(path_type=Path, file_okay=False), envvar="PLCLOGGER_SPOOL", help=help
    )


def load(paths: Sequence[Path]) -> tuple[str, tuple[DeviceConfig, ...]]:
    """The devices of all files, and what they are called together. Raises InputError: one line."""
    loaded = [load_devices(path) for path in paths]
    for path, each in zip(paths, loaded, strict=True):
        _check_logged(path, each)
    names = [each.name for each in loaded]
    name = names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"
    return name, tuple(config for each in loaded for config in each.configs)


def _check_logged(path: Path, devices: Devices) -> None:
    for config in devices.configs:
        if not config.register_map.logged:
            raise InputError(f"{path}: there is nothing to log; {left_out(config)}")


def default_spool(name: str, stream: int = 1) -> Path:
    """Where the spool of a device or fleet is if nobody says otherwise."""
    safe = re.sub(r"[^\w.+-]", "_", name)
    return data_folder() / "spool" / (safe if stream == 1 else f"{safe}-{stream}")


def spool_of(paths: Sequence[Path], spool: Path | None) -> Path:
    """The spool that a command looks at: the one that is named, or that of the devices of these files."""
    if spool is not None:
        return spool
    if paths:
        return default_spool(load(paths)[0])
    folders = sorted(data_folder().joinpath("spool").glob("*/"))
    if len(folders) != 1:
        found = f"there are {len(folders)}" if folders else "there is none"
        raise InputError(
            f"which spool? name a device file, or --spool DIR ({found} in {data_folder()}/spool)"
        )
    return folders[0]
