"""Fixture `proxy`: a real proxy in front of PostgreSQL that cuts connections at chosen moments.

It listens on a Unix socket and passes bytes both ways. Of a request that is to suffer it knows five
fates in which the client sees the same, a lost connection:
"request"  the request never arrives: nothing is stored
"reply"    the request is carried out, its reply is lost
"late"     the client is cut off at once, the request is carried out some time after
"partway"  half of the request arrives: nothing is stored
"half"     the request is carried out, half of its reply comes back
One more is no lost connection, but one on which nothing comes any more:
"hole"     the request is carried out, its reply is lost, and the connection stays
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_SYNC = b"S\x00\x00\x00\x04"
"""Ends a request (PostgreSQL documentation, Message Formats)."""

Fate = Callable[[bytes], str | None]
"""Decides what happens to a request: a fate, or None to pass it on."""


class Proxy:
    """One server behind one socket; set `fate` to choose who suffers, read `landed` for how many did."""

    def __init__(self, conninfo: str) -> None:
        self.fate: Fate = lambda request: None
        self.landed: Counter[str] = Counter()
        self.refuses = False
        """Whether new connections are cut at once."""
        self.release_late = threading.Event()
        """While it is not set, the requests of "late" wait."""
        self.release_late.set()
        self._target = {key: str(value) for key, value in conninfo_to_dict(conninfo).items()}
        self._folder = Path(tempfile.mkdtemp(prefix="plcsim-proxy-"))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._closed = False
        self.conninfo = make_conninfo(conninfo, host=str(self._folder), port=5432, application_name="proxied")
        self._start(self._accept)

    def close(self) -> None:
        self._closed = True
        self.release_late.set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(str(self._folder / ".s.PGSQL.5432"))  # wakes the listener
        self.cut_all()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()
        shutil.rmtree(self._folder)

    def cut_all(self) -> None:
        """Cut every connection; what has been sent to the server is still carried out."""
        for end in list(self._sockets):
            _cut(end)

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closed:
                client.close()
                return
            if self.refuses:
                self.landed["refused"] += 1
                client.close()
                continue
            try:
                link = _Link(self, client, self._connect())
            except OSError:  # the server was killed
                client.close()
                continue
            self._sockets += [link.client, link.server]
            self._start(link.requests)
            self._start(link.replies)

    def _connect(self) -> socket.socket:
        host, port = self._target.get("host", ""), self._target.get("port", "5432")
        if host and not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(f"{host or '/var/run/postgresql'}/.s.PGSQL.{port}")
        except OSError:
            server.close()
            raise
        return server


class _Link:
    """One client's connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self._proxy = proxy
        self._swallow = False
        self._fate: str | None = None

    def requests(self) -> None:
        while data := _receive(self.client):
            fate = self._proxy.fate(data)
            if fate is not None:
                self._proxy.landed[fate] += 1
                data = self._whole(data)
            if fate == "partway":
                _send(self.server, data[: len(data) // 2])
            if fate in ("request", "partway"):
                break
            if fate is not None:
                self._fate, self._swallow = fate, True
            if fate == "late":
                _cut(self.client)
                self._proxy.release_late.wait(10)
            if not _send(self.server, data):
                break
            if fate is not None:
                return  # `replies` ends the connection when the server is done
        _cut(self.server)
        _cut(self.client)

    def _whole(self, data: bytes) -> bytes:
        """A request of the extended protocol up to its Sync: long ones come in pieces."""
        while data[:1] in (b"P", b"B") and not data.endswith(_SYNC) and (more := _receive(self.client)):
            data += more
        return data

    def replies(self) -> None:
        swallowed = b""
        while data := _receive(self.server):
            if not self._swallow:
                if not _send(self.client, data):
                    break
            elif _is_done(swallowed := swallowed + data) and self._fate != "hole":
                if self._fate == "half":
                    _send(self.client, swallowed[: len(swallowed) // 2])
                break
        _cut(self.client)
        _cut(self.server)
        self.client.close()
        self.server.close()


def _is_done(replies: bytes) -> bool:
    """Whether the messages end in ReadyForQuery: the server has carried the request out."""
    position = 0
    while position + 5 <= len(replies):
        kind = replies[position : position + 1]
        position += 1 + int.from_bytes(replies[position + 1 : position + 5], "big")
        if kind == b"Z" and position <= len(replies):
            return True
    return False


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 20)
    except OSError:
        return b""


def _send(end: socket.socket, data: bytes) -> bool:
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def _cut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@pytest.fixture
def proxy(postgres: str) -> Iterator[Proxy]:
    made = Proxy(postgres)
    yield made
    made.close()
