"""Faults of what a read shows: frozen, flipped, not a number, torn. The device itself stays as it is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_emulator import RawClient
from fix_faults import Site

from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.layout import Layout
from plcsim.parameters import Table

SCAN = bytes.fromhex("03 0000 0002")
LEVEL = bytes.fromhex("03 0002 0002")
ALL = bytes.fromhex("03 0000 0007")
COILS = bytes.fromhex("01 0000 0002")


@pytest.fixture
def client(moving: Site) -> Iterator[RawClient]:
    with moving.connect() as connected:
        yield connected


def scan_of(client: RawClient) -> int:
    return int.from_bytes(client.ask(SCAN)[2:])


def counts(site: Site) -> tuple[int, int]:
    return site.status().fired, site.status().landed


def test_without_a_fault_values_go_on_and_are_whole(moving: Site, client: RawClient) -> None:
    assert scan_of(client) == 65535
    moving.scan_on()
    assert scan_of(client) == 65536
    moving.scan_on()
    assert client.ask(ALL)[2:] == struct.pack(">IfhHH", 65537, 20.5, 5, 6, 0)


def test_frozen_values_stay_until_the_fault_goes(moving: Site, client: RawClient) -> None:
    moving.add("frozen", addresses=[0, 1])
    assert scan_of(client) == 65535
    moving.scan_on(10)
    assert [scan_of(client), scan_of(client)] == [65535, 65535]
    assert counts(moving) == (3, 2)  # the first read showed what was there anyway
    moving.remove("frozen-1")
    assert scan_of(client) == 65545


def test_frozen_leaves_other_addresses_alone(moving: Site, client: RawClient) -> None:
    moving.add("frozen", addresses=[0, 0])
    assert scan_of(client) == 65535
    moving.scan_on(65540)
    assert client.ask(SCAN)[2:] == bytes.fromhex("0000 0003")  # the second register goes on


def test_frozen_hides_a_write_that_was_made(moving: Site, client: RawClient) -> None:
    moving.add("frozen")
    read = bytes.fromhex("03 0006 0001")
    assert client.ask(read) == bytes.fromhex("03 02 0000")
    assert client.ask(bytes.fromhex("06 0006 0009")) == bytes.fromhex("06 0006 0009")
    assert client.ask(read) == bytes.fromhex("03 02 0000")
    moving.remove("frozen-1")
    assert client.ask(read) == bytes.fromhex("03 02 0009")


@pytest.mark.parametrize("bits", [1, 3, 16])
def test_bit_flips_change_so_many_bits_of_registers(moving: Site, client: RawClient, bits: int) -> None:
    moving.add("bit_flips", bits=bits, addresses=[5, 5])
    right = struct.pack(">IfhHH", 65535, 20.5, 5, 6, 0)
    flipped = set()
    for _ in range(20):
        got = client.ask(ALL)[2:]
        difference = int.from_bytes(got) ^ int.from_bytes(right)
        assert difference.bit_count() == bits
        assert difference & ~(0xFFFF << 16) == 0  # only in the address that is meant
        flipped.add(difference)
    assert len(flipped) > 5 or bits == 16
    assert counts(moving) == (20, 20)


def test_bit_flips_of_coils(moving: Site, client: RawClient) -> None:
    assert client.ask(COILS) == b"\x01\x01\x01"
    moving.add("bit_flips", bits=2000)
    assert client.ask(COILS) == b"\x01\x01\x02"


def test_nan_shows_in_what_can_be_nan(moving: Site, client: RawClient) -> None:
    moving.add("nan")
    scan, level, raw, plain, setpoint = struct.unpack(">IfhHH", client.ask(ALL)[2:])
    assert level != level
    assert (scan, raw, plain, setpoint) == (65535, -0x8000, 6, 0)
    assert counts(moving) == (1, 1)


def test_nan_and_bit_flips_of_a_read_that_does_not_begin_at_0(moving: Site, client: RawClient) -> None:
    name = moving.add("nan")
    level, raw, plain = struct.unpack(">fhH", client.ask(bytes.fromhex("03 0002 0004"))[2:])
    assert level != level
    assert (raw, plain) == (-0x8000, 6)
    assert client.ask(bytes.fromhex("03 0003 0002"))[2:] == bytes.fromhex("0000 8000")  # half a float
    moving.remove(name)
    moving.add("bit_flips", bits=16, addresses=[5, 5])
    assert client.ask(bytes.fromhex("03 0004 0003"))[2:] == struct.pack(">hHH", 5, 0xFFFF ^ 6, 0)
    assert client.ask(bytes.fromhex("01 0001 0001")) == b"\x01\x01\x00"


def test_torn_in_a_read_that_does_not_begin_at_0(moving: Site, client: RawClient) -> None:
    moving.scan_on()
    moving.add("torn", at=1)
    assert client.ask(bytes.fromhex("03 0001 0002"))[2:4] == bytes.fromhex("ffff")
    assert client.ask(bytes.fromhex("03 0000 0003"))[2:6] == bytes.fromhex("0000 0000")


def test_how_nan_looks_is_worked_out_once_for_all_devices_of_a_map(moving_file: Path) -> None:
    config = load_device(moving_file)
    layout = Layout(config)
    looks = [Device(config, layout=layout).missing(Table.HOLDING_REGISTER) for _ in range(2)]
    assert looks[0] is looks[1]


@pytest.mark.parametrize("read", ["03 0003 0001", "03 0000 0003", "03 0005 0002", "01 0000 0002"])
def test_nan_changes_nothing_that_is_read_in_part_or_cannot_be_nan(
    moving: Site, client: RawClient, read: str
) -> None:
    right = client.ask(bytes.fromhex(read))
    moving.add("nan")
    assert client.ask(bytes.fromhex(read)) == right
    assert counts(moving) == (1, 0)


def test_a_torn_value_is_one_that_never_was(moving: Site, client: RawClient) -> None:
    moving.scan_on()
    assert scan_of(client) == 0x0001_0000
    moving.add("torn")
    assert scan_of(client) == 0x0000_0000
    assert counts(moving) == (1, 1)
    moving.remove("torn-1")
    assert scan_of(client) == 0x0001_0000


def test_torn_where_the_fault_says(moving: Site, client: RawClient) -> None:
    moving.scan_on()
    moving.add("torn", at=2)
    assert client.ask(ALL)[2:6] == bytes.fromhex("0000 ffff")  # whole, but of the scan before
    assert scan_of(client) == 0  # of two registers the last is always new


def test_torn_does_not_land_where_both_scans_look_the_same(moving: Site, client: RawClient) -> None:
    moving.add("torn")
    assert client.ask(LEVEL)[2:] == struct.pack(">f", 20.5)
    assert client.ask(bytes.fromhex("03 0000 0001")) == bytes.fromhex("03 02 0000")
    assert counts(moving) == (2, 0)


@pytest.mark.parametrize("kind", ["frozen", "bit_flips", "nan", "torn"])
def test_a_wrong_read_stays_an_exception_and_no_fault_lands(
    moving: Site, client: RawClient, kind: str
) -> None:
    moving.add(kind)
    assert client.ask(bytes.fromhex("03 4000 0002")) == b"\x83\x02"
    assert client.ask(bytes.fromhex("03 0000 007e")) == b"\x83\x03"
    assert client.ask(bytes.fromhex("03 0000")) == b"\x83\x03"
    assert counts(moving)[1] == 0


@pytest.mark.parametrize("kind", ["bit_flips", "nan"])
def test_the_device_itself_stays_as_it_is(moving: Site, client: RawClient, kind: str) -> None:
    right = client.ask(ALL)
    moving.add(kind, count=1)
    assert client.ask(ALL) != right
    assert client.ask(ALL) == right


def test_image_faults_add_up_in_the_order_in_which_they_were_added(moving: Site, client: RawClient) -> None:
    moving.add("nan", addresses=[2, 3])
    moving.add("frozen", addresses=[2, 3])
    assert client.ask(LEVEL)[2:] == struct.pack(">f", 20.5)
