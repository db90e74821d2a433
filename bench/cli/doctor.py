"""`plcbench doctor`."""

from __future__ import annotations

import json

import click

from bench.analysis.abilities import abilities
from bench.cli.options import console, database_option, progress_on
from bench.load.arms import bench_server
from bench.measuring.doctor import PLANNED_S, probe
from bench.measuring.environment import environment
from bench.report.doctor_text import print_doctor
from bench.results import sayable
from logger.database import connect, mapped_errors


@click.command()
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON, and nothing else.")
def doctor(url: str | None, as_json: bool) -> int:
    """What can this machine measure, and what not? Probes clock, sleep, disk, loopback, generator: 12 s.

    Exit code 0 whatever it finds.

    Example: plcbench doctor
    """
    out = console()
    if as_json:
        with mapped_errors(), bench_server(url) as conninfo, connect(conninfo) as connection:
            where = environment(connection)
            probes = probe(connection, lambda what, seconds: None)
        found = {
            "probes": probes.to_json(),
            "abilities": [ability.to_json() for ability in abilities(probes)],
            "environment": where,
        }
        click.echo(json.dumps(sayable(found), indent=1, allow_nan=False))
        return 0
    server = "the given database" if url else "a PostgreSQL of its own, removed after"
    out.print(f"probing this machine and {server}; about {PLANNED_S + 3:.0f} s", highlight=False)
    with (
        progress_on(out, PLANNED_S) as progress,
        mapped_errors(),
        bench_server(url) as conninfo,
        connect(conninfo) as connection,
    ):
        where = environment(connection)
        probes = probe(connection, progress)
    print_doctor(probes, where, out)
    return 0
