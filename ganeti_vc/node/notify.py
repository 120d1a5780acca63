# SPDX-License-Identifier: BSD-2-Clause
"""Telling systemd about a service (sd_notify(3)), by processes that end soon, too.

systemd finds the unit of a message by the process that has sent it. When many processes end at the same time, it may
have reaped that one before it comes to the message, which it then ignores ("Cannot find unit for notify message"):
the service would never be ready. So who ends soon waits for systemd (`flush`), or sends in the name of the service's
main process, which stays. The library sdnotify can do neither.
Imported at each start of a daemon: light, and the standard library only.
"""

from __future__ import annotations

import _socket
import os
import select
import sys


def _send(data: bytes, kind: int, ancillary: bytes) -> None:
    """To systemd, if it started us. Raises OSError."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        # "@" stands for the abstract namespace.
        sock.sendmsg([data], [(_socket.SOL_SOCKET, kind, ancillary)], 0, "\0" + path[1:] if path[0] == "@" else path)
    finally:
        sock.close()


def _words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)


def notify(state: str, process: int = 0) -> None:
    """Send a state, lines of the form KEY=VALUE; in the name of another process only as root. Raises OSError."""
    _send(
        state.encode(errors="replace"),
        _socket.SCM_CREDENTIALS,
        _words(process or os.getpid(), os.getuid(), os.getgid()),
    )


def barrier() -> int:
    """A pipe that is closed at the other end when systemd has come to all that was sent before. Raises OSError."""
    read, write = os.pipe()
    try:
        _send(b"BARRIER=1", _socket.SCM_RIGHTS, _words(write))
    except OSError:
        os.close(read)
        raise
    finally:
        os.close(write)
    return read


def flush() -> None:
    """Wait for that."""
    read = barrier()
    closed = select.poll()
    closed.register(read)
    closed.poll()
    os.close(read)
