"""`/metrics` and `/health`: over real HTTP, read by Prometheus' own parser."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families
from waiting import wait_for

from logger.figures import DeviceFigures, Figures, SpoolState
from logger.metrics import MetricsServer, health
from plcsim.errors import InputError, PlcsimError

WELL = DeviceFigures("ald-1", "connected", scans=50, missed=2, timeouts=3, exceptions={"2": 5, "6": 1})
DEAD = DeviceFigures("ald-2", "unresponsive", scans=40, failed=40)


def figures(number: int, *devices: DeviceFigures, **more: object) -> Figures:
    one = Figures(
        worker=number, at=time.time(), database="storing", stored_rows=840 * number, devices=list(devices)
    )
    one.retries = Counter({"reconnect": number})
    one.spool = SpoolState(depth=7, bytes=1234, max_bytes=10_000, oldest_age_s=1.5)
    for name, value in more.items():
        setattr(one, name, value)
    for seconds in (0.0004, 0.001, 0.3):
        one.latencies.commit.add(seconds)
    return one


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def samples(processes: Sequence[Figures]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with MetricsServer("127.0.0.1", 0, lambda: processes) as server:
        status, text = get(server.port, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_process_and_every_device_has_its_samples() -> None:
    seen = samples([figures(1, WELL), figures(2, DEAD)])
    for worker in ("1", "2"):
        assert seen["plclogger_stored_rows_total", (("worker", worker),)] == 840 * int(worker)
        assert seen["plclogger_spool_depth", (("worker", worker),)] == 7
        assert seen["plclogger_retries_total", (("class", "reconnect"), ("worker", worker))] == int(worker)
    assert seen["plclogger_device_scans_total", (("device", "ald-1"),)] == 50
    assert seen["plclogger_device_timeouts_total", (("device", "ald-1"),)] == 3
    assert seen["plclogger_device_exceptions_total", (("code", "2"), ("device", "ald-1"))] == 5
    assert seen["plclogger_device_up", (("device", "ald-1"),)] == 1
    assert seen["plclogger_device_up", (("device", "ald-2"),)] == 0


def test_histograms_are_cumulative() -> None:
    seen = samples([figures(1, WELL)])
    bucket = "plclogger_commit_seconds_bucket"
    counts = {
        le: seen[bucket, (("le", le), ("worker", "1"))] for le in ("0.00025", "0.001", "0.25", "0.5", "+Inf")
    }
    assert counts == {"0.00025": 0, "0.001": 2, "0.25": 2, "0.5": 3, "+Inf": 3}
    assert seen["plclogger_commit_seconds_count", (("worker", "1"),)] == 3
    assert seen["plclogger_commit_seconds_sum", (("worker", "1"),)] == pytest.approx(0.3014)


def test_before_the_first_figures_there_are_no_samples_and_it_is_not_well() -> None:
    assert samples([]) == {}
    with MetricsServer("127.0.0.1", 0, list) as server:
        assert get(server.port, "/health")[0] == 503


@pytest.mark.parametrize(
    ("processes", "status"),
    [
        ([figures(1, WELL, DEAD)], 200),
        ([figures(1, WELL), figures(2, WELL)], 200),
        ([figures(1, WELL), figures(2, DEAD)], 200),
        ([figures(1, DEAD)], 503),
        ([figures(1, WELL), figures(2, WELL, database="waiting for the database: gone")], 503),
        ([figures(1, WELL, alarms=["the spool is full"])], 503),
    ],
)
def test_health(processes: list[Figures], status: int) -> None:
    for each in processes:
        each.at = time.time()  # they were made when the tests were collected
    with MetricsServer("127.0.0.1", 0, lambda: processes) as server:
        code, text = get(server.port, "/health")
    body = json.loads(text)
    assert (code, body["status"]) == (status, "well" if status == 200 else "not well")
    assert ("ald-2" in body["devices_without_answer"]) == any(DEAD in each.devices for each in processes)
    assert body["alarms"] == [alarm for each in processes for alarm in each.alarms]


def test_a_process_that_tells_nothing_more_is_not_well() -> None:
    """It was killed, or hangs: its newest figures say that all was well. One that ended is silent."""
    processes = [figures(1, WELL), figures(2, WELL)]
    now = processes[1].at
    assert health(processes, now + 4)[0] == 200
    processes[0].at = now + 60
    status, body = health(processes, now + 60)
    assert (status, body["alarms"]) == (503, ["worker 2 has told nothing for 60 s"])
    processes[1].ended = True
    assert health(processes, now + 60)[0] == 200


def test_another_path_is_404() -> None:
    with MetricsServer("127.0.0.1", 0, list) as server:
        assert get(server.port, "/") == (404, "/metrics or /health\n")


def test_address_that_is_taken_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PlcsimError, match=f"--metrics 127.0.0.1:{port} cannot be bound: "):
            MetricsServer("127.0.0.1", port, list)


def test_address_that_is_not_ours_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match=r"--metrics 192\.0\.2\.1:9520 cannot be bound: "):
        MetricsServer("192.0.2.1", 9520, list)


def test_serves_ipv6() -> None:
    with MetricsServer("::1", 0, lambda: [figures(1, WELL)]) as server:
        client = HTTPConnection("::1", server.port, timeout=10)
        client.request("GET", "/health")
        assert client.getresponse().status == 200
        client.close()


def test_a_client_that_goes_before_its_answer_is_no_event(capfd: pytest.CaptureFixture[str]) -> None:
    """Its connection is reset; once the next one is answered, nothing was said of it."""
    with MetricsServer("127.0.0.1", 0, lambda: [figures(1, *[WELL] * 10_000)]) as server:
        handled = threading.active_count()
        with socket.socket() as client:
            client.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
            )  # so that the answer cannot all be sent
            client.connect(("127.0.0.1", server.port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(20)
        wait_for(lambda: threading.active_count() <= handled, what="the end of its thread")
        assert get(server.port, "/health")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_that_says_nothing_keeps_nobody_waiting() -> None:
    with (
        MetricsServer("127.0.0.1", 0, lambda: [figures(1, WELL)]) as server,
        socket.create_connection(("127.0.0.1", server.port)),
    ):
        assert get(server.port, "/health")[0] == 200
