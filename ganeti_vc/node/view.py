# SPDX-License-Identifier: BSD-2-Clause
"""A node's view of the machine: its own files, figures and host name.

Ganeti prefixes only some of its paths with GANETI_ROOTDIR. The others, and the figures of /proc, would be the same on all
nodes. So the daemons that act on the machine, and every session on a node (ssh, exec, shell, cmd), run in a mount
namespace in which the usual places are the node's own:

  /srv, /boot, /var/lib/ganeti, /var/log/ganeti, /run/ganeti, /etc/ganeti, /etc/default/ganeti, /etc/lvm
                        those below the node directory
  /proc/meminfo, /proc/cpuinfo
                        the node's hardware, where its configuration says one
  OTHER/var/lib/ganeti/export, for each other node OTHER
                        links to this node's export: the master sends the path that it has itself
                        (backend.py, _GetImportExportIoCommand), and Ganeti follows symbolic links

and in a UTS namespace with the node's name. `reboot`, `poweroff` and similar commands act on the node
(tools/replaced/node-systemctl), and the capability to reboot the machine is dropped. noded's start makes these namespaces;
every later process joins noded's. Imported at each start of a daemon and of a session: the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from ganeti_vc.base import slices
from ganeti_vc.base.constants import LIB_DIR, MACHINE_DIR, REGISTRY_DIR
from ganeti_vc.node import libc
from ganeti_vc.node.untrusted import read

#: Programs that a node sees replaced by tools/replaced/node-NAME, which says why. Each finds the machine's own program in
#: MACHINE_DIR. That is a directory of ours, as the kernel unmounts what is mounted on a file that dpkg replaces.
REPLACED = {
    "systemctl": "/usr/bin/systemctl",
    "socat": "/usr/bin/socat",
    "fping": "/usr/bin/fping",
    "ganeti-watcher": "/usr/sbin/ganeti-watcher",
    "gnt-cluster": "/usr/sbin/gnt-cluster",
    "gnt-node": "/usr/sbin/gnt-node",
}
SYSRQ = "/proc/sysrq-trigger"

#: Read-only on a node, so that it cannot take the machine down: `gnt-node powercycle` with the fake hypervisor writes to
#: SYSRQ. These are the places of ProtectKernelTunables=, which the fork server cannot use: it brings a seccomp filter.
TUNABLES = (SYSRQ, "/proc/sys", "/proc/irq", "/proc/fs", "/proc/acpi", "/proc/mtrr", "/sys")

#: Places below the node directory, and where the node sees them. What the machine lacks is left out.
DIRECTORIES = (
    ("srv", "/srv"),
    ("boot", "/boot"),
    ("var/lib/ganeti", "/var/lib/ganeti"),
    ("var/log/ganeti", "/var/log/ganeti"),
    ("var/run/ganeti", "/run/ganeti"),
    ("etc/ganeti", "/etc/ganeti"),
    ("etc/default/ganeti", "/etc/default/ganeti"),
    ("etc/lvm", "/etc/lvm"),
    ("proc/meminfo", "/proc/meminfo"),
    ("proc/cpuinfo", "/proc/cpuinfo"),
)
#: Where a node sees the machine's own /etc/ganeti. OS definitions of packages keep their settings there.
MACHINE_ETC = f"{MACHINE_DIR}/etc-ganeti"
#: What Ganeti itself reads in /etc/ganeti (pathutils.py): the machine's would be that of another cluster.
CLUSTERS_OWN = ("file-storage-paths", "hooks", "lib", "restricted-commands", "scripts", "share", "vnc-cluster-password")
#: With more nodes than this, only exports of master candidates are redirected, as each takes a mount.
MANY_NODES = 64

_CAP_SYS_BOOT = 22


def _bind(source: str, target: str) -> None:
    """Bind a place with everything mounted below it, such as a node's own disk."""
    libc.mount(source, target, libc.MS_BIND | libc.MS_REC)


def rootdir_of(node: str) -> str:
    """Return the node directory. Raises FileNotFoundError when the node is not set up."""
    return os.readlink(f"{REGISTRY_DIR}/{node}")


def environment(node: str) -> dict[str, str]:
    """Return Ganeti's two variables (lib/vcluster.py), and a place for temporary files that `gnt-cluster copyfile` accepts."""
    rootdir = rootdir_of(node)
    return {"GANETI_ROOTDIR": rootdir, "GANETI_HOSTNAME": node, "TMPDIR": f"{rootdir}/tmp"}


def noded_pid(node: str) -> int:
    """Return the pid of the node's noded, 0 when it does not run."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(read(f"{rootdir_of(node)}/var/run/ganeti/ganeti-noded.pid") or "")
        if _is_noded(pid, node):
            return pid
    return 0


def _is_noded(pid: int, node: str) -> bool:
    """Tell whether a process is in the control group of the node's noded. Ganeti's users may write any pid into its file.

    The whole path counts: a user's own systemd can make groups whose path ends in the same way. Raises OSError.
    """
    root = _control_group(1).removesuffix("/init.scope")  # of the machine's systemd
    return _control_group(pid) == f"{root}/{slices.path(f'ganeti-vnode-{node}.slice')}/ganeti-noded@{node}.service"


def _control_group(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup") as stream:
        return next((line[3:].rstrip("\n") for line in stream if line.startswith("0::")), "")


def is_on(node: str) -> bool:
    """Tell whether the node has power, as tools/nodes/oob does. If noded runs, systemd need not be asked."""
    systemctl = (
        REPLACED["systemctl"],
        "is-active",
        "--quiet",
        f"ganeti-vnode@{node}.target",
        f"ganeti-noded@{node}.service",
    )
    return bool(noded_pid(node)) or os.spawnv(os.P_WAIT, systemctl[0], systemctl) == 0


def processes(node: str) -> list[int]:
    """Return the pids of all processes with a view of the node, noded's or one of their own."""
    place = os.stat(f"{rootdir_of(node)}/etc/ganeti")  # other nodes' views hide no etc/ganeti

    def is_on_node(pid: str) -> bool:
        with contextlib.suppress(OSError):  # it has ended, or is not ours
            return os.path.samestat(place, os.stat(f"/proc/{pid}/root/etc/ganeti"))
        return False

    if is_on_node("1"):  # somebody mounted the node on the machine's own /etc/ganeti: all processes would count
        return []
    return [int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and is_on_node(pid)]


def enter(node: str) -> None:
    """Move this process, which must have one thread, into a node's view. Its working directory stays if it is there.

    Raises OSError; FileNotFoundError when the node is not set up.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was removed: people stand in directories of clusters that are made again
        here = "/"
    pid = noded_pid(node)
    if not pid or not _join(pid, node):
        make(node)
    try:
        os.chdir(here)
    except OSError:
        os.chdir("/")


def share(node: str) -> None:
    """Move a daemon into the view of noded; if its unit has mounts of its own, make a new view on top of them instead."""
    if os.path.samefile("/proc/self/ns/mnt", "/proc/1/ns/mnt"):
        enter(node)
    else:
        make(node)


def leave() -> None:
    """Move this process back to the machine's own view, if it is on a node."""
    if socket.gethostname() == os.environ.get("GANETI_HOSTNAME") and _join(1):
        with contextlib.suppress(OSError):
            os.chdir(os.environ.get("PWD", "/"))


def _join(pid: int, node: str = "") -> bool:
    """Enter the namespaces of a process. Return False when it has ended, or is not noded of that node any more."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Now the pid cannot become another process's.
        if node and not _is_noded(pid, node):
            return False
        libc.setns(fd, f"namespaces of process {pid}", libc.CLONE_NEWUTS | libc.CLONE_NEWNS)
    except (FileNotFoundError, ProcessLookupError):
        return False
    finally:
        os.close(fd)
    _drop_boot()
    return True


def _drop_boot() -> None:
    """Keep this process, and all that it starts, from rebooting the machine."""
    libc.prctl(libc.PR_CAPBSET_DROP, _CAP_SYS_BOOT)


def make(node: str) -> None:
    """Give this process a new view of the machine, that of a node. Raises OSError."""
    umask = os.umask(0o022)  # what is made here is for all who come to the node
    try:
        _make(node, rootdir_of(node))
    finally:
        os.umask(umask)


def _make(node: str, rootdir: str) -> None:
    _prepare(rootdir)
    libc.unshare(libc.CLONE_NEWNS | libc.CLONE_NEWUTS)
    # Later mounts of the machine appear here; mounts made here appear nowhere else.
    libc.mount("", "/", libc.MS_SLAVE | libc.MS_REC)
    socket.sethostname(node)
    _drop_boot()
    for other in _others(rootdir):
        _bind(f"{rootdir}/var/lib/.elsewhere", f"{other}/var/lib/ganeti")
    os.makedirs(MACHINE_ETC, exist_ok=True)
    _bind("/etc/ganeti", MACHINE_ETC)
    for name, target in DIRECTORIES:
        source = f"{rootdir}/{name}"
        if os.path.exists(source) and os.path.exists(target):
            _bind(source, target)
    for name, program in REPLACED.items():
        if os.path.exists(program):
            _replace(name, program)
    for path in TUNABLES:
        if os.path.exists(path):
            _bind(path, path)
            libc.mount(
                "",
                path,
                libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC,
            )


def _replace(name: str, program: str) -> None:
    os.makedirs(MACHINE_DIR, exist_ok=True)
    with contextlib.suppress(FileExistsError), open(f"{MACHINE_DIR}/{name}", "x"):
        pass
    _bind(program, f"{MACHINE_DIR}/{name}")
    _bind(f"{LIB_DIR}/node-{name}", program)


def renew(node: str) -> None:
    """Mount the replaced programs again in the view of a running node, after a package was upgraded.

    This process moves to that view. Raises OSError.
    """
    pid = noded_pid(node)
    if not pid or os.path.samefile(f"/proc/{pid}/ns/mnt", "/proc/1/ns/mnt") or not _join(pid, node):
        return
    for name, program in REPLACED.items():
        for place in (program, f"{MACHINE_DIR}/{name}"):
            with contextlib.suppress(OSError):  # not mounted any more, or not there
                libc.unmount(place)
        if os.path.exists(program):
            _replace(name, program)


def _prepare(rootdir: str) -> None:
    """Make what the view mounts or links. Ganeti removes some of it with a node; its links change with its version."""
    os.makedirs(f"{rootdir}/var/lib/ganeti/export", mode=0o750, exist_ok=True)
    os.makedirs(f"{rootdir}/var/lib/.elsewhere", exist_ok=True)
    os.makedirs(f"{rootdir}/tmp", exist_ok=True)
    os.chmod(f"{rootdir}/tmp", 0o700)  # of root's sessions only
    _link(f"{rootdir}/var/lib/ganeti/export", f"{rootdir}/var/lib/.elsewhere/export")
    for name in ("lib", "share"):
        # Ganeti's own links to its version, which `gnt-node add` makes on some nodes only.
        if not os.path.exists(f"{rootdir}/etc/ganeti/{name}"):
            _link(os.readlink(f"/etc/ganeti/{name}"), f"{rootdir}/etc/ganeti/{name}")
    _link_settings("/etc/ganeti", f"{rootdir}/etc/ganeti")


def _link_settings(machine: str, own: str) -> None:
    """Link what the machine has in its /etc/ganeti, and the node has not; remove links to what is gone."""
    there = set(os.listdir(machine)).difference(CLUSTERS_OWN)
    for name in os.listdir(own):
        path = f"{own}/{name}"
        if os.path.islink(path) and os.readlink(path) == f"{MACHINE_ETC}/{name}" and name not in there:
            os.unlink(path)
    for name in there:
        if not os.path.lexists(f"{own}/{name}"):
            os.symlink(f"{MACHINE_ETC}/{name}", f"{own}/{name}")


def _link(target: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.readlink(path) == target:
            return
        os.unlink(path)
    os.symlink(target, path)


def _others(rootdir: str) -> Iterator[str]:
    """Yield the directories of the cluster's other nodes; of many nodes, only of those that may become the master."""
    cluster, own = os.path.split(rootdir)
    names = [name for name in os.listdir(cluster) if os.path.isdir(f"{cluster}/{name}/var/lib/ganeti")]
    if len(names) > MANY_NODES:
        with contextlib.suppress(FileNotFoundError):
            with open(f"{rootdir}/var/lib/ganeti/ssconf_master_candidates") as stream:
                candidates = stream.read().split()
            names = [name for name in names if name in candidates]
    for name in names:
        if name != own:
            yield f"{cluster}/{name}"
