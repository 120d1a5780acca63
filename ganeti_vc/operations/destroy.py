# SPDX-License-Identifier: BSD-2-Clause
"""destroy: remove exactly what was made, by what is recorded and found, not by what a file says today."""

from __future__ import annotations

from ganeti_vc.base import files, locks
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.progress import Progress
from ganeti_vc.machine import config_files, foreign, hosts, snapshots
from ganeti_vc.machine.systemd import connect
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId
from ganeti_vc.reconcile import apply, locking, observe, plan, state
from ganeti_vc.reconcile.steps import Discard, Remove, Step
from ganeti_vc.reconcile.teardown import stop_everything


def exists(cluster: ClusterId) -> bool:
    """Tell whether there is anything of this cluster but snapshots."""
    return (
        config_files.exists(cluster)
        or cluster.directory.exists()
        or Discard(cluster.directory).trash.exists()
        or cluster.restore_directory.exists()
        or cluster in state.known_clusters(observe.observe({}))
    )


def check_exists(cluster: ClusterId, with_snapshots: bool = False) -> None:
    """Raise VclusterError when there is nothing of this cluster."""
    if not (exists(cluster) or with_snapshots and snapshots.ids(cluster)):
        raise VclusterError(f"there is no cluster {cluster.name}", "gnt-vcluster list shows the existing clusters")


def steps(cluster: ClusterId) -> list[Step]:
    """Plan the end of a cluster. Its configuration file goes last: until then `up` can bring it back.

    Raises VclusterError when its block in /etc/hosts is damaged.
    """
    observed = observe.observe({})
    hosts.check(observed.hosts, cluster)
    others = [other for other in config_files.declared() if other != cluster]
    return [
        *plan.cluster_gone(cluster, observed, last=not others),
        *([Remove(cluster.restore_directory)] if cluster.restore_directory.exists() else []),
        Discard(cluster.directory),
        Remove(cluster.config_file),
    ]


def destroy(cluster: ClusterId, progress: Progress, with_snapshots: bool = False) -> None:
    """Stop a cluster and remove it with its data; the last cluster takes the manager along.

    Snapshots stay, unless `with_snapshots`. Raises VclusterError.
    """
    with locking.exclusive(progress.say):
        check_exists(cluster, with_snapshots)
        foreign.check(cluster)
        *todo, last = steps(cluster)
        is_last = set(config_files.declared()) <= {cluster}
        with connect() as systemd, progress.step(f"removing {cluster.name}", total=len(todo)) as advance:
            with locks.lock(names.STATE_DIR):
                apply.apply_all(todo, systemd, advance)
                if not is_last:
                    apply.apply(last, systemd)
            if is_last:
                # Without the lock, which the manager takes to remove what it has made.
                stop_everything(systemd)
                # Again: a manager that was killed may have come back in between, and has found the configuration.
                apply.apply_all(steps(cluster), systemd)
            if with_snapshots:
                for snapshot in snapshots.ids(cluster):
                    snapshots.delete(snapshot)
        cluster.throwaway.unlink(missing_ok=True)
        files.remove_empty(names.RUNS_DIR)
