"""Several requests of one connection that wait for their replies: their order, their numbers, how many."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from fix_emulator import RawClient, frame
from fix_faults import Site
from waiting import wait_for

Serve = Callable[..., Site]

READ_HOLDING, HOLDING = bytes.fromhex("03 0000 0001"), bytes.fromhex("03 02 1234")
READ_INPUT, INPUT = bytes.fromhex("04 0000 0001"), bytes.fromhex("04 02 4321")


def slow(seconds: float, *functions: int) -> dict[str, object]:
    return {"kind": "delay", "seconds": seconds, "functions": list(functions)}


@pytest.mark.parametrize("uvloop", [True, False])
def test_replies_come_in_order_each_under_its_own_number(serve_flat: Serve, uvloop: bool) -> None:
    jitter = slow(0.0, 3) | {"jitter_s": 0.3}
    site = serve_flat(jitter, uvloop=uvloop, max_outstanding=1000)
    numbers = [65535, 0, 7, 7, *range(1000, 1400)]
    with site.connect() as client:
        client.send(b"".join(frame(READ_INPUT if n % 3 else READ_HOLDING, n) for n in numbers))
        expected = [(n, 1, INPUT if n % 3 else HOLDING) for n in numbers]
        assert [client.reply() for _ in numbers] == expected
    assert site.status().landed == sum(n % 3 == 0 for n in numbers)


def test_with_reorder_a_reply_does_not_wait_for_those_before_it(serve_flat: Serve) -> None:
    site = serve_flat(slow(0.4, 3), reorder=True)
    with site.connect() as client:
        client.send(frame(READ_HOLDING, 1) + frame(READ_INPUT, 2) + frame(READ_HOLDING, 3))
        assert [client.reply() for _ in range(3)] == [(2, 1, INPUT), (1, 1, HOLDING), (3, 1, HOLDING)]


def test_without_reorder_it_does(serve_flat: Serve) -> None:
    site = serve_flat(slow(0.4, 3))
    with site.connect() as client:
        client.send(frame(READ_HOLDING, 1) + frame(READ_INPUT, 2) + frame(READ_HOLDING, 3))
        assert [client.reply() for _ in range(3)] == [(1, 1, HOLDING), (2, 1, INPUT), (3, 1, HOLDING)]


def test_delays_of_one_connection_run_side_by_side(serve_flat: Serve) -> None:
    site = serve_flat(slow(0.4, 3), max_outstanding=16)
    with site.connect() as client:
        start = time.monotonic()
        client.send(b"".join(frame(READ_HOLDING, n) for n in range(16)))
        assert [client.reply()[0] for _ in range(16)] == list(range(16))
        assert 0.4 <= time.monotonic() - start < 1.5


def test_more_than_max_outstanding_are_not_taken_before_one_has_gone(serve_flat: Serve) -> None:
    site = serve_flat(slow(0.4, 3), max_outstanding=2)
    with site.connect() as client:
        start = time.monotonic()
        client.send(b"".join(frame(READ_HOLDING, n) for n in range(6)))
        wait_for(lambda: site.status().fitted, what="the first request")
        for _ in range(10):
            with site.connect() as other:
                assert other.ask(READ_INPUT) == INPUT
        if time.monotonic() - start < 0.4:
            assert site.status().fitted == 2
        assert [client.reply()[0] for _ in range(6)] == list(range(6))
        assert 1.2 <= time.monotonic() - start < 4.0


def test_a_slow_reply_keeps_nobody_else_waiting(serve_flat: Serve) -> None:
    site = serve_flat(slow(2.0, 3))
    with site.connect() as waiting, site.connect() as other:
        start = time.monotonic()
        waiting.send(frame(READ_HOLDING, 5))
        assert [other.ask(READ_INPUT) for _ in range(20)] == 20 * [INPUT]
        assert time.monotonic() - start < 2.0
        assert waiting.reply() == (5, 1, HOLDING)


def test_what_comes_in_pieces_behind_a_slow_reply_is_not_lost(serve_flat: Serve) -> None:
    site = serve_flat(slow(0.3, 3), max_outstanding=1)
    stream = b"".join(frame(READ_HOLDING if n % 4 == 0 else READ_INPUT, n) for n in range(9))
    with site.connect() as client:
        for start in range(0, len(stream), 5):
            client.send(stream[start : start + 5])
        expected = [(n, 1, INPUT if n % 4 else HOLDING) for n in range(9)]
        assert [client.reply() for _ in range(9)] == expected


def test_a_client_that_leaves_while_its_reply_waits_leaves_nothing_behind(serve_flat: Serve) -> None:
    site = serve_flat(slow(30.0, 3))
    with RawClient(site.server.port) as client:
        client.send(frame(READ_HOLDING))
        wait_for(lambda: site.status().landed, what="the delayed request")
    wait_for(lambda: site.server.connections == 0, what="the client's leaving")


def test_a_client_that_leaves_a_full_connection_leaves_nothing_behind(
    serve_flat: Serve, either_loop: bool
) -> None:
    """The connection is not read any more: nobody but its own look at the socket could notice."""
    site = serve_flat(slow(30.0, 3), uvloop=either_loop, max_outstanding=1)
    with RawClient(site.server.port) as client:
        client.send(2 * frame(READ_HOLDING))
        wait_for(lambda: site.status().landed, what="the delayed request")
    wait_for(lambda: site.server.connections == 0, what="the client's leaving")
