"""Device files: what they give; an error names file, line, key, value and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from plcsim.device_file import load_device, parse_device
from plcsim.errors import ConfigError
from plcsim.parameters import ByteOrder

ALD = Path(__file__).parent.parent / "configs" / "ald.yaml"

OVEN = """\
device:
  device_id: oven-1
process:
  recipe: bake
  running: plc.running
  number: plc.number
  phases:
    - steps:
        - {name: heat, seconds: 2}
readable_gaps:
  - {table: input_register, address: 3, count: 2}
groups:
  - name: values
    table: input_register
    byte_order: CDAB
    parameters:
      - {id: 1, component: plc, name: running, address: 0, type: uint16,
         signal: {kind: process_running}}
      - {id: 2, component: plc, name: number, address: 1, type: uint32, byte_order: BADC,
         signal: {kind: process_number}}
      - {id: 3, component: oven, name: heat, address: 5, type: float32, setpoint: oven.target,
         signal: {kind: follow, during: [heat]}}
  - name: targets
    table: holding_register
    parameters:
      - {id: 4, component: oven, name: target, address: 0, type: float32, writable: true,
         signal: {kind: constant, value: 180}}
  - name: lamps
    table: coil
    parameters:
      - {id: 5, component: oven, name: lamp, address: 7, type: bool}
"""
LAMP = "31: groups[2].parameters[0]"
NUMBER = "19: groups[0].parameters[1]"
HEAT = "21: groups[0].parameters[2]"
HEAT_SIGNAL = "22: groups[0].parameters[2].signal"
TARGET = "26: groups[1].parameters[0]"
TARGET_SIGNAL = "27: groups[1].parameters[0].signal"
STEP = "9: process.phases[0].steps[0]"


def message_of(path: Path) -> str:
    """The one line that says what is wrong, without the path it must begin with."""
    with pytest.raises(ConfigError) as caught:
        load_device(path)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


def edited(folder: Path, old: str, new: str) -> Path:
    assert OVEN.count(old) == 1, f"{old!r} must stand once in the file"
    path = folder / "oven.yaml"
    path.write_text(OVEN.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        # keys
        ("address: 7", "adress: 7", f"{LAMP}.adress", "not a known key"),
        ("device_id: oven-1", "device_id: oven-1\n  ip: x", "3: device.ip", "not a known key"),
        ("value: 180", "value: 180, noise: 1", f"{TARGET_SIGNAL}.noise", "not a known key"),
        ("address: 7, ", "", f"{LAMP}.address", "is missing"),
        ("\n    table: coil", "", "28: groups[2].table", "is missing"),
        (", value: 180", "", f"{TARGET_SIGNAL}.value", "is missing"),
        ("kind: constant, ", "", TARGET_SIGNAL, "'kind' is missing"),
        ("address: 7", "address: 7, address: 8", "31: address", "twice"),
        ("recipe: bake", "recipe: a\n  recipe: b", "5: recipe", "twice"),
        # types
        ("address: 7", "address: seven", f"{LAMP}.address", "'seven' integer"),
        ("writable: true", "writable: 1", f"{TARGET}.writable", "1"),
        ("value: 180", "value: hot", f"{TARGET_SIGNAL}.value", "'hot' number"),
        ("value: 180", "value: .inf", f"{TARGET_SIGNAL}.value", "inf finite"),
        ("during: [heat]", "during: heat", f"{HEAT_SIGNAL}.during", "'heat' list"),
        ("{kind: constant, value: 180}", "180", TARGET_SIGNAL, "180"),
        ("name: lamp,", "name: on,", f"{LAMP}.name", "True"),
        ("name: lamp,", "name: lämp,", f"{LAMP}.name", "'lämp' letters, digits"),
        # one of
        ("CDAB", "CDBA", "15: groups[0].byte_order", "'CDBA' 'ABCD', 'BADC', 'CDAB', 'DCBA'"),
        ("BADC", "LITTLE", f"{NUMBER}.byte_order", "'LITTLE' 'BADC'"),
        ("bool", "real", f"{LAMP}.type", "'real' 'bool' 'int16' 'uint64' 'float64' 'bcd32' 'string'"),
        ("table: coil", "table: coils", "29: groups[2].table", "'coils' 'coil' 'input_register'"),
        ("kind: constant", "kind: cubic", TARGET_SIGNAL, "'cubic' 'constant' 'sine' 'plc_scan'"),
        # ranges
        ("address: 7", "address: -1", f"{LAMP}.address", "-1 0"),
        ("address: 7", "address: 65536", f"{LAMP}.address", "65536 65535"),
        ("target, address: 0", "target, address: 65535", f"{TARGET}.address", "65535 float32"),
        ("count: 2", "count: 65534", "11: readable_gaps[0].count", "65534 65535"),
        ("seconds: 2", "seconds: -3", f"{STEP}.seconds", "-3 0"),
        ("type: bool", "type: bool, scale: 0", f"{LAMP}.scale", "0 1"),
        ("type: bool", "type: bool, limits: [9, 1]", f"{LAMP}.limits", "9.0 1.0 lowest, highest"),
        # the parts of a device together
        ("address: 1,", "address: 0,", f"{NUMBER}.address", "0 plc.number overlaps plc.running"),
        ("id: 5", "id: 4", f"{LAMP}.id", "4 oven.target"),
        ("name: lamp,", "name: target,", f"{LAMP}.name", "'oven.target' already 4"),
        ("name: lamps", "name: values", "28: groups[2].name", "'values' already"),
        ("oven.target", "oven.goal", f"{HEAT}.setpoint", "'oven.goal' component.name"),
        ("oven.target", "oven.heat", f"{HEAT}.setpoint", "'oven.heat' another"),
        ("writable: true", "setpoint: oven.lamp", f"{HEAT}.setpoint", "'oven.target' setpoint"),
        (" setpoint: oven.target,", "", HEAT_SIGNAL, "'follow' setpoint"),
        ("type: uint16,", "type: uint16, writable: true,",
         "17: groups[0].parameters[0].writable", "input_register"),
        ("kind: constant, value: 180", "kind: noise, mean: 1, amplitude: 1",
         f"{TARGET}.writable", "'noise' 'constant'"),
        ("type: uint16", "type: bool", "17: groups[0].parameters[0].type", "'bool' coil"),
        ("type: bool", "type: float32", f"{LAMP}.type", "'float32' coil bool uint16"),
        ("address: 5", "address: 200", "13: groups[0].name", "'values' 202 125 split"),
        ("count: 2", "count: 1", "13: groups[0].name", "'values' input_register 4 readable_gaps"),
        ("running: plc.running", "running: plc.runs", "5: process.running", "'plc.runs'"),
        ("number: plc.number", "number: n", "6: process.number", "'n' component.name"),
        ("during: [heat]", "during: [cool]", HEAT_SIGNAL, "'cool' idle, heat"),
        ("kind: follow, during: [heat]", "kind: steps, levels: {cool: 1}",
         HEAT_SIGNAL, "'cool' idle, heat"),
        # YAML
        ("device_id: oven-1", "device_id: &a oven-1\n  name: *b", "3", "alias"),
        ("groups:", "groups: [", "13", "not YAML"),
        ("  recipe", "\trecipe", "4", "not YAML"),
        ("device_id: oven-1", "device_id: &a oven-1\n  name: *a", "3", "aliases"),
        ("recipe: bake", "recipe: 2026-02-31", "4", "2026-02-31"),
        ("recipe: bake", "recipe: !bake x", "4", "!bake"),
        ("recipe: bake", "recipe: bake\n  on: 1", "5: on", "text quotes"),
        ("seconds: 2", "seconds: .inf", f"{STEP}.seconds", "finite"),
        ("name: heat, s", 'name: "he\\nat", s', HEAT_SIGNAL, "'heat'"),
        ("address: 7", "address: 010", "31", "010 8"),
    ],
)  # fmt: skip
def test_an_error_names_line_key_value_and_what_is_right(
    tmp_path: Path, old: str, new: str, where: str, says: str
) -> None:
    message = message_of(edited(tmp_path, old, new))
    assert message.startswith(f"{where}: ")
    problem = message.removeprefix(f"{where}: ")
    assert [word for word in says.split() if word not in problem] == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("address: 7", "address: seven", "'seven': must be an integer"),
        ("address: 7", "address:", "nothing: must be an integer"),
        ("address: 7", "address: 65536", "65536: must be 65535 or less"),
        ("seconds: 2", "seconds: 0", "0: must be more than 0"),
        ("writable: true", "writable: 1", "1: must be true or false"),
        ("during: [heat]", "during: heat", "'heat': must be a list, [a, b]"),
        ("{kind: constant, value: 180}", "180", "180: must be a mapping, key: value"),
        ("parameters:\n      - {id: 5, component: oven, name: lamp, address: 7, type: bool}",
         "parameters: []", "a list: must have 1 or more entries"),
        ("name: lamp,", "name: on,", "True: must be text; put it in quotes"),
        ("value: 180", "value: 1e3", "'1e3': must be a number; write an exponent as 1.0e+3"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_explained_in_the_words_of_the_file(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert message_of(edited(tmp_path, old, new)).endswith(f": {problem}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "1: a mapping of keys is expected, found nothing"),
        (b"- 1\n- 2\n", "1: a mapping of keys is expected, found list"),
        (b"just words", "1: a mapping of keys is expected, found str"),
        (b"a: 1\n  b: 2\n", "2: is not YAML"),
        (b"\x7fELF\x02\x01\xff\xfe", " is not UTF-8 text (byte 6)"),
        (b"device: \x00\x01", " is not YAML"),
        (b"#" * (8 * 1024 * 1024 + 1), " the file is larger than 8,388,608 bytes"),
        (b"[" * 2000, " is nested too deeply"),
    ],
    ids=["empty", "list", "words", "not YAML", "binary", "zeros", "huge", "nested"],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "oven.yaml"
    path.write_bytes(content)
    assert message_of(path).startswith(says)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert message_of(tmp_path / "none.yaml") == " cannot be read: No such file or directory"
    assert message_of(tmp_path) == " cannot be read: Is a directory"


def test_a_parameter_has_what_its_group_says_unless_it_says_otherwise(tmp_path: Path) -> None:
    parameters = load_device(edited(tmp_path, "bake", "bake")).register_map.parameters
    assert [p.parameter_id for p in parameters] == [1, 2, 3, 4, 5]
    assert [p.byte_order for p in parameters] == [
        ByteOrder.CDAB, ByteOrder.BADC, ByteOrder.CDAB, ByteOrder.ABCD, ByteOrder.ABCD,
    ]  # fmt: skip
    assert [p.group for p in parameters] == ["values", "values", "values", "targets", "lamps"]
    assert [p.setpoint for p in parameters] == [None, None, 4, None, None]


def test_the_ald_machine_survives_the_way_through_the_database() -> None:
    config = load_device(ALD)
    assert len(config.register_map.parameters) == 84
    again = parse_device(config.to_json())
    assert again == config
    assert again.sha256 == config.sha256


def test_the_hash_tells_what_the_values_mean_and_not_where_they_are_read(tmp_path: Path) -> None:
    def sha256(old: str, new: str) -> str:
        return load_device(edited(tmp_path, old, new)).sha256

    same = sha256("bake", "bake")
    assert sha256("readable_gaps:", "modbus: {port: 1502}\nreadable_gaps:") == same
    assert sha256("value: 180", "value: 181") != same
    assert sha256("device_id: oven-1", "device_id: oven-1\n  seed: 1") != same


def test_a_value_that_no_single_request_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "oven.yaml"
    wide = OVEN.replace("type: bool", "type: uint32").replace(
        "name: lamps", "name: lamps\n    consistent: false"
    )
    path.write_text(wide + "modbus: {max_coils: 16}\n", encoding="utf-8")
    message = message_of(path)
    assert "groups[2].parameters[0].type: 'uint32' takes 32 addresses" in message
    assert "at most 16" in message
