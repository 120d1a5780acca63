# SPDX-License-Identifier: BSD-2-Clause
"""A cluster as /etc/ganeti-vcluster/CLUSTER.conf declares it: parsed, checked, and with everything derived."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configobj import ConfigObj, ConfigObjError, DuplicateError, flatten_errors, get_extra_values

from ganeti_vc.base.errors import ConfigError
from ganeti_vc.model import names
from ganeti_vc.model.addresses import LARGE_NETWORKS, Address, AddressPlan, Network
from ganeti_vc.model.config_text import line_of
from ganeti_vc.model.daemons import DAEMONS
from ganeti_vc.model.key_checks import VALIDATOR, mebibytes
from ganeti_vc.model.keys import KEYS, SECTION_DOCS, configspec
from ganeti_vc.model.names import ClusterId, NodeId

#: With fork_server = auto. Its start costs 0.5 CPU seconds; each start of a node saves 0.35 (noded 0.16, ensure-dirs 0.19).
FORK_SERVER_FROM = 3
#: With mond = auto. Each mond takes 4 MiB, 0.04 CPU seconds to start, and 0.03 a minute with the confds that it asks.
MOND_ON_ALL_UP_TO = 50


@dataclass(frozen=True)
class NodeConfig:
    """One declared node."""

    id: NodeId
    address: Address
    secondary: Address | None
    daemon_args: Mapping[str, str]  #: arguments of each daemon, by its name
    memory: int | None = None  #: MiB; None: the machine's; the same for those below
    cpus: int | None = None
    disk: int | None = None  #: MiB
    volume_group: int | None = None  #: MiB


@dataclass(frozen=True)
class GanetiConfig:
    """Options of `gnt-cluster init`; the attributes are its long options."""

    enabled_hypervisors: tuple[str, ...]
    enabled_disk_templates: tuple[str, ...]
    vg_name: str
    nic_mode: str
    ipolicy_bounds_specs: str
    candidate_pool_size: int
    init_options: str


@dataclass(frozen=True)
class SeedingConfig:
    """How seeded nodes and instances look (ganeti_vc/operations/seeding.py)."""

    groups: tuple[str, ...]
    node_tags: tuple[str, ...]
    memory: tuple[int, ...]  #: MiB
    vcpus: tuple[int, ...]
    instance_tags: tuple[str, ...]
    down: int  #: per cent
    spread: str  #: even or random
    random_seed: str


@dataclass(frozen=True)
class ClusterConfig:
    """One declared cluster, valid in itself."""

    id: ClusterId
    source: str  #: what an error names: the file, or "the new cluster ..." while there is none
    name: str  #: Ganeti's name of the cluster, with the domain
    address: Address
    network: Network
    secondary_network: Network | None
    nodes: tuple[NodeConfig, ...]
    instances: tuple[tuple[str, Address], ...]  #: names for /etc/hosts
    device: str
    own_bridge: bool
    ssh_port: int
    watcher_interval: str
    fork_server: bool
    mond_on_all: bool  #: and not only on master candidates
    ganeti: GanetiConfig
    seeding: SeedingConfig

    @property
    def networks(self) -> tuple[Network, ...]:
        return (self.network,) if self.secondary_network is None else (self.network, self.secondary_network)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The node addresses, which are ours to add; Ganeti adds the cluster's own to the master."""
        return tuple(
            address for node in self.nodes for address in (node.address, node.secondary) if address is not None
        )

    @property
    def hosts(self) -> tuple[tuple[Address, str], ...]:
        """Lines for /etc/hosts."""
        return (
            (self.address, self.name),
            *((node.address, node.id.name) for node in self.nodes),
            *((address, name) for name, address in self.instances),
        )

    def node(self, name: str) -> NodeConfig:
        return next(node for node in self.nodes if node.id.name == name)


class _Reporter:
    """Builds the line that names file, section and key, and says what is wrong."""

    def __init__(self, source: str, text: str = "") -> None:
        self.source = source
        self.text = text

    def error(self, section: str, key: str, what: str, hint: str = "") -> ConfigError:
        parts = section.split("/") if section else [""]
        line = line_of(self.text, parts, key) or line_of(self.text, parts, "")
        where = f"{self.source}, line {line}" if line else self.source
        label = "".join(
            f" {'[' * depth}{part}{']' * depth}" for depth, part in enumerate(parts, 1) if part and depth == len(parts)
        )
        return ConfigError(f"{where}:{label}{' ' + key if key else ''}: {what}", hint, key)


def key_error(config: ClusterConfig, key: str, what: str, hint: str) -> ConfigError:
    """Return the error that a key of [cluster] conflicts with something outside of the file."""
    return _Reporter(config.source).error("cluster", key, what, hint)


def parse(cluster: ClusterId, text: str, written: bool = True, source: Path | None = None) -> ClusterConfig:
    """Read and check one configuration.

    Raises ConfigError that names file, line, section and key. `written`: the file exists already, as `source`
    if that is not its usual name.
    """
    file = str(source or cluster.config_file)
    reporter = _Reporter(*((file, text) if written else (f"new cluster {cluster.name}",)))
    try:
        raw = ConfigObj(text.splitlines(), configspec=configspec(), interpolation=False, raise_errors=True)
    except ConfigObjError as err:
        line = f", line {err.line_number}" if err.line_number else ""
        reason = str(err).split(" at line")[0].rstrip(".")
        hint = (
            "keep one of them"
            if isinstance(err, DuplicateError)
            else "write sections as [name] and keys as key = value"
        )
        raise ConfigError(f"{reporter.source}{line}: {reason}: {str(err.line).strip()}", hint) from None
    result = raw.validate(VALIDATOR, preserve_errors=True)
    for where, name in get_extra_values(raw):
        section = "/".join(where)
        known = [k.name for k in KEYS if k.section == (where[0] if where else "") and (where[1:] or not k.single)]
        if not where:
            raise reporter.error(
                name if isinstance(raw[name], dict) else "",
                "" if isinstance(raw[name], dict) else name,
                "unknown section" if isinstance(raw[name], dict) else "key outside of a section",
                f"sections are {', '.join(SECTION_DOCS)}",
            )
        raise reporter.error(section, name, "unknown key", f"known here: {', '.join(known)}")
    if result is not True:
        for where, key, problem in flatten_errors(raw, result):
            if not where:
                raise reporter.error("", key, "key outside of a section", f"sections are {', '.join(SECTION_DOCS)}")
            section = "/".join(where)
            check = next((k.check for k in KEYS if k.section == where[0] and k.name == key), "")
            raise reporter.error(
                section,
                key or "",
                str(problem) if problem else "missing",
                f"allowed: {check}" if "(" in check and not check.startswith("words(") else "",
            )
    return _interpret(cluster, raw.dict(), reporter)


def _interpret(cluster: ClusterId, raw: Mapping[str, Any], reporter: _Reporter) -> ClusterConfig:
    top, ganeti = raw["cluster"], raw["ganeti"]
    suffix = f".{top['domain']}" if top["domain"] else ""
    network = ipaddress.ip_network(top["network"])
    plan = AddressPlan(network)
    for key, count, most in (("nodes", top["nodes"], plan.max_nodes),
                             ("instances", top["instances"], plan.max_instances)):  # fmt: skip
        if count > most:
            raise reporter.error("cluster", key, f"{count} do not fit into the network {network}, {most} do",
                                 f"give a larger network, for example {LARGE_NETWORKS[network.version]}")  # fmt: skip
    secondary: AddressPlan | None = None
    if network.version == 6:
        secondary = AddressPlan(ipaddress.ip_network(top["secondary_network"]))
        if secondary.network.version != 4 or secondary.max_nodes < top["nodes"]:
            raise reporter.error("cluster", "secondary_network", f"{secondary.network} has no room",
                                 "give an IPv4 network for as many nodes")  # fmt: skip
    node_names = [f"node{number}{suffix}" for number in range(1, top["nodes"] + 1)]
    special = {name: value for name, value in raw["nodes"].items() if isinstance(value, dict)}
    common = {key: value for key, value in raw["nodes"].items() if key not in special}
    for name in special:
        if name not in node_names:
            raise reporter.error(f"nodes/{name}", "", "there is no such node",
                                 f"the nodes are {node_names[0]} to {node_names[-1]}")  # fmt: skip
    nodes = tuple(
        _node(
            cluster.node(name),
            index,
            plan,
            secondary,
            common | {key: value for key, value in special.get(name, {}).items() if value},
            raw["daemons"],
            reporter,
        )
        for index, name in enumerate(node_names)
    )
    config = ClusterConfig(
        id=cluster,
        source=reporter.source,
        name=f"{top['name']}{suffix}",
        address=plan.cluster,
        network=network,
        secondary_network=secondary.network if secondary else None,
        nodes=nodes,
        instances=tuple((f"instance{index + 1}{suffix}", plan.instance(index)) for index in range(top["instances"])),
        device=top["device"] or cluster.bridge,
        own_bridge=not top["device"],
        ssh_port=top["ssh_port"],
        watcher_interval=top["watcher_interval"],
        fork_server=len(nodes) >= FORK_SERVER_FROM if top["fork_server"] == "auto" else top["fork_server"] == "yes",
        mond_on_all=len(nodes) <= MOND_ON_ALL_UP_TO if top["mond"] == "auto" else top["mond"] == "all",
        ganeti=GanetiConfig(
            enabled_hypervisors=tuple(ganeti["enabled_hypervisors"]),
            enabled_disk_templates=tuple(ganeti["enabled_disk_templates"]),
            vg_name=ganeti["vg_name"],
            nic_mode=ganeti["nic_mode"],
            ipolicy_bounds_specs=ganeti["ipolicy_bounds_specs"],
            candidate_pool_size=ganeti["candidate_pool_size"],
            init_options=ganeti["init_options"],
        ),
        seeding=SeedingConfig(
            groups=tuple(raw["seeding"]["groups"]) or ("default",),
            node_tags=tuple(raw["seeding"]["node_tags"]),
            memory=tuple(map(mebibytes, raw["seeding"]["instance_memory"])) or (128,),
            vcpus=tuple(map(int, raw["seeding"]["instance_vcpus"])) or (1,),
            instance_tags=tuple(raw["seeding"]["instance_tags"]),
            down=raw["seeding"]["instances_down"],
            spread=raw["seeding"]["spread"],
            random_seed=raw["seeding"]["random_seed"],
        ),
    )
    _check_unique(config, reporter)
    _check_volume_groups(config, reporter)
    return config


def _node(
    node: NodeId,
    index: int,
    plan: AddressPlan,
    secondary: AddressPlan | None,
    special: Mapping[str, str],
    extra: Mapping[str, str],
    reporter: _Reporter,
) -> NodeConfig:
    if len(str(node.rootdir)) > names.MAX_ROOTDIR:
        raise reporter.error("cluster", "domain", f"the node directory {node.rootdir} has {len(str(node.rootdir))} "
                             f"characters, socket names allow {names.MAX_ROOTDIR}",
                             "use a shorter domain or cluster name")  # fmt: skip
    address = plan.node(index)
    if special.get("address"):
        address = ipaddress.ip_address(special["address"])
        if address not in plan.network:
            raise reporter.error(f"nodes/{node.name}", "address", f"{address} is not in the network {plan.network}",
                                 "take an address of the network")  # fmt: skip
        if address in plan.reserved:
            raise reporter.error(f"nodes/{node.name}", "address",
                                 f"{address} is {plan.reserved[address]} of the network {plan.network}",
                                 "take another address of the network")  # fmt: skip
    # noded would lock its memory, on every node. Upstream's vcluster-setup prevents it, too.
    own = {"noded": "--no-mlock"}
    # The remote API listens on the cluster's address, which moves with the master.
    bind = {daemon.name: plan.cluster if daemon.name == "rapi" else address for daemon in DAEMONS}
    args = {
        daemon.name: " ".join(
            part
            for part in (own.get(daemon.name, ""), f"-b {bind[daemon.name]}" if daemon.port else "", extra[daemon.name])
            if part
        )
        for daemon in DAEMONS
    }
    return NodeConfig(
        node,
        address,
        secondary.node(index) if secondary else None,
        args,
        memory=mebibytes(special["memory"]) if special["memory"] else None,
        cpus=int(special["cpus"]) if special["cpus"] else None,
        disk=mebibytes(special["disk"]) if special["disk"] else None,
        volume_group=mebibytes(special["volume_group"]) if special["volume_group"] else None,
    )


def _check_unique(config: ClusterConfig, reporter: _Reporter) -> None:
    seen: dict[Address, str] = {}
    for address, name in config.hosts:
        if address in seen:
            raise reporter.error(f"nodes/{name}" if name in {n.id.name for n in config.nodes} else "cluster", "",
                                 f"{address} is the address of both {seen[address]} and {name}",
                                 "give each its own")  # fmt: skip
        seen[address] = name
    if config.name in {name for _, name in config.hosts[1:]}:
        raise reporter.error("cluster", "name", f"{config.name} is also the name of a node or an instance",
                             "choose another name")  # fmt: skip


def _check_volume_groups(config: ClusterConfig, reporter: _Reporter) -> None:
    """Refuse templates on LVM without volume groups: Ganeti would use the machine's own."""
    lvm = [name for name in config.ganeti.enabled_disk_templates if name in ("plain", "drbd")]
    without = [node.id.name for node in config.nodes if not node.volume_group]
    if lvm and without:
        raise reporter.error("ganeti", "enabled_disk_templates", f"{lvm[0]} needs a volume group, and {without[0]} has none",
                             "give [nodes] volume_group a size")  # fmt: skip


def check_against(config: ClusterConfig, others: Iterable[ClusterConfig]) -> None:
    """Raise ConfigError when the cluster shares a network, a name or a device with another one of this machine."""
    reporter = _Reporter(config.source)
    mine = {name for _, name in config.hosts}
    for other in others:
        for network in config.networks:
            for foreign in other.networks:
                if network.version == foreign.version and network.overlaps(foreign):
                    raise reporter.error("cluster", "network",
                                         f"{network} overlaps with {foreign} of the cluster {other.id.name}",
                                         "give each cluster a network of its own (--network)")  # fmt: skip
        common = sorted(mine & {name for _, name in other.hosts})
        if common:
            raise reporter.error("cluster", "domain",
                                 f"the name {common[0]} belongs to the cluster {other.id.name} already",
                                 "give the clusters different domains (--domain)")  # fmt: skip
        if config.device == other.device and (config.own_bridge or other.own_bridge):
            raise reporter.error("cluster", "device", f"{config.device} is the bridge of the cluster {other.id.name}",
                                 "leave it empty")  # fmt: skip
        for ours in config.nodes:
            for theirs in other.nodes:
                _check_nesting(ours.id, theirs.id, reporter)


def _check_nesting(one: NodeId, two: NodeId, reporter: _Reporter) -> None:
    """Refuse names of which one contains the other: systemd nests a-b.slice in a.slice."""
    short, long = sorted((one.name, two.name), key=len)
    if long.startswith(f"{short}-"):
        raise reporter.error("cluster", "domain",
                             f"systemd would put the slice of {long} inside that of {short}",
                             "choose another domain")  # fmt: skip
