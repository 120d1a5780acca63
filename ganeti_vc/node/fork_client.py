# SPDX-License-Identifier: BSD-2-Clause
"""Asking the fork server (ganeti_vc/node/fork_server.py) for a program that comes to an end; for daemons tools/units/launch-forked does it.

Each start of a master runs this, and most of what it costs is Python's own start: so only what the
interpreter has in it is imported, and tools/units/forked does without `site`.
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
    """Have the fork server run a program in our control group, and wait. Its status, 1 when it was killed; None: run it yourself."""
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
