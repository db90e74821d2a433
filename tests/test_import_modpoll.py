"""Import of modpoll configurations: what comes over, what the report says, what is refused."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plcsim.config import DeviceConfig
from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.errors import ConfigError, InputError
from plcsim.importers.device_yaml import device_text
from plcsim.importers.modpoll import import_modpoll
from plcsim.importers.report import Report
from plcsim.parameters import ByteOrder, DataType, Table

METER = Path(__file__).parent / "import" / "meter.csv"
HEAD = "device,d,1\n"


def imported(path: Path, wanted: str | None = None) -> tuple[DeviceConfig, Report]:
    """The device that the imported file gives when it is loaded again."""
    draft, report = import_modpoll(path, wanted)
    device_file = path.with_suffix(".yaml")
    if path == METER:
        raise AssertionError("import a copy: tests write nothing here")
    device_file.write_text(device_text(draft, report), encoding="utf-8")
    return load_device(device_file), report


def written(folder: Path, text: str) -> Path:
    path = folder / "map.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def meter(tmp_path: Path) -> tuple[DeviceConfig, Report]:
    return imported(written(tmp_path, METER.read_text(encoding="utf-8")))


def test_a_small_meter_comes_over(meter: tuple[DeviceConfig, Report]) -> None:
    config, _ = meter
    assert (config.device.device_id, config.modbus.unit_id) == ("meter01", 7)
    shown = {
        p.name: (p.table.value, p.address, p.data_type.value, p.byte_order.value, p.scale, p.unit, p.writable)
        for p in config.register_map.parameters
    }
    assert shown["Voltage_L1"] == ("input_register", 0, "float32", "ABCD", 1.0, "V", False)
    assert shown["Active_Power"] == ("input_register", 10, "int32", "ABCD", 0.1, "W", False)
    assert shown["Energy"] == ("input_register", 12, "uint64", "ABCD", 0.001, "kWh", False)
    assert shown["Serial_Number"] == ("holding_register", 256, "string", "ABCD", 1.0, "", False)
    assert shown["Limit"] == ("holding_register", 264, "float32", "CDAB", 1.0, "A", True)
    assert shown["Outputs_7"] == ("coil", 39, "bool", "ABCD", 1.0, "", True)
    assert shown["Alarms_0"] == ("coil", 40, "bool", "ABCD", 1.0, "", False)
    assert len(shown) == 9 + 8 + 8


def test_what_a_poll_reads_stays_readable_and_in_one_group(meter: tuple[DeviceConfig, Report]) -> None:
    register_map = meter[0].register_map
    runs = {table: [(r.address, r.end) for r in register_map.readable(table)] for table in Table}
    assert runs[Table.INPUT_REGISTER] == [(0, 20)]
    assert runs[Table.HOLDING_REGISTER] == [(256, 280)]
    assert runs[Table.COIL] == [(32, 48)]
    assert register_map.consistent_groups == {"input_register 0", "holding_register 256", "coil 32"}


def test_the_report_names_line_and_reason(meter: tuple[DeviceConfig, Report]) -> None:
    report = meter[1]
    assert report.summary() == "11 of 13 refs imported; 2 left out; 2 remarks"
    assert list(report.lines()) == [
        "left out: line 9: Ratio: float16 is no type of a device file; its register is answered with 0",
        "left out: line 15: Window: 'unit16' is not a type of modpoll",
        "changed: line 17: Outputs: became 8 parameters, one a bit, from coil 32",
        "changed: line 18: Alarms: became 8 parameters, one a bit, from coil 40",
    ]


def test_the_emulated_meter_shows_plausible_values(meter: tuple[DeviceConfig, Report]) -> None:
    device = Device(meter[0])
    inputs = device.images[Table.INPUT_REGISTER].data
    assert inputs[:4] == bytes.fromhex("43660000")  # 230.0
    assert inputs[20:24] == (23_000).to_bytes(4, "big")  # 2300 W in steps of 0.1
    assert inputs[24:32] == (12_000_000).to_bytes(8, "big")  # 12000 kWh in steps of 0.001
    holding = device.images[Table.HOLDING_REGISTER].data[2 * 256 :]
    assert holding[:16] == b"Serial_Number\0\0\0"
    assert holding[16:20] == bytes.fromhex("00004120")  # 10.0, low register first


@pytest.mark.parametrize(
    ("code", "order"),
    [
        # what pymodbus 3.6 (modpoll's client) decodes from 0001 0203: 00010203, 02030001, 01000302, 03020100
        ("BE_BE", ByteOrder.ABCD),
        ("BE_LE", ByteOrder.CDAB),
        ("le_be", ByteOrder.BADC),
        ("LE_LE", ByteOrder.DCBA),
    ],
)
def test_byte_orders_are_those_of_modpoll(tmp_path: Path, code: str, order: ByteOrder) -> None:
    rows = f"poll,holding_register,0,10,{code}\nref,a,0,uint32,r\nref,b,2,int16,r\nref,c,3,string4,r\n"
    config, _ = imported(written(tmp_path, HEAD + rows))
    orders = {p.name: p.byte_order for p in config.register_map.parameters}
    assert orders == {"a": order, "b": order, "c": ByteOrder.ABCD}  # modpoll never swaps text


@pytest.mark.parametrize(
    ("poll", "ref", "reason"),
    [
        ("input_register,0,4,BE_BE", "x,zero,int16,r", "'zero': the address must be an integer"),
        ("input_register,0,4,BE_BE", "x,,int16,r", "'': the address must be an integer"),
        ("input_register,0,4,BE_BE", "x,4,int16,r", "4 lies outside of its poll (0 to 3)"),
        ("input_register,0,4,BE_BE", "x,3,int32,r", "3 to 4 lie outside of its poll (0 to 3)"),
        ("input_register,0,4,BE_BE", "x,-1,int16,r", "-1 lies outside of its poll (0 to 3)"),
        ("input_register,0,4,BE_BE", "x,0,int32,r", "overlaps first in input_register 0 to 1"),
        ("input_register,0,4,BE_BE", "x,1,,r", "'' is not a type of modpoll"),
        ("input_register,0,4,BE_BE", "x", "'': the address must be an integer"),
        ("input_register,0,4,BE_BE", "x,1,string999,r", "'string999': a string has 1 to 250 bytes"),
        ("input_register,0,4,BE_BE", "x,1,float16,r", "float16 is no type of a device file"),
        ("coil,0,16,BE_BE", "x,1,uint16,r", "'uint16' in a coil; there can be bool, bool8 and bool16"),
        ("coil,0,16,BE_BE", "x,2,bool8,r", "16 lies outside of its poll (0 to 15)"),
    ],
)
def test_a_ref_that_cannot_be_is_left_out_with_a_reason(
    tmp_path: Path, poll: str, ref: str, reason: str
) -> None:
    first = "ref,first,0,bool,r" if poll.startswith("coil") else "ref,first,0,int16,r"
    config, report = imported(written(tmp_path, f"{HEAD}poll,{poll}\n{first}\nref,{ref}\n"))
    assert [p.name for p in config.register_map.parameters] == ["first"]
    assert report.summary() == "1 of 2 refs imported; 1 left out"
    assert str(report.left_out[0]).startswith(f"line 4: x: {reason}")


@pytest.mark.parametrize(
    ("poll", "ref", "remark"),
    [
        ("input_register,0,4,BE_BE", "x,0,int16,rw", "a client cannot write input_registers; imported as r"),
        ("holding_register,0,4,BE_BE", "x,0,int16,w", "its poll reads a register of access w too"),
        ("holding_register,0,4,BE_BE", "x,0,int16,all", "'all' is not r, w or rw; imported as r"),
        ("holding_register,0,4,BE_BE", "x,0,int16,r,V,x10", "scale 'x10' is not a number other than 0"),
        ("holding_register,0,4,BE_BE", "x,0,int16,r,V,nan", "scale 'nan' is not a number other than 0"),
        ("holding_register,0,4,BE_BE", "x,0,int16,r,V,0", "scale '0' is not a number other than 0"),
        ("holding_register,0,4,BE_BE", "x,0,bool8,r", "bool8 in a register became uint16"),
        ("holding_register,0,4,BE_BE", "(x),0,int16,r", "is called 'x'"),
        ("coil,0,6,BE_BE", "x,0,bool8,r", "became 6 parameters, one a bit, from coil 0"),
    ],
)
def test_what_is_different_afterwards_is_said(tmp_path: Path, poll: str, ref: str, remark: str) -> None:
    _, report = imported(written(tmp_path, f"{HEAD}poll,{poll}\nref,{ref}\n"))
    assert report.summary() == "1 of 1 refs imported; 1 remark"
    assert remark in str(report.changed[0])


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    rows = "poll,holding_register,0,4,BE_BE\nref,a b,0,int16,r\nref,a_b,1,int16,r\nref,a b,2,int16,r\n"
    config, report = imported(written(tmp_path, HEAD + rows))
    assert [p.name for p in config.register_map.parameters] == ["a_b", "a_b_2", "a_b_3"]
    assert len(report.changed) == 2


def test_one_device_of_several(tmp_path: Path) -> None:
    one = "poll,coil,0,8,BE_BE\nref,a,0,bool,r\n"
    two = "poll,coil,0,8,BE_BE\nref,a,0,bool,r\nref,b,1,bool,r\n"
    path = written(tmp_path, f"{HEAD}{one}device,e,0x11\n{two}")
    config, report = imported(path, "e")
    assert (config.device.device_id, config.modbus.unit_id) == ("e", 17)
    assert report.summary() == "2 of 3 refs imported; 1 left out"
    with pytest.raises(InputError, match="has no device 'f'; there are 'd', 'e'"):
        import_modpoll(path, "f")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "map.csv: has no `device` row"),
        ("a;b;c\n", "map.csv:1: column 1: 'a;b;c': must be device, poll or ref, and commas"),
        ("poll,coil,0,1,BE_BE\n", "map.csv:1: column 1: 'poll': must come after a `device` row"),
        ("device,d\n", "map.csv:1: column 3: '': the unit id must be an integer, 0 to 255"),
        ("device,d,256\n", "map.csv:1: column 3: '256': the unit id must be an integer, 0 to 255"),
        (HEAD + "poll,coils,0,1,BE_BE\n", "map.csv:2: column 2: 'coils': must be one of coil, discrete_"),
        (HEAD + "poll,coil,70000,1,BE_BE\n", "map.csv:2: column 3: '70000': the address must be an integer"),
        (
            HEAD + "poll,coil,0,2001,BE_BE\n",
            "column 4: '2001': the size must be an integer, 1 to 2000",
        ),
        (HEAD + "poll,input_register,65535,2,BE_BE\n", "'2': the size must be an integer, 1 to 1"),
        (
            HEAD + "\n# x\npoll,coil,0,1\n",
            ":4: column 5: '': must be one of BE_BE, BE_LE, LE_BE, LE_LE",
        ),
        (HEAD + "ref,x,0,int16,r\n", "no ref can be imported; the first: line 2: x: stands before the first"),
        (HEAD + 'ref,"' + "x" * 200_000, "map.csv:2: is not CSV: field larger than field limit"),
        (HEAD + "poll,coil,\0,1,BE_BE\n", "map.csv:2: column 3: '\\x00': the address"),
    ],
)
def test_a_bad_file_is_one_line_with_line_value_and_what_is_right(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        import_modpoll(written(tmp_path, text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text_or_too_large_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        import_modpoll(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 0\)"):
        import_modpoll(path)
    with path.open("wb") as file:
        file.truncate(9_000_000)
    with pytest.raises(ConfigError, match="larger than 8,388,608 bytes"):
        import_modpoll(path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_obstacle(tmp_path: Path) -> None:
    rows = "poll,coil,0,8,BE_BE\r\nref,a,0,bool,r\r\n"
    path = tmp_path / "map.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"device,d,1\r\n{rows}".encode())
    assert imported(path)[1].taken == 1


CELLS = st.one_of(
    st.sampled_from([t.value for t in DataType] + ["float16", "bool8", "bool16", "string7", "string", ""]),
    st.sampled_from([*Table, "BE_BE", "le_le", "r", "rw", "w", "V", "kWh", "0.1", "1e400"]),
    st.integers(-3, 70).map(str),
    st.text(max_size=8),
)
REFS = st.tuples(
    st.text(max_size=70) | st.sampled_from(["a", "b"]),
    st.integers(-2, 70).map(str) | CELLS,
    st.sampled_from([*(t.value for t in DataType), "float16", "bool8", "bool16", "string7"]) | CELLS,
    CELLS,
    CELLS,
    CELLS,
)
POLLS = st.tuples(
    st.sampled_from([t.value for t in Table]),
    st.integers(0, 70).map(str),
    st.integers(1, 70).map(str),
    st.sampled_from(["BE_BE", "BE_LE", "LE_BE", "LE_LE"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(polls=st.lists(st.tuples(POLLS, st.lists(REFS, max_size=6)), max_size=4))
def test_imported_and_left_out_add_up_to_the_refs(
    tmp_path: Path, polls: list[tuple[tuple[str, ...], list[tuple[str, ...]]]]
) -> None:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["device", "d", "1"])
    rows.writerow(["poll", "coil", "0", "8", "BE_BE"])
    rows.writerow(["ref", "always", "0", "bool", "r"])
    for poll, refs in polls:
        rows.writerow(["poll", *poll])
        rows.writerows(["ref", *ref] for ref in refs)
    path = tmp_path / "map.csv"
    path.write_bytes(text.getvalue().encode("utf-8", errors="replace"))
    config, report = imported(path)
    assert report.total == report.taken + report.missed == 1 + sum(len(refs) for _, refs in polls)
    assert len(config.register_map.parameters) >= report.taken
    assert all("\n" not in line and line.isprintable() for line in report.lines())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.lists(CELLS | st.sampled_from(["device", "poll", "ref"]), max_size=8), max_size=12))
def test_any_file_gives_a_device_or_one_line(tmp_path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path = tmp_path / "map.csv"
    path.write_bytes(text.getvalue().encode("utf-8", errors="replace"))
    try:
        said = imported(path)[1].summary()
    except InputError as exc:
        said = str(exc)
    assert "\n" not in said
