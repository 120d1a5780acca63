# SPDX-License-Identifier: BSD-2-Clause
"""The configuration file of a cluster, /etc/ganeti-vcluster/CLUSTER.conf.

`KEYS` is the one source of truth: configobj's specification, the commented file a new cluster
gets and the manual page ganeti-vcluster.conf(5) are all made from it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configobj import ConfigObj, ConfigObjError, flatten_errors, get_extra_values
from configobj.validate import ValidateError, Validator

from ganeti_vc import names
from ganeti_vc.addresses import DEFAULT_SECONDARY, Address, AddressPlan, Network
from ganeti_vc.daemons import DAEMONS
from ganeti_vc.errors import ConfigError
from ganeti_vc.names import ClusterId, NodeId


@dataclass(frozen=True)
class Key:
    """One key: where it stands, what it allows (a check of configobj's validator), what it means."""

    section: str
    name: str
    check: str
    default: str
    doc: str


_IPOLICY = (
    "min:disk-size=0,cpu-count=1,disk-count=0,memory-size=1,nic-count=0,spindle-use=0"
    "/max:disk-size=1048576,cpu-count=8,disk-count=16,memory-size=32768,nic-count=8,spindle-use=12"
)

KEYS = (
    Key("cluster", "name", "hostname", "cluster",
        "Ganeti's name of the cluster. The domain is appended."),
    Key("cluster", "domain", "domain", "",
        "Domain of the cluster, node and instance names; may be empty."),
    Key("cluster", "nodes", "integer(min=1, max=4096)", "3",
        "Number of nodes: node1, node2, ... followed by the domain."),
    Key("cluster", "instances", "integer(min=0, max=65536)", "10",
        "Number of instance names (instance1, ...) in /etc/hosts. Instances may also have other names."),
    Key("cluster", "network", "network", "192.0.2.0/24",
        "IPv4 or IPv6 network of the cluster, node and instance addresses. Nothing else on this machine may use it."),
    Key("cluster", "secondary_network", "network", str(DEFAULT_SECONDARY),
        "With an IPv6 network only: where the IPv4 secondary addresses come from, which Ganeti demands."),
    Key("cluster", "device", "device", "",
        "An existing network device that shall carry the addresses. Empty: the cluster gets a bridge of its own."),
    Key("cluster", "ssh_port", "integer(min=1, max=65535)", "1822",
        "Port of the cluster's own sshd on the node addresses (Ganeti's node parameter ssh_port). It can be changed only before the cluster is initialised."),
    Key("cluster", "watcher_interval", "interval", "5min",
        "Time between two runs of ganeti-watcher on a node, in the notation of systemd.time(7)."),
    Key("ganeti", "enabled_hypervisors", "words('fake', 'kvm', 'xen-pvm', 'xen-hvm', 'lxc', 'chroot')", "fake",
        "gnt-cluster init --enabled-hypervisors."),
    Key("ganeti", "enabled_disk_templates",
        "words('diskless', 'file', 'sharedfile', 'plain', 'drbd', 'blockdev', 'rbd', 'ext', 'gluster')",
        "diskless, file, sharedfile",
        "gnt-cluster init --enabled-disk-templates."),
    Key("ganeti", "nic_mode", "option('bridged', 'routed', 'openvswitch')", "bridged",
        "gnt-cluster init --nic-parameters=mode=...; the link is the cluster's device."),
    Key("ganeti", "ipolicy_bounds_specs", "text", _IPOLICY,
        "gnt-cluster init --ipolicy-bounds-specs: what instances may look like."),
    Key("ganeti", "candidate_pool_size", "integer(min=1)", "10",
        "gnt-cluster init --candidate-pool-size: how many nodes hold the configuration."),
    Key("ganeti", "init_options", "text", "",
        "Further options for gnt-cluster init, as in a shell command."),
    *(Key("daemons", daemon.name, "text", "",
          f"Further arguments for ganeti-{daemon.name} on every node (for example -d).") for daemon in DAEMONS),
    Key("nodes", "address", "address", "",
        "Address of this node instead of the planned one. Keys of [nodes] stand in a subsection per node, [[NODE]]."),
)  # fmt: skip

SECTION_DOCS = {
    "cluster": "What the cluster looks like from outside.",
    "ganeti": "What gnt-cluster init is told. Later changes go through gnt-cluster modify.",
    "daemons": "Arguments for Ganeti's daemons.",
    "nodes": "What differs per node.",
}

#: The packaged interval (units/ganeti-watcher@.timer).
DEFAULT_INTERVAL = "5min"

_SYSTEMD_SPAN = re.compile(r"([0-9]+ ?(s|sec|min|m|h|hr|d)? ?)+")
_DEVICE = re.compile(r"[A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class NodeConfig:
    """One declared node."""

    id: NodeId
    address: Address
    secondary: Address | None
    daemon_args: Mapping[str, str]  #: what each daemon is started with, by name


@dataclass(frozen=True)
class GanetiConfig:
    """Options of `gnt-cluster init`; the attributes are its long options."""

    enabled_hypervisors: tuple[str, ...]
    enabled_disk_templates: tuple[str, ...]
    nic_mode: str
    ipolicy_bounds_specs: str
    candidate_pool_size: int
    init_options: str


@dataclass(frozen=True)
class ClusterConfig:
    """One declared cluster, valid in itself."""

    id: ClusterId
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
    ganeti: GanetiConfig

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


def _text(value: object) -> str:
    """A string that may hold commas, quoted or not: configobj makes a list of the latter."""
    return ",".join(value) if isinstance(value, list) else str(value)


def _check_words(value: object, *known: str) -> list[str]:
    words = value if isinstance(value, list) else [str(value)]
    for word in words or [""]:
        if word not in known:
            raise ValidateError(f"{word!r} is none of {', '.join(known)}")
    return words


def _check_host_name(value: object) -> str:
    if not isinstance(value, str) or not names.is_host_name(value):
        raise ValidateError(f"{value!r} is no host name: use small letters, digits, '-' and '.'")
    return value


def _check_domain(value: object) -> str:
    return "" if value == "" else _check_host_name(value)


def _check_network(value: object) -> str:
    try:
        network = ipaddress.ip_network(str(value))
    except ValueError as err:
        raise ValidateError(f"{err}: give a network such as 192.0.2.0/24") from None
    if network.is_loopback or network.is_multicast or network.is_link_local:
        raise ValidateError(f"Ganeti does not work with addresses in {network}: give a network such as 192.0.2.0/24")
    return str(network)


def _check_address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(str(value))) if value else ""
    except ValueError as err:
        raise ValidateError(f"{err}: give an address such as 192.0.2.10") from None


def _check_device(value: object) -> str:
    if not isinstance(value, str) or not _DEVICE.fullmatch(value) or len(value) > names.MAX_DEVICE:
        raise ValidateError(
            f"{value!r} is no device name of at most {names.MAX_DEVICE} characters (Ganeti appends ':0')"
        )
    return value


def _check_interval(value: object) -> str:
    if not isinstance(value, str) or not _SYSTEMD_SPAN.fullmatch(value.strip()):
        raise ValidateError(f"{value!r} is no time span: write for example 30s, 5min or 1h")
    return value.strip()


def _check_text(value: object) -> str:
    text = _text(value)
    if "'" in text or "\n" in text:
        raise ValidateError("must not hold a quote (') or a line break")
    return text


_VALIDATOR = Validator(
    {
        "hostname": _check_host_name,
        "domain": _check_domain,
        "network": _check_network,
        "address": _check_address,
        "device": _check_device,
        "interval": _check_interval,
        "words": _check_words,
        "text": _check_text,
    }
)


def _configspec() -> ConfigObj:
    lines: list[str] = []
    for section in SECTION_DOCS:
        lines.append(f"[{section}]")
        if section == "nodes":
            lines.append("[[__many__]]")
        for key in KEYS:
            if key.section == section:
                default = f'"{key.default}"'
                if key.check.startswith("words("):
                    default = "list(" + ", ".join(f'"{word}"' for word in key.default.split(", ")) + ")"
                check = key.check[:-1] + ", " if key.check.endswith(")") else key.check + "("
                lines.append(f"{key.name} = {check}default={default})")
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
            if section == "nodes":
                lines += ["# [[node1]]", f"#   {key.name} = 192.0.2.10"]
            elif section == "cluster" and key.name in values:
                lines.append(f"{key.name} = {values[key.name]}")
            elif section == "cluster" and key.default and key.name != "secondary_network":
                lines.append(f"{key.name} = {key.default}")
            else:
                default = f'"{key.default}"' if "," in key.default and key.check == "text" else key.default
                lines.append(f"# {key.name} = {default}".rstrip())
    return "\n".join(lines) + "\n"


def _line_of(text: str, sections: Iterable[str], key: str) -> int:
    """Number of the line on which a key (or, with an empty key, a section) stands; 0 if nowhere."""
    wanted, current = list(sections), [""]
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if match := re.match(r"(\[+)\s*(.*?)\s*\]+", stripped):
            depth = len(match[1])
            current = [*current[: depth - 1], match[2].strip("'\"")] if depth > 1 else [match[2].strip("'\"")]
            if not key and current == wanted:
                return number
        elif key and current == wanted and re.match(rf"['\"]?{re.escape(key)}['\"]?\s*=", stripped):
            return number
    return 0


def replace_key(text: str, section: str, key: str, value: str) -> str:
    """The text of a configuration file with one key set; every other line stays as it is."""
    lines = text.splitlines(keepends=True)
    number = _line_of(text, [section], key)
    if number:
        lines[number - 1] = re.sub(r"=[ \t]*[^#\s]*", f"= {value}", lines[number - 1], count=1)
        return "".join(lines)
    number = _line_of(text, [section], "")
    lines[number:number] = [f"{key} = {value}\n"] if number else [f"[{section}]\n{key} = {value}\n"]
    return "".join(lines)


class _Reporter:
    """Builds the one line that says what is wrong with which key of which file."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text

    def error(self, section: str, key: str, what: str, hint: str = "") -> ConfigError:
        parts = section.split("/") if section else [""]
        line = _line_of(self.text, parts, key) or _line_of(self.text, parts, "")
        where = f"{self.path}, line {line}" if line else str(self.path)
        label = "".join(
            f" {'[' * depth}{part}{']' * depth}" for depth, part in enumerate(parts, 1) if part and depth == len(parts)
        )
        return ConfigError(f"{where}:{label}{' ' + key if key else ''}: {what}", hint)


def parse(cluster: ClusterId, text: str, path: Path | None = None) -> ClusterConfig:
    """Read and check one configuration.

    Raises ConfigError that names file, line, section and key. `path` is only for the messages.
    """
    reporter = _Reporter(path or cluster.config_file, text)
    try:
        raw = ConfigObj(text.splitlines(), configspec=_configspec(), interpolation=False, raise_errors=True)
    except ConfigObjError as err:
        line = f", line {err.line_number}" if err.line_number else ""
        reason = str(err).split(" at line")[0].rstrip(".")
        raise ConfigError(f"{reporter.path}{line}: {reason}: {str(err.line).strip()}",
                          "write sections as [name] and keys as key = value") from None  # fmt: skip
    result = raw.validate(_VALIDATOR, preserve_errors=True)
    for where, name in get_extra_values(raw):
        section = "/".join(where)
        known = [k.name for k in KEYS if k.section == (where[0] if where else "")]
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
                                 "give a larger network, for example 198.18.0.0/15")  # fmt: skip
    secondary: AddressPlan | None = None
    if network.version == 6:
        secondary = AddressPlan(ipaddress.ip_network(top["secondary_network"]))
        if secondary.network.version != 4 or secondary.max_nodes < top["nodes"]:
            raise reporter.error("cluster", "secondary_network", f"{secondary.network} has no room",
                                 "give an IPv4 network for as many nodes")  # fmt: skip
    node_names = [f"node{number}{suffix}" for number in range(1, top["nodes"] + 1)]
    special = dict(raw["nodes"])
    for name in special:
        if name not in node_names:
            raise reporter.error(f"nodes/{name}", "", "there is no such node",
                                 f"the nodes are {node_names[0]} to {node_names[-1]}")  # fmt: skip
    nodes = tuple(
        _node(cluster.node(name), index, plan, secondary, special.get(name, {}), raw["daemons"], reporter)
        for index, name in enumerate(node_names)
    )
    config = ClusterConfig(
        id=cluster,
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
        ganeti=GanetiConfig(
            enabled_hypervisors=tuple(ganeti["enabled_hypervisors"]),
            enabled_disk_templates=tuple(ganeti["enabled_disk_templates"]),
            nic_mode=ganeti["nic_mode"],
            ipolicy_bounds_specs=ganeti["ipolicy_bounds_specs"],
            candidate_pool_size=ganeti["candidate_pool_size"],
            init_options=ganeti["init_options"],
        ),
    )
    _check_unique(config, reporter)
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
        if address not in plan.network or address == plan.network[0]:
            raise reporter.error(f"nodes/{node.name}", "address", f"{address} is not in the network {plan.network}",
                                 "take an address of the network")  # fmt: skip
    # noded's memory lock would pin the memory of every node (upstream's vcluster-setup does the same).
    own = {"noded": "--no-mlock"}
    args = {
        daemon.name: " ".join(
            part
            for part in (own.get(daemon.name, ""), f"-b {address}" if daemon.port else "", extra[daemon.name])
            if part
        )
        for daemon in DAEMONS
    }
    return NodeConfig(node, address, secondary.node(index) if secondary else None, args)


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


def check_against(config: ClusterConfig, others: Iterable[ClusterConfig]) -> None:
    """Refuse what two clusters of one machine cannot share: networks, names, devices.

    Raises ConfigError that names this cluster's file and the other cluster.
    """
    reporter = _Reporter(config.id.config_file, "")
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
    """systemd nests a-b.slice in a.slice: a node of that name would contain the other."""
    short, long = sorted((one.name, two.name), key=len)
    if long.startswith(f"{short}-"):
        raise reporter.error("cluster", "domain",
                             f"systemd would put the slice of {long} inside that of {short}",
                             "choose another domain")  # fmt: skip


def load(cluster: ClusterId) -> ClusterConfig:
    """Read the configuration file of a cluster."""
    try:
        return parse(cluster, cluster.config_file.read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no cluster {cluster.name}: {cluster.config_file} does not exist",
                          f"make it with: gnt-vcluster up {cluster.name}") from None  # fmt: skip
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"cannot read {cluster.config_file}: {err}") from None


def declared() -> tuple[ClusterId, ...]:
    """The clusters that have a configuration file."""
    found = []
    for path in sorted(names.CONFIG_DIR.glob("*.conf")):
        if not names.is_cluster_id(path.stem):
            raise ConfigError(f"{path}: {path.stem!r} cannot name a cluster",
                              "use small letters, digits and '-', at most 32 characters")  # fmt: skip
        found.append(ClusterId(path.stem))
    return tuple(found)


def load_all() -> dict[ClusterId, ClusterConfig]:
    """All declared clusters, checked against each other."""
    configs: dict[ClusterId, ClusterConfig] = {}
    for cluster in declared():
        config = load(cluster)
        check_against(config, configs.values())
        configs[cluster] = config
    return configs
