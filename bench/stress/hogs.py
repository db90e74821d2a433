"""Processes that use a processor each, when told to; they end with us, however we end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Self

from bench.load.emulators import signals_held

_START_S = 20.0
_LOOK_S = 0.5
_BUSY_S = 0.005
"""Between two looks at whether to go on."""


class Hogs:
    """A context manager: so many processes that wait until they are set loose."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._context = multiprocessing.get_context("spawn")
        self._loose = self._context.Event()
        self._processes: list[SpawnProcess] = []

    def __enter__(self) -> Self:
        ready = self._context.Semaphore(0)
        for _ in range(self.count):
            process = self._context.Process(target=_hog, args=(self._loose, ready, os.getpid()), daemon=True)
            with signals_held(signal.SIGINT, signal.SIGTERM):
                process.start()
            self._processes.append(process)
        for _ in range(self.count):
            ready.acquire(timeout=_START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
            process.close()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid]

    def loose(self, are_loose: bool) -> None:
        """Let them run, or stop them; they look every few milliseconds."""
        if are_loose:
            self._loose.set()
        else:
            self._loose.clear()


def _hog(loose: Event, ready: object, parent: int) -> None:
    ready.release()  # type: ignore[attr-defined]
    while os.getppid() == parent:
        if not loose.wait(_LOOK_S):
            continue
        until = time.perf_counter() + _BUSY_S
        while time.perf_counter() < until:
            pass
