"""What the machine does while something is measured, by a thread that looks once a second.

A look takes 0.2 ms on an EPYC that tells little (median of 200, beside other work).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Event, Thread
from types import MappingProxyType

import numpy as np
from typing_extensions import Self

from flowpose.bench.readings import STAT, STATM, Reading, take_reading
from flowpose.bench.records import Observed, Range
from flowpose.device import nvml
from flowpose.device.files import ROOT
from flowpose.device.tegrastats import one_line
from flowpose.errors import DeviceError
from flowpose.runtime.machine import peak_memory_mb

PERIOD_S = 1.0
TEGRASTATS_S = 5.0  # where tegrastats is asked, which is a process of its own for half a second
SLOPE_READINGS = 4  # fewest that a line is laid through

ABSENT: Mapping[str, str] = MappingProxyType(
    {
        "memory": f"no /{STATM}",
        "cpu clock": "no /sys/devices/system/cpu/cpu*/cpufreq, as in virtual machines",
        "cpu throttling": "no /sys/devices/system/cpu/cpu*/thermal_throttle (Intel's have it)",
        "gpu clock": "neither NVML nor a Jetson's /sys/class/devfreq tells of a GPU",
        "temperature": "no thermal zone in /sys/class/thermal, and no GPU's sensor",
        "power": "no power monitor (INA3221, INA238) in /sys/class/hwmon, and no GPU's",
        "energy": "no RAPL meter in /sys/class/powercap that this user may read",
        "load": f"no /{STAT}",
    }
)
"""What may be missing -> why."""


class Watch:
    """Readings from the start of a block to its end; `readings` grows meanwhile.

    Args:
        take: makes a reading; without it this machine is asked, and NVML and tegrastats where they are there.
        period: seconds between two; without it PERIOD_S, or TEGRASTATS_S.

    Raises:
        DeviceError: on leaving the block, where a reading failed.
    """

    def __init__(self, take: Callable[[], Reading] | None = None, period: float | None = None) -> None:
        self.readings: list[Reading] = []
        own, usual = _taker() if take is None else (take, PERIOD_S)
        self._take, self.period, self._ended = own, usual if period is None else period, Event()
        self._thread = Thread(target=self._run, name="flowpose-watch", daemon=True)
        self._error: DeviceError | None = None

    def __enter__(self) -> Self:
        self.readings.append(self._take())
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
        self.readings.append(self._take())

    def observed(self) -> Observed:
        """Returns what the readings show so far."""
        return seen(self.readings)

    def _run(self) -> None:
        while not self._ended.wait(self.period):
            try:
                self.readings.append(self._take())
            except DeviceError as error:
                self._error = error
                return


def _taker() -> tuple[Callable[[], Reading], float]:
    """What reads this machine, and how often."""
    cards = nvml.gpus if nvml.gpus().gpus else None
    if shutil.which("tegrastats") is None:
        return partial(take_reading, ROOT, cards), PERIOD_S
    return partial(take_reading, ROOT, cards, one_line), TEGRASTATS_S


def seen(readings: Sequence[Reading], peak: Callable[[], float] = peak_memory_mb) -> Observed:
    """Returns what readings, in order of time, show of the machine.

    Args:
        readings: two or more.
        peak: the most memory that this process has had, MB.
    """
    first, last = readings[0], readings[-1]
    memory = [each.memory_mb for each in readings if each.memory_mb is not None]
    clocks, temperatures, power = (
        _ranges([getattr(each, name) for each in readings]) for name in ("clocks", "temperatures", "power")
    )
    found = Observed(
        seconds=last.at - first.at,
        n=len(readings),
        memory_mb=Range.of(memory) if memory else None,
        memory_peak_mb=peak(),
        memory_slope=_slope(readings),
        clocks=clocks,
        temperatures=temperatures,
        power=power,
        energy=_energy(first, last),
        throttling=_throttling(readings),
        steal=_steal(first, last),
        others=_others(first, last),
        absent={},
    )
    return found.model_copy(update={"absent": _absent(found, first)})


def _ranges(tables: Sequence[Mapping[str, float]]) -> dict[str, Range]:
    names = dict.fromkeys(name for each in tables for name in each)
    return {name: Range.of([each[name] for each in tables if name in each]) for name in names}


def _slope(readings: Sequence[Reading]) -> float | None:
    """MB a minute, of the second half of the time: what a run fills at its start is no leak."""
    middle = (readings[0].at + readings[-1].at) / 2
    points = [
        (each.at, each.memory_mb) for each in readings if each.at >= middle and each.memory_mb is not None
    ]
    if len(points) < SLOPE_READINGS:
        return None
    at, mb = np.array(points).T
    return float(np.polyfit(at - at[0], mb, 1)[0] * 60)


def _energy(first: Reading, last: Reading) -> dict[str, float]:
    """A meter that started anew has gone round once: it takes minutes at full power."""
    found = {}
    for name in first.energy.keys() & last.energy.keys():
        used = last.energy[name] - first.energy[name]
        used += first.energy_range.get(name, 0.0) if used < 0 else 0.0
        if used >= 0:
            found[name] = used
    return found


def _throttling(readings: Sequence[Reading]) -> tuple[str, ...]:
    """Reasons that were seen, and counters that grew."""
    first, last = readings[0].throttles, readings[-1].throttles
    grown = [name for name, count in last.items() if count > first.get(name, count)]
    return tuple(dict.fromkeys([*(each for reading in readings for each in reading.reasons), *grown]))


def _steal(first: Reading, last: Reading) -> float | None:
    if first.load is None or last.load is None or last.load.total <= first.load.total:
        return None
    return (last.load.stolen - first.load.stolen) / (last.load.total - first.load.total)


def _others(first: Reading, last: Reading) -> float | None:
    """Cores' worth of time; a tick of /proc/stat is 10 ms, so a short run may come out a little below 0."""
    if first.load is None or last.load is None or last.at <= first.at:
        return None
    return max(0.0, (last.load.busy - first.load.busy - (last.own - first.own)) / (last.at - first.at))


def _absent(found: Observed, first: Reading) -> dict[str, str]:
    there = {
        "memory": found.memory_mb is not None,
        "cpu clock": any(name.startswith("cpu") for name in found.clocks),
        "cpu throttling": bool(first.throttles),
        "gpu clock": any(name.startswith("gpu") for name in found.clocks),
        "temperature": bool(found.temperatures),
        "power": bool(found.power),
        "energy": bool(found.energy),
        "load": first.load is not None,
    }
    return {name: ABSENT[name] for name, seen in there.items() if not seen}
