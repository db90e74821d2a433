"""A request as it came, and the PDU that refuses one."""

from __future__ import annotations

from typing import NamedTuple

from plcsim.limits import EXCEPTION_BIT
from plcsim.memory import Origin


class Request(NamedTuple):
    """One request as it came."""

    transaction_id: int
    unit_id: int
    pdu: bytes
    peer: str
    """host:port of the client."""

    @property
    def function_code(self) -> int:
        return self.pdu[0]

    @property
    def origin(self) -> Origin:
        return Origin(self.peer, self.unit_id, self.pdu[0])


def exception_reply(function: int, code: int) -> bytes:
    """The PDU that refuses a request."""
    return bytes((function | EXCEPTION_BIT, code))
