"""The layers: plcsim <- logger <- bench, one way, and each foreign library in its one place.

Both are allow lists: what nobody has allowed is an offence, a new library and a new module too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("plcsim", "logger", "bench")

ALLOWED = {
    "plcsim": ["plcsim.*"],
    "logger": [
        "logger.*",
        # the vocabulary that all three share …
        *(f"plcsim.{module}.*" for module in ("parameters", "codec", "limits", "config", "device_file")),
        "plcsim.fleet_file.*",
        # … and what every command needs: its errors, its options, its event loop
        *(f"plcsim.{module}.*" for module in ("errors", "command", "event_loop")),
    ],
    "bench": ["bench.*", "logger.*", "plcsim.*"],
}

SERVING_HALF = {
    *("device", "layout", "look_ahead", "parts", "history", "truth", "truth_plan", "writes", "write_journal"),
    "request_journal",
    *("unit", "scanner", "plant", "runner", "journals", "testing", "protocol.requests", "tcp", "control"),
    *("fleet", "importers", "cli"),
}

FOREIGN = {
    "numpy": ["*"],
    "click": [
        "bench/cli/*",
        "logger/cli/*",
        "plcsim/command.py",
        "*/cli.py",
        "plcsim/control/fault_cli.py",
        "plcsim/control/option.py",
        "plcsim/fleet/run.py",
        "plcsim/fleet/view.py",
    ],
    "rich": ["*/cli.py", "logger/cli/*", "bench/cli/*", "plcsim/fleet/view.py", "bench/report/*"],
    "pytest": ["plcsim/testing.py"],
    "yaml": ["plcsim/yaml_file.py"],
    "pydantic": ["plcsim/*", "bench/*/plan*.py", "bench/analysis/targets.py"],
    "pydantic_core": ["plcsim/*"],  # errors that a model raises in words of its own
    "cryptography": ["plcsim/tcp/tls.py"],
    "uvloop": ["plcsim/event_loop.py"],
    "pymodbus": ["logger/reading/plc.py", "logger/reading/wire.py"],
    "platformdirs": ["logger/database/embedded.py", "plcsim/control/socket.py"],
    "psycopg": [
        "logger/database/*",
        "logger/forwarding/*",
        "logger/repositories/*",
        "bench/load/failures.py",  # the bench's one place that tells its errors apart
    ],
    "psycopg_pool": ["logger/repositories/*", "bench/load/failures.py", "bench/strategies/*"],
    "prometheus_client": ["logger/metrics.py"],
    "psycopg.Connection": ["bench/*"],  # whose place connects and maps the errors; bench asks queries
    "psycopg.sql": ["bench/*"],
    "psycopg.types": ["bench/strategies/*"],  # a strategy is a repository, and says the types of its values
    "an import at run time": ["bench/arms/own_class.py"],  # the class that a user names
    "hdrh": ["bench/measuring/*"],
    "psutil": ["bench/measuring/resources.py"],
    "scipy": [f"bench/analysis/{name}.py" for name in ("statistics", "scaling", "leak")],
}


def imported(source: str) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.ImportFrom():
                yield "a relative import"
            case ast.Call(func=ast.Name(id="__import__") | ast.Attribute(attr="import_module")):
                yield "an import at run time"


def is_allowed(package: str, path: str, name: str) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return True
    if top in PACKAGES:
        return any(fnmatch(f"{name}.", pattern) for pattern in ALLOWED[package])
    return any(
        fnmatch(path, place)
        for library, places in FOREIGN.items()
        if name == library or name.startswith(f"{library}.")
        for place in places
    )


def offences(root: Path) -> set[tuple[str, str]]:
    """(file, what it imports) of all that is not allowed."""
    return {
        (path.relative_to(root).as_posix(), name)
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
        for name in imported(path.read_text(encoding="utf-8"))
        if not is_allowed(package, path.relative_to(root).as_posix(), name)
    }


def test_every_import_is_allowed() -> None:
    assert offences(ROOT) == set()


def test_the_rule_sees_every_package() -> None:
    seen = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert {path.relative_to(ROOT).parts[0] for path in seen} == set(PACKAGES)
    assert len(seen) > 40


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("plcsim/codec.py", "import logger"),
        ("plcsim/codec.py", "from bench.quick.run import run"),
        ("logger/reading/plc.py", "from plcsim.tcp.server import ModbusServer"),
        ("logger/reading/plc.py", "import plcsim.device"),
        ("logger/reading/plc.py", "from plcsim import truth"),
        ("logger/reading/plc.py", "from plcsim.codecs import x"),
        ("logger/reading/plc.py", "def f():\n    import bench.cli"),
        ("logger/reading/poller.py", "import pymodbus.client"),
        ("logger/reading/poller.py", "from psycopg import Connection"),
        ("logger/reading/plc.py", "from . import poller"),
        ("logger/reading/plc.py", "import importlib\nimportlib.import_module('bench')"),
        ("bench/oracle/verify.py", "import psycopg"),
        ("bench/oracle/verify.py", "from psycopg.errors import UniqueViolation"),
        ("bench/oracle/verify.py", "import psutil"),
        ("bench/oracle/verify.py", "import requests"),
        ("plcsim/codec.py", "import scipy.stats"),
    ],
)
def test_offence_is_seen(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    ((where, _),) = offences(tmp_path)
    assert where == path


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("logger/reading/plc.py", "from plcsim.codec import Codec\nimport pymodbus, struct, numpy as np"),
        ("logger/repositories/wire.py", "from psycopg.adapt import Dumper"),
        ("bench/oracle/verify.py", "from psycopg import Connection, sql\nimport logger.scan, plcsim.truth"),
    ],
)
def test_what_is_allowed_is_no_offence(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert offences(tmp_path) == set()


@pytest.mark.parametrize(
    ("command", "never"),
    [
        ("logger.cli", {f"plcsim.{module}" for module in SERVING_HALF} | {"bench"}),
        ("plcsim.cli", {"logger", "bench", "psycopg", "pymodbus", "scipy", "psutil"}),
    ],
)
def test_program_loads_nothing_of_the_layers_above(command: str, never: set[str]) -> None:
    """Not by a detour either: what a fresh process holds after the import."""
    program = f"import sys, {command}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert never & set(done.stdout.split()) == set()
    assert command in done.stdout.split()
