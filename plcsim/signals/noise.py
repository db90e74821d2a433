"""Reproducible noise, uniform and independent from PLC scan to PLC scan, and what is made of it.

`u(scan) = (mix(key + scan·G mod 2^64) >> 11) / 2^53` lies in [0, 1), where `mix` is the output
function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, doi:10.1145/2660193.2660195), G is its golden
gamma 0x9E3779B97F4A7C15, and `key` the first 8 bytes, big-endian, of
SHA-256("{seed}/{device_id}/{parameter_id}"). Noise of amplitude a is `a · (2u - 1)`.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from plcsim.process import Scans
from plcsim.signals.moment import BaseSignal, Moment, Values

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

LEVEL_GAMMA = 0xD1B54A32D192ED03
"""What separates the keys of a random walk's levels."""


class Noise(BaseSignal):
    """mean + amplitude · (2u - 1): uniform in mean ± amplitude, independent from scan to scan."""

    kind: Literal["noise"]
    mean: float
    amplitude: float = Field(ge=0)

    @property
    def is_noisy(self) -> bool:
        return True

    def at(self, moment: Moment) -> Values:
        return np.asarray(self.mean + noise(moment, self.amplitude))


class RandomWalk(BaseSignal):
    """mean + amplitude · Σ w_k · n_k(scan): wanders, and never leaves mean ± amplitude.

    Level k (0 to levels - 1) is noise at every 2^k-th PLC scan, joined by straight lines:
    n_k(s) = (1 - f)·(2u_k(i) - 1) + f·(2u_k(i + 1) - 1), with i = s div 2^k, f = (s mod 2^k) / 2^k, and
    u_k the noise of key + (k + 1)·0xD1B54A32D192ED03. The weights w_k grow as 2^(k/2), as the way of a
    random walk grows with the root of its steps, and add up to 1.
    """

    kind: Literal["random_walk"]
    mean: float
    amplitude: float = Field(ge=0)
    levels: int = Field(default=12, ge=1, le=40)
    """The slowest part turns every 2^(levels - 1) PLC scans."""

    def at(self, moment: Moment) -> Values:
        walk = np.zeros(moment.plc_scans.shape)
        weights = 2.0 ** (np.arange(self.levels) / 2)
        for k, weight in enumerate((weights / weights.sum()).tolist()):
            key = (moment.noise_key + (k + 1) * LEVEL_GAMMA) % 2**64
            node, share = moment.plc_scans >> k, (moment.plc_scans & (2**k - 1)) / 2**k
            before, after = uniform(key, np.stack([node, node + 1]))
            walk += weight * ((1 - share) * (2 * before - 1) + share * (2 * after - 1))
        return self.mean + self.amplitude * np.clip(walk, -1.0, 1.0)


def noise_key(seed: int, device_id: str, parameter_id: int) -> int:
    """Key of a parameter's noise, as the module's docstring defines it."""
    digest = hashlib.sha256(f"{seed}/{device_id}/{parameter_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def uniform(key: int | NDArray[np.uint64], plc_scans: Scans) -> Values:
    """u(scan) of the module's docstring, in [0, 1); of several keys at once, if they broadcast."""
    with np.errstate(over="ignore"):
        z = np.asarray(key, dtype=np.uint64) + plc_scans.astype(np.uint64) * _GOLDEN_GAMMA
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return np.asarray((z >> np.uint64(11)) * 2.0**-53)


def noise(moment: Moment, amplitude: float) -> Values | float:
    """Noise of an amplitude at the moment's PLC scans; 0 for none."""
    if amplitude == 0.0:
        return 0.0
    dice = uniform(moment.noise_key, moment.plc_scans) if moment.dice is None else moment.dice
    return amplitude * (2.0 * dice - 1.0)
