# SPDX-License-Identifier: BSD-2-Clause
"""A cluster's ssh server: it accepts connections on every node address and hands each to an sshd.

sshd itself listens on at most 16 addresses (MAX_LISTEN_SOCKS), and a wildcard would make the nodes reachable from outside.
So this program listens on exactly the addresses in the file that the manager writes, and runs `sshd -i` for each
connection, which is what sshd does with itself anyway. SIGHUP makes it read the file again.

MaxStartups does not hold for `sshd -i`. Every user of the machine, and every neighbour where the cluster is reachable, can
connect, although only root's key opens a session. So others than root have few connections at a time.

The sessions outlive this program when it is killed (KillMode=process). At an orderly stop it ends them itself.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ganeti_vc.base.constants import CGROUPS, RUN_DIR
from ganeti_vc.node import listening
from ganeti_vc.node.notify import notify

SSHD = "/usr/sbin/sshd"
#: sshd's directory for privilege separation. The machine's ssh.service makes it, and takes it away when it stops.
PRIVSEP_DIR = "/run/sshd"
#: Says that we made PRIVSEP_DIR, so that the manager removes it.
MADE_SSHD_DIR = Path(RUN_DIR, "made-sshd-dir")
#: Connections that wait to be accepted.
BACKLOG = 128
#: Connections at a time of a user who is not root, or of another machine; and of all these together.
EACH = 10
ALL = 50
#: Seconds until the next try when the machine has no process or open file to spare, as sshd waits.
PAUSE = 0.1
#: Seconds that sessions have to end after SIGTERM.
STOP_LIMIT = 20

Place = tuple[str, int]  #: an address and a port


def wanted(text: str) -> set[Place]:
    """Return the places of the manager's file, one "ADDRESS PORT" a line."""
    return {(address, int(port)) for address, port in (line.split() for line in text.split("\n") if line)}


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def source(connection: socket.socket) -> str:
    """Return who has connected: a user of this machine, or another machine. Empty: root, who is not counted."""
    near, far = (listening.local(*end[:2]) for end in (connection.getpeername(), connection.getsockname()))
    user = listening.owner(near, far)
    if user == 0:
        return ""
    return f"address {connection.getpeername()[0]}" if user is None else f"uid {user}"


def _serve(connection: socket.socket, config: str) -> int:
    """Run one sshd for one connection, in a process group of its own. Return its pid."""
    if not os.path.isdir(PRIVSEP_DIR):
        MADE_SSHD_DIR.touch()
        os.makedirs(PRIVSEP_DIR, mode=0o755, exist_ok=True)  # another cluster may be faster
    fd = connection.fileno()
    return os.posix_spawn(
        SSHD,
        [SSHD, "-i", "-f", config],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1)],
        setpgroup=0,
        setsigmask=[],
        setsigdef=[signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM],
    )


def _others() -> set[int]:
    """Return a file of each other process of this unit (pidfd_open(2))."""
    group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
    found = set()
    for word in Path(f"{CGROUPS}{group}/cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            if int(word) != os.getpid():
                found.add(os.pidfd_open(int(word)))
    return found


def _end_sessions() -> None:
    """End all sessions, as systemd would end them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        left, ended = _others(), select.poll()
        for fd in left:
            ended.register(fd, select.POLLIN)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
        deadline = time.monotonic() + STOP_LIMIT
        while left and (ready := ended.poll(max(0.0, deadline - time.monotonic()) * 1000)):
            for fd, _ in ready:
                ended.unregister(fd)
                left.remove(fd)
                os.close(fd)


class Listener:
    """The sockets of one cluster, and the connections of others than root."""

    def __init__(self, cluster: str) -> None:
        directory = Path(RUN_DIR, "ssh", cluster)
        self._file = directory / "listen"
        self._config = str(directory / "sshd_config")
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[Place, socket.socket] = {}
        self._sessions: dict[int, str] = {}  #: by the pid of its sshd, whose it is
        self._refused: set[str] = set()  #: of whom it was said that they have too many

    def _adjust(self) -> None:
        """Listen where the file says, and nowhere else."""
        places = wanted(self._file.read_text())
        for place in set(self._sockets) - places:
            self._selector.unregister(self._sockets[place])
            self._sockets.pop(place).close()
        for place in places - set(self._sockets):
            self._sockets[place] = _listen(*place)
            self._selector.register(self._sockets[place], selectors.EVENT_READ)
        notify(f"READY=1\nSTATUS=listening on {len(self._sockets)} node addresses")

    def _accept(self, sock: socket.socket) -> None:
        try:
            connection, _ = sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        with connection:
            connection.setblocking(True)
            whose = source(connection)
            if self._admits(whose):
                self._sessions[_serve(connection, self._config)] = whose

    def _admits(self, whose: str) -> bool:
        """Tell whether one more connection is not too many, and say once of whom it is."""
        counts = Counter(other for other in self._sessions.values() if other)
        if not whose or (counts[whose] < EACH and counts.total() < ALL):
            self._refused.discard(whose)
            return True
        if whose not in self._refused:
            self._refused.add(whose)
            print(f"{whose} has too many connections: {counts[whose]}, of {counts.total()}", file=sys.stderr)
        return False

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self._sessions.pop(pid, None)

    def run(self) -> None:
        """Serve until SIGTERM."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_write)
        self._selector.register(wake_read, selectors.EVENT_READ)
        self._adjust()
        while True:
            for key, _ in self._selector.select():
                if isinstance(key.fileobj, socket.socket):
                    try:
                        self._accept(key.fileobj)
                    except OSError as err:  # no process, no open file, or a connection that has ended
                        print(f"a connection was not served: {err}", file=sys.stderr)
                        time.sleep(PAUSE)
                    continue
                received = os.read(wake_read, 4096)
                if signal.SIGTERM in received:
                    return
                if signal.SIGCHLD in received:
                    self._reap()
                if signal.SIGHUP in received:
                    self._adjust()


def main(argv: Sequence[str]) -> None:
    """Entry point of tools/services/sshd-listen: CLUSTER."""
    Listener(argv[0]).run()
    _end_sessions()
