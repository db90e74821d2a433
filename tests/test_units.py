"""Unit ids: one device that answers to all, strict ones, and several behind one port as behind a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_emulator import frame
from fix_faults import Site, serving
from fix_server import configured

from plcsim.device import Device
from plcsim.unit import Unit

READ, READ_REPLY = bytes.fromhex("03 0007 0001"), bytes.fromhex("03 02 0007")
ABSENT = b"\x83\x0b"


def gateway(flat_file: Path, *units: int, **settings: Any) -> Any:
    config = configured(flat_file, {"functions": {"diagnostics": True}} | settings)
    return serving(lambda: {unit: Unit(Device(config)) for unit in units})


@pytest.fixture
def two(flat_file: Path) -> Iterator[Site]:
    with gateway(flat_file, 3, 200) as site:
        yield site


def test_a_single_device_answers_to_every_unit_id(flat_file: Path) -> None:
    with gateway(flat_file, 17) as site, site.connect() as client:
        assert [client.ask(READ, unit=unit) for unit in range(256)] == 256 * [READ_REPLY]


def test_a_strict_device_refuses_all_others(flat_file: Path) -> None:
    with gateway(flat_file, 17, unit_policy="strict_exception") as site, site.connect() as client:
        replies = [client.ask(READ, unit=unit) for unit in range(256)]
    assert replies == 17 * [ABSENT] + [READ_REPLY] + 238 * [ABSENT]


def test_a_silent_device_ignores_all_others_and_goes_on(flat_file: Path) -> None:
    with gateway(flat_file, 17, unit_policy="strict_silent") as site, site.connect() as client:
        client.send(b"".join(frame(READ, unit, unit) for unit in range(256)) + frame(READ, 300, 17))
        assert [client.reply() for _ in range(2)] == [(17, 17, READ_REPLY), (300, 17, READ_REPLY)]


def test_each_device_behind_a_gateway_has_registers_of_its_own(two: Site) -> None:
    with two.connect() as client:
        assert client.ask(bytes.fromhex("06 0007 1111"), unit=3)[0] == 6
        assert client.ask(bytes.fromhex("06 0007 2222"), unit=200)[0] == 6
        client.send(b"".join(frame(READ, n, 200 if n % 2 else 3) for n in range(20)))
        for n in range(20):
            value = "2222" if n % 2 else "1111"
            assert client.reply() == (n, 200 if n % 2 else 3, bytes.fromhex("03 02" + value))


@pytest.mark.parametrize("unit", [0, 1, 4, 255])
def test_behind_a_gateway_an_unknown_unit_id_is_a_device_that_does_not_respond(two: Site, unit: int) -> None:
    with two.connect() as client:
        assert client.ask(READ, unit=unit) == ABSENT
        assert client.ask(READ, unit=3) == READ_REPLY


def test_counters_are_those_of_the_device(two: Site) -> None:
    count = bytes.fromhex("08 000e 0000")
    with two.connect() as client:
        for _ in range(5):
            client.ask(READ, unit=3)
        assert client.ask(count, unit=3) == bytes.fromhex("08 000e 0005")
        assert client.ask(count, unit=200) == bytes.fromhex("08 000e 0000")


def test_exceptions_that_a_fault_makes_are_counted_as_any_others(two: Site) -> None:
    with two.connect() as client:
        for kind, counts in (("busy", (1, 1, 1)), ("exception", (5, 2, 1))):
            name = two.add(kind, 3, functions=[3])
            assert client.ask(READ, unit=3)[0] == 0x83
            two.remove(name, 3)
            for sub, expected in zip((0x0E, 0x0D, 0x11), counts, strict=True):  # messages, exceptions, busy
                count = b"\x08" + sub.to_bytes(2)
                assert client.ask(count + b"\0\0", unit=3) == count + expected.to_bytes(2)


def test_a_fault_hits_its_device_only(two: Site) -> None:
    two.add("busy", 3)
    with two.connect() as client:
        assert client.ask(READ, unit=3) == b"\x83\x06"
        assert client.ask(READ, unit=200) == READ_REPLY


def test_a_slow_device_does_not_delay_another_behind_the_gateway(two: Site) -> None:
    """A gateway has a line for each device: only replies of one device keep their order."""
    two.add("delay", 3, seconds=0.4)
    with two.connect() as client:
        client.send(frame(READ, 1, 3) + frame(READ, 2, 200) + frame(READ, 3, 3))
        assert [client.reply()[:2] for _ in range(3)] == [(2, 200), (1, 3), (3, 3)]
