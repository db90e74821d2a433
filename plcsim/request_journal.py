"""What clients asked an emulated PLC, one JSON object a line: who reads too much, or says that it read.

A line is one request that reached the device: when it came, what it asked for, the PLC scan that it was
answered from, how it was answered and the faults that changed that. It is handed to the operating system
before the reply is. What a gateway answers for a device that is away did not reach the device.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from plcsim.device import Device
from plcsim.errors import InputError
from plcsim.faults.engine import ActiveFault
from plcsim.faults.event import Record, utc_now
from plcsim.faults.selection import Windowed, span_of
from plcsim.journal_file import append_line
from plcsim.limits import EXCEPTION_BIT
from plcsim.parameters import Table
from plcsim.protocol.pdu import Request
from plcsim.protocol.reply import Reply
from plcsim.unit import Unit

REPLY, NOTHING = "reply", "nothing"

_TABLE = {
    1: Table.COIL, 5: Table.COIL, 15: Table.COIL,
    2: Table.DISCRETE_INPUT,
    3: Table.HOLDING_REGISTER, 6: Table.HOLDING_REGISTER, 16: Table.HOLDING_REGISTER,
    22: Table.HOLDING_REGISTER, 23: Table.HOLDING_REGISTER,
    4: Table.INPUT_REGISTER,
}  # fmt: skip
"""The table that a function reads or writes (MODBUS Application Protocol V1.1b3, section 6)."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request and how it was answered."""

    at: str
    """UTC, ISO 8601 with microseconds: when the reply was made."""
    monotonic_s: float
    """The same moment on the monotonic clock, which never jumps."""
    device: str
    peer: str
    """host:port of the client."""
    transaction_id: int
    unit_id: int
    function_code: int
    table: str | None
    address: int | None
    quantity: int | None
    plc_scan: int
    outcome: str
    """"reply", "exception N", or "nothing" where a fault let the client have no reply."""
    faults: list[str] = field(default_factory=list)
    """Names of the faults that landed on it."""


RecordRequest = Callable[[RequestRecord], None]


class JournaledUnit(Unit):
    """A unit that tells of each request. Units that do not are not slowed by it: they are plain ones."""

    def __init__(
        self,
        device: Device,
        record: RecordRequest,
        start_scan: int = 0,
        phase: float = 0.0,
        record_fault: Record | None = None,
    ) -> None:
        super().__init__(device, start_scan, phase, record_fault)
        self._record = record
        self._hit_by: list[str] = []

    def respond(self, request: Request) -> bytes:
        pdu = super().respond(request)
        self._tell(request, _outcome(pdu))
        return pdu

    def reply(self, request: Request) -> Reply:
        self._hit_by = []
        reply = super().reply(request)
        self._tell(request, NOTHING if reply.most_bytes == 0 else _outcome(reply.pdu), self._hit_by)
        return reply

    def _landed(self, hit: ActiveFault[Windowed], request: Request) -> None:
        super()._landed(hit, request)
        self._hit_by.append(hit.name)

    def _tell(self, request: Request, outcome: str, faults: list[str] | None = None) -> None:
        table = _TABLE.get(request.function_code)
        address, quantity = span_of(request) or (None, None)
        self._record(
            RequestRecord(
                utc_now(),
                time.monotonic(),
                self.device.config.device.device_id,
                request.peer,
                request.transaction_id,
                request.unit_id,
                request.function_code,
                table.value if table else None,
                address,
                quantity,
                self.device.plc_scan,
                outcome,
                faults or [],
            )
        )


def append_request(file: BinaryIO, record: RequestRecord) -> None:
    """Append one request as a line of JSON and hand it to the operating system. Raises OSError."""
    append_line(file, json.dumps(asdict(record), ensure_ascii=False))


def read_requests(path: Path) -> Iterator[RequestRecord]:
    """The requests of a journal in their order. A last line without its end is what an emulator left that
    died while it wrote. Raises InputError naming file and line if it is not such a journal."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.endswith("\n"):
                    yield _parsed(line, f"{path}:{number}")
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: it is not UTF-8 text") from None


def _parsed(line: str, where: str) -> RequestRecord:
    try:
        keys: Any = json.loads(line)
    except ValueError as exc:
        raise InputError(f"{where}: is not JSON: {exc}") from None
    try:
        return RequestRecord(**keys)
    except TypeError:
        raise InputError(f"{where}: is not a request as an emulator records it") from None


def _outcome(pdu: bytes) -> str:
    return f"exception {pdu[1]}" if pdu[0] & EXCEPTION_BIT else REPLY
