"""The fleet file: what it expands to, what its devices share, and one line for each thing that is wrong."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from fix_emulator import ALD_FILE

from plcsim.control.status import Status
from plcsim.device_file import load_device
from plcsim.errors import ConfigError
from plcsim.fleet.messages import Assignment, packed
from plcsim.fleet_file import EntrySpec, FleetSpec, load_fleet
from plcsim.plant import Plant
from plcsim.server_config import UnitPolicy

ENTRY = f"template: {ALD_FILE}, device_id: 'ald-{{n:03}}', port: 5100"


def fleet_file(folder: Path, *entries: str, fleet: str = "name: plant") -> Path:
    """A fleet file with one entry a line, the first in line 3."""
    path = folder / "fleet.yaml"
    lines = [f"fleet: {{{fleet}}}", "devices:", *(f"  - {{{entry}}}" for entry in entries)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_each_device_has_its_own_identity_port_and_seed(tmp_path: Path) -> None:
    fleet = load_fleet(fleet_file(tmp_path, f"{ENTRY}, count: 3, seed: 7"))
    assert fleet.name == "plant"
    assert fleet.device_ids == ["ald-001", "ald-002", "ald-003"]
    assert [(e.hosts[0], e.port, len(e.devices)) for e in fleet.endpoints] == [
        ("127.0.0.1", 5100, 1),
        ("127.0.0.1", 5101, 1),
        ("127.0.0.1", 5102, 1),
    ]
    assert [e.devices[0].device.seed for e in fleet.endpoints] == [7, 8, 9]
    assert [e.devices[0].modbus.port for e in fleet.endpoints] == [5100, 5101, 5102]


def test_without_a_seed_the_template_says_it_and_the_device_id_makes_the_difference(tmp_path: Path) -> None:
    fleet = load_fleet(fleet_file(tmp_path, f"{ENTRY}, count: 2"))
    assert {e.devices[0].device.seed for e in fleet.endpoints} == {load_device(ALD_FILE).device.seed}


def test_numbers_start_where_the_entry_says(tmp_path: Path) -> None:
    fleet = load_fleet(fleet_file(tmp_path, f"{ENTRY}, count: 2, first: 98"))
    assert fleet.device_ids == ["ald-098", "ald-099"]


def test_port_0_stays_0_for_all(tmp_path: Path) -> None:
    entry = ENTRY.replace("5100", "0")
    fleet = load_fleet(fleet_file(tmp_path, f"{entry}, count: 2"))
    assert [e.port for e in fleet.endpoints] == [0, 0]


def test_units_per_port_puts_several_behind_one_port(tmp_path: Path) -> None:
    fleet = load_fleet(fleet_file(tmp_path, f"{ENTRY}, count: 5, units_per_port: 2, unit_id: 11"))
    assert [(e.port, [d.modbus.unit_id for d in e.devices]) for e in fleet.endpoints] == [
        (5100, [11, 12]),
        (5101, [11, 12]),
        (5102, [11]),
    ]
    assert {d.server.unit_policy for e in fleet.endpoints for d in e.devices} == {UnitPolicy.STRICT_EXCEPTION}


def test_a_gateway_keeps_the_unit_policy_that_the_file_gives(tmp_path: Path) -> None:
    entry = f"{ENTRY}, count: 2, units_per_port: 2, overrides: {{server: {{unit_policy: strict_silent}}}}"
    (endpoint,) = load_fleet(fleet_file(tmp_path, entry)).endpoints
    assert endpoint.devices[0].server.unit_policy is UnitPolicy.STRICT_SILENT


def test_hosts_gives_each_port_an_address(tmp_path: Path) -> None:
    fleet = load_fleet(fleet_file(tmp_path, f"{ENTRY}, count: 3, hosts: 127.0.0.254"))
    assert [(e.hosts[0], e.port) for e in fleet.endpoints] == [
        ("127.0.0.254", 5100),
        ("127.0.0.255", 5100),
        ("127.0.1.0", 5100),
    ]


def test_overrides_replace_only_what_they_say(tmp_path: Path) -> None:
    entry = f"{ENTRY}, overrides: {{plc_scan_ms: 1000, server: {{idle_timeout_s: 5}}}}"
    (endpoint,) = load_fleet(fleet_file(tmp_path, entry)).endpoints
    (config,) = endpoint.devices
    template = load_device(ALD_FILE)
    assert (config.device.plc_scan_ms, template.device.plc_scan_ms) == (1000, 100)
    assert config.server == template.server.model_copy(update={"idle_timeout_s": 5.0})
    assert config.device.name == template.device.name


def test_faults_come_behind_those_of_the_template(tmp_path: Path) -> None:
    entry = f"{ENTRY}, faults: [{{kind: delay, seconds: 0.5}}]"
    (endpoint,) = load_fleet(fleet_file(tmp_path, entry)).endpoints
    assert [fault.kind for fault in endpoint.devices[0].faults] == ["delay"]
    assert load_device(ALD_FILE).faults == []


def test_devices_of_a_template_share_all_but_their_identity(tmp_path: Path) -> None:
    fleet = load_fleet(fleet_file(tmp_path, f"{ENTRY}, count: 100"))
    configs = [e.devices[0] for e in fleet.endpoints]
    assert len({id(config.groups) for config in configs}) == 1
    assert len({id(config.register_map) for config in configs}) == 1
    assert len({config.sha256 for config in configs}) == 100  # nothing stale is shared
    alone = len(packed(Assignment(fleet.endpoints[:1], None, None, 0)))
    assert len(packed(Assignment(fleet.endpoints, None, None, 0))) < 3 * alone
    plant = Plant(fleet.endpoints)
    assert len({id(unit.device._layout) for unit in plant.units.values()}) == 1


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (
            f"template: {ALD_FILE}, device_id: ald, port: 5100, count: 2",
            "3: devices[0].device_id: 'ald' would be the id of 2 devices; write {n} into it",
        ),
        (
            f"template: {ALD_FILE}, device_id: 'ald-{{m}}', port: 5100",
            "3: devices[0].device_id: 'ald-{m}': only {n} or {n:03} can stand in braces",
        ),
        (
            f"template: {ALD_FILE}, device_id: '!{{n}}', port: 5100",
            "3: devices[0].device_id: '!1' is not a name (letters, digits and _ . : / - , 63 at most)",
        ),
        (f"{ENTRY}, count: 0", "3: devices[0].count: 0: must be 1 or more"),
        (f"{ENTRY}, count: 10001", "3: devices[0].count: 10001: must be 10000 or less"),
        (f"{ENTRY}, colour: red", "3: devices[0].colour: is not a known key here"),
        (
            f"{ENTRY.replace('5100', '65500')}, count: 100",
            "3: devices[0].port: 65500: 100 ports from there end at 65599",
        ),
        (
            f"{ENTRY}, count: 2, units_per_port: 200, unit_id: 100",
            "3: devices[0].units_per_port: 200 from unit id 100 on end behind 247",
        ),
        (
            f"{ENTRY}, hosts: 10.0.0.1",
            "3: devices[0].hosts: '10.0.0.1': 1 from there must be 127.x.x.x",
        ),
        (f"{ENTRY}, hosts: here", "3: devices[0].hosts: 'here' is not an address such as 127.0.0.2"),
        (
            f"{ENTRY}, host: 127.0.0.1, hosts: 127.0.0.2",
            "3: devices[0].hosts: say host or hosts, not both",
        ),
        (
            f"{ENTRY}, overrides: {{plc_scan_ms: 0}}",
            "3: devices[0].overrides.plc_scan_ms: 0: must be 1 or more",
        ),
        (
            f"{ENTRY}, overrides: {{server: {{unit_policy: never}}}}",
            "3: devices[0].overrides.server.unit_policy: 'never' is not one of",
        ),
        (f"{ENTRY}, faults: [{{kind: delay}}]", "3: devices[0].faults[0].seconds: is missing"),
    ],
)
def test_what_is_wrong_is_one_line_with_place_and_remedy(tmp_path: Path, entry: str, complaint: str) -> None:
    path = fleet_file(tmp_path, entry)
    with pytest.raises(ConfigError) as caught:
        load_fleet(path)
    assert str(caught.value).startswith(f"{path}:{complaint}")
    assert "\n" not in str(caught.value)


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    path = fleet_file(tmp_path, "template: none.yaml, device_id: a, port: 0")
    with pytest.raises(ConfigError) as caught:
        load_fleet(path)
    assert str(caught.value) == (
        f"{path}:3: devices[0].template: '{tmp_path}/none.yaml': there is no such device file"
    )


def test_what_is_wrong_in_a_template_is_told_with_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("device: {device_id: bad}\ngroups: 5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.yaml:2: groups: 5: must be a list"):
        load_fleet(fleet_file(tmp_path, "template: bad.yaml, device_id: a, port: 0"))


def test_an_override_that_does_not_fit_the_template_is_refused(tmp_path: Path) -> None:
    text = ALD_FILE.read_text(encoding="utf-8").replace("idle_s: 2.0", "idle_s: 20000000.0")
    (tmp_path / "slow.yaml").write_text(
        text.replace("plc_scan_ms: 100 ", "plc_scan_ms: 3600000 "), encoding="utf-8"
    )
    entry = "template: slow.yaml, device_id: a, port: 0"
    assert load_fleet(fleet_file(tmp_path, entry)).device_ids == ["a"]
    with pytest.raises(ConfigError, match=r"fleet\.yaml:3: devices\[0\]\.overrides: process of slow\.yaml: "):
        load_fleet(fleet_file(tmp_path, f"{entry}, overrides: {{plc_scan_ms: 1}}"))


def test_a_device_id_twice_is_refused(tmp_path: Path) -> None:
    path = fleet_file(tmp_path, f"{ENTRY}, count: 3", f"{ENTRY.replace('5100', '5200')}, first: 3")
    with pytest.raises(ConfigError) as caught:
        load_fleet(path)
    assert str(caught.value) == (
        f"{path}:4: devices[1].device_id: 'ald-003' is already the id of a device of devices[0]"
    )


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_an_address_twice_is_refused(tmp_path: Path, first: str, second: str, clash: bool) -> None:
    path = fleet_file(
        tmp_path,
        f"{ENTRY}, count: 3, host: {first}",
        f"{ENTRY.replace('ald-', 'b-').replace('5100', '5102')}, host: {second}",
    )
    if not clash:
        assert len(load_fleet(path).endpoints) == 4
        return
    with pytest.raises(ConfigError) as caught:
        load_fleet(path)
    assert str(caught.value) == f"{path}:4: devices[1].port: {second}:5102 is already taken by ald-003"


def test_a_fleet_of_too_many_is_refused_before_any_is_made(tmp_path: Path) -> None:
    path = fleet_file(tmp_path, f"{ENTRY}, count: 10000", f"{ENTRY.replace('ald-', 'b-')}, count: 1")
    with pytest.raises(ConfigError, match=r"4: devices\[1\]\.count: 1: the fleet would have 10,001 devices"):
        load_fleet(path)


def test_the_document_names_every_key_of_the_fleet_file_and_of_the_status() -> None:
    text = (Path(__file__).parent.parent / "docs" / "fleet.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    told = {field.name for field in fields(Status)} - {"kind", "name", "pid", "control", "uptime_s"}
    keys = {*FleetSpec.model_fields, *EntrySpec.model_fields, *told, "devices", "fleet"}
    assert named == keys


def test_the_fleet_file_that_we_ship_is_good() -> None:
    fleet = load_fleet(ALD_FILE.parent / "fleet.yaml")
    assert len(fleet.device_ids) == 110
    assert [len(endpoint.devices) for endpoint in fleet.endpoints] == [*[1] * 100, 10]
