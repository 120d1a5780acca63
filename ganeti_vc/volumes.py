# SPDX-License-Identifier: BSD-2-Clause
"""A node's own LVM volume group, of the size its configuration says: on a loop device over a sparse image.

Ganeti asks for a group of the same name on every node. They are kept apart by the node's own /etc/lvm,
which its view shows (ganeti_vc/view.py) and which admits the node's device only; and from the machine's
LVM by their system ID, the node's name: LVM leaves foreign groups alone (lvmsystemid(7)). The names of
logical volumes are unique, as Ganeti makes them, but for `gnt-instance move`: one kernel has one name space for them.
"""

from __future__ import annotations

import os
from pathlib import Path

from ganeti_vc import files, names
from ganeti_vc.disks import Disk
from ganeti_vc.errors import StepFailed
from ganeti_vc.names import ClusterId, NodeId
from ganeti_vc.process import run

_CONFIG = """# Of the volume group of virtual node {node}. Made by ganeti-vcluster, changes are overwritten.
devices {{
    filter = [ "a|^{device}$|", "r|.*|" ]
    use_devicesfile = 0
    hints = "none"
}}
global {{
    system_id_source = "uname"
    use_lvmpolld = 0
}}
activation {{
    monitoring = 0
}}
"""


def image(node: NodeId) -> Path:
    return node.rootdir / "volumes.img"


def check_kernel() -> None:
    """Raises StepFailed where no logical volume could be activated."""
    if not _has_device_mapper():
        run(["modprobe", "-q", "dm_mod"], check=False)
    if not _has_device_mapper():
        raise StepFailed("this machine's kernel has no device-mapper, so nodes can have no volume group",
                         "take another kernel, or leave [nodes] volume_group empty")  # fmt: skip


def _has_device_mapper() -> bool:
    return "device-mapper" in Path("/proc/misc").read_text()


def _device(node: NodeId) -> str:
    """The loop device of the image, empty when there is none."""
    return run(["losetup", "-n", "-O", "NAME", "-j", str(image(node))]).stdout.strip()


def observe() -> dict[NodeId, Disk]:
    """The volume groups of all nodes, declared or not."""
    found = {}
    for path in names.STATE_DIR.glob("*/*/volumes.img"):
        node = ClusterId(path.parts[-3]).node(path.parts[-2])
        found[node] = Disk(path.stat().st_size >> 20, bool(_device(node)))
    return found


def attach(node: NodeId, group: str, size: int) -> None:
    """Give the node its volume group: made if missing, grown to `size` MiB."""
    check_kernel()
    path = image(node)
    if not path.exists() or path.stat().st_size < size << 20:
        with open(path, "ab") as stream:
            os.truncate(stream.fileno(), size << 20)
    if device := _device(node):
        run(["losetup", "--set-capacity", device])
    else:
        device = run(["losetup", "--find", "--show", str(path)]).stdout.strip()
    config = node.rootdir / "etc/lvm/lvm.conf"
    config.parent.mkdir(exist_ok=True)
    files.write(config, _CONFIG.format(node=node.name, device=device))
    if run(["vgs", group], prefix=node.enter, check=False).returncode:
        run(["vgcreate", "--yes", "--setautoactivation", "n", group, device], prefix=node.enter)
    else:
        run(["pvresize", device], prefix=node.enter)


def detach(node: NodeId) -> None:
    """Release the loop device; the data stays in the image."""
    run(["vgchange", "--activate", "n"], prefix=node.enter)
    run(["losetup", "--detach", _device(node)])
