"""`plcsim import`: a register map that somebody already has -> a device file of ours."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from plcsim.device_file import load_device
from plcsim.errors import InputError, PlcsimError
from plcsim.importers.device_yaml import device_text
from plcsim.importers.draft import Draft, clean_name
from plcsim.importers.modpoll import import_modpoll
from plcsim.importers.report import Report, printable
from plcsim.importers.sunspec import DEFAULT_BASE_ADDRESS, SunSpecOptions, import_sunspec
from plcsim.limits import MAX_ADDRESS
from plcsim.names import NO_NAME

_FORMATS = {".csv": "modpoll", ".json": "sunspec"}
_FORMAT_OF_OPTION = {
    "device": "modpoll",
    **dict.fromkeys(("model_ids", "base_address", "repeats", "scale_factors"), "sunspec"),
}
"""Options that mean nothing to files of the other format."""


class _Exponent(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """NAME=N, such as A_SF=-2."""

    name = "name=n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value[0], value[1]
        name, _, exponent = str(value).rpartition("=")
        if not name or not exponent.lstrip("+-").isdecimal() or not -10 <= int(exponent[:8]) <= 10:
            self.fail(f"{value!r} is not NAME=N with N from -10 to 10, such as A_SF=-2", param, ctx)
        return name, int(exponent)


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["modpoll", "sunspec"]),
    help="What FILE is.  [default: modpoll for .csv, sunspec for .json]",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="New device file.  [default: standard output]"
)
@click.option("--device-id", help="Of the new device.  [default: from FILE]")
@click.option("--device", help="modpoll: which `device` of FILE.  [default: the first]")
@click.option(
    "--model-id",
    "model_ids",
    type=click.IntRange(1, 65534),
    multiple=True,
    help="sunspec: take model_ID.json from the folder FILE; several times, in the device's order.",
)
@click.option(
    "--base-address",
    type=click.IntRange(0, MAX_ADDRESS - 3),
    default=DEFAULT_BASE_ADDRESS,
    show_default=True,
    help="sunspec: where the marker SunS lies.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="sunspec: how often a group is there whose number the device decides.",
)
@click.option(
    "--scale-factor",
    "scale_factors",
    type=_Exponent(),
    multiple=True,
    help="sunspec: exponent of a scale factor, such as A_SF=-2 or 103.A_SF=-2; several times.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 if anything was left out or changed.")
@click.pass_context
def import_command(
    ctx: click.Context,
    files: tuple[Path, ...],
    format_: str | None,
    output: Path | None,
    device_id: str | None,
    device: str | None,
    model_ids: tuple[int, ...],
    base_address: int,
    repeats: int,
    scale_factors: tuple[tuple[str, int], ...],
    strict: bool,
) -> int:
    """Turn a modpoll CSV, or SunSpec model files as a chain, into a device file.

    What was left out or changed is listed on standard error, a line each.

    Example: plcsim import model_1.json model_103.json --output inverter.yaml
    """
    if model_ids:
        files = _model_files(files, model_ids)
    chosen = format_ or _format_of(files[0])
    _refuse_options_of_the_other(ctx, chosen, files[0])
    if chosen == "sunspec":
        options = SunSpecOptions(base_address, repeats, dict(scale_factors))
        draft, report = import_sunspec(files, options)
    elif len(files) > 1:
        raise InputError(f"{files[1]}: one modpoll file makes one device file; import it by itself")
    else:
        draft, report = import_modpoll(files[0], device)
    if device_id is not None:
        if clean_name(device_id) != device_id:
            raise InputError(f"--device-id {printable(repr(device_id))}: {NO_NAME}")
        draft = replace(draft, device_id=device_id)
    _write(draft, report, files, output)
    for line in report.lines():
        click.echo(line, err=True)
    click.echo(f"{report.summary()}{f'; wrote {output}' if output else ''}", err=True)
    return 1 if strict and (report.left_out or report.changed) else 0


def _model_files(files: Sequence[Path], model_ids: Sequence[int]) -> tuple[Path, ...]:
    if len(files) > 1 or not files[0].is_dir():
        raise InputError(f"{files[-1]}: --model-id takes models from one folder, such as models/json")
    return tuple(files[0] / f"model_{number}.json" for number in model_ids)


def _refuse_options_of_the_other(ctx: click.Context, chosen: str, file: Path) -> None:
    for option in ctx.command.params:
        meant = _FORMAT_OF_OPTION.get(option.name or "", chosen)
        if meant != chosen and ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            raise InputError(f"{option.opts[0]}: {file} is taken as {chosen}; this option is for {meant}")


def _format_of(path: Path) -> str:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(f"{path}: neither .csv nor .json; say what it is with --format") from None


def _write(draft: Draft, report: Report, files: Sequence[Path], output: Path | None) -> None:
    """Write the device file if our own loader takes it; nothing is left behind otherwise."""
    content = device_text(draft, report)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "device.yaml"
        trial.write_text(content, encoding="utf-8")
        try:
            load_device(trial)
        except PlcsimError as exc:
            problem = str(exc).removeprefix(str(trial)).lstrip(":")
            raise InputError(f"{files[0]}: does not make a device file: {printable(problem)}") from None
    if output is None:
        click.echo(content.encode(), nl=False)  # UTF-8 whatever the terminal is, as in a file
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise InputError(f"{output}: is there already; choose another name or remove it") from None
    except OSError as exc:
        raise InputError(f"{output}: cannot be written: {exc.strerror}") from None
