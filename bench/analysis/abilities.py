"""What a machine can and cannot measure, from probes of it; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.analysis.sample_size import values_needed
from bench.measuring.latency import INTERVAL_BEYOND

RECORDING_RATE_PER_S = 2000.0
RECORDING_SHARE = 0.1
"""Recording and pacing may take a tenth of one core at 2,000 transactions a second."""
NULL_RATE_PER_S = 10_000.0
NULL_WAIT_MS = 1.0
_LEAST_TRANSACTION_US = 500.0
"""About what a transaction of 84 parameters takes at least: what we compare with."""
_AWAKE_US = 200.0
"""The last part before an intended start that is waited for awake, as long as the rate leaves time for it."""
_REAL_FSYNC_US = 20.0
"""No disk that keeps what it was given through a power cut is faster, but one with a protected cache."""
_STOLEN_SHARE = 0.01
_LONG_PAUSE_MS = 10.0
_STRESS_ROOM_BYTES = 5 << 30


@dataclass(frozen=True)
class Probes:
    """What the probes gave; times of several figures as median and 99th percentile."""

    clock_call_us: float
    clock_step_us: float
    sleep_overshoot_p50_us: float
    sleep_overshoot_p99_us: float
    pauses_per_s: float
    """Times a second that a process which never sleeps was kept from running for 1 ms or more."""
    longest_pause_ms: float
    stolen_share: float
    """Of the processors' time that the host gave to others."""
    record_us: float
    pacing_share: float
    """Of one core, at 2,000 starts a second of nothing."""
    null_wait_p99_ms: float
    """How late nothing is begun at 10,000 starts a second."""
    null_achieved_per_s: float
    fsync_p50_us: float
    fsync_p99_us: float
    loopback_p50_us: float
    loopback_p99_us: float
    database_p50_us: float
    database_p99_us: float
    server_is_local: bool
    cores: int
    free_bytes: int
    is_root: bool

    def to_json(self) -> dict[str, Any]:
        """What is no number (a percentile of too few starts) is null."""
        return {name: figure if math.isfinite(figure) else None for name, figure in asdict(self).items()}


@dataclass(frozen=True)
class Ability:
    """Something that may be measured, whether this machine can, and why."""

    what: str
    can: bool
    why: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def abilities(p: Probes) -> list[Ability]:
    """All that a user of plcbench may want to measure here."""
    return [*_time(p), *_generator(p), *_storage(p), *_size(p)]


def _time(p: Probes) -> Iterator[Ability]:
    finest = max(p.clock_step_us, p.clock_call_us)
    yield Ability(
        "single transactions in microseconds",
        10 * finest < _LEAST_TRANSACTION_US / 10,
        f"a look at the clock costs {p.clock_call_us:.2g} µs and it steps by {p.clock_step_us:.2g} µs",
    )
    yield Ability(
        "the tail beyond p99.9",
        p.longest_pause_ms < _LONG_PAUSE_MS and p.stolen_share < _STOLEN_SHARE,
        f"a process that never sleeps was held up {p.pauses_per_s:.2g} times a second for 1 ms or more, "
        f"{p.longest_pause_ms:.2g} ms at most; the host took {p.stolen_share:.1%}; an interval of "
        f"p99.9 needs {values_needed(99.9, INTERVAL_BEYOND):,} values",
    )


def _generator(p: Probes) -> Iterator[Ability]:
    share = p.record_us * RECORDING_RATE_PER_S / 1e6 + p.pacing_share
    yield Ability(
        f"{RECORDING_RATE_PER_S:,.0f} transactions/s without the generator in the figures",
        share < RECORDING_SHARE,
        f"recording ({p.record_us:.2g} µs each) and pacing take {share:.1%} of a core",
    )
    yield Ability(
        f"an open loop of {NULL_RATE_PER_S:,.0f} starts a second",
        p.null_wait_p99_ms < NULL_WAIT_MS and p.null_achieved_per_s > 0.99 * NULL_RATE_PER_S,
        f"{p.null_achieved_per_s:,.0f} were reached, 99 % begun within {p.null_wait_p99_ms:.2g} ms",
    )
    yield Ability(
        "intended starts to a tenth of a transaction",
        p.sleep_overshoot_p50_us - _AWAKE_US < _LEAST_TRANSACTION_US / 10,
        f"a sleeper wakes up {p.sleep_overshoot_p50_us:.0f} µs late (p99 {p.sleep_overshoot_p99_us:.0f} µs); "
        f"the last {_AWAKE_US:.0f} µs are waited for awake, what is later counts as wait",
    )


def _storage(p: Probes) -> Iterator[Ability]:
    yield Ability(
        "commits as durable as in a plant",
        p.fsync_p50_us >= _REAL_FSYNC_US,
        f"a small durable write takes {p.fsync_p50_us:,.0f} µs (p99 {p.fsync_p99_us:,.0f} µs)"
        + ("" if p.fsync_p50_us >= _REAL_FSYNC_US else ": this disk does not wait for anything"),
    )
    yield Ability(
        "a database across a network",
        not p.server_is_local,
        f"the server is {'on this' if p.server_is_local else 'on another'} machine: a round trip takes "
        f"{p.database_p50_us:.0f} µs (p99 {p.database_p99_us:.0f} µs), of 64 bytes over loopback "
        f"{p.loopback_p50_us:.0f} µs",
    )


def _size(p: Probes) -> Iterator[Ability]:
    yield Ability(
        "scaling over processors",
        p.cores >= 8,
        f"{p.cores} cores serve PostgreSQL, PLCs and load together: beyond {max(1, p.cores // 2)} busy "
        "connections the knee is that of the processors",
    )
    yield Ability(
        "load up to failure (plcbench stress)",
        p.free_bytes >= _STRESS_ROOM_BYTES,
        f"{p.free_bytes / 1e9:,.0f} GB are free where the server keeps its data",
    )
    yield Ability(
        "full and slow disks (small file systems)",
        p.is_root,
        "they need root to be mounted" if not p.is_root else "as root they can be mounted",
    )
