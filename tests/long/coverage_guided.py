"""Coverage-guided fuzzing of the decoder and of framing: no exception comes out, and every answer is right.

python -m long.coverage_guided --minutes 20 (with PYTHONPATH=tests); what it finds is left in a file crash-*
of the folder it is run in.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris
from long.hostile_stream import KNOWN_TROUBLE, NO_HEADERS
from long.oracle import HEADER, Oracle
from test_conformance import DEVICE, SECTIONS, as_bytes

with atheris.instrument_imports(include=["plcsim"]):
    from fake_transport import connected

    from plcsim.config import DeviceConfig
    from plcsim.device import Device
    from plcsim.protocol.requests import Request
    from plcsim.unit import Unit

ORACLE = Oracle(DEVICE)
LOOP = asyncio.new_event_loop()
UNIT = Unit(Device(DeviceConfig.model_validate(DEVICE)))
_PIECE_BYTES = 16
"""How many bytes at the beginning of an input say into which pieces its stream is cut."""


def one_input(data: bytes) -> None:
    """Take an input as a PDU or as a stream in pieces, and check what is answered."""
    if not data:
        return
    if data[0] & 1:
        check_pdu(data[1:254])
    else:
        check_stream(data[1 : 1 + _PIECE_BYTES], data[1 + _PIECE_BYTES :])


def check_pdu(pdu: bytes) -> None:
    if pdu:
        reply = UNIT.respond(Request(1, 1, pdu, "test"))
        beginning, length = ORACLE.reply(pdu)
        assert reply.startswith(beginning), f"{reply.hex()} to {pdu.hex()}"
        assert len(reply) == length <= 253, f"{reply.hex()} to {pdu.hex()}"


def check_stream(sizes: bytes, stream: bytes) -> None:
    answers, _, ends = ORACLE.answers(stream)
    with connected(UNIT, LOOP) as transport:
        fed = 0
        for size in (*sizes, len(stream)):
            fed += transport.feed(stream[fed : fed + size])
        assert transport.closed == ends
        assert ends or fed == len(stream)
        position = 0
        for answer in answers:
            assert answer.is_at(transport.sent, position), f"{transport.sent.hex()} to {stream.hex()}"
            position += answer.length
        assert position == len(transport.sent)


def seeds() -> list[bytes]:
    """Inputs to begin with: the requests of docs/conformance.md and what is known to be trouble."""
    whole = b"".join(HEADER.pack(i, 0, len(p) + 1, 1) + p for i, p in enumerate(KNOWN_TROUBLE))
    pdus = [as_bytes(row.request) for s in SECTIONS if not s.shows_frames for row in s.rows]
    streams = [as_bytes(row.request) for s in SECTIONS if s.shows_frames for row in s.rows]
    pieces = bytes(range(1, 1 + _PIECE_BYTES))
    return [b"\x01" + pdu for pdu in (*pdus, *KNOWN_TROUBLE)] + [
        b"\x00" + pieces + stream for stream in (*streams, *NO_HEADERS, whole)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        for number, data in enumerate(seeds()):
            one_input(data)
            Path(folder, f"{number:04d}").write_bytes(data)
        libfuzzer = [f"-max_total_time={60 * options.minutes:.0f}", f"-seed={options.seed}", "-max_len=1200"]
        atheris.Setup([sys.argv[0], *libfuzzer, "-print_final_stats=1", "-verbosity=1", folder], one_input)
        atheris.Fuzz()  # exits


if __name__ == "__main__":
    main()
