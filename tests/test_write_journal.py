"""The journal of what clients wrote: complete, in order, and enough to recompute the truth."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fix_emulator import ALD_FILE, Emulator, ald_device
from hypothesis import given
from hypothesis import strategies as st

from plcsim.device_file import load_device
from plcsim.errors import InputError
from plcsim.memory import LOCAL, Origin
from plcsim.parameters import Table
from plcsim.truth import Truth
from plcsim.write_journal import append_write, open_journal, read_last_epochs, read_writes
from plcsim.writes import Change, Event, Restart, Write, WriteRecord

ids = st.integers(1, 2**31 - 1)
values = st.floats(allow_nan=False) | st.integers(0, 2**32).map(float)
writes = st.builds(Write, st.integers(0, 2**40), ids, values, st.integers(0, 9))


def record_of(*writes: Write) -> WriteRecord:
    changes = tuple(Change(write, 0.25) for write in writes)
    return WriteRecord("oven-1", LOCAL, Table.HOLDING_REGISTER, 110, (0,), (7,), changes)


def journal_of(path: Path, events: Sequence[Event]) -> Path:
    with open_journal(path / "writes") as file:
        for event in events:
            append_write(file, event)
    return path / "writes"


@given(made=st.lists(st.lists(writes, max_size=3), max_size=5))
def test_what_was_appended_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, made: list[list[Write]]
) -> None:
    path = journal_of(tmp_path_factory.mktemp("journal"), [record_of(*each) for each in made])
    assert read_writes(path) == [write for each in made for write in each]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_read_back(tmp_path: Path, value: float) -> None:
    path = journal_of(tmp_path, [record_of(Write(1, 2, value))])
    assert read_writes(path)[0].value == pytest.approx(value, nan_ok=True)
    json.loads(path.read_text(), parse_constant=pytest.fail)  # it is JSON to everybody


def test_a_line_tells_all_that_a_write_did(tmp_path: Path) -> None:
    origin = Origin("192.0.2.7:50123", 3, 16)
    change = Change(Write(41, 60, 2.5, 1), 0.75)
    record = WriteRecord("öfen-1", origin, Table.HOLDING_REGISTER, 110, (0, 7), (1, 65535), (change,))
    before = datetime.now(UTC)
    path = journal_of(tmp_path, [record, Restart("öfen-1", 2, 99)])
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    for line in (first, second):
        assert before <= datetime.fromisoformat(line.pop("at")) <= datetime.now(UTC)
    assert first == {
        "event": "write", "device": "öfen-1", "from": "192.0.2.7:50123", "unit_id": 3, "function_code": 16,
        "table": "holding_register", "address": 110, "old": [0, 7], "new": [1, 65535],
        "parameters": [{"plc_scan": 41, "epoch": 1, "parameter_id": 60, "old": 0.75, "value": 2.5}],
    }  # fmt: skip
    assert second == {"event": "restart", "device": "öfen-1", "epoch": 2, "plc_scan": 99}


def test_a_write_is_on_the_file_before_the_journal_is_closed(tmp_path: Path) -> None:
    with open_journal(tmp_path / "writes") as file:
        append_write(file, record_of(Write(1, 2, 3.5)))
        assert read_writes(tmp_path / "writes") == [Write(1, 2, 3.5)]


@pytest.mark.parametrize(
    ("events", "latest"),
    [
        ([], {}),
        ([record_of(Write(1, 2, 3))], {"oven-1": [Write(1, 2, 3)]}),
        ([record_of(Write(1, 2, 3)), Restart("oven-1", 1, 9)], {"oven-1": []}),
        ([record_of(Write(1, 2, 3)), Restart("oven-1", 1, 9), record_of(Write(0, 2, 4, 1))],
         {"oven-1": [Write(0, 2, 4, 1)]}),
        ([record_of(Write(1, 2, 3)), Restart("oven-2", 1, 9)], {"oven-1": [Write(1, 2, 3)], "oven-2": []}),
    ],
)  # fmt: skip
def test_only_what_was_written_since_the_last_restart_is_of_the_last_epoch(
    tmp_path: Path, events: list[Event], latest: dict[str, list[Write]]
) -> None:
    path = journal_of(tmp_path, events)
    assert read_last_epochs(path) == latest
    assert len(read_writes(path)) == sum(isinstance(event, WriteRecord) for event in events)


def line_with(**changes: Any) -> str:
    parameter = {"plc_scan": 1, "epoch": 0, "parameter_id": 2, "old": 0, "value": 3} | changes
    return json.dumps({"event": "write", "device": "oven-1", "parameters": [parameter]})


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("{", "is not JSON: Expecting property name"),
        ("", "is not JSON: Expecting value"),
        (line_with()[:-5], "is not JSON: "),
        ("[]", 'is neither a "write" nor a "restart"'),
        ("7", 'is neither a "write" nor a "restart"'),
        ("{}", 'is neither a "write" nor a "restart"'),
        ('{"plc_scan": 1, "parameter_id": 2, "value": 3}', 'is neither a "write" nor a "restart"'),
        ('{"event": "write", "parameters": []}', "a write without 'device'"),
        ('{"event": "write", "device": "a"}', "a write without 'parameters'"),
        ('{"event": "write", "device": "a", "parameters": 7}', "is not a write as an emulator records it"),
        ('{"event": "write", "device": "a", "parameters": [7]}', "is not a write as an emulator records it"),
        ('{"event": "write", "device": "a", "parameters": [{"plc_scan": 1}]}',
         "a write without 'parameter_id'"),
        ('{"event": "restart", "device": "a", "plc_scan": 1}', "a restart without 'epoch'"),
        ('{"event": "restart", "device": "a", "plc_scan": 1, "epoch": "x"}', "is not a restart as an"),
        (line_with(plc_scan="x"), "plc_scan: 'x' is not a whole number from 0 on"),
        (line_with(plc_scan=-1), "plc_scan: -1 is not a whole number from 0 on"),
        (line_with(parameter_id=None), "parameter_id: None is not a whole number from 0 on"),
        (line_with(epoch=0.5), "epoch: 0.5 is not a whole number from 0 on"),
        (line_with(value="hot"), "could not convert string to float: 'hot'"),
        (line_with(value=None), "is not a write as an emulator records it"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, bad: str, problem: str) -> None:
    path = tmp_path / "writes"
    path.write_text(f"{line_with()}\n{bad}\n{line_with()}\n")
    with pytest.raises(InputError) as caught:
        read_writes(path)
    assert str(path) + ":2: " in str(caught.value)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_last_line_without_its_end_is_what_a_crash_left_and_does_not_count(tmp_path: Path) -> None:
    path = journal_of(tmp_path, [record_of(Write(1, 2, 3.5)), record_of(Write(2, 2, 4.5))])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        assert read_writes(path) == [Write(1, 2, 3.5)]
    path.write_bytes(whole)
    assert len(read_writes(path)) == 2


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\n"])
def test_a_file_that_cannot_be_read_is_an_error_of_the_user(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "writes"
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"writes: cannot be read") as caught:
        read_writes(path)
    assert str(caught.value).count("writes") == 1


def test_a_journal_of_an_earlier_run_is_not_continued(tmp_path: Path) -> None:
    with open_journal(tmp_path / "writes"):
        pass
    journal_of(tmp_path, [record_of(Write(1, 2, 3))])  # empty: nothing was written
    with pytest.raises(InputError, match=r"writes: holds the writes of an earlier run"):
        open_journal(tmp_path / "writes")
    assert read_writes(tmp_path / "writes") == [Write(1, 2, 3)]


def test_a_full_disk_is_an_error_and_not_half_a_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        append_write(file, record_of(Write(1, 2, 3)))


def test_the_journal_of_an_emulator_recomputes_what_it_serves(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    journal = tmp_path / "writes"
    emulator = start_emulator(ald_device(tmp_path, 5), "--journal", str(journal), "--start-scan", "500")
    with emulator.connect() as client:
        assert client.ask(bytes.fromhex("10 006e 0002 04 0000 4040"))[0] == 16  # pressure: 3.0
        assert client.ask(bytes.fromhex("06 0084 2328"))[0] == 6  # pump speed: 9000
        assert client.ask(bytes.fromhex("05 0025 ff00"))[0] == 5  # vent valve
        assert client.ask(bytes.fromhex("06 0064 0000")) == b"\x86\x02"  # not writable: not in it
        recorded = read_writes(journal)
        assert [(w.parameter_id, w.value) for w in recorded] == [(60, 3.0), (71, 9000.0), (79, 1.0)]
        start = last = recorded[-1].plc_scan
        truth = Truth(load_device(ALD_FILE))
        while last < start + 30:
            values = client.ask(bytes.fromhex("04 0000 005e"))[2:]
            last, pressure, speed = struct.unpack(">I20xf128xH30x", values)
            if last > start:
                assert pressure == truth.value_at(5, last, recorded)
                assert speed == truth.value_at(43, last, recorded)
    assert emulator.stop()[0] == 0
    assert read_writes(journal) == recorded
    asked = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [(line["function_code"], line["table"], line["address"], line["new"]) for line in asked] == [
        (16, "holding_register", 110, [0, 0x4040]),
        (6, "holding_register", 132, [9000]),
        (5, "coil", 37, [1]),
    ]
    assert all(line["from"].startswith("127.0.0.1:") for line in asked)
