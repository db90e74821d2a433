"""Control of a running emulator: a Unix socket that only its own user can reach, JSON lines both ways.

A request is `{"op": …}`, a reply `{"ok": true, …}` or `{"ok": false, "error": "one line"}`. Sockets lie
in a folder of mode 0700, named after the emulator and its process; `--control` puts one elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import stat
import struct
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs

from plcsim.errors import InputError, ListenError, PlcsimError

log = logging.getLogger(__name__)

Message = dict[str, Any]
Handler = Callable[[Message], Awaitable[Message]]

MAX_LINE_BYTES = 16 * 1024 * 1024
"""The faults of 10,000 devices take about 2 MB."""
_TIMEOUT_S = 10.0
_SUFFIX = ".sock"
_PEER = struct.Struct("3i")
"""Of SO_PEERCRED: process, user, group."""


def runtime_folder() -> Path:
    """The folder of this user's control sockets, made if need be. Raises PlcsimError."""
    folders = [Path(tempfile.gettempdir()) / f"plcsim-{os.getuid()}"]
    if "XDG_RUNTIME_DIR" in os.environ:
        folders.insert(0, Path(platformdirs.user_runtime_dir("plcsim")))
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if _is_private(folder):
            return folder
    raise PlcsimError(f"{folders[-1]}: is not a folder that only you can enter (mode 0700)")


def default_socket(name: str) -> Path | None:
    """Where the control socket of an emulator of this name lies unless `--control` says otherwise.

    Without a private folder there is none: the emulator runs all the same, and says so.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:32]
    try:
        running()  # those of killed emulators would pile up
        return runtime_folder() / f"{plain}-{os.getpid()}{_SUFFIX}"
    except PlcsimError as exc:
        log.warning("no control socket: %s", exc)
        return None


def _is_private(folder: Path) -> bool:
    found = folder.lstat()
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700
    )


class ControlServer:
    """Answers requests at a Unix socket; an async context manager that takes the socket away again.

    A socket that nobody listens at is replaced. Raises ListenError if somebody does, or if there can
    be none.
    """

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            listener = _listen(self.path)
        except OSError as exc:
            raise ListenError(f"{self.path}: no control socket can be made: {exc.strerror or exc}") from None
        self._inode = self.path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self.path.exists() and self.path.stat().st_ino == self._inode:  # not one that replaced ours
            self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if _is_our_user(writer.get_extra_info("socket")):
                while line := await reader.readline():
                    writer.write(json.dumps(await self._reply(line)).encode() + b"\n")
                    await writer.drain()
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass  # it went away, its line has no end, or we stop
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _reply(self, line: bytes) -> Message:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "a request is one JSON object in one line"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "a request is a JSON object"}
        try:
            return {"ok": True, **await self._handler(request)}
        except PlcsimError as exc:
            return {"ok": False, "error": str(exc), "exit_code": exc.exit_code}


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket():
            if _somebody_listens(path):
                raise OSError("another emulator listens there")
            path.unlink()
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(16)
    except OSError:
        listener.close()
        raise
    return listener


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it is busy, or not ours to ask
    return True


def _is_our_user(connected: socket.socket) -> bool:
    """Whether the other end runs as our user or as root; the mode of the socket says the same."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, _ = _PEER.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return user in (0, os.getuid())


def running() -> list[Path]:
    """Control sockets in the runtime folder that somebody listens at, by name; those that a killed
    emulator left there are taken away."""
    found = []
    for path in sorted(runtime_folder().glob(f"*{_SUFFIX}")):
        if _somebody_listens(path):
            found.append(path)
        elif not _is_alive(path.stem.rpartition("-")[2]):
            path.unlink(missing_ok=True)
    return found


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def find_running(control: Path | None) -> Path:
    """The socket to talk to: the one named, or that of the only emulator that runs. Raises InputError."""
    if control is not None:
        return control
    found = running()
    if not found:
        raise InputError(
            "no emulator runs here (`plcsim run` or `plcsim fleet` start one; --control names its socket)"
        )
    if len(found) > 1:
        raise InputError(
            f"{len(found)} emulators run here: name one with --control: {', '.join(map(str, found))}"
        )
    return found[0]


def ask(path: Path, request: Message, timeout_s: float = _TIMEOUT_S) -> Message:
    """Send one request and return the reply without its `ok`.

    Raises InputError or PlcsimError with what the emulator complains of, PlcsimError if it cannot be
    reached or says nothing for so long.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as lines:
                line = lines.readline()
        except OSError as exc:
            reason = "does not answer" if isinstance(exc, TimeoutError) else exc.strerror or str(exc)
            raise PlcsimError(f"{path}: no emulator can be asked here: {reason}") from None
    if not line:
        raise PlcsimError(f"{path}: the emulator closed the connection without an answer")
    try:
        reply: Message = json.loads(line)
        is_ok = reply.pop("ok")
    except (ValueError, LookupError, AttributeError, TypeError):
        raise PlcsimError(f"{path}: what answers here is no emulator, or ended in the middle") from None
    if not is_ok:
        kind = InputError if reply.get("exit_code") == InputError.exit_code else PlcsimError
        raise kind(reply["error"])
    return reply
