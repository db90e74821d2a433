"""What all importers share: names, default signals within their type, runs, gaps, YAML that reads back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from plcsim.config import Name
from plcsim.device_file import load_device
from plcsim.importers.defaults import raw_limits, scale_factor_for, signal_for, text
from plcsim.importers.device_yaml import device_text, scalar
from plcsim.importers.draft import Draft, Entry, Gap, Group, Names, clean_name, gaps_between, split_runs
from plcsim.importers.report import Report, printable
from plcsim.parameters import DataType, Table
from plcsim.signals import SignalField

HOLDING = Table.HOLDING_REGISTER
INTEGERS = [t for t in DataType if t.is_integer]
UNITS = ["V", "kWh", "Wh", "°C", "Hz", "W", "MW", "%", "varh", "ppm", "Pa"]


def entry(address: int, data_type: DataType = DataType.UINT16, length: int | None = None) -> Entry:
    signal = text("x", 1) if length else {"kind": "constant", "value": 0}
    return Entry("c", f"at_{address}", HOLDING, address, data_type, signal, length=length)


@given(st.text() | st.sampled_from(["yes", "Null", "1e3", "0x10", "12:30", "a: b", "- a", "", "#", "~", "é"]))
def test_text_reads_back_from_yaml(value: str) -> None:
    expected = re.sub("[\ud800-\udfff]", "\ufffd", value)
    assert yaml.safe_load(f"{{key: {scalar(value)}}}") == {"key": expected}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60) | st.booleans())
def test_numbers_read_back_from_yaml(value: float) -> None:
    read = yaml.safe_load(f"{{key: {scalar(value)}}}")["key"]
    assert read == value
    assert isinstance(read, int | float)


@given(st.text(max_size=200))
def test_a_clean_name_is_one_that_a_device_file_takes(value: str) -> None:
    name = clean_name(value)
    assert TypeAdapter(Name).validate_python(name) == name
    assert clean_name(name) == name


@given(st.lists(st.sampled_from(["a", "a_2", "b", "x" * 63]), max_size=30))
def test_names_are_given_out_once(wished: list[str]) -> None:
    names = Names()
    given_out = [names.unique(name) for name in wished]
    assert len(set(given_out)) == len(wished)
    assert all(len(name) <= 63 for name in given_out)


@given(
    unit=st.sampled_from(UNITS),
    data_type=st.sampled_from(INTEGERS),
    scale=st.sampled_from([1.0, 0.1, 0.001, 10.0, 1000.0, -0.1, 1e-9, 1e9]),
    null_value=st.sampled_from([None, 0]),
    fixed=st.booleans(),
)
def test_a_default_signal_fits_its_type_and_shows(
    unit: str, data_type: DataType, scale: float, null_value: int | None, fixed: bool
) -> None:
    values = signal_for("x", unit, data_type, scale, fixed=fixed, null_value=null_value)
    assert values is not None
    TypeAdapter(SignalField).validate_python(values)
    low, high = {
        "constant": lambda s: (s["value"], s["value"]),
        "sine": lambda s: (s["mean"] - s["amplitude"], s["mean"] + s["amplitude"]),
        "ramp": lambda s: (s["start"], s["end"]),
    }[values["kind"]](values)
    least, most = raw_limits(data_type)
    raw = sorted((low / scale, high / scale))
    assert least <= raw[0] <= raw[1] <= most
    assert null_value is None or not raw[0] <= null_value <= raw[1]
    assert fixed or raw[1] - raw[0] >= 2


@pytest.mark.parametrize(
    ("name", "unit", "mean"),
    [
        ("Voltage L1", "V", 230),
        ("LINE_1_TO_LINE_2_VOLTS", "V", 400),
        ("PPVphAB", "V", 400),
        ("power factor", "", 0.95),
        ("PF", "Pct", 95),
        ("Cabinet Temperature", "°C", 35),
    ],
)
def test_units_and_names_suggest_values(name: str, unit: str, mean: float) -> None:
    values = signal_for(name, unit, DataType.FLOAT32, 1.0)
    assert values is not None
    assert values["mean"] == mean


def test_nothing_suggests_nothing() -> None:
    assert signal_for("x", "", DataType.FLOAT32, 1.0) is None
    assert scale_factor_for("furlong") == 0


def test_text_is_cut_to_its_bytes() -> None:
    assert text("Zähler\n1", 6) == {"kind": "text", "value": "Z?hler"}


def test_runs_are_cut_where_a_request_ends() -> None:
    entries = [entry(0), entry(10, DataType.UINT32), entry(124), entry(125), entry(300, DataType.STRING, 250)]
    runs = [[e.address for e in run] for run in split_runs(reversed(entries), 125)]
    assert runs == [[0, 10, 124], [125], [300]]


def test_gaps_are_what_is_answered_and_holds_nothing() -> None:
    entries = [entry(2, DataType.UINT32), entry(65535)]
    gaps = list(gaps_between(HOLDING, [range(6), range(4, 8), range(65534, 65536)], entries))
    assert gaps == [Gap(HOLDING, 0, 2), Gap(HOLDING, 4, 4), Gap(HOLDING, 65534, 1)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=30))
def test_whatever_a_source_says_stays_text_in_the_file(tmp_path: Path, said: str) -> None:
    report = Report("refs")
    report.take()
    report.leave_out(said, said)
    placed = Entry(
        "c", "n", HOLDING, 1, DataType.INT16, {"kind": "constant", "value": 1}, unit=said, comment=said
    )
    draft = Draft("d", said, said, 1, [Group("g", HOLDING, [placed])])
    path = tmp_path / "device.yaml"
    path.write_text(device_text(draft, report), encoding="utf-8")
    config = load_device(path)
    (parameter,) = config.register_map.parameters
    assert (parameter.address, parameter.unit) == (1, re.sub("[\ud800-\udfff]", "\ufffd", said))


def test_long_remarks_and_many_of_them_are_cut_in_the_file_only() -> None:
    report = Report("refs")
    for number in range(250):
        report.leave_out(f"line {number}", "x" * 1000)
    content = device_text(Draft("d", "d", "o", 1, [Group("g", HOLDING, [entry(0)])]), report)
    assert "#   ... and 50 more\n" in content
    assert max(map(len, content.splitlines())) < 330
    assert len(list(report.lines())) == 250
    assert printable("a\tb\u2028c") == "a\\tb\\u2028c"
    assert report.missed == 250
