"""What the registers of a device hold: every type to the bit, shared layouts, images computed ahead."""

from __future__ import annotations

import errno
import math
import struct
from typing import Any

import numpy as np
import pytest
from fix_emulator import ALD_FILE
from fix_machine import (
    NOTE,
    Operated,
    machine,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from plcsim.codec import Codec
from plcsim.config import DeviceConfig
from plcsim.device import Device
from plcsim.device_file import load_device, parse_device
from plcsim.layout import Layout
from plcsim.look_ahead import AHEAD
from plcsim.parameters import Table
from plcsim.truth import Truth
from plcsim.writes import Event, WriteRecord

MACHINE = machine()
COMMANDED = machine(mode="commanded")
FAILING = machine(failures=[{"execution": 5, "step": "cool"}])


def of_types(types: list[tuple[str, dict[str, Any]]]) -> DeviceConfig:
    parameters = [
        {"id": i + 1, "component": "a", "name": f"p{i}", "address": 8 * i, "type": name, "writable": True,
         **keys}
        for i, (name, keys) in enumerate(types)
    ]  # fmt: skip
    counter = {"id": 99, "component": "a", "name": "n", "address": 400, "type": "uint32",
               "signal": {"kind": "plc_scan"}}  # fmt: skip
    group = {"name": "g", "table": "holding_register", "consistent": False}
    return parse_device(
        {"device": {"device_id": "types"}, "groups": [group | {"parameters": [*parameters, counter]}]}
    )


CONSTANT = {"signal": {"kind": "constant", "value": 0}}


@pytest.mark.parametrize(
    ("data_type", "keys", "written"),
    [
        ("int64", CONSTANT, "0020000000000001"),  # 2^53 + 1 is no float64
        ("uint64", CONSTANT, "ffffffffffffffff"),
        ("bcd16", CONSTANT, "00fa"),  # digits that are none
        ("float32", CONSTANT, "7f801234"),  # a signalling NaN
        ("float64", CONSTANT, "7ff0000000001234"),
        ("string", {"length": 8, "signal": {"kind": "text", "value": "PLC"}}, "4d6f746f72000000"),
        ("string", {"length": 8}, "4d6f746f72000000"),
        ("int16", {}, "fffe"),
    ],
)
def test_registers_keep_the_bits_that_were_written(
    data_type: str, keys: dict[str, Any], written: str
) -> None:
    device = Device(of_types([("int16", CONSTANT), (data_type, keys)]))
    data = bytes.fromhex(written)
    device.write(Table.HOLDING_REGISTER, 8, data)
    for plc_scan in (1, 2, 63, 64, 65, 500):
        device.scan(plc_scan)
        assert device.images[Table.HOLDING_REGISTER].data[16 : 16 + len(data)] == data


def test_digits_that_are_none_are_nan_in_the_truth_as_in_the_registers() -> None:
    config = of_types([("bcd16", CONSTANT)])
    written: list[Any] = []
    device = Device(config, written.append)
    device.write(Table.HOLDING_REGISTER, 0, b"\x00\xfa")
    assert math.isnan(Truth(config).value_at(1, 5, written[0].writes))


def test_one_write_of_many_parameters_holds_them_all() -> None:
    config = of_types([("uint16", {"address": i, **CONSTANT}) for i in range(30)])
    written: list[Any] = []
    device = Device(config, written.append)
    device.scan(3)
    device.write(Table.HOLDING_REGISTER, 0, struct.pack(">30H", *range(100, 130)))
    device.scan(4)
    truth = Truth(config).values_at(np.array([4]), written[0].writes)[0]
    assert truth[:30].tolist() == list(range(100, 130))
    assert struct.unpack(">30H", device.images[Table.HOLDING_REGISTER].data[:60]) == tuple(range(100, 130))


def bits_of_one_register() -> DeviceConfig:
    names = ["start", "other"]
    bits = [
        {"id": i + 1, "component": "plc", "name": name, "address": 0, "bit": i, "type": "bool",
         "writable": True, **CONSTANT}
        for i, name in enumerate(names)
    ]  # fmt: skip
    state = {"id": 3, "component": "plc", "name": "state", "address": 1, "type": "uint16",
             "signal": {"kind": "process_state"}}  # fmt: skip
    return parse_device(
        {
            "device": {"device_id": "bits", "plc_scan_ms": 100},
            "process": {"recipe": "r", "running": "plc.state", "number": "plc.state", "mode": "commanded",
                        "commands": {"start": "plc.start"},
                        "phases": [{"steps": [{"name": "run", "seconds": 0.5}]}]},
            "groups": [{"name": "g", "table": "holding_register", "parameters": [*bits, state]}],
        }
    )  # fmt: skip


def test_a_push_button_in_a_bit_of_a_register_leaves_the_other_bits() -> None:
    device = Device(bits_of_one_register())
    device.write(Table.HOLDING_REGISTER, 0, b"\x00\x03")
    shown = []
    for plc_scan in range(1, 8):
        device.scan(plc_scan)
        shown.append(struct.unpack(">2H", device.images[Table.HOLDING_REGISTER].data))
    assert shown == [(2, 1)] * 5 + [(2, 0)] * 2


def test_devices_that_share_a_layout_are_the_devices_that_they_are_alone() -> None:
    ald = load_device(ALD_FILE)
    layout = Layout(ald)
    for name in ("ald-1", "ald-2", "ald-77"):
        config = ald.model_copy(update={"device": ald.device.model_copy(update={"device_id": name})})
        shared, alone = Device(config, layout=layout), Device(config)
        for plc_scan in (0, 1, 40, 41, 200):
            shared.scan(plc_scan)
            alone.scan(plc_scan)
            assert shared.images == alone.images


def test_a_layout_of_another_process_is_refused() -> None:
    with pytest.raises(ValueError, match="not that of machine-1"):
        Device(COMMANDED, layout=Layout(MACHINE))


def test_devices_of_a_fleet_take_turns_in_looking_ahead() -> None:
    ald = load_device(ALD_FILE)
    layout = Layout(ald)
    turns = set()
    for number in range(200):
        config = ald.model_copy(update={"device": ald.device.model_copy(update={"device_id": f"d{number}"})})
        device = Device(config, layout=layout)
        turns.add(device._ahead._batches[0].end)
    assert len(turns) > 0.9 * AHEAD
    assert min(turns) >= 1
    assert max(turns) <= AHEAD


def large_machine() -> DeviceConfig:
    """900 parameters, more than are computed in one go; 30 set values, each followed by 20 others."""
    set_values = [
        {"id": i + 1, "component": "w", "name": f"w{i}", "address": i, "type": "uint16", "writable": True,
         "signal": {"kind": "constant", "value": i}}
        for i in range(30)
    ]  # fmt: skip
    followers = [
        {"id": 100 + i, "component": "v", "name": f"v{i}", "address": 4 * i, "type": "float64",
         "setpoint": f"w.w{i % 30}", "signal": {"kind": "follow" if i % 2 else "lag", "noise": 1,
                                                **({} if i % 2 else {"tau_s": 3})}}
        for i in range(600)
    ]  # fmt: skip
    bits = [
        {"id": 800 + i, "component": "b", "name": f"b{i}", "address": 2400 + i // 16, "bit": i % 16,
         "type": "bool", "signal": {"kind": "square", "low": 0, "high": 1, "period_s": 0.2 + i / 50}}
        for i in range(270)
    ]  # fmt: skip
    return parse_device(
        {
            "device": {"device_id": "large", "plc_scan_ms": 100},
            "groups": [
                {"name": "w", "table": "holding_register", "parameters": set_values},
                {"name": "v", "table": "input_register", "consistent": False, "parameters": followers + bits},
            ],
        }
    )


LARGE = large_machine()


@settings(max_examples=10, deadline=None, database=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 90), st.integers(0, 29), st.lists(st.integers(0, 0xFFFF), max_size=15)),
        min_size=5,
        max_size=25,
    )
)
def test_a_device_that_is_computed_in_batches_is_the_truth_of_each_plc_scan(
    steps: list[tuple[int, int, list[int]]],
) -> None:
    operated, truth = Operated(LARGE), Truth(LARGE)
    ids = [p.parameter_id for p in LARGE.register_map.parameters]
    for advance, address, registers in steps:
        written = registers[: 30 - address]
        if written:
            data = struct.pack(f">{len(written)}H", *written)
            operated.device.write(Table.HOLDING_REGISTER, address, data)
        operated.device.scan(operated.device.plc_scan + advance)
        row = truth.values_at(np.array([operated.device.plc_scan]), operated.writes)[0]
        assert operated.shown() == dict(zip(ids, row.tolist(), strict=True))


def test_no_plc_scan_waits_for_all_of_a_large_device() -> None:
    operated = Operated(LARGE)
    ahead = operated.device._ahead
    operated.device.scan(1)
    for plc_scan in range(2, 200):
        ends = [batch.end for batch in ahead._batches]
        operated.device.scan(plc_scan)
        assert sum(batch.end != end for batch, end in zip(ahead._batches, ends, strict=True)) <= 1


def test_an_image_that_somebody_keeps_does_not_change() -> None:
    operated = Operated(MACHINE)
    kept = operated.device.images[Table.HOLDING_REGISTER].data
    before = bytes(kept)
    operated.set(99.0)
    operated.device.scan(1)
    assert isinstance(operated.device.images[Table.HOLDING_REGISTER].data, bytes)
    assert kept == before != operated.device.images[Table.HOLDING_REGISTER].data


@pytest.mark.parametrize(
    ("data_type", "scale", "offset", "data"),
    [
        ("uint64", 1.0, 0.0, "ff ff ff ff ff ff ff ff"),  # 2^64 as float64, which no uint64 can be
        ("int64", 1.0, 0.0, "7f ff ff ff ff ff ff ff"),
        ("uint64", 0.01, 1000.0, "19 7a 3c 55 01 9e f2 87"),
        ("float64", 0.1, 273.15, "40 d1 1f 2b 9c 4e 35 01"),
    ],
)
def test_whatever_bits_a_client_writes_are_the_truth_to_the_last_place(
    data_type: str, scale: float, offset: float, data: str
) -> None:
    parameter = {"id": 1, "component": "c", "name": "p", "address": 0, "type": data_type, "writable": True}
    parameter |= {"scale": scale, "offset": offset, "signal": {"kind": "constant", "value": 0.1}}
    group = {"name": "g", "table": "holding_register", "parameters": [parameter]}
    config = parse_device({"device": {"device_id": "d"}, "groups": [group]})
    events: list[Event] = []
    device = Device(config, events.append)
    codec = Codec(config.register_map.parameters, Table.HOLDING_REGISTER, 0)
    for low in range(64):
        device.write(Table.HOLDING_REGISTER, 0, (int(data.replace(" ", ""), 16) ^ low).to_bytes(8))
        shown = codec.decode(np.frombuffer(device.images[Table.HOLDING_REGISTER].data, dtype=np.uint8))[0]
        assert isinstance(events[-1], WriteRecord)
        (write,) = events[-1].writes
        assert Truth(config).written_value(write) == shown
        device.scan(device.plc_scan + 1)
        assert Truth(config).value_at(1, device.plc_scan, [write]) == shown


def test_a_write_that_cannot_be_recorded_changes_nothing() -> None:
    def refuse(event: Event) -> None:
        raise OSError(errno.ENOSPC, "full")

    device = Device(MACHINE, refuse)
    before = device.snapshot()
    with pytest.raises(OSError, match="full"):
        device.write(Table.HOLDING_REGISTER, NOTE, b"\x00\x07")
    assert device.snapshot() == before
    device.scan(1)
    assert device.images[Table.HOLDING_REGISTER].data[2 * NOTE : 2 * NOTE + 2] == b"\x00\x00"
