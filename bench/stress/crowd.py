"""Many writers at once: threads over a few processes, each with a stream of its own, on one schedule.

A process each would take more memory and start-up time than the machine has; threads leave the
interpreter while they wait for the database, and how late they begin is recorded with every attempt.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.load.arms import spawn_worker, workers_alive
from bench.load.failures import Failure
from bench.stress import crowd_worker
from bench.stress.crowd_worker import CrowdSettings, Tried
from bench.stress.writer import OUTCOMES, Schedule

_LOST = OUTCOMES.index(Failure.CONNECTION_LOST)
LEAD_S = 0.05
"""Before a common start, for the threads of all processes to be there."""
_PER_WRITER_S = 0.0005


@dataclass(frozen=True)
class CrowdRun:
    """What all writers did on one schedule."""

    schedule: Schedule
    attempts: NDArray[np.void]
    """Of dtype `bench.stress.writer.ATTEMPT`, in no order."""
    busiest: float
    """CPU of the process that used most, as a share of one core: near 1, that process was the limit."""
    cores: float
    """What all processes used."""
    leaked: list[tuple[int, int, int]]
    """Of each process: see `Tried`."""


class Crowd:
    """A crowd that is there; see `crowd`."""

    def __init__(self, workers: list[ProcessPoolExecutor], pids: list[int], parameters: int) -> None:
        self._workers = workers
        self.pids = pids
        self.reasons: dict[str, int] = {}
        """Failed attempts by SQLSTATE so far."""
        self.total = 0
        """Scans that are known to be in the database, once the crowd is closed."""
        self.in_doubt = 0
        """Attempts that lost their connection so far: not every arm can be asked about them."""
        self._writers = 0
        self._parameters = parameters

    def resize(self, writers: int, connected: bool = True, parameters: int = 0) -> dict[str, int]:
        """Have so many writers, of so many parameters each (0: as before); returns by `Failure` how many
        could not connect. The machines (`crowd_machine`) must be registered."""
        self._parameters = parameters or self._parameters
        failures = _summed(self._all(crowd_worker.resize, writers, connected, self._parameters))
        self._writers = writers
        return failures

    def run(
        self,
        seconds: float,
        rate_per_s: float = 0.0,
        active: int = 0,
        count: int = 0,
        leak: tuple[float, float] | None = None,
    ) -> CrowdRun:
        """Let all writers (or the first `active`) begin at one instant; see `Schedule`."""
        lead_s = LEAD_S + _PER_WRITER_S * (active or self._writers)
        start = time.monotonic_ns() + round(1e9 * lead_s)
        schedule = Schedule(start, seconds, rate_per_s, active, count, leak)
        tried: list[Tried] = self._all(crowd_worker.run, schedule)
        self.reasons = _summed([one.reasons for one in tried])
        attempts = np.concatenate([one.attempts for one in tried])
        self.in_doubt += int(np.count_nonzero(attempts["outcome"] == _LOST))
        took_s = max(one.seconds for one in tried)  # of a process without active writers it is nothing
        shares = [one.cpu_s / took_s for one in tried]
        return CrowdRun(
            schedule,
            attempts,
            max(shares),
            sum(shares),
            [one.leaked for one in tried],
        )

    def stored(self) -> int:
        """Scans that are known to be in the database, asking it what was in doubt."""
        return sum(self._all(crowd_worker.settle))

    def close(self) -> None:
        """Ask the database what was in doubt, and close every connection."""
        self.total += self.stored()
        self._all(crowd_worker.close)

    def kill(self) -> None:
        """End the processes now, whatever they do."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _all(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        with workers_alive():
            futures = [worker.submit(function, *arguments) for worker in self._workers]
            return [future.result() for future in futures]


@contextmanager
def crowd(settings: CrowdSettings, processes: int) -> Iterator[Crowd]:
    """A crowd over so many processes, without writers yet; gone after, at once if something is raised."""
    with ExitStack() as stack:
        workers = [stack.enter_context(spawn_worker(signal.SIGTERM)) for _ in range(processes)]
        made = Crowd(workers, [], settings.parameters)
        stack.push(lambda kind, exc, tb: made.kill() if kind else None)
        with workers_alive():
            made.pids += [worker.submit(os.getpid).result() for worker in workers]
            futures = [
                worker.submit(crowd_worker.prepare, replace(settings, share=n, of=processes))
                for n, worker in enumerate(workers)
            ]
            for future in futures:
                future.result()
        yield made
        made.close()


def _summed(counts: list[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
