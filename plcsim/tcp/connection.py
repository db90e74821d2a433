"""One client's connection: frames its byte stream and has each request answered, in order.

Framing: Modbus Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3. TCP is a stream, so a frame
may come in pieces and several may come at once; each complete one is answered under its own
transaction id. A header that is not Modbus TCP leaves no way to find the next frame: close.
"""

from __future__ import annotations

import asyncio
import logging
import socket
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
from plcsim.protocol.pdu import Request, exception_reply
from plcsim.protocol.reply import MBAP_HEADER, Reply
from plcsim.server_config import Right, ServerSpec, UnitPolicy
from plcsim.tcp.outbox import Outbox, reset
from plcsim.tcp.rights import RightOf, permits
from plcsim.unit import Unit

log = logging.getLogger(__name__)

_MAX_WAITING_BYTES = 256 * 1024
"""Replies that a client does not fetch; above this it is not served until it does."""
_REQUESTS_A_TURN = 32
"""So many requests of one client are answered before the others, and the next PLC scan, have theirs."""


class Host(Protocol):
    """What a connection needs of its server."""

    settings: ServerSpec
    units: dict[int, Unit]
    """The devices by their unit ids."""
    any_unit: Unit | None
    """The device that answers to all other unit ids."""
    requests: int

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
        self._may_do_all = False
        self._unit_of = host.units.get
        self._any_unit = host.any_unit
        self._transport: asyncio.Transport
        self._outbox: Outbox
        self._buffer = bytearray(MAX_ADU_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._client_reads = True
        self._turn_is_due = False
        self._served_this_turn = 0
        self._most_outstanding = host.settings.max_outstanding
        self._is_direct = True
        """Nothing waits in the outbox, so that a reply may go at once."""
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
        self._may_do_all = self._right is Right.READ_WRITE
        self.heard_at = time.monotonic()
        self._host.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._outbox.clear()
        self._host.closed(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._filled :] if self._filled else self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport.is_closing():
            return  # TLS goes on reading while it says goodbye
        self._filled += nbytes
        self.heard_at = time.monotonic()
        self._answer()

    def pause_writing(self) -> None:
        self._client_reads = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._client_reads = True
        self.heard_at = time.monotonic()  # it fetches replies, so it is there
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
            transaction_id, protocol_id, length, unit_id = MBAP_HEADER.unpack_from(buffer, position)
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
            request = Request(transaction_id, unit_id, pdu, self.peer)
            unit = self._unit_of(unit_id, self._any_unit)
            if unit and self._may_do_all and self._is_direct and not unit.faults:
                pdu = unit.respond(request)
                replies.append(MBAP_HEADER.pack(transaction_id, 0, len(pdu) + 1, unit_id) + pdu)
                room -= 1
            else:
                self._reply_otherwise(request, unit, replies)
                room = self._room()
        rest = self._filled = end - position
        if rest and position:
            buffer[:rest] = buffer[position:end]
        self._send(replies)
        if room <= 0:
            self._stop_reading()
        elif not rest or not self._client_reads:  # where we do not read, the client owes nothing
            self.frame_since = 0.0
        elif position or not self.frame_since:
            self.frame_since = self.heard_at

    def _room(self) -> int:
        """How many requests may be answered now."""
        turn = _REQUESTS_A_TURN - self._served_this_turn
        if self._is_direct:
            return turn
        return 0 if self._outbox.is_over else min(turn, self._most_outstanding - len(self._outbox))

    def _stop_reading(self) -> None:
        self.frame_since = 0.0  # it is not the client that keeps us waiting
        self._transport.pause_reading()
        if self._served_this_turn >= _REQUESTS_A_TURN:
            self._schedule_turn()
        else:
            self._outbox.look_after_client()

    def _reply_otherwise(self, request: Request, unit: Unit | None, replies: list[bytes]) -> None:
        """Reply as the faults want it, or refuse, or say nothing; what cannot go at once waits in the
        outbox, behind `replies`, which are sent before it."""
        if not permits(self._right, request.function_code):
            reply = _refusal(request, ExceptionCode.ILLEGAL_FUNCTION)
        elif unit is None or unit.is_away:
            if self._host.settings.unit_policy is UnitPolicy.STRICT_SILENT:
                self._host.requests += 1
                return
            reply = _refusal(request, ExceptionCode.GATEWAY_TARGET_FAILED)
        elif unit.faults:
            reply = unit.reply(request)
        else:
            reply = Reply(request.transaction_id, request.unit_id, unit.respond(request))
        if reply.is_plain and self._is_direct:
            replies.append(reply.frame())
            return
        self._send(replies)
        replies.clear()
        self._is_direct = False
        self._host.requests += 1
        reply.sender = unit
        self._outbox.put(reply)

    def _schedule_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_is_due = False
        self._served_this_turn = 0
        self._is_direct = not len(self._outbox) and not self._outbox.is_over
        if self._client_reads and self._room() > 0:
            self._outbox.stop_looking()
            self._transport.resume_reading()
            self._answer()
        elif len(self._outbox):
            self._outbox.look_after_client()

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
