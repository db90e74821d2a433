"""A recorded day as a CSV file: read as it stands, and what is wrong in it is told with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.replay.csv_file import device_of, read_csv
from plcsim.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "day.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "time,oven.temperature,run\n10,20.5,0\n11,,17\n12.5,21,17\n",
        "﻿time;oven.temperature;run\r\n10;20,5;0\r\n\r\n11;NaN;17\r\n12.5;21,0;17\r\n",
        "run\toven.temperature\ttime\n0\t20.5\t2026-01-31T00:00:00Z\n17\t\t2026-01-31 00:00:01\n"
        "17\t21\t2026-01-31T01:00:02.5+01:00\n",
    ],
    ids=["commas", "semicolons and decimal commas", "tabs and dates"],
)
def test_a_csv_file_is_read_as_it_stands(tmp_path: Path, text: str) -> None:
    recording = read_csv(written(tmp_path, text), "time", "run")
    assert recording.at_s.tolist() == pytest.approx([0, 1, 2.5])
    names = [p.full_name for p in recording.config.register_map.parameters]
    assert sorted(names) == ["oven.temperature", "recorded.run"]
    columns = {name: i for i, name in enumerate(names)}
    temperature = recording.values[:, columns["oven.temperature"]]
    assert temperature.tolist() == pytest.approx([20.5, np.nan, 21], nan_ok=True)
    assert recording.values[:, columns["recorded.run"]].tolist() == [0, 17, 17]
    assert recording.quality[:, columns["oven.temperature"]].tolist() == [192, 24, 192]
    assert recording.seconds == pytest.approx(2.5 + 1.25)
    assert recording.config.process is not None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("time,a\n1,x\n", r"day\.csv:2: a: 'x': must be a number, or empty"),
        ("time,a\n1,2\n1,3\n", r"day\.csv:3: time: '1': must be later"),
        ("time,a\nnoon,2\n", r"day\.csv:2: time: 'noon': must be seconds or a time"),
        ("time,a\n1,2\n2\n", r"day\.csv:3: the row has 1 cells, the first line 2"),
        ("time,a,a\n1,2,3\n", r"day\.csv:1: a: is the name of two columns"),
        ("time,a,\n1,2,3\n", r"day\.csv:1: a column has no name"),
        ("time\n1\n", r"day\.csv:1: a row of column names is expected"),
        ("", r"day\.csv:1: a row of column names is expected"),
        ("time,a\n", r"day\.csv: has no row"),
        ("at,a\n1,2\n", r"day\.csv:1: time: is not a column; there are at, a"),
        ('time,a\n1,"2\n', r"day\.csv:\d: is not CSV"),
        ("time," + "a" * 200_000 + "\n1,2\n", r"day\.csv:1: is not CSV: field larger than"),
        ("time,a\n1,inf\n", r"day\.csv:2: a: 'inf'"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_csv(written(tmp_path, text), "time" if text.startswith("at") else "")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be() -> None:
    with pytest.raises(ConfigError, match="no/such/file"):
        read_csv(Path("no/such/file"))


def test_any_column_name_becomes_a_parameter_of_its_own() -> None:
    names = ["Öfen.Temp °C", "Öfen.Temp #C", "x" * 200, "x" * 201, "a.b.c", "?", ".", "run"]
    parameters = device_of(names, "run").register_map.parameters
    assert len({p.full_name for p in parameters}) == len(names)
    assert len(device_of([f"p{i}" for i in range(5000)]).register_map.parameters) == 5000
