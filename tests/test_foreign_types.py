"""Clients that are not ours agree with the emulator on every data type in every byte order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from fix_types import START, TEXT, TypedDevice
from pymodbus.client import ModbusTcpClient
from pyModbusTCP import utils
from pyModbusTCP.client import ModbusClient

from plcsim.parameters import ByteOrder, DataType

KNOWN = ModbusTcpClient.DATATYPE
OTHERS: dict[DataType, list[Any]] = {
    DataType.INT16: [-32768, -1, 0, 32767],
    DataType.UINT16: [0, 0x8000, 65535],
    DataType.INT32: [-(2**31), -1, 0, 2**31 - 1],
    DataType.UINT32: [0, 2**31, 2**32 - 1],
    DataType.INT64: [-(2**63), -1, 0, 2**53],
    DataType.UINT64: [0, 1, 2**53, 2**63],
    DataType.FLOAT32: [0.0, -1.5, 2.0**-126, -(2.0**127)],
    DataType.FLOAT64: [0.0, 6.02214076e23, -(2.0**-1022)],
    DataType.BCD16: [0, 9999],
    DataType.BCD32: [0, 99_999_999],
}
CASES = [(kind, value) for kind, values in OTHERS.items() for value in values]
ORDERS = pytest.mark.parametrize("order", list(ByteOrder))


@pytest.fixture(scope="module")
def pymodbus(typed: TypedDevice) -> Iterator[ModbusTcpClient]:
    client = ModbusTcpClient("127.0.0.1", port=typed.port, timeout=10, retries=0)
    assert client.connect()
    yield client
    client.close()


@pytest.fixture(scope="module")
def py_modbus_tcp(typed: TypedDevice) -> Iterator[ModbusClient]:
    client = ModbusClient("127.0.0.1", port=typed.port, timeout=10, auto_open=False)
    assert client.open()
    yield client
    client.close()


def swapped(registers: list[int], order: ByteOrder) -> list[int]:
    """Registers with their two bytes the other way round, where the order wants it: what pymodbus, which
    knows orders of registers only, has no word for."""
    if not order.swaps_bytes:
        return registers
    return list(struct.unpack(f"<{len(registers)}H", struct.pack(f">{len(registers)}H", *registers)))


def decoded(registers: list[int], kind: DataType, order: ByteOrder) -> Any:
    """A value, by pymodbus; BCD, which it does not know, by its hexadecimal digits."""
    registers = swapped(registers, order)
    word_order: Any = "little" if order.swaps_registers and kind is not DataType.STRING else "big"
    if kind in (DataType.BCD16, DataType.BCD32):
        in_order = registers if word_order == "big" else registers[::-1]
        return int("".join(f"{register:04x}" for register in in_order))
    known = KNOWN[kind.name]
    return ModbusTcpClient.convert_from_registers(registers, known, word_order=word_order)


def encoded(value: Any, kind: DataType, order: ByteOrder) -> list[int]:
    """The inverse of `decoded`."""
    word_order: Any = "little" if order.swaps_registers and kind is not DataType.STRING else "big"
    if kind in (DataType.BCD16, DataType.BCD32):
        digits = f"{value:0{kind.bits // 4}d}"
        registers = [int(digits[i : i + 4], 16) for i in range(0, len(digits), 4)]
        return swapped(registers if word_order == "big" else registers[::-1], order)
    return swapped(
        ModbusTcpClient.convert_to_registers(value, KNOWN[kind.name], word_order=word_order), order
    )


@ORDERS
@pytest.mark.parametrize("kind", [*START, DataType.STRING])
def test_pymodbus_reads_what_the_device_holds(
    untouched: TypedDevice, kind: DataType, order: ByteOrder
) -> None:
    parameter = untouched.parameters[kind, order]
    with ModbusTcpClient("127.0.0.1", port=untouched.port, timeout=10, retries=0) as client:
        registers = client.read_holding_registers(parameter.address, count=parameter.width).registers
    expected = START.get(kind, TEXT)
    value = decoded(registers, kind, order)
    assert (value.rstrip("\0") if kind is DataType.STRING else value) == expected
    assert untouched.records == []


@ORDERS
@pytest.mark.parametrize(("kind", "value"), CASES)
def test_pymodbus_and_the_device_understand_each_other(
    typed: TypedDevice, pymodbus: ModbusTcpClient, kind: DataType, value: Any, order: ByteOrder
) -> None:
    parameter = typed.parameters[kind, order]
    assert not pymodbus.write_registers(parameter.address, encoded(value, kind, order)).isError()
    assert typed.written() == [(parameter.parameter_id, value)]
    read = pymodbus.read_holding_registers(parameter.address, count=parameter.width).registers
    assert decoded(read, kind, order) == value


@ORDERS
def test_pymodbus_reads_and_writes_text(
    typed: TypedDevice, pymodbus: ModbusTcpClient, order: ByteOrder
) -> None:
    parameter = typed.parameters[DataType.STRING, order]
    for text in ("precursor 7!", "short", TEXT):
        padded = text + (12 - len(text.encode())) * "\0"
        registers = encoded(padded, DataType.STRING, order)
        assert not pymodbus.write_registers(parameter.address, registers).isError()
        read = pymodbus.read_holding_registers(parameter.address, count=6).registers
        assert decoded(read, DataType.STRING, order).rstrip("\0") == text


BIG_FIRST = {ByteOrder.ABCD: True, ByteOrder.CDAB: False}


@pytest.mark.parametrize("order", BIG_FIRST)
@pytest.mark.parametrize("kind", [k for k in OTHERS if k.bits >= 32 and not k.value.startswith("bcd")])
def test_py_modbus_tcp_and_the_device_understand_each_other(
    typed: TypedDevice, py_modbus_tcp: ModbusClient, kind: DataType, order: ByteOrder
) -> None:
    parameter, big, long_long = typed.parameters[kind, order], BIG_FIRST[order], kind.bits == 64
    for value in (*OTHERS[kind], START[kind]):
        is_float = kind.value.startswith("float")
        bits = utils.encode_ieee(value, double=long_long) if is_float else int(value) % 2**kind.bits
        words = utils.long_list_to_word([bits], big_endian=big, long_long=long_long)
        assert py_modbus_tcp.write_multiple_registers(parameter.address, words)
        assert typed.written() == [(parameter.parameter_id, value)]
        read = py_modbus_tcp.read_holding_registers(parameter.address, parameter.width)
        (found,) = utils.word_list_to_long(read, big_endian=big, long_long=long_long)
        assert (utils.decode_ieee(found, double=long_long) if is_float else found) == (
            value if is_float else bits
        )


def test_a_wrong_byte_order_gives_another_value(typed: TypedDevice, pymodbus: ModbusTcpClient) -> None:
    """The negative control of the tests above."""
    for kind in START:
        seen = set()
        for order in ByteOrder:
            parameter = typed.parameters[kind, ByteOrder.ABCD]
            pymodbus.write_registers(parameter.address, encoded(START[kind], kind, order))
            seen.add(typed.written()[0][1])
        assert len(seen) == (2 if kind.bits == 16 else 4)
