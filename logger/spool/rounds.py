"""The work of the spool's own thread, round by round: limits, one group of items, notes, deletion."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from logger.errors import SpoolFailed
from logger.scan import Item, StreamKey
from logger.spool.backlog import Backlog
from logger.spool.disk import Disk
from logger.spool.limits import SpoolLimits
from logger.spool.room import Room
from logger.spool.segments import Segment
from logger.spool.streams import NOTE_VERSION, SpoolStream
from logger.spool.writer import NoSpace, SegmentWriter

log = logging.getLogger(__name__)

_GROUP_ITEMS = 2000
_GROUP_EVERY_S = 0.02
"""Between the starts of two groups, each of which costs most of a millisecond; a scan after a pause never
waits."""
_ROUND_EVERY_S = 1.0
"""For limits, notes of what was released, and a disk that was full."""
_CLOSE_S = 30.0
_ALARM, _CALM = 0.8, 0.7
_KEPT_FREE = 512 << 10
"""Bytes of the disk that scans leave to notes (150 KB for 1,000 streams) and to the head of a new segment:
without an anchor nothing can be stored, and without a new segment the last one cannot go."""


class Rounds:
    """What the thread shares with the callers of the Spool, under one lock, and what it does with it."""

    def __init__(
        self, folder: Path, limits: SpoolLimits, disk: Disk, target: str, writer: UUID | None
    ) -> None:
        self.folder, self.target = folder, target
        self.writer = writer or uuid4()
        """The spool's identity."""
        self.failed: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        """Called in the spool's thread once `failed` is set."""
        self._limits, self._disk = limits, disk
        self._lock = threading.Lock()
        self._to_do = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._streams: dict[StreamKey, SpoolStream] = {}
        self._segments: list[Segment] = []
        self._backlog = Backlog(disk, self._lock, self._segments, self._stream, limits.memory_bytes)
        self._writer = SegmentWriter(disk, folder, self._segments, self._lock, self._note)
        self._room = Room(lambda: self.is_full)
        self._incoming: deque[tuple[SpoolStream, Item, int]] = deque()
        """Put and not yet accepted: stream, item and about how many bytes it takes."""
        self._incoming_bytes = 0
        self._put = self._accepted = 0
        self._notes_wanted = self._notes_kept = 0
        self._noting: set[SpoolStream] = set()
        """Streams in a note that is not yet known to be durable."""
        self._revision = self._bytes = self._bytes_aside = 0
        self._is_too_old = self._no_space = self._is_alarmed = self._has_aside = False
        self._is_hurried = self._is_closing = self._is_ended = False
        self._ends_clean = True
        self._measured_at = (0, 0.0)
        """How many segments there were, and the newest look, when the bytes aside were added up."""
        self._last_error = ""
        self._started_at = self._looked_at = self._noted_at = 0.0
        """When the newest round, look and note were begun, monotonic clock, seconds."""
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    @property
    def is_full(self) -> bool:
        """Whether no scan should be read now."""
        if self.failed is not None or self._no_space or self._incoming_bytes > self._limits.memory_bytes:
            return True
        if self._limits.policy != "block":
            return False
        wanted = self._bytes - self._bytes_aside + self._incoming_bytes
        return self._is_too_old or wanted >= self._limits.max_bytes

    def _stream(self, key: StreamKey) -> SpoolStream:
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = SpoolStream(key)
        return stream

    def _start(self) -> None:
        self._thread.start()

    def _stop(self) -> None:
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while self._wait_for_work() and self.failed is None:
            self._round()
        if self.failed is None:
            self._last_round()

    def _wait_for_work(self) -> bool:
        """Until a round is due; whether another one is."""
        with self._lock:
            while not self._is_closing:
                now = time.monotonic()
                due = self._looked_at + _ROUND_EVERY_S
                if not self._no_space and (self._incoming or self._notes_wanted > self._notes_kept):
                    is_much = self._is_hurried or self._incoming_bytes > _GROUP_ITEMS * 500
                    due = now if is_much else min(due, self._started_at + _GROUP_EVERY_S)
                elif any(not segment.unreleased for segment in self._segments[:-1]):
                    due = now if not self._no_space else due
                if due <= now:
                    return True
                self._to_do.wait(due - now)
            return False

    def _round(self) -> None:
        """One group and what else is due; an error of the disk ends the spool, a full disk does not."""
        self._started_at = time.monotonic()
        try:
            try:
                if self._started_at >= self._looked_at + _ROUND_EVERY_S:
                    self._look()
                self._write_what_waits()
                self._delete_empty()
                if self._no_space:
                    self._no_space, self._last_error = False, ""
            except NoSpace as exc:
                self._fill_up(exc)
        except OSError as exc:
            self._fail(SpoolFailed(f"the spool {self.folder} can keep no more scans: {exc.strerror or exc}"))
        except Exception as exc:
            log.exception("the spool %s failed", self.folder)
            self._fail(exc)
        self._measure()
        self._sound_alarm()
        if self._room.is_awaited and not self.is_full:
            self._room.tell()

    def _measure(self) -> None:
        """Bytes of all files, and of those in which only streams wait that nobody stores in this run."""
        with self._lock:
            self._bytes = sum(segment.size for segment in self._segments)
            state = (len(self._segments), self._looked_at)  # looking at all streams is not for each round
            if not self._has_aside or state == self._measured_at:
                return
            self._measured_at = state
            finished = self._segments[:-1]
            self._bytes_aside = sum(s.size for s in finished if s.unreleased and not s.is_wanted)

    def _last_round(self) -> None:
        """Accept all that was put and note that the run ended in order, if the disk takes it."""
        while self._incoming and self.failed is None and not self._no_space:
            self._round()
        if self.failed is None and not self._incoming:
            try:
                self._delete_empty()
                self._is_ended = True
                self._writer.write((), with_note=True)
                self._writer.keep_note(self._note(True))
            except (NoSpace, OSError) as exc:
                log.warning("spool %s: cannot note that it was closed: %s", self.folder, exc)
        elif self._incoming:
            log.error("spool %s: %d scans could not be kept", self.folder, len(self._incoming))

    def _write_what_waits(self) -> None:
        with self._lock:
            group = list(islice(self._incoming, _GROUP_ITEMS))
            wanted, self._is_hurried = self._notes_wanted, False
        size = sum(entry[2] for entry in group)
        self._make_room(size)
        if group and self._disk.free(self.folder) < size + _KEPT_FREE:
            if wanted > self._notes_kept:
                self._keep_notes(wanted)
            raise NoSpace(f"less than {_KEPT_FREE >> 10} KiB would be free")
        is_anchor = wanted > self._notes_kept
        with_note = is_anchor or (bool(group) and self._is_note_due())
        if not group and not with_note:
            return
        self._begin_if_long(size)
        segment, start, sizes = self._writer.write([(entry[0].key, entry[1]) for entry in group], with_note)
        with self._lock:
            self._backlog.accept(segment, start, group, sizes)
            segment.newest_at = time.monotonic()
            for _ in group:
                self._incoming.popleft()
            self._incoming_bytes -= size
            self._accepted += len(group)
            if with_note:
                self._noting.clear()
        if is_anchor:
            self._writer.keep_note(self._note(True))
        with self._lock:
            self._notes_kept = wanted
            self._done.notify_all()

    def _keep_notes(self, wanted: int) -> None:
        """Write the notes that somebody waits for, and no items."""
        self._write_note()
        self._writer.keep_note(self._note(True))
        with self._lock:
            self._notes_kept = wanted
            self._done.notify_all()

    def _begin_if_long(self, size: int) -> None:
        """Start a new segment when this one is long or old: only whole segments can be deleted."""
        active = self._writer.active
        if active is None or not active.items:
            return
        is_old = time.monotonic() - active.made_at > self._limits.seconds_a_segment
        if is_old or active.size + size > self._limits.bytes_a_segment:
            self._writer.begin()

    def _look(self) -> None:
        """Once a second: limits of age, notes that nothing else carried, and whether the folder is there."""
        self._looked_at = now = time.monotonic()
        active = self._writer.active
        if active is not None:
            self._disk.size(active.path)
        while self._limits.policy == "drop_oldest" and self._oldest_age_s(now) > self._limits.max_age_s:
            if not self._drop_oldest(f"dropped: older than {self._limits.max_age_s:g} s"):
                break
        self._is_too_old = self._oldest_age_s(now) > self._limits.max_age_s
        if self._backlog.changed and now >= self._noted_at + 2 * _ROUND_EVERY_S:
            self._write_note()

    def _oldest_age_s(self, now: float) -> float:
        """Of the newest item of the oldest segment in which anything waits for this run, seconds."""
        with self._lock:
            waiting = (segment for segment in self._segments if segment.unreleased)
            oldest = next((each for each in waiting if not self._has_aside or each.is_wanted), None)
            return 0.0 if oldest is None else now - oldest.newest_at

    def _make_room(self, size: int) -> None:
        """Drop the oldest until so many bytes fit in, if that is the policy."""
        while self._limits.policy == "drop_oldest":
            with self._lock:
                total = sum(segment.size for segment in self._segments)
            if total + size <= self._limits.max_bytes or not self._drop_oldest("dropped: the spool was full"):
                return

    def _drop_oldest(self, reason: str) -> bool:
        """Whether a segment could be dropped. That it was is durable before it goes, if the disk has room."""
        with self._lock:
            segment = next(iter(self._segments[:-1]), None)
            if segment is None:
                return False
            waiting = segment.unreleased
            self._backlog.drop(segment, reason)
        log.warning("spool %s: %d scans %s", self.folder, waiting, reason)
        self._write_note_if_possible()
        self._delete(segment)
        return True

    def _delete_empty(self) -> None:
        """Delete the segments in which nothing waits, except the newest."""
        with self._lock:
            empty = [segment for segment in self._segments[:-1] if not segment.unreleased]
        if empty:
            self._write_note_if_possible()  # a number that is gone must not look like one that was lost
        for segment in empty:
            self._delete(segment)

    def _delete(self, segment: Segment) -> None:
        with self._lock:
            segment = segment.standing()
            self._segments.remove(segment)
        self._writer.delete(segment)

    def _write_note_if_possible(self) -> None:
        try:
            if self._backlog.changed or self._noting:
                self._write_note()
        except NoSpace:
            log.debug("spool %s: no space for a note", self.folder)

    def _write_note(self) -> None:
        self._writer.write((), with_note=True)
        self._noting.clear()

    def _is_note_due(self) -> bool:
        return bool(self._backlog.changed) and time.monotonic() >= self._noted_at + _ROUND_EVERY_S / 2

    def _note(self, is_all: bool) -> dict[str, Any]:
        """How the streams stand: all of them, or those that changed since the last note."""
        with self._lock:
            self._noting |= self._backlog.changed
            self._backlog.changed.clear()
            self._revision += 1
            self._noted_at = time.monotonic()
            streams = self._streams.values() if is_all or self._is_ended else self._noting
            return {
                "version": NOTE_VERSION,
                "revision": self._revision,
                "writer": self.writer.hex,
                "target": self.target,
                "clean": self._is_ended and self._ends_clean,
                "streams": [stream.noted() for stream in streams],
            }

    def _fill_up(self, exc: NoSpace) -> None:
        """The disk is full: let the oldest go, if that is the policy, or wait until there is space."""
        self._last_error = f"the disk is full: {exc}"
        self._finish_newest()
        if self._limits.policy == "drop_oldest" and self._drop_oldest("dropped: the disk was full"):
            return
        if not self._no_space:
            log.warning("spool %s: %s; no scan is read until there is space", self.folder, self._last_error)
        self._no_space = True
        self._delete_empty()

    def _finish_newest(self) -> None:
        """Begin another segment if the newest one may go then: it may be what fills the disk."""
        with self._lock:
            newest = self._segments[-1] if self._segments else None
            is_only = len(self._segments) == 1
        if newest is None or (newest is self._writer.active and not newest.items):
            return
        may_drop = is_only and self._limits.policy == "drop_oldest" and newest.size > _KEPT_FREE
        if newest.unreleased and not may_drop:
            return
        try:
            self._writer.begin()
        except NoSpace:
            if newest.unreleased:
                return
            self._writer.give_up()  # an open file would keep its space
            self._delete(newest)
            with contextlib.suppress(NoSpace):
                self._writer.begin()

    def _fail(self, exc: BaseException) -> None:
        with self._lock:
            self.failed, self._last_error = exc, str(exc)
            self._done.notify_all()
        self.on_failure()

    def _sound_alarm(self) -> None:
        share = self._bytes / self._limits.max_bytes
        if share >= _ALARM and not self._is_alarmed:
            log.warning("spool %s: %.0f %% of %d bytes", self.folder, 100 * share, self._limits.max_bytes)
        self._is_alarmed = share >= (_CALM if self._is_alarmed else _ALARM)

    def _wait_for_note(self, timeout: float | None) -> None:
        """Let the thread write a note and wait for it; under the lock."""
        self._notes_wanted += 1
        mine = self._notes_wanted
        self._is_hurried = True
        self._to_do.notify()
        self._wait(lambda: self._notes_kept >= mine, timeout)

    def _wait(self, is_done: Callable[[], bool], timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while not is_done():
            if self.failed is not None or self._is_ended:
                raise SpoolFailed(f"the spool {self.folder} takes no more: {self._last_error or 'closed'}")
            if not self._done.wait(None if end is None else end - time.monotonic()):
                raise SpoolFailed(f"the spool {self.folder} wrote nothing for {timeout:g} s")
