# SPDX-License-Identifier: BSD-2-Clause
"""What clusters take of a machine, as formulas of their size, and which limit ends them first. Pure.

Where nothing else is said, figures were measured: what a cluster added when it grew from 10 nodes to 40, 60 and 90 (from
40 on without further monds), in a booted container of Debian 12 (Ganeti 3.0, systemd 252) and 13 (3.1, 257), the larger
of the two, with fork server.
They are those of nodes at rest or answering one call, not of hundreds of jobs. A unit test compares the formulas with
what was measured.

Looked at and left out, as they do not grow with the nodes or are wider than what is here: D-Bus (no daemon of a node
connects to it), sshd's MaxStartups (tools/services/sshd-listen starts an sshd for each connection), DefaultTasksMax= (per
unit; a slice has none), ARP (all local IPv4 addresses share one neighbour, 0.0.0.0 on lo), memory control groups (65535
in the kernel, 3 a node at most), inodes of /run (11 a node of systemd's 819200).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ganeti_vc.model import keys
from ganeti_vc.model.addresses import DEFAULT_NETWORKS, AddressPlan
from ganeti_vc.model.config import FORK_SERVER_FROM, MOND_ON_ALL_UP_TO, ClusterConfig
from ganeti_vc.model.names import MAX_ROOTDIR, ClusterId

KIB, MIB = 1 << 10, 1 << 20

#: Bytes of disk: measured are 0.23 MiB for a new node and 10 KiB for an instance; logs and jobs come on top.
SPACE, SPACE_PER_NODE, SPACE_PER_INSTANCE = 16 * MIB, MIB, 16 * KIB
#: Bytes of memory of a node, its noded and what the kernel and systemd have for it, and of a mond, by Ganeti's version:
#: rss and kmem of a memory control group.
NODE_MEMORY, MOND_MEMORY, UNKNOWN_MOND_MEMORY = 10 * MIB, {"3.0": 4608 * KIB, "3.1": 9 * MIB}, 9 * MIB
#: What a noded has to itself if no fork server shares it with others (26 MiB instead of 7).
UNSHARED = 19 * MIB
#: Files each of journald's streams needs is one; it keeps so many beside them.
JOURNALD_OWN_FILES = 32
#: ssconf._MAX_SIZE: Ganeti neither writes nor reads a longer file.
SSCONF_SIZE = 128 * KIB
#: MANAGER_MAX_NAMES (systemd's src/core/manager.h).
UNITS = 131072
#: Seconds in which a node has to answer (constants.RPC_CONNECT_TIMEOUT). Ganeti calls all nodes at the same time.
CONNECT_TIMEOUT = 5
#: What can still be shown as a number; the kernel writes "no limit" as one of the largest.
NO_LIMIT = 1 << 50
#: No machine of today has more nodes.
MOST_NODES = 1 << 20
#: Numbers of nodes that need less than one node less does: they are set up differently. Else more never need less.
CHEAPER_FROM = (MOND_ON_ALL_UP_TO + 1, FORK_SERVER_FROM)


def journald_streams(systemd: str) -> int:
    """How many outputs of services journald takes (STDOUT_STREAMS_MAX, journald-stream.c; cannot be configured).

    The 4097th was refused by 252 and by 257; later sources have 64 * 1024 (systemd pull request 35430).
    """
    major = "".join(systemd.partition(".")[0].partition("~")[0].split())
    return 4096 if major.isdecimal() and int(major) < 258 else 65536


@dataclass(frozen=True)
class Size:
    """One cluster, as far as its size costs something."""

    nodes: int
    instances: int = 0
    pool: int = 10  #: master candidates, if there are so many nodes
    monds: int = 0
    cluster: str = "default"
    domain: str = ""
    fork_server: bool = True
    ganeti: str = ""
    ipv6: bool = False

    @property
    def candidates(self) -> int:
        return min(self.nodes, self.pool)

    def name(self, kind: str, number: int) -> str:
        return f"{kind}{number}{'.' if self.domain else ''}{self.domain}"

    @staticmethod
    def new(nodes: int, instances: int, ganeti: str) -> Size:
        """A cluster as `gnt-vcluster up` makes it when nothing else is said."""
        size = Size(nodes, instances, fork_server=nodes >= FORK_SERVER_FROM, ganeti=ganeti)
        return replace(size, monds=nodes if nodes <= MOND_ON_ALL_UP_TO else size.candidates)

    @staticmethod
    def of(config: ClusterConfig, instances: int, ganeti: str) -> Size:
        """Return the size of a declared cluster."""
        nodes, pool = len(config.nodes), config.ganeti.candidate_pool_size
        return Size(
            nodes,
            instances,
            pool,
            nodes if config.mond_on_all else min(nodes, pool),
            config.id.name,
            config.name.partition(".")[2],
            config.fork_server,
            ganeti,
            config.network.version == 6,
        )


def _memory(size: Size) -> int:
    """Nodes and monds; confd on candidates (10, and per instance 44 KiB, per node 13); luxid and wconfd (83 and 300 KiB);
    manager 34, fork server 13, rapi 31, luxid 38, wconfd 37, sshd-listen 5, a job with its command 66 MiB.

    Measured with 2000 instances. luxid and wconfd had 470 MiB with 1000 nodes and 5000 instances; this says 730.
    """
    node = NODE_MEMORY + (0 if size.fork_server else UNSHARED)
    mond = MOND_MEMORY.get(size.ganeti, UNKNOWN_MOND_MEMORY)
    confd = 10 * MIB + size.instances * 44 * KIB + size.nodes * 13 * KIB
    master = size.instances * 83 * KIB + size.nodes * 300 * KIB
    return size.nodes * node + size.monds * mond + size.candidates * confd + master + 224 * MIB


def _tasks(size: Size) -> int:
    """noded and its fork for each call (http/server.py), mond (two threads with 3.1); a start of 16 nodes."""
    return 2 * size.nodes + 2 * size.monds + 2 * size.candidates + 80


def _neighbours(size: Size) -> int:
    """One per local IPv6 address that is spoken to, seen with 200 (`ip -6 neigh show nud all`)."""
    return size.nodes if size.ipv6 else 0


@dataclass(frozen=True)
class Limit:
    """Something a machine has only so much of."""

    key: str  #: in JSON; of a sysctl, its name
    what: str
    cost: Callable[[Size], int]  #: what a cluster takes
    remedy: str = ""  #: none: a sysctl
    each: bool = False  #: counts for each cluster by itself
    lasting: bool = False  #: taken also by what is stopped
    soft: bool = False  #: beyond, it works badly instead of not at all
    unit: str = ""  #: bytes or ms

    @property
    def sysctl(self) -> bool:
        return not self.remedy


def _sysctl(key: str, cost: Callable[[Size], int], soft: bool = False) -> Limit:
    return Limit(key, key, cost, soft=soft)


LIMITS = (
    Limit("memory", "memory", _memory, "fewer nodes or instances, or more memory", unit="bytes"),
    Limit("disk", "disk space", lambda s: SPACE + SPACE_PER_NODE * s.nodes + SPACE_PER_INSTANCE * s.instances,
          "free some, or mount a larger file system on /var/lib/ganeti-vcluster", lasting=True, unit="bytes"),
    Limit("inodes", "inodes of the disk", lambda s: 100 * s.nodes + 2 * s.instances + 200,
          "mount another file system on /var/lib/ganeti-vcluster", lasting=True),
    # 13 ms in noded, 4.5 in the caller, for a call and its TLS handshake. On two cores 300 nodes were about the edge,
    # and of 1000 most did not answer in time.
    Limit("processors", "processors: a call to all", lambda s: 18 * s.nodes, "calls to all nodes may time out: more processors",
          soft=True, each=True, unit="ms"),
    # luxid, the jobs it forks, and wconfd open a connection to every node, and have 16 other files: with a limit of 40, 24 of
    # 40 nodes answered. Of 1200 calls by Ganeti's own client 183 failed with a limit of 1024, and none with 4096. The
    # cluster's ssh server has a socket per node and 7 other files.
    Limit("files-of-a-daemon", "luxid, wconfd, sshd: open files", lambda s: s.nodes + 16,
          "several clusters, or raise LimitNOFILE= of ganeti-luxid@, ganeti-wconfd@ and ganeti-vcluster-sshd@.service", each=True),
    Limit("files-of-systemd", "systemd: open files", lambda s: 3 * s.nodes + 3 * s.monds + 4 * s.candidates + 8,
          "raise fs.nr_open and boot again; in a container, its limit of open files"),
    Limit("units", "systemd: units", lambda s: 18 * s.nodes + 11, "systemd cannot have more"),
    Limit("streams", "journald: outputs of services", lambda s: s.nodes + s.monds + s.candidates + 6,
          "journald cannot take more: the rest would run without a log"),
    Limit("pids.max", "pids.max of the container", _tasks, "raise it outside of the container"),
    _sysctl("kernel.pid_max", _tasks),
    _sysctl("kernel.threads-max", _tasks),
    _sysctl("fs.file-max", lambda s: 15 * s.nodes + 13 * s.monds + 15 * s.candidates + 64),
    # Each confd has one (ConfigReader.hs, initINotify; 10 were seen with 10 confds). They are counted per user, those of other containers included.
    _sysctl("fs.inotify.max_user_instances", lambda s: s.candidates),
    # systemd watches cgroup.events of each service and slice, and memory.events of each service with memory accounting, the
    # default (cgroup.c, unit_watch_cgroup and unit_watch_cgroup_memory).
    _sysctl("fs.inotify.max_user_watches", lambda s: 3 * s.nodes + 2 * s.monds + 2 * s.candidates + 16),
    # Within the two minutes a closed connection is remembered, gnt-node add makes 13 calls to each node, and gnt-cluster
    # verify logs in to it from 10 candidates.
    _sysctl("net.netfilter.nf_conntrack_max", lambda s: 23 * s.nodes),
    _sysctl("net.ipv6.neigh.default.gc_thresh3", _neighbours),
    # noded asks for this queue (http/server.py); the kernel cuts it off.
    _sysctl("net.core.somaxconn", lambda s: 1024, soft=True),
    # Lines "NAME ADDRESS", the longest of the lists of nodes.
    Limit("ssconf_node_primary_ips", "Ganeti: list of nodes",
          lambda s: s.nodes * (len(s.name("node", s.nodes)) + (41 if s.ipv6 else 17)),
          "Ganeti cannot have more: several clusters, or a shorter domain", each=True, unit="bytes"),
    Limit("ssconf_instance_list", "Ganeti: list of instances", lambda s: s.instances * (len(s.name("instance", s.instances)) + 1),
          "Ganeti cannot have more: several clusters, or a shorter domain", each=True, unit="bytes"),
    Limit("rootdir", "length of a node directory",
          lambda s: len(str(ClusterId(s.cluster).node(s.name("node", s.nodes)).rootdir)),
          "use a shorter domain or cluster name", each=True),
    # A network that is too small for its cluster is refused when the configuration is read.
    Limit("nodes", "nodes of a cluster", lambda s: s.nodes, "several clusters", each=True),
)  # fmt: skip

#: What does not depend on the machine.
CONSTANTS: Mapping[str, int] = {
    "units": UNITS,
    "ssconf_node_primary_ips": SSCONF_SIZE,
    "ssconf_instance_list": SSCONF_SIZE,
    "rootdir": MAX_ROOTDIR,
    "nodes": min(keys.MAX_NODES, max(AddressPlan(network).max_nodes for network in DEFAULT_NETWORKS)),
}


@dataclass(frozen=True)
class Stock:
    """What a machine has of something, and what of it is taken, also by our clusters."""

    present: int
    used: int = 0


@dataclass(frozen=True)
class Row:
    """One limit, for what was asked."""

    limit: Limit
    needed: int  #: with what else is in use
    present: int
    nodes: int | None  #: of one cluster of the usual kind, for which it would be enough; None: more than anybody has

    @property
    def state(self) -> str:
        """ok, tight (it works badly) or too low."""
        if self.needed <= self.present:
            return "ok"
        return "tight" if self.limit.soft else "too low"

    @property
    def remedy(self) -> str:
        """What to do; empty when nothing has to be done."""
        if self.state == "ok":
            return ""
        return self.limit.remedy or f"gnt-vcluster doctor --fix, or: sysctl {self.limit.key}={enough(self.needed)}"


def enough(needed: int) -> int:
    """The value to set a sysctl to: the next power of two, so that it need not be raised for each node."""
    return 1 << max(0, needed - 1).bit_length()


def _total(limit: Limit, sizes: Sequence[Size]) -> int:
    costs = [limit.cost(size) for size in sizes if size.nodes]
    return max(costs, default=0) if limit.each else sum(costs)


def _largest(limit: Limit, others: int, present: int, new: Callable[[int], Size]) -> int | None:
    """The largest number of nodes for which it is enough."""

    def fits(nodes: int) -> bool:
        return others + _total(limit, [new(nodes)]) <= present

    if fits(MOST_NODES):
        return None
    low, high = next((start for start in CHEAPER_FROM if fits(start)), 0), MOST_NODES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def rows(
    stocks: Mapping[str, Stock],
    wanted: Sequence[Size],
    running: Sequence[Size],
    existing: Sequence[Size],
    new: Callable[[int], Size],
) -> list[Row]:
    """Every limit that the machine has, for clusters of these sizes.

    `running` and `existing` is what of ours the machine carries already, so that it is not counted twice; `new` says what
    a single cluster of so many nodes would be.
    """
    table = []
    for limit in LIMITS:
        stock = stocks.get(limit.key) or (Stock(CONSTANTS[limit.key]) if limit.key in CONSTANTS else None)
        if stock is None or not _total(limit, wanted):
            continue
        ours = _total(limit, existing if limit.lasting else running)
        others = 0 if limit.each else max(0, stock.used - ours)
        needed, largest = others + _total(limit, wanted), _largest(limit, others, stock.present, new)
        table.append(Row(limit, needed, stock.present, largest))
    return table


def first(rows: Sequence[Row]) -> Row:
    """The limit that ends a growing cluster first."""
    hard = [row for row in rows if not row.limit.soft]
    return min(hard, key=lambda row: MOST_NODES if row.nodes is None else row.nodes)
