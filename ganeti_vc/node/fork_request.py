# SPDX-License-Identifier: BSD-2-Clause
"""What the fork server can start, and a request for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from ganeti_vc.base.constants import ENSURE_DIRS, TCP_PORTS
from ganeti_vc.node import launch, listening

#: noded makes the node's view of the machine.
NODED = "/usr/sbin/ganeti-noded"
#: mond is not written in Python: the forked process becomes this program, in the node's view.
MOND = "/usr/sbin/ganeti-mond"
#: Programs in Python, and the modules that have their Main().
PROGRAMS: Mapping[str, str] = {NODED: "ganeti.server.noded", ENSURE_DIRS: "ganeti.tools.ensure_dirs"}
#: Daemons, and their names in `TCP_PORTS`: systemd is told when they listen.
DAEMONS = {NODED: "noded", MOND: "mond"}
#: Bytes of a request.
MAX_MESSAGE = 65536


@dataclass(frozen=True)
class Request:
    """What a client asks for: a program with its arguments, and the environment for it."""

    argv: list[str]
    environment: dict[str, str]

    @classmethod
    def receive(cls, connection: socket.socket) -> Request:
        """Read a request. Raises ValueError when the message is not a request, OSError when the client sends nothing."""
        count, *words = os.fsdecode(connection.recv(MAX_MESSAGE)).split("\0")
        request = cls(words[: int(count)], dict(word.split("=", 1) for word in words[int(count) :]))
        if not request.argv:
            raise ValueError("not a request")
        return request

    @property
    def program(self) -> str:
        """The path of the program."""
        return self.argv[0]

    @property
    def listens(self) -> str:
        """Where a daemon will listen, as `listening.bound` writes it; empty for other programs."""
        daemon = DAEMONS.get(self.program)
        return listening.local(launch.address_of(self.argv), TCP_PORTS[daemon]) if daemon else ""
