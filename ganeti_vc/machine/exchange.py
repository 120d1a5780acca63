# SPDX-License-Identifier: BSD-2-Clause
"""Exchanging a cluster's directory and configuration file for others, so that no interruption loses either.

    .CLUSTER.restore/journal.json     what is being done
                    /new/cluster.conf, cluster/
                    /old/cluster.conf, cluster/, about.json

The new state is copied to this directory first. Until the old state has moved here as well, an interrupted restore is
given up. From then on the next command goes on with it (`finish`). Both states are complete on the disk until the new
one is the cluster's.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import snapshots
from ganeti_vc.machine.snapshots import ABOUT, CONFIG, DATA, About, Snapshot
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Journal:
    """What a restore was asked for."""

    snapshot: str
    keep: str  #: name of the snapshot that the old state becomes; empty: none


def _journal_file(cluster: ClusterId) -> Path:
    return cluster.restore_directory / "journal.json"


def _journal(cluster: ClusterId) -> Journal:
    """Read the journal. Raises VclusterError when it is damaged."""
    path = _journal_file(cluster)
    try:
        journal = Journal(**json.loads(path.read_text()))
        if not isinstance(journal.snapshot, str) or journal.keep and not names.is_snapshot_name(journal.keep):
            raise ValueError
    except (OSError, ValueError, TypeError):
        raise VclusterError(
            f"{path} of an interrupted restore is damaged",
            f"{path.parent} has the cluster's states before and after it: take what you need, then remove that directory",
        ) from None
    return journal


def prepare(source: Snapshot, journal: Journal, old: About | None) -> None:
    """Copy a snapshot beside the cluster. `old`: the description of the old state, if that becomes a snapshot."""
    cluster, place = source.id.cluster, source.id.cluster.restore_directory
    for name in ("new", "old"):
        (place / name).mkdir(mode=0o700, parents=True)
    files.write(_journal_file(cluster), json.dumps(asdict(journal)), 0o600)
    shutil.copy(source.config, place / "new" / CONFIG)
    snapshots.copy(source.data, place / "new" / DATA)
    if old:
        shutil.copy(cluster.config_file, place / "old" / CONFIG)
        files.write(place / "old" / ABOUT, old.to_json())
    snapshots.sync(place)


def exchange(cluster: ClusterId) -> None:
    """Put what was prepared in the place of the cluster. Nothing of the cluster may run."""
    old = cluster.restore_directory / "old" / DATA
    if cluster.directory.exists():
        cluster.directory.rename(old)
    else:
        old.mkdir()
    finish(cluster)


def finish(cluster: ClusterId) -> None:
    """Finish an exchange that has begun, wherever it was interrupted. The journal stays."""
    place = cluster.restore_directory
    new, old = place / "new", place / "old"
    if (new / DATA).exists():
        # The file before the directory: no manager may see the new one with the old file.
        files.write(cluster.config_file, (new / CONFIG).read_text())
        if cluster.directory.exists():  # a manager that started since has made it
            files.remove_tree(cluster.directory)
        (new / DATA).rename(cluster.directory)
        files.sync_directory(names.STATE_DIR)
    if (old / ABOUT).exists() and (old / DATA).exists():
        journal = _journal(cluster)
        cluster.snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        old.rename(cluster.snapshot(journal.keep).directory)
        files.sync_directory(cluster.snapshots)
    _remove(old, new)


def resume(cluster: ClusterId, journal: Journal) -> bool:
    """Finish the exchange if this very restore was interrupted after it had kept the old state. Tell whether it was."""
    if not journal.keep or not _journal_file(cluster).exists() or _journal(cluster) != journal or not _begun(cluster):
        return False
    finish(cluster)
    return cluster.snapshot(journal.keep).directory.exists()


def _begun(cluster: ClusterId) -> bool:
    place = cluster.restore_directory
    return (place / "old" / DATA).exists() or not (place / "new" / DATA).exists()


def end(cluster: ClusterId) -> None:
    """Remove what is left of an exchange that is finished, or has not begun. The journal goes last."""
    place = cluster.restore_directory
    _remove(place / "new" / DATA, place / "old", place / "new", place)


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            files.remove_tree(path)


def finish_interrupted(all_of_them: bool) -> None:
    """Finish the exchanges that were interrupted.

    With `all_of_them`, which needs the lock of locking.one_at_a_time, those that had not begun are given up. One whose
    journal is damaged is reported, and stays.
    """
    for place in names.STATE_DIR.glob(".*.restore"):
        cluster = ClusterId(place.name.removeprefix(".").removesuffix(".restore"))
        begun = (place / "old" / DATA).exists()
        if begun:
            try:
                finish(cluster)
            except VclusterError as err:
                log.warning("%s", err)
                continue
        if begun or all_of_them:
            end(cluster)
