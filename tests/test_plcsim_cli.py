"""The `plcsim` command as a user meets it: help, one banner line, one line for each thing that is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_emulator import ALD_FILE, DEADLINE_S, Emulator
from waiting import wait_for

MODULE = [sys.executable, "-m", "plcsim"]
SCRIPT = [str(Path(sys.executable).parent / "plcsim")]


def plcsim(*arguments: str | Path, program: list[str] = MODULE) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that ends by itself."""
    command = [*program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("program", [MODULE, SCRIPT], ids=["module", "script"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_says_what_it_is_for_with_an_example(program: list[str], flag: str) -> None:
    code, out, err = plcsim(flag, program=program)
    assert (code, err) == (0, "")
    assert "Emulate a PLC over Modbus TCP" in out
    assert "Example: plcsim run configs/ald.yaml" in out


def test_the_help_of_run_names_its_options_and_defaults() -> None:
    code, out, _ = plcsim("run", "--help")
    assert code == 0
    for option in (
        "--host",
        "--port",
        "--start-scan",
        "--journal",
        "Example:",
        "[default: from the device file]",
    ):
        assert option in out


def test_run_says_in_one_line_what_it_serves(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator(ALD_FILE)
    assert re.fullmatch(
        r"ald-1: 84 parameters of 16 components at 127\.0\.0\.1:\d+, a new register image every 100 ms; "
        r"Ctrl-C stops\n",
        emulator.banner,
    )
    code, said, complaints = emulator.stop()
    assert (code, complaints) == (0, "")
    assert said == "" or re.fullmatch(r"\d+ PLC scans were skipped: .*\n", said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_a_signal_ends_it_with_exit_code_0(
    start_emulator: Callable[..., Emulator], flat_file: Path, number: signal.Signals, uvloop: bool
) -> None:
    emulator = start_emulator(flat_file, uvloop=uvloop)
    with emulator.connect() as client:
        assert client.ask(bytes.fromhex("03 0000 0001")) == bytes.fromhex("03 02 1234")
        assert emulator.stop(number) == (0, "", "")
        assert client.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        emulator.connect()


def test_a_port_can_be_used_again_at_once(start_emulator: Callable[..., Emulator], flat_file: Path) -> None:
    first = start_emulator(flat_file)
    with first.connect() as client:
        client.ask(bytes.fromhex("03 0000 0001"))
        first.stop()
    second = start_emulator(flat_file, "--port", str(first.port))
    assert second.port == first.port


def test_an_ipv6_address_is_shown_so_that_it_can_be_copied(
    start_emulator: Callable[..., Emulator], flat_file: Path
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    emulator = start_emulator(flat_file, "--host", "::1")
    assert f" at [::1]:{emulator.port}, " in emulator.banner


def test_a_port_in_use_is_one_line_and_exit_code_1(
    start_emulator: Callable[..., Emulator], flat_file: Path
) -> None:
    port = start_emulator(flat_file).port
    assert plcsim("run", flat_file, "--port", str(port)) == (
        1,
        "",
        f"plcsim: cannot listen at 127.0.0.1:{port}: the port is in use "
        "(choose another; port 0 takes a free one)\n",
    )


def test_a_host_that_is_not_this_machine_is_one_line_and_exit_code_1(flat_file: Path) -> None:
    code, out, err = plcsim("run", flat_file, "--host", "203.0.113.1", "--port", "0")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("plcsim: cannot listen at 203.0.113.1:0: ")


def test_a_privileged_port_is_one_line_that_says_so(flat_file: Path) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if lowest <= 1:
        pytest.skip("on this machine everybody may listen at every port")
    program = MODULE
    if os.geteuid() == 0:
        give_up = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
        if shutil.which("setpriv") is None or plcsim(program=[*give_up, "true"])[0]:
            pytest.skip("root may listen at every port, and setpriv cannot give that up here")
        program = [*give_up, *MODULE]
    code, out, err = plcsim("run", flat_file, "--port", "1", program=program)
    assert (code, out) == (1, "")
    assert err == (
        "plcsim: cannot listen at 127.0.0.1:1: no permission (ports below 1024 need rights; choose another)\n"
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        (ALD_FILE.read_text().replace("address: 12,", "adress: 12,"), "adress: is not a known key"),
        (ALD_FILE.read_text().replace("address: 12,", "address: 5,"), "overlaps controller.process_step"),
    ],
)
def test_a_bad_device_file_is_one_line_and_exit_code_2(
    tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "device.yaml"
    if content is not None:
        path.write_text(content)
    code, out, err = plcsim("run", path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"plcsim: {path}:")
    assert says in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "x.yaml", "--prot", "1"], "No such option"),
        (["run"], "Missing argument 'DEVICE_FILE'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    code, out, err = plcsim(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("plcsim: ")
    assert says in err


def test_the_journal_holds_what_clients_wrote(
    tmp_path: Path, start_emulator: Callable[..., Emulator], flat_file: Path
) -> None:
    journal = tmp_path / "writes"
    emulator = start_emulator(flat_file, "--journal", str(journal))
    with emulator.connect() as client:
        client.ask(bytes.fromhex("06 0007 8001"))
    line = wait_for(journal.read_text, what="the journal's line")
    assert json.loads(line)["parameters"][0]["value"] == 0x8001


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing/writes", "cannot be written: No such file or directory"),
        ("full", "holds the writes of an earlier run"),
    ],
)
def test_a_journal_that_cannot_be_is_one_line_and_exit_code_2(
    tmp_path: Path, flat_file: Path, name: str, says: str
) -> None:
    (tmp_path / "full").write_text('{"plc_scan": 1, "parameter_id": 2, "value": 3}\n')
    code, out, err = plcsim("run", flat_file, "--port", "0", "--journal", tmp_path / name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"plcsim: {tmp_path / name}: {says}")


def test_a_journal_that_can_no_longer_be_written_stops_the_emulator(
    start_emulator: Callable[..., Emulator], flat_file: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    emulator = start_emulator(flat_file, "--journal", "/dev/full")
    with emulator.connect() as client:
        assert client.ask(bytes.fromhex("03 0000 0001"))[0] == 3  # reading is not hindered
        client.send(2 * bytes.fromhex("0001 0000 0006 01 06 0007 8001"))
        refused = bytes.fromhex("0001 0000 0003 01 86 04")
        assert client.rest() == 2 * refused  # not written, and not said to be
        assert emulator.process.wait(DEADLINE_S) == 1
    said, complaints = emulator.process.communicate(timeout=DEADLINE_S)
    assert said == ""
    assert complaints == "plcsim: /dev/full: cannot be written: No space left on device; stopped\n"
