"""Whether the bytes that came are the reply to the request that was sent; pure.

Every field is checked before a byte of data is used. A client that trusts the length, or takes a reply
of an earlier request, stores another sensor's value as a good one.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from logger.errors import BadReply, ExceptionReply
from logger.reading.read_plan import ReadBlock
from plcsim.limits import (
    EXCEPTION_BIT,
    MAX_MBAP_LENGTH,
    MBAP_HEADER_BYTES,
    MIN_MBAP_LENGTH,
    ExceptionCode,
)

_REPLY = struct.Struct(">HHHBBB")
"""Transaction id, protocol id, length, unit id, function code, byte count or exception code."""
_LENGTH = struct.Struct(">HH")
"""Protocol id and length, behind the transaction id."""
_UP_TO_LENGTH = MBAP_HEADER_BYTES - 1


class Asked(NamedTuple):
    """A request that was sent."""

    transaction_id: int
    unit_id: int
    function: int
    block: ReadBlock
    where: str
    """HOST:PORT, for messages."""


def first_of(data: bytes) -> bytes | None:
    """The first whole frame of what came; all of it if that can never be one; None: more must come."""
    if len(data) < _UP_TO_LENGTH:
        return None
    protocol_id, length = _LENGTH.unpack_from(data, 2)
    if protocol_id != 0 or not MIN_MBAP_LENGTH <= length <= MAX_MBAP_LENGTH:
        return data
    end = _UP_TO_LENGTH + int(length)
    return data[:end] if len(data) >= end else None


def transaction_of(frame: bytes) -> int:
    """Which request a frame says that it answers."""
    return int.from_bytes(frame[:2], "big")


def checked(frame: bytes, asked: Asked) -> bytes:
    """The data bytes of a reply. Raises BadReply, or ExceptionReply if the PLC refuses."""
    if len(frame) < _REPLY.size:
        raise _bad(asked, "it is too short")
    transaction_id, protocol_id, length, unit_id, function, third = _REPLY.unpack_from(frame)
    block = asked.block
    expected = (block.count + 7) // 8 if block.table.is_bits else 2 * block.count
    if transaction_id != asked.transaction_id:
        raise _bad(asked, f"transaction {transaction_id} instead of {asked.transaction_id}")
    if protocol_id != 0 or length != len(frame) - _UP_TO_LENGTH:
        raise _bad(asked, "its header does not fit it")
    if unit_id != asked.unit_id:
        raise _bad(asked, f"unit {unit_id} instead of {asked.unit_id}")
    if function == asked.function | EXCEPTION_BIT and len(frame) == _REPLY.size:
        raise ExceptionReply(_refusal(asked, third), third)
    if function != asked.function:
        raise _bad(asked, f"function {function} instead of {asked.function}")
    if third != expected or len(frame) != _REPLY.size + expected:
        raise _bad(asked, f"{len(frame) - _REPLY.size} bytes of data instead of {expected}")
    return frame[_REPLY.size :]


def _bad(asked: Asked, why: str) -> BadReply:
    return BadReply(f"the PLC at {asked.where} sent a reply that is not ours: {why}")


def _refusal(asked: Asked, code: int) -> str:
    known = [c for c in ExceptionCode if c == code]
    name = known[0].name.lower().replace("_", " ") if known else "unknown exception"
    return (
        f"the PLC at {asked.where} refuses {asked.block.table.value} {asked.block.address} to "
        f"{asked.block.end - 1}: exception {code:02d}, {name}"
    )
