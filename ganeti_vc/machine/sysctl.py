# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's parameters: read, raised, and kept raised by one file of ours (sysctl.d(5))."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ganeti_vc.base import files, kernel
from ganeti_vc.model import names

_HEAD = """\
# Made by gnt-vcluster doctor --fix: what was too low for the virtual Ganeti clusters of this machine.
# The package's purge removes this file; so may you.
"""


def path_of(key: str) -> Path:
    return Path("/proc/sys", *key.split("."))


def value(key: str) -> int | None:
    """Return the present value; None where this kernel, or this container, does not have it."""
    return kernel.number(path_of(key))


def is_writable(key: str) -> bool:
    """Tell whether a parameter can be changed here; in a container most are read-only."""
    return os.access(path_of(key), os.W_OK)


def write(key: str, number: int) -> None:
    path_of(key).write_text(f"{number}\n")


def render(values: Mapping[str, int]) -> str:
    return _HEAD + "".join(f"{key} = {number}\n" for key, number in sorted(values.items()))


def parse(text: str) -> dict[str, int]:
    """Return the values of a file that `render` has written; other lines are ignored."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip(): int(number) for key, _, number in pairs if number.strip().isdecimal()}


def kept() -> dict[str, int]:
    """Return the values in our file."""
    return parse(files.read(names.SYSCTL_FILE) or "")


def keep(values: Mapping[str, int]) -> None:
    """Write our file; without values, remove it."""
    if values:
        files.write(names.SYSCTL_FILE, render(values))
    else:
        names.SYSCTL_FILE.unlink(missing_ok=True)
