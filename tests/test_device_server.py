"""The parts of a device file that only the emulator reads: numbered keys, names of faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from plcsim.device_file import load_device
from plcsim.errors import ConfigError

TANK = """\
device: {device_id: tank-1}
%s
groups:
  - name: values
    table: holding_register
    parameters:
      - {id: 1, component: tank, name: level, address: 0, type: uint16}
"""


def tank(folder: Path, section: str) -> Path:
    path = folder / "tank.yaml"
    path.write_text(TANK % section, encoding="utf-8")
    return path


@pytest.mark.parametrize("key", ["4", "0x04", '"4"', '"0x4"'])
def test_a_number_may_be_a_key_with_quotes_or_without(tmp_path: Path, key: str) -> None:
    config = load_device(tank(tmp_path, f"server: {{functions: {{files: {{{key}: [7, 8]}}}}}}"))
    assert config.server.functions.files == {4: [7, 8]}


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("server: {functions: {files: {4: [7], 4: [8]}}}", "2: 4: the key appears twice"),
        (
            "server: {functions: {files: {128: [7], 0x80: [8]}}}",
            "2: server.functions.files: the keys 128 and 0x80 are the same number",
        ),
        (
            'server: {functions: {fifo: {10: [7], "0xA": [8]}}}',
            "2: server.functions.fifo: the keys 10 and 0xA are the same number",
        ),
        (
            'server: {identification: {private: {0x80: a, "128": b}}}',
            "2: server.identification.private: the keys 0x80 and 128 are the same number",
        ),
        ('server: {functions: {files: {"1_28": [7]}}}', "2: server.functions.files.1_28"),
        ('server: {functions: {fifo: {" 1": [7]}}}', "2: server.functions.fifo. 1"),
        ('server: {identification: {private: {"1_28": a}}}', "2: server.identification.private.1_28"),
        ("server: {functions: {files: {04: [7]}}}", "2: 04: the key is not text"),
        ("server: {functions: {files: {0: [7]}}}", "2: server.functions.files.0"),
        ("server: {functions: {fifo: {65536: [7]}}}", "2: server.functions.fifo.65536"),
        (
            "faults:\n  - {kind: reset, name: cut, count: 1}\n  - {kind: busy, name: cut}",
            "4: faults[1].name: 'cut' is already the name of a fault",
        ),
        ("faults: [{seconds: 1}]", "2: faults[0]: 'kind' is missing"),
        ('faults: [{kind: busy, name: "a\\nb"}]', "2: faults[0].name: 'a\\nb' is not a name"),
        ("faults: [{kind: frozen, functions: [6]}]", "2: faults[0]: functions: 6 reads nothing"),
        (
            "server: {identification: {model_name: Größe}}",
            "2: server.identification.model_name: 'Größe': must",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, section: str, says: str) -> None:
    path = tank(tmp_path, section)
    with pytest.raises(ConfigError) as caught:
        load_device(path)
    assert str(caught.value).startswith(f"{path}:{says}")


def test_faults_without_a_name_may_be_of_one_kind(tmp_path: Path) -> None:
    config = load_device(tank(tmp_path, "faults: [{kind: reset, count: 1}, {kind: reset, every: 9}]"))
    assert [fault.name for fault in config.faults] == [None, None]
