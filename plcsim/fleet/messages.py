"""What supervisor and worker say to each other over their socket pair: pickles, each behind its length.

The pair has no name and no other process holds an end of it, so pickles are as safe as memory here;
and whoever dies, however it dies, the other reads the end of the stream.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plcsim.endpoint import Endpoint

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The first message to a worker: what it serves."""

    endpoints: tuple[Endpoint, ...]
    journal_folder: Path | None
    request_journal: Path | None
    life: int
    """0 at first; how often a worker was restarted in this place."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The worker's first message: clients can connect."""

    ports: tuple[int, ...]
    """Of the endpoints, in their order."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker's first message if it cannot serve, and its last."""

    problem: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Request:
    """The supervisor asks."""

    number: int
    message: dict[str, Any]
    """As of the control socket; see `plcsim.control.request`."""
    devices: tuple[str, ...] = ()
    """Those of this worker whom the message concerns."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the request of that number."""

    number: int
    content: dict[str, Any] | None
    problem: str = ""
    """Why there is no content."""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """End: close every connection, then exit."""


def packed(message: object) -> bytes:
    """A message as it goes over the socket pair."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


async def next_message(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises EOFError when the other end is gone."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        data = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise EOFError("the other process is gone") from None
    return pickle.loads(data)
