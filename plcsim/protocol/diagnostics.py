"""Functions 7, 8 and 11: what a device tells about its health and its line.

Source: MODBUS Application Protocol Specification V1.1b3, sections 6.7, 6.8 and 6.9.
"""

from __future__ import annotations

from enum import IntEnum

from plcsim.limits import EXCEPTION_BIT, ExceptionCode, FunctionCode
from plcsim.memory import Memory
from plcsim.protocol.pdu import Request
from plcsim.protocol.requests import Handler, RequestRefused, wrong_unless

_RESTART = (b"\x00\x00", b"\xff\x00")
_NO_DATA = b"\x00\x00"


class SubFunction(IntEnum):
    """Of function 8."""

    RETURN_QUERY_DATA = 0x00
    RESTART_COMMUNICATIONS = 0x01
    RETURN_DIAGNOSTIC_REGISTER = 0x02
    CLEAR_COUNTERS = 0x0A
    BUS_MESSAGES = 0x0B
    BUS_ERRORS = 0x0C
    EXCEPTIONS = 0x0D
    SERVER_MESSAGES = 0x0E
    NO_RESPONSES = 0x0F
    NAKS = 0x10
    BUSY = 0x11
    OVERRUNS = 0x12
    CLEAR_OVERRUNS = 0x14


_COUNTED = {sub for sub in SubFunction if SubFunction.BUS_MESSAGES <= sub <= SubFunction.OVERRUNS}


class Diagnostics:
    """Counts what a device answers and serves functions 8 and 11 from it. Counters wrap at 2^16.

    On TCP there are no line errors, overruns or NAKs; these counters stay 0.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._counters = dict.fromkeys(_COUNTED, 0)
        self._events = 0

    def count(self, reply: bytes) -> None:
        """Count a reply; function 11 counts what was completed, but neither exceptions nor itself."""
        self._add(SubFunction.BUS_MESSAGES)
        self._add(SubFunction.SERVER_MESSAGES)
        if reply[0] & EXCEPTION_BIT:
            self._add(SubFunction.EXCEPTIONS)
            if reply[1] == ExceptionCode.DEVICE_BUSY:
                self._add(SubFunction.BUSY)
        elif reply[0] != FunctionCode.GET_COMM_EVENT_COUNTER:
            self._events = (self._events + 1) % 2**16

    def _add(self, sub: SubFunction) -> None:
        self._counters[sub] = (self._counters[sub] + 1) % 2**16

    def serve_diagnostics(self, _: Memory, request: Request) -> bytes:
        """Function 8; a sub-function that is not listed above is exception 01."""
        pdu = request.pdu
        wrong_unless(len(pdu) >= 5 and len(pdu) % 2 == 1)  # whole words of data
        number, data = int.from_bytes(pdu[1:3]), pdu[3:]
        try:
            sub = SubFunction(number)
        except ValueError:
            raise RequestRefused(ExceptionCode.ILLEGAL_FUNCTION) from None
        if sub is SubFunction.RETURN_QUERY_DATA:
            return pdu
        if sub is SubFunction.RESTART_COMMUNICATIONS:
            wrong_unless(data in _RESTART)
            self._clear()
            return pdu
        wrong_unless(data == _NO_DATA)
        if sub is SubFunction.CLEAR_COUNTERS:
            self._clear()
            return pdu
        return pdu[:3] + self._counters.get(sub, 0).to_bytes(2)

    def serve_event_counter(self, _: Memory, request: Request) -> bytes:
        """Function 11: status 0 (no program command is under way) and the event counter."""
        wrong_unless(len(request.pdu) == 1)
        return request.pdu + _NO_DATA + self._events.to_bytes(2)


def read_exception_status(status: int) -> Handler:
    """Handler of function 7: eight coils, as the device file says."""

    def handle(_: Memory, request: Request) -> bytes:
        wrong_unless(len(request.pdu) == 1)
        return bytes((request.pdu[0], status))

    return handle
