"""The PLCs as the logger sees them: units behind lines; one that is silent is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from logger.errors import BadReply, ExceptionReply, PlcError, PlcNotConnected
from logger.reading.back_off import BackOff
from logger.reading.line import Line, PlcFigures, Request
from logger.reading.read_plan import ReadBlock
from logger.reading.wire import Answer, ClosedByPlc, Unfinished
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


class BlockRead(NamedTuple):
    """What a block holds."""

    data: NDArray[np.uint8]
    """As `plcsim.codec` defines it: bytes of registers, or a 0 or 1 for each bit."""
    at_us: int
    """When its reply had arrived, microseconds since 1970, UTC."""


class PlcConnection:
    """One unit behind a line; a unit that does not answer is left alone for growing pauses."""

    def __init__(self, line: Line, unit_id: int, timeout_s: float, max_outstanding: int = 1) -> None:
        self.where = line.where
        self.max_outstanding = max_outstanding
        """Most blocks that may be read together."""
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
        (read,) = await self.read_together([block])
        if isinstance(read, PlcError):
            raise read
        return read.data

    async def read_together(self, blocks: Sequence[ReadBlock]) -> list[BlockRead | PlcError]:
        """Blocks that are asked for in one go, or why not; the time limit is that of one reply."""
        if self._silent is not None and self._back_off.is_waiting:
            return [self._silent] * len(blocks)
        requests = [self._request(block) for block in blocks]
        answers: list[Answer]
        try:
            answers = await self._line.exchange(self._unit_id, requests, self._timeout_s, self.figures)
        except PlcNotConnected as exc:  # the line has a pause of its own
            return [exc] * len(blocks)
        return [self._taken(block, answer) for block, answer in zip(blocks, answers, strict=True)]

    def _taken(self, block: ReadBlock, answer: Answer) -> BlockRead | PlcError:
        if isinstance(answer, PlcError):
            if answer is not self._silent:  # one error may be that of several requests
                self._count(answer)
            return answer
        if self._silent is not None:
            self._answered()
        array = np.frombuffer(answer.data, dtype=np.uint8)
        if block.table.is_bits:
            array = np.unpackbits(array, count=block.count, bitorder="little")
        return BlockRead(array, answer.at_us)

    def _request(self, block: ReadBlock) -> Request:
        key = (block.table, block.address, block.count)
        function, pdu = self._coded.get(key) or self._code(key, block)
        return Request(function, pdu, block)

    def _code(self, key: tuple[Table, int, int], block: ReadBlock) -> tuple[int, bytes]:
        request = _REQUESTS[block.table](address=block.address, count=block.count)
        coded = self._coded[key] = (request.function_code, request.encode())
        return coded

    def _count(self, exc: PlcError) -> None:
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
            self._units[key] = PlcConnection(line, modbus.unit_id, modbus.timeout_s, modbus.max_outstanding)
        return self._units[key]

    def close(self) -> None:
        """Close all lines."""
        for line in self._lines.values():
            line.close()
