"""The writers alone, from a backlog: how fast they are, and what synchronizing costs there and at a low rate.

A hundred devices of 84 parameters with twenty scans waiting each, made beforehand: no PLC, no spool, but
batches, hashes and arrays made anew for each transaction. Several processes with a connection each share
the devices. Rounds of both repositories are interleaved, each in a schema of its own.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from figures import figure, finish

from bench.load.arms import bench_schema, bench_server, growing_wal
from bench.load.machine import machine
from bench.load.scan_source import PrecomputedScans
from logger.database import connect
from logger.repositories import REPOSITORIES, Stream
from logger.scan import Batch, ScanLayout, StreamKey, batch_of
from plcsim.config import DeviceConfig

DEVICES = 100
SCANS = 20
"""That wait of each device, and go into one transaction."""
PARAMETERS = 84
STREAMS_A_TRANSACTION = 5
ROUND_S = 4.0
PACED_S = 0.05
"""Between two scans where latency is measured: far below what the server can do."""


@dataclass(frozen=True)
class Work:
    """What one process stores."""

    conninfo: str
    schema: str
    repository: str
    devices: tuple[str, ...]
    running: bool


class Backlog:
    """One connection, some devices, twenty scans of each at a time."""

    def __init__(self, work: Work) -> None:
        self._repository = REPOSITORIES[work.repository](connect(work.conninfo, work.schema))
        self._source = PrecomputedScans(machine(PARAMETERS, running=work.running))
        self._devices = [self._device(name, work.running) for name in work.devices]

    def _device(self, name: str, running: bool) -> tuple[Stream, ScanLayout]:
        layout = ScanLayout(machine(PARAMETERS, name, running))
        return self._repository.open(StreamKey(name, 1), layout.recipe), layout

    def _batch(self, stream: Stream, layout: ScanLayout, scans: int) -> Batch:
        first = stream.head.last_scan + 1
        return batch_of([self._source.next(first + n) for n in range(scans)], layout)

    def run(self, seconds: float) -> int:
        """Store for so long; returns how many parameters."""
        stored, start = 0, time.perf_counter()
        while True:
            for first in range(0, len(self._devices), STREAMS_A_TRANSACTION):
                part = self._devices[first : first + STREAMS_A_TRANSACTION]
                batches = [(stream, self._batch(stream, layout, SCANS)) for stream, layout in part]
                self._repository.store_together(batches)
                stored += sum(len(batch.value) for _, batch in batches)
                if time.perf_counter() - start >= seconds:
                    return stored

    def one_scan(self, due: float) -> float:
        """Wait until a scan is due, store it alone; seconds from due to the proven commit."""
        stream, layout = self._devices[0]
        while (left := due - time.perf_counter()) > 0:
            time.sleep(max(0.0, left - 0.0002))
        stream.store(self._batch(stream, layout, 1))
        return time.perf_counter() - due

    def one_by_one(self, seconds: float) -> float:
        """Store scans alone as fast as it goes; scans a second."""
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            self.one_scan(0.0)
            count += 1
        return count / (time.perf_counter() - start)


_backlogs: dict[str, Backlog] = {}


def prepare(work: Work) -> None:
    """Get ready; called once in each process for each schema."""
    _backlogs[work.schema] = Backlog(work)
    gc.freeze()


def run(schema: str, seconds: float) -> int:
    return _backlogs[schema].run(seconds)


class Writers:
    """Some processes, each with its share of the devices in every schema."""

    def __init__(self, processes: list[ProcessPoolExecutor]) -> None:
        self._processes = processes

    def prepare(self, conninfo: str, schema: str, repository: str, running: bool) -> None:
        names = [device_name(n) for n in range(DEVICES)]
        count = len(self._processes)
        works = [Work(conninfo, schema, repository, tuple(names[k::count]), running) for k in range(count)]
        for future in [p.submit(prepare, w) for p, w in zip(self._processes, works, strict=True)]:
            future.result()

    def per_second(self, schema: str, seconds: float) -> float:
        start = time.perf_counter()
        stored = sum(f.result() for f in [p.submit(run, schema, seconds) for p in self._processes])
        return stored / (time.perf_counter() - start)


def device_name(number: int) -> str:
    return f"bench-{number:03}"


def configs(running: bool) -> list[DeviceConfig]:
    return [machine(PARAMETERS, device_name(n), running) for n in range(DEVICES)]


@contextmanager
def spawned(count: int) -> Iterator[Writers]:
    processes = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(count)]
    try:
        yield Writers(processes)
    finally:
        for process in processes:
            process.shutdown()


def loss_percent(pairs: list[tuple[float, float]]) -> float:
    """Of the second against the first, from the median of paired ratios."""
    return 100 * (1 - float(np.median([b / a for a, b in pairs])))


def interleaved(rounds: int, first: object, second: object) -> list[tuple[float, float]]:
    """Measure both in turn, each beginning every other time, so that a drift hits both alike."""
    pairs = []
    for index in range(rounds):
        if index % 2:
            b, a = second(), first()  # type: ignore[operator]
        else:
            a, b = first(), second()  # type: ignore[operator]
        pairs.append((a, b))
    return pairs


def throughput(conninfo: str, schemas: dict[str, str], connections: int, rounds: int) -> None:
    """Parameters a second from the backlog, and what synchronizing costs of it."""
    with spawned(connections) as writers:
        for repository, schema in schemas.items():
            writers.prepare(conninfo, schema, repository, True)
            writers.per_second(schema, 1.0)
        pairs = interleaved(
            rounds,
            lambda: writers.per_second(schemas["baseline"], ROUND_S),
            lambda: writers.per_second(schemas["synchronizing"], ROUND_S),
        )
    synchronizing = float(np.median([b for _, b in pairs]))
    name = f"backlog, {connections} connections"
    figure(f"{name}, baseline", float(np.median([a for a, _ in pairs])), "parameters/s")
    figure(f"{name}, synchronizing", synchronizing, "parameters/s", ">= 200000", synchronizing >= 200_000)
    cost = loss_percent(pairs)
    figure("synchronizing costs, 20 scans a transaction", cost, "%", "< 5", cost < 5)


def one_scan(conninfo: str, schemas: dict[str, str], rounds: int) -> None:
    """What synchronizing costs where each scan has a transaction of its own."""
    arms = {
        name: Backlog(Work(conninfo, schema, name, (device_name(0),), True))
        for name, schema in schemas.items()
    }
    a, b = arms["baseline"], arms["synchronizing"]
    for arm in arms.values():
        arm.one_by_one(1.0)
    cost = loss_percent(interleaved(rounds, lambda: a.one_by_one(2.0), lambda: b.one_by_one(2.0)))
    figure("synchronizing costs, one scan a transaction, saturated", cost, "%", "<= 15", cost <= 15)
    times: dict[str, list[float]] = {"baseline": [], "synchronizing": []}
    due = time.perf_counter() + PACED_S
    for index in range(600):
        name = ("baseline", "synchronizing")[(index + index // 2) % 2]
        times[name].append(arms[name].one_scan(due))
        due = max(due + PACED_S, time.perf_counter() + PACED_S / 2)
    base, more = (1000 * float(np.median(times[name])) for name in ("baseline", "synchronizing"))
    figure("due to stored at a low rate, baseline, median", base, "ms")
    figure("due to stored at a low rate, synchronizing, median", more, "ms")
    figure("synchronizing adds", more - base, "ms", "< 0.5", more - base < 0.5)
    figure("synchronizing adds, of the baseline", 100 * (more / base - 1), "%", "< 15", more / base < 1.15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    with (
        bench_server(None) as conninfo,
        connect(conninfo) as monitor,
        bench_schema(monitor, conninfo, "base", configs(True)) as base,
        bench_schema(monitor, conninfo, "sync", configs(True)) as sync,
    ):
        with growing_wal(conninfo, 300) as grown:
            grown.result()
        monitor.execute("CHECKPOINT")
        schemas = {"baseline": base, "synchronizing": sync}
        one_scan(conninfo, schemas, options.rounds)
        monitor.execute("ANALYZE")
        throughput(conninfo, schemas, options.connections, options.rounds)
    finish()


if __name__ == "__main__":
    main()
