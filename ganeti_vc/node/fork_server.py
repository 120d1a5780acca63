# SPDX-License-Identifier: BSD-2-Clause
"""The fork server: Ganeti's Python programs start by a fork instead of an import of 150 modules each.

A start of noded costs 0.16 CPU seconds and 26 MiB, nearly all of it for the import. This server imports once
(ganeti_vc/node/relocation.py) and forks. A client that wants a program for a node (tools/units/launch-forked, as the
unit's main process) connects and waits. The forked process (ganeti_vc/node/forked_child.py) takes over the identity of the
client, so that it belongs to the unit in every respect: control group, standard files, namespaces, limits, capabilities,
environment. Then it runs the program's own main function. mond is not written in Python, so the process becomes mond in
the node's view. When a daemon listens, systemd and the client are told.

The kernel does not let a process take over everything. So a client with a seccomp filter, or of another user than root,
is told to start the program itself. The same holds after an upgrade of Ganeti.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import setproctitle

from ganeti_vc.base.constants import FORK_SERVER_SOCKET, GANETI_PYTHON
from ganeti_vc.node import adopt_identity, forked_child, listening, relocation
from ganeti_vc.node.fork_request import MOND, PROGRAMS, Request
from ganeti_vc.node.notify import barrier, flush, notify

log = logging.getLogger("ganeti-vcluster")

KNOWN_VERSIONS = ("3.0", "3.1")
CLIENT_LIMIT = 10.0  #: seconds, for what a client has to send
#: The nice value of all nodeds together (sched(7), autogroup): the master's one process that calls them comes first.
SESSION_NICE = 10
#: Seconds between two looks for daemons that listen, at least and at most. In large tables a look takes long: looking
#: takes LOOK_SHARE of the time.
LOOK_PAUSE = 0.02
LOOK_LIMIT = 1.0
LOOK_SHARE = 0.1


class Unsuitable(Exception):
    """Programs cannot be forked here. The text says why."""


def _load() -> relocation.Places:
    """Import the programs, for no node in particular. Raises Unsuitable."""
    sys.path.insert(0, GANETI_PYTHON)
    os.environ.update(relocation.marked_environment())
    try:
        for module in PROGRAMS.values():
            importlib.import_module(module)
        constants: Any = importlib.import_module("ganeti.constants")
    except Exception as err:  # whatever an unknown Ganeti does at import
        raise Unsuitable(f"cannot import Ganeti: {err!r}") from err
    version = f"{constants.VERSION_MAJOR}.{constants.VERSION_MINOR}"
    if version not in KNOWN_VERSIONS:
        raise Unsuitable(f"Ganeti {version} is none of {', '.join(KNOWN_VERSIONS)}")
    return relocation.Places("ganeti")


def _check(places: relocation.Places) -> None:
    """Move a forked copy to some node, and look for what was missed. Raises Unsuitable."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.environ.clear()
        places.move("/nonexistent/base/node")
        os.write(write, "; ".join(relocation.leftovers()).encode()[:4000])
        os._exit(0)
    os.close(write)
    with open(read) as stream:
        missed = stream.read()
    if os.waitpid(pid, 0)[1]:
        raise Unsuitable("the trial ended with an error")
    if missed:
        raise Unsuitable(f"not all of Ganeti can be moved to a node: {missed}")


def _signature() -> list[tuple[int, int]]:
    """Return what changes with an upgrade of Ganeti."""
    paths = (GANETI_PYTHON, f"{GANETI_PYTHON}/ganeti/constants.py")
    return [(status.st_ino, status.st_mtime_ns) for status in map(os.stat, paths)]


def _refusal(pid: int, program: str) -> str:
    """Say why a process cannot have the program from here; empty if it can."""
    status = adopt_identity.status_of(pid)
    if program not in PROGRAMS and program != MOND:
        return "unknown program"
    if set(status["Uid"].split() + status["Gid"].split()) != {"0"}:
        return "not root"
    # A filter that both have, as in a container, is inherited.
    if status["Seccomp_filters"] != adopt_identity.status_of(os.getpid())["Seccomp_filters"]:
        return "seccomp filter"
    return ""


def _stand_back() -> None:
    """Lower the weight of this session, which the children share. A kernel without autogroups has none."""
    try:
        Path("/proc/self/autogroup").write_text(f"{SESSION_NICE}\n")
    except FileNotFoundError:
        pass
    except OSError as err:  # in a user namespace the kernel takes few such changes in a second
        log.info("nodes do not stand back: %s", err)


@dataclass
class StartingDaemon:
    """A daemon for which a client waits."""

    address: str  #: where it will listen, as `listening.bound` writes it
    pid: int = 0  #: 0: systemd does not know it yet
    barrier_fd: int = -1  #: what systemd closes when it knows that it listens


class Server:
    """Forks on request, and tells clients and systemd when daemons listen."""

    def __init__(self, places: relocation.Places) -> None:
        self._places = places
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._signature = _signature()
        self._said: set[tuple[str, str, str]] = set()
        self._waiting: dict[socket.socket, StartingDaemon] = {}
        self._failed: set[str] = set()  #: places of daemons that have ended before they listened

    def run(self) -> NoReturn:
        """Serve until a signal ends this process."""
        Path(FORK_SERVER_SOCKET).unlink(missing_ok=True)
        self._socket.bind(FORK_SERVER_SOCKET)
        os.chmod(FORK_SERVER_SOCKET, 0o600)
        self._socket.listen(4096)
        self._selector.register(self._socket, selectors.EVENT_READ)
        gc.collect()
        gc.freeze()  # what is here now stays shared with the children
        notify(f"READY=1\nSTATUS={len(self._places)} places to move per node")
        look_at = 0.0
        while True:
            pause = max(0.0, look_at - time.monotonic()) if self._waiting else None
            for key, _ in self._selector.select(pause):
                if key.fileobj is self._socket:
                    self._accept()
                elif key.data in self._waiting:
                    self._on_client_message(key.data, key.fd)
            before = time.monotonic()
            if self._waiting and before >= look_at:
                self._announce_listeners()
                took = time.monotonic() - before
                look_at = before + min(LOOK_LIMIT, max(LOOK_PAUSE, took / LOOK_SHARE))

    def _on_client_message(self, connection: socket.socket, fd: int) -> None:
        """Act on one of three events: the client has told its daemon's pid, systemd knows that it listens, the client ended."""
        daemon, answer = self._waiting[connection], b""
        with contextlib.suppress(OSError):
            if fd == daemon.barrier_fd:
                connection.sendall(b"ready")
            else:
                answer = connection.recv(64)
        if answer.isdigit():
            daemon.pid = int(answer)
        else:
            if fd != daemon.barrier_fd:
                self._failed.add(daemon.address)
            self._drop(connection)

    def _announce_listeners(self) -> None:
        """Tell systemd of the daemons that listen now, each in its own name."""
        present = listening.bound("tcp")
        for connection, daemon in list(self._waiting.items()):
            if daemon.pid and daemon.barrier_fd < 0 and present.get(daemon.address) == os.geteuid():
                try:
                    notify("READY=1", daemon.pid)
                    daemon.barrier_fd = barrier()
                except OSError:  # it has ended, and its client will
                    self._drop(connection)
                else:
                    self._selector.register(daemon.barrier_fd, selectors.EVENT_READ, connection)

    def _drop(self, connection: socket.socket) -> None:
        daemon = self._waiting.pop(connection)
        self._selector.unregister(connection)
        connection.close()
        if daemon.barrier_fd >= 0:
            self._selector.unregister(daemon.barrier_fd)
            os.close(daemon.barrier_fd)

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        connection.settimeout(CLIENT_LIMIT)
        try:
            wanted = self._serve(connection)
        except (OSError, ValueError, KeyError) as err:  # a client that died, or sends nonsense
            log.info("a request failed: %r", err)
            wanted = ""
        if wanted:
            self._waiting[connection] = StartingDaemon(wanted)
            self._selector.register(connection, selectors.EVENT_READ, connection)
        else:
            connection.close()

    def _serve(self, connection: socket.socket) -> str:
        """Serve one request. Return where the daemon will listen that was started; empty for other programs."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("3i", credentials)
        if uid != 0:
            return ""
        request = Request.receive(connection)
        if _signature() != self._signature:
            connection.sendall(b"Ganeti was changed")
            log.info("Ganeti was changed: starting again")
            os.execv(sys.argv[0], sys.argv)
        refusal = _refusal(pid, request.program) or self._stranger(request.listens)
        if refusal:
            message = (request.program, request.environment["GANETI_HOSTNAME"], refusal)
            if message not in self._said:
                log.info("%s of %s is started without the fork server: %s", *message)
                self._said.add(message)
            connection.sendall(refusal.encode())
            return ""
        self._fork(request, connection, pid)
        return request.listens

    def _stranger(self, place: str) -> str:
        """Say so when somebody else listens in a daemon's place, and tools/units/launch has to tell who.

        In large tables a look takes long: only after a failure.
        """
        if place in self._failed:
            self._failed.discard(place)
            if listening.bound("tcp").get(place, os.geteuid()) != os.geteuid():
                return "somebody else listens in its place"
        return ""

    def _fork(self, request: Request, connection: socket.socket, caller: int) -> None:
        """Start a process whose parent is PID 1: of no other would systemd see the end of a main process.

        Raises OSError when there is no process to be had.
        """
        adopted, adopt = os.pipe()
        try:
            middle = os.fork()
            if middle == 0:
                status = 1
                try:
                    if os.fork() == 0:
                        os.close(adopt)
                        os.read(adopted, 1)  # ends when this process has got its new parent
                        os.close(adopted)
                        forked_child.run(request, connection, caller, self._close, self._places)
                    status = 0
                finally:
                    os._exit(status)
            if os.waitpid(middle, 0)[1]:
                raise OSError("no process to be had")
        finally:
            os.close(adopted)
            os.close(adopt)

    def _close(self) -> None:
        """Close what is the server's, in a forked process."""
        self._socket.close()
        self._selector.close()
        for connection, daemon in self._waiting.items():
            connection.close()
            if daemon.barrier_fd >= 0:
                os.close(daemon.barrier_fd)


def main() -> int:
    """Entry point of tools/services/forkserver."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    setproctitle.getproctitle()  # it needs the environment as it was at the start
    try:
        places = _load()
        _check(places)
    except Unsuitable as err:
        log.warning("nodes start without the fork server: %s", err)
        notify("READY=1\nSTATUS=not usable")
        flush()
        return 0
    # The import has set up Ganeti's own logging. A child starts as a new program would.
    for name in relocation.marked_environment():
        del os.environ[name]
    _stand_back()
    Server(places).run()
