"""What a running emulator or fleet tells of itself: one object, made anew each second, JSON when asked.

Its faults are those of the moment, so that whoever adds one finds it there.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from plcsim.control import lateness
from plcsim.control.lateness import NOTHING, Counts

_PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class PlantStatus:
    """What one process serves, and what it has done since it began."""

    devices: int = 0
    requests: int = 0
    connections: int = 0
    faults: int = 0
    """Rules, whether their window is open or not."""
    faults_in_force: int = 0
    faults_landed: int = 0
    plc_scans: int = 0
    skipped_plc_scans: int = 0
    lateness: Counts = NOTHING
    """See `plcsim.control.lateness`."""
    lateness_max_s: float = 0.0
    memory_bytes: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One worker of a fleet."""

    number: int
    pid: int
    listening: bool
    restarts: int
    plant: PlantStatus


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late PLC scans were, in ms; None where there was none."""

    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """The whole emulator or fleet."""

    kind: str
    """emulator or fleet."""
    name: str
    pid: int
    control: str | None
    """Path of the control socket."""
    uptime_s: float
    processes: int
    processes_listening: int
    restarts: int
    devices: int
    requests: int
    requests_per_s: float
    """Since the status before this one."""
    connections: int
    faults: int
    faults_in_force: int
    faults_landed: int
    plc_scans: int
    skipped_plc_scans: int
    lateness: Lateness
    """Since the start."""
    lateness_last: Lateness
    """Since the status before this one."""
    memory_bytes: int
    cpu_s: float
    workers: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Status:
        """What `to_json` gave, come back."""
        late = {key: Lateness(**data[key]) for key in ("lateness", "lateness_last")}
        return cls(**{**data, **late})


class Meter:
    """Makes a Status of what the processes tell, and of what they told before."""

    def __init__(self, kind: str, name: str, control: Path | None) -> None:
        self._kind, self._name, self._control = kind, name, control
        self._started_at = self._before_at = time.monotonic()
        self._before = PlantStatus()

    def look(self, processes: Sequence[ProcessStatus], ended: PlantStatus | None = None) -> Status:
        """The status now; `ended` is what processes had done that are no more."""
        now = time.monotonic()
        own = PlantStatus(memory_bytes=memory_bytes(), cpu_s=time.process_time())
        running = [p.plant for p in processes]
        total = together([*running, ended or PlantStatus()])
        last = lateness.since(total.lateness, self._before.lateness)
        elapsed_s = max(1e-3, now - self._before_at)
        is_fleet = self._kind == "fleet"
        status = Status(
            kind=self._kind,
            name=self._name,
            pid=os.getpid(),
            control=str(self._control) if self._control else None,
            uptime_s=round(now - self._started_at, 3),
            processes=len(processes),
            processes_listening=sum(p.listening for p in processes),
            restarts=sum(p.restarts for p in processes),
            devices=sum(p.devices for p in running),
            requests=total.requests,
            requests_per_s=round(max(0, total.requests - self._before.requests) / elapsed_s, 1),
            connections=sum(p.connections for p in running),
            faults=sum(p.faults for p in running),
            faults_in_force=sum(p.faults_in_force for p in running),
            faults_landed=total.faults_landed,
            plc_scans=total.plc_scans,
            skipped_plc_scans=total.skipped_plc_scans,
            lateness=Lateness(_late_ms(total, total.lateness, 99), _max_ms(total)),
            lateness_last=Lateness(_late_ms(total, last, 99), _late_ms(total, last, 100)),
            memory_bytes=total.memory_bytes + (own.memory_bytes if is_fleet else 0),
            cpu_s=round(total.cpu_s + (own.cpu_s if is_fleet else 0.0), 3),
            workers=tuple(_worker(p) for p in processes) if is_fleet else (),
        )
        self._before, self._before_at = total, now
        return status


def together(parts: Sequence[PlantStatus]) -> PlantStatus:
    """The sum of what several processes have done."""
    return PlantStatus(
        devices=sum(p.devices for p in parts),
        requests=sum(p.requests for p in parts),
        connections=sum(p.connections for p in parts),
        faults=sum(p.faults for p in parts),
        faults_in_force=sum(p.faults_in_force for p in parts),
        faults_landed=sum(p.faults_landed for p in parts),
        plc_scans=sum(p.plc_scans for p in parts),
        skipped_plc_scans=sum(p.skipped_plc_scans for p in parts),
        lateness=lateness.added(p.lateness for p in parts),
        lateness_max_s=max((p.lateness_max_s for p in parts), default=0.0),
        memory_bytes=sum(p.memory_bytes for p in parts),
        cpu_s=sum(p.cpu_s for p in parts),
    )


def with_faults_of(status: Status, parts: Sequence[PlantStatus]) -> Status:
    """The status with the faults that the processes have now; all else in it is as it was."""
    now = together(parts)
    return replace(
        status,
        faults=now.faults,
        faults_in_force=now.faults_in_force,
        faults_landed=now.faults_landed,
    )


def ended_with(ended: PlantStatus, last: PlantStatus) -> PlantStatus:
    """What ended processes had done, one more of them counted; they hold nothing any more."""
    return replace(
        together([ended, last]), devices=0, connections=0, faults=0, faults_in_force=0, memory_bytes=0
    )


def memory_bytes() -> int:
    """Resident memory of this process; its peak where the system does not tell the present one."""
    try:
        with Path("/proc/self/statm").open(encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def _late_ms(plant: PlantStatus, counts: Counts, percent: float) -> float | None:
    """What so many percent of these scans of a plant do not exceed; never above the latest of them all."""
    bucket_ms, max_ms = lateness.percentile_ms(counts, percent), _max_ms(plant)
    return None if bucket_ms is None or max_ms is None else min(bucket_ms, max_ms)


def _max_ms(plant: PlantStatus) -> float | None:
    return round(1000.0 * plant.lateness_max_s, 3) if any(plant.lateness) else None


def _worker(process: ProcessStatus) -> dict[str, Any]:
    plant = process.plant
    return {
        "number": process.number,
        "pid": process.pid,
        "listening": process.listening,
        "restarts": process.restarts,
        "devices": plant.devices,
        "requests": plant.requests,
        "connections": plant.connections,
        "skipped_plc_scans": plant.skipped_plc_scans,
        "lateness_p99_ms": _late_ms(plant, plant.lateness, 99),
        "memory_bytes": plant.memory_bytes,
        "cpu_s": round(plant.cpu_s, 3),
    }


def described(status: Status) -> list[tuple[str, str]]:
    """What a status says, each figure with its name."""
    return [
        ("devices", f"{status.devices}"),
        ("processes listening", f"{status.processes_listening} of {status.processes}"),
        ("requests/s", f"{status.requests_per_s:.0f}"),
        ("requests", f"{status.requests}"),
        ("connections", f"{status.connections}"),
        ("faults in force", f"{status.faults_in_force} of {status.faults}, landed {status.faults_landed}"),
        ("PLC scans late, since start", late(status.lateness)),
        ("PLC scans late, last second", late(status.lateness_last)),
        ("PLC scans skipped", f"{status.skipped_plc_scans}"),
        ("restarts", f"{status.restarts}"),
        ("memory", f"{status.memory_bytes / 1e6:.0f} MB"),
        ("processor time", f"{status.cpu_s:.1f} s"),
        ("up", f"{status.uptime_s:.0f} s"),
    ]


def late(lateness: Lateness) -> str:
    """How late PLC scans were, for people."""
    if lateness.p99_ms is None or lateness.max_ms is None:
        return "none yet"
    return f"p99 {lateness.p99_ms:.3g} ms max {lateness.max_ms:.3g} ms"
