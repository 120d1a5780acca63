# SPDX-License-Identifier: BSD-2-Clause
"""snapshot restore: a cluster as it was, whatever has become of it since.

All that takes its time, and all that can be refused, comes before the cluster is stopped. Interrupted at any
point, the same command may be repeated: see ganeti_vc/machine/exchange.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ganeti_vc.base import locks
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.progress import Progress
from ganeti_vc.machine import config_files, exchange, freezer, ganeti, snapshots
from ganeti_vc.machine.exchange import Journal
from ganeti_vc.machine.snapshots import About, Snapshot
from ganeti_vc.machine.systemd import Systemd, connect
from ganeti_vc.model import config, names
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId, SnapshotId
from ganeti_vc.operations import bring_up, save
from ganeti_vc.reconcile import apply, locking, observe, plan, refusals


def check(snapshot: SnapshotId) -> tuple[Snapshot, ClusterConfig]:
    """Whether this machine can take the snapshot now. Raises VclusterError that says what is in the way."""
    found, cluster = snapshots.load(snapshot), snapshot.cluster
    if found.about.ganeti != ganeti.version():
        raise VclusterError(f"the snapshot {snapshot.name} is one of Ganeti {found.about.ganeti}, and installed is "
                            f"{ganeti.version()}", "install that version again")  # fmt: skip
    made = config.parse(cluster, found.config.read_text(), source=found.config)
    # The other clusters that can be read: a broken neighbour is its own problem.
    config.check_against(made, [one for other, one in config_files.read_configs()[0].items() if other != cluster])
    # What the nodes have on their disks now is going to be replaced.
    refusals.check_host(made, replace(observe.observe({}), disks={}, volumes={}))
    return found, made


def _describe_old(cluster: ClusterId, keep: str) -> About:
    """What is known of the present state, which is to become the snapshot `keep`."""
    if not (config_files.exists(cluster) and cluster.directory.is_dir()):
        raise VclusterError(f"the cluster {cluster.name} has nothing to keep", "leave --keep out")
    made = save.check(cluster.snapshot(keep))
    state = "running" if freezer.running(save.members(made)) else "stopped"
    return save.describe(made, state, cluster.directory)


def dry_run(snapshot: SnapshotId, keep: str, start: bool) -> list[str]:
    """What `restore` would do, a line each."""
    cluster = snapshot.cluster
    check(snapshot)
    if keep:
        _describe_old(cluster, keep)
    return [
        f"copy {snapshot.directory} to {cluster.restore_directory}",
        *(str(step) for step in plan.stopped(cluster, observe.observe({}))),
        *([f"move {cluster.directory} to {cluster.snapshot(keep).directory}"] if keep else []),
        f"replace {cluster.directory} and {cluster.config_file}",
        *([f"start {cluster.target}"] if start else []),
    ]


def restore(
    snapshot: SnapshotId, keep: str, start: bool, progress: Progress, first: Callable[[], None] = lambda: None
) -> bring_up.Outcome:
    """Make a cluster what it was. `keep`: the name of a snapshot that its present state becomes; may be empty.

    `first` is called when nobody else changes clusters any more, before anything is changed, and may refuse.
    """
    ganeti.check_installed()
    cluster, journal = snapshot.cluster, Journal(snapshot.name, keep)
    with locking.one_at_a_time(progress.say), connect() as systemd:
        first()
        with locks.lock(names.STATE_DIR):
            resumed = exchange.resume(cluster, journal)
            if not resumed:
                exchange.finish_interrupted(all_of_them=True)
        if resumed:
            progress.say(f"going on with the restore that was interrupted: {keep} has the state before it")
            made = config_files.load(cluster)
        else:
            made = _exchange(snapshot, journal, systemd, progress)
        bring_up.adopt(cluster)
        changes = [f"restore {snapshot.name}", *([f"keep the state before as {keep}"] if keep else [])]
        again = bring_up.BringUp(made, systemd, progress, changes)
        outcome = again.surroundings_and_start() if start else again.surroundings()
        exchange.end(cluster)
        return outcome


def _exchange(snapshot: SnapshotId, journal: Journal, systemd: Systemd, progress: Progress) -> ClusterConfig:
    """Stop the cluster and put the snapshot in its place. Returns its configuration."""
    cluster = snapshot.cluster
    found, made = check(snapshot)
    old = _describe_old(cluster, journal.keep) if journal.keep else None
    snapshots.check_space(snapshots.size(found.data))
    with progress.step("copying the snapshot"):
        try:
            exchange.prepare(found, journal, old)
        except BaseException:
            exchange.end(cluster)
            raise
    with progress.step("stopping and replacing the nodes"), locks.lock(names.STATE_DIR):
        apply.apply_all(plan.stopped(cluster, observe.observe({})), systemd)
        exchange.exchange(cluster)
    return made
