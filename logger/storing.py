"""The storing half of a process: what the forwarder needs to know of the database, and what it has stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from logger.database import connect, prepare_schema, register_devices
from logger.errors import DatabaseRefused
from logger.figures import Latencies
from logger.forwarding.forwarder import Forwarder, ForwarderSettings, Stored, StreamSpec
from logger.repositories import REPOSITORIES
from logger.settings import LoggedStream, Settings
from logger.spool import Quarantine, Spool
from plcsim.config import DeviceConfig

OnStored = Callable[[Stored], None]


class Storing:
    """Makes the tables, enters the devices, and forwards what the spool has accepted."""

    def __init__(
        self,
        settings: Settings,
        streams: Sequence[LoggedStream],
        spool: Spool,
        on_stored: OnStored,
    ) -> None:
        self._settings = settings
        self._on_stored = on_stored
        self.latencies = Latencies()
        self.is_in_touch = False
        """Whether first contact has a connection."""
        self.quarantine = Quarantine(settings.quarantine or settings.spool)
        self.forwarder = Forwarder(
            spool,
            [
                StreamSpec(each.key, each.layout, each.layout.recipe, each.group.name, each.interval_s)
                for each in streams
            ],
            self.connect,
            self._prepare,
            ForwarderSettings(REPOSITORIES[settings.repository], writers=settings.connections),
            self.quarantine,
            self._count,
        )

    def connect(self) -> Any:
        """A connection as all our sessions are. Raises DatabaseUnreachable or DatabaseRefused."""
        return connect(self._settings.conninfo, self._settings.schema)

    def first_contact(self) -> None:
        """Whether the database is one that we may use. Raises DatabaseUnreachable or DatabaseRefused."""
        with self.connect() as connection:
            self.is_in_touch = True
            prepare_schema(connection, self._settings.schema)
            register_devices(connection, self._settings.devices)

    def _prepare(self, connection: Any) -> dict[str, str]:
        """On each new connection, because the database may be another one than before; quick if it is not.

        Returns the devices that it refuses, with why: their scans stay in the spool, the others go on.
        """
        prepare_schema(connection, self._settings.schema)
        try:
            register_devices(connection, self._settings.devices)
        except DatabaseRefused:
            return {
                config.device.device_id: why
                for config in self._settings.devices
                if (why := self._refusal(connection, config))
            }
        return {}

    @staticmethod
    def _refusal(connection: Any, config: DeviceConfig) -> str:
        """Why the database refuses a device; empty: it does not."""
        try:
            register_devices(connection, [config])
        except DatabaseRefused as exc:
            return str(exc)
        return ""

    def _count(self, stored: Stored) -> None:
        latencies, now_us = self.latencies, time.time_ns() // 1000
        latencies.commit.add((stored.committed_ns - stored.started_ns) / 1e9)
        for scan in stored.scans:
            latencies.freshness.add((now_us - int(scan.recorded_at.min())) / 1e6)
            if scan.due_ns:  # else it was read by a run before this one
                latencies.response.add((stored.committed_ns - scan.due_ns) / 1e9)
        self._on_stored(stored)
