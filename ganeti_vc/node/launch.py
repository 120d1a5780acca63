# SPDX-License-Identifier: BSD-2-Clause
"""Starting one of Ganeti's daemons so that systemd knows when it answers.

Ganeti never calls sd_notify. But the units are Type=notify: a start of the cluster returns when the cluster answers, and
nodes must listen before the master asks for their votes. So the launching process becomes the daemon, and leaves a
process behind that waits for the daemon's port or socket, notifies systemd, and ends.

A daemon of the master may end before it listens, with Ganeti's "not master" (constants.EXIT_NOTMASTER). That is not a
failure, but systemd takes any end before the notification for one. So the launching process stays the main process of
those few daemons, passes signals on, and ends as the daemon does.

A start of a cluster waits for several of these, one after the other, and most of the cost of one is Python's own imports.
So only modules that are part of the interpreter are imported.
"""

from __future__ import annotations

import _socket
import os
import select
import sys

from ganeti_vc.base.constants import TCP_PORTS, UDP_PORTS
from ganeti_vc.node.listening import bound, local
from ganeti_vc.node.notify import flush, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

EXIT_NOTMASTER = 11
ADDRESS_PAUSE = 50  #: milliseconds
ADDRESS_TRIES = 400
SOCKETS = {"ganeti-wconfd": "ganeti-wconfd", "ganeti-luxid": "ganeti-query"}
LUXI_REQUEST = b'{"method": "QueryConfigValues", "args": [["master_node"]]}\x03'
MASTER_DAEMONS = ("ganeti-wconfd", "ganeti-luxid", "ganeti-rapi")


def address_of(argv: Sequence[str]) -> str:
    """Return the address on which the daemon will listen; the last -b counts."""
    return next((argv[at + 1] for at in range(len(argv) - 2, 0, -1) if argv[at] == "-b"), "")


def _listener(daemon: str, address: str) -> tuple[int, int | None]:
    """Return the daemon's port, 0 if it has none, and the user who listens there."""
    name = daemon.removeprefix("ganeti-")
    for kind, ports in (("tcp", TCP_PORTS), ("udp", UDP_PORTS)):
        if name in ports:
            return ports[name], bound(kind).get(local(address, ports[name]))
    return 0, None


def _stranger(daemon: str, address: str) -> str:
    """Say who else listens in the daemon's place: any user of the machine can. Empty: nobody, or the daemon's own user."""
    port, user = _listener(daemon, address)
    if user in (None, os.geteuid()):
        return ""
    return f"uid {user} listens on port {port} of {address}, so {daemon} cannot (ss -Hltunpe src {address})"


def answers(daemon: str, rootdir: str, address: str) -> bool:
    """Tell whether the daemon accepts requests. Somebody else who listens in its place is not the daemon."""
    port, user = _listener(daemon, address)
    if port:
        return user == os.geteuid()
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    sock.settimeout(5)
    try:
        sock.connect(f"{rootdir}/var/run/ganeti/socket/{SOCKETS[daemon]}")
        if daemon != "ganeti-luxid":
            return True
        # luxid listens before it has the job queue's lock, without which it ends.
        sock.sendall(LUXI_REQUEST)
        return sock.recv(1) == b"{"
    except OSError:
        return False
    finally:
        sock.close()


def _may_have_address(address: str) -> bool:
    """Wait for the cluster's address, which luxid brings up while rapi starts; 20 seconds at most.

    Return False when another rapi listens there: another node is the master, and this one does not know it yet.
    """
    tries = ADDRESS_TRIES
    while tries and not _is_here(address):
        select.poll().poll(ADDRESS_PAUSE)
        tries -= 1
    return _listener("ganeti-rapi", address)[1] is None


def _is_here(address: str) -> bool:
    sock = _socket.socket(_socket.AF_INET6 if ":" in address else _socket.AF_INET)
    try:
        sock.bind((address, 0))
    except OSError:
        return False
    finally:
        sock.close()
    return True


def wait(argv: Sequence[str], pid: int) -> bool:
    """Wait until the daemon answers (True) or its process has ended (False)."""
    daemon, address, rootdir = os.path.basename(argv[0]), address_of(argv), os.environ["GANETI_ROOTDIR"]
    ended = select.poll()
    try:
        ended.register(os.pidfd_open(pid), select.POLLIN)
    except ProcessLookupError:
        return False
    pause = 10.0
    while not ended.poll(pause):
        if answers(daemon, rootdir, address):
            return True
        pause = min(pause * 1.1, 250)
    return False


def tell(argv: Sequence[str], pid: int) -> int:
    """Tell systemd when a daemon that runs already answers. Return an exit status."""
    if not wait(argv, pid):
        return 1
    notify("READY=1")
    flush()
    return 0


def _become(argv: Sequence[str]) -> NoReturn:
    """Become the daemon. The waiting process is not its child, as the daemon reaps only its own children."""
    pid = os.getpid()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0 and wait(argv, pid):
            notify("READY=1")
            flush()
        os._exit(0)
    os.waitpid(middle, 0)
    del os.environ["NOTIFY_SOCKET"]
    os.execv(argv[0], list(argv))


def _accompany(argv: Sequence[str]) -> int:
    """Run the daemon as a child to its end. Return its exit status."""
    denied = argv[0].endswith("rapi") and not _may_have_address(address_of(argv))
    refuse_stranger(argv)
    status = EXIT_NOTMASTER if denied else _run(argv)
    if status == EXIT_NOTMASTER:
        notify("READY=1\nSTATUS=not master")
        flush()
    return status if status >= 0 else 128 - status


def _run(argv: Sequence[str]) -> int:
    import signal

    environ = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    pid = os.posix_spawn(argv[0], list(argv), environ)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(pid, received))
    if wait(argv, pid):
        notify("READY=1")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def refuse_stranger(argv: Sequence[str]) -> None:
    """End the program, and have systemd show why, when somebody else listens in the daemon's place."""
    if reason := _stranger(os.path.basename(argv[0]), address_of(argv)):
        notify(f"STATUS={reason}")
        flush()
        sys.exit(reason)


def launch(argv: Sequence[str]) -> int:
    """Become the daemon `argv`, or return its exit status."""
    daemon = os.path.basename(argv[0])
    if daemon in MASTER_DAEMONS:
        return _accompany(argv)
    refuse_stranger(argv)
    if daemon in ("ganeti-noded", "ganeti-mond"):  # they look at the machine and act on it
        from ganeti_vc.base import constants
        from ganeti_vc.node import view

        if daemon == "ganeti-mond":
            view.share(os.environ["GANETI_HOSTNAME"])
        elif status := os.spawnv(os.P_WAIT, constants.ENSURE_DIRS, [constants.ENSURE_DIRS]):
            return status
        else:
            view.make(os.environ["GANETI_HOSTNAME"])
    _become(argv)


def onetime_args(daemon: str, rootdir: str) -> list[str]:
    """Return the arguments that are meant for the start that Ganeti has just asked for (tools/nodes/daemon-util).

    The file is in the node directory itself, where only root writes, and is gone when that start has ended.
    """
    try:
        with open(f"{rootdir}/.onetime-{daemon}") as stream:
            return stream.read().splitlines()
    except FileNotFoundError:
        return []


def main(argv: Sequence[str]) -> int:
    """Entry point of tools/units/launch: DAEMON [ARG...], or --wait PID DAEMON [ARG...] for one that runs already."""
    if argv[0] == "--wait":
        _, pid, daemon, *args = argv
        return tell([f"/usr/sbin/{daemon}", *args], int(pid))
    daemon, *args = argv
    return launch([f"/usr/sbin/{daemon}", *args, *onetime_args(daemon, os.environ["GANETI_ROOTDIR"])])
