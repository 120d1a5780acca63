# SPDX-License-Identifier: BSD-2-Clause
"""snapshot save: a copy of a cluster, which may run on meanwhile.

The nodes of a running cluster stand still while their files are copied (ganeti_vc/machine/freezer.py). A start from the
copy is like a start after a power cut of all nodes at once. Ganeti survives that, except for a job that runs.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganeti_vc.base import files, locks
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.progress import Progress, counted
from ganeti_vc.machine import config_files, foreign, freezer, ganeti, ganeti_files, snapshots
from ganeti_vc.machine.snapshots import ABOUT, CONFIG, DATA, About, Snapshot
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import NodeId, SnapshotId
from ganeti_vc.reconcile import locking, pacing


@dataclass(frozen=True)
class Saved:
    """What `save` reports."""

    snapshot: Snapshot
    stood_still: float  #: seconds


def check(snapshot: SnapshotId) -> ClusterConfig:
    """Return the configuration of the cluster. Raises VclusterError when a snapshot of this name cannot be made."""
    cluster = snapshot.cluster
    config = config_files.load_present(cluster)
    snapshots.check_new(snapshot)
    foreign.check(cluster)
    if not cluster.directory.is_dir():
        raise VclusterError(
            f"the cluster {cluster.name} has nothing to save yet", f"first: gnt-vcluster up {cluster.name}"
        )
    if any(node.volume_group for node in config.nodes):
        raise VclusterError(
            f"the cluster {cluster.name} has volume groups, of which there are no snapshots",
            "take clusters whose [nodes] volume_group is empty",
        )
    return config


def _check_jobs(master: NodeId | None, finished: set[str], live: bool) -> str | None:
    """Return a job that has not ended, if there is one. Raises VclusterError for it unless `live`."""
    job = ganeti_files.unfinished_job(master, finished) if master else None
    if job and not live:
        raise VclusterError(
            f"the job {job} is running",
            "wait for its end, or add --live: then the snapshot has it as after a power cut",
        )
    return job


def members(config: ClusterConfig) -> list[NodeId]:
    """Return all nodes that may run, whether still declared or not."""
    return sorted({node.id for node in config.nodes} | set(pacing.members(config.id)))


def dry_run(snapshot: SnapshotId) -> list[str]:
    """What `save` would do, a line each."""
    nodes = freezer.running(members(check(snapshot)))
    return [
        *([f"freeze {counted(len(nodes), 'node')}"] if nodes else []),
        f"copy {snapshot.cluster.directory} and {snapshot.cluster.config_file} to {snapshot.directory}",
    ]


def save(snapshot: SnapshotId, live: bool, progress: Progress) -> Saved:
    """Make a snapshot. Raises VclusterError while jobs run, unless `live` is set."""
    cluster = snapshot.cluster
    with locking.exclusive(progress.say):
        snapshots.clean()
        config = check(snapshot)
        nodes = members(config)
        master, finished = ganeti_files.master_of(nodes), set[str]()
        _check_jobs(master, finished, live)
        snapshots.check_space(snapshots.size(cluster.directory))
        with snapshots.making(snapshot) as partial, contextlib.ExitStack() as stack:
            shutil.copy(cluster.config_file, partial / CONFIG)
            # With this lock the manager changes nothing meanwhile.
            stack.enter_context(locks.lock(names.STATE_DIR))
            running = freezer.running(nodes)
            stack.enter_context(
                progress.step("copying " + ("the nodes, which stand still" if running else "the nodes"))
            )
            begin = time.monotonic()
            with freezer.frozen(nodes):
                job = _check_jobs(master, finished, live)
                snapshots.copy(cluster.directory, partial / DATA)
                _check_still(running, nodes)
            stood_still = time.monotonic() - begin if running else 0.0
            stack.close()
            about = describe(config, "live" if job else "running" if running else "stopped", partial)
            files.write(partial / ABOUT, about.to_json())
        return Saved(Snapshot(snapshot, about), stood_still)


def _check_still(before: Sequence[NodeId], nodes: Sequence[NodeId]) -> None:
    """Raise VclusterError when a node has started that had nothing to freeze before."""
    started = set(freezer.running(nodes)) - set(before)
    if started:
        raise VclusterError(f"{min(started).name} was started while it was copied", "repeat the command")


def describe(config: ClusterConfig, state: str, directory: Path) -> About:
    """Describe a snapshot of this cluster, whose files are in `directory`."""
    return About(round(time.time(), 3), len(config.nodes), state, ganeti.version(), snapshots.size(directory))
