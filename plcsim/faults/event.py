"""The journal of faults: one line for each that was injected, so that an effect finds its cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from plcsim.journal_file import append_line


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """A fault landed: it changed what a client got, or the device."""

    at: str
    """UTC, ISO 8601 with microseconds."""
    device: str
    fault: str
    """Name of the rule."""
    kind: str
    plc_scan: int
    peer: str | None = None
    """host:port of the client; this and the rest are None where no request was hit."""
    transaction_id: int | None = None
    unit_id: int | None = None
    function_code: int | None = None
    address: int | None = None
    quantity: int | None = None


Record = Callable[[FaultEvent], None]


def utc_now() -> str:
    """The time of an event, as `FaultEvent.at` has it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def append_event(file: BinaryIO, event: FaultEvent) -> None:
    """Append one event as a line of JSON and hand it to the operating system. Raises OSError."""
    append_line(file, json.dumps(asdict(event)))
