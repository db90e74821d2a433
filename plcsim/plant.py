"""The devices that one process serves: their servers, their PLC scans, and what is asked of them.

`plcsim run`, each worker of a fleet and the pytest fixture serve one Plant each, so that faults and
status are the same everywhere.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from plcsim.config import DeviceConfig
from plcsim.control import lateness
from plcsim.control.request import ControlRequest, fault_rule
from plcsim.control.status import PlantStatus, memory_bytes
from plcsim.device import Device
from plcsim.endpoint import Endpoint
from plcsim.errors import InputError
from plcsim.faults.engine import FaultEngine, FaultStatus
from plcsim.faults.event import Record
from plcsim.layout import Layout
from plcsim.request_journal import JournaledUnit, RecordRequest
from plcsim.tcp.server import ModbusServer
from plcsim.unit import Unit
from plcsim.writes import Event

Content = dict[str, Any]

_MANY_FILES = 65_536
"""Enough where the system names no limit."""


@dataclass(frozen=True, slots=True)
class Recorders:
    """What is told of the writes, restarts and requests of a device, and of the faults that land on it."""

    write: Callable[[Event], None] | None = None
    fault: Record | None = None
    request: RecordRequest | None = None
    """What is told of every request; where nobody wants it, requests cost nothing more."""


NO_RECORDERS = Recorders()


class Plant:
    """Serves endpoints; an async context manager. Raises ListenError if one cannot be bound.

    PLC scans of its devices are spread over their interval, so that they do not all come at once.
    Devices of one template share one Layout.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        start_scan: int = 0,
        recorders: Callable[[DeviceConfig], Recorders] = lambda config: NO_RECORDERS,
    ) -> None:
        self._endpoints = endpoints
        self.units: dict[str, Unit] = {}
        self.servers: list[ModbusServer] = []
        self._counts = lateness.NOTHING
        self._lateness_max_s = 0.0
        layouts: dict[tuple[int, int, float], Layout] = {}
        count = sum(len(endpoint.devices) for endpoint in endpoints)
        for endpoint in endpoints:
            behind: dict[int, Unit] = {}
            for config in endpoint.devices:
                key = id(config.groups), id(config.process), config.device.plc_scan_ms
                if key not in layouts:
                    layouts[key] = Layout(config)
                told = recorders(config)
                device = Device(config, told.write, layouts[key])
                unit = _unit(device, start_scan, len(self.units) / count, told)
                self.units[config.device.device_id] = behind[config.modbus.unit_id] = unit
            self.servers.append(ModbusServer(behind, endpoint.hosts, endpoint.port, folder=endpoint.folder))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for server in self.servers:
                await stack.enter_async_context(server)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def ports(self) -> tuple[int, ...]:
        """Where the endpoints listen, in their order."""
        return tuple(server.port for server in self.servers)

    async def failed(self) -> None:
        """Wait for ever, or raise what broke the PLC scans of a device."""
        await asyncio.gather(*(unit.scanner.failed() for unit in self.units.values()))

    def status(self) -> PlantStatus:
        """What is served now and what was done since the start."""
        faults = [fault for unit in self.units.values() if unit.faults for fault in unit.faults.rules()]
        self._take_lateness()
        return PlantStatus(
            devices=len(self.units),
            requests=sum(server.requests for server in self.servers),
            connections=sum(server.connections for server in self.servers),
            faults=len(faults),
            faults_in_force=sum(fault.in_force for fault in faults),
            faults_landed=sum(unit.faults.landed for unit in self.units.values()),
            plc_scans=sum(self._counts),
            skipped_plc_scans=sum(unit.scanner.late_scans for unit in self.units.values()),
            lateness=self._counts,
            lateness_max_s=self._lateness_max_s,
            memory_bytes=memory_bytes(),
            cpu_s=time.process_time(),
        )

    def _take_lateness(self) -> None:
        new: list[float] = []
        for unit in self.units.values():
            new += unit.scanner.lateness_s
            unit.scanner.lateness_s.clear()
        self._counts = lateness.counted(self._counts, new)
        self._lateness_max_s = max([self._lateness_max_s, *new])

    def devices(self) -> list[Content]:
        """Which devices there are and where; see `places_of`."""
        return list(places_of(self._endpoints, self.ports))

    def fault(self, names: Iterable[str], request: ControlRequest) -> Content:
        """Do what is asked with the faults of these devices; the reply lists the faults concerned."""
        chosen = {name: self.units[name].faults for name in names}
        match request.do:
            case "add":
                rule = fault_rule(request.rule or {})
                taken = [name for name, faults in chosen.items() if rule.name in _names(faults.rules())]
                if taken:
                    raise InputError(f"fault {rule.name!r}: {taken[0]} has one of this name already")
                new = {name: faults.add(rule) for name, faults in chosen.items()}
                return _listed(chosen, lambda name, fault: fault == new[name])
            case "remove":
                wanted = request.name or ""
                having = {name: f for name, f in chosen.items() if wanted in _names(f.rules())}
                reply = _listed(having, lambda name, fault: fault == wanted)
                for faults in having.values():
                    faults.remove(wanted)
                return reply
            case "clear":
                reply = _listed(chosen)
                for faults in chosen.values():
                    faults.clear()
                return reply
        return _listed(chosen)


def _unit(device: Device, start_scan: int, phase: float, told: Recorders) -> Unit:
    if told.request:
        return JournaledUnit(device, told.request, start_scan, phase, told.fault)
    return Unit(device, start_scan, phase, told.fault)


def raise_file_limit() -> int:
    """Let this process open as many files (so: connections) as it may; returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MANY_FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def places_of(endpoints: Sequence[Endpoint], ports: Sequence[int]) -> Iterator[Content]:
    """Where the devices behind endpoints that listen at these ports can be reached: the first address."""
    for endpoint, port in zip(endpoints, ports, strict=True):
        for config in endpoint.devices:
            yield {
                "device_id": config.device.device_id,
                "host": endpoint.hosts[0],
                "port": port,
                "unit_id": config.modbus.unit_id,
                "plc_scan_ms": config.device.plc_scan_ms,
            }


def _names(faults: Sequence[FaultStatus]) -> list[str]:
    return [fault.name for fault in faults]


def _listed(
    chosen: Mapping[str, FaultEngine],
    wanted: Callable[[str, str], bool] = lambda device, fault: True,
) -> Content:
    return {
        "devices": list(chosen),
        "faults": [
            {"device": name, **asdict(fault)}
            for name, faults in chosen.items()
            for fault in faults.rules()
            if wanted(name, fault.name)
        ],
    }
