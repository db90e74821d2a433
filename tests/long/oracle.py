"""What a Modbus TCP server must answer, decided from the specification alone; shares no code with plcsim."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

HEADER = struct.Struct(">HHHB")

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply: what it begins with, header included, and how long it is."""

    beginning: bytes
    length: int

    def is_at(self, data: bytes, position: int) -> bool:
        return data.startswith(self.beginning, position)


class Refused(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class Oracle:
    """Decides for the device of a YAML document, as `plcsim run` would serve it with `unit_policy: any`."""

    def __init__(self, device: dict[str, Any]) -> None:
        self._readable: dict[str, set[int]] = {}
        self._writable: dict[str, set[int]] = {}
        for table in ("coil", "discrete_input", "holding_register", "input_register"):
            self._readable[table], self._writable[table] = set(), set()
        for group in device["groups"]:
            for parameter in group["parameters"]:
                own = range(parameter["address"], parameter["address"] + width(group["table"], parameter))
                if parameter.get("readable", True):
                    self._readable[group["table"]].update(own)
                if parameter.get("writable", False):
                    self._writable[group["table"]].update(own)
        for gap in device.get("readable_gaps", []):
            self._readable[gap["table"]].update(range(gap["address"], gap["address"] + gap["count"]))
        server = device.get("server", {})
        names = server["identification"]
        self._objects = {
            i: names[key].encode() for i, key in enumerate(("vendor_name", "product_code", "revision"))
        }
        functions = server["functions"]
        self._status = functions["exception_status"]
        self._server_id = functions["report_server_id"]["id"].encode() + b"\xff"
        self._files = {int(key, 0): len(content) for key, content in functions["files"].items()}
        self._queues = {int(key, 0): content for key, content in functions["fifo"].items()}

    def answers(self, stream: bytes) -> tuple[list[Answer], int, bool]:
        """Replies to the complete frames of a stream; how many bytes these have; whether a header that is
        none comes behind, so that the connection ends."""
        found: list[Answer] = []
        position, end = 0, len(stream)
        while end - position >= 7:
            transaction, protocol, length, unit = HEADER.unpack_from(stream, position)
            if protocol or not 2 <= length <= 254:
                return found, position, True
            if position + 6 + length > end:
                break
            beginning, size = self.reply(stream[position + 7 : position + 6 + length])
            header = HEADER.pack(transaction, 0, size + 1, unit)
            found.append(Answer(header + beginning, 7 + size))
            position += 6 + length
        return found, position, False

    def reply(self, pdu: bytes) -> tuple[bytes, int]:
        """What the reply PDU begins with, as far as that is certain, and its length."""
        try:
            return self._carried_out(pdu)
        except Refused as refused:
            return bytes((pdu[0] | 0x80, refused.code)), 2

    def _carried_out(self, pdu: bytes) -> tuple[bytes, int]:
        function = pdu[0]
        if function in (1, 2, 3, 4):
            return self._read(function, pdu)
        if function in (5, 6):
            return self._write_one(function, pdu)
        if function in (15, 16):
            return self._write_many(function, pdu)
        if function == 22:
            right(len(pdu) == 7)
            self._there("holding_register", word(pdu, 1), 1, to_write=True)
            return pdu, 7
        if function == 23:
            return self._read_and_write(pdu)
        return self._other(function, pdu)

    def _read(self, function: int, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) == 5)
        first, count = word(pdu, 1), word(pdu, 3)
        right(1 <= count <= (2000 if function <= 2 else 125))
        table = ("coil", "discrete_input", "holding_register", "input_register")[function - 1]
        self._there(table, first, count)
        size = -(-count // 8) if function <= 2 else 2 * count
        return bytes((function, size)), 2 + size

    def _write_one(self, function: int, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) == 5)
        right(function == 6 or word(pdu, 3) in (0, 0xFF00))
        self._there("coil" if function == 5 else "holding_register", word(pdu, 1), 1, to_write=True)
        return pdu, 5

    def _write_many(self, function: int, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) >= 6 and pdu[5] == len(pdu) - 6)
        first, count = word(pdu, 1), word(pdu, 3)
        right(1 <= count <= (1968 if function == 15 else 123))
        right(pdu[5] == (-(-count // 8) if function == 15 else 2 * count))
        self._there("coil" if function == 15 else "holding_register", first, count, to_write=True)
        return pdu[:5], 5

    def _read_and_write(self, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) >= 10 and pdu[9] == len(pdu) - 10)
        read, write = (word(pdu, 1), word(pdu, 3)), (word(pdu, 5), word(pdu, 7))
        right(1 <= read[1] <= 125 and 1 <= write[1] <= 121 and pdu[9] == 2 * write[1])
        self._there("holding_register", *read)
        self._there("holding_register", *write, to_write=True)
        return bytes((23, 2 * read[1])), 2 + 2 * read[1]

    def _other(self, function: int, pdu: bytes) -> tuple[bytes, int]:
        if function == 7:
            right(len(pdu) == 1)
            return exactly(bytes((7, self._status)))
        if function == 8:
            return self._diagnostics(pdu)
        if function == 11:
            right(len(pdu) == 1)
            return b"\x0b\x00\x00", 5
        if function == 17:
            right(len(pdu) == 1)
            return exactly(bytes((17, len(self._server_id))) + self._server_id)
        if function == 20:
            return self._read_files(pdu)
        if function == 21:
            return self._write_files(pdu)
        if function == 24:
            return self._queue(pdu)
        if function == 43:
            return self._identification(pdu)
        raise Refused(ILLEGAL_FUNCTION)

    def _diagnostics(self, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) >= 5 and len(pdu) % 2 == 1)
        sub, data = word(pdu, 1), pdu[3:]
        if sub == 0:
            return exactly(pdu)
        if sub == 1:
            right(data in (b"\x00\x00", b"\xff\x00"))
            return exactly(pdu)
        if sub not in (2, *range(0x0A, 0x13), 0x14):
            raise Refused(ILLEGAL_FUNCTION)
        right(data == b"\x00\x00")
        return (pdu if sub == 0x0A else pdu[:3]), 5

    def _read_files(self, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) >= 2 and 7 <= pdu[1] <= 0xF5 and pdu[1] == len(pdu) - 2 and pdu[1] % 7 == 0)
        asked = [pdu[i : i + 7] for i in range(2, len(pdu), 7)]
        size = sum(2 + 2 * word(each, 5) for each in asked)
        right(all(word(each, 5) for each in asked) and 2 + size <= 253)
        for each in asked:
            self._record(each)
        return bytes((20, size)), 2 + size

    def _write_files(self, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) >= 2 and 9 <= pdu[1] <= 0xFB and pdu[1] == len(pdu) - 2)
        position, asked = 2, []
        while position < len(pdu):
            right(len(pdu) - position >= 7)
            asked.append(pdu[position : position + 7])
            length = word(pdu, position + 5)
            position += 7 + 2 * length
            right(length > 0 and position <= len(pdu))
        for each in asked:
            self._record(each)
        return exactly(pdu)

    def _record(self, asked: bytes) -> None:
        file, record, length = word(asked, 1), word(asked, 3), word(asked, 5)
        if asked[0] != 6 or record > 9999 or record + length > self._files.get(file, 0):
            raise Refused(ILLEGAL_ADDRESS)

    def _queue(self, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) == 3)
        content = self._queues.get(word(pdu, 1))
        if content is None:
            raise Refused(ILLEGAL_ADDRESS)
        right(len(content) <= 31)
        data = struct.pack(f">{len(content)}H", *content)
        return exactly(struct.pack(">BHH", 24, 2 + len(data), len(content)) + data)

    def _identification(self, pdu: bytes) -> tuple[bytes, int]:
        right(len(pdu) >= 2)
        if pdu[1] != 14:
            raise Refused(ILLEGAL_FUNCTION)
        right(len(pdu) == 4 and pdu[2] in (1, 2, 3, 4))
        if pdu[2] == 4 and pdu[3] not in self._objects:
            raise Refused(ILLEGAL_ADDRESS)
        first = pdu[3] if pdu[3] in self._objects else 0
        shown = [first] if pdu[2] == 4 else range(first, 3)
        head = pdu[:3] + bytes((0x81, 0, 0, len(shown)))
        return exactly(head + b"".join(bytes((i, len(self._objects[i]))) + self._objects[i] for i in shown))

    def _there(self, table: str, first: int, count: int, to_write: bool = False) -> None:
        addresses = (self._writable if to_write else self._readable)[table]
        if not addresses.issuperset(range(first, first + count)):
            raise Refused(ILLEGAL_ADDRESS)


def width(table: str, parameter: dict[str, Any]) -> int:
    """Addresses that a parameter takes."""
    bits = {"bool": 1, "uint16": 16, "uint32": 32}
    if table in ("coil", "discrete_input"):
        return bits[parameter["type"]]
    return (
        -(-parameter["length"] // 2) if parameter["type"] == "string" else -(-bits[parameter["type"]] // 16)
    )


def right(holds: bool) -> None:
    if not holds:
        raise Refused(ILLEGAL_VALUE)


def word(data: bytes, position: int) -> int:
    return data[position] << 8 | data[position + 1]


def exactly(pdu: bytes) -> tuple[bytes, int]:
    return pdu, len(pdu)
