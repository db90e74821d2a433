"""docs/emulator.md: every example does what the page prints, and no key and no kind of fault is missing."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from plcsim.control.socket import ask
from plcsim.faults.rules import FAULT_RULE, FaultRule
from plcsim.faults.selection import OnRequest, Windowed
from plcsim.server_config import FunctionsSpec, IdentificationSpec, ServerSpec, TlsSpec

PAGE = (Path(__file__).parent.parent / "docs" / "emulator.md").read_text(encoding="utf-8")
PORT = "5502"
DEADLINE_S = 30.0

RULES: dict[str, type[Windowed]] = {
    get_args(rule.model_fields["kind"].annotation)[0]: rule for rule in get_args(FaultRule)
}


@dataclass(frozen=True)
class Section:
    heading: str
    text: str

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)


def sections() -> dict[str, Section]:
    parts = re.split(r"^##+ (.+)$", PAGE, flags=re.MULTILINE)[1:]
    headings, texts = parts[::2], parts[1::2]
    assert len(set(headings)) == len(headings)
    return {heading: Section(heading, text) for heading, text in zip(headings, texts, strict=True)}


SECTIONS = sections()
WITH_EXAMPLES = [name for name, each in SECTIONS.items() if each.blocks("console")]


def matches(printed: str, expected: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, printed) is not None


class Desk:
    """A folder with the page's files, a shell for its commands, and the emulator they started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._env = os.environ | {"XDG_RUNTIME_DIR": str(runtime), "PATH": path}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])  # 5502 might be in use
        for block in SECTIONS["Run a device"].blocks("yaml") + SECTIONS["Run a device"].blocks("python"):
            name = re.match(r"# (\S+)\n", block)
            assert name
            (folder / name[1]).write_text(block.replace(PORT, self._port), encoding="utf-8")

    def run(self, block: str, kind: str = "") -> int:
        """Run the commands of a block; each must print what stands below it. How many there were."""
        commands = re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
        assert "".join(f"$ {command}\n{output}" for command, output in commands) == block
        for command, output in commands:
            expected = output.replace(PORT, self._port)
            printed = self._printed(command, expected)
            assert matches(printed, expected), f"$ {command}\n{printed}"
            if f" add {kind} " in f"{command} " and kind:
                self.check_rule(kind)
        return len(commands)

    def _printed(self, command: str, expected: str) -> str:
        if command.endswith(" &"):
            words = command.removesuffix(" &").split()
            pipe = subprocess.PIPE
            process = subprocess.Popen(words, cwd=self._folder, env=self._env, stdout=pipe, text=True)
            self._started.append(process)
            assert process.stdout
            return "".join(process.stdout.readline() for _ in expected.splitlines())
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout

    def check_rule(self, kind: str) -> None:
        """The first fault of this kind that the commands added is the one of the section's YAML."""
        told = self.ask({"op": "fault", "do": "list"})["faults"]
        first = next(fault["rule"] for fault in told if fault["kind"] == kind)
        assert FAULT_RULE.validate_python(first) == rule_of(kind)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        (control,) = (self._folder / "run").rglob("*.sock")
        return ask(control, request)

    def start_anew(self) -> None:
        """As if the emulator had just been started."""
        fault = {"op": "fault", "device": "all"}
        self.ask(fault | {"do": "clear"})
        self.ask(fault | {"do": "add", "rule": {"kind": "restart"}})
        self.ask(fault | {"do": "clear"})

    def close(self) -> None:
        for process in self._started:
            process.terminate()
            rest, _ = process.communicate(timeout=DEADLINE_S)
            assert (process.returncode, rest) == (0, "")


def rule_of(kind: str) -> FaultRule:
    """The rule in the YAML of the section on a kind of fault."""
    (block,) = SECTIONS[kind].blocks("yaml")
    (rule,) = yaml.safe_load(block)["faults"]
    return FAULT_RULE.validate_python(rule)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    try:
        desk.run(SECTIONS["Run a device"].blocks("console")[0])
        yield desk
    finally:
        desk.close()


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_an_example_does_what_the_page_prints(desk: Desk, name: str) -> None:
    desk.start_anew()
    blocks = SECTIONS[name].blocks("console")
    if name == "Run a device":
        del blocks[0]  # the fixture has run it
    assert sum(desk.run(block, name if name in RULES else "") for block in blocks)


def test_an_example_that_prints_otherwise_is_noticed(desk: Desk) -> None:
    """Without its fault no example of a fault prints what the page says."""
    desk.start_anew()
    for kind in ("exception", "wrong_unit_id", "truncate", "nan", "reset"):
        (block,) = SECTIONS[kind].blocks("console")
        without = re.sub(r"\$ plcsim fault .*\n.* added\n", "", block)
        assert without != block
        with pytest.raises(AssertionError, match=r"\$ python see\.py"):
            desk.run(without)


@pytest.mark.parametrize("kind", RULES)
def test_every_kind_of_fault_has_an_example(kind: str) -> None:
    (console,) = SECTIONS[kind].blocks("console")
    assert f"$ plcsim fault plc-1 add {kind}" in console
    assert "$ python see.py" in console
    assert rule_of(kind).kind == kind


@pytest.mark.parametrize("kind", RULES)
def test_a_section_tells_the_keys_of_its_kind(kind: str) -> None:
    shared = {*Windowed.model_fields, *OnRequest.model_fields, "kind"}
    prose = re.sub(r"```.*?```", "", SECTIONS[kind].text, flags=re.DOTALL)
    missing = [key for key in RULES[kind].model_fields if key not in shared and f"`{key}`" not in prose]
    assert missing == []


def test_the_keys_of_all_faults_are_told() -> None:
    told = {key for row in rows("Keys of all faults") for key in codes(row[0])}
    assert told == {"kind", *OnRequest.model_fields}


def test_no_section_is_of_a_kind_that_is_not_there() -> None:
    of_faults = PAGE[PAGE.index("## Faults of the reply") :]
    assert re.findall(r"^### (.+)$", of_faults, re.MULTILINE) == list_in_page_order()


def list_in_page_order() -> list[str]:
    return sorted(RULES, key=lambda kind: PAGE.find(f"\n### {kind}\n"))


NESTED: dict[str, type[BaseModel]] = {
    "tls": TlsSpec,
    "identification": IdentificationSpec,
    "functions": FunctionsSpec,
}


def settings() -> dict[str, str]:
    """Every key of `server:`, with dots, and its default as the page writes it."""
    found = {key: default_of(ServerSpec, key) for key in ServerSpec.model_fields if key not in NESTED}
    for section, model in NESTED.items():
        found |= {f"{section}.{key}": default_of(model, key) for key in model.model_fields}
    return found


def default_of(model: type[BaseModel], key: str) -> str:
    field = model.model_fields[key]
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    match default:
        case None | {}:
            return "none"
        case bool():
            return str(default).lower()
        case int() | float():
            return f"{default:g}"
    return str(getattr(default, "value", default))


def rows(name: str) -> list[list[str]]:
    lines = [line for line in SECTIONS[name].text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_key_of_the_server_is_there_with_its_default() -> None:
    told = {key: row[1].strip("`") for row in rows("Server settings") for key in codes(row[0])}
    assert told == settings()


def test_every_section_of_a_device_file_is_named() -> None:
    from plcsim.config import DeviceConfig

    told = {key for row in rows("The device file") for key in codes(row[0])}
    assert told == set(DeviceConfig.model_fields)


def test_links_lead_somewhere() -> None:
    docs = Path(__file__).parent.parent / "docs"
    for page, anchor in re.findall(r"\]\(([\w.-]*)(?:#([\w-]+))?\)", PAGE):
        assert not page or (docs / page).is_file(), page
        names = {re.sub(r"[^\w-]", "", name.lower().replace(" ", "-")) for name in SECTIONS}
        assert not anchor or anchor in names, anchor
