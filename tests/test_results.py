"""Result files: whole or not at all, refused before measuring where they cannot be written."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fix_postgres import reachable_folder
from waiting import wait_for

from bench.results import command_line, result_path, sayable, write_result
from plcsim.errors import InputError


def test_a_result_is_json_with_its_format_and_kind_first(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, "quick", {"outcome": "PASS", "slots": [1, 2.5, None, "α"]})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {
        "format": "plcbench-result",
        "version": 1,
        "kind": "quick",
        "outcome": "PASS",
        "slots": [1, 2.5, None, "α"],
    }
    assert list(json.loads(text))[:3] == ["format", "version", "kind"]
    assert text.endswith("}\n")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_what_is_no_number_is_written_as_null(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, "quick", {"mean": math.nan, "inside": {"list": [math.inf, (1.0, -math.inf)]}})
    content = json.loads(path.read_text())
    assert (content["mean"], content["inside"]) == (None, {"list": [None, [1.0, None]]})


def test_a_chosen_file_is_replaced_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, "suite", {"old": "x" * 100_000})
    old = path.read_text()
    assert result_path("quick", path) == path
    assert path.read_text() == old  # until there is a result
    write_result(path, "quick", {})
    assert json.loads(path.read_text())["kind"] == "quick"


@pytest.mark.parametrize(
    "text",
    ["time,a.x\n0,1\n", "interval_s: 1.0\n", '{"format": "another"}', '[{"format": "plcbench-result"}]'],
)
def test_what_is_no_result_is_never_written_over(tmp_path: Path, text: str) -> None:
    """A recording or a plan that was named twice by mistake."""
    path = tmp_path / "day.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"day\.csv: the file that stands there is no result of plcbench"):
        result_path("replay", path)
    assert path.read_text() == text


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert result_path("quick", tmp_path / "pipe") == tmp_path / "pipe"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["quick", "--seed", "2"], ["quick", "--seed", "2"]),
        (
            ["sweep", "p.yaml", "--database", "postgresql://me:secret@h/d"],
            ["sweep", "p.yaml", "--database", "…"],
        ),
        (["suite", "--database=postgresql://me:secret@h/d"], ["suite", "--database=…"]),
        (["suite", "--database", "host=h password=secret"], ["suite", "--database", "…"]),
        (["replay", "postgres://me:secret@h/d", "--only-a"], ["replay", "postgresql://…", "--only-a"]),
    ],
    ids=lambda value: value[0],
)
def test_a_password_does_not_get_into_a_result(
    monkeypatch: pytest.MonkeyPatch, given: list[str], kept: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["plcbench", *given])
    assert command_line() == kept


def test_a_reader_never_sees_half_a_result(tmp_path: Path) -> None:
    path, stop = tmp_path / "result.json", threading.Event()
    write_result(path, "sweep", {"cells": []})
    seen = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(len(json.loads(path.read_text())["cells"]))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for cells in range(30):
            write_result(path, "sweep", {"cells": ["x" * 10_000] * cells})
        wait_for(lambda: 29 in seen)
    finally:
        stop.set()
        reader.join()


def test_what_cannot_be_written_leaves_the_old_result(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, "quick", {"old": True})
    with pytest.raises(TypeError):
        write_result(path, "quick", {"new": object()})
    assert json.loads(path.read_text())["old"] is True
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_full_disk_is_one_error_and_leaves_the_old_result(tmp_path: Path) -> None:
    """On a real full disk: a result larger than the largest file that the process may write."""
    path = tmp_path / "result.json"
    write_result(path, "quick", {"old": True})
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from bench.results import write_result\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    write_result(Path(sys.argv[1]), 'quick', {'new': 'x' * 100_000})\n"
        "except Exception as exc:\n"
        "    print(type(exc).__name__, exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"PlcsimError the result cannot be written to {path}: File too large\n"
    assert json.loads(path.read_text())["old"] is True
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_only_what_json_has_is_sayable() -> None:
    assert (
        json.dumps(sayable({"a": math.nan, "b": [math.inf, 1.5]}), allow_nan=False)
        == '{"a": null, "b": [null, 1.5]}'
    )


def test_a_new_result_gets_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = result_path("sweep", None)
    assert re.fullmatch(r"plcbench-results/sweep-\d{8}T\d{6}-\d+\.json", str(path))
    assert not path.exists()
    write_result(path, "sweep", {})
    assert path.exists()


def test_folders_of_a_chosen_file_are_made(tmp_path: Path) -> None:
    path = result_path("quick", tmp_path / "a" / "b" / "result.json")
    write_result(path, "quick", {})
    assert path.exists()


def test_asking_leaves_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    (tmp_path / "empty.json").touch()
    result_path("quick", tmp_path / "empty.json")
    result_path("quick", tmp_path / "new.json")
    assert [p.name for p in tmp_path.iterdir()] == ["empty.json"]


@pytest.mark.parametrize(
    "place", ["{file}/result.json", "{file}/below/result.json", "{folder}", "/proc/nothing/here.json"]
)
def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    chosen = Path(place.format(file=tmp_path / "file", folder=tmp_path))
    with pytest.raises(InputError, match=r"^the result cannot be written to .*: \S.*$") as refused:
        result_path("quick", chosen)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("target", ["ours/new.json", "ours/old.json", "ours"])
def test_a_folder_of_somebody_else_is_refused(target: str) -> None:
    folder = reachable_folder()
    ours = folder / "ours"
    ours.mkdir(mode=0o755)
    (ours / "old.json").touch()
    (ours / "old.json").chmod(0o666)  # the file could be written, but not replaced
    os.seteuid(65534)
    try:
        with pytest.raises(InputError, match="the result cannot be written"):
            result_path("quick", folder / target)
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


def test_a_device_is_written_to_and_stays_what_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_result(pipe, "quick", {"outcome": "PASS"})
    reader.join(10)
    assert json.loads(got[0])["outcome"] == "PASS"
    assert pipe.is_fifo()


def test_the_null_device_survives() -> None:
    null = Path("/dev/null")
    write_result(result_path("quick", null), "quick", {})
    assert null.is_char_device()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "there" / "result.json")
    write_result(result_path("quick", link), "quick", {})
    assert link.is_symlink()
    assert json.loads((tmp_path / "there" / "result.json").read_text())["kind"] == "quick"
