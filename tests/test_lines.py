"""One connection a host and port, pauses that a device wants, and units that do not answer."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_plc import Piece, ScriptedPlc, asked, frame, in_loop, right_answer
from waiting import wait_for_async

from logger.errors import ExceptionReply, PlcError, PlcNotConnected, PlcUnreachable
from logger.reading.back_off import LONGEST_S, BackOff
from logger.reading.line import Line
from logger.reading.plc import Lines, PlcConnection
from logger.reading.read_plan import ReadBlock
from plcsim.config import ModbusSpec
from plcsim.parameters import Table

BLOCK = ReadBlock(Table.HOLDING_REGISTER, 10, 2, ())
RIGHT = [0, 10, 0, 11]
HOST = "127.0.0.1"


def unit(number: int, **modbus: object) -> ModbusSpec:
    return ModbusSpec.model_validate({"unit_id": number, "timeout_s": 2.0, **modbus})


def test_units_behind_one_port_share_one_connection_and_take_turns() -> None:
    async def scenario() -> None:
        async with ScriptedPlc(lambda request: [0.002, *right_answer(request)]) as plc:
            lines = Lines()
            units = [lines.unit(HOST, plc.port, unit(number)) for number in (1, 2, 3)]
            assert lines.unit(HOST, plc.port, unit(2)) is units[1]
            replies = await asyncio.gather(*(u.read(BLOCK) for u in units for _ in range(5)))
            assert [data.tolist() for data in replies] == [RIGHT] * 15
            assert len(plc.writers) == 1
            assert sorted(asked(r)[1] for r in plc.requests) == [1] * 5 + [2] * 5 + [3] * 5
            assert len({asked(r)[0] for r in plc.requests}) == 15  # transaction ids
            assert sum(u.figures.connects for u in units) == 1
            assert [u.figures.requests for u in units] == [5, 5, 5]
            lines.close()

    in_loop(scenario())


def test_line_keeps_the_longest_pauses_that_a_unit_wants() -> None:
    async def scenario() -> None:
        lines = Lines()
        lines.unit(HOST, 1, unit(1, pause_between_requests_s=0.5))
        lines.unit(HOST, 1, unit(2, pause_after_connect_s=0.25, close_after_scan=True))
        line = lines.line(HOST, 1, unit(3))
        assert (line.pause_between_requests_s, line.pause_after_connect_s) == (0.5, 0.25)
        assert line.close_after_scan
        assert lines.line(HOST, 2, unit(3)) is not line

    in_loop(scenario())


@pytest.mark.parametrize(("after_connect_s", "between_s"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.03)])
def test_device_gets_the_pauses_that_it_wants(after_connect_s: float, between_s: float) -> None:
    times: list[float] = []

    def noted(request: bytes) -> list[Piece]:
        times.append(time.monotonic())
        return right_answer(request)

    async def scenario() -> None:
        async with ScriptedPlc(noted) as plc:
            client = PlcConnection(Line(HOST, plc.port, after_connect_s, between_s), 1, 2.0)
            await client.connect()
            connected = time.monotonic()
            for _ in range(3):
                await client.read(BLOCK)
            client.close()
            assert times[0] - connected >= after_connect_s * 0.9  # the pause began a moment before
            assert all(b - a >= between_s for a, b in pairwise(times))

    in_loop(scenario())


@pytest.mark.parametrize("close", [True, False])
def test_connection_is_given_up_after_each_scan_if_the_device_wants_that(close: bool) -> None:
    async def scenario() -> None:
        async with ScriptedPlc() as plc:
            client = PlcConnection(Line(HOST, plc.port, close_after_scan=close), 1, 2.0)
            for _ in range(3):
                await client.read(BLOCK)
                await client.read(BLOCK)
                client.scan_done()
            assert len(plc.writers) == (3 if close else 1)
            client.close()

    in_loop(scenario())


def test_connection_that_was_closed_while_idle_costs_no_scan() -> None:
    """Many PLCs close what is idle for long; and the request can cross the close."""

    async def scenario() -> None:
        async with ScriptedPlc() as plc:
            client = PlcConnection(Line(HOST, plc.port), 1, 2.0)
            await client.read(BLOCK)
            plc.answer = lambda request: [None] if len(plc.writers) == 1 else right_answer(request)
            assert (await client.read(BLOCK)).tolist() == RIGHT
            assert len(plc.writers) == 2
            assert client.figures.requests == 3
            plc.answer = lambda request: [None]  # one that always closes is not asked for ever
            with pytest.raises(PlcUnreachable, match="closed the connection"):
                await client.read(BLOCK)
            assert len(plc.writers) == 3
            assert client.figures.closed == 1

    in_loop(scenario())


def test_connection_that_ended_while_it_was_made_costs_no_scan() -> None:
    """pymodbus takes it for open, and uvloop's RuntimeError, when we write, once ended the logger."""

    async def scenario() -> None:
        async with ScriptedPlc(right_answer) as plc:
            client = Lines().unit(HOST, plc.port, unit(1))
            assert (await client.read(BLOCK)).tolist() == RIGHT
            wire = client._line._wire
            assert wire is not None
            transport = wire.transport
            transport.abort()  # type: ignore[union-attr]
            await wait_for_async(lambda: wire.transport is None)
            wire.transport = transport  # as pymodbus has it if the end comes while it connects
            assert (await client.read(BLOCK)).tolist() == RIGHT
            assert len(plc.writers) == 2
            client.close()

    in_loop(scenario())


async def tried(client: PlcConnection, scans: int) -> list[float]:
    """How long each of so many reads took that failed."""
    taken = []
    for _ in range(scans):
        began = time.monotonic()
        with pytest.raises(PlcError):
            await client.read(BLOCK)
        taken.append(time.monotonic() - began)
    return taken


@pytest.mark.parametrize("protected", [True, False])
def test_silent_unit_is_left_alone_and_its_neighbours_are_not_held_up(
    protected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control has no pauses: then every read of the silent unit costs its timeout, and the line."""
    if not protected:
        monkeypatch.setattr(BackOff, "is_waiting", property(lambda self: False))
    timeout_s = 0.1

    def answer(request: bytes) -> list[Piece]:
        return [] if asked(request)[1] == 2 else right_answer(request)

    async def scenario() -> None:
        async with ScriptedPlc(answer) as plc:
            line = Line(HOST, plc.port)
            well, silent = PlcConnection(line, 1, 2.0), PlcConnection(line, 2, timeout_s)
            silent._back_off._chance = lambda: 1.0
            taken = await tried(silent, 10)
            waited = sum(t >= 0.9 * timeout_s for t in taken)  # timers may end a little early
            assert (silent.state, silent.figures.timeouts) == ("unresponsive", waited)
            began = time.monotonic()
            assert (await well.read(BLOCK)).tolist() == RIGHT
            assert time.monotonic() - began < timeout_s
            assert waited == (2 if protected else 10)  # at once twice, then never within the pause
            plc.answer = right_answer
            await wait_for_async(lambda: not silent.is_left_alone)
            assert (await silent.read(BLOCK)).tolist() == RIGHT
            assert silent.state == well.state == "connected"
            line.close()

    in_loop(scenario())


def test_gateway_that_reports_a_silent_unit_is_not_asked_for_it_again_at_once() -> None:
    async def scenario() -> None:
        async with ScriptedPlc(lambda request: [frame(asked(request)[0], b"\x83\x0b")]) as plc:
            client = PlcConnection(Line(HOST, plc.port), 1, 2.0)
            client._back_off._chance = lambda: 1.0
            for _ in range(10):
                with pytest.raises(ExceptionReply) as e:
                    await client.read(BLOCK)
                assert e.value.code == 11
            assert len(plc.requests) == client.figures.exceptions[11] == 2
            assert len(plc.writers) == 1  # the gateway itself is well
            client.close()

    in_loop(scenario())


def test_nobody_listening_fails_at_once_while_it_is_too_early_to_try_again() -> None:
    async def scenario() -> None:
        plc = ScriptedPlc()
        async with plc:
            pass
        client = PlcConnection(Line(HOST, plc.port), 1, 2.0)
        client._line._back_off._chance = lambda: 1.0
        for _ in range(5):
            with pytest.raises(PlcNotConnected):
                await client.read(BLOCK)
        assert client._line._back_off.failures == 2
        assert client.state == "not connected"
        async with plc:
            await wait_for_async(lambda: not client.is_left_alone)
            assert (await client.read(BLOCK)).tolist() == RIGHT
            assert client.state == "connected"
            client.close()

    in_loop(scenario())


def test_read_that_is_told_to_end_leaves_no_reply_behind() -> None:
    """Its reply would be taken for that of the next request."""

    async def scenario() -> None:
        async with ScriptedPlc(lambda request: [0.05, *right_answer(request)]) as plc:
            client = PlcConnection(Line(HOST, plc.port), 1, 2.0)
            reading = asyncio.ensure_future(client.read(BLOCK))
            await wait_for_async(lambda: plc.requests)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert client.state == "not connected"
            assert (await client.read(BLOCK)).tolist() == RIGHT
            client.close()

    in_loop(scenario())


@given(st.floats(0.01, 60.0), st.lists(st.floats(0.0, 1.0, exclude_max=True), max_size=40))
def test_pauses_grow_with_jitter_and_never_beyond_five_seconds(base_s: float, chances: list[float]) -> None:
    clock, numbers = [10**18], iter([*chances, 0.0])
    back_off = BackOff(base_s, lambda: clock[0], lambda: next(numbers))
    back_off.failed()
    assert not back_off.is_waiting  # one lost reply costs nothing
    for n, chance in enumerate(chances):
        back_off.failed()
        pause_ns = min(LONGEST_S, base_s * 2**n) * chance * 1e9
        assert pause_ns <= LONGEST_S * 1e9
        clock[0] += max(0, int(pause_ns) - 2)
        assert back_off.is_waiting or pause_ns < 3
        clock[0] += 4
        assert not back_off.is_waiting
    back_off.succeeded()
    assert (back_off.failures, back_off.is_waiting) == (0, False)
