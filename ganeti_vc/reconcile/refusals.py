# SPDX-License-Identifier: BSD-2-Clause
"""What cannot be done on this machine, or would lose data: the reasons, a line each. Pure.

Each function yields ConfigErrors that name the key and what is in the way, the worst first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ganeti_vc.base.errors import ConfigError, VclusterError
from ganeti_vc.machine import hosts
from ganeti_vc.machine.node_disk import Disk
from ganeti_vc.machine.resolver import RESOLV_CONF
from ganeti_vc.model import names
from ganeti_vc.model.addresses import Address, Network
from ganeti_vc.model.config import ClusterConfig, NodeConfig, key_error
from ganeti_vc.model.daemons import DAEMONS, Daemon, Runs
from ganeti_vc.reconcile.state import MachineState, known_clusters, member_nodes


def check_host(config: ClusterConfig, state: MachineState) -> None:
    """Raise the first error that keeps the cluster from this machine, mostly a ConfigError."""
    for refusal in chain(
        insecure_directories(state),
        hosts_file(config, state),
        logins(config, state),
        masked_units(config, state),
        recorded_otherwise(config, state),
        storage(config, state),
        networks(config, state),
        names_of_others(config, state),
        device(config, state),
        reachable(config, state),
        ports(config, state),
        host_names(config, state),
    ):
        raise refusal


def insecure_directories(state: MachineState) -> Iterator[ConfigError]:
    """Refuse directories because of which sshd would not trust the keys below them."""
    for path, remedy in state.insecure:
        yield ConfigError(f"others than root may write to {path}, so that sshd would refuse the keys below it", remedy)


def hosts_file(config: ClusterConfig, state: MachineState) -> Iterator[VclusterError]:
    """Refuse a damaged block in /etc/hosts: it cannot be told which lines are ours."""
    try:
        hosts.check(state.hosts, config.id)
    except VclusterError as err:
        yield err


def logins(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse settings of this machine that keep root from logging in to the nodes, as Ganeti does."""
    for what, remedy in state.login_obstacles.get(config.id, ()):
        yield ConfigError(what, remedy)


def masked_units(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse units that systemd must not start, and without which the cluster cannot be up."""
    nodes = (node.id.target for node in config.nodes)
    for unit in (names.ALL_TARGET, names.MANAGER_SERVICE, config.id.target, config.id.ready_service, *nodes):
        if unit in state.masked:
            yield ConfigError(f"{config.source}: {unit} is masked", f"systemctl unmask {unit}")


def recorded_otherwise(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse changes of what Ganeti has recorded: the daemons would keep the old values and not reach each other."""
    recorded = state.initialised.get(config.id)
    if recorded is None:
        return

    def error(key: str, what: str) -> ConfigError:
        return key_error(config, key, what, f"set it back, or: gnt-vcluster destroy {config.id.name}")

    declared = {node.id.name: str(node.address) for node in config.nodes}
    if recorded.nodes and not set(declared) & set(recorded.nodes):
        yield error("domain", f"Ganeti's nodes are called {next(iter(recorded.nodes))}, ...")
    for name, address in recorded.nodes.items():
        if name not in declared:
            remedy = f"set it back, then: gnt-vcluster scale {config.id.name} --nodes {len(declared)}"
            yield key_error(config, "nodes", f"{name} is a node of the running Ganeti cluster", remedy)
        elif declared[name] != address:
            yield error("network", f"{name} would get {declared[name]}, Ganeti has recorded {address}")
    if recorded.ssh_port not in (None, config.ssh_port):
        yield error("ssh_port", f"Ganeti has recorded {recorded.ssh_port}, not {config.ssh_port}")
    if recorded.device not in (None, config.device):
        yield error("device", f"Ganeti has recorded {recorded.device}, not {config.device}")


def storage(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse storage that cannot be made, and changes that would lose or hide files: smaller disks, or none."""
    for node in config.nodes:
        yield from _storage_of(node, config, state)


def _storage_of(node: NodeConfig, config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    def error(key: str, what: str, remedy: str) -> ConfigError:
        return ConfigError(f"{config.source}: [nodes] {key}: {what}", remedy)

    def smaller(key: str, present: Disk | None, wanted: int | None, what: str) -> Iterator[ConfigError]:
        if present and (wanted or 0) < present.size:
            yield error(
                key,
                f"{what} {node.id.name} has {present.size}M already and can only become larger",
                f"set it back, or: gnt-vcluster destroy {config.id.name}",
            )

    for key, wanted in (("disk", node.disk), ("volume_group", node.volume_group)):
        if wanted and state.user_namespace:
            what = f"{node.id.name} would need a loop device, which only root of a machine can have"
            yield error(key, what, "leave it empty in a sandbox of a user")
    disk = state.disks.get(node.id)
    yield from smaller("volume_group", state.volumes.get(node.id), node.volume_group, "that of")
    if disk and disk.used and node.disk:
        what = f"{node.id.name} has files in the machine's storage already"
        yield error("disk", what, "first move or remove its instances")
    yield from smaller("disk", disk, node.disk, "the disk of")


def networks(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse networks that this machine, or another cluster on it, uses already."""
    ledger = state.ledgers.get(config.id)
    for net in config.networks:
        if ledger is None or net not in ledger.networks:
            yield from _network(net, config, state)


def _network(net: Network, config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    def error(what: str, remedy: str = "give another network (--network)") -> ConfigError:
        return key_error(config, "network", what, remedy)

    def overlaps(other: Network) -> bool:
        return net.version == other.version and net.overlaps(other)

    ours = {(ledger.device, address) for ledger in state.ledgers.values() for address in ledger.addresses}
    bridges = state.own_bridges
    for other, ledger in state.ledgers.items():
        if any(map(overlaps, ledger.networks)):
            yield error(
                f"{net} is still set up for the cluster {other.name}",
                "give another network (--network), or, if you have renamed that cluster's file: "
                "systemctl reload ganeti-vcluster",
            )
    for name, address in sorted(state.network.addresses, key=str):
        if address in net and (name, address) not in ours and name not in bridges:
            yield error(f"this machine has the address {address} of {net} on {name}")
    for route, name in sorted(state.network.routes, key=str):
        # A wider route, as a VPN has, is as good as before for all other addresses. But on a network to which the machine
        # is connected there are neighbours.
        matters = route in state.network.connected or (overlaps(route) and route.prefixlen >= net.prefixlen)
        if overlaps(route) and matters and name not in bridges:
            yield error(f"this machine routes {route} to {name}, which overlaps with {net}")
    yield from (error(f"{net} has {address}, {what}") for what, address in _needed_addresses(net, state))
    if net in state.network.unreachable:
        yield error(f"this machine has a route unreachable {net} that is not ours")


def _needed_addresses(net: Network, state: MachineState) -> Iterator[tuple[str, Address]]:
    """Yield the addresses of a network that this machine has to reach: the rest of the network becomes unreachable."""
    for what, addresses in (
        ("a gateway of this machine", state.network.gateways),
        ("from where somebody is connected to this machine", state.network.peers),
        (f"a nameserver in {RESOLV_CONF}", state.nameservers),
    ):
        yield from ((what, address) for address in sorted(addresses, key=str) if address in net)


def doubts(config: ClusterConfig) -> Iterator[str]:
    """Yield what is allowed and probably a mistake."""
    for net in config.networks:
        if net.is_global:
            yield (
                f"{config.source}: {net} has public addresses, of which this machine reaches none while the cluster is there "
                "(give a private network, or one for documentation, as 192.0.2.0/24)"
            )


def names_of_others(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse names of another cluster's nodes. Of a cluster whose file cannot be read, systemd knows the nodes."""
    own = {node.id.name for node in config.nodes}
    for other in sorted(known_clusters(state) - {config.id}):
        for node in member_nodes(other, state):
            if node.name in own:
                what = f"the name {node.name} belongs to a node of the cluster {other.name}"
                yield key_error(config, "domain", what, "give another domain (--domain)")


def device(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse a bridge whose name is taken, and a device that does not exist."""
    exists = config.device in state.network.links
    if config.own_bridge and exists and config.device not in state.own_bridges:
        what = f"a device {config.device} exists and is not ours"
        yield key_error(config, "device", what, "name another cluster or device")
    if not config.own_bridge and not exists:
        what = f"there is no device {config.device}"
        yield key_error(config, "device", what, "leave it empty for a bridge of the cluster's own")


def reachable(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse to let others reach a cluster by default."""
    if not config.reachable and state.filters is None:
        what = "this machine cannot keep packets from outside away: `nft list tables` fails"
        yield key_error(config, "reachable", what, "apt-get install nftables, or set reachable = yes")


def listeners() -> Iterator[Daemon]:
    """Yield the daemons whose ports must be free. metad starts on demand only, and port 80 is often a web server's."""
    yield from (daemon for daemon in DAEMONS if daemon.port and daemon.runs is not Runs.ON_DEMAND)


def ports(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse a machine on which something else listens on a daemon's or the ssh server's port of all addresses."""
    taken = state.network.taken_ports
    for daemon in listeners():
        user = taken.get(daemon.port or 0)
        if user is not None:
            yield ConfigError(
                f"uid {user} listens on port {daemon.port} of all addresses of this machine, so no "
                f"ganeti-{daemon.name} of a node could",
                f"if it is the machine's own Ganeti, give it one address: {daemon.args_key}='-b ADDRESS' "
                "in /etc/default/ganeti",
            )
    if config.ssh_port in taken:
        what = f"uid {taken[config.ssh_port]} listens on port {config.ssh_port} of all addresses of this machine"
        yield key_error(config, "ssh_port", what, "give another port")


def host_names(config: ClusterConfig, state: MachineState) -> Iterator[ConfigError]:
    """Refuse names that stand in /etc/hosts already, with other addresses."""
    if not state.has_hosts:
        remedy = f"make it: echo '127.0.0.1 localhost' >{names.HOSTS_FILE}"
        yield ConfigError(f"there is no {names.HOSTS_FILE} for the nodes' names", remedy)
    wanted = {name: str(address) for address, name in config.hosts}
    for entry in hosts.foreign_names(state.hosts):
        if wanted.get(entry.name, entry.address) != entry.address:
            what = (
                f"the name {entry.name} stands in {names.HOSTS_FILE}, line {entry.line}, already, with {entry.address}"
            )
            yield key_error(config, "domain", what, "give another domain (--domain)")
