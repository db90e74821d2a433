"""The journal of requests: each that reached the device has its line, which says what became of it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from fix_emulator import ONE, READ_ONE, emulating, frame
from fix_fleet import PLCSIM, fleet_file, scan_of

from plcsim.device_file import load_device
from plcsim.endpoint import Endpoint
from plcsim.errors import InputError
from plcsim.plant import Plant, Recorders
from plcsim.request_journal import JournaledUnit, RequestRecord, read_requests
from plcsim.testing import RunningFleet
from plcsim.unit import Unit


def with_faults(flat_file: Path, folder: Path, *faults: dict[str, Any]) -> Path:
    path = folder / "faulty.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(flat_file.read_text()) | {"faults": list(faults)}))
    return path


def told(journal: Path) -> list[tuple[Any, ...]]:
    return [(r.transaction_id, r.outcome, r.faults) for r in read_requests(journal)]


def test_a_line_tells_what_was_asked_and_how_it_was_answered(flat_file: Path, tmp_path: Path) -> None:
    journal, began = tmp_path / "asked.jsonl", time.monotonic()
    with emulating(flat_file, "--request-journal", str(journal)) as emulator, emulator.connect() as client:
        assert client.ask(READ_ONE, 7) == ONE
        (line,) = read_requests(journal)  # it is there before the reply is
        peer = "{}:{}".format(*client.socket.getsockname())
        assert client.ask(bytes.fromhex("04 ffff 0001"), 8) == bytes.fromhex("04 02 55aa")
        assert client.ask(bytes.fromhex("03 0006 0001"), 9)[0] == 0x83
        assert client.ask(b"\x42", 10) == b"\xc2\x01"
    assert began < line.monotonic_s < time.monotonic()
    assert line == RequestRecord(
        line.at, line.monotonic_s, "flat", peer, 7, 1, 3, "holding_register", 0, 1, 0, "reply", []
    )
    rest = [(r.transaction_id, r.table, r.address, r.quantity, r.outcome) for r in read_requests(journal)][1:]
    assert rest == [
        (8, "input_register", 65535, 1, "reply"),
        (9, "holding_register", 6, 1, "exception 2"),
        (10, None, None, None, "exception 1"),
    ]


def test_faults_that_changed_a_reply_are_named(flat_file: Path, tmp_path: Path) -> None:
    journal = tmp_path / "asked.jsonl"
    device = with_faults(
        flat_file,
        tmp_path,
        {"kind": "busy", "count": 1, "functions": [4]},
        {"kind": "no_reply", "count": 1, "name": "mute"},
        {"kind": "nan", "functions": [3], "quantity": [2, 2], "count": 1},
        {"kind": "delay", "seconds": 0.01, "quantity": [2, 2], "count": 1},
    )
    with emulating(device, "--request-journal", str(journal)) as emulator, emulator.connect() as client:
        client.send(frame(READ_ONE, 1))  # nothing comes back
        assert client.ask(bytes.fromhex("04 0000 0001"), 2) == b"\x84\x06"
        assert client.ask(bytes.fromhex("03 0001 0002"), 3) == bytes.fromhex("03 04 7fc00000")
        assert client.ask(READ_ONE, 4) == ONE
    assert told(journal) == [
        (1, "nothing", ["mute"]),
        (2, "exception 6", ["busy-1"]),
        (3, "reply", ["nan-1", "delay-1"]),
        (4, "reply", []),
    ]


def test_the_plc_scan_is_the_one_that_was_served(flat_file: Path, tmp_path: Path) -> None:
    journal = tmp_path / "asked.jsonl"
    with (
        emulating(flat_file, "--start-scan", "41", "--request-journal", str(journal)) as emulator,
        emulator.connect() as client,
    ):
        assert client.ask(READ_ONE) == ONE
    assert [record.plc_scan for record in read_requests(journal)] == [41]


def test_a_fleet_keeps_one_journal_of_all_devices(tmp_path: Path) -> None:
    journal = tmp_path / "asked.jsonl"
    path = fleet_file(tmp_path, count=4)
    with RunningFleet(path, request_journal=journal) as fleet:
        for device in fleet.devices:
            scan_of(device)
    assert sorted(record.device for record in read_requests(journal)) == [
        f"ald-00{number}" for number in (1, 2, 3, 4)
    ]


def test_units_are_plain_ones_where_nobody_asked_for_the_journal(flat_file: Path) -> None:
    """So it costs nothing when it is off."""
    endpoint = Endpoint(("127.0.0.1",), 0, (load_device(flat_file),))
    assert [type(unit) for unit in Plant([endpoint]).units.values()] == [Unit]
    kept: list[RequestRecord] = []
    plant = Plant([endpoint], recorders=lambda config: Recorders(request=kept.append))
    assert [type(unit) for unit in plant.units.values()] == [JournaledUnit]


def test_what_a_dying_emulator_left_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    line = json.dumps(dict.fromkeys(RequestRecord.__dataclass_fields__, 0))
    path.write_text(f"{line}\n{line[:40]}")
    assert len(list(read_requests(path))) == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{]\n", "1: is not JSON"),
        (b"[]\n", "1: is not a request as an emulator records it"),
        (b'{"at": "now"}\n', "1: is not a request as an emulator records it"),
        (b"\xff\n", "is not UTF-8 text"),
    ],
)
def test_what_is_no_journal_is_refused_in_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as info:
        list(read_requests(path))
    assert str(info.value).startswith(str(path))


@pytest.mark.parametrize("command", ["run", "fleet"])
def test_a_journal_that_cannot_be_written_is_told_before_the_start(
    tmp_path: Path, flat_file: Path, command: str
) -> None:

    file = flat_file if command == "run" else fleet_file(tmp_path)
    done = subprocess.run(
        [*PLCSIM, command, str(file), "--request-journal", str(tmp_path / "none" / "asked.jsonl")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written: No such file or directory" in done.stderr
