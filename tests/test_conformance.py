"""docs/conformance.md holds, row for row and byte for byte, against a running emulator."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from fix_emulator import Emulator, emulating, frame, seen

PAGE = Path(__file__).parent.parent / "docs" / "conformance.md"
CLOSED, NOTHING = "closed", "nothing"
CLOSING_S = 3.0
WHOLE_FRAMES = ("Frames", "Unit ids")
"""Sections with these beginnings show frames, the others PDUs."""


@dataclass(frozen=True)
class Row:
    number: int
    rule: str
    section: str
    request: str
    answer: str


@dataclass(frozen=True)
class Section:
    title: str
    overlay: dict[str, Any]
    """What it says instead of the device's own."""
    rows: Sequence[Row]

    @property
    def shows_frames(self) -> bool:
        return self.title.startswith(WHOLE_FRAMES)


def sections(page: str) -> Iterator[Section]:
    for part in page.split("\n## ")[1:]:
        cells = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", part, re.MULTILINE)
        rows = [Row(int(number), *rest) for number, *rest in cells]
        if rows:
            yield Section(part.splitlines()[0], next(yaml_blocks(part), {}), rows)


def yaml_blocks(text: str) -> Iterator[dict[str, Any]]:
    for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield yaml.safe_load(block)


def as_bytes(text: str) -> bytes:
    """Bytes of the page's notation."""
    data = b""
    for quoted, sequence, times, digits, repeated in re.findall(
        r'"([^"]*)"|\(([^)]*)\)\*(\d+)|\b([0-9a-f]+)(?:\*(\d+))?', text
    ):
        if sequence:
            data += as_bytes(sequence) * int(times)
        else:
            data += quoted.encode() if quoted else bytes.fromhex(digits) * int(repeated or 1)
    return data


TEXT = PAGE.read_text(encoding="utf-8")
DEVICE = next(yaml_blocks(TEXT))
SECTIONS = list(sections(TEXT))


def test_no_row_of_the_page_is_skipped() -> None:
    numbers = [row.number for section in SECTIONS for row in section.rows]
    said = re.search(r"all (\d+) rows", TEXT)
    assert said is not None
    assert numbers == list(range(1, int(said[1]) + 1))
    assert len(numbers) == len(re.findall(r"^\|(?! # |---)", TEXT, re.MULTILINE)) > 250
    asked = {as_bytes(row.request)[0] for s in SECTIONS if not s.shows_frames for row in s.rows}
    assert asked >= {1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 17, 20, 21, 22, 23, 24, 43}


def test_the_notation_is_read_as_the_page_says() -> None:
    assert as_bytes('01 0a0b 00*4 (03 06)*2 "abc"') == b"\x01\x0a\x0b\0\0\0\0\3\6\3\6abc"


@pytest.fixture(params=SECTIONS, ids=lambda section: section.title)
def section(request: pytest.FixtureRequest) -> Section:
    return request.param


@pytest.fixture
def emulator(section: Section, tmp_path: Path) -> Iterator[Emulator]:
    path = tmp_path / "conformance.yaml"
    path.write_text(yaml.safe_dump(DEVICE | section.overlay), encoding="utf-8")
    with emulating(path) as started:
        yield started


def test_every_row_is_answered_byte_for_byte(section: Section, emulator: Emulator) -> None:
    check = whole_frames if section.shows_frames else pdus
    assert list(check(emulator, section.rows)) == []


WRONG_ROWS = {
    "a wrong byte": ("PDUs", "03 006b 0001", "03 02 022c"),
    "a byte is missing": ("PDUs", "03 006b 0001", "03 02 02"),
    "it is answered": ("Frames", "0001 0000 0006 01 03 006b 0001", "nothing"),
    "it is not closed": ("Frames", "0001 0000 0006 01 03 006b 0001", "0001 0000 0005 01 03 02 022b closed"),
    "it is closed": ("Frames", "0001 0001 0006 01 03 006b 0001", "nothing"),
    "another transaction id": ("Frames", "0001 0000 0002 01 42", "0002 0000 0003 01 c2 01"),
}


def test_a_row_that_is_wrong_is_found(tmp_path: Path) -> None:
    """The negative control of the test above."""
    path = tmp_path / "conformance.yaml"
    path.write_text(yaml.safe_dump(DEVICE), encoding="utf-8")
    with emulating(path) as emulator:
        for name, (title, request, answer) in WRONG_ROWS.items():
            check = whole_frames if title == "Frames" else pdus
            assert len(list(check(emulator, [Row(1, name, "", request, answer)]))) == 1, name


def pdus(emulator: Emulator, rows: Sequence[Row]) -> Iterator[str]:
    """What is wrong with rows that show PDUs, asked one by one over one connection."""
    with emulator.connect() as client:
        for row in rows:
            client.send(frame(as_bytes(row.request), row.number))
            header = client.receive(7)
            got = header + client.receive(struct.unpack(">HHHB", header)[2] - 1)
            yield from difference(row, got, frame(as_bytes(row.answer), row.number))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == b""


def whole_frames(emulator: Emulator, rows: Sequence[Row]) -> Iterator[str]:
    """What is wrong with rows that show frames, each over a connection of its own."""
    for row in rows:
        with emulator.connect() as client:
            for segment in row.request.split(" / "):
                client.send(as_bytes(segment))
                seen(emulator)
            expected = as_bytes(row.answer.removesuffix(CLOSED).removesuffix(NOTHING))
            if row.answer.endswith(CLOSED):
                client.socket.settimeout(CLOSING_S)
            else:  # what is still answered shows that it is not closed
                with suppress(OSError):
                    client.send(frame(b"\x42", 0xEEEE))
                    client.socket.shutdown(socket.SHUT_WR)
                expected += frame(b"\xc2\x01", 0xEEEE)
            try:
                got = client.rest()
            except TimeoutError:
                yield f"row {row.number}: the connection is not closed"
            else:
                yield from difference(row, got, expected)


def difference(row: Row, got: bytes, expected: bytes) -> Iterator[str]:
    if got != expected:
        yield f"row {row.number}: {row.rule}: {got.hex(' ')} instead of {expected.hex(' ')}"
