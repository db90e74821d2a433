"""Polling when scans are due: each handed on in order, misses and outages as gaps, whatever the PLC does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from fix_scans import BAKING, Oven
from scripted_oven import Kept, but, oven_answer, reader
from scripted_plc import Piece, ScriptedPlc, in_loop, right_answer
from waiting import wait_for_async

import logger.reading.poller as polling
from logger.reading.line import Line
from logger.reading.plc import PlcConnection
from logger.reading.poller import Poller, ProcessState
from logger.reading.reader import Reader
from logger.reading.schedule import Due, Schedule
from logger.reading.ticker import Ticker
from logger.scan import Scan, ScanLayout, StreamKey
from plcsim.device_file import parse_device

MS = 1_000_000
KEY = StreamKey("oven-1", 1)


async def poll(
    oven: Oven, plc: ScriptedPlc, sink: Kept, schedule: Schedule, stop: asyncio.Event, **options: Any
) -> Poller:
    """Poll the oven until told to stop."""
    timeout_s = options.pop("timeout_s", 2.0)
    with Ticker() as ticker:
        poller = Poller(KEY, reader(oven, plc, timeout_s), schedule, oven.layout, sink, ticker, **options)
        await poller.run(stop)
    return poller


def stop_after(scans: int, stop: asyncio.Event) -> Callable[[Due, Scan], None]:
    """What ends polling with so many scans."""
    left = iter(range(scans - 1, -1, -1))
    return lambda due, scan: stop.set() if next(left) == 0 else None


def test_missed_scans_become_gaps_with_their_numbers_and_times(oven: Oven) -> None:
    async def scenario() -> None:
        slow = {6, 10}  # requests, three a scan: the second scan takes longer than four intervals

        def answer(request: bytes) -> list[Piece]:
            pause: list[Piece] = [0.23] if len(plc.requests) in slow else []
            return [*pause, *right_answer(request)]

        async with ScriptedPlc(answer) as plc:
            sink, stop = Kept(), asyncio.Event()
            apart_ns = time.time_ns() - time.monotonic_ns()
            poller = await poll(
                oven,
                plc,
                sink,
                Schedule(0.05, 100),
                stop,
                process=ProcessState(BAKING),
                on_scan=stop_after(6, stop),
            )
            assert sink.numbers == list(range(100, sink.numbers[-1] + 1))
            assert sink.keys == {KEY}
            assert len(sink.gaps) >= 2
            assert poller.missed == sum(gap.last_scan - gap.first_scan + 1 for gap in sink.gaps) >= 6
            assert poller.scans == len(sink.scans) == 6
            start = sink.scans[0].due_ns
            assert [scan.due_ns - start for scan in sink.scans] == [
                (s.number - 100) * 50 * MS for s in sink.scans
            ]
            assert all(scan.started_ns >= scan.due_ns for scan in sink.scans)
            for gap in sink.gaps:
                assert gap.reason == "missed: the scan before took too long"
                for at_us, number in ((gap.first_at, gap.first_scan), (gap.last_at, gap.last_scan)):
                    due_us = (start + apart_ns) // 1000 + (number - 100) * 50_000
                    assert abs(at_us - due_us) < 20_000

    in_loop(scenario())


def test_what_is_missed_while_the_spool_is_full_says_so(oven: Oven) -> None:
    class Full(Kept):
        async def wait_for_room(self, stop: asyncio.Event) -> None:
            if len(self.scans) == 2 and not self.gaps:
                until = time.monotonic() + 0.1
                await wait_for_async(lambda: time.monotonic() > until)

    async def scenario() -> None:
        async with ScriptedPlc(oven_answer()) as plc:
            sink, stop = Full(), asyncio.Event()
            await poll(oven, plc, sink, Schedule(0.02, 1), stop, on_scan=stop_after(4, stop))
            assert [gap.reason for gap in sink.gaps][:1] == ["missed: the spool was full"]
            assert sink.numbers == list(range(1, sink.numbers[-1] + 1))

    in_loop(scenario())


def test_stop_between_two_scans_ends_at_once(oven: Oven) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(oven_answer()) as plc:
            sink, stop = Kept(), asyncio.Event()
            await asyncio.wait_for(
                poll(oven, plc, sink, Schedule(3600, 1), stop, on_scan=lambda due, scan: stop.set()), 5
            )
            assert sink.numbers == [1]

    in_loop(scenario())


def test_stop_while_waiting_for_the_next_scan_ends_at_once(oven: Oven) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(oven_answer()) as plc:
            sink, stop = Kept(), asyncio.Event()
            running = asyncio.ensure_future(poll(oven, plc, sink, Schedule(3600, 1), stop))
            await wait_for_async(lambda: sink.numbers)
            stop.set()
            await asyncio.wait_for(running, 5)
            assert sink.numbers == [1]

    in_loop(scenario())


def test_stop_during_a_scan_finishes_it(oven: Oven) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()

        def answer(request: bytes) -> list[Piece]:
            stop.set()
            return [0.05, *oven_answer()(request)]

        async with ScriptedPlc(answer) as plc:
            sink = Kept()
            await poll(oven, plc, sink, Schedule(0, 1), stop)
            (scan,) = sink.scans
            assert scan.quality.tolist() == [192] * 5

    in_loop(scenario())


def test_stop_while_there_is_no_room_ends_at_once(oven: Oven) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(oven_answer()) as plc:
            sink, stop = Kept(room=2), asyncio.Event()
            running = asyncio.ensure_future(poll(oven, plc, sink, Schedule(0, 1), stop))
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
            sink, stop, process = Kept(), asyncio.Event(), ProcessState(before)
            on_scan = stop_after(len(script), stop)
            await poll(oven, plc, sink, Schedule(0, 1), stop, process=process, on_scan=on_scan)
            assert [scan.process_number for scan in sink.scans] == expected
            assert process.number == expected[-1]

    in_loop(scenario())


@pytest.mark.parametrize(
    ("on_failure", "scans", "gaps"),
    [("rows", [1, 2, 3, 4, 5, 6, 7, 8], []), ("gap", [1, 7, 8], [(2, 6)])],
)
def test_device_that_fails_gives_rows_or_one_gap_never_silence(
    oven: Oven, on_failure: str, scans: list[int], gaps: list[tuple[int, int]]
) -> None:
    """Blocks are refused from the second to the sixth scan."""
    busy = [oven_answer(), *[lambda request: refusing(request)] * 5, oven_answer(), oven_answer()]

    def refusing(request: bytes) -> list[Piece]:
        return but(request[7], [bytes((request[7] | 0x80, 4))])(request)

    async def scenario() -> None:
        async with ScriptedPlc(lambda request: busy[(len(plc.requests) - 1) // 3](request)) as plc:
            sink, stop = Kept(), asyncio.Event()
            on_scan = stop_after(8, stop)
            poller = await poll(
                oven, plc, sink, Schedule(0.02, 1), stop, on_failure=on_failure, on_scan=on_scan
            )
            if poller.missed:  # a busy machine: the numbers moved
                assert sink.numbers == list(range(1, sink.numbers[-1] + 1))
                return
            assert [scan.number for scan in sink.scans] == scans
            assert [(gap.first_scan, gap.last_scan) for gap in sink.gaps] == gaps
            assert poller.failed == 5
            bad = {q for scan in sink.scans[1:-2] for q in scan.quality.tolist()}
            assert bad == ({12} if on_failure == "rows" else set())
            for gap in sink.gaps:
                assert "device failure" in gap.reason
                assert 0 < gap.first_at < gap.last_at <= time.time_ns() // 1000

    in_loop(scenario())


def test_long_outage_is_written_down_before_its_end_and_at_the_stop(
    oven: Oven, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "LONGEST_OUTAGE_S", 0.08)

    async def scenario() -> None:
        plc = ScriptedPlc()
        async with plc:
            pass  # its port, and nobody listens there any more
        sink, stop = Kept(), asyncio.Event()
        await poll(oven, plc, sink, Schedule(0.02, 1), stop, on_failure="gap", on_scan=stop_after(12, stop))
        assert sink.scans == []
        assert len(sink.gaps) >= 2
        assert sink.numbers == list(range(1, sink.numbers[-1] + 1))
        assert sink.numbers[-1] >= 12
        assert all("cannot be reached" in gap.reason or "missed" in gap.reason for gap in sink.gaps)

    in_loop(scenario())


def test_device_that_is_gone_does_not_spin_when_polled_as_fast_as_it_goes(oven: Oven) -> None:
    async def scenario() -> None:
        plc = ScriptedPlc()
        async with plc:
            pass
        sink, stop = Kept(), asyncio.Event()
        began = time.monotonic()
        await poll(oven, plc, sink, Schedule(0, 1), stop, on_scan=stop_after(3, stop))
        assert time.monotonic() - began >= 0.2  # two pauses between three scans
        assert all(scan.quality.tolist() == [8] * 5 for scan in sink.scans)

    in_loop(scenario())


def test_poll_group_that_does_not_see_the_process_goes_by_the_one_that_does(oven: Oven) -> None:
    """The oven's targets are read in a group of their own, in a stream of their own."""
    document = oven.config.to_json()
    document["logging"] = {"poll_groups": {"slow": {"interval_s": 5.0}}}
    document["groups"][2]["poll"] = "slow"
    config = parse_device(document)
    layout = ScanLayout(config, "slow")
    assert (layout.size, layout.shows_process, ScanLayout(config).shows_process) == (1, False, True)

    async def scenario() -> None:
        async with ScriptedPlc(oven_answer()) as plc:
            sink, stop, process = Kept(), asyncio.Event(), ProcessState(BAKING)
            slow = Reader(PlcConnection(Line("127.0.0.1", plc.port), 1, 2.0), config, "slow")
            with Ticker() as ticker:
                await Poller(
                    StreamKey("oven-1", 2), slow, Schedule(0, 1), layout, sink, ticker, process,
                    on_scan=stop_after(1, stop),
                ).run(stop)  # fmt: skip
            assert [(s.process_number, s.values.tolist()) for s in sink.scans] == [(BAKING, [1.0])]
            assert [request[7] for request in plc.requests] == [1]  # nothing but its coil

    in_loop(scenario())
