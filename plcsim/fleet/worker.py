"""One process of a fleet: serves its share of the devices until its supervisor says stop, or is gone."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from typing import Any

from plcsim.control.request import parse_request
from plcsim.errors import PlcsimError
from plcsim.event_loop import new_event_loop
from plcsim.fleet.messages import (
    Assignment,
    Failed,
    Listening,
    Reply,
    Request,
    Stop,
    next_message,
    packed,
)
from plcsim.journals import FleetJournals
from plcsim.plant import Plant, raise_file_limit
from plcsim.runner import first_of


def work(pair: socket.socket) -> int:
    """Serve what the supervisor assigns over the pair, until it says stop or is gone; the exit code.

    Ctrl-C and SIGTERM are for the supervisor to hear, even where all processes get them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_work(pair))
    except PlcsimError as exc:
        print(f"plcsim: {exc}", file=sys.stderr)  # noqa: T201 - it has no command line to tell it
        return exc.exit_code
    return 0


def main() -> None:
    """Entry point of a worker that is a new program; its argument is the descriptor of its end."""
    sys.exit(work(socket.socket(fileno=int(sys.argv[1]))))


async def _work(pair: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=pair)
    try:
        assignment: Assignment = await next_message(reader)
        async with AsyncExitStack() as stack:
            try:
                journals = stack.enter_context(_journals(assignment))
                plant = Plant(assignment.endpoints, recorders=journals.of_device)
                await stack.enter_async_context(plant)
            except PlcsimError as exc:
                writer.write(packed(Failed(str(exc), exc.exit_code)))
                return
            writer.write(packed(Listening(plant.ports)))
            gc.collect()
            gc.freeze()  # the devices stay: the collector need not look at them again
            await first_of(_answer(plant, reader, writer), plant.failed(), journals.failed())
    except (EOFError, ConnectionError):
        pass  # the supervisor is gone, however it went: nobody wants these devices any more
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _journals(assignment: Assignment) -> FleetJournals:
    return FleetJournals(assignment.journal_folder, assignment.life, assignment.request_journal)


async def _answer(plant: Plant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not isinstance(message := await next_message(reader), Stop):
        try:
            reply = Reply(message.number, _content(plant, message))
        except PlcsimError as exc:
            reply = Reply(message.number, None, str(exc), exc.exit_code)
        writer.write(packed(reply))


def _content(plant: Plant, request: Request) -> dict[str, Any]:
    if request.message["op"] == "status":
        return asdict(plant.status())
    return plant.fault(request.devices, parse_request(request.message))


if __name__ == "__main__":
    main()
