"""One TCP connection to a PLC: sends requests, and gives back the checked data of their replies.

pymodbus connects and writes. What comes back is taken from its transport as bytes and checked here
(`logger.reading.reply`): its own client accepts replies that are too short, too long or for another
function, and costs more for each request than all else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from pymodbus.transport import CommParams, CommType, ModbusProtocol

from logger.errors import BadReply, ExceptionReply, PlcError, PlcUnreachable
from logger.reading.reply import Asked, checked, first_of, transaction_of

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # we report its errors ourselves


class ClosedByPlc(PlcUnreachable):
    """The connection was cut while a reply was due."""


class Replied(NamedTuple):
    """A reply that was checked."""

    data: bytes
    at_us: int
    """When it had arrived, microseconds since 1970, UTC."""


Answer = Replied | PlcError


class Unfinished(BadReply):
    """A reply that began, and then nothing came until the time was up."""


class Wire(ModbusProtocol):
    """One TCP connection: sends requests and waits for their replies, which may come in any order."""

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
        self._where = f"{host}:{port}"
        self._due: dict[int, tuple[Asked, asyncio.Future[Replied]]] = {}
        """What was sent and is not answered, by transaction id."""

    async def exchange(self, requests: Sequence[tuple[bytes, Asked]], timeout_s: float) -> list[Answer]:
        """Send requests in one go; what came of each, in their order.

        An error that is no refusal leaves nobody knowing what the next bytes mean: it is that of every
        request which was not answered yet, and the connection must be closed. The time is that from one
        reply to the next.
        """
        waiting = [self.loop.create_future() for _ in requests]
        self._due = {
            asked.transaction_id: (asked, future)
            for (_, asked), future in zip(requests, waiting, strict=True)
        }
        try:
            self.send(b"".join(request for request, _ in requests))
            answers: list[Answer] = []
            for future in waiting:
                timer = self.loop.call_later(timeout_s, self._timed_out, timeout_s)
                try:
                    answers.append(await future)
                except PlcError as exc:
                    answers.append(exc)
                finally:
                    timer.cancel()
        except RuntimeError as exc:  # uvloop: it ended while it was made, which pymodbus misses
            raise ClosedByPlc(f"the PLC at {self._where} closed the connection") from exc
        finally:
            self._due = {}
        return answers

    def callback_data(self, data: bytes, addr: tuple[object, ...] | None = None) -> int:
        """All that has come and is not used up; says how much of it is."""
        used = 0
        while used < len(data):
            if not self._due:
                self.close()  # nobody asked: the connection is out of step
                return len(data)
            rest = data[used:]
            frame = first_of(rest)
            if frame is None:
                break
            if len(self._due) == 1:
                frame = rest  # and nothing may follow
            self._answer(frame)
            used += len(frame)
        return used

    def _answer(self, frame: bytes) -> None:
        mine = self._due.pop(transaction_of(frame), None)
        asked, future = mine or next(iter(self._due.values()))
        try:
            replied = Replied(checked(frame, asked), time.time_ns() // 1000)
        except ExceptionReply as exc:
            _settle(future, exc)
        except PlcError as exc:
            _settle(future, exc)
            self._end(exc)
        else:
            if not future.done():
                future.set_result(replied)

    def callback_disconnected(self, exc: Exception | None) -> None:
        self._end(ClosedByPlc(f"the PLC at {self._where} closed the connection"))

    def callback_connected(self) -> None:
        """Nothing to do: `connect` returns."""

    def callback_new_connection(self) -> ModbusProtocol:
        raise NotImplementedError("this is no server")

    def _timed_out(self, timeout_s: float) -> None:
        where = self._where
        if self.recv_buffer:
            self._end(Unfinished(f"the PLC at {where} sent what is no reply: {self.recv_buffer.hex()}"))
        else:
            self._end(PlcUnreachable(f"the PLC at {where} gave no answer in {timeout_s:g} s"))

    def _end(self, exc: PlcError) -> None:
        for _, future in self._due.values():
            _settle(future, exc)


def _settle(future: asyncio.Future[Replied], exc: PlcError) -> None:
    if not future.done():
        future.set_exception(exc)
