"""Modbus numbers: function codes, exception codes and quantity limits.

Source: MODBUS Application Protocol Specification V1.1b3, section 6; Modbus Messaging on TCP/IP
Implementation Guide V1.0b, section 3.1.
"""

from __future__ import annotations

from enum import IntEnum


class FunctionCode(IntEnum):
    READ_COILS = 1
    READ_DISCRETE_INPUTS = 2
    READ_HOLDING_REGISTERS = 3
    READ_INPUT_REGISTERS = 4
    WRITE_SINGLE_COIL = 5
    WRITE_SINGLE_REGISTER = 6
    READ_EXCEPTION_STATUS = 7
    DIAGNOSTICS = 8
    GET_COMM_EVENT_COUNTER = 11
    WRITE_MULTIPLE_COILS = 15
    WRITE_MULTIPLE_REGISTERS = 16
    REPORT_SERVER_ID = 17
    READ_FILE_RECORD = 20
    WRITE_FILE_RECORD = 21
    MASK_WRITE_REGISTER = 22
    READ_WRITE_MULTIPLE_REGISTERS = 23
    READ_FIFO_QUEUE = 24
    ENCAPSULATED_INTERFACE = 43


class ExceptionCode(IntEnum):
    ILLEGAL_FUNCTION = 1
    ILLEGAL_DATA_ADDRESS = 2
    ILLEGAL_DATA_VALUE = 3
    DEVICE_FAILURE = 4
    ACKNOWLEDGE = 5
    DEVICE_BUSY = 6
    MEMORY_PARITY_ERROR = 8
    GATEWAY_PATH_UNAVAILABLE = 10
    GATEWAY_TARGET_FAILED = 11


EXCEPTION_BIT = 0x80
"""Set in the function code of an exception reply."""

MAX_ADDRESS = 0xFFFF
MAX_READ_BITS = 2000
MAX_READ_REGISTERS = 125
MAX_WRITE_COILS = 1968
MAX_WRITE_REGISTERS = 123
MAX_READ_WRITE_REGISTERS = 121
"""Of the write in READ_WRITE_MULTIPLE_REGISTERS; its read may have MAX_READ_REGISTERS."""
MAX_PDU_BYTES = 253

COIL_ON = 0xFF00
COIL_OFF = 0x0000

MBAP_HEADER_BYTES = 7
"""Transaction id (2), protocol id (2), length (2), unit id (1)."""

MAX_ADU_BYTES = 260
"""The largest frame: MBAP_HEADER_BYTES and MAX_PDU_BYTES."""

MIN_MBAP_LENGTH = 2
MAX_MBAP_LENGTH = 254
"""The MBAP length field counts the unit id and the PDU: one function code at least, 253 bytes at most."""
