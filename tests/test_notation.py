"""How a file writes addresses, against the reference numbers that the Modbus literature gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plcsim.notation import Notation
from plcsim.parameters import Table

COIL, DISCRETE, INPUT, HOLDING = (
    Table.COIL, Table.DISCRETE_INPUT, Table.INPUT_REGISTER, Table.HOLDING_REGISTER,
)  # fmt: skip


@pytest.mark.parametrize(
    ("base", "written", "table", "address"),
    [
        (0, 0, HOLDING, 0),
        (0, 65535, COIL, 65535),
        (1, 1, HOLDING, 0),
        (1, 65536, INPUT, 65535),
        ("reference", 40001, HOLDING, 0),
        ("reference", 40108, HOLDING, 107),
        ("reference", 49999, HOLDING, 9998),
        ("reference", 400001, HOLDING, 0),
        ("reference", 465536, HOLDING, 65535),
        ("reference", 30009, INPUT, 8),
        ("reference", 365536, INPUT, 65535),
        ("reference", 10197, DISCRETE, 196),
        ("reference", 165536, DISCRETE, 65535),
        ("reference", 1, COIL, 0),
        ("reference", 17, COIL, 16),
        ("reference", 9999, COIL, 9998),
    ],
)
def test_written_addresses_have_their_published_meaning(
    base: Any, written: int, table: Table, address: int
) -> None:
    assert Notation(base).zero_based(written, table) == address
    assert Notation(base, six_digits=written > 99_999).written(address, table) == written


@pytest.mark.parametrize(
    ("base", "written", "table", "says"),
    [
        (0, -1, HOLDING, "-1: must be 0 or more"),
        (0, 65536, HOLDING, "65536: must be 65535 or less"),
        (1, 0, HOLDING, "0: must be 1 or more"),
        (1, 65537, COIL, "65537: must be 65536 or less"),
        ("reference", 0, HOLDING, "0 is no holding_register by its reference number: 40001 to 49999"),
        ("reference", 40000, HOLDING, "40000 is no .* 40001 to 49999, or 400001 to 465536"),
        ("reference", 50000, HOLDING, "50000 is no "),
        ("reference", 400000, HOLDING, "400000 is no "),
        ("reference", 465537, HOLDING, "465537 is no "),
        ("reference", 30001, HOLDING, "30001 is no holding_register by its reference number"),
        ("reference", 40001, INPUT, "40001 is no input_register .*: 30001 to 39999, or 300001 to"),
        ("reference", 1, DISCRETE, "1 is no discrete_input .*: 10001 to 19999, or 100001 to 165536"),
        ("reference", 0, COIL, "0 is no coil .*: 1 to 9999; .* use address_base 0 or 1"),
        ("reference", 10000, COIL, "10000 is no "),
        ("reference", 10001, COIL, "10001 is no "),
        ("reference", -5, COIL, "-5 is no "),
    ],
)
def test_an_address_of_no_meaning_is_refused(base: Any, written: int, table: Table, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        Notation(base).zero_based(written, table)


@given(
    base=st.sampled_from([0, 1, "reference"]),
    address=st.integers(0, 65535),
    table=st.sampled_from(Table),
    six_digits=st.booleans(),
)
def test_what_is_written_is_read_back(base: Any, address: int, table: Table, six_digits: bool) -> None:
    if base == "reference" and table is COIL and address > 9998:
        return
    notation = Notation(base, six_digits)
    assert notation.zero_based(notation.written(address, table), table) == address
