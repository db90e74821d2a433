"""What requests read and write: register images, and where a write came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from plcsim.parameters import Table


@dataclass(slots=True)
class TableImage:
    """What a table shows now: two bytes a register as on the wire, or one byte of 0 or 1 a coil."""

    data: bytes
    bytes_per_address: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a write came from."""

    peer: str
    """host:port of the client."""
    unit_id: int
    function_code: int


LOCAL = Origin("local", 0, 0)
"""The emulator itself: a test, or its Python interface."""


class Memory(Protocol):
    """A Device, or a view of one on which faults lie."""

    @property
    def images(self) -> Mapping[Table, TableImage]:
        """What each table shows."""
        ...

    def is_readable(self, table: Table, address: int, count: int) -> bool:
        """Whether a request may read all these addresses."""
        ...

    def is_writable(self, table: Table, address: int, count: int) -> bool:
        """Whether a request may write all these addresses."""
        ...

    def accepts(self, table: Table, address: int, data: bytes) -> bool:
        """Whether every parameter that the data touches would stay within its limits."""
        ...

    def write(self, table: Table, address: int, data: bytes, origin: Origin) -> None:
        """Put data (as in TableImage) at an address that is writable."""
        ...
