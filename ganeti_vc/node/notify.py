# SPDX-License-Identifier: BSD-2-Clause
"""Telling systemd about a service (sd_notify(3)), also by processes that end soon.

systemd finds the unit of a message by the process that has sent it. When many processes end at the same time, systemd may
have reaped the sender before it reads the message. Then it ignores the message ("Cannot find unit for notify message"),
and the service never becomes ready. So a process that ends soon waits for systemd (`flush`), or sends in the name of the
service's main process, which stays. The library sdnotify can do neither. python3-systemd can, but its import takes 15 ms
of CPU time, this module's 3. Imported at each start of a daemon: the standard library only.
"""

from __future__ import annotations

import _socket
import os
import select
import sys


def _send(data: bytes, kind: int, ancillary: bytes) -> None:
    """Send a message to systemd, if it has started this process. Raises OSError."""
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
    """Send lines of the form KEY=VALUE, as root also in the name of another process. Raises OSError."""
    _send(
        state.encode(errors="replace"),
        _socket.SCM_CREDENTIALS,
        _words(process or os.getpid(), os.getuid(), os.getgid()),
    )


def barrier() -> int:
    """Return a pipe whose other end systemd closes when it has processed everything sent so far. Raises OSError."""
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
    """Wait until systemd has processed everything sent so far. Raises OSError."""
    read = barrier()
    closed = select.poll()
    closed.register(read)
    closed.poll()
    os.close(read)
