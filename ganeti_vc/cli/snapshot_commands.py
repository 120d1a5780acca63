# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster snapshot at the edge: its actions, their options and what they print."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from ganeti_vc.base import locks, progress
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.cli import output
from ganeti_vc.machine import config_files, snapshots
from ganeti_vc.model import names
from ganeti_vc.operations import lookup, restore, save
from ganeti_vc.reconcile import locking


def _snapshot_of(args: argparse.Namespace, name: str) -> names.SnapshotId:
    return names.SnapshotId.parse(lookup.default_cluster(args.cluster), name)


def do_save(args: argparse.Namespace) -> int:
    """Save a snapshot."""
    snapshot = _snapshot_of(args, args.name)
    if args.dry_run:
        return output.print_dry_run(save.dry_run(snapshot), args)
    begin = time.monotonic()
    saved = save.save(snapshot, args.live, output.progress(args))
    seconds, about = time.monotonic() - begin, saved.snapshot.about
    if args.json:
        output.print_json(
            {**saved.snapshot.document(), "seconds": round(seconds, 2), "stood_still": round(saved.stood_still, 2)}
        )
    else:
        stood_still = f", in which the nodes stood still for {saved.stood_still:.2f} s" if saved.stood_still else ""
        print(
            f"Snapshot {snapshot.name} of {snapshot.cluster.name} is saved: {progress.counted(about.nodes, 'node')}, "
            f"{about.size / 2**20:.0f} MiB ({seconds:.1f} s{stood_still})."
        )
    return 0


def do_restore(args: argparse.Namespace) -> int:
    """Restore a snapshot."""
    snapshot = _snapshot_of(args, args.name)
    keep = _snapshot_of(args, args.keep).name if args.keep else ""
    if args.dry_run:
        return output.print_dry_run(restore.dry_run(snapshot, keep, not args.no_start), args)
    begin = time.monotonic()
    outcome = restore.restore(snapshot, keep, not args.no_start, output.progress(args))
    seconds = time.monotonic() - begin
    if args.json:
        output.print_json({**outcome.document(), "snapshot": snapshot.name, "seconds": round(seconds, 1)})
    else:
        print(
            f"Cluster {snapshot.cluster.name} is what it was in {snapshot.name}: "
            f"{progress.counted(len(outcome.config.nodes), 'node')} ({seconds:.1f} s)."
        )
    return 0


def do_snapshots(args: argparse.Namespace) -> int:
    """List snapshots."""
    with locks.try_lock(locks.lock_file(names.CONFIG_DIR)) as nobody_works:
        if nobody_works:
            snapshots.clean()
    cluster = None if args.cluster is None else lookup.default_cluster(args.cluster)
    shown, errors = snapshots.read_all(cluster)
    if cluster and not (shown or errors or config_files.exists(cluster) or cluster.directory.exists()):
        raise VclusterError(
            f"there is no cluster {cluster.name} and no snapshot of it",
            "gnt-vcluster list and gnt-vcluster snapshot list show what exists",
        )
    damaged = [{**dict.fromkeys(snapshots.FIELDS), "snapshot": one.name, "cluster": one.cluster.name, "state": "damaged",
                "error": str(err)} for one, err in errors.items()]  # fmt: skip
    if args.json:
        output.print_json({"snapshots": [*(snapshot.document() for snapshot in shown), *damaged]})
        return 0
    output.print_listing(snapshots.FIELDS, [*(snapshot.row() for snapshot in shown), *damaged], args)
    for row in damaged:
        print(row["error"], file=sys.stderr)
    return 0


def do_delete(args: argparse.Namespace) -> int:
    """Delete a snapshot."""
    snapshot = _snapshot_of(args, args.name)
    snapshots.check_exists(snapshot)
    if args.dry_run:
        return output.print_dry_run([f"delete {snapshot.directory}"], args)
    with locking.exclusive(output.progress(args).say):
        snapshots.clean()
        snapshots.check_exists(snapshot)
        snapshots.delete(snapshot)
    if args.json:
        output.print_json({"snapshot": snapshot.name, "cluster": snapshot.cluster.name, "deleted": True})
    return 0


SNAPSHOT_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "save": do_save, "restore": do_restore, "list": do_snapshots, "delete": do_delete,
}  # fmt: skip


def do_snapshot(args: argparse.Namespace) -> int:
    return SNAPSHOT_ACTIONS[args.action](args)
