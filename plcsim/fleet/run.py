"""What `plcsim fleet` does: reads the fleet file, starts the workers, supervises them."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import click

from plcsim.control.socket import default_socket
from plcsim.errors import InputError, PlcsimError
from plcsim.event_loop import new_event_loop
from plcsim.fleet.process import cores, start_workers
from plcsim.fleet.supervisor import Supervisor
from plcsim.fleet.view import new_view
from plcsim.fleet.worker import work
from plcsim.fleet_file import Fleet, load_fleet
from plcsim.journal_file import open_to_append
from plcsim.plant import raise_file_limit

_FILES_BESIDE = 64
"""What a worker has open besides its listening sockets and journals."""


def run_fleet(
    path: Path,
    processes: int | None,
    journal_folder: Path | None,
    control: Path | None,
    as_json: bool,
    request_journal: Path | None = None,
) -> None:
    """Serve a fleet until SIGINT or SIGTERM.

    Raises InputError if its file or a folder cannot be used, ListenError if an address cannot be
    bound; then no process is left.
    """
    fleet = load_fleet(path)
    if journal_folder:
        _make_folder(journal_folder)
    if request_journal:
        open_to_append(request_journal).close()  # a problem is told before anything starts
    count = min(processes or fleet.processes or cores(), len(fleet.endpoints))
    _check_file_limit(fleet, count, journal_folder is not None)
    view, socket = new_view(as_json), control or default_socket(fleet.name)
    gc.freeze()  # what is loaded stays as it is, so that the workers share its memory
    supervisor = Supervisor(
        fleet, start_workers(count, work), view, _say, journal_folder, socket, request_journal
    )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(supervisor.run())


def _check_file_limit(fleet: Fleet, workers: int, journals: bool) -> None:
    limit = raise_file_limit()
    most = -(-len(fleet.endpoints) // workers)
    needed = most + (most if journals else 0) + _FILES_BESIDE
    if needed > limit:
        raise PlcsimError(
            f"a process would need {needed} open files and may have {limit}: "
            "raise the hard limit (ulimit -Hn), or use more --processes"
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{folder}: cannot be a folder for journals: {exc.strerror}") from None


def _say(line: str) -> None:
    click.echo(f"plcsim: {line}", err=True)
