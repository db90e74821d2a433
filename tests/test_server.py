"""The server: framing, hostile bytes, clients that break off or do not read, PLC scans in time."""

from __future__ import annotations

import asyncio
import select
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from fix_emulator import DEADLINE_S, Emulator, RawClient, ald_device, emulating, frame
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_for, wait_for_async

from plcsim.codec import Codec
from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.errors import ListenError
from plcsim.parameters import Table
from plcsim.server import ModbusServer
from plcsim.truth import Truth

READ_ONE = bytes.fromhex("03 0000 0001")
ONE = bytes.fromhex("03 02 1234")
READ_MANY = bytes.fromhex("03 0064 007d")
WRITE_ONE = bytes.fromhex("10 0064 0002 04 0000 0000")
MANY_BYTES = 7 + 2 + 250
STILL_S = 0.3
"""A connection that cannot be written to for so long is not being read; TCP holds nothing back longer."""


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, flat_file: Path) -> Iterator[Emulator]:
    """The same on either event loop; it must not have logged anything when it ends."""
    with emulating(flat_file, uvloop=request.param == "uvloop") as emulator:
        yield emulator


@pytest.fixture
def client(server: Emulator) -> Iterator[RawClient]:
    with server.connect() as connected:
        yield connected


@pytest.fixture
def others(server: Emulator) -> Iterator[None]:
    """Another client is served before and after, whatever a test does."""
    with server.connect() as other:
        assert other.ask(READ_ONE) == ONE
        yield
        assert other.ask(READ_ONE) == ONE


def seen(server: Emulator) -> None:
    """Return when the server has been round its event loop: what was sent before has arrived."""
    with server.connect() as other:
        assert other.ask(READ_ONE) == ONE


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
@pytest.mark.parametrize("before", [0, 3])
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
    client.socket.shutdown(1)
    assert len(client.rest()) == 50 * MANY_BYTES


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("sent", [b"", b"\x00", frame(READ_ONE)[:9], 2000 * frame(READ_MANY)])
def test_a_client_that_resets_is_forgotten(server: Emulator, sent: bytes) -> None:
    process = psutil.Process(server.process.pid)
    before = process.num_fds()
    for _ in range(20):
        client = server.connect()
        client.send(sent)
        client.reset()
    wait_for(lambda: process.num_fds() <= before, what="the descriptors of reset connections")


def test_a_client_that_went_is_forgotten(flat_file: Path) -> None:
    async def main() -> None:
        async with ModbusServer(Device(load_device(flat_file)), "127.0.0.1", 0) as server:
            with RawClient(server.port):
                await wait_for_async(lambda: server.connections == 1, what="the client")
            await wait_for_async(lambda: server.connections == 0, what="the client's leaving")

    asyncio.run(main())


@pytest.mark.usefixtures("others")
def test_500_connections_leave_no_descriptor(server: Emulator) -> None:
    process = psutil.Process(server.process.pid)
    before = process.num_fds()
    for n in range(500):
        with server.connect() as client:
            if n % 2:
                assert client.ask(READ_ONE) == ONE
    wait_for(lambda: process.num_fds() <= before, what="the descriptors of closed connections")


@pytest.mark.usefixtures("others")
def test_300_idle_connections_hinder_nobody(server: Emulator) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(300)]
        assert [client.ask(READ_ONE) for client in idle] == 300 * [ONE]


def send_all_it_takes(server: Emulator, client: RawClient, joined: int = 500) -> int:
    """Send requests, so many at once; read no reply; the bytes after which the server takes no more."""
    requests = memoryview(joined * frame(READ_MANY, 77))
    sent = 0
    client.socket.setblocking(False)
    while select.select([], [client.socket], [], STILL_S)[1]:
        assert sent < 4_000_000, "the server goes on reading"
        sent += client.socket.send(requests[sent % len(requests) :])
        seen(server)
    client.socket.settimeout(DEADLINE_S)
    return sent


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("joined", [500, 31])
def test_a_client_that_never_reads_is_not_read_either_and_loses_nothing(
    server: Emulator, joined: int
) -> None:
    memory = psutil.Process(server.process.pid).memory_info
    before = memory().rss
    with server.connect(buffer_bytes=8192) as client:
        sent = send_all_it_takes(server, client, joined)
        assert memory().rss - before < 10_000_000
        many = frame(client.receive(MANY_BYTES)[7:], 77)
        for left in range(sent // 12 - 1, 0, -1000):
            assert client.receive(min(left, 1000) * MANY_BYTES) == min(left, 1000) * many


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("flood", [READ_MANY, WRITE_ONE], ids=["reads", "writes"])
def test_a_client_that_floods_does_not_keep_others_waiting(
    server: Emulator, client: RawClient, flood: bytes
) -> None:
    client.socket.settimeout(2.0)
    with server.connect() as flooder:
        sender = threading.Thread(target=_send_for_ever, args=(flooder, 20_000 * frame(flood)))
        receiver = threading.Thread(target=flooder.rest)
        sender.start()
        receiver.start()
        answers = [client.ask(READ_ONE) for _ in range(50)]
        flooder.socket.shutdown(2)
        sender.join(15)
        receiver.join(15)
    assert answers == 50 * [ONE]


def _send_for_ever(client: RawClient, data: bytes) -> None:
    with suppress(OSError):
        while True:
            client.send(data)


def counting_device(folder: Path, plc_scan_ms: float) -> Path:
    """62 registers pairs that all hold the PLC scan counter."""
    parameters = [
        {"id": i, "component": "plc", "name": f"scan_{i}", "address": 2 * i, "type": "uint32",
         "signal": {"kind": "plc_scan"}}
        for i in range(1, 63)
    ]  # fmt: skip
    counters = {"name": "counters", "table": "input_register", "parameters": parameters}
    device = {"device": {"device_id": "counting", "plc_scan_ms": plc_scan_ms}, "groups": [counters]}
    path = folder / "counting.yaml"
    path.write_text(yaml.safe_dump(device), encoding="utf-8")
    return path


COUNTERS = bytes.fromhex("04 0002 007c")


def plc_scans(reply: bytes) -> list[int]:
    """The different PLC scans that one reply shows, in the order of the registers."""
    return list(dict.fromkeys(struct.unpack(">62I", reply[2:])))


def test_every_reply_shows_one_plc_scan_and_they_only_go_up(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    with start_emulator(counting_device(tmp_path, 2)).connect() as client:
        replies = [client.ask(COUNTERS)]
        while plc_scans(replies[-1])[0] < plc_scans(replies[0])[0] + 200:
            replies.append(client.ask(COUNTERS))
    assert max(len(plc_scans(reply)) for reply in replies) == 1
    shown = [plc_scans(reply)[0] for reply in replies]
    assert shown == sorted(shown)
    assert len(set(shown)) > 100
    # Negative control: half of one reply and half of another is seen as torn.
    assert len(plc_scans(replies[0][:126] + replies[-1][126:])) == 2


def test_requests_that_come_together_are_answered_with_the_truth_of_one_plc_scan(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    groups = [(4, 0, 94), (4, 200, 14), (3, 100, 35), (1, 0, 43)]
    path = ald_device(tmp_path, 5)
    config = load_device(path)
    truth, visited = Truth(config), set()
    with start_emulator(path, "--start-scan", "1000").connect() as client:
        while len(visited) < 40:
            client.send(b"".join(frame(struct.pack(">BHH", *group)) for group in groups))
            values: dict[int, float] = {}
            for function, address, count in groups:
                table = {1: Table.COIL, 3: Table.HOLDING_REGISTER, 4: Table.INPUT_REGISTER}[function]
                inside = range(address, address + count)
                parameters = [p for p in config.register_map.in_table(table) if p.address in inside]
                data = np.frombuffer(client.reply()[2][2:], dtype=np.uint8)
                if function == 1:
                    data = np.unpackbits(data, bitorder="little")
                decoded = Codec(parameters, table, address).decode(data).tolist()
                values |= zip((p.parameter_id for p in parameters), decoded, strict=True)
            plc_scan = int(values[1])
            visited.add(plc_scan)
            expected = truth.values_at(np.array([plc_scan]))[0].tolist()
            assert [values[p.parameter_id] for p in config.register_map.parameters] == expected
    assert min(visited) >= 1000


def counter(client: RawClient) -> int:
    return plc_scans(client.ask(COUNTERS))[0]


def test_the_counter_starts_where_it_is_told_and_wraps(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    options = ("--start-scan", str(2**32 - 60))
    with start_emulator(counting_device(tmp_path, 10), *options).connect() as client:
        assert counter(client) >= 2**32 - 60
        wait_for(lambda: counter(client) < 1000, what="the wrap of the PLC scan counter")


def test_a_plc_that_was_held_up_goes_on_in_time_and_counts_what_it_skipped(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    emulator = start_emulator(counting_device(tmp_path, 10))
    with emulator.connect() as client:
        wait_for(lambda: counter(client) >= 20, what="20 PLC scans")
        first, start = counter(client), time.monotonic()
        emulator.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: time.monotonic() - start > 0.3, what="30 PLC scans' time")
        emulator.process.send_signal(signal.SIGCONT)
        wait_for(lambda: counter(client) > first + 40, what="the time that was lost")
        late = time.monotonic() - start - (counter(client) - first) * 0.01
    assert abs(late) < 0.05
    code, said, complaints = emulator.stop()
    assert (code, complaints) == (0, "")
    skipped = int(said.removesuffix(" PLC scans were skipped: this machine was too busy to compute them\n"))
    assert skipped >= 25


@pytest.mark.parametrize("uvloop", [True, False])
def test_an_emulator_that_stops_waits_for_no_client(
    flat_file: Path, start_emulator: Callable[..., Emulator], uvloop: bool
) -> None:
    emulator = start_emulator(flat_file, uvloop=uvloop)
    with emulator.connect(buffer_bytes=8192) as stalled, emulator.connect() as idle:
        send_all_it_takes(emulator, stalled)
        assert emulator.stop() == (0, "", "")
        assert idle.rest() == b""


def test_a_server_says_why_it_cannot_listen(flat_file: Path) -> None:
    device = Device(load_device(flat_file))

    async def main() -> None:
        async with ModbusServer(device, "127.0.0.1", 0) as server:
            with pytest.raises(ListenError, match=rf"127.0.0.1:{server.port}: the port is in use"):
                await ModbusServer(device, "127.0.0.1", server.port).__aenter__()
        with pytest.raises(ListenError, match=r"cannot listen at 203\.0\.113\.1:0: "):
            await ModbusServer(device, "203.0.113.1", 0).__aenter__()

    asyncio.run(main())


def test_what_breaks_the_plc_scanning_ends_the_serving(tmp_path: Path) -> None:
    class Broken(Device):
        def scan(self, plc_scan: int) -> None:
            if plc_scan > 2:
                raise ArithmeticError("division by zero")
            super().scan(plc_scan)

    async def main() -> None:
        async with ModbusServer(Broken(load_device(counting_device(tmp_path, 1))), "127.0.0.1", 0) as server:
            await server.serve_until(asyncio.Event())

    with pytest.raises(ArithmeticError):
        asyncio.run(main())
