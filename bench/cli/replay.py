"""`plcbench replay`."""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bench.analysis.verdict import Targets
from bench.cli.arm_options import arm_a_option, arm_b_option
from bench.cli.options import console, database_option, progress_on, result_option
from bench.cli.targets import targets_option
from bench.replay.csv_file import read_csv
from bench.replay.history import read_history
from bench.replay.recording import Recording
from bench.replay.run import ReplaySettings, planned_seconds, require_enough, run_replay
from bench.report.sections import print_section
from bench.results import command_line, now_utc, result_path, write_result
from bench.section import Section
from logger.database import DEFAULT_SCHEMA, checked_conninfo, mapped_errors
from plcsim.command import Seconds

_WRITTEN_EVERY_S = 10.0
_SLOWEST, _FASTEST = 0.001, 1e6
_URLS = ("postgresql://", "postgres://")
_OF_A_CSV_FILE = {"time_column": "--time-column", "process_column": "--process-column"}
_OF_A_HISTORY = {"schema": "--schema", "device": "--device", "since": "--from", "until": "--to"}


class Speed(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """Times as fast as it happened; 0 for max."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        if isinstance(value, float) or text == "max":
            return value if isinstance(value, float) else 0.0
        with suppress(ValueError):
            speed = float(text.rstrip("x×"))
            if _SLOWEST <= speed <= _FASTEST:
                return speed
        self.fail(f"{value!r} is not a speed such as 1, 10 or max", param, ctx)


class _Written:
    """The result on disk while it grows: after the first pair, then every 10 s at most, and at the end."""

    def __init__(self, path: Path, content: dict[str, Any], section: Section) -> None:
        self._path, self._content, self._section = path, content, section
        self._last = -_WRITTEN_EVERY_S
        self._started = time.time()

    def soon(self) -> None:
        if time.monotonic() - self._last >= _WRITTEN_EVERY_S:
            self.now()

    def now(self) -> None:
        self._last = time.monotonic()
        more = {
            "finished_at": now_utc(),
            "took_s": round(time.time() - self._started, 1),
            "outcome": self._section.outcome.value,
            "sections": [self._section.to_json()],
        }
        write_result(self._path, "replay", self._content | more)


@click.command()
@click.argument("source")
@click.option(
    "--speed",
    type=Speed(),
    default="max",
    show_default=True,
    help="Times as fast as it happened: 1, 10, …; max: as fast as it goes.",
)
@arm_a_option
@arm_b_option
@click.option("--only-a", is_flag=True, help="Play it through arm A alone.")
@click.option("--for", "length", type=Seconds(), help="Only so much of the recording.  [default: all]")
@click.option("--time-column", default="", help="CSV: the column of times.  [default: the first]")
@click.option(
    "--process-column",
    default="",
    help="CSV: the column with the number of the process that runs, 0 for none.  [default: none runs]",
)
@click.option("--schema", default=DEFAULT_SCHEMA, show_default=True, help="History: its schema.")
@click.option("--device", default="", help="History: which device.  [default: the only one]")
@click.option("--from", "since", type=click.DateTime(), help="History: first time, UTC.  [default: a day]")
@click.option("--to", "until", type=click.DateTime(), help="History: end, UTC.  [default: the newest row]")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws which arm begins.")
@targets_option
@database_option
@result_option
def replay(
    source: str,
    speed: float,
    a: str,
    b: str,
    only_a: bool,
    length: float | None,
    time_column: str,
    process_column: str,
    schema: str,
    device: str,
    since: datetime | None,
    until: datetime | None,
    seed: int,
    targets: Targets,
    url: str | None,
    json_path: Path | None,
) -> int:
    """Play a recorded day again, through one arm or two: what would it have cost?

    SOURCE is a CSV file (a row a scan: a time, then a column for each parameter) or the postgresql:// URL
    of a database that plclogger wrote, of which it only reads. It is written, with the time of now, into
    schemas of our own in --database, and then compared with the recording. Ctrl-C keeps what was played.

    Exit codes: 0 pass, 3 a target is missed, 4 inconclusive, 5 invalid.

    Example: plcbench replay day.csv --speed 10
    """
    from_database = source.startswith(_URLS)
    if from_database:
        _refuse(_OF_A_CSV_FILE, "is for a CSV file; SOURCE is a database")
    else:
        _refuse(_OF_A_HISTORY, "is for the history of a database; SOURCE is a CSV file")
    if only_a:
        _refuse({"b": "--b"}, "and --only-a exclude each other")
    path = result_path("replay", json_path)
    where = "the history of the given database" if from_database else source
    console().print(f"reading {where} first", highlight=False, soft_wrap=True, markup=False)
    if from_database:
        recording = read_history(checked_conninfo(source), schema, device, since, until)
    else:
        recording = read_csv(Path(source), time_column, process_column)
    recording = recording if length is None else recording.first(length)
    require_enough(recording)
    settings = ReplaySettings((a,) if only_a else (a, b), speed or None, url, seed, targets)
    section = Section("replay")
    _play(recording, settings, section, path)
    return section.outcome.exit_code


def _refuse(options: dict[str, str], why: str) -> None:
    """Raise UsageError if one of these was given, rather than do without it silently."""
    context = click.get_current_context()
    for name, option in options.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} {why}", context)


def _play(recording: Recording, settings: ReplaySettings, section: Section, path: Path) -> None:
    """Say what will happen, do it, write the result whatever ends it, print the answer."""
    out = console()
    total = planned_seconds(recording, settings)
    how = f"at {settings.speed:g} times its speed" if settings.speed else "as fast as it goes"
    out.print(
        f"{recording.source}: {recording.scans:,} scans of {recording.parameters} parameters, "
        f"{_duration(recording.seconds)}; {how} through {' and '.join(settings.arms)}"
        f"{', in turns' if len(settings.arms) == 2 else ''}, on "
        f"{'the given database' if settings.url else 'a PostgreSQL of its own, removed after'}; "
        f"about {_duration(total)}",
        highlight=False,
        soft_wrap=True,
    )
    content: dict[str, Any] = {
        "command": command_line(),
        "settings": {
            "a": settings.arms[0],
            "b": settings.arms[1] if len(settings.arms) == 2 else "",
            "speed": settings.speed,
            "seed": settings.seed,
            "own_server": settings.url is None,
            "scans_per_transaction": 1,
        },
        "targets": dataclasses.asdict(settings.targets),
        "environment": {},
    }
    written = _Written(path, content, section)
    try:
        with progress_on(out, total) as progress, mapped_errors():
            run_replay(recording, settings, section, progress, written.soon, content["environment"].update)
    except BaseException as exc:
        section.error = "it was stopped" if not isinstance(exc, Exception) else " ".join(str(exc).split())
        raise
    finally:
        if section.figures:
            written.now()
            if section.error:
                out.print(f"{section.error}; what was played stands in {path}", highlight=False,
                          soft_wrap=True, markup=False)  # fmt: skip
    print_section(section, out)
    out.print(f"result: {path}", highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
