# SPDX-License-Identifier: BSD-2-Clause
"""Locks against a second run, on the package's own files and directories."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ganeti_vc.base.errors import VclusterError


def lock_file(directory: Path) -> Path:
    """Return the file that is locked for a directory. Any user may open the directory itself, and could lock it."""
    return directory / ".lock"


@contextlib.contextmanager
def lock(directory: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock on one of the package's directories. If another process has it, call `waiting` once and wait.

    Programs that run meanwhile inherit the lock. Raises VclusterError without the directory.
    """
    try:
        fd = os.open(lock_file(directory), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.set_inheritable(fd, True)
    except FileNotFoundError:
        raise VclusterError(f"{directory} is missing", "reinstall the package ganeti-vcluster") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock on a file or directory if it is free; yields whether it was. A missing one cannot be locked."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
