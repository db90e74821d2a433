"""A device of every data type is logged: what is polled, stored and verified, and what is left out."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fix_emulator import Emulator
from fix_logger import spool_of
from fix_plant import Plant, TrueStream, violations
from fix_postgres import Schema
from scripted_plc import ScriptedPlc, asked, frame

from bench.load.scan_source import PrecomputedScans
from logger.reading.line import Line
from logger.reading.plc import PlcConnection
from logger.reading.reader import Reader
from logger.scan import Quality, ScanLayout
from plcsim.device_file import load_device, parse_device
from plcsim.truth import Truth, Write

MIXED = Path(__file__).parent / "golden" / "mixed.yaml"
"""A device of every data type."""
LOGGED = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16]
STRINGS = {11: "x", 14: "Symo 10.0-3-M", 15: ""}
LEFT_OUT = "1 of 16 parameters are not logged: 1 cannot be read (readable: false)"


def program(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_plan_says_what_is_left_out() -> None:
    ended = program("logger", "plan", MIXED)
    assert (ended.returncode, ended.stderr) == (0, "")
    *requests, left_out = ended.stdout.splitlines()
    assert [request.partition(";")[0] for request in requests] == [
        "1. holding_register 1 to 2: 2 addresses, 1 parameters (set values)",
        "2. holding_register 5 to 12: 8 addresses, 1 parameters (set values)",
        "3. holding_register 13 to 137: 125 addresses, 1 parameters (set values)",
        "4. input_register 1 to 24: 24 addresses, 12 parameters (values)",
    ]
    assert requests[0].endswith("ends: 3 to 4: set.hidden cannot be read")
    assert left_out == LEFT_OUT


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_device_without_anything_to_log_is_refused(tmp_path: Path, command: str) -> None:
    path = tmp_path / "commands.yaml"
    path.write_text(
        "device: {device_id: d}\ngroups:\n  - name: g\n    table: holding_register\n    parameters:\n"
        "      - {id: 1, component: c, name: n, address: 0, type: uint16, writable: true, readable: false}\n",
        encoding="utf-8",
    )
    ended = program("logger", command, path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.strip().endswith(
        "commands.yaml: there is nothing to log; 1 of 1 parameters are not logged: 1 cannot be read "
        "(readable: false)"
    )
    assert len(ended.stderr.splitlines()) == 1


def test_columns_are_those_that_are_logged() -> None:
    config = load_device(MIXED)
    layout = ScanLayout(config)
    assert layout.parameter_ids.tolist() == LOGGED
    values = np.arange(len(LOGGED), dtype=np.float64)
    set_values = layout.set_values(values)
    at = {parameter_id: column for column, parameter_id in enumerate(LOGGED)}
    assert set_values[at[6]] == values[at[12]]
    assert np.flatnonzero(~np.isnan(set_values)).tolist() == [at[6]]  # that of 7 cannot be read


def test_precomputed_scans_are_true_in_the_columns_that_are_logged() -> None:
    config = load_device(MIXED)
    scan = PrecomputedScans(config).next(5)
    true = {
        p.parameter_id: value
        for p, value in zip(
            config.register_map.parameters, Truth(config).values_at(np.array([6]))[0], strict=True
        )
    }
    assert np.array_equal(scan.values, [true[i] for i in LOGGED], equal_nan=True)
    assert {LOGGED[column]: text for column, text in scan.texts} == STRINGS
    missing = [i for i, q in zip(LOGGED, scan.quality, strict=True) if q == Quality.BAD_SENSOR_FAILURE]
    assert missing == [2, 10]


def test_null_values_and_digits_that_are_none_are_read_as_no_number() -> None:
    parameters = [
        {"address": 0, "type": "int16", "null_value": -32768, "scale": 0.1},
        {"address": 1, "type": "bcd16"},
        {"address": 2, "type": "bool", "bit": 15},
        {"address": 3, "type": "float64"},
        {"address": 7, "type": "int16", "null_value": 0x8000},
    ]
    specs = [{"id": i, "component": "c", "name": f"p{i}", **p} for i, p in enumerate(parameters, 1)]
    config = parse_device(
        {
            "device": {"device_id": "d"},
            "groups": [{"name": "g", "table": "input_register", "parameters": specs}],
        }
    )
    wire = bytes.fromhex("800012a480007ff80000000000008001")

    async def scenario() -> None:
        async with ScriptedPlc(
            lambda request: [frame(asked(request)[0], bytes((4, 16)) + wire, asked(request)[1])]
        ) as plc:
            reader = Reader(PlcConnection(Line("127.0.0.1", plc.port), 1, 2.0), config)
            scan = await reader.read(1)
        assert [None if math.isnan(v) else v for v in scan.values] == [None, None, 1.0, None, -32767.0]
        bad, good = Quality.BAD_SENSOR_FAILURE, Quality.GOOD
        assert scan.quality.tolist() == [bad, bad, good, bad, good]
        assert reader.errors == 0

    asyncio.run(scenario())


def test_writes_to_what_is_not_logged_count_in_the_truth(schema: Schema) -> None:
    writes = [Write(3, 13, 7.5), Write(4, 12, 99.0)]
    TrueStream(schema, load_device(MIXED), writes=writes).store(1, 2, 5, 6)
    assert Plant(schema).verify(writes).violations == 0
    found = violations(Plant(schema).verify())
    assert found == {"I4": 4}  # what follows them in two scans


def test_every_type_is_stored_as_the_emulator_shows_it_and_verifies(
    start_emulator: Callable[..., Emulator], schema: Schema
) -> None:
    emulator = start_emulator(MIXED)
    ended = program(
        "logger", "run", MIXED, "--plc", f"127.0.0.1:{emulator.port}", "--database", schema.conninfo,
        "--schema", schema.name, "--interval", "50ms", "--for", "1s", "--spool", str(spool_of(schema)),
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0].startswith("mixed-1: 15 parameters in 4 requests")
    assert ended.stdout.splitlines()[1] == LEFT_OUT
    described = schema.rows("SELECT parameter_id FROM component_parameters ORDER BY 1")
    assert [parameter_id for (parameter_id,) in described] == LOGGED

    qualities = dict(
        schema.rows(
            "SELECT parameter_id, max(quality) FROM parameter_value_history GROUP BY 1 ORDER BY 1",
        )
    )
    texts = schema.rows("SELECT DISTINCT parameter_id, value_text FROM parameter_value_history ORDER BY 1")
    assert {i: text for i, text in texts if text is not None} == STRINGS
    missing = [2, 10]
    assert qualities == {i: 16 if i in missing else 192 for i in LOGGED}

    result = program("bench", "verify", "--database", schema.conninfo, "--schema", schema.name, "--json")
    assert result.returncode == 0, result.stdout
    checks = json.loads(result.stdout)
    assert checks["violations"] == 0
