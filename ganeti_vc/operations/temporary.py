# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster run: a temporary cluster for one command, removed however the command ends.

Each has a file in names.RUNS_DIR, which is made first and removed last. The process has a lock on it as long as it lives.
So the next `run` finds the clusters of processes that were killed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ganeti_vc.base.errors import StepFailed, VclusterError
from ganeti_vc.base.files import remove_empty
from ganeti_vc.base.locks import try_lock
from ganeti_vc.base.progress import Progress
from ganeti_vc.base.signals import blocked
from ganeti_vc.model import names
from ganeti_vc.model.addresses import many_networks
from ganeti_vc.model.names import ClusterId, NodeId, SnapshotId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.operations import bring_up, destroy, on_node, restore
from ganeti_vc.reconcile import locking

#: The variable in the command's environment with the name of its cluster.
VARIABLE = "GANETI_VCLUSTER_NAME"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Claim:
    """Marks a cluster as temporary and owned by this process."""

    def __init__(self, cluster: ClusterId) -> None:
        self.cluster = cluster
        self._fd: int | None = None

    def take(self) -> None:
        """Claim the cluster. Call it with the lock of locking.exclusive.

        Raises VclusterError when the cluster exists, or another process has claimed it.
        """
        if destroy.exists(self.cluster):
            raise VclusterError(
                f"the cluster {self.cluster.name} exists, and the names in its snapshots are its own",
                f"first: gnt-vcluster destroy {self.cluster.name}",
            )
        names.RUNS_DIR.mkdir(exist_ok=True)
        fd = os.open(self.cluster.throwaway, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise VclusterError(
                f"another gnt-vcluster run has the cluster {self.cluster.name}", "wait for its end"
            ) from None
        self._fd = fd

    def end(self, progress: Progress) -> None:
        """Destroy the cluster, if it was taken and is still there."""
        if self._fd is None:
            return
        if destroy.exists(self.cluster):
            destroy.destroy(self.cluster, progress)
        self.cluster.throwaway.unlink(missing_ok=True)
        os.close(self._fd)
        remove_empty(names.RUNS_DIR)


def clean(progress: Progress) -> None:
    """Destroy the clusters of processes that were killed."""
    with locking.exclusive(progress.say):  # a cluster that another process is making is locked by now
        dead = [path for path in sorted(names.RUNS_DIR.glob("*")) if _is_free(path)]
    for path in dead:
        cluster = ClusterId(path.name)
        with try_lock(path) as is_free:
            if is_free:
                progress.say(f"removing {cluster.name}, which a gnt-vcluster run that was killed has left")
                if destroy.exists(cluster):
                    destroy.destroy(cluster, progress)
                path.unlink(missing_ok=True)
    remove_empty(names.RUNS_DIR)


def _is_free(path: Path) -> bool:
    with try_lock(path) as free:
        return free


def run(argv: Sequence[str], options: UpOptions, snapshot: SnapshotId | None, progress: Progress) -> int:
    """Run a command on the master of a new cluster, or of a restored one. Return its exit status; raises VclusterError."""
    clean(progress)
    # The name has no '-': systemd would make one more slice for it, which is left over.
    claim = Claim(snapshot.cluster if snapshot else ClusterId(f"run{secrets.token_hex(3)}"))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        return _command(_master(claim, options, snapshot, progress), argv)
    finally:
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        claim.end(progress)


def _master(claim: Claim, options: UpOptions, snapshot: SnapshotId | None, progress: Progress) -> NodeId:
    """Bring the cluster up. Return its master."""
    if snapshot:
        outcome = restore.restore(snapshot, "", True, progress, first=claim.take)
    else:
        with locking.one_at_a_time(progress.say):
            claim.take()
        outcome = bring_up.up(claim.cluster, options, progress)
    if outcome.verify_errors:
        raise StepFailed(f"gnt-cluster verify finds: {outcome.verify_errors[0]}", "gnt-vcluster up shows the whole")
    if outcome.master is None:
        raise VclusterError(
            f"the cluster {claim.cluster.name} has no master: it was not initialised when it was saved",
            "take another snapshot",
        )
    return outcome.master


def options_for(nodes: int | None, instances: int | None) -> UpOptions:
    """Return the options for `up`. There may be many such clusters, so there are many networks to choose from."""
    return UpOptions(nodes, instances, networks=tuple(many_networks(nodes or 3, max(10, instances or 0))))


def _command(master: NodeId, argv: Sequence[str]) -> int:
    """Run a command on the master to its end, with our standard files and our terminal.

    Signals are the command's to deal with: those that somebody sends to us are passed on, but not
    those of the terminal, which it gets anyway. Should we be killed, it is told to end.
    """
    environment = {**on_node.environment(master), VARIABLE: master.cluster.name}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with blocked([*_SIGNALS, signal.SIGCHLD]):
        pid = os.posix_spawn(
            "/usr/bin/setpriv", ["setpriv", "--pdeathsig", "TERM", *master.enter, *argv], environment,
            setsigmask=[], setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )  # fmt: skip
        while True:
            received = signal.sigwaitinfo([*_SIGNALS, signal.SIGCHLD])
            if received.si_signo == signal.SIGCHLD:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    result = os.waitstatus_to_exitcode(status)
                    return result if result >= 0 else 128 - result
            elif received.si_code <= 0:  # SI_USER, SI_QUEUE, ...
                os.kill(pid, received.si_signo)
