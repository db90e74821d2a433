"""docs/data-types.md against the code: every type and byte order, and the numbers that it gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from plcsim.codec import Codec, encode_text
from plcsim.config import DeviceConfig, ParameterSpec
from plcsim.notation import Notation
from plcsim.parameters import ByteOrder, DataType, Parameter, Table

PAGE = (Path(__file__).parent.parent / "docs" / "data-types.md").read_text(encoding="utf-8")
HOLDING = Table.HOLDING_REGISTER


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    _, *lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def numbers(cell: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", cell)]


def parameter(data_type: DataType, order: ByteOrder, length: int | None = None) -> Parameter:
    return Parameter(1, "c", "p", HOLDING, 0, data_type, order, length=length)


def test_every_type_is_described_with_its_width() -> None:
    described: dict[str, str] = {}
    for types, registers, _ in rows("Types"):
        names = re.findall(r"`(\w+)`", types)
        widths = re.findall(r"\b\d\b", registers) * len(names)
        described |= dict(zip(names, widths, strict=False))
    assert {name for types, _, _ in rows("Types") for name in re.findall(r"`(\w+)`", types)} == set(DataType)
    for name, width in described.items():
        if name not in ("bool", "string"):
            assert parameter(DataType(name), ByteOrder.ABCD).width == int(width), name


@pytest.mark.parametrize("row", rows("Byte orders"), ids=lambda row: row[0])
def test_every_byte_order_is_as_described(row: list[str]) -> None:
    order = ByteOrder(row[0].strip("`"))
    for data_type, cell in zip((DataType.UINT16, DataType.UINT32, DataType.UINT64), row[1:4], strict=True):
        single = parameter(data_type, order)
        letters = cell.replace(" ", "")
        wire = np.array([ord(letter) for letter in letters], dtype=np.uint8)
        value = int.from_bytes("ABCDEFGH"[: len(letters)].encode(), "big")
        assert Codec([single], HOLDING, 0).decode(wire)[0] == float(value)
    assert encode_text("abcd", parameter(DataType.STRING, order, 4)).decode() == row[4].replace(" ", "")


def test_the_example_in_four_byte_orders_is_right() -> None:
    examples = re.findall(r"([0-9A-F]{4}) ([0-9A-F]{4}) in\s+`(\w{4})`", section("Byte orders"))
    assert [order for _, _, order in examples] == ["ABCD", "CDAB", "BADC", "DCBA"]
    for high, low, order in examples:
        data = np.frombuffer(bytes.fromhex(high + low), dtype=np.uint8)
        assert Codec([parameter(DataType.FLOAT32, ByteOrder(order))], HOLDING, 0).decode(data)[0] == 123456.0


def test_every_notation_of_addresses_is_described() -> None:
    for base, first, last in rows("Addresses"):
        name = re.findall(r"`(\w+)`", base)[0]
        notation = Notation(name if name == "reference" else int(name))  # type: ignore[arg-type]
        assert {notation.zero_based(number, HOLDING) for number in numbers(first)} == {0}
        assert notation.zero_based(numbers(last)[-1], HOLDING) == 65535


def test_every_key_that_it_names_is_a_key() -> None:
    keys = {*ParameterSpec.model_fields, *DeviceConfig.model_fields, "answer"}
    named = {"address_base", "bit", "length", "null_value", "writable", "readable", "readable_gaps", "answer"}
    assert named <= keys
    for key in named:
        assert f"`{key}" in PAGE, key
