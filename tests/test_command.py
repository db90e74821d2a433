"""What the commands share: durations, HOST:PORT, and one line and an exit code for each error."""

from __future__ import annotations

import sys
from typing import Any

import click
import pytest

from plcsim.command import HostPort, Seconds, run_command
from plcsim.errors import ConfigError, InputError, ListenError, PlcsimError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("30s", 30.0),
        ("250ms", 0.25),
        ("10m", 600.0),
        ("10min", 600.0),
        ("2h", 7200.0),
        ("1.5 h", 5400.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        (5, 5.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_a_number_with_or_without_a_unit(text: Any, seconds: float) -> None:
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "1e3", "1,5", "1 d", "1h30m", "nan", "inf", "30 sec", "1..2", "0x10"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a duration such as 30, 30s, 250ms or 10m"):
        Seconds().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.0.10:502", ("192.168.0.10", 502)),
        ("plc-7.example.org:1", ("plc-7.example.org", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:5020", ("::1", 5020)),
        ("::1:5020", ("::1", 5020)),
        (("already", 7), ("already", 7)),
    ],
)
def test_host_and_port_are_told_apart(text: Any, expected: tuple[str, int]) -> None:
    assert HostPort().convert(text, None, None) == expected


@pytest.mark.parametrize(
    "text",
    ["", "plc", ":502", "[]:502", "plc:", "plc:0", "plc:65536", "plc:123456", "plc:-1", "plc:5o2", "plc:²",
     "plc:٥", "[::1:5020", "plc:502:"],
)  # fmt: skip
def test_what_is_no_host_and_port_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not HOST:PORT, such as 192\.168\.0\.10:502"):
        HostPort().convert(text, None, None)


def ended(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException | None,
    *args: str,
) -> tuple[Any, str, str]:
    """Exit code, stdout and stderr of a program whose command returns 0, or raises the error."""

    @click.group()
    def program() -> None:
        """Do a thing."""

    @program.command()
    @click.option("--port", type=click.IntRange(0, 65535))
    def work(port: int | None) -> int:
        if error:
            raise error
        return 3 if port == 3 else 0

    monkeypatch.setattr(sys, "argv", ["prog", *args])
    with pytest.raises(SystemExit) as caught:
        run_command("prog", program)
    said = capsys.readouterr()
    return caught.value.code, said.out, said.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (PlcsimError("the disk is full"), 1, "the disk is full"),
        (ListenError("cannot listen"), 1, "cannot listen"),
        (InputError("no such thing"), 2, "no such thing"),
        (ConfigError("bad", source="a.yaml", line=7, key="x"), 2, "a.yaml:7: x: bad"),
        (PlcsimError("over\nseveral\n  lines"), 1, "over several lines"),
        (click.ClickException("click's own"), 1, "click's own"),
        (KeyboardInterrupt(), 130, "stopped"),
        (click.Abort(), 130, "stopped"),
    ],
    ids=repr,
)
def test_an_error_is_one_line_on_stderr_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    ending = ended(monkeypatch, capsys, error, "work")
    assert ending[:2] == (code, "")
    assert ending[2].lstrip("\n") == f"prog: {line}\n"  # click leaves the line of the ^C first


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["work", "--prot", "1"], "No such option"),
        (["work", "--port", "x"], "'x' is not a valid integer"),
        (["work", "--port", "65536"], "65536 is not in the range"),
        (["play"], "No such command 'play'"),
        (["work", "more"], "unexpected extra argument (more)"),
    ],
)
def test_a_usage_error_is_one_line_that_names_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, out, err = ended(monkeypatch, capsys, None, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert "--help)" in err


def test_what_a_command_returns_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, capsys, None, "work") == (0, "", "")
    assert ended(monkeypatch, capsys, None, "work", "--port", "3") == (3, "", "")


def test_an_error_that_is_ours_to_mend_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        ended(monkeypatch, capsys, ZeroDivisionError(), "work")


def test_without_arguments_the_help_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(monkeypatch, capsys, None)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: prog [OPTIONS] COMMAND")
