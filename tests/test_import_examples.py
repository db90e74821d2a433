"""The ready-made devices of configs/devices: served, read by clients that we did not write, logged."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sunspec2.modbus.client as sunspec_client
from fix_emulator import DEADLINE_S, Emulator
from fix_logger import plclogger
from fix_postgres import Schema
from pymodbus.client import ModbusTcpClient

from plcsim.device_file import load_device
from plcsim.parameters import DataType
from plcsim.signals import Constant, Missing, Text

FOLDER = Path(__file__).parent.parent / "configs" / "devices"
INVERTER, SDM630, B23 = (
    FOLDER / f"{name}.yaml" for name in ("sunspec_inverter", "eastron_sdm630", "abb_b23")
)


@pytest.fixture
def reading(start_emulator: Callable[..., Emulator]) -> Iterator[Callable[[Path], ModbusTcpClient]]:
    clients = []

    def start(path: Path) -> ModbusTcpClient:
        client = ModbusTcpClient("127.0.0.1", port=start_emulator(path).port, timeout=DEADLINE_S)
        assert client.connect()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.close()


@pytest.mark.parametrize("path", [INVERTER, SDM630, B23], ids=lambda p: p.stem)
def test_each_says_its_source_and_has_a_plan(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("\ndevice:")[0]
    assert "github.com/" in head
    config = load_device(path)
    assert config.device.device_id == path.stem
    assert all(p.signal is not None for p in config.register_map.parameters)
    command = [sys.executable, "-m", "logger", "plan", str(path)]
    plan = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    requests = [line for line in plan.splitlines() if " addresses, " in line]
    assert len(requests) == {INVERTER: 1, SDM630: 6, B23: 7}[path]


@pytest.mark.parametrize("path", [INVERTER, SDM630, B23], ids=lambda p: p.stem)
def test_each_is_logged_and_what_it_has_not_is_stored_as_such(
    path: Path, start_emulator: Callable[..., Emulator], schema: Schema
) -> None:
    port = start_emulator(path).port
    done = plclogger(
        "run", path, "--plc", f"127.0.0.1:{port}", "--database", schema.conninfo,
        "--schema", schema.name, "--for", "1s", "--interval", "100ms",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    logged = load_device(path).register_map.logged
    signals = {p.parameter_id: p.signal for p in logged}
    scans = schema.value("SELECT count(DISTINCT scan) FROM parameter_value_history")
    rows = schema.rows("SELECT parameter_id, quality, value, value_text FROM parameter_value_history")
    assert len(rows) == scans * len(logged) > 0
    for parameter_id, quality, value, text in rows:
        signal = signals[parameter_id]
        if isinstance(signal, Text):
            assert (quality, value, text) == (192, None, signal.value)
            continue
        assert text is None
        assert (quality == 192) == (value is not None) == (not isinstance(signal, Missing))
        if isinstance(signal, Constant):
            assert value == pytest.approx(signal.value, rel=1e-6)


def test_a_sunspec_client_gets_plant_values_that_fit_each_other(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_emulator(INVERTER)
    client = sunspec_client.SunSpecModbusClientDeviceTCP(
        slave_id=1, ipaddr="127.0.0.1", ipport=emulator.port, timeout=DEADLINE_S
    )
    try:
        client.scan()
    finally:
        client.close()
    assert client.base_addr == 40000
    common, inverter = client.models[1][0], client.models[103][0]
    assert (common.error_info, inverter.error_info) == ("", "")
    assert (common.L.value, inverter.L.value) == (66, 50)
    assert (common.Mn.value, common.SN.value) == ("plcsim", "0000000001")
    value = {name: each.cvalue for name, each in inverter.points.items()}
    volts = (value["PhVphA"] + value["PhVphB"] + value["PhVphC"]) / 3
    assert 225 < volts < 235
    assert value["A"] == pytest.approx(value["AphA"] + value["AphB"] + value["AphC"], abs=0.03)
    assert value["W"] == pytest.approx(volts * value["A"] * value["PF"] / 100, rel=0.02)
    assert math.hypot(value["W"], value["VAr"]) == pytest.approx(value["VA"], rel=0.01)
    assert value["W"] == pytest.approx(0.975 * value["DCW"], rel=0.01)
    assert value["DCW"] == pytest.approx(value["DCA"] * value["DCV"], rel=0.02)
    assert value["WH"] >= 12_345_678
    assert value["St"] == 4  # MPPT
    missing = {name for name, shown in value.items() if shown is None}
    assert missing == {"TmpTrns", "TmpOt", "StVnd", "EvtVnd1", "EvtVnd2", "EvtVnd3", "EvtVnd4"}


def test_the_sdm630_shows_float32_in_input_registers(
    reading: Callable[[Path], ModbusTcpClient],
) -> None:
    client = reading(SDM630)
    registers = client.read_input_registers(0, count=80).registers

    def at(address: int) -> float:
        return float(struct.unpack(">f", struct.pack(">HH", *registers[address : address + 2]))[0])

    assert 225 < at(0x0000) < 235
    phases = [at(0x000C + 2 * phase) for phase in range(3)]
    assert at(0x0034) == pytest.approx(sum(phases), rel=1e-3)
    assert phases[0] == pytest.approx(at(0x0000) * at(0x0006) * at(0x001E), rel=0.02)
    assert at(0x0046) == pytest.approx(50, abs=0.1)
    assert at(0x0048) == pytest.approx(18250.4, abs=0.1)
    assert client.read_input_registers(342, count=40).registers
    assert client.read_input_registers(80, count=2).isError()


def test_the_b23_shows_scaled_integers_and_says_what_it_has_not(
    reading: Callable[[Path], ModbusTcpClient],
) -> None:
    client = reading(B23)
    raw = b"".join(
        struct.pack(">H", register) for register in client.read_holding_registers(0x5460, count=24).registers
    )
    first, *_, missing = struct.unpack(">6Q", raw)
    assert first * 0.01 == pytest.approx(18950.12, abs=0.05)
    assert missing == 0xFFFF_FFFF_FFFF_FFFF
    volts = client.read_holding_registers(0x5B00, count=2).registers
    assert 2250 < volts[0] * 65536 + volts[1] < 2350
    factor = client.read_holding_registers(0x5B3A, count=1).registers
    assert factor == [970]


def test_the_b23_uses_one_pattern_a_type() -> None:
    patterns = {p.data_type: p.null_value for p in load_device(B23).register_map.parameters}
    assert patterns == {
        DataType.UINT64: 2**64 - 1,
        DataType.UINT32: 2**32 - 1,
        DataType.UINT16: 2**16 - 1,
        DataType.INT32: 2**31 - 1,
        DataType.INT16: 2**15 - 1,
    }
