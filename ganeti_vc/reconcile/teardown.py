# SPDX-License-Identifier: BSD-2-Clause
"""Stopping everything and taking it away: when the manager stops, with the last cluster, before the package is removed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable

from ganeti_vc.base import locks
from ganeti_vc.machine import cgroups, config_files, ssh
from ganeti_vc.machine.systemd import Systemd
from ganeti_vc.model import names
from ganeti_vc.reconcile import apply, locking, observe, plan, state
from ganeti_vc.reconcile.steps import Step


def stop_everything(systemd: Systemd) -> None:
    """Stop the manager, which takes away what it has made, and the slices, which systemd would keep."""
    systemd.stop(names.ALL_TARGET, names.MANAGER_SERVICE)
    loaded = systemd.list_units("ganeti-vcluster*", "ganeti-vnode*", "ganeti-*@*")
    systemd.stop(*(unit.name for unit in loaded if unit.active not in ("inactive", "failed")))
    if names.RUN_DIR.exists():  # the manager was killed
        undo(systemd)
    for unit in loaded:
        systemd.reset_failed(unit.name)
    # The parent of our slices may have others in it, which are not ours.
    parent = cgroups.ALL_NODES.parent
    if systemd.active_state("ganeti.slice") == "active" and not any(
        child.is_dir() and child.name != names.ALL_SLICE for child in (parent.iterdir() if parent.exists() else ())
    ):
        systemd.stop("ganeti.slice")


def remove_all(systemd: Systemd | None) -> None:
    """Stop and unlink every cluster, and keep configurations and data. The package's prerm calls this.

    `systemd` is None on a machine that was not booted with it; then nothing can be running.
    """
    _unlink_all(systemd)
    if systemd is not None:
        stop_everything(systemd)
        _unlink_all(systemd)  # again: a manager that was killed may have come back in between
    locking.sweep()


def _unlink_all(systemd: Systemd | None) -> None:
    observed = observe.observe({})
    clusters = sorted(state.known_clusters(observed) | set(config_files.declared()))
    errors = apply.apply_each({one: plan.cluster_gone(one, observed, last=True) for one in clusters}, systemd)
    for err in errors.values():
        raise err


def undo(systemd: Systemd, on_step: Callable[[Step], None] = lambda _: None) -> None:
    """Stop the clusters, then take away what exists only while the manager runs.

    What cannot be done for one cluster does not keep the rest from being done; then it raises VclusterError.
    """
    users = systemd.list_units("ganeti-vcluster@*.target", "ganeti-vnode@*.target", "ganeti-vcluster-sshd@*.service")
    systemd.stop(*(unit.name for unit in users if unit.active != "inactive"))
    with locks.lock(names.STATE_DIR):
        observed = observe.observe({})
        gone = {cluster: plan.runtime_gone(cluster, observed) for cluster in sorted(state.known_clusters(observed))}
        errors = apply.apply_each(gone, systemd, on_step)
    used = ssh.PRIVSEP_DIR if systemd.active_state("ssh.service") == "active" else None
    for note, directory in ((ssh.MADE_SSHD_DIR, ssh.PRIVSEP_DIR), (names.MADE_GANETI_RUN_DIR, names.GANETI_RUN_DIR)):
        if note.exists() and directory != used:
            with contextlib.suppress(OSError):  # somebody else uses it, or has removed it
                directory.rmdir()
    shutil.rmtree(names.RUN_DIR, ignore_errors=True)
    for err in errors.values():
        raise err
