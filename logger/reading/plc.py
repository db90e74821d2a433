"""The connections to PLCs: one a host and port, shared by its units; no reply is believed unchecked.

pymodbus connects and writes the requests. What comes back is taken from its transport as bytes and
checked here (`logger.reading.reply`): its own client accepts replies that are too short, too long or
for another function, and costs more for each request than all else. After a timeout or a bad reply
nobody knows what the next bytes on the connection mean: it is closed.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest
from pymodbus.transport import CommParams, CommType, ModbusProtocol

from logger.errors import BadReply, ExceptionReply, PlcError, PlcNotConnected, PlcUnreachable
from logger.reading.back_off import BackOff
from logger.reading.read_plan import ReadBlock
from logger.reading.reply import Asked, checked, is_complete
from plcsim.config import ModbusSpec
from plcsim.limits import ExceptionCode
from plcsim.parameters import Table

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # we report its errors ourselves

_REQUESTS: dict[Table, Callable[..., ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE_INPUT: ReadDiscreteInputsRequest,
    Table.HOLDING_REGISTER: ReadHoldingRegistersRequest,
    Table.INPUT_REGISTER: ReadInputRegistersRequest,
}
_HEADER = struct.Struct(">HHHBB")
"""Transaction id, protocol id, length, unit id, function code."""
_MAX_TRANSACTION_ID = 0xFFFF
_CONNECT_PAUSE_S = 0.25
_NO_PATH = (ExceptionCode.GATEWAY_PATH_UNAVAILABLE, ExceptionCode.GATEWAY_TARGET_FAILED)
"""With these a gateway says that the unit behind it does not answer."""


class _ClosedByPlc(PlcUnreachable):
    """The connection was cut while a reply was due."""


class _Unfinished(BadReply):
    """A reply that began, and then nothing came until the time was up."""


@dataclass(slots=True)
class PlcFigures:
    """What has been asked of one unit since the start, and what came of it."""

    requests: int = 0
    timeouts: int = 0
    closed: int = 0
    """Connections that the PLC closed instead of an answer."""
    bad_replies: int = 0
    connects: int = 0
    """Connections that were made for its requests."""
    exceptions: Counter[int] = field(default_factory=Counter)
    """By exception code."""


class _Wire(ModbusProtocol):
    """One TCP connection: sends a request and waits for its reply."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        super().__init__(
            CommParams(
                comm_type=CommType.TCP,
                host=host,
                port=port,
                timeout_connect=timeout_s,
                reconnect_delay=0,
            ),
            False,
        )
        self._waiting: asyncio.Future[bytes] | None = None
        self._asked: Asked | None = None

    async def exchange(self, request: bytes, asked: Asked, timeout_s: float) -> bytes:
        """The checked data of the reply. Raises PlcUnreachable, BadReply or ExceptionReply."""
        self._waiting = waiting = self.loop.create_future()
        self._asked = asked
        timer = self.loop.call_later(timeout_s, self._timed_out, timeout_s)
        self.send(request)
        try:
            data: bytes = await waiting
        finally:
            timer.cancel()
            self._waiting = None
        return data

    def callback_data(self, data: bytes, addr: tuple[object, ...] | None = None) -> int:
        """All that has come since the request was sent; says how much of it is used up."""
        if self._waiting is None or self._asked is None or self._waiting.done():
            self.close()  # nobody asked: the connection is out of step
            return len(data)
        if not is_complete(data):
            return 0
        try:
            self._waiting.set_result(checked(data, self._asked))
        except PlcError as exc:
            self._waiting.set_exception(exc)
        return len(data)

    def callback_disconnected(self, exc: Exception | None) -> None:
        if self._asked is not None:
            self._end(_ClosedByPlc(f"the PLC at {self._asked.where} closed the connection"))

    def callback_connected(self) -> None:
        """Nothing to do: `connect` returns."""

    def callback_new_connection(self) -> ModbusProtocol:
        raise NotImplementedError("this is no server")

    def _timed_out(self, timeout_s: float) -> None:
        if self._asked is None:
            return
        where = self._asked.where
        if self.recv_buffer:
            self._end(_Unfinished(f"the PLC at {where} sent what is no reply: {self.recv_buffer.hex()}"))
        else:
            self._end(PlcUnreachable(f"the PLC at {where} gave no answer in {timeout_s:g} s"))

    def _end(self, exc: PlcError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc)


class Line:
    """The one connection to a host and port, whatever units are behind it; one request at a time."""

    def __init__(
        self,
        host: str,
        port: int,
        pause_after_connect_s: float = 0.0,
        pause_between_requests_s: float = 0.0,
        close_after_scan: bool = False,
    ) -> None:
        self.where = f"{host}:{port}"
        self.pause_after_connect_s = pause_after_connect_s
        self.pause_between_requests_s = pause_between_requests_s
        self.close_after_scan = close_after_scan
        self._host, self._port = host, port
        self._lock = asyncio.Lock()
        self._wire: _Wire | None = None
        self._back_off = BackOff(_CONNECT_PAUSE_S)
        self._transaction_id = 0
        self._quiet_until = 0.0
        """Monotonic seconds before which the device wants no request."""

    @property
    def is_open(self) -> bool:
        return self._wire is not None and self._wire.is_active()

    @property
    def is_left_alone(self) -> bool:
        """Whether it is too early to connect again."""
        return not self.is_open and self._back_off.is_waiting

    async def connect(self, timeout_s: float, figures: PlcFigures) -> None:
        """Connect unless connected. Raises PlcNotConnected, at once while it is too early to try again."""
        async with self._lock:
            await self._connected(timeout_s, figures)

    async def exchange(
        self, unit_id: int, function: int, pdu: bytes, block: ReadBlock, timeout_s: float, figures: PlcFigures
    ) -> bytes:
        """Send a read request; the checked data of its reply. Raises PlcError.

        If the PLC turns out to have closed a connection that was idle, it is asked again on a new one.
        """
        async with self._lock:
            while True:
                was_open = self.is_open
                wire = await self._connected(timeout_s, figures)
                if self._quiet_until:
                    await self._pause()
                self._transaction_id = self._transaction_id % _MAX_TRANSACTION_ID + 1
                asked = Asked(self._transaction_id, unit_id, function, block, self.where)
                head = _HEADER.pack(self._transaction_id, 0, len(pdu) + 2, unit_id, function)
                figures.requests += 1
                try:
                    return await wire.exchange(head + pdu, asked, timeout_s)
                except ExceptionReply:
                    raise
                except _ClosedByPlc:
                    self.close()
                    if not was_open:
                        raise
                except BaseException:  # told to end, too: a reply may still come
                    self.close()
                    raise
                finally:
                    if self.pause_between_requests_s:
                        self._quiet_until = time.monotonic() + self.pause_between_requests_s

    async def _connected(self, timeout_s: float, figures: PlcFigures) -> _Wire:
        if self._wire is not None and self._wire.is_active():
            return self._wire
        self.close()
        if self._back_off.is_waiting:
            raise self._not_connected()
        wire = _Wire(self._host, self._port, timeout_s)
        if not await wire.connect():
            self._back_off.failed()
            raise self._not_connected()
        self._back_off.succeeded()
        figures.connects += 1
        self._wire = wire
        if self.pause_after_connect_s:
            self._quiet_until = time.monotonic() + self.pause_after_connect_s
        return wire

    async def _pause(self) -> None:
        while (left_s := self._quiet_until - time.monotonic()) > 0:  # noqa: ASYNC110 - for a time
            await asyncio.sleep(left_s)  # the event loop's timers may end a millisecond early
        self._quiet_until = 0.0

    def _not_connected(self) -> PlcNotConnected:
        return PlcNotConnected(f"the PLC at {self.where} cannot be reached")

    def scan_done(self) -> None:
        """Close if the device wants that, unless another unit's request is under way or waits."""
        if self.close_after_scan and not self._lock.locked():
            self.close()

    def close(self) -> None:
        """Close the connection; the next request connects again."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None


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
            if not isinstance(exc, _Unfinished):
                return
        elif isinstance(exc, _ClosedByPlc):
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
