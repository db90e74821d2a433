"""A real TCP proxy on the line between a logger and its database or its PLC: cuts it, stalls it, slows it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg import Connection

_HOST = "127.0.0.1"
_PIECE_BYTES = 1 << 16
_CONNECT_S = 5.0
_JOIN_S = 10.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes the next close send a RST."""

Target = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class TcpProxy:
    """A context manager: listens on 127.0.0.1, passes bytes both ways, and does harm when told to.

    What harm there is lasts until `mend`; all methods may be called by any thread.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = self._closing = False
        self._delay_s, self._bytes_per_s = 0.0, 0.0
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.connections = 0
        """That were made through it."""
        self._listener = socket.create_server((_HOST, 0), backlog=64)
        self.host = _HOST
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()
        self._cut_all()
        self._flows.set()
        for thread in list(self._threads):
            thread.join(_JOIN_S)

    def cut(self) -> None:
        """Reset every connection; new ones are reset as soon as they are made."""
        self._refuses = True
        self._cut_all()
        self._flows.set()

    def stall(self) -> None:
        """No byte comes through any more; connections stay, and new ones seem to be made."""
        self._flows.clear()

    def slow(self, delay_s: float, bytes_per_s: float = 0.0) -> None:
        """Every piece of data is so late, and goes no faster than this (0: as fast as it goes)."""
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s

    def mend(self) -> None:
        """End all harm; what was stalled goes on."""
        self._refuses = False
        self._delay_s = self._bytes_per_s = 0.0
        self._flows.set()

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # it is being closed
            self._start(self._link, client)

    def _link(self, client: socket.socket) -> None:
        if self._refuses:
            _reset(client)
            return
        self._flows.wait()
        try:
            server = _connected(self._target)
        except OSError:  # nobody is there
            _reset(client)
            return
        with self._lock:
            self.connections += 1
            self._ends |= {client, server}
        if self._refuses or self._closing:  # it was cut meanwhile
            self._cut_all()
        self._start(self._pump, client, server)
        self._start(self._pump, server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                self._flows.wait()
                if pause_s := self._delay_s + (len(data) / self._bytes_per_s if self._bytes_per_s else 0.0):
                    time.sleep(pause_s)
                sink.sendall(data)
        self._end(source, sink)

    def _end(self, *ends: socket.socket) -> None:
        """Let both sides know that it is over; the second of the two pumps closes them."""
        with self._lock:
            is_first = bool(self._ends & set(ends))
            self._ends -= set(ends)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            if not is_first:
                end.close()

    def _cut_all(self) -> None:
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)


def database_target(connection: Connection[object]) -> Target:
    """Where the server of a connection listens."""
    host, port = connection.info.host, connection.info.port
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


def through(proxy: TcpProxy, conninfo: str) -> str:
    """The connection string that goes through the proxy; of two values libpq takes the later one.

    A host that is a name stays, so that a certificate still fits it; only the address is the proxy's.
    """
    is_local = "host=/" in conninfo or "host='/" in conninfo or "host=" not in conninfo
    host = f"host={proxy.host} " if is_local else ""
    return f"{conninfo} {host}hostaddr={proxy.host} port={proxy.port}"


def _connected(target: Target) -> socket.socket:
    if not isinstance(target, str):
        return socket.create_connection(target, _CONNECT_S)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.connect(target)
    except OSError:
        made.close()
        raise
    return made


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.close()
