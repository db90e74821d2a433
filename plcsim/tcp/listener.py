"""One listening address that can stop listening and start again, without losing its port."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from ssl import SSLContext
from typing import Any

from plcsim.errors import ListenError

_HANDSHAKE_S = 10.0
"""How long a client may take to show its certificate."""
_BACKLOG = 1024
"""Clients that may connect at once: a whole plant's loggers after a power cut."""


class Listener:
    """Accepts connections at one address, for as many `protocol`s."""

    def __init__(
        self,
        host: str,
        port: int,
        protocol: Callable[[], asyncio.BaseProtocol],
        tls: SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        """What was asked for; once it is bound, what it is."""
        self._protocol = protocol
        self._tls = tls
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._is_refusing = False

    def bind(self) -> None:
        """Take the address. Raises ListenError."""
        where = f"{self.host}:{self.port}"
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            if not self.port:
                # a port that the system chose would be lost when the socket stops listening (see `refuse`)
                with _bound(family, address) as sock:
                    self.port = sock.getsockname()[1]
            self._socket = _bound(family, (address[0], self.port, *address[2:]))
        except OSError as exc:
            raise ListenError(f"cannot listen at {where}: {_reason(exc)}") from exc
        except UnicodeError:
            raise ListenError(f"cannot listen at {where}: this is not a host name") from None

    async def open(self) -> None:
        """Let clients connect. Raises ListenError."""
        if self._server:
            return
        if not self._socket:
            self.bind()
        assert self._socket
        sock = None
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock = self._socket.dup()  # the loop closes what it is given; the address is kept by ours
            self._server = await asyncio.get_running_loop().create_server(
                self._protocol,
                sock=sock,
                backlog=_BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=_HANDSHAKE_S if self._tls else None,
            )
        except OSError as exc:
            if sock:
                sock.close()
            raise ListenError(f"cannot listen at {self.host}:{self.port}: {_reason(exc)}") from exc
        self._is_refusing = False

    def refuse(self) -> None:
        """Keep the address, but let nobody connect: clients get ECONNREFUSED."""
        if self._is_refusing or not self._socket:
            return
        if self._server:
            self._server.close()
            self._server = None
        else:
            self._socket.listen(0)  # the system guards an address from others only once it was listened at
        self._socket.shutdown(socket.SHUT_RDWR)  # it stays bound, and listens no more
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._is_refusing = True

    def close(self) -> None:
        """Give the address back; connections stay."""
        if self._server:
            self._server.close()
            self._server = None
        if self._socket:
            self._socket.close()
            self._socket = None


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _reason(exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return "the port is in use (choose another; port 0 takes a free one)"
    if exc.errno == errno.EACCES:
        return "no permission (ports below 1024 need rights; choose another)"
    return exc.strerror or str(exc)
