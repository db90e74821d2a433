"""kill -9 of backends and of the whole server under the load of a real logger."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from fix_postgres import Schema, reachable_folder
from fix_proxy import Proxy
from spoiled import asks_nobody
from survival import check, lives, stored_twice
from waiting import wait_for

from logger.database.embedded import EmbeddedError, EmbeddedPostgres

STORES = b"synchronizing"
SETTINGS = {"fsync": "off"}
BACKENDS, REPLIES = 4, 3
"""Backends killed with a request under way, and answers lost, before the server itself is killed."""


class Harm:
    """The fate of requests that store: a backend dies soon after it was sent, or its answer is lost."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server, self._dice = server, random.Random(5)
        self.left = ["backend"] * BACKENDS + ["reply"] * REPLIES
        self._dice.shuffle(self.left)
        self._calm = 3
        self.killed = 0

    def __call__(self, request: bytes) -> str | None:
        if STORES not in request or not self.left:
            return None
        self._calm -= 1
        if self._calm:
            return None
        self._calm = 3
        if self.left.pop() == "reply":
            return "reply"
        children = psutil.Process(self._server.postmaster_pid).children()
        pids = [child.pid for child in children if "[local]" in " ".join(child.cmdline())]
        threading.Timer(self._dice.random() * 0.003, self._kill, [pids]).start()
        return None

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """One that may be killed. No power fails: it needs no fsync."""
    folder = reachable_folder()
    with EmbeddedPostgres(folder / "postgresql", SETTINGS) as started:
        yield started
    shutil.rmtree(folder)


def stands_at(server: EmbeddedPostgres, name: str) -> int:
    """What is stored; -1 while the server recovers: kill -9 of one backend ends all connections."""
    try:
        with psycopg.connect(server.conninfo, options=f"-c search_path={name}") as connection:
            row = connection.execute("SELECT coalesce(sum(last_scan), 0) FROM logging_streams").fetchone()
            return int(row[0]) if row else -1
    except psycopg.Error:
        return -1


def restart(server: EmbeddedPostgres) -> bool:
    """Start the killed server again, once what is left of it has ended."""
    try:
        with EmbeddedPostgres(server.folder, SETTINGS):
            return True
    except EmbeddedError:
        return False


@pytest.mark.parametrize("is_careful", [True, False], ids=["", "control: without asking what is stored"])
def test_killed_backends_and_a_killed_server_lose_and_repeat_nothing(
    server: EmbeddedPostgres, running_machine: Path, tmp_path: Path, is_careful: bool
) -> None:
    name = "careful" if is_careful else "careless"
    proxy = Proxy(server.conninfo)
    harm = proxy.fate = Harm(server)
    options = ("--interval", "10ms", "--drain", "20s")
    try:
        with lives(name, tmp_path, running_machine, proxy.conninfo, *options) as run:
            life = run.start(*(() if is_careful else (asks_nobody,)))
            wait_for(lambda: not harm.left, 40, "all harm to be done")
            stood = wait_for(lambda: max(stands_at(server, name), 0), 20, "the server")
            if is_careful:
                os.kill(server.postmaster_pid, signal.SIGKILL)
                wait_for(lambda: restart(server), 20, "the server to start again")
            wait_for(lambda: stands_at(server, name) > stood + 20, 20, "storing to go on")
            ended = life.end()
    finally:
        proxy.close()
    schema = Schema(server.conninfo, name)
    try:
        twice = stored_twice(schema)
        print(f"\n{harm.killed} backends killed, {proxy.landed['reply']} answers lost")
        print(ended.figures["retries"])
        assert harm.killed >= BACKENDS
        assert proxy.landed["reply"] == REPLIES
        if not is_careful:
            assert twice > 0
            return
        assert (ended.code, ended.figures["spooled"], twice) == (0, 0, 0)
        assert (
            schema.value("SELECT count(DISTINCT scan) FROM parameter_value_history") == ended.figures["scans"]
        )
        check(schema)
    finally:
        schema.drop()
