"""What writes do to a device: limits, records, restarts."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
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

from plcsim.device import Device
from plcsim.memory import Origin
from plcsim.parameters import Table
from plcsim.truth import Truth
from plcsim.writes import Change, Restart, Write, WriteRecord

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
