"""The PLCs as the logger sees them: units behind lines; one that is silent is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from logger.errors import BadReply, ExceptionReply, PlcError, PlcNotConnected
from logger.reading.back_off import BackOff
from logger.reading.line import Line, PlcFigures
from logger.reading.read_plan import ReadBlock
from logger.reading.wire import ClosedByPlc, Unfinished
from plcsim.config import ModbusSpec
from plcsim.limits import ExceptionCode
from plcsim.parameters import Table

_REQUESTS: dict[Table, Callable[..., ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE_INPUT: ReadDiscreteInputsRequest,
    Table.HOLDING_REGISTER: ReadHoldingRegistersRequest,
    Table.INPUT_REGISTER: ReadInputRegistersRequest,
}
_NO_PATH = (ExceptionCode.GATEWAY_PATH_UNAVAILABLE, ExceptionCode.GATEWAY_TARGET_FAILED)
"""With these a gateway says that the unit behind it does not answer."""


class PlcConnection:
    """One unit behind a line; a unit that does not answer is left alone for growing pauses."""

    def __init__(self, line: Line, unit_id: int, timeout_s: float) -> None:
        self.where = line.where
        self.figures = PlcFigures()
        self._line = line
        self._unit_id = unit_id
        self._timeout_s = timeout_s
        self._back_off = BackOff(timeout_s)
        self._silent: PlcError | None = None
        """Why it is left alone."""
        self._coded: dict[tuple[Table, int, int], tuple[int, bytes]] = {}
        """Function code and PDU of the requests that were sent."""

    @property
    def state(self) -> str:
        """In words: connected, not connected, or unresponsive while the unit alone is silent."""
        if self._silent is not None:
            return "unresponsive"
        return "connected" if self._line.is_open else "not connected"

    @property
    def is_left_alone(self) -> bool:
        """Whether it is too early to try again: a read fails at once."""
        return self._line.is_left_alone or (self._silent is not None and self._back_off.is_waiting)

    @property
    def is_silent(self) -> bool:
        """Whether the newest request cost its whole timeout, or a gateway says that nobody answers."""
        return self._silent is not None

    async def connect(self) -> None:
        """Connect unless connected. Raises PlcNotConnected."""
        await self._line.connect(self._timeout_s, self.figures)

    def close(self) -> None:
        """Close the line, for all its units; the next read connects again."""
        self._line.close()

    def scan_done(self) -> None:
        """Say that no request follows until the next scan."""
        self._line.scan_done()

    async def read(self, block: ReadBlock) -> NDArray[np.uint8]:
        """A block's data as `plcsim.codec` defines it.

        Raises PlcNotConnected, PlcUnreachable, BadReply or ExceptionReply; while the unit is left alone
        at once, with why. After all but the last the connection is closed.
        """
        if self._silent is not None and self._back_off.is_waiting:
            raise self._silent
        function, pdu = self._code(block)
        try:
            data = await self._line.exchange(
                self._unit_id, function, pdu, block, self._timeout_s, self.figures
            )
        except PlcError as exc:
            self._count(exc)
            raise
        if self._silent is not None:
            self._answered()
        array = np.frombuffer(data, dtype=np.uint8)
        if block.table.is_bits:
            return np.unpackbits(array, count=block.count, bitorder="little")
        return array

    def _code(self, block: ReadBlock) -> tuple[int, bytes]:
        key = (block.table, block.address, block.count)
        coded = self._coded.get(key)
        if coded is None:
            request = _REQUESTS[block.table](address=block.address, count=block.count)
            coded = self._coded[key] = (request.function_code, request.encode())
        return coded

    def _count(self, exc: PlcError) -> None:
        if isinstance(exc, PlcNotConnected):
            return  # the line has a pause of its own
        if isinstance(exc, ExceptionReply):
            self.figures.exceptions[exc.code] += 1
            if exc.code not in _NO_PATH:
                self._answered()
                return
        elif isinstance(exc, BadReply):
            self.figures.bad_replies += 1
            if not isinstance(exc, Unfinished):
                return
        elif isinstance(exc, ClosedByPlc):
            self.figures.closed += 1
        else:
            self.figures.timeouts += 1
        self._silent = exc
        self._back_off.failed()

    def _answered(self) -> None:
        self._silent = None
        self._back_off.succeeded()


class Lines:
    """The lines of one process, so that the units behind one host and port share their connection."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], Line] = {}
        self._units: dict[tuple[str, int, int], PlcConnection] = {}

    def line(self, host: str, port: int, modbus: ModbusSpec) -> Line:
        """The line to a host and port; it keeps the longest pauses that any of its units asks for."""
        line = self._lines.get((host, port))
        if line is None:
            line = self._lines[(host, port)] = Line(host, port)
        line.pause_after_connect_s = max(line.pause_after_connect_s, modbus.pause_after_connect_s)
        line.pause_between_requests_s = max(line.pause_between_requests_s, modbus.pause_between_requests_s)
        line.close_after_scan = line.close_after_scan or modbus.close_after_scan
        return line

    def unit(self, host: str, port: int, modbus: ModbusSpec) -> PlcConnection:
        """The one connection to a unit; all poll groups of a device have the same."""
        key = (host, port, modbus.unit_id)
        if key not in self._units:
            line = self.line(host, port, modbus)
            self._units[key] = PlcConnection(line, modbus.unit_id, modbus.timeout_s)
        return self._units[key]

    def close(self) -> None:
        """Close all lines."""
        for line in self._lines.values():
            line.close()
