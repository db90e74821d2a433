"""Fixture `storing`: the storing half of a logger, a spool in a folder and a forwarder behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import Schema
from fix_proxy import Proxy
from fix_scans import Oven
from psycopg import Connection
from waiting import wait_for

from logger.database import connect, register_device
from logger.forwarding import Forwarder, ForwarderSettings, Stored, StreamSpec
from logger.repositories import SynchronizingRepository
from logger.scan import Item, Scan, StreamKey
from logger.spool import Quarantine, Spool, SpoolLimits

OVEN_1 = StreamKey("oven-1")
SETTINGS = ForwarderSettings(SynchronizingRepository, deadline_s=5.0, back_off_s=(0.005, 0.05), slow_s=0.1)
"""With pauses that a test can wait for."""


class Storing:
    """One run of it; `told` is what it said it has stored."""

    def __init__(
        self,
        schema: Schema,
        folder: Path,
        ovens: Sequence[Oven],
        settings: ForwarderSettings = SETTINGS,
        through: Proxy | None = None,
        kind: type[Forwarder] = Forwarder,
        limits: SpoolLimits | None = None,
    ) -> None:
        self.schema = schema
        self.told: list[Stored] = []
        self.ovens = {StreamKey(oven.layout.device_id): oven for oven in ovens}
        self.spool = Spool(folder / "spool", limits or SpoolLimits())
        self.spool.open()
        self.quarantine = Quarantine(folder / "quarantine")
        self._conninfo = through.conninfo if through else schema.conninfo
        specs = [StreamSpec(key, oven.layout, "bake") for key, oven in self.ovens.items()]
        self.forwarder = kind(
            self.spool, specs, self._connect, self._prepare, settings, self.quarantine, self.told.append
        )
        self._is_closed = False

    def start(self) -> Storing:
        self.forwarder.start()
        return self

    def put(self, *items: Item, key: StreamKey = OVEN_1) -> None:
        """Let the spool have items in the logger's own numbers, and wait until it has accepted them."""
        for item in items:
            self.spool.put(key, item)
        self.spool.flush(10)

    def close(self, drain_s: float = 20.0) -> int:
        """End as the logger does on SIGTERM; returns what stays in the spool."""
        if self._is_closed:
            return 0
        self._is_closed = True
        self.spool.flush(10)
        left = self.forwarder.close(drain_s)
        self.spool.close()
        return left

    def waits(self) -> int:
        """What is accepted and not stored."""
        return self.spool.figures().depth

    def until_stored(self) -> None:
        """Wait until nothing waits."""
        wait_for(lambda: self.waits() == 0 or self.forwarder.failed, 20, "everything to be stored")
        assert self.forwarder.failed is None

    @property
    def scans_told(self) -> list[int]:
        return [scan.number for each in self.told for scan in each.scans]

    def _connect(self) -> Connection[Any]:
        return connect(self._conninfo, self.schema.name)

    def _prepare(self, connection: Connection[Any]) -> None:
        for oven in self.ovens.values():
            register_device(connection, oven.config)


Start = Callable[..., Storing]


@pytest.fixture
def storing(schema: Schema, oven: Oven, tmp_path: Path) -> Iterator[Start]:
    """Makes runs with one spool after the other in one folder; they are closed with the test."""
    made: list[Storing] = []

    def make(*ovens: Oven, folder: str = "", **more: Any) -> Storing:
        made.append(Storing(schema, tmp_path / folder, ovens or (oven,), **more))
        return made[-1]

    yield make
    for each in made:
        each.close(0)


def ledger(schema: Schema, device: str = "oven-1") -> list[tuple[int, int]]:
    """First and last scan of each ledger row."""
    return schema.rows(
        "SELECT first_scan, last_scan FROM logging_transactions WHERE device_id = %s AND stream_id > 0"
        " ORDER BY first_scan",
        device,
    )


def gaps(schema: Schema) -> list[tuple[int, int, str]]:
    return schema.rows("SELECT first_scan, last_scan, reason FROM scan_gaps ORDER BY first_scan")


def stored_values(schema: Schema, column: int = 4, device: str = "oven-1") -> list[tuple[int, float]]:
    """Scan and value of one parameter, by scan: fix_scans writes number · 100 + column into it."""
    return schema.rows(
        "SELECT scan, value FROM parameter_value_history WHERE device_id = %s AND parameter_id = %s"
        " ORDER BY scan",
        device,
        10 + column,
    )


def as_logged(scans: Sequence[Scan], offset: int = 0) -> list[tuple[int, float]]:
    """What `stored_values` should say of these scans."""
    return [(scan.number + offset, float(scan.values[4])) for scan in scans]
