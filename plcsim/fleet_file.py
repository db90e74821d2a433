"""The fleet file: YAML -> the devices of a fleet, each with its own identity, address and seed.

An entry takes a device file as its template and makes `count` devices of it. What follows from the
template alone (groups, process, register map) is one object for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from plcsim.config import DeviceConfig
from plcsim.device_file import check_device, load_device
from plcsim.endpoint import Endpoint
from plcsim.faults.rules import FaultField
from plcsim.names import NO_NAME, Name
from plcsim.server_config import ServerSpec, UnitPolicy
from plcsim.yaml_file import Complaint, has_key, load_yaml

MAX_DEVICES = 10_000
MAX_UNIT_ID = 247
"""The highest that the serial lines behind a gateway know."""

_NUMBER = re.compile(r"\{n(?::0?[1-9])?\}")
_WILDCARDS = ("", "0.0.0.0", "::")
_NAME = TypeAdapter[str](Name)

Port = Annotated[int, Field(ge=0, le=65535)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class FleetSpec(_Strict):
    """What holds for the whole fleet."""

    name: Name = "fleet"
    host: str = "127.0.0.1"
    processes: int | None = Field(default=None, ge=1, le=256)
    """One a core if the file does not say."""


class OverridesSpec(_Strict):
    """What the devices of an entry have otherwise than their template."""

    plc_scan_ms: float | None = Field(default=None, ge=1.0, le=3_600_000.0)
    server: ServerSpec | None = None
    """Only the keys that stand here replace those of the template."""


class EntrySpec(_Strict):
    """Devices of one template."""

    model_config = ConfigDict(defer_build=True)  # FleetFile builds it

    template: str = Field(min_length=1)
    """A device file; relative to the fleet file."""
    count: int = Field(default=1, ge=1, le=MAX_DEVICES)
    device_id: str
    """With the device's number in it: ald-{n}, or ald-{n:03} for at least three digits."""
    first: int = Field(default=1, ge=0)
    """Number of the first device."""
    port: Port
    """Of the first device, the next one has the next; 0 takes free ones."""
    host: str | None = None
    hosts: str | None = None
    """Loopback address of the first port, the next port has the next address; all have one port number."""
    units_per_port: int = Field(default=1, ge=1, le=MAX_UNIT_ID)
    """Devices behind one port, as behind a gateway, with unit ids from `unit_id` on."""
    unit_id: int | None = Field(default=None, ge=0, le=MAX_UNIT_ID)
    seed: int | None = Field(default=None, ge=0)
    """Of the first device, the next one has the next; the template's if there is none."""
    overrides: OverridesSpec = OverridesSpec()
    faults: list[FaultField] = Field(default_factory=list)
    """Behind those of the template."""


class FleetFile(_Strict):
    """A whole fleet file."""

    fleet: FleetSpec = FleetSpec()
    devices: list[EntrySpec] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a fleet file describes, ready to be served."""

    name: str
    endpoints: tuple[Endpoint, ...]
    processes: int | None

    @property
    def device_ids(self) -> list[str]:
        """In the order of the file."""
        return [config.device.device_id for endpoint in self.endpoints for config in endpoint.devices]


def load_fleet(path: Path) -> Fleet:
    """Load a fleet file and its templates, each once. Raises ConfigError: one line."""
    endpoints: list[Endpoint] = []

    def check(file: FleetFile) -> None:
        templates: dict[str, DeviceConfig] = {}
        _check_number_of_devices(file)
        for number, entry in enumerate(file.devices):
            place = ("devices", number)
            if entry.template not in templates:
                templates[entry.template] = _template(place, path.parent / entry.template)
            changed = _overridden(place, templates[entry.template], entry)
            folder = (path.parent / entry.template).parent
            endpoints.extend(_endpoints(place, entry, changed, entry.host or file.fleet.host, folder))
        _check_unique(file, endpoints)

    file = load_yaml(path, FleetFile, check)
    return Fleet(file.fleet.name, tuple(endpoints), file.fleet.processes)


@dataclass(frozen=True, slots=True)
class Devices:
    """What a file names: one device, or all of a fleet."""

    name: str
    """The device's id, or the fleet's name."""
    configs: tuple[DeviceConfig, ...]


def load_devices(path: Path) -> Devices:
    """Load a device file or a fleet file, whichever it is. Raises ConfigError: one line."""
    if has_key(path, "devices"):
        fleet = load_fleet(path)
        return Devices(fleet.name, tuple(config for e in fleet.endpoints for config in e.devices))
    config = load_device(path)
    return Devices(config.device.device_id, (config,))


Place = tuple[str | int, ...]


def _check_number_of_devices(file: FleetFile) -> None:
    total = 0
    for number, entry in enumerate(file.devices):
        total += entry.count
        if total > MAX_DEVICES:
            raise Complaint(
                ("devices", number, "count"),
                f"{entry.count}: the fleet would have {total:,} devices; {MAX_DEVICES:,} at most",
            )


def _template(place: Place, path: Path) -> DeviceConfig:
    if not path.is_file():
        raise Complaint((*place, "template"), f"{str(path)!r}: there is no such device file")
    config = load_device(path)
    config.register_map  # noqa: B018 - computed here once, the copies share it
    return config


def _overridden(place: Place, config: DeviceConfig, entry: EntrySpec) -> DeviceConfig:
    """The template as all devices of an entry have it."""
    overrides = entry.overrides
    device = config.device
    if overrides.plc_scan_ms is not None:
        device = device.model_copy(update={"plc_scan_ms": overrides.plc_scan_ms})
    server = config.server
    if overrides.server is not None:
        server = server.model_copy(update=_given(overrides.server))
    if entry.units_per_port > 1 and "unit_policy" not in server.model_fields_set:
        server = server.model_copy(update={"unit_policy": UnitPolicy.STRICT_EXCEPTION})
    if server.tls is not None and entry.count > entry.units_per_port and entry.hosts is None:
        raise Complaint(place, "with server.tls each device needs an address of its own: give hosts")
    changed = _copy(config, device=device, server=server, faults=[*config.faults, *entry.faults])
    try:
        check_device(changed)
    except Complaint as exc:
        at = len(config.faults)
        if exc.location[0] == "faults" and isinstance(number := exc.location[1], int) and number >= at:
            raise Complaint((*place, "faults", number - at, *exc.location[2:]), exc.problem) from None
        where = ".".join(str(part) for part in exc.location)
        raise Complaint((*place, "overrides"), f"{where} of {entry.template}: {exc.problem}") from None
    return changed


def _given(spec: BaseModel) -> dict[str, Any]:
    """The keys that the file says."""
    return {key: getattr(spec, key) for key in spec.model_fields_set}


def _copy(config: DeviceConfig, **update: Any) -> DeviceConfig:
    """A device that shares what is not updated, its register map too, but not its hash."""
    copied = config.model_copy(update=update)
    copied.__dict__.pop("sha256", None)
    return copied


def _endpoints(
    place: Place, entry: EntrySpec, config: DeviceConfig, host: str, folder: Path
) -> Iterator[Endpoint]:
    numbers = range(entry.first, entry.first + entry.count)
    names = _names(place, entry.device_id, numbers)
    addresses = _addresses(place, entry, host)
    unit_id = config.modbus.unit_id if entry.unit_id is None else entry.unit_id
    if unit_id + entry.units_per_port - 1 > MAX_UNIT_ID and entry.units_per_port > 1:
        raise Complaint(
            (*place, "units_per_port"),
            f"{entry.units_per_port} from unit id {unit_id} on end behind {MAX_UNIT_ID}",
        )
    seed = config.device.seed if entry.seed is None else entry.seed
    step = 0 if entry.seed is None else 1
    for index in range(0, entry.count, entry.units_per_port):
        at, port = next(addresses)
        devices = []
        for unit, name in enumerate(names[index : index + entry.units_per_port]):
            identity = {"device_id": name, "seed": seed + step * (index + unit)}
            where = {"host": at, "port": port, "unit_id": unit_id + unit}
            devices.append(
                _copy(
                    config,
                    device=config.device.model_copy(update=identity),
                    modbus=config.modbus.model_copy(update=where),
                )
            )
        yield Endpoint((at,), port, tuple(devices), folder)


def _names(place: Place, pattern: str, numbers: range) -> list[str]:
    place = (*place, "device_id")
    rest = _NUMBER.sub("", pattern)
    if "{" in rest or "}" in rest:
        raise Complaint(place, f"{pattern!r}: only {{n}} or {{n:03}} can stand in braces")
    if rest == pattern and len(numbers) > 1:
        raise Complaint(place, f"{pattern!r} would be the id of {len(numbers)} devices; write {{n}} into it")
    names = [pattern.format(n=number) for number in numbers]
    try:
        _NAME.validate_python(max(names, key=len))
    except ValidationError:
        raise Complaint(place, f"{names[-1]!r} {NO_NAME}") from None
    return names


def _addresses(place: Place, entry: EntrySpec, host: str) -> Iterator[tuple[str, int]]:
    ports = -(-entry.count // entry.units_per_port)
    if entry.hosts is None:
        last = entry.port + ports - 1
        if entry.port and last > 65535:
            raise Complaint((*place, "port"), f"{entry.port}: {ports} ports from there end at {last}")
        return ((host, entry.port + i if entry.port else 0) for i in range(ports))
    if entry.host is not None:
        raise Complaint((*place, "hosts"), "say host or hosts, not both")
    try:
        start = IPv4Address(entry.hosts)
    except AddressValueError:
        raise Complaint((*place, "hosts"), f"{entry.hosts!r} is not an address such as 127.0.0.2") from None
    if not (start.is_loopback and (start + ports - 1).is_loopback):
        raise Complaint((*place, "hosts"), f"{entry.hosts!r}: {ports} from there must be 127.x.x.x")
    return ((str(start + i), entry.port) for i in range(ports))


def _check_unique(file: FleetFile, endpoints: list[Endpoint]) -> None:
    """No id and no address twice; a wildcard host takes its port at every address."""
    ids: dict[str, int] = {}
    hosts_at: dict[int, dict[str, str]] = {}
    remaining = iter(endpoints)
    for number, entry in enumerate(file.devices):
        for _ in range(-(-entry.count // entry.units_per_port)):
            endpoint = next(remaining)
            for config in endpoint.devices:
                name = config.device.device_id
                if name in ids:
                    raise Complaint(
                        ("devices", number, "device_id"),
                        f"{name!r} is already the id of a device of devices[{ids[name]}]",
                    )
                ids[name] = number
            if not endpoint.port:
                continue
            (host,) = endpoint.hosts
            here = hosts_at.setdefault(endpoint.port, {})
            taken = host if host in here else next(iter(here), "")
            if here and (taken == host or {taken, host} & set(_WILDCARDS)):
                raise Complaint(
                    ("devices", number, "port"),
                    f"{host}:{endpoint.port} is already taken by {here[taken]}",
                )
            here[host] = endpoint.devices[0].device.device_id
