"""True values: the ALD machine against golden/ald.csv, made without our code; set values."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from plcsim.device_file import load_device, parse_device
from plcsim.truth import Truth, Write

HERE = Path(__file__).parent
ALD = load_device(HERE.parent / "configs" / "ald.yaml")

PRESSURE, TMA_FLOW, PUMP_SPEED = 5, 27, 43
PRESSURE_SETPOINT, TMA_FLOW_SETPOINT, PUMP_SPEED_SETPOINT = 60, 67, 71
VENT_VALVE = 79


def golden() -> dict[int, list[tuple[int, float]]]:
    """PLC scans and values of each parameter_id."""
    parameters: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for row in csv.DictReader((HERE / "golden" / "ald.csv").read_text().splitlines()):
        parameters[int(row["parameter_id"])].append((int(row["plc_scan"]), float(row["value"])))
    return parameters


GOLDEN = golden()


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth(ALD)


def column(truth: Truth, parameter_id: int, scans: list[int], writes: list[Write]) -> list[float]:
    values = truth.values_at(np.array(scans), writes)
    return [float(value) for value in values[:, ALD.register_map.index_of(parameter_id)]]


@pytest.mark.parametrize("parameter_id", GOLDEN)
def test_ald_machine_has_the_golden_values(truth: Truth, parameter_id: int) -> None:
    scans, expected = map(list, zip(*GOLDEN[parameter_id], strict=True))
    assert column(truth, parameter_id, scans, []) == expected


def test_value_at_is_one_value_of_values_at(truth: Truth) -> None:
    scans = [0, 29, 75, 2**31 + 4]
    writes = [Write(20, PRESSURE_SETPOINT, 1.5), Write(70, PUMP_SPEED_SETPOINT, 9000)]
    values = truth.values_at(np.array(scans), writes)
    assert values.shape == (len(scans), 84)
    one_by_one = [
        [truth.value_at(p.parameter_id, scan, writes) for p in ALD.register_map.parameters] for scan in scans
    ]
    assert values.tolist() == one_by_one


def test_order_and_repetition_of_plc_scans_do_not_matter(truth: Truth) -> None:
    forwards = truth.values_at(np.arange(160))
    anyhow = np.array([31, 159, 0, 31, 80])
    assert np.array_equal(truth.values_at(anyhow), forwards[anyhow])


def test_no_plc_scans_are_no_values(truth: Truth) -> None:
    assert truth.values_at(np.array([], dtype=np.int64)).shape == (0, 84)


def test_a_written_set_value_holds_from_the_next_plc_scan_on(truth: Truth) -> None:
    before, after = float(np.float32(0.8)), 2.5
    written = column(truth, PRESSURE_SETPOINT, [0, 9, 10, 11, 12, 2**33], [Write(10, PRESSURE_SETPOINT, 2.5)])
    assert written == [before, before, before, after, after, after]


def test_the_last_of_several_writes_holds(truth: Truth) -> None:
    writes = [Write(5, PRESSURE_SETPOINT, value) for value in (2.0, 3.0)]
    writes += [Write(7, PRESSURE_SETPOINT, 4.0), Write(7, TMA_FLOW_SETPOINT, 99.0)]
    values = column(truth, PRESSURE_SETPOINT, [6, 7, 8, 9], writes)
    assert values == [3.0, 3.0, 4.0, 4.0]


def test_what_follows_a_set_value_follows_the_written_one(truth: Truth) -> None:
    scans = list(range(200))
    usual = np.array(column(truth, PRESSURE, scans, []))
    written = np.array(column(truth, PRESSURE, scans, [Write(100, PRESSURE_SETPOINT, 2.8)]))
    assert np.array_equal(written[:101], usual[:101])
    # The noise is that of the same PLC scans, so only the set value makes the difference.
    assert written[101:] - usual[101:] == pytest.approx(np.full(99, 2.0), abs=1e-6)


def test_a_follower_of_some_steps_shows_the_written_value_only_in_them(truth: Truth) -> None:
    writes = [Write(3, TMA_FLOW_SETPOINT, 700.0)]
    flow = np.array(column(truth, TMA_FLOW, list(range(80)), writes))
    dosing = np.isin(np.arange(80), [28, 29, 43, 44, 58, 59])
    assert np.all(np.abs(flow[dosing] - 700.0) <= 0.3001)
    assert np.all(np.abs(flow[~dosing]) <= 0.3001)


def test_a_write_changes_nothing_else(truth: Truth) -> None:
    scans = np.arange(60)
    changed = np.any(
        truth.values_at(scans) != truth.values_at(scans, [Write(0, PRESSURE_SETPOINT, 3.0)]), axis=0
    )
    ids = [p.parameter_id for p in ALD.register_map.parameters]
    assert [i for i, differs in zip(ids, changed, strict=True) if differs] == [
        PRESSURE,
        PRESSURE_SETPOINT,
    ]


@pytest.mark.parametrize(
    ("parameter_id", "value", "stored"),
    [
        (PRESSURE_SETPOINT, 0.1, float(np.float32(0.1))),
        (PUMP_SPEED_SETPOINT, 9000.4, 9000.0),
        (PUMP_SPEED_SETPOINT, 70000.0, 65535.0),
        (VENT_VALVE, 1.0, 1.0),
    ],
)
def test_a_written_value_is_what_its_registers_hold(
    truth: Truth, parameter_id: int, value: float, stored: float
) -> None:
    assert truth.value_at(parameter_id, 1, [Write(0, parameter_id, value)]) == stored


def test_parameters_without_a_signal_are_unknown() -> None:
    device = parse_device(
        {
            "device": {"device_id": "real-1"},
            "groups": [
                {
                    "name": "values",
                    "table": "holding_register",
                    "parameters": [
                        {"id": 1, "component": "a", "name": "x", "address": 0, "type": "float32",
                         "writable": True},
                        {"id": 2, "component": "a", "name": "y", "address": 2, "type": "int16",
                         "signal": {"kind": "constant", "value": -3}},
                    ],
                }
            ],
        }
    )  # fmt: skip
    values = Truth(device).values_at(np.arange(3), [Write(0, 1, 7.0)])
    assert np.isnan(values[:, 0]).all()
    assert values[:, 1].tolist() == [-3.0, -3.0, -3.0]


def test_cycle_of_the_ald_machine_takes_eight_seconds(truth: Truth) -> None:
    assert truth.cycle_scans == 80
