# SPDX-License-Identifier: BSD-2-Clause
"""Removing exactly what was made: by what is recorded and found, not by what a file says today."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable

from ganeti_vc.base import files
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.cli.output import Progress
from ganeti_vc.machine import cgroups, snapshots, ssh
from ganeti_vc.machine.systemd import Systemd, connect
from ganeti_vc.model import config, names
from ganeti_vc.model.names import ClusterId
from ganeti_vc.reconcile import apply, plan
from ganeti_vc.reconcile.steps import Discard, ReloadSystemd, Remove, Step, StopUnits


def exists(cluster: ClusterId) -> bool:
    """Whether anything of this cluster is there, its snapshots apart."""
    return (
        config.exists(cluster)
        or cluster.directory.exists()
        or Discard(cluster.directory).trash.exists()
        or cluster.restore_directory.exists()
        or cluster in plan.known_clusters(apply.observe({}))
    )


def check_exists(cluster: ClusterId, with_snapshots: bool = False) -> None:
    """Raises VclusterError when nothing of this cluster is there."""
    if not (exists(cluster) or with_snapshots and snapshots.every(cluster)):
        raise VclusterError(f"there is no cluster {cluster.name}", "gnt-vcluster list shows those there are")


def steps(cluster: ClusterId) -> list[Step]:
    """What destroys a cluster. Its configuration goes last: until then `up` can take it up again."""
    others = [other for other in config.declared() if other != cluster]
    return [
        *plan.cluster_gone(cluster, apply.observe({}), last=not others),
        Discard(cluster.directory),
        Remove(cluster.config_file),
    ]


def destroy(cluster: ClusterId, progress: Progress, with_snapshots: bool = False) -> None:
    """Stop a cluster and remove it with its data; with the last one the manager ends, too. Its snapshots stay,
    unless told otherwise."""
    with apply.alone(progress.say):
        check_exists(cluster, with_snapshots)
        *todo, last = steps(cluster)
        is_last = set(config.declared()) <= {cluster}
        with connect() as systemd, progress.step(f"removing {cluster.name}", total=len(todo)) as advance:
            with files.lock(names.STATE_DIR):
                apply.apply_all(todo, systemd, advance)
                if not is_last:
                    apply.apply(last, systemd)
            if is_last:
                # Without the lock: the manager takes it to take its traces away.
                stop_everything(systemd)
                # Again, for a manager that had been killed and came back in between has found the configuration.
                apply.apply_all(steps(cluster), systemd)
            if with_snapshots:
                for snapshot in snapshots.every(cluster):
                    snapshots.delete(snapshot.id)
        cluster.throwaway.unlink(missing_ok=True)
        files.remove_empty(names.RUNS_DIR)


def stop_everything(systemd: Systemd) -> None:
    """Stop the manager, which takes its traces away, and the slices, which systemd would keep."""
    systemd.stop(names.ALL_TARGET, names.MANAGER_SERVICE)
    loaded = systemd.list_units("ganeti-vcluster*", "ganeti-vnode*", "ganeti-*@*")
    systemd.stop(*(unit.name for unit in loaded if unit.active not in ("inactive", "failed")))
    if names.RUN_DIR.exists():  # the manager was killed
        undo(systemd)
    for unit in loaded:
        systemd.reset_failed(unit.name)
    # The parent of our slices only when nobody else's are in it.
    parent = cgroups.ALL_NODES.parent
    if systemd.active_state("ganeti.slice") == "active" and not any(
        child.is_dir() and child.name != names.ALL_SLICE for child in (parent.iterdir() if parent.exists() else ())
    ):
        systemd.stop("ganeti.slice")


def remove_all(systemd: Systemd | None) -> None:
    """For the package's removal: stop and unlink every cluster, keep configurations and data.

    `systemd` is None where the machine was not booted with it; then nothing can be running.
    """
    _unlink_all(systemd)
    if systemd is not None:
        stop_everything(systemd)
        _unlink_all(systemd)  # again, as in destroy


def _unlink_all(systemd: Systemd | None) -> None:
    observed = apply.observe({})
    for cluster in sorted(plan.known_clusters(observed) | set(config.declared())):
        todo = plan.cluster_gone(cluster, observed, last=True)
        if systemd is None:
            todo = [step for step in todo if not isinstance(step, (StopUnits, ReloadSystemd))]
            for step in todo:
                apply.apply(step, systemd)  # type: ignore[arg-type]
        else:
            apply.apply_all(todo, systemd)


def undo(systemd: Systemd, on_step: Callable[[Step], None] = lambda _: None) -> None:
    """Take away what lives only as long as the manager runs, once nothing uses it any more."""
    users = systemd.list_units("ganeti-vcluster@*.target", "ganeti-vnode@*.target", "ganeti-vcluster-sshd@*.service")
    systemd.stop(*(unit.name for unit in users if unit.active != "inactive"))
    with files.lock(names.STATE_DIR):
        observed = apply.observe({})
        for cluster in sorted(plan.known_clusters(observed)):
            apply.apply_all(plan.runtime_gone(cluster, observed), systemd, on_step)
    used = ssh.PRIVSEP_DIR if systemd.active_state("ssh.service") == "active" else None
    for note, directory in ((ssh.MADE_SSHD_DIR, ssh.PRIVSEP_DIR), (names.MADE_GANETI_RUN_DIR, names.GANETI_RUN_DIR)):
        if note.exists() and directory != used:
            with contextlib.suppress(OSError):  # somebody else uses it, or has removed it
                directory.rmdir()
    shutil.rmtree(names.RUN_DIR, ignore_errors=True)
