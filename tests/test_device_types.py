"""Data types, access and notations in device files: what they give, and how each mistake is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plcsim.device_file import load_device, parse_device
from plcsim.errors import ConfigError
from plcsim.parameters import AddressRange, DataType, Table

METER = """\
device: {device_id: meter-1}
readable_gaps:
  - {table: holding_register, address: 40, count: 2, answer: junk}
groups:
  - name: values
    table: input_register
    parameters:
      - {id: 1, component: grid, name: energy, address: 0, type: uint64, null_value: 0xFFFFFFFFFFFFFFFF,
         signal: {kind: missing}}
      - {id: 2, component: grid, name: power, address: 4, type: float64, byte_order: CDAB}
      - {id: 3, component: grid, name: tariff, address: 8, type: bcd16, null_value: 0xFFFF}
      - {id: 4, component: lamp, name: red, address: 9, type: bool, bit: 0}
      - {id: 5, component: lamp, name: green, address: 9, type: bool, bit: 15}
      - {id: 6, component: meter, name: maker, address: 10, type: string, length: 8,
         signal: {kind: text, value: Fronius}}
  - name: commands
    table: holding_register
    consistent: false
    parameters:
      - {id: 7, component: meter, name: reset, address: 30, type: uint16, writable: true, readable: false}
      - {id: 8, component: meter, name: limit, address: 31, type: int16, writable: true, null_value: -32768}
  - name: coils
    table: coil
    parameters:
      - {id: 9, component: lamp, name: blue, address: 1, type: bool}
"""
ENERGY, ENERGY_SIGNAL = "8: groups[0].parameters[0]", "9: groups[0].parameters[0].signal"
POWER, TARIFF = "10: groups[0].parameters[1]", "11: groups[0].parameters[2]"
RED, GREEN = "12: groups[0].parameters[3]", "13: groups[0].parameters[4]"
MAKER, MAKER_SIGNAL = "14: groups[0].parameters[5]", "15: groups[0].parameters[5].signal"
RESET, LIMIT = "20: groups[1].parameters[0]", "21: groups[1].parameters[1]"
BLUE = "25: groups[2].parameters[0]"
GAP = "3: readable_gaps[0]"


def edited(folder: Path, *edits: tuple[str, str]) -> Path:
    text = METER
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} must stand once in the file"
        text = text.replace(old, new)
    path = folder / "meter.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_device(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}:")


def test_every_type_is_loaded_and_survives_the_database(tmp_path: Path) -> None:
    config = load_device(edited(tmp_path))
    assert parse_device(config.to_json()) == config
    assert parse_device(config.to_json()).sha256 == config.sha256
    energy, power, tariff, red, green, maker, reset, limit, _ = config.register_map.parameters
    assert (energy.data_type, energy.null_value, energy.width) == (DataType.UINT64, 2**64 - 1, 4)
    assert (power.data_type, power.width) == (DataType.FLOAT64, 4)
    assert (tariff.data_type, tariff.null_value) == (DataType.BCD16, 0xFFFF)
    assert (red.bit, green.bit, red.address, green.address) == (0, 15, 9, 9)
    assert (maker.length, maker.width) == (8, 4)
    assert (reset.readable, limit.readable, limit.null_value) == (False, True, -32768)
    assert [p.parameter_id for p in config.register_map.logged] == [1, 2, 3, 4, 5, 6, 8, 9]
    assert config.register_map.junk_gaps == (AddressRange(Table.HOLDING_REGISTER, 40, 2),)


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        # bits
        ("address: 9, type: bool, bit: 0}", "address: 20, type: bool}", f"{RED}.type",
         "'bool' lies in a coil or discrete_input, or in one bit of a register; in input_registers say which "
         "with bit: 0 to 15 (0 is the least significant)"),
        ("bit: 15", "bit: 16", f"{GREEN}.bit", "16: must be 15 or less"),
        ("bit: 15", "bit: -1", f"{GREEN}.bit", "-1: must be 0 or more"),
        ("bit: 15", "bit: 0", f"{GREEN}.bit", "0: lamp.red is that bit of input_register 9"),
        ("address: 9, type: bool, bit: 15", "address: 9, type: uint16", f"{GREEN}.address",
         "9: lamp.green overlaps lamp.red, which takes input_register 9 to 9"),
        ("address: 9, type: bool, bit: 15", "address: 8, type: bool, bit: 15", f"{GREEN}.address",
         "8: lamp.green overlaps grid.tariff, which takes input_register 8 to 8"),
        ("bit: 15", "bit: 15, byte_order: BADC", f"{GREEN}.byte_order",
         "lamp.green and lamp.red share input_register 9, which is read and written as a whole: they must "
         "say the same"),
        ("address: 4, type: float64", "address: 4, type: float64, bit: 1", f"{POWER}.bit",
         "1: only a 'bool' in a register has one; this is 'float64' in input_registers"),
        ("address: 1, type: bool", "address: 1, type: bool, bit: 0", f"{BLUE}.bit",
         "0: only a 'bool' in a register has one; this is 'bool' in coils"),
        # strings
        ("string, length: 8", "string", f"{MAKER}.type",
         "'string' needs a length: the most bytes that its text may have"),
        ("length: 8", "length: 0", f"{MAKER}.length", "0: must be 1 or more"),
        ("length: 8", "length: 251", f"{MAKER}.length", "251: must be 250 or less"),
        ("type: float64", "type: float64, length: 8", f"{POWER}.length",
         "8: only a 'string' has one; this is 'float64' in input_registers"),
        ("length: 8", "length: 8, scale: 1.0", f"{MAKER}.scale", "a string is no number and cannot have it"),
        ("length: 8", "length: 8, offset: 2", f"{MAKER}.offset", "a string is no number and cannot have it"),
        ("length: 8", "length: 8, limits: [0, 1]", f"{MAKER}.limits",
         "a string is no number and cannot have it"),
        ("length: 8", "length: 8, null_value: 0", f"{MAKER}.null_value",
         "a string is no number and cannot have it"),
        ("length: 8", "length: 8, setpoint: grid.power", f"{MAKER}.setpoint",
         "a string is no number and cannot have it"),
        ("byte_order: CDAB", "setpoint: meter.maker", f"{POWER}.setpoint",
         "'meter.maker' is a string; a set value is a number"),
        ("value: Fronius", "value: Fronius-1", MAKER_SIGNAL, "'Fronius-1' has 9 bytes; the length is 8"),
        ("value: Fronius", "value: °°°°°", MAKER_SIGNAL, "'°°°°°' has 10 bytes; the length is 8"),
        ("value: Fronius", 'value: "a\\0b"', MAKER_SIGNAL, "'a\\x00b' has a NUL, which would end it"),
        ("kind: text, value: Fronius", "kind: constant, value: 1", MAKER_SIGNAL,
         "'constant' is no signal of a 'string': strings have 'text', and only they"),
        ("kind: missing", "kind: text, value: x", ENERGY_SIGNAL,
         "'text' is no signal of a 'uint64': strings have 'text', and only they"),
        ("type: bool}", "type: string, length: 2}", f"{BLUE}.type",
         "'string' cannot lie in a coil; use bool, or uint16 or uint32 over 16 or 32 of them"),
        ("type: bool}", "type: uint64}", f"{BLUE}.type",
         "'uint64' cannot lie in a coil; use bool, or uint16 or uint32 over 16 or 32 of them"),
        # null values
        ("byte_order: CDAB", "null_value: 0", f"{POWER}.null_value",
         "0: only integers and BCD in registers have one; a float has NaN"),
        ("bit: 15", "bit: 15, null_value: 1", f"{GREEN}.null_value",
         "1: only integers and BCD in registers have one; this is 'bool' in input_registers"),
        ("type: bool}", "type: uint16, null_value: 1}", f"{BLUE}.null_value",
         "1: only integers and BCD in registers have one; this is 'uint16' in coils"),
        ("bcd16, null_value: 0xFFFF", "bcd16, null_value: 0x10000", f"{TARIFF}.null_value",
         "65536 does not fit the bits of 'bcd16': 0x0000 to 0xFFFF"),
        ("bcd16, null_value: 0xFFFF", "bcd16, null_value: -1", f"{TARIFF}.null_value",
         "-1 does not fit the bits of 'bcd16': 0x0000 to 0xFFFF"),
        ("null_value: -32768", "null_value: -32769", f"{LIMIT}.null_value",
         "-32769 does not fit the bits of 'int16': 0x0000 to 0xFFFF (or -32768 to 32767)"),
        ("null_value: 0xFFFFFFFFFFFFFFFF", "null_value: 0x1FFFFFFFFFFFFFFFF", f"{ENERGY}.null_value",
         "36893488147419103231 does not fit the bits of 'uint64': 0x0000000000000000 to 0xFFFFFFFFFFFFFFFF"),
        ("null_value: -32768", "null_value: 1.5", f"{LIMIT}.null_value", "1.5: must be an integer"),
        ("null_value: 0xFFFFFFFFFFFFFFFF", "scale: 1.0", ENERGY_SIGNAL,
         "'missing' needs a null_value: a 'uint64' without one would read as 0"),
        # access
        ("bcd16, null_value: 0xFFFF", "bcd16, readable: false", f"{TARIFF}.readable",
         "nobody could use it: false needs writable: true (a write-only parameter)"),
        ("\n    consistent: false", "", "16: groups[1].name", None),
        ("address: 40, count: 2", "address: 29, count: 2", f"{GAP}.address",
         "holding_register 30 is meter.reset, which cannot be read (readable: false)"),
        ("answer: junk", "answer: random", f"{GAP}.answer", "'random' is not one of 'zeros', 'junk'"),
        ("address: 40, count: 2", "address: 65536, count: 2", f"{GAP}.address",
         "65536: must be 65535 or less"),
        ("device: {", "address_base: 2\ndevice: {", "1: address_base", "2 is not one of 0, 1, 'reference'"),
        ("device: {", "address_base: true\ndevice: {", "1: address_base",
         "True is not one of 0, 1, 'reference'"),
    ],
)  # fmt: skip
def test_each_mistake_is_refused_with_its_place_and_what_is_right(
    tmp_path: Path, old: str, new: str, where: str, says: str | None
) -> None:
    path = edited(tmp_path, (old, new))
    if says is None:
        load_device(path)
    else:
        assert message_of(path) == f"{where}: {says}"


def test_bits_of_a_register_are_written_by_all_or_none(tmp_path: Path) -> None:
    path = edited(
        tmp_path,
        ("address: 31, type: int16, writable: true, null_value: -32768", "address: 31, type: bool, bit: 1"),
        ("type: uint16, writable: true, readable: false",
         "type: bool, bit: 2, writable: true"),
        ("address: 30", "address: 31"),
    )  # fmt: skip
    assert message_of(path) == (
        "20: groups[1].parameters[0].writable: meter.reset and meter.limit share holding_register 31, which "
        "is read and written as a whole: they must say the same"
    )


def test_a_consistent_group_cannot_be_read_over_a_write_only_parameter(tmp_path: Path) -> None:
    between = edited(
        tmp_path,
        ("\n    consistent: false", ""),
        ("type: int16, writable: true, null_value: -32768}", "type: int16}\n"
         "      - {id: 10, component: meter, name: first, address: 29, type: int16}"),
    )  # fmt: skip
    assert message_of(between) == (
        "16: groups[1].name: 'commands' cannot be read in one request: holding_register 30 is meter.reset, "
        "which cannot be read (readable: false): say consistent: false, or split the group"
    )


def test_a_process_is_seen_by_numbers_that_can_be_read(tmp_path: Path) -> None:
    for key, name in (("running", "meter.reset"), ("number", "meter.maker")):
        names = {"running": "grid.power", "number": "grid.power", key: name}
        process = f"process: {{recipe: r, running: {names['running']}, number: {names['number']}}}"
        path = edited(tmp_path, ("groups:", f"{process}\ngroups:"))
        assert message_of(path) == f"4: process.{key}: {name!r} must be a number that can be read"


def in_notation(folder: Path, base: object, shift: dict[str, int]) -> Path:
    """The meter with every address moved by what its table says."""
    lines, table = [], ""
    for line in METER.splitlines():
        if found := re.search(r"\btable: (\w+)", line):
            table = found[1]
        if "address: " in line:
            before, _, rest = line.partition("address: ")
            address, _, rest = rest.partition(",")
            line = f"{before}address: {int(address) + shift[table]},{rest}"
        lines.append(line)
    path = folder / "shifted.yaml"
    path.write_text(f"address_base: {base}\n" + "\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("base", "shift"),
    [
        (0, {"coil": 0, "input_register": 0, "holding_register": 0}),
        (1, {"coil": 1, "input_register": 1, "holding_register": 1}),
        ("reference", {"coil": 1, "input_register": 30001, "holding_register": 40001}),
        ("reference", {"coil": 1, "input_register": 300001, "holding_register": 400001}),
    ],
)
def test_a_map_is_the_same_in_every_notation(tmp_path: Path, base: object, shift: dict[str, int]) -> None:
    plain = load_device(edited(tmp_path))
    config = load_device(in_notation(tmp_path, base, shift))
    assert config.register_map == plain.register_map
    assert parse_device(config.to_json()) == config
    assert config.sha256 != plain.sha256


@pytest.mark.parametrize(
    ("base", "old", "new", "says"),
    [
        ("reference", "30005", "40005",
         "11: groups[0].parameters[1].address: 40005 is no input_register by its reference number: "
         "30001 to 39999, or 300001 to 365536"),
        ("reference", "30009", "30008",
         "12: groups[0].parameters[2].address: 30008: grid.tariff overlaps grid.power, which takes "
         "input_register 30005 to 30008"),
        ("reference", "30005", "365536",
         "11: groups[0].parameters[1].address: 365536: the float64 would end behind address 365536"),
        ("reference", "30011", "30012",
         "6: groups[0].name: 'values' cannot be read in one request: input_register 30011 is a hole; list it "
         "in readable_gaps if the device answers it, or split the group"),
        ("reference", "30011", "30200",
         "6: groups[0].name: 'values' takes 203 addresses (30001 to 30203); one request reads at most 125: "
         "split the group, or say consistent: false"),
        ("reference", "40041", "1",
         "4: readable_gaps[0].address: 1 is no holding_register by its reference number: 40001 to 49999, "
         "or 400001 to 465536"),
    ],
)  # fmt: skip
def test_messages_speak_in_the_notation_of_the_file(
    tmp_path: Path, base: object, old: str, new: str, says: str
) -> None:
    path = in_notation(tmp_path, base, {"coil": 1, "input_register": 30001, "holding_register": 40001})
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert message_of(path) == says
