"""Dealing a logger's spool anew to other workers: nothing is lost, wherever it is killed."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fix_scans import MAP
from fix_spool import content_of, scan_of, take_all

from logger.deal import dealt
from logger.scan import StreamKey
from logger.settings import Settings
from logger.spool import Spool
from logger.spool_folder import taken
from plcsim.device_file import parse_device
from plcsim.errors import InputError, PlcsimError

DEVICES = tuple(
    parse_device({"device": {"device_id": f"oven-{n}"}, "modbus": {"port": 5000 + n}, **MAP})
    for n in range(1, 5)
)
KEYS = [StreamKey(config.device.device_id) for config in DEVICES]
KILLED = 9
Kept = dict[StreamKey, list[object]]
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
"""What changes a folder, as Python's audit hooks name it."""


def settings_in(folder: Path) -> Settings:
    folder.mkdir(exist_ok=True)
    return Settings(DEVICES, "", folder, target="a database")


def in_a_process(work: Callable[[], None]) -> int:
    """Do it in a process of its own, which nothing tidies up; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as exc:  # noqa: BLE001 - the exit code tells
            with suppress(OSError):
                sys.stderr.write(f"{exc!r}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fill(parts: list[Settings], clean: bool = True) -> None:
    """Each device gets two scans more that nobody stores; unless `clean`, the logger is killed then."""

    def log() -> None:
        for part in parts:
            spool = Spool(part.spool, target=part.target, writer=part.writer)
            spool.open()
            for config in part.devices:
                key = StreamKey(config.device.device_id)
                first = spool.next_number(key)
                for number in (first, first + 1):
                    spool.put(key, scan_of(number))
            spool.flush(10)
            if clean:
                spool.close()

    assert in_a_process(log) == 0


def kept_in(parts: list[Settings]) -> tuple[Kept, list[bool]]:
    """What waits in the spools of all workers, and of each whether it was closed in order."""
    kept: Kept = {}
    clean = []
    for part in parts:
        spool = Spool(part.spool, target=part.target, writer=part.writer)
        spool.open()
        clean.append(spool.clean)
        for key, item, _ in take_all(spool):
            kept.setdefault(key, []).append(content_of(item))
        spool.close()
    return kept, clean


def expected(scans: int, keys: Sequence[StreamKey] = KEYS) -> Kept:
    return {key: [content_of(scan_of(n)) for n in range(1, scans + 1)] for key in keys}


def test_what_waits_goes_where_its_device_is_logged(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "spool")
    for round_, workers in enumerate((1, 3, 2, 1), 1):
        parts = dealt(settings, workers)
        assert [part.worker for part in parts] == ([0] if workers == 1 else [*range(1, workers + 1)])
        fill(parts)
        assert kept_in(parts)[0] == expected(2 * round_)


def test_device_that_comes_back_finds_what_waits_of_it(tmp_path: Path) -> None:
    """It was not logged while the others were dealt anew."""
    settings = settings_in(tmp_path / "spool")
    one, two, _, four = DEVICES
    fill(dealt(replace(settings, devices=(one, four)), 2))
    dealt(replace(settings, devices=(two, one)), 2)
    parts = dealt(replace(settings, devices=(two, four)), 2)
    kept, _ = kept_in(parts[1:])
    assert kept[KEYS[3]] == expected(2)[KEYS[3]]


def test_spool_of_a_worker_that_there_is_no_more_is_not_forgotten(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "spool")
    fill(dealt(replace(settings, devices=DEVICES[:3]), 3))
    kept, _ = kept_in(dealt(replace(settings, devices=DEVICES[:2]), 3))
    assert kept == expected(2, KEYS[:3])


@pytest.mark.parametrize("clean", [True, False])
def test_who_was_killed_is_known_after_dealing_anew(tmp_path: Path, clean: bool) -> None:
    """The scan that was in hand is a gap of the next run; of a run that ended in order there was none."""
    settings = settings_in(tmp_path / "spool")
    first, second = dealt(settings, 2)
    fill([first])
    fill([second], clean=clean)
    assert kept_in(dealt(settings, 1)) == (expected(2), [clean])


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_killed_at_any_step_of_dealing_nothing_is_lost(tmp_path: Path, before: int, after: int) -> None:
    """At what it renames, makes or removes; then the next start finishes, or begins anew.

    The control is that the kills land before and after the moment when the new deal becomes valid.
    """
    settings = replace(settings_in(tmp_path / "spool"), devices=DEVICES[:2])
    fill(dealt(settings, before), clean=False)
    shutil.copytree(settings.spool, tmp_path / "filled")
    landed = {"before": 0, "after": 0}
    for step in range(1, 1000):
        code = in_a_process(lambda step=step: killed_at(step, settings, after))
        if code == 0:
            break
        assert code == KILLED
        landed["after" if (settings.spool / "deal.ready").exists() else "before"] += 1
        kept, clean = kept_in(dealt(settings, after))
        assert kept == expected(2, KEYS[:2])
        assert not any(clean), "the run before was killed"
        shutil.rmtree(settings.spool)
        shutil.copytree(tmp_path / "filled", settings.spool)
    assert min(landed.values()) >= 5, landed


def killed_at(step: int, settings: Settings, workers: int) -> None:
    """Deal to so many workers, and end at once before the step."""
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in _CHANGES and f"{settings.spool}/deal.new/" not in str(arguments[0]):
            count += 1
            if count == step:
                os._exit(KILLED)

    sys.addaudithook(watch)
    dealt(settings, workers)


def test_folder_with_somebody_elses_files_is_refused_and_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(InputError, match=r"holds what is not of a plclogger \(letter.txt\)"), taken(tmp_path):
        pass
    (tmp_path / "letter.txt").rename(tmp_path / ".letter")
    with taken(tmp_path):
        fill(dealt(settings_in(tmp_path), 1))
        (tmp_path / "letter.txt").write_text("came later")
        dealt(settings_in(tmp_path), 2)
    assert (tmp_path / "letter.txt").read_text() == "came later"
    assert not list(tmp_path.glob("segment-*")), "the spool has moved"


def test_full_disk_is_one_line_and_passes(tmp_path: Path) -> None:
    """Nothing can be written: an error that a service is started again after; then all is still there."""
    settings = settings_in(tmp_path / "spool")
    fill(dealt(settings, 2))

    def without_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        with taken(settings.spool), pytest.raises(PlcsimError) as refused:
            dealt(settings, 3)
        assert refused.value.exit_code == 1
        assert f"--spool {settings.spool}: cannot be used: File too large" in str(refused.value)

    assert in_a_process(without_space) == 0
    assert kept_in(dealt(settings, 3))[0] == expected(2)
