"""Faults of the reply: late, wrong, incomplete or not there at all."""

from __future__ import annotations

from enum import IntEnum
from random import Random
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from plcsim.faults.selection import OnRequest
from plcsim.limits import MAX_PDU_BYTES, ExceptionCode
from plcsim.protocol.reply import Ending, Reply

_READS = (1, 2, 3, 4, 23)


class Turn(IntEnum):
    """In which order faults that hit one request change its reply, whatever order they were added in:
    so none works on what another takes away again."""

    SILENCE = 0
    """Nothing is sent; faults of what is sent do not land."""
    CONTENT = 1
    CODE = 2
    """The function code, by which other faults know a read."""
    CUT = 3
    PACE = 4


class Refusal(OnRequest):
    """An exception instead of the reply; the request is not carried out."""

    @property
    def exception_code(self) -> int:
        raise TypeError(f"{type(self).__name__} does not say which exception")


class ExceptionReply(Refusal):
    """An exception instead of the reply; the request is not carried out."""

    kind: Literal["exception"]
    code: int = Field(default=ExceptionCode.DEVICE_FAILURE, ge=1, le=255)

    @property
    def exception_code(self) -> int:
        return self.code


class Busy(Refusal):
    """Exception 06, server device busy; the request is not carried out."""

    kind: Literal["busy"]

    @property
    def exception_code(self) -> int:
        return ExceptionCode.DEVICE_BUSY


class ReplyRule(OnRequest):
    """A fault that changes the reply to a request that it hits."""

    turn: ClassVar[Turn] = Turn.CONTENT

    @property
    def is_silence(self) -> bool:
        """Whether nothing at all is sent."""
        return self.turn is Turn.SILENCE

    def spoil(self, reply: Reply, dice: Random) -> bool:
        """Change the reply; False if there is nothing in it that this fault could change."""
        raise TypeError(f"{type(self).__name__} does not say what it does")


class NoReply(ReplyRule):
    """The request is carried out and nothing is answered."""

    turn: ClassVar[Turn] = Turn.SILENCE
    kind: Literal["no_reply"]

    def spoil(self, reply: Reply, dice: Random) -> bool:
        reply.most_bytes = 0
        return True


class Reset(ReplyRule):
    """The connection is reset (RST) instead of a reply; the request is carried out."""

    turn: ClassVar[Turn] = Turn.SILENCE
    kind: Literal["reset"]

    def spoil(self, reply: Reply, dice: Random) -> bool:
        reply.most_bytes, reply.ending = 0, Ending.RESET
        return True


class HalfOpen(ReplyRule):
    """From this request on, which is still carried out, the connection stays open and nothing is read
    from it or answered."""

    turn: ClassVar[Turn] = Turn.SILENCE
    kind: Literal["half_open"]

    def spoil(self, reply: Reply, dice: Random) -> bool:
        reply.most_bytes, reply.ending = 0, Ending.HALF_OPEN
        return True


class WrongTransactionId(ReplyRule):
    """The reply carries another transaction id: `by` more than the request's, modulo 2^16."""

    kind: Literal["wrong_transaction_id"]
    by: int = Field(default=1, ge=1, le=0xFFFF)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        reply.transaction_id = (reply.transaction_id + self.by) % 0x10000
        return True


class WrongUnitId(ReplyRule):
    """The reply carries another unit id: `by` more than the request's, modulo 256."""

    kind: Literal["wrong_unit_id"]
    by: int = Field(default=1, ge=1, le=0xFF)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        reply.unit_id = (reply.unit_id + self.by) % 0x100
        return True


class WrongFunction(ReplyRule):
    """The reply carries another function code: `by` more than the request's, modulo 128; an exception
    stays one."""

    turn: ClassVar[Turn] = Turn.CODE
    kind: Literal["wrong_function"]
    by: int = Field(default=1, ge=1, le=0x7F)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        code = reply.pdu[0]
        reply.pdu = bytes((code & 0x80 | (code + self.by) & 0x7F,)) + reply.pdu[1:]
        return True


class ShortReply(ReplyRule):
    """A read gets fewer data bytes than it asked for; the length fields agree with what is sent."""

    kind: Literal["short_reply"]
    missing_bytes: int = Field(default=2, ge=1, le=250)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        if reply.pdu[0] not in _READS or len(reply.pdu) < 3:
            return False
        data = reply.pdu[2 : max(2, len(reply.pdu) - self.missing_bytes)]
        reply.pdu = bytes((reply.pdu[0], len(data))) + data
        return True


class LongReply(ReplyRule):
    """A read gets more data bytes than it asked for, as far as a frame has room for them; the length
    fields agree with what is sent."""

    kind: Literal["long_reply"]
    extra_bytes: int = Field(default=2, ge=1, le=250)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        room = MAX_PDU_BYTES - len(reply.pdu)
        if reply.pdu[0] not in _READS or room == 0:
            return False
        data = reply.pdu[2:] + dice.randbytes(min(self.extra_bytes, room))
        reply.pdu = bytes((reply.pdu[0], len(data))) + data
        return True


def _not_zero(by: int) -> int:
    if by == 0:
        raise ValueError("0 leaves the length as it is")
    return by


class BadLength(ReplyRule):
    """The length field of the header is wrong: `by` more than it should be, but never below 0."""

    kind: Literal["bad_length"]
    by: Annotated[int, AfterValidator(_not_zero)] = Field(default=1, ge=-254, le=0xFFFF)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        reply.length_error += self.by
        return True


class BadProtocolId(ReplyRule):
    """The protocol id of the header is not 0."""

    kind: Literal["bad_protocol_id"]
    protocol_id: int = Field(default=1, ge=1, le=0xFFFF)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        reply.protocol_id = self.protocol_id
        return True


class Truncate(ReplyRule):
    """The first `bytes` of the frame go out (half of it where that is not given, and always at least one
    byte less than the whole), then the connection is closed."""

    turn: ClassVar[Turn] = Turn.CUT
    kind: Literal["truncate"]
    bytes: int | None = Field(default=None, ge=0, le=259)

    @property
    def is_silence(self) -> bool:
        return self.bytes == 0

    def spoil(self, reply: Reply, dice: Random) -> bool:
        whole = len(reply.frame())
        reply.most_bytes = whole // 2 if self.bytes is None else min(self.bytes, whole - 1)
        reply.ending = Ending.CLOSE
        return True


class Delay(ReplyRule):
    """The reply goes out `seconds` later, and up to `jitter_s` more."""

    turn: ClassVar[Turn] = Turn.PACE
    kind: Literal["delay"]
    seconds: float = Field(ge=0, le=3600)
    jitter_s: float = Field(default=0.0, ge=0, le=3600)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        later_s = self.seconds + dice.random() * self.jitter_s
        reply.delay_s += later_s
        return later_s > 0


class Drip(ReplyRule):
    """The bytes of the reply go one by one, `interval_s` apart."""

    turn: ClassVar[Turn] = Turn.PACE
    kind: Literal["drip"]
    interval_s: float = Field(gt=0, le=60)

    def spoil(self, reply: Reply, dice: Random) -> bool:
        reply.byte_interval_s = self.interval_s
        return True
