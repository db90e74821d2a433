"""A scripted PLC that holds the map of the fixture `oven`, and a reader of it."""

from __future__ import annotations

import asyncio
import struct

from fix_scans import HEAT, LAMP, NUMBER, RUNNING, TARGET, Oven
from scripted_plc import Answer, Piece, ScriptedPlc, asked, frame

from logger.reading.line import Line
from logger.reading.plc import PlcConnection
from logger.reading.reader import Reader
from logger.scan import Gap, Item, Scan, StreamKey

FUNCTION_OF = {LAMP: 1, TARGET: 3, RUNNING: 4, NUMBER: 4, HEAT: 4}


def registers(request: bytes, data: bytes) -> list[Piece]:
    transaction_id, unit, function, _, _ = asked(request)
    return [frame(transaction_id, bytes((function, len(data))) + data, unit)]


def oven_answer(
    running: int = 0, number: int = 0, heat: float = 180.5, target: float = 200.0, lamp: int = 1
) -> Answer:
    """A PLC with these values."""
    data = {
        1: bytes((lamp,)),
        3: struct.pack(">f", target),
        4: struct.pack(">HIf", running, number, heat),
    }
    return lambda request: registers(request, data[asked(request)[2]])


def but(function: int, pieces: list[Piece]) -> Answer:
    """A PLC that answers one function in another way; a piece of 2 bytes goes out as a PDU."""

    def answer(request: bytes) -> list[Piece]:
        transaction_id, _, asked_for, _, _ = asked(request)
        if asked_for != function:
            return oven_answer()(request)
        return [frame(transaction_id, p) if isinstance(p, bytes) and len(p) == 2 else p for p in pieces]

    return answer


def reader(oven: Oven, plc: ScriptedPlc, timeout_s: float = 2.0) -> Reader:
    return Reader(PlcConnection(Line("127.0.0.1", plc.port), 1, timeout_s), oven.config)


class Kept:
    """A sink that keeps what it is given, with room for so much."""

    def __init__(self, room: int = 10**6) -> None:
        self.items: list[Item] = []
        self.keys: set[StreamKey] = set()
        self._room = room

    @property
    def scans(self) -> list[Scan]:
        return [item for item in self.items if isinstance(item, Scan)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    @property
    def numbers(self) -> list[int]:
        """Of all scans, stored or not, in the order in which they came."""
        spans = [
            (i.number, i.number) if isinstance(i, Scan) else (i.first_scan, i.last_scan) for i in self.items
        ]
        return [number for first, last in spans for number in range(first, last + 1)]

    async def wait_for_room(self, stop: asyncio.Event) -> None:
        if len(self.items) >= self._room:
            await stop.wait()

    def put(self, key: StreamKey, item: Item) -> None:
        self.keys.add(key)
        self.items.append(item)
