# SPDX-License-Identifier: BSD-2-Clause
"""A node's own disk, of the size in its configuration: a file system in a sparse image, mounted on its file storage.

Ganeti asks the file system for total and free space. So a node has figures of its own only with a file system of its
own. It is mounted on the machine, and the node's view shows it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import StepFailed
from ganeti_vc.base.process import run
from ganeti_vc.machine import node_directory
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId, NodeId


@dataclass(frozen=True)
class Disk:
    """A node's disk, or volume group, as it is."""

    size: int  #: MiB of the image; 0: there is no image
    mounted: bool
    used: bool = False  #: the machine's own storage has files of this node


def image(node: NodeId) -> Path:
    """Return the path of the image."""
    return node.rootdir / "disk.img"


def mount_point(node: NodeId) -> Path:
    return node.rootdir / node_directory.FILE_STORAGE.relative_to("/")


def is_mounted(node: NodeId) -> bool:
    return os.path.ismount(mount_point(node))


def observe() -> dict[NodeId, Disk]:
    """Return the disks of all nodes, whether declared or not."""
    disks = {}
    for path in names.STATE_DIR.glob("*/*/cmd"):
        node = ClusterId(path.parts[-3]).node(path.parts[-2])
        if image(node).exists():
            disks[node] = Disk(image(node).stat().st_size >> 20, is_mounted(node))
        elif mount_point(node).is_dir() and any(mount_point(node).iterdir()):
            disks[node] = Disk(0, mounted=False, used=True)
    return disks


def make_image(path: Path, size: int) -> None:
    """Make an image of `size` bytes, or grow the one there is. What is in it is for root only."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.fchmod(fd, 0o600)  # a snapshot of an earlier version has it readable
        os.truncate(fd, size)
    finally:
        os.close(fd)


def make(node: NodeId, size: int) -> None:
    """Make the image and its file system. Nearly all of its `size` MiB are for files; it takes no space yet."""
    partial = image(node).with_suffix(".new")
    partial.unlink(missing_ok=True)
    make_image(partial, size << 20)
    run(["mkfs.ext4", "-q", "-F", "-m", "0", "-i", "262144", "-O", "^has_journal", "-L", "ganeti-vnode", str(partial)])
    files.sync_file(partial)
    partial.rename(image(node))
    files.sync_directory(node.rootdir)


def mount(node: NodeId, size: int) -> None:
    """Check the image, which has no journal, grow it to `size` MiB, and mount it. Raises StepFailed when it is damaged."""
    path = image(node)
    make_image(path, max(size << 20, path.stat().st_size))
    checked = run(["e2fsck", "-f", "-p", str(path)], check=False)
    if checked.returncode > 1:  # 1: errors were corrected (e2fsck(8))
        raise StepFailed(f"the disk {path} is damaged", f"look at: e2fsck -f {path}")
    run(["resize2fs", str(path)])
    run(["mount", "-o", "loop,nodev,nosuid", str(path), str(mount_point(node))])
    mount_point(node).chmod(0o755)


def grow(node: NodeId, size: int) -> None:
    """Grow the mounted disk to `size` MiB. Raises StepFailed where the kernel does not allow that."""
    path = image(node)
    before = path.stat().st_size
    device = run(["findmnt", "-n", "-o", "SOURCE", str(mount_point(node))]).stdout.strip()
    os.truncate(path, size << 20)
    run(["losetup", "--set-capacity", device])
    if run(["resize2fs", device], check=False).returncode:
        os.truncate(path, before)
        run(["losetup", "--set-capacity", device])
        raise StepFailed(
            f"the disk of {node.name} cannot grow while it is in use (no CAP_SYS_RESOURCE?)",
            f"systemctl stop {names.ALL_TARGET} {names.MANAGER_SERVICE} && systemctl start {names.ALL_TARGET}",
        )


def unmount(node: NodeId) -> None:
    run(["umount", str(mount_point(node))])
