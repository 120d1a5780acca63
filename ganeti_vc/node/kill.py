# SPDX-License-Identifier: BSD-2-Clause
"""Killing everything that is on a node: when its units are stopped, the sessions, which are in no unit of the node."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from ganeti_vc.node import view

LIMIT = 10.0  #: seconds
PAUSE = 20  #: milliseconds, for the kernel


def _kill(node: str, pids: list[int]) -> None:
    processes: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            processes[pid] = os.pidfd_open(pid)
    # Looked up again: by the time a number was opened it may have been another process's.
    for pid in processes.keys() & view.processes(node):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(processes[pid], signal.SIGKILL)
    for fd in processes.values():
        os.close(fd)


def main(node: str) -> None:
    """Entry point of tools/nodes/kill-processes. Ends the program with a message when processes remain."""
    deadline = time.monotonic() + LIMIT
    while pids := view.processes(node):
        if time.monotonic() > deadline:
            sys.exit(f"processes on {node} that cannot be killed: {' '.join(map(str, pids))}")
        _kill(node, pids)
        select.poll().poll(PAUSE)
