"""Faults of connections and of the device: refused, too many, restarted, its clock set wrong."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from fix_emulator import RawClient, frame
from fix_faults import Site, serving, units_of
from waiting import wait_for

from plcsim.faults.engine import FaultEngine
from plcsim.server_config import UnitPolicy
from plcsim.unit import Unit

READ_ONE = bytes.fromhex("03 0000 0001")
ONE = bytes.fromhex("03 02 1234")
READ_SEVEN = bytes.fromhex("03 0007 0001")
WRITE_SEVEN = bytes.fromhex("06 0007 0102")
SCAN = bytes.fromhex("03 0000 0002")


def is_refused(site: Site) -> bool:
    try:
        RawClient(site.server.port).socket.close()
    except ConnectionRefusedError:
        return True
    return False


def served(site: Site) -> bool:
    with site.connect() as client:
        return client.ask(READ_ONE) == ONE


def end_of(client: RawClient) -> str:
    """How the connection ends."""
    try:
        return "data" if client.socket.recv(1) else "closed"
    except ConnectionResetError:
        return "reset"


def test_refuse(flat_site: Site) -> None:
    port = flat_site.server.port
    with flat_site.connect() as client:
        assert client.ask(READ_ONE) == ONE
        name = flat_site.add("refuse")
        assert is_refused(flat_site)
        assert client.ask(READ_ONE) == ONE  # who is connected stays
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))  # nobody takes the address meanwhile
        flat_site.remove(name)
        assert served(flat_site)
        assert client.ask(READ_ONE) == ONE
    assert flat_site.server.port == port
    (event,) = flat_site.events()
    assert (event.kind, event.peer, event.transaction_id) == ("refuse", None, None)


def test_refuse_in_its_window_again_and_again(flat_site: Site) -> None:
    """Only a window that does not close meanwhile can be seen to refuse, however slow the machine is."""
    for _ in range(3):
        start = time.perf_counter()
        name = flat_site.add("refuse", after_s=0.1, for_s=60)
        wait_for(lambda: flat_site.status().landed == 1, what="the window to open")
        assert time.perf_counter() - start >= 0.1
        assert is_refused(flat_site)
        flat_site.remove(name)
        assert served(flat_site)
        start = time.perf_counter()
        name = flat_site.add("refuse", after_s=0.1, for_s=0.2)
        wait_for(lambda: flat_site.status().landed == 1, what="the window to open")
        wait_for(lambda: not is_refused(flat_site), what="the window to close")
        assert time.perf_counter() - start >= 0.3
        assert served(flat_site)
        flat_site.remove(name)


def test_two_refusals_end_with_the_second(flat_site: Site) -> None:
    first, second = flat_site.add("refuse"), flat_site.add("refuse")
    flat_site.remove(first)
    assert is_refused(flat_site)
    flat_site.remove(second)
    assert served(flat_site)


def test_a_device_can_start_refused(moving_file: Path, either_loop: bool) -> None:
    device = yaml.safe_load(moving_file.read_text())
    device["faults"] = [{"kind": "refuse", "for_s": 0.3}]
    moving_file.write_text(yaml.safe_dump(device))
    with serving(units_of(moving_file), either_loop) as site:
        assert is_refused(site)
        wait_for(lambda: not is_refused(site), what="the window to close")


def test_a_server_that_refuses_can_end_and_its_port_is_free(flat_file: Path, either_loop: bool) -> None:
    with serving(units_of(flat_file), either_loop) as site:
        site.add("refuse")
        port = site.server.port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


def test_a_rule_that_goes_after_the_end_opens_nothing(flat_file: Path) -> None:
    with serving(units_of(flat_file)) as site:
        site.add("refuse")
        port = site.server.port
    site.unit().faults.clear()
    with pytest.raises(ConnectionRefusedError):
        RawClient(port)


def test_max_connections(flat_site: Site) -> None:
    name = flat_site.add("max_connections", connections=2)
    with ExitStack() as stack:
        clients = [stack.enter_context(flat_site.connect()) for _ in range(2)]
        assert [client.ask(READ_ONE) for client in clients] == [ONE, ONE]
        for landed in range(1, 4):
            peer = one_more(flat_site)
            wait_for(lambda landed=landed: flat_site.status().landed == landed)  # type: ignore[misc]
            assert flat_site.events()[-1].peer == peer
        assert [client.ask(READ_ONE) for client in clients] == [ONE, ONE]
        clients[0].socket.close()
        wait_for(lambda: flat_site.server.connections == 1, what="the client's leaving")
        assert served(flat_site)
        assert flat_site.status().landed == 3
        flat_site.remove(name)
        more = [stack.enter_context(flat_site.connect()) for _ in range(5)]
        assert [client.ask(READ_ONE) for client in more] == 5 * [ONE]


def test_max_connections_leaves_those_that_are_there(flat_site: Site) -> None:
    with flat_site.connect() as client:
        assert client.ask(READ_ONE) == ONE
        flat_site.add("max_connections", connections=0)
        assert client.ask(READ_ONE) == ONE
        one_more(flat_site)
        assert client.ask(READ_ONE) == ONE


def connect_and_read(client: socket.socket, site: Site) -> None:
    client.connect(("127.0.0.1", site.server.port))
    client.recv(1)


def one_more(site: Site) -> str:
    """Connect and be reset, which may come while still connecting; the address it came from."""
    with socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionResetError):
            connect_and_read(client, site)
        return "{}:{}".format(*client.getsockname())


def test_restart_ends_connections_and_forgets_writes(flat_site: Site) -> None:
    with flat_site.connect() as client, flat_site.connect() as idle:
        assert client.ask(WRITE_SEVEN) == WRITE_SEVEN
        assert client.ask(READ_SEVEN)[2:] == b"\x01\x02"
        wait_for(lambda: flat_site.server.connections == 2, what="the clients")
        flat_site.add("restart")
        assert [end_of(client), end_of(idle)] == ["reset", "reset"]
    with flat_site.connect() as client:
        assert client.ask(READ_SEVEN)[2:] == b"\x00\x07"
    assert [event.kind for event in flat_site.events()] == ["restart"]
    assert not flat_site.status().in_force


def test_restart_happens_once(flat_site: Site) -> None:
    flat_site.add("restart", name="once")
    with flat_site.connect() as client:
        assert client.ask(WRITE_SEVEN) == WRITE_SEVEN
        flat_site.add("delay", seconds=0.01)  # rules come and go
        flat_site.remove("delay-1")
        assert client.ask(READ_SEVEN)[2:] == b"\x01\x02"
    assert flat_site.status().landed == 1


def test_restart_refuses_connections_for_as_long_as_it_takes(flat_site: Site) -> None:
    with flat_site.connect() as client:
        assert client.ask(WRITE_SEVEN) == WRITE_SEVEN
        start = time.perf_counter()
        name = flat_site.add("restart", after_s=0.2, for_s=60)
        assert end_of(client) == "reset"
        assert time.perf_counter() - start >= 0.2
    assert is_refused(flat_site)
    flat_site.remove(name)
    with flat_site.connect() as client:
        assert client.ask(READ_SEVEN)[2:] == b"\x00\x07"
        start = time.perf_counter()
        flat_site.add("restart", for_s=0.5)
        assert end_of(client) == "reset"
    wait_for(lambda: not is_refused(flat_site), what="the end of the restart")
    assert time.perf_counter() - start >= 0.5
    assert len(flat_site.events()) == 2


def test_a_delayed_reply_dies_with_a_restart(flat_site: Site) -> None:
    flat_site.add("delay", seconds=0.2, count=1)
    with flat_site.connect() as client:
        client.send(frame(READ_ONE))
        wait_for(flat_site.events)
        flat_site.add("restart")
        assert end_of(client) == "reset"
    assert served(flat_site)


@pytest.mark.parametrize("devices", [1, 2])
def test_an_edge_between_two_looks_at_the_clock_is_not_missed(flat_file: Path, devices: int) -> None:
    """The clock goes on whenever anybody looks: so far in a window that it has opened, or closed, between
    any two decisions that the server makes about it."""
    ticks = itertools.count()

    def units() -> dict[int, Unit]:
        made = units_of(*devices * [flat_file])()
        made[1].faults = FaultEngine("flat", 0, clock=lambda: next(ticks) / 1000)
        return made

    with serving(units) as site:
        for tick in range(1, 25):
            with site.connect() as client:
                assert client.ask(WRITE_SEVEN) == WRITE_SEVEN
                name = site.add("restart", after_s=tick / 1000, for_s=0.003)
                if devices == 1:
                    assert end_of(client) == "reset"
                    wait_for(lambda: not is_refused(site), what="the end of the restart")
                else:
                    wait_for(lambda: len(site.events()) == tick, what="the restart")  # noqa: B023
                    wait_for(lambda: client.ask(READ_ONE) == ONE, what="its end")
            with site.connect() as client:
                assert client.ask(READ_SEVEN)[2:] == b"\x00\x07"
            site.remove(name)


def test_restart_begins_with_plc_scan_0(moving: Site) -> None:
    with moving.connect() as client:
        assert client.ask(SCAN)[2:] == bytes.fromhex("0000 ffff")
    moving.add("restart")
    with moving.connect() as client:
        assert client.ask(SCAN)[2:] == bytes(4)
        moving.scan_on()
        assert client.ask(SCAN)[2:] == bytes.fromhex("0000 0001")


def test_the_clock_jumps_forwards_and_back(moving: Site) -> None:
    hour = 3600.0  # a PLC scan of this device
    with moving.connect() as client:
        for seconds, expected in ((3 * hour, 65538), (-hour, 65537), (-1.0, 65536), (-1e9, 0), (0.1, 1)):
            moving.add("clock_jump", seconds=seconds)
            assert int.from_bytes(client.ask(SCAN)[2:]) == expected
            moving.add("delay", seconds=0.01, count=1)  # a change of rules lets nothing jump again
            assert int.from_bytes(client.ask(SCAN)[2:]) == expected
            moving.call(moving.unit().faults.clear)
    assert [event.kind for event in moving.events()].count("clock_jump") == 5


def test_scans_go_on_from_where_the_clock_jumped_to(moving_file: Path) -> None:
    moving_file.write_text(moving_file.read_text().replace("plc_scan_ms: 3600000", "plc_scan_ms: 10"))
    with serving(units_of(moving_file)) as site, site.connect() as client:
        site.add("clock_jump", seconds=1000.0)
        first = int.from_bytes(client.ask(SCAN)[2:])
        assert 100_000 <= first < 101_000
        wait_for(lambda: int.from_bytes(client.ask(SCAN)[2:]) > first, what="the next PLC scan")


def test_scans_go_on_from_0_after_a_restart(moving_file: Path) -> None:
    moving_file.write_text(moving_file.read_text().replace("plc_scan_ms: 3600000", "plc_scan_ms: 10"))
    with serving(units_of(moving_file, start_scan=1_000_000)) as site:
        with site.connect() as client:
            wait_for(lambda: int.from_bytes(client.ask(SCAN)[2:]) > 1_000_000, what="the next PLC scan")
        site.add("restart")
        with site.connect() as client:
            assert int.from_bytes(client.ask(SCAN)[2:]) < 1000
            wait_for(lambda: int.from_bytes(client.ask(SCAN)[2:]) > 2, what="the next PLC scans")
            assert int.from_bytes(client.ask(SCAN)[2:]) < 1000


def test_a_jump_as_far_as_it_goes(moving_file: Path) -> None:
    moving_file.write_text(moving_file.read_text().replace("plc_scan_ms: 3600000", "plc_scan_ms: 1"))
    with serving(units_of(moving_file)) as site, site.connect() as client:
        for _ in range(3):
            site.add("clock_jump", seconds=1e9)
        assert site.unit().device.plc_scan >= 3e12
        assert len(client.ask(SCAN)) == 6


class TestGateway:
    """Two devices behind one port: what hits one leaves the other alone, as far as TCP allows it."""

    @pytest.fixture
    def policy(self, request: pytest.FixtureRequest) -> UnitPolicy:
        return getattr(request, "param", UnitPolicy.ANY)

    @pytest.fixture
    def site(self, flat_file: Path, tmp_path: Path, policy: UnitPolicy) -> Iterator[Site]:
        device = yaml.safe_load(flat_file.read_text()) | {"server": {"unit_policy": policy.value}}
        path = tmp_path / "behind.yaml"
        path.write_text(yaml.safe_dump(device))
        with serving(units_of(path, path)) as site:
            yield site

    def test_a_restart_leaves_the_other_device_and_the_connections_alone(self, site: Site) -> None:
        with site.connect() as client:
            for unit in (1, 2):
                assert client.ask(WRITE_SEVEN, unit=unit) == WRITE_SEVEN
            site.add("restart", unit_id=2)
            assert client.ask(READ_SEVEN, unit=1)[2:] == b"\x01\x02"
            assert client.ask(READ_SEVEN, unit=2)[2:] == b"\x00\x07"

    def test_while_it_restarts_the_gateway_says_that_it_is_not_there(self, site: Site) -> None:
        with site.connect() as client:
            names = []
            for _ in range(5):
                names.append(site.add("restart", unit_id=2, for_s=0.2))
                assert client.ask(READ_ONE, unit=2) == b"\x83\x0b"
                assert client.ask(READ_ONE, unit=1) == ONE
                assert not is_refused(site)
                wait_for(lambda: client.ask(READ_ONE, unit=2) == ONE, what="the end of the restart")
            assert site.events(1) == []
            assert [event.fault for event in site.events(2)] == names

    @pytest.mark.parametrize("policy", [UnitPolicy.STRICT_SILENT], indirect=True)
    def test_or_it_says_nothing(self, site: Site) -> None:
        with site.connect() as client:
            site.add("restart", unit_id=2, for_s=60)
            client.send(frame(READ_ONE, unit=2))
            assert client.ask(READ_ONE, unit=1) == ONE

    def test_the_policy_is_that_of_the_gateway(self, flat_file: Path, tmp_path: Path) -> None:
        """As for unit ids that nobody has: not that of the device that is away."""
        device = yaml.safe_load(flat_file.read_text()) | {"server": {"unit_policy": "strict_silent"}}
        silent = tmp_path / "silent.yaml"
        silent.write_text(yaml.safe_dump(device))
        with serving(units_of(flat_file, silent)) as site, site.connect() as client:
            site.add("restart", unit_id=2, for_s=60)
            for unit in (2, 3):
                assert client.ask(READ_ONE, unit=unit) == b"\x83\x0b"

    def test_a_removed_restart_brings_the_device_back(self, site: Site) -> None:
        with site.connect() as client:
            name = site.add("restart", unit_id=2, for_s=60)
            assert client.ask(READ_ONE, unit=2) == b"\x83\x0b"
            site.remove(name, unit_id=2)
            assert client.ask(READ_ONE, unit=2) == ONE

    def test_faults_of_connections_are_those_of_the_port(self, site: Site) -> None:
        name = site.add("refuse", unit_id=2)
        assert is_refused(site)
        site.remove(name, unit_id=2)
        assert served(site)
