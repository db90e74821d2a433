"""First-order lags: against the recursion scan by scan, and the same bits from device and truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fix_machine import FOLLOW_ID, LAG_ID, SET_VALUE_ID, Operated, machine
from hypothesis import given, settings
from hypothesis import strategies as st

from plcsim.config import DeviceConfig
from plcsim.errors import ConfigError
from plcsim.signals import Values
from plcsim.truth import Truth
from plcsim.writes import Write

TAU_S, SCAN_S, AT_REST = 2.0, 0.1, 20.0
PLAIN = machine()

set_values = st.floats(-50, 500, width=32)
changes = st.dictionaries(st.integers(0, 200), st.lists(set_values, min_size=1, max_size=3), max_size=12)


def lag_of(config: DeviceConfig, scans: int, writes: list[Write]) -> Values:
    values = Truth(config).values_at(np.arange(scans), writes)
    return np.asarray(values[:, config.register_map.index_of(LAG_ID)])


def recursion(scans: int, changes: dict[int, list[float]], start: float = AT_REST) -> list[float]:
    value, target, values = start, AT_REST, [start]
    for scan in range(scans - 1):
        target = changes[scan][-1] if scan in changes else target
        value += (target - value) * (1 - math.exp(-SCAN_S / TAU_S))
        values.append(value)
    return values


def written(changes: dict[int, list[float]]) -> list[Write]:
    return [Write(scan, SET_VALUE_ID, value) for scan in sorted(changes) for value in changes[scan]]


@settings(max_examples=50, deadline=None, database=None)
@given(changes=changes)
def test_a_lag_is_the_recursion_of_a_first_order_system(changes: dict[int, list[float]]) -> None:
    assert lag_of(PLAIN, 250, written(changes)) == pytest.approx(recursion(250, changes), abs=1e-9)


def test_a_lag_starts_where_it_says_or_at_rest() -> None:
    assert lag_of(PLAIN, 100, []).tolist() == [AT_REST] * 100
    cold = lag_of(machine({"start": 0.0}), 100, [])
    assert cold == pytest.approx(recursion(100, {}, 0.0), abs=1e-9)
    assert cold[20] == pytest.approx(AT_REST * (1 - math.exp(-1)))


def test_noise_lies_on_a_lag_and_does_not_disturb_it() -> None:
    changes = {10: [100.0], 60: [50.0]}
    noisy = lag_of(machine({"noise": 0.5}), 200, written(changes))
    plain = lag_of(PLAIN, 200, written(changes))
    assert np.abs(noisy - plain).max() <= 0.5
    assert np.abs(noisy - plain).max() > 0.4


@settings(max_examples=50, deadline=None, database=None)
@given(changes=changes, ahead=st.lists(st.integers(1, 90), max_size=6))
def test_device_and_truth_agree_to_the_last_bit(changes: dict[int, list[float]], ahead: list[int]) -> None:
    operated = Operated(PLAIN)
    visited, seen = [], []

    def look(scan: int) -> None:
        operated.device.scan(scan)
        visited.append(scan)
        shown = operated.shown()
        seen.append([shown[i] for i in (LAG_ID, FOLLOW_ID, SET_VALUE_ID)])

    for scan in range(201):
        look(scan)
        for value in changes.get(scan, []):
            operated.set(value)
    for step in ahead:
        look(visited[-1] + step)
    truth = Truth(PLAIN).values_at(np.array(visited), operated.writes)
    columns = [PLAIN.register_map.index_of(i) for i in (LAG_ID, FOLLOW_ID, SET_VALUE_ID)]
    assert seen == truth[:, columns].tolist()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_set_value_that_is_no_number_is_passed_on_and_survived(value: float) -> None:
    lag = lag_of(PLAIN, 60, [Write(10, SET_VALUE_ID, value), Write(20, SET_VALUE_ID, 30.0)])
    assert lag[:11].tolist() == [AT_REST] * 11
    assert lag[11:21] == pytest.approx(np.full(10, value), nan_ok=True)
    assert lag[21:].tolist() == [30.0] * 39


def test_a_device_remembers_no_more_than_it_needs() -> None:
    operated = Operated(PLAIN)
    for scan in range(3000):
        operated.device.scan(scan)
        operated.set(scan % 7)
        operated.set(scan % 11)
    history = operated.device._history
    assert len(history.held[SET_VALUE_ID]) <= 5
    assert len(history.legs(LAG_ID)) <= 5


@pytest.mark.parametrize(
    ("signal", "problem"),
    [
        ({"tau_s": 0}, "0: must be 1e-06 or more"),
        ({"tau_s": 1.1e9}, "1100000000.0: must be 1000000000 or less"),
        ({"start": "cold"}, "'cold': must be a number"),
        ({"gain": 2}, "gain: is not a known key here"),
    ],
    ids=str,
)
def test_a_lag_that_cannot_be_computed_is_refused(signal: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        machine(signal)
    assert problem in str(caught.value)
