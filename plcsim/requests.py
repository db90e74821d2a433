"""Answers one Modbus request: PDU in, PDU out, with the exceptions and in the order of the standard.

Order of checks (MODBUS Application Protocol Specification V1.1b3, state diagrams of section 6):
function known, else 01; quantity, value and byte count right, else 03; addresses there, else 02;
then it is carried out. A PDU whose length is not what its function asks for counts as a wrong value.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

from plcsim.device import Device
from plcsim.limits import (
    COIL_OFF,
    COIL_ON,
    EXCEPTION_BIT,
    MAX_READ_BITS,
    MAX_READ_REGISTERS,
    MAX_WRITE_COILS,
    MAX_WRITE_REGISTERS,
    ExceptionCode,
    FunctionCode,
)
from plcsim.parameters import Table

log = logging.getLogger(__name__)

_TWO_WORDS = struct.Struct(">BHH")
_WRITE_MULTIPLE = struct.Struct(">BHHB")


class RequestRefused(Exception):
    """The request gets an exception reply."""

    def __init__(self, code: ExceptionCode) -> None:
        super().__init__(code)
        self.code = code


Handler = Callable[[Device, bytes], bytes]


def respond(device: Device, pdu: bytes) -> bytes:
    """The reply to a request; both are PDUs, function code first."""
    function = pdu[0]
    handler = _HANDLERS.get(function)
    try:
        if handler is None:
            raise RequestRefused(ExceptionCode.ILLEGAL_FUNCTION)
        return handler(device, pdu)
    except RequestRefused as refused:
        return bytes((function | EXCEPTION_BIT, refused.code))


def _read_bits(table: Table) -> Handler:
    def handle(device: Device, pdu: bytes) -> bytes:
        address, count = _address_and_count(pdu, MAX_READ_BITS)
        _require(device.is_readable(table, address, count))
        bits = device.images[table].data[address : address + count]
        return bytes((pdu[0], (count + 7) // 8)) + _packed(bits)

    return handle


def _read_registers(table: Table) -> Handler:
    def handle(device: Device, pdu: bytes) -> bytes:
        address, count = _address_and_count(pdu, MAX_READ_REGISTERS)
        _require(device.is_readable(table, address, count))
        data = device.images[table].data[2 * address : 2 * (address + count)]
        return bytes((pdu[0], 2 * count)) + data

    return handle


def _write_single_coil(device: Device, pdu: bytes) -> bytes:
    address, value = _two_words(pdu)
    if value not in (COIL_ON, COIL_OFF):
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_VALUE)
    _require(device.is_writable(Table.COIL, address, 1))
    device.write(Table.COIL, address, b"\x01" if value == COIL_ON else b"\x00")
    return pdu


def _write_single_register(device: Device, pdu: bytes) -> bytes:
    address, _ = _two_words(pdu)
    _require(device.is_writable(Table.HOLDING_REGISTER, address, 1))
    device.write(Table.HOLDING_REGISTER, address, pdu[3:5])
    return pdu


def _write_multiple_coils(device: Device, pdu: bytes) -> bytes:
    address, count, data = _address_count_and_data(pdu, MAX_WRITE_COILS)
    if len(data) != (count + 7) // 8:
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_VALUE)
    _require(device.is_writable(Table.COIL, address, count))
    device.write(Table.COIL, address, _unpacked(data, count))
    return pdu[:5]


def _write_multiple_registers(device: Device, pdu: bytes) -> bytes:
    address, count, data = _address_count_and_data(pdu, MAX_WRITE_REGISTERS)
    if len(data) != 2 * count:
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_VALUE)
    _require(device.is_writable(Table.HOLDING_REGISTER, address, count))
    device.write(Table.HOLDING_REGISTER, address, data)
    return pdu[:5]


_HANDLERS: dict[int, Handler] = {
    FunctionCode.READ_COILS: _read_bits(Table.COIL),
    FunctionCode.READ_DISCRETE_INPUTS: _read_bits(Table.DISCRETE_INPUT),
    FunctionCode.READ_HOLDING_REGISTERS: _read_registers(Table.HOLDING_REGISTER),
    FunctionCode.READ_INPUT_REGISTERS: _read_registers(Table.INPUT_REGISTER),
    FunctionCode.WRITE_SINGLE_COIL: _write_single_coil,
    FunctionCode.WRITE_SINGLE_REGISTER: _write_single_register,
    FunctionCode.WRITE_MULTIPLE_COILS: _write_multiple_coils,
    FunctionCode.WRITE_MULTIPLE_REGISTERS: _write_multiple_registers,
}


def _two_words(pdu: bytes) -> tuple[int, int]:
    if len(pdu) != _TWO_WORDS.size:
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_VALUE)
    _, first, second = _TWO_WORDS.unpack(pdu)
    return first, second


def _address_and_count(pdu: bytes, most: int) -> tuple[int, int]:
    address, count = _two_words(pdu)
    if not 1 <= count <= most:
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_VALUE)
    return address, count


def _address_count_and_data(pdu: bytes, most: int) -> tuple[int, int, bytes]:
    if len(pdu) < _WRITE_MULTIPLE.size:
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_VALUE)
    _, address, count, byte_count = _WRITE_MULTIPLE.unpack_from(pdu)
    data = pdu[_WRITE_MULTIPLE.size :]
    if not 1 <= count <= most or byte_count != len(data):
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_VALUE)
    return address, count, data


def _require(addresses_are_there: bool) -> None:
    if not addresses_are_there:
        raise RequestRefused(ExceptionCode.ILLEGAL_DATA_ADDRESS)


_TO_DIGITS = bytes.maketrans(b"\x00\x01", b"01")


def _packed(bits: bytes) -> bytes:
    """One byte of 0 or 1 a coil -> eight coils a byte, the first in the least significant bit."""
    number = int(bits[::-1].translate(_TO_DIGITS), 2)
    return number.to_bytes((len(bits) + 7) // 8, "little")


def _unpacked(data: bytes, count: int) -> bytes:
    number = int.from_bytes(data, "little")
    return bytes((number >> i) & 1 for i in range(count))
