# SPDX-License-Identifier: BSD-2-Clause
"""Becoming like another process in everything that a unit of systemd can set, so that systemd takes one for the other.

Processes that the fork server (ganeti_vc/node/fork_server.py) makes become like its client. Seccomp filters and users are
not taken over.
"""

from __future__ import annotations

import os
import resource
import socket
import struct
from pathlib import Path

from ganeti_vc.base import kernel
from ganeti_vc.node import libc

LIMITS = [value for name, value in vars(resource).items() if name.startswith("RLIMIT_")]


def status_of(pid: int) -> dict[str, str]:
    """Return the lines of /proc/PID/status (proc(5)) by their names. Raises FileNotFoundError when the process has ended."""
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def _join_cgroup(pid: int) -> None:
    """Become a member of another process's control group, in each hierarchy systemd uses."""
    unified, named = kernel.mount_of("cgroup2"), kernel.mount_of("cgroup", "name=systemd")
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        root = {"": unified, "name=systemd": named}.get(controllers)
        if root:
            Path(root + path, "cgroup.procs").write_text("0")


def _join_namespaces(pid: int) -> None:
    """Enter those namespaces of another process in which this one is not yet."""
    for name in ("ipc", "net", "uts", "cgroup", "mnt"):
        if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
            fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            libc.setns(fd, f"namespace {name} of process {pid}")
            os.close(fd)


def adopt(pid: int) -> None:
    """Become like the process `pid`. Raises OSError; FileNotFoundError or ProcessLookupError when it has ended."""
    status = status_of(pid)
    _join_cgroup(pid)
    working_directory = os.open(f"/proc/{pid}/cwd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    adjustment = Path(f"/proc/{pid}/oom_score_adj").read_text()
    _join_namespaces(pid)
    os.fchdir(working_directory)
    os.close(working_directory)
    Path("/proc/self/oom_score_adj").write_text(adjustment)
    for limit in LIMITS:
        resource.setrlimit(limit, resource.prlimit(pid, limit))
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, pid))
    os.sched_setaffinity(0, os.sched_getaffinity(pid))
    os.umask(int(status["Umask"], 8))
    os.setgroups([int(word) for word in status["Groups"].split()])
    if status["NoNewPrivs"] == "1":
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    bounding = int(status["CapBnd"], 16)
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        if not bounding >> capability & 1 and libc.prctl(libc.PR_CAPBSET_READ, capability):
            libc.prctl(libc.PR_CAPBSET_DROP, capability)


def _journal_stream(identifier: str) -> int:
    """Open a stream to the journal, as systemd does for a service's output (sd_journal_stream_fd(3)).

    python3-systemd could do it, but would be one more package for each user of this one.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect("/run/systemd/journal/stdout")
        stream.shutdown(socket.SHUT_RD)
        # Name, unit (the journal finds it), daemon.info, "<N>" at the beginning of a line is a priority, and no copies.
        stream.sendall(f"{identifier}\n\n30\n1\n0\n0\n0\n".encode())
        return stream.detach()


def _flags(pid: int, fd: int) -> int:
    """Return the flags with which a process has opened a file (proc(5))."""
    lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("flags:")).split()[1], 8)


def adopt_files(pid: int, program: str) -> None:
    """Open standard files like those of the process `pid`. A stream to the journal is a new one, as streams cannot be shared."""
    journal = os.environ.pop("JOURNAL_STREAM", None)
    opened: dict[str, int] = {}
    for number in range(3):
        path = f"/proc/{pid}/fd/{number}"
        status = os.stat(path)
        if f"{status.st_dev}:{status.st_ino}" != journal:
            opened[path] = os.open(path, _flags(pid, number) & (os.O_ACCMODE | os.O_APPEND) | os.O_NOCTTY)
        else:
            path = journal
            if path not in opened:
                opened[path] = _journal_stream(os.path.basename(program))
        os.dup2(opened[path], number)
    for fd in opened.values():
        os.close(fd)


def drop_capabilities() -> None:
    """Keep only the capabilities of the bounding set, as an exec would do."""
    bounding = int(status_of(os.getpid())["CapBnd"], 16)
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    low, high = bounding & 0xFFFFFFFF, bounding >> 32
    libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0))
