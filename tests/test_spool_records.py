"""Records: an item comes back as it was put, and what is broken costs no other record."""

from __future__ import annotations

import numpy as np
import pytest
from fix_spool import KEY, OTHER, content_of, scan_of
from hypothesis import given
from hypothesis import strategies as st

from logger.scan import Gap, Scan, StreamKey, Text
from logger.spool.records import MARKER, Kind, item_of, item_record, note_of, note_record, records_in

longs = st.integers(-(2**63), 2**63 - 1)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
keys = st.builds(StreamKey, names, st.integers(0, 2**31 - 1))
gaps = st.builds(Gap, longs, longs, st.text(max_size=50), longs, longs)


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    size = draw(st.integers(0, 9))
    values = draw(st.lists(st.floats(), min_size=size, max_size=size))
    texts = draw(st.lists(st.builds(Text, st.integers(0, 99), st.text(max_size=9)), max_size=3))
    return Scan(
        draw(longs),
        np.array(values, dtype=np.float64),
        np.array(draw(st.lists(st.integers(0, 255), min_size=size, max_size=size)), dtype=np.int16),
        np.array(draw(st.lists(longs, min_size=size, max_size=size)), dtype=np.int64),
        draw(st.none() | longs),
        draw(longs),
        draw(longs),
        tuple(texts),
    )


@given(key=keys, item=gaps | scans(), segment=st.integers(1, 2**40))
def test_an_item_comes_back_as_it_was(key: StreamKey, item: Scan | Gap, segment: int) -> None:
    [record] = records_in(item_record(key, item, 5, segment), segment)
    again_key, again = item_of(record)
    assert (again_key, content_of(again), record.sequence) == (key, content_of(item), 5)
    if isinstance(item, Scan):
        assert isinstance(again, Scan)
        assert (again.due_ns, again.started_ns) == (item.due_ns, item.started_ns)
        old = item_of(record, has_clock=False)[1]
        assert isinstance(old, Scan)
        assert old.due_ns == old.started_ns == 0


def test_arrays_stand_on_multiples_of_eight_bytes() -> None:
    for key in (KEY, OTHER, StreamKey("abcdefg")):
        [record] = records_in(item_record(key, scan_of(3, 84), 1, 1), 1)
        scan = item_of(record)[1]
        assert isinstance(scan, Scan)
        assert scan.values.flags.aligned
        assert scan.recorded_at.flags.aligned


def test_a_note_comes_back_as_it_was() -> None:
    note = {"revision": 3, "streams": [["oven-1", 1, 5, None]]}
    [record] = records_in(note_record(note, 0, 9), 9)
    assert note_of(record) == note


def three_records() -> tuple[bytes, list[int]]:
    """Three records of a segment 7, and where each ends."""
    parts = [item_record(KEY, scan_of(number), number, 7) for number in (1, 2, 3)]
    ends = [sum(len(part) for part in parts[: i + 1]) for i in range(3)]
    return b"".join(parts), ends


def sequences(data: bytes, segment: int = 7, is_all: bool = True) -> list[int]:
    return [record.sequence for record in records_in(data, segment, is_all)]


def test_any_byte_that_is_wrong_costs_its_record_only() -> None:
    data, ends = three_records()
    landed = 0
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x41
        hit = 1 + sum(end <= at for end in ends)
        assert sequences(bytes(broken)) == [n for n in (1, 2, 3) if n != hit]
        landed += 1
    assert landed == ends[-1]


def test_any_end_of_the_data_costs_the_record_that_is_cut_off() -> None:
    data, ends = three_records()
    for end in range(len(data) + 1):
        whole = [n for n, until in enumerate(ends, 1) if until <= end]
        assert sequences(data[:end]) == whole
        assert sequences(data[:end], is_all=False) == whole


def test_what_another_segment_left_on_the_disk_is_no_record() -> None:
    data, _ = three_records()
    assert sequences(data, segment=8) == []


def test_a_record_in_a_text_is_found_only_if_what_is_around_it_is_broken() -> None:
    inner = item_record(KEY, scan_of(9), 9, 7)
    outer = bytearray(item_record(KEY, Gap(1, 1, "x" * len(inner)), 1, 7))
    assert sequences(bytes(outer)) == [1]
    outer[-len(inner) :] = inner  # its own CRC no longer fits
    assert sequences(bytes(outer)) == [9]


@pytest.mark.parametrize("noise", [b"", MARKER, MARKER * 9, b"\xff" * 100, bytes(5000)])
def test_noise_between_records_is_passed_over(noise: bytes) -> None:
    data, ends = three_records()
    assert sequences(data[: ends[0]] + noise + data[ends[0] :]) == [1, 2, 3]


def test_kinds_are_numbers_that_stay() -> None:
    assert {kind.name: int(kind) for kind in Kind} == {"NOTE": 1, "SCAN": 2, "GAP": 3}
