"""Functions 20, 21 and 24: file records and FIFO queues, apart from the four tables.

Source: MODBUS Application Protocol Specification V1.1b3, sections 6.14, 6.15 and 6.18.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from plcsim.limits import MAX_PDU_BYTES, ExceptionCode
from plcsim.memory import Memory
from plcsim.protocol.pdu import Request
from plcsim.protocol.requests import Handler, RequestRefused, wrong_unless

_REFERENCE_TYPE = 6
_SUB_REQUEST = struct.Struct(">BHHH")
_MAX_RECORD_NUMBER = 9999
_READ_BYTES = (7, 0xF5)
_WRITE_BYTES = (9, 0xFB)
_MAX_FIFO = 31


class Files:
    """The extended memory of a device: files of registers, addressed by file and record number."""

    def __init__(self, files: Mapping[int, Sequence[int]]) -> None:
        self._files = {
            number: bytearray(struct.pack(f">{len(registers)}H", *registers))
            for number, registers in files.items()
        }

    def read(self, _: Memory, request: Request) -> bytes:
        """Function 20: the records of each sub-request, one after the other."""
        body = _body(request.pdu, _READ_BYTES)
        wrong_unless(len(body) % _SUB_REQUEST.size == 0)
        asked = list(_SUB_REQUEST.iter_unpack(body))
        wrong_unless(all(length > 0 for *_, length in asked))
        wrong_unless(2 + sum(2 + 2 * length for *_, length in asked) <= MAX_PDU_BYTES)
        replies = b""
        for reference, file, record, length in asked:
            data = self._span(reference, file, record, length)
            replies += bytes((1 + len(data), _REFERENCE_TYPE)) + data
        return bytes((request.pdu[0], len(replies))) + replies

    def write(self, _: Memory, request: Request) -> bytes:
        """Function 21: all records, or none if one of them is not there."""
        writes = list(_records(_body(request.pdu, _WRITE_BYTES)))
        for reference, file, record, data in writes:
            self._span(reference, file, record, len(data) // 2)
        for _reference, file, record, data in writes:
            self._files[file][2 * record : 2 * record + len(data)] = data
        return request.pdu

    def _span(self, reference: int, file: int, record: int, length: int) -> bytes:
        content = self._files.get(file, b"")
        is_there = reference == _REFERENCE_TYPE and record <= _MAX_RECORD_NUMBER
        if not is_there or 2 * (record + length) > len(content):
            raise RequestRefused(ExceptionCode.ILLEGAL_DATA_ADDRESS)
        return bytes(content[2 * record : 2 * (record + length)])


def read_fifo_queue(queues: Mapping[int, Sequence[int]]) -> Handler:
    """Handler of function 24: the queue at a pointer address, at most 31 registers; it stays as it is."""

    def handle(_: Memory, request: Request) -> bytes:
        wrong_unless(len(request.pdu) == 3)
        queue = queues.get(int.from_bytes(request.pdu[1:]))
        if queue is None:
            raise RequestRefused(ExceptionCode.ILLEGAL_DATA_ADDRESS)
        wrong_unless(len(queue) <= _MAX_FIFO)
        count = len(queue)
        return struct.pack(f">BHH{count}H", request.pdu[0], 2 + 2 * count, count, *queue)

    return handle


def _body(pdu: bytes, least_and_most: tuple[int, int]) -> bytes:
    least, most = least_and_most
    wrong_unless(len(pdu) >= 2 and least <= pdu[1] <= most and pdu[1] == len(pdu) - 2)
    return pdu[2:]


def _records(body: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Reference type, file number, record number and data of each sub-request of a write."""
    position = 0
    while position < len(body):
        wrong_unless(len(body) - position >= _SUB_REQUEST.size)
        reference, file, record, length = _SUB_REQUEST.unpack_from(body, position)
        start = position + _SUB_REQUEST.size
        position = start + 2 * length
        wrong_unless(length > 0 and position <= len(body))
        yield reference, file, record, body[start:position]
