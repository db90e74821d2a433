"""One client's connection: frames its byte stream and has each request answered, in order.

Framing: Modbus Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3. TCP is a stream, so a frame
may come in pieces and several may come at once; each complete one is answered under its own
transaction id. A header that is not Modbus TCP leaves no way to find the next frame: close.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Sequence
from typing import Protocol, cast

from plcsim.limits import (
    MAX_ADU_BYTES,
    MAX_MBAP_LENGTH,
    MBAP_HEADER_BYTES,
    MIN_MBAP_LENGTH,
    ExceptionCode,
)
from plcsim.outbox import Outbox, reset
from plcsim.pdu import Request, exception_reply
from plcsim.reply import Reply
from plcsim.rights import RightOf, permits
from plcsim.server_config import Right, ServerSpec, UnitPolicy
from plcsim.unit import Unit

log = logging.getLogger(__name__)

_HEADER = struct.Struct(">HHHB")
_MAX_WAITING_BYTES = 256 * 1024
"""Replies that a client does not fetch; above this it is not served until it does."""
_REQUESTS_A_TURN = 32
"""So many requests of one client are answered before the others, and the next PLC scan, have theirs."""


class Host(Protocol):
    """What a connection needs of its server."""

    settings: ServerSpec
    requests: int

    def unit(self, unit_id: int) -> Unit | None:
        """The device that answers to a unit id."""
        ...

    def opened(self, connection: Connection) -> None:
        """Take note of a connection, or end it, or another, if there are too many."""
        ...

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        ...


class Connection(asyncio.BufferedProtocol):
    """Serves one client. It holds one frame, 260 bytes, of what the client has sent and no more."""

    def __init__(self, host: Host, right_of: RightOf) -> None:
        self._host = host
        self._right_of = right_of
        self._right: Right | None = None
        self._transport: asyncio.Transport
        self._outbox: Outbox
        self._buffer = bytearray(MAX_ADU_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._client_reads = True
        self._turn_is_due = False
        self._served_this_turn = 0
        self._most_outstanding = host.settings.max_outstanding
        self.peer = ""
        """host:port"""
        self.heard_at = 0.0
        """When the client sent something last, on the monotonic clock."""
        self.frame_since = 0.0
        """Since when the first part of a request waits for the rest; 0 if none does."""

    @property
    def is_half_open(self) -> bool:
        """Whether a fault has made it deaf and mute."""
        return self._outbox.half_open

    @property
    def outstanding(self) -> int:
        """Requests that wait for their reply."""
        return len(self._outbox)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_MAX_WAITING_BYTES)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.peer = _host_port(transport.get_extra_info("peername"))
        self._outbox = Outbox(self._transport, self._host.settings.reorder, self._schedule_turn)
        self._right = self._right_of(transport)
        self.heard_at = time.monotonic()
        self._host.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._outbox.clear()
        self._host.closed(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self.heard_at = time.monotonic()
        self._answer()

    def pause_writing(self) -> None:
        self._client_reads = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._client_reads = True
        self._schedule_turn()

    def close(self) -> None:
        """Send what is waiting, then close."""
        self._filled = 0
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what the client has not fetched is lost."""
        self._transport.abort()

    def reset(self) -> None:
        """End the connection with RST at once."""
        reset(self._transport)

    def _answer(self) -> None:
        """Answer the complete frames that have come; if they are more than a turn's, go on in the next."""
        replies: list[bytes] = []
        buffer, position, end = self._buffer, 0, self._filled
        room = self._room()
        while room > 0 and end - position >= MBAP_HEADER_BYTES:
            transaction_id, protocol_id, length, unit_id = _HEADER.unpack_from(buffer, position)
            if protocol_id != 0 or not MIN_MBAP_LENGTH <= length <= MAX_MBAP_LENGTH:
                log.info("closing %s: not a Modbus TCP header", self.peer)
                self._send(replies)
                self.close()
                return
            frame_end = position + MBAP_HEADER_BYTES - 1 + length
            if frame_end > end:
                break
            pdu = bytes(self._view[position + MBAP_HEADER_BYTES : frame_end])
            position = frame_end
            self._served_this_turn += 1
            reply = self._reply(Request(transaction_id, unit_id, pdu, self.peer))
            if isinstance(reply, bytes):
                replies.append(reply)
                room -= 1
            else:
                self._send(replies)  # before those that wait
                replies = []
                if reply:
                    self._outbox.put(reply)
                    self._host.requests += 1
                room = self._room()
        rest = end - position
        if position and rest:
            buffer[:rest] = buffer[position:end]
        self._filled = rest
        self._send(replies)
        if room > 0:
            if not rest:
                self.frame_since = 0.0
            elif position or not self.frame_since:
                self.frame_since = self.heard_at
        else:
            self._stop_reading()

    def _room(self) -> int:
        """How many requests may be answered now."""
        outbox = self._outbox
        if outbox.is_over:
            return 0
        outstanding = len(outbox)
        return min(_REQUESTS_A_TURN - self._served_this_turn, self._most_outstanding - outstanding)

    def _stop_reading(self) -> None:
        self.frame_since = 0.0  # it is not the client that keeps us waiting
        self._transport.pause_reading()
        if len(self._outbox) < self._most_outstanding:  # else the outbox tells when it has room
            self._schedule_turn()

    def _reply(self, request: Request) -> bytes | Reply | None:
        """The frame that can go at once, or the reply that has to wait in the outbox, or nothing."""
        unit = self._host.unit(request.unit_id)
        if unit is None:
            if self._host.settings.unit_policy is UnitPolicy.STRICT_SILENT:
                return None
            reply = _refusal(request, ExceptionCode.GATEWAY_TARGET_FAILED)
        elif not permits(self._right, request.pdu[0]):
            reply = _refusal(request, ExceptionCode.ILLEGAL_FUNCTION)
        elif unit.faults:
            reply = unit.reply(request)
        else:
            pdu = unit.respond(request)
            if not len(self._outbox):
                return _HEADER.pack(request.transaction_id, 0, len(pdu) + 1, request.unit_id) + pdu
            reply = Reply(request.transaction_id, request.unit_id, pdu)
        reply.sender = unit
        return reply.frame() if reply.is_plain and not len(self._outbox) else reply

    def _schedule_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_is_due = False
        self._served_this_turn = 0
        if self._client_reads and self._room() > 0:
            self._transport.resume_reading()
            self._answer()

    def _send(self, replies: list[bytes]) -> None:
        if replies:
            self._host.requests += len(replies)
            self._transport.write(replies[0] if len(replies) == 1 else b"".join(replies))


def _refusal(request: Request, code: ExceptionCode) -> Reply:
    return Reply(request.transaction_id, request.unit_id, exception_reply(request.function_code, code))


def _host_port(peername: Sequence[object] | None) -> str:
    if peername is None:
        return "a client that has left already"
    host, port = peername[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
