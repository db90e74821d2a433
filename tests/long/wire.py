"""A proxy in front of PostgreSQL that does harm at four points of a commit, and can freeze or kill backends.

The points of the request that commits what stores, and of its answer:
"before"   nothing of it reaches the server        "partway"  half of it does
"after"    all of it does, nothing comes back      "reply"    half of the answer comes back
What happens there: "cut" ends both sides, "stall" waits and goes on, "hole" swallows what follows and keeps
the client's connection open until it gives up; the server's side is closed then.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

POINTS = ("before", "partway", "after", "reply")
HARMS = ("cut", "stall", "hole")
STORES = b"synchronizing"
"""Is among the parameters of a statement that stores."""
_ENDS = b"QSXpHdcfF"
"""Messages that the server acts on by itself: a request goes up to one of them (Message Formats)."""


@dataclass(frozen=True)
class Harm:
    """What is to happen to one request."""

    point: str
    what: str
    """One of HARMS; or "kill" or "freeze" the backend (a kill at "reply": when its answer is on its way)."""
    seconds: float = 0.0
    """Of a stall; or after how long a backend is killed or frozen."""


@dataclass
class Suffered:
    """A request that was harmed."""

    harm: Harm
    request: bytes
    at: float
    backend: int
    is_end: bool = False
    """It ends a transaction of several statements: the backend holds the rows of its streams already."""
    answered: bool = False
    """The client got an answer all the same."""
    is_done: bool = False
    """The server has answered, whether that was passed on or not."""
    recovered_at: float = math.inf
    """When a transaction of this client had its answer again (monotonic)."""

    @property
    def took_s(self) -> float:
        return self.recovered_at - self.at


class WireProxy:
    """Set `choose` to say who suffers; `suffered` are those who did."""

    def __init__(self, conninfo: str) -> None:
        self.choose: Callable[[], Harm | None] = lambda: None
        self.refuses = False
        """Whether new connections are cut at once."""
        self.suffered: list[Suffered] = []
        self._closing = False
        self._target = {key: str(value) for key, value in conninfo_to_dict(conninfo).items()}
        self._folder = Path(tempfile.mkdtemp(prefix="plcsim-wire-"))
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)  # also when it is interrupted
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._folder / ".s.PGSQL.5432"))
        self._listener.listen(64)
        self._links: list[_Link] = []
        self.conninfo = make_conninfo(conninfo, host=str(self._folder), port=5432, application_name="proxied")
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def is_suffering(self) -> bool:
        """Whether nothing was stored since the last harm."""
        return bool(self.suffered) and self.suffered[-1].recovered_at == math.inf

    def recovered(self) -> None:
        """A transaction was stored, and its client knows."""
        for felt in self.suffered:
            felt.recovered_at = min(felt.recovered_at, time.monotonic())

    @property
    def landed(self) -> Counter[str]:
        return Counter(f"{each.harm.what} {each.harm.point}" for each in self.suffered)

    def close(self) -> None:
        self._closing = True
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(str(self._folder / ".s.PGSQL.5432"))
        self._thread.join(10)
        self.cut_all()
        self._listener.close()
        shutil.rmtree(self._folder)

    def cut_all(self) -> None:
        for link in self._links:
            link.cut()

    def _server(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.connect(f"{self._target['host']}/.s.PGSQL.{self._target['port']}")
        return made

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closing:
                client.close()
                return
            try:
                if self.refuses:
                    raise ConnectionRefusedError
                link = _Link(self, client, self._server())
            except OSError:
                client.close()
                continue
            self._links = [each for each in self._links if not each.is_over] + [link]
            link.start()


class _Link:
    def __init__(self, proxy: WireProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._backend = 0
        self._harm: Suffered | None = None
        """Of the request whose answer comes next."""
        self._commits = _Commits()
        self._is_storing = False
        """Whether the answer that comes next is that of a commit."""
        self._in_hole = False
        self.is_over = False

    def start(self) -> None:
        for run in (self._requests, self._replies):
            threading.Thread(target=run, daemon=True).start()

    def cut(self) -> None:
        self.is_over = True
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _requests(self) -> None:
        with contextlib.suppress(OSError):
            pending, has_begun = b"", False
            while data := self._client.recv(1 << 20):
                if not has_begun:  # the first message has no type, and comes whole
                    self._server.sendall(data)
                    has_begun = True
                    continue
                pending += data
                while not self._in_hole and (end := _end_of_request(pending)):
                    request, pending = pending[:end], pending[end:]
                    self._pass_on(request)
                if self._in_hole:
                    pending = b""  # the client may say what it likes, until it hangs up
        self.cut()

    def _pass_on(self, request: bytes) -> None:
        transaction = self._commits.of(request)
        harm = self._proxy.choose() if transaction else None
        self._is_storing = bool(transaction)
        if harm is None:
            self._server.sendall(request)
        else:
            is_end = len(transaction) > len(request)
            self._proxy.suffered.append(Suffered(harm, transaction, time.monotonic(), self._backend, is_end))
            self._suffer(self._proxy.suffered[-1], request)

    def _suffer(self, felt: Suffered, data: bytes) -> None:
        harm = felt.harm
        if harm.what in ("kill", "freeze"):
            self._hit_backend(felt, data)
        elif harm.point in ("after", "reply"):
            self._harm = felt
            self._server.sendall(data)
        else:
            self._hit_request(harm, data)

    def _hit_backend(self, felt: Suffered, data: bytes) -> None:
        number = signal.SIGKILL if felt.harm.what == "kill" else signal.SIGSTOP
        with contextlib.suppress(ProcessLookupError):
            if felt.harm.point == "before":
                os.kill(self._backend, number)
            self._harm = felt
            self._server.sendall(data)
            if felt.harm.point == "after":
                time.sleep(felt.harm.seconds)
                os.kill(self._backend, number)

    def _hit_request(self, harm: Harm, data: bytes) -> None:
        half = len(data) // 2 if harm.point == "partway" else 0
        self._server.sendall(data[:half])
        if harm.what == "stall":
            time.sleep(harm.seconds)
            self._server.sendall(data[half:])
        elif harm.what == "hole":
            self._in_hole = True
        else:
            self.cut()

    def _replies(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(1 << 20):
                self._backend = self._backend or _backend_of(data)
                felt, self._harm = self._harm, None
                if felt is not None:
                    felt.is_done = True
                if felt is not None and felt.harm.what == "kill" and felt.harm.point == "reply":
                    os.kill(self._backend, signal.SIGKILL)  # what it said is lost with it
                    break
                if felt is None or felt.harm.what in ("kill", "freeze"):
                    if felt is not None:
                        felt.answered, self._is_storing = _is_good(data), False  # the harm is to come
                    if not self._in_hole:
                        self._answer(data)
                elif not self._harm_answer(felt.harm, data):
                    break
        if not self._in_hole:
            self.cut()

    def _answer(self, data: bytes) -> None:
        is_storing, self._is_storing = self._is_storing, False
        self._client.sendall(data)
        if is_storing and _is_good(data):
            self._proxy.recovered()

    def _harm_answer(self, harm: Harm, data: bytes) -> bool:
        """Whether the connection goes on."""
        half = len(data) // 2 if harm.point == "reply" else 0
        self._client.sendall(data[:half])
        if harm.what == "stall":
            time.sleep(harm.seconds)
            self._answer(data[half:])
        self._in_hole |= harm.what == "hole"
        return harm.what != "cut"


class _Commits:
    """Finds the requests of a client that commit what stores: a statement by itself, or a COMMIT."""

    def __init__(self) -> None:
        self._is_open = self._stores = False
        self._so_far = b""

    def of(self, request: bytes) -> bytes:
        """The whole transaction if this request commits it and it stores; empty if not."""
        for kind, body in _messages(request):
            text = body if kind == b"Q" else body.partition(b"\0")[2] if kind == b"P" else b""
            if text.startswith(b"BEGIN"):
                self._is_open, self._stores, self._so_far = True, False, b""
            elif text.startswith((b"COMMIT", b"ROLLBACK")):
                self._is_open = False
                self._stores &= text.startswith(b"COMMIT")
            self._stores |= kind == b"B" and STORES in body  # a parameter, not the text that is prepared
        self._so_far += request
        if self._is_open:
            return b""
        found = self._so_far if self._stores else b""
        self._stores, self._so_far = False, b""
        return found


def _messages(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each whole message."""
    position = 0
    while position + 5 <= len(data):
        end = position + 1 + int.from_bytes(data[position + 1 : position + 5], "big")
        if end > len(data):
            return
        yield data[position : position + 1], data[position + 5 : end]
        position = end


def _is_good(answer: bytes) -> bool:
    return all(kind != b"E" for kind, _ in _messages(answer))


def _end_of_request(data: bytes) -> int:
    """Where the first whole request ends: libpq sends long ones in pieces of 8 KB; 0: there is none yet."""
    position = 0
    for kind, body in _messages(data):
        position += 5 + len(body)
        if kind in _ENDS:
            return position
    return 0


def _backend_of(data: bytes) -> int:
    """The process id in a BackendKeyData message (PostgreSQL documentation, Message Formats); 0: none."""
    return next((int.from_bytes(body[:4], "big") for kind, body in _messages(data) if kind == b"K"), 0)
