"""One TCP connection to a PLC: sends a request, and gives back the checked data of its reply.

pymodbus connects and writes. What comes back is taken from its transport as bytes and checked here
(`logger.reading.reply`): its own client accepts replies that are too short, too long or for another
function, and costs more for each request than all else.
"""

from __future__ import annotations

import asyncio
import logging

from pymodbus.transport import CommParams, CommType, ModbusProtocol

from logger.errors import BadReply, PlcError, PlcUnreachable
from logger.reading.reply import Asked, checked, is_complete

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # we report its errors ourselves


class ClosedByPlc(PlcUnreachable):
    """The connection was cut while a reply was due."""


class Unfinished(BadReply):
    """A reply that began, and then nothing came until the time was up."""


class Wire(ModbusProtocol):
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
        try:
            self.send(request)
            data: bytes = await waiting
        except RuntimeError as exc:  # uvloop: it ended while it was made, which pymodbus misses
            raise ClosedByPlc(f"the PLC at {asked.where} closed the connection") from exc
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
            self._end(ClosedByPlc(f"the PLC at {self._asked.where} closed the connection"))

    def callback_connected(self) -> None:
        """Nothing to do: `connect` returns."""

    def callback_new_connection(self) -> ModbusProtocol:
        raise NotImplementedError("this is no server")

    def _timed_out(self, timeout_s: float) -> None:
        if self._asked is None:
            return
        where = self._asked.where
        if self.recv_buffer:
            self._end(Unfinished(f"the PLC at {where} sent what is no reply: {self.recv_buffer.hex()}"))
        else:
            self._end(PlcUnreachable(f"the PLC at {where} gave no answer in {timeout_s:g} s"))

    def _end(self, exc: PlcError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc)
