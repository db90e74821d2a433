"""Values that are no plain numbers: bits of a register, BCD, null values and strings, byte by byte."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from plcsim.codec import Bytes, Codec, decode_text, encode_text
from plcsim.parameters import ByteOrder, DataType, Parameter, Table

HOLDING = Table.HOLDING_REGISTER
ORDERS = st.sampled_from(ByteOrder)


def parameter(data_type: str, order: str = "ABCD", address: int = 0, **more: Any) -> Parameter:
    return Parameter(1, "oven", "p", HOLDING, address, DataType(data_type), ByteOrder(order), **more)


def encoded(parameters: list[Parameter], values: list[float], before: str) -> str:
    """What becomes of registers (in hex) when values are written into them."""
    data = np.frombuffer(bytes.fromhex(before), dtype=np.uint8).copy()
    Codec(parameters, HOLDING, 0).encode(np.array(values, dtype=np.float64), data)
    return data.tobytes().hex()


def decoded(parameters: list[Parameter], wire: str) -> list[float]:
    data: Bytes = np.frombuffer(bytes.fromhex(wire), dtype=np.uint8)
    return [float(value) for value in Codec(parameters, HOLDING, 0).decode(data)]


@pytest.mark.parametrize(
    ("order", "bit", "wire"),
    [
        ("ABCD", 0, "0001"),
        ("ABCD", 7, "0080"),
        ("ABCD", 8, "0100"),
        ("ABCD", 15, "8000"),
        ("CDAB", 15, "8000"),
        ("BADC", 0, "0100"),
        ("BADC", 15, "0080"),
        ("DCBA", 9, "0002"),
    ],
)
def test_bit_0_is_the_least_significant(order: str, bit: int, wire: str) -> None:
    single = [parameter("bool", order, bit=bit)]
    rest = f"{0xFFFF ^ int(wire, 16):04x}"
    assert (decoded(single, wire), decoded(single, rest)) == ([1.0], [0.0])
    assert encoded(single, [1.0], "0000") == wire
    assert encoded(single, [0.0], "ffff") == rest


@settings(max_examples=60, deadline=None, database=None)
@given(
    bits=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15)), min_size=1, max_size=48, unique=True),
    order=ORDERS,
    before=st.binary(min_size=6, max_size=6),
    data=st.data(),
)
def test_any_bits_are_written_and_the_others_are_kept(
    bits: list[tuple[int, int]], order: ByteOrder, before: bytes, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.booleans(), min_size=len(bits), max_size=len(bits)))
    layout = "<3H" if order.swaps_bytes else ">3H"
    registers = list(struct.unpack(layout, before))
    for (address, bit), on in zip(bits, values, strict=True):
        registers[address] = registers[address] & ~(1 << bit) | on << bit
    parameters = [parameter("bool", order, address, bit=bit) for address, bit in bits]
    wire = encoded(parameters, [float(on) for on in values], before.hex())
    assert wire == struct.pack(layout, *registers).hex()
    assert decoded(parameters, wire) == values


@pytest.mark.parametrize(("value", "bit"), [(0.4, 0), (0.6, 1), (7.0, 1), (-3.0, 0), (math.nan, 0)])
def test_a_bit_is_on_or_off(value: float, bit: int) -> None:
    assert encoded([parameter("bool", bit=3)], [value], "ffff") == f"{0xFFF7 | bit << 3:04x}"


@pytest.mark.parametrize(
    ("data_type", "order", "value", "wire"),
    [
        ("bcd16", "ABCD", 1234, "1234"),
        ("bcd16", "BADC", 1234, "3412"),
        ("bcd32", "ABCD", 12345678, "12345678"),
        ("bcd32", "CDAB", 12345678, "56781234"),
        ("bcd32", "BADC", 12345678, "34127856"),
        ("bcd32", "DCBA", 12345678, "78563412"),
        ("bcd16", "ABCD", 0, "0000"),
        ("bcd32", "ABCD", 99999999, "99999999"),
    ],
)
def test_bcd_reads_as_its_hex_digits(data_type: str, order: str, value: int, wire: str) -> None:
    single = [parameter(data_type, order)]
    assert encoded(single, [value], "ff" * (len(wire) // 2)) == wire
    assert decoded(single, wire) == [value]


@pytest.mark.parametrize("digit", "abcdef")
def test_a_digit_above_nine_is_no_number(digit: str) -> None:
    for wire in (f"{digit}000", f"0{digit}12", f"123{digit}"):
        assert math.isnan(decoded([parameter("bcd16")], wire)[0])
    both = [parameter("bcd32"), parameter("bcd32", address=2)]
    first, second = decoded(both, f"1234567{digit}87654321")
    assert math.isnan(first)
    assert second == 87654321


@pytest.mark.parametrize(
    ("value", "wire"),
    [(-1, "0000"), (-math.inf, "0000"), (9999.4, "9999"), (10000, "9999"), (1e30, "9999"),
     (math.inf, "9999"), (12.6, "0013"), (math.nan, "0000")],
)  # fmt: skip
def test_bcd_is_rounded_and_held_at_its_digits(value: float, wire: str) -> None:
    assert encoded([parameter("bcd16")], [value], "ffff") == wire


@settings(max_examples=60, deadline=None, database=None)
@given(number=st.integers(0, 99_999_999), order=ORDERS, scale=st.sampled_from([1.0, 0.1, 5.0]))
def test_any_bcd_comes_back(number: int, order: ByteOrder, scale: float) -> None:
    single = [parameter("bcd32", order, scale=scale)]
    wire = encoded(single, [number * scale], "ffffffff")
    assert sorted(wire) == sorted(f"{number:08d}")
    assert decoded(single, wire) == [number * scale]


@pytest.mark.parametrize(
    ("data_type", "null_value", "order", "wire"),
    [
        ("int16", 0x8000, "ABCD", "8000"),
        ("int16", -32768, "ABCD", "8000"),
        ("int16", -32768, "BADC", "0080"),
        ("int16", -1, "ABCD", "ffff"),
        ("uint16", 0xFFFF, "ABCD", "ffff"),
        ("uint16", 0, "ABCD", "0000"),
        ("int32", 0x80000000, "CDAB", "00008000"),
        ("uint32", 0xFFFFFFFE, "ABCD", "fffffffe"),
        ("int64", 0x8000000000000000, "ABCD", "8000000000000000"),
        ("int64", -(2**63), "DCBA", "0000000000000080"),
        ("uint64", 0xFFFFFFFFFFFFFFFF, "ABCD", "ffffffffffffffff"),
        ("uint64", 0xFFFFFFFFFFFFFFFE, "CDAB", "fffeffffffffffff"),
        ("bcd16", 0xFFFF, "ABCD", "ffff"),
        ("bcd16", 0x9999, "BADC", "9999"),
        ("bcd32", 0x99999998, "CDAB", "99989999"),
    ],
)
def test_null_value_is_nan_both_ways(data_type: str, null_value: int, order: str, wire: str) -> None:
    single = [parameter(data_type, order, null_value=null_value)]
    assert math.isnan(decoded(single, wire)[0])
    assert encoded(single, [math.nan], "5a" * (len(wire) // 2)) == wire


def test_neighbours_of_a_null_value_are_values_even_where_float64_cannot_tell_them_apart() -> None:
    assert decoded([parameter("uint64", null_value=2**64 - 1)], "ff" * 7 + "fe") == [2.0**64]
    assert decoded([parameter("int16", null_value=0x8000)], "8001") == [-32767.0]
    assert decoded([parameter("int16")], "8000") == [-32768.0]


def test_null_values_are_each_parameters_own_and_scaled_values_keep_theirs() -> None:
    parameters = [
        parameter("int16", null_value=0x8000, scale=0.1),
        parameter("int16", address=1, scale=0.1),
        parameter("int16", address=2, null_value=0x7FFF, scale=0.1, offset=5.0),
    ]
    first, second, third = decoded(parameters, "800080007fff")
    assert (math.isnan(first), second, math.isnan(third)) == (True, -32768 * 0.1, True)
    assert encoded(parameters, [math.nan] * 3, "111111111111") == "800000007fff"
    assert encoded(parameters, [1.0, 2.0, 6.0], "000000000000") == "000a0014000a"


def test_many_scans_of_every_kind_are_coded_at_once() -> None:
    parameters = [
        parameter("bool", bit=4),
        parameter("bool", bit=12),
        parameter("bcd16", address=1),
        parameter("int16", address=2, null_value=-1),
        parameter("float64", address=3),
        parameter("string", address=7, length=3),
    ]
    codec = Codec(parameters, HOLDING, 0)
    values = np.array([[[1, 0, 42, math.nan, 0.1, math.nan], [0, 1, 7, -2, -5e300, math.nan]]] * 3)
    data = np.full((3, 2, 18), 0x41, dtype=np.uint8)
    codec.encode(values, data)
    assert np.array_equal(codec.decode(data), values, equal_nan=True)
    registers = bytes.fromhex("51410007fffe") + struct.pack(">d", -5e300) + b"AAAA"
    assert data[2, 1].tobytes() == registers


@pytest.mark.parametrize(
    ("text", "length", "order", "wire"),
    [
        ("Fronius", 8, "ABCD", "46726f6e69757300"),
        ("Fronius", 8, "CDAB", "46726f6e69757300"),  # registers stay in order
        ("Fronius", 8, "BADC", "72466e6f75690073"),
        ("Fronius", 8, "DCBA", "72466e6f75690073"),
        ("abc", 3, "ABCD", "61626300"),
        ("abc", 3, "BADC", "62610063"),
        ("", 4, "ABCD", "00000000"),
        ("°C", 4, "ABCD", "c2b04300"),
        ("full", 4, "ABCD", "66756c6c"),
    ],
)
def test_strings_have_their_first_character_in_the_high_byte(
    text: str, length: int, order: str, wire: str
) -> None:
    single = parameter("string", order, length=length)
    assert encode_text(text, single).hex() == wire
    assert decode_text(bytes.fromhex(wire), single) == text


@settings(max_examples=60, deadline=None, database=None)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    spare=st.integers(0, 5),
    order=ORDERS,
)
def test_any_text_comes_back(text: str, spare: int, order: ByteOrder) -> None:
    single = parameter("string", order, address=300, length=len(text.encode()) + spare or 1)
    wire = encode_text(text, single)
    assert len(wire) == 2 * single.width
    assert decode_text(wire, single) == text


def test_text_ends_at_the_first_nul_and_at_its_length() -> None:
    assert decode_text(b"on\0off", parameter("string", length=6)) == "on"
    assert decode_text(b"abcX", parameter("string", length=3)) == "abc"


def test_what_is_no_utf_8_is_shown_and_not_raised() -> None:
    assert decode_text(b"\xffA\xc2\0", parameter("string", length=4)) == "\ufffdA\ufffd"


def test_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match=r"oven\.p has no room for 5 bytes"):
        encode_text("°°a", parameter("string", length=4))


def test_a_string_is_no_value_and_is_left_alone() -> None:
    both = [parameter("string", length=4), parameter("uint16", address=2)]
    text, number = decoded(both, "6162630000ff")
    assert math.isnan(text)
    assert number == 255
    assert encoded(both, [7.0, 1.0], "616263000000") == "616263000001"


@settings(max_examples=100, deadline=None, database=None)
@given(
    data_type=st.sampled_from(
        ["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
    ),
    order=st.sampled_from(["ABCD", "CDAB"]),
    data=st.data(),
)
def test_pymodbus_reads_the_same_numbers(data_type: str, order: str, data: st.DataObject) -> None:
    single = parameter(data_type, order)
    registers = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=single.width, max_size=single.width))
    theirs = ModbusClientMixin.convert_from_registers(
        registers,
        ModbusClientMixin.DATATYPE[data_type.upper()],
        word_order="big" if order == "ABCD" else "little",
    )
    ours = decoded([single], struct.pack(f">{len(registers)}H", *registers).hex())
    assert isinstance(theirs, int | float)
    assert np.array_equal(ours, [float(theirs)], equal_nan=True)


@settings(max_examples=50, deadline=None, database=None)
@given(text=st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=20))
def test_pymodbus_reads_the_same_text(text: str) -> None:
    wire = encode_text(text, parameter("string", length=len(text)))
    registers = [value for (value,) in struct.iter_unpack(">H", wire)]
    theirs = ModbusClientMixin.convert_from_registers(registers, ModbusClientMixin.DATATYPE.STRING)
    assert theirs == text
