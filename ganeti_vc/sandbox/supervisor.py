# SPDX-License-Identifier: BSD-2-Clause
"""The process that owns a running sandbox: tools/services/sandbox, in a user unit or in a session of its own.

It holds the sandbox's lock. The lock's file has the PID 1 of the sandbox as soon as the boot is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.node.notify import notify
from ganeti_vc.sandbox.container import Container, ContainerError, new_group
from ganeti_vc.sandbox.sandboxes import STOP_TIMEOUT, Sandbox

#: Seconds between two requests to power off.
ASK_AGAIN = 10
#: Seconds to wait for the lock: a process that looks whether the sandbox is owned has it for a moment.
LOCK_LIMIT = 2


@contextlib.contextmanager
def _locked(sandbox: Sandbox) -> Iterator[int]:
    """Hold the sandbox's lock; yields its file. Raises ContainerError when another process has it."""
    fd = os.open(sandbox.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_LIMIT
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ContainerError(f"the sandbox {sandbox.name} runs already") from None
                time.sleep(0.02)
        sandbox.record(fd, 0)
        try:
            yield fd
        finally:
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


class _Stop(Exception):
    """SIGTERM or SIGINT has come."""


def _stop(*_: object) -> None:
    raise _Stop


def _tell(waiting: IO[str] | None, text: str) -> None:
    """Send a line once, if the process that started this one still waits for it."""
    if waiting and not waiting.closed:
        with contextlib.suppress(OSError), waiting:
            print(text, file=waiting)


def _run(sandbox: Sandbox, waiting: IO[str] | None) -> int:
    """Boot the sandbox and stay until it ends. Return its exit status; raises ContainerError.

    `waiting` is a pipe to the process that started this one; it gets a line when the boot is complete.
    """
    with _locked(sandbox) as lock, new_group(f"gnt-vcluster-{sandbox.name}") as group:
        (sandbox.directory / "console").unlink(missing_ok=True)
        container = Container(sandbox.boot_spec(), group)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        try:
            return _serve(sandbox, container, lock, waiting)
        except _Stop:
            sandbox.record(lock, 0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if os.fstat(lock).st_nlink:  # else its files were removed, and there is nothing to end well
                _power_off(container)
            return 0
        finally:
            container.close()


def _serve(sandbox: Sandbox, container: Container, lock: int, waiting: IO[str] | None) -> int:
    """Boot the container, and record its PID 1 at each boot. Return its exit status when it has ended."""
    container.start()
    container.wait_booted()
    shown = 0
    while True:
        if container.leader != shown:
            shown = container.leader
            sandbox.record(lock, shown)
            # 0: it boots again.
            notify(f"READY=1\nSTATUS=PID 1 inside is {shown}" if shown else "STATUS=rebooting")
            _tell(waiting, "ready")
        if not container.serve():
            return container.status


def _power_off(container: Container) -> None:
    """End the container in an orderly way. Raises ContainerError when it does not stop in time."""
    deadline = time.monotonic() + STOP_TIMEOUT
    asked = 0.0
    while True:
        if time.monotonic() > asked + ASK_AGAIN:  # at its very beginning systemd does not hear it
            container.poweroff()
            asked = time.monotonic()
        if not container.serve(1):
            return
        if time.monotonic() > deadline:
            raise ContainerError(f"it did not stop within {STOP_TIMEOUT} s, and was killed") from None


def main(argv: Sequence[str]) -> int:
    """Entry point of tools/services/sandbox: NAME, and the number of a pipe to write to."""
    sandbox, waiting = Sandbox(argv[0]), os.fdopen(int(argv[1]), "w") if argv[1:] else None
    try:
        return _run(sandbox, waiting)
    except (VclusterError, OSError) as err:
        print(err, file=sys.stderr, flush=True)
        _tell(waiting, str(err))
        return 1
