# SPDX-License-Identifier: BSD-2-Clause
"""What cannot be done on this machine, or would lose data, and the reason in one line."""

from __future__ import annotations

import functools

from ganeti_vc.base.errors import ConfigError
from ganeti_vc.machine import hosts
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig, key_error
from ganeti_vc.model.daemons import DAEMONS, Runs
from ganeti_vc.reconcile.state import MachineState, known_clusters, member_nodes


def check_initialised(config: ClusterConfig, observed: MachineState) -> None:
    """Refuse changes of what Ganeti has recorded: the cluster would run on, and nothing would reach anything.

    Raises ConfigError that names the key and what is recorded.
    """
    recorded = observed.initialised.get(config.id)
    if recorded is None:
        return

    def error(key: str, what: str) -> ConfigError:
        return key_error(config, key, what, f"set it back, or: gnt-vcluster destroy {config.id.name}")

    declared = {node.id.name: str(node.address) for node in config.nodes}
    if recorded.nodes and not set(declared) & set(recorded.nodes):
        raise error("domain", f"Ganeti's nodes are called {next(iter(recorded.nodes))}, ...")
    for name, address in recorded.nodes.items():
        if name not in declared:
            raise key_error(config, "nodes", f"{name} is a node of the running Ganeti cluster",
                            f"set it back, then: gnt-vcluster scale {config.id.name} --nodes {len(declared)}")  # fmt: skip
        if declared[name] != address:
            raise error("network", f"{name} would get {declared[name]}, Ganeti has recorded {address}")
    if recorded.ssh_port not in (None, config.ssh_port):
        raise error("ssh_port", f"Ganeti has recorded {recorded.ssh_port}, not {config.ssh_port}")
    if recorded.device not in (None, config.device):
        raise error("device", f"Ganeti has recorded {recorded.device}, not {config.device}")


def check_host(config: ClusterConfig, observed: MachineState) -> None:
    """Refuse names, addresses and devices that this machine uses for something else, and directories sshd does not trust.

    Raises ConfigError that names the key and what is in the way.
    """

    error = functools.partial(key_error, config)
    for path, remedy in observed.insecure:
        raise ConfigError(f"others than root may write to {path}, so that sshd would refuse the keys below it", remedy)
    check_initialised(config, observed)
    check_disks(config, observed)
    ledger = observed.ledgers.get(config.id)
    ours = {(led.device, address) for led in observed.ledgers.values() for address in led.addresses}
    devices = {led.device for led in observed.ledgers.values() if led.own_bridge}
    for net in config.networks:
        if ledger and net in ledger.networks:
            continue
        for other, led in observed.ledgers.items():
            if any(net.version == used.version and net.overlaps(used) for used in led.networks):
                raise error("network", f"{net} is still set up for the cluster {other.name}",
                            "give another network (--network), or, if you have renamed that cluster's file: "
                            "systemctl reload ganeti-vcluster")  # fmt: skip
        for device, address in sorted(observed.network.addresses, key=str):
            if address in net and (device, address) not in ours and device not in devices:
                raise error("network", f"this machine has the address {address} of {net} on {device}",
                            "give another network (--network)")  # fmt: skip
        for route, device in sorted(observed.network.routes, key=str):
            if route.version == net.version and route.overlaps(net) and device not in devices:
                raise error("network", f"this machine routes {route} to {device}, which overlaps with {net}",
                            "give another network (--network)")  # fmt: skip
        if net in observed.network.unreachable:
            raise error("network", f"this machine has a route unreachable {net} that is not ours",
                        "give another network (--network)")  # fmt: skip
    # Of a cluster whose file cannot be read, systemd knows the nodes.
    mine = {node.id.name for node in config.nodes}
    for other in sorted(known_clusters(observed) - {config.id}):
        for node in member_nodes(other, observed):
            if node.name in mine:
                raise error("domain", f"the name {node.name} belongs to a node of the cluster {other.name}",
                            "give another domain (--domain)")  # fmt: skip
    if config.own_bridge:
        if config.device in observed.network.links and config.device not in devices:
            raise error("device", f"a device {config.device} exists and is not ours", "name another cluster or device")
    elif config.device not in observed.network.links:
        raise error("device", f"there is no device {config.device}", "leave it empty for a bridge of the cluster's own")
    # metad is started on demand only, and port 80 is often a web server's.
    for daemon in DAEMONS:
        if daemon.runs is not Runs.ON_DEMAND and daemon.port in observed.network.taken_ports:
            raise ConfigError(f"something on this machine listens on port {daemon.port} of all addresses, "
                              f"so no ganeti-{daemon.name} of a node could",
                              f"if it is the machine's own Ganeti, give it one address: {daemon.args_key}='-b ADDRESS' "
                              "in /etc/default/ganeti")  # fmt: skip
    if config.ssh_port in observed.network.taken_ports:
        raise error("ssh_port", f"something on this machine listens on port {config.ssh_port} of all addresses",
                    "give another port")  # fmt: skip
    taken = hosts.foreign_names(observed.hosts)
    for address, name in config.hosts:
        if name in taken and taken[name] != str(address):
            raise error("domain", f"the name {name} stands in {names.HOSTS_FILE} already, with {taken[name]}",
                        "give another domain (--domain)")  # fmt: skip


def check_disks(config: ClusterConfig, observed: MachineState) -> None:
    """Refuse to make storage smaller or to take it away, or to hide files below it: they would be lost. And storage
    that cannot be made."""
    for node in config.nodes:
        for key, wanted in (("disk", node.disk), ("volume_group", node.volume_group)):
            if wanted and observed.user_namespace:
                raise ConfigError(f"{config.source}: [nodes] {key}: {node.id.name} would need a loop device, which only root of a "
                                  "machine can have", "leave it empty in a sandbox of a user")  # fmt: skip
        disk, volumes = observed.disks.get(node.id), observed.volumes.get(node.id)
        if volumes and (node.volume_group or 0) < volumes.size:
            raise ConfigError(f"{config.source}: [nodes] volume_group: that of {node.id.name} has {volumes.size}M already "
                              "and can only become larger", f"set it back, or: gnt-vcluster destroy {config.id.name}")  # fmt: skip
        if disk and disk.used and node.disk:
            raise ConfigError(f"{config.source}: [nodes] disk: {node.id.name} has files in the machine's storage already",
                              "first move or remove its instances")  # fmt: skip
        if disk and (node.disk or 0) < disk.size:
            raise ConfigError(f"{config.source}: [nodes] disk: the disk of {node.id.name} has {disk.size}M already "
                              "and can only become larger", f"set it back, or: gnt-vcluster destroy {config.id.name}")  # fmt: skip
