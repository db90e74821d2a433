"""Answers one Modbus request: PDU in, PDU out, with the exceptions and in the order of the standard.

Order of checks (MODBUS Application Protocol Specification V1.1b3, state diagrams of section 6):
function known, else 01; quantity, value and byte count right, else 03; addresses there, else 02;
then it is carried out. A PDU whose length is not what its function asks for counts as a wrong value,
and so does a written value outside the limits of its parameter, which only shows after the address.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from plcsim.limits import (
    COIL_OFF,
    COIL_ON,
    MAX_READ_BITS,
    MAX_READ_REGISTERS,
    MAX_READ_WRITE_REGISTERS,
    MAX_WRITE_COILS,
    MAX_WRITE_REGISTERS,
    ExceptionCode,
    FunctionCode,
)
from plcsim.memory import Memory
from plcsim.parameters import Table
from plcsim.protocol.pdu import Request, exception_reply


class RequestRefused(Exception):
    """The request gets an exception reply."""

    def __init__(self, code: ExceptionCode) -> None:
        super().__init__(code)
        self.code = code


Handler = Callable[[Memory, Request], bytes]

_TWO_WORDS = struct.Struct(">BHH")
_THREE_WORDS = struct.Struct(">BHHH")
_WRITE_MULTIPLE = struct.Struct(">BHHB")
_READ_WRITE_MULTIPLE = struct.Struct(">BHHHHB")


def respond(memory: Memory, request: Request, handlers: Mapping[int, Handler]) -> bytes:
    """The reply PDU to a request: of the handlers' function, or an exception."""
    function = request.pdu[0]
    handler = handlers.get(function)
    if handler is None:
        return exception_reply(function, ExceptionCode.ILLEGAL_FUNCTION)
    try:
        return handler(memory, request)
    except RequestRefused as refused:
        return exception_reply(function, refused.code)


def wrong_unless(holds: bool) -> None:
    """Refuse a wrong quantity, value or byte count."""
    if not holds:
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_VALUE)


def _missing_unless(addresses_are_there: bool) -> None:
    if not addresses_are_there:
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_ADDRESS)


def _readable(memory: Memory, request: Request, table: Table, most: int) -> tuple[int, int]:
    """Address and count of a read that can be carried out."""
    address, count = _two_words(request.pdu)
    wrong_unless(1 <= count <= most)
    _missing_unless(memory.is_readable(table, address, count))
    return address, count


def _read_bits(table: Table) -> Handler:
    def handle(memory: Memory, request: Request) -> bytes:
        address, count = _readable(memory, request, table, MAX_READ_BITS)
        bits = memory.images[table].data[address : address + count]
        return bytes((request.pdu[0], (count + 7) // 8)) + packed(bits)

    return handle


def _read_registers(table: Table) -> Handler:
    def handle(memory: Memory, request: Request) -> bytes:
        address, count = _readable(memory, request, table, MAX_READ_REGISTERS)
        data = memory.images[table].data[2 * address : 2 * (address + count)]
        return bytes((request.pdu[0], 2 * count)) + data

    return handle


def _write_single_coil(memory: Memory, request: Request) -> bytes:
    address, value = _two_words(request.pdu)
    wrong_unless(value in (COIL_ON, COIL_OFF))
    _write(memory, request, Table.COIL, address, 1, b"\x01" if value == COIL_ON else b"\x00")
    return request.pdu


def _write_single_register(memory: Memory, request: Request) -> bytes:
    address, _ = _two_words(request.pdu)
    _write(memory, request, Table.HOLDING_REGISTER, address, 1, request.pdu[3:5])
    return request.pdu


def _write_multiple_coils(memory: Memory, request: Request) -> bytes:
    address, count, data = _address_count_and_data(request.pdu, MAX_WRITE_COILS)
    wrong_unless(len(data) == (count + 7) // 8)
    _write(memory, request, Table.COIL, address, count, unpacked(data, count))
    return request.pdu[:5]


def _write_multiple_registers(memory: Memory, request: Request) -> bytes:
    address, count, data = _address_count_and_data(request.pdu, MAX_WRITE_REGISTERS)
    wrong_unless(len(data) == 2 * count)
    _write(memory, request, Table.HOLDING_REGISTER, address, count, data)
    return request.pdu[:5]


def _mask_write_register(memory: Memory, request: Request) -> bytes:
    """new = (now AND and_mask) OR (or_mask AND NOT and_mask); specification, 6.16."""
    wrong_unless(len(request.pdu) == _THREE_WORDS.size)
    _, address, and_mask, or_mask = _THREE_WORDS.unpack(request.pdu)
    _missing_unless(memory.is_writable(Table.HOLDING_REGISTER, address, 1))
    now = int.from_bytes(memory.images[Table.HOLDING_REGISTER].data[2 * address : 2 * address + 2])
    new = (now & and_mask) | (or_mask & ~and_mask & 0xFFFF)
    _write(memory, request, Table.HOLDING_REGISTER, address, 1, new.to_bytes(2))
    return request.pdu


def _read_write_multiple_registers(memory: Memory, request: Request) -> bytes:
    """The write comes before the read, and neither happens unless both can; specification, 6.17."""
    pdu, table = request.pdu, Table.HOLDING_REGISTER
    wrong_unless(len(pdu) >= _READ_WRITE_MULTIPLE.size)
    _, read_at, read_count, write_at, write_count, byte_count = _READ_WRITE_MULTIPLE.unpack_from(pdu)
    data = pdu[_READ_WRITE_MULTIPLE.size :]
    wrong_unless(1 <= read_count <= MAX_READ_REGISTERS and 1 <= write_count <= MAX_READ_WRITE_REGISTERS)
    wrong_unless(byte_count == 2 * write_count == len(data))
    _missing_unless(memory.is_readable(table, read_at, read_count))
    _write(memory, request, table, write_at, write_count, data)
    read = memory.images[table].data[2 * read_at : 2 * (read_at + read_count)]
    return bytes((pdu[0], 2 * read_count)) + read


HANDLERS: Mapping[int, Handler] = {
    FunctionCode.READ_COILS: _read_bits(Table.COIL),
    FunctionCode.READ_DISCRETE_INPUTS: _read_bits(Table.DISCRETE_INPUT),
    FunctionCode.READ_HOLDING_REGISTERS: _read_registers(Table.HOLDING_REGISTER),
    FunctionCode.READ_INPUT_REGISTERS: _read_registers(Table.INPUT_REGISTER),
    FunctionCode.WRITE_SINGLE_COIL: _write_single_coil,
    FunctionCode.WRITE_SINGLE_REGISTER: _write_single_register,
    FunctionCode.WRITE_MULTIPLE_COILS: _write_multiple_coils,
    FunctionCode.WRITE_MULTIPLE_REGISTERS: _write_multiple_registers,
    FunctionCode.MASK_WRITE_REGISTER: _mask_write_register,
    FunctionCode.READ_WRITE_MULTIPLE_REGISTERS: _read_write_multiple_registers,
}
"""The functions on the four tables, which every device has."""


def _write(memory: Memory, request: Request, table: Table, address: int, count: int, data: bytes) -> None:
    _missing_unless(memory.is_writable(table, address, count))
    wrong_unless(memory.accepts(table, address, data))
    memory.write(table, address, data, request.origin)


def _two_words(pdu: bytes) -> tuple[int, int]:
    wrong_unless(len(pdu) == _TWO_WORDS.size)
    _, first, second = _TWO_WORDS.unpack(pdu)
    return first, second


def _address_count_and_data(pdu: bytes, most: int) -> tuple[int, int, bytes]:
    wrong_unless(len(pdu) >= _WRITE_MULTIPLE.size)
    _, address, count, byte_count = _WRITE_MULTIPLE.unpack_from(pdu)
    data = pdu[_WRITE_MULTIPLE.size :]
    wrong_unless(1 <= count <= most and byte_count == len(data))
    return address, count, data


_TO_DIGITS = bytes.maketrans(b"\x00\x01", b"01")


def packed(bits: bytes) -> bytes:
    """One byte of 0 or 1 a coil -> eight coils a byte, the first in the least significant bit."""
    number = int(bits[::-1].translate(_TO_DIGITS), 2)
    return number.to_bytes((len(bits) + 7) // 8, "little")


def unpacked(data: bytes, count: int) -> bytes:
    """The inverse of `packed`, of the first `count` coils."""
    number = int.from_bytes(data, "little")
    return bytes((number >> i) & 1 for i in range(count))
