"""Which requests a fault is meant for, and which keys of a fault are wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plcsim.control.request import fault_rule
from plcsim.errors import ConfigError
from plcsim.faults.rules import FAULT_RULE
from plcsim.faults.selection import OnRequest, span_of
from plcsim.protocol.requests import Request

READ = "03 0010 0004"


def request(pdu: str, unit_id: int = 1) -> Request:
    return Request(1, unit_id, bytes.fromhex(pdu), "127.0.0.1:1")


@pytest.mark.parametrize(
    ("keys", "pdu", "fits"),
    [
        ({}, READ, True),
        ({}, "2b", True),
        ({"unit_id": 1}, READ, True),
        ({"unit_id": 2}, READ, False),
        ({"functions": [3, 4]}, READ, True),
        ({"functions": [6, 16]}, READ, False),
        ({"addresses": [0x13, 0x20]}, READ, True),
        ({"addresses": [0x14, 0x20]}, READ, False),
        ({"addresses": [0, 0x10]}, READ, True),
        ({"addresses": [0, 0x0F]}, READ, False),
        ({"addresses": [0x11, 0x12]}, READ, True),
        ({"quantity": [4, 4]}, READ, True),
        ({"quantity": [5, 125]}, READ, False),
        ({"quantity": [1, 3]}, READ, False),
        ({"quantity": [1, 1]}, "06 0010 1234", True),
        ({"quantity": [1, 1]}, "05 0010 ff00", True),
        ({"addresses": [0x10, 0x10]}, "16 0010 0000 0000", True),
        ({"quantity": [2, 2]}, "10 0010 0002 04 0000 0000", True),
        ({"quantity": [9, 9]}, "0f 0010 0009 02 0000", True),
        ({"addresses": [0x30, 0x31]}, "17 0030 0002 0010 0001 02 0000", True),
        ({"addresses": [0x10, 0x10]}, "17 0030 0002 0010 0001 02 0000", False),
        ({"addresses": [0, 65535]}, "2b 0e 01 00", False),
        ({"addresses": [0, 65535]}, "03 0010", False),
        ({"quantity": [0, 65535]}, "11", False),
        ({"unit_id": 1, "functions": [3], "addresses": [16, 16], "quantity": [4, 4]}, READ, True),
        ({"unit_id": 1, "functions": [3], "addresses": [16, 16], "quantity": [5, 5]}, READ, False),
    ],
)
def test_a_request_fits_if_every_key_does(keys: dict[str, Any], pdu: str, fits: bool) -> None:
    rule = FAULT_RULE.validate_python({"kind": "busy"} | keys)
    assert isinstance(rule, OnRequest)
    assert rule.fits(request(pdu)) is fits


@pytest.mark.parametrize("kind", ["frozen", "bit_flips", "nan", "torn"])
@pytest.mark.parametrize(("function", "fits"), [(1, True), (4, True), (5, False), (16, False), (23, False)])
def test_faults_of_values_are_meant_for_reads_only(kind: str, function: int, fits: bool) -> None:
    rule = FAULT_RULE.validate_python({"kind": kind})
    assert isinstance(rule, OnRequest)
    assert rule.fits(request(f"{function:02x} 0010 0004 08" + 8 * "00")) is fits


@given(st.binary(min_size=1, max_size=253))
def test_any_bytes_have_a_span_or_none(pdu: bytes) -> None:
    span = span_of(Request(1, 1, pdu, ""))
    assert span is None or all(0 <= each <= 65535 for each in span)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, "kind"),
        ({"kind": "slow"}, "'slow' is not one of 'delay', "),
        ({"kind": "delay"}, "seconds"),
        ({"kind": "delay", "seconds": -1}, "seconds"),
        ({"kind": "delay", "seconds": 1, "secnods": 1}, "secnods"),
        ({"kind": "drip", "interval_s": 0}, "interval_s"),
        ({"kind": "busy", "every": 0}, "every"),
        ({"kind": "busy", "count": 0}, "count"),
        ({"kind": "busy", "probability": 0}, "probability"),
        ({"kind": "busy", "probability": 1.5}, "probability"),
        ({"kind": "busy", "probability": float("nan")}, "probability"),
        ({"kind": "busy", "addresses": [5, 4]}, "[lower, higher]"),
        ({"kind": "busy", "addresses": [5]}, "addresses"),
        ({"kind": "busy", "addresses": [0, 65536]}, "addresses"),
        ({"kind": "busy", "quantity": [2, 1]}, "[lower, higher]"),
        ({"kind": "busy", "functions": []}, "functions"),
        ({"kind": "busy", "after_s": -1}, "after_s"),
        ({"kind": "busy", "for_s": 0}, "for_s"),
        ({"kind": "busy", "name": ""}, "name"),
        ({"kind": "exception", "code": 0}, "code"),
        ({"kind": "bad_length", "by": 0}, "0 leaves the length as it is"),
        ({"kind": "frozen", "functions": [3, 16]}, "16 reads nothing"),
        ({"kind": "refuse", "count": 1}, "count"),
        ({"kind": "max_connections"}, "connections"),
        ({"kind": "clock_jump", "seconds": 0}, "0 is no jump"),
        ({"kind": "clock_jump", "seconds": 1e12}, "seconds"),
        ({"kind": "clock_jump", "seconds": 1, "for_s": 5}, "takes no time"),
    ],
)
def test_a_wrong_key_is_named_in_one_line(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)) as caught:
        fault_rule(keys)
    assert "\n" not in str(caught.value)
