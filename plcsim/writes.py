"""What a write of a client did: for the truth a `Write` a parameter, for the journal a `WriteRecord`."""

from __future__ import annotations

from dataclasses import dataclass

from plcsim.memory import Origin
from plcsim.parameters import Table


@dataclass(frozen=True, slots=True)
class Write:
    """A client changed a parameter: from the next PLC scan on everything follows the new value."""

    plc_scan: int
    """PLC scan during which the request was served; its image shows the old and then the new value."""
    parameter_id: int
    value: float
    epoch: int = 0
    """How often the device had been restarted; each time its PLC scans count from 0 again."""


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter that a write touched."""

    write: Write
    old: float
    """Its value before."""


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """All that one write request did."""

    device_id: str
    origin: Origin
    table: Table
    address: int
    old: tuple[int, ...]
    """What the registers (0 to 65535) or coils (0 or 1) from `address` on held before …"""
    new: tuple[int, ...]
    """… and hold since."""
    changes: tuple[Change, ...]
    """By address: every parameter of which the request wrote a part."""

    @property
    def writes(self) -> tuple[Write, ...]:
        """What the truth needs of it."""
        return tuple(change.write for change in self.changes)


@dataclass(frozen=True, slots=True)
class Restart:
    """A device forgot what was written and starts from its PLC scan 0."""

    device_id: str
    epoch: int
    """That begins: 1 after the first restart."""
    plc_scan: int
    """The last one before."""


Event = WriteRecord | Restart
"""What a device tells of, and a journal keeps."""
