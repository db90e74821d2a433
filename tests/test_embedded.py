"""The embedded PostgreSQL: private, shared by our processes, and sound after any of them is killed."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from fix_postgres import reachable_folder
from waiting import wait_for

from logger.database.embedded import EmbeddedError, EmbeddedPostgres, data_folder

USER = """
import sys
from pathlib import Path
from logger.database.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print(server.postmaster_pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def parent() -> Iterator[Path]:
    """A folder in which servers can live."""
    folder = reachable_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def folder(parent: Path) -> Path:
    """The folder of a server that has run before and is stopped; each test leaves it so."""
    with EmbeddedPostgres(parent / "shared") as server, psycopg.connect(server.conninfo) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    return parent / "shared"


def is_stopped(folder: Path) -> bool:
    return not (folder / "data" / "postmaster.pid").exists()


def has_ended(process: psutil.Process) -> bool:
    """Gone, or a zombie where nobody reaps orphans, as in some containers."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def answer(server: EmbeddedPostgres, query: str = "SELECT 1") -> Any:
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchone() if cursor.description else None


@contextmanager
def user(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that use the server until their standard input ends."""
    with ExitStack() as stack:

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", USER, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.callback(lambda: process.communicate(timeout=20))
            return process

        yield start


def said(process: subprocess.Popen[str]) -> int:
    """The postmaster's process id that a user printed once it was inside."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_server_from_an_empty_folder_is_private_and_complete(parent: Path) -> None:
    server = EmbeddedPostgres(parent / "new" / "below", {"work_mem": "7MB"})
    with server:
        assert answer(server) == (1,)
        with psycopg.connect(server.url) as connection:
            assert connection.info.dbname == "plcsim"
            for key, value in {
                "listen_addresses": "", "timezone": "UTC", "work_mem": "7MB", "fsync": "on",
                "server_encoding": "UTF8", "data_checksums": "on",
            }.items():  # fmt: skip
                assert connection.execute(f"SHOW {key}".encode()).fetchone() == (value,)
        for path in (server.folder, server.folder / "data", server.folder / "socket"):
            assert mode(path) == 0o700, path
        assert mode(server.folder / "socket" / ".s.PGSQL.5432") == 0o700
        postmaster = psutil.Process(server.postmaster_pid)
        assert postmaster.net_connections("inet") == []
        assert postmaster.username() != "root"
        assert (server.binaries / "pgbench").exists()
    assert is_stopped(server.folder)
    assert has_ended(postmaster)
    server.remove()
    assert not server.folder.exists()


def test_last_of_two_users_stops_the_server(folder: Path) -> None:
    first, second = EmbeddedPostgres(folder), EmbeddedPostgres(folder)
    with second:
        with first:
            pid = first.postmaster_pid
            assert second.postmaster_pid == pid
        assert answer(second) == (1,)
        with first:
            assert first.postmaster_pid == pid
    assert is_stopped(folder)


def test_users_that_start_together_share_one_server(folder: Path) -> None:
    with user(folder) as start:
        processes = [start() for _ in range(3)]
        assert len({said(process) for process in processes}) == 1
    assert is_stopped(folder)


def test_killed_user_leaves_no_lock_behind(folder: Path) -> None:
    with user(folder) as start:
        killed = start()
        pid = said(killed)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait(10)
        with EmbeddedPostgres(folder) as server:
            assert server.postmaster_pid == pid  # it went on without its user
            assert answer(server) == (1,)
    assert is_stopped(folder)


def test_living_user_keeps_the_server_of_a_killed_one(folder: Path) -> None:
    """The negative control: the lock that a process holds does count."""
    with user(folder) as start:
        killed = start()
        with EmbeddedPostgres(folder) as server:
            said(killed)
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait(10)
            with EmbeddedPostgres(folder):
                pass
            assert answer(server) == (1,)
    assert is_stopped(folder)


def test_killed_server_is_started_again_with_its_data(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        answer(server, "INSERT INTO kept VALUES (42)")
        killed = psutil.Process(server.postmaster_pid)
        killed.kill()
        wait_for(lambda: has_ended(killed), what="its end")
        with EmbeddedPostgres(folder) as again:
            assert again.postmaster_pid != killed.pid
            assert answer(again, "SELECT count(*) FROM kept WHERE n = 42") == (1,)
        assert answer(server) == (1,)  # the first user's connection string works again
    assert is_stopped(folder)


def test_process_id_that_has_a_new_owner_is_not_taken_for_the_server(folder: Path) -> None:
    pid_file = folder / "data" / "postmaster.pid"
    with EmbeddedPostgres(folder) as server:
        content, owner = pid_file.read_text(), pid_file.stat().st_uid
        command = server.binaries / "pg_ctl"
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=owner) as somebody:
        pid_file.write_text(content.replace(content.split()[0], str(somebody.pid), 1))
        os.chown(pid_file, owner, -1)
        status = [command, "-D", folder / "data", "status"]
        control = subprocess.run(status, user=owner, cwd="/", capture_output=True, check=False)
        assert control.returncode == 0  # pg_ctl alone takes it for the server
        with EmbeddedPostgres(folder) as server:
            assert answer(server) == (1,)
            assert server.postmaster_pid != somebody.pid
    assert is_stopped(folder)


@pytest.mark.parametrize("name", ["n" * 120, 'O\'Brien, "x y" \\ 100%'], ids=["long", "odd"])
def test_folder_may_have_any_name_and_move(folder: Path, parent: Path, name: str) -> None:
    moved = folder.rename(parent / name)
    with EmbeddedPostgres(moved) as server:
        assert answer(server, "SELECT count(*) >= 0 FROM kept") == (True,)
        with psycopg.connect(server.url) as connection:
            sockets = Path(connection.info.host)
            assert mode(sockets) == 0o700
    assert sockets.parent == Path("/tmp")
    assert not sockets.exists()
    moved.rename(folder)


def test_creation_that_was_killed_is_done_again(parent: Path) -> None:
    folder = parent / "killed"
    with user(folder) as start:
        killed = start()
        wait_for(lambda: (folder / "data.new" / "PG_VERSION").exists(), what="initdb to have begun")
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait(10)
    assert not (folder / "data").exists()
    with EmbeddedPostgres(folder) as server:
        assert answer(server) == (1,)
    server.remove()


def test_folder_that_cannot_be_used_is_one_clear_error(parent: Path) -> None:
    (parent / "file").write_text("")
    with pytest.raises(EmbeddedError, match=r"cannot use .*/file/x: Not a directory; name another folder"):
        EmbeddedPostgres(parent / "file" / "x").__enter__()


def test_server_that_does_not_start_says_why_and_leaves_no_lock(folder: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"does not start .*/log") as failed:
        EmbeddedPostgres(folder, {"work_mem": "nonsense"}).__enter__()
    assert "\n" not in str(failed.value)
    with EmbeddedPostgres(folder) as server:
        assert answer(server) == (1,)
    assert is_stopped(folder)


def test_data_folder_is_the_one_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLCSIM_DATA_DIR", "relative")
    assert data_folder() == Path.cwd() / "relative"
    monkeypatch.delenv("PLCSIM_DATA_DIR")
    assert data_folder().is_absolute()
    assert data_folder().name == "plcsim"
