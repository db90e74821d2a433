"""Every kind of fault, as the YAML file, the command line and Python write it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, field_validator

from plcsim.faults.image_rules import BitFlips, Frozen, NotANumber, Torn
from plcsim.faults.reply_rules import (
    BadLength,
    BadProtocolId,
    Busy,
    Delay,
    Drip,
    ExceptionReply,
    HalfOpen,
    LongReply,
    NoReply,
    Reset,
    ShortReply,
    Truncate,
    WrongFunction,
    WrongTransactionId,
    WrongUnitId,
)
from plcsim.faults.selection import Windowed

MAX_JUMP_S = 1e9
"""Some 30 years."""


class Refuse(Windowed):
    """Connections are refused (ECONNREFUSED); those that are open stay."""

    kind: Literal["refuse"]


class MaxConnections(Windowed):
    """At most so many connections; one more is reset as soon as it is made."""

    kind: Literal["max_connections"]
    connections: int = Field(ge=0, le=65535)


class Restart(Windowed):
    """The device starts anew when the window opens: connections are reset, registers are as at the start,
    what was written is forgotten. With `for_s` connections are refused so long. Behind a gateway the
    connections stay, because they are the gateway's; for `for_s` it answers as for a device that is not
    there."""

    kind: Literal["restart"]


class ClockJump(Windowed):
    """The device's clock, and with it its PLC scan number, jumps once when the window opens."""

    kind: Literal["clock_jump"]
    seconds: float = Field(ge=-MAX_JUMP_S, le=MAX_JUMP_S)
    """Forwards, or backwards if below 0; never to before PLC scan 0."""

    @field_validator("seconds")
    @classmethod
    def _jumps(cls, seconds: float) -> float:
        if seconds == 0:
            raise ValueError("0 is no jump")
        return seconds

    @field_validator("for_s")
    @classmethod
    def _at_once(cls, for_s: float | None) -> float | None:
        if for_s is not None:
            raise ValueError("a jump takes no time; to jump back, add a second one")
        return for_s


FaultRule = (
    Delay
    | Drip
    | NoReply
    | ExceptionReply
    | Busy
    | WrongTransactionId
    | WrongUnitId
    | WrongFunction
    | ShortReply
    | LongReply
    | BadLength
    | BadProtocolId
    | Truncate
    | Reset
    | HalfOpen
    | Refuse
    | MaxConnections
    | Frozen
    | BitFlips
    | NotANumber
    | Torn
    | Restart
    | ClockJump
)

FaultField = Annotated[FaultRule, Field(discriminator="kind")]

FAULT_RULE: TypeAdapter[FaultRule] = TypeAdapter(FaultField, config=ConfigDict(defer_build=True))
"""Makes a rule from the keys of YAML, JSON or the command line; raises pydantic.ValidationError."""
