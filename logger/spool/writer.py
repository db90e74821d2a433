"""The spool's newest segment: appended to, synced, begun anew when it is full or can no longer be trusted.

Only the spool's own thread calls this; what others look at changes under the spool's lock.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from logger.scan import Item, StreamKey
from logger.spool.disk import Disk
from logger.spool.records import Kind, framed, item_record, note_record
from logger.spool.recovery import save_note
from logger.spool.segments import Segment, read_records, segment_path

log = logging.getLogger(__name__)

_COPY_BYTES = 4 << 20

Noter = Callable[[bool], dict[str, Any]]
"""Makes a note: of all streams (True), or of those that changed since the last one."""


class NoSpace(Exception):
    """The disk is full; nothing was written."""


class _Unsynced(Exception):
    """A write or a sync failed: what became of the data since the last sync, nobody knows."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def is_full_disk(exc: OSError) -> bool:
    return exc.errno in (errno.ENOSPC, errno.EDQUOT)


class SegmentWriter:
    """Writes groups of items and notes, each durable before the call returns."""

    def __init__(
        self, disk: Disk, folder: Path, segments: list[Segment], lock: threading.Lock, note: Noter
    ) -> None:
        self._disk, self._folder, self._segments, self._lock, self._note = disk, folder, segments, lock, note
        self._file: int | None = None
        self._sequence = 0
        self._broken: Segment | None = None
        """Has to be written again before anything else."""
        self.next_number = 1
        self.active: Segment | None = None
        self.syncs = 0
        self.last_error = ""

    def write(
        self, items: Sequence[tuple[StreamKey, Item]], with_note: bool
    ) -> tuple[Segment, int, list[int]]:
        """Append items, and a note of what changed; returns the segment, where they begin and their sizes.

        An error of a write or a sync is never answered by trying it again: what waits in the segment is
        written to a new one, once. Raises NoSpace, and OSError if the new one fails, too.
        """
        if self._broken is not None or self._file is None:
            self.begin()
        try:
            return self._append(items, with_note)
        except _Unsynced as exc:
            self._note_error(f"writing again what waits in {self._name}: {exc}")
            self._broken = self.active
            self.begin()
        try:
            return self._append(items, with_note)
        except _Unsynced as exc:
            raise exc.error from None

    def begin(self) -> None:
        """Start a new segment; the one before it is finished.

        One that cannot be made is tried once more, under another name. Raises NoSpace or OSError.
        """
        try:
            self._begin()
        except FileNotFoundError:  # the folder is gone
            raise
        except OSError as exc:
            self._note_error(f"making another new segment: {exc}")
            self._begin()

    def _begin(self) -> None:
        segment = Segment(self.next_number, segment_path(self._folder, self.next_number))
        segment.made_at = segment.newest_at = time.monotonic()
        self.next_number += 1
        note = self._note(True)
        file = self._made(segment, note_record(note, 0, segment.number))
        sequence, broken = 0, self._broken
        if broken is not None:
            sequence = self._copied(broken, segment, file)
        self._disk_close(self._file)
        self._file, self._sequence, self._broken = file, sequence, None
        with self._lock:
            if broken is not None:
                self._move(broken, segment)
            self._segments.append(segment)
            self.active = segment
        if broken is not None:
            self.delete(broken)
        self.keep_note(note)

    def keep_note(self, note: dict[str, Any]) -> None:
        """Keep it beside the segments, too; they are enough if that fails."""
        try:
            save_note(self._disk, self._folder, note)
        except OSError as exc:
            self._note_error(f"cannot keep a second note: {exc.strerror or exc}")

    def delete(self, segment: Segment) -> None:
        """Remove its file; if that fails, the next run finds that nothing in it waits."""
        try:
            self._disk.remove(segment.path)
            self._disk.sync_folder(self._folder)
        except FileNotFoundError:
            return
        except OSError as exc:
            self._note_error(f"cannot delete a segment: {exc}")

    def close(self) -> None:
        self._disk_close(self._file)
        self._file = None

    def give_up(self) -> None:
        """Let go of the newest segment; the next write begins another."""
        self.close()
        self.active = self._broken = None

    @property
    def _name(self) -> str:
        return self.active.path.name if self.active else "no segment"

    def _append(
        self, items: Sequence[tuple[StreamKey, Item]], with_note: bool
    ) -> tuple[Segment, int, list[int]]:
        segment, file, sequence = self.active, self._file, self._sequence
        assert segment is not None
        assert file is not None
        records = [
            item_record(key, item, sequence + i, segment.number) for i, (key, item) in enumerate(items, 1)
        ]
        sizes = [len(record) for record in records]
        if with_note:
            records.append(note_record(self._note(False), sequence + len(items), segment.number))
        data = b"".join(records)
        self._durable(file, data, segment.size)
        start = segment.size
        with self._lock:
            segment.size += len(data)
        self._sequence += len(items)
        return segment, start, sizes

    def _durable(self, file: int, data: bytes, size: int) -> None:
        """Append and sync, or leave the file at this size."""
        try:
            self._disk.append(file, data)
        except OSError as exc:
            if not is_full_disk(exc):
                raise _Unsynced(exc) from exc
            try:
                self._disk.truncate(file, size)
            except OSError:
                raise _Unsynced(exc) from exc
            raise NoSpace(exc.strerror) from exc
        try:
            self.syncs += 1
            self._disk.sync(file)
        except OSError as exc:
            raise _Unsynced(exc) from exc

    def _made(self, segment: Segment, header: bytes) -> int:
        file: int | None = None
        try:
            file = self._disk.create(segment.path)
            self._disk.append(file, header)
            self._disk.sync(file)
            self._disk.sync_folder(self._folder)
        except OSError as exc:
            self._take_back(segment, file)
            if is_full_disk(exc):
                raise NoSpace(exc.strerror) from exc
            raise
        segment.size = len(header)
        return file

    def _take_back(self, segment: Segment, file: int | None) -> None:
        if file is not None:
            with contextlib.suppress(OSError):
                self._disk.close(file)
                self._disk.remove(segment.path)

    def _copied(self, broken: Segment, segment: Segment, file: int) -> int:
        """Write what is readable of a segment behind the header of another; returns how many items."""
        sequence, records, size = 0, list[bytes](), 0
        try:
            for record, _ in read_records(self._disk, broken, 0, broken.size):
                if record.kind == Kind.NOTE:
                    continue
                sequence += 1
                records.append(framed(Kind(record.kind), sequence, bytes(record.payload), segment.number))
                size += len(records[-1])
                if size >= _COPY_BYTES:
                    self._append_copy(records, segment, file)
                    records, size = [], 0
            self._append_copy(records, segment, file)
            self._disk.sync(file)
        except OSError as exc:
            self._take_back(segment, file)
            if is_full_disk(exc):
                raise NoSpace(exc.strerror) from exc
            raise
        return sequence

    def _append_copy(self, records: Iterable[bytes], segment: Segment, file: int) -> None:
        data = b"".join(records)
        self._disk.append(file, data)
        segment.size += len(data)

    def _move(self, old: Segment, new: Segment) -> None:
        """The items of one segment are in another now."""
        new.items, new.handed, new.unreleased = old.items, old.handed, old.unreleased
        new.ranges, new.newest_at = old.ranges, old.newest_at
        old.moved_to = new
        self._segments.remove(old)

    def _disk_close(self, file: int | None) -> None:
        if file is not None:
            with contextlib.suppress(OSError):
                self._disk.close(file)

    def _note_error(self, text: str) -> None:
        self.last_error = text
        log.error("spool %s: %s", self._folder, text)
