"""Probes of this machine: its clock, its sleep, its disk, its loopback, and what our recording costs.

Each probe is short, touches nothing of the user's and gives raw figures in the unit of its name.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import Connection

from bench.measuring.echo import echo
from bench.measuring.host import cpu_ticks
from bench.measuring.latency import latencies_of
from plcsim.errors import PlcsimError

_CALLS = 20_000
_START_S = 30.0
_BYTES = 64
_PAUSE_NS = 1_000_000
"""A gap between two looks at the clock that is no work of ours: somebody else had the processor."""


def quantiles(figures: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile of a probe's figures, for a result."""
    return {
        "p50": round(float(np.percentile(figures, 50)), 1),
        "p99": round(float(np.percentile(figures, 99)), 1),
    }


def clock_call_us() -> float:
    """What one look at the clock costs."""
    start = time.perf_counter_ns()
    for _ in range(_CALLS):
        time.perf_counter_ns()
    return (time.perf_counter_ns() - start) / _CALLS / 1000


def clock_step_us() -> float:
    """The smallest step that the clock was seen to make."""
    smallest = 10**9
    for _ in range(1000):
        before = after = time.perf_counter_ns()
        while after == before:
            after = time.perf_counter_ns()
        smallest = min(smallest, after - before)
    return smallest / 1000


def sleep_overshoot_us(times: int) -> list[float]:
    """How much later than asked a sleeper wakes up, of 1 ms."""
    took = []
    for _ in range(times):
        start = time.perf_counter_ns()
        time.sleep(0.001)
        took.append((time.perf_counter_ns() - start) / 1000 - 1000)
    return took


def pauses_ms(seconds: float) -> tuple[list[float], float]:
    """(pauses of 1 ms and more of a process that never sleeps, share of time that the host took)."""
    found = []
    before = cpu_ticks()
    now = time.perf_counter_ns()
    end = now + round(seconds * 1e9)
    while now < end:
        last, now = now, time.perf_counter_ns()
        if now - last >= _PAUSE_NS:
            found.append((now - last) / 1e6)
    after = cpu_ticks()
    ticks = after.get("all", 0) - before.get("all", 0)
    stolen = after.get("stolen", 0) - before.get("stolen", 0)
    return found, stolen / ticks if ticks else 0.0


def record_us(times: int = 50_000) -> float:
    """What recording one latency costs: the append while it is measured, its share of the histogram after."""
    kept: list[int] = []
    start = time.perf_counter_ns()
    for index in range(times):
        begun = time.perf_counter_ns()
        kept.append(time.perf_counter_ns() - begun + index)
    latencies_of(kept)
    return (time.perf_counter_ns() - start) / times / 1000


def fsync_us(folder: Path, times: int) -> list[float]:
    """What a small durable write costs on the disk of a folder. Raises PlcsimError."""
    took = []
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))
            os.fsync(file.fileno())
            for index in range(times):
                os.pwrite(file.fileno(), bytes(8192), index * 8192 % (1 << 20))
                start = time.perf_counter_ns()
                os.fdatasync(file.fileno())
                took.append((time.perf_counter_ns() - start) / 1000)
    except OSError as exc:
        raise PlcsimError(f"{folder}: cannot be written to: {exc.strerror}") from exc
    return took


def loopback_us(times: int) -> list[float]:
    """Round trips of 64 bytes to another process over TCP on this machine."""
    with echo() as address, socket.create_connection(address, timeout=_START_S) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _round_trip_us(line)  # once the process is up
        return [_round_trip_us(line) for _ in range(times)]


def database_us(connection: Connection[Any], times: int) -> list[float]:
    """Round trips of the least statement to the server."""
    took = []
    for _ in range(times):
        start = time.perf_counter_ns()
        connection.execute("SELECT 1", prepare=True)
        took.append((time.perf_counter_ns() - start) / 1000)
    return took


def _round_trip_us(line: socket.socket) -> float:
    start = time.perf_counter_ns()
    line.sendall(bytes(_BYTES))
    count = _BYTES
    while count > 0:
        got = line.recv(count)
        if not got:
            raise PlcsimError("the other end of the loopback probe is gone")
        count -= len(got)
    return (time.perf_counter_ns() - start) / 1000
