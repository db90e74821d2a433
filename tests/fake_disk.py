"""A disk in memory that keeps, at a power cut, only what was synced, and any part of the rest.

test_spool_disk.py verifies it against the real one. Every call can be the last before the power cut, or
fail as told; a disk that is not `honest` says that it synced and did not.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random


class PowerCut(BaseException):
    """The machine is off; no code of the spool may catch this."""


@dataclass(eq=False)
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    """Offset and data of each write since the last sync; a truncation has no data."""
    never: list[tuple[int, int]] = field(default_factory=list)
    """First and end of what a failed sync was to write: it reads well and is on no disk."""

    def sync(self) -> None:
        durable = bytearray(self.data)
        for first, end in self.never:
            durable[first:end] = bytes(len(durable[first:end]))
        self.durable = bytes(durable)
        self.writes.clear()

    def fail_to_sync(self) -> None:
        self.never += [(offset, offset + len(part)) for offset, part in self.writes]
        self.writes.clear()

    def after_cut(self, dice: Random) -> _File:
        data = bytearray(self.durable)
        how = dice.choice(("none", "all", "prefix", "subset"))
        prefix = dice.randint(0, len(self.writes))
        for i, (offset, part) in enumerate(self.writes):
            if (
                how == "none"
                or (how == "prefix" and i >= prefix)
                or (how == "subset" and dice.random() < 0.5)
            ):
                continue
            if not part:
                del data[offset:]
                continue
            if how != "all":
                part = part[: dice.randint(0, len(part))]
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + len(part)] = part
        return _File(data, bytes(data))


class FakeDisk:
    """Implements logger.spool.disk.Disk."""

    def __init__(self, honest: bool = True) -> None:
        self.honest = honest
        self.calls: Counter[str] = Counter()
        self.cut_at: int | None = None
        """Number of the call, from 1, that the power cut comes before."""
        self.capacity: int | None = None
        """Bytes that fit on it."""
        self.tells_free = False
        """Whether it says how many of them are free; one with a quota does not."""
        self.fail: Callable[[str, Path], int] = lambda call, path: 0
        """Asked before each call: the errno to fail with, or 0."""
        self.bad_pages: set[tuple[Path, int]] = set()
        """Pages of 4096 bytes that cannot be read."""
        self.landed = 0
        """Faults that happened."""
        self._names: dict[Path, _File] = {}
        self._durable_names: dict[Path, _File] = {}
        self._name_changes: list[Callable[[dict[Path, _File]], None]] = []
        self._open: dict[int, tuple[Path, _File]] = {}
        self._locked: set[Path] = set()

    def after_cut(self, seed: int) -> FakeDisk:
        """The disk as it may be when the machine starts again."""
        dice, disk = Random(seed), FakeDisk(self.honest)
        names = dict(self._durable_names)
        kept = dice.randint(0, len(self._name_changes))
        for change in self._name_changes[:kept]:
            change(names)
        files: dict[_File, _File] = {}
        for path, file in names.items():
            disk._names[path] = files.setdefault(file, file.after_cut(dice))
        disk._durable_names = dict(disk._names)
        return disk

    def content(self, path: Path) -> bytearray:
        """For a test to look at or to damage."""
        return self._names[path].data

    def paths(self) -> list[Path]:
        return sorted(self._names)

    # ── Disk ──

    def make_folder(self, folder: Path) -> None:
        self._call("make_folder", folder)

    def lock(self, path: Path) -> Callable[[], None]:
        self._call("lock", path)
        if path in self._locked:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path), None, "1")
        self._locked.add(path)
        return lambda: self._locked.discard(path)

    def names(self, folder: Path) -> list[str]:
        self._call("names", folder)
        return [path.name for path in self._names if path.parent == folder]

    def create(self, path: Path) -> int:
        self._call("create", path)
        if path in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        file = self._names[path] = _File()
        self._name_changes.append(lambda names: names.__setitem__(path, file))
        number = len(self._open) + 3
        self._open[number] = (path, file)
        return number

    def append(self, file: int, data: bytes) -> None:
        path, known = self._open[file]
        self._call("append", path)
        room = None if self.capacity is None else self.capacity - self._used()
        part = data if room is None else data[: max(0, room)]
        known.writes.append((len(known.data), bytes(part)))
        known.data += part
        if len(part) < len(data):
            self.landed += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, file: int, size: int) -> None:
        path, known = self._open[file]
        self._call("truncate", path)
        known.writes.append((size, b""))
        del known.data[size:]

    def sync(self, file: int) -> None:
        path, known = self._open[file]
        self._sync(path, known)

    def sync_path(self, path: Path) -> None:
        self._sync(path, self._file(path))

    def sync_folder(self, folder: Path) -> None:
        self._call("sync_folder", folder)
        if self.honest:
            self._durable_names = dict(self._names)
            self._name_changes.clear()

    def close(self, file: int) -> None:
        self._call("close", self._open[file][0])
        self._open[file] = (Path("closed"), _File())

    def size(self, path: Path) -> int:
        self._call("size", path)
        return len(self._file(path).data)

    def free(self, folder: Path) -> int:
        self._call("free", folder)
        if self.capacity is None or not self.tells_free:
            return 1 << 40
        return max(0, self.capacity - self._used())

    def read(self, path: Path, offset: int, size: int) -> bytes:
        self._call("read", path)
        if any((path, page) in self.bad_pages for page in range(offset // 4096, -(-(offset + size) // 4096))):
            self.landed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return bytes(self._file(path).data[offset : offset + size])

    def rename(self, old: Path, new: Path) -> None:
        self._call("rename", old)
        file = self._file(old)

        def change(names: dict[Path, _File]) -> None:
            names.pop(old, None)
            names[new] = file

        change(self._names)
        self._name_changes.append(change)

    def remove(self, path: Path) -> None:
        self._call("remove", path)
        self._file(path)
        del self._names[path]
        self._name_changes.append(lambda names: names.pop(path, None))

    def _file(self, path: Path) -> _File:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._names[path]

    def _sync(self, path: Path, file: _File) -> None:
        """A sync that fails leaves the data clean in memory and not on the disk, as Linux does."""
        try:
            self._call("sync", path)
        except OSError:
            file.fail_to_sync()
            raise
        if self.honest:
            file.sync()

    def _used(self) -> int:
        """A file that is open keeps its space when its name is gone."""
        files = {*self._names.values(), *(file for _, file in self._open.values())}
        return sum(len(file.data) for file in files)

    def _call(self, name: str, path: Path) -> None:
        self.calls[name] += 1
        if self.cut_at is not None and self.calls.total() >= self.cut_at:
            raise PowerCut
        error = self.fail(name, path)
        if error:
            self.landed += 1
            raise OSError(error, os.strerror(error), str(path))
