# SPDX-License-Identifier: BSD-2-Clause
"""The manager, ganeti-vcluster.service: it makes real what the configuration files declare, and takes it away again.

The manager acts when it starts, when a file has changed, and when it is stopped; in between it sleeps. SIGHUP, or a line
on its socket, says that a file has changed; by the socket `systemctl reload` gets an answer.

Killed or restarted, the manager leaves everything as it is, and finds it again when systemd restarts it. SIGUSR1 ends it
in the same way: after an upgrade of the package the new program takes over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Sequence

from ganeti_vc.base import locks
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import exchange, freezer
from ganeti_vc.machine.config_files import read_configs
from ganeti_vc.machine.systemd import Systemd, connect
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId
from ganeti_vc.node.notify import notify
from ganeti_vc.reconcile import apply, observe, pacing, plan, refusals, state, teardown
from ganeti_vc.reconcile.manager_client import request_reload
from ganeti_vc.reconcile.steps import Step

log = logging.getLogger("ganeti-vcluster")

#: Seconds for an update, as TimeoutStartSec= of the manager's unit.
UPDATE_LIMIT = 600
#: Characters of STATUS=. systemd ignores a message of more than 4 KiB.
MAX_STATUS = 900
#: Seconds that a client has to send its line.
CLIENT_LIMIT = 10
#: sysexits.h; systemd starts the manager again.
EX_TEMPFAIL = 75


def _log_step(step: Step) -> None:
    log.info("%s", step)


def reconcile(systemd: Systemd) -> dict[str, str]:
    """Do everything that separates the declared clusters from the present ones.

    Return what is wrong, by cluster; clusters with errors are left as they are.
    """
    with locks.lock(names.STATE_DIR):
        _recover()
        good, bad = read_configs()
        gone = plan.undeclared({*good, *bad}, observe.observe({}))
        bad |= apply.apply_each(gone, systemd, _log_step)
        observed = observe.observe(good)
        usable: dict[ClusterId, ClusterConfig] = {}
        for cluster, loaded in good.items():
            try:
                refusals.check_host(loaded, observed)
            except VclusterError as err:
                bad[cluster] = err
            else:
                usable[cluster] = loaded
        apply.apply_all(plan.reconcile(usable, observed), systemd, _log_step)
        unknown = bool(state.known_clusters(observed) & set(bad))
        _fork_server(systemd, any(loaded.fork_server for loaded in usable.values()), unknown)
    for error in bad.values():
        log.error("%s", error)
    return {cluster.name: str(error) for cluster, error in bad.items()}


def _recover() -> None:
    """Make what the machine lacks, and end what a command that was killed has left."""
    if not names.GANETI_RUN_DIR.exists():
        names.MADE_GANETI_RUN_DIR.touch()
        names.GANETI_RUN_DIR.mkdir()
    if freezer.left_frozen():
        freezer.thaw()
    exchange.finish_interrupted(all_of_them=False)


def _fork_server(systemd: Systemd, wanted: bool, unknown: bool) -> None:
    """Start or stop the fork server, without waiting: systemd starts the nodes' units after it.

    `unknown`: the file of an existing cluster cannot be read. The cluster is left as it is, and so is the fork server.
    """
    active = systemd.active_state(names.FORK_SERVER_SERVICE) in ("active", "activating")
    if wanted != active and (wanted or not unknown):
        systemd.call("StartUnit" if wanted else "StopUnit", "ss", names.FORK_SERVER_SERVICE, "replace")


class Manager:
    """The process that systemd runs."""

    def __init__(self) -> None:
        #: Microseconds within which systemd expects WATCHDOG=1 (sd_watchdog_enabled(3)); 0: it does not.
        self._watchdog = int(os.environ.get("WATCHDOG_USEC", "0"))
        self._selector = selectors.DefaultSelector()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def _listen(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(names.MANAGER_SOCKET)
        self._socket.bind(str(names.MANAGER_SOCKET))
        os.chmod(names.MANAGER_SOCKET, 0o600)
        self._socket.listen()
        self._selector.register(self._socket, selectors.EVENT_READ)

    def _update(self, word: str) -> dict[str, str]:
        """Reconcile, and have systemd show the result. `word`: READY or RELOADING."""
        notify(f"{word}=1" if word == "RELOADING" else "STATUS=starting")
        # With hundreds of nodes on a busy machine this takes longer than the watchdog allows.
        notify(f"WATCHDOG_USEC={UPDATE_LIMIT * 10**6}")
        try:
            with connect() as systemd:
                errors = reconcile(systemd)
        except VclusterError as err:
            log.error("%s", err)
            errors = {"": str(err)}
        status = "; ".join(errors.values()) if errors else "all clusters are as declared"
        notify(f"READY=1\nSTATUS={status[:MAX_STATUS]}\nWATCHDOG_USEC={self._watchdog}")
        return errors

    def _answer(self) -> None:
        connection, _ = self._socket.accept()
        # A client may send nothing, or be gone by the time of the answer. The manager goes on.
        with connection:
            connection.settimeout(CLIENT_LIMIT)
            asked = b""
            with contextlib.suppress(OSError):
                asked = connection.recv(64)
            if asked.strip() == b"reload":
                errors = self._update("RELOADING")
                with contextlib.suppress(OSError):
                    connection.sendall(json.dumps(errors).encode())

    def run(self) -> int:
        """Serve until SIGTERM. Return an exit status."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_write)
        self._selector.register(wake_read, selectors.EVENT_READ)
        self._listen()
        self._update("READY")
        pause = self._watchdog / 2e6 or None
        while True:
            notify("WATCHDOG=1")
            for key, _ in self._selector.select(pause):
                if key.fileobj is self._socket:
                    self._answer()
                    continue
                received = os.read(wake_read, 64)
                if signal.SIGUSR1 in received:
                    return EX_TEMPFAIL
                if signal.SIGTERM in received or signal.SIGINT in received:
                    self._stop()
                    return 0
                self._update("RELOADING")

    def _stop(self) -> None:
        notify("STOPPING=1")
        self._socket.close()
        with connect() as systemd:
            if not systemd.is_restarting(names.MANAGER_SERVICE):
                teardown.undo(systemd, _log_step)


def main(argv: Sequence[str]) -> int:
    """Entry point of tools/services/manager: no argument, --reload, --ready CLUSTER, --stopped CLUSTER, or --remove (for prerm)."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        match list(argv):
            case []:
                return Manager().run()
            case ["--reload"]:
                return 1 if request_reload() else 0  # the reasons are in the log, and in the manager's status
            case ["--remove"]:
                if os.path.isdir("/run/systemd/system"):
                    with connect() as systemd:
                        teardown.remove_all(systemd)
                else:
                    teardown.remove_all(None)
                return 0
            case ["--ready", name]:
                with connect() as systemd:
                    pacing.wait(ClusterId(name), systemd)
                return 0
            case ["--stopped", name]:
                with connect() as systemd:
                    pacing.wait_until_stopped(ClusterId(name), systemd)
                return 0
    except VclusterError as err:
        print(err, file=sys.stderr)
        return err.exit_status
    print("usage: manager [--reload | --ready CLUSTER | --stopped CLUSTER | --remove]", file=sys.stderr)
    return 2
