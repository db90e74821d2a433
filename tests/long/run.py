"""Runs the long parts one after the other; what is done is on disk, so an interrupted run goes on.

python -m long.run [--full | --part NAME …] [--results DIR] [--fresh] [--list] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """A module of this package, its options for `make test-long` and for the full counts."""

    name: str
    module: str
    default: str
    full: str


PARTS = [
    Part("hostile_frames", "hostile_frames", "--frames 1000000", "--frames 5000000"),
    Part("coverage_guided", "coverage_guided", "--minutes 3", "--minutes 20"),
    Part("descriptors", "descriptors", "", ""),
    Part("slow_clients", "slow_clients", "", ""),
    Part("parts_of_bench", "parts_of_bench", "", ""),
    Part("kill_database", "commit_faults", "--harm kill --count 60", "--harm kill --count 200"),
    Part("cut", "commit_faults", "--harm cut --count 25", "--harm cut --count 50"),
    Part("stall", "commit_faults", "--harm stall --count 25", "--harm stall --count 50"),
    Part("black_hole", "commit_faults", "--harm hole --count 10", "--harm hole --count 50"),
    Part("frozen_backend", "commit_faults", "--harm freeze --count 5", "--harm freeze --count 10"),
    Part("kill_logger", "kill_logger", "--count 60", "--count 200"),
    Part("terminate_logger", "kill_logger", "--signal TERM --count 30", "--signal TERM --count 100"),
    Part("restart_after_commit", "restart_after_commit", "--count 20", "--count 50"),
    Part("concurrent_writers", "concurrent_writers", "", ""),
    Part("outage", "outage", "--count 6", "--count 60"),
    Part("full_disk", "full_disk", "", "--count 3"),
    Part("spool_crash", "spool_crash", "", ""),
    Part("spool_corruption", "spool_corruption", "--count 500", "--count 2000"),
    Part("dead_device", "dead_device", "--count 4", "--count 10"),
    Part("chaos", "chaos", "--count 5", "--count 30"),
]
SOAK = Part("soak", "soak", "--count 60", "--count 60")


def run(part: Part, options: str, folder: Path) -> bool:
    """Run a part unless it is done with these options; what it says is kept."""
    result = folder / f"{part.name}.json"
    if result.exists() and json.loads(result.read_text())["options"] == options:
        print(f"{part.name}: done already ({result.with_suffix('.txt')})", flush=True)
        return True
    print(f"{part.name}: python -m long.{part.module} {options}", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", f"long.{part.module}", *options.split()]
    with result.with_suffix(".txt").open("w") as said:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
        )
        assert process.stdout
        try:
            for line in process.stdout:
                print(f"  {line}", end="", flush=True)
                said.write(line)
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # each part cleans up behind itself
            process.wait(60)
            raise
    seconds = time.monotonic() - began
    print(f"{part.name}: {'ok' if code == 0 else 'SHORT'} after {seconds:.0f} s", flush=True)
    if code == 0:
        partial = result.with_suffix(".new")
        partial.write_text(json.dumps({"options": options, "seconds": round(seconds, 1)}))
        partial.replace(result)
    return code == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the full counts")
    parser.add_argument("--part", action="append", help="only this one; may be repeated")
    parser.add_argument("--results", type=Path, default=Path("build/long"))
    parser.add_argument("--fresh", action="store_true", help="forget what was done")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    named = {part.name: part for part in (*PARTS, SOAK)}
    if unknown := set(options.part or []) - named.keys():
        parser.error(f"--part {sorted(unknown)[0]}: there is no such part; there are {', '.join(named)}")
    parts = [named[name] for name in options.part] if options.part else PARTS
    if options.list:
        for part in parts:
            print(f"{part.name}: python -m long.{part.module} {part.full if options.full else part.default}")
        return
    folder = options.results / ("full" if options.full else "default")
    folder.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        for part in parts:
            (folder / f"{part.name}.json").unlink(missing_ok=True)
    done = [run(part, part.full if options.full else part.default, folder) for part in parts]
    sys.exit(0 if all(done) else 1)


if __name__ == "__main__":
    main()
