"""Connections: clients that break off, do not read, stay silent or are too many, and what is left of them."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from fake_transport import FakeTransport, connected
from fix_emulator import DEADLINE_S, MANY_BYTES, ONE, READ_MANY, READ_ONE, Emulator, RawClient, frame, seen
from fix_faults import Site
from waiting import wait_for, wait_for_async

from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.tcp.server import ModbusServer
from plcsim.unit import Unit

WRITE_ONE = bytes.fromhex("10 0064 0002 04 0000 0000")
STILL_S = 0.3
"""A connection that cannot be written to for so long is not being read; TCP holds nothing back longer."""

Serve = Callable[..., Site]


@pytest.fixture
def client(server: Emulator) -> Iterator[RawClient]:
    with server.connect() as connected:
        yield connected


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
        async with ModbusServer(Unit(Device(load_device(flat_file)))) as server:
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


@pytest.mark.parametrize("uvloop", [True, False])
def test_an_emulator_that_stops_waits_for_no_client(
    flat_file: Path, start_emulator: Callable[..., Emulator], uvloop: bool
) -> None:
    emulator = start_emulator(flat_file, uvloop=uvloop)
    with emulator.connect(buffer_bytes=8192) as stalled, emulator.connect() as idle:
        send_all_it_takes(emulator, stalled)
        assert emulator.stop() == (0, "", "")
        assert idle.rest() == b""


def ask_until(client: RawClient, ended: Callable[[], bool]) -> None:
    """Ask again and again until something has happened; the answers must be right."""
    answers = []

    def ask() -> bool:
        answers.append(client.ask(READ_ONE))
        return ended()

    wait_for(ask, what="the end of another connection")
    assert set(answers) == {ONE}


def test_a_silent_connection_is_closed_after_the_idle_timeout_and_no_other(serve_flat: Serve) -> None:
    served = serve_flat(idle_timeout_s=0.3)
    with served.connect() as busy, served.connect() as silent:
        start = time.monotonic()
        ask_until(busy, lambda: bool(select.select([silent.socket], [], [], 0)[0]))
        assert 0.25 < time.monotonic() - start < 3.0
        assert silent.rest() == b""
        assert busy.ask(READ_ONE) == ONE
    assert served.server.timed_out_connections == 1


def test_without_an_idle_timeout_nobody_is_closed(serve_flat: Serve) -> None:
    served = serve_flat(frame_timeout_s=0.2)
    with served.connect() as silent, served.connect() as half:
        half.send(b"\x00")
        assert half.rest() == b""  # which is when sweeps have been made
        assert silent.ask(READ_ONE) == ONE
    assert served.server.timed_out_connections == 1


def test_a_client_that_waits_for_its_reply_is_not_idle(serve_flat: Serve) -> None:
    served = serve_flat({"kind": "delay", "seconds": 1.0}, idle_timeout_s=0.2)
    with served.connect() as client:
        assert client.ask(READ_ONE) == ONE
        assert client.rest() == b""
    assert served.server.timed_out_connections == 1


def test_a_silent_client_that_has_not_fetched_its_replies_is_closed_all_the_same(serve_flat: Serve) -> None:
    served = serve_flat(idle_timeout_s=0.4)
    with RawClient(served.server.port, 8192) as stalled:
        stalled.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                stalled.send(500 * frame(READ_MANY))
        wait_for(lambda: served.server.timed_out_connections, what="the timeout")
        wait_for(lambda: served.server.connections == 0, what="the end of the stalled connection")
    assert served.server.timed_out_connections == 1


def test_a_client_that_fetches_its_replies_slowly_is_not_idle(serve_flat: Serve) -> None:
    served, count = serve_flat(idle_timeout_s=0.5), 20_000
    with RawClient(served.server.port, 8192) as slow:
        sender = threading.Thread(target=slow.send, args=(count * frame(READ_MANY),))
        sender.start()
        for n in range(20):
            due = time.monotonic() + 0.08
            assert len(slow.receive(count // 20 * MANY_BYTES)) == count // 20 * MANY_BYTES, n
            wait_for(lambda due=due: time.monotonic() >= due, what="the time of the next part")
        sender.join(15)


def test_half_a_request_is_waited_for_only_so_long(serve_flat: Serve) -> None:
    served = serve_flat(frame_timeout_s=0.4)
    with served.connect() as client:
        client.send(frame(READ_ONE, 1) + frame(READ_ONE, 2)[:7])
        assert client.reply() == (1, 1, ONE)
        start = time.monotonic()
        assert client.rest() == b""
        assert 0.3 < time.monotonic() - start < 3.0
    assert served.server.timed_out_connections == 1


def test_a_request_byte_by_byte_does_not_outlast_the_frame_timeout(serve_flat: Serve) -> None:
    served = serve_flat(frame_timeout_s=0.4)
    request = frame(b"\x42" + bytes(252))
    with served.connect() as client:
        sent = iter(request[:-1])

        def send_one() -> bool:
            client.send(bytes((next(sent),)))
            return bool(select.select([client.socket], [], [], 0)[0])

        wait_for(send_one, what="the end of the slow connection")
        assert client.rest() == b""


def test_a_request_that_is_complete_in_time_is_answered(serve_flat: Serve) -> None:
    served = serve_flat(frame_timeout_s=5.0)
    with served.connect() as client:
        for byte in frame(READ_ONE, 4):
            client.send(bytes((byte,)))
        assert client.reply() == (4, 1, ONE)
    assert served.server.timed_out_connections == 0


def test_one_connection_too_many_is_refused(serve_flat: Serve) -> None:
    served = serve_flat(max_connections=2)
    with served.connect() as first, served.connect() as second:
        assert [first.ask(READ_ONE), second.ask(READ_ONE)] == [ONE, ONE]
        with served.connect() as third:
            assert third.rest() == b""
        assert [first.ask(READ_ONE), second.ask(READ_ONE)] == [ONE, ONE]
    wait_for(lambda: served.server.connections == 0, what="the leaving of both")
    assert served.server.refused_connections == 1
    with served.connect() as again:
        assert again.ask(READ_ONE) == ONE


def test_one_connection_too_many_ends_the_one_that_is_silent_longest(serve_flat: Serve) -> None:
    served = serve_flat(max_connections=2, when_full="close_oldest_idle")
    with served.connect() as first, served.connect() as second:
        assert [second.ask(READ_ONE), first.ask(READ_ONE)] == [ONE, ONE]
        with served.connect() as third:
            assert third.ask(READ_ONE) == ONE
            assert second.rest() == b""
            assert [first.ask(READ_ONE), third.ask(READ_ONE)] == [ONE, ONE]


def test_a_client_that_waits_for_its_reply_is_not_ended_for_another(serve_flat: Serve) -> None:
    served = serve_flat(
        {"kind": "delay", "seconds": 0.5, "functions": [3]}, max_connections=1, when_full="close_oldest_idle"
    )
    with served.connect() as waiting:
        waiting.send(frame(READ_ONE, 9))
        wait_for(lambda: served.server.units[1].faults.landed == 1, what="the delayed request")
        with served.connect() as newest:
            assert newest.rest() == b""
        assert waiting.reply() == (9, 1, ONE)


def test_without_a_cap_nobody_is_refused(serve_flat: Serve) -> None:
    served = serve_flat()
    with ExitStack() as stack:
        clients = [stack.enter_context(served.connect()) for _ in range(50)]
        assert [client.ask(READ_ONE) for client in clients] == 50 * [ONE]
    assert served.server.refused_connections == 0


def test_a_burst_of_connections_does_not_outnumber_the_cap(serve_flat: Serve, either_loop: bool) -> None:
    served = serve_flat(uvloop=either_loop, max_connections=2, when_full="close_oldest_idle")
    with ExitStack() as stack:
        clients = [socket.socket() for _ in range(12)]
        for client in clients:
            stack.enter_context(client)
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", served.server.port))
        wait_for(lambda: served.server.refused_connections == 10, what="the ten that are too many")
        ended = [client for client in clients if select.select([client], [], [], 1.0)[0]]
        assert len(ended) == 10


class SlowClient(FakeTransport):
    """A client that does not fetch its replies: with the first of them there are too many."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self.protocol.pause_writing()


def test_a_client_owes_nothing_while_the_server_waits_for_it_to_fetch_replies(flat_file: Path) -> None:
    loop = asyncio.new_event_loop()
    with connected(Unit(Device(load_device(flat_file))), loop, SlowClient) as client:
        client.feed(frame(READ_ONE, 1) + frame(READ_ONE, 2)[:5])
        assert not client.is_read
        assert client.protocol.frame_since == 0.0
        client.fetch()
        assert client.is_read
        assert client.protocol.frame_since > 0.0
        client.feed(frame(READ_ONE, 2)[5:])
        assert client.sent == frame(ONE, 1) + frame(ONE, 2)
    loop.close()
