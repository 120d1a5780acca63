# SPDX-License-Identifier: BSD-2-Clause
"""System calls that Python 3.11 has no function for.

Imported at each start of a daemon and of a session: the standard library only.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_SLAVE = 1 << 14, 1 << 19
MNT_DETACH = 2
PR_SET_NAME, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 15, 23, 24, 38

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object, what: str) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    _call("unshare", flags, what="unshare")


def setns(fd: int, what: str, kinds: int = 0) -> None:
    """Enter the namespace of an open file, or those `kinds` (CLONE_NEW*) of a pidfd's process. Raises OSError, with `what`."""
    _call("setns", fd, kinds, what=what)


def mount(source: str, target: str, flags: int, kind: str = "", options: str = "") -> None:
    """Mount something (mount(2)). `kind`: of file system, with its `options`. Raises OSError."""
    words = [word.encode() or None for word in (kind, options)]
    _call("mount", source.encode(), target.encode(), words[0], ctypes.c_ulong(flags), words[1], what=target)


def unmount(target: str) -> None:
    """Unmount a place, even one that is in use (umount2(2), MNT_DETACH). Raises OSError."""
    _call("umount2", target.encode(), MNT_DETACH, what=target)


def prctl(option: int, argument: int | bytes) -> int:
    return _call("prctl", option, argument, 0, 0, 0, what="prctl")


def capset(header: bytes, data: bytes) -> None:
    _call("capset", header, data, what="capset")


def syncfs(fd: int, what: str) -> None:
    _call("syncfs", fd, what=what)
