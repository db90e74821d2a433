"""The supervisor's end of the conversation with one worker."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
from typing import Any

from plcsim.errors import InputError, ListenError, PlcsimError
from plcsim.fleet.messages import Assignment, Failed, Reply, Request, Stop, next_message, packed
from plcsim.fleet.process import WorkerProcess

_ANSWER_S = 10.0
_END_S = 5.0


class WorkerGoneError(PlcsimError):
    """The worker has ended."""


class Link:
    """Speaks with one worker process, from its assignment to its end."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._process = worker.process
        self._pair = worker.pair
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._killed_because = ""
        self.silent_looks = 0
        """Looks at its status in vain since it said something last."""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def assign(self, assignment: Assignment) -> tuple[int, ...]:
        """Let it serve; returns the ports of its endpoints. Raises ListenError, or WorkerGoneError."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._pair)
        self._writer.write(packed(assignment))
        try:
            first = await next_message(self._reader)
        except EOFError:
            raise WorkerGoneError(f"worker process {self.pid} {await self.end()}") from None
        if isinstance(first, Failed):
            raise (InputError if first.exit_code == InputError.exit_code else ListenError)(first.problem)
        return tuple(first.ports)

    async def ask(self, message: dict[str, Any], devices: tuple[str, ...] = ()) -> dict[str, Any]:
        """The reply to a request. Raises WorkerGoneError, TimeoutError, or what the worker complains of."""
        if self._writer is None or self._writer.is_closing():
            raise self._gone()
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(packed(Request(number, message, devices)))
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._waiting[number]
        finally:
            del self._waiting[number]

    async def take_replies(self) -> None:
        """Take its replies until it ends."""
        while True:
            try:
                reply: Reply = await next_message(self._reader)
            except EOFError:
                break
            self.silent_looks = 0  # however late it is
            waiting = self._waiting.get(reply.number)
            if waiting is None or waiting.done():
                continue
            if reply.content is not None:
                waiting.set_result(reply.content)
            else:
                kind = InputError if reply.exit_code == InputError.exit_code else PlcsimError
                waiting.set_exception(kind(reply.problem))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self._gone())

    def kill(self, because: str) -> None:
        """End it by force; `end` says why."""
        self._killed_because = f"{because} and "
        self._process.kill()

    async def end(self) -> str:
        """Tell it to end, and wait until it has, by force if it will not; returns how it ended."""
        if self._writer is None:
            self._pair.close()
        elif not self._writer.is_closing():
            self._writer.write(packed(Stop()))
            self._writer.close()
        try:
            code = await asyncio.to_thread(self._process.wait, _END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = await asyncio.to_thread(self._process.wait)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return self._killed_because + how

    def _gone(self) -> WorkerGoneError:
        return WorkerGoneError(f"worker process {self.pid} has ended; it is started again")
