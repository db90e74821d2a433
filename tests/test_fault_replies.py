"""Faults of replies over TCP: the exact bytes that a client gets, and what becomes of its connection."""

from __future__ import annotations

import select
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import psutil
import pytest
from fix_emulator import DEADLINE_S, RawClient, frame
from fix_faults import Site, serving, units_of
from waiting import wait_for

from plcsim.faults.reply_rules import Refusal, ReplyRule
from plcsim.faults.rules import FaultRule

READ_ONE = bytes.fromhex("03 0000 0001")
ONE = bytes.fromhex("03 02 1234")
WRITE_SEVEN = bytes.fromhex("06 0007")
READ_SEVEN = bytes.fromhex("03 0007 0001")
NEXT_ID = 0x7777
STILL_S = 0.4
"""Who has said nothing for so long says nothing."""
EARLY_S = 0.002
"""Timers of uvloop count milliseconds of their own and may be that early."""


@dataclass(frozen=True)
class Seen:
    """What a client sees of a request that is hit and of the one behind it, which is not."""

    data: bytes
    ending: str
    """open, if the next one was answered, or closed, reset or silent, if it was not."""


def seen(client: RawClient, still_s: float = DEADLINE_S) -> Seen:
    """What comes for a request, up to the reply to the next, or to the end, or to silence."""
    client.send(frame(READ_ONE) + frame(READ_ONE, NEXT_ID))
    answer, data = frame(ONE, NEXT_ID), b""
    while not data.endswith(answer):
        if not select.select([client.socket], [], [], still_s)[0]:
            return Seen(data, "silent")
        try:
            part = client.socket.recv(4096)
        except ConnectionResetError:
            return Seen(data, "reset")
        if not part:
            return Seen(data, "closed")
        data += part
    return Seen(data.removesuffix(answer), "open")


USUAL = Seen(frame(ONE), "open")

KINDS: dict[str, tuple[dict[str, Any], Seen]] = {
    "no_reply": ({}, Seen(b"", "open")),
    "exception": ({"code": 0x0B}, Seen(frame(b"\x83\x0b"), "open")),
    "busy": ({}, Seen(frame(b"\x83\x06"), "open")),
    "wrong_transaction_id": ({}, Seen(frame(ONE, 0x1235), "open")),
    "wrong_unit_id": ({"by": 255}, Seen(frame(ONE, unit=0), "open")),
    "wrong_function": ({}, Seen(frame(b"\x04" + ONE[1:]), "open")),
    "short_reply": ({"missing_bytes": 1}, Seen(frame(b"\x03\x01\x12"), "open")),
    "bad_length": ({"by": -2}, Seen(bytes.fromhex("1234 0000 0003 01") + ONE, "open")),
    "bad_protocol_id": ({"protocol_id": 0xBEEF}, Seen(bytes.fromhex("1234 beef 0005 01") + ONE, "open")),
    "truncate": ({}, Seen(frame(ONE)[:5], "closed")),
    "reset": ({}, Seen(b"", "reset")),
    "half_open": ({}, Seen(b"", "silent")),
}
"""Without those whose effect is not in the bytes alone: delay, drip and long_reply have their own tests."""


def test_every_kind_of_reply_fault_is_tested() -> None:
    rules = [rule for rule in get_args(FaultRule) if issubclass(rule, ReplyRule | Refusal)]
    kinds = {get_args(rule.model_fields["kind"].annotation)[0] for rule in rules}
    assert kinds == {*KINDS, "delay", "drip", "long_reply"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_gets_exactly_these_bytes(flat_site: Site, kind: str) -> None:
    keys, expected = KINDS[kind]
    flat_site.add(kind, count=1, **keys)
    with flat_site.connect() as client:
        assert seen(client, STILL_S if expected.ending == "silent" else DEADLINE_S) == expected
        peer = "{}:{}".format(*client.socket.getsockname())
    (event,) = flat_site.events()
    assert (event.kind, event.fault, event.device, event.peer) == (kind, f"{kind}-1", "flat", peer)
    assert (event.transaction_id, event.unit_id, event.function_code) == (0x1234, 1, 3)
    assert (event.address, event.quantity, event.plc_scan) == (0, 1, 0)
    status = flat_site.status()
    assert (status.fitted, status.fired, status.landed, status.in_force) == (1, 1, 1, False)


def test_without_a_fault_a_client_sees_none_of_this(flat_site: Site) -> None:
    with flat_site.connect() as client:
        assert seen(client) == USUAL
    assert all(expected != USUAL for _, expected in KINDS.values())
    assert flat_site.events() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_that_does_not_fit_changes_nothing(flat_site: Site, kind: str) -> None:
    flat_site.add(kind, addresses=[1, 65535], **KINDS[kind][0])
    with flat_site.connect() as client:
        assert seen(client) == USUAL
    assert flat_site.events() == []


def test_delay(flat_site: Site) -> None:
    with flat_site.connect() as client:
        assert duration_s(client) < 0.4
        flat_site.add("delay", seconds=0.5, count=1)
        assert duration_s(client) >= 0.5 - EARLY_S
        assert duration_s(client) < 0.4
    assert flat_site.status().landed == 1


def test_jitter_is_added_to_the_delay(flat_site: Site) -> None:
    flat_site.add("delay", seconds=0.02, jitter_s=0.05, count=5)
    with flat_site.connect() as client:
        took = [duration_s(client) for _ in range(5)]
    assert min(took) >= 0.02 - EARLY_S
    assert max(took) - min(took) > 0.002


def duration_s(client: RawClient) -> float:
    start = time.perf_counter()
    assert client.ask(READ_ONE) == ONE
    return time.perf_counter() - start


def test_drip(flat_site: Site) -> None:
    flat_site.add("drip", interval_s=0.02, count=1)
    with flat_site.connect() as client:
        start = time.perf_counter()
        client.send(frame(READ_ONE))
        parts = []
        while sum(map(len, parts)) < len(frame(ONE)):
            parts.append(client.socket.recv(100))
        assert time.perf_counter() - start >= (0.02 - EARLY_S) * (len(frame(ONE)) - 1)
        assert b"".join(parts) == frame(ONE)
        assert len(parts) > len(frame(ONE)) // 2
        assert client.ask(READ_ONE) == ONE


def test_what_is_behind_a_drip_waits_for_its_end(flat_site: Site) -> None:
    flat_site.add("drip", interval_s=0.005, count=1)
    with flat_site.connect() as client:
        assert seen(client) == USUAL


def test_long_reply(flat_site: Site) -> None:
    flat_site.add("long_reply", extra_bytes=3, count=1)
    with flat_site.connect() as client:
        got = seen(client)
    assert got.data[:11] == frame(bytes.fromhex("03 05 1234 000000"))[:11]
    assert (len(got.data), got.ending) == (14, "open")


def test_a_long_reply_ends_where_a_frame_does(flat_site: Site) -> None:
    flat_site.add("long_reply", extra_bytes=250)
    with flat_site.connect() as client:
        reply = client.ask(bytes.fromhex("03 0064 007d"))
        assert len(reply) == 253
        assert reply[1] == 251


@pytest.mark.parametrize("kind", ["short_reply", "long_reply"])
def test_a_write_has_no_data_to_take_or_add(flat_site: Site, kind: str) -> None:
    flat_site.add(kind)
    with flat_site.connect() as client:
        assert client.ask(WRITE_SEVEN + b"\x00\x01") == WRITE_SEVEN + b"\x00\x01"
    status = flat_site.status()
    assert (status.fired, status.landed) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "carried_out"),
    [("exception", False), ("busy", False), ("no_reply", True), ("reset", True), ("half_open", True)],
)
def test_only_a_refused_request_is_not_carried_out(flat_site: Site, kind: str, carried_out: bool) -> None:
    flat_site.add(kind, functions=[6])
    with flat_site.connect() as client:
        client.send(frame(WRITE_SEVEN + b"\x01\x02"))
        wait_for(flat_site.events)
    with flat_site.connect() as client:
        assert client.ask(READ_SEVEN)[2:] == (b"\x01\x02" if carried_out else b"\x00\x07")


@pytest.mark.parametrize("kind", ["reset", "truncate", "half_open"])
def test_nothing_behind_the_end_is_carried_out(flat_site: Site, kind: str) -> None:
    """Not even if it came in one piece with it, or if the end has to wait behind a delayed reply."""
    flat_site.add("delay", seconds=0.1, addresses=[5, 5])
    flat_site.add(kind, addresses=[0, 0])
    with flat_site.connect() as client:
        read_five = bytes.fromhex("03 0005 0001")
        client.send(frame(read_five, 1) + frame(READ_ONE) + frame(WRITE_SEVEN + b"\x01\x02"))
        assert client.reply() == (1, 1, bytes.fromhex("03 02 fffe"))
        if kind != "half_open":
            client.rest()
        with flat_site.connect() as other:
            assert other.ask(READ_SEVEN)[2:] == b"\x00\x07"


def test_faults_that_take_the_reply_away_leave_none_to_others(flat_site: Site) -> None:
    for kind in ("wrong_function", "truncate", "bit_flips"):
        flat_site.add(kind)
    flat_site.add("drip", interval_s=0.01)
    flat_site.add("no_reply")
    with flat_site.connect() as client:
        client.send(frame(READ_ONE))
        wait_for(flat_site.events)
        assert not select.select([client.socket], [], [], STILL_S)[0]
    assert [event.kind for event in flat_site.events()] == ["no_reply"]


def test_of_two_refusals_the_first_lands(flat_site: Site) -> None:
    for keys in ({"code": 4}, {"code": 5}):
        flat_site.add("exception", **keys)
    flat_site.add("long_reply")
    with flat_site.connect() as client:
        assert client.ask(READ_ONE) == b"\x83\x04"
    assert [event.fault for event in flat_site.events()] == ["exception-1"]


def test_faults_of_one_reply_add_up(flat_site: Site) -> None:
    flat_site.add("truncate", bytes=9)
    flat_site.add("wrong_transaction_id", by=0xFFFF)
    flat_site.add("delay", seconds=0.05)
    flat_site.add("delay", seconds=0.05)
    flat_site.add("wrong_function")
    with flat_site.connect() as client:
        start = time.perf_counter()
        client.send(frame(READ_ONE))
        assert client.rest() == frame(b"\x04" + ONE[1:], 0x1233)[:9]
        assert time.perf_counter() - start >= 0.1 - EARLY_S
    assert len(flat_site.events()) == 5


@pytest.mark.parametrize("other", ["short_reply", "long_reply", "truncate"])
def test_a_wrong_function_does_not_hide_the_read_from_other_faults(flat_site: Site, other: str) -> None:
    """In whatever order they were added: 5 is no read, so that nothing would be left to change."""
    seen_in_order = []
    for kinds in (("wrong_function", other), (other, "wrong_function")):
        for kind in kinds:
            flat_site.add(kind, **({"by": 2} if kind == "wrong_function" else {}))
        with flat_site.connect() as client:
            client.send(frame(READ_ONE))
            seen_in_order.append(client.socket.recv(100)[:8])
        assert all(status.landed == 1 for status in flat_site.call(flat_site.unit().faults.rules))
        flat_site.call(flat_site.unit().faults.clear)
    assert seen_in_order[0] == seen_in_order[1]


def test_half_a_frame_is_half_of_what_other_faults_made_of_it(flat_site: Site) -> None:
    flat_site.add("truncate")
    flat_site.add("long_reply", extra_bytes=10)
    with flat_site.connect() as client:
        client.send(frame(READ_ONE))
        assert len(client.rest()) == (len(frame(ONE)) + 10) // 2


@pytest.mark.parametrize("kept", [0, 1, 6, 7, 259])
def test_a_truncated_frame_is_never_whole(flat_site: Site, kept: int) -> None:
    flat_site.add("truncate", bytes=kept)
    with flat_site.connect() as client:
        client.send(frame(READ_ONE))
        assert client.rest() == frame(ONE)[: min(kept, 10)]


def test_a_delayed_reply_holds_up_those_behind_it(flat_site: Site) -> None:
    flat_site.add("delay", seconds=0.1, count=1)
    with flat_site.connect() as client:
        client.send(b"".join(frame(READ_ONE, n) for n in range(40)))
        assert [client.reply()[0] for _ in range(40)] == list(range(40))


def test_a_removed_fault_does_not_call_back_what_it_delayed(flat_site: Site) -> None:
    name = flat_site.add("delay", seconds=0.2)
    with flat_site.connect() as client:
        start = time.perf_counter()
        client.send(frame(READ_ONE, 1))
        wait_for(flat_site.events)
        flat_site.remove(name)
        client.send(frame(READ_ONE, 2))
        assert [client.reply()[0] for _ in range(2)] == [1, 2]
        assert time.perf_counter() - start >= 0.2 - EARLY_S


def test_count_is_of_requests_whether_their_replies_have_gone_or_not(flat_site: Site) -> None:
    flat_site.add("delay", seconds=0.1, count=2)
    with flat_site.connect() as client:
        client.send(b"".join(frame(READ_ONE, n) for n in range(5)))
        assert [client.reply()[0] for _ in range(5)] == list(range(5))
    assert flat_site.status().landed == 2


@pytest.mark.parametrize(
    "keys", [{"kind": "delay", "seconds": 0.3}, {"kind": "drip", "interval_s": 0.03}, {"kind": "half_open"}]
)
def test_a_client_that_leaves_meanwhile_is_forgotten(flat_site: Site, keys: dict[str, Any]) -> None:
    flat_site.add(**keys)
    files = psutil.Process().num_fds()
    client = flat_site.connect()
    client.send(frame(READ_ONE) * 3)
    wait_for(flat_site.events)
    client.socket.close()
    wait_for(lambda: not flat_site.server.connections, what="the client's leaving")
    wait_for(lambda: psutil.Process().num_fds() <= files, what="its descriptor")


def test_a_half_open_connection_stays_open(flat_site: Site) -> None:
    """For longer than the emulator takes to notice that a client has left."""
    flat_site.add("half_open", count=1)
    with flat_site.connect() as client:
        client.send(frame(READ_ONE))
        wait_for(flat_site.events)
        client.send(frame(READ_ONE))
        assert not select.select([client.socket], [], [], 1.5)[0]
        assert flat_site.server.connections == 1
        with flat_site.connect() as other:
            assert other.ask(READ_ONE) == ONE


@pytest.mark.parametrize(
    "keys", [{"kind": "delay", "seconds": 60}, {"kind": "drip", "interval_s": 60}, {"kind": "half_open"}]
)
def test_a_server_ends_without_waiting_for_its_faults(
    flat_file: Path, either_loop: bool, keys: dict[str, Any]
) -> None:
    with serving(units_of(flat_file), either_loop) as site:
        site.add(**keys)
        client = site.connect()
        client.send(frame(READ_ONE))
        wait_for(site.events)
        start = time.perf_counter()
    assert time.perf_counter() - start < 5
    with client:
        assert len(client.rest()) <= 1


def test_a_client_that_does_not_read_can_be_reset_and_leave(flat_site: Site) -> None:
    """Replies that cannot be sent, delayed ones behind them, and then the end."""
    flat_site.add("delay", seconds=0.05, every=7)
    client = RawClient(flat_site.server.port, buffer_bytes=4096)
    with client:
        client.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.socket.send(frame(bytes.fromhex("03 0064 007d")) * 10)
        wait_for(lambda: flat_site.server.connections == 1, what="the client")
        flat_site.add("reset")
        client.reset()
    wait_for(lambda: not flat_site.server.connections, what="the client's leaving")
    with flat_site.connect() as other:
        other.send(frame(READ_ONE))
        assert other.rest() == b""
