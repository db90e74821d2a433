"""One reply on its way out: what it says, when it goes, and what becomes of the connection behind it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

MBAP_HEADER = struct.Struct(">HHHB")
"""Transaction id, protocol id, length, unit id."""


class Ending(Enum):
    """What becomes of the connection once the reply has gone."""

    STAYS = "stays"
    CLOSE = "close"
    RESET = "reset"
    HALF_OPEN = "half_open"
    """It stays open, and nobody ever reads from it or answers on it again."""


@dataclass(slots=True, eq=False)
class Reply:
    """A correct reply as long as no fault has changed it."""

    transaction_id: int
    unit_id: int
    pdu: bytes
    protocol_id: int = 0
    length_error: int = 0
    """Added to the length field of the header."""
    delay_s: float = 0.0
    byte_interval_s: float = 0.0
    """Above 0: the bytes go one by one, so far apart."""
    most_bytes: int | None = None
    """So many bytes of the frame go, and no more."""
    ending: Ending = Ending.STAYS
    sender: object = None
    """Which device it is of: its replies stay in order, and do not wait for those of others."""

    def frame(self) -> bytes:
        """The bytes that go over the wire."""
        length = max(0, min(0xFFFF, len(self.pdu) + 1 + self.length_error))
        header = MBAP_HEADER.pack(self.transaction_id, self.protocol_id, length, self.unit_id)
        return (header + self.pdu)[: self.most_bytes]

    @property
    def is_plain(self) -> bool:
        """Whether it goes at once and whole, and the connection stays."""
        return (
            not self.delay_s
            and not self.byte_interval_s
            and self.most_bytes is None
            and self.ending is Ending.STAYS
        )
