"""Modbus TCP server: frames the byte stream, answers each request in order, serves PLC scans in time.

Framing: Modbus Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3. TCP is a stream, so a frame
may come in pieces and several may come at once; each complete one is answered, in order, under its
own transaction id. A header that is not Modbus TCP leaves no way to find the next frame: close.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import time
from types import TracebackType
from typing import Self, cast

from plcsim.device import Device
from plcsim.errors import ListenError
from plcsim.limits import MAX_MBAP_LENGTH, MBAP_HEADER_BYTES, MIN_MBAP_LENGTH
from plcsim.requests import respond

log = logging.getLogger(__name__)

_HEADER = struct.Struct(">HHHB")
_MAX_WAITING_BYTES = 256 * 1024
"""Replies that a client does not fetch; above this it is not served until it does."""
_BACKLOG = 1024
"""Clients that may connect at once: a whole plant's loggers after a power cut."""
_REQUESTS_A_TURN = 32
"""So many requests of one client are answered before the others, and the next PLC scan, have theirs."""


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, device: Device, open_connections: set[Connection]) -> None:
        self._device = device
        self._open = open_connections
        self._transport: asyncio.Transport
        self._buffer = b""
        self._client_reads = True
        self._turn_is_due = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_MAX_WAITING_BYTES)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)

    def pause_writing(self) -> None:
        self._client_reads = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._client_reads = True
        self._schedule_turn()

    def _answer(self) -> None:
        """Answer the complete frames that have come; if they are more than a turn's, go on in the next."""
        replies: list[bytes] = []
        buffer = self._buffer
        position, end = 0, len(buffer)
        while end - position >= MBAP_HEADER_BYTES and len(replies) < _REQUESTS_A_TURN:
            transaction_id, protocol_id, length, unit_id = _HEADER.unpack_from(buffer, position)
            if protocol_id != 0 or not MIN_MBAP_LENGTH <= length <= MAX_MBAP_LENGTH:
                log.info("closing %s: not a Modbus TCP header", self._peer())
                self._send(replies)
                self.close()
                return
            frame_end = position + MBAP_HEADER_BYTES - 1 + length
            if frame_end > end:
                break
            pdu = respond(self._device, buffer[position + MBAP_HEADER_BYTES : frame_end])
            replies.append(_HEADER.pack(transaction_id, 0, len(pdu) + 1, unit_id) + pdu)
            position = frame_end
        self._buffer = buffer[position:]
        self._send(replies)
        if len(replies) == _REQUESTS_A_TURN:
            self._transport.pause_reading()
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_is_due = False
        if self._client_reads and not self._transport.is_closing():
            self._transport.resume_reading()
            self._answer()

    def close(self) -> None:
        """Send what is waiting, then close."""
        self._buffer = b""
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what the client has not fetched is lost."""
        self._transport.abort()

    def _send(self, replies: list[bytes]) -> None:
        if replies:
            self._transport.write(replies[0] if len(replies) == 1 else b"".join(replies))

    def _peer(self) -> str:
        return str(self._transport.get_extra_info("peername"))


class ModbusServer:
    """Serves one device at one address; an async context manager.

    `start_scan` is the number of the first PLC scan. Raises ListenError if it cannot listen.
    """

    def __init__(self, device: Device, host: str, port: int, start_scan: int = 0) -> None:
        self._device = device
        self._host = host
        self._port = port
        self._start_scan = start_scan
        self._connections: set[Connection] = set()
        self.late_scans = 0
        """PLC scans that were skipped because their time had passed."""

    @property
    def port(self) -> int:
        """The port it listens at; what the system chose if 0 was asked for."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._device.scan(self._start_scan)
        try:
            self._server = await loop.create_server(
                lambda: Connection(self._device, self._connections),
                self._host,
                self._port,
                backlog=_BACKLOG,
            )
        except OSError as exc:
            where = f"{self._host}:{self._port}"
            raise ListenError(f"cannot listen at {where}: {_reason(exc)}") from exc
        self._scanning = loop.create_task(self._scan_for_ever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._scanning.cancel()
        await asyncio.wait({self._scanning})
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await asyncio.sleep(0)  # replies go out; then nobody is waited for
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Serve until the event is set; raises what broke the PLC's scanning, if anything did."""
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait({waiting, self._scanning}, return_when=asyncio.FIRST_COMPLETED)
        if self._scanning.done():
            waiting.cancel()
            self._scanning.result()

    async def _scan_for_ever(self) -> None:
        interval = self._device.config.device.plc_scan_s
        start, done = time.monotonic(), 0  # the loop's own time has steps of 1 ms with uvloop
        while True:
            await asyncio.sleep(start + (done + 1) * interval - time.monotonic())
            due = int((time.monotonic() - start) / interval)
            if due <= done:
                continue
            self.late_scans += due - done - 1
            self._device.scan(self._start_scan + due)
            done = due


def _reason(exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return "the port is in use (choose another with --port; 0 takes a free one)"
    if exc.errno == errno.EACCES:
        return "no permission (ports below 1024 need rights; choose another with --port)"
    return exc.strerror or str(exc)
