"""What becomes of a fleet when one of its processes dies, hangs or loses its supervisor."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import ExitStack

import psutil
import pytest
from fix_emulator import RawClient
from fix_fleet import READ_SCAN, StartFleet, is_running, scan_of, workers_of
from waiting import wait_for


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
