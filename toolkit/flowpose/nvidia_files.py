"""What NVIDIA's driver and a Jetson's nvpmodel write: one reading of it for a machine's facts and engines' keys."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from flowpose.errors import DeviceError

DRIVER = "proc/driver/nvidia/version"
STATUS = "var/lib/nvpmodel/status"
QUERY = "nvpmodel -q"
TIMEOUT_S = 3.0  # it answers at once, or waits for something that a container lacks
IN_A_CONTAINER = (
    "in a container, mount the board's folder: docker run -v /var/lib/nvpmodel:/var/lib/nvpmodel:ro"
)

_STATUS = re.compile(r"\bpmode:\s*(\d+)\b")
_QUERY = re.compile(r"NV Power Mode:\s*(\S+)\s*\n\s*(\d+)\s*(?:\n|$)")
_DRIVER = re.compile(r"NVRM version:.*?\s(\d+(?:\.\d+)+)\s")


@dataclass(frozen=True)
class NamedMode:
    """The power mode that is set: its id in this board's table and its name."""

    id: int
    name: str


def parse_status(text: str) -> int:
    """Returns the mode's id of a status file, as `pmode:0002 fmode:quiet`; DeviceError where it has none."""
    found = _STATUS.search(text)
    if found is None:
        raise DeviceError(STATUS, "does not name the mode", got=repr(text[:40]), expected="pmode:0002")
    return int(found.group(1))


def parse_query(text: str) -> NamedMode:
    """Returns the mode that `nvpmodel -q` prints; lines of the fan and of errors around it do not matter.

    Raises:
        DeviceError: no line `NV Power Mode: NAME` with the id on the next.
    """
    found = _QUERY.search(text)
    if found is None:
        expected = "NV Power Mode: NAME, and its id on the next line"
        raise DeviceError(
            QUERY, "does not name the mode", got=repr(text[-80:]), expected=expected, fix=IN_A_CONTAINER
        )
    return NamedMode(int(found.group(2)), found.group(1))


def asked_mode() -> NamedMode | None:
    """Returns what `nvpmodel -q` says; None where there is no such command.

    It may complain on stderr, without root, and still names the mode.

    Raises:
        DeviceError: it cannot be run, gives no answer in time, or one without the mode.
    """
    command = shutil.which("nvpmodel")
    if command is None:
        return None
    try:
        done = subprocess.run([command, "-q"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(QUERY, f"cannot be run ({error})", fix=IN_A_CONTAINER) from error
    return parse_query(done.stdout)


def parse_driver(text: str) -> str:
    """Returns the version in a /proc/driver/nvidia/version, as `540.4.0`; DeviceError if it has none."""
    found = _DRIVER.search(text + "\n")
    if found is None:
        raise DeviceError(
            DRIVER, "names no version", got=repr(text[:60]), expected="NVRM version: ... 540.4.0 ..."
        )
    return found.group(1)
