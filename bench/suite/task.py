"""One function in a worker process of its own, which ends at once when we are interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from bench.load.arms import spawn_worker, workers_alive

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Tasks:
    """A worker process that is there."""

    def __init__(self, run: Callable[..., object]) -> None:
        self._run = run

    def run(self, function: Callable[[Asked], Answer], asked: Asked) -> Answer:
        """What the function returns there; raises what it raises, and PlcsimError if the process dies."""
        return self._run(function, asked)  # type: ignore[return-value]


@contextmanager
def task_worker() -> Iterator[Tasks]:
    """A worker process; killed when something is raised in the block, for a task may take a minute."""
    with spawn_worker(signal.SIGTERM) as worker:
        with workers_alive():
            pid = worker.submit(os.getpid).result()

        def run(function: Callable[[object], object], asked: object) -> object:
            with workers_alive():
                return worker.submit(function, asked).result()

        try:
            yield Tasks(run)
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise
