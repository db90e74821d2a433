"""The journal of faults: one line for each that was injected, so that an effect finds its cause."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from plcsim.errors import InputError


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


def open_fault_journal(path: Path) -> BinaryIO:
    """A journal to append to. Raises InputError."""
    try:
        return path.open("ab", buffering=0)
    except OSError as exc:
        raise InputError(f"{path}: cannot be written: {exc.strerror}") from None


def append_event(file: BinaryIO, event: FaultEvent) -> None:
    """Append one event as a line of JSON and hand it to the operating system. Raises OSError."""
    line = json.dumps(asdict(event)).encode() + b"\n"
    if file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
