"""One connection to a PLC: reads blocks and believes no reply before every byte of it is checked.

pymodbus is the client. It accepts replies that are too short, too long or for another function, skips
those of other transactions, and raises in the event loop at what it cannot decode; so the bytes are
checked here as they come over the wire, before pymodbus sees them. After a timeout or a bad reply
nobody knows what the next bytes on the connection mean: it is closed.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from logger.errors import BadReply, ExceptionReply, PlcError, PlcUnreachable
from logger.reading.read_plan import ReadBlock
from plcsim.limits import (
    EXCEPTION_BIT,
    MAX_MBAP_LENGTH,
    MBAP_HEADER_BYTES,
    MIN_MBAP_LENGTH,
    ExceptionCode,
)
from plcsim.parameters import Table

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # we report its errors ourselves

_REQUESTS: dict[Table, Callable[..., ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE_INPUT: ReadDiscreteInputsRequest,
    Table.HOLDING_REGISTER: ReadHoldingRegistersRequest,
    Table.INPUT_REGISTER: ReadInputRegistersRequest,
}

_REPLY = struct.Struct(">HHHBBB")
"""Transaction id, protocol id, length, unit id, function code, byte count or exception code."""


class PlcConnection:
    """Connects when needed; one request at a time."""

    def __init__(self, host: str, port: int, unit_id: int, timeout_s: float) -> None:
        self.where = f"{host}:{port}"
        self._unit_id = unit_id
        self._timeout_s = timeout_s
        self._asked: tuple[ReadBlock, ModbusPDU] | None = None
        self._frame = b""
        """What has arrived since the request was sent."""
        self._data = b""
        self._client = AsyncModbusTcpClient(
            host,
            port=port,
            timeout=timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._pass_on,
            trace_connect=self._connection_changed,
        )

    async def connect(self) -> None:
        """Connect unless connected. Raises PlcUnreachable."""
        if self._client.connected:
            return
        self.close()
        if not await self._client.connect():
            raise PlcUnreachable(f"the PLC at {self.where} cannot be reached")

    def close(self) -> None:
        """Close the connection; the next read connects again."""
        self._client.close()

    async def read(self, block: ReadBlock) -> NDArray[np.uint8]:
        """A block's data as `plcsim.codec` defines it.

        Raises PlcUnreachable (also after a timeout), BadReply or ExceptionReply; after the first
        two the connection is closed.
        """
        await self.connect()
        request = _REQUESTS[block.table](address=block.address, count=block.count, dev_id=self._unit_id)
        self._frame, self._asked = b"", (block, request)
        try:
            await self._client.execute(False, request)
        except (ModbusException, OSError) as exc:
            self.close()
            raise self._failure(exc) from exc
        except (BadReply, PlcUnreachable):
            self.close()
            raise
        finally:
            self._asked = None
        data = np.frombuffer(self._data, dtype=np.uint8)
        if block.table.is_bits:
            return np.unpackbits(data, count=block.count, bitorder="little")
        return data

    def _pass_on(self, sending: bool, data: bytes) -> bytes:
        """pymodbus shows every byte here first; it gets only what is part of our reply."""
        if sending:
            return data
        if self._asked is None:  # nobody asked: the connection is out of step
            self.close()
            return b""
        self._frame = data  # pymodbus adds what comes to what it could not use yet
        if self._is_complete():
            try:
                self._data = self._checked(*self._asked)
            except PlcError as exc:
                self._end_read(exc)
                return b""
        return data

    def _is_complete(self) -> bool:
        """Whether the frame is all there, or can never be one."""
        if len(self._frame) < MBAP_HEADER_BYTES - 1:
            return False
        protocol_id, length = struct.unpack_from(">HH", self._frame, 2)
        if protocol_id != 0 or not MIN_MBAP_LENGTH <= length <= MAX_MBAP_LENGTH:
            return True
        return len(self._frame) >= MBAP_HEADER_BYTES - 1 + int(length)

    def _connection_changed(self, connected: bool) -> None:
        if not connected and self._asked:
            self._end_read(PlcUnreachable(f"the PLC at {self.where} closed the connection"))

    def _end_read(self, exc: PlcError) -> None:
        """Let the read that waits raise this, at once instead of after its timeout."""
        waiting = self._client.ctx.response_future
        if not waiting.done():
            waiting.set_exception(exc)

    def _failure(self, exc: Exception) -> PlcError:
        if self._frame:
            return BadReply(f"the PLC at {self.where} sent what is no reply: {self._frame.hex()}")
        return PlcUnreachable(f"the PLC at {self.where} gave no answer in {self._timeout_s:g} s")

    def _checked(self, block: ReadBlock, request: ModbusPDU) -> bytes:
        """The data bytes of the reply, once everything about it is right."""
        frame = self._frame
        if len(frame) < _REPLY.size:
            raise self._bad("it is too short")
        transaction_id, protocol_id, length, unit_id, function, third = _REPLY.unpack_from(frame)
        expected = (block.count + 7) // 8 if block.table.is_bits else 2 * block.count
        if transaction_id != request.transaction_id:
            raise self._bad(f"transaction {transaction_id} instead of {request.transaction_id}")
        if protocol_id != 0 or length != len(frame) - (MBAP_HEADER_BYTES - 1):
            raise self._bad("its header does not fit it")
        if unit_id != self._unit_id:
            raise self._bad(f"unit {unit_id} instead of {self._unit_id}")
        if function == request.function_code | EXCEPTION_BIT and len(frame) == _REPLY.size:
            raise ExceptionReply(self._refusal(block, third), third)
        if function != request.function_code:
            raise self._bad(f"function {function} instead of {request.function_code}")
        if third != expected or len(frame) != _REPLY.size + expected:
            raise self._bad(f"{len(frame) - _REPLY.size} bytes of data instead of {expected}")
        return frame[_REPLY.size :]

    def _bad(self, why: str) -> BadReply:
        return BadReply(f"the PLC at {self.where} sent a reply that is not ours: {why}")

    def _refusal(self, block: ReadBlock, code: int) -> str:
        known = [c for c in ExceptionCode if c == code]
        name = known[0].name.lower().replace("_", " ") if known else "unknown exception"
        return (
            f"the PLC at {self.where} refuses {block.table.value} {block.address} to "
            f"{block.end - 1}: exception {code:02d}, {name}"
        )
