"""A transport of ours under a real Connection: the test says which bytes come, and when a turn ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plcsim.server_config import ServerSpec
from plcsim.tcp.connection import Connection
from plcsim.tcp.rights import everything
from plcsim.unit import Unit


class FakeTransport(asyncio.Transport):
    """Keeps what is written; hands on what is fed, in no larger pieces than there is room for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.sent = b""
        self.is_read = True
        self.closed = False
        self.protocol: Connection
        self.socket = socket.socket()
        self._loop = loop

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self.socket, "peername": ("test", 1)}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no limit here."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.sent += bytes(data)

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def room(self) -> int:
        """How many bytes the connection would take now."""
        return len(self.protocol.get_buffer(65536))

    def feed(self, data: bytes) -> int:
        """Let bytes come as long as the connection reads, however many turns it takes; how many it took."""
        return self._loop.run_until_complete(self._feed(data))

    def fetch(self) -> None:
        """Let the client have fetched what was written."""

        async def resume() -> None:
            self.protocol.resume_writing()
            await asyncio.sleep(0)

        self._loop.run_until_complete(resume())

    async def _feed(self, data: bytes) -> int:
        taken = 0
        while taken < len(data) and not self.closed:
            if not self.is_read:
                await asyncio.sleep(0)
                if not self.is_read:
                    break
            buffer = self.protocol.get_buffer(65536)
            part = data[taken : taken + len(buffer)]
            buffer[: len(part)] = part
            self.protocol.buffer_updated(len(part))
            taken += len(part)
        await asyncio.sleep(0)
        return taken


class FakeHost:
    """The server of one unit that answers to every unit id."""

    def __init__(self, unit: Unit, settings: ServerSpec) -> None:
        self.settings = settings
        self.units: dict[int, Unit] = {}
        self.any_unit: Unit | None = unit
        self.requests = 0

    def opened(self, connection: Connection) -> None:
        """It may stay."""

    def closed(self, connection: Connection) -> None:
        """Nothing was noted."""


@contextmanager
def connected(
    unit: Unit,
    loop: asyncio.AbstractEventLoop | None = None,
    kind: type[FakeTransport] = FakeTransport,
) -> Iterator[FakeTransport]:
    """A connection to a unit that nobody else is connected to."""
    own = loop or asyncio.new_event_loop()
    transport = kind(own)
    protocol = transport.protocol = Connection(FakeHost(unit, unit.device.config.server), everything)

    async def make() -> None:
        protocol.connection_made(transport)

    async def end() -> None:
        protocol.connection_lost(None)

    try:
        own.run_until_complete(make())
        yield transport
        own.run_until_complete(end())
    finally:
        transport.socket.close()
        if own is not loop:
            own.close()
