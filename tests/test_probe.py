"""The probe: raw words beside what they mean in each byte order, and what the device refuses."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from scripted_plc import Piece, ScriptedPlc, asked, frame, in_loop

from logger.errors import PlcNotConnected
from logger.reading.line import Line
from logger.reading.plc import PlcConnection
from logger.reading.probe import probe
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device
from plcsim.parameters import ByteOrder

WORDS = struct.pack(">f", 123456.0) + b"\xff\xfe" + b"boiler" + struct.pack(">q", -(2**60) - 1)
"""Registers 0 to 9 as a device of big endian floats serves them."""


def machine() -> DeviceConfig:
    def spec(number: int, address: int, data_type: str, **more: Any) -> dict[str, Any]:
        return {
            "id": number,
            "component": "c",
            "name": f"p{number}",
            "address": address,
            "type": data_type,
            **more,
        }

    registers = [
        spec(1, 30001, "float32", byte_order="CDAB"),  # which is wrong
        spec(2, 30003, "int16", scale=0.5, limits=[0, 10]),
        spec(3, 30004, "string", length=6),
        spec(4, 30007, "int64"),
        spec(5, 30011, "uint16"),  # which the device refuses
    ]
    return parse_device(
        {
            "address_base": "reference",
            "device": {"device_id": "d"},
            "groups": [
                {"name": "g", "table": "input_register", "parameters": registers},
                {"name": "lamps", "table": "coil", "parameters": [spec(6, 3, "bool"), spec(7, 4, "uint16")]},
            ],
        }
    )


def answer(request: bytes) -> list[Piece]:
    transaction_id, _, function, address, count = asked(request)
    if function == 1:
        data = bytes((0b101 >> address & 0xFF, 0, 0))[: (count + 7) // 8]
    elif address + count > 10:
        return [frame(transaction_id, b"\x84\x02")]
    else:
        data = WORDS[2 * address : 2 * (address + count)]
    return [frame(transaction_id, bytes((function, len(data))) + data)]


def test_each_parameter_is_shown_with_its_words_in_every_order() -> None:
    async def scenario() -> None:
        async with ScriptedPlc(answer) as plc:
            client = PlcConnection(Line("127.0.0.1", plc.port), 1, 2.0)
            rows = {row.parameter.parameter_id: row for row in await probe(client, machine())}
            client.close()
        assert sorted(rows) == [1, 2, 3, 4, 5, 6, 7]
        wrong = rows[1]
        assert (wrong.written, wrong.words) == ("input_register 30001", "47F1 2000")
        assert wrong.in_order[ByteOrder.ABCD] == "123456"  # this one makes sense
        orders = {order: struct.unpack(">f", bytes(WORDS[i] for i in places))[0] for order, places in {
            ByteOrder.BADC: (1, 0, 3, 2), ByteOrder.CDAB: (2, 3, 0, 1), ByteOrder.DCBA: (3, 2, 1, 0),
        }.items()}  # fmt: skip
        for order, value in orders.items():
            assert wrong.in_order[order] == f"{value:.10g}"
        assert wrong.value == orders[ByteOrder.CDAB]
        assert (rows[2].words, rows[2].value, rows[2].quality) == ("FFFE", -1.0, 84)
        assert (rows[3].words, rows[3].value, rows[3].text, rows[3].quality) == (
            "626F 696C 6572",
            None,
            "boiler",
            192,
        )
        assert rows[3].in_order[ByteOrder.BADC] == "oblire"
        assert rows[4].text == str(-(2**60) - 1)
        assert (rows[5].words, rows[5].value, rows[5].quality, rows[5].in_order) == ("", None, None, {})
        assert "exception 02" in rows[5].problem
        assert all(not row.problem for number, row in rows.items() if number != 5)
        assert (rows[6].written, rows[6].words, rows[6].value, rows[6].in_order) == ("coil 3", "1", 1.0, {})
        assert rows[7].words == "0 " * 15 + "0"

    in_loop(scenario())


def test_a_device_that_is_not_there_is_said_to_be() -> None:
    async def scenario() -> None:
        plc = ScriptedPlc(answer)
        async with plc:
            pass
        with pytest.raises(PlcNotConnected, match="cannot be reached"):
            await probe(PlcConnection(Line("127.0.0.1", plc.port), 1, 2.0), machine())

    in_loop(scenario())
