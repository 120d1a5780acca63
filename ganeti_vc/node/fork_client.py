# SPDX-License-Identifier: BSD-2-Clause
"""Asking the fork server (ganeti_vc/node/fork_server.py) for a program that ends; tools/units/launch-forked asks for daemons.

Each start of a master runs this, and most of its cost is Python's own start. So only modules that are part of the
interpreter are imported, and tools/units/forked leaves out `site`.
"""

from __future__ import annotations

import _socket
import os
import sys

from ganeti_vc.base.constants import FORK_SERVER_SOCKET, FORK_SERVER_SWITCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds, as in tools/units/launch-forked.
ANSWER_LIMIT = 30.0


def run(argv: Sequence[str]) -> int | None:
    """Have the fork server run a program in our control group, and wait. Return its status, 1 when it was killed.

    None: there is no fork server, and the caller has to run the program itself.
    """
    if not os.environ.get(FORK_SERVER_SWITCH):
        return None
    environment = [f"{key}={value}" for key, value in os.environ.items() if key != FORK_SERVER_SWITCH]
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    connection.settimeout(ANSWER_LIMIT)
    try:
        connection.connect(FORK_SERVER_SOCKET)
        connection.sendall(os.fsencode("\0".join([str(len(argv)), *argv, *environment])))
        answer = connection.recv(1024).decode()
    except TimeoutError:  # it may still come: not beside another one
        sys.exit(f"no answer from the fork server within {ANSWER_LIMIT:.0f} s")
    except OSError:  # it is not there: nothing was started
        return None
    if not answer.startswith("pid "):
        return None
    connection.settimeout(None)
    ended = connection.recv(64).decode()
    return int(ended.removeprefix("status ")) if ended.startswith("status ") else 1
