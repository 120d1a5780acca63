# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots as they lie on the disk: what a cluster was at one moment, its configuration file included.

    .snapshots/CLUSTER/NAME/about.json      what `list` shows
                           /cluster.conf    the configuration file
                           /cluster/        the cluster directory

One that has its name is complete: it is made under another, which begins with a dot, and renamed.
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
SCHEMA = 1


@dataclass(frozen=True)
class About:
    """What is known of a snapshot."""

    created: float  #: seconds since 1970
    nodes: int
    state: str  #: stopped, running, or live: with unfinished jobs
    ganeti: str  #: Ganeti's version
    size: int  #: bytes on the disk, where it shares none of them

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @staticmethod
    def from_json(text: str) -> About:
        raw = json.loads(text)
        return About(*(raw[name] for name in About.__dataclass_fields__))


@dataclass(frozen=True)
class Snapshot:
    """One that is there."""

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
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.about.created))
        return {**self.document(), "created": created, "size": f"{self.about.size / 2**20:.1f}M"}


def exists(snapshot: SnapshotId) -> bool:
    return snapshot.directory.exists()


def load(snapshot: SnapshotId) -> Snapshot:
    """Raises VclusterError when there is none."""
    text = files.read(snapshot.directory / ABOUT)
    if text is None:
        raise VclusterError(f"there is no snapshot {snapshot.name} of the cluster {snapshot.cluster.name}",
                            "gnt-vcluster snapshot list shows those there are")  # fmt: skip
    return Snapshot(snapshot, About.from_json(text))


def check_new(snapshot: SnapshotId) -> None:
    """Raises VclusterError when there is one already."""
    if exists(snapshot):
        cluster, name = snapshot.cluster.name, snapshot.name
        raise VclusterError(f"there is a snapshot {name} of the cluster {cluster} already",
                            f"name another, or: gnt-vcluster snapshot delete {cluster} {name}")  # fmt: skip


def all_snapshots(cluster: ClusterId | None = None) -> list[Snapshot]:
    """All snapshots, or those of one cluster, the oldest first."""
    found = [
        load(ClusterId(path.parent.name).snapshot(path.name))
        for path in names.SNAPSHOT_DIR.glob("*/[!.]*")
        if cluster in (None, ClusterId(path.parent.name))
    ]
    return sorted(found, key=lambda snapshot: (snapshot.about.created, snapshot.id))


def find(text: str) -> Snapshot:
    """The snapshot that NAME or CLUSTER/NAME means. Raises VclusterError when it is none, or several."""
    cluster, _, name = text.rpartition("/")
    found = [one for one in all_snapshots() if one.id.name == name and cluster in ("", one.id.cluster.name)]
    if not found:
        raise VclusterError(f"there is no snapshot {text}", "gnt-vcluster snapshot list shows those there are")
    if len(found) > 1:
        raise VclusterError(f"{text} could be {' or '.join(f'{one.id.cluster.name}/{one.id.name}' for one in found)}",
                            "give the whole name")  # fmt: skip
    return found[0]


@contextlib.contextmanager
def making(snapshot: SnapshotId) -> Iterator[Path]:
    """A directory to put a snapshot into; it gets its name, and is on the disk, when the block ends well."""
    snapshot.cluster.snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{snapshot.name}.", suffix=_PARTIAL, dir=snapshot.cluster.snapshots))
    try:
        yield partial
        sync(partial)
    except BaseException:
        shutil.rmtree(partial)
        files.remove_empty(snapshot.cluster.snapshots, names.SNAPSHOT_DIR)
        raise
    partial.rename(snapshot.directory)
    sync_directory(snapshot.cluster.snapshots)


def delete(snapshot: SnapshotId) -> None:
    """Rename it, so that nobody finds half of it, then remove it."""
    doomed = snapshot.directory.with_name(f".{snapshot.name}{_PARTIAL}")
    if doomed.exists():
        shutil.rmtree(doomed)
    snapshot.directory.rename(doomed)
    shutil.rmtree(doomed)
    files.remove_empty(snapshot.cluster.snapshots, names.SNAPSHOT_DIR)


def clean() -> None:
    """Remove what those left who were killed while they made or deleted a snapshot. For who is alone (apply.alone)."""
    for partial in names.SNAPSHOT_DIR.glob(f"*/.*{_PARTIAL}"):
        shutil.rmtree(partial)
    files.remove_empty(*names.SNAPSHOT_DIR.glob("*"), names.SNAPSHOT_DIR)


def copy(source: Path, target: Path) -> None:
    """A copy of a cluster directory, with owners, holes and hard links, without what is mounted in it.

    It shares the data with the original where the file system can do that, and it does not outlive us.
    """
    run(["cp", "--archive", "--reflink=auto", "--one-file-system", str(source), str(target)], bound=True)


def size(directory: Path) -> int:
    """Bytes that the files below a directory have on the disk, without what is mounted in it."""
    total, device = 0, directory.stat().st_dev
    for place, directories, names_ in os.walk(directory):
        total += sum(os.lstat(os.path.join(place, name)).st_blocks for name in names_)
        directories[:] = [name for name in directories if os.lstat(os.path.join(place, name)).st_dev == device]
    return total * 512


def check_space(needed: int) -> None:
    """Refuse to fill the disk: the nodes' daemons would hang. Where files are shared, less would do."""
    free = shutil.disk_usage(names.STATE_DIR).free
    if free < needed:
        raise VclusterError(f"{names.STATE_DIR}: {free >> 20} MiB are free, {needed >> 20} MiB are needed for a copy",
                            "free some, or mount a larger file system there")  # fmt: skip


def sync(path: Path) -> None:
    """Bring the whole file system to the disk: far quicker than each of thousands of files."""
    fd = os.open(path, os.O_RDONLY)
    try:
        libc.syncfs(fd, str(path))
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Bring new names in a directory to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
