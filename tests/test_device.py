"""One PLC: its image is the truth of one PLC scan, all at once; what clients write into it."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from fix_emulator import ALD_FILE
from hypothesis import given, settings
from hypothesis import strategies as st

from plcsim.codec import Codec
from plcsim.device import Device
from plcsim.device_file import load_device, parse_device
from plcsim.parameters import Table
from plcsim.truth import Truth
from plcsim.writes import Event, Write, WriteRecord

ALD = load_device(ALD_FILE)
TRUTH = Truth(ALD)
COUNTERS = (1, 52, 59, 73)
"""plc_scan of each register group, by parameter_id."""
RUNNING, NUMBER, STEP = 2, 3, 4
PRESSURE, PRESSURE_SETPOINT = 5, 60
SPEED, SPEED_SETPOINT = 43, 71
VENT_VALVE, PUMP_ENABLE = 79, 81

scans = st.integers(0, 1000) | st.integers(0, 2**32 + 100) | st.integers(2**32 - 3, 2**32 + 3)


class Recorded:
    """A device and what it told of writes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.device = Device(ALD, self.events.append)

    @property
    def writes(self) -> list[Write]:
        return [write for event in self.events if isinstance(event, WriteRecord) for write in event.writes]

    def write(self, parameter_id: int, *registers: int) -> None:
        address = ALD.register_map.parameters[ALD.register_map.index_of(parameter_id)].address
        self.device.write(Table.HOLDING_REGISTER, address, struct.pack(f">{len(registers)}H", *registers))

    def write_float(self, parameter_id: int, value: float) -> None:
        high, low = struct.unpack(">HH", struct.pack(">f", value))
        self.write(parameter_id, low, high)  # the set values of the ALD machine are CDAB


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def shown(device: Device) -> dict[int, float]:
    """What the register image says now, by parameter_id."""
    values: dict[int, float] = {}
    for table, image in device.images.items():
        parameters = device.config.register_map.in_table(table)
        if parameters:
            decoded = Codec(parameters, table, 0).decode(np.frombuffer(image.data, dtype=np.uint8))
            values |= {p.parameter_id: float(v) for p, v in zip(parameters, decoded, strict=True)}
    return values


def truth(plc_scan: int, writes: list[Write] | None = None) -> dict[int, float]:
    row = TRUTH.values_at(np.array([plc_scan]), writes or [])[0]
    ids = [p.parameter_id for p in ALD.register_map.parameters]
    return dict(zip(ids, row.tolist(), strict=True))


@settings(max_examples=60)
@given(visited=st.lists(scans, min_size=1, max_size=6))
def test_the_image_is_the_truth_of_its_plc_scan_in_whatever_order(visited: list[int]) -> None:
    device = Device(ALD)
    for plc_scan in visited:
        device.scan(plc_scan)
        assert device.plc_scan == plc_scan
        assert shown(device) == truth(plc_scan)


def test_the_image_is_the_truth_of_each_of_300_plc_scans(recorded: Recorded) -> None:
    for plc_scan in range(300):
        recorded.device.scan(plc_scan)
        assert shown(recorded.device) == truth(plc_scan)


def test_a_new_device_shows_plc_scan_0(recorded: Recorded) -> None:
    assert recorded.device.plc_scan == 0
    assert shown(recorded.device) == truth(0)


def test_the_counters_of_all_groups_agree(recorded: Recorded) -> None:
    for plc_scan in (0, 1, 77, 65536, 2**32 - 1, 2**32, 2**32 + 5):
        recorded.device.scan(plc_scan)
        values = shown(recorded.device)
        assert {values[counter] for counter in COUNTERS} == {plc_scan % 2**32}


def test_the_machine_idles_runs_its_recipe_step_by_step_and_idles_again(recorded: Recorded) -> None:
    seen = []
    for plc_scan in range(100):
        recorded.device.scan(plc_scan)
        values = shown(recorded.device)
        state = (values[NUMBER], values[RUNNING], values[STEP])
        if not seen or state != seen[-1]:
            seen.append(state)
    cycle = [(1, 1, step) for step in (1, *3 * (2, 3, 4, 5, 6, 7), 8)]
    assert seen == [(1, 0, 0), *cycle, (2, 0, 0)]


def test_gaps_stay_zero(recorded: Recorded) -> None:
    recorded.device.scan(123)
    data = recorded.device.images[Table.INPUT_REGISTER].data
    assert data[12:24] + data[68:72] + data[118:128] == bytes(26)


def test_a_write_shows_at_once_and_everything_else_stays(recorded: Recorded) -> None:
    recorded.device.scan(40)
    recorded.write_float(PRESSURE_SETPOINT, 2.5)
    assert shown(recorded.device) == truth(40) | {PRESSURE_SETPOINT: 2.5}
    assert recorded.writes == [Write(40, PRESSURE_SETPOINT, 2.5)]


def test_followers_follow_at_the_next_plc_scan(recorded: Recorded) -> None:
    recorded.device.scan(40)
    recorded.write_float(PRESSURE_SETPOINT, 2.5)
    recorded.write(SPEED_SETPOINT, 9000)
    before = shown(recorded.device)
    assert (before[PRESSURE], before[SPEED]) == (truth(40)[PRESSURE], truth(40)[SPEED])
    recorded.device.scan(41)
    after = shown(recorded.device)
    assert after[PRESSURE] == pytest.approx(2.5, abs=0.0041)
    assert after[SPEED] == pytest.approx(9000, abs=12.6)
    assert after == truth(41, recorded.writes)


def test_writes_survive_plc_scans_till_the_next_write(recorded: Recorded) -> None:
    recorded.device.scan(5)
    recorded.write_float(PRESSURE_SETPOINT, 700.5)
    for plc_scan in range(6, 200):
        recorded.device.scan(plc_scan)
        assert shown(recorded.device)[PRESSURE_SETPOINT] == 700.5
    recorded.write_float(PRESSURE_SETPOINT, 1.25)
    recorded.device.scan(200)
    assert shown(recorded.device)[PRESSURE_SETPOINT] == 1.25


def test_a_write_of_one_register_of_a_float_changes_that_half(recorded: Recorded) -> None:
    recorded.write_float(PRESSURE_SETPOINT, 1.5)  # 3fc0 0000
    recorded.write(PRESSURE_SETPOINT, 0x0001)
    halfway = struct.unpack(">f", bytes.fromhex("3fc00001"))[0]
    assert shown(recorded.device)[PRESSURE_SETPOINT] == halfway
    recorded.device.write(Table.HOLDING_REGISTER, 111, b"\xc0\x00")
    assert [write.value for write in recorded.writes] == [
        1.5,
        halfway,
        struct.unpack(">f", bytes.fromhex("c0000001"))[0],
    ]
    recorded.device.scan(1)
    assert shown(recorded.device) == truth(1, recorded.writes)


def test_a_float_written_half_by_half_over_plc_scans_arrives_even_by_way_of_nan(recorded: Recorded) -> None:
    # The high word first, 7f80: with the low word that is still there it is a NaN, which keeps its bits.
    halves = ((111, b"\x7f\x80"), (110, b"\x12\x34"), (111, b"\x3f\x80"))
    for number, (address, register) in enumerate(halves):
        recorded.device.write(Table.HOLDING_REGISTER, address, register)
        recorded.device.scan(10 * number + 1)
        recorded.device.scan(10 * number + 2)
    expected = struct.unpack(">f", bytes.fromhex("3f801234"))[0]
    assert shown(recorded.device)[PRESSURE_SETPOINT] == expected


def test_one_write_of_several_parameters_is_one_record_each(recorded: Recorded) -> None:
    recorded.device.scan(3)
    recorded.write(SPEED_SETPOINT, 65535, 0x0000, 0x4170)
    assert recorded.writes == [Write(3, SPEED_SETPOINT, 65535), Write(3, 72, 15.0)]
    recorded.device.scan(4)
    assert shown(recorded.device) == truth(4, recorded.writes)


def test_a_written_coil_is_recorded_and_held(recorded: Recorded) -> None:
    recorded.device.write(Table.COIL, 37, b"\x01")
    recorded.device.write(Table.COIL, 39, b"\x00")
    recorded.device.scan(100)
    values = shown(recorded.device)
    assert (values[VENT_VALVE], values[PUMP_ENABLE]) == (1, 0)
    assert recorded.writes == [Write(0, VENT_VALVE, 1), Write(0, PUMP_ENABLE, 0)]


@pytest.mark.parametrize("value", [-1.0, 1100.5, 3.0e38, -math.inf, math.inf, math.nan])
def test_a_value_that_no_operator_would_write_is_taken_as_a_plc_takes_it(
    recorded: Recorded, value: float
) -> None:
    recorded.write_float(PRESSURE_SETPOINT, value)
    for plc_scan in (1, 2, 90):
        recorded.device.scan(plc_scan)
        values = shown(recorded.device)
        assert values[PRESSURE_SETPOINT] == pytest.approx(value, nan_ok=True, rel=1e-6)
        assert values[PRESSURE] == pytest.approx(value, nan_ok=True, rel=1e-6, abs=0.0041)
        assert values == pytest.approx(truth(plc_scan, recorded.writes), nan_ok=True, rel=0, abs=0)


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 70), st.sampled_from(range(110, 135)), st.integers(0, 0xFFFF)), max_size=12
    )
)
def test_the_truth_with_what_was_written_is_the_image_of_every_later_plc_scan(
    steps: list[tuple[int, int, int]],
) -> None:
    recorded, plc_scan = Recorded(), 0
    for advance, address, register in steps:
        recorded.device.write(Table.HOLDING_REGISTER, address, struct.pack(">H", register))
        plc_scan += 1 + advance
        recorded.device.scan(plc_scan)
        expected = truth(plc_scan, recorded.writes)
        assert shown(recorded.device) == pytest.approx(expected, nan_ok=True, rel=0, abs=0)


def parameters_without_signal() -> Iterator[dict[str, object]]:
    for i, kind in enumerate(["float32", "int16", "uint32"]):
        yield {"id": i + 1, "component": "a", "name": kind, "address": 2 * i, "type": kind, "writable": True}


def test_parameters_without_a_signal_are_memory_that_clients_write() -> None:
    group = {"name": "g", "table": "holding_register", "consistent": False}
    device = Device(
        parse_device(
            {
                "device": {"device_id": "memory"},
                "groups": [group | {"parameters": list(parameters_without_signal())}],
            }
        )
    )
    device.scan(1)
    assert shown(device) == {1: 0, 2: 0, 3: 0}
    device.write(Table.HOLDING_REGISTER, 0, bytes.fromhex("3fc00000"))
    device.write(Table.HOLDING_REGISTER, 2, bytes.fromhex("fffe"))
    device.scan(200)
    assert shown(device) == {1: 1.5, 2: -2, 3: 0}
