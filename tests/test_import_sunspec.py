"""Import of SunSpec models; the judge is pysunspec2, the SunSpec Alliance's own client."""

from __future__ import annotations

import copy
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sunspec2.modbus.client as sunspec_client
from fix_emulator import Emulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plcsim.config import DeviceConfig
from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.errors import ConfigError, InputError
from plcsim.importers.device_yaml import device_text
from plcsim.importers.report import Report
from plcsim.importers.sunspec import SunSpecOptions, import_sunspec
from plcsim.parameters import Table

BATTERY = Path(__file__).parent / "import" / "battery.json"
PUBLIC = Path(sunspec_client.__file__).parent.parent / "models" / "json"
"""The models of github.com/sunspec/models, as pysunspec2 brings them."""
EVERY_MODEL = sorted(int(path.stem.removeprefix("model_")) for path in PUBLIC.glob("model_*.json"))


def imported(folder: Path, *paths: Path, **options: Any) -> tuple[DeviceConfig, Report]:
    """The device that the imported file gives when it is loaded again; the file is device.yaml."""
    draft, report = import_sunspec(paths, SunSpecOptions(**options))
    device_file = folder / "device.yaml"
    device_file.write_text(device_text(draft, report), encoding="utf-8")
    return load_device(device_file), report


def model(number: int) -> Path:
    return PUBLIC / f"model_{number}.json"


def registers(config: DeviceConfig, address: int, count: int) -> list[int]:
    """Holding registers as the emulated device shows them at its first PLC scan."""
    data = Device(config).images[Table.HOLDING_REGISTER].data[2 * address : 2 * (address + count)]
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


def places(config: DeviceConfig) -> dict[str, int]:
    return {p.full_name: p.address for p in config.register_map.parameters}


def test_the_chain_has_marker_ids_lengths_and_end(tmp_path: Path) -> None:
    config, report = imported(tmp_path, model(1), model(103))
    shown = registers(config, 40000, 124)
    assert shown[:4] == [0x5375, 0x6E53, 1, 66]
    assert shown[70:72] == [103, 50]
    assert shown[122:] == [0xFFFF, 0]
    assert report.summary().startswith("53 of 54 points imported; 1 left out")
    assert [str(remark) for remark in report.left_out] == [
        "common.Pad: padding, not a value; its register is answered with 0"
    ]


def test_not_implemented_looks_as_sunspec_says(tmp_path: Path) -> None:
    config, _ = imported(tmp_path, BATTERY)
    shown, at = registers(config, 40000, 45), places(config)
    assert shown[at["battery.Evt"] - 40000 :][:2] == [0xFFFF, 0xFFFF]
    assert shown[at["battery.Mac"] - 40000 :][:4] == [0, 0xFFFF, 0xFFFF, 0xFFFF]
    assert math.isnan(as_float32(shown[at["battery.SoH"] - 40000 :][:2]))
    nulls = {p.name: p.null_value for p in config.register_map.parameters}
    assert (nulls["A"], nulls["V"], nulls["Wh"], nulls["SoH"]) == (0x8000, 0xFFFF, 0, None)


def as_float32(pair: list[int]) -> float:
    return float(struct.unpack(">f", struct.pack(">HH", *pair))[0])


def test_scale_factors_are_folded_and_served(tmp_path: Path) -> None:
    config, report = imported(tmp_path, BATTERY)
    scales = {p.full_name: p.scale for p in config.register_map.parameters}
    assert (scales["battery.V"], scales["battery.A"], scales["battery.string_1.V"]) == (0.1, 0.1, 0.1)
    at = places(config)["battery.V_SF"]
    assert registers(config, at, 1) == [0xFFFF]  # -1
    assert "battery.V_SF: -1 is a guess" in "\n".join(report.lines())


@pytest.mark.parametrize("name", ["V_SF", "64900.V_SF"])
def test_a_given_scale_factor_is_no_guess(tmp_path: Path, name: str) -> None:
    config, report = imported(tmp_path, BATTERY, scale_factors={name: -2})
    assert {p.scale for p in config.register_map.parameters if p.name == "V"} == {0.01}
    assert registers(config, places(config)["battery.V_SF"], 1) == [0xFFFE]
    assert "V_SF" not in "\n".join(report.lines())


def test_an_unknown_scale_factor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--scale-factor X_SF: no model has a scale factor of this name"):
        imported(tmp_path, BATTERY, scale_factors={"X_SF": 1})


def test_repeating_groups_come_as_often_as_asked_and_are_counted(tmp_path: Path) -> None:
    config, report = imported(tmp_path, BATTERY, repeats=3)
    at = places(config)
    assert [at[f"battery.string_{n}.V"] for n in (1, 2, 3)] == [40040, 40042, 40044]
    assert registers(config, at["battery.NStr"], 1) == [3]
    assert report.total == 16 + 3 * 2
    assert "battery.string: repeats as often as the device says; imported 3 times" in "\n".join(
        report.lines()
    )


def test_a_model_longer_than_a_request_is_cut_into_groups(tmp_path: Path) -> None:
    config, _ = imported(tmp_path, model(160), repeats=20)
    groups: dict[str, list[tuple[int, int]]] = {}
    for p in config.register_map.parameters:
        groups.setdefault(p.group, []).append((p.address, p.end))
    assert all(max(e for _, e in g) - min(s for s, _ in g) <= 125 for g in groups.values())
    assert len(groups) > 4
    runs = config.register_map.readable(Table.HOLDING_REGISTER)
    assert [run.address for run in runs] == [40000]


def test_names_that_a_model_chooses_badly_stay_apart(tmp_path: Path) -> None:
    points = [{"name": name, "type": "uint16", "size": 1} for name in ("ID", "L", "marker", "a.b", "a_b")]
    inner_group = {"name": "a", "type": "group", "points": [{"name": "b", "type": "uint16", "size": 1}]}
    paths = []
    for number, name in enumerate(["sunspec", "end", "marker", "sunspec"], 64900):
        paths.append(tmp_path / f"{number}.json")
        group = {"name": name, "type": "group", "points": points, "groups": [inner_group]}
        paths[-1].write_text(json.dumps({"id": number, "group": group}), encoding="utf-8")
    config, report = imported(tmp_path, *paths)
    assert report.taken == 4 * 6
    called = [str(remark) for remark in report.changed[:2]]
    assert called == ["sunspec_2.a.b: is called 'a_b'", "sunspec_2.a_b: is called 'a_b_2'"]
    names = [group.name for group in config.groups]
    assert names == ["marker", "sunspec_2", "end", "marker_2", "sunspec_3", "end_2"]


def test_names_of_values_stand_in_comments(tmp_path: Path) -> None:
    imported(tmp_path, BATTERY)
    text = (tmp_path / "device.yaml").read_text()
    assert "# St, values: 0 OFF, 1 ON, 2 FAULT\n" in text
    assert "# Evt, bits: 0 HOT\n" in text


@pytest.mark.parametrize("number", EVERY_MODEL)
def test_every_public_model_comes_over(tmp_path: Path, number: int) -> None:
    config, report = imported(tmp_path, model(number))
    assert report.taken == len(config.register_map.parameters) - 3  # marker, end id, end length
    runs = config.register_map.readable(Table.HOLDING_REGISTER)
    assert len(runs) == 1  # no hole: a client reads model by model
    length = registers(config, 40003, 1)[0]
    assert runs[0].end == 40002 + 2 + length + 2


def scanned(emulator: Emulator) -> sunspec_client.SunSpecModbusClientDeviceTCP:
    """What pysunspec2 finds when it scans the device."""
    client = sunspec_client.SunSpecModbusClientDeviceTCP(
        slave_id=1, ipaddr="127.0.0.1", ipport=emulator.port, timeout=10
    )
    try:
        client.scan()
    finally:
        client.close()
    return client


def test_a_sunspec_client_reads_the_imported_chain(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    numbers = [1, 103, 160, 213, 705, 804]
    imported(tmp_path, *map(model, numbers), repeats=2)
    client = scanned(start_emulator(tmp_path / "device.yaml"))
    found = {number: client.models[number][0] for number in client.models if isinstance(number, int)}
    assert list(found) == numbers
    assert [each.error_info for each in found.values()] == [""] * len(numbers)
    assert found[1].Mn.value == "Manufacturer"
    assert 220 < found[103].PhVphA.cvalue < 240
    assert 390 < found[103].PPVphAB.cvalue < 410
    assert found[103].EvtVnd1.value is None
    assert [len(found[160].module), len(found[705].Crv), len(found[705].Crv[1].Pt)] == [2, 2, 2]
    assert 45 < found[213].Hz.cvalue < 55  # float32
    assert len(found[804].lithium_ion_string_module) == 2


def broken(change: Callable[[dict[str, Any]], Any]) -> Any:
    """The battery after a change to it, or to what the change returns."""
    data = json.loads(BATTERY.read_text(encoding="utf-8"))
    changed = change(data)
    return data if changed is None else changed


def point(data: dict[str, Any], index: int) -> dict[str, Any]:
    found: dict[str, Any] = data["group"]["points"][index]
    return found


def inner(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["group"]["groups"][0]
    return found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: [], "a mapping of keys is expected, found list"),
        (lambda d: d.pop("id"), "id: is missing"),
        (lambda d: d.update(id=65535), "id: 65535: must be 65534 or less"),
        (lambda d: d.update(id="1"), "id: '1': must be an integer"),
        (lambda d: d.update(group=[]), "group: a list: must be a mapping"),
        (lambda d: d["group"].update(points={}), "group.points: a mapping: must be a list"),
        (lambda d: d["group"].update(points=[]), "group.points: must begin with ID and L"),
        (lambda d: d["group"]["points"].pop(0), "group.points: must begin with ID and L"),
        (lambda d: d["group"].update(count=2), "group.count: 2: the model itself lies there once"),
        (lambda d: point(d, 3).update(type="int8"), "group.points[3].type: 'int8' is not one of 'int16', "),
        (lambda d: point(d, 3).update(size=2), "group.points[3].size: 2: must be 1 for uint16"),
        (lambda d: point(d, 3).update(size=True), "group.points[3].size: True: must be an integer"),
        (lambda d: point(d, 3).update(size=0), "group.points[3].size: 0: must be 1 or more"),
        (lambda d: point(d, 3).update(sf="V"), "group.points[3].sf: 'V' is not a sunssf point"),
        (lambda d: point(d, 3).update(sf=11), "group.points[3].sf: 11: must be -10 to 10"),
        (lambda d: point(d, 3).update(name="A"), "group.points[4].name: 'A' appears twice"),
        (lambda d: point(d, 3).update(access="W"), "group.points[3].access: 'W' is not one of 'R', 'RW'"),
        (lambda d: inner(d).update(count="No"), "group.groups[0].count: 'No' is not a point of a group"),
        (lambda d: inner(d).update(count=-1), "group.groups[0].count: -1: must be 0 to 65535"),
        (lambda d: inner(d).update(points=[]), "group.groups[0].points: is missing: the group holds nothing"),
    ],
)
def test_a_bad_model_is_one_line_with_key_value_and_what_is_right(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    data = broken(lambda d: changed if isinstance(changed := change(d), list) else None)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, path)
    assert str(caught.value).startswith(f"{path}:")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "model.json:1: is not JSON: Expecting value"),
        ('{"id": 1,\n}', "model.json:2: is not JSON: "),
        ("[" * 100_000, "model.json: is nested too deeply"),
        ('{"id": ' + "9" * 5000 + "}", "model.json: is not JSON that we read: Exceeds the limit"),
        ('{"id": NaN}', "id: nan: must be an integer"),
    ],
)
def test_a_file_that_is_no_json_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_groups_nested_without_end_are_refused(tmp_path: Path) -> None:
    data = broken(lambda d: None)
    for _ in range(300):
        data["group"] = {**data["group"], "groups": [data["group"]]}
    path = tmp_path / "model.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        imported(tmp_path, path)
    assert "\n" not in str(caught.value)


def test_more_registers_than_there_are_is_refused_at_once(tmp_path: Path) -> None:
    data = broken(lambda d: inner(d).update(count=65535))
    group = inner(data)
    for _ in range(20):
        group["groups"] = [copy.deepcopy({**group, "groups": []})]
        group = group["groups"][0]
    path = tmp_path / "model.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"model 64900 would take registers 40002 to \d+; .* 65535 is the last"
    ):
        imported(tmp_path, path)


POINT = st.fixed_dictionaries(
    {
        "name": st.text(min_size=1, max_size=5),
        "type": st.sampled_from(
            ["int16", "uint16", "acc32", "string", "float32", "pad", "ipv6addr", "enum16"]
        ),
    },
    optional={
        "units": st.sampled_from(["V", "A", "Pct", "Wh", "°C", "x: [", "\ud800"]) | st.text(max_size=5),
        "label": st.text(max_size=20),
        "value": st.integers() | st.text(max_size=9),
        "sf": st.integers(-10, 10),
        "access": st.sampled_from(["R", "RW"]),
        "count": st.integers(1, 3),
        "symbols": st.lists(st.builds(dict, name=st.text(max_size=4), value=st.integers()), max_size=2),
    },
)
SIZES = {"acc32": 2, "float32": 2, "ipv6addr": 8, "string": 130}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(points=st.lists(POINT, max_size=6, unique_by=lambda p: p["name"]), repeats=st.integers(1, 3))
def test_imported_and_left_out_add_up_to_the_points(
    tmp_path: Path, points: list[dict[str, Any]], repeats: int
) -> None:
    data = broken(lambda d: None)
    sized = [{**p, "size": SIZES.get(p["type"], 1)} for p in points]
    data["group"]["groups"] = [{"name": "g", "type": "group", "count": 0, "points": sized}] if sized else []
    path = tmp_path / "model.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    config, report = imported(tmp_path, path, repeats=repeats)
    assert report.total == 16 + repeats * sum(p.get("count", 1) for p in sized)
    assert len(config.register_map.parameters) == report.taken + 3
    assert len(config.register_map.readable(Table.HOLDING_REGISTER)) == 1
    assert all(line.isprintable() for line in report.lines())
