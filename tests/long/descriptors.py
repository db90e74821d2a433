"""2,048 connections that come and go and 1,000 that do nothing leave no descriptor behind.

python -m long.descriptors (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from fix_emulator import Emulator, emulating, flat_device, frame
from waiting import wait_for

from plcsim.plant import raise_file_limit

READ, REPLY = bytes.fromhex("03 0000 0001"), bytes.fromhex("03 02 1234")


def come_and_go(emulator: Emulator, cycles: int) -> None:
    """Connections of all sorts, one after the other: silent, asking, half a request, no Modbus, reset."""
    for n in range(cycles):
        with emulator.connect() as client:
            match n % 5:
                case 1:
                    assert client.ask(READ) == REPLY
                case 2:
                    client.send(frame(READ)[:7])
                case 3:
                    client.send(b"GET / HTTP/1.1\r\n\r\n")
                    assert client.rest() == b""
                case 4:
                    client.send(100 * frame(READ))
                    client.reset()


def stay(emulator: Emulator, connections: int) -> int:
    """Idle connections, all of which are still served in the end; descriptors of the emulator meanwhile."""
    with ExitStack() as stack:
        idle = [stack.enter_context(emulator.connect()) for _ in range(connections)]
        assert [client.ask(READ) for client in idle] == connections * [REPLY]
        return psutil.Process(emulator.process.pid).num_fds()


def run(cycles: int, connections: int) -> str:
    """The figures; raises AssertionError if a descriptor is left."""
    raise_file_limit()
    with TemporaryDirectory() as folder, emulating(flat_device(Path(folder))) as emulator:
        descriptors = psutil.Process(emulator.process.pid).num_fds
        before = descriptors()
        come_and_go(emulator, cycles)
        wait_for(lambda: descriptors() <= before, what="the descriptors of those that came and went")
        most = stay(emulator, connections)
        assert most >= before + connections
        wait_for(lambda: descriptors() <= before, what="the descriptors of those that did nothing")
        after = descriptors()
        with emulator.connect() as client:
            assert client.ask(READ) == REPLY
        return (
            f"{cycles:,} connections came and went, {connections:,} stayed a while: "
            f"{before} descriptors before, {most:,} at most, {after} after"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=2048)
    parser.add_argument("--idle", type=int, default=1000)
    options = parser.parse_args()
    print(run(options.cycles, options.idle))


if __name__ == "__main__":
    main()
