"""Recordings that a device replays: read with its device file, part of its configuration from then on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plcsim.config import DeviceConfig
from plcsim.device_file import load_device, parse_device
from plcsim.errors import ConfigError
from plcsim.truth import Truth

DEVICE = """
device: {device_id: day-1, plc_scan_ms: 500}
groups:
  - name: values
    table: input_register
    parameters:
      - {id: 1, component: plc, name: level, address: 0, type: float64, signal: {kind: replay,
         file: days/monday.csv, column: level, time_column: at, interpolate: linear}}
      - {id: 2, component: plc, name: valve, address: 4, type: float64, signal: {kind: freeze_after,
         updates: 3, of: {kind: replay, repeat: false, file: days/monday.csv, column: valve,
         time_column: at}}}
"""
MONDAY = """at,level,valve
10,1,0
11,3,1
13,2,0.5
"""


def device(folder: Path, recording: str = MONDAY) -> DeviceConfig:
    (folder / "days").mkdir(exist_ok=True)
    (folder / "days" / "monday.csv").write_text(recording, encoding="utf-8")
    (folder / "device.yaml").write_text(DEVICE)
    return load_device(folder / "device.yaml")


def values(config: DeviceConfig, parameter_id: int, scans: int) -> list[float]:
    truth = Truth(config)
    return [truth.value_at(parameter_id, scan) for scan in range(scans)]


def test_a_recording_starts_at_its_first_row_and_repeats(tmp_path: Path) -> None:
    config = device(tmp_path)
    once = [1, 2, 3, 2.75, 2.5, 2.25, 2, 1.75, 1.5, 1.25]
    assert values(config, 1, 20) == once + once
    assert values(config, 2, 6) == [0, 0, 1, 1, 1, 1]


def test_what_the_database_keeps_of_a_device_recomputes_its_truth(tmp_path: Path) -> None:
    config = device(tmp_path)
    kept = parse_device(json.loads(json.dumps(config.to_json())))
    (tmp_path / "days" / "monday.csv").unlink()
    assert kept.sha256 == config.sha256
    assert values(kept, 1, 30) == values(config, 1, 30)


def test_another_recording_is_another_configuration(tmp_path: Path) -> None:
    first = device(tmp_path).sha256
    assert device(tmp_path).sha256 == first
    assert device(tmp_path, MONDAY.replace("0.5", "0.6")).sha256 != first


@pytest.mark.parametrize(
    "times",
    [
        ["2026-03-01T00:00:00", "2026-03-01T00:00:01", "2026-03-01 00:00:03.000"],
        ["2026-03-01T00:00:00Z", "2026-03-01T01:00:01+01:00", "2026-02-28T23:00:03-01:00"],
        ["0", "1", "3.0"],
        ["20260301", "20260302", "20260304"],
    ],
)
def test_times_are_seconds_or_moments(tmp_path: Path, times: list[str]) -> None:
    rows = [f"{at},{value},0" for at, value in zip(times, (1, 3, 2), strict=True)]
    config = device(tmp_path, "\n".join(["\ufeffat,level,valve", "", *rows, ""]))
    assert values(config, 1, 7) == [1, 2, 3, 2.75, 2.5, 2.25, 2]


@pytest.mark.parametrize(
    ("recording", "problem"),
    [
        (MONDAY.replace("3,1", "three,1"), "monday.csv:3: level: 'three': must be a number"),
        (MONDAY.replace("3,1", "nan,1"), "monday.csv:3: level: 'nan': must be a number"),
        (MONDAY.replace("3,1", ",1"), "monday.csv:3: level: '': must be a number"),
        (MONDAY.replace("3,1", "3"), "monday.csv:3: valve: the row has 2 cells; this column is number 3"),
        (
            MONDAY.replace("level", "Level"),
            "monday.csv:1: level: is not a column; there are at, Level, valve",
        ),
        (MONDAY.replace("13,", "11,"), "monday.csv:4: at: '11': must be later than the row before"),
        (MONDAY.replace("11,", "noon,"), "monday.csv:3: at: 'noon': must be seconds or a time such as 20"),
        (MONDAY.replace("11,", '"11,'), "monday.csv:4: is not CSV: unexpected end of data"),
        (MONDAY.replace("valve", "level"), "monday.csv:1: level: is the name of two columns"),
        ("at,level,valve\n", "monday.csv: a row of column names and a row of values or more are expected"),
        ("", "monday.csv: a row of column names and a row of values or more are expected"),
    ],
)
def test_a_recording_that_cannot_be_replayed_is_named(tmp_path: Path, recording: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        device(tmp_path, recording)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_that_could_be_a_time_of_day_is_a_number(tmp_path: Path) -> None:
    config = device(tmp_path, "at,level,valve\n17121231.05,1,0\n17121232.05,3,0\n")
    assert values(config, 1, 4) == [1, 2, 3, 2]


def test_a_recording_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "device.yaml").write_text(DEVICE)
    with pytest.raises(ConfigError, match=r"monday\.csv: cannot be read: No such file"):
        load_device(tmp_path / "device.yaml")


def test_a_recording_in_another_coding_is_named(tmp_path: Path) -> None:
    device(tmp_path)
    (tmp_path / "days" / "monday.csv").write_bytes("at,Füllstand\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"monday\.csv: is not UTF-8 text"):
        load_device(tmp_path / "device.yaml")


def test_a_device_without_its_samples_has_no_truth(tmp_path: Path) -> None:
    data = device(tmp_path).to_json()
    del data["groups"][0]["parameters"][1]["signal"]["of"]["times"]
    del data["groups"][0]["parameters"][1]["signal"]["of"]["values"]
    with pytest.raises(ConfigError, match=r"of: the samples of 'days/monday\.csv' are missing"):
        parse_device(data)


@pytest.mark.parametrize(
    ("set_value", "problem"),
    [
        ("signal: {kind: sine, mean: 1, amplitude: 1, period_s: 1}",
         "'lag' goes after a constant set value; 'a.w' has a 'sine' signal"),
        ("writable: true", "'lag' goes after a constant set value; 'a.w' has no signal"),
    ],
)  # fmt: skip
def test_a_lag_after_anything_but_a_constant_is_refused(tmp_path: Path, set_value: str, problem: str) -> None:
    (tmp_path / "device.yaml").write_text(f"""
device: {{device_id: lag-1}}
groups:
  - name: values
    table: holding_register
    parameters:
      - {{id: 1, component: a, name: w, address: 0, type: float32, {set_value}}}
      - {{id: 2, component: a, name: v, address: 2, type: float32, setpoint: a.w,
          signal: {{kind: lag, tau_s: 1}}}}
""")
    with pytest.raises(ConfigError) as caught:
        load_device(tmp_path / "device.yaml")
    assert problem in str(caught.value)
    assert "device.yaml:9: groups[0].parameters[1].signal" in str(caught.value)
