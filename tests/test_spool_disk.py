"""The fake disk does what the real one does, and keeps at a power cut what was synced."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from fake_disk import FakeDisk, PowerCut

from logger.spool.disk import Disk, OsDisk, read_what_can_be, replace_file


@pytest.fixture(params=["real", "fake"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return OsDisk() if request.param == "real" else FakeDisk()


@pytest.fixture
def folder(tmp_path: Path, disk: Disk) -> Path:
    folder = tmp_path / "a" / "b"
    disk.make_folder(folder)
    disk.make_folder(folder)
    return folder


def write(disk: Disk, path: Path, *parts: bytes) -> None:
    file = disk.create(path)
    for part in parts:
        disk.append(file, part)
    disk.sync(file)
    disk.close(file)


def test_files_are_made_appended_to_and_read(disk: Disk, folder: Path) -> None:
    write(disk, folder / "x", b"one", b"two")
    assert disk.names(folder) == ["x"]
    assert disk.size(folder / "x") == 6
    assert disk.read(folder / "x", 2, 3) == b"etw"
    assert disk.read(folder / "x", 4, 99) == b"wo"
    assert disk.read(folder / "x", 9, 9) == b""
    disk.sync_path(folder / "x")
    disk.sync_folder(folder)


def test_a_file_is_cut_off_and_appended_to_again(disk: Disk, folder: Path) -> None:
    file = disk.create(folder / "x")
    disk.append(file, b"12345")
    disk.truncate(file, 2)
    disk.append(file, b"ab")
    disk.close(file)
    assert disk.read(folder / "x", 0, 9) == b"12ab"


def test_a_file_takes_the_name_of_another(disk: Disk, folder: Path) -> None:
    write(disk, folder / "x", b"old")
    replace_file(disk, folder / "x", b"new")
    replace_file(disk, folder / "x", b"newer")
    assert (disk.names(folder), disk.read(folder / "x", 0, 9)) == (["x"], b"newer")


def test_a_file_that_is_there_is_not_made_again(disk: Disk, folder: Path) -> None:
    write(disk, folder / "x")
    with pytest.raises(FileExistsError):
        disk.create(folder / "x")


def test_what_is_not_there_says_so(disk: Disk, folder: Path) -> None:
    for call in (disk.size, disk.remove, disk.sync_path):
        with pytest.raises(FileNotFoundError):
            call(folder / "x")
    with pytest.raises(FileNotFoundError):
        disk.read(folder / "x", 0, 1)
    with pytest.raises(FileNotFoundError):
        disk.rename(folder / "x", folder / "y")
    write(disk, folder / "x")
    disk.remove(folder / "x")
    assert disk.names(folder) == []


def test_a_lock_is_held_once(disk: Disk, folder: Path) -> None:
    unlock = disk.lock(folder / "lock")
    with pytest.raises(BlockingIOError) as caught:
        disk.lock(folder / "lock")
    assert caught.value.filename2.isdigit()
    unlock()
    disk.lock(folder / "lock")()


def cut_off(honest: bool) -> tuple[set[bytes], set[bool]]:
    """What may be in a file after a power cut, and whether it may be gone."""
    disk = FakeDisk(honest)
    path = Path("/f/x")
    file = disk.create(path)
    disk.append(file, b"ab")
    disk.sync(file)
    disk.sync_folder(path.parent)
    disk.append(file, b"cd")
    disk.append(file, b"ef")
    after = [disk.after_cut(seed) for seed in range(300)]
    return {bytes(one.content(path)) for one in after if one.paths()}, {not one.paths() for one in after}


def test_a_power_cut_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    contents, is_gone = cut_off(honest=True)
    assert is_gone == {False}
    assert all(content.startswith(b"ab") for content in contents)
    assert {b"ab", b"abcdef", b"abcd", b"ab\0\0ef"} <= contents


def test_a_disk_that_lies_may_lose_everything() -> None:
    contents, is_gone = cut_off(honest=False)
    assert is_gone == {True, False}
    assert b"" in contents


def test_the_power_cut_comes_before_the_call_it_is_told() -> None:
    disk = FakeDisk()
    disk.cut_at = 3
    file = disk.create(Path("/f/x"))
    disk.append(file, b"ab")
    for _ in range(2):
        with pytest.raises(PowerCut):
            disk.append(file, b"cd")
    assert disk.content(Path("/f/x")) == b"ab"


def test_pages_that_cannot_be_read_are_zeros() -> None:
    disk, path = FakeDisk(), Path("/f/x")
    write(disk, path, b"a" * 4096 + b"b" * 4096 + b"c" * 10)
    reads = 0

    def fail(call: str, where: Path) -> int:
        nonlocal reads
        reads += call == "read"
        return errno.EIO if call == "read" and reads in (1, 3) else 0

    disk.fail = fail
    assert read_what_can_be(disk, path, 0, 8202) == b"a" * 4096 + bytes(4096) + b"c" * 10
    assert disk.landed == 2
