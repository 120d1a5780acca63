# SPDX-License-Identifier: BSD-2-Clause
"""Asking the fork server (ganeti_vc/forkserver.py). Light: imported at each start of a daemon."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence

SOCKET = "/run/ganeti-vcluster/forkserver.socket"
#: In a node's environment when its cluster wants the fork server.
SWITCH = "GANETI_VCLUSTER_FORK_SERVER"
#: Not for the program: the switch, and what lets it speak to systemd in its unit's name.
_OURS = (SWITCH, "NOTIFY_SOCKET")


class Process:
    """A program that the fork server runs for us, in our control group, as a child of PID 1."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._connection = connection
        self.pid = pid

    def wait(self) -> int:
        """Its exit status; 1 when it was killed."""
        answer = self._connection.recv(64).decode()
        return int(answer.removeprefix("status ")) if answer else 1


def ask(argv: Sequence[str]) -> Process | None:
    """Have the fork server run a program with our identity. None: start it yourself."""
    if not os.environ.get(SWITCH):
        return None
    environment = {key: value for key, value in os.environ.items() if key not in _OURS}
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        connection.connect(SOCKET)
        message = json.dumps({"program": argv[0], "arguments": argv[1:], "environment": environment})
        socket.send_fds(connection, [message.encode()], [0, 1, 2])
        answer = connection.recv(1024).decode()
    except OSError:  # it is not there: nothing was started
        return None
    if not answer.startswith("pid "):
        return None
    return Process(connection, int(answer.removeprefix("pid ")))
