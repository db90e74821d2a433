"""When a fault is in force and which requests it hits: the keys that all kinds share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from plcsim.limits import MAX_ADDRESS, FunctionCode
from plcsim.names import Name
from plcsim.protocol.pdu import Request

Pair = Annotated[list[Annotated[int, Field(ge=0, le=MAX_ADDRESS)]], Field(min_length=2, max_length=2)]

_ADDRESSED = {
    FunctionCode.READ_COILS,
    FunctionCode.READ_DISCRETE_INPUTS,
    FunctionCode.READ_HOLDING_REGISTERS,
    FunctionCode.READ_INPUT_REGISTERS,
    FunctionCode.WRITE_MULTIPLE_COILS,
    FunctionCode.WRITE_MULTIPLE_REGISTERS,
    FunctionCode.READ_WRITE_MULTIPLE_REGISTERS,
}
_SINGLE = {
    FunctionCode.WRITE_SINGLE_COIL,
    FunctionCode.WRITE_SINGLE_REGISTER,
    FunctionCode.MASK_WRITE_REGISTER,
}


class Windowed(BaseModel):
    """A fault with a time window."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: Name | None = None
    """By which it is listed and removed; made from the kind where it is not given."""
    after_s: float = Field(default=0.0, ge=0)
    """The window opens so long after the start, or after the fault was added."""
    for_s: float | None = Field(default=None, gt=0)
    """The window stays open so long; for ever where it is not given."""


class OnRequest(Windowed):
    """A fault that hits requests: those to which every given key fits, and of these as many as
    `every`, `probability` and `count` let through, in this order."""

    unit_id: int | None = Field(default=None, ge=0, le=255)
    functions: list[Annotated[int, Field(ge=0, le=255)]] | None = Field(default=None, min_length=1)
    """Function codes."""
    addresses: Pair | None = None
    """[first, last], counted from 0: requests that touch one of them."""
    quantity: Pair | None = None
    """[least, most] addresses that the request asks for."""
    every: int = Field(default=1, ge=1)
    """Hits each n-th of the requests that fit."""
    probability: float = Field(default=1.0, gt=0, le=1)
    count: int | None = Field(default=None, ge=1)
    """Hits so many requests, then no more."""

    @field_validator("addresses", "quantity")
    @classmethod
    def _in_order(cls, pair: list[int] | None) -> list[int] | None:
        if pair is not None and pair[0] > pair[1]:
            raise ValueError(f"{pair} must be [lower, higher]")
        return pair

    def fits(self, request: Request) -> bool:
        """Whether the request is one that this fault is meant for."""
        if self.unit_id is not None and request.unit_id != self.unit_id:
            return False
        if self.functions is not None and request.function_code not in self.functions:
            return False
        if self.addresses is None and self.quantity is None:
            return True
        span = span_of(request)
        if span is None:
            return False
        address, count = span
        if self.addresses is not None:
            first, last = self.addresses
            if address > last or address + count <= first:
                return False
        return self.quantity is None or self.quantity[0] <= count <= self.quantity[1]


class OnRead(OnRequest):
    """A fault of what a read shows: only functions 1 to 4 can be hit."""

    @model_validator(mode="after")
    def _only_reads(self) -> OnRead:
        if wrong := [code for code in self.functions or [] if code not in (1, 2, 3, 4)]:
            raise ValueError(f"functions: {wrong[0]} reads nothing that this fault could change; use 1 to 4")
        return self

    def fits(self, request: Request) -> bool:
        return request.function_code in (1, 2, 3, 4) and OnRequest.fits(self, request)


def span_of(request: Request) -> tuple[int, int] | None:
    """Address and count that a request asks for (of function 23: those it reads); None if it has none."""
    pdu = request.pdu
    if len(pdu) < 5:
        return None
    if pdu[0] in _ADDRESSED:
        return int.from_bytes(pdu[1:3]), int.from_bytes(pdu[3:5])
    if pdu[0] in _SINGLE:
        return int.from_bytes(pdu[1:3]), 1
    return None
