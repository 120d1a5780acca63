# SPDX-License-Identifier: BSD-2-Clause
"""snapshot restore: make a cluster what it was.

What takes long, and what can be refused, comes before the cluster is stopped. After an interruption the same command may
be repeated: see ganeti_vc/machine/exchange.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ganeti_vc.base import locks
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.progress import Progress
from ganeti_vc.machine import config_files, exchange, foreign, freezer, ganeti, snapshots
from ganeti_vc.machine.exchange import Journal
from ganeti_vc.machine.snapshots import About, Snapshot
from ganeti_vc.machine.systemd import Systemd, connect
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig, parse
from ganeti_vc.model.conflicts import check_against
from ganeti_vc.model.names import ClusterId, SnapshotId
from ganeti_vc.operations import bring_up, save
from ganeti_vc.reconcile import apply, locking, observe, plan, refusals


def check(snapshot: SnapshotId) -> tuple[Snapshot, ClusterConfig]:
    """Return the snapshot and its configuration. Raises VclusterError that says what is in the way."""
    saved, cluster = snapshots.load(snapshot), snapshot.cluster
    foreign.check(cluster)
    if saved.about.ganeti != ganeti.version():
        raise VclusterError(
            f"the snapshot {snapshot.name} is one of Ganeti {saved.about.ganeti}, and installed is {ganeti.version()}",
            "install that version again",
        )
    config = parse(cluster, saved.config.read_text(), str(saved.config))
    # Other clusters whose files cannot be read do not matter here.
    check_against(config, [one for other, one in config_files.read_configs()[0].items() if other != cluster])
    # The present disks do not count, as they will be replaced.
    refusals.check_host(config, replace(observe.observe({}), disks={}, volumes={}))
    return saved, config


def _describe_old(cluster: ClusterId, keep: str) -> About:
    """Describe the present state, which becomes the snapshot `keep`. Raises VclusterError."""
    if not (config_files.exists(cluster) and cluster.directory.is_dir()):
        raise VclusterError(f"the cluster {cluster.name} has nothing to keep", "leave --keep out")
    config = save.check(cluster.snapshot(keep))
    state = "running" if freezer.running(save.members(config)) else "stopped"
    return save.describe(config, state, cluster.directory)


def dry_run(snapshot: SnapshotId, keep: str, start: bool) -> list[str]:
    """Return what `restore` would do, a line each."""
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
    """Make a cluster what it was. `keep`: the name of the snapshot that its present state becomes; may be empty.

    `first` is called when no other command changes clusters any more, before anything is changed; it may raise. Raises
    VclusterError.
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
            config = config_files.load(cluster)
        else:
            config = _exchange(snapshot, journal, systemd, progress)
        bring_up.adopt(cluster)
        changes = [f"restore {snapshot.name}", *([f"keep the state before as {keep}"] if keep else [])]
        again = bring_up.BringUp(config, systemd, progress, changes)
        outcome = again.surroundings_and_start() if start else again.surroundings()
        exchange.end(cluster)
        return outcome


def _exchange(snapshot: SnapshotId, journal: Journal, systemd: Systemd, progress: Progress) -> ClusterConfig:
    """Stop the cluster and put the snapshot in its place. Return the configuration."""
    cluster = snapshot.cluster
    saved, config = check(snapshot)
    old = _describe_old(cluster, journal.keep) if journal.keep else None
    snapshots.check_space(snapshots.size(saved.data))
    with progress.step("copying the snapshot"):
        try:
            exchange.prepare(saved, journal, old)
        except BaseException:
            exchange.end(cluster)
            raise
    with progress.step("stopping and replacing the nodes"), locks.lock(names.STATE_DIR):
        apply.apply_all(plan.stopped(cluster, observe.observe({})), systemd)
        exchange.exchange(cluster)
    return config
