# SPDX-License-Identifier: BSD-2-Clause
"""A cluster's ssh server: it accepts connections on every node address and hands each to an sshd.

sshd itself listens on at most 16 addresses (MAX_LISTEN_SOCKS), and a wildcard would make the nodes reachable from outside.
So this program listens on exactly the addresses in the file that the manager writes, and runs `sshd -i` for each
connection, which is what sshd does with itself anyway. SIGHUP makes it read the file again.
"""

from __future__ import annotations

import ipaddress
import os
import selectors
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ganeti_vc.base.constants import RUN_DIR
from ganeti_vc.node.notify import notify

SSHD = "/usr/sbin/sshd"
#: sshd's directory for privilege separation. The machine's ssh.service makes it, and takes it away when it stops.
PRIVSEP_DIR = "/run/sshd"
#: Says that we made PRIVSEP_DIR, so that the manager removes it.
MADE_SSHD_DIR = Path(RUN_DIR, "made-sshd-dir")
#: Connections that wait to be accepted.
BACKLOG = 128

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


def _serve(connection: socket.socket, config: str) -> None:
    """Run one sshd for one connection, in a process group of its own. The kernel reaps it."""
    if not os.path.isdir(PRIVSEP_DIR):
        MADE_SSHD_DIR.touch()
        os.makedirs(PRIVSEP_DIR, mode=0o755, exist_ok=True)  # another cluster may be faster
    fd = connection.fileno()
    os.posix_spawn(
        SSHD,
        [SSHD, "-i", "-f", config],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1)],
        setpgroup=0,
        setsigmask=[],
        setsigdef=[signal.SIGCHLD, signal.SIGHUP],
    )


class Listener:
    """The sockets of one cluster."""

    def __init__(self, cluster: str) -> None:
        directory = Path(RUN_DIR, "ssh", cluster)
        self._file = directory / "listen"
        self._config = str(directory / "sshd_config")
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[Place, socket.socket] = {}

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
            _serve(connection, self._config)

    def run(self) -> NoReturn:
        """Serve until a signal ends this process."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so the kernel reaps
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGHUP, lambda *_: None)
        signal.set_wakeup_fd(wake_write)
        self._selector.register(wake_read, selectors.EVENT_READ)
        self._adjust()
        while True:
            for key, _ in self._selector.select():
                if isinstance(key.fileobj, socket.socket):
                    self._accept(key.fileobj)
                elif signal.SIGHUP in os.read(wake_read, 4096):
                    self._adjust()


def main(argv: Sequence[str]) -> NoReturn:
    """Entry point of tools/services/sshd-listen: CLUSTER."""
    Listener(argv[0]).run()
