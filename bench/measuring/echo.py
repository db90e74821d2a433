"""A process that sends back what it gets: the other end of the loopback probe; imports nothing of ours."""

from __future__ import annotations

import multiprocessing
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_LONELY_S = 30.0
"""Who started us may be gone before it ever connects."""


@contextmanager
def echo() -> Iterator[tuple[str, int]]:
    """Where it listens, on this machine; it is gone after."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(server,), daemon=True)
        process.start()
        try:
            yield server.getsockname()
        finally:
            process.terminate()
            process.join()


def _serve(server: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us
    server.settimeout(_LONELY_S)
    try:
        line, _ = server.accept()
    except TimeoutError:
        return
    line.settimeout(None)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with line:
        while data := line.recv(4096):
            line.sendall(data)
