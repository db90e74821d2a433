"""The tools that do harm: proxy, PLC without power, small disks, limits of a process, hogs; and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from waiting import wait_for

from bench.load.machine import machine
from bench.stress.full_disk import _small_tablespace, _use_for_tables
from bench.stress.hogs import Hogs
from bench.stress.plan_faults import FullDiskPlan
from bench.stress.plc import EmulatedPlc
from bench.stress.process_limits import give_back, limit_address_space, limit_descriptors
from bench.stress.proxy import TcpProxy, database_target, through
from bench.stress.server import NotMeasured, stress_server
from bench.stress.small_disk import free_bytes, resize
from logger.database import connect, mapped_errors
from logger.errors import DatabaseError, DatabaseUnreachable


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """Where a server listens that says everything again."""

    class Again(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(4096):
                self.request.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Again) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        host, port = server.server_address[:2]
        yield str(host), int(port)
        server.shutdown()
        thread.join()


def dial(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), 5)


def said_again(client: socket.socket, data: bytes = b"one") -> bytes:
    client.sendall(data)
    return client.recv(100)


def test_what_is_not_harmed_comes_through(echo: tuple[str, int]) -> None:
    with TcpProxy(echo) as proxy, dial(proxy) as client:
        assert said_again(client) == b"one"
        assert proxy.connections == 1


def has_ended(client: socket.socket) -> bool:
    """By an end of file or a reset."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_cut_line_ends_connections_until_it_is_mended(echo: tuple[str, int]) -> None:
    with TcpProxy(echo) as proxy:
        with dial(proxy) as client:
            said_again(client)
            proxy.cut()
            assert has_ended(client)
        with contextlib.suppress(ConnectionError), dial(proxy) as client:  # it may not even begin
            assert has_ended(client)
        proxy.mend()
        with dial(proxy) as client:
            assert said_again(client) == b"one"


def test_stalled_line_holds_everything_back_and_loses_nothing(echo: tuple[str, int]) -> None:
    with TcpProxy(echo) as proxy, dial(proxy) as client:
        said_again(client)
        proxy.stall()
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            said_again(client, b"late")
        proxy.mend()
        client.settimeout(5)
        assert client.recv(100) == b"late"


def test_slow_line_delays_both_ways(echo: tuple[str, int]) -> None:
    with TcpProxy(echo) as proxy, dial(proxy) as client:
        said_again(client)
        proxy.slow(0.05)
        began = time.monotonic()
        said_again(client)
        assert 0.1 <= time.monotonic() - began < 2


def test_database_is_reached_through_the_proxy(postgres: str) -> None:
    with connect(postgres) as direct, TcpProxy(database_target(direct)) as proxy:
        conninfo = through(proxy, postgres)
        with connect(conninfo) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            proxy.cut()
            with pytest.raises(DatabaseError), mapped_errors():
                connection.execute("SELECT 1")
        with pytest.raises(DatabaseUnreachable):
            connect(conninfo)
        assert proxy.connections == 1


def test_plc_comes_back_at_its_port_and_takes_faults(tmp_path: Path) -> None:
    request = bytes.fromhex("0001 0000 0006 01 04 0000 0001")
    with EmulatedPlc(machine(5, "plc"), tmp_path) as plc:
        port = plc.port
        with socket.create_connection((plc.host, port), 5) as client:
            assert said_again(client, request)[7] == 4
        plc.add_fault(kind="exception", code=4)
        with socket.create_connection((plc.host, port), 5) as client:
            assert said_again(client, request)[7:9] == b"\x84\x04"
            plc.clear_faults()
            assert said_again(client, request)[7] == 4
        plc.cut_power()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((plc.host, port), 5)
        plc.start()
        assert plc.port == port
        with socket.create_connection((plc.host, port), 5) as client:
            assert said_again(client, request)[7] == 4


CHILD = """
import sys
for line in sys.stdin:
    try:
        kept = bytearray(60_000_000) if line == "memory\\n" else open("/dev/null")
        said = "yes"
    except (MemoryError, OSError) as exc:
        said = type(exc).__name__
    kept = None
    print(said, flush=True)
"""


@pytest.mark.parametrize(("what", "refusal"), [("memory", "MemoryError"), ("file", "OSError")])
def test_limits_of_a_running_process_are_set_and_lifted(what: str, refusal: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:

        def gets_it() -> str:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(what + "\n")
            return child.stdout.readline().strip()

        assert gets_it() == "yes"
        if what == "memory":
            limit_address_space(child.pid, 1 << 20)
        else:
            limit_descriptors(child.pid, 3)
        assert gets_it() == refusal
        give_back(child.pid)
        assert gets_it() == "yes"
        child.terminate()


def test_small_tablespace_fills_up_grows_and_leaves_nothing() -> None:
    plan = FullDiskPlan(tables_mb=2)
    with stress_server(
        None, {"shared_buffers": "16MB", "max_wal_size": "1GB", "min_wal_size": "80MB"}
    ) as server:
        try:
            disk = _small_tablespace(server.own, plan)
        except NotMeasured as exc:
            pytest.skip(str(exc))
        postmaster = server.own.postmaster_pid
        assert 0 < free_bytes(postmaster, disk) <= 2 << 20
        assert str(disk) not in Path("/proc/self/mounts").read_text(), "others must not see it"
        _use_for_tables(server, disk)
        fill = "INSERT INTO filled SELECT repeat('x', 1000) FROM generate_series(1, 5000)"
        with server.connect() as connection:
            connection.execute("CREATE TABLE filled (what text)")
            with pytest.raises(DatabaseError, match="No space left"), mapped_errors():
                connection.execute(fill)
            resize(postmaster, disk, 32 << 20)
            connection.execute(fill)
            assert connection.execute("SELECT count(*) FROM filled").fetchone() == (5000,)
    assert not disk.exists()
    assert not _runs(postmaster)


def test_hogs_use_processors_only_when_they_are_loose() -> None:
    with Hogs(1) as hogs:
        (hog,) = (psutil.Process(pid) for pid in hogs.pids)

        def used() -> float:
            return float(hog.cpu_times().user)

        before = used()
        hogs.loose(True)
        wait_for(lambda: used() > before + 0.1, what="the hog to run")
        hogs.loose(False)
        wait_for(lambda: hog.status() == psutil.STATUS_SLEEPING, what="the hog to stop")
    assert not hog.is_running()


ORPHANS = """
import sys, time
from pathlib import Path
from bench.load.machine import machine
from bench.stress.hogs import Hogs
from bench.stress.logger_process import LoggerProcess
from bench.stress.plc import EmulatedPlc
from logger.settings import Settings, at_address

if __name__ == "__main__":
    place = Path(sys.argv[1])
    config = machine(5, "plc")
    with Hogs(1) as hogs, EmulatedPlc(config, place) as plc:
        there = (at_address(config, plc.host, plc.port),)
        nowhere = "host=127.0.0.1 port=1 dbname=none user=nobody"
        logger = LoggerProcess(Settings(there, nowhere, place / "spool", interval_s=0.05, drain_s=0.2), place)
        logger.start()
        while not len(logger.read()):
            time.sleep(0.02)
        print(*hogs.pids, plc._process.pid, logger.pid, flush=True)
        time.sleep(60)
"""


@pytest.mark.long
def test_nothing_goes_on_after_the_bench_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    bench = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    with bench:
        assert bench.stdout is not None
        pids = [int(pid) for pid in bench.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(psutil.pid_exists, pids))
        bench.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(map(_runs, pids)), 15, "all of them to end")


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
