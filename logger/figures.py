"""How a logger stands: the figures that its status file, its metrics and its last line show."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from math import isnan
from typing import Any, Self

from logger.histogram import Histogram

STORING = "storing"
"""What the forwarder says of itself while all is well."""


@dataclass
class DeviceFigures:
    """One device, since the start of its process."""

    device_id: str
    state: str = "not connected"
    """connected, not connected, or unresponsive."""
    scans: int = 0
    missed: int = 0
    failed: int = 0
    """Scans that read nothing at all."""
    read_errors: int = 0
    """Requests without an answer that we may believe."""
    requests: int = 0
    timeouts: int = 0
    bad_replies: int = 0
    exceptions: dict[str, int] = field(default_factory=dict)
    """By code."""
    refused: list[str] = field(default_factory=list)
    """Parameters that the device does not know."""


@dataclass
class SpoolState:
    """What waits on the disk."""

    depth: int = 0
    """Scans and gap records that are not stored yet."""
    bytes: int = 0
    max_bytes: int = 0
    oldest_age_s: float = 0.0
    accepted: int = 0
    dropped: int = 0
    damaged: int = 0
    torn: int = 0
    error: str = ""


@dataclass
class Latencies:
    """Durations since the start, in seconds."""

    lag: Histogram = field(default_factory=Histogram)
    """Due time of a scan to its start."""
    response: Histogram = field(default_factory=Histogram)
    """Due time of a scan to its proven commit."""
    freshness: Histogram = field(default_factory=Histogram)
    """The first reply of a scan to its proven commit; wall clock, so that it spans restarts."""
    commit: Histogram = field(default_factory=Histogram)
    """Start of a transaction to its proven commit."""

    def each(self) -> list[tuple[str, Histogram]]:
        return [(each.name, getattr(self, each.name)) for each in fields(self)]

    def copy(self) -> Latencies:
        return Latencies(**{name: histogram.copy() for name, histogram in self.each()})

    def since(self, before: Latencies) -> Latencies:
        """What was added since an earlier copy."""
        then = dict(before.each())
        return Latencies(**{name: histogram.since(then[name]) for name, histogram in self.each()})

    def to_json(self) -> dict[str, Any]:
        return {name: histogram.to_json() for name, histogram in self.each()}


@dataclass
class Figures:
    """One process of a logger, or all of them together."""

    name: str = ""
    worker: int = 0
    pid: int = 0
    at: float = 0.0
    """When these figures were taken: seconds since 1970, UTC."""
    seconds: float = 0.0
    """Since the start."""
    cpu_s: float = 0.0
    stopping: bool = False
    """It was told to end, and stores what waits."""
    ended: bool = False
    database: str = "not yet connected"
    alarms: list[str] = field(default_factory=list)
    """What an operator should look at now, a line each."""
    parameters: int = 0
    """Of one scan of each device."""
    requests: int = 0
    """That such a scan sends."""
    stored_scans: int = 0
    stored_rows: int = 0
    transactions: int = 0
    reconnects: int = 0
    gaps: int = 0
    """Gap records."""
    quarantined: int = 0
    """Scans that the database refused for good."""
    restarts: int = 0
    """Of workers that died."""
    retries: Counter[str] = field(default_factory=Counter)
    """By class of the failure."""
    spool: SpoolState = field(default_factory=SpoolState)
    devices: list[DeviceFigures] = field(default_factory=list)
    latencies: Latencies = field(default_factory=Latencies)

    def _sum(self, name: str) -> int:
        return sum(getattr(device, name) for device in self.devices)

    @property
    def scans(self) -> int:
        return self._sum("scans")

    @property
    def missed(self) -> int:
        return self._sum("missed")

    @property
    def read_errors(self) -> int:
        return self._sum("read_errors")

    @property
    def device_id(self) -> str:
        """Of the only device; of several, the name of the logger."""
        return self.devices[0].device_id if len(self.devices) == 1 else self.name

    @property
    def spooled(self) -> int:
        """Scans and gap records that are not stored yet."""
        return self.spool.depth

    @property
    def rows_per_s(self) -> float:
        return self.stored_rows / max(self.seconds, 1e-9)

    @property
    def is_well(self) -> bool:
        """Whether everything that is read comes into the database, and anything is read at all."""
        answering = [device for device in self.devices if device.state == "connected"]
        return not self.alarms and self.database == STORING and bool(answering or not self.devices)

    def summary(self) -> dict[str, Any]:
        """What a program reads at the end of a run: one flat object."""
        counted = (
            "scans", "missed", "stored_scans", "stored_rows", "transactions", "read_errors", "reconnects",
            "spooled", "gaps", "quarantined", "restarts",
        )  # fmt: skip
        latency = dict(self.latencies.each())
        percentiles = (("lag", 99), ("commit", 99), ("freshness", 50), ("freshness", 99), ("response", 99))
        return {
            "device_id": self.device_id,
            "devices": len(self.devices),
            "parameters": self.parameters,
            "requests": self.requests,
            **{name: getattr(self, name) for name in counted},
            "retries": dict(self.retries),
            "dropped": self.spool.dropped,
            "damaged": self.spool.damaged,
            "seconds": round(self.seconds, 3),
            "cpu_s": round(self.cpu_s, 3),
            "rows_per_s": round(self.rows_per_s, 1),
            **{f"{name}_p{p}_ms": in_ms(latency[name].percentile(p)) for name, p in percentiles},
        }

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes back: the content of the status file."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            **data,
            "retries": dict(self.retries),
            "spool": asdict(self.spool),
            "devices": [asdict(device) for device in self.devices],
            "latencies": self.latencies.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what `to_json` did not write."""
        return cls(
            **{
                **data,
                "retries": Counter(data["retries"]),
                "spool": SpoolState(**data["spool"]),
                "devices": [DeviceFigures(**device) for device in data["devices"]],
                "latencies": Latencies(
                    **{name: Histogram.from_json(each) for name, each in data["latencies"].items()}
                ),
            }
        )


def in_ms(seconds: float) -> float | None:
    """JSON has no NaN: what was never measured is null."""
    return None if isnan(seconds) else round(seconds * 1000, 3)
