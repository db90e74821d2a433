"""The device file: YAML -> DeviceConfig, with errors that name file, line, key and value.

One file describes a device for the emulator and the logger alike. Parameters stand in groups; what
a group says (table, byte order) holds for its parameters unless they say otherwise.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from plcsim.faults.rules import FaultField
from plcsim.limits import MAX_ADDRESS, MAX_READ_BITS, MAX_READ_REGISTERS
from plcsim.names import Name
from plcsim.notation import AddressBase, Notation
from plcsim.parameters import AddressRange, ByteOrder, DataType, Parameter, RegisterMap, Table
from plcsim.process import ProcessSpec
from plcsim.server_config import ServerSpec
from plcsim.signals import SignalField

TableField = Annotated[Table, Field(strict=False)]
ByteOrderField = Annotated[ByteOrder, Field(strict=False)]
DataTypeField = Annotated[DataType, Field(strict=False)]


def _no_bool(value: object) -> object:
    """True equals 1, so that a Literal takes it."""
    if isinstance(value, bool):
        raise PydanticCustomError("literal_error", "", {"expected": "0, 1 or 'reference'"})
    return value


AddressBaseField = Annotated[AddressBase, BeforeValidator(_no_bool)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DeviceSpec(_Strict):
    """Which device this is."""

    device_id: Name
    name: str = ""
    seed: int = Field(default=0, ge=0)
    """Of the signals' noise."""
    plc_scan_ms: float = Field(default=100.0, ge=1.0, le=3_600_000.0)
    """How often the emulated PLC computes a new register image."""

    @property
    def plc_scan_s(self) -> float:
        return self.plc_scan_ms / 1000.0


class ModbusSpec(_Strict):
    """Where and how the device is reached."""

    host: str = "127.0.0.1"
    port: int = Field(default=5020, ge=0, le=65535)
    unit_id: int = Field(default=1, ge=0, le=255)
    timeout_s: float = Field(default=1.0, gt=0, le=60)
    """How long the logger waits for a connection or a reply."""
    max_registers: int = Field(default=125, ge=2, le=125)
    """Most registers the device answers in one request."""
    max_coils: int = Field(default=2000, ge=1, le=2000)
    max_gap: int | None = Field(default=None, ge=0, le=MAX_READ_BITS)
    """Most addresses between two parameters that one request passes over; none: as many as fit."""
    max_outstanding: int = Field(default=1, ge=1, le=16)
    """Most requests the logger sends before it has their replies; many devices take one only."""
    pause_after_connect_s: float = Field(default=0.0, ge=0, le=60)
    """Between the logger's connection and its first request."""
    pause_between_requests_s: float = Field(default=0.0, ge=0, le=10)
    """Between a reply and the next request on the connection."""
    close_after_scan: bool = False
    """Connect for each scan, so that others can have the device's only connection in between."""


class PollGroupSpec(_Strict):
    """Parameters that are read at an interval of their own."""

    interval_s: float = Field(ge=0.01, le=86_400)


@dataclass(frozen=True, slots=True)
class PollGroup:
    """What the logger reads together, at one interval."""

    name: str
    """Empty: what has no poll group of its own."""
    index: int
    """In the order of the device file, from 1; 0: what has no poll group of its own."""
    interval_s: float


class LoggingSpec(_Strict):
    """How the logger reads the device."""

    interval_s: float = Field(default=1.0, ge=0.01, le=86_400)
    on_failure: Literal["rows", "gap"] = "rows"
    """What is stored while the device fails: rows of bad quality, or one gap record for the outage."""
    poll_groups: dict[Name, PollGroupSpec] = Field(default_factory=dict)


class GapSpec(_Strict):
    """Addresses without a parameter that the device answers all the same, so that a request may
    pass over them. Anything else without a parameter is a hole: reading it is exception 02."""

    table: TableField
    address: int
    """In the notation of `address_base`."""
    count: int = Field(ge=1, le=MAX_ADDRESS + 1)
    answer: Literal["zeros", "junk"] = "zeros"
    """What the emulator answers there; junk is random looking, and always the same."""


class ParameterSpec(_Strict):
    """One parameter as the file says it; see `plcsim.parameters.Parameter`."""

    id: int = Field(ge=1, le=2**31 - 1)
    component: Name
    name: Name
    address: int
    """In the notation of `address_base`."""
    type: DataTypeField
    length: int | None = Field(default=None, ge=1, le=2 * MAX_READ_REGISTERS)
    """Bytes of a string."""
    bit: int | None = Field(default=None, ge=0, le=15)
    """Of a bool in a register."""
    byte_order: ByteOrderField | None = None
    scale: float = 1.0
    offset: float = 0.0
    null_value: int | None = None
    """The bits that mean "no value": 0x8000 and, where signed, -32768 are the same."""
    unit: str = ""
    writable: bool = False
    readable: bool = True
    limits: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    setpoint: str | None = None
    """Full name (component.name) of the parameter that holds this one's set value."""
    signal: SignalField | None = None

    @property
    def full_name(self) -> str:
        return f"{self.component}.{self.name}"


class GroupSpec(_Strict):
    """Parameters of one table. A consistent group is read in one request, never split over two."""

    name: Name
    table: TableField
    byte_order: ByteOrderField = ByteOrder.ABCD
    consistent: bool = True
    poll: str = ""
    """One of `logging.poll_groups`; empty: read every `logging.interval_s`."""
    parameters: list[ParameterSpec] = Field(min_length=1)


class DeviceConfig(_Strict):
    """A whole device file."""

    address_base: AddressBaseField = 0
    device: DeviceSpec
    modbus: ModbusSpec = ModbusSpec()
    logging: LoggingSpec = LoggingSpec()
    server: ServerSpec = ServerSpec()
    faults: list[FaultField] = Field(default_factory=list)
    process: ProcessSpec | None = None
    readable_gaps: list[GapSpec] = Field(default_factory=list)
    groups: list[GroupSpec] = Field(min_length=1)

    @cached_property
    def register_map(self) -> RegisterMap:
        """All parameters ordered by parameter_id."""
        ids = {p.full_name: p.id for group in self.groups for p in group.parameters}
        parameters = [
            _parameter(group, spec, ids, self.notation.zero_based(spec.address, group.table))
            for group in self.groups
            for spec in group.parameters
        ]
        gaps = [
            AddressRange(g.table, self.notation.zero_based(g.address, g.table), g.count)
            for g in self.readable_gaps
        ]
        return RegisterMap(
            tuple(sorted(parameters, key=lambda p: p.parameter_id)),
            tuple(gaps),
            frozenset(group.name for group in self.groups if group.consistent),
            tuple(gap for gap, spec in zip(gaps, self.readable_gaps, strict=True) if spec.answer == "junk"),
        )

    @cached_property
    def poll_groups(self) -> tuple[PollGroup, ...]:
        """The poll groups in which something is logged, what has none of its own first."""
        intervals = {"": self.logging.interval_s}
        intervals.update((name, spec.interval_s) for name, spec in self.logging.poll_groups.items())
        return tuple(
            PollGroup(name, index, interval_s)
            for index, (name, interval_s) in enumerate(intervals.items())
            if self.register_map.logged_in(name)
        )

    @cached_property
    def notation(self) -> Notation:
        """How this file writes addresses; those of `register_map` are zero-based."""
        written = [spec.address for group in self.groups for spec in group.parameters]
        written += [gap.address for gap in self.readable_gaps]
        return Notation(self.address_base, six_digits=max(written) > 99_999)

    def to_json(self) -> dict[str, Any]:
        """What `parse_config` takes back; what the database keeps of the device."""
        return self.model_dump(mode="json", exclude_unset=True)

    @cached_property
    def sha256(self) -> str:
        """Identifies what the values mean: hash over everything but addresses of hosts and timing."""
        meaning = {
            k: v for k, v in self.to_json().items() if k not in ("modbus", "logging", "server", "faults")
        }
        canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _parameter(group: GroupSpec, spec: ParameterSpec, ids: dict[str, int], address: int) -> Parameter:
    return Parameter(
        parameter_id=spec.id,
        component=spec.component,
        name=spec.name,
        table=group.table,
        address=address,
        data_type=spec.type,
        byte_order=spec.byte_order or group.byte_order,
        scale=spec.scale,
        offset=spec.offset,
        null_value=spec.null_value,
        length=spec.length,
        bit=spec.bit,
        unit=spec.unit,
        writable=spec.writable,
        readable=spec.readable,
        limits=(spec.limits[0], spec.limits[1]) if spec.limits else None,
        setpoint=ids[spec.setpoint] if spec.setpoint is not None else None,
        group=group.name,
        poll=group.poll,
        signal=spec.signal,
    )
