"""A fleet of 84-parameter machines: start, memory, processor time and lateness of PLC scans while each is
polled once a second, at 10, 100 and 1,000 machines; the poller's own processor time stands apart."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import psutil
from figures import figure, finish

from logger.read_plan import plan_reads
from plcsim.device_file import load_device
from plcsim.event_loop import new_event_loop
from plcsim.lateness import Counts, percentile_ms, since
from plcsim.plant import raise_file_limit
from plcsim.testing import FleetDevice, RunningFleet

ALD_FILE = Path(__file__).parent.parent / "configs" / "ald.yaml"
STARTS = 5
SIZES = (10, 100, 1000)
SECONDS = {10: 15, 100: 15, 1000: 30}
