"""Registers and coils against bytes packed by `struct` and by hand, never by our codec."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plcsim.codec import Bytes, Codec
from plcsim.parameters import ByteOrder, DataType, Parameter, Table

COIL, HOLDING = Table.COIL, Table.HOLDING_REGISTER
FORMATS = {
    "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q", "uint64": ">Q",
    "float32": ">f", "float64": ">d",
}  # fmt: skip
LIMITS = {
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1024),  # the last float64 below 2^63
    "uint64": (0, 2**64 - 2048),
}
EXACT = 2**53
"""As far as a float64 holds every integer."""
Row = tuple[str, ByteOrder, int, float]
"""Data type, byte order, unused addresses before it, value."""


def parameter(
    data_type: str,
    order: str = "ABCD",
    address: int = 0,
    table: Table = HOLDING,
    scale: float = 1.0,
    offset: float = 0.0,
) -> Parameter:
    kind, bytes_ = DataType(data_type), ByteOrder(order)
    return Parameter(1, "oven", "p", table, address, kind, bytes_, scale, offset)


def packed(data_type: str, order: str, raw: float) -> bytes:
    """What the published description of the byte orders says: swap words, swap bytes."""
    value = raw if data_type.startswith("float") else int(raw)
    data = struct.pack(FORMATS[data_type], value)
    registers = [data[i : i + 2] for i in range(0, len(data), 2)]
    if order in ("CDAB", "DCBA"):
        registers.reverse()
    if order in ("BADC", "DCBA"):
        registers = [register[::-1] for register in registers]
    return b"".join(registers)


def encoded(parameters: list[Parameter], values: list[float], size: int) -> Bytes:
    data = np.zeros(size, dtype=np.uint8)
    Codec(parameters, parameters[0].table, 0).encode(np.array(values, dtype=np.float64), data)
    return data


def decoded(single: Parameter, data: bytes | list[int]) -> float:
    block = np.frombuffer(bytes(data), dtype=np.uint8)
    return float(Codec([single], single.table, 0).decode(block)[0])


@pytest.mark.parametrize(
    ("order", "wire"),
    [("ABCD", "47f12000"), ("CDAB", "200047f1"), ("BADC", "f1470020"), ("DCBA", "0020f147")],
)
def test_float_123456_has_its_published_registers(order: str, wire: str) -> None:
    single = parameter("float32", order)
    assert encoded([single], [123456.0], 4).tobytes().hex() == wire
    assert decoded(single, bytes.fromhex(wire)) == 123456.0


@pytest.mark.parametrize(
    ("order", "wire"),
    [
        ("ABCD", "40fe240000000000"),
        ("CDAB", "00000000240040fe"),
        ("BADC", "fe40002400000000"),
        ("DCBA", "000000000024fe40"),
    ],
)
def test_double_123456_lies_by_analogy(order: str, wire: str) -> None:
    single = parameter("float64", order)
    assert encoded([single], [123456.0], 8).tobytes().hex() == wire
    assert decoded(single, bytes.fromhex(wire)) == 123456.0


@pytest.mark.parametrize(
    ("order", "wire"),
    [
        ("ABCD", "0011223344556677"),  # ABCDEFGH
        ("CDAB", "6677445522330011"),  # GHEFCDAB
        ("BADC", "1100332255447766"),  # BADCFEHG
        ("DCBA", "7766554433221100"),  # HGFEDCBA
    ],
)
def test_64_bit_integers_lie_by_analogy(order: str, wire: str) -> None:
    for data_type in ("int64", "uint64"):
        assert decoded(parameter(data_type, order), bytes.fromhex(wire)) == float(0x0011223344556677)
        assert packed(data_type, order, 0x0011223344556677).hex() == wire


@pytest.mark.parametrize("order", list(ByteOrder))
@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        ("int16", -2),
        ("int16", 0x1234),
        ("uint16", 0xFEDC),
        ("int32", -123456789),
        ("uint32", 0xFEDCBA98),
        ("int64", -(2**53)),
        ("int64", 0x1_2345_6789_ABCD),
        ("uint64", 2**53),
        ("uint64", 0xFEDC_BA98_7654_3000),
        ("float32", -0.15625),
        ("float32", 3.0e38),
        ("float64", -0.1),
        ("float64", 1.7e308),
    ],
)
def test_each_type_in_each_byte_order_is_what_struct_says(data_type: str, value: float, order: str) -> None:
    single, wire = parameter(data_type, order), packed(data_type, order, value)
    assert encoded([single], [value], len(wire)).tobytes() == wire
    assert decoded(single, wire) == pytest.approx(value, rel=1e-7 if data_type == "float32" else 0)


@pytest.mark.parametrize(("table", "at"), [(HOLDING, (0, 2, 3, 7)), (COIL, (0, 32, 48, 50))])
def test_values_stand_at_their_offset_in_the_block(table: Table, at: tuple[int, ...]) -> None:
    types = ["uint32", "uint16", "uint16" if table is HOLDING else "bool", "uint32"]
    first = 1000
    parameters = [parameter(kind, address=first + a, table=table) for kind, a in zip(types, at, strict=True)]
    block = np.zeros((1, 9 * 2 if table is HOLDING else 82), dtype=np.uint8)
    codec = Codec(parameters, table, first)
    codec.encode(np.array([[70000.0, 515.0, 1.0, 5.0]]), block)
    assert codec.decode(block).tolist() == [[70000.0, 515.0, 1.0, 5.0]]
    used = {HOLDING: [1, 2, 3, 4, 5, 7, 17], COIL: [4, 5, 6, 8, 12, 16, 32, 33, 41, 48, 50, 52]}
    assert np.flatnonzero(block[0]).tolist() == used[table]


@pytest.mark.parametrize(
    ("data_type", "scale", "offset", "value", "raw"),
    [
        ("uint16", 0.1, 0.0, 42.3, 423),
        ("int16", 0.001, 0.0, -4.5, -4500),
        ("int16", 0.5, -20.0, -20.5, -1),
        ("uint32", 10.0, 5.0, 1235.0, 123),
        ("int32", -1.0, 0.0, 7.0, -7),
        ("float32", 2.0, 1.0, 4.0, 1.5),
        ("float64", 2.0, 1.0, 4.0, 1.5),
        ("uint64", 0.001, 0.0, 9007199254.740, 9007199254740),
    ],
)
def test_value_is_raw_times_scale_plus_offset(
    data_type: str, scale: float, offset: float, value: float, raw: float
) -> None:
    single = parameter(data_type, scale=scale, offset=offset)
    wire = packed(data_type, "ABCD", raw)
    assert encoded([single], [value], len(wire)).tobytes() == wire
    assert decoded(single, wire) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("value", "raw"), [(1.4, 1), (1.6, 2), (-1.4, -1), (-1.6, -2)])
def test_integers_are_rounded_to_the_nearest(value: float, raw: int) -> None:
    assert encoded([parameter("int16")], [value], 2).tobytes() == struct.pack(">h", raw)


@pytest.mark.parametrize("data_type", list(LIMITS))
def test_integers_are_held_at_the_limits_of_their_type(data_type: str) -> None:
    low, high = LIMITS[data_type]
    for value, held in [
        (low - 1, low), (-1e30, low), (-math.inf, low), (float(low), low),
        (high + 1, high), (1e30, high), (math.inf, high), (high + 0.4, high), (math.nan, 0),
    ]:  # fmt: skip
        wire = packed(data_type, "ABCD", held)
        assert encoded([parameter(data_type)], [value], len(wire)).tobytes() == wire


@pytest.mark.parametrize(
    ("value", "wire"),
    [(math.inf, "7f800000"), (-math.inf, "ff800000"), (1e39, "7f800000"), (math.nan, "7fc00000")],
)
def test_float32_keeps_what_is_not_a_number(value: float, wire: str) -> None:
    assert encoded([parameter("float32")], [value], 4).tobytes().hex() == wire
    back = decoded(parameter("float32"), bytes.fromhex(wire))
    assert math.isnan(back) if math.isnan(value) else back == math.copysign(math.inf, value)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (math.inf, "7ff0000000000000"),
        (-math.inf, "fff0000000000000"),
        (math.nan, "7ff8000000000000"),
        (5e-324, "0000000000000001"),
    ],
)
def test_float64_keeps_every_float(value: float, wire: str) -> None:
    assert encoded([parameter("float64")], [value], 8).tobytes().hex() == wire
    assert decoded(parameter("float64"), bytes.fromhex(wire)) == pytest.approx(value, rel=0, nan_ok=True)


@pytest.mark.parametrize(("data_type", "wire"), [("float32", "7f800001"), ("float64", "7ff0000000000001")])
def test_any_nan_that_a_plc_sends_decodes_quietly(data_type: str, wire: str) -> None:
    assert math.isnan(decoded(parameter(data_type), bytes.fromhex(wire)))


def test_64_bit_integers_are_exact_up_to_2_to_the_53_and_rounded_beyond() -> None:
    for data_type in ("int64", "uint64"):
        for raw in (EXACT - 1, EXACT):
            assert decoded(parameter(data_type), packed(data_type, "ABCD", raw)) == raw
        assert decoded(parameter(data_type), packed(data_type, "ABCD", EXACT + 1)) == EXACT
    assert decoded(parameter("uint64"), b"\xff" * 8) == 2.0**64
    assert decoded(parameter("int64"), b"\x7f" + b"\xff" * 7) == 2.0**63


@pytest.mark.parametrize(("data_type", "bits"), [("bool", 1), ("uint16", 16), ("uint32", 32)])
def test_coils_hold_the_least_significant_bit_first(data_type: str, bits: int) -> None:
    single = parameter(data_type, table=COIL)
    for value in (0, 1, 0x8000_0001 % 2**bits, 0x1234_5678 % 2**bits, 2**bits - 1):
        coils = [value >> bit & 1 for bit in range(bits)]
        assert encoded([single], [value], bits).tolist() == coils
        assert decoded(single, coils) == value


@pytest.mark.parametrize(("value", "coil"), [(0.4, 0), (0.6, 1), (7.0, 1), (-3.0, 0), (math.nan, 0)])
def test_a_coil_is_on_or_off(value: float, coil: int) -> None:
    assert encoded([parameter("bool", table=COIL)], [value], 1).tolist() == [coil]


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)])
def test_many_scans_are_coded_at_once(shape: tuple[int, ...]) -> None:
    parameters = [parameter("float32", "CDAB", 0), parameter("int16", "DCBA", 3)]
    codec = Codec(parameters, HOLDING, 0)
    values = np.arange(np.prod(shape) * 2, dtype=np.float64).reshape(*shape, 2)
    data = np.zeros((*shape, 8), dtype=np.uint8)
    codec.encode(values, data)
    assert np.array_equal(codec.decode(data), values)
    for scan, row in zip(data.reshape(-1, 8), values.reshape(-1, 2), strict=True):
        expected = packed("float32", "CDAB", row[0]) + b"\0\0" + packed("int16", "DCBA", row[1])
        assert scan.tobytes() == expected


@pytest.mark.parametrize("stranger", [parameter("bool", table=COIL), parameter("int16", address=9)])
def test_a_parameter_outside_of_the_block_is_refused(stranger: Parameter) -> None:
    with pytest.raises(ValueError, match=r"oven\.p"):
        Codec([stranger], HOLDING, 10)


def rows() -> st.SearchStrategy[list[Row]]:
    values: dict[str, st.SearchStrategy[float]] = {
        kind: st.integers(max(low, -EXACT), min(high, EXACT)) for kind, (low, high) in LIMITS.items()
    }
    values["float32"] = st.floats(width=32, allow_nan=False)
    values["float64"] = st.floats(allow_nan=False)
    return st.lists(
        st.sampled_from(list(FORMATS)).flatmap(
            lambda kind: st.tuples(st.just(kind), st.sampled_from(ByteOrder), st.integers(0, 3), values[kind])
        ),
        min_size=1,
        max_size=12,
    )


@settings(max_examples=100, deadline=None, database=None)
@given(rows=rows(), seed=st.integers(0, 99))
def test_any_block_is_what_struct_says_and_decodes_to_its_values(rows: list[Row], seed: int) -> None:
    placed, wire = [], b""
    for kind, order, gap, value in rows:
        wire += bytes(2 * gap)
        placed.append((parameter(kind, order, len(wire) // 2), float(value)))
        wire += packed(kind, order, value)
    shuffled = [placed[i] for i in np.random.default_rng(seed).permutation(len(placed))]
    parameters, values = [p for p, _ in shuffled], [value for _, value in shuffled]
    assert encoded(parameters, values, len(wire)).tobytes() == wire
    block = np.frombuffer(wire, dtype=np.uint8)
    assert Codec(parameters, HOLDING, 0).decode(block).tolist() == values
