"""Every kind of signal against golden values that golden/golden.pl made without our code."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from fix_signals import SCALAR, SHOWN_BY_DEVICES
from pydantic import TypeAdapter, ValidationError

from plcsim.process import Process, ProcessSpec
from plcsim.signals import Moment, Signal, SignalField, Values, noise_key, uniform

GAMMA = 0x9E3779B97F4A7C15
"""Of SplitMix64, whose reference generator adds it before it mixes."""

PLC_SCAN_S = 0.05
PULSE_AND_REST = [{"name": "pulse", "seconds": 0.1}, {"name": "rest", "seconds": 0.15}]
RECIPE: dict[str, Any] = {
    "recipe": "bake",
    "running": "plc.running",
    "number": "plc.number",
    "idle_s": 0.5,
    "phases": [
        {"steps": [{"name": "heat", "seconds": 0.2}]},
        {"times": 2, "steps": PULSE_AND_REST},
        {"steps": [{"name": "cool", "seconds": 0.02}]},
    ],
}
PROCESS = Process(ProcessSpec.model_validate(RECIPE), PLC_SCAN_S)
SETPOINT = 42.5

CASES: list[tuple[str, dict[str, Any]]] = [
    ("constant", {"kind": "constant", "value": 21.5}),
    ("sine", {"kind": "sine", "mean": 10, "amplitude": 3, "period_s": 7.3, "phase": 0.25}),
    ("sine_noise",
     {"kind": "sine", "mean": -2, "amplitude": 0.5, "period_s": 60, "noise": 0.75}),
    ("ramp", {"kind": "ramp", "start": 0, "end": 100, "period_s": 3}),
    ("ramp_down", {"kind": "ramp", "start": 98, "end": 12, "period_s": 86400}),
    ("noise", {"kind": "noise", "mean": 5, "amplitude": 2}),
    ("counter", {"kind": "counter", "step": 3, "start": 4294960000}),
    ("counter_down", {"kind": "counter", "step": -7, "start": 5, "wrap": 1000}),
    ("steps",
     {"kind": "steps", "levels": {"heat": 80, "rest": -3}, "otherwise": 20, "noise": 0.5}),
    ("follow", {"kind": "follow", "noise": 0.1}),
    ("follow_during",
     {"kind": "follow", "during": ["pulse", "rest"], "otherwise": 1, "noise": 0.25}),
    ("plc_scan", {"kind": "plc_scan"}),
    ("process_running", {"kind": "process_running"}),
    ("process_step", {"kind": "process_step"}),
    ("process_number", {"kind": "process_number"}),
]  # fmt: skip


def golden() -> dict[str, tuple[list[int], list[float]]]:
    """PLC scans and values of each case."""
    cases: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    text = (Path(__file__).parent / "golden" / "signals.csv").read_text()
    for row in csv.DictReader(text.splitlines()):
        scans, values = cases[row["case"]]
        scans.append(int(row["plc_scan"]))
        values.append(float(row["value"]))
    return cases


def signal(spec: dict[str, Any]) -> Signal:
    adapter: TypeAdapter[Signal] = TypeAdapter(SignalField)
    return adapter.validate_python(spec)


def values_at(spec: dict[str, Any], plc_scans: list[int], parameter_id: int) -> Values:
    scans = np.array(plc_scans, dtype=np.int64)
    moment = Moment(
        scans,
        1000 * PLC_SCAN_S,
        PROCESS.state_at(scans),
        PROCESS.step_names,
        noise_key(7, "oven-1", parameter_id),
        np.full(scans.shape, SETPOINT),
    )
    return signal(spec).at(moment)


GOLDEN = golden()


@pytest.mark.parametrize(
    ("parameter_id", "case", "spec"),
    [pytest.param(i, case, spec, id=case) for i, (case, spec) in enumerate(CASES, start=1)],
)
def test_values_are_the_golden_ones(parameter_id: int, case: str, spec: dict[str, Any]) -> None:
    plc_scans, expected = GOLDEN[case]
    error = np.abs(values_at(spec, plc_scans, parameter_id) - expected)
    # Time is a float64, so the place within a period loses digits as the PLC scans grow.
    assert np.all(error <= 1e-12 + 1e-15 * np.array(plc_scans))


def test_every_kind_of_signal_has_golden_values_or_a_scalar_computation() -> None:
    kinds = {get_args(model.model_fields["kind"].annotation)[0] for model in get_args(Signal)}
    assert {spec["kind"] for _, spec in CASES} | set(SCALAR) | SHOWN_BY_DEVICES == kinds
    assert {case for case, _ in CASES} == set(GOLDEN)


def test_noise_is_the_published_splitmix64() -> None:
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    ours = uniform(1234567, np.arange(1, 6))
    assert ours.tolist() == [(output >> 11) / 2**53 for output in published]


@pytest.mark.parametrize("key", [0, 1, GAMMA, 2**63, 2**64 - 1])
def test_noise_fills_its_range_evenly(key: int) -> None:
    u = uniform(key, np.arange(20_000))
    assert u.min() >= 0.0
    assert u.max() < 1.0
    share, _ = np.histogram(u, bins=10, range=(0.0, 1.0))
    assert np.all(np.abs(share - 2000) < 200)


def test_seed_device_and_parameter_each_change_the_noise() -> None:
    keys = [noise_key(*of) for of in ((1, "a", 1), (2, "a", 1), (1, "b", 1), (1, "a", 2))]
    assert len(set(keys)) == 4


def test_noise_stays_within_its_amplitude() -> None:
    spec = {"kind": "noise", "mean": 5, "amplitude": 2}
    values = values_at(spec, list(range(5000)), 1)
    assert 3.0 <= values.min() < 3.01
    assert 6.99 < values.max() <= 7.0


@pytest.mark.parametrize(
    ("plc_scan_ms", "period_s"),
    [(100, 12), (50, 3), (700, 7)],
)
def test_ramp_starts_again_after_each_period(plc_scan_ms: int, period_s: int) -> None:
    scans = np.arange(2000) * (period_s * 1000 // plc_scan_ms)
    moment = Moment(scans, plc_scan_ms, PROCESS.state_at(scans), [], 0, np.empty(0))
    ramp = signal({"kind": "ramp", "start": 0, "end": 1, "period_s": period_s})
    assert ramp.at(moment).max() < 1e-9


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "rectangle", "value": 1},
        {"kind": "constant"},
        {"kind": "constant", "value": "1"},
        {"kind": "constant", "value": float("nan")},
        {"kind": "constant", "value": 1, "noise": 1},
        {"kind": "sine", "mean": 1, "amplitude": 1, "period_s": 0},
        {"kind": "ramp", "start": 1, "end": 1, "period_s": -1},
        {"kind": "noise", "mean": 1, "amplitude": -1},
        {"kind": "counter", "wrap": 0},
        {"kind": "counter", "step": 0.5},
        {"kind": "steps", "levels": {}},
        {"kind": "follow", "during": "heat"},
        {"kind": "counter", "step": 2**63},
    ],
    ids=str,
)
def test_a_signal_that_cannot_be_computed_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        signal(spec)
