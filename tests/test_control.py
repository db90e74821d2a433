"""The control socket: who may use it, what it answers, which emulator is meant, and faults that land."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from fix_emulator import ALD_FILE, DEADLINE_S, Emulator, emulating
from test_fleet import fleet_file

from plcsim.control import lateness
from plcsim.control.socket import ask, find_running, running, runtime_folder
from plcsim.control.status import Lateness, Meter, PlantStatus, ProcessStatus, late
from plcsim.errors import InputError, PlcsimError
from plcsim.testing import RunningFleet

READ_SCAN = bytes.fromhex("04 0000 0002")
NOBODY = 65534


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of this test alone; its path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="plcsim-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder) / "plcsim"


def plcsim(*arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "plcsim", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def scan(emulator: Emulator) -> bytes:
    with emulator.connect() as client:
        return client.ask(READ_SCAN)[:1]


def test_socket_and_folder_are_for_their_user_only_and_go_with_the_emulator(private: Path) -> None:
    with emulating(ALD_FILE):
        (path,) = private.iterdir()
        assert private.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        assert re.fullmatch(r"ald-1-\d+\.sock", path.name)
    assert list(private.iterdir()) == []


def test_a_folder_that_others_can_enter_is_not_used(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(private.parent))
    private.mkdir(mode=0o755)
    assert runtime_folder() == private.parent / f"plcsim-{os.getuid()}"
    runtime_folder().chmod(0o750)
    with pytest.raises(PlcsimError, match="is not a folder that only you can enter"):
        runtime_folder()


@pytest.mark.parametrize("made_by", ["another user", "a symlink", "a symlink to nothing"])
def test_a_folder_that_somebody_else_made_first_is_not_used(
    private: Path, monkeypatch: pytest.MonkeyPatch, made_by: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(private.parent))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    folder, elsewhere = private.parent / f"plcsim-{os.getuid()}", private.parent / "elsewhere"
    if made_by == "another user":
        if os.getuid() != 0:
            pytest.skip("only root can be somebody else")
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
    else:
        if made_by == "a symlink":
            elsewhere.mkdir(mode=0o700)
        folder.symlink_to(elsewhere)
    with pytest.raises(PlcsimError, match="is not a folder that only you can enter"):
        runtime_folder()


def test_without_a_folder_the_emulator_runs_and_says_so(private: Path, flat_file: Path) -> None:
    private.mkdir(mode=0o755)
    fallback = private.parent / f"plcsim-{os.getuid()}"
    fallback.touch()
    environment = {**os.environ, "TMPDIR": str(private.parent)}
    command = [sys.executable, "-m", "plcsim", "run", str(flat_file), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        emulator = Emulator(process)
        assert emulator.port
        code, _, complaints = emulator.stop()
    assert code == 0
    assert re.fullmatch(r"plcsim: WARNING: no control socket: .*\n", complaints)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_gets_no_answer_even_where_the_modes_would_let_him_in(private: Path) -> None:
    program = (
        f"import os, socket, sys; os.setgid({NOBODY}); os.setuid({NOBODY});"
        "s = socket.socket(socket.AF_UNIX);"
        's.connect(sys.argv[1]); s.sendall(b\'{"op": "status"}\\n\'); print(len(s.recv(100000)))'
    )
    with emulating(ALD_FILE):
        (path,) = private.iterdir()
        private.chmod(0o755)
        private.parent.chmod(0o755)
        path.chmod(0o666)
        command = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert (done.stdout, done.stderr) in (("0\n", ""), ("", done.stderr))
        assert done.stdout == "0\n" or "ConnectionResetError" in done.stderr or "BrokenPipe" in done.stderr
        assert ask(path, {"op": "status"})["status"]["kind"] == "emulator"


def test_a_socket_that_a_killed_emulator_left_is_replaced(private: Path, tmp_path: Path) -> None:
    path = private.parent / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.is_socket()
    with emulating(ALD_FILE, "--control", str(path)):
        assert ask(path, {"op": "status"})["status"]["control"] == str(path)
    assert not path.exists()


def test_sockets_of_killed_emulators_are_taken_away_and_those_of_running_ones_are_not(private: Path) -> None:
    with emulating(ALD_FILE):
        (alive,) = running()
        command = [sys.executable, "-m", "plcsim", "run", str(ALD_FILE), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            process.stdout.readline()
            assert len(running()) == 2
            process.kill()
        assert len(list(private.iterdir())) == 2
        assert running() == [alive]
        assert list(private.iterdir()) == [alive]


def test_an_emulator_that_starts_takes_away_what_a_killed_one_left(private: Path) -> None:
    private.mkdir(mode=0o700)
    left = private / "gone-999999999.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    with emulating(ALD_FILE):
        assert not left.exists()
        assert len(running()) == 1


def test_a_socket_that_somebody_listens_at_is_not_taken(private: Path, flat_file: Path) -> None:
    path = private.parent / "control.sock"
    with emulating(ALD_FILE, "--control", str(path)):
        code, out, err = plcsim("run", flat_file, "--port", "0", "--control", path)
        assert (code, out) == (1, "")
        assert err == f"plcsim: {path}: no control socket can be made: another emulator listens there\n"
        assert ask(path, {"op": "status"})["status"]["name"] == "ald-1"


def test_a_socket_whose_emulator_is_too_busy_to_accept_is_one_of_a_running_emulator(private: Path) -> None:
    private.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(str(private / "busy-1.sock"))
        busy.listen(0)
        with suppress(BlockingIOError):
            while True:
                client = waiting.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(private / "busy-1.sock"))
        assert running() == [private / "busy-1.sock"]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400\n", b"[]\n", b"{}\n", b"7\n", b'{"ok": tr'])
def test_what_is_no_emulator_is_told_in_one_line(private: Path, answer: bytes) -> None:
    path = private.parent / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(PlcsimError, match="what answers here is no emulator, or ended in the middle"):
            ask(path, {"op": "status"})
        thread.join()


def test_a_path_that_is_too_long_for_a_socket_is_one_line(private: Path, flat_file: Path) -> None:
    code, _, err = plcsim("run", flat_file, "--port", "0", "--control", private.parent / ("x" * 200))
    assert (code, err.count("\n")) == (1, 1)
    assert "no control socket can be made: " in err


def test_the_only_emulator_is_found_and_of_several_one_must_be_named(private: Path, flat_file: Path) -> None:
    with pytest.raises(InputError, match="no emulator runs here"):
        find_running(None)
    with emulating(ALD_FILE):
        first = find_running(None)
        with emulating(flat_file):
            assert len(running()) == 2
            with pytest.raises(InputError) as caught:
                find_running(None)
            assert all(str(path) in str(caught.value) for path in running())
            assert find_running(first) == first
    code, out, err = plcsim("status")
    assert (code, out) == (2, "")
    assert err.startswith("plcsim: no emulator runs here")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"nonsense", "a request is one JSON object in one line"),
        (b"[1]", "a request is a JSON object"),
        (b"[" * 100_000, "a request is one JSON object in one line"),
        (b'{"op": "explode"}', "request: op: 'explode' is not one of 'status', 'devices', 'fault'"),
        (b"{}", "request: op: is missing"),
        (b'{"op": "fault", "device": "x"}', "'x' is no device here; there are ald-1 (or all, or a pattern)"),
        (
            b'{"op": "fault", "do": "add", "rule": {"kind": "delay"}}',
            "fault: seconds: is missing",
        ),
        (
            b'{"op": "fault", "do": "remove", "name": "x"}',
            "'x' is the name of no fault there; `list` shows them",
        ),
    ],
)
def test_a_bad_request_gets_one_line_and_the_next_is_answered(private: Path, line: bytes, error: str) -> None:
    with emulating(ALD_FILE), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_S)
        client.connect(str(find_running(None)))
        with client.makefile("rb") as replies:
            client.sendall(line + b"\n")
            reply = json.loads(replies.readline())
            assert (reply["ok"], reply["error"]) == (False, error)
            client.sendall(b'{"op": "devices"}\n')
            assert json.loads(replies.readline())["ok"]


def test_status_of_an_emulator_in_words_and_as_json(private: Path) -> None:
    with emulating(ALD_FILE) as emulator:
        scan(emulator)
        code, out, err = plcsim("status")
        assert (code, err) == (0, "")
        assert re.match(r"emulator ald-1 \(process \d+\), control socket /", out)
        for name in ("requests/s", "faults in force", "PLC scans late", "memory"):
            assert name in out
        code, out, err = plcsim("status", "--json")
        status = json.loads(out)
        assert (code, err, status["devices"], status["pid"]) == (0, "", 1, emulator.process.pid)


def test_a_fault_that_is_added_lands_until_it_is_removed(private: Path) -> None:
    with emulating(ALD_FILE) as emulator:
        assert scan(emulator) == b"\x04"
        added = plcsim("fault", "ald-1", "add", "exception", "--code", "6", "--function", "4")
        assert added == (0, "ald-1: exception-1 added\n", "")
        with emulator.connect() as client:
            assert client.ask(READ_SCAN) == bytes.fromhex("84 06")
            assert client.ask(bytes.fromhex("03 006e 0002"))[0] == 3
        code, out, _ = plcsim("fault", "ald-1", "list", "--json")
        (fault,) = json.loads(out)["faults"]
        assert (code, fault["name"], fault["landed"], fault["in_force"]) == (0, "exception-1", 1, True)
        code, out, _ = plcsim("fault", "all", "list")
        assert out.startswith("ald-1: exception-1: in force, fitted 1, fired 1, landed 1: {")
        assert plcsim("fault", "ald-1", "remove", "exception-1") == (0, "ald-1: exception-1 removed\n", "")
        assert scan(emulator) == b"\x04"
        assert plcsim("fault", "ald-1", "list") == (0, "no faults on 1 devices\n", "")


def test_the_status_behind_a_change_of_faults_tells_of_it(private: Path) -> None:
    """Each time, although most of what a status says is made once a second."""
    busy = {"kind": "busy", "name": "b", "functions": [4]}
    with emulating(ALD_FILE) as emulator:
        control = find_running(None)
        for _ in range(20):
            ask(control, {"op": "fault", "do": "add", "rule": busy})
            landed = ask(control, {"op": "status"})["status"]["faults_landed"]
            scan(emulator)
            status = ask(control, {"op": "status"})["status"]
            assert (status["faults"], status["faults_in_force"]) == (1, 1)
            assert status["faults_landed"] == landed + 1
            ask(control, {"op": "fault", "do": "clear"})
            assert ask(control, {"op": "status"})["status"]["faults"] == 0


def test_no_part_of_the_plc_scans_is_later_than_the_latest() -> None:
    """Percentiles are those of buckets, up to 9 % too high; the latest is what it was."""
    counts = lateness.counted(lateness.NOTHING, [0.00103] * 200)
    plant = PlantStatus(devices=1, lateness=counts, lateness_max_s=0.00103)
    status = Meter("fleet", "plant", None).look([ProcessStatus(1, 7, True, 0, plant)])
    assert status.lateness == status.lateness_last == Lateness(1.03, 1.03)
    assert status.workers[0]["lateness_p99_ms"] == 1.03
    assert late(status.lateness) == "p99 1.03 ms max 1.03 ms"


def test_faults_that_land_are_in_the_journal_and_the_others_are_not(private: Path, tmp_path: Path) -> None:
    journal = tmp_path / "faults.jsonl"
    with emulating(ALD_FILE, "--fault-journal", str(journal)) as emulator:
        control = find_running(None)
        for keys in ({"kind": "busy", "functions": [4]}, {"kind": "busy", "functions": [2], "name": "never"}):
            ask(control, {"op": "fault", "do": "add", "rule": keys})
        scan(emulator)
    (event,) = map(json.loads, journal.read_text().splitlines())
    assert (event["device"], event["fault"], event["function_code"]) == ("ald-1", "busy-1", 4)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RunningFleet]:
    with RunningFleet(fleet_file(tmp_path)) as running_fleet:
        yield running_fleet


def first_bytes(fleet: RunningFleet) -> list[int]:
    found = []
    for device in fleet.devices:
        with socket.create_connection((device.host, device.port), timeout=DEADLINE_S) as client:
            client.sendall(bytes.fromhex("0001 0000 0006 01") + READ_SCAN)
            found.append(client.recv(300)[7])
    return found


def test_faults_of_a_fleet_reach_the_devices_that_are_meant_in_all_its_processes(fleet: RunningFleet) -> None:
    fleet.fault("ald-00[12]", kind="busy")
    assert first_bytes(fleet) == [0x84, 0x84, 4, 4, 4, 4]
    fleet.fault("ald-006", kind="exception", code=2)
    assert first_bytes(fleet) == [0x84, 0x84, 4, 4, 4, 0x84]
    assert [(f["device"], f["landed"]) for f in fleet.faults()] == [
        ("ald-001", 2),
        ("ald-002", 2),
        ("ald-006", 1),
    ]
    fleet.clear_faults()
    assert first_bytes(fleet) == [4] * 6
    assert fleet.faults() == []


def test_the_status_of_a_fleet_tells_of_a_fault_as_soon_as_it_is_there(fleet: RunningFleet) -> None:
    for number in range(1, 11):
        fleet.fault("ald-00[1-4]", kind="busy", name=f"busy {number}")
        assert (fleet.status().faults, fleet.status().faults_in_force) == (4 * number, 4 * number)
    fleet.clear_faults()
    assert (fleet.status().faults, fleet.status().faults_in_force) == (0, 0)


def test_a_name_that_one_device_has_already_is_refused_and_no_device_gets_the_fault(
    fleet: RunningFleet,
) -> None:
    fleet.fault("ald-002", kind="busy", name="mine")
    with pytest.raises(InputError, match="fault 'mine': ald-002 has one of this name already"):
        fleet.fault("all", kind="exception", code=2, name="mine")
    assert [fault["device"] for fault in fleet.faults()] == ["ald-002"]


def test_a_fault_for_no_device_of_a_fleet_is_refused(fleet: RunningFleet) -> None:
    with pytest.raises(InputError) as caught:
        fleet.fault("ald-009", kind="busy")
    assert str(caught.value) == (
        "'ald-009' is no device here; there are ald-001, ald-002, ald-003, ald-004, ald-005 and 1 more "
        "(or all, or a pattern)"
    )
    assert first_bytes(fleet) == [4] * 6
