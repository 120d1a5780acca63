# SPDX-License-Identifier: BSD-2-Clause
"""Mounts and links that others have put into a cluster's directory.

What is behind them is not ours: it may be neither removed nor replaced, and a copy would lack it. So the verbs that do
this refuse before they stop anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ganeti_vc.base import kernel
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import node_disk
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId


def check(cluster: ClusterId) -> None:
    """Raise VclusterError for the first foreign mount or link in the cluster's directory."""
    whole = f"as a whole, {names.STATE_DIR} may be a mount point"
    for link in _links(cluster):
        raise VclusterError(
            f"{link} is a link, and its data would not be where they are looked for", f"move them back; {whole}"
        )
    for place in kernel.mounts_at(cluster.directory):
        if not _is_ours(cluster, place):
            raise VclusterError(
                f"{place} is a mount point, and what is there is not the cluster's", f"umount {place}; {whole}"
            )


def _links(cluster: ClusterId) -> Iterator[Path]:
    if cluster.directory.is_symlink():
        yield cluster.directory
    elif cluster.directory.is_dir():
        yield from (path for path in cluster.directory.iterdir() if path.is_symlink())


def _is_ours(cluster: ClusterId, place: Path) -> bool:
    """Tell whether it is the disk of a node (node_disk.mount)."""
    inside = place.relative_to(cluster.directory.resolve())
    node = cluster.node(inside.parts[0] if inside.parts else "")
    return (
        inside.parts[1:] == node_disk.mount_point(node).relative_to(node.rootdir).parts
        and node_disk.image(node).exists()
    )
