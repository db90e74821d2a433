"""Reading a scan when it is due: each value with its quality, misses as gaps, whatever the PLC does."""

from __future__ import annotations

import asyncio
import logging
import struct
import time

import numpy as np
import pytest
from fix_scans import BAKING, HEAT, LAMP, NUMBER, RUNNING, TARGET, Oven
from scripted_plc import Answer, Piece, ScriptedPlc, asked, frame, in_loop, right_answer

from logger.reading.plc import PlcConnection
from logger.reading.poller import Poller, Reader
from logger.reading.read_plan import plan_reads
from logger.reading.schedule import Due, Schedule
from logger.scan import Gap, Quality, Scan

MS = 1_000_000
FUNCTION_OF = {LAMP: 1, TARGET: 3, RUNNING: 4, NUMBER: 4, HEAT: 4}


def registers(request: bytes, data: bytes) -> list[Piece]:
    transaction_id, unit, function, _, _ = asked(request)
    return [frame(transaction_id, bytes((function, len(data))) + data, unit)]


def oven_answer(
    running: int = 0, number: int = 0, heat: float = 180.5, target: float = 200.0, lamp: int = 1
) -> Answer:
    """A PLC with these values."""
    data = {
        1: bytes((lamp,)),
        3: struct.pack(">f", target),
        4: struct.pack(">HIf", running, number, heat),
    }
    return lambda request: registers(request, data[asked(request)[2]])


def but(function: int, pieces: list[Piece]) -> Answer:
    """A PLC that answers one function in another way; a piece of 2 bytes goes out as a PDU."""

    def answer(request: bytes) -> list[Piece]:
        transaction_id, _, asked_for, _, _ = asked(request)
        if asked_for != function:
            return oven_answer()(request)
        return [frame(transaction_id, p) if isinstance(p, bytes) and len(p) == 2 else p for p in pieces]

    return answer


def reader(oven: Oven, plc: ScriptedPlc, timeout_s: float = 2.0) -> Reader:
    connection = PlcConnection("127.0.0.1", plc.port, 1, timeout_s)
    return Reader(connection, plan_reads(oven.config), oven.config)


def test_scan_holds_every_value_with_the_time_of_its_reply(oven: Oven) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(oven_answer(1, BAKING)) as plc:
            before = time.time_ns() // 1000
            scan = await reader(oven, plc).read(17)
            assert scan.number == 17
            assert scan.values.tolist() == [1.0, BAKING, 180.5, 200.0, 1.0]
            assert scan.quality.tolist() == [Quality.GOOD] * 5
            in_order = scan.recorded_at[[LAMP, TARGET, HEAT]]
            assert before <= in_order[0] < in_order[1] < in_order[2] <= time.time_ns() // 1000
            assert len(set(scan.recorded_at.tolist())) == 3  # one time a block

    in_loop(scenario())


@pytest.mark.parametrize(
    ("code", "quality"),
    [(1, 4), (2, 4), (3, 4), (4, 12), (5, 68), (6, 68), (8, 12), (10, 24), (11, 24), (200, 24)],
)
@pytest.mark.parametrize("column", [LAMP, TARGET, HEAT])
def test_refused_block_leaves_the_others(oven: Oven, column: int, code: int, quality: int) -> None:
    function = FUNCTION_OF[column]

    async def scenario() -> None:
        async with ScriptedPlc(but(function, [bytes((function | 0x80, code))])) as plc:
            reading = reader(oven, plc)
            scan = await reading.read(1)
            refused = [c for c in range(5) if FUNCTION_OF[c] == function]
            assert np.isnan(scan.values[refused]).all()
            assert np.isfinite(np.delete(scan.values, refused)).all()
            assert scan.quality.tolist() == [quality if c in refused else 192 for c in range(5)]
            assert reading.errors == 1
            assert len(plc.writers) == 1

    in_loop(scenario())


@pytest.mark.parametrize(
    ("pieces", "quality", "requests"),
    [
        ([b"\x01\x00"], [192, 192, 192, 192, 24], 3),  # a bad reply: the other blocks are still read
        ([], [24] * 5, 1),  # silence: one timeout a scan is enough
        ([None], [24] * 5, 1),
    ],
    ids=["bad reply", "silence", "close"],
)
def test_block_that_fails_and_those_behind_it(
    oven: Oven, pieces: list[Piece], quality: list[int], requests: int
) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(but(1, pieces)) as plc:
            scan = await reader(oven, plc, timeout_s=0.2).read(1)
            assert scan.quality.tolist() == quality
            assert np.isnan(scan.values).tolist() == [q != 192 for q in quality]
            assert len(plc.requests) == requests

    in_loop(scenario())


def test_plc_that_is_gone_is_not_connected_and_comes_back_by_itself(
    oven: Oven, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        plc = ScriptedPlc(oven_answer())
        async with plc:
            reading = reader(oven, plc)
            assert (await reading.read(1)).quality.tolist() == [192] * 5
        for outage in (2, 3):
            cut = await reading.read(10 * outage)  # finds the connection closed, or already nobody there
            assert set(cut.quality.tolist()) <= {8, 24}
            gone = await reading.read(10 * outage + 1)
            assert gone.quality.tolist() == [8] * 5
            assert np.isnan(gone.values).all()
            async with plc:  # the same port
                assert (await reading.read(10 * outage + 2)).quality.tolist() == [192] * 5

    with caplog.at_level(logging.WARNING, "logger"):
        in_loop(scenario())
    told = [record.message for record in caplog.records]
    assert sum("cannot be reached" in message for message in told) == 2  # once an outage
    assert sum("answers everything again" in message for message in told) == 2


@pytest.mark.parametrize(
    "bits", [0x7FC00000, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF], ids=lambda bits: f"{bits:08x}"
)
def test_register_without_a_number_is_a_sensor_failure(oven: Oven, bits: int) -> None:
    async def scenario() -> None:
        def answer(request: bytes) -> list[Piece]:
            if asked(request)[2] == 3:
                return registers(request, struct.pack(">I", bits))
            return oven_answer()(request)

        async with ScriptedPlc(answer) as plc:
            scan = await reader(oven, plc).read(1)
            assert np.isnan(scan.values[TARGET])
            assert scan.quality.tolist() == [192, 192, 192, 16, 192]

    in_loop(scenario())


class Kept:
    """A sink that keeps what it is given, with room for so much."""

    def __init__(self, room: int = 10**6) -> None:
        self.items: list[Scan | Gap] = []
        self._room = room

    async def wait_for_room(self, stop: asyncio.Event) -> None:
        if len(self.items) >= self._room:
            await stop.wait()

    def put(self, item: Scan | Gap) -> None:
        self.items.append(item)


def test_missed_scans_become_gaps_with_their_numbers(oven: Oven) -> None:
    dues: list[Due] = []

    async def scenario() -> None:
        slow = {6, 10}  # requests, three a scan: the second scan takes longer than four intervals

        def answer(request: bytes) -> list[Piece]:
            pause: list[Piece] = [0.23] if len(plc.requests) in slow else []
            return [*pause, *right_answer(request)]

        async with ScriptedPlc(answer) as plc:
            sink, stop = Kept(), asyncio.Event()

            def on_scan(due: Due, scan: Scan) -> None:
                dues.append(due)
                if len(dues) == 6:
                    stop.set()

            poller = Poller(reader(oven, plc), Schedule(0.05, 100), oven.layout, sink, BAKING, on_scan)
            await poller.run(stop)
            numbers = [
                n
                for item in sink.items
                for n in (
                    range(item.first_scan, item.last_scan + 1) if isinstance(item, Gap) else [item.number]
                )
            ]
            gaps = [item for item in sink.items if isinstance(item, Gap)]
            assert numbers == list(range(100, numbers[-1] + 1))
            assert len(gaps) >= 2
            assert poller.missed == sum(gap.last_scan - gap.first_scan + 1 for gap in gaps) >= 6
            assert poller.scans == len(dues) == 6
            scans = [item for item in sink.items if isinstance(item, Scan)]
            start = scans[0].due_ns
            assert [scan.due_ns - start for scan in scans] == [(s.number - 100) * 50 * MS for s in scans]
            assert all(scan.started_ns >= scan.due_ns for scan in scans)

    in_loop(scenario())


def test_stop_between_two_scans_ends_at_once(oven: Oven) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(oven_answer()) as plc:
            sink, stop = Kept(), asyncio.Event()
            poller = Poller(
                reader(oven, plc), Schedule(3600, 1), oven.layout, sink, on_scan=lambda due, scan: stop.set()
            )
            await asyncio.wait_for(poller.run(stop), 5)
            assert [item.number for item in sink.items if isinstance(item, Scan)] == [1]

    in_loop(scenario())


def test_stop_during_a_scan_finishes_it(oven: Oven) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()

        def answer(request: bytes) -> list[Piece]:
            stop.set()
            return [0.05, *oven_answer()(request)]

        async with ScriptedPlc(answer) as plc:
            sink = Kept()
            await Poller(reader(oven, plc), Schedule(0, 1), oven.layout, sink).run(stop)
            (scan,) = sink.items
            assert isinstance(scan, Scan)
            assert scan.quality.tolist() == [192] * 5

    in_loop(scenario())


def test_stop_while_there_is_no_room_ends_at_once(oven: Oven) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(oven_answer()) as plc:
            sink, stop = Kept(room=2), asyncio.Event()
            running = asyncio.ensure_future(
                Poller(reader(oven, plc), Schedule(0, 1), oven.layout, sink).run(stop)
            )
            await asyncio.wait({running}, timeout=0.1)
            assert (running.done(), len(sink.items)) == (False, 2)
            stop.set()
            await asyncio.wait_for(running, 5)
            assert len(sink.items) == 2

    in_loop(scenario())


@pytest.mark.parametrize(("before", "expected"), [(None, [None, 7, 7, 8, None]), (6, [6, 7, 7, 8, None])])
def test_process_goes_on_through_a_scan_that_could_not_read_it(
    oven: Oven, before: int | None, expected: list[int | None]
) -> None:
    lost = but(4, [b"\x84\x06"])
    script = [lost, oven_answer(1, 7), lost, oven_answer(1, 8), oven_answer(0, 8)]

    async def scenario() -> None:
        async with ScriptedPlc(lambda request: script[(len(plc.requests) - 1) // 3](request)) as plc:
            sink, stop = Kept(), asyncio.Event()
            poller = Poller(
                reader(oven, plc),
                Schedule(0, 1),
                oven.layout,
                sink,
                before,
                lambda due, scan: stop.set() if due.number == len(script) else None,
            )
            await poller.run(stop)
            assert [item.process_number for item in sink.items if isinstance(item, Scan)] == expected

    in_loop(scenario())
