# SPDX-License-Identifier: BSD-2-Clause
"""The keys of a configuration file: their names, what they allow, and what they mean.

configobj's specification, the commented file of a new cluster, and the manual page ganeti-vcluster.conf(5) are made from
`KEYS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from configobj import ConfigObj

from ganeti_vc.model.addresses import DEFAULT_SECONDARY
from ganeti_vc.model.daemons import DAEMONS

#: In one cluster.
MAX_NODES = 4096
DEFAULT_SSH_PORT = 1822
#: MiB: Ganeti's constants.MIN_VG_SIZE and room for LVM's own data.
SMALLEST_GROUP = 20488


@dataclass(frozen=True)
class Key:
    """One key: its section, what it allows (a check of configobj's validator), and what it means."""

    section: str
    name: str
    check: str
    default: str
    doc: str
    single: bool = False  #: of [nodes]: only for one node, in its subsection


_IPOLICY = (
    "min:disk-size=0,cpu-count=1,disk-count=0,memory-size=1,nic-count=0,spindle-use=0"
    "/max:disk-size=1048576,cpu-count=8,disk-count=16,memory-size=32768,nic-count=8,spindle-use=12"
)

KEYS = (
    Key("cluster", "name", "hostname", "cluster",
        "Ganeti's name of the cluster. The domain is appended."),
    Key("cluster", "domain", "domain", "",
        "Domain of the cluster, node and instance names; may be empty."),
    Key("cluster", "nodes", f"integer(min=1, max={MAX_NODES})", "3",
        "Number of nodes: node1, node2, ... followed by the domain."),
    Key("cluster", "instances", "integer(min=0, max=65536)", "10",
        "Number of instance names (instance1, ...) in /etc/hosts. Instances may also have other names."),
    Key("cluster", "network", "network", "192.0.2.0/24",
        "IPv4 or IPv6 network of the cluster, node and instance addresses. Nothing else on this machine may use it."),
    Key("cluster", "secondary_network", "network", str(DEFAULT_SECONDARY),
        "With an IPv6 network only: where the IPv4 secondary addresses come from, which Ganeti demands."),
    Key("cluster", "device", "device", "",
        "An existing network device to carry the addresses. Empty: the cluster gets a bridge of its own."),
    Key("cluster", "reachable", "option('no', 'yes')", "no",
        "Whether others than this machine reach the addresses. no: packets to them that come in by another device than the cluster's are dropped (nft)."),
    Key("cluster", "ssh_port", "integer(min=1, max=65535)", str(DEFAULT_SSH_PORT),
        "Port of the cluster's own sshd on the node addresses (Ganeti's node parameter ssh_port). It can be changed only before the cluster is initialised."),
    Key("cluster", "watcher_interval", "interval", "5min",
        "Time between two runs of ganeti-watcher on a node, in the notation of systemd.time(7)."),
    Key("cluster", "fork_server", "option('auto', 'yes', 'no')", "auto",
        "Start noded and mond by forks of one process that has imported Ganeti: faster, and with less than half of the memory. auto: from 3 nodes on."),
    Key("cluster", "mond", "option('auto', 'all', 'candidates')", "auto",
        "Where ganeti-mond runs: on all nodes, or on master candidates only. auto: on all nodes of a cluster of up to 50, as mond is nearly all that an idle node costs. A change takes effect when a node starts."),
    Key("ganeti", "enabled_hypervisors", "words('fake', 'kvm', 'xen-pvm', 'xen-hvm', 'lxc', 'chroot')", "fake",
        "gnt-cluster init --enabled-hypervisors."),
    Key("ganeti", "enabled_disk_templates",
        "words('diskless', 'file', 'sharedfile', 'plain', 'drbd', 'blockdev', 'rbd', 'ext', 'gluster')",
        "diskless, file, sharedfile",
        "gnt-cluster init --enabled-disk-templates."),
    Key("ganeti", "vg_name", "group", "xenvg",
        "gnt-cluster init --vg-name: the name of the nodes' volume groups, if they have any."),
    Key("ganeti", "nic_mode", "option('bridged', 'routed', 'openvswitch')", "bridged",
        "gnt-cluster init --nic-parameters=mode=...; the link is the cluster's device."),
    Key("ganeti", "ipolicy_bounds_specs", "text", _IPOLICY,
        "gnt-cluster init --ipolicy-bounds-specs: which sizes instances may have."),
    Key("ganeti", "candidate_pool_size", "integer(min=1)", "10",
        "gnt-cluster init --candidate-pool-size: how many nodes hold the configuration."),
    Key("ganeti", "init_options", "shell", "",
        "Further options for gnt-cluster init, as in a shell command."),
    Key("seeding", "groups", "hostnames", "default",
        "Node groups; the nodes join them in turn."),
    Key("seeding", "node_tags", "tags", "",
        "Tags of the nodes."),
    Key("seeding", "instance_memory", "sizes", "128M",
        "Memory of the instances, for example 128M, 512M, 2G: one of these each, at random."),
    Key("seeding", "instance_vcpus", "numbers", "1",
        "Virtual processors of the instances: one of these each, at random."),
    Key("seeding", "instance_tags", "tags", "",
        "Tags of the instances."),
    Key("seeding", "instances_down", "integer(min=0, max=100)", "0",
        "How many per cent of the instances are down."),
    Key("seeding", "spread", "option('even', 'random')", "even",
        "How the instances are spread over the nodes."),
    Key("seeding", "random_seed", "text", "1",
        "Another seed gives other instances; the same seed gives the same instances again."),
    *(Key("daemons", daemon.name, "rapi" if daemon.name == "rapi" else "daemon", "",
          f"Further arguments for ganeti-{daemon.name} on every node (for example -d). Not address and port (-b, -p), which are set; rapi takes another single address.") for daemon in DAEMONS),
    Key("nodes", "memory", "size", "",
        "Memory of each node, for example 16G; empty: the machine's."),
    Key("nodes", "cpus", "number", "",
        "Number of processors of each node; empty: the machine's."),
    Key("nodes", "disk", "size", "",
        "Size of each node's file storage, for example 100G (it takes only the space that is used); empty: the machine's."),
    Key("nodes", "volume_group", f"size(smallest={SMALLEST_GROUP})", "",
        "Size of each node's LVM volume group, for the disk template plain (it takes only the space that is used); empty: none."),
    Key("nodes", "address", "address", "",
        "Address of this node instead of the planned one, from the cluster's network.", single=True),
)  # fmt: skip

SECTION_DOCS = {
    "cluster": "Names, addresses and size of the cluster.",
    "ganeti": "Options of gnt-cluster init. Later changes go through gnt-cluster modify.",
    "seeding": "Nodes and instances that gnt-vcluster writes into Ganeti's configuration itself, when there are many.",
    "daemons": "Arguments for Ganeti's daemons.",
    "nodes": "The nodes' hardware; for one node, in a subsection of its name, [[NODE]].",
}

#: The packaged interval (units/ganeti-watcher@.timer).
DEFAULT_INTERVAL = "5min"


def _spec(key: Key) -> str:
    default = f'"{key.default}"'
    if key.check.startswith("words("):
        default = "list(" + ", ".join(f'"{word}"' for word in key.default.split(", ")) + ")"
    check = key.check[:-1] + ", " if key.check.endswith(")") else key.check + "("
    return f"{key.name} = {check}default={default})"


def configspec() -> ConfigObj:
    """Return the specification that configobj validates a file against."""
    lines: list[str] = []
    for section in SECTION_DOCS:
        keys = [key for key in KEYS if key.section == section]
        lines += [f"[{section}]", *(_spec(key) for key in keys if not key.single)]
        if section == "nodes":
            lines += ["[[__many__]]", *map(_spec, keys)]
    return ConfigObj(lines, interpolation=False, list_values=False, _inspec=True)


def render(values: Mapping[str, str]) -> str:
    """A commented configuration file in which the given keys of [cluster] differ from the defaults."""
    lines = ["# Configuration of one virtual Ganeti cluster: ganeti-vcluster.conf(5).",
             "# After a change: systemctl reload ganeti-vcluster"]  # fmt: skip
    for section, doc in SECTION_DOCS.items():
        lines += ["", f"# {doc}", f"[{section}]"]
        for key in KEYS:
            if key.section != section:
                continue
            lines.append(f"# {key.doc}")
            if key.single:
                lines += ["# [[node1]]", f"# {key.name} ="]
            elif section == "cluster" and key.name in values:
                lines.append(f"{key.name} = {values[key.name]}")
            elif section == "cluster" and key.default and key.name != "secondary_network":
                lines.append(f"{key.name} = {key.default}")
            else:
                default = f'"{key.default}"' if "," in key.default and key.check == "text" else key.default
                lines.append(f"# {key.name} = {default}".rstrip())
    return "\n".join(lines) + "\n"
