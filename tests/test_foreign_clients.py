"""Clients that are not ours: pymodbus' and pyModbusTCP's read and write every type they know."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fix_emulator import ALD_FILE, BITS, Emulator, emulating
from fix_faults import Site
from pymodbus.client import ModbusTcpClient
from pymodbus.pdu.file_message import FileRecord
from pyModbusTCP import utils
from pyModbusTCP.client import ModbusClient

from plcsim.device_file import load_device
from plcsim.parameters import ByteOrder, DataType, Parameter, Table
from plcsim.truth import Truth

WORDS = [0, 1, 0x7FFF, 0x8000, 0xFFFF]
KNOWN = ModbusTcpClient.DATATYPE
PYMODBUS_VALUES = [
    (KNOWN.INT16, [-32768, -1, 0, 32767]),
    (KNOWN.UINT16, WORDS),
    (KNOWN.INT32, [-(2**31), -2, 0, 2**31 - 1]),
    (KNOWN.UINT32, [0, 1, 2**31, 2**32 - 1]),
    (KNOWN.INT64, [-(2**63), -3, 2**63 - 1]),
    (KNOWN.UINT64, [0, 2**63, 2**64 - 1]),
    (KNOWN.FLOAT32, [0.0, -1.5, 123456.0, 2.0**-126, -(2.0**127)]),
    (KNOWN.FLOAT64, [0.0, -1.1, 6.02214076e23]),
    (KNOWN.STRING, "precursor 7!"),
    (KNOWN.BITS, [True, False, False, True] * 8),
]


@pytest.fixture(scope="module")
def pymodbus(flat: Emulator) -> Iterator[ModbusTcpClient]:
    client = ModbusTcpClient("127.0.0.1", port=flat.port, timeout=10, retries=0)
    assert client.connect()
    yield client
    client.close()


@pytest.fixture(scope="module")
def py_modbus_tcp(flat: Emulator) -> Iterator[ModbusClient]:
    client = ModbusClient("127.0.0.1", port=flat.port, timeout=10, auto_open=False)
    assert client.open()
    yield client
    client.close()


@pytest.mark.parametrize("word_order", ["big", "little"])
@pytest.mark.parametrize(("data_type", "values"), PYMODBUS_VALUES, ids=lambda v: getattr(v, "name", ""))
def test_pymodbus_reads_back_what_it_wrote(
    pymodbus: ModbusTcpClient, data_type: Any, values: Any, word_order: Any
) -> None:
    registers = pymodbus.convert_to_registers(values, data_type, word_order=word_order)
    assert not pymodbus.write_registers(100, registers).isError()
    read = pymodbus.read_holding_registers(100, count=len(registers)).registers
    assert read == registers
    assert pymodbus.convert_from_registers(read, data_type, word_order=word_order) == values


def test_pymodbus_reads_all_tables_and_writes_single_ones(pymodbus: ModbusTcpClient) -> None:
    bits = [bool(BITS >> i & 1) for i in range(32)]
    assert pymodbus.read_coils(0, count=32).bits == bits
    assert pymodbus.read_discrete_inputs(0, count=32).bits == [not bit for bit in bits]
    assert pymodbus.read_input_registers(100, count=6).registers == [0, 0, 0x101, 0x101, 0x202, 0x202]
    assert pymodbus.read_holding_registers(0, count=3).registers == [0x1234, 0x47F1, 0x2000]
    for value in (True, False):
        assert pymodbus.write_coil(34, value).bits == [value]
        assert pymodbus.read_coils(34, count=1).bits[0] is value
    for word in (*WORDS, 7):
        assert pymodbus.write_register(7, word).registers == [word]
        assert pymodbus.read_holding_registers(7).registers == [word]
    for pattern in ([True] * 19, [True, False] * 300, [False] * 1968):
        assert pymodbus.write_coils(101, pattern).count == len(pattern)
        assert pymodbus.read_coils(101, count=len(pattern)).bits[: len(pattern)] == pattern


@pytest.mark.parametrize(
    ("call", "arguments", "code"),
    [
        ("read_holding_registers", (6,), 2),
        ("read_coils", (0x7000,), 2),
        ("write_register", (0, 1), 2),
        ("write_coil", (33, True), 2),
        ("read_exception_status", (), 1),
        ("report_device_id", (), 1),
        ("diag_query_data", (b"\x12\x34",), 1),
        ("read_fifo_queue", (), 1),
    ],
)
def test_pymodbus_is_told_the_exception(
    pymodbus: ModbusTcpClient, call: str, arguments: tuple[Any, ...], code: int
) -> None:
    reply = getattr(pymodbus, call)(*arguments)
    assert reply.isError()
    assert reply.exception_code == code


def test_py_modbus_tcp_reads_all_tables_and_writes_single_ones(py_modbus_tcp: ModbusClient) -> None:
    bits = [bool(BITS >> i & 1) for i in range(32)]
    assert py_modbus_tcp.read_coils(0, 32) == bits
    assert py_modbus_tcp.read_discrete_inputs(0, 32) == [not bit for bit in bits]
    assert py_modbus_tcp.read_input_registers(65535, 1) == [0x55AA]
    for value in (True, False):
        assert py_modbus_tcp.write_single_coil(35, value)
        assert py_modbus_tcp.read_coils(35, 1) == [value]
    for word in (*WORDS, 7):
        assert py_modbus_tcp.write_single_register(7, word)
        assert py_modbus_tcp.read_holding_registers(7, 1) == [word]
    for pattern in ([True] * 19, [True, False] * 300, [False] * 1968):
        assert py_modbus_tcp.write_multiple_coils(101, pattern)
        assert py_modbus_tcp.read_coils(101, len(pattern)) == pattern


@pytest.mark.parametrize("big_endian", [True, False])
@pytest.mark.parametrize(
    "values", [[0, 1, 2**31, 2**32 - 1], [-(2**31), -1, 5], [0.0, -1.5, 123456.0]], ids=str
)
def test_py_modbus_tcp_reads_back_what_it_wrote(
    py_modbus_tcp: ModbusClient, values: list[Any], big_endian: bool
) -> None:
    is_float, signed = isinstance(values[0], float), min(values) < 0
    longs = [utils.encode_ieee(v) for v in values] if is_float else [v % 2**32 for v in values]
    words = utils.long_list_to_word(longs, big_endian)
    assert py_modbus_tcp.write_multiple_registers(150, words)
    read = utils.word_list_to_long(py_modbus_tcp.read_holding_registers(150, len(words)), big_endian)
    if is_float:
        read = [utils.decode_ieee(long) for long in read]
    elif signed:
        read = utils.get_list_2comp(read, 32)
    assert read == values


def test_py_modbus_tcp_is_told_the_exception(py_modbus_tcp: ModbusClient) -> None:
    assert py_modbus_tcp.read_holding_registers(6, 1) is None
    assert py_modbus_tcp.last_except == 2
    assert not py_modbus_tcp.write_single_register(0, 1)
    assert py_modbus_tcp.last_except == 2
    assert py_modbus_tcp.write_read_multiple_registers(0, [1], 100, 1) is None
    assert py_modbus_tcp.last_except == 2
    assert py_modbus_tcp.read_device_identification(4, 99) is None
    assert py_modbus_tcp.last_except == 2


IDENTIFICATION = {
    "vendor_name": "Acme",
    "product_code": "ALD-7",
    "revision": "V2.11",
    "vendor_url": "https://acme.example",
    "product_name": "Atomic layer deposition",
    "model_name": "7",
    "user_application_name": "wafers",
    "private": {0x80: "hidden", 0xFF: "last"},
}
FUNCTIONS = {
    "report_server_id": {"id": "plcsim", "running": True},
    "exception_status": 0x6D,
    "diagnostics": True,
    "files": {4: [0, 0x0DFE, 0x0020, 0]},
    "fifo": {0x04DE: [0x01B8, 0x1284]},
}


@pytest.fixture
def site(serve_flat: Callable[..., Site]) -> Site:
    return serve_flat(identification=IDENTIFICATION, functions=FUNCTIONS)


@pytest.fixture
def rich(site: Site) -> Iterator[ModbusTcpClient]:
    """pymodbus at a device that has every function."""
    with ModbusTcpClient("127.0.0.1", port=site.server.port, timeout=10, retries=0) as client:
        yield client


def test_pymodbus_mask_write_and_read_and_write_in_one(rich: ModbusTcpClient) -> None:
    rich.write_register(7, 0x12)
    assert not rich.mask_write_register(address=7, and_mask=0xF2, or_mask=0x25).isError()
    assert rich.read_holding_registers(7).registers == [0x17]
    reply = rich.readwrite_registers(
        read_address=109, read_count=5, write_address=110, values=[0x00FF, 0xABCD, 1]
    )
    assert reply.registers == [0, 0x00FF, 0xABCD, 1, 0]


def test_pymodbus_reads_the_identification(rich: ModbusTcpClient) -> None:
    texts = [text.encode() for text in list(IDENTIFICATION.values())[:7]]
    everything = dict(enumerate(texts)) | {0x80: b"hidden", 0xFF: b"last"}
    for code, last in ((1, 2), (2, 6), (3, 0xFF)):
        reply = rich.read_device_information(read_code=code, object_id=0)
        assert reply.information == {n: text for n, text in everything.items() if n <= last}
        assert (reply.conformity, reply.more_follows) == (0x83, 0)
    assert rich.read_device_information(read_code=4, object_id=0x80).information == {0x80: b"hidden"}
    assert rich.read_device_information(read_code=4, object_id=0x81).exception_code == 2


def test_pymodbus_pages_through_a_long_identification(serve_flat: Callable[..., Site]) -> None:
    private = {number: f"{number:03d}" * 30 for number in range(0x80, 0x90)}
    site = serve_flat(identification={"private": private})
    found: dict[int, bytes] = {}
    with ModbusTcpClient("127.0.0.1", port=site.server.port, timeout=10, retries=0) as client:
        following, pages, more = 0, 0, 0xFF
        while more:
            reply = client.read_device_information(read_code=3, object_id=following)
            found |= reply.information
            following, more, pages = reply.next_object_id, reply.more_follows, pages + 1
    assert found == {0: b"plcsim", 1: b"emulator", 2: b"1"} | {n: t.encode() for n, t in private.items()}
    assert pages > 5


def test_pymodbus_uses_the_functions_that_a_device_need_not_have(rich: ModbusTcpClient) -> None:
    assert rich.read_exception_status().status == 0x6D
    assert rich.report_device_id().identifier == b"plcsim"
    assert rich.diag_query_data(b"\xa5\x37").message == b"\xa5\x37"
    assert not rich.diag_clear_counters().isError()
    assert rich.diag_read_bus_message_count().message == 1
    assert rich.diag_get_comm_event_counter().count == 2
    assert rich.read_fifo_queue(address=0x04DE).values == [0x01B8, 0x1284]


def test_pymodbus_reads_and_writes_files(rich: ModbusTcpClient) -> None:
    asked = FileRecord(file_number=4, record_number=1, record_length=4)  # bytes
    assert rich.read_file_record([asked]).records[0].record_data == bytes.fromhex("0dfe 0020")
    written = FileRecord(file_number=4, record_number=2, record_data=bytes.fromhex("1234 5678"))
    assert not rich.write_file_record([written]).isError()
    assert rich.read_file_record([asked]).records[0].record_data == bytes.fromhex("0dfe 1234")


def test_py_modbus_tcp_reads_and_writes_in_one_and_the_identification(site: Site) -> None:
    client = ModbusClient("127.0.0.1", port=site.server.port, timeout=10, auto_open=False)
    assert client.open()
    assert client.write_read_multiple_registers(110, [1, 2, 3], 109, 5) == [0, 1, 2, 3, 0]
    reply = client.read_device_identification(read_code=2)
    assert reply.vendor_name == b"Acme"
    assert reply.product_code == b"ALD-7"
    assert reply.major_minor_revision == b"V2.11"
    assert reply.user_application_name == b"wafers"
    assert client.read_device_identification(read_code=4, object_id=0x80).objects_by_id == {0x80: b"hidden"}
    assert client.custom_request(b"\x07") == b"\x07\x6d"
    client.close()


def decoded(parameter: Parameter, registers: list[int], first: int) -> float:
    """A value of a block, by pymodbus."""
    own = registers[parameter.address - first : parameter.end - first]
    order = "little" if parameter.byte_order is ByteOrder.CDAB else "big"
    if parameter.byte_order is ByteOrder.BADC:
        own = [struct.unpack("<H", struct.pack(">H", register))[0] for register in own]
    kind = getattr(KNOWN, DataType(parameter.data_type).name)
    raw = ModbusTcpClient.convert_from_registers(own, kind, word_order=order)
    assert isinstance(raw, int | float)
    return raw * parameter.scale + parameter.offset


@pytest.mark.parametrize(("table", "first", "last"), [(3, 100, 134), (4, 0, 93), (4, 200, 213)])
def test_pymodbus_reads_the_truth_of_the_running_ald_machine(table: int, first: int, last: int) -> None:
    config = load_device(ALD_FILE)
    asked = Table.HOLDING_REGISTER if table == 3 else Table.INPUT_REGISTER
    parameters = [p for p in config.register_map.in_table(asked) if first <= p.address <= last]
    with emulating(ALD_FILE, "--start-scan", "3333") as emulator:
        client = ModbusTcpClient("127.0.0.1", port=emulator.port, timeout=10, retries=0)
        read = client.read_holding_registers if table == 3 else client.read_input_registers
        with client:
            registers = read(first, count=last - first + 1).registers
    plc_scan = int(decoded(parameters[0], registers, first))
    assert 3333 <= plc_scan < 3333 + 600
    truth = Truth(config)
    expected = [truth.value_at(p.parameter_id, plc_scan) for p in parameters]
    assert [decoded(p, registers, first) for p in parameters] == expected
