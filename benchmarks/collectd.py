"""collectd on the same PLCs and the same PostgreSQL: what people use today, to compare with.

Debian's collectd-core 5.12 with its modbus plugin (one request a value; registers only, no coils) and
its postgresql writer (one INSERT a value, many in a transaction) into one table without an index.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from plcsim.config import DeviceConfig
from plcsim.parameters import DataType, Parameter, Table

VALUES = 84
"""Values a device and scan, as many as ours; where the device has fewer in registers, some come twice."""

_PLUGINS = Path("/usr/lib/collectd")
_TYPES = {
    DataType.INT16: "Int16",
    DataType.UINT16: "Uint16",
    DataType.INT32: "Int32",
    DataType.UINT32: "Uint32",
    DataType.FLOAT32: "Float",
}
_COMMANDS = {Table.HOLDING_REGISTER: "ReadHolding", Table.INPUT_REGISTER: "ReadInput"}


def is_installed() -> bool:
    """Whether collectd and both plugins are there."""
    return shutil.which("collectd") is not None and all(
        (_PLUGINS / name).exists() for name in ("modbus.so", "postgresql.so")
    )


class Collectd:
    """Reads devices and stores their values, as fast as it can, in a schema of its own."""

    def __init__(
        self,
        folder: Path,
        conninfo: str,
        schema: str,
        plcs: Sequence[tuple[DeviceConfig, str, int]],
        interval_s: float,
    ) -> None:
        self._configuration = folder / "collectd.conf"
        self._configuration.write_text(_configuration(folder, conninfo, schema, plcs, interval_s))
        (folder / "types.db").write_text("gauge value:GAUGE:U:U\n")

    def values_per_second(self, connection: Connection, schema: str, seconds: float) -> float:
        """Run it for so long; values in its table afterwards over the wall time of its process."""
        connection.execute(f'TRUNCATE "{schema}".collected')
        start = time.perf_counter()
        with subprocess.Popen(
            ["collectd", "-f", "-C", str(self._configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.terminate()
            process.wait(30)
        wall_s = time.perf_counter() - start
        row = connection.execute(f'SELECT count(*) FROM "{schema}".collected').fetchone()
        assert row is not None
        return float(row[0]) / wall_s


def make_table(connection: Connection, schema: str) -> None:
    """The table that it writes: no index, no key."""
    connection.execute(f'CREATE SCHEMA "{schema}"')
    connection.execute(
        f'CREATE TABLE "{schema}".collected (at timestamptz, host text, plugin text, plugin_instance text,'
        " type text, type_instance text, names text[], types text[], values double precision[])"
    )


def _configuration(
    folder: Path,
    conninfo: str,
    schema: str,
    plcs: Sequence[tuple[DeviceConfig, str, int]],
    interval_s: float,
) -> str:
    database = conninfo_to_dict(conninfo)
    data = {
        f"{config.device.device_id}_{n}": parameter
        for config, _, _ in plcs[:1]
        for n, parameter in enumerate(_registers(config))
    }
    names = [name.partition("_")[2] for name in data]
    blocks = [_data(name, parameter) for name, parameter in zip(names, data.values(), strict=True)]
    hosts = [_host(config, host, port, interval_s, names) for config, host, port in plcs]
    return f"""
Interval {interval_s}
ReadThreads {max(2, len(plcs))}
WriteThreads 2
TypesDB "{folder}/types.db"
BaseDir "{folder}"
PIDFile "{folder}/collectd.pid"
LoadPlugin modbus
LoadPlugin postgresql
<Plugin modbus>
{"".join(blocks)}{"".join(hosts)}</Plugin>
<Plugin postgresql>
  <Writer collected>
    Statement "INSERT INTO \\"{schema}\\".collected VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);"
    StoreRates false
  </Writer>
  <Database {database["dbname"]}>
    Host "{database["host"]}"
    Port "{database.get("port", 5432)}"
    User "{database["user"]}"
    Writer collected
    CommitInterval 1
  </Database>
</Plugin>
"""


def _registers(config: DeviceConfig) -> list[Parameter]:
    usable = [p for p in config.register_map.logged if p.table in _COMMANDS and p.data_type in _TYPES]
    return [usable[n % len(usable)] for n in range(VALUES)]


def _data(name: str, parameter: Parameter) -> str:
    return f"""  <Data "{name}">
    RegisterBase {parameter.address}
    RegisterType {_TYPES[parameter.data_type]}
    RegisterCmd {_COMMANDS[parameter.table]}
    Type gauge
    Instance "{name}"
  </Data>
"""


def _host(config: DeviceConfig, host: str, port: int, interval_s: float, names: Sequence[str]) -> str:
    collected = "".join(f'      Collect "{name}"\n' for name in names)
    return f"""  <Host "{config.device.device_id}">
    Address "{host}"
    Port "{port}"
    Interval {interval_s}
    <Slave {config.modbus.unit_id}>
      Instance "plc"
{collected}    </Slave>
  </Host>
"""
