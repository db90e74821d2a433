"""The spool: every scan waits in files from the moment it was read until it is stored.

`put` returns at once; the spool's own thread writes what has gathered as one group, syncs it, and from
then on the items are *accepted*: they survive the logger, and take() hands them out, oldest first. What
was stored is released; a file whose items are all released is deleted. Nothing here waits for a database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from uuid import UUID

from logger.errors import SpoolFailed
from logger.scan import Item, Scan, StreamKey
from logger.spool.backlog import Spooled, numbers_of
from logger.spool.disk import Disk, OsDisk
from logger.spool.limits import SpoolFigures, SpoolLimits
from logger.spool.recovery import NOTE_FILE, Recovered, recover
from logger.spool.rounds import Rounds
from logger.spool.streams import LEFT_OUT, Last, StreamState
from logger.spool.writer import NoSpace
from plcsim.errors import InputError

log = logging.getLogger(__name__)


class Spool(Rounds):
    """The durable queue between pollers and forwarder, one for all devices of a process.

    After __init__ call open(); afterwards every method may be called by any thread. `writer` is the
    identity that a new spool takes; one that exists keeps its own. `target` says which database the
    numbers belong to, without a password.
    """

    def __init__(
        self,
        folder: Path,
        limits: SpoolLimits | None = None,
        disk: Disk | None = None,
        target: str = "",
        writer: UUID | None = None,
    ) -> None:
        super().__init__(folder, limits or SpoolLimits(), disk or OsDisk(), target, writer)
        self.clean = True
        """Whether the run before ended with close(); True if there was none."""
        self._damaged = self._torn = 0
        self._unlock: Callable[[], None] = lambda: None

    # ── begin and end ──

    def open(self) -> None:
        """Lock the folder, read what it holds, and begin a new segment.

        Raises InputError if another logger uses the folder, if it holds scans for another database, or if
        it cannot be written; never because of damage in it.
        """
        try:
            self._disk.make_folder(self.folder)
            self._unlock = self._disk.lock(self.folder / "lock")
        except BlockingIOError as exc:
            raise InputError(
                f"{self.folder}: another logger (process {exc.filename2 or 'unknown'}) uses this spool: give "
                "this one another with --spool"
            ) from None
        except OSError as exc:
            raise self._unusable(exc) from None
        try:
            self._begin()
        except BaseException:
            self._unlock()
            raise
        self._start()

    def close(self, clean: bool = True) -> None:
        """Accept what was put, note that all is in order, let go of the folder; what waits stays in it.

        Not `clean`: the next run learns that one before it was killed, though this was none.
        """
        with self._lock:
            self._ends_clean = clean
            self._is_closing = True
            self._to_do.notify()
        self._backlog.close()
        self._stop()
        with self._lock:
            self._is_ended = True
            self._done.notify_all()
        self._room.tell()
        self._writer.close()
        self._unlock()

    # ── streams ──

    def next_number(self, key: StreamKey) -> int:
        """Number of the next item to put, from 1."""
        with self._lock:
            return self._stream(key).next_number

    def first_new(self, key: StreamKey) -> int:
        """Number of the first item of this run.

        If the row of a stream is ours and stands at or beyond it before this run stored anything, a
        damaged spool lost the end of a former run, and numbers were given out twice.
        """
        with self._lock:
            return self._stream(key).first_new

    def last(self, key: StreamKey) -> Last | None:
        """The newest item of the stream, of former runs, too; None: there was none."""
        with self._lock:
            return self._stream(key).last

    def first_unreleased(self, key: StreamKey) -> int:
        """Number of the oldest item that is not released; next_number if all are."""
        with self._lock:
            return self._stream(key).released + 1

    def anchored(self, key: StreamKey) -> bool:
        """Whether it is known which numbers the stream has in the database."""
        with self._lock:
            return self._stream(key).offset is not None

    def offset(self, key: StreamKey) -> int:
        """What to add to a number for the database; 0 unless anchored."""
        with self._lock:
            return self._stream(key).offset or 0

    def set_offset(self, key: StreamKey, offset: int) -> None:
        """Anchor the stream; durable when it returns. Raises SpoolFailed if that cannot be."""
        self.set_offsets({key: offset})

    def set_offsets(self, offsets: Mapping[StreamKey, int]) -> None:
        """Anchor streams with one sync; durable when it returns. Raises SpoolFailed if that cannot be."""
        with self._lock:
            for key, offset in offsets.items():
                stream = self._stream(key)
                stream.offset = offset
                self._backlog.changed.add(stream)
            self._wait_for_note(None)

    def streams(self) -> dict[StreamKey, StreamState]:
        """How every stream that this spool knows stands."""
        with self._lock:
            return {key: stream.state() for key, stream in self._streams.items()}

    def adopt(self, key: StreamKey, state: StreamState) -> None:
        """Go on with a stream of another spool; its items may then be put with the numbers they have.

        Durable with the next flush(). Raises ValueError if this spool knows the stream already.
        """
        with self._lock:
            stream = self._stream(key)
            if stream.next_number > 1 or stream.offset is not None:
                raise ValueError(f"{key} is a stream of this spool already")
            stream.adopt(state)
            self._backlog.changed.add(stream)

    def set_aside(self, key: StreamKey) -> None:
        """Nobody stores this stream until the spool is opened again; what waits of it stays.

        It does not count against the limits any more, and they bound it by itself: beyond `max_bytes`
        what comes of it is left out, which is a gap record once the stream is stored again.
        """
        with self._lock:
            self._stream(key).is_aside = self._has_aside = True

    def reason_missing(self, key: StreamKey, number: int) -> str:
        """Why take() never gave this number although it gave a later one."""
        with self._lock:
            damaged = self._damaged + self._backlog.damaged > 0
            return self._stream(key).reason_missing(number, damaged)

    # ── items ──

    def put(self, key: StreamKey, item: Item) -> None:
        """Take what comes next in a stream; returns at once, accepted after the next sync.

        Raises ValueError for a number that came before, SpoolFailed once the spool is closed.
        """
        with self._lock:
            if self._is_closing:
                raise SpoolFailed(f"the spool {self.folder} is closed")
            stream = self._stream(key)
            first, _ = numbers_of(item)
            if first <= stream.newest:
                raise ValueError(f"{key}: number {first} does not come after {stream.newest}")
            if stream.is_aside and self._bytes_aside >= self._limits.max_bytes:
                stream.leave_out(item, LEFT_OUT)
                self._backlog.changed.add(stream)
                return
            stream.see(item)
            size = _bytes_about(item)
            self._incoming.append((stream, item, size))
            self._incoming_bytes += size
            self._put += 1
            if len(self._incoming) == 1:
                self._to_do.notify()

    def flush(self, timeout: float) -> None:
        """Return when all that was put is accepted and noted. Raises SpoolFailed if that takes longer."""
        with self._lock:
            wanted = self._put
            if self._backlog.changed:
                self._wait_for_note(timeout)
            self._is_hurried = True
            self._to_do.notify()
            self._wait(lambda: self._accepted >= wanted, timeout)

    def take(self, max_items: int, timeout_s: float) -> list[Spooled]:
        """Accepted items, oldest first, each once; waits at most so long for the first.

        Whoever takes them holds them in memory until release(): take no more than can be stored soon.
        """
        return self._backlog.take(max_items, timeout_s)

    def release(self, items: Iterable[Spooled]) -> None:
        """The items are stored or in quarantine: the spool need not keep them."""
        with self._lock:
            if self._backlog.release(items):
                self._to_do.notify()

    # ── limits ──

    async def wait_for_room(self, stop: asyncio.Event) -> None:
        """Return when the spool is not full, or when `stop` is set; any number of tasks may wait."""
        if self.is_full:
            await self._room.wait(stop)

    def figures(self) -> SpoolFigures:
        with self._lock:
            oldest_us = self._backlog.oldest_us()
            return SpoolFigures(
                depth=self._backlog.depth,
                bytes=self._bytes,
                oldest_age_s=max(0.0, time.time() - oldest_us / 1e6) if oldest_us else 0.0,
                accepted=self._accepted,
                dropped=self._backlog.dropped,
                damaged=self._damaged + self._backlog.damaged,
                torn=self._torn,
                syncs=self._writer.syncs,
                last_error=self._last_error or self._writer.last_error,
            )

    # ── opening ──

    def _begin(self) -> None:
        try:
            found = recover(self._disk, self.folder)
            found = self._for_target(found)
            for segment in found.segments:  # what a run that was killed left may be in memory only
                with contextlib.suppress(OSError):
                    self._disk.sync_path(segment.path)
        except OSError as exc:
            raise self._unusable(exc) from None
        self.writer = found.writer or self.writer
        self.clean = found.clean
        self._revision, self._damaged, self._torn = found.revision, found.damaged, found.torn
        self._streams.update(found.streams)
        self._segments.extend(found.segments)
        self._writer.next_number = found.next_segment
        self._backlog.recovered(found.next_segment)
        if found.damaged or found.torn:
            log.warning(
                "spool %s: %d scans were damaged, %d files end in the middle of a record",
                self.folder, found.damaged, found.torn,
            )  # fmt: skip
        try:
            try:
                self._writer.begin()
            except NoSpace as exc:
                self._fill_up(exc)
            self._look()
        except OSError as exc:
            raise self._unusable(exc) from None
        self._measure()

    def _for_target(self, found: Recovered) -> Recovered:
        """What was found, if it belongs to our database; an empty spool of another one begins anew."""
        if not self.target or not found.target or self.target == found.target:
            self.target = self.target or found.target
            return found
        if found.waiting:
            waiting = sum(stream.next_number - 1 - stream.released for stream in found.streams.values())
            raise InputError(
                f"{self.folder}: {waiting} scans wait here for the database {found.target}, not "
                f"{self.target}: let a logger store them there first, or give another --spool"
            )
        for segment in found.segments:
            self._disk.remove(segment.path)
        with contextlib.suppress(FileNotFoundError):
            self._disk.remove(self.folder / NOTE_FILE)
        self._disk.sync_folder(self.folder)
        return Recovered(next_segment=found.next_segment)

    def _unusable(self, exc: OSError) -> InputError:
        return InputError(
            f"{self.folder}: the spool cannot be kept here: {exc.strerror or exc}: give a folder that can be "
            "written with --spool"
        )


def _bytes_about(item: Item) -> int:
    """What the item takes in a file, roughly."""
    return 150 + 18 * len(item.values) if isinstance(item, Scan) else 150
