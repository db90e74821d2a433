"""The read plan: the fewest requests that read everything, within what the device and the map allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logger.reading.read_plan import ReadBlock, Refused, explain, left_out, plan_reads
from plcsim.config import DeviceConfig
from plcsim.device_file import load_device, parse_device
from plcsim.errors import ConfigError
from plcsim.parameters import Table

ALD = Path(__file__).parent.parent / "configs" / "ald.yaml"
WIDTHS = {"uint16": 1, "float32": 2}

Item = tuple[int, str, str]
"""Addresses left free before it, data type, group."""


def device(
    items: list[Item],
    consistent: Set[str] = frozenset(),
    gaps: Sequence[tuple[int, int]] = (),
    most: int = 125,
    table: str = "holding_register",
) -> DeviceConfig:
    """A device whose parameters lie one after the other in one table."""
    groups: dict[str, Any] = {}
    address = 0
    for number, (free, data_type, group) in enumerate(items, 1):
        address += free
        groups.setdefault(
            group,
            {"name": group, "table": table, "consistent": group in consistent, "parameters": []},
        )["parameters"].append(
            {"id": number, "component": "c", "name": f"p{number}", "address": address, "type": data_type}
        )
        address += WIDTHS.get(data_type, 1)
    return parse_device(
        {
            "device": {"device_id": "d"},
            "modbus": {"max_registers": most, "max_coils": most},
            "readable_gaps": [{"table": table, "address": a, "count": n} for a, n in gaps],
            "groups": list(groups.values()),
        }
    )


def fewest(config: DeviceConfig, most: int) -> int:
    """The fewest requests by trying: every way to cut the units, taken in any order, into requests."""
    readable = {
        a for run in config.register_map.readable(Table.HOLDING_REGISTER) for a in range(run.address, run.end)
    }
    units: dict[object, set[int]] = {}
    for p in config.register_map.parameters:
        key = p.group if p.group in config.register_map.consistent_groups else p.parameter_id
        units.setdefault(key, set()).update(range(p.address, p.end))

    def allowed(addresses: set[int]) -> bool:
        low, high = min(addresses), max(addresses)
        return high - low < most and all(a in readable for a in range(low, high + 1))

    def partitions(rest: list[set[int]], blocks: list[set[int]]) -> Iterator[int]:
        if not rest:
            yield len(blocks)
            return
        unit, *others = rest
        for i, block in enumerate(blocks):
            if allowed(block | unit):
                yield from partitions(others, [*blocks[:i], block | unit, *blocks[i + 1 :]])
        yield from partitions(others, [*blocks, unit])

    return min(partitions(list(units.values()), []))


def check_rules(config: DeviceConfig, blocks: list[ReadBlock]) -> None:
    """What every plan must keep to, whatever the map."""
    parameters = [p for block in blocks for p in block.parameters]
    assert sorted(p.parameter_id for p in parameters) == [
        p.parameter_id for p in config.register_map.parameters
    ]
    for block in blocks:
        most = config.modbus.max_coils if block.table.is_bits else config.modbus.max_registers
        assert 1 <= block.count <= most
        assert all(block.address <= p.address and p.end <= block.end for p in block.parameters)
        assert all(p.table is block.table for p in block.parameters)
        assert any(
            run.address <= block.address and block.end <= run.end
            for run in config.register_map.readable(block.table)
        )
    for group in config.register_map.consistent_groups:
        assert sum(any(p.group == group for p in block.parameters) for block in blocks) == 1


@st.composite
def small_devices(draw: st.DrawFn) -> tuple[DeviceConfig, int]:
    """Maps of up to seven values with holes, readable gaps and consistent groups that may interleave."""
    most = draw(st.integers(2, 12))
    items = draw(
        st.lists(
            st.tuples(st.sampled_from([0, 0, 1, 2]), st.sampled_from(list(WIDTHS)), st.sampled_from("abc")),
            min_size=1,
            max_size=7,
        )
    )
    consistent = draw(st.sets(st.sampled_from("abc")))
    gaps = draw(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), max_size=3))
    try:
        return device(items, consistent, gaps, most), most
    except ConfigError:  # a consistent group that no request can read is refused in the device file
        return device(items, set(), gaps, most), most


@settings(max_examples=300, deadline=None)
@given(small_devices())
def test_plan_has_the_fewest_requests_and_keeps_the_rules(made: tuple[DeviceConfig, int]) -> None:
    config, most = made
    blocks = plan_reads(config)
    check_rules(config, blocks)
    assert len(blocks) == fewest(config, most)


def test_84_parameter_machine_takes_four_requests() -> None:
    config = load_device(ALD)
    blocks = plan_reads(config)
    check_rules(config, blocks)
    assert [(b.table.value, b.address, b.count, len(b.parameters)) for b in blocks] == [
        ("coil", 0, 43, 12),
        ("holding_register", 100, 35, 14),
        ("input_register", 0, 94, 51),
        ("input_register", 200, 14, 7),
    ]


@pytest.mark.parametrize(
    ("items", "gaps", "most", "expected"),
    [
        ([(0, "uint16", "a"), (1, "uint16", "a")], [], 125, [(0, 1), (2, 1)]),  # a hole is not crossed
        ([(0, "uint16", "a"), (1, "uint16", "a")], [(1, 1)], 125, [(0, 3)]),  # a readable gap is
        ([(0, "uint16", "a"), (2, "uint16", "a")], [(1, 1)], 125, [(0, 1), (3, 1)]),  # half a gap is not
        ([(0, "uint16", "a"), (0, "float32", "a")], [], 2, [(0, 1), (1, 2)]),  # a value is not split
        ([(0, "float32", "a")] * 63, [], 125, [(0, 124), (124, 2)]),  # 125 registers, but no half value
        ([(0, "uint16", "a")] * 251, [], 125, [(0, 125), (125, 125), (250, 1)]),
    ],
)
def test_requests_end_where_they_must(
    items: list[Item], gaps: list[tuple[int, int]], most: int, expected: list[tuple[int, int]]
) -> None:
    blocks = plan_reads(device(items, set(), gaps, most))
    assert [(b.address, b.count) for b in blocks] == expected


def test_consistent_group_stays_whole_where_single_values_would_be_split() -> None:
    items = [(0, "float32", "a"), (0, "float32", "b"), (0, "float32", "b")]
    alone = [(b.address, b.count) for b in plan_reads(device(items, set(), [], 5))]
    whole = [(b.address, b.count) for b in plan_reads(device(items, {"b"}, [], 5))]
    assert alone == [(0, 4), (4, 2)]
    assert whole == [(0, 2), (2, 4)]


def test_coils_have_a_limit_of_their_own() -> None:
    blocks = plan_reads(device([(0, "bool", "a")] * 2001, most=125, table="coil"))
    assert [b.count for b in blocks] == [125] * 16 + [1]


def mixed() -> DeviceConfig:
    """Values around a command that cannot be read (3), and texts between values (6 to 9) and behind."""
    places: list[dict[str, Any]] = [
        {"address": 0, "type": "uint16"},
        {"address": 1, "type": "bool", "bit": 3},
        {"address": 1, "type": "bool", "bit": 4},
        {"address": 3, "type": "uint16", "writable": True, "readable": False},
        {"address": 4, "type": "bcd32"},
        {"address": 6, "type": "string", "length": 8},
        {"address": 10, "type": "float32"},
        {"address": 12, "type": "string", "length": 250},
    ]
    parameters = [{"id": i, "component": "c", "name": f"p{i}", **p} for i, p in enumerate(places, 1)]
    table = {"name": "g", "table": "holding_register", "consistent": False, "parameters": parameters}
    return parse_device({"device": {"device_id": "d"}, "groups": [table]})


def test_only_what_can_be_read_is_asked_for() -> None:
    config = mixed()
    blocks = [(b.address, b.count, [p.parameter_id for p in b.parameters]) for b in plan_reads(config)]
    assert blocks == [(0, 2, [1, 2, 3]), (4, 8, [5, 6, 7]), (12, 125, [8])]
    assert left_out(config) == "1 of 8 parameters are not logged: 1 cannot be read (readable: false)"


def with_max_gap(max_gap: int | None) -> list[tuple[int, int]]:
    items = [(0, "uint16", "a"), (3, "uint16", "a"), (4, "uint16", "a")]
    document = device(items, gaps=[(0, 10)]).to_json()
    document["modbus"]["max_gap"] = max_gap
    return [(b.address, b.count) for b in plan_reads(parse_device(document))]


@pytest.mark.parametrize(
    ("max_gap", "blocks"),
    [
        (None, [(0, 10)]),
        (4, [(0, 10)]),
        (3, [(0, 5), (9, 1)]),
        (2, [(0, 1), (4, 1), (9, 1)]),
        (0, [(0, 1), (4, 1), (9, 1)]),
    ],
)
def test_a_request_passes_over_no_more_addresses_than_it_may(
    max_gap: int | None, blocks: list[tuple[int, int]]
) -> None:
    assert with_max_gap(max_gap) == blocks


def test_each_request_says_why_it_starts_and_ends_where_it_does() -> None:
    items = [
        (0, "uint16", "a"),
        (1, "uint16", "b"),
        (0, "float32", "c"),
        (0, "float32", "c"),
        (7, "uint16", "d"),
    ]
    document = device(items, {"c"}, [(8, 6)], most=5).to_json()
    document["modbus"]["max_gap"] = 5
    told = [(e.written, e.groups, e.starts, e.ends) for e in explain(parse_device(document))]
    assert told == [
        (
            "holding_register 0 to 0",
            ("a",),
            "the first that is polled",
            "1 to 1: a hole, no parameter and not in readable_gaps",
        ),
        (
            "holding_register 2 to 6",
            ("b", "c"),
            "where the one before had to end",
            "c.p5 is 7 addresses further on; max_gap is 5",
        ),
        (
            "holding_register 14 to 14",
            ("d",),
            "where the one before had to end",
            "the last that is polled of its table",
        ),
    ]


def test_what_ends_a_request_is_the_limit_that_does() -> None:
    items = [(0, "float32", "a"), (0, "float32", "b"), (0, "float32", "b")]
    first, _ = explain(device(items, {"b"}, [], 5))
    assert first.ends == "with the group 'b' it would take 6 addresses; max_registers is 5"
    first, second = explain(mixed())[:2]
    assert first.ends == "2 to 3: c.p4 cannot be read"
    assert second.ends == "with c.p8 it would take 133 addresses; max_registers is 125"
    refused = Refused(frozenset({2, 3}), frozenset({(Table.HOLDING_REGISTER, 10)}))
    told = [(e.written, e.ends) for e in explain(mixed(), refused=refused)]
    assert told[:3] == [
        ("holding_register 0 to 0", "1 to 3: c.p2 is refused by the device"),
        ("holding_register 4 to 9", "the device refuses to read on to 10"),
        ("holding_register 10 to 11", "with c.p8 it would take 127 addresses; max_registers is 125"),
    ]


@settings(max_examples=200, deadline=None)
@given(small_devices(), st.sets(st.integers(1, 7)), st.sets(st.integers(0, 20)))
def test_plan_without_what_is_refused_keeps_the_rules(
    made: tuple[DeviceConfig, int], ids: set[int], cuts: set[int]
) -> None:
    config, _ = made
    starts = {p.address for p in config.register_map.parameters}  # where a cut was ever found
    refused = Refused(
        frozenset(ids), frozenset((Table.HOLDING_REGISTER, address) for address in cuts & starts)
    )
    blocks = plan_reads(config, refused=refused)
    read = [p.parameter_id for block in blocks for p in block.parameters]
    assert sorted(read) == [
        p.parameter_id for p in config.register_map.parameters if p.parameter_id not in ids
    ]
    forbidden = {
        a for p in config.register_map.parameters if p.parameter_id in ids for a in range(p.address, p.end)
    }
    for block in blocks:
        assert not forbidden & set(range(block.address, block.end))
        assert not any(block.address < cut < block.end for cut in cuts & starts)
        if block.piece_of:
            assert {p.group for p in block.parameters} == {block.piece_of}
    for group in config.register_map.consistent_groups:
        mine = [block for block in blocks if any(p.group == group for p in block.parameters)]
        assert len(mine) <= 1 or all(block.piece_of == group for block in mine)


def test_nothing_is_said_where_everything_is_logged() -> None:
    assert left_out(load_device(ALD)) == ""
