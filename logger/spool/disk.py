"""What the spool asks of a file system, one method for each call, so that a test can fail any of them.

A write is durable after `sync`, a new, renamed or removed name after `sync_folder`: the spool relies on
nothing else. Every method raises OSError.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

if sys.platform != "win32":
    import fcntl


class Disk(Protocol):
    """A file system; files that are open for appending are known by a number."""

    def make_folder(self, folder: Path) -> None:
        """Make the folder and its parents; none of it is an error if it exists."""

    def lock(self, path: Path) -> Callable[[], None]:
        """Hold the file for this process until what is returned is called.

        Raises BlockingIOError with the id of the process that holds it as its last argument.
        """

    def names(self, folder: Path) -> list[str]: ...

    def create(self, path: Path) -> int:
        """Make a new file for appending."""

    def append(self, file: int, data: bytes) -> None:
        """Write behind the end; after an error a part of the data may stand there."""

    def truncate(self, file: int, size: int) -> None: ...

    def sync(self, file: int) -> None: ...

    def sync_path(self, path: Path) -> None:
        """The same for a file that is not open."""

    def sync_folder(self, folder: Path) -> None: ...

    def close(self, file: int) -> None: ...

    def size(self, path: Path) -> int: ...

    def free(self, folder: Path) -> int:
        """Bytes that may still be written there, as far as the system tells: it knows of no quota."""

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """At most `size` bytes; less at the end of the file."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another's name at once: whoever looks sees the one or the other."""

    def remove(self, path: Path) -> None: ...


class OsDisk:
    """The real file system."""

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def lock(self, path: Path) -> Callable[[], None]:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(file, 20, 0).decode(errors="replace").strip()
            os.close(file)
            raise BlockingIOError(exc.errno, exc.strerror, str(path), None, holder) from None
        except OSError:
            os.close(file)
            raise
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        return lambda: os.close(file)

    def names(self, folder: Path) -> list[str]:
        return os.listdir(folder)  # noqa: PTH208 - names are wanted, not paths

    def create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o644)

    def append(self, file: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]

    def truncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        if sys.platform == "darwin":  # there fsync leaves it in the drive's cache
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(file)

    def sync_path(self, path: Path) -> None:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.sync(file)
        finally:
            os.close(file)

    def sync_folder(self, folder: Path) -> None:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def close(self, file: int) -> None:
        os.close(file)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def free(self, folder: Path) -> int:
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize

    def read(self, path: Path, offset: int, size: int) -> bytes:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(file, size, offset)
        finally:
            os.close(file)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def remove(self, path: Path) -> None:
        path.unlink()


_PAGE = 4096


def read_what_can_be(disk: Disk, path: Path, offset: int, size: int) -> bytes:
    """The bytes of a file; zeros for pages that the device cannot read."""
    try:
        return disk.read(path, offset, size)
    except FileNotFoundError:
        raise
    except OSError:
        starts = range(offset, offset + size, _PAGE)
        return b"".join(_read_page(disk, path, at, min(_PAGE, offset + size - at)) for at in starts)


def _read_page(disk: Disk, path: Path, offset: int, size: int) -> bytes:
    try:
        return disk.read(path, offset, size)
    except FileNotFoundError:
        raise
    except OSError:
        return bytes(size)


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Give the file this content: after a crash it has the old or the new one, whole."""
    new = path.with_name(path.name + ".new")
    if new.name in disk.names(path.parent):  # of a run that ended just here
        disk.remove(new)
    file = disk.create(new)
    try:
        disk.append(file, data)
        disk.sync(file)
    finally:
        disk.close(file)
    disk.rename(new, path)
    disk.sync_folder(path.parent)
