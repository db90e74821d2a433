"""What a device file says of how the device is polled, and what is wrong with it in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from logger.reading.read_plan import plan_reads
from logger.scan import ScanLayout
from plcsim.config import PollGroup
from plcsim.device_file import load_device, parse_device
from plcsim.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "configs" / "slow_gateway.yaml"


def document() -> dict[str, Any]:
    """A machine with a fast, a slow and a rare group."""

    def group(name: str, address: int, poll: str = "", **spec: Any) -> dict[str, Any]:
        parameter = {
            "id": address + 1,
            "component": name,
            "name": "value",
            "address": address,
            "type": "uint16",
        }
        more = {"poll": poll} if poll else {}
        return {"name": name, "table": "holding_register", "parameters": [parameter | spec], **more}

    return {
        "device": {"device_id": "m"},
        "logging": {
            "interval_s": 0.5,
            "poll_groups": {"slow": {"interval_s": 10}, "rare": {"interval_s": 60.0}},
        },
        "groups": [group("a", 0), group("b", 1, "rare"), group("c", 2, "slow"), group("d", 3)],
    }


def test_each_poll_group_is_planned_and_laid_out_by_itself() -> None:
    config = parse_device(document())
    assert config.poll_groups == (
        PollGroup("", 0, 0.5),
        PollGroup("slow", 1, 10.0),
        PollGroup("rare", 2, 60.0),
    )
    plans = {g.name: [(b.address, b.count) for b in plan_reads(config, g.name)] for g in config.poll_groups}
    assert plans == {"": [(0, 4)], "slow": [(2, 1)], "rare": [(1, 1)]}
    layouts = [ScanLayout(config, g.name).parameter_ids.tolist() for g in config.poll_groups]
    assert layouts == [[1, 4], [3], [2]]
    assert [p.parameter_id for p in config.register_map.logged] == [1, 2, 3, 4]


def test_poll_groups_keep_their_numbers_where_the_default_group_has_nothing() -> None:
    made = document()
    for group in made["groups"]:
        group["poll"] = group.get("poll", "slow")
    assert [(g.name, g.index) for g in parse_device(made).poll_groups] == [("slow", 1), ("rare", 2)]


def test_how_it_is_polled_is_not_what_the_values_mean_but_poll_groups_are() -> None:
    plain = document()
    del plain["logging"]
    for group in plain["groups"]:
        group.pop("poll", None)
    sha256 = parse_device(plain).sha256
    plain["logging"] = {"interval_s": 3.0, "on_failure": "gap"}
    plain["modbus"] = {
        "max_gap": 7,
        "pause_after_connect_s": 0.1,
        "pause_between_requests_s": 0.2,
        "close_after_scan": True,
    }
    assert parse_device(plain).sha256 == sha256
    assert parse_device(document()).sha256 != sha256


BAD: dict[str, tuple[list[Any], Any, str]] = {
    "unknown poll group": (
        ["groups", 0, "poll"],
        "fast",
        "groups[0].poll: 'fast' is not in logging.poll_groups (slow, rare)",
    ),
    "unused poll group": (
        ["logging", "poll_groups", "night"],
        {"interval_s": 5},
        "logging.poll_groups.night: no group has poll: night",
    ),
    "setpoint in another poll group": (
        ["groups", 0, "parameters", 0, "setpoint"],
        "c.value",
        "setpoint: 'c.value' is polled in 'slow', a.value in no poll group: both must be in one poll group",
    ),
    "process over two poll groups": (
        ["process"],
        {"recipe": "r", "running": "a.value", "number": "b.value"},
        "number: 'b.value' is polled in 'rare', a.value in no poll group: both must be in one poll group",
    ),
    "interval too short": (["logging", "poll_groups", "slow", "interval_s"], 0.001, "0.001"),
    "no such policy": (["logging", "on_failure"], "silence", "on_failure"),
    "negative gap": (["modbus"], {"max_gap": -1}, "max_gap"),
    "negative pause": (["modbus"], {"pause_between_requests_s": -0.1}, "pause_between_requests_s"),
    "a word for a switch": (["modbus"], {"close_after_scan": "often"}, "close_after_scan"),
    "unknown key": (["logging", "poll_groups", "slow", "rate"], 5, "rate"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_polled_is_refused_with_line_and_reason(tmp_path: Path, case: str) -> None:
    keys, value, says = BAD[case]
    made = document()
    at = made
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    path = tmp_path / "device.yaml"
    path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigError) as e:
        load_device(path)
    message = str(e.value)
    assert message.startswith(f"{path}:")
    assert says in message
    assert len(message.splitlines()) == 1


def test_group_that_is_read_in_one_request_cannot_have_gaps_that_a_request_may_not_pass_over() -> None:
    made = document()
    far = {"id": 9, "component": "a", "name": "far", "address": 40, "type": "uint16"}
    made["groups"] = [made["groups"][0]]
    made["groups"][0]["parameters"].append(far)
    made["logging"] = {}
    made["readable_gaps"] = [{"table": "holding_register", "address": 1, "count": 39}]
    made["modbus"] = {"max_gap": 39}
    assert [b.count for b in plan_reads(parse_device(made))] == [41]
    made["modbus"] = {"max_gap": 38}
    with pytest.raises(ConfigError, match="'a' is read in one request, which would pass over 39 addresses"):
        parse_device(made)
    made["groups"][0]["consistent"] = False
    assert [b.count for b in plan_reads(parse_device(made))] == [1, 1]


def test_the_example_of_a_slow_gateway_uses_every_key() -> None:
    config = load_device(EXAMPLE)
    assert config.logging.on_failure == "gap"
    assert [g.name for g in config.poll_groups] == ["", "hourly"]
    modbus = config.modbus
    assert modbus.max_gap == 4
    assert modbus.close_after_scan
    assert (modbus.pause_after_connect_s, modbus.pause_between_requests_s) == (0.1, 0.02)
    assert [(b.address, b.count) for b in plan_reads(config)] == [(0, 10), (40, 2)]
    assert [(b.address, b.count) for b in plan_reads(config, "hourly")] == [(100, 12)]
