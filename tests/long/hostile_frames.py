"""Millions of hostile frames against `plcsim run`: every answer is what the specification demands.

python -m long.hostile_frames --frames 5000000 (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import yaml
from fix_emulator import DEADLINE_S, Emulator, RawClient, emulating
from long.hostile_stream import HostileStream, segments
from long.oracle import Oracle
from test_conformance import DEVICE

CONNECTIONS = 8
FRAMES_A_BATCH = 120
ROUND_BOUNDARY = 40
"""Every so many batches one is cut into two segments at every boundary in turn."""
MAX_GROWTH_BYTES = 8_000_000
GOOD = bytes.fromhex("03 006b 0003"), bytes.fromhex("03 06 022b 0000 0064")
GOOD_DEADLINE_S = 5.0


@dataclass
class Figures:
    """What came of a run."""

    seed: int
    frames: int = 0
    seconds: float = 0.0
    closed: int = 0
    """Connections that the server ended, as it had to."""
    reset: int = 0
    """Connections that the client broke off with replies under way."""
    codes: Counter[int] = field(default_factory=Counter)
    """Exception code, 0 for none: how many."""
    good_answers: int = 0
    good_worst_s: float = 0.0
    growth_bytes: int = 0

    def __str__(self) -> str:
        codes = ", ".join(f"{code:02d}: {count:,}" for code, count in sorted(self.codes.items()))
        return (
            f"{self.frames:,} hostile frames in {self.seconds:.1f} s ({self.frames / self.seconds:,.0f}/s), "
            f"seed {self.seed}\n"
            f"exceptions (00: none) {codes}\n"
            f"{self.closed:,} connections closed by the server, {self.reset:,} reset by the client\n"
            f"good client: {self.good_answers:,} right answers, slowest {1000 * self.good_worst_s:.1f} ms\n"
            f"memory grew by {self.growth_bytes / 1e6:.1f} MB"
        )


class WrongAnswer(AssertionError):
    """The server did not do what the specification demands."""


class Attacker:
    """Sends hostile batches over several connections and checks every byte that comes back."""

    def __init__(self, emulator: Emulator, oracle: Oracle, figures: Figures, deadline_s: float) -> None:
        self.figures = figures
        self._emulator = emulator
        self._oracle = oracle
        self._deadline_s = deadline_s
        self._stream = HostileStream(DEVICE, figures.seed)
        self._clients = [self._connected() for _ in range(CONNECTIONS)]
        self._begun = CONNECTIONS * [b""]
        """What each connection has sent of a frame that is not complete."""
        self._batches = 0

    def round(self) -> None:
        """One batch over each connection, all of them sent before the first answer is read."""
        sent = [self._send(number) for number in range(CONNECTIONS)]
        for number, (stream, first) in enumerate(sent):
            self._check(number, stream, first)

    def close(self) -> None:
        for client in self._clients:
            client.socket.close()

    def _send(self, number: int) -> tuple[bytes, int]:
        """What the server has to make of what came; and where the new bytes begin."""
        self._batches += 1
        new = self._stream.batch(FRAMES_A_BATCH)
        client = self._clients[number]
        cuts = self._stream.cuts(len(new))
        if self._batches % ROUND_BOUNDARY == 0:
            new = self._stream.frame() + self._stream.frame()
            cuts = [self._batches // ROUND_BOUNDARY % len(new)]
        try:
            for segment in segments(new, cuts):
                client.send(segment)
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed at a header in the middle; what came before is checked all the same
        return self._begun[number] + new, len(self._begun[number])

    def _check(self, number: int, stream: bytes, first: int) -> None:
        answers, taken, ends = self._oracle.answers(stream)
        size = sum(answer.length for answer in answers)
        client = self._clients[number]
        self.figures.frames += len(answers) + ends
        try:
            data = client.rest() if ends else client.receive(size)
        except (TimeoutError, AssertionError) as exc:
            raise WrongAnswer(f"{exc}: wanted {size} bytes for {stream.hex()} (new from {first})") from exc
        position = 0
        for answer in answers:
            if not answer.is_at(data, position):
                if ends and position >= len(data):
                    break  # a reset behind the end may overtake answers
                got = data[position : position + answer.length].hex(" ")
                raise WrongAnswer(f"{got} instead of {answer.beginning.hex(' ')} for {stream.hex()}")
            self.figures.codes[answer.beginning[8] if answer.beginning[7] & 0x80 else 0] += 1
            position += answer.length
        if len(data) > size:
            raise WrongAnswer(f"{data[size:].hex(' ')} behind the last answer to {stream.hex()}")
        self._begun[number] = stream[taken:]
        if ends:
            self.figures.closed += 1
            self._renew(number)
        elif self._batches % 97 == 0:
            client.send(self._stream.batch(FRAMES_A_BATCH))
            client.reset()
            self.figures.reset += 1
            self._renew(number)

    def _renew(self, number: int) -> None:
        self._clients[number].socket.close()
        self._clients[number] = self._connected()
        self._begun[number] = b""

    def _connected(self) -> RawClient:
        client = self._emulator.connect()
        client.socket.settimeout(self._deadline_s)
        return client


class GoodClient(threading.Thread):
    """Asks the same right question all the time; every answer must be right and come in time."""

    def __init__(self, client: RawClient) -> None:
        super().__init__()
        self._client = client
        self._ended = threading.Event()
        self.answers = 0
        self.worst_s = 0.0
        self.trouble: Exception | None = None

    def run(self) -> None:
        self._client.socket.settimeout(GOOD_DEADLINE_S)
        try:
            while not self._ended.wait(0.01):
                start = time.perf_counter()
                assert self._client.ask(GOOD[0], self.answers % 0x10000) == GOOD[1]
                self.worst_s = max(self.worst_s, time.perf_counter() - start)
                self.answers += 1
        except (OSError, AssertionError) as exc:
            self.trouble = exc

    def stop(self) -> None:
        self._ended.set()
        self.join()
        if self.trouble:
            raise WrongAnswer(f"the good client: {self.trouble!r}")


def run(
    frames: int,
    seed: int,
    believed: dict[str, Any] = DEVICE,
    deadline_s: float = DEADLINE_S,
    uvloop: bool = True,
) -> Figures:
    """Send so many frames, to a device that is taken to be as `believed`; answers must come in time.

    Raises WrongAnswer, and AssertionError if the emulator complains when it ends.
    """
    figures = Figures(seed)
    with TemporaryDirectory() as folder:
        path = Path(folder, "device.yaml")
        path.write_text(yaml.safe_dump(DEVICE), encoding="utf-8")
        with emulating(path, uvloop=uvloop) as emulator, emulator.connect() as good:
            friend = GoodClient(good)
            friend.start()
            try:
                _attack(Attacker(emulator, Oracle(believed), figures, deadline_s), emulator, frames)
            finally:
                friend.stop()
            figures.good_answers, figures.good_worst_s = friend.answers, friend.worst_s
            assert good.ask(GOOD[0]) == GOOD[1]
    return figures


def _attack(attacker: Attacker, emulator: Emulator, frames: int) -> None:
    figures = attacker.figures
    memory = psutil.Process(emulator.process.pid).memory_info
    warm = 0
    start = time.perf_counter()
    try:
        while figures.frames < frames:
            attacker.round()
            if not warm and figures.frames > frames / 10:
                warm = memory().rss
    finally:
        attacker.close()
    figures.seconds = time.perf_counter() - start
    figures.growth_bytes = memory().rss - warm
    assert figures.growth_bytes < MAX_GROWTH_BYTES, f"memory grew by {figures.growth_bytes:,} bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--asyncio", action="store_true", help="run the emulator without uvloop")
    options = parser.parse_args()
    print(run(options.frames, options.seed, uvloop=not options.asyncio))


if __name__ == "__main__":
    main()
