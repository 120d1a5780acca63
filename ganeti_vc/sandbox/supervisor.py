# SPDX-License-Identifier: BSD-2-Clause
"""The owner of a sandbox while it runs: tools/services/sandbox, in the foreground of a user unit or of a session of its own.

It holds the sandbox's lock, whose file tells the PID 1 inside as soon as the boot is complete.
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


@contextlib.contextmanager
def _locked(sandbox: Sandbox) -> Iterator[int]:
    """The lock's file. Raises ContainerError when somebody has it."""
    fd = os.open(sandbox.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 2
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ContainerError(f"the sandbox {sandbox.name} runs already") from None
                time.sleep(0.02)  # whoever looks whether somebody has it has it for a moment
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
    """Once, and only if whoever started us still waits for it."""
    if waiting and not waiting.closed:
        with contextlib.suppress(OSError), waiting:
            print(text, file=waiting)


def _run(sandbox: Sandbox, waiting: IO[str] | None) -> int:
    """Boot it and stay until it ends. `waiting` is a pipe to the one who started us: a line when the boot is complete."""
    with _locked(sandbox) as lock, new_group(f"gnt-vcluster-{sandbox.name}") as group:
        (sandbox.directory / "console").unlink(missing_ok=True)
        container = Container(sandbox.plan(), group)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        try:
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
        except _Stop:
            sandbox.record(lock, 0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if not os.fstat(lock).st_nlink:  # somebody has removed its files: there is nothing to end well
                return 0
            deadline = time.monotonic() + STOP_TIMEOUT
            asked = 0.0
            while True:
                if time.monotonic() > asked + 10:  # again: at its very beginning systemd does not hear it
                    container.poweroff()
                    asked = time.monotonic()
                if not container.serve(1):
                    return 0
                if time.monotonic() > deadline:
                    raise ContainerError(f"it did not stop within {STOP_TIMEOUT} s, and was killed") from None
        finally:
            container.close()


def main(argv: Sequence[str]) -> int:
    """Entry point of tools/services/sandbox: NAME, and the number of a pipe to write to."""
    sandbox, waiting = Sandbox(argv[0]), os.fdopen(int(argv[1]), "w") if argv[1:] else None
    try:
        return _run(sandbox, waiting)
    except (VclusterError, OSError) as err:
        print(err, file=sys.stderr, flush=True)
        _tell(waiting, str(err))
        return 1
