# SPDX-License-Identifier: BSD-2-Clause
"""What this machine has of all that clusters take (capacity.LIMITS). Nothing is changed, and nothing tried out."""

from __future__ import annotations

import os
import pwd
import resource
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.machine import sysctl
from ganeti_vc.machine.systemd import Systemd
from ganeti_vc.model import capacity, names
from ganeti_vc.model.capacity import KIB, Stock

#: Services whose open files grow with the nodes. Any instance of a template has the limit of all.
_DAEMONS = ("ganeti-luxid@node1.service", "ganeti-wconfd@node1.service", "ganeti-vcluster-sshd@default.service")


@dataclass
class _Processes:
    """What the processes that can be seen from here use, by user."""

    instances: Counter[int] = field(default_factory=Counter)  #: of inotify
    watches: Counter[int] = field(default_factory=Counter)
    journald: int = 0  #: its pid


def _processes() -> _Processes:
    seen = _Processes()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            owner = process.stat().st_uid
            if owner == 0 and (process / "comm").read_text() == "systemd-journal\n":
                seen.journald = int(process.name)
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor) == "anon_inode:inotify":
                    seen.instances[owner] += 1
                    text = (process / "fdinfo" / descriptor.name).read_text()
                    seen.watches[owner] += text.count("inotify wd:")
        except OSError:
            continue  # it has ended meanwhile
    return seen


def _open_files(pid: int) -> Stock:
    """Return a process's limit of open files, and how many it has."""
    soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    present = capacity.NO_LIMIT if soft == resource.RLIM_INFINITY else soft
    return Stock(present, len(list(Path(f"/proc/{pid}/fd").iterdir())))


def _cgroup(name: str) -> int | None:
    """Return a figure of the control group in which this machine is; None without one, and for "max"."""
    text = files.read(names.CGROUPS / name)
    return int(text) if text and text.strip().isdecimal() else None


def _memory() -> Stock:
    lines = Path("/proc/meminfo").read_text().splitlines()
    figures = {name: int(rest.split()[0]) * KIB for name, _, rest in (line.partition(":") for line in lines)}
    total, used = figures["MemTotal"], figures["MemTotal"] - figures["MemAvailable"]
    limit = _cgroup("memory.max")
    if limit is not None and limit < total:
        return Stock(limit, _cgroup("memory.current") or used)
    return Stock(total, used)


def _sysctls(processes: _Processes) -> Iterator[tuple[str, int | None, int]]:
    """Yield key, value, and how much is used."""
    # running/all, of the whole machine (proc(5)).
    tasks = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    yield "kernel.pid_max", sysctl.value("kernel.pid_max"), tasks
    yield "kernel.threads-max", sysctl.value("kernel.threads-max"), tasks
    yield "fs.file-max", sysctl.value("fs.file-max"), int(Path("/proc/sys/fs/file-nr").read_text().split()[0])
    try:
        confd = pwd.getpwnam("gnt-confd").pw_uid
    except KeyError:
        confd = -1  # Ganeti is not installed, which is said elsewhere
    for name, used in (("instances", processes.instances[confd]), ("watches", processes.watches[0])):
        yield f"fs.inotify.max_user_{name}", sysctl.value(f"fs.inotify.max_user_{name}"), used
    count = sysctl.value("net.netfilter.nf_conntrack_count") or 0
    yield "net.netfilter.nf_conntrack_max", sysctl.value("net.netfilter.nf_conntrack_max"), count
    yield "net.ipv6.neigh.default.gc_thresh3", sysctl.value("net.ipv6.neigh.default.gc_thresh3"), 0
    yield "net.core.somaxconn", sysctl.value("net.core.somaxconn"), 0


def read(systemd: Systemd) -> dict[str, Stock]:
    """Return the stocks by the keys of capacity.LIMITS. What this machine lacks, or does not limit, is left out."""
    processes = _processes()
    disk = os.statvfs(names.STATE_DIR)
    stocks = {
        "memory": _memory(),
        "disk": Stock(disk.f_blocks * disk.f_frsize, (disk.f_blocks - disk.f_bavail) * disk.f_frsize),
        "processors": Stock(len(os.sched_getaffinity(0)) * capacity.CONNECT_TIMEOUT * 1000),
        "files-of-a-daemon": Stock(min(systemd.service_property(unit, "LimitNOFILESoft", "t") for unit in _DAEMONS)),
        "files-of-systemd": _open_files(1),
        "units": Stock(capacity.UNITS, systemd.property("NNames", "u")),
        "streams": _streams(systemd, processes.journald),
    }
    if disk.f_files:  # some file systems do not count them
        stocks["inodes"] = Stock(disk.f_files, disk.f_files - disk.f_favail)
    pids = _cgroup("pids.max")
    if pids is not None:
        stocks["pids.max"] = Stock(pids, _cgroup("pids.current") or 0)
    for key, present, used in _sysctls(processes):
        if present is not None:
            stocks[key] = Stock(present, used)
    return stocks


def _streams(systemd: Systemd, journald: int) -> Stock:
    used = len(list(Path("/run/systemd/journal/streams").glob("*")))
    present = capacity.journald_streams(systemd.property("Version", "s"))
    if journald:
        present = min(present, _open_files(journald).present - capacity.JOURNALD_OWN_FILES)
    return Stock(present, used)
