"""The two loops that load: as fast as it goes, or at intended starts that are fixed beforehand.

Open loop: the start of transaction i is `t0 + i/rate`, computed before the run and never moved by what
happened before. response = wait + service, counted from that intended start; what is late is begun at
once, and what has not been begun one window after the end counts as skipped.
"""

from __future__ import annotations

import ctypes
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from bench.load.failures import Failure
from bench.load.work import Loop
from bench.measuring.latency import by_interval, latencies_of

_SPIN_NS = 200_000
_SPIN_SHARE = 0.04
"""The last part before an intended start is waited for awake, for the system wakes a sleeper late: at most
_SPIN_NS, and so much of the period that pacing stays cheap (at 2,000/s 20 µs, 4 % of a core)."""
_PR_SET_TIMERSLACK = 29


class Attempt(NamedTuple):
    """What became of one transaction."""

    failure: Failure = Failure.OK
    reason: str = ""
    """SQLSTATE or name of the error; empty where it was stored."""
    retries: int = 0

    @property
    def is_stored(self) -> bool:
        return self.failure is Failure.OK or self.failure is Failure.RETRIED


STORED = Attempt()


def closed_loop(attempt: Callable[[], Attempt], seconds: float) -> Loop:
    """Make one attempt after the other for so long; responses and waits do not exist here.

    Its service times hide what was not begun while one was slow: they describe the saturated system,
    not what a schedule would have met.
    """
    record = _Record()
    start = now = record.start_ns
    end = start + round(seconds * 1e9)
    while now < end:
        made = attempt()
        done = time.perf_counter_ns()
        if made.is_stored:
            record.at.append(now)
            record.service.append(done - now)
        else:
            record.failed.append(done - now)
        if made is not STORED:
            record.count(made)
        now = done
    return record.loop((now - start) / 1e9, 0, record.service)


def open_loop(attempt: Callable[[], Attempt], seconds: float, rate_per_s: float) -> Loop:
    """Make an attempt at each intended start, `rate_per_s` of them a second (it may be below 1)."""
    # 0.29 s at 100/s are 29, though the float product lies just below
    planned, period_ns = max(1, int(seconds * rate_per_s + 1e-9)), 1e9 / rate_per_s
    offsets = (round(index * period_ns) for index in range(planned))
    return _open_loop(attempt, offsets, planned, seconds, period_ns)


def open_loop_at(attempt: Callable[[], Attempt], offsets_ns: Sequence[int], seconds: float) -> Loop:
    """Make an attempt at each of these times after the loop's start, ascending; `seconds` are planned."""
    planned = len(offsets_ns)
    return _open_loop(attempt, offsets_ns, planned, seconds, 1e9 * seconds / max(1, planned))


def _open_loop(
    attempt: Callable[[], Attempt], offsets_ns: Iterable[int], planned: int, seconds: float, period_ns: float
) -> Loop:
    spin_ns = min(_SPIN_NS, round(_SPIN_SHARE * period_ns))
    wake_exactly()
    record = _Record()
    done = start = record.start_ns
    give_up = start + round(2 * seconds * 1e9)
    made_so_far = 0
    for offset in offsets_ns:
        if done >= give_up:
            break
        intended = start + offset
        begun = wait_until(intended, spin_ns)
        made = attempt()
        done = time.perf_counter_ns()
        if made.is_stored:
            record.at.append(intended)
            record.service.append(done - begun)
            record.response.append(done - intended)
            record.wait.append(begun - intended)
        else:
            record.failed.append(done - intended)
        if made is not STORED:
            record.count(made)
        made_so_far += 1
    return record.loop(max(seconds, (done - start) / 1e9), planned - made_so_far, record.response)


def wait_until(intended_ns: int, spin_ns: int = _SPIN_NS) -> int:
    """Return the time once it is `intended_ns` or later; at once if it is late already.

    Times are of `time.perf_counter_ns`; the last `spin_ns` are waited for awake.
    """
    now = time.perf_counter_ns()
    if intended_ns - now > spin_ns:
        time.sleep((intended_ns - now - spin_ns) / 1e9)
        now = time.perf_counter_ns()
    while now < intended_ns:
        now = time.perf_counter_ns()
    return now


def wake_exactly() -> None:
    """Ask the system not to bundle this thread's wake-ups (Linux: 50 µs late by default); where it can."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


class _Record:
    """What a loop notes from its start: eight bytes a figure, so that a long one does not fill the memory."""

    def __init__(self) -> None:
        self.at, self.service, self.response, self.wait, self.failed = (array("q") for _ in range(5))
        self.failures: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.retried = self.retries = 0
        self._since_1970_ns = time.time_ns() - time.perf_counter_ns()
        self._cpu_s = time.process_time()
        self.start_ns = time.perf_counter_ns()

    def count(self, made: Attempt) -> None:
        self.retries += made.retries
        if made.is_stored:
            self.retried += made.failure is Failure.RETRIED
        else:
            self.failures[made.failure.value] += 1
            self.reasons[made.reason] += 1

    def loop(self, seconds: float, skipped: int, by_second: array[int]) -> Loop:
        """All of it, once the loop has ended."""
        cpu_s = time.process_time() - self._cpu_s
        starts_ns = np.frombuffer(self.at, dtype=np.int64) + self._since_1970_ns
        return Loop(
            seconds,
            len(self.service),
            dict(self.failures),
            skipped,
            latencies_of(self.service),
            latencies_of(self.response),
            latencies_of(self.wait),
            latencies_of(self.failed),
            self.retried,
            self.retries,
            dict(self.reasons),
            cpu_s=cpu_s,
            by_second=tuple(by_interval(starts_ns.tolist(), by_second)),
        )
