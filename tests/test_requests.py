"""Requests and replies byte by byte, over a socket, as the Modbus specification has them."""

from __future__ import annotations

import struct
from itertools import product
from pathlib import Path

import pytest
from fix_emulator import BITS, RawClient
from hypothesis import given
from hypothesis import strategies as st

from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.protocol.requests import HANDLERS, Request, packed, respond, unpacked

READ_CASES = {
    # Holding registers: alone, both of a float, over a readable gap, the last two there are.
    "03 0000 0001": "03 02 1234",
    "03 0001 0002": "03 04 47f1 2000",
    "03 0000 0006": "03 0c 1234 47f1 2000 0000 0000 fffe",
    "03 0002 0003": "03 06 2000 0000 0000",
    "03 fffe 0002": "03 04 dead beef",
    "03 ffff 0001": "03 02 beef",
    "04 0000 0001": "04 02 4321",
    "04 0066 0004": "04 08 0101 0101 0202 0202",
    "04 ffff 0001": "04 02 55aa",
    # Bits: the first address is the least significant bit of the first byte.
    "01 0000 0008": "01 01 96",
    "01 0000 0010": "01 02 96 0f",
    "01 0000 0020": "01 04 96 0f c3 a5",
    "01 0000 0001": "01 01 00",
    "01 0001 0001": "01 01 01",
    "01 0001 0007": "01 01 4b",
    "01 0004 0009": "01 02 f9 00",
    "02 0000 0008": "02 01 69",
    "02 0000 0011": "02 03 69 f0 00",
    "02 0020 0020": "02 04 01 00 00 00",
}

READS = ("01", "02", "03", "04")
REFUSED_CASES = {
    # Function codes that are not there, whatever follows: 01.
    "00": "80 01",
    "42": "c2 01",
    "80": "80 01",
    "ff": "ff 01",
    "07": "87 01",
    "08 0000 1234": "88 01",
    "0c": "8c 01",
    "2b 0d 00": "ab 01",
    "83 0000 0001": "83 01",
    # Quantity: none, one too many; before the address is looked at: 03.
    **{f"{fc} {at} 0000": f"8{fc[1]} 03" for fc, at in product(READS, ("0000", "7000", "ffff"))},
    **{f"{fc} {at} 07d1": f"8{fc[1]} 03" for fc, at in product(("01", "02"), ("0000", "7000"))},
    **{f"{fc} {at} 007e": f"8{fc[1]} 03" for fc, at in product(("03", "04"), ("0064", "7000"))},
    **{f"{fc} 0000 ffff": f"8{fc[1]} 03" for fc in READS},
    "0f 0064 0000 00": "8f 03",
    "0f 0064 07b1 f7" + 247 * "00": "8f 03",
    "10 0064 0000 00": "90 03",
    "10 0064 007c f6" + 246 * "00": "90 03",
    # A single coil is FF00 or 0000, even where there is none.
    **{f"05 {at} {v}": "85 03" for at, v in product(("0022", "7000"), ("0001", "ff01", "1234", "00ff"))},
    # Byte counts that lie: about the quantity, or about what follows.
    "0f 0064 0008 02 ff00": "8f 03",
    "0f 0064 0009 01 ff": "8f 03",
    "0f 0064 0008 01": "8f 03",
    "0f 0064 0008 02 ff": "8f 03",
    "0f 7000 0008 01 ff00": "8f 03",
    "10 0064 0001 01 00": "90 03",
    "10 0064 0001 04 0000": "90 03",
    "10 0064 0001 04 0000 0000": "90 03",
    "10 0064 0002 04 0000 00": "90 03",
    "10 0064 0001 02 0000 0000": "90 03",
    "10 7000 0001 03 0000 00": "90 03",
    # Holes, beginnings and ends outside, past the last address: 02.
    **{f"{fc} 7000 0001": f"8{fc[1]} 02" for fc in READS},
    **{f"{fc} ffff 0002": f"8{fc[1]} 02" for fc in READS},
    "03 0006 0001": "83 02",
    "03 0005 0002": "83 02",
    "03 0006 0002": "83 02",
    "03 0005 0003": "83 02",
    "03 ffff 007d": "83 02",
    "04 0001 0001": "84 02",
    "01 0020 0001": "81 02",
    "01 0000 0021": "81 02",
    "01 0000 07d0": "81 02",
    "03 0000 007d": "83 02",
    # Writes to nothing, to a gap, to what clients may not write, and half of it: 02.
    "05 7000 ff00": "85 02",
    "05 0021 0000": "85 02",
    "06 7000 0000": "86 02",
    "06 0000 0000": "86 02",
    "06 0003 0000": "86 02",
    "0f 0021 0002 01 00": "8f 02",
    "0f 07d0 07b0 f6" + 246 * "00": "8f 02",
    "10 0007 0004 08 0000 0000 0000 0000": "90 02",
    "10 ffff 0002 04 0000 0000": "90 02",
    "10 00e2 0001 02 0000": "90 02",
    # Mask write, and read and write in one.
    "16 7000 0000 0000": "96 02",
    "16 0000 0000 0000": "96 02",
    "16 0007 0000": "96 03",
    "17 0006 0001 0007 0001 02 0000": "97 02",
    "17 0007 0001 0000 0001 02 0000": "97 02",
    "17 7000 007e 7000 0001 02 0000": "97 03",
    "17 0007 0001 0007 0001 03 0000 00": "97 03",
}

WRITE_CASES = [
    # request, reply, then what reading the place gives
    ("05 0022 ff00", "05 0022 ff00", "01 0021 0003", "01 01 03"),
    ("05 0022 0000", "05 0022 0000", "01 0021 0002", "01 01 01"),
    ("06 0007 8001", "06 0007 8001", "03 0007 0001", "03 02 8001"),
    ("0f 0065 000a 02 cd01", "0f 0065 000a", "01 0064 000c", "01 02 9a03"),
    ("0f 0065 0001 01 ff", "0f 0065 0001", "01 0065 0001", "01 01 01"),
    ("10 0008 0002 04 47f1 2000", "10 0008 0002", "03 0007 0004", "03 08 0007 47f1 2000 000a"),
    ("10 0007 0003 06 0001 c000 0000", "10 0007 0003", "03 0007 0003", "03 06 0001 c000 0000"),
    ("10 fffe 0002 04 0102 0304", "10 fffe 0002", "03 fffe 0002", "03 04 0102 0304"),
    ("16 0007 0005 a5c3", "16 0007 0005 a5c3", "03 0007 0001", "03 02 a5c7"),
    ("17 0007 0002 0008 0001 02 c0de", "17 04 0007 c0de", "03 0007 0002", "03 04 0007 c0de"),
]
AFTER_EACH_WRITE = ("06 0007 0007", "10 fffe 0002 04 dead beef", f"0f 0064 0020 04 {4 * '00'}")


@pytest.mark.parametrize(("request_pdu", "reply"), READ_CASES.items())
def test_a_read_gives_exactly_these_bytes(client: RawClient, request_pdu: str, reply: str) -> None:
    assert client.ask(bytes.fromhex(request_pdu)).hex() == bytes.fromhex(reply).hex()


@pytest.mark.parametrize(("request_pdu", "reply"), REFUSED_CASES.items(), ids=lambda text: text[:24])
def test_a_request_that_cannot_be_served_gets_its_exception(
    client: RawClient, request_pdu: str, reply: str
) -> None:
    assert client.ask(bytes.fromhex(request_pdu)).hex(" ") == reply


@pytest.mark.parametrize(("request_pdu", "reply", "read", "shows"), WRITE_CASES)
def test_a_write_is_echoed_and_shows_at_once(
    client: RawClient, request_pdu: str, reply: str, read: str, shows: str
) -> None:
    assert client.ask(bytes.fromhex(request_pdu)) == bytes.fromhex(reply)
    assert client.ask(bytes.fromhex(read)) == bytes.fromhex(shows)
    for undo in AFTER_EACH_WRITE:
        assert client.ask(bytes.fromhex(undo))[0] < 0x80


@pytest.mark.parametrize("count", [1, 7, 8, 9, 15, 16, 17, 31, 32])
@pytest.mark.parametrize("first", [0, 1, 5, 8])
def test_bits_are_packed_from_the_lowest_and_padded_with_zeros(
    client: RawClient, first: int, count: int
) -> None:
    count = min(count, 32 - first)
    expected = ((BITS >> first) & (2**count - 1)).to_bytes((count + 7) // 8, "little")
    got = client.ask(struct.pack(">BHH", 1, first, count))
    assert got == bytes((1, len(expected))) + expected


@pytest.mark.parametrize(("function", "address", "most"), [(1, 100, 2000), (2, 0, 2000), (3, 100, 125)])
def test_the_largest_read_is_served(client: RawClient, function: int, address: int, most: int) -> None:
    size = most // 8 if function < 3 else 2 * most
    reply = client.ask(struct.pack(">BHH", function, address, most))
    assert reply[:2] == bytes((function, size))
    assert len(reply) == 2 + size <= 253


def test_the_largest_writes_are_served(client: RawClient) -> None:
    for function, read, most, size in ((15, 1, 1968, 246), (16, 3, 123, 246)):
        data = bytes(1 + i % 255 for i in range(size))
        for written in (data, bytes(size)):
            request = struct.pack(">BHHB", function, 100, most, size) + written
            assert client.ask(request) == request[:5]
            assert client.ask(struct.pack(">BHH", read, 100, most))[2:] == written


@pytest.mark.parametrize("request_pdu", ["03 0000 0001", *(case[0] for case in WRITE_CASES)])
def test_a_pdu_that_is_too_short_or_too_long_is_a_wrong_value(client: RawClient, request_pdu: str) -> None:
    whole = bytes.fromhex(request_pdu)
    refused = bytes((whole[0] | 0x80, 3))
    assert [client.ask(whole[:size]) for size in range(1, len(whole))] == [refused] * (len(whole) - 1)
    assert client.ask(whole + b"\x00") == refused


@pytest.fixture(scope="module")
def device(flat_file: Path) -> Device:
    return Device(load_device(flat_file))


def ask(device: Device, pdu: bytes) -> bytes:
    return respond(device, Request(1, 1, pdu, "test"), HANDLERS)


READABLE = {*range(6), *range(7, 11), *range(100, 226), 65534, 65535}
WRITABLE = {*range(7, 10), *range(100, 226), 65534, 65535}
"""Holding registers of the flat device."""


@pytest.mark.parametrize(("function", "there", "most"), [(3, READABLE, 125), (16, WRITABLE, 123)])
def test_a_request_is_served_exactly_where_all_its_addresses_are_there(
    device: Device, function: int, there: set[int], most: int
) -> None:
    wrong = []
    for first, count in product([*range(240), *range(65400, 65536)], range(1, most + 1)):
        request = struct.pack(">BHH", function, first, count)
        if function == 16:
            request += bytes((2 * count,)) + bytes(2 * count)
        served = ask(device, request)[0] == function
        if served != there.issuperset(range(first, first + count)):
            wrong.append((first, count))
    assert wrong == []


edges = st.sampled_from([0, 1, 5, 33, 99, 100, 101, 225, 226, 2115, 2116, 65533, 65534, 65535])
counts = st.sampled_from([0, 1, 2, 8, 9, 123, 124, 125, 126, 1968, 1969, 2000, 2001, 65535])
words = st.integers(0, 0xFFFF)
KNOWN = (1, 2, 3, 4, 5, 6, 15, 16, 22, 23)
known = st.sampled_from(KNOWN)
pdus = st.binary(min_size=1, max_size=253) | st.builds(
    lambda fc, at, n, rest: (struct.pack(">BHH", fc, at, n) + rest)[:253],
    known,
    edges | words,
    counts | words,
    st.just(b"") | st.binary(max_size=253).map(lambda data: bytes((len(data) % 256,)) + data),
)


@given(pdu=pdus)
def test_any_pdu_gets_a_valid_reply(device: Device, pdu: bytes) -> None:
    reply = ask(device, pdu)
    assert 2 <= len(reply) <= 253
    if reply[0] != pdu[0] or len(reply) == 2:
        assert (reply[0], len(reply)) == (pdu[0] | 0x80, 2)
        assert reply[1] in ((2, 3) if pdu[0] in KNOWN else (1,))
        return
    address, count = struct.unpack(">HH", pdu[1:5])
    if pdu[0] in (1, 2, 3, 4, 23):
        size = (count + 7) // 8 if pdu[0] <= 2 else 2 * count
        assert (reply[1], len(reply)) == (size, size + 2)
    elif pdu[0] == 22:
        assert reply == pdu
    else:
        assert reply == pdu[:5]
        assert address + (count if pdu[0] in (15, 16) else 1) <= 65536


@given(address=st.integers(100, 225), data=st.data())
def test_whatever_is_written_is_read_back(device: Device, address: int, data: st.DataObject) -> None:
    registers = data.draw(st.lists(words, min_size=1, max_size=min(123, 226 - address)))
    coded = struct.pack(f">{len(registers)}H", *registers)
    request = struct.pack(">BHHB", 16, address, len(registers), len(coded)) + coded
    assert ask(device, request) == request[:5]
    reply = ask(device, struct.pack(">BHH", 3, address, len(registers)))
    assert reply == bytes((3, len(coded))) + coded


@given(now=words, and_mask=words, or_mask=words)
def test_a_mask_write_keeps_the_bits_of_the_and_mask_and_takes_the_others(
    device: Device, now: int, and_mask: int, or_mask: int
) -> None:
    assert ask(device, struct.pack(">BHH", 6, 7, now))[0] == 6
    request = struct.pack(">BHHH", 22, 7, and_mask, or_mask)
    assert ask(device, request) == request
    shown = int.from_bytes(ask(device, bytes.fromhex("03 0007 0001"))[2:])
    for bit in (1 << i for i in range(16)):
        assert shown & bit == (now if and_mask & bit else or_mask) & bit


@given(read=st.integers(100, 225), write=st.integers(100, 225), data=st.data())
def test_function_23_reads_what_it_has_written(
    device: Device, read: int, write: int, data: st.DataObject
) -> None:
    registers = data.draw(st.lists(words, min_size=1, max_size=min(121, 226 - write)))
    count = data.draw(st.integers(1, min(125, 226 - read)))
    coded = struct.pack(f">{len(registers)}H", *registers)
    request = struct.pack(">BHHHHB", 23, read, count, write, len(registers), len(coded)) + coded
    reply = ask(device, request)
    assert reply[1:] == ask(device, struct.pack(">BHH", 3, read, count))[1:]
    assert ask(device, struct.pack(">BHH", 3, write, len(registers)))[2:] == coded


@given(bits=st.lists(st.integers(0, 1), min_size=1, max_size=2000))
def test_packed_coils_are_unpacked_again(bits: list[int]) -> None:
    data = packed(bytes(bits))
    assert len(data) == (len(bits) + 7) // 8
    assert unpacked(data, len(bits)) == bytes(bits)
    assert int.from_bytes(data, "little") == sum(bit << i for i, bit in enumerate(bits))
