"""What a parameter takes of its table, and what may be read between parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plcsim.parameters import AddressRange, DataType, Parameter, RegisterMap, Table

COIL, HOLDING, INPUT = Table.COIL, Table.HOLDING_REGISTER, Table.INPUT_REGISTER


def parameter(
    address: int, data_type: str = "uint16", table: Table = HOLDING, parameter_id: int = 1
) -> Parameter:
    return Parameter(parameter_id, "oven", f"p{address}", table, address, DataType(data_type))


@pytest.mark.parametrize(
    ("table", "data_type", "width"),
    [
        (Table.COIL, "bool", 1),
        (Table.DISCRETE_INPUT, "bool", 1),
        (Table.COIL, "uint16", 16),
        (Table.DISCRETE_INPUT, "uint32", 32),
        (Table.HOLDING_REGISTER, "int16", 1),
        (Table.HOLDING_REGISTER, "uint16", 1),
        (Table.INPUT_REGISTER, "int32", 2),
        (Table.INPUT_REGISTER, "uint32", 2),
        (Table.INPUT_REGISTER, "float32", 2),
        (Table.HOLDING_REGISTER, "bool", 1),
        (Table.INPUT_REGISTER, "int64", 4),
        (Table.INPUT_REGISTER, "uint64", 4),
        (Table.INPUT_REGISTER, "float64", 4),
        (Table.HOLDING_REGISTER, "bcd16", 1),
        (Table.HOLDING_REGISTER, "bcd32", 2),
    ],
)
def test_width_is_in_addresses_of_the_table(table: Table, data_type: str, width: int) -> None:
    taken = parameter(100, data_type, table)
    assert taken.width == width
    assert taken.end == 100 + width


@pytest.mark.parametrize(
    ("table", "is_bits", "is_writable", "max_read"),
    [
        (Table.COIL, True, True, 2000),
        (Table.DISCRETE_INPUT, True, False, 2000),
        (Table.HOLDING_REGISTER, False, True, 125),
        (Table.INPUT_REGISTER, False, False, 125),
    ],
)
def test_tables_are_those_of_modbus(table: Table, is_bits: bool, is_writable: bool, max_read: int) -> None:
    assert (table.is_bits, table.is_writable, table.max_read) == (is_bits, is_writable, max_read)


@pytest.mark.parametrize(
    ("parameters", "gaps", "runs"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([(4, "float32")], [], [(4, 2)], id="one value"),
        pytest.param([(0, "float32"), (2, "uint16")], [], [(0, 3)], id="neighbours join"),
        pytest.param([(2, "uint16"), (0, "float32")], [], [(0, 3)], id="in any order"),
        pytest.param([(0, "float32"), (3, "uint16")], [], [(0, 2), (3, 1)], id="a hole parts"),
        pytest.param([(0, "float32"), (5, "uint16")], [(2, 3)], [(0, 6)], id="a gap joins"),
        pytest.param([(0, "float32"), (5, "uint16")], [(2, 2)], [(0, 4), (5, 1)], id="too short"),
        pytest.param([(4, "uint16")], [(0, 2), (8, 2)], [(0, 2), (4, 1), (8, 2)], id="gaps alone"),
        pytest.param([(4, "uint16")], [(2, 8)], [(2, 8)], id="a gap over a value"),
        pytest.param([(9, "uint16")], [(0, 9), (3, 2)], [(0, 10)], id="a gap in a gap"),
    ],
)
def test_readable_runs_are_maximal_and_in_order(
    parameters: list[tuple[int, str]], gaps: list[tuple[int, int]], runs: list[tuple[int, int]]
) -> None:
    register_map = RegisterMap(
        tuple(parameter(address, data_type) for address, data_type in parameters),
        tuple(AddressRange(HOLDING, address, count) for address, count in gaps),
    )
    assert register_map.readable(HOLDING) == [AddressRange(HOLDING, *run) for run in runs]


@pytest.mark.parametrize(("length", "width"), [(1, 1), (2, 1), (3, 2), (16, 8), (250, 125)])
def test_a_string_takes_two_bytes_a_register(length: int, width: int) -> None:
    assert replace(parameter(0, "string"), length=length).width == width


def test_what_is_write_only_is_a_hole_to_reads_and_not_logged() -> None:
    command = replace(parameter(1, parameter_id=2), writable=True, readable=False)
    text = replace(parameter(2, "string", parameter_id=3), length=2)
    register_map = RegisterMap((parameter(0), command, text))
    assert register_map.readable(HOLDING) == [AddressRange(HOLDING, 0, 1), AddressRange(HOLDING, 2, 1)]
    assert [p.parameter_id for p in register_map.logged] == [1, 3]
    assert register_map.in_table(HOLDING) == [parameter(0), command, text]


def test_bits_of_a_register_are_in_order_and_read_as_one() -> None:
    bits = [replace(parameter(4, "bool", parameter_id=i), bit=bit) for i, bit in ((1, 7), (2, 0), (3, 15))]
    register_map = RegisterMap((*bits, parameter(5, parameter_id=4)))
    assert [p.bit for p in register_map.in_table(HOLDING)] == [0, 7, 15, None]
    assert register_map.readable(HOLDING) == [AddressRange(HOLDING, 4, 2)]


def test_tables_do_not_mix() -> None:
    register_map = RegisterMap(
        (
            parameter(7, "uint16", INPUT, 1),
            parameter(0, "uint32", COIL, 2),
            parameter(3, "float32", INPUT, 3),
        ),
        (AddressRange(HOLDING, 5, 2),),
    )
    assert register_map.readable(INPUT) == [AddressRange(INPUT, 3, 2), AddressRange(INPUT, 7, 1)]
    assert register_map.readable(COIL) == [AddressRange(COIL, 0, 32)]
    assert register_map.readable(HOLDING) == [AddressRange(HOLDING, 5, 2)]
    assert register_map.readable(Table.DISCRETE_INPUT) == []
    assert [p.parameter_id for p in register_map.in_table(INPUT)] == [3, 1]


def test_index_is_the_place_among_the_parameters() -> None:
    register_map = RegisterMap(tuple(parameter(i, parameter_id=i) for i in (3, 5, 9)))
    assert [register_map.index_of(i) for i in (3, 5, 9)] == [0, 1, 2]
    with pytest.raises(ValueError, match="4"):
        register_map.index_of(4)
