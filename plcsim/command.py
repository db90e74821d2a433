"""What the three commands share: one line per error, exit codes, log set-up, durations."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from plcsim.errors import PlcsimError

_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A duration option: a number of seconds, or with a unit: 250ms, 30s, 10m, 2h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a duration such as 30, 30s, 250ms or 10m", param, ctx)
        return float(match[1]) * _UNITS[match[2] or ""]


class HostPort(click.ParamType):  # type: ignore[type-arg]
    """HOST:PORT, or [IPv6]:PORT."""

    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value[0], value[1]
        match = re.fullmatch(r"(?:\[([^][]+)\]|([^][]+)):([0-9]{1,5})", str(value))
        if match is None or not 0 < int(match[3]) <= 65535:
            self.fail(f"{value!r} is not HOST:PORT, such as 192.168.0.10:502", param, ctx)
        return match[1] or match[2], int(match[3])


def run_command(program: str, command: click.Command, prepare: Callable[[], None] | None = None) -> None:
    """Run a click command as a program: errors become one line on stderr and their exit code."""
    logging.basicConfig(
        level=logging.WARNING, format=f"{program}: %(levelname)s: %(message)s", stream=sys.stderr
    )
    if prepare:
        prepare()
    try:
        code = command.main(sys.argv[1:] or ["--help"], prog_name=program, standalone_mode=False)
    except click.UsageError as exc:
        hint = f" (see {exc.ctx.command_path} --help)" if exc.ctx else ""
        _end(program, exc.format_message() + hint, 2)
    except click.ClickException as exc:
        _end(program, exc.format_message(), exc.exit_code)
    except PlcsimError as exc:
        _end(program, str(exc), exc.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _end(program, "stopped", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    sys.exit(code if isinstance(code, int) else 0)


def _end(program: str, message: str, code: int) -> None:
    line = " ".join(message.split())
    print(f"{program}: {line}", file=sys.stderr)  # noqa: T201 - this is the command line
    sys.exit(code)
