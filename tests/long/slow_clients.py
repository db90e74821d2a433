"""2,000 clients that send a byte a second do not make another one wait: its p99 stays under twice as long.

Spells with and without their bytes alternate, so that both meet the same machine; the clients stay
connected all the time. python -m long.slow_clients (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from fix_emulator import RawClient, emulating, flat_device, frame

from plcsim.plant import raise_file_limit

READ, REPLY = bytes.fromhex("03 0000 0001"), bytes.fromhex("03 02 1234")
STEP_S = 0.0005
"""So long the generator rests: bytes of clients that know nothing of each other are spread, not joined."""
MAX_RATIO = 2.0


def drip(port: int, clients: int) -> None:
    """The slow clients: a line on stdin says for how many seconds they send, then they are silent."""
    raise_file_limit()
    request = frame(READ)
    with ExitStack() as stack:
        slow = [stack.enter_context(RawClient(port)) for _ in range(clients)]
        turns = cycle(range(clients))
        sent = clients * [0]
        print("connected", flush=True)
        for line in sys.stdin:
            start, done = time.monotonic(), 0
            while (age := time.monotonic() - start) < float(line):
                while done < age * clients:
                    done += 1
                    n = next(turns)
                    slow[n].send(request[sent[n] % 12 : sent[n] % 12 + 1])
                    sent[n] += 1
                    if sent[n] % 12 == 0:
                        assert slow[n].reply()[2] == REPLY
                time.sleep(STEP_S)
            print(sum(sent), flush=True)


def latencies_ms(client: RawClient, seconds: float) -> list[float]:
    """What each of the questions took that the good client asks meanwhile, one after the other."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter_ns()
        assert client.ask(READ) == REPLY
        found.append((time.perf_counter_ns() - start) / 1e6)
        time.sleep(0.001)
    return found


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def run(clients: int, spells: int, spell_s: float) -> str:
    """The figures; raises AssertionError if the good client was kept waiting."""
    raise_file_limit()
    quiet: list[float] = []
    busy: list[float] = []
    with TemporaryDirectory() as folder, emulating(flat_device(Path(folder))) as emulator:
        command = [sys.executable, "-m", "long.slow_clients", "--drip", str(emulator.port), str(clients)]
        pipe = subprocess.PIPE
        with (
            emulator.connect() as good,
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as others,
        ):
            assert others.stdin is not None
            assert others.stdout is not None
            assert others.stdout.readline() == "connected\n"
            sent = 0
            for _ in range(spells):
                quiet += latencies_ms(good, spell_s)
                others.stdin.write(f"{spell_s}\n")
                others.stdin.flush()
                busy += latencies_ms(good, spell_s)
                sent = int(others.stdout.readline())
            others.stdin.close()
    ratio = p99(busy) / p99(quiet)
    figures = (
        f"{clients:,} clients sent {sent:,} bytes in {spells} spells of {spell_s:g} s, "
        f"{sent / spells / spell_s / clients:.2f} a second each\n"
        f"good client's p99: {p99(quiet):.3f} ms without them ({len(quiet):,} requests), "
        f"{p99(busy):.3f} ms with them ({len(busy):,}): {ratio:.2f} times"
    )
    assert ratio < MAX_RATIO, figures
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--spells", type=int, default=15)
    parser.add_argument("--spell-s", type=float, default=2.0)
    parser.add_argument("--drip", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drip:
        drip(*options.drip)
    else:
        print(run(options.clients, options.spells, options.spell_s))


if __name__ == "__main__":
    main()
