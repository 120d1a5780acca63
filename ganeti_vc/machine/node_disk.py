# SPDX-License-Identifier: BSD-2-Clause
"""A node's own disk, of the size its configuration says: a file system in a sparse image, on the node's file storage.

Ganeti asks the file system for total and free space, so that a node has its own figures only with a
file system of its own. Mounted on the machine, from where it shows in the node's view.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ganeti_vc.base.errors import StepFailed
from ganeti_vc.base.process import run
from ganeti_vc.machine import node_directory
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId, NodeId


@dataclass(frozen=True)
class Disk:
    """What there is of a node's disk."""

    size: int  #: of the image, MiB; 0: there is none
    mounted: bool
    used: bool = False  #: the machine's own storage has files of this node


def image(node: NodeId) -> Path:
    return node.rootdir / "disk.img"


def mount_point(node: NodeId) -> Path:
    return node.rootdir / node_directory.FILE_STORAGE.relative_to("/")


def is_mounted(node: NodeId) -> bool:
    return os.path.ismount(mount_point(node))


def observe() -> dict[NodeId, Disk]:
    """The disks of all nodes, declared or not."""
    found = {}
    for path in names.STATE_DIR.glob("*/*/cmd"):
        node = ClusterId(path.parts[-3]).node(path.parts[-2])
        if image(node).exists():
            found[node] = Disk(image(node).stat().st_size >> 20, is_mounted(node))
        elif mount_point(node).is_dir() and any(mount_point(node).iterdir()):
            found[node] = Disk(0, mounted=False, used=True)
    return found


def make(node: NodeId, size: int) -> None:
    """Make the image and its file system: nearly all of its `size` (MiB) is for files, and none of it is used yet."""
    partial = image(node).with_suffix(".new")
    with open(partial, "wb") as stream:
        os.truncate(stream.fileno(), size << 20)
    run(["mkfs.ext4", "-q", "-F", "-m", "0", "-i", "262144", "-O", "^has_journal", "-L", "ganeti-vnode", str(partial)])
    partial.rename(image(node))


def mount(node: NodeId, size: int) -> None:
    """Mount the image, after a check (it has no journal), and grown to `size` MiB."""
    path = image(node)
    if path.stat().st_size < size << 20:
        os.truncate(path, size << 20)
    checked = run(["e2fsck", "-f", "-p", str(path)], check=False)
    if checked.returncode > 1:  # 1: errors were corrected (e2fsck(8))
        raise StepFailed(f"the disk {path} is damaged", f"look at: e2fsck -f {path}")
    run(["resize2fs", str(path)])
    run(["mount", "-o", "loop,nodev,nosuid", str(path), str(mount_point(node))])
    mount_point(node).chmod(0o755)


def grow(node: NodeId, size: int) -> None:
    """To `size` MiB, while it is mounted. Raises StepFailed where the kernel does not let us."""
    path = image(node)
    before = path.stat().st_size
    device = run(["findmnt", "-n", "-o", "SOURCE", str(mount_point(node))]).stdout.strip()
    os.truncate(path, size << 20)
    run(["losetup", "--set-capacity", device])
    if run(["resize2fs", device], check=False).returncode:
        os.truncate(path, before)
        run(["losetup", "--set-capacity", device])
        raise StepFailed(f"the disk of {node.name} cannot grow while it is in use (no CAP_SYS_RESOURCE?)",
                         f"systemctl stop {names.ALL_TARGET} {names.MANAGER_SERVICE} && "
                         f"systemctl start {names.ALL_TARGET}")  # fmt: skip


def unmount(node: NodeId) -> None:
    run(["umount", str(mount_point(node))])
