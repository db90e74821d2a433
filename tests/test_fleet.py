"""`plcsim fleet` as real processes: start, stop, what becomes of it when a process dies, what it shows."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_emulator import ALD_FILE, DEADLINE_S, RawClient, frame
from waiting import wait_for

from plcsim.testing import FleetDevice, RunningFleet

READ_SCAN = bytes.fromhex("04 0000 0002")
"""The PLC scan counter, the first two input registers of configs/ald.yaml."""
READ_VALUES = bytes.fromhex("04 000c 0010")
PLCSIM = [sys.executable, "-m", "plcsim"]

StartFleet = Callable[..., RunningFleet]


def fleet_file(folder: Path, *, count: int = 6, port: int = 0, processes: int = 2, more: str = "") -> Path:
    path = folder / "fleet.yaml"
    path.write_text(
        f"fleet: {{name: plant, processes: {processes}}}\n"
        "devices:\n"
        f"  - {{template: {ALD_FILE}, device_id: 'ald-{{n:03}}', count: {count}, port: {port}, seed: 1"
        f"{more}}}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def start_fleet(tmp_path: Path) -> Iterator[StartFleet]:
    """Starts fleets of configs/ald.yaml, as `fleet_file` has them; they end with the test."""
    with ExitStack() as stack:
        yield lambda **keys: stack.enter_context(RunningFleet(fleet_file(tmp_path, **keys)))


def workers_of(fleet: RunningFleet) -> list[dict[str, Any]]:
    return list(fleet.status().workers)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that is dead and not yet waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def scan_of(device: FleetDevice) -> int:
    with RawClient(device.port) as client:
        reply = client.ask(READ_SCAN, unit=device.unit_id)
    assert reply[:2] == bytes.fromhex("04 04")
    return int.from_bytes(reply[2:])


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


def test_a_worker_that_is_killed_comes_back_on_its_ports_and_the_others_do_not_notice(
    start_fleet: StartFleet,
) -> None:
    fleet = start_fleet()
    killed, other = workers_of(fleet)
    wait_for(lambda: scan_of(fleet.devices[0]) >= 15)
    before = {d.device_id: scan_of(d) for d in fleet.devices}
    assert max(before.values()) - min(before.values()) < 10
    with ExitStack() as stack:
        clients = {d.device_id: stack.enter_context(RawClient(d.port)) for d in fleet.devices}
        for client in clients.values():
            client.ask(READ_SCAN)
        os.kill(killed["pid"], signal.SIGKILL)
        ended = {d.device_id for d in fleet.devices if not answers(clients[d.device_id])}
        assert len(ended) == 3
        wait_for(lambda: fleet.status().restarts == 1 and fleet.status().processes_listening == 2)
        assert all(answers(clients[d.device_id]) for d in fleet.devices if d.device_id not in ended)
    after = {d.device_id: scan_of(d) for d in fleet.devices}  # at the ports that they had before
    began_again = [after[name] for name in ended]
    went_on = [after[name] for name in after if name not in ended]
    assert min(went_on) - max(began_again) >= 15  # as after a power cut
    new, same = workers_of(fleet)
    assert (new["restarts"], same["restarts"], same["pid"]) == (1, 0, other["pid"])
    assert new["pid"] != killed["pid"]
    assert re.fullmatch(
        rf"plcsim: worker 1 \(process {killed['pid']}\) was ended by SIGKILL: its 3 devices start again",
        fleet.said(),
    )


def test_a_worker_that_hangs_is_killed_and_comes_back_and_the_others_do_not_notice(
    start_fleet: StartFleet,
) -> None:
    fleet = start_fleet(count=2)
    hanging, other = workers_of(fleet)
    os.kill(hanging["pid"], signal.SIGSTOP)
    wait_for(lambda: workers_of(fleet)[0]["restarts"] == 1 and workers_of(fleet)[0]["listening"], 30.0)
    assert fleet.said() == (
        f"plcsim: worker 1 (process {hanging['pid']}) gave no status for 10 s and was ended by SIGKILL: "
        "its 1 devices start again"
    )
    assert workers_of(fleet)[1]["pid"] == other["pid"]
    assert scan_of(fleet.devices[0]) < scan_of(fleet.devices[1])


def test_a_fleet_that_was_suspended_goes_on_with_the_workers_that_it_has(start_fleet: StartFleet) -> None:
    fleet = start_fleet(count=2)
    pids = [worker["pid"] for worker in workers_of(fleet)]
    fleet.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: psutil.Process(fleet.process.pid).status() == psutil.STATUS_STOPPED)
    before = scan_of(fleet.devices[0])
    wait_for(lambda: scan_of(fleet.devices[0]) > before + 130, 20.0)
    fleet.process.send_signal(signal.SIGCONT)
    first = fleet.status().uptime_s
    wait_for(lambda: fleet.status().uptime_s > first + 2)
    assert [worker["pid"] for worker in workers_of(fleet)] == pids
    assert fleet.said() == ""


def test_a_worker_that_nobody_kills_stays(start_fleet: StartFleet) -> None:
    fleet = start_fleet()
    before = [worker["pid"] for worker in workers_of(fleet)]
    wait_for(lambda: fleet.status().uptime_s > 2)
    assert [worker["pid"] for worker in workers_of(fleet)] == before
    assert fleet.status().restarts == 0
    assert fleet.said() == ""


def test_what_a_killed_worker_had_answered_still_counts(start_fleet: StartFleet) -> None:
    fleet = start_fleet(count=2)
    for _ in range(5):
        for device in fleet.devices:
            scan_of(device)
    wait_for(lambda: fleet.status().requests == 10)
    os.kill(workers_of(fleet)[0]["pid"], signal.SIGKILL)
    wait_for(lambda: fleet.status().restarts == 1)
    assert fleet.status().requests == 10


def answers(client: RawClient) -> bool:
    try:
        client.ask(READ_SCAN)
    except (AssertionError, ConnectionError):
        return False
    return True


def test_workers_end_when_their_supervisor_is_killed(start_fleet: StartFleet) -> None:
    fleet = start_fleet()
    pids = [worker["pid"] for worker in workers_of(fleet)]
    assert all(map(is_running, pids))
    fleet.process.kill()
    wait_for(lambda: not any(map(is_running, pids)), 5.0, "the workers' end")
    with pytest.raises(ConnectionRefusedError):
        RawClient(fleet.devices[0].port)


def test_a_worker_that_was_started_again_is_supervised_as_the_first_was(start_fleet: StartFleet) -> None:
    fleet = start_fleet(count=3, processes=3)
    for restarts in (1, 2):
        os.kill(workers_of(fleet)[1]["pid"], signal.SIGKILL)
        wait_for(
            lambda n=restarts: workers_of(fleet)[1]["restarts"] == n and workers_of(fleet)[1]["listening"]
        )
    assert [worker["restarts"] for worker in workers_of(fleet)] == [0, 2, 0]
    assert all(scan_of(device) < 600 for device in fleet.devices)
    pids = [worker["pid"] for worker in workers_of(fleet)]
    fleet.process.kill()
    wait_for(lambda: not any(map(is_running, pids)), 5.0, "the workers' end")


def test_a_port_that_is_taken_while_its_worker_is_down_is_tried_until_it_is_free(
    start_fleet: StartFleet,
) -> None:
    fleet = start_fleet(count=2)
    device, pid = fleet.devices[0], workers_of(fleet)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    with listener_at(device.port):
        wait_for(lambda: "worker 1: cannot listen at " in fleet.said())
        wait_for(lambda: fleet.status().processes_listening == 1)
    wait_for(lambda: fleet.status().processes_listening == 2)
    assert scan_of(device) < 600


def listener_at(port: int) -> socket.socket:
    """Listens as soon as nobody else does."""

    def listen() -> socket.socket | None:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            return None

    found = wait_for(listen)
    assert found
    return found


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
