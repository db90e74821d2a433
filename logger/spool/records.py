"""Items and notes as bytes, and back: what stands in a segment of the spool.

A record is a marker, a CRC-32, its length, kind and sequence, and a payload; low bytes first. The CRC
covers everything behind it and begins with the segment's number, so that what an older file left on the
disk is no record. A record that is broken is passed over: the next one is found by its marker.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from logger.scan import Gap, Item, Scan, StreamKey, Text

MARKER = b"\xa5rec"
_CRC = struct.Struct("<I")
_HEAD = struct.Struct("<IBxxxQ")
_BEFORE = len(MARKER) + _CRC.size + _HEAD.size
"""Bytes in front of the payload."""
_SCAN = struct.Struct("<iHBxqqqqII")
_GAP = struct.Struct("<iHBxqqqq")
_NUMBER = struct.Struct("<iHBxq")
"""What scans and gaps begin with: stream id, bytes of the device's id, whether a process ran, last number."""
_TEXT = struct.Struct("<II")


class Kind(IntEnum):
    """What a payload holds."""

    NOTE = 1
    """JSON: how streams stand, see notes.py."""
    SCAN = 2
    GAP = 3


class Record(NamedTuple):
    """A whole record as it was found."""

    kind: int
    sequence: int
    """Of the newest item up to here: items count on, notes do not."""
    payload: memoryview
    end: int
    """Where the next one begins."""


def framed(kind: Kind, sequence: int, payload: bytes, segment: int) -> bytes:
    """The bytes of a record for that segment."""
    body = _HEAD.pack(len(payload), kind, sequence) + payload
    return b"".join((MARKER, _CRC.pack(crc32(body, segment & 0xFFFFFFFF)), body))


def records_in(data: bytes, segment: int, is_all: bool = True) -> Iterator[Record]:
    """The whole records of a part of a segment, in order; what is broken is left out.

    Unless this `is_all` of the segment, it ends before a record that may go on behind the data.
    """
    view, at, seed = memoryview(data), 0, segment & 0xFFFFFFFF
    while at + _BEFORE <= len(data):
        if view[at : at + 4] == MARKER:
            length, kind, sequence = _HEAD.unpack_from(data, at + 8)
            end = at + _BEFORE + length
            if end <= len(data):
                if crc32(view[at + 8 : end], seed) == _CRC.unpack_from(data, at + 4)[0]:
                    yield Record(kind, sequence, view[at + _BEFORE : end], end)
                    at = end
                    continue
            elif not is_all:
                return
        at = data.find(MARKER, at + 1)
        if at < 0:
            return


def item_record(key: StreamKey, item: Item, sequence: int, segment: int) -> bytes:
    """A scan or a gap as a record."""
    kind = Kind.SCAN if isinstance(item, Scan) else Kind.GAP
    return framed(kind, sequence, item_bytes(key, item), segment)


def item_bytes(key: StreamKey, item: Item) -> bytes:
    name = key.device_id.encode()
    padding = bytes(-len(name) % 8)  # the arrays stand on multiples of 8
    if isinstance(item, Gap):
        head = _GAP.pack(
            key.stream_id, len(name), 0, item.last_scan, item.first_scan, item.first_at, item.last_at
        )
        return b"".join((head, name, padding, item.reason.encode(errors="surrogatepass")))
    texts = b"".join(_text_bytes(text) for text in item.texts)
    ran = item.process_number is not None
    head = _SCAN.pack(
        key.stream_id, len(name), ran, item.number, item.process_number or 0,
        item.due_ns, item.started_ns, len(item.values), len(texts),
    )  # fmt: skip
    arrays = (
        np.asarray(item.recorded_at, "<i8").tobytes(),
        np.asarray(item.values, "<f8").tobytes(),
        np.asarray(item.quality, "<i2").tobytes(),
    )
    return b"".join((head, name, padding, *arrays, texts))


def _text_bytes(text: Text) -> bytes:
    data = text.text.encode(errors="surrogatepass")
    return _TEXT.pack(text.column, len(data)) + data


def number_of(record: Record) -> tuple[bytes, int, int]:
    """(device id as bytes, stream id, last number) of a scan or gap, without making it."""
    stream_id, length, _, number = _NUMBER.unpack_from(record.payload)
    start = _SCAN.size if record.kind == Kind.SCAN else _GAP.size
    return bytes(record.payload[start : start + length]), stream_id, number


def item_of(record: Record, has_clock: bool = True) -> tuple[StreamKey, Item]:
    """The scan or gap of a record; its arrays cannot be written to.

    Without `has_clock` its monotonic times are 0: they belong to another run.
    """
    return item_from(record.kind, bytes(record.payload), has_clock)  # a copy: it holds no piece of a file


def item_from(kind: int, payload: bytes, has_clock: bool = False) -> tuple[StreamKey, Item]:
    if kind == Kind.GAP:
        stream_id, length, _, last, first, first_at, last_at = _GAP.unpack_from(payload)
        at = _GAP.size + length + -length % 8
        key = StreamKey(payload[_GAP.size : _GAP.size + length].decode(), stream_id)
        return key, Gap(first, last, payload[at:].decode(errors="surrogatepass"), first_at, last_at)
    stream_id, length, ran, number, process, due_ns, started_ns, size, _ = _SCAN.unpack_from(payload)
    at = _SCAN.size + length + -length % 8
    key = StreamKey(payload[_SCAN.size : _SCAN.size + length].decode(), stream_id)
    scan = Scan(
        number,
        np.frombuffer(payload, "<f8", size, at + 8 * size),
        np.frombuffer(payload, "<i2", size, at + 16 * size),
        np.frombuffer(payload, "<i8", size, at),
        process if ran else None,
        due_ns if has_clock else 0,
        started_ns if has_clock else 0,
        _texts(payload, at + 18 * size),
    )
    return key, scan


def _texts(payload: bytes, at: int) -> tuple[Text, ...]:
    texts = []
    while at < len(payload):
        column, length = _TEXT.unpack_from(payload, at)
        at += _TEXT.size
        texts.append(Text(column, payload[at : at + length].decode(errors="surrogatepass")))
        at += length
    return tuple(texts)


def note_record(note: dict[str, Any], sequence: int, segment: int) -> bytes:
    """A note as a record."""
    return framed(Kind.NOTE, sequence, json.dumps(note, separators=(",", ":")).encode(), segment)


def note_of(record: Record) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(bytes(record.payload))
    return note
