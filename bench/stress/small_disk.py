"""Small file systems that only some processes see, so that nothing is left of them when those have ended.

A tmpfs is mounted in a mount namespace of its own (Linux, mount_namespaces(7)); the namespace, and the
mount with it, goes with the last process in it, also after its kill -9.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.stress.server import NotMeasured

T = TypeVar("T")

NO_MOUNT = 77
"""Exit code of a process that was not allowed to mount."""
_CLONE_NEWNS, _CLONE_FS = 0x00020000, 0x00000200
_MS_REMOUNT, _MS_REC, _MS_PRIVATE = 0x20, 0x4000, 0x40000
"""Of linux/sched.h and linux/mount.h."""


@dataclass(frozen=True)
class SmallDisk:
    """Called in a process before it begins: gives it, and nobody else, a small disk at a folder.

    Where that is not allowed the process ends with NO_MOUNT.
    """

    folder: Path
    size_bytes: int

    def __call__(self) -> None:
        try:
            mount_privately(self.folder, self.size_bytes)
        except NotMeasured:
            sys.exit(NO_MOUNT)


def mount_privately(folder: Path, size_bytes: int) -> None:
    """Give the calling thread, and all that it starts from now on, a namespace with a tmpfs at a folder.

    The tmpfs belongs to the folder's owner. Raises NotMeasured.
    """
    libc = _libc()
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder.stat()
    options = f"size={size_bytes},mode=700,uid={owner.st_uid},gid={owner.st_gid}"
    _check(libc.unshare(_CLONE_NEWNS))
    _check(libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None))
    _check(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), options.encode()))


def resize(pid: int, folder: Path, size_bytes: int) -> None:
    """Give the tmpfs that a process sees at a folder another size. Raises NotMeasured."""

    def enter_and_remount() -> None:
        libc = _libc()
        _check(libc.unshare(_CLONE_FS))  # a thread that shares its root folder may not change namespace
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        try:
            _check(libc.setns(namespace, _CLONE_NEWNS))
        finally:
            os.close(namespace)
        options = f"size={size_bytes}".encode()
        flags = ctypes.c_ulong(_MS_REMOUNT)
        _check(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options))

    in_thread(enter_and_remount)


def in_thread(function: Callable[[], T]) -> T:
    """Run in a thread that ends after it: the namespace that it enters is not ours."""
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(function).result()


def free_bytes(pid: int, folder: Path) -> int:
    """On the disk that a process sees at a folder. Raises OSError if it has ended."""
    found = os.statvfs(f"/proc/{pid}/root{folder}")
    return found.f_bavail * found.f_frsize


def _libc() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        raise NotMeasured("a small file system needs mount namespaces, which only Linux has")
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        why = os.strerror(ctypes.get_errno())
        raise NotMeasured(f"mounting a small file system is not allowed here: {why}")
