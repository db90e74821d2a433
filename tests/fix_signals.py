"""Signals computed from docs/signals.md in plain Python, one PLC scan at a time: no shared code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Spec = dict[str, Any]
Scalar = Callable[[Spec, int, float, int], float]
"""Value of (keys of the signal, PLC scan, plc_scan_ms, noise key)."""

MASK = 2**64 - 1


def u(key: int, number: int) -> float:
    z = (key + number * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) / 2**53


def noise(spec: Spec, scan: int, key: int) -> float:
    return float(spec.get("noise", 0.0)) * (2 * u(key, scan) - 1)


def scans_of(seconds: float, plc_scan_ms: float) -> int:
    return max(1, round(seconds * 1000.0 / plc_scan_ms))


def triangle(spec: Spec, scan: int, ms: float, key: int) -> float:
    turn = (scan * ms / 1000.0 / spec["period_s"] + spec.get("phase", 0.0)) % 1.0
    if turn < 0.25:
        wave = 4 * turn
    elif turn < 0.75:
        wave = 2 - 4 * turn
    else:
        wave = 4 * turn - 4
    return float(spec["mean"] + spec["amplitude"] * wave) + noise(spec, scan, key)


def square(spec: Spec, scan: int, ms: float, key: int) -> float:
    period = scans_of(spec["period_s"], ms)
    place = (scan + round(spec.get("phase", 0.0) * period)) % period
    high = place < round(spec.get("duty", 0.5) * period)
    return float(spec["high" if high else "low"]) + noise(spec, scan, key)


def random_walk(spec: Spec, scan: int, ms: float, key: int) -> float:
    levels = spec.get("levels", 12)
    total = math.fsum(2 ** (k / 2) for k in range(levels))
    parts = []
    for k in range(levels):
        node, rest = divmod(scan, 2**k)
        own = (key + (k + 1) * 0xD1B54A32D192ED03) & MASK
        ends = 2 * u(own, node) - 1, 2 * u(own, node + 1) - 1
        parts.append(2 ** (k / 2) / total * (ends[0] + (ends[1] - ends[0]) * rest / 2**k))
    return float(spec["mean"] + spec["amplitude"] * math.fsum(parts))


def happens(spec: Spec, scan: int, ms: float, key: int) -> bool:
    width = scans_of(spec["width_s"], ms) if "width_s" in spec else 1
    if "period_s" in spec:
        return scan % scans_of(spec["period_s"], ms) < width
    return bool(u(key ^ 0x8CB92BA72F3D8DD7, scan // width) < spec["probability"])


def spike(spec: Spec, scan: int, ms: float, key: int) -> float:
    return float(spec["base"] + spec["height"] * happens(spec, scan, ms, key)) + noise(spec, scan, key)


def dip(spec: Spec, scan: int, ms: float, key: int) -> float:
    return float(spec["base"] - spec["depth"] * happens(spec, scan, ms, key)) + noise(spec, scan, key)


def trend(spec: Spec, scan: int, ms: float, key: int) -> float:
    line = spec["start"] + spec["rate_per_s"] * (scan * ms / 1000.0)
    line = max(line, spec.get("low", -math.inf))
    return float(min(line, spec.get("high", math.inf))) + noise(spec, scan, key)


def step_up(spec: Spec, scan: int, ms: float, key: int) -> float:
    steps = scan // scans_of(spec["period_s"], ms)
    return float((spec.get("start", 0) + steps * spec.get("step", 1)) % spec.get("wrap", 2**16))


def replay(spec: Spec, scan: int, ms: float, key: int) -> float:
    times, values = list(spec["times"]), list(spec["values"])
    t = scan * ms / 1000.0
    if spec.get("repeat", True) and len(times) > 1:
        length = times[-1] + (times[-1] - times[-2])
        t %= length
        times, values = [*times, length], [*values, values[0]]
    if t >= times[-1]:
        return float(values[-1])
    i = max(i for i, time in enumerate(times) if time <= t)
    if spec.get("interpolate", "previous") == "previous":
        return float(values[i])
    share = (t - times[i]) / (times[i + 1] - times[i])
    return float(values[i] + share * (values[i + 1] - values[i]))


def freeze_after(spec: Spec, scan: int, ms: float, key: int) -> float:
    return value(spec["of"], min(scan, spec["updates"]), ms, key)


def nothing(spec: Spec, scan: int, ms: float, key: int) -> float:
    return math.nan


SCALAR: dict[str, Scalar] = {
    "triangle": triangle,
    "square": square,
    "random_walk": random_walk,
    "spike": spike,
    "dip": dip,
    "trend": trend,
    "step_up": step_up,
    "replay": replay,
    "freeze_after": freeze_after,
    "text": nothing,
    "missing": nothing,
}
"""By kind: those that depend on nothing but the PLC scan."""

SHOWN_BY_DEVICES = {"lag", "process_state"}
"""Kinds whose values depend on what clients write: tests/test_lag.py and tests/test_commands.py."""


def value(spec: Spec, scan: int, ms: float, key: int) -> float:
    """What a signal says at a PLC scan."""
    every = spec.get("update_every", 1)
    return SCALAR[spec["kind"]](spec, scan - scan % every, ms, key)
