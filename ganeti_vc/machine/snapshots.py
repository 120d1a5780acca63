# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots on the disk: a cluster as it was at one moment, with its configuration file.

    .snapshots/CLUSTER/NAME/about.json      what `list` shows
                           /cluster.conf    the configuration file
                           /cluster/        the cluster directory

A snapshot is made under a name that begins with a dot, and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.process import run
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId, SnapshotId
from ganeti_vc.node import libc

FIELDS = {
    "snapshot": "Snapshot",
    "cluster": "Cluster",
    "nodes": "Nodes",
    "created": "Created",
    "state": "State",
    "ganeti": "Ganeti",
    "size": "Size",
}
#: Names in a snapshot's directory, and in those that are exchanged (ganeti_vc/machine/exchange.py).
ABOUT, CONFIG, DATA = "about.json", "cluster.conf", "cluster"
_PARTIAL = ".partial"
#: A directory that mkfs.ext4(8) makes, if a file system is mounted here.
_OF_THE_FILE_SYSTEM = "lost+found"
SCHEMA = 1


@dataclass(frozen=True)
class About:
    """What a snapshot says of itself."""

    created: float  #: seconds since 1970
    nodes: int
    state: str  #: stopped, running, or live: with unfinished jobs
    ganeti: str  #: Ganeti's version
    size: int  #: bytes on the disk, if none are shared with other files

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @staticmethod
    def from_json(text: str) -> About:
        """Read what `to_json` has written. Raises ValueError for anything else."""
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        for name, kind in _KINDS.items():
            if not isinstance(raw.get(name), kind):
                raise ValueError(f"{name} is missing or wrong")
        return About(*(raw[name] for name in About.__dataclass_fields__))


_KINDS: dict[str, type | tuple[type, ...]] = {
    "created": (int, float),
    "nodes": int,
    "state": str,
    "ganeti": str,
    "size": int,
}


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that exists."""

    id: SnapshotId
    about: About

    @property
    def config(self) -> Path:
        return self.id.directory / CONFIG

    @property
    def data(self) -> Path:
        return self.id.directory / DATA

    def document(self) -> dict[str, object]:
        return {"snapshot": self.id.name, "cluster": self.id.cluster.name, **asdict(self.about)}

    def row(self) -> dict[str, object]:
        """Return the cells of a table, by the names in `FIELDS`."""
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.about.created))
        return {**self.document(), "created": created, "size": f"{self.about.size / 2**20:.1f}M"}


def exists(snapshot: SnapshotId) -> bool:
    return snapshot.directory.exists()


def check_exists(snapshot: SnapshotId) -> None:
    """Raise VclusterError when there is no snapshot of this name."""
    if not exists(snapshot):
        raise VclusterError(
            f"there is no snapshot {snapshot.name} of the cluster {snapshot.cluster.name}",
            "gnt-vcluster snapshot list shows the existing ones",
        )


def load(snapshot: SnapshotId) -> Snapshot:
    """Read a snapshot. Raises VclusterError when there is none, or its description is damaged."""
    check_exists(snapshot)
    about = snapshot.directory / ABOUT
    try:
        return Snapshot(snapshot, About.from_json(about.read_text()))
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else str(err)
        raise VclusterError(
            f"cannot read {about}: {reason}",
            f"put that file back, or: gnt-vcluster snapshot delete {snapshot.cluster.name} {snapshot.name}",
        ) from None


def check_new(snapshot: SnapshotId) -> None:
    """Raise VclusterError when there is a snapshot of this name already."""
    if exists(snapshot):
        cluster, name = snapshot.cluster.name, snapshot.name
        raise VclusterError(
            f"there is a snapshot {name} of the cluster {cluster} already",
            f"name another, or: gnt-vcluster snapshot delete {cluster} {name}",
        )


def ids(cluster: ClusterId | None = None) -> list[SnapshotId]:
    """Return all snapshots, or those of one cluster, by name, whether they can be read or not."""
    return sorted(
        ClusterId(path.parent.name).snapshot(path.name)
        for path in names.SNAPSHOT_DIR.glob("*/[!.]*")
        if cluster in (None, ClusterId(path.parent.name))
        and names.is_cluster_id(path.parent.name)
        and names.is_snapshot_name(path.name)
        and path.is_dir()
        and path.name != _OF_THE_FILE_SYSTEM
    )


def read_all(cluster: ClusterId | None = None) -> tuple[list[Snapshot], dict[SnapshotId, VclusterError]]:
    """Return all snapshots, or those of one cluster, the oldest first, and the errors of those that are damaged."""
    snapshots, errors = [], {}
    for one in ids(cluster):
        try:
            snapshots.append(load(one))
        except VclusterError as err:
            errors[one] = err
    return sorted(snapshots, key=lambda snapshot: (snapshot.about.created, snapshot.id)), errors


def find(text: str) -> SnapshotId:
    """Return the snapshot that NAME or CLUSTER/NAME means. Raises VclusterError when there is none, or several."""
    cluster, _, name = text.rpartition("/")
    matching = [one for one in ids() if one.name == name and cluster in ("", one.cluster.name)]
    if not matching:
        raise VclusterError(f"there is no snapshot {text}", "gnt-vcluster snapshot list shows the existing ones")
    if len(matching) > 1:
        raise VclusterError(
            f"{text} could be {' or '.join(f'{one.cluster.name}/{one.name}' for one in matching)}",
            "give the whole name",
        )
    return matching[0]


@contextlib.contextmanager
def making(snapshot: SnapshotId) -> Iterator[Path]:
    """Make a directory for a snapshot. When the block ends well, it is written to the disk and gets its name."""
    snapshot.cluster.snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{snapshot.name}.", suffix=_PARTIAL, dir=snapshot.cluster.snapshots))
    try:
        yield partial
        sync(partial)
    except BaseException:
        files.remove_tree(partial)
        files.remove_empty(snapshot.cluster.snapshots, names.SNAPSHOT_DIR)
        raise
    partial.rename(snapshot.directory)
    files.sync_directory(snapshot.cluster.snapshots)


def delete(snapshot: SnapshotId) -> None:
    """Remove a snapshot. It is renamed first, so that nobody finds half of it."""
    doomed = snapshot.directory.with_name(f".{snapshot.name}{_PARTIAL}")
    if doomed.exists():
        files.remove_tree(doomed)
    snapshot.directory.rename(doomed)
    files.remove_tree(doomed)
    files.remove_empty(snapshot.cluster.snapshots, names.SNAPSHOT_DIR)


def clean() -> None:
    """Remove what commands left that were killed while they made or deleted a snapshot.

    Call it with the lock of locking.exclusive.
    """
    for partial in names.SNAPSHOT_DIR.glob(f"*/.*{_PARTIAL}"):
        files.remove_tree(partial)
    places = [path for path in names.SNAPSHOT_DIR.glob("*") if names.is_cluster_id(path.name)]
    files.remove_empty(*places, names.SNAPSHOT_DIR)


def copy(source: Path, target: Path) -> None:
    """Copy a cluster directory, with owners, holes and hard links, without what is mounted in it.

    The copy shares the data with the original where the file system can do that. The program that copies ends with this
    process.
    """
    run(["cp", "--archive", "--reflink=auto", "--one-file-system", str(source), str(target)], bound=True)


def size(directory: Path) -> int:
    """Return the bytes that the files below a directory have on the disk, without what is mounted in it."""
    total, device = 0, directory.stat().st_dev
    for place, directories, names_ in os.walk(directory):
        total += sum(os.lstat(os.path.join(place, name)).st_blocks for name in names_)
        directories[:] = [name for name in directories if os.lstat(os.path.join(place, name)).st_dev == device]
    return total * 512


def check_space(needed: int) -> None:
    """Raise VclusterError when `needed` bytes are not free: on a full disk the nodes' daemons would hang.

    A file system that shares files would need less.
    """
    free = shutil.disk_usage(names.STATE_DIR).free
    if free < needed:
        raise VclusterError(
            f"{names.STATE_DIR}: {free >> 20} MiB are free, {needed >> 20} MiB are needed for a copy",
            "free some, or mount a larger file system there",
        )


def sync(path: Path) -> None:
    """Write the whole file system to the disk, which is far quicker than each of thousands of files."""
    fd = os.open(path, os.O_RDONLY)
    try:
        libc.syncfs(fd, str(path))
    finally:
        os.close(fd)
