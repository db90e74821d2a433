"""What became of the scans that a logger accepted: lost, stored twice, torn; counted beside the oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from bench.analysis.verdict import Judgement, judge_zero
from bench.oracle.invariants import Verification
from bench.oracle.verify import verify

_STORED_AT = """
SELECT (extract(epoch FROM min(recorded_at)) * 1000000)::bigint
FROM parameter_value_history GROUP BY device_id, stream_id, scan"""
_DUPLICATED = """
SELECT coalesce(sum(times - 1), 0) FROM (
    SELECT count(DISTINCT scan) AS times FROM parameter_value_history
    GROUP BY device_id, stream_id, parameter_id, recorded_at HAVING count(DISTINCT scan) > 1) AS twice"""
_GAPS = "SELECT coalesce(sum(last_scan - first_scan + 1), 0) FROM scan_gaps"


@dataclass(frozen=True)
class Account:
    """Scans of one rig, over all of its faults."""

    accepted: int
    """That were read, or, where a logger was killed, that stood in its spool."""
    stored: int
    waiting: int
    """Accepted, and still in the spool: not stored, and not lost."""
    lost: int
    """Accepted, neither stored nor in the spool."""
    duplicated: int
    """Values that stand there again under another scan's number."""
    torn: int
    """Transactions that are there in part, and values that are not those of the scan they carry."""
    in_gaps: int
    """Due and not read, each in a gap record: no loss, but it is missing."""
    verification: Verification
    """What the oracle says."""

    def to_json(self) -> dict[str, Any]:
        return {
            "accepted_scans": self.accepted,
            "stored_scans": self.stored,
            "waiting_scans": self.waiting,
            "lost_scans": self.lost,
            "duplicated_values": self.duplicated,
            "torn": self.torn,
            "scans_in_gaps": self.in_gaps,
        }

    def judgements(self) -> list[Judgement]:
        """Each must be 0."""
        return [
            judge_zero("lost scans", self.lost, self.accepted),
            judge_zero("duplicated values", self.duplicated, self.stored),
            judge_zero("torn transactions or scans", self.torn, self.stored),
        ]


def account(connection: Connection[Any], accepted: Counter[int], in_spool: set[int]) -> Account:
    """Look at everything in the connection's schema, once the logger has ended."""
    for setting in ("statement_timeout", "transaction_timeout"):  # not every server has both
        connection.execute("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = %s", (setting,))
    stored = Counter(int(at) for (at,) in connection.execute(_STORED_AT))
    ((duplicated,),) = connection.execute(_DUPLICATED)
    ((in_gaps,),) = connection.execute(_GAPS)
    verification = verify(connection)
    missing = accepted - stored
    waiting = missing & Counter(in_spool)
    return Account(
        accepted=accepted.total(),
        stored=stored.total(),
        waiting=waiting.total(),
        lost=(missing - waiting).total(),
        duplicated=int(duplicated),
        torn=sum(verification.checks[name].violations for name in ("I1", "I4")),
        in_gaps=int(in_gaps),
        verification=verification,
    )
