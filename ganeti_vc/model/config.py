# SPDX-License-Identifier: BSD-2-Clause
"""A cluster as /etc/ganeti-vcluster/CLUSTER.conf declares it: parsed, checked, and with everything derived."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, fields
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

    @classmethod
    def from_section(cls, raw: Mapping[str, Any]) -> GanetiConfig:
        """Take the values of the section [ganeti]."""
        values: dict[str, Any] = {field.name: raw[field.name] for field in fields(cls)}
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)


@dataclass(frozen=True)
class SeedingConfig:
    """How seeded nodes and instances look (ganeti_vc/machine/seed.py)."""

    groups: tuple[str, ...]
    node_tags: tuple[str, ...]
    memory: tuple[int, ...]  #: MiB
    vcpus: tuple[int, ...]
    instance_tags: tuple[str, ...]
    down: int  #: per cent
    spread: str  #: even or random
    random_seed: str

    @classmethod
    def from_section(cls, raw: Mapping[str, Any]) -> SeedingConfig:
        """Take the values of the section [seeding]."""
        return cls(
            groups=tuple(raw["groups"]) or ("default",),
            node_tags=tuple(raw["node_tags"]),
            memory=tuple(map(mebibytes, raw["instance_memory"])) or (128,),
            vcpus=tuple(map(int, raw["instance_vcpus"])) or (1,),
            instance_tags=tuple(raw["instance_tags"]),
            down=raw["instances_down"],
            spread=raw["spread"],
            random_seed=raw["random_seed"],
        )


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
    reachable: bool  #: from outside of this machine
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
        # A new cluster has no file yet, and so no lines.
        text = self.text if self.source.startswith("/") else ""
        line = line_of(text, parts, key) or line_of(text, parts, "")
        where = f"{self.source}, line {line}" if line else self.source
        label = "".join(
            f" {'[' * depth}{part}{']' * depth}" for depth, part in enumerate(parts, 1) if part and depth == len(parts)
        )
        return ConfigError(f"{where}:{label}{' ' + key if key else ''}: {what}", hint, key)


def key_error(config: ClusterConfig, key: str, what: str, hint: str) -> ConfigError:
    """Return the error that a key of [cluster] conflicts with something outside of the file."""
    return _Reporter(config.source).error("cluster", key, what, hint)


def parse(cluster: ClusterId, text: str, source: str = "") -> ClusterConfig:
    """Read and check one configuration.

    `source` is what errors name, if that is not the cluster's configuration file. Raises ConfigError that names source,
    line, section and key.
    """
    reporter = _Reporter(source or str(cluster.config_file), text)
    try:
        raw = ConfigObj(text.splitlines(), configspec=configspec(), interpolation=False, raise_errors=True)
    except ConfigObjError as err:
        raise _syntax_error(err, reporter) from None
    result = raw.validate(VALIDATOR, preserve_errors=True)
    _refuse_unknown(raw, reporter)
    if result is not True:
        _refuse_invalid(raw, result, reporter)
    return _interpret(cluster, raw.dict(), reporter)


def _syntax_error(err: ConfigObjError, reporter: _Reporter) -> ConfigError:
    line = f", line {err.line_number}" if err.line_number else ""
    reason = str(err).split(" at line")[0].rstrip(".")
    is_duplicate = isinstance(err, DuplicateError)
    hint = "keep one of them" if is_duplicate else "write sections as [name] and keys as key = value"
    return ConfigError(f"{reporter.source}{line}: {reason}: {str(err.line).strip()}", hint)


def _refuse_unknown(raw: ConfigObj, reporter: _Reporter) -> None:
    """Raise ConfigError for a section or a key that does not exist."""
    sections = f"sections are {', '.join(SECTION_DOCS)}"
    for where, name in get_extra_values(raw):
        if where:
            known = [key.name for key in KEYS if key.section == where[0] and (where[1:] or not key.single)]
            raise reporter.error("/".join(where), name, "unknown key", f"known here: {', '.join(known)}")
        if isinstance(raw[name], dict):
            raise reporter.error(name, "", "unknown section", sections)
        raise reporter.error("", name, "key outside of a section", sections)


def _refuse_invalid(raw: ConfigObj, result: object, reporter: _Reporter) -> None:
    """Raise ConfigError for a value that its key does not allow."""
    for where, key, problem in flatten_errors(raw, result):
        if not where:
            raise reporter.error("", key, "key outside of a section", f"sections are {', '.join(SECTION_DOCS)}")
        check = next((known.check for known in KEYS if known.section == where[0] and known.name == key), "")
        hint = f"allowed: {check}" if "(" in check and not check.startswith("words(") else ""
        raise reporter.error("/".join(where), key or "", str(problem) if problem else "missing", hint)


def _interpret(cluster: ClusterId, raw: Mapping[str, Any], reporter: _Reporter) -> ClusterConfig:
    top = raw["cluster"]
    domain = top["domain"]
    plan = _address_plan(top, reporter)
    secondary = _secondary_plan(top, reporter) if plan.network.version == 6 else None
    nodes = _nodes(cluster, raw, _Plans(plan, secondary), reporter)
    config = ClusterConfig(
        id=cluster,
        source=reporter.source,
        name=names.in_domain(top["name"], domain),
        address=plan.cluster,
        network=plan.network,
        secondary_network=secondary.network if secondary else None,
        nodes=nodes,
        instances=tuple(
            (names.instance_name(index + 1, domain), plan.instance(index)) for index in range(top["instances"])
        ),
        device=top["device"] or cluster.bridge,
        own_bridge=not top["device"],
        reachable=top["reachable"] == "yes",
        ssh_port=top["ssh_port"],
        watcher_interval=top["watcher_interval"],
        fork_server=len(nodes) >= FORK_SERVER_FROM if top["fork_server"] == "auto" else top["fork_server"] == "yes",
        mond_on_all=len(nodes) <= MOND_ON_ALL_UP_TO if top["mond"] == "auto" else top["mond"] == "all",
        ganeti=GanetiConfig.from_section(raw["ganeti"]),
        seeding=SeedingConfig.from_section(raw["seeding"]),
    )
    _check_unique(config, reporter)
    _check_ssh_port(config, reporter)
    _check_volume_groups(config, reporter)
    return config


def _address_plan(top: Mapping[str, Any], reporter: _Reporter) -> AddressPlan:
    """Return the plan of the cluster's network. Raises ConfigError when nodes or instances do not fit."""
    plan = AddressPlan(ipaddress.ip_network(top["network"]))
    for key, most in (("nodes", plan.max_nodes), ("instances", plan.max_instances)):
        if top[key] > most:
            what = f"{top[key]} do not fit into the network {plan.network}, {most} do"
            hint = f"give a larger network, for example {LARGE_NETWORKS[plan.network.version]}"
            raise reporter.error("cluster", key, what, hint)
    return plan


def _secondary_plan(top: Mapping[str, Any], reporter: _Reporter) -> AddressPlan:
    """Return the plan of the IPv4 network beside an IPv6 one. Raises ConfigError when the nodes do not fit."""
    secondary = AddressPlan(ipaddress.ip_network(top["secondary_network"]))
    if secondary.network.version != 4 or secondary.max_nodes < top["nodes"]:
        what = f"{secondary.network} has no room"
        raise reporter.error("cluster", "secondary_network", what, "give an IPv4 network for as many nodes")
    return secondary


def _nodes(cluster: ClusterId, raw: Mapping[str, Any], plans: _Plans, reporter: _Reporter) -> tuple[NodeConfig, ...]:
    top = raw["cluster"]
    node_names = [names.node_name(number, top["domain"]) for number in range(1, top["nodes"] + 1)]
    special = {name: value for name, value in raw["nodes"].items() if isinstance(value, dict)}
    common = {key: value for key, value in raw["nodes"].items() if key not in special}
    for name in special:
        if name not in node_names:
            hint = f"the nodes are {node_names[0]} to {node_names[-1]}"
            raise reporter.error(f"nodes/{name}", "", "there is no such node", hint)

    def hardware(name: str) -> dict[str, str]:
        return common | {key: value for key, value in special.get(name, {}).items() if value}

    return tuple(
        _node(cluster.node(name), index, plans, hardware(name), raw["daemons"], reporter)
        for index, name in enumerate(node_names)
    )


@dataclass(frozen=True)
class _Plans:
    """The plans of the primary and the secondary addresses."""

    primary: AddressPlan
    secondary: AddressPlan | None


def _node(
    node: NodeId, index: int, plans: _Plans, hardware: Mapping[str, str], extra: Mapping[str, str], reporter: _Reporter
) -> NodeConfig:
    if len(str(node.rootdir)) > names.MAX_ROOTDIR:
        what = f"the node directory {node.rootdir} has {len(str(node.rootdir))} characters, "
        what += f"socket names allow {names.MAX_ROOTDIR}"
        raise reporter.error("cluster", "domain", what, "use a shorter domain or cluster name")
    address = _address(node, index, plans.primary, hardware.get("address", ""), reporter)
    # noded would lock its memory, on every node. Upstream's vcluster-setup prevents it, too. rapi lets everybody read
    # unless it is told otherwise, as Debian's own /etc/default/ganeti does.
    own = {"noded": "--no-mlock", "rapi": "--require-authentication"}
    # The remote API listens on the cluster's address, which moves with the master.
    bind = {daemon.name: plans.primary.cluster if daemon.name == "rapi" else address for daemon in DAEMONS}
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
        plans.secondary.node(index) if plans.secondary else None,
        args,
        memory=mebibytes(hardware["memory"]) if hardware["memory"] else None,
        cpus=int(hardware["cpus"]) if hardware["cpus"] else None,
        disk=mebibytes(hardware["disk"]) if hardware["disk"] else None,
        volume_group=mebibytes(hardware["volume_group"]) if hardware["volume_group"] else None,
    )


def _address(node: NodeId, index: int, plan: AddressPlan, given: str, reporter: _Reporter) -> Address:
    """Return the planned address of a node, or the one that its subsection gives. Raises ConfigError."""
    if not given:
        return plan.node(index)
    address = ipaddress.ip_address(given)
    section = f"nodes/{node.name}"
    if address not in plan.network:
        what = f"{address} is not in the network {plan.network}"
        raise reporter.error(section, "address", what, "take an address of the network")
    if address in plan.reserved:
        what = f"{address} is {plan.reserved[address]} of the network {plan.network}"
        raise reporter.error(section, "address", what, "take another address of the network")
    return address


def _check_unique(config: ClusterConfig, reporter: _Reporter) -> None:
    seen: dict[Address, str] = {}
    for address, name in config.hosts:
        if address in seen:
            raise reporter.error(
                f"nodes/{name}" if name in {n.id.name for n in config.nodes} else "cluster",
                "",
                f"{address} is the address of both {seen[address]} and {name}",
                "give each its own",
            )
        seen[address] = name
    if config.name in {name for _, name in config.hosts[1:]}:
        raise reporter.error(
            "cluster", "name", f"{config.name} is also the name of a node or an instance", "choose another name"
        )


def _check_ssh_port(config: ClusterConfig, reporter: _Reporter) -> None:
    """Refuse a port on which a daemon listens on the same addresses."""
    for daemon in DAEMONS:
        if daemon.port == config.ssh_port:
            what = f"{config.ssh_port} is the port of ganeti-{daemon.name}"
            raise reporter.error("cluster", "ssh_port", what, "give another port")


def _check_volume_groups(config: ClusterConfig, reporter: _Reporter) -> None:
    """Refuse templates on LVM without volume groups: Ganeti would use the machine's own."""
    lvm = [name for name in config.ganeti.enabled_disk_templates if name in ("plain", "drbd")]
    without = [node.id.name for node in config.nodes if not node.volume_group]
    if lvm and without:
        raise reporter.error(
            "ganeti",
            "enabled_disk_templates",
            f"{lvm[0]} needs a volume group, and {without[0]} has none",
            "give [nodes] volume_group a size",
        )
