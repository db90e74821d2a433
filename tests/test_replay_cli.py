"""`plcbench replay` as a user meets it: options that do not fit are refused, and nothing is overwritten."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli import main
from bench.replay.csv_file import read_csv
from bench.replay.run import _save
from plcsim.errors import PlcsimError

Replay = Callable[..., tuple[int, str, str]]
URL = "postgresql://me:secret@127.0.0.1:1/x"


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Replay:
    """Runs the command in a folder with a recording of 30 scans: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLCSIM_DATABASE", raising=False)
    rows = "".join(f"{n},{n * 2}\n" for n in range(30))
    (tmp_path / "day.csv").write_text("time,a.x\n" + rows, encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plcbench", "replay", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["day.csv", "--device", "ald-1"], "--device is for the history of a database; SOURCE is a CSV file"),
        (["day.csv", "--from", "2026-01-31"], "--from is for the history of a database"),
        ([URL, "--time-column", "at"], "--time-column is for a CSV file; SOURCE is a database"),
        ([URL, "--process-column", "n"], "--process-column is for a CSV file"),
        (["day.csv", "--only-a", "--b", "baseline"], "--b and --only-a exclude each other"),
        (["day.csv", "--json", "day.csv"], "day.csv: the file that stands there is no result of plcbench"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_what_would_be_ignored_or_overwritten_is_refused(
    replay: Replay, tmp_path: Path, arguments: list[str], said: str
) -> None:
    before = (tmp_path / "day.csv").read_text()
    code, out, err = replay(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert "secret" not in err
    assert (tmp_path / "day.csv").read_text() == before


def test_a_recording_that_does_not_fit_on_the_disk_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,a.x\n0,1\n", encoding="utf-8")
    with pytest.raises(PlcsimError, match=r"cannot be written to .*: No such file or directory"):
        _save(read_csv(tmp_path / "a.csv"), tmp_path / "nowhere")


def test_a_recording_that_is_too_short_is_refused_before_a_plan_is_told(replay: Replay) -> None:
    code, out, err = replay("day.csv", "--for", "5")
    assert (code, out) == (2, "reading day.csv first\n")
    assert err == "plcbench: day.csv: 5 scans are too few, 20 are needed\n"
