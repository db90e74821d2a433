"""The one connection to a host and port, shared by the units behind it, with the pauses that it needs.

After a timeout or a bad reply nobody knows what the next bytes on a connection mean: it is closed.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from logger.errors import ExceptionReply, PlcError, PlcNotConnected
from logger.reading.back_off import BackOff
from logger.reading.read_plan import ReadBlock
from logger.reading.reply import Asked
from logger.reading.wire import Answer, ClosedByPlc, Wire

_HEADER = struct.Struct(">HHHBB")
"""Transaction id, protocol id, length, unit id, function code."""
_MAX_TRANSACTION_ID = 0xFFFF
_CONNECT_PAUSE_S = 0.25


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


class Request(NamedTuple):
    """What is asked of a unit."""

    function: int
    pdu: bytes
    """What follows the function code."""
    block: ReadBlock


class Line:
    """The one connection to a host and port, whatever units are behind it; one exchange at a time."""

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
        self._wire: Wire | None = None
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
        self, unit_id: int, requests: Sequence[Request], timeout_s: float, figures: PlcFigures
    ) -> list[Answer]:
        """Send read requests in one go; what came of each, in their order. Raises PlcNotConnected.

        If the PLC turns out to have closed a connection that was idle, it is asked again on a new one.
        After any error that is no refusal the connection is closed.
        """
        async with self._lock:
            while True:
                was_open = self.is_open
                wire = await self._connected(timeout_s, figures)
                if self._quiet_until:
                    await self._pause()
                figures.requests += len(requests)
                try:
                    answers = await wire.exchange([self._framed(unit_id, r) for r in requests], timeout_s)
                except ClosedByPlc as exc:
                    answers = [exc] * len(requests)
                except BaseException:  # told to end: a reply may still come
                    self.close()
                    raise
                finally:
                    if self.pause_between_requests_s:
                        self._quiet_until = time.monotonic() + self.pause_between_requests_s
                if any(isinstance(a, PlcError) and not isinstance(a, ExceptionReply) for a in answers):
                    self.close()
                if not was_open or not all(isinstance(answer, ClosedByPlc) for answer in answers):
                    return answers

    def _framed(self, unit_id: int, request: Request) -> tuple[bytes, Asked]:
        """A request with a transaction id of its own."""
        self._transaction_id = self._transaction_id % _MAX_TRANSACTION_ID + 1
        asked = Asked(self._transaction_id, unit_id, request.function, request.block, self.where)
        length = len(request.pdu) + 2
        head = _HEADER.pack(self._transaction_id, 0, length, unit_id, request.function)
        return head + request.pdu, asked

    async def _connected(self, timeout_s: float, figures: PlcFigures) -> Wire:
        if self._wire is not None and self._wire.is_active():
            return self._wire
        self.close()
        if self._back_off.is_waiting:
            raise self._not_connected()
        wire = Wire(self._host, self._port, timeout_s)
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
