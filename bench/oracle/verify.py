"""The oracle: checks what loggers and operators stored against the invariants I1 to I6, counts violations.

The truth comes from `plcsim.truth`, the configuration of each device from the database itself.
`table_checks` looks at whole tables, `stream_check` reads each stream row by row, and
`operators_check` what was voided or inserted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from psycopg import Connection

from bench.oracle.current_check import check_current_values
from bench.oracle.invariants import INVARIANTS, Check, Verification
from bench.oracle.operators_check import OperatorsCheck, StreamReinserted
from bench.oracle.stream_check import StreamCheck
from bench.oracle.table_checks import check_records, check_transactions
from logger.database.operators import OPERATORS_STREAM
from logger.scan import ScanLayout
from logger.streams import StreamHead
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device
from plcsim.errors import ConfigError
from plcsim.truth import Write

_STREAMS = """
SELECT device_id, stream_id, s.last_scan, s.head_hash, coalesce(s.poll_group, '')
FROM logging_streams s
FULL JOIN (SELECT DISTINCT device_id, stream_id FROM logging_transactions) l USING (device_id, stream_id)
ORDER BY 1, 2"""


def verify(
    connection: Connection[Any], writes_to: Callable[[str], Sequence[Write]] = lambda device_id: ()
) -> Verification:
    """Check everything in the connection's schema.

    `writes_to` gives what clients wrote to an emulated PLC, by its device_id, since its last restart;
    without them a written set value counts as wrong. The connection must not be used by anybody else
    meanwhile.
    """
    checks = {name: Check(name) for name in INVARIANTS}
    verification = Verification(checks)
    with connection.transaction():
        # one snapshot for everything, so that a logger at work does not look like a violation
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for setting, value in (
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("transaction_timeout", "0"),  # not every server has it
            ("work_mem", "256MB"),
        ):
            connection.execute(
                "SELECT set_config(name, %s, true) FROM pg_settings WHERE name = %s", (value, setting)
            )
        devices = _devices(connection, checks["I4"])
        check_transactions(connection, checks["I1"])
        check_current_values(connection, checks["I2"], devices)
        check_records(connection, checks["I3"])
        streams = connection.execute(_STREAMS).fetchall()
        for device_id, group in groupby(streams, key=lambda row: row[0]):
            if device_id not in devices:
                checks["I4"].violated(f"the parameters of {device_id} are not known", len(list(group)))
                continue
            device = _Device(connection, devices[device_id], checks, writes_to(device_id))
            verification.rows += device.check(list(group))
    return verification


def _devices(connection: Connection[Any], check: Check) -> dict[str, DeviceConfig]:
    """The configurations by device_id; one that is not what was registered tells no truth."""
    devices = {}
    for device_id, data, sha256 in connection.execute(
        "SELECT device_id, configuration, configuration_sha256 FROM devices ORDER BY 1"
    ):
        try:
            config = parse_device(data, f"stored configuration of {device_id}")
        except ConfigError as exc:
            check.violated(str(exc))
            continue
        if (config.device.device_id, config.sha256) != (device_id, sha256):
            check.violated(f"the stored configuration of {device_id} is not the one that was registered")
        if config.device.device_id == device_id:
            devices[device_id] = config
    return devices


class _Device:
    """The streams of one device: those of its loggers first, then what operators made of them."""

    def __init__(
        self,
        connection: Connection[Any],
        config: DeviceConfig,
        checks: dict[str, Check],
        writes: Sequence[Write],
    ) -> None:
        self._connection = connection
        self._config = config
        self._checks = checks
        self._writes = writes
        self._groups = {group.name for group in config.poll_groups} | {""}

    def check(self, streams: Sequence[tuple[Any, ...]]) -> int:
        """Check streams, each a row of `_STREAMS`; returns how many history rows were read."""
        rows, reinserted = 0, []
        for device_id, stream_id, last_scan, head_hash, poll_group in streams:
            if stream_id == OPERATORS_STREAM:
                continue
            if poll_group not in self._groups:
                self._checks["I4"].violated(
                    f"stream {stream_id} of {device_id}: no poll group {poll_group!r}"
                )
                continue
            stream = StreamCheck(self._config, stream_id, self._checks, self._writes, poll_group)
            read, again = stream.run(self._connection, _head(last_scan, head_hash))
            rows += read
            layout = ScanLayout(self._config, poll_group)
            reinserted.append(StreamReinserted(stream_id, layout, again))
        for device_id, stream_id, last_scan, head_hash, _ in streams:
            if stream_id == OPERATORS_STREAM:
                operators = OperatorsCheck(device_id, self._checks, reinserted)
                operators.run(self._connection, _head(last_scan, head_hash))
        return rows


def _head(last_scan: int | None, head_hash: bytes) -> StreamHead | None:
    return None if last_scan is None else StreamHead(last_scan, bytes(head_hash))
