"""Takes memory and descriptors away from a process that runs, and gives them back (Linux, prlimit(2))."""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path

from bench.stress.server import NotMeasured

_PAGE = resource.getpagesize()
_NAMES = {resource.RLIMIT_AS: "as", resource.RLIMIT_NOFILE: "nofile"}


def limit_address_space(pid: int, more_bytes: int) -> None:
    """Let the process map so much more than it has mapped now, and nothing beyond it. Raises NotMeasured."""
    mapped = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * _PAGE
    _set(pid, resource.RLIMIT_AS, str(mapped + more_bytes))


def limit_descriptors(pid: int, numbers: int) -> None:
    """Refuse the process every new file and socket whose number is not below this; what is open stays.

    Raises NotMeasured.
    """
    _set(pid, resource.RLIMIT_NOFILE, str(numbers))


def give_back(pid: int) -> None:
    """Lift what was limited, as far as the process may have it; one that has ended needs nothing."""
    if not Path(f"/proc/{pid}").exists():
        return
    for what, column in (
        (resource.RLIMIT_AS, "Max address space"),
        (resource.RLIMIT_NOFILE, "Max open files"),
    ):
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        hard = next(line for line in lines if line.startswith(column)).removeprefix(column).split()[1]
        _set(pid, what, hard)


def _set(pid: int, what: int, most: str) -> None:
    """The soft limit alone, so that it can be lifted again; as the process's own user, who may."""
    program = shutil.which("prlimit")
    if program is None:
        raise NotMeasured("the limits of another process are set by prlimit (util-linux), which is not here")
    owner = Path(f"/proc/{pid}").stat()
    done = subprocess.run(
        [program, f"--pid={pid}", f"--{_NAMES[what]}={most}:"],
        user=owner.st_uid,
        group=owner.st_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotMeasured(f"the limits of process {pid} may not be set: {done.stderr.strip()}")
