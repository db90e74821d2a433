"""What `plclogger run` and `plclogger status` say of a logger, in one line or in some."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from math import isnan

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from logger.figures import STORING, Figures, Latencies
from logger.reading.read_plan import plan_reads
from logger.settings import Settings

_PIPE_EVERY_S = 10
_NEWEST = 60
"""Looks, a second apart, that the line speaks of."""


def banner(settings: Settings, embedded: bool, workers: int) -> str:
    """What the logger is about to do."""
    devices = settings.devices
    requests = sum(len(plan_reads(config, group.name)) for config in devices for group in config.poll_groups)
    parameters = sum(len(config.register_map.logged) for config in devices)
    first = devices[0].modbus
    where = f"{first.host}:{first.port}" if len(devices) == 1 else f"{len(devices)} devices"
    intervals = sorted({settings.interval_of(g) for config in devices for g in config.poll_groups})
    every = " and ".join(f"every {each:g} s" if each else "as fast as it goes" for each in intervals)
    into = "the embedded PostgreSQL" if embedded else "the given database"
    until = f"for {settings.duration_s:g} s" if settings.duration_s is not None else "until Ctrl-C"
    name = devices[0].device.device_id if len(devices) == 1 else settings.name
    processes = f", {workers} processes" if workers > 1 else ""
    return (
        f"{name}: {parameters} parameters in {requests} requests from {where} {every} into {into}, "
        f"{settings.repository} repository{processes}, spool {settings.spool}, {until}"
    )


class Line:
    """The status line; its percentiles are of the newest minute."""

    def __init__(self) -> None:
        self._before: deque[Latencies] = deque([Latencies()], maxlen=_NEWEST)

    def __call__(self, figures: Figures) -> str:
        newest = figures.latencies.since(self._before[0])
        self._before.append(figures.latencies.copy())
        return _line(figures, newest)

    def whole(self, figures: Figures) -> str:
        """The same over the whole run."""
        return _line(figures, figures.latencies)


def _line(figures: Figures, latencies: Latencies) -> str:
    problems = "".join(
        f", {count} {what}"
        for count, what in (
            (figures.missed, "missed"),
            (figures.read_errors, "read errors"),
            (figures.spooled, "in the spool"),
            (figures.quarantined, "in quarantine"),
            (figures.spool.dropped, "DROPPED"),
            (figures.restarts, "worker restarts"),
        )
        if count
    )
    database = "" if figures.database == STORING or figures.ended else f"; {figures.database}"
    alarms = "".join(f"; {alarm}" for alarm in figures.alarms)
    return (
        f"{figures.stored_scans} scans stored, {figures.rows_per_s:,.0f} rows/s, lag p99 "
        f"{_ms(latencies.lag.percentile(99))}, commit p99 {_ms(latencies.commit.percentile(99))}"
        f"{problems}{database}{alarms}"
    )


def age(seconds: float) -> str:
    """A duration for people: 5 s, 3 min, 2.5 h, 4 days."""
    seconds = max(seconds, 0.0)
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"


def _ms(seconds: float) -> str:
    return "unknown" if isnan(seconds) else f"{seconds * 1000:.1f} ms"


class status_line:
    """Shows the status: one line that changes every second on a terminal, now and then a line in a pipe."""

    def __init__(self, quiet: bool) -> None:
        self._live = None
        self._quiet = quiet
        self._line = Line()
        self._shown = 0
        if not quiet and sys.stdout.isatty():
            self._live = Live(Text("waiting for the first scan"), console=Console(), transient=True)

    def __enter__(self) -> Callable[[Figures], None]:
        if self._quiet:
            return lambda figures: None
        if self._live is None:
            return self._say_now_and_then
        self._live.start()
        live = self._live
        return lambda figures: live.update(Text(self._line(figures)), refresh=True)

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _say_now_and_then(self, figures: Figures) -> None:
        line = self._line(figures)
        if (shown := int(figures.seconds) // _PIPE_EVERY_S) > self._shown and not figures.ended:
            self._shown = shown
            click.echo(line)
