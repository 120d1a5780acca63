# SPDX-License-Identifier: BSD-2-Clause
"""Names: the host names of nodes and instances, and what derives from a cluster or a node: paths, units, slices, devices.

A module that owns one file below a node directory names it itself (machine/node_disk.py). All else is named here, so that
what is made can be found and removed by the same rule.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ganeti_vc.base import constants, slices
from ganeti_vc.base.errors import UsageError, VclusterError

CONFIG_DIR = Path("/etc/ganeti-vcluster")
STATE_DIR = Path("/var/lib/ganeti-vcluster")
#: The names of clusters' directories do not begin with a dot.
SNAPSHOT_DIR = STATE_DIR / ".snapshots"
#: Clusters of `gnt-vcluster run`.
RUNS_DIR = STATE_DIR / ".runs"
RUN_DIR = Path(constants.RUN_DIR)
#: NODE -> its node directory, for the `Condition*=` and `EnvironmentFile=` lines of the unit templates.
REGISTRY_DIR = Path(constants.REGISTRY_DIR)
#: ADDRESS -> its node directory, for tools/services/ssh-entry.
ADDRESSES_DIR = RUN_DIR / "addresses"
#: NODE -> its node directory, if mond runs on all nodes; for a `Condition*=` line, too.
MOND_DIR = RUN_DIR / "mond"
LIB_DIR = Path(constants.LIB_DIR)
LINK_DIR = Path("/etc/systemd/system")
#: The same, until the machine boots again (systemctl mask --runtime).
LINK_DIR_OF_THIS_BOOT = Path("/run/systemd/system")
UNIT_DIR = Path("/usr/lib/systemd/system")
SSH_CONFIG_DIR = Path("/etc/ssh/ssh_config.d")
HOSTS_FILE = Path("/etc/hosts")
#: What `gnt-vcluster doctor --fix` has raised. debian/ganeti-vcluster.postrm removes it.
SYSCTL_FILE = Path("/etc/sysctl.d/60-ganeti-vcluster.conf")
#: Our tables of nft(8) have names with this prefix, and no others have.
FILTER_PREFIX = "ganeti-vcluster-"
#: Ganeti's run directory. A node's own is mounted there (node/view.py), so it must exist.
GANETI_RUN_DIR = Path("/run/ganeti")
#: Says that we made it.
MADE_GANETI_RUN_DIR = RUN_DIR / "made-run-ganeti"
MANAGER_SOCKET = RUN_DIR / "manager.socket"
#: What is frozen now (ganeti_vc/machine/freezer.py), for tools/snapshots/thaw.
FROZEN = RUN_DIR / "frozen"
CGROUPS = Path(constants.CGROUPS)

#: Ganeti's own QA suite (package ganeti-testsuite).
GANETI_QA = Path("/usr/share/ganeti/testsuite/qa")
FORK_SERVER_SERVICE = "ganeti-vcluster-forkserver.service"
MANAGER_SERVICE = "ganeti-vcluster.service"
ALL_TARGET = "ganeti-vcluster.target"
#: Waits at a stop of ALL_TARGET until all processes are gone.
ALL_OFF_SERVICE = "ganeti-vcluster-off.service"
ALL_SLICE = "ganeti-vnode.slice"

#: Characters of a node directory. sockaddr_un holds 107 bytes and a zero; Ganeti's longest socket name below the node
#: directory is /var/run/ganeti/socket/ganeti-wconfd (36 bytes).
MAX_ROOTDIR = 71
#: Characters of a device's name. IFNAMSIZ is 15; Ganeti labels the master address DEVICE:0 (tools/master-ip-setup).
MAX_DEVICE = 13

_CLUSTER_RE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LABEL_RE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SNAPSHOT_RE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")


def is_cluster_id(text: str) -> bool:
    """Tell whether `text` can name a cluster: it becomes a file name and a unit instance."""
    return bool(_CLUSTER_RE.fullmatch(text)) and len(text) <= 32


def is_host_name(text: str) -> bool:
    """Tell whether `text` is a lower-case host name, with or without a domain (RFC 1123)."""
    return len(text) <= 253 and all(_LABEL_RE.fullmatch(label) and len(label) <= 63 for label in text.split("."))


def is_snapshot_name(text: str) -> bool:
    """Tell whether `text` can name a snapshot: it becomes the name of a directory."""
    return bool(_SNAPSHOT_RE.fullmatch(text))


def node_name(number: int, domain: str) -> str:
    """Return the host name of a node, which is its name in Ganeti and everywhere else: ``node3.example.com``, ``node3``."""
    return in_domain(f"node{number}", domain)


def instance_name(number: int, domain: str) -> str:
    """Return the name of an instance: ``instance7.example.com``, ``instance7``."""
    return in_domain(f"instance{number}", domain)


def in_domain(label: str, domain: str) -> str:
    """Return a host name. Without a domain it is the label alone."""
    return f"{label}.{domain}" if domain else label


@dataclass(frozen=True, order=True)
class ClusterId:
    """One virtual cluster on this machine, by the name of its configuration file.

    Names that are found on the machine are taken as they are; `parse` checks those that a user gives.
    """

    name: str

    @classmethod
    def parse(cls, text: str) -> ClusterId:
        """Return the cluster that a user names. Raises VclusterError."""
        if not is_cluster_id(text):
            what = f"{text!r} cannot name a cluster"
            raise VclusterError(what, "use small letters, digits and '-', at most 32 characters")
        return cls(text)

    @property
    def config_file(self) -> Path:
        return CONFIG_DIR / f"{self.name}.conf"

    @property
    def directory(self) -> Path:
        """Ganeti's *cluster directory*: the parent of the node directories."""
        return STATE_DIR / self.name

    @property
    def ssh_directory(self) -> Path:
        return self.directory / ".ssh"

    @property
    def shared_file_storage(self) -> Path:
        """The directory that is the shared file storage of all nodes."""
        return self.directory / ".shared-file-storage"

    @property
    def rapi_password(self) -> Path:
        """The file with the password of the remote API's user, for root only."""
        return self.directory / "rapi-password"

    @property
    def marker(self) -> Path:
        """The file that exists while `up` runs `gnt-cluster init`: what an interruption leaves is ours to clear."""
        return self.directory / ".init-in-progress"

    @property
    def throwaway(self) -> Path:
        """The file of a cluster that belongs to a `gnt-vcluster run`, which holds its lock."""
        return RUNS_DIR / self.name

    @property
    def restore_directory(self) -> Path:
        """The directory that exists while `snapshot restore` works (ganeti_vc/machine/exchange.py)."""
        return STATE_DIR / f".{self.name}.restore"

    @property
    def snapshots(self) -> Path:
        return SNAPSHOT_DIR / self.name

    @property
    def ledger(self) -> Path:
        """The file that records what the manager has made on the network."""
        return RUN_DIR / "clusters" / f"{self.name}.json"

    @property
    def bridge(self) -> str:
        """Name of the cluster's own bridge, at most `MAX_DEVICE` characters."""
        plain = f"gnt-{self.name}"
        if len(plain) <= MAX_DEVICE:
            return plain
        return f"{plain[:8]}{hashlib.sha256(self.name.encode()).hexdigest()[:5]}"

    @property
    def filter_table(self) -> str:
        """Name of the cluster's table of nft(8), which keeps packets from outside away."""
        return f"{FILTER_PREFIX}{self.name}"

    @property
    def ssh_drop_in(self) -> Path:
        return SSH_CONFIG_DIR / f"ganeti-vcluster-{self.name}.conf"

    @property
    def target(self) -> str:
        return f"ganeti-vcluster@{self.name}.target"

    def members(self, links: Iterable[Path]) -> list[NodeId]:
        """Return the nodes whose target requires `nodes_target`, by systemd's links: the members of the cluster."""
        members = {
            path.parent.name.removeprefix("ganeti-vnode@").removesuffix(".target.requires")
            for path in links
            if path.name == self.nodes_target
        }
        return [self.node(name) for name in sorted(members)]

    @property
    def nodes_target(self) -> str:
        """The target that each node of the cluster requires, so that stop and restart reach all of them."""
        return f"ganeti-vcluster-nodes@{self.name}.target"

    @property
    def ready_service(self) -> str:
        return f"ganeti-vcluster-ready@{self.name}.service"

    @property
    def off_service(self) -> str:
        return f"ganeti-vcluster-off@{self.name}.service"

    @property
    def sshd_service(self) -> str:
        return f"ganeti-vcluster-sshd@{self.name}.service"

    @property
    def units(self) -> tuple[str, ...]:
        return (self.target, self.nodes_target, self.ready_service, self.off_service, self.sshd_service)

    def node(self, name: str) -> NodeId:
        return NodeId(self, name)

    def snapshot(self, name: str) -> SnapshotId:
        return SnapshotId(self, name)


@dataclass(frozen=True, order=True)
class SnapshotId:
    """One snapshot of a cluster. Neither needs to exist."""

    cluster: ClusterId
    name: str

    @classmethod
    def parse(cls, cluster: ClusterId, text: str) -> SnapshotId:
        """Return the snapshot that a user names. Raises UsageError."""
        if not is_snapshot_name(text):
            raise UsageError(f"{text!r} cannot name a snapshot", "use letters, digits and _.+-, at most 64")
        return cls(cluster, text)

    @property
    def directory(self) -> Path:
        return self.cluster.snapshots / self.name


@dataclass(frozen=True, order=True)
class NodeId:
    """One virtual node. Its name is GANETI_HOSTNAME, the unit instance, and unique on the machine."""

    cluster: ClusterId
    name: str

    @property
    def rootdir(self) -> Path:
        """The *node directory*, GANETI_ROOTDIR."""
        return self.cluster.directory / self.name

    @property
    def data_dir(self) -> Path:
        return self.rootdir / "var/lib/ganeti"

    @property
    def defaults_file(self) -> Path:
        return self.rootdir / "etc/default/ganeti"

    @property
    def registry_link(self) -> Path:
        return REGISTRY_DIR / self.name

    @property
    def mond_link(self) -> Path:
        return MOND_DIR / self.name

    @property
    def enter(self) -> tuple[str, ...]:
        """The words before a command that runs on this node, with its variables and its view (tools/nodes/enter)."""
        return (str(LIB_DIR / "enter"), self.name)

    @property
    def target(self) -> str:
        return f"ganeti-vnode@{self.name}.target"

    @property
    def off_service(self) -> str:
        return f"ganeti-vnode-off@{self.name}.service"

    @property
    def slice(self) -> str:
        return f"ganeti-vnode-{self.name}.slice"

    @property
    def watcher_timer(self) -> str:
        return f"ganeti-watcher@{self.name}.timer"

    @property
    def watcher_drop_in(self) -> Path:
        """The file that exists only if the watcher's interval differs from the packaged one."""
        return LINK_DIR / f"ganeti-watcher@{self.name}.timer.d" / "interval.conf"

    @property
    def control_group(self) -> Path:
        """The control group of the node's processes."""
        return CGROUPS / slices.path(self.slice)

    def service(self, daemon: str) -> str:
        """Return the unit of a daemon of this node, for example ``noded``."""
        return f"ganeti-{daemon}@{self.name}.service"

    @property
    def unit_patterns(self) -> tuple[str, ...]:
        """Patterns for systemctl and journalctl that match this node's units, and not those of NAME.DOMAIN."""
        return tuple(f"ganeti-*@{self.name}.{kind}" for kind in ("service", "target", "timer"))
