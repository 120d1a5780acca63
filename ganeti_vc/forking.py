# SPDX-License-Identifier: BSD-2-Clause
"""Asking the fork server (ganeti_vc/forkserver.py).

Every start of a node runs this three times, and most of what it costs is Python's own start: so only
what the interpreter has in it is imported, and tools/launch and tools/forked do without `site`.
"""

from __future__ import annotations

import _socket
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SOCKET = "/run/ganeti-vcluster/forkserver.socket"
#: In a node's environment when its cluster wants the fork server.
SWITCH = "GANETI_VCLUSTER_FORK_SERVER"
#: Ganeti's program that gives directories and files their owners; it runs before a node's daemons.
ENSURE_DIRS = "/usr/lib/ganeti/ensure-dirs"
#: Seconds. A forked process that has not said its pid by then has died, or hangs: the unit is started anew.
ANSWER_LIMIT = 30.0
#: Seconds. When a daemon takes longer, its guide looks for itself.
READY_LIMIT = 20.0
#: Daemons that the server starts.
DAEMONS = ("ganeti-noded", "ganeti-mond")
#: Not for the program: the switch, and what lets it speak to systemd in its unit's name.
_OURS = (SWITCH, "NOTIFY_SOCKET")


class Process:
    """A program that the fork server runs for us, in our control group, as a child of PID 1."""

    def __init__(self, connection: _socket.socket, pid: int) -> None:
        self._connection = connection
        self._pid = pid

    def wait(self) -> int:
        """Its exit status; 1 when it was killed."""
        answer = self._connection.recv(64).decode()
        return int(answer.removeprefix("status ")) if answer else 1

    def guide(self, argv: Sequence[str]) -> int:
        """Be the main process of a daemon's unit until the daemon answers. Returns an exit status."""
        _notify(f"MAINPID={self._pid}")
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        try:
            poll.register(os.pidfd_open(self._pid), select.POLLIN)
        except ProcessLookupError:
            return 1
        happened = dict(poll.poll(READY_LIMIT * 1000))
        if happened and self._connection.fileno() not in happened:
            return 1  # it has ended
        if not happened:
            print(f"not ready within {READY_LIMIT:.0f} s by the fork server, looking without it", file=sys.stderr)
        if not happened or self._connection.recv(64) != b"ready":  # the latter when the server has ended
            from ganeti_vc import launching

            if not launching.wait(argv, self._pid):
                return 1
        _notify("READY=1")
        return 0


def _notify(state: str) -> None:
    """As sd_notify(3); python3-sdnotify takes half as long to import as all of this to run."""
    path = os.environ["NOTIFY_SOCKET"]
    with_null = "\0" + path[1:] if path.startswith("@") else path
    sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    sender.connect(with_null)
    sender.sendall(state.encode())
    sender.close()


def ask(argv: Sequence[str]) -> Process | None:
    """Have the fork server run a program with our identity. None: start it yourself."""
    if not os.environ.get(SWITCH):
        return None
    environment = [f"{key}={value}" for key, value in os.environ.items() if key not in _OURS]
    message = "\0".join([str(len(argv)), *argv, *environment])
    files = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    connection.settimeout(ANSWER_LIMIT)
    try:
        connection.connect(SOCKET)
        connection.sendmsg([os.fsencode(message)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
        answer = connection.recv(1024).decode()
    except TimeoutError:  # it may still come: not beside another one
        sys.exit(f"no answer from the fork server within {ANSWER_LIMIT:.0f} s")
    except OSError:  # it is not there: nothing was started
        return None
    if not answer.startswith("pid "):
        return None
    connection.settimeout(None)
    return Process(connection, int(answer.removeprefix("pid ")))
