# SPDX-License-Identifier: BSD-2-Clause
"""The nodes' processes, and their memory and CPU time, by systemd's control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ganeti_vc.model import names

#: Parent of the slices of all nodes.
ALL_NODES = names.CGROUPS / "ganeti.slice" / names.ALL_SLICE


def processes(group: Path) -> Iterator[tuple[str, int]]:
    """Yield the processes below a control group, each with the name of its group, which is its unit's."""
    for directory, _, _ in os.walk(group):
        try:
            pids = (Path(directory) / "cgroup.procs").read_text().split()
        except OSError:
            continue  # the unit ended meanwhile
        for pid in pids:
            yield os.path.basename(directory), int(pid)


def memory(pid: int) -> dict[str, int]:
    """Return the sums of /proc/PID/smaps_rollup in bytes (Pss, Private_Dirty, ...); empty when the process is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return {}
    lines = (line.split() for line in rollup.splitlines()[1:])
    return {name.rstrip(":"): int(size) * 1024 for name, size, *_ in lines}


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU time of a process with one thread, without its children (/proc/PID/schedstat).

    0 when the process is gone.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def cpu_seconds(group: Path) -> float:
    """Return the seconds of CPU time of all that ever ran in a control group and those below it; 0 without a group."""
    try:
        first = (group / "cpu.stat").read_text().split("\n", 1)[0]
    except OSError:
        return 0.0
    return int(first.removeprefix("usage_usec ")) / 1e6
