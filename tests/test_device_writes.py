"""What writes do to a device: limits, records, restarts, memory of every type; shared layouts."""

from __future__ import annotations

import errno
import math
import struct
from typing import Any

import numpy as np
import pytest
from fix_emulator import ALD_FILE
from fix_machine import (
    ACKNOWLEDGE,
    FOLLOW_ID,
    LAG_ID,
    NOTE,
    NUMBER_ID,
    SET_VALUE,
    SET_VALUE_ID,
    START,
    STATE_ID,
    STEP_ID,
    STOP,
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
from plcsim.memory import Origin
from plcsim.parameters import Table
from plcsim.truth import Truth
from plcsim.writes import Change, Event, Restart, Write, WriteRecord

MACHINE = machine()
COMMANDED = machine(mode="commanded")
FAILING = machine(failures=[{"execution": 5, "step": "cool"}])


def settled(value: float) -> bytes:
    return struct.pack(">f", value)


@pytest.mark.parametrize(
    ("value", "accepted"),
    [(-50.0, True), (500.0, True), (-50.5, False), (500.5, False),
     (math.nan, False), (math.inf, False), (-math.inf, False)],
)  # fmt: skip
def test_a_value_outside_its_limits_is_not_accepted(value: float, accepted: bool) -> None:
    device = Device(MACHINE)
    assert device.accepts(Table.HOLDING_REGISTER, SET_VALUE, settled(value)) is accepted
    assert device.accepts(Table.HOLDING_REGISTER, SET_VALUE, settled(value) + b"\x80\x00") is accepted


def test_half_a_value_is_accepted_if_the_whole_stays_within_limits() -> None:
    device = Device(MACHINE)  # 20.0 is 41a0 0000
    assert device.accepts(Table.HOLDING_REGISTER, SET_VALUE, b"\x43\x00")  # 128
    assert not device.accepts(Table.HOLDING_REGISTER, SET_VALUE, b"\x44\x80")  # 1024
    assert device.accepts(Table.HOLDING_REGISTER, SET_VALUE + 1, b"\xff\xff")


def test_without_limits_everything_is_accepted() -> None:
    device = Device(MACHINE)
    assert device.accepts(Table.HOLDING_REGISTER, NOTE, b"\x80\x00")
    assert device.accepts(Table.COIL, START, b"\x01\x00\x01")


def test_asking_changes_nothing() -> None:
    operated = Operated(MACHINE)
    before = operated.shown()
    operated.device.accepts(Table.HOLDING_REGISTER, SET_VALUE, settled(99.0))
    assert operated.shown() == before
    assert operated.events == []


def test_a_record_tells_who_wrote_what() -> None:
    operated = Operated(MACHINE)
    operated.device.scan(7)
    origin = Origin("192.0.2.7:50123", 3, 16)
    operated.device.write(Table.HOLDING_REGISTER, SET_VALUE + 1, b"\x00\x01\xff\xfe", origin)
    nearly = struct.unpack(">f", bytes.fromhex("41a00001"))[0]
    assert operated.events == [
        WriteRecord(
            "machine-1", origin, Table.HOLDING_REGISTER, SET_VALUE + 1, (0, 0), (1, 0xFFFE),
            (Change(Write(7, SET_VALUE_ID, nearly), 20.0), Change(Write(7, 21, -2.0), 0.0)),
        )
    ]  # fmt: skip


def test_coils_are_recorded_as_ones_and_zeros() -> None:
    operated = Operated(MACHINE)
    operated.device.write(Table.COIL, START, b"\x01\x00\x01")
    (record,) = operated.events
    assert isinstance(record, WriteRecord)
    assert (record.old, record.new) == ((0, 0, 0), (1, 0, 1))
    assert [(c.old, c.write.value) for c in record.changes] == [(0, 1), (0, 0), (0, 1)]


def test_a_restart_forgets_what_was_written_and_begins_an_epoch() -> None:
    operated = Operated(COMMANDED)
    device = operated.device
    device.scan(50)
    operated.set(300.0)
    operated.press(START)
    device.write(Table.HOLDING_REGISTER, NOTE, b"\x00\x07")
    device.scan(55)
    device.restart()
    assert (device.epoch, device.plc_scan) == (1, 0)
    assert operated.shown() == Operated(COMMANDED).shown()
    assert operated.events[-1] == Restart("machine-1", 1, 55)
    device.scan(60)
    assert operated.shown()[STATE_ID] == 0
    operated.set(30.0)
    assert operated.writes[-1] == Write(60, SET_VALUE_ID, 30.0, epoch=1)
    device.scan(75)
    truth = Truth(COMMANDED)
    latest = [write for write in operated.writes if write.epoch == 1]
    for parameter_id in (LAG_ID, FOLLOW_ID, SET_VALUE_ID, STATE_ID):
        assert operated.shown()[parameter_id] == truth.value_at(parameter_id, 75, latest)


def test_the_truth_takes_the_writes_of_one_epoch() -> None:
    with pytest.raises(ValueError, match="more than one epoch"):
        Truth(MACHINE).value_at(LAG_ID, 5, [Write(3, SET_VALUE_ID, 1.0), Write(1, SET_VALUE_ID, 2.0, 1)])


operations = st.lists(
    st.one_of(
        st.tuples(st.just("scan"), st.integers(1, 90)),
        st.tuples(st.just("set"), st.floats(-50, 500, width=32)),
        st.tuples(st.just("note"), st.integers(0, 0xFFFF)),
        st.tuples(st.just("press"), st.sampled_from([START, STOP, ACKNOWLEDGE])),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, database=None)
@given(operations=operations)
def test_whatever_happens_the_image_is_the_truth_of_its_epoch(operations: list[tuple[str, Any]]) -> None:
    operated, note = Operated(COMMANDED), 0
    device, truth = operated.device, Truth(COMMANDED)
    for what, value in [*operations, ("scan", 1)]:
        if what == "set":
            operated.set(value)
        elif what == "press":
            operated.press(value)
        elif what == "note":
            note = value
            device.write(Table.HOLDING_REGISTER, NOTE, value.to_bytes(2))
        elif what == "restart":
            device.restart()
            note = 0
        if what in ("scan", "restart"):
            device.scan(device.plc_scan + (value or 1))
            writes = [write for write in operated.writes if write.epoch == device.epoch]
            shown = operated.shown()
            assert device.images[Table.HOLDING_REGISTER].data[2 * NOTE :] == note.to_bytes(2)
            del shown[21]  # memory: only the device knows
            assert shown == {i: truth.value_at(i, device.plc_scan, writes) for i in shown}


def test_what_was_written_stays_when_the_plc_scan_number_jumps_back() -> None:
    operated = Operated(MACHINE)
    operated.device.scan(1000)
    operated.set(300.0)
    operated.device.scan(1001)
    operated.device.scan(990)
    assert operated.shown()[SET_VALUE_ID] == 300.0
    assert operated.shown()[LAG_ID] == 300.0
    assert operated.shown()[FOLLOW_ID] == pytest.approx(300.0, abs=0.5)


def test_a_commanded_process_goes_on_when_the_plc_scan_number_jumps_back() -> None:
    operated = Operated(COMMANDED)
    shown = []

    def look(plc_scan: int) -> None:
        operated.device.scan(plc_scan)
        values = operated.shown()
        shown.append((values[STATE_ID], values[STEP_ID], values[NUMBER_ID]))

    operated.device.scan(1000)
    operated.press(START)
    look(1004)
    look(500)
    operated.press(STOP)
    look(501)
    look(600)
    operated.press(START)
    look(601)
    look(610)
    assert shown == [(1, 2, 1), (1, 2, 1), (2, 1, 1), (2, 1, 1), (1, 1, 1), (0, 0, 2)]


@settings(max_examples=30, deadline=None, database=None)
@given(visited=st.lists(st.integers(0, 200), min_size=1, max_size=12))
def test_without_writes_the_image_is_the_truth_in_whatever_order(visited: list[int]) -> None:
    operated, truth = Operated(FAILING), Truth(FAILING)
    for plc_scan in visited:
        operated.device.scan(plc_scan)
        shown = operated.shown()
        assert all(shown[i] == truth.value_at(i, plc_scan) for i in shown if i != 21)


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
