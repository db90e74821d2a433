"""Finds what a device refuses to answer (exception 02 or 03) by halving the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import groupby

from logger.errors import ExceptionReply, PlcError
from logger.reading.read_plan import ReadBlock, Refused
from plcsim.limits import ExceptionCode
from plcsim.parameters import Parameter

Read = Callable[[ReadBlock], Awaitable[object]]

_ABOUT_ADDRESSES = (ExceptionCode.ILLEGAL_DATA_ADDRESS, ExceptionCode.ILLEGAL_DATA_VALUE)


def is_about_addresses(exc: PlcError) -> bool:
    """Whether a refusal depends on what was asked for, so that asking for less may help."""
    return isinstance(exc, ExceptionReply) and exc.code in _ABOUT_ADDRESSES


async def find_refused(read: Read, block: ReadBlock) -> Refused:
    """The parameters of a block that the device refuses, and where it refuses to read on.

    It takes about `2 · log2(n)` requests for each of them. Nothing is found if the block is answered
    after all. Raises PlcError for whatever else goes wrong.
    """
    if await _answers(read, block):
        return Refused()
    by_address = sorted(block.parameters, key=lambda p: p.address)
    cells = [list(cell) for _, cell in groupby(by_address, key=lambda p: p.address)]
    if len(cells) == 1:
        return Refused(frozenset(p.parameter_id for p in block.parameters))
    middle = len(cells) // 2
    left, right = _part(block, cells[:middle]), _part(block, cells[middle:])
    found = await find_refused(read, left) | await find_refused(read, right)
    return found or Refused(cuts=frozenset({(block.table, right.address)}))


async def _answers(read: Read, block: ReadBlock) -> bool:
    try:
        await read(block)
    except ExceptionReply as exc:
        if not is_about_addresses(exc):
            raise
        return False
    return True


def _part(block: ReadBlock, cells: list[list[Parameter]]) -> ReadBlock:
    parameters = tuple(p for cell in cells for p in cell)
    start, end = parameters[0].address, max(p.end for p in parameters)
    return ReadBlock(block.table, start, end - start, parameters)
