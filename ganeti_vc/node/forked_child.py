# SPDX-License-Identifier: BSD-2-Clause
"""What happens in a process that the fork server has forked: it becomes like its caller, then it runs the program."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import setproctitle

from ganeti_vc.base.constants import ENSURE_DIRS
from ganeti_vc.node import adopt_identity, libc, view
from ganeti_vc.node.fork_request import DAEMONS, MOND, NODED, PROGRAMS, Request
from ganeti_vc.node.relocation import Places


class CallerEnded(Exception):
    """The process that asked for the program is gone, and with it what this process should become like."""


def run(
    request: Request, connection: socket.socket, caller: int, close_server: Callable[[], None], places: Places
) -> NoReturn:
    """Become the process `caller`, and run the program that it asks for. Ends this process.

    The caller gets the pid. If the program is not a daemon, it also gets the exit status.
    """
    status = 1
    try:
        _become(caller, request, close_server)
        status = _run(request, connection, places)
        with contextlib.suppress(OSError):  # a daemon has closed the connection, and a caller may be gone
            connection.sendall(f"status {status}".encode())
    except BaseException as err:  # nothing else would ever report it
        if isinstance(err, CallerEnded):
            print(err, file=sys.stderr)
        else:
            traceback.print_exc()
        with contextlib.suppress(OSError):
            connection.sendall(b"failed")
    finally:
        os._exit(status)


def _become(caller: int, request: Request, close_server: Callable[[], None]) -> None:
    """Take over the caller's identity, environment and standard files. Raises CallerEnded."""
    # Not a session of its own: the kernel shares the processors among sessions, and the master's one process that
    # calls hundreds of nodes would get as little as each of them.
    os.setpgid(0, 0)
    try:
        adopt_identity.adopt(caller)
        close_server()
        os.environ.clear()
        os.environ.update(request.environment)
        adopt_identity.adopt_files(caller, request.program)
    except (FileNotFoundError, ProcessLookupError) as err:
        if os.path.exists(f"/proc/{caller}/cwd"):
            raise
        raise CallerEnded(f"{request.program}: the process that asked for it has ended ({err})") from None
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _run(request: Request, connection: socket.socket, places: Places) -> int:
    """Run the program on its node, and return its exit status. mond takes this process over instead."""
    node = os.environ["GANETI_HOSTNAME"]
    if request.program == MOND:
        view.share(node)
        connection.sendall(f"pid {os.getpid()}".encode())
        os.execv(request.program, request.argv)
    places.move(os.environ["GANETI_ROOTDIR"])
    random.seed()
    if request.program == NODED:
        if status := run_main(ENSURE_DIRS):
            sys.exit(f"ensure-dirs ended with {status}")
        view.make(node)
    setproctitle.setproctitle(" ".join(["/usr/bin/python3", *request.argv]))
    libc.prctl(libc.PR_SET_NAME, os.path.basename(request.program).encode()[:15])
    adopt_identity.drop_capabilities()
    connection.sendall(f"pid {os.getpid()}".encode())
    if request.program in DAEMONS:
        connection.close()
    return run_main(*request.argv)


def run_main(*argv: str) -> int:
    """Run a program's main function, and return its exit status, as `sys.exit` would make it (bin/* of Ganeti)."""
    sys.argv = list(argv)
    logging.root.handlers.clear()
    try:
        result = sys.modules[PROGRAMS[argv[0]]].Main()
    except SystemExit as err:
        result = err.code
    sys.stdout.flush()
    sys.stderr.flush()
    if result is None or isinstance(result, int):
        return result or 0
    print(result, file=sys.stderr)
    return 1
