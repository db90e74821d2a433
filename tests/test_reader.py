"""Reading a scan: each value with its quality and its time, whatever the PLC answers, and around refusals."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fix_scans import BAKING, HEAT, LAMP, TARGET, Oven
from scripted_oven import FUNCTION_OF, but, oven_answer, reader, registers
from scripted_plc import Piece, ScriptedPlc, asked, frame, in_loop, right_answer
from waiting import wait_for_async

from logger.reading.line import Line
from logger.reading.plc import PlcConnection
from logger.reading.reader import ASK_AGAIN_S, Reader
from logger.scan import Quality, Scan
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device

NS = 1_000_000_000


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
    [(1, 4), (2, 4), (3, 4), (4, 12), (5, 68), (6, 68), (8, 12), (200, 24)],
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
            assert reading.failure == ""
            assert len(plc.writers) == 1

    in_loop(scenario())


@pytest.mark.parametrize("code", [10, 11])
def test_gateway_that_finds_nobody_is_not_asked_for_the_rest(oven: Oven, code: int) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(but(1, [bytes((0x81, code))])) as plc:
            reading = reader(oven, plc)
            scan = await reading.read(1)
            assert scan.quality.tolist() == [24] * 5
            assert len(plc.requests) == 1
            assert f"exception {code}" in reading.failure

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
            connection = PlcConnection(Line("127.0.0.1", plc.port), 1, 2.0)
            reading = Reader(connection, oven.config)
            assert (await reading.read(1)).quality.tolist() == [192] * 5
        for outage in (2, 3):
            cut = await reading.read(10 * outage)  # finds the connection closed, or already nobody there
            assert set(cut.quality.tolist()) <= {8, 24}
            gone = await reading.read(10 * outage + 1)
            assert "cannot be reached" in reading.failure
            assert gone.quality.tolist() == [8] * 5
            assert np.isnan(gone.values).all()
            async with plc:  # the same port
                await wait_for_async(lambda: not connection.is_left_alone)
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


@pytest.mark.parametrize(
    ("heat", "quality"),
    [(0.0, 192), (300.0, 192), (-0.5, 84), (300.5, 84), (float("nan"), 16), (float("inf"), 16)],
)
def test_value_outside_its_limits_is_kept_and_uncertain(oven: Oven, heat: float, quality: int) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(oven_answer(heat=heat, target=9e9)) as plc:
            scan = await reader(oven, plc).read(1)
            assert scan.quality.tolist() == [192, 192, quality, 192, 192]  # the target has no limits
            assert np.isnan(scan.values[HEAT]) == (quality == 16)
            assert quality == 16 or scan.values[HEAT] == heat

    in_loop(scenario())


def registers_of(groups: dict[str, list[int]], consistent: bool = True, **modbus: Any) -> DeviceConfig:
    """A device of uint16 input registers at these addresses; the id of each is its address and 1."""
    return parse_device(
        {
            "device": {"device_id": "d"},
            "modbus": modbus,
            "groups": [
                {
                    "name": name,
                    "table": "input_register",
                    "consistent": consistent,
                    "parameters": [
                        {"id": a + 1, "component": "c", "name": f"r{a}", "address": a, "type": "uint16"}
                        for a in addresses
                    ],
                }
                for name, addresses in groups.items()
            ],
        }
    )


class PickyPlc(ScriptedPlc):
    """Registers hold their address; requests that touch certain addresses, or too many, are refused."""

    def __init__(self, refused: set[int], most: int = 125, cut: int | None = None, code: int = 2) -> None:
        super().__init__(self._answer)
        self.refused, self.most, self.cut, self.code = refused, most, cut, code

    def _answer(self, request: bytes) -> list[Piece]:
        transaction_id, _, function, address, count = asked(request)
        over_the_cut = self.cut is not None and address < self.cut < address + count
        if count > self.most or over_the_cut or self.refused & set(range(address, address + count)):
            return [frame(transaction_id, bytes((function | 0x80, self.code)))]
        return right_answer(request)

    def asked_since(self, number: int) -> list[tuple[int, int]]:
        """Address and count of the requests behind the first so many."""
        return [asked(request)[3:] for request in self.requests[number:]]


class Clock:
    """A monotonic clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 5 * NS

    def __call__(self) -> int:
        return self.now


Scenario = Callable[[Reader, PickyPlc, Clock], Any]


def with_reader(config: DeviceConfig, plc: PickyPlc, scenario: Scenario) -> None:
    async def run() -> None:
        clock = Clock()
        async with plc:
            connection = PlcConnection(Line("127.0.0.1", plc.port), 1, 2.0)
            await scenario(Reader(connection, config, clock_ns=clock), plc, clock)

    in_loop(run())


def is_true_but_for(scan: Scan, bad: set[int]) -> bool:
    """Whether every register has its address as its value, and the bad ones nothing but a quality."""
    right = [i if i not in bad else None for i in range(len(scan.values))]
    read = [None if np.isnan(v) else int(v) for v in scan.values]
    return read == right and scan.quality.tolist() == [4 if i in bad else 192 for i in range(len(right))]


@pytest.mark.parametrize("code", [2, 3])
@pytest.mark.parametrize("bad", [{0}, {7}, {39}, {3, 4, 31}, {1, 3, 5, 7, 9}, set(range(40))], ids=str)
def test_refused_parameters_are_found_and_all_others_stay(bad: set[int], code: int) -> None:
    config = registers_of({"g": list(range(40))}, consistent=False)

    async def scenario(reading: Reader, plc: PickyPlc, clock: Clock) -> None:
        assert is_true_but_for(await reading.read(1), bad)  # in the very scan that met the refusal
        searched = len(plc.requests)
        assert searched <= 2 + 2 * len(bad) * 6 + len(bad) + 1  # 2 · log2(40) for each
        assert is_true_but_for(await reading.read(2), bad)
        assert not bad & {a for start, n in plc.asked_since(searched) for a in range(start, start + n)}
        assert reading.refused == [f"c.r{a}" for a in sorted(bad)]
        assert (reading.failure == "") == (len(bad) < 40)

    with_reader(config, PickyPlc(bad, code=code), scenario)


def test_what_is_refused_is_asked_for_again_rarely_and_comes_back() -> None:
    config = registers_of({"g": list(range(10))}, consistent=False)

    async def scenario(reading: Reader, plc: PickyPlc, clock: Clock) -> None:
        await reading.read(1)
        before = len(plc.requests)
        clock.now += round(ASK_AGAIN_S * NS) - 1
        await reading.read(2)
        assert plc.asked_since(before) == [(0, 4), (5, 5)]
        clock.now += 1
        assert is_true_but_for(await reading.read(3), {4})  # still refused: now ten times as long
        before = len(plc.requests)
        plc.refused = set()
        clock.now += round(ASK_AGAIN_S * 10 * NS) - 1
        assert is_true_but_for(await reading.read(4), {4})
        clock.now += 1
        assert is_true_but_for(await reading.read(5), set())
        assert plc.asked_since(before) == [(0, 4), (5, 5), (0, 10)]
        assert reading.refused == []

    with_reader(config, PickyPlc({4}), scenario)


@pytest.mark.parametrize("plc", [PickyPlc(set(), most=7), PickyPlc(set(), cut=13)], ids=["too many", "cut"])
def test_request_that_is_refused_as_a_whole_is_split(plc: PickyPlc) -> None:
    async def scenario(reading: Reader, plc: PickyPlc, clock: Clock) -> None:
        for number in range(1, 4):  # where it must be cut is found in one scan or a few
            scan = await reading.read(number)
        assert is_true_but_for(scan, set())
        before = len(plc.requests)
        assert is_true_but_for(await reading.read(9), set())
        assert max(count for _, count in plc.asked_since(before)) < 20
        assert reading.refused == []

    with_reader(registers_of({"g": list(range(20))}, consistent=False), plc, scenario)


def test_refusal_that_was_a_whim_changes_nothing() -> None:
    async def scenario(reading: Reader, plc: PickyPlc, clock: Clock) -> None:
        plc.answer = lambda request: (
            [frame(asked(request)[0], b"\x84\x02")] if len(plc.requests) == 1 else right_answer(request)
        )
        assert is_true_but_for(await reading.read(1), set())
        before = len(plc.requests)
        await reading.read(2)
        assert plc.asked_since(before) == [(0, 20)]

    with_reader(registers_of({"g": list(range(20))}), PickyPlc(set()), scenario)


def test_group_with_a_refused_end_is_still_one_request() -> None:
    async def scenario(reading: Reader, plc: PickyPlc, clock: Clock) -> None:
        assert is_true_but_for(await reading.read(1), {0})
        before = len(plc.requests)
        assert is_true_but_for(await reading.read(2), {0})
        assert plc.asked_since(before) == [(1, 7), (8, 4)]  # the other group, too, as it was

    with_reader(
        registers_of({"g": list(range(8)), "h": list(range(8, 12))}, max_registers=8), PickyPlc({0}), scenario
    )


@pytest.mark.parametrize("moves", [0, 2, 10**9], ids=["still", "moves at first", "never still"])
def test_group_that_is_refused_in_its_middle_is_read_until_it_stands_still(moves: int) -> None:
    """Two requests cannot come from one PLC scan for certain; two equal passes can."""
    late = 0

    def changing(request: bytes) -> list[Piece]:
        nonlocal late
        transaction_id, _, function, address, count = asked(request)
        if 3 in range(address, address + count):
            return [frame(transaction_id, bytes((function | 0x80, 2)))]
        late += 1
        shift = min(late, moves)
        data = struct.pack(f">{count}H", *(a + shift % 60_000 for a in range(address, address + count)))
        return [frame(transaction_id, bytes((function, len(data))) + data)]

    async def scenario(reading: Reader, plc: PickyPlc, clock: Clock) -> None:
        nonlocal late
        await reading.read(1)
        plc.answer, late = changing, 0
        before = len(plc.requests)
        scan = await reading.read(2)
        assert set(plc.asked_since(before)) == {(0, 3), (4, 4)}
        if moves > 2:
            assert np.isnan(scan.values).all()
            assert scan.quality.tolist() == [24, 24, 24, 4, 24, 24, 24, 24]
            assert "faster than it can be read" in reading.failure
        else:
            shifts = np.delete(scan.values - np.arange(8), 3)
            assert set(shifts.tolist()) == {float(moves)}  # all from one moment
            assert len(plc.requests) - before == (4 if moves == 0 else 6)

    with_reader(registers_of({"g": list(range(8))}), PickyPlc({3}), scenario)


def test_strings_and_long_integers_come_as_texts() -> None:
    types: list[dict[str, Any]] = [
        {"type": "string", "length": 6},
        {"type": "uint64"},
        {"type": "int64"},
        {"type": "uint64", "scale": 0.5},
        {"type": "int64", "null_value": -(2**63)},
        {"type": "string", "length": 4, "byte_order": "BADC"},
        {"type": "uint64"},
    ]
    wire = [b"h\xc3\xa9\0xx", 2**64 - 1, -(2**53) - 1, 2**63, -(2**63), b"ba\xff\0", 2**53]
    data, specs = b"", []
    for number, (spec, value) in enumerate(zip(types, wire, strict=True), 1):
        place = {"id": number, "component": "c", "name": f"p{number}", "address": len(data) // 2}
        specs.append(place | spec)
        signed = spec["type"] == "int64"
        data += value if isinstance(value, bytes) else value.to_bytes(8, "big", signed=signed)
    config = parse_device(
        {
            "device": {"device_id": "d"},
            "groups": [{"name": "g", "table": "input_register", "parameters": specs}],
        }
    )

    async def scenario() -> None:
        def answer(request: bytes) -> list[Piece]:
            return [frame(asked(request)[0], bytes((4, len(data))) + data)]

        async with ScriptedPlc(answer) as plc:
            scan = await Reader(PlcConnection(Line("127.0.0.1", plc.port), 1, 2.0), config).read(1)
        assert scan.texts == ((0, "hé"), (1, str(2**64 - 1)), (2, str(-(2**53) - 1)), (5, "ab"))
        assert [None if np.isnan(v) else v for v in scan.values] == [
            None, 2.0**64, -(2.0**53), 2.0**62, None, None, 2.0**53,
        ]  # fmt: skip
        assert scan.quality.tolist() == [192, 192, 192, 192, Quality.BAD_SENSOR_FAILURE, 192, 192]

    in_loop(scenario())
