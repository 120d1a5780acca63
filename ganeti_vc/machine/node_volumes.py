# SPDX-License-Identifier: BSD-2-Clause
"""A node's own LVM volume group, of the size in its configuration, in a sparse image.

Ganeti asks for a group of the same name on every node. Each node's own /etc/lvm, which its view shows
(ganeti_vc/node/view.py), admits only the node's device, and so keeps the groups apart.

The machine's own LVM does not see them. On the loop device the group starts behind some unused space, where LVM does
not look. The device-mapper device leaves that space out; it is marked as a logical volume, and LVM looks into those only
if told to (lvm.conf(5), scan_lvs).

One kernel has one name space for logical volumes. Ganeti makes their names unique, except in `gnt-instance move`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import StepFailed
from ganeti_vc.base.process import run
from ganeti_vc.machine.node_disk import Disk, make_image
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId, NodeId

_CONFIG = """# Of the volume group of virtual node {node}. Made by ganeti-vcluster, changes are overwritten.
devices {{
    filter = [ "a|^{device}$|", "r|.*|" ]
    use_devicesfile = 0
    hints = "none"
    scan_lvs = 1
}}
global {{
    use_lvmpolld = 0
}}
activation {{
    monitoring = 0
}}
"""


#: Sectors of 512 bytes before the volume group.
_UNUSED = 2048


def image(node: NodeId) -> Path:
    """Return the path of the image."""
    return node.rootdir / "volumes.img"


def check_kernel() -> None:
    """Raise StepFailed where no logical volume could be activated."""
    if not _has_device_mapper():
        run(["modprobe", "-q", "dm_mod"], check=False)
    if not _has_device_mapper():
        raise StepFailed(
            "this machine's kernel has no device-mapper, so nodes can have no volume group",
            "take another kernel, or leave [nodes] volume_group empty",
        )


def _has_device_mapper() -> bool:
    return "device-mapper" in Path("/proc/misc").read_text()


def _loops() -> dict[Path, str]:
    """Return the loop devices by the file behind them; losetup(8) would tell one at a time."""
    devices = {}
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it was detached just now
            devices[Path(path.read_text().strip())] = f"/dev/{path.parts[3]}"
    return devices


def _mapped(node: NodeId) -> str:
    """Return the name of the device-mapper device. udev would take a name with a single '-' for VG-LV."""
    return f"ganeti_vcluster_{node.name.replace('-', '--')}"


def observe() -> dict[NodeId, Disk]:
    """Return the volume groups of all nodes, whether declared or not."""
    groups, loops = {}, _loops()
    for path in names.STATE_DIR.glob("*/*/volumes.img"):
        node = ClusterId(path.parts[-3]).node(path.parts[-2])
        groups[node] = Disk((path.stat().st_size >> 20) - 1, path.resolve() in loops)
    return groups


def attach(node: NodeId, group: str, size: int) -> None:
    """Give the node its volume group: make it if it is missing, and grow it to `size` MiB. Raises StepFailed."""
    check_kernel()
    path, name = image(node), _mapped(node)
    whole = (size << 20) + _UNUSED * 512
    make_image(path, max(whole, path.stat().st_size if path.exists() else 0))
    loop = _loops().get(path.resolve())
    if loop:
        run(["losetup", "--set-capacity", loop])
    else:
        loop = run(["losetup", "--find", "--show", str(path)]).stdout.strip()
    table = f"0 {size << 11} linear {loop} {_UNUSED}"
    device = f"/dev/mapper/{name}"
    if run(["dmsetup", "info", name], check=False).returncode:
        run(["dmsetup", "create", name, "--uuid", f"LVM-ganeti-vcluster-{node.name}", "--table", table])
    else:
        run(["dmsetup", "reload", name, "--table", table])
        run(["dmsetup", "resume", name])
    config = node.rootdir / "etc/lvm/lvm.conf"
    config.parent.mkdir(exist_ok=True)
    files.write(config, _CONFIG.format(node=node.name, device=device))
    if run(["vgs", group], prefix=node.enter, check=False).returncode:
        run(["vgcreate", "--yes", group, device], prefix=node.enter)
    else:
        run(["pvresize", device], prefix=node.enter)


def detach(node: NodeId) -> None:
    """Release the devices; the data stays in the image."""
    if not run(["dmsetup", "info", _mapped(node)], check=False).returncode:
        run(["vgchange", "--activate", "n"], prefix=node.enter)
        run(["dmsetup", "remove", "--retry", _mapped(node)])
    run(["losetup", "--detach", _loops()[image(node).resolve()]])
