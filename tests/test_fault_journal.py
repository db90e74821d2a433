"""The journal of faults: each line matches an effect that a client saw, and each effect has its line."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from fix_emulator import RawClient, emulating, frame
from fix_faults import serving, units_of
from waiting import wait_for

ONE = bytes.fromhex("03 02 1234")

FAULTS: list[dict[str, Any]] = [
    {"kind": "exception", "code": 4, "probability": 0.2},
    {"kind": "wrong_unit_id", "every": 5, "addresses": [0, 0]},
    {"kind": "bit_flips", "functions": [3], "probability": 0.3, "name": "noise"},
    {"kind": "nan", "every": 3},
]
REQUESTS = ["03 0000 0001", "03 0001 0002", "04 0000 0001", "06 0007 0007", "03 0005 0001", "2b 0e 01 00"]


def with_faults(device: Path, folder: Path, faults: list[dict[str, Any]] = FAULTS, seed: int = 0) -> Path:
    content = yaml.safe_load(device.read_text()) | {"faults": faults}
    content["device"]["seed"] = seed
    path = folder / "faulty.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def lines(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text().splitlines()]


def replies(client: RawClient, count: int, seed: int = 1) -> list[tuple[bytes, int, bytes]]:
    """Requests and what came back: PDU, unit id and PDU."""
    dice = random.Random(seed)
    told = []
    for number in range(count):
        pdu = bytes.fromhex(dice.choice(REQUESTS))
        client.send(frame(pdu, number))
        transaction, unit, answer = client.reply()
        assert transaction == number
        told.append((pdu, unit, answer))
    return told


def test_every_effect_has_its_line_and_every_line_its_effect(flat_file: Path, tmp_path: Path) -> None:
    journal = tmp_path / "faults.jsonl"
    started = datetime.now(UTC)
    with emulating(flat_file) as emulator, emulator.connect() as client:
        right = [answer for _, _, answer in replies(client, 300)]
    device = with_faults(flat_file, tmp_path)
    with emulating(device, "--fault-journal", str(journal)) as emulator, emulator.connect() as client:
        peer = "{}:{}".format(*client.socket.getsockname())
        got = replies(client, 300)
    told = lines(journal)
    hit = {line["transaction_id"] for line in told}
    wrong = {n for n, (_, unit, answer) in enumerate(got) if unit != 1 or answer != right[n]}
    assert 100 < len(wrong) < 250
    assert hit == wrong
    for line in told:
        pdu, unit, answer = got[line["transaction_id"]]
        seen = {
            "exception": answer[0] == pdu[0] | 0x80 and answer[1] == 4,
            "wrong_unit_id": unit == 2,
            "bit_flips": answer[0] == 3 and len(answer) == len(right[line["transaction_id"]]),
            "nan": answer[:2] == b"\x03\x04" and pdu[2] == 1,
        }
        assert seen[line["kind"]], (line, answer)
        assert (line["device"], line["peer"], line["unit_id"]) == ("flat", peer, 1)
        assert line["function_code"] == pdu[0]
        span = (None, None) if pdu[0] == 0x2B else (pdu[2], 1 if pdu[0] == 6 else pdu[4])
        assert (line["address"], line["quantity"]) == span
    assert {line["kind"] for line in told} == {"exception", "wrong_unit_id", "bit_flips", "nan"}
    assert {line["fault"] for line in told} >= {"exception-1", "noise"}
    times = [datetime.fromisoformat(line["at"]) for line in told]
    assert times == sorted(times)
    assert started < times[0] <= times[-1] < datetime.now(UTC)


def test_the_same_seed_and_requests_give_the_same_faults(flat_file: Path, tmp_path: Path) -> None:
    def run(seed: int) -> tuple[Any, Any]:
        with serving(units_of(with_faults(flat_file, tmp_path, seed=seed))) as site, site.connect() as client:
            got = replies(client, 200)
            return got, [(event.fault, event.transaction_id) for event in site.events()]

    first = run(1)
    assert run(1) == first
    assert run(2) != first


def test_what_was_delayed_finds_its_cause_by_the_clock(flat_file: Path, tmp_path: Path) -> None:
    journal = tmp_path / "faults.jsonl"
    device = with_faults(flat_file, tmp_path, [{"kind": "delay", "seconds": 0.1, "every": 4}])
    with emulating(device, "--fault-journal", str(journal)) as emulator, emulator.connect() as client:
        spans = {}
        for number in range(12):
            asked = datetime.now(UTC)
            client.ask(bytes.fromhex("03 0000 0001"), number)
            spans[number] = (asked, datetime.now(UTC))
    slow = [n for n, (asked, answered) in spans.items() if (answered - asked).total_seconds() > 0.09]
    told = lines(journal)
    assert [line["transaction_id"] for line in told] == slow == [3, 7, 11]
    for line in told:
        asked, answered = spans[line["transaction_id"]]
        assert asked <= datetime.fromisoformat(line["at"]) <= answered


def test_connections_and_the_device_are_in_the_journal_too(flat_file: Path, tmp_path: Path) -> None:
    journal = tmp_path / "faults.jsonl"
    device = with_faults(
        flat_file,
        tmp_path,
        [
            {"kind": "max_connections", "connections": 0, "for_s": 1.5},
            {"kind": "clock_jump", "seconds": 7200.0},
            {"kind": "restart", "after_s": 1.5},
            {"kind": "refuse", "after_s": 1.5},
        ],
    )
    with emulating(device, "--fault-journal", str(journal)) as emulator:
        with pytest.raises(ConnectionResetError), emulator.connect() as client:
            client.socket.recv(1)
        wait_for(lambda: len(lines(journal)) == 4, what="all four faults")
    told = lines(journal)
    assert [(line["kind"], line["plc_scan"]) for line in told] == [
        ("clock_jump", 2),
        ("max_connections", 2),
        ("restart", 0),
        ("refuse", 0),
    ]
    assert told[1]["peer"].startswith("127.0.0.1:")
    assert {line["transaction_id"] for line in told} == {None}


def test_a_journal_is_appended_to(flat_file: Path, tmp_path: Path) -> None:
    journal = tmp_path / "faults.jsonl"
    device = with_faults(flat_file, tmp_path, [{"kind": "busy", "count": 1}])
    for _ in range(2):
        with emulating(device, "--fault-journal", str(journal)) as emulator, emulator.connect() as client:
            assert client.ask(bytes.fromhex("03 0000 0001")) == b"\x83\x06"
            assert client.ask(bytes.fromhex("03 0000 0001")) == ONE
    assert len(lines(journal)) == 2


def test_without_faults_the_journal_is_empty(flat_file: Path, tmp_path: Path) -> None:
    journal = tmp_path / "faults.jsonl"
    device = with_faults(flat_file, tmp_path, [{"kind": "busy", "functions": [4]}])
    with emulating(device, "--fault-journal", str(journal)) as emulator, emulator.connect() as client:
        assert client.ask(bytes.fromhex("03 0000 0001")) == ONE
    assert lines(journal) == []
