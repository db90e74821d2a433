"""What follows from a map alone: addresses that may be read or written, and the image at the start."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from plcsim.config import DeviceConfig
from plcsim.device import Device
from plcsim.device_file import parse_device
from plcsim.layout import Addresses, Layout
from plcsim.parameters import Table

COIL, HOLDING = Table.COIL, Table.HOLDING_REGISTER


def device(parameters: list[dict[str, Any]], table: Table = HOLDING, **more: Any) -> DeviceConfig:
    specs = [
        {"id": i, "component": "c", "name": f"p{i}", "type": "uint16", **p} for i, p in enumerate(parameters)
    ]
    for spec in specs:
        spec["id"] += 1
    group = {"name": "g", "table": table.value, "consistent": False, "parameters": specs}
    return parse_device({"device": {"device_id": "d"}, "groups": [group], **more})


def gap(address: int, count: int, answer: str = "junk", table: Table = HOLDING) -> dict[str, Any]:
    return {"table": table.value, "address": address, "count": count, "answer": answer}


def registers(config: DeviceConfig, table: Table = HOLDING) -> list[int]:
    data = Layout(config).tables[table].initial
    return list(data) if table.is_bits else [value for (value,) in struct.iter_unpack(">H", data)]


def test_what_is_write_only_can_be_written_and_not_read() -> None:
    config = device(
        [{"address": 0}, {"address": 1, "writable": True, "readable": False},
         {"address": 2, "writable": True}]
    )  # fmt: skip
    table = Layout(config).tables[HOLDING]
    assert [table.readable.all_in(a, 1) for a in range(4)] == [True, False, True, False]
    assert [table.writable.all_in(a, 1) for a in range(4)] == [False, True, True, False]
    assert table.size == 6


def test_a_write_only_parameter_at_the_end_has_its_place_in_the_image() -> None:
    config = device([{"address": 0}, {"address": 7, "type": "uint32", "writable": True, "readable": False}])
    table = Layout(config).tables[HOLDING]
    assert table.size == len(table.initial) == 18
    plc = Device(config)
    plc.write(HOLDING, 7, bytes.fromhex("00010002"))
    assert plc.images[HOLDING].data.hex() == "0000" * 7 + "00010002"
    assert not plc.is_readable(HOLDING, 7, 2)


def test_junk_looks_random_and_is_the_same_for_every_device() -> None:
    config = device([{"address": 100}], readable_gaps=[gap(0, 100)])
    junk = registers(config)[:100]
    assert len(set(junk)) > 95
    assert max(junk) > 60_000
    assert min(junk) < 5_000
    other = device([{"address": 200}], readable_gaps=[gap(50, 20)])
    assert registers(other)[50:70] == junk[50:70]
    assert set(registers(other)[:50]) == {0}
    coils = device([{"address": 200, "type": "bool"}], COIL, readable_gaps=[gap(0, 200, table=COIL)])
    bits = registers(coils, COIL)[:200]
    assert set(bits) == {0, 1}
    assert 60 < sum(bits) < 140


def test_zeros_are_the_answer_of_a_gap_that_does_not_say() -> None:
    silent = {key: value for key, value in gap(1, 3).items() if key != "answer"}
    assert registers(device([{"address": 4}], readable_gaps=[silent])) == [0] * 5
    assert registers(device([{"address": 4}], readable_gaps=[gap(1, 3, "zeros")])) == [0] * 5


def test_junk_leaves_parameters_alone() -> None:
    config = device([{"address": 3, "type": "float64"}], readable_gaps=[gap(0, 10)])
    image = registers(config)
    assert image[3:7] == [0, 0, 0, 0]
    assert all(image[:3])
    assert all(image[7:])


def test_texts_stand_in_the_image_from_the_start_and_stay_there() -> None:
    text = {"type": "string", "length": 7, "signal": {"kind": "text", "value": "Fröst"}}
    config = device([
        {"address": 1, **text}, {"address": 5, **text, "byte_order": "BADC"},
        {"address": 0, "signal": {"kind": "counter"}}, {"address": 9, "type": "string", "length": 2},
    ])  # fmt: skip
    expected = "4672c3b673740000" + "7246b6c374730000" + "0000"
    assert Layout(config).tables[HOLDING].initial.hex() == "0000" + expected
    plc = Device(config)
    for scan in (0, 1, 500):
        plc.scan(scan)
        assert plc.images[HOLDING].data.hex() == f"{scan:04x}" + expected


def test_bits_of_one_register_move_each_on_its_own() -> None:
    config = device([
        {"address": 0, "type": "bool", "bit": 0, "signal": {"kind": "counter", "wrap": 2}},
        {"address": 0, "type": "bool", "bit": 9, "signal": {"kind": "constant", "value": 1}},
        {"address": 0, "type": "bool", "bit": 15},
    ])  # fmt: skip
    plc = Device(config)
    images = []
    for scan in (0, 1, 2):
        plc.scan(scan)
        images.append(plc.images[HOLDING].data.hex())
    assert images == ["0200", "0201", "0200"]


def test_what_is_missing_reads_as_its_null_value() -> None:
    missing = {"signal": {"kind": "missing"}}
    config = device([
        {"address": 0, "type": "int16", "null_value": 0x8000, **missing},
        {"address": 1, "type": "float32", **missing},
        {"address": 3, "type": "bcd16", "null_value": 0xFFFF, **missing},
    ])  # fmt: skip
    plc = Device(config)
    assert plc.images[HOLDING].data.hex() == "8000" + "7fc00000" + "ffff"


def test_devices_of_one_map_share_a_layout() -> None:
    config = device([{"address": 0, "writable": True}, {"address": 1, "signal": {"kind": "counter"}}])
    other = config.model_copy(
        update={"device": config.device.model_copy(update={"device_id": "e", "seed": 9})}
    )
    layout = Layout(config)
    first, second = Device(config, layout=layout), Device(other, layout=layout)
    first.write(HOLDING, 0, b"\x12\x34")
    first.scan(5)
    assert first.images[HOLDING].data.hex() == "12340005"
    assert second.images[HOLDING].data.hex() == "00000000"


@pytest.mark.parametrize(
    ("address", "count", "inside"),
    [(2, 3, True), (2, 4, False), (1, 1, False), (7, 1, True), (7, 2, False), (99, 1, False), (0, 8, False)],
)
def test_addresses_know_whole_ranges(address: int, count: int, inside: bool) -> None:
    assert Addresses([(2, 4), (4, 5), (7, 8)]).all_in(address, count) is inside


def test_columns_are_those_of_numbers_with_a_signal() -> None:
    config = device([
        {"address": 9, "type": "string", "length": 2, "signal": {"kind": "text", "value": "x"}},
        {"address": 3, "signal": {"kind": "counter"}}, {"address": 1},
        {"address": 0, "signal": {"kind": "constant", "value": 4}},
    ])  # fmt: skip
    table = Layout(config).tables[HOLDING]
    assert table.columns == [3, 1]
    data = np.zeros(table.size, dtype=np.uint8)
    table.signals.encode(np.array([4.0, 7.0]), data)
    assert data.tobytes().hex() == "0004000000000007" + "0000" * 6
