# SPDX-License-Identifier: BSD-2-Clause
"""sandbox forward: connections from outside to a daemon in a sandbox, for as long as the command runs."""

from __future__ import annotations

import contextlib
import os
import socket

from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.sandbox import terminal
from ganeti_vc.sandbox.life import command
from ganeti_vc.sandbox.sandboxes import Sandbox


def _forget(path: str) -> None:
    """Remove a socket on which no process listens any more."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def forward(sandbox: Sandbox, listen: str, target: str) -> int:
    """Run a process that passes connections to `listen` on to HOST:PORT inside. Raises VclusterError.

    The socket is made outside; the process that accepts connections is inside.
    """
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{target!r} is not HOST:PORT", "for example cluster.example.com:5080")
    command(sandbox, [])  # before a socket is made: does the sandbox run?
    if "/" in listen:
        _forget(listen)
        sock = socket.socket(socket.AF_UNIX)
        address: str | tuple[str, int] = listen
        os.umask(0o177)
    else:
        if not listen.isdecimal() or not 0 < int(listen) < 65536:
            raise UsageError(f"{listen!r} is neither a port nor a path", "give a port of 127.0.0.1, or a path with a /")
        sock = socket.socket(socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = ("127.0.0.1", int(listen))
    try:
        sock.bind(address)
    except OSError as err:
        raise VclusterError(f"cannot listen on {listen}: {err.strerror or err}", "give another one") from None
    sock.listen()
    # As systemd would hand it over (sd_listen_fds(3)).
    os.dup2(sock.fileno(), 3)
    os.set_inheritable(3, True)  # dup2 changes nothing if it is descriptor 3 already
    script = 'LISTEN_FDS=1 LISTEN_PID=$$ exec /lib/systemd/systemd-socket-proxyd "$0"'
    return terminal.run(command(sandbox, ["sh", "-c", script, target]))
