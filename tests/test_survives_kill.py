"""kill -9 and SIGTERM of a real logger, in calm, in an outage, and between a COMMIT and its answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fix_postgres import Schema
from fix_proxy import Proxy
from spoiled import ScansATransaction, asks_nobody
from survival import Lives, check, lives, numbers_stored, stored_twice
from waiting import wait_for

ENDS = ["KILL", "KILL away", "TERM", "TERM away", "KILL"]
"""How each life ends; "away": the database is, since before the life began."""
STORES = b"synchronizing"
"""Is in the request that stores, as a parameter."""
OPTIONS = ("--interval", "20ms", "--drain", "300ms")


def live(run: Lives, schema: Schema, proxy: Proxy, end: str) -> None:
    """One life: until it has stored something, or spooled something with the database away."""
    away = end.endswith("away")
    proxy.refuses = away
    stood, life = numbers_stored(schema), run.start()
    if away:
        before = run.scans_waiting() if run.spool.exists() else 0
        wait_for(lambda: run.scans_waiting() > before + 5, 20, "scans in the spool")
    else:
        wait_for(lambda: numbers_stored(schema) > stood + 5, 20, "scans to be stored")
    if end.startswith("KILL"):
        life.kill()
    else:
        ended = life.end()
        assert ended.code == 0, ended.complaints
    run.remember()


@pytest.mark.parametrize("is_kept", [True, False], ids=["", "control: without the spool"])
def test_what_was_accepted_is_stored_once_however_the_logger_ends(
    schema: Schema, running_machine: Path, proxy: Proxy, tmp_path: Path, is_kept: bool
) -> None:
    with lives(schema.name, tmp_path, running_machine, proxy.conninfo, *OPTIONS) as run:
        for end in ENDS if is_kept else ENDS[1:2]:
            live(run, schema, proxy, end)
            if not is_kept:
                shutil.rmtree(run.spool)
        live(run, schema, proxy, "TERM")
    accepted = sum(map(len, run.accepted.values()))
    print(f"\n{len(run.lives) - 1} loggers ended, {accepted} accepted scans found in what they left")
    assert accepted > 10
    if not is_kept:
        assert run.lost(schema) > 0
        return
    assert run.lost(schema) == stored_twice(schema) == 0
    kills = sum(end.startswith("KILL") for end in ENDS)
    assert schema.value("SELECT count(*) FROM scan_gaps") >= kills, "what was in hand is a recorded gap"
    check(schema)


class Withholding:
    """The logger never learns that its next transaction has committed, nor anything after it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._is_open = self._stores = False

    def __call__(self, request: bytes) -> str | None:
        if b"BEGIN" in request:
            self._is_open, self._stores = True, False
        self._stores |= STORES in request and b"logging_streams" not in request  # not where it is prepared
        if self._is_open and b"COMMIT" not in request:
            return None
        self._is_open = False
        if not self._stores or self._proxy.refuses:
            return None
        self._proxy.refuses = True
        return "reply"


@pytest.mark.parametrize("is_careful", [True, False], ids=["", "control: without asking what is stored"])
def test_killed_between_commit_and_answer_it_goes_on_with_another_limit(
    schema: Schema, running_machine: Path, proxy: Proxy, tmp_path: Path, is_careful: bool
) -> None:
    """The answer is withheld, what was sent is in the database, and the logger dies of kill -9."""
    spoils = () if is_careful else (asks_nobody,)
    limits = [3, 50, 1] if is_careful else [3]
    with lives(schema.name, tmp_path, running_machine, proxy.conninfo, *OPTIONS) as run:
        for limit in limits:
            proxy.fate, proxy.refuses = lambda request: None, True
            stood, life = numbers_stored(schema), run.start(*spoils, ScansATransaction(limit))
            wait_for(lambda: run.spool.exists() and run.scans_waiting() >= 8, 20, "scans in the spool")
            proxy.fate, proxy.refuses = Withholding(proxy), False
            wait_for(lambda stood=stood: numbers_stored(schema) > stood, 20, "a commit")  # type: ignore[misc]
            life.kill()
            run.remember()
        proxy.fate, proxy.refuses = lambda request: None, False
        before, last = numbers_stored(schema), run.start(*spoils)
        wait_for(lambda: numbers_stored(schema) > before + 10, 20, "scans to be stored")
        assert last.end().code == 0
    withheld = proxy.landed["reply"]
    print(f"\n{withheld} answers withheld of transactions that had committed")
    assert withheld == len(limits)
    if is_careful:
        assert run.lost(schema) == stored_twice(schema) == 0
        check(schema)
    else:
        assert stored_twice(schema) > 0
