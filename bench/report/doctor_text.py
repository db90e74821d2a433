"""What `plcbench doctor` found, for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from bench.analysis.abilities import Probes, abilities
from bench.report.table import Table


def print_doctor(probes: Probes, environment: dict[str, Any], console: Console) -> None:
    """Print figures first, then what follows from them."""
    host = environment.get("host") or {}
    memory_gb = environment["memory_bytes"] / (1 << 30)
    console.print(
        Text(
            f"{environment['cpu']}, {probes.cores} cores, {memory_gb:.0f} GB, clock {host.get('clock')}, "
            f"data on {host.get('file_system')}, PostgreSQL {environment['postgresql']['version']}; "
            f"comparability key {environment['comparability_key']}"
        ),
        soft_wrap=True,
    )
    console.print(probes_table(probes).to_rich())
    found = abilities(probes)
    for can, title in ((True, "This machine can measure"), (False, "It cannot measure")):
        lines = [ability for ability in found if ability.can is can]
        if lines:
            console.print(Text(title, style="bold green" if can else "bold yellow"))
        for ability in lines:
            console.print(Text(f"  {ability.what}: {ability.why}"), soft_wrap=True)


def probes_table(p: Probes) -> Table:
    """The figures of all probes."""
    return Table(
        "Probes",
        ("probe", "median", "p99", "unit"),
        [
            ("one look at the clock", f"{p.clock_call_us:.3g}", "", "µs"),
            ("smallest step of the clock", f"{p.clock_step_us:.3g}", "", "µs"),
            (
                "waking up late from 1 ms of sleep",
                f"{p.sleep_overshoot_p50_us:.3g}",
                f"{p.sleep_overshoot_p99_us:.3g}",
                "µs",
            ),
            ("held up for 1 ms or more", f"{p.pauses_per_s:.3g}", "", "a second"),
            ("longest of these", f"{p.longest_pause_ms:.3g}", "", "ms"),
            ("recording one latency", f"{p.record_us:.3g}", "", "µs"),
            ("pacing 2,000 starts a second", f"{100 * p.pacing_share:.3g}", "", "% of a core"),
            ("late at 10,000 starts a second", "", f"{p.null_wait_p99_ms:.3g}", "ms"),
            ("durable write of 8 kB", f"{p.fsync_p50_us:.4g}", f"{p.fsync_p99_us:.4g}", "µs"),
            ("loopback round trip", f"{p.loopback_p50_us:.3g}", f"{p.loopback_p99_us:.3g}", "µs"),
            ("round trip to the database", f"{p.database_p50_us:.3g}", f"{p.database_p99_us:.3g}", "µs"),
        ],
    )
