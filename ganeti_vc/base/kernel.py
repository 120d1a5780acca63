# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel says of itself in /proc: mounts and numbers. The standard library only, as node/ imports it."""

from __future__ import annotations

import os
import re
from pathlib import Path


def mount_of(kind: str, option: str = "") -> str | None:
    """Return where the first file system of this type is mounted, with this option; None where there is none (proc(5))."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, type_, options, *_ = line.split()
        if type_ == kind and (not option or option in options.split(",")):
            return place
    return None


def mounts_at(directory: Path) -> list[Path]:
    """Return the mount points at and below a directory (proc(5), mountinfo), the innermost first."""
    top, places = os.path.realpath(directory), []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # Blanks and the like are written as three octal digits.
        place = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), line.split()[4])
        places.append(os.fsdecode(place))
    return [
        Path(place) for place in sorted(places, reverse=True) if place == top or place.startswith(f"{top.rstrip('/')}/")
    ]


def number(path: Path) -> int | None:
    """Return the first number in a file of /proc; None where this kernel, or this container, has no such file."""
    try:
        return int(path.read_text().split()[0])
    except (FileNotFoundError, NotADirectoryError):
        return None
