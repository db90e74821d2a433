"""What one logger does: its devices, where they are stored, and the limits that it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from logger.database import DEFAULT_SCHEMA
from logger.scan import ScanLayout, StreamKey
from logger.spool import SpoolLimits
from plcsim.config import DeviceConfig, PollGroup
from plcsim.errors import InputError

SHORTEST_INTERVAL_S = 0.01


@dataclass(frozen=True)
class Settings:
    """What one process of a logger does; can be pickled."""

    devices: tuple[DeviceConfig, ...]
    conninfo: str
    spool: Path
    """Folder of the spool; it goes on where the logger before it stopped."""
    repository: str = "synchronizing"
    interval_s: float | None = None
    """Of each device's first poll group; None: from its file, 0: as fast as it goes."""
    schema: str = DEFAULT_SCHEMA
    stream_id: int = 1
    duration_s: float | None = None
    """None: until SIGINT or SIGTERM."""
    limits: SpoolLimits = field(default_factory=SpoolLimits)
    writers: int | None = None
    """Threads that store, each with a connection of its own; None: as many as pay."""
    drain_s: float = 10.0
    """Longest time that storing what waits may take at the end; the rest stays in the spool."""
    keep_days: int | None = None
    """How long history stays attached; None: for ever."""
    target: str = ""
    """Which database the spool is for, without a password; empty: that of `conninfo` and `schema`."""
    name: str = ""
    quarantine: Path | None = None
    """None: in the spool."""
    worker: int = 0
    """Which of several processes this is, from 1; 0: the only one."""
    writer: UUID | None = None
    """Identity of a spool that is new; all workers of a logger share one."""

    @property
    def connections(self) -> int:
        """Writers of this process. Two store about twice what one does where they have devices enough to
        share; one alone is a stream after the other, which a second cannot speed up."""
        return self.writers or (2 if len(self.devices) > 1 else 1)

    def interval_of(self, group: PollGroup) -> float:
        """How often a poll group is read, in seconds; 0: as fast as it goes."""
        return group.interval_s if self.interval_s is None or group.index else self.interval_s


@dataclass(frozen=True)
class LoggedStream:
    """One poll group of one device: a stream of scans of its own."""

    config: DeviceConfig
    group: PollGroup
    key: StreamKey
    layout: ScanLayout
    interval_s: float


def logged_streams(settings: Settings) -> list[LoggedStream]:
    """The streams of all devices, in the order of the devices and of their poll groups."""
    return [
        LoggedStream(
            config,
            group,
            StreamKey(config.device.device_id, settings.stream_id + group.index),
            ScanLayout(config, group.name),
            settings.interval_of(group),
        )
        for config in settings.devices
        for group in config.poll_groups
    ]


def at_address(config: DeviceConfig, host: str, port: int) -> DeviceConfig:
    """The device at another address than its file says."""
    return config.model_copy(update={"modbus": config.modbus.model_copy(update={"host": host, "port": port})})


def check_devices(devices: Sequence[DeviceConfig]) -> None:
    """Raise InputError unless these devices can be logged together."""
    seen: set[str] = set()
    for config in devices:
        name = config.device.device_id
        if name in seen:
            raise InputError(f"device {name!r} is given twice")
        seen.add(name)
        if config.modbus.port == 0:
            raise InputError(
                f"device {name!r} has port 0, which no PLC listens at; name one with --plc HOST:PORT"
            )


def check_interval(interval_s: float | None) -> None:
    """Raise InputError if no scan can be due so often."""
    if interval_s and interval_s < SHORTEST_INTERVAL_S:
        raise InputError(
            f"--interval {interval_s:g}s is too short: 10ms or more, or 0 for as fast as it goes"
        )
