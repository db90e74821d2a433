"""What a spool's folder holds at the start: read once, in pieces, whatever state it is in."""

from __future__ import annotations

import json
import logging
import time
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID
from zlib import crc32

from logger.scan import Gap, Scan, StreamKey
from logger.spool.disk import Disk, replace_file
from logger.spool.records import Kind, Record, item_from, note_of, number_of
from logger.spool.segments import Segment, read_records, segment_numbers, segment_path
from logger.spool.streams import NOTE_VERSION, SpoolStream, newest_time_us
from plcsim.errors import InputError

log = logging.getLogger(__name__)

NOTE_FILE = "streams.json"
"""The newest note of all streams once more, in case the segment's own is damaged."""


@dataclass(slots=True)
class Recovered:
    """How the run before left the spool."""

    streams: dict[StreamKey, SpoolStream] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    writer: UUID | None = None
    target: str = ""
    sequence: int = 0
    revision: int = 0
    next_segment: int = 1
    clean: bool = True
    damaged: int = 0
    """Items that were accepted and cannot be read."""
    torn: int = 0
    """Segments that end in the middle of a record."""

    def stream(self, key: StreamKey) -> SpoolStream:
        stream = self.streams.get(key)
        if stream is None:
            stream = self.streams[key] = SpoolStream(key)
        return stream

    @property
    def waiting(self) -> bool:
        """Whether any number was given out that is not released."""
        return any(stream.released + 1 < stream.next_number for stream in self.streams.values())


def save_note(disk: Disk, folder: Path, note: dict[str, Any]) -> None:
    """Keep a note of all streams beside the segments; durable when it returns."""
    text = json.dumps(note, separators=(",", ":")).encode()
    replace_file(disk, folder / NOTE_FILE, b"%08x " % crc32(text) + text + b"\n")


def recover(disk: Disk, folder: Path) -> Recovered:
    """Read every segment, check every record, count what waits.

    Damage is counted, never raised. Raises InputError if a newer version wrote the folder, OSError if it
    cannot be read at all.
    """
    return _Recovery(disk, folder).run()


class _Recovery:
    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk, self._folder = disk, folder
        self._found = Recovered()
        self._spans: dict[SpoolStream, list[list[int]]] = {}
        """First and last of each run of numbers that is there."""
        self._numbers: dict[Segment, dict[SpoolStream, array[int]]] = {}
        self._newest_scan: dict[SpoolStream, bytes] = {}
        self._last_scan: dict[Segment, bytes] = {}
        self._by_name: dict[tuple[bytes, int], SpoolStream] = {}

    def run(self) -> Recovered:
        found = self._found
        numbers = segment_numbers(self._disk, self._folder)
        found.next_segment = max(numbers, default=0) + 1
        for number in numbers:
            self._read(Segment(number, segment_path(self._folder, number)))
        self._read_note_file()
        for stream in found.streams.values():
            self._settle(stream)
        for segment in found.segments:
            self._count(segment)
        return found

    def _read(self, segment: Segment) -> None:
        found = self._found
        segment.size = self._disk.size(segment.path)
        self._numbers[segment] = {}
        end, sequence = 0, 0
        for record, end in read_records(self._disk, segment, 0, segment.size):  # noqa: B007 - needed below
            found.clean = False
            if record.kind == Kind.NOTE:
                self._take_note(note_of(record))
            elif record.sequence > sequence:
                sequence = record.sequence
                self._take_item(record, segment)
        if end < segment.size:
            found.torn += 1
            found.clean = False
        found.segments.append(segment)

    def _take_note(self, note: dict[str, Any]) -> None:
        found, revision = self._found, note["revision"]
        if note["version"] > NOTE_VERSION:
            raise InputError(
                f"{self._folder}: this spool was written by a newer plclogger (format {note['version']}, not "
                f"{NOTE_VERSION}): use that version, or give another --spool"
            )
        for part in note["streams"]:
            found.stream(StreamKey(part[0], part[1])).recover(part, revision)
        found.clean = note["clean"]
        if revision >= found.revision:
            found.revision = revision
            found.writer, found.target = UUID(note["writer"]), note["target"]

    def _take_item(self, record: Record, segment: Segment) -> None:
        name, stream_id, number = number_of(record)
        stream = self._by_name.get((name, stream_id))
        if stream is None:
            key = StreamKey(name.decode(), stream_id)
            stream = self._by_name[name, stream_id] = self._found.stream(key)
        if number <= stream.newest:
            return  # once more: its first segment could not be synced, and the run ended before that was gone
        first = number
        if record.kind == Kind.SCAN:
            self._newest_scan[stream] = self._last_scan[segment] = bytes(record.payload)
        else:
            gap = item_from(record.kind, bytes(record.payload))[1]
            assert isinstance(gap, Gap)
            first = gap.first_scan
        stream.newest = number
        spans = self._spans.setdefault(stream, [])
        if spans and spans[-1][1] == first - 1:
            spans[-1][1] = number
        else:
            spans.append([first, number])
        self._numbers[segment].setdefault(stream, array("q")).append(number)

    def _read_note_file(self) -> None:
        """Take over the note beside the segments, which knows what a damaged segment lost."""
        path, found = self._folder / NOTE_FILE, self._found
        if NOTE_FILE not in self._disk.names(self._folder):
            return
        try:
            crc, _, text = self._disk.read(path, 0, self._disk.size(path)).rstrip(b"\n").partition(b" ")
        except OSError as exc:
            log.warning("%s: cannot be read: %s", path, exc)
            return
        if crc != b"%08x" % crc32(text):
            log.warning("%s: is damaged; the segments say the same", path)
            return
        was_clean, revision = found.clean, found.revision
        self._take_note(json.loads(text))
        if found.revision == revision:  # the segments know more
            found.clean = was_clean

    def _settle(self, stream: SpoolStream) -> None:
        """All notes and items are seen: how does the stream stand, and what of it is lost?"""
        newest = stream.newest
        payload = self._newest_scan.get(stream)
        if payload is not None:
            scan = item_from(Kind.SCAN, payload)[1]
            assert isinstance(scan, Scan)
            stream.see_recovered(scan)
        stream.newest = stream.accepted = max(newest, stream.released)
        stream.least_next = stream.first_new = stream.next_number
        stream.handed = stream.released
        spans = [*self._spans.get(stream, []), *([part.first, part.last] for part in stream.dropped)]
        known = sum(max(0, last - max(first, stream.released + 1) + 1) for first, last in spans)
        self._found.damaged += max(0, stream.next_number - 1 - stream.released - known)

    def _count(self, segment: Segment) -> None:
        """How many of the segment's items wait, and since about when."""
        payload = self._last_scan.pop(segment, None)
        age_s = 0.0
        if payload is not None:
            age_s = max(0.0, time.time() - newest_time_us(item_from(Kind.SCAN, payload)[1]) / 1e6)
        segment.made_at = segment.newest_at = time.monotonic() - age_s
        for stream, numbers in self._numbers.pop(segment).items():
            first = bisect_right(numbers, stream.released)
            waiting = len(numbers) - first
            if waiting:
                segment.items += waiting
                segment.unreleased += waiting
                segment.ranges[stream] = [numbers[first], numbers[-1]]
