"""The PLC connection believes no reply that is not right in every byte, and closes after any other."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient
from pyModbusTCP.server import ModbusServer
from scripted_plc import Piece, ScriptedPlc, asked, frame, in_loop, right_answer
from waiting import wait_for_async

from logger.errors import BadReply, ExceptionReply, PlcError, PlcNotConnected, PlcUnreachable
from logger.reading.line import Line
from logger.reading.plc import PlcConnection
from logger.reading.read_plan import ReadBlock
from plcsim.parameters import Table

HOLDING = ReadBlock(Table.HOLDING_REGISTER, 10, 2, ())
INPUT = ReadBlock(Table.INPUT_REGISTER, 300, 125, ())
COILS = ReadBlock(Table.COIL, 4, 11, ())
DISCRETE = ReadBlock(Table.DISCRETE_INPUT, 0, 2000, ())
RIGHT = [0, 10, 0, 11]
DATA = bytes((3, 4, 0, 10, 0, 11))
TIMEOUT_S = 0.15

Reply = Callable[[int], list[Piece]]
"""Transaction id of the request -> the pieces of the reply."""

BAD: dict[str, tuple[type[PlcError], Reply]] = {
    "wrong transaction": (BadReply, lambda t: [frame(t + 1, DATA)]),
    "transaction 0": (BadReply, lambda t: [frame(0, DATA)]),
    "wrong unit": (BadReply, lambda t: [frame(t, DATA, unit=2)]),
    "wrong function": (BadReply, lambda t: [frame(t, b"\x04" + DATA[1:])]),
    "unknown function": (BadReply, lambda t: [frame(t, b"\x63" + DATA[1:])]),
    "exception of another function": (BadReply, lambda t: [frame(t, b"\x84\x02")]),
    "exception and more": (BadReply, lambda t: [frame(t, b"\x83\x02\x00")]),
    "bare function code": (BadReply, lambda t: [frame(t, b"\x03")]),
    "a register short": (BadReply, lambda t: [frame(t, bytes((3, 2, 0, 10)))]),
    "a register long": (BadReply, lambda t: [frame(t, bytes((3, 6, 0, 10, 0, 11, 0, 12)))]),
    "odd bytes": (BadReply, lambda t: [frame(t, bytes((3, 3, 0, 10, 0)))]),
    "byte count too small": (BadReply, lambda t: [frame(t, b"\x03\x02" + DATA[2:])]),
    "byte count too large": (BadReply, lambda t: [frame(t, b"\x03\x06" + DATA[2:])]),
    "protocol id": (BadReply, lambda t: [frame(t, DATA, protocol=1)]),
    "length 0": (BadReply, lambda t: [frame(t, DATA, length=0)]),
    "length 1": (BadReply, lambda t: [frame(t, DATA, length=1)]),
    "length too small": (BadReply, lambda t: [frame(t, DATA, length=len(DATA))]),
    "length too large": (BadReply, lambda t: [frame(t, DATA, length=len(DATA) + 2)]),
    "length of 300": (BadReply, lambda t: [frame(t, DATA, length=300)]),
    "truncated": (BadReply, lambda t: [frame(t, DATA)[:-1]]),
    "header only": (BadReply, lambda t: [frame(t, DATA)[:7]]),
    "garbage": (BadReply, lambda t: [bytes(range(200, 250))]),
    "another protocol": (BadReply, lambda t: [b"HTTP/1.1 400 Bad Request\r\n\r\n"]),
    "a flood": (PlcError, lambda t: [bytes(5000)]),
    "two frames in one segment": (BadReply, lambda t: [frame(t, DATA) * 2]),
    "a stranger's frame, then ours": (BadReply, lambda t: [frame(t + 1, DATA), frame(t, DATA)]),
    "both in one segment": (BadReply, lambda t: [frame(t + 1, DATA) + frame(t, DATA)]),
    "silence": (PlcUnreachable, lambda t: []),
    "close": (PlcUnreachable, lambda t: [None]),
    "close in the middle": (PlcUnreachable, lambda t: [frame(t, DATA)[:9], None]),
}


def connection(plc: ScriptedPlc, timeout_s: float = TIMEOUT_S) -> PlcConnection:
    return PlcConnection(Line("127.0.0.1", plc.port), 1, timeout_s)


@pytest.mark.parametrize("case", BAD)
def test_bad_reply_is_not_believed_and_the_connection_is_closed(case: str) -> None:
    expected, reply = BAD[case]

    async def scenario() -> None:
        async with ScriptedPlc(lambda request: reply(asked(request)[0])) as plc:
            client = connection(plc)
            with pytest.raises(expected, match=f"the PLC at 127.0.0.1:{plc.port}"):
                await client.read(HOLDING)
            if None not in reply(1):  # the PLC itself did not close it
                await wait_for_async(lambda: plc.ended == 1, what="the close")
            plc.answer = right_answer
            assert (await client.read(HOLDING)).tolist() == RIGHT
            assert len(plc.writers) == 2  # the second read came over a new connection
            client.close()

    in_loop(scenario())


BELIEVED = ["transaction 0", "wrong function", "a register short", "a register long", "byte count too small"]


@pytest.mark.parametrize("case", BELIEVED)
def test_pymodbus_alone_believes_it(case: str) -> None:
    """The negative control: why the bytes are checked here and not left to pymodbus."""

    async def scenario() -> None:
        async with ScriptedPlc(lambda request: BAD[case][1](asked(request)[0])) as plc:
            client = AsyncModbusTcpClient("127.0.0.1", port=plc.port, timeout=1, retries=0)
            assert await client.connect()
            reply = await client.read_holding_registers(10, count=2, device_id=1)
            assert not reply.isError()
            client.close()

    in_loop(scenario())


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 8, 10, 11, 99])
def test_refusal_carries_its_code_and_keeps_the_connection(code: int) -> None:
    async def scenario() -> None:
        async with ScriptedPlc(lambda request: [frame(asked(request)[0], bytes((0x83, code)))]) as plc:
            client = connection(plc)
            for _ in range(1 if code in (10, 11) else 2):  # those two say that the unit is silent
                with pytest.raises(
                    ExceptionReply, match=f"holding_register 10 to 11: exception {code:02d}"
                ) as e:
                    await client.read(HOLDING)
                assert e.value.code == code
            plc.answer = right_answer
            assert (await client.read(HOLDING)).tolist() == RIGHT
            assert len(plc.writers) == 1
            client.close()

    in_loop(scenario())


@pytest.mark.parametrize("cuts", [range(1, 13), [2], [6], [7], [8], [12]], ids=str)
def test_reply_may_come_in_pieces(cuts: range | list[int]) -> None:
    def in_pieces(request: bytes) -> list[Piece]:
        (whole,) = right_answer(request)
        assert isinstance(whole, bytes)
        ends = [0, *cuts, len(whole)]
        return [whole[a:b] for a, b in pairwise(ends)]

    async def scenario() -> None:
        async with ScriptedPlc(in_pieces) as plc:
            client = connection(plc, 5.0)
            for _ in range(3):
                assert (await client.read(HOLDING)).tolist() == RIGHT
            assert len(plc.writers) == 1
            client.close()

    in_loop(scenario())


def test_late_reply_of_an_earlier_request_is_never_taken_for_this_one() -> None:
    async def scenario() -> None:
        async with ScriptedPlc(lambda request: []) as plc:
            client = connection(plc)
            with pytest.raises(PlcUnreachable, match=r"gave no answer in 0\.15 s"):
                await client.read(HOLDING)

            def late_and_right(request: bytes) -> list[Piece]:
                late = frame(asked(plc.requests[0])[0], bytes((3, 4, 9, 9, 9, 9)))
                assert asked(request)[0] != asked(plc.requests[0])[0]  # each try has a number of its own
                plc.writers[0].write(late)
                return right_answer(request)

            plc.answer = late_and_right
            assert (await client.read(HOLDING)).tolist() == RIGHT
            client.close()

    in_loop(scenario())


def test_reply_that_nobody_asked_for_closes_the_connection() -> None:
    async def scenario() -> None:
        async with ScriptedPlc() as plc:
            client = connection(plc)
            await client.read(HOLDING)
            plc.writers[0].write(frame(2, bytes((3, 4, 9, 9, 9, 9))))
            await wait_for_async(lambda: plc.ended == 1, what="the close")
            assert (await client.read(HOLDING)).tolist() == RIGHT
            client.close()

    in_loop(scenario())


@pytest.mark.parametrize("block", [HOLDING, INPUT, COILS, DISCRETE], ids=lambda block: block.table.value)
def test_every_table_is_read_with_its_function(block: ReadBlock) -> None:
    async def scenario() -> None:
        async with ScriptedPlc() as plc:
            client = connection(plc, 5.0)
            data = await client.read(block)
            addresses = range(block.address, block.end)
            expected = (
                [int(a % 2 == 0) for a in addresses]
                if block.table.is_bits
                else list(struct.pack(f">{block.count}H", *addresses))
            )
            assert data.dtype == np.uint8
            assert data.tolist() == expected
            client.close()

    in_loop(scenario())


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, and not listening

        async def scenario() -> None:
            client = PlcConnection(Line("127.0.0.1", free.getsockname()[1]), 1, 1.0)
            with pytest.raises(PlcNotConnected, match="cannot be reached"):
                await client.read(HOLDING)

        in_loop(scenario())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 13),
    st.binary(max_size=3),
)
def test_any_damaged_reply_is_right_or_refused(changes: list[tuple[int, int]], cut: int, tail: bytes) -> None:
    def damaged(request: bytes) -> list[Piece]:
        data = bytearray(frame(asked(request)[0], DATA))
        for position, value in changes:
            data[position] = value
        return [bytes(data[:cut]) + tail]

    async def scenario() -> None:
        async with ScriptedPlc(damaged) as plc:
            client = connection(plc, 0.03)
            try:
                data = await client.read(HOLDING)
            except PlcError:
                return
            finally:
                client.close()
            sent = damaged(plc.requests[0])[0]
            assert isinstance(sent, bytes)
            assert sent == frame(asked(plc.requests[0])[0], b"\x03\x04" + data.tobytes())

    in_loop(scenario())


def test_server_that_is_not_ours_is_read() -> None:
    """pyModbusTCP: another implementation of the same standard, in threads of its own."""
    server = ModbusServer("127.0.0.1", 0, no_block=True)
    server.start()
    bank = server.data_bank
    bank.set_holding_registers(10, [0x1234, 0xFFFE])
    bank.set_input_registers(300, list(range(125)))
    bank.set_coils(4, [True, False, True] + [False] * 7 + [True])

    async def scenario() -> None:
        client = PlcConnection(Line("127.0.0.1", server._service.server_address[1]), 1, 2.0)
        assert (await client.read(HOLDING)).tobytes() == bytes.fromhex("1234fffe")
        assert (await client.read(INPUT)).tobytes() == struct.pack(">125H", *range(125))
        assert (await client.read(COILS)).tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
        assert not (await client.read(DISCRETE)).any()
        client.close()
        await asyncio.sleep(0)

    try:
        in_loop(scenario())
    finally:
        server.stop()
