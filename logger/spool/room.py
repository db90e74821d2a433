"""Waiting for room in a spool that is full: many tasks of several event loops, woken by any thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


class Room:
    """Wakes whoever waits when `tell` is called and there is room again."""

    def __init__(self, is_full: Callable[[], bool]) -> None:
        self._is_full = is_full
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def is_awaited(self) -> bool:
        return bool(self._waiting)

    async def wait(self, stop: asyncio.Event) -> None:
        """Return when there is room, or when `stop` is set."""
        loop = asyncio.get_running_loop()
        while self._is_full() and not stop.is_set():
            room = asyncio.Event()
            with self._lock:
                self._waiting[room] = loop
            try:
                if self._is_full():
                    await _first_of(loop, room, stop)
            finally:
                with self._lock:
                    self._waiting.pop(room, None)

    def tell(self) -> None:
        """Let all look again whether there is room."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for room, loop in waiting.items():
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(room.set)


async def _first_of(loop: asyncio.AbstractEventLoop, *events: asyncio.Event) -> None:
    ends = [loop.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
