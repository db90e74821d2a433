"""A PLC that answers whatever a test says, right or wrong, byte for byte, over a real socket."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from plcsim.event_loop import new_event_loop

Piece = bytes | float | None
"""Of a reply: bytes, sent by themselves; a pause in seconds; None closes the connection."""
Answer = Callable[[bytes], list[Piece]]

REQUEST_BYTES = 12


def frame(
    transaction_id: int, pdu: bytes, unit: int = 1, protocol: int = 0, length: int | None = None
) -> bytes:
    """A Modbus TCP frame; the length is that of the PDU unless it is to be a lie."""
    size = len(pdu) + 1 if length is None else length
    return struct.pack(">HHHB", transaction_id, protocol, size, unit) + pdu


def asked(request: bytes) -> tuple[int, int, int, int, int]:
    """Transaction id, unit id, function code, address and count of a read request."""
    transaction_id, _, _, unit, function, address, count = struct.unpack(">HHHBBHH", request)
    return transaction_id, unit, function, address, count


def right_answer(request: bytes) -> list[Piece]:
    """Registers that hold their address, coils that are on where their address is even."""
    transaction_id, unit, function, address, count = asked(request)
    if function in (1, 2):
        bits = sum(1 << i for i in range(count) if (address + i) % 2 == 0)
        data = bits.to_bytes((count + 7) // 8, "little")
    else:
        data = struct.pack(f">{count}H", *range(address, address + count))
    return [frame(transaction_id, bytes((function, len(data))) + data, unit)]


class ScriptedPlc:
    """Listens on a free port while inside it; counts connections and those that the client closed."""

    def __init__(self, answer: Answer = right_answer) -> None:
        self.answer = answer
        self.port = 0
        self.requests: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = 0
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*self._serving)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readexactly(REQUEST_BYTES)
                self.requests.append(request)
                for piece in self.answer(request):
                    if piece is None:
                        writer.close()
                        return
                    if isinstance(piece, bytes):
                        writer.write(piece)
                        await writer.drain()
                    await asyncio.sleep(0.001 if isinstance(piece, bytes) else piece)  # segments stay apart
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended += 1


def in_loop(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a test in the event loop that the logger runs in; what goes wrong in its callbacks fails it."""
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        runner.run(asyncio.wait_for(scenario, 60))
    assert complaints == []
