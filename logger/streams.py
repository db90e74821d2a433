"""Where a stream of scans stands in the database: exactly-once, contiguity and the hash chain.

A stream is one logger's numbering of one device's scans. Its row holds the last scan stored and the
hash of the last ledger row; every transaction moves it from the state it expects, so that a repeat
changes nothing, and after an unknown outcome the row says what was stored.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from logger.scan import Batch, Floats, Gap

GENESIS = bytes(32)
"""Head hash of a stream without a transaction."""

_DOMAIN = b"plcsim ledger v1\x00"
_GAP_DOMAIN = b"plcsim gap v2\x00"
"""Of gaps with the times at which the first and the last scan were due, in microseconds; 0: unknown."""
_NO_PROCESS = UUID(int=0)
_CANONICAL_NAN = np.float64("nan")


@dataclass(frozen=True, slots=True)
class StreamHead:
    """Where a stream stands."""

    last_scan: int = 0
    head_hash: bytes = GENESIS


def batch_hash(batch: Batch, stream_id: int, process_id: UUID | None, previous: bytes) -> bytes:
    """Hash of a ledger row: over its rows and the stream's previous hash, 32 bytes.

    The rows' scans follow from first_scan and last_scan: each scan has the same parameters. Texts
    come last, each as its row's place, its length in bytes and itself; without any there is no such
    part, so that batches of numbers have the hash that version 1 gave them.
    """
    head = _head(
        _DOMAIN,
        batch.device_id,
        stream_id,
        batch.first_scan,
        batch.last_scan,
        batch.transaction_id,
        process_id,
        previous,
    )
    digest = hashlib.sha256(head)
    digest.update(struct.pack(">q", len(batch.value)))
    digest.update(batch.parameter_id.astype(">i4").tobytes())
    digest.update(batch.recorded_at.astype(">i8").tobytes())
    digest.update(_canonical(batch.value))
    digest.update(_canonical(batch.set_value))
    digest.update(batch.quality.astype(">i2").tobytes())
    for row, text in batch.texts:
        data = text.encode()
        digest.update(struct.pack(">qi", row, len(data)) + data)
    return digest.digest()


def gap_hash(gap: Gap, device_id: str, stream_id: int, transaction_id: UUID, previous: bytes) -> bytes:
    """Hash of a ledger row that records a gap; one that knows no times has the hash of version 1."""
    times = gap.first_at or gap.last_at
    domain, fixed = (_GAP_DOMAIN, (gap.first_at, gap.last_at)) if times else (_DOMAIN, (0,))
    head = _head(domain, device_id, stream_id, gap.first_scan, gap.last_scan, transaction_id, None, previous)
    return hashlib.sha256(head + struct.pack(f">{len(fixed)}q", *fixed) + gap.reason.encode()).digest()


def _head(
    domain: bytes,
    device_id: str,
    stream_id: int,
    first_scan: int,
    last_scan: int,
    transaction_id: UUID,
    process_id: UUID | None,
    previous: bytes,
) -> bytes:
    name = device_id.encode()
    fixed = struct.pack(">iqqi", stream_id, first_scan, last_scan, len(name))
    process = (process_id or _NO_PROCESS).bytes
    return b"".join((domain, previous, fixed, name, transaction_id.bytes, process))


def _canonical(values: Floats) -> bytes:
    """IEEE 754 bytes, high byte first; every NaN (stored as NULL) as the same one."""
    missing = np.isnan(values)
    if missing.any():
        values = np.where(missing, _CANONICAL_NAN, values)
    return values.astype(">f8").tobytes()
