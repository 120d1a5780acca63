# SPDX-License-Identifier: BSD-2-Clause
"""Putting another directory and configuration file in the place of a cluster's, so that no interruption loses either.

    .CLUSTER.restore/journal.json     what is being done
                    /new/cluster.conf, cluster/
                    /old/cluster.conf, cluster/, about.json

The new state is brought here in its own time, and given up when nobody works at it any more. It is put in
place once the old one has come here as well; from then on, whoever comes next only goes on (`finish`): both
states are complete on the disk until the new one is the cluster's.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.machine import snapshots
from ganeti_vc.machine.snapshots import ABOUT, CONFIG, DATA, About, Snapshot
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId


@dataclass(frozen=True)
class Journal:
    """What a restore was asked for."""

    snapshot: str
    keep: str  #: name of the snapshot that the old state becomes; empty: none


def prepare(source: Snapshot, journal: Journal, old: About | None) -> None:
    """Bring a copy of a snapshot beside the cluster. `old`: what is known of the old state, if that is to be kept."""
    cluster, place = source.id.cluster, source.id.cluster.restore_directory
    for name in ("new", "old"):
        (place / name).mkdir(mode=0o700, parents=True)
    files.write(place / "journal.json", json.dumps(asdict(journal)), 0o600)
    shutil.copy(source.config, place / "new" / CONFIG)
    snapshots.copy(source.data, place / "new" / DATA)
    if old:
        shutil.copy(cluster.config_file, place / "old" / CONFIG)
        files.write(place / "old" / ABOUT, old.to_json())
    snapshots.sync(place)


def exchange(cluster: ClusterId) -> None:
    """Put what was prepared in the place of the cluster, of which nothing runs any more."""
    old = cluster.restore_directory / "old" / DATA
    if cluster.directory.exists():
        cluster.directory.rename(old)
    else:
        old.mkdir()
    finish(cluster)


def finish(cluster: ClusterId) -> None:
    """Come to the end of an exchange that has begun, from wherever it is. The journal stays."""
    place = cluster.restore_directory
    new, old = place / "new", place / "old"
    if (new / DATA).exists():
        # The file before the directory: no manager may see the new one with the old file.
        files.write(cluster.config_file, (new / CONFIG).read_text())
        if cluster.directory.exists():  # not the old one: it was made since, by a manager that was started
            shutil.rmtree(cluster.directory)
        (new / DATA).rename(cluster.directory)
        snapshots.sync_directory(names.STATE_DIR)
    if (old / ABOUT).exists() and (old / DATA).exists():
        journal = Journal(**json.loads((place / "journal.json").read_text()))
        cluster.snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        old.rename(cluster.snapshot(journal.keep).directory)
        snapshots.sync_directory(cluster.snapshots)
    _remove(old, new)


def resume(cluster: ClusterId, journal: Journal) -> bool:
    """Whether just this restore was interrupted after it had kept the old state; its exchange is then finished."""
    text = files.read(cluster.restore_directory / "journal.json")
    if not journal.keep or text is None or Journal(**json.loads(text)) != journal or not _begun(cluster):
        return False
    finish(cluster)
    return cluster.snapshot(journal.keep).directory.exists()


def _begun(cluster: ClusterId) -> bool:
    place = cluster.restore_directory
    return (place / "old" / DATA).exists() or not (place / "new" / DATA).exists()


def end(cluster: ClusterId) -> None:
    """Remove what is left of an exchange that is finished, or was not begun. The journal goes last."""
    place = cluster.restore_directory
    _remove(place / "new" / DATA, place / "old", place / "new", place)


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            shutil.rmtree(path)


def finish_interrupted(all_of_them: bool) -> None:
    """Finish the exchanges that were interrupted. With `all_of_them` (nobody restores now) give the others up."""
    for place in names.STATE_DIR.glob(".*.restore"):
        cluster = ClusterId(place.name.removeprefix(".").removesuffix(".restore"))
        begun = (place / "old" / DATA).exists()
        if begun:
            finish(cluster)
        if begun or all_of_them:
            end(cluster)
