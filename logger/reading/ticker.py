"""Wakes many pollers of one event loop at their due times, to a fraction of a millisecond.

Timers of the event loop are a millisecond early or late, and whoever sleeps the rest away holds up all
others. So one timer of the kernel (timerfd, Linux) is set to the earliest due time and wakes the loop as
a socket would; elsewhere the loop's own timers do, as precise as they are.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

_TFD_TIMER_ABSTIME = 1
_NS = 1_000_000_000


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: interval and first expiry, each seconds and nanoseconds (timerfd_create(2))."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Ticker:
    """One for each event loop; `close` it in the end."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None], asyncio.Event]] = []
        """A heap: due time on the monotonic clock, a number that breaks ties, who waits, what stops it."""
        self._count = 0
        self._watched: dict[asyncio.Event, asyncio.Task[None]] = {}
        self._timer = _KernelTimer() if hasattr(ctypes.CDLL(None), "timerfd_create") else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def wait_until(self, due_ns: int, stop: asyncio.Event) -> bool:
        """Wait for a time on the monotonic clock; False if `stop` is set before, or already."""
        if stop.is_set():
            return False
        if due_ns <= time.monotonic_ns():
            return True
        loop = self._in_loop()
        if stop not in self._watched:
            self._watched[stop] = loop.create_task(self._release_at(stop))
        waiting = loop.create_future()
        self._count += 1
        heapq.heappush(self._waiting, (due_ns, self._count, waiting, stop))
        if self._waiting[0][2] is waiting:
            self._arm()
        await waiting
        return not stop.is_set()

    def close(self) -> None:
        """Give the timer back; who still waits is cancelled."""
        for task in self._watched.values():
            task.cancel()
        for _, _, waiting, _ in self._waiting:
            waiting.cancel()
        self._watched, self._waiting = {}, []
        if self._handle is not None:
            self._handle.cancel()
        if self._timer is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._timer.fd)
            self._timer.close()
            self._timer = None

    def _in_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            if self._timer is not None:
                self._loop.add_reader(self._timer.fd, self._ticked)
        return self._loop

    async def _release_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        del self._watched[stop]
        for _, _, waiting, stopped_by in self._waiting:
            if stopped_by is stop and not waiting.done():
                waiting.set_result(None)

    def _ticked(self) -> None:
        if self._timer is not None:
            self._timer.read()
        now = time.monotonic_ns()
        while self._waiting and (self._waiting[0][0] <= now or self._waiting[0][2].done()):
            waiting = heapq.heappop(self._waiting)[2]
            if not waiting.done():
                waiting.set_result(None)
        self._arm()

    def _arm(self) -> None:
        if not self._waiting or self._loop is None:
            return
        due_ns = self._waiting[0][0]
        if self._timer is not None:
            self._timer.set(due_ns)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0, due_ns - time.monotonic_ns()) / _NS, self._ticked)


class _KernelTimer:
    """A timerfd on the monotonic clock."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._set = libc.timerfd_settime
        self._set.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.POINTER(_TimerSpec), ctypes.c_void_p]
        self._spec = _TimerSpec()
        self.fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, at_ns: int) -> None:
        """Fire at a time, at once if it has passed."""
        self._spec.at_s, self._spec.at_ns = divmod(at_ns, _NS)
        if self._set(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def read(self) -> None:
        """Take note that it has fired."""
        with suppress(BlockingIOError):  # it was set anew meanwhile
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
