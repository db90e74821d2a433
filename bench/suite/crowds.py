"""Crowds as a part of the suite leads them: writers spread over worker processes, all told one start."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from bench.load.arms import spawn_worker, workers_alive
from bench.suite.crowd import CrowdRequest, CrowdResult, CrowdSettings, CrowdTotal
from bench.suite.crowd_worker import close_crowd, prepare_crowd, run_crowd

_LEAD_NS = 30_000_000
"""The common start lies so far ahead that all have been told of it …"""
_SHORT_LEAD_NS = 10_000_000
"""… or most, where the moment is not what is measured."""


@contextmanager
def crowd_workers(count: int) -> Iterator[list[ProcessPoolExecutor]]:
    """Worker processes for crowds, one after the other; gone after."""
    with ExitStack() as stack:
        yield [stack.enter_context(spawn_worker(signal.SIGTERM)) for _ in range(count)]


class Crowd:
    """The writers of one case, on some worker processes; counts all history rows that they stored."""

    def __init__(self, workers: Sequence[ProcessPoolExecutor], settings: CrowdSettings) -> None:
        self._workers = list(workers)[: settings.writers]
        self._settings = settings
        self.rows = 0

    @property
    def writers(self) -> int:
        return self._settings.writers

    def prepare(self, *rows: str) -> CrowdTotal:
        """Connect, open the streams and store one transaction each, on these kinds of rows.

        Returns what became of those, which nobody measures. Raises DatabaseError where not even the
        pool can be filled.
        """
        each, more = divmod(self._settings.writers, len(self._workers))
        first, mine = self._settings.first, []
        for index in range(len(self._workers)):
            writers = each + (index < more)
            mine.append((replace(self._settings, first=first, writers=writers), rows))
            first += writers
        first_goes: list[list[CrowdResult]] = self._all(prepare_crowd, mine)
        total = CrowdTotal(self._settings.pool, [result for results in first_goes for result in results])
        self.rows += sum(result.rows for result in total.results)
        return total

    def go(self, rows: str, seconds: float = 0.0, rounds: int = 1) -> CrowdTotal:
        """Let all begin at once, so many times; with seconds they go on so long."""
        total = CrowdTotal(self._settings.pool)
        for _ in range(rounds):
            total.add(self._go(CrowdRequest(rows, time.perf_counter_ns() + _LEAD_NS, seconds)))
        return total

    def go_in_bursts(self, rows: str, seconds: float, burst_s: float = 0.3) -> CrowdTotal:
        """Let all go on for a moment, bring those who are behind up to the others, and again.

        A writer that is far behind has no news of rows that it shares, and is in nobody's way.
        """
        total, ends = CrowdTotal(self._settings.pool), time.perf_counter() + seconds
        while not total.results or time.perf_counter() < ends:
            total.add(self._go(CrowdRequest(rows, time.perf_counter_ns() + _SHORT_LEAD_NS, burst_s)))
            ahead = max(result.last_scan for result in total.results)
            start_ns = time.perf_counter_ns() + _SHORT_LEAD_NS
            total.add(self._go(CrowdRequest(rows, start_ns, up_to=ahead + 1)))
        return total

    def _go(self, request: CrowdRequest) -> CrowdTotal:
        results: list[CrowdResult] = self._all(run_crowd, [(request,)] * len(self._workers))
        self.rows += sum(result.rows for result in results)
        longest = max(result.seconds for result in results)
        return CrowdTotal(self._settings.pool, results, longest)

    def close(self) -> None:
        """Close the connections."""
        self._all(close_crowd, [()] * len(self._workers))

    def _all(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        with workers_alive():
            pairs = zip(self._workers, arguments, strict=True)
            futures = [worker.submit(function, *given) for worker, given in pairs]
            return [future.result() for future in futures]
