"""Framing: requests in pieces and together, what is no Modbus, and how much is kept of what has come."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from fake_transport import FakeTransport, connected
from fix_emulator import MANY_BYTES, ONE, READ_MANY, READ_ONE, Emulator, RawClient, frame, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.unit import Unit


@pytest.fixture
def client(server: Emulator) -> Iterator[RawClient]:
    with server.connect() as connected:
        yield connected


@pytest.mark.parametrize("size", range(1, 12))
def test_a_frame_may_come_in_two_pieces(server: Emulator, client: RawClient, size: int) -> None:
    whole = frame(READ_ONE, 7)
    client.send(whole[:size])
    seen(server)
    client.send(whole[size:])
    assert client.reply() == (7, 1, ONE)


def test_a_frame_may_come_byte_by_byte(server: Emulator, client: RawClient) -> None:
    for byte in frame(READ_ONE, 8):
        client.send(bytes((byte,)))
        seen(server)
    assert client.reply() == (8, 1, ONE)


def test_joined_requests_are_answered_in_order_each_under_its_own_number(client: RawClient) -> None:
    numbers = [65535, 0, 1, 1, *range(100, 400)]
    asked = [(n, n % 256, [READ_ONE, b"\x42", bytes.fromhex("03 7000 0001")][n % 3]) for n in numbers]
    answers = [ONE, b"\xc2\x01", b"\x83\x02"]
    client.send(b"".join(frame(pdu, n, unit) for n, unit, pdu in asked))
    assert [client.reply() for _ in asked] == [(n, n % 256, answers[n % 3]) for n in numbers]


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 240), max_size=8))
def test_however_the_stream_is_cut_the_replies_are_the_same(server: Emulator, cuts: list[int]) -> None:
    stream = b"".join(frame(READ_ONE, n) for n in range(20))
    with server.connect() as client:
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
            client.send(stream[start:end])
            seen(server)
        assert [client.reply() for _ in range(20)] == [(n, 1, ONE) for n in range(20)]


@pytest.mark.parametrize("unit", [0, 1, 17, 247, 248, 255])
def test_the_unit_id_is_echoed(client: RawClient, unit: int) -> None:
    assert client.ask(READ_ONE, unit=unit) == ONE


def header(length: int, protocol: int = 0) -> bytes:
    return struct.pack(">HHHB", 9, protocol, length, 1)


NOT_MODBUS = {
    "protocol id 1": header(6, protocol=1) + READ_ONE,
    "protocol id 65535": header(6, protocol=0xFFFF) + READ_ONE,
    **{f"length {n}": header(n) + READ_ONE for n in (0, 1, 255, 300, 65535)},
    "a web browser": b"GET / HTTP/1.1\r\nHost: plc\r\n\r\n",
    "TLS": bytes.fromhex("16 0301 0200 0100 01fc 0303"),
    "255 bytes": bytes([255]) * 255,
}


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("junk", NOT_MODBUS.values(), ids=NOT_MODBUS)
@pytest.mark.parametrize("before", [0, 3, 40])
def test_what_is_not_modbus_closes_that_connection_behind_the_replies_due(
    client: RawClient, junk: bytes, before: int
) -> None:
    client.send(before * frame(READ_ONE, 5) + junk + frame(READ_ONE, 6))
    assert client.rest() == before * frame(ONE, 5)


def test_the_longest_and_the_shortest_frame_keep_the_connection(client: RawClient) -> None:
    # The negative control of the test above: lengths 2 and 254 are Modbus, though not a good request.
    assert client.ask(b"\x03") == b"\x83\x03"
    assert client.ask(b"\x03" + bytes(252)) == b"\x83\x03"
    assert client.ask(READ_ONE) == ONE


@pytest.mark.usefixtures("others")
def test_junk_behind_more_replies_than_fit_closes_after_the_last_of_them(client: RawClient) -> None:
    count = 20_000
    sender = threading.Thread(target=client.send, args=(count * frame(READ_MANY, 3) + header(0),))
    sender.start()
    got = client.rest()
    sender.join(15)
    assert len(got) == count * MANY_BYTES
    assert got[0::MANY_BYTES] + got[1::MANY_BYTES] == count * b"\x00" + count * b"\x03"


@pytest.mark.usefixtures("others")
def test_a_client_that_ends_its_half_still_gets_its_replies(client: RawClient) -> None:
    client.send(50 * frame(READ_MANY, 2) + frame(READ_ONE)[:9])
    client.socket.shutdown(socket.SHUT_WR)
    assert len(client.rest()) == 50 * MANY_BYTES


@pytest.fixture(scope="module")
def unit(flat_file: Path) -> Unit:
    return Unit(Device(load_device(flat_file)))


@pytest.fixture
def transport(unit: Unit) -> Iterator[FakeTransport]:
    with connected(unit) as made:
        yield made


def test_no_more_than_one_frame_is_kept_of_what_has_come(transport: FakeTransport) -> None:
    longest = frame(b"\x42" + bytes(252), 3)
    assert len(longest) == 260
    assert transport.room() == 260
    transport.feed(longest[:259])
    assert (transport.room(), transport.sent) == (1, b"")
    transport.feed(longest[259:])
    assert (transport.room(), transport.sent) == (260, frame(b"\xc2\x01", 3))


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_whatever_comes_there_is_room_for_what_one_frame_lacks(unit: Unit, sizes: list[int]) -> None:
    frames = [frame(b"\x42" + bytes(n % 253), n) for n in range(100)]
    ends = list(accumulate(len(each) for each in frames))
    stream, fed = b"".join(frames), 0
    with connected(unit) as transport:
        for size in sizes:
            fed += transport.feed(stream[fed : fed + size])
            begun = fed - max((end for end in ends if end <= fed), default=0)
            assert transport.room() == 260 - begun
        complete = sum(end <= fed for end in ends)
        assert transport.sent == b"".join(frame(b"\xc2\x01", n) for n in range(complete))
