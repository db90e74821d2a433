"""`plcsim fleet` as real processes: start, stop, what it serves, keeps and shows."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from fix_emulator import DEADLINE_S, RawClient, frame
from fix_fleet import PLCSIM, READ_SCAN, READ_VALUES, StartFleet, fleet_file, is_running, workers_of


def test_a_hundred_devices_respond_each_with_its_own_values(start_fleet: StartFleet) -> None:
    fleet = start_fleet(count=100, more=", overrides: {plc_scan_ms: 1000}")
    assert [d.device_id for d in fleet.devices] == [f"ald-{n:03}" for n in range(1, 101)]
    assert len({d.port for d in fleet.devices}) == 100
    values = set()
    for device in fleet.devices:
        with RawClient(device.port) as client:
            values.add(client.ask(READ_VALUES))
    assert len(values) == 100
    status = fleet.status()
    assert (status.devices, status.processes_listening, status.restarts) == (100, 2, 0)
    assert [worker["devices"] for worker in status.workers] == [50, 50]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_it_all_with_exit_code_0(start_fleet: StartFleet, number: signal.Signals) -> None:
    fleet = start_fleet()
    pids = [worker["pid"] for worker in workers_of(fleet)]
    assert all(map(is_running, pids))
    fleet.process.send_signal(number)
    assert fleet.process.wait(DEADLINE_S) == 0
    assert fleet.said() == ""
    assert not any(map(is_running, pids))
    with pytest.raises(ConnectionRefusedError):
        RawClient(fleet.devices[0].port)


def test_a_signal_to_all_processes_at_once_is_a_clean_end_too(start_fleet: StartFleet) -> None:
    fleet = start_fleet()
    pids = [worker["pid"] for worker in workers_of(fleet)]
    for pid in [*pids, fleet.process.pid]:
        os.kill(pid, signal.SIGTERM)
    assert fleet.process.wait(DEADLINE_S) == 0
    assert fleet.said() == ""
    assert not any(map(is_running, pids))


def test_plc_scans_of_a_process_are_spread_over_their_interval(start_fleet: StartFleet) -> None:
    interval_s = 0.8
    fleet = start_fleet(count=8, processes=1, more=f", overrides: {{plc_scan_ms: {1000 * interval_s}}}")
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(device.port)) for device in fleet.devices]
        first = [client.ask(READ_SCAN) for client in clients]
        changed_at: dict[int, float] = {}
        deadline = time.monotonic() + 3 * interval_s
        while len(changed_at) < len(clients) and time.monotonic() < deadline:
            for number, client in enumerate(clients):
                if number not in changed_at and client.ask(READ_SCAN) != first[number]:
                    changed_at[number] = time.monotonic()
    phases = sorted(moment % interval_s for moment in changed_at.values())
    gaps = [b - a for a, b in zip(phases, [*phases[1:], phases[0] + interval_s], strict=True)]
    assert len(phases) == 8
    assert max(gaps) < 0.5 * interval_s  # all at once would be one gap of the whole interval


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr. It returns when nobody holds these any more: no worker is left."""
    done = subprocess.run(
        [*PLCSIM, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_port_in_use_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run("fleet", fleet_file(tmp_path, count=1, port=port))
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"plcsim: cannot listen at 127\.0\.0\.1:{port}: the port is in use .*\n", err)


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = fleet_file(tmp_path, more=", colour: red")
    assert run("fleet", path) == (
        2,
        "",
        f"plcsim: {path}:3: devices[0].colour: is not a known key here\n",
    )


def test_a_fleet_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert run("fleet", path) == (2, "", f"plcsim: {path}: cannot be read: No such file or directory\n")


def test_more_processes_than_ports_are_not_started(start_fleet: StartFleet) -> None:
    assert start_fleet(count=2, processes=8).status().processes == 2


def test_a_gateway_has_several_devices_behind_one_port(start_fleet: StartFleet) -> None:
    fleet = start_fleet(count=3, more=", units_per_port: 3, overrides: {plc_scan_ms: 3600000}")
    assert [(d.device_id, d.unit_id) for d in fleet.devices] == [
        ("ald-001", 1),
        ("ald-002", 2),
        ("ald-003", 3),
    ]
    with RawClient(fleet.devices[0].port) as client:
        assert len({client.ask(READ_VALUES, unit=unit) for unit in (1, 2, 3)}) == 3
        assert client.ask(READ_VALUES, unit=4) == bytes.fromhex("84 0b")


def test_each_address_of_the_loopback_can_be_a_device(start_fleet: StartFleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fleet = start_fleet(count=3, port=port, more=", hosts: 127.0.0.11")
    assert [(d.host, d.port) for d in fleet.devices] == [(f"127.0.0.{n}", port) for n in (11, 12, 13)]
    for device in fleet.devices:
        socket.create_connection((device.host, device.port), timeout=DEADLINE_S).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.14", port), timeout=DEADLINE_S)


def test_writes_and_faults_are_kept_in_journals(tmp_path: Path) -> None:
    folder = tmp_path / "journals"
    more = ", faults: [{kind: exception, functions: [4], count: 1}]"
    path = fleet_file(tmp_path, count=2, more=more)
    with listening(path, "--journal-dir", str(folder)) as port, RawClient(port) as client:
        assert client.ask(READ_SCAN) == bytes.fromhex("84 04")
        setpoint = client.ask(bytes.fromhex("03 006e 0002"))[2:]
        assert client.ask(bytes.fromhex("10 006e 0002 04") + setpoint)[0] == 0x10
    assert sorted(p.name for p in folder.iterdir()) == [
        "ald-001.writes.jsonl",
        "ald-002.writes.jsonl",
        "faults.jsonl",
    ]
    (write,) = map(json.loads, (folder / "ald-001.writes.jsonl").read_text().splitlines())
    assert (write["event"], write["function_code"]) == ("write", 16)
    (fault,) = map(json.loads, (folder / "faults.jsonl").read_text().splitlines())
    assert (fault["device"], fault["kind"]) == ("ald-001", "exception")
    assert (folder / "ald-002.writes.jsonl").read_text() == ""


def test_a_journal_of_an_earlier_run_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    (tmp_path / "ald-001.writes.jsonl").write_text("{}\n")
    code, _, err = run("fleet", fleet_file(tmp_path, count=2), "--journal-dir", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "ald-001.writes.jsonl: holds the writes of an earlier run; name a new file" in err


def test_a_journal_that_cannot_be_written_ends_the_worker_that_says_so(tmp_path: Path) -> None:
    full = tmp_path / "ald-001.writes.jsonl"
    full.symlink_to("/dev/full")
    path = fleet_file(tmp_path, count=1)
    with tempfile.TemporaryDirectory(prefix="plcsim-") as short:
        command = ["fleet", str(path), "--journal-dir", str(tmp_path), "--control", f"{short}/control.sock"]
        with subprocess.Popen(
            [*PLCSIM, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stderr
            port = int(re.findall(r":(\d+)", process.stdout.readline())[0])
            with RawClient(port) as client:
                setpoint = client.ask(bytes.fromhex("03 006e 0002"))[2:]
                client.send(frame(bytes.fromhex("10 006e 0002 04") + setpoint))
                client.rest()
            said = [process.stderr.readline(), process.stderr.readline()]
            process.terminate()
    assert said[0] == f"plcsim: {full}: cannot be written: No space left on device; stopped\n"
    assert re.match(r"plcsim: worker 1 \(process \d+\) ended with exit code 1: its 1 devices", said[1])


class listening:
    """A fleet whose banner names the port of its first device; ends with exit code 0."""

    def __init__(self, path: Path, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="plcsim-")
        control = ["--control", f"{self._folder.name}/control.sock"]
        self.process = subprocess.Popen(
            [*PLCSIM, "fleet", str(path), *control, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> int:
        assert self.process.stdout
        banner = self.process.stdout.readline()
        found = re.fullmatch(r"plant: \d+ devices at 127\.0\.0\.1:(\d+) .*; Ctrl-C stops\n", banner)
        assert found, banner
        return int(found[1])

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        _, err = self.process.communicate(timeout=DEADLINE_S)
        self._folder.cleanup()
        assert (self.process.returncode, err) == (0, "")


def test_json_is_an_object_a_second_and_a_last_one(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="plcsim-") as short,
        subprocess.Popen(
            [*PLCSIM, "fleet", fleet_file(tmp_path), "--json", "--control", f"{short}/control.sock"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout
            seen = [json.loads(process.stdout.readline()) for _ in range(3)]
            process.terminate()
            rest, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    seen += map(json.loads, rest.splitlines())
    assert (process.returncode, err) == (0, "")
    assert len(seen) >= 4
    times = [status["uptime_s"] for status in seen]
    assert times == sorted(times)
    last = seen[-1]
    assert (last["kind"], last["name"], last["devices"], last["restarts"]) == ("fleet", "plant", 6, 0)
    assert last["plc_scans"] > 0
    assert last["lateness"]["p99_ms"] >= 0
    assert 0 < last["memory_bytes"] < 1e9
    assert len(last["workers"]) == 2


def test_on_a_terminal_it_is_a_table_that_stays(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with tempfile.TemporaryDirectory(prefix="plcsim-") as short:
        with subprocess.Popen(
            [*PLCSIM, "fleet", fleet_file(tmp_path), "--control", f"{short}/control.sock"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        ) as process:
            os.close(theirs)
            shown = b""
            deadline = time.monotonic() + DEADLINE_S
            while shown.count(b"worker 2") < 2 and time.monotonic() < deadline:
                shown += os.read(ours, 65536)
            process.terminate()
            _, err = process.communicate(timeout=DEADLINE_S)
        os.close(ours)
    assert (process.returncode, err) == (0, b"")
    for name in (
        b"devices",
        b"requests/s",
        b"connections",
        b"faults in force",
        b"PLC scans late",
        b"restarts",
    ):
        assert name in shown
