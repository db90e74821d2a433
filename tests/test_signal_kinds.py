"""Kinds of signals that depend on the PLC scan alone, against plain Python, scan by scan."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fix_signals import SCALAR, u, value
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from plcsim.process import Process, Scans
from plcsim.signals import Moment, Signal, SignalField, Values, noise_key

SPECS: list[dict[str, Any]] = [
    {"kind": "triangle", "mean": 10.0, "amplitude": 3.0, "period_s": 7.3},
    {"kind": "triangle", "mean": -1.0, "amplitude": 2.0, "period_s": 0.4, "phase": 0.25, "noise": 0.5},
    {"kind": "square", "low": -1.0, "high": 4.0, "period_s": 2.0},
    {"kind": "square", "low": 0.0, "high": 1.0, "period_s": 1.3, "duty": 0.1, "phase": 0.5, "noise": 0.2},
    {"kind": "square", "low": 0.0, "high": 1.0, "period_s": 0.001},
    {"kind": "square", "low": 0.0, "high": 1.0, "period_s": 3.0, "duty": 1.0},
    {"kind": "random_walk", "mean": 20.0, "amplitude": 5.0},
    {"kind": "random_walk", "mean": 0.0, "amplitude": 1.0, "levels": 1},
    {"kind": "random_walk", "mean": 0.0, "amplitude": 1.0, "levels": 40},
    {"kind": "spike", "base": 1.0, "height": 9.0, "period_s": 2.5},
    {"kind": "spike", "base": 1.0, "height": 9.0, "period_s": 2.5, "width_s": 0.7, "noise": 0.1},
    {"kind": "spike", "base": 1.0, "height": 9.0, "probability": 0.3},
    {"kind": "dip", "base": 24.0, "depth": 4.0, "probability": 0.2, "width_s": 0.5},
    {"kind": "dip", "base": 24.0, "depth": 4.0, "period_s": 1.0},
    {"kind": "trend", "start": 5.0, "rate_per_s": 0.25},
    {"kind": "trend", "start": 5.0, "rate_per_s": -0.5, "low": 1.0, "high": 4.0, "noise": 0.1},
    {"kind": "step_up", "period_s": 0.35},
    {"kind": "step_up", "period_s": 1.0, "step": 1000, "start": 4294967000, "wrap": 4294967296},
    {"kind": "step_up", "period_s": 0.1, "step": -3, "start": 1, "wrap": 65536},
    {"kind": "replay", "file": "a", "column": "b", "time_column": "c",
     "times": [0.0, 0.5, 2.0], "values": [1.0, -4.0, 7.5]},
    {"kind": "replay", "file": "a", "column": "b", "time_column": "c", "interpolate": "linear",
     "times": [0.0, 0.5, 2.0], "values": [1.0, -4.0, 7.5]},
    {"kind": "replay", "file": "a", "column": "b", "time_column": "c", "interpolate": "linear",
     "repeat": False, "times": [0.0, 0.5, 2.0], "values": [1.0, -4.0, 7.5]},
    {"kind": "replay", "file": "a", "column": "b", "time_column": "c", "times": [0.0], "values": [3.0]},
    {"kind": "freeze_after", "updates": 30, "of": {"kind": "step_up", "period_s": 0.2}},
    {"kind": "freeze_after", "updates": 0, "update_every": 4,
     "of": {"kind": "spike", "base": 0.0, "height": 1.0, "probability": 0.5, "noise": 0.5}},
    {"kind": "freeze_after", "updates": 17, "of": {"kind": "trend", "start": 0.0, "rate_per_s": 1.0,
     "update_every": 5}},
    {"kind": "text", "value": "PLC 7"},
    {"kind": "missing"},
]  # fmt: skip

scans = st.integers(0, 300) | st.integers(0, 2**33)
plc_scan_ms = st.sampled_from([1.0, 20.0, 100.0, 1000.0, 33.3])


def signal(spec: dict[str, Any]) -> Signal:
    adapter: TypeAdapter[Signal] = TypeAdapter(SignalField)
    return adapter.validate_python(spec)


def values_at(spec: dict[str, Any], plc_scans: Scans, ms: float, key: int) -> Values:
    made = signal(spec)
    looked_at = made.looked_at(plc_scans)
    process = Process(None, ms / 1000)
    nan = np.full(plc_scans.shape, np.nan)
    return made.at(Moment(looked_at, ms, process.state_at(looked_at), process.step_names, key, nan))


def test_every_kind_is_here() -> None:
    assert {spec["kind"] for spec in SPECS} == set(SCALAR)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec["kind"]))
@settings(max_examples=30, deadline=None, database=None)
@given(visited=st.lists(scans, min_size=1, max_size=20), ms=plc_scan_ms, key=st.integers(0, 2**64 - 1))
def test_values_are_those_of_a_scalar_computation(
    spec: dict[str, Any], visited: list[int], ms: float, key: int
) -> None:
    found = values_at(spec, np.array(visited), ms, key)
    expected = [value(spec, scan, ms, key) for scan in visited]
    # Time is a float64, so the place within a period loses digits as the PLC scans grow.
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12 + 1e-12 * max(visited), nan_ok=True)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec["kind"]))
@settings(max_examples=15, deadline=None, database=None)
@given(every=st.integers(1, 50), first=st.integers(0, 10**6))
def test_a_slow_value_changes_only_every_so_many_plc_scans(
    spec: dict[str, Any], every: int, first: int
) -> None:
    visited = np.arange(first, first + 120)
    slow = values_at(spec | {"update_every": every}, visited, 100.0, 7)
    expected = [value(spec | {"update_every": every}, int(scan), 100.0, 7) for scan in visited]
    assert slow == pytest.approx(expected, rel=1e-9, abs=1e-6, nan_ok=True)


def test_a_random_walk_stays_within_its_amplitude_and_wanders_through_it() -> None:
    spec = {"kind": "random_walk", "mean": 20.0, "amplitude": 5.0}
    walk = values_at(spec, np.arange(200_000), 100.0, noise_key(1, "a", 1))
    assert walk.min() >= 15.0
    assert walk.max() <= 25.0
    assert np.ptp(walk) > 4.0
    # Steps are small and the way of 1000 of them is long: it walks, where noise would only jump.
    assert np.std(np.diff(walk)) < np.std(walk[1000:] - walk[:-1000]) / 5


@pytest.mark.parametrize("probability", [0.0, 0.05, 0.5, 1.0])
def test_events_happen_as_often_as_their_probability_says(probability: float) -> None:
    spec = {"kind": "spike", "base": 0.0, "height": 1.0, "probability": probability, "width_s": 0.3}
    spikes = values_at(spec, np.arange(60_000), 100.0, 12345)
    assert spikes.mean() == pytest.approx(probability, abs=0.01)
    windows = spikes.reshape(-1, 3)
    assert np.all(windows == windows[:, :1])


def test_events_are_independent_of_the_noise_on_them() -> None:
    spec = {"kind": "spike", "base": 0.0, "height": 100.0, "probability": 0.5, "noise": 1.0}
    values = values_at(spec, np.arange(20_000), 100.0, 99)
    happened = values > 50
    assert values[happened].mean() - 100 == pytest.approx(0.0, abs=0.03)
    assert values[~happened].mean() == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("wrap", [2**16, 2**32])
def test_a_counter_wraps_where_its_register_ends(wrap: int) -> None:
    spec = {"kind": "step_up", "period_s": 0.1, "start": wrap - 2, "wrap": wrap}
    assert values_at(spec, np.arange(4), 100.0, 0).tolist() == [wrap - 2, wrap - 1, 0, 1]


def test_a_frozen_value_moves_as_often_as_it_says() -> None:
    spec = {"kind": "freeze_after", "updates": 3, "of": {"kind": "plc_scan"}}
    assert values_at(spec, np.arange(7), 100.0, 0).tolist() == [0, 1, 2, 3, 3, 3, 3]


def test_triangle_and_sine_of_the_same_keys_peak_together() -> None:
    keys = {"mean": 2.0, "amplitude": 3.0, "period_s": 4.0, "phase": 0.125}
    scans = np.array([5, 15, 25, 35])
    for kind in ("sine", "triangle"):
        values = values_at({"kind": kind, **keys}, scans, 100.0, 0)
        assert values == pytest.approx([5, 2, -1, 2])


def test_scalar_noise_is_the_published_splitmix64() -> None:
    assert u(1234567, 1) == (6457827717110365317 >> 11) / 2**53


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "triangle", "mean": 1.0, "amplitude": 1.0, "period_s": 0.0},
        {"kind": "square", "low": 0.0, "high": 1.0, "period_s": 1.0, "duty": 1.1},
        {"kind": "random_walk", "mean": 0.0, "amplitude": -1.0},
        {"kind": "random_walk", "mean": 0.0, "amplitude": 1.0, "levels": 0},
        {"kind": "spike", "base": 0.0, "height": 1.0},
        {"kind": "spike", "base": 0.0, "height": 1.0, "period_s": 1.0, "probability": 0.5},
        {"kind": "dip", "base": 0.0, "depth": 1.0, "probability": 1.5},
        {"kind": "trend", "start": 0.0, "rate_per_s": math.nan},
        {"kind": "step_up", "period_s": -1.0},
        {"kind": "step_up", "period_s": 1.0, "wrap": 0},
        {"kind": "lag", "tau_s": 0.0},
        {"kind": "freeze_after", "updates": -1, "of": {"kind": "plc_scan"}},
        {"kind": "freeze_after", "updates": 1, "of": {"kind": "follow"}},
        {"kind": "freeze_after", "updates": 1},
        {"kind": "text"},
        {"kind": "missing", "value": 0},
        {"kind": "constant", "value": 1.0, "update_every": 0},
        {"kind": "replay", "file": "a", "column": "b"},
        {"kind": "replay", "file": "a", "column": "b", "time_column": "c", "times": [0.0], "values": []},
        {"kind": "replay", "file": "a", "column": "b", "time_column": "c", "times": [0.0, 0.0],
         "values": [1.0, 2.0]},
        {"kind": "replay", "file": "a", "column": "b", "time_column": "c", "times": [1.0], "values": [1.0]},
    ],
    ids=str,
)  # fmt: skip
def test_a_signal_that_cannot_be_computed_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        signal(spec)


@pytest.mark.parametrize(
    ("key", "spec"),
    [
        ("period_s", {"kind": "sine", "mean": 0.0, "amplitude": 1.0}),
        ("period_s", {"kind": "square", "low": 0.0, "high": 1.0}),
        ("period_s", {"kind": "step_up"}),
        ("period_s", {"kind": "spike", "base": 0.0, "height": 1.0}),
        ("width_s", {"kind": "dip", "base": 0.0, "depth": 1.0, "probability": 0.5}),
    ],
)
def test_a_time_is_such_that_plc_scans_can_be_counted_in_it(key: str, spec: dict[str, Any]) -> None:
    for seconds in (1e-7, 1.1e9, 1e19, 1e308):
        with pytest.raises(ValidationError, match=key):
            signal(spec | {key: seconds})
    for seconds in (1e-6, 1e9):
        for ms in (1.0, 3.6e6):
            assert np.isfinite(values_at(spec | {key: seconds}, np.array([0, 2**33]), ms, 7)).all()
