"""A fault on one device leaves the others alone: their latency is measured while one is ill.

Healthy and ill device are asked in turn, so that what this machine does otherwise slows both alike.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fix_emulator import RawClient, emulating, frame
from fix_faults import Site, serving, units_of
from waiting import wait_for

from plcsim.device_file import load_device
from plcsim.endpoint import Endpoint
from plcsim.faults.rules import FAULT_RULE
from plcsim.plant import Plant

READ_ONE = bytes.fromhex("03 0000 0001")
ONE = bytes.fromhex("03 02 1234")
DELAY_S = 2.0
MOST_S = 0.2
"""A healthy device answers sooner: it takes less than 1 ms on a quiet machine."""
ROUNDS = 100


def latencies_s(client: RawClient, unit: int = 1, rounds: int = ROUNDS) -> list[float]:
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        assert client.ask(READ_ONE, unit=unit) == ONE
        took.append(time.perf_counter() - start)
    return took


@contextmanager
def kept_busy(*clients: RawClient, unit: int) -> Iterator[list[float]]:
    """Ask an ill device all the while, over each of these connections; how long its replies took."""
    took: list[float] = []
    threads = [threading.Thread(target=lambda c=c: took.extend(latencies_s(c, unit, 1))) for c in clients]
    for thread in threads:
        thread.start()
    yield took
    for thread in threads:
        thread.join()


@pytest.fixture
def gateway(flat_file: Path, either_loop: bool) -> Iterator[Site]:
    """The flat device twice, under unit ids 1 and 2."""
    with serving(units_of(flat_file, flat_file), either_loop) as site:
        yield site


def test_a_delay_behind_a_gateway_slows_one_unit_only(gateway: Site) -> None:
    gateway.add("delay", unit_id=2, seconds=DELAY_S)
    with ExitStack() as stack:
        healthy, *ill = [stack.enter_context(gateway.connect()) for _ in range(6)]
        with kept_busy(*ill, unit=2) as slow:
            wait_for(lambda: len(gateway.events(2)) == 5)
            quick = latencies_s(healthy)
            assert slow == []  # it did last all the while
    assert statistics.median(quick) < MOST_S
    assert max(quick) < DELAY_S / 2
    assert min(slow) > DELAY_S / 2  # else nothing was wrong, and nothing is shown


def test_on_one_connection_too_only_the_ill_unit_waits(gateway: Site) -> None:
    gateway.add("delay", unit_id=2, seconds=1.0)
    with gateway.connect() as client:
        start = time.perf_counter()
        client.send(frame(READ_ONE, 1, 2) + frame(READ_ONE, 2, 1) + frame(READ_ONE, 3, 2))
        order = []
        for _ in range(3):
            order.append(client.reply()[0])
            if order == [2]:
                assert time.perf_counter() - start < 0.9
        assert order == [2, 1, 3]


def test_one_device_keeps_the_order_of_its_replies(gateway: Site) -> None:
    """The control: what is let past is let past only because it is of another device."""
    gateway.add("delay", unit_id=2, seconds=0.1, count=1)
    with gateway.connect() as client:
        client.send(frame(READ_ONE, 1, 2) + frame(READ_ONE, 2, 2))
        assert [client.reply()[0] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "drip", "interval_s": 0.5},
        {"kind": "half_open"},
        {"kind": "no_reply"},
        {"kind": "torn"},
        {"kind": "frozen"},
    ],
)
def test_other_faults_slow_nobody_else_either(gateway: Site, keys: dict[str, Any]) -> None:
    gateway.add(**keys, unit_id=2)
    with ExitStack() as stack:
        healthy, *ill = [stack.enter_context(gateway.connect()) for _ in range(6)]
        for client in ill:
            client.send(b"".join(frame(READ_ONE, n, 2) for n in range(10)))
        wait_for(lambda: gateway.unit(2).faults.rules()[0].fired >= 5)
        assert max(latencies_s(healthy)) < DELAY_S / 2


def test_devices_of_one_process_are_slowed_one_by_one(flat_file: Path) -> None:
    """As in a worker of a fleet: each device with a port of its own, one event loop for all."""

    async def main() -> tuple[list[float], list[float]]:
        config = load_device(flat_file)
        names = ("healthy", "ill")
        devices = [
            config.model_copy(update={"device": config.device.model_copy(update={"device_id": name})})
            for name in names
        ]
        async with Plant([Endpoint(("127.0.0.1",), 0, (device,)) for device in devices]) as plant:
            delay = FAULT_RULE.validate_python({"kind": "delay", "seconds": 0.05})
            plant.units["ill"].faults.add(delay)
            return await asyncio.to_thread(interleaved, *plant.ports)

    def interleaved(healthy: int, ill: int) -> tuple[list[float], list[float]]:
        with RawClient(healthy) as one, RawClient(ill) as other:
            took = [(latencies_s(one, rounds=1), latencies_s(other, rounds=1)) for _ in range(30)]
        return [quick[0] for quick, _ in took], [slow[0] for _, slow in took]

    quick, slow = asyncio.run(main())
    assert min(slow) > 0.04
    assert statistics.median(quick) < 0.025


def test_plc_scans_are_in_time_while_replies_are_delayed(flat_file: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(flat_file.read_text())
    content["device"]["plc_scan_ms"] = 20
    content["faults"] = [{"kind": "delay", "seconds": 0.3}]
    device = tmp_path / "scanning.yaml"
    device.write_text(yaml.safe_dump(content))
    with emulating(device) as emulator, ExitStack() as stack:
        clients = [stack.enter_context(emulator.connect()) for _ in range(20)]
        for client in clients:
            client.send(b"".join(frame(READ_ONE, n) for n in range(16)))
        for client in clients:
            assert [client.reply()[0] for _ in range(16)] == list(range(16))
        code, said, complaints = emulator.stop()
    assert (code, complaints) == (0, "")
    skipped = int(said.split()[0]) if "skipped" in said else 0
    assert skipped < 20, said  # one reply after the other would take 96 s
