"""Replies that cannot go at once: delayed, byte by byte, or behind one that is."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable

from plcsim.protocol.reply import Ending, Reply

_NO_LINGER = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing sends RST."""
_LOOK_S = 1.0
"""How often a connection that nobody reads from is looked at."""
_CLIENT_HAS_LEFT = (7, 8)
"""TCP_CLOSE and TCP_CLOSE_WAIT, from Linux' include/net/tcp_states.h."""


class Outbox:
    """Sends the replies of one connection, those of one device in the order of their requests, however
    long one takes.

    With `reorder` each goes as soon as it is ready. `on_room` is called whenever one has gone.
    """

    def __init__(self, transport: asyncio.Transport, reorder: bool, on_room: Callable[[], None]) -> None:
        self._transport = transport
        self._reorder = reorder
        self._on_room = on_room
        self._waiting: deque[Reply] = deque()
        self._not_ready: dict[int, asyncio.TimerHandle] = {}
        """Timers of the replies that are delayed, by the identity of the reply."""
        self._dripping: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._will_end = False
        self.half_open = False
        """The connection is dead, and stays open."""

    def __len__(self) -> int:
        """Replies that have not gone yet."""
        return len(self._waiting)

    def put(self, reply: Reply) -> None:
        """Send the reply when it is due and its turn has come."""
        self._waiting.append(reply)
        self._will_end = self._will_end or reply.ending is not Ending.STAYS
        if reply.delay_s:
            timer = asyncio.get_running_loop().call_later(reply.delay_s, self._ready, reply)
            self._not_ready[id(reply)] = timer
        else:
            self._send()

    def clear(self) -> None:
        """Forget what has not gone: the connection has ended."""
        for timer in (*self._not_ready.values(), self._dripping, self._looking):
            if timer:
                timer.cancel()
        self._not_ready.clear()
        self._waiting.clear()

    def _ready(self, reply: Reply) -> None:
        del self._not_ready[id(reply)]
        self._send()

    def _next(self) -> Reply | None:
        late: set[object] = set()
        for reply in self._waiting:
            if id(reply) in self._not_ready:
                late.add(reply.sender)
            elif self._reorder or reply.sender not in late:
                return reply
        return None

    def _send(self) -> None:
        while not self._dripping and not self._is_dead() and (reply := self._next()):
            if reply.byte_interval_s:
                self._drip(reply, reply.frame(), 0)
            else:
                if data := reply.frame():
                    self._transport.write(data)
                self._gone(reply)

    def _drip(self, reply: Reply, data: bytes, position: int) -> None:
        if self._is_dead():
            return
        self._transport.write(data[position : position + 1])
        if position + 1 < len(data):
            self._dripping = asyncio.get_running_loop().call_later(
                reply.byte_interval_s, self._drip, reply, data, position + 1
            )
        else:
            was_waiting, self._dripping = self._dripping, None
            self._gone(reply)
            if was_waiting:
                self._send()

    def _gone(self, reply: Reply) -> None:
        self._waiting.remove(reply)
        if reply.ending is Ending.CLOSE:
            self._transport.close()
        elif reply.ending is Ending.RESET:
            reset(self._transport)
        elif reply.ending is Ending.HALF_OPEN:
            self.half_open = True
            self._transport.pause_reading()
            self.look_after_client()
        else:
            self._on_room()

    @property
    def is_over(self) -> bool:
        """Whether no request that comes now will ever be answered."""
        return self._will_end or self._is_dead()

    def _is_dead(self) -> bool:
        return self.half_open or self._transport.is_closing()

    def look_after_client(self) -> None:
        """From now on end the connection once the client has, as long as nobody reads from it: nobody else
        would notice, and each would cost an open file until its replies have gone, or for ever."""
        if not self._looking:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def stop_looking(self) -> None:
        """The connection is read again."""
        if self._looking and not self.half_open:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> None:
        self._looking = None
        if self._transport.is_closing():
            return
        sock = self._transport.get_extra_info("socket")
        info = getattr(socket, "TCP_INFO", None)  # elsewhere than on Linux it stays until the server ends
        if info and sock.getsockopt(socket.IPPROTO_TCP, info, 1)[0] in _CLIENT_HAS_LEFT:
            self._transport.abort()
        else:
            self.look_after_client()


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST at once."""
    if not transport.is_closing():  # TLS loses its socket before the protocol hears of it
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
