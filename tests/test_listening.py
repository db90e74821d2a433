"""Where a server listens: IPv4 and IPv6, many addresses at one port, and why it cannot."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest
from fix_emulator import DEADLINE_S, emulating, frame
from fix_faults import Site

from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.errors import ListenError
from plcsim.event_loop import new_event_loop
from plcsim.faults.rules import FAULT_RULE
from plcsim.tcp.server import ModbusServer
from plcsim.unit import Unit

READ_ONE = bytes.fromhex("03 0000 0001")
ONE = bytes.fromhex("03 02 1234")


@pytest.fixture
def unit(flat_file: Path) -> Unit:
    return Unit(Device(load_device(flat_file)))


def answer(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), DEADLINE_S) as client:
        client.sendall(frame(READ_ONE))
        return client.recv(64)


def answers(unit: Unit, hosts: Sequence[str], asked: Sequence[str]) -> list[object]:
    """What a server that listens at some addresses answers at others: the reply, or why there is none."""

    async def main() -> list[object]:
        async with ModbusServer(unit, hosts) as server:
            calls = (asyncio.to_thread(answer, host, server.port) for host in asked)
            return list(await asyncio.gather(*calls, return_exceptions=True))

    return asyncio.run(main())


def test_it_listens_where_it_is_told_and_nowhere_else(unit: Unit) -> None:
    told, _, other = answers(unit, ["127.0.0.2"], ["127.0.0.2", "127.0.0.2", "127.0.0.1"])
    assert told == frame(ONE)
    assert isinstance(other, ConnectionRefusedError)


def test_many_addresses_share_one_port(unit: Unit) -> None:
    hosts = [f"127.0.{i}.{j}" for i in range(1, 5) for j in range(1, 26)]
    assert answers(unit, hosts, hosts) == 100 * [frame(ONE)]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_ipv6_is_served_or_refused_in_one_line(unit: Unit) -> None:
    if has_ipv6():
        assert answers(unit, ["::1"], ["::1"]) == [frame(ONE)]
        both = answers(unit, ["::1", "127.0.0.1"], ["::1", "127.0.0.1"])
        assert both == 2 * [frame(ONE)]
        (other,) = answers(unit, ["::1"], ["127.0.0.1"])
        assert isinstance(other, ConnectionRefusedError)
    else:
        with pytest.raises(ListenError, match=r"cannot listen at ::1:0: [^\n]+$"):
            answers(unit, ["::1"], [])


def test_the_command_listens_at_an_ipv6_address_or_says_why_not(flat_file: Path) -> None:
    if has_ipv6():
        with emulating(flat_file, "--host", "::1") as emulator:
            assert f"at [::1]:{emulator.port}," in emulator.banner
            assert answer("::1", emulator.port) == frame(ONE)
    else:
        with pytest.raises(AssertionError, match="cannot listen at"), emulating(flat_file, "--host", "::1"):
            pass


def test_the_command_listens_at_several_addresses_and_names_them(flat_file: Path) -> None:
    hosts = ["127.0.0.1", "127.0.0.2", *(["::1"] if has_ipv6() else [])]
    with emulating(flat_file, *(word for host in hosts for word in ("--host", host))) as emulator:
        port = emulator.port
        assert [answer(host, port) for host in hosts] == len(hosts) * [frame(ONE)]
        shown = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)
        assert f" at {', '.join(shown)}, a new register image" in emulator.banner


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("203.0.113.1", "."),
        ("no.such.host.invalid", "."),
        ("300.1.1.1", "."),
        (300 * "a", "this is"),
        ("ä..x", "this is"),
    ],
)
def test_an_address_that_is_not_ours_is_named(unit: Unit, host: str, reason: str) -> None:
    with pytest.raises(ListenError, match=rf"^cannot listen at {host}:0: {reason}[^\n]+$"):
        answers(unit, [host], [])


def test_a_port_in_use_is_named_and_free_again_when_its_server_ends(unit: Unit) -> None:
    async def main() -> None:
        async with ModbusServer(unit) as server:
            with pytest.raises(ListenError, match=rf"127.0.0.1:{server.port}: the port is in use"):
                await ModbusServer(unit, port=server.port).__aenter__()
        async with ModbusServer(unit, port=server.port) as again:
            assert again.port == server.port

    asyncio.run(main())


def test_if_one_address_of_several_is_taken_none_is_kept(unit: Unit) -> None:
    with socket.create_server(("127.0.0.3", 0)) as taken:
        port = taken.getsockname()[1]

        async def main() -> None:
            with pytest.raises(ListenError, match=r"127\.0\.0\.3"):
                await ModbusServer(unit, ["127.0.0.2", "127.0.0.3"], port).__aenter__()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(answer, "127.0.0.2", port)
            socket.create_server(("127.0.0.2", port)).close()

        asyncio.run(main())


@pytest.mark.parametrize("from_the_start", [True, False])
def test_nobody_gets_the_port_of_a_device_that_refuses(
    serve_flat: Callable[..., Site], either_loop: bool, from_the_start: bool
) -> None:
    """Not even who asks with SO_REUSEADDR, as most servers do."""
    faults = [{"kind": "refuse"}] if from_the_start else []
    site = serve_flat(*faults, uvloop=either_loop)
    if not from_the_start:
        site.add("refuse")
    where = ("127.0.0.1", site.server.port)
    with pytest.raises(OSError, match="in use"), socket.create_server(where):
        pass
    site.call(lambda: site.unit().faults.clear())
    site.settle()
    assert answer(*where) == frame(ONE)


class Turn:
    """One turn of the event loop."""

    def __await__(self) -> Generator[None, None, None]:
        yield


@pytest.mark.parametrize("turns", range(4))
def test_a_server_that_ends_while_it_opens_again_listens_no_more(
    unit: Unit, either_loop: bool, turns: int
) -> None:
    async def main() -> None:
        async with ModbusServer(unit) as server:
            unit.faults.add(FAULT_RULE.validate_python({"kind": "refuse"}))
            for _ in range(9):
                await Turn()
            unit.faults.clear()
            for _ in range(turns):
                await Turn()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)

    with asyncio.Runner(loop_factory=new_event_loop if either_loop else asyncio.new_event_loop) as runner:
        runner.run(main())


def test_one_address_given_twice_is_one_address(unit: Unit) -> None:
    async def main() -> int:
        async with ModbusServer(unit, ["127.0.0.1", "127.0.0.1"]) as server:
            return server.port

    assert asyncio.run(main()) > 0
