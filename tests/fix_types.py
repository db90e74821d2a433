"""A device with a parameter of every data type in every byte order, and what clients write into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from fix_emulator import HOUR_MS
from fix_faults import serving

from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.parameters import ByteOrder, DataType, Parameter
from plcsim.unit import Unit
from plcsim.writes import Event, WriteRecord

START: dict[DataType, float] = {
    DataType.INT16: -2,
    DataType.UINT16: 65533,
    DataType.INT32: -123_456_789,
    DataType.UINT32: 4_012_345_678,
    DataType.INT64: -(2**50) - 12_345,
    DataType.UINT64: 2**52 + 987_654_321,
    DataType.FLOAT32: 123456.0,
    DataType.FLOAT64: -1.1,
    DataType.BCD16: 1234,
    DataType.BCD32: 12_345_678,
}
TEXT, TEXT_BYTES = "ALD 7 °C", 12
_FIRST, _APART = 1000, 100


@dataclass
class TypedDevice:
    """A device that is served, and what it made of what clients wrote."""

    port: int
    parameters: dict[tuple[DataType, ByteOrder], Parameter]
    records: list[WriteRecord] = field(default_factory=list)

    def written(self) -> list[tuple[int, float]]:
        """Ids and values that the last request wrote, as the device understood them."""
        return [(change.write.parameter_id, change.write.value) for change in self.records[-1].changes]


def typed_file(folder: Path) -> Path:
    groups = []
    for number, order in enumerate(ByteOrder):
        address, parameters = _FIRST + number * _APART, []
        for kind in [*START, DataType.STRING]:
            parameter = {
                "id": 100 * number + len(parameters) + 1,
                "component": order.value,
                "name": kind.value,
            }
            parameter |= {"address": address, "type": kind.value, "byte_order": order.value, "writable": True}
            if kind is DataType.STRING:
                parameter |= {"length": TEXT_BYTES, "signal": {"kind": "text", "value": TEXT}}
            else:
                parameter["signal"] = {"kind": "constant", "value": float(START[kind])}
            parameters.append(parameter)
            address += TEXT_BYTES // 2 if kind is DataType.STRING else kind.bits // 16
        groups.append({"name": order.value, "table": "holding_register", "parameters": parameters})
    path = folder / "types.yaml"
    document = {"device": {"device_id": "types", "plc_scan_ms": HOUR_MS}, "groups": groups}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@contextmanager
def serving_types(folder: Path) -> Iterator[TypedDevice]:
    config = load_device(typed_file(folder))
    parameters = {(p.data_type, p.byte_order): p for p in config.register_map.parameters}
    records: list[WriteRecord] = []

    def record(event: Event) -> None:
        assert isinstance(event, WriteRecord)
        records.append(event)

    with serving(lambda: {1: Unit(Device(config, record))}) as site:
        yield TypedDevice(site.server.port, parameters, records)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedDevice]:
    with serving_types(tmp_path_factory.mktemp("types")) as device:
        yield device


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedDevice]:
    """The same, for tests that only read."""
    with serving_types(tmp_path_factory.mktemp("types")) as device:
        yield device
