"""Several requests on their way at once, to a device that takes them: the same values, fewer round trips."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fix_emulator import ALD_FILE, emulating
from scripted_plc import Answer, Piece, ScriptedPlc, asked, frame, in_loop, right_answer

from logger.errors import BadReply, ExceptionReply, PlcError, PlcUnreachable
from logger.reading.line import Line
from logger.reading.plc import BlockRead, PlcConnection
from logger.reading.read_plan import ReadBlock
from logger.reading.reader import Reader
from plcsim.config import DeviceConfig
from plcsim.device_file import load_device, parse_device
from plcsim.errors import ConfigError
from plcsim.parameters import Table

BLOCKS = [ReadBlock(Table.HOLDING_REGISTER, 10 * n, 2, ()) for n in range(4)]
RIGHT = [[0, 10 * n, 0, 10 * n + 1] for n in range(4)]


def together(count: int, made_of: Callable[[list[bytes]], list[Piece]]) -> Answer:
    """Answers nothing before it has so many requests, and then all of them at once."""
    waiting: list[bytes] = []

    def answer(request: bytes) -> list[Piece]:
        waiting.append(request)
        if len(waiting) < count:
            return []
        requests, waiting[:] = list(waiting), []
        return made_of(requests)

    return answer


def rights(requests: list[bytes]) -> list[Piece]:
    return [piece for request in requests for piece in right_answer(request)]


def in_one_segment(requests: list[bytes]) -> list[Piece]:
    return [b"".join(piece for piece in rights(requests) if isinstance(piece, bytes))]


def by_bytes(requests: list[bytes]) -> list[Piece]:
    whole = in_one_segment(requests)[0]
    assert isinstance(whole, bytes)
    return [whole[n : n + 1] for n in range(len(whole))]


def refused(request: bytes) -> bytes:
    transaction_id, _, function, _, _ = asked(request)
    return frame(transaction_id, bytes((function | 0x80, 4)))


def outcome(read: BlockRead | PlcError) -> object:
    return type(read) if isinstance(read, PlcError) else read.data.tolist()


def connection(plc: ScriptedPlc, timeout_s: float = 5.0) -> PlcConnection:
    return PlcConnection(Line("127.0.0.1", plc.port), 1, timeout_s, len(BLOCKS))


@pytest.mark.parametrize(
    "made_of",
    [rights, in_one_segment, by_bytes, lambda requests: rights(requests)[::-1]],
    ids=["one by one", "in one segment", "byte by byte", "backwards"],
)
def test_replies_find_their_requests(made_of: Callable[[list[bytes]], list[Piece]]) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(together(4, made_of)) as plc:
            unit = connection(plc)
            for _ in range(3):
                assert [outcome(read) for read in await unit.read_together(BLOCKS)] == RIGHT
            assert len(plc.writers) == 1
            assert len({asked(request)[0] for request in plc.requests}) == 12
            assert unit.figures.requests == 12
            unit.close()

    in_loop(scenario())


def test_one_after_the_other_such_a_device_never_answers() -> None:
    async def scenario() -> None:
        async with ScriptedPlc(together(4, rights)) as plc:
            unit = connection(plc, timeout_s=0.2)
            with pytest.raises(PlcUnreachable, match="no answer in"):
                await unit.read(BLOCKS[0])

    in_loop(scenario())


def test_refusal_is_that_of_its_request_alone() -> None:
    async def scenario() -> None:
        def made_of(requests: list[bytes]) -> list[Piece]:
            return [*rights(requests[:1]), refused(requests[1]), *rights(requests[2:])]

        async with ScriptedPlc(together(4, made_of)) as plc:
            unit = connection(plc)
            expected = [RIGHT[0], ExceptionReply, *RIGHT[2:]]
            assert [outcome(read) for read in await unit.read_together(BLOCKS)] == expected
            assert [outcome(read) for read in await unit.read_together(BLOCKS)] == expected
            assert len(plc.writers) == 1
            assert unit.figures.exceptions == {4: 2}

    in_loop(scenario())


STRANGE: dict[str, tuple[Callable[[bytes], bytes], type[PlcError]]] = {
    "of no request of ours": (lambda r: frame(asked(r)[0] + 1000, bytes((3, 4, 0, 0, 0, 0))), BadReply),
    "too short": (lambda r: frame(asked(r)[0], bytes((3, 2, 0, 0))), BadReply),
    "of another unit": (lambda r: frame(asked(r)[0], bytes((3, 4, 0, 0, 0, 0)), unit=9), BadReply),
    "that is no Modbus": (lambda r: b"HTTP/1.1 400 Bad Request\r\n\r\n", BadReply),
}


@pytest.mark.parametrize("case", STRANGE)
def test_after_a_reply_that_is_not_ours_none_is_believed(case: str) -> None:
    strange, error = STRANGE[case]

    async def scenario() -> None:
        def made_of(requests: list[bytes]) -> list[Piece]:
            return [*rights(requests[:1]), strange(requests[1]), *rights(requests[2:])]

        async with ScriptedPlc(together(4, made_of)) as plc:
            unit = connection(plc)
            reads = await unit.read_together(BLOCKS)
            assert [outcome(read) for read in reads] == [RIGHT[0], error, error, error]
            assert unit.figures.bad_replies >= 1
            plc.answer = right_answer
            assert [outcome(read) for read in await unit.read_together(BLOCKS)] == RIGHT
            assert len(plc.writers) == 2  # on a new connection

    in_loop(scenario())


def test_silence_in_the_middle_keeps_what_came_and_is_counted_once() -> None:
    async def scenario() -> None:
        async with ScriptedPlc(together(4, lambda requests: rights(requests[:2]))) as plc:
            unit = connection(plc, timeout_s=0.2)
            reads = await unit.read_together(BLOCKS)
            assert [outcome(read) for read in reads] == [*RIGHT[:2], PlcUnreachable, PlcUnreachable]
            assert unit.figures.timeouts == 1
            assert unit.state == "unresponsive"

    in_loop(scenario())


def test_connection_that_was_closed_while_idle_costs_nothing() -> None:
    async def scenario() -> None:
        async with ScriptedPlc() as plc:
            unit = connection(plc)
            assert [outcome(read) for read in await unit.read_together(BLOCKS)] == RIGHT
            plc.writers[0].transport.abort()
            assert [outcome(read) for read in await unit.read_together(BLOCKS)] == RIGHT
            assert unit.figures.closed == 0

    in_loop(scenario())


def ald(port: int, most: int) -> DeviceConfig:
    document = load_device(ALD_FILE).to_json()
    document["modbus"] |= {"port": port, "max_outstanding": most}
    return parse_device(document)


@pytest.mark.parametrize("most", [2, 3, 16])
def test_a_scan_is_the_same_however_many_are_on_their_way(tmp_path: Path, most: int) -> None:
    async def scan_of(config: DeviceConfig) -> list[np.ndarray]:
        line = Line(config.modbus.host, config.modbus.port)
        reader = Reader(PlcConnection(line, 1, 5.0, config.modbus.max_outstanding), config)
        scans = [await reader.read(n) for n in range(1, 4)]
        assert reader.errors == 0
        line.close()
        return [np.concatenate([scan.values, scan.quality]) for scan in scans]

    # one PLC scan for the whole test, so that both read the same values
    text = re.sub(r"plc_scan_ms: [0-9.]+", "plc_scan_ms: 3600000", ALD_FILE.read_text(encoding="utf-8"))
    (tmp_path / "still.yaml").write_text(text, encoding="utf-8")
    with emulating(tmp_path / "still.yaml") as plc:
        one = asyncio.run(scan_of(ald(plc.port, 1)))
        many = asyncio.run(scan_of(ald(plc.port, most)))
    assert np.array_equal(one, many, equal_nan=True)
    assert np.isfinite(one[0]).all()


def test_a_pause_between_requests_and_several_at_once_exclude_each_other() -> None:
    document = load_device(ALD_FILE).to_json()
    document["modbus"] |= {"max_outstanding": 2, "pause_between_requests_s": 0.1}
    with pytest.raises(ConfigError, match=r"max_outstanding.*pause_between_requests_s"):
        parse_device(document)
