"""The journal of what clients wrote: complete, in order, and enough to recompute the truth."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_emulator import ALD_FILE, Emulator, ald_device
from hypothesis import given
from hypothesis import strategies as st

from plcsim.device_file import load_device
from plcsim.errors import InputError
from plcsim.truth import Truth, Write
from plcsim.write_journal import append_write, open_journal, read_writes

writes = st.builds(
    Write,
    st.integers(0, 2**40),
    st.integers(1, 2**31 - 1),
    st.floats(allow_nan=False) | st.integers(0, 2**32).map(float),
)


@given(made=st.lists(writes, max_size=5))
def test_what_was_appended_is_read_back(tmp_path_factory: pytest.TempPathFactory, made: list[Write]) -> None:
    path = tmp_path_factory.mktemp("journal") / "writes"
    with open_journal(path) as file:
        for write in made:
            append_write(file, write)
    assert read_writes(path) == made


def test_nan_is_read_back_as_nan(tmp_path: Path) -> None:
    with open_journal(tmp_path / "writes") as file:
        append_write(file, Write(1, 2, math.nan))
    assert math.isnan(read_writes(tmp_path / "writes")[0].value)


def test_a_write_is_on_the_file_before_the_journal_is_closed(tmp_path: Path) -> None:
    with open_journal(tmp_path / "writes") as file:
        append_write(file, Write(1, 2, 3.5))
        assert (tmp_path / "writes").read_text() == '{"plc_scan": 1, "parameter_id": 2, "value": 3.5}\n'


@pytest.mark.parametrize(
    "bad",
    ["{", "[]", "7", '"x"', "{}", '{"plc_scan": 1, "parameter_id": 2}',
     '{"plc_scan": "x", "parameter_id": 2, "value": 3}',
     '{"plc_scan": 1, "parameter_id": null, "value": 3}',
     '{"plc_scan": 1, "parameter_id": 2, "val', ""],
)  # fmt: skip
def test_a_line_that_is_no_write_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "writes"
    path.write_text(f'{{"plc_scan": 1, "parameter_id": 2, "value": 3}}\n{bad}\n')
    with pytest.raises(InputError, match=r"writes:2: is not \{\"plc_scan\"") as caught:
        read_writes(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_an_error_of_the_user(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "writes"
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"writes: cannot be read") as caught:
        read_writes(path)
    assert str(caught.value).count("writes") == 1


def test_a_journal_of_an_earlier_run_is_not_continued(tmp_path: Path) -> None:
    with open_journal(tmp_path / "writes"):
        pass
    with open_journal(tmp_path / "writes") as file:  # empty: nothing was written
        append_write(file, Write(1, 2, 3))
    with pytest.raises(InputError, match=r"writes: holds the writes of an earlier run"):
        open_journal(tmp_path / "writes")
    assert read_writes(tmp_path / "writes") == [Write(1, 2, 3)]


def test_the_journal_of_an_emulator_recomputes_what_it_serves(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    journal = tmp_path / "writes"
    emulator = start_emulator(ald_device(tmp_path, 5), "--journal", str(journal), "--start-scan", "500")
    with emulator.connect() as client:
        assert client.ask(bytes.fromhex("10 006e 0002 04 0000 4040"))[0] == 16  # pressure: 3.0
        assert client.ask(bytes.fromhex("06 0084 2328"))[0] == 6  # pump speed: 9000
        assert client.ask(bytes.fromhex("05 0025 ff00"))[0] == 5  # vent valve
        assert client.ask(bytes.fromhex("06 0064 0000")) == b"\x86\x02"  # not writable: not in it
        recorded = read_writes(journal)
        assert [(w.parameter_id, w.value) for w in recorded] == [(60, 3.0), (71, 9000.0), (79, 1.0)]
        start = last = recorded[-1].plc_scan
        truth = Truth(load_device(ALD_FILE))
        while last < start + 30:
            values = client.ask(bytes.fromhex("04 0000 005e"))[2:]
            last, pressure, speed = struct.unpack(">I20xf128xH30x", values)
            if last > start:
                assert pressure == truth.value_at(5, last, recorded)
                assert speed == truth.value_at(43, last, recorded)
    assert emulator.stop()[0] == 0
    assert read_writes(journal) == recorded
