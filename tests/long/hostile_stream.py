"""Makes hostile Modbus TCP streams: requests by a grammar, what goes wrong with them, where they are cut."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

FUNCTIONS = (1, 2, 3, 4, 5, 6, 15, 16, 22, 23)
COUNTS = (0, 1, 2, 7, 8, 9, 121, 122, 123, 124, 125, 126, 127, 128, 1968, 1969, 2000, 2001, 0x7FFF, 0xFFFF)

KNOWN_TROUBLE = [
    bytes.fromhex(text)
    for text in (
        "03", "10", "17", "2b", "08", "14", "15", "18", "0300", "10 0001 00",
        "03 ffff 0002", "01 ffff 0002", "10 ffff 0002 04 0000 0000", "03 9c85 9c85",
        "03 9c85 ffff", "10 0001 0001 ff 0000", "10 0001 0001 00", "0f 0013 0001 00", "0f 0013 ffff 01 00",
        "00", "80", "ff", "83 0001 0001", "2b 0d 00 00", "2b 0e 00 00", "2b 0e 05 00", "2b 0e 04 ff",
        "14 ff", "14 07 06 ffff ffff ffff", "15 09 06 0004 0000 ffff 0000", "18 ffff", "08 ffff 0000",
        "17 0003 0001 000e 0079 f2", "17 0003 007e 000e 0001 02 0000",
    )
]  # fmt: skip

NO_HEADERS = [
    bytes.fromhex(text)
    for text in (
        "0001 0001 0006 01 03 006b 0001", "0001 ffff 0006 01 03 006b 0001", "0001 0000 0000 01 03 006b 0001",
        "0001 0000 0001 01 03 006b 0001", "0001 0000 00ff 01 03 006b 0001", "0001 0000 012c 01 03 006b 0001",
        "0001 0000 ffff 01 03 006b 0001", "1603 0102 0001 00 01fc 0303", "ffff ffff ffff ffff",
    )
] + [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"]  # fmt: skip


class HostileStream:
    """An endless supply of hostile requests for the device of a YAML document; the same for a seed."""

    def __init__(self, device: dict[str, Any], seed: int) -> None:
        self._dice = Random(seed)
        starts = [parameter["address"] for group in device["groups"] for parameter in group["parameters"]]
        starts += [gap["address"] for gap in device["readable_gaps"]]
        starts += [gap["address"] + gap["count"] for gap in device["readable_gaps"]]
        near = {start + step for start in starts for step in (-1, 0, 1, 2)}
        self._addresses = sorted(address for address in near | {0, 0x7FFF, 0xFFFE} if 0 <= address <= 0xFFFF)
        functions = device["server"]["functions"]
        self._queues = [int(key, 0) for key in functions["fifo"]]
        self._files = [int(key, 0) for key in functions["files"]]
        self._makers = (
            *(8 * [self._plain]), *(3 * [self._flipped]), self._cut, self._longer, self._any_function,
            self._noise, self._trouble, self._special,
        )  # fmt: skip

    def batch(self, frames: int) -> bytes:
        """So many frames, one behind the other; sometimes with what is no header among them, or with bits
        of it all, headers too, flipped."""
        dice = self._dice
        parts = [self.frame() for _ in range(frames)]
        if dice.random() < 0.2:
            parts.insert(dice.randrange(frames + 1), dice.choice(NO_HEADERS))
        stream = b"".join(parts)
        return flip(dice, stream, dice.randint(1, 3)) if dice.random() < 0.1 else stream

    def frame(self) -> bytes:
        pdu = self._dice.choice(self._makers)()[:253]
        head = self._dice.getrandbits(24)
        return struct.pack(">HHHB", head & 0xFFFF, 0, len(pdu) + 1, head >> 16) + pdu

    def cuts(self, size: int) -> Sequence[int]:
        """Where a stream is cut into segments: mostly nowhere, sometimes anywhere."""
        if self._dice.random() < 0.7:
            return ()
        return sorted(self._dice.randrange(size + 1) for _ in range(self._dice.randint(1, 6)))

    def _address(self) -> int:
        dice = self._dice
        return dice.choice(self._addresses) if dice.random() < 0.9 else dice.getrandbits(16)

    def _count(self) -> int:
        roll = self._dice.random()
        if roll < 0.6:
            return self._dice.randint(1, 4)
        return self._dice.choice(COUNTS) if roll < 0.95 else self._dice.getrandbits(16)

    def _plain(self) -> bytes:
        """A request as the grammar has it: its addresses and quantities may be wrong, its form is right."""
        dice, function = self._dice, self._dice.choice(FUNCTIONS)
        if function <= 4:
            return struct.pack(">BHH", function, self._address(), self._count())
        if function == 5:
            value = dice.choice((0, 0xFF00, 0xFF00, 1, 0xFF01, 0x00FF))
            return struct.pack(">BHH", 5, self._address(), value)
        if function == 6:
            return struct.pack(">BHH", 6, self._address(), dice.getrandbits(16))
        if function == 22:
            return struct.pack(">BHHH", 22, self._address(), dice.getrandbits(16), dice.getrandbits(16))
        count = self._count()
        size = -(-count // 8) if function == 15 else 2 * count
        data = dice.randbytes(min(size, 247))
        byte_count = size & 0xFF if dice.random() < 0.9 else dice.getrandbits(8)
        if function == 23:
            return (
                struct.pack(">BHHHHB", 23, self._address(), self._count(), self._address(), count, byte_count)
                + data
            )
        return struct.pack(">BHHB", function, self._address(), count, byte_count) + data

    def _flipped(self) -> bytes:
        return flip(self._dice, self._plain(), self._dice.randint(1, 3))

    def _cut(self) -> bytes:
        pdu = self._plain()
        return pdu[: self._dice.randint(1, len(pdu))]

    def _longer(self) -> bytes:
        return self._plain() + self._dice.randbytes(self._dice.randint(1, 9))

    def _any_function(self) -> bytes:
        return bytes((self._dice.getrandbits(8),)) + self._plain()[1:]

    def _noise(self) -> bytes:
        return self._dice.randbytes(self._dice.randint(1, 253))

    def _trouble(self) -> bytes:
        return self._dice.choice(KNOWN_TROUBLE)

    def _special(self) -> bytes:
        """One of the functions that a device need not have."""
        dice = self._dice
        kind = dice.choice((7, 8, 11, 17, 20, 21, 24, 43))
        if kind == 8:
            return struct.pack(">BHH", 8, dice.randrange(0x16), dice.choice((0, 0, 0xFF00, 0xA537)))
        if kind == 20:
            asked = b"".join(self._sub_request() for _ in range(dice.randint(1, 4)))
            return bytes((20, len(asked))) + asked
        if kind == 21:
            asked = self._sub_request()
            data = dice.randbytes(2 * min(120, asked[6]))
            return bytes((21, (len(asked) + len(data)) & 0xFF)) + asked + data
        if kind == 24:
            return struct.pack(">BH", 24, dice.choice([*self._queues, 0]))
        if kind == 43:
            return bytes((43, 14, dice.randrange(6), dice.choice((0, 1, 2, 3, 127, 128, 255))))
        return bytes((kind,))

    def _sub_request(self) -> bytes:
        dice = self._dice
        reference = 6 if dice.random() < 0.9 else dice.getrandbits(8)
        record = dice.choice((0, 1, 8, 9, 10, 11, 9999, 10000))
        return struct.pack(">BHHH", reference, dice.choice([*self._files, 5]), record, dice.randrange(6))


def flip(dice: Random, data: bytes, bits: int) -> bytes:
    changed = bytearray(data)
    for _ in range(bits):
        place = dice.randrange(8 * len(changed))
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def segments(stream: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """A stream in the pieces that the cuts make."""
    for start, end in zip((0, *cuts), (*cuts, len(stream)), strict=True):
        if start < end:
            yield stream[start:end]
