"""What a fleet shows of itself: a table on a terminal, a line now and then in a pipe, or JSON lines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Protocol

import click

from plcsim.control.status import Status, described, late

if TYPE_CHECKING:
    from rich.table import Table

_LINE_EVERY_S = 5.0


class View(Protocol):
    """Shows how the fleet is."""

    def listening(self, banner: str) -> None:
        """Clients can connect."""

    def show(self, status: Status) -> None:
        """Another second has passed."""

    def close(self, status: Status | None) -> None:
        """The end, with the last status if there was one."""


class JsonView:
    """One JSON object for each status."""

    def listening(self, banner: str) -> None:
        pass

    def show(self, status: Status) -> None:
        click.echo(json.dumps(status.to_json()))

    def close(self, status: Status | None) -> None:
        pass  # the last status was shown


class LineView:
    """One line every few seconds."""

    def __init__(self) -> None:
        self._due_s = _LINE_EVERY_S

    def listening(self, banner: str) -> None:
        click.echo(banner)

    def show(self, status: Status) -> None:
        if status.uptime_s >= self._due_s:
            self._due_s += _LINE_EVERY_S
            click.echo(", ".join(f"{value} {name}".strip() for name, value in _line(status)))

    def close(self, status: Status | None) -> None:
        if status:
            click.echo(f"served {status.requests} requests in {status.uptime_s:.0f} s")


class LiveView:
    """A table that stays in its place on the terminal."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(auto_refresh=False)

    def listening(self, banner: str) -> None:
        click.echo(banner)
        self._live.start()

    def show(self, status: Status) -> None:
        self._live.update(_table(status), refresh=True)

    def close(self, status: Status | None) -> None:
        if self._live.is_started:
            self._live.stop()


def new_view(as_json: bool) -> View:
    """The view that fits where stdout leads."""
    if as_json:
        return JsonView()
    return LiveView() if sys.stdout.isatty() else LineView()


def _line(status: Status) -> list[tuple[str, str]]:
    return [
        ("devices", f"{status.devices}"),
        ("requests/s", f"{status.requests_per_s:.0f}"),
        ("connections", f"{status.connections}"),
        ("faults in force", f"{status.faults_in_force}"),
        ("", f"PLC scans late {late(status.lateness)}"),
        ("", f"in the last second {late(status.lateness_last)}"),
        ("restarts", f"{status.restarts}"),
    ]


def _table(status: Status) -> Table:
    from rich.table import Table

    table = Table(title=f"{status.name} (process {status.pid})", show_header=False, title_justify="left")
    for name, value in described(status):
        table.add_row(name, value)
    for worker in status.workers:
        state = "listening" if worker["listening"] else "down"
        table.add_row(
            f"worker {worker['number']}",
            f"process {worker['pid']} {state}, {worker['devices']} devices, {worker['restarts']} restarts",
        )
    return table
